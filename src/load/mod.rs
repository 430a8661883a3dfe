//! The load generator behind `tskv bench`.

mod latency;
mod result;

pub use latency::{LATENCY_NS_MAX, LatencyHistogram, LatencySummary};
pub use result::{
    Environment, OpResult, Repetition, RepetitionOp, RunConfig, RunResult, SCHEMA_VERSION, Second, SecondOp,
    ServerReport, SweepPoint, Tool, Verdict,
};
