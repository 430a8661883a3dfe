//! The percentile spectrum: latency by 1/(1-p), where each further nine takes the same space.

use super::axis::Axis;
use super::chart::Chart;
use super::markup::{LegendEntry, legend};
use super::{NamedRun, run_class};
use crate::load::report::number::figure;
use crate::load::report::percentiles;
use crate::load::report::totals::{Line, lines, total_of};
use crate::load::{LatencyHistogram, RunResult};
use std::collections::BTreeSet;

const TICKS_PER_HALF_DISTANCE: u32 = 5;
const NS_PER_MS: f64 = 1e6;
/// Percentiles that are marked on the curves.
const MARKED: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

/// One curve.
struct Curve {
    class: String,
    name: String,
    /// (1/(1-p), milliseconds), both ascending.
    points: Vec<(f64, f64)>,
    latencies: LatencyHistogram,
}

/// A chart of all operations together, and one of each where there are several.
pub(super) fn section(runs: &[NamedRun<'_>]) -> String {
    let mut html = chart("spectrum-total", "all operations", runs, |result| Some(total_of(result)));
    let names: BTreeSet<_> = runs.iter().flat_map(|run| run.result.ops.keys()).collect();
    if names.len() > 1 {
        for (index, name) in names.into_iter().enumerate() {
            let of_op = |result| lines(result).into_iter().find(|line: &Line<'_>| line.name == name);
            let id = format!("spectrum-{index}");
            html += &format!(
                "<details><summary>{}</summary>\n{}</details>\n",
                super::markup::escape(name),
                chart(&id, name, runs, of_op)
            );
        }
    }
    html
}

fn chart<'a>(
    id: &str,
    what: &str,
    runs: &'a [NamedRun<'a>],
    line_of: impl Fn(&'a RunResult) -> Option<Line<'a>>,
) -> String {
    let mut curves = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        let Some(line) = line_of(run.result) else { continue };
        let class = run_class(index);
        if let Some(response) = line.response {
            curves.push(curve(class.clone(), format!("{}, response time", run.name), response));
        }
        curves.push(curve(format!("{class} service"), format!("{}, service time", run.name), line.service));
    }
    curves.retain(|curve| !curve.points.is_empty());
    if curves.is_empty() {
        return "<p>No latencies were recorded.</p>\n".to_owned();
    }
    let points = || curves.iter().flat_map(|curve| curve.points.iter());
    let x = Axis::nines(
        "share of requests that were at most this slow",
        points().map(|(x, _)| *x).fold(0.0, f64::max),
    );
    let y = Axis::log("latency, ms", points().map(|(_, y)| *y));
    let title = format!("Percentile spectrum of the latency, {what}");
    let mut chart = Chart::new(
        id.to_owned(),
        &title,
        "Each curve rises from the fastest request at the left to the slowest at the right; lower is better.",
        340.0,
        x,
        y,
    );
    for curve in &curves {
        chart.line(&curve.class, curve.points.iter().copied());
        for percentile in MARKED {
            if let Some(us) = curve.latencies.percentile_us(percentile) {
                let what =
                    format!("{}: {} {} ms", curve.name, percentiles::name(percentile), figure(us / 1e3));
                chart.point(&curve.class, (100.0 / (100.0 - percentile), us / 1e3), &what);
            }
        }
    }
    let entries: Vec<_> =
        curves.into_iter().map(|curve| LegendEntry { class: curve.class, name: curve.name }).collect();
    format!("<figure>{}{}</figure>\n", legend(&entries), chart.render())
}

fn curve(class: String, name: String, latencies: LatencyHistogram) -> Curve {
    let histogram = latencies.histogram();
    let mut points: Vec<(f64, f64)> = Vec::new();
    if latencies.count() > 0 {
        for tick in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
            let quantile = tick.quantile_iterated_to();
            // The slowest request ends the curve; infinity has no place on paper.
            let beyond = if quantile < 1.0 { 1.0 / (1.0 - quantile) } else { latencies.count() as f64 };
            let last = points.last().map_or(1.0, |(x, _)| *x);
            points.push((beyond.max(last), tick.value_iterated_to() as f64 / NS_PER_MS));
        }
    }
    Curve { class, name, points, latencies }
}
