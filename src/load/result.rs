//! What a finished run is: the JSON document that `--json` writes and every report reads.
//!
//! The schema is stable: a field keeps its name, unit and meaning within a [`SCHEMA_VERSION`]; new ones may appear and
//! old readers pass over them. Each number's name ends in its unit; what is not known is `null`, never 0 or NaN.
//! Histograms are embedded whole ([`LatencyHistogram`]), so that reports and comparisons need no raw run.
//!
//! `ops` holds the measured time of all repetitions together; `runs` holds each of them, from which the noise between
//! repetitions is taken; `series` holds each second of each. Names of operations: `write`, `read`, and the queries by
//! name. Warm-up is in none of them.

use super::latency::{LatencyHistogram, LatencySummary};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the document.
pub const SCHEMA_VERSION: u32 = 1;

/// A finished run, or a finished sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// Who measured.
    pub tool: Tool,
    /// What was asked for.
    pub config: RunConfig,
    /// Where the generator ran.
    pub env: Environment,
    /// Whether the figures can be trusted, and why not.
    pub verdict: Verdict,
    /// Figures by operation, all repetitions together.
    pub ops: BTreeMap<String, OpResult>,
    /// Each repetition, in order; at least one.
    pub runs: Vec<Repetition>,
    /// Each second of each repetition, in order.
    pub series: Vec<Second>,
    /// The rates that a sweep tried, ascending; empty for other runs. `ops`, `runs` and `series` are then those of the
    /// highest rate within the objective, or of the lowest rate where none was.
    #[serde(default)]
    pub sweep: Vec<SweepPoint>,
    /// What the server said of itself.
    pub server: ServerReport,
}

/// The program that measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// `tskv bench`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What was asked for, with defaults filled in. What makes two results comparable: all but `label`, `tags`, `addr`,
/// `json`-like outputs (not kept) and `runs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunConfig {
    /// Subcommand: `run`, `load`, `query`, `replay`, `sweep`.
    pub command: String,
    /// Where the server is; `null-sink` for the generator's own.
    pub addr: String,
    /// `native` or `resp`.
    pub protocol: String,
    /// `strings` or `ts` over RESP; absent over the native protocol.
    pub commands: Option<String>,
    /// Name for reports.
    pub label: Option<String>,
    /// What the operator noted, by key.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Connections in all.
    pub clients: u64,
    /// Threads of the generator.
    pub threads: u64,
    /// Requests in flight per connection, closed loop; a bound per connection in an open loop.
    pub pipeline: u64,
    /// Requests per repetition; absent where the time is given.
    pub requests: Option<u64>,
    /// Time per repetition; absent where the requests are given.
    pub duration_s: Option<f64>,
    /// Time before each repetition that is not measured.
    pub warmup_s: f64,
    /// Operations per second in all; absent: closed loop.
    pub rate: Option<f64>,
    /// `const` or `poisson`; absent: closed loop.
    pub arrival: Option<String>,
    /// Requests in flight beyond which late ones count as dropped from the schedule's bound (they are still sent).
    pub max_in_flight: u64,
    /// Repetitions.
    pub runs: u64,
    /// Seed of keys, values and arrivals.
    pub seed: u64,
    /// `kv`, `ycsb-a` to `ycsb-f`, `tsbs-cpu`, `tsbs-devops`, `mixed`, `replay`, `query`.
    pub workload: String,
    /// Weights of the operations, by name.
    #[serde(default)]
    pub mix: BTreeMap<String, f64>,
    /// Series, or keys.
    pub series: u64,
    /// `random`, `sequential`, `parallel`, `zipf`, `gaussian`, `hot-tenth`.
    pub key_pattern: String,
    /// `latest` or `uniform`: which of what was written is read; absent where nothing is.
    #[serde(default)]
    pub read_recency: Option<String>,
    /// Exponent of the Zipf distribution, where the pattern has one.
    pub zipf: Option<f64>,
    /// Requests after which another tenth is hot, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hot_requests: Option<u64>,
    /// `short` or `full`.
    pub key_style: String,
    /// `int`, `float` or `bytes`.
    pub values: String,
    /// Smallest and largest value, in bytes; absent where values are numbers.
    pub value_size_min_bytes: Option<u64>,
    /// See `value_size_min_bytes`.
    pub value_size_max_bytes: Option<u64>,
    /// Samples per write.
    pub batch: u64,
    /// `tick` or `series`.
    pub order: String,
    /// Step between samples of a series.
    pub interval_ms: i64,
    /// Share of samples that come late, 0..=1.
    pub out_of_order: f64,
    /// How late at most.
    pub out_of_order_ms: i64,
    /// Share of samples that are sent twice, 0..=1.
    pub duplicates: f64,
    /// Share of series that are replaced by new ones, 0..=1, each `churn_period_ms` of event time.
    pub churn: f64,
    /// See `churn`.
    pub churn_period_ms: i64,
    /// Replay: event seconds per second; absent: as fast as it goes.
    pub speed: Option<f64>,
}

/// Where the generator ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Model of the processor.
    pub cpu: Option<String>,
    /// Processors online.
    pub cores: u64,
    /// The processors that the generator was allowed, as a list like `0-3,7`.
    pub cpus_allowed: Option<String>,
    /// Kernel release.
    pub kernel: Option<String>,
    /// File system of the working directory; the server's data may lie elsewhere.
    pub fs: Option<String>,
    /// Clock source of the kernel.
    pub clock: Option<String>,
    /// The generator's backend: `io_uring` or `epoll`.
    pub backend: Option<String>,
    /// Host name.
    pub host: Option<String>,
    /// When the run began, in milliseconds since 1970-01-01 UTC.
    pub start_unix_ms: i64,
}

/// Whether the figures can be trusted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// No schedule: latencies omit the waiting that a stall would cause (coordinated omission).
    pub closed_loop: bool,
    /// The generator was the bottleneck: the figures say nothing of the server.
    pub generator_limited: bool,
    /// The asked-for rate was missed by more than 1 %.
    pub target_not_reached: bool,
    /// It was stopped before its end; what was measured until then is here.
    pub interrupted: bool,
    /// Why the generator could not go on: its file, its journal or its event loop. What was measured until then is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Operations per second asked for; absent: closed loop.
    pub target_rate: Option<f64>,
    /// Operations per second that were answered, errors included.
    pub achieved_rate: f64,
    /// Requests that became due while `max_in_flight` were unanswered; they were sent late, not skipped.
    pub dropped: u64,
    /// Connections that broke or were closed by the server during the run.
    #[serde(default)]
    pub connections_lost: u64,
    /// Longest time between a request's intended and its actual send; absent: closed loop.
    pub max_lag_ms: Option<f64>,
    /// Mean of the same.
    pub mean_lag_ms: Option<f64>,
    /// Longest time that the generator itself, not a full pipeline, made a due request wait; absent: closed loop.
    pub max_generator_lag_ms: Option<f64>,
    /// Share of its time that the busiest generator thread worked, 0..=100; time spent spinning is not work.
    pub generator_cpu_percent: f64,
    /// Operations per second that this generator reaches against a sink that does nothing, where it was measured.
    pub null_sink_rate: Option<f64>,
    /// The same in words, one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Figures of one operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OpResult {
    /// Answered operations, errors included.
    pub count: u64,
    /// Those that were answered with an error.
    pub errors: u64,
    /// Samples or values written or read.
    pub values: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// `count` by the measured time.
    pub ops_per_s: f64,
    /// `values` by the measured time.
    pub values_per_s: f64,
    /// From the intended send to the answer: what a user would have seen. Absent in a closed loop, which has no
    /// intended times.
    pub response_us: Option<LatencySummary>,
    /// From the actual send to the answer.
    pub service_us: LatencySummary,
    /// All of `response_us`, in nanoseconds.
    pub response_hdr_v2_base64: Option<LatencyHistogram>,
    /// All of `service_us`, in nanoseconds.
    pub service_hdr_v2_base64: LatencyHistogram,
    /// The first error of this operation, as the server worded it.
    pub first_error: Option<String>,
}

impl OpResult {
    /// The histogram that latency claims are made from: response time where there was a schedule, else service time.
    #[must_use]
    pub fn headline(&self) -> &LatencyHistogram {
        self.response_hdr_v2_base64.as_ref().unwrap_or(&self.service_hdr_v2_base64)
    }
    /// The figures of [`Self::headline`].
    #[must_use]
    pub fn headline_us(&self) -> &LatencySummary {
        self.response_us.as_ref().unwrap_or(&self.service_us)
    }
}

/// One repetition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Repetition {
    /// When its measured time began, in milliseconds since 1970-01-01 UTC.
    pub start_unix_ms: i64,
    /// Measured time, from the first intended send to the last answer or to the end of the time given.
    pub elapsed_s: f64,
    /// Operations per second that were answered.
    pub achieved_rate: f64,
    /// Figures by operation.
    pub ops: BTreeMap<String, RepetitionOp>,
}

/// Figures of one operation in one repetition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RepetitionOp {
    /// Answered operations, errors included.
    pub count: u64,
    /// Those that were answered with an error.
    pub errors: u64,
    /// Samples or values written or read.
    pub values: u64,
    /// `count` by the measured time.
    pub ops_per_s: f64,
    /// As in [`OpResult`].
    pub response_us: Option<LatencySummary>,
    /// As in [`OpResult`].
    pub service_us: LatencySummary,
}

/// What was answered in one second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Index of the repetition.
    pub run: u64,
    /// End of the second, in seconds since the start of the repetition's measured time.
    pub t_s: f64,
    /// Its length; the last one may be shorter.
    pub length_s: f64,
    /// Events that the server counted in it, by name: `flushes`, `compactions`, `syncs`; empty where it does not tell.
    #[serde(default)]
    pub marks: BTreeMap<String, u64>,
    /// Figures by operation, for those that were answered.
    #[serde(flatten)]
    pub ops: BTreeMap<String, SecondOp>,
}

/// Figures of one operation in one second; latencies are response times where there is a schedule, else service times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SecondOp {
    /// Answered operations, errors included.
    pub count: u64,
    /// Those that were answered with an error.
    pub errors: u64,
    /// Samples or values written or read.
    pub values: u64,
    /// Median, in microseconds.
    pub p50_us: Option<f64>,
    /// 95th percentile.
    pub p95_us: Option<f64>,
    /// 99th percentile.
    pub p99_us: Option<f64>,
    /// 99.9th percentile.
    pub p999_us: Option<f64>,
    /// Longest.
    pub max_us: Option<f64>,
    /// All of them, in nanoseconds.
    pub hdr_v2_base64: LatencyHistogram,
}

impl SecondOp {
    /// Figures of a histogram. Percentiles of a second are told from fewer samples than those of a run: they are
    /// points of a curve, not claims.
    #[must_use]
    pub fn new(count: u64, errors: u64, values: u64, latencies: LatencyHistogram) -> Self {
        let any = latencies.count() > 0;
        let at = |percentile| any.then(|| latencies.histogram().value_at_percentile(percentile) as f64 / 1e3);
        Self {
            count,
            errors,
            values,
            p50_us: at(50.0),
            p95_us: at(95.0),
            p99_us: at(99.0),
            p999_us: at(99.9),
            max_us: at(100.0),
            hdr_v2_base64: latencies,
        }
    }
}

/// One rate of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// Operations per second asked for.
    pub rate: f64,
    /// Whether the objective held, the rate was reached, and the generator was not the limit.
    pub within_slo: bool,
    /// The objective, as given: `p99<10ms`.
    pub slo: String,
    /// Why each run of this rate was not within it, one sentence each; a rate is given up after two.
    #[serde(default)]
    pub missed_because: Vec<String>,
    /// What this rate's last run was worth.
    pub verdict: Verdict,
    /// Figures by operation.
    pub ops: BTreeMap<String, RepetitionOp>,
}

/// What the server said of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerReport {
    /// Name and version.
    pub product: Option<String>,
    /// How durable an acknowledged write is: `always`, `interval=10ms`, `none`; for Redis its `appendfsync`.
    pub sync: Option<String>,
    /// Counters before the first repetition, by the server's own names.
    #[serde(default)]
    pub before: BTreeMap<String, f64>,
    /// The same after the last repetition.
    #[serde(default)]
    pub after: BTreeMap<String, f64>,
    /// Bytes on disk by values stored, where the server tells both.
    pub disk_bytes_per_value: Option<f64>,
    /// Resident memory at the end.
    pub resident_bytes: Option<f64>,
}
