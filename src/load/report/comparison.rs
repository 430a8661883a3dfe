//! Two runs side by side: what changed, and whether chance explains it.
//!
//! Runs are comparable when what was asked for and where it ran are the same; anything else measures the difference
//! of the questions. A change counts when it exceeds both the noise between the repetitions ([`super::noise`]) and a
//! floor that the operator gives. The longest latency is one request's and is shown, never judged.

use super::noise::noise;
use super::totals::TOTAL;
use crate::load::{LatencySummary, OpResult, RepetitionOp, RunConfig, RunResult};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Settings that name a run or bound its length; they may differ between comparable runs.
const FREE_SETTINGS: [&str; 4] = ["label", "tags", "addr", "runs"];
/// Settings that change how long or how carefully was measured, not what: they are noted.
const NOTED_SETTINGS: [&str; 4] = ["requests", "duration_s", "warmup_s", "max_in_flight"];

/// Something that two runs do not share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name in the document, like `config.rate`.
    pub what: String,
    /// In the base run.
    pub base: String,
    /// In the new run.
    pub new: String,
    /// Whether a comparison makes no sense because of it.
    pub is_decisive: bool,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} and {}", self.what, self.base, self.new)
    }
}

/// What two runs do not share, decisive ones first.
#[must_use]
pub fn differences(base: &RunResult, new: &RunResult) -> Vec<Difference> {
    let mut found = config_differences(&base.config, &new.config);
    let mut note = |what: &str, base: &Value, new: &Value, is_decisive: bool| {
        if base != new {
            let (base, new) = (shown(base), shown(new));
            found.push(Difference { what: what.to_owned(), base, new, is_decisive });
        }
    };
    let text = |text: &Option<String>| text.clone().map_or(Value::Null, Value::String);
    let is_same_promise = promise(&base.server.sync) == promise(&new.server.sync);
    note("server.sync", &text(&base.server.sync), &text(&new.server.sync), !is_same_promise);
    let (base_env, new_env) = (&base.env, &new.env);
    note("env.host", &text(&base_env.host), &text(&new_env.host), true);
    note("env.cpu", &text(&base_env.cpu), &text(&new_env.cpu), true);
    note("env.cores", &base_env.cores.into(), &new_env.cores.into(), true);
    note("env.cpus_allowed", &text(&base_env.cpus_allowed), &text(&new_env.cpus_allowed), false);
    note("env.kernel", &text(&base_env.kernel), &text(&new_env.kernel), false);
    note("env.fs", &text(&base_env.fs), &text(&new_env.fs), false);
    note("env.clock", &text(&base_env.clock), &text(&new_env.clock), false);
    note("env.backend", &text(&base_env.backend), &text(&new_env.backend), false);
    note("tool.version", &base.tool.version.clone().into(), &new.tool.version.clone().into(), false);
    note("server.product", &text(&base.server.product), &text(&new.server.product), false);
    found.sort_by_key(|difference| !difference.is_decisive);
    found
}

/// What two runs were asked for differently; known before the second one.
#[must_use]
pub fn config_differences(base: &RunConfig, new: &RunConfig) -> Vec<Difference> {
    let (base_config, new_config) = (fields(base), fields(new));
    let is_compared = |name: &str| !FREE_SETTINGS.contains(&name);
    let mut found = Vec::new();
    for (name, value) in base_config.iter().filter(|(name, _)| is_compared(name)) {
        let other = new_config.get(name).unwrap_or(&Value::Null);
        if value != other {
            found.push(Difference {
                what: format!("config.{name}"),
                base: shown(value),
                new: shown(other),
                is_decisive: !NOTED_SETTINGS.contains(&name.as_str()),
            });
        }
    }
    found
}

/// What a sync policy promises, in one server's words: two servers that promise the same are comparable.
fn promise(sync: &Option<String>) -> Option<&str> {
    match sync.as_deref() {
        Some("appendfsync always") => Some("always"),
        Some("appendfsync everysec" | "interval=1s" | "interval=1000ms") => Some("everysec"),
        Some("appendfsync no") => Some("none"),
        other => other,
    }
}

/// The fields of a part of a document, by their names there.
fn fields(part: &impl serde::Serialize) -> serde_json::Map<String, Value> {
    match serde_json::to_value(part) {
        Ok(Value::Object(fields)) => fields,
        // A struct of numbers and texts is always an object.
        _ => serde_json::Map::new(),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => super::number::printable(text),
        other => other.to_string(),
    }
}

/// What a change means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An improvement beyond the noise.
    Better,
    /// A regression beyond the noise.
    Worse,
    /// Chance explains it.
    WithinNoise,
    /// A figure is missing, or says too little to judge by.
    NotJudged,
}

impl Outcome {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "WORSE",
            Self::WithinNoise => "within noise",
            Self::NotJudged => "not judged",
        }
    }
}

/// One figure of both runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Operation, or `total`.
    pub op: String,
    /// Name with its unit: `ops_per_s`, `errors_percent`, `p99_us`.
    pub metric: &'static str,
    /// In the base run; none where it had too few samples.
    pub base: Option<f64>,
    /// In the new run.
    pub new: Option<f64>,
    /// From base to new, in percent of the base; none without a base to compare with.
    pub change_percent: Option<f64>,
    /// What repetitions differ by, in percent of the base; none where there was only one of each.
    pub noise_percent: Option<f64>,
    /// What it means.
    pub outcome: Outcome,
}

/// A figure that runs are compared by.
struct Metric {
    name: &'static str,
    is_better: Direction,
    of_run: fn(&OpResult) -> Option<f64>,
    of_repetition: fn(&RepetitionOp) -> Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Higher,
    Lower,
    NotJudged,
}

fn share_percent(errors: u64, count: u64) -> Option<f64> {
    (count > 0).then(|| 100.0 * errors as f64 / count as f64)
}

fn headline(op: &RepetitionOp) -> &LatencySummary {
    op.response_us.as_ref().unwrap_or(&op.service_us)
}

/// A metric that is a field of a latency summary.
macro_rules! latency {
    ($name:literal, $field:ident, $direction:ident) => {
        Metric {
            name: $name,
            is_better: Direction::$direction,
            of_run: |op| op.headline_us().$field,
            of_repetition: |op| headline(op).$field,
        }
    };
}

const METRICS: [Metric; 10] = [
    Metric {
        name: "ops_per_s",
        is_better: Direction::Higher,
        of_run: |op| Some(op.ops_per_s),
        of_repetition: |op| Some(op.ops_per_s),
    },
    Metric {
        name: "errors_percent",
        is_better: Direction::Lower,
        of_run: |op| share_percent(op.errors, op.count),
        of_repetition: |op| share_percent(op.errors, op.count),
    },
    latency!("mean_us", mean, Lower),
    latency!("p50_us", p50, Lower),
    latency!("p90_us", p90, Lower),
    latency!("p95_us", p95, Lower),
    latency!("p99_us", p99, Lower),
    latency!("p99.9_us", p999, Lower),
    latency!("p99.99_us", p9999, Lower),
    latency!("max_us", max, NotJudged),
];

/// Compares two runs, figure by figure. `noise_floor_percent`: smaller changes never count.
#[must_use]
pub fn compare(base: &RunResult, new: &RunResult, noise_floor_percent: f64) -> Vec<Change> {
    let names: BTreeSet<_> = base.ops.keys().chain(new.ops.keys()).collect();
    let mut changes = Vec::new();
    for op in &names {
        for metric in &METRICS {
            let of_run = |run: &RunResult| run.ops.get(*op).and_then(metric.of_run);
            let repeated = |run: &RunResult| -> Vec<f64> {
                run.runs.iter().filter_map(|run| (metric.of_repetition)(run.ops.get(*op)?)).collect()
            };
            let figures = (of_run(base), of_run(new));
            let noise = noise(&repeated(base), &repeated(new));
            let mut change = judge(op, metric, figures, noise, noise_floor_percent);
            // Repetitions with too few samples for a percentile cannot tell its noise: nothing is claimed then.
            let is_untold = |run: &RunResult| run.runs.len() > 1 && repeated(run).len() < run.runs.len();
            if is_untold(base) || is_untold(new) {
                change.outcome = Outcome::NotJudged;
            }
            changes.push(change);
        }
    }
    if names.len() > 1 {
        let rates = &METRICS[0];
        let sum = |ops: &BTreeMap<String, OpResult>| Some(ops.values().map(|op| op.ops_per_s).sum());
        let repeated =
            |run: &RunResult| -> Vec<f64> { run.runs.iter().map(|run| run.achieved_rate).collect() };
        let figures = (sum(&base.ops), sum(&new.ops));
        changes.push(judge(
            TOTAL,
            rates,
            figures,
            noise(&repeated(base), &repeated(new)),
            noise_floor_percent,
        ));
    }
    changes
}

fn judge(
    op: &str,
    metric: &Metric,
    (base, new): (Option<f64>, Option<f64>),
    noise: Option<f64>,
    noise_floor_percent: f64,
) -> Change {
    let mut change = Change {
        op: op.to_owned(),
        metric: metric.name,
        base,
        new,
        change_percent: None,
        noise_percent: None,
        outcome: Outcome::NotJudged,
    };
    let (Some(base), Some(new)) = (base, new) else { return change };
    if base > 0.0 {
        change.change_percent = Some(100.0 * (new - base) / base);
        change.noise_percent = noise.map(|noise| 100.0 * noise / base);
    }
    let floor = noise_floor_percent.max(change.noise_percent.unwrap_or(0.0));
    // From nothing to something, as errors do: no percentage, but a change all the same.
    let is_noise = change.change_percent.map_or(new == base, |percent| percent.abs() <= floor);
    change.outcome = match metric.is_better {
        Direction::NotJudged => Outcome::NotJudged,
        _ if is_noise => Outcome::WithinNoise,
        direction if (direction == Direction::Higher) == (new > base) => Outcome::Better,
        _ => Outcome::Worse,
    };
    change
}

/// Whether any figure got worse beyond the noise.
#[must_use]
pub fn has_regression(changes: &[Change]) -> bool {
    changes.iter().any(|change| change.outcome == Outcome::Worse)
}

/// The changes as a table, an operation after the other.
#[must_use]
pub fn comparison_text(changes: &[Change]) -> String {
    use super::number::{change as percent, figure_or_dash, printable};
    let headings = ["operation", "metric", "base", "new", "change", "noise", ""];
    let mut table = super::text::Table::new(headings);
    for change in changes {
        table.row([
            printable(&change.op),
            change.metric.to_owned(),
            figure_or_dash(change.base),
            figure_or_dash(change.new),
            change.change_percent.map_or_else(|| "-".to_owned(), percent),
            change.noise_percent.map_or_else(|| "-".to_owned(), |noise| format!("±{noise:.1} %")),
            change.outcome.words().to_owned(),
        ]);
    }
    table.render()
}
