//! The report on a terminal: what was run, what it is worth, and a table of figures.
//!
//! Latencies are microseconds, or what was asked for. In an open loop there are two tables of them: response time first, because that is what
//! a user sees, and service time below it. A percentile with too few samples is `-`.

use super::description;
use super::number::{count, figure, printable, rate};
use super::percentiles::{LatencyUnit, Percentiles};
use super::totals::{Line, lines};
use crate::load::{LatencyHistogram, RunResult};

/// Renders a run as plain text of about 100 columns, ending in a line feed.
#[must_use]
pub fn text_report(result: &RunResult, percentiles: &Percentiles, unit: LatencyUnit) -> String {
    let name = unit.name();
    let mut text = header(result);
    let lines = lines(result);
    text += &throughput_table(&lines);
    if lines.iter().all(|line| line.response.is_some()) {
        text += &format!("\nresponse time in {name}, from the intended send: what a user sees\n");
        text += &latency_table(&lines, percentiles, unit, Line::headline);
        text += &format!(
            "\nservice time in {name}, from the actual send: without the wait for a server that stalls\n"
        );
    } else {
        text += &format!("\nservice time in {name}, from the send to the answer\n");
    }
    text += &latency_table(&lines, percentiles, unit, |line| &line.service);
    text + &sweep_table(result, unit) + &server_part(result) + &first_errors(result)
}

fn header(result: &RunResult) -> String {
    let config = &result.config;
    let mut text = format!("tskv bench {}", printable(&config.command));
    if let Some(label) = &config.label {
        text += &format!(" \"{}\"", printable(label));
    }
    let mut line = |name: &str, what: &str| text.push_str(&format!("\n{name:<10} {what}"));
    line("workload", &description::workload(config));
    line("sent", &description::sending(result));
    line("schedule", &description::schedule(result));
    line("verdict", &description::verdict(result));
    for note in description::notes(result) {
        line("", &note);
    }
    line("generator", &description::generator(result));
    text + "\n\n"
}

fn throughput_table(lines: &[Line<'_>]) -> String {
    let mut table = Table::new(["operation", "ops", "ops/s", "values/s", "MB/s", "errors"]);
    for line in lines {
        table.row([
            printable(line.name),
            count(line.count),
            rate(line.ops_per_s),
            rate(line.values_per_s),
            figure(line.megabytes_per_s),
            count(line.errors),
        ]);
    }
    table.render()
}

fn latency_table<'a, 'b: 'a>(
    lines: &'a [Line<'b>],
    percentiles: &Percentiles,
    unit: LatencyUnit,
    latencies: impl Fn(&'a Line<'b>) -> &'a LatencyHistogram,
) -> String {
    let mut table =
        Table::new(["operation".to_owned(), "mean".to_owned()].into_iter().chain(percentiles.names()));
    for line in lines {
        let latencies = latencies(line);
        let mean = unit.figure(latencies.summary().mean);
        let cells = [printable(line.name), mean].into_iter().chain(percentiles.figures(latencies, unit));
        table.row(cells);
    }
    table.render()
}

/// Each rate that a sweep tried; nothing for other runs.
fn sweep_table(result: &RunResult, unit: LatencyUnit) -> String {
    let Some(first) = result.sweep.first() else { return String::new() };
    let mut table = Table::new(["asked/s", "got/s", "operation", "p50", "p99", "p99.9", "max", "objective"]);
    for point in &result.sweep {
        for (name, op) in &point.ops {
            let latencies = op.response_us.as_ref().unwrap_or(&op.service_us);
            let within = if point.within_slo { "kept" } else { "missed" };
            table.row([
                rate(point.rate),
                rate(point.verdict.achieved_rate),
                printable(name),
                unit.figure(latencies.p50),
                unit.figure(latencies.p99),
                unit.figure(latencies.p999),
                unit.figure(latencies.max),
                within.to_owned(),
            ]);
        }
    }
    let best = result.sweep.iter().rfind(|point| point.within_slo).map_or_else(
        || "no rate kept it".to_owned(),
        |point| format!("highest rate that kept it: {}/s", rate(point.rate)),
    );
    let objective = printable(&first.slo);
    let name = unit.name();
    let mut text =
        format!("\nsweep, response time in {name}; objective {objective}; {best}\n{}", table.render());
    for point in &result.sweep {
        for reason in &point.missed_because {
            text += &format!("{}/s: {}\n", rate(point.rate), printable(reason));
        }
    }
    text
}

fn server_part(result: &RunResult) -> String {
    let mut text = format!("\nserver     {}\n", description::server(result));
    let growth = description::server_growth(result);
    let work: Vec<_> = growth
        .iter()
        .filter(|(name, _)| description::is_background_work(name))
        .map(|(name, growth)| format!("{name} {}", rate(*growth)))
        .collect();
    if !work.is_empty() {
        text += &format!("           meanwhile {}\n", work.join(", "));
    }
    text
}

fn first_errors(result: &RunResult) -> String {
    let failed = result.ops.iter().filter_map(|(name, op)| Some((name, op.first_error.as_ref()?)));
    failed
        .map(|(name, error)| format!("first error of {}: {}\n", printable(name), printable(error)))
        .collect()
}

/// Columns as wide as their widest cell; the first is text, the others are numbers.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(headings: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { rows: vec![headings.into_iter().map(Into::into).collect()] }
    }
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
    pub(super) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
