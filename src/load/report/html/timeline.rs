//! Throughput and p99 second by second, and what the server did meanwhile.
//!
//! Repetitions follow each other on one axis of measured time; what lay between them is cut out.

use super::axis::Axis;
use super::chart::Chart;
use super::markup::{LegendEntry, escape, legend};
use super::{NamedRun, run_class};
use crate::load::LatencyHistogram;
use crate::load::report::number::{count, figure, rate};
use std::collections::BTreeMap;

/// Seconds up to which each one is a point that can be pointed at; more of them would be a band.
const POINTS_MAX: usize = 240;

/// One second of a run, all operations together.
struct Moment {
    repetition: u64,
    /// End of the second, in measured seconds since the first repetition began.
    at_s: f64,
    ops_per_s: f64,
    /// Absent where nothing was answered.
    p99_ms: Option<f64>,
    marks: BTreeMap<String, u64>,
}

/// The charts, one below the other on the same axis of time.
pub(super) fn section(runs: &[NamedRun<'_>]) -> String {
    let timelines: Vec<_> = runs.iter().map(|run| moments(run)).collect();
    let all = || timelines.iter().flatten();
    if all().next().is_none() {
        return String::new();
    }
    let end_s = all().map(|moment| moment.at_s).fold(0.0, f64::max);
    let time = || Axis::time("measured time, s", end_s);
    let targets: Vec<_> = runs.iter().map(|run| run.result.verdict.target_rate).collect();
    let highest =
        all().map(|moment| moment.ops_per_s).chain(targets.iter().copied().flatten()).fold(0.0, f64::max);
    let mut throughput = Chart::new(
        "timeline-throughput".to_owned(),
        "Throughput over time",
        "Operations answered in each second.",
        200.0,
        time(),
        Axis::with_headroom("operations per second", highest),
    );
    let mut latency = Chart::new(
        "timeline-p99".to_owned(),
        "99th percentile of the latency over time",
        "The 99th percentile of each second; response time where there was a schedule, else service time.",
        200.0,
        time(),
        Axis::log("p99, ms", all().filter_map(|moment| moment.p99_ms)),
    );
    if let [target, rest @ ..] = targets.as_slice()
        && let Some(asked) = target
        && rest.iter().all(|other| other == target)
    {
        throughput.limit("target", *asked, &format!("asked for: {}/s", rate(*asked)));
    }
    for (index, (run, moments)) in runs.iter().zip(&timelines).enumerate() {
        draw(&mut throughput, &mut latency, index, run, moments);
    }
    if let ([run], [moments]) = (runs, timelines.as_slice()) {
        borders(&mut [&mut throughput, &mut latency], run, moments);
    }
    let entries: Vec<_> = runs
        .iter()
        .enumerate()
        .map(|(index, run)| LegendEntry { class: run_class(index), name: run.name.clone() })
        .collect();
    let events = events(runs, &timelines, &time());
    format!("<figure>{}{}{}</figure>\n{events}", legend(&entries), throughput.render(), latency.render())
}

/// The seconds of a run.
fn moments(run: &NamedRun<'_>) -> Vec<Moment> {
    let result = run.result;
    let mut moments = Vec::new();
    for second in &result.series {
        let earlier = result.runs.iter().take(usize::try_from(second.run).unwrap_or(usize::MAX));
        let begin_s: f64 = earlier.map(|run| run.elapsed_s).sum();
        let mut latencies = LatencyHistogram::default();
        let mut answered = 0.0;
        for op in second.ops.values() {
            answered += op.count as f64;
            // A copy, which is closed again: a long run has thousands of them.
            latencies.merge(&op.hdr_v2_base64.clone());
        }
        let p99_ms =
            (latencies.count() > 0).then(|| latencies.histogram().value_at_percentile(99.0) as f64 / 1e6);
        moments.push(Moment {
            repetition: second.run,
            at_s: begin_s + second.t_s,
            ops_per_s: if second.length_s > 0.0 { answered / second.length_s } else { 0.0 },
            p99_ms,
            marks: second.marks.clone(),
        });
    }
    moments
}

fn draw(throughput: &mut Chart, latency: &mut Chart, index: usize, run: &NamedRun<'_>, moments: &[Moment]) {
    let class = run_class(index);
    // A line across a border between repetitions would show seconds that were not measured.
    for repetition in moments.chunk_by(|a, b| a.repetition == b.repetition) {
        throughput.line(&class, repetition.iter().map(|moment| (moment.at_s, moment.ops_per_s)));
        latency.line(&class, repetition.iter().filter_map(|moment| Some((moment.at_s, moment.p99_ms?))));
    }
    if moments.len() > POINTS_MAX {
        return;
    }
    for moment in moments {
        let at = format!("{}, {} s", run.name, figure(moment.at_s));
        let what = format!("{at}: {}/s", rate(moment.ops_per_s));
        throughput.point(&class, (moment.at_s, moment.ops_per_s), &what);
        if let Some(p99_ms) = moment.p99_ms {
            latency.point(&class, (moment.at_s, p99_ms), &format!("{at}: p99 {} ms", figure(p99_ms)));
        }
    }
}

/// Where a repetition begins.
fn borders(charts: &mut [&mut Chart], run: &NamedRun<'_>, moments: &[Moment]) {
    let mut begin_s = 0.0;
    for (index, repetition) in run.result.runs.iter().enumerate() {
        if index > 0 && moments.iter().any(|moment| moment.repetition == index as u64) {
            charts.iter_mut().for_each(|chart| chart.border(begin_s, &format!("repetition {}", index + 1)));
        }
        begin_s += repetition.elapsed_s;
    }
}

/// A lane per run and kind of event: a stroke in each second that had one.
fn events(runs: &[NamedRun<'_>], timelines: &[Vec<Moment>], time: &Axis) -> String {
    let mut lanes = String::new();
    for (index, (run, moments)) in runs.iter().zip(timelines).enumerate() {
        let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, number) in moments.iter().flat_map(|moment| &moment.marks) {
            let total = totals.entry(name).or_default();
            *total = total.saturating_add(*number);
        }
        for (lane, (kind, total)) in totals.into_iter().filter(|(_, total)| *total > 0).enumerate() {
            let title = format!("{}: {kind} of the server over time", run.name);
            let description = format!("A stroke in each second with {kind}; {} in all.", count(total));
            let id = format!("timeline-events-{index}-{lane}");
            let mut chart = Chart::strip(id, &title, &description, time.clone());
            for moment in moments {
                if let Some(number) = moment.marks.get(kind).filter(|number| **number > 0) {
                    let what = format!("{} s: {} {kind}", figure(moment.at_s), count(*number));
                    chart.event(&run_class(index), moment.at_s, &what);
                }
            }
            lanes += &format!(
                "<figure class=\"strip\"><figcaption>{}, {} in all</figcaption>{}</figure>\n",
                escape(&format!("{}: {kind}", run.name)),
                count(total),
                chart.render()
            );
        }
    }
    if lanes.is_empty() { lanes } else { format!("<h3>What the server did meanwhile</h3>\n{lanes}") }
}
