//! Two runs side by side: a pair of bars for each figure, and what the change means.

use super::markup::{LegendEntry, escape, legend, table};
use super::{NamedRun, run_class};
use crate::load::report::comparison::{Change, Outcome, compare, differences};
use crate::load::report::number::{change as percent, figure, figure_or_dash, short};

const WIDTH: f64 = 960.0;
/// Where the bars begin, and how long the longest is.
const BARS_LEFT: f64 = 264.0;
const BARS_WIDTH: f64 = 370.0;
/// Where the change stands.
const CHANGE_LEFT: f64 = 740.0;
const ROW_HEIGHT: f64 = 40.0;
const BAR_HEIGHT: f64 = 13.0;
/// Characters of an operation's name that fit left of the bars.
const NAME_CHARS_MAX: usize = 22;

/// A picture and a table for each run against the first; nothing for a single run.
pub(super) fn section(runs: &[NamedRun<'_>], noise_floor_percent: f64) -> String {
    let [base, others @ ..] = runs else { return String::new() };
    if others.is_empty() {
        return String::new();
    }
    let mut html = "<h2>Side by side</h2>\n".to_owned();
    for (index, new) in others.iter().enumerate() {
        let index = index + 1;
        let changes = compare(base.result, new.result, noise_floor_percent);
        html += &format!("<h3>{} against {}</h3>\n", escape(&new.name), escape(&base.name));
        html += &not_shared(base, new);
        let drawn: Vec<_> = changes.iter().filter(|change| is_worth_a_bar(change)).collect();
        let entries = [(0, base), (index, new)].map(|(index, run)| LegendEntry {
            class: format!("wide {}", run_class(index)),
            name: run.name.clone(),
        });
        html += &format!("<figure>{}{}</figure>\n", legend(&entries), bars(index, base, new, &drawn));
        html += &format!(
            "<p class=\"small\">Changes below {} % of the base, and those within the 99 % confidence interval of the \
             difference between the repetitions, are noise. The longest latency is a single request's and is not \
             judged.</p>\n",
            short(noise_floor_percent)
        );
        html += &format!("<details><summary>All figures</summary>{}</details>\n", figures_table(&changes));
    }
    html
}

fn is_worth_a_bar(change: &Change) -> bool {
    let figures = [change.base, change.new];
    figures.iter().all(Option::is_some) && figures.iter().flatten().any(|number| *number > 0.0)
}

/// What makes the two runs hard to compare.
fn not_shared(base: &NamedRun<'_>, new: &NamedRun<'_>) -> String {
    let found = differences(base.result, new.result);
    if found.is_empty() {
        return String::new();
    }
    let items: String = found
        .iter()
        .map(|difference| {
            let class = if difference.is_decisive { " class=\"decisive\"" } else { "" };
            format!("<li{class}>{}</li>", escape(&difference.to_string()))
        })
        .collect();
    let warning = if found.iter().any(|difference| difference.is_decisive) {
        "These two runs did not measure the same; the bold settings differ."
    } else {
        "The runs also differ in:"
    };
    format!("<div class=\"warning\"><p>{warning}</p><ul>{items}</ul></div>\n")
}

fn bars(index: usize, base: &NamedRun<'_>, new: &NamedRun<'_>, changes: &[&Change]) -> String {
    let id = format!("changes-{index}");
    let height = ROW_HEIGHT * changes.len() as f64 + 8.0;
    let title = escape(&format!("{} against {}", new.name, base.name));
    let mut svg = format!(
        "<svg id=\"{id}\" class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-labelledby=\"{id}-title {id}-description\">\n<title id=\"{id}-title\">{title}</title>\
         <desc id=\"{id}-description\">A pair of bars for each figure, base above new; the bars of a pair share a \
         scale.</desc>\n"
    );
    for (row, change) in changes.iter().enumerate() {
        let top = ROW_HEIGHT * row as f64 + 8.0;
        let middle = top + BAR_HEIGHT + 5.0;
        svg += &format!(
            "<text class=\"label\" x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>\n",
            BARS_LEFT - 12.0,
            escape(&format!("{} {}", fitting(&change.op), readable(change.metric)))
        );
        let largest = change.base.unwrap_or(0.0).max(change.new.unwrap_or(0.0));
        for (lane, class, number) in [(0.0, run_class(0), change.base), (1.0, run_class(index), change.new)] {
            let number = number.unwrap_or(0.0);
            let width = (BARS_WIDTH * number / largest).clamp(0.0, BARS_WIDTH);
            let y = top + lane * (BAR_HEIGHT + 1.0);
            svg += &format!(
                "<rect class=\"bar {class}\" x=\"{BARS_LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\"/>\
                 <text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                BARS_LEFT + width + 6.0,
                y + BAR_HEIGHT - 2.0,
                escape(&figure(number))
            );
        }
        let (class, sign) = mark(change.outcome);
        let by = change.change_percent.map_or_else(String::new, |by| percent(by) + ", ");
        svg += &format!(
            "<text class=\"outcome {class}\" x=\"{CHANGE_LEFT}\" y=\"{middle:.1}\">{}</text>\n",
            escape(&format!("{sign} {by}{}", change.outcome.words()))
        );
    }
    svg + "</svg>\n"
}

/// A name that fits; the table below the picture has it whole.
fn fitting(name: &str) -> String {
    if name.chars().count() <= NAME_CHARS_MAX {
        return name.to_owned();
    }
    name.chars().take(NAME_CHARS_MAX - 1).chain(['…']).collect()
}

/// Class and sign of an outcome: colour alone does not reach everybody.
fn mark(outcome: Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Better => ("better", "✓"),
        Outcome::Worse => ("worse", "✗"),
        Outcome::WithinNoise => ("same", "≈"),
        Outcome::NotJudged => ("same", "·"),
    }
}

/// `p99_us` as `p99, us`.
fn readable(metric: &str) -> String {
    match metric {
        "ops_per_s" => "ops/s".to_owned(),
        "errors_percent" => "errors, %".to_owned(),
        other => other.strip_suffix("_us").map_or_else(|| other.to_owned(), |name| format!("{name}, us")),
    }
}

fn figures_table(changes: &[Change]) -> String {
    let head = ["operation", "metric", "base", "new", "change", "noise", "meaning"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for change in changes {
        rows.push(vec![
            change.op.clone(),
            readable(change.metric),
            figure_or_dash(change.base),
            figure_or_dash(change.new),
            change.change_percent.map_or_else(|| "-".to_owned(), percent),
            change.noise_percent.map_or_else(|| "-".to_owned(), |noise| format!("±{noise:.1} %")),
            change.outcome.words().to_owned(),
        ]);
    }
    table("Figures of both runs; the noise is that of the repetitions", &rows)
}
