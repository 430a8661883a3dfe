//! The tables of the page: what matters in a card, then all figures and settings.

use super::markup::{escape, table};
use super::{NamedRun, run_class};
use crate::load::report::description;
use crate::load::report::number::{count, figure, figure_or_dash, printable, rate, short, utc};
use crate::load::report::percentiles::{LatencyUnit, Percentiles};
use crate::load::report::totals::{Line, lines, total_of};
use serde_json::Value;
use std::collections::BTreeSet;

/// A card per run: what it was worth and its most-asked-for figures.
pub(super) fn cards(runs: &[NamedRun<'_>]) -> String {
    let cards: String = runs.iter().enumerate().map(|(index, run)| card(index, run)).collect();
    format!("<div class=\"cards\">{cards}</div>\n")
}

fn card(index: usize, run: &NamedRun<'_>) -> String {
    let verdict = &run.result.verdict;
    let is_ok = !(verdict.generator_limited
        || verdict.target_not_reached
        || verdict.interrupted
        || verdict.failure.is_some());
    let total = total_of(run.result);
    let latencies = total.headline();
    let ms = |percentile| match latencies.percentile_us(percentile) {
        Some(us) => format!("{} ms", figure(us / 1e3)),
        None => "-".to_owned(),
    };
    let figures = [
        ("ops/s", rate(total.ops_per_s)),
        ("values/s", rate(total.values_per_s)),
        ("errors", count(total.errors)),
        ("p50", ms(50.0)),
        ("p99", ms(99.0)),
        ("p99.9", ms(99.9)),
        ("max", ms(100.0)),
    ];
    let figures: String = figures
        .iter()
        .map(|(name, figure)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(figure)))
        .collect();
    let kind = if total.response.is_some() { "response time" } else { "service time" };
    let notes = description::notes(run.result);
    let notes: String = notes.iter().map(|note| format!("<p class=\"small\">{}</p>", escape(note))).collect();
    format!(
        "<section class=\"card {}\"><h2>{}</h2><p class=\"verdict {}\">{}</p>{notes}\
         <dl>{figures}</dl><p class=\"small\">latencies: {kind}</p></section>\n",
        run_class(index),
        escape(&run.name),
        if is_ok { "ok" } else { "bad" },
        escape(&description::verdict(run.result)),
    )
}

/// All figures of each run.
pub(super) fn tables(runs: &[NamedRun<'_>]) -> String {
    let mut html = "<h2>Figures</h2>\n".to_owned();
    for run in runs {
        html += &format!("<h3>{}</h3>\n", escape(&run.name));
        let lines = lines(run.result);
        html += &throughput(&lines);
        if lines.iter().all(|line| line.response.is_some()) {
            html += &latencies(
                "Response time in us, from the intended send: what a user sees",
                &lines,
                Line::headline,
            );
        }
        html += &latencies("Service time in us, from the actual send", &lines, |line| &line.service);
        let errors: String = run
            .result
            .ops
            .iter()
            .filter_map(|(name, op)| Some((name, op.first_error.as_ref()?)))
            .map(|(name, error)| format!("<p>First error of {}: {}</p>\n", escape(name), escape(error)))
            .collect();
        html += &errors;
    }
    html
}

fn throughput(lines: &[Line<'_>]) -> String {
    let head = ["operation", "ops", "ops/s", "values/s", "MB/s", "errors"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for line in lines {
        rows.push(vec![
            line.name.to_owned(),
            count(line.count),
            rate(line.ops_per_s),
            rate(line.values_per_s),
            figure(line.megabytes_per_s),
            count(line.errors),
        ]);
    }
    table("Throughput", &rows)
}

fn latencies<'a, 'b: 'a>(
    caption: &str,
    lines: &'a [Line<'b>],
    of: impl Fn(&'a Line<'b>) -> &'a crate::load::LatencyHistogram,
) -> String {
    let percentiles = Percentiles::default();
    let head = ["operation", "mean"].map(str::to_owned).into_iter().chain(percentiles.names());
    let mut rows = vec![head.collect::<Vec<_>>()];
    for line in lines {
        let histogram = of(line);
        let mean = figure_or_dash(histogram.summary().mean);
        rows.push(
            [line.name.to_owned(), mean]
                .into_iter()
                .chain(percentiles.figures(histogram, LatencyUnit::default()))
                .collect(),
        );
    }
    table(caption, &rows)
}

/// What was asked for, where it ran, and what the server said; a column per run.
pub(super) fn settings(runs: &[NamedRun<'_>]) -> String {
    let mut head = vec!["".to_owned()];
    head.extend(runs.iter().map(|run| run.name.clone()));
    let mut told = vec![head.clone()];
    type Tell = fn(&NamedRun<'_>) -> String;
    let lines: [(&str, Tell); 7] = [
        ("started", |run| utc(run.result.env.start_unix_ms)),
        ("workload", |run| description::workload(&run.result.config)),
        ("sent", |run| description::sending(run.result)),
        ("schedule", |run| description::schedule(run.result)),
        ("generator", |run| description::generator(run.result)),
        ("server", |run| description::server(run.result)),
        ("tool", |run| printable(&format!("{} {}", run.result.tool.name, run.result.tool.version))),
    ];
    for (name, tell) in lines {
        told.push(std::iter::once(name.to_owned()).chain(runs.iter().map(tell)).collect());
    }
    let mut html = format!("<h2>Settings</h2>\n{}", table("In words", &told));
    html += &format!(
        "<details><summary>All settings and the environment</summary>{}</details>\n",
        table(
            "By their names in the document; rows that differ are marked \u{2260}",
            &all_settings(runs, head.clone())
        )
    );
    let growth = growth(runs, head);
    if growth.len() > 1 {
        html += &format!(
            "<details><summary>The server's counters</summary>{}</details>\n",
            table("Growth during the run", &growth)
        );
    }
    html
}

fn all_settings(runs: &[NamedRun<'_>], head: Vec<String>) -> Vec<Vec<String>> {
    let documents: Vec<_> = runs
        .iter()
        .map(|run| {
            let part = |name: &str, value: Result<Value, serde_json::Error>| {
                let fields = match value {
                    Ok(Value::Object(fields)) => fields,
                    _ => serde_json::Map::new(),
                };
                fields
                    .into_iter()
                    .map(|(field, value)| (format!("{name}.{field}"), value))
                    .collect::<Vec<_>>()
            };
            let mut fields = part("config", serde_json::to_value(&run.result.config));
            fields.extend(part("env", serde_json::to_value(&run.result.env)));
            fields
        })
        .collect();
    let mut rows = vec![head];
    let Some(first) = documents.first() else { return rows };
    for (name, value) in first {
        let values: Vec<_> = documents
            .iter()
            .map(|fields| {
                fields.iter().find(|(found, _)| found == name).map_or(&Value::Null, |(_, value)| value)
            })
            .collect();
        if values.iter().all(|value| value.is_null()) {
            continue;
        }
        let sign = if values.iter().all(|other| *other == value) { "" } else { " \u{2260}" };
        let cells = values.iter().map(|value| match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        rows.push(std::iter::once(format!("{name}{sign}")).chain(cells).collect());
    }
    rows
}

fn growth(runs: &[NamedRun<'_>], head: Vec<String>) -> Vec<Vec<String>> {
    let grown: Vec<_> = runs.iter().map(|run| description::server_growth(run.result)).collect();
    let names: BTreeSet<_> = grown.iter().flatten().map(|(name, _)| name).collect();
    let mut rows = vec![head];
    for name in names {
        let cells = grown.iter().map(|counters| {
            let found = counters.iter().find(|(found, _)| found == name);
            found.map_or_else(|| "-".to_owned(), |(_, growth)| short(*growth))
        });
        rows.push(std::iter::once(name.clone()).chain(cells).collect());
    }
    rows
}
