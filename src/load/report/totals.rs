//! All operations of a run together: sums of counts, merged histograms, never averages of percentiles.

use crate::load::{LatencyHistogram, OpResult, RunResult};

/// One line of a report: an operation, or all of them.
#[derive(Clone, Debug)]
pub(super) struct Line<'a> {
    /// Name of the operation; `total` for all.
    pub(super) name: &'a str,
    pub(super) count: u64,
    pub(super) errors: u64,
    pub(super) ops_per_s: f64,
    pub(super) values_per_s: f64,
    /// Sent and received, decimal.
    pub(super) megabytes_per_s: f64,
    /// From the intended send; absent in a closed loop.
    pub(super) response: Option<LatencyHistogram>,
    /// From the actual send.
    pub(super) service: LatencyHistogram,
}

/// Name of the line of all operations.
pub(super) const TOTAL: &str = "total";

impl Line<'_> {
    /// The latencies that claims are made from.
    pub(super) fn headline(&self) -> &LatencyHistogram {
        self.response.as_ref().unwrap_or(&self.service)
    }
}

/// A line for each operation, and the total as the last one; a single operation is its own total and has no second
/// line.
pub(super) fn lines(result: &RunResult) -> Vec<Line<'_>> {
    let mut lines: Vec<_> = result.ops.iter().map(|(name, op)| line(name, op)).collect();
    if lines.len() != 1 {
        lines.push(total(&lines));
    }
    lines
}

/// The line of all operations.
pub(super) fn total_of(result: &RunResult) -> Line<'_> {
    let mut lines = lines(result);
    let mut last = lines.pop().unwrap_or_else(|| total(&[]));
    last.name = TOTAL;
    last
}

fn line<'a>(name: &'a str, op: &OpResult) -> Line<'a> {
    let bytes = op.bytes_sent as f64 + op.bytes_received as f64;
    // Kinds of queries run one after the other: an operation's own time, not the whole run's.
    let seconds = if op.ops_per_s > 0.0 { op.count as f64 / op.ops_per_s } else { 0.0 };
    Line {
        name,
        count: op.count,
        errors: op.errors,
        ops_per_s: op.ops_per_s,
        values_per_s: op.values_per_s,
        megabytes_per_s: if seconds > 0.0 { bytes / 1e6 / seconds } else { 0.0 },
        response: op.response_hdr_v2_base64.clone(),
        service: op.service_hdr_v2_base64.clone(),
    }
}

fn total(lines: &[Line<'_>]) -> Line<'static> {
    let mut total = Line {
        name: TOTAL,
        count: 0,
        errors: 0,
        ops_per_s: 0.0,
        values_per_s: 0.0,
        megabytes_per_s: 0.0,
        response: None,
        service: LatencyHistogram::default(),
    };
    for line in lines {
        total.count = total.count.saturating_add(line.count);
        total.errors = total.errors.saturating_add(line.errors);
        total.ops_per_s += line.ops_per_s;
        total.values_per_s += line.values_per_s;
        total.megabytes_per_s += line.megabytes_per_s;
        total.service.merge(&line.service);
    }
    // A total over operations of which some have no schedule would mix two kinds of time.
    if !lines.is_empty() && lines.iter().all(|line| line.response.is_some()) {
        let mut merged = LatencyHistogram::default();
        lines.iter().filter_map(|line| line.response.as_ref()).for_each(|response| merged.merge(response));
        total.response = Some(merged);
    }
    total
}
