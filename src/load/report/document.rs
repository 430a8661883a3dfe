//! Stored runs, read back: what a report may rely on is checked here, once.
//!
//! A document may come from an older tskv, another machine or an editor. What passes has this build's schema, figures
//! that are neither negative nor absurdly large, at least one repetition, and histograms that hold no more samples
//! than operations were counted; the reports then compute without a second thought.

use crate::load::{LATENCY_NS_MAX, LatencyHistogram, LatencySummary, RunResult, SCHEMA_VERSION};
use serde_json::Value;
use std::fmt;

/// No figure of a run is larger; sums and products of such numbers stay finite.
const FIGURE_MAX: f64 = 1e18;
/// Longest latency in a summary, in microseconds. A histogram tells the end of a bucket, a little above its bound.
const LATENCY_US_MAX: f64 = LATENCY_NS_MAX as f64 / 1e3 * 1.01;
/// Longest time of a run, in seconds: thirty years.
const TIME_S_MAX: f64 = 1e9;
/// Last start of a run, in milliseconds since 1970: the end of the year 9999.
const START_UNIX_MS_MAX: i64 = 253_402_300_799_999;

/// Why a document cannot be reported on.
#[derive(Debug)]
#[non_exhaustive]
pub enum DocumentError {
    /// No JSON, or JSON of another shape.
    Shape {
        /// What the parser says, with line and column.
        source: serde_json::Error,
    },
    /// It does not say which version of the document it is.
    SchemaAbsent,
    /// Written by another version of tskv; nothing is wrong with the document.
    SchemaUnsupported {
        /// What it says.
        found: u64,
        /// What this build reads.
        supported: u32,
    },
    /// A number that no run can have.
    OutOfRange {
        /// Path within the document, like `/ops/write/count`.
        place: String,
        /// The number.
        found: f64,
    },
    /// Two parts of the document do not belong together.
    Contradiction {
        /// Path within the document.
        place: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { source } => write!(f, "not a result of tskv bench: {source}"),
            Self::SchemaAbsent => write!(f, "not a result of tskv bench: it has no schema_version"),
            Self::SchemaUnsupported { found, supported } => {
                write!(f, "schema version {found}, and this tskv reads version {supported}")
            }
            Self::OutOfRange { place, found } => write!(f, "{place}: {found} is out of range"),
            Self::Contradiction { place, reason } => write!(f, "{place}: {reason}"),
        }
    }
}
impl std::error::Error for DocumentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Shape { source } => Some(source),
            _ => None,
        }
    }
}

/// Reads a document as `--json` writes it.
///
/// # Errors
///
/// [`DocumentError`]: it is none, or not one that can be relied on.
pub fn parse_document(json: &[u8]) -> Result<RunResult, DocumentError> {
    let shape = |source| DocumentError::Shape { source };
    let value: Value = serde_json::from_slice(json).map_err(shape)?;
    let version = value.get("schema_version").and_then(Value::as_u64).ok_or(DocumentError::SchemaAbsent)?;
    if version != u64::from(SCHEMA_VERSION) {
        return Err(DocumentError::SchemaUnsupported { found: version, supported: SCHEMA_VERSION });
    }
    check_numbers(&value, &mut String::new())?;
    drop(value);
    // From the text, not from the value: only the text has lines and columns to tell.
    let result: RunResult = serde_json::from_slice(json).map_err(shape)?;
    check_times(&result)?;
    check_ops(&result)?;
    Ok(result)
}

/// Each number, by its path.
fn check_numbers(value: &Value, place: &mut String) -> Result<(), DocumentError> {
    let mut within = |name: &str, inner: &Value| {
        let length = place.len();
        place.push('/');
        place.push_str(name);
        check_numbers(inner, place)?;
        place.truncate(length);
        Ok(())
    };
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(name, inner)| within(name, inner)),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(index, inner)| within(&index.to_string(), inner))
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::INFINITY);
            // Of all that a document holds, a server's own counters and times before 1970 may be negative.
            let may_be_negative = place.starts_with("/server/") || place.ends_with("start_unix_ms");
            // Seeds are any 64 bits.
            let lowest = if may_be_negative { -FIGURE_MAX } else { 0.0 };
            if place == "/config/seed" || (lowest..=FIGURE_MAX).contains(&number) {
                Ok(())
            } else {
                Err(DocumentError::OutOfRange { place: place.clone(), found: number })
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

fn out_of_range(place: String, found: f64) -> DocumentError {
    DocumentError::OutOfRange { place, found }
}

fn check_times(result: &RunResult) -> Result<(), DocumentError> {
    let start = |place: String, unix_ms: i64| {
        let is_possible = (0..=START_UNIX_MS_MAX).contains(&unix_ms);
        if is_possible { Ok(()) } else { Err(out_of_range(place, unix_ms as f64)) }
    };
    let time = |place: String, seconds: f64| {
        if seconds <= TIME_S_MAX { Ok(()) } else { Err(out_of_range(place, seconds)) }
    };
    start("/env/start_unix_ms".to_owned(), result.env.start_unix_ms)?;
    if result.runs.is_empty() {
        let reason = "no repetition: nothing was measured";
        return Err(DocumentError::Contradiction { place: "/runs".to_owned(), reason });
    }
    for (index, run) in result.runs.iter().enumerate() {
        start(format!("/runs/{index}/start_unix_ms"), run.start_unix_ms)?;
        time(format!("/runs/{index}/elapsed_s"), run.elapsed_s)?;
    }
    for (index, second) in result.series.iter().enumerate() {
        time(format!("/series/{index}/t_s"), second.t_s)?;
        time(format!("/series/{index}/length_s"), second.length_s)?;
        if second.run >= result.runs.len() as u64 {
            let reason = "a second of a repetition that is not there";
            return Err(DocumentError::Contradiction { place: format!("/series/{index}/run"), reason });
        }
    }
    Ok(())
}

fn check_ops(result: &RunResult) -> Result<(), DocumentError> {
    for (name, op) in &result.ops {
        let place = format!("/ops/{name}");
        check_summary(&format!("{place}/service_us"), &op.service_us)?;
        check_histogram(&place, &op.service_hdr_v2_base64, op.count)?;
        if op.response_us.is_some() != op.response_hdr_v2_base64.is_some() {
            let reason = "response times come as figures and as a histogram, or not at all";
            return Err(DocumentError::Contradiction { place, reason });
        }
        if let Some(response) = &op.response_hdr_v2_base64 {
            check_histogram(&place, response, op.count)?;
        }
        if let Some(response) = &op.response_us {
            check_summary(&format!("{place}/response_us"), response)?;
        }
        if op.errors > op.count {
            return Err(DocumentError::Contradiction { place, reason: "more errors than operations" });
        }
    }
    let repetitions = result.runs.iter().enumerate().map(|(index, run)| ("runs", index, &run.ops));
    let points = result.sweep.iter().enumerate().map(|(index, point)| ("sweep", index, &point.ops));
    for (part, index, ops) in repetitions.chain(points) {
        for (name, op) in ops {
            check_summary(&format!("/{part}/{index}/ops/{name}/service_us"), &op.service_us)?;
            if let Some(response) = &op.response_us {
                check_summary(&format!("/{part}/{index}/ops/{name}/response_us"), response)?;
            }
        }
    }
    for (index, second) in result.series.iter().enumerate() {
        for (name, op) in &second.ops {
            // A copy, which is closed again: thousands of open histograms would fill the memory.
            check_histogram(&format!("/series/{index}/{name}"), &op.hdr_v2_base64.clone(), op.count)?;
        }
    }
    Ok(())
}

fn check_histogram(place: &str, histogram: &LatencyHistogram, count: u64) -> Result<(), DocumentError> {
    if histogram.count() > count {
        let reason = "a histogram of more samples than operations";
        return Err(DocumentError::Contradiction { place: place.to_owned(), reason });
    }
    Ok(())
}

fn check_summary(place: &str, summary: &LatencySummary) -> Result<(), DocumentError> {
    let LatencySummary { min, mean, stdev, p50, p90, p95, p99, p999, p9999, max } = *summary;
    let figures = [min, mean, stdev, p50, p90, p95, p99, p999, p9999, max].into_iter().flatten();
    match figures.into_iter().find(|us| *us > LATENCY_US_MAX) {
        Some(found) => Err(out_of_range(place.to_owned(), found)),
        None => Ok(()),
    }
}
