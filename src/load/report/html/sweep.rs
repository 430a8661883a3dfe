//! Latency against offered load: where the curve turns upwards is what the server can do.

use super::axis::Axis;
use super::chart::Chart;
use super::markup::{LegendEntry, legend};
use super::{NamedRun, run_class};
use crate::load::report::number::{figure, rate};
use crate::load::{LatencySummary, RepetitionOp, RunResult};
use std::collections::BTreeSet;

/// A percentile that is drawn: its class, its name, its figure.
type Drawn = (&'static str, &'static str, fn(&LatencySummary) -> Option<f64>);

const PERCENTILES: [Drawn; 3] = [
    ("faint", "p50", |latencies| latencies.p50),
    ("", "p99", |latencies| latencies.p99),
    ("service", "p99.9", |latencies| latencies.p999),
];

/// A chart of the latencies of each operation, and one of the rates; nothing where no run is a sweep.
pub(super) fn section(runs: &[NamedRun<'_>]) -> String {
    let points = || runs.iter().flat_map(|run| &run.result.sweep);
    if points().next().is_none() {
        return String::new();
    }
    let offered_max = points().map(|point| point.rate).fold(0.0, f64::max);
    let names: BTreeSet<_> = points().flat_map(|point| point.ops.keys()).collect();
    let mut html =
        "<h2>Latency against offered load</h2>\n<p>Filled points kept the objective and the rate; \
                    hollow ones did not.</p>\n"
            .to_owned();
    for (index, name) in names.into_iter().enumerate() {
        html += &latency_chart(index, name, runs, offered_max);
    }
    html + &rate_chart(runs, offered_max)
}

fn offered(max: f64) -> Axis {
    Axis::with_headroom("offered load, operations per second", max)
}

fn latencies(op: &RepetitionOp) -> &LatencySummary {
    op.response_us.as_ref().unwrap_or(&op.service_us)
}

/// The points of one curve, in milliseconds.
fn curve(
    result: &RunResult,
    op: &str,
    percentile: fn(&LatencySummary) -> Option<f64>,
) -> Vec<(f64, f64, bool)> {
    let points = result.sweep.iter().filter_map(|point| {
        let us = percentile(latencies(point.ops.get(op)?))?;
        Some((point.rate, us / 1e3, point.within_slo))
    });
    points.collect()
}

fn latency_chart(index: usize, op: &str, runs: &[NamedRun<'_>], offered_max: f64) -> String {
    let all = runs
        .iter()
        .flat_map(|run| PERCENTILES.iter().flat_map(|(_, _, percentile)| curve(run.result, op, *percentile)));
    let limit_ms = common_limit_ms(runs);
    let y = Axis::log("latency, ms", all.map(|(_, ms, _)| ms).chain(limit_ms.iter().map(|(_, ms)| *ms)));
    let title = format!("Latency against offered load, {op}");
    let description =
        "Response time at each rate that was tried; it rises steeply where the server is saturated.";
    let mut chart =
        Chart::new(format!("sweep-latency-{index}"), &title, description, 280.0, offered(offered_max), y);
    if let Some((objective, ms)) = limit_ms {
        chart.limit("target", ms, &format!("objective: {objective}"));
    }
    let mut entries = Vec::new();
    for (run_index, run) in runs.iter().enumerate() {
        for (class, name, percentile) in PERCENTILES {
            let points = curve(run.result, op, percentile);
            if points.is_empty() {
                continue;
            }
            let class = format!("{} {class}", run_class(run_index));
            chart.line(&class, points.iter().map(|(offered, ms, _)| (*offered, *ms)));
            for (offered, ms, within) in &points {
                let state = if *within { "kept" } else { "missed" };
                let what = format!(
                    "{} at {}/s: {name} {} ms, objective {state}",
                    run.name,
                    rate(*offered),
                    figure(*ms)
                );
                let hollow = if *within { "" } else { " hollow" };
                chart.point(&format!("{class}{hollow}"), (*offered, *ms), &what);
            }
            entries.push(LegendEntry { class, name: format!("{}, {op} {name}", run.name) });
        }
    }
    format!("<figure>{}{}</figure>\n", legend(&entries), chart.render())
}

/// What was answered of what was asked for.
fn rate_chart(runs: &[NamedRun<'_>], offered_max: f64) -> String {
    let achieved = runs.iter().flat_map(|run| &run.result.sweep).map(|point| point.verdict.achieved_rate);
    let y = Axis::with_headroom("achieved, operations per second", achieved.fold(offered_max, f64::max));
    let mut chart = Chart::new(
        "sweep-rate".to_owned(),
        "Achieved rate against offered load",
        "On the dashed line everything that was asked for was answered; below it the server fell behind.",
        200.0,
        offered(offered_max),
        y,
    );
    chart.line("ideal", [(0.0, 0.0), (offered_max, offered_max)].into_iter());
    let mut entries = Vec::new();
    for (index, run) in runs.iter().enumerate().filter(|(_, run)| !run.result.sweep.is_empty()) {
        let class = run_class(index);
        let points = || run.result.sweep.iter().map(|point| (point.rate, point.verdict.achieved_rate));
        chart.line(&class, points());
        for (asked, got) in points() {
            chart.point(
                &class,
                (asked, got),
                &format!("{}: asked {}/s, got {}/s", run.name, rate(asked), rate(got)),
            );
        }
        entries.push(LegendEntry { class, name: run.name.clone() });
    }
    entries.push(LegendEntry { class: "ideal".to_owned(), name: "everything answered".to_owned() });
    format!("<figure>{}{}</figure>\n", legend(&entries), chart.render())
}

/// The objective of all sweeps, as given and in milliseconds, where it is one and the same.
fn common_limit_ms<'a>(runs: &[NamedRun<'a>]) -> Option<(&'a str, f64)> {
    let mut objectives = runs.iter().flat_map(|run| &run.result.sweep).map(|point| point.slo.as_str());
    let first = objectives.next()?;
    let limit_ms = latency_limit_ms(first)?;
    objectives.all(|other| other == first).then_some((first, limit_ms))
}

/// The limit of an objective like `p99<10ms`, in milliseconds.
fn latency_limit_ms(objective: &str) -> Option<f64> {
    let (_, limit) = objective.split_once('<')?;
    let limit = limit.trim_start_matches('=').trim();
    let (number, ms) = [("ms", 1.0), ("us", 1e-3), ("s", 1e3)]
        .into_iter()
        .find_map(|(unit, ms)| Some((limit.strip_suffix(unit)?, ms)))?;
    let limit_ms = number.trim().parse::<f64>().ok()? * ms;
    (limit_ms > 0.0 && limit_ms < 1e9).then_some(limit_ms)
}

#[cfg(test)]
mod tests {
    use super::latency_limit_ms;

    #[test]
    fn objectives_are_drawn_where_they_lie() {
        // A limit at the wrong height makes a rate look kept that was missed.
        assert_eq!(latency_limit_ms("p99<10ms"), Some(10.0));
        assert_eq!(latency_limit_ms("p99.9<=2s"), Some(2000.0));
        assert_eq!(latency_limit_ms("write.p50 < 500us"), Some(0.5));
        for other in ["", "p99", "p99<", "p99<10", "p99<NaNms", "p99<-1ms", "p99<infs"] {
            assert_eq!(latency_limit_ms(other), None, "{other}");
        }
    }
}
