//! The load generator behind `tskv bench`: it measures this daemon, and whatever speaks RESP.
//!
//! ```text
//! workload ─▶ engine (one thread, many connections, one Backend) ─▶ recorder ─▶ collector ─▶ RunResult
//!               ▲ schedule: when each operation is due                            one per run     verdict
//! ```
//! Rules that figures rest on: due times are fixed before anything is sent, and a late operation is sent late, never
//! skipped; response time counts from the due time and service time from the send; histograms are merged, never their
//! percentiles; the generator measures itself (work, lateness, its ceiling against [`NullSink`]) and says when it was
//! the limit. Every operation is a function of the options and its number, so a journal of numbers suffices to verify
//! what a crashed server must still hold.
#![forbid(unsafe_code)]

mod collector;
mod connection;
mod encoded;
mod engine;
mod environment;
mod error;
mod journal;
mod latency;
mod live;
mod prepare;
mod random;
mod recorder;
pub mod report;
mod resp_client;
mod result;
mod run;
mod schedule;
mod sink;
mod sweep;
mod target;
mod verdict;
mod verify;
mod wire;
mod workload;

pub use collector::{LiveOp, LiveSecond};
pub use error::LoadError;
pub use latency::{LATENCY_NS_MAX, LatencyHistogram, LatencySummary};
pub use live::live_line;
pub use resp_client::{RespValue, ask};
pub use result::{
    Environment, OpResult, Repetition, RepetitionOp, RunConfig, RunResult, SCHEMA_VERSION, Second, SecondOp,
    ServerReport, SweepPoint, Tool, Verdict,
};
pub use run::{Amount, RunOptions, Source, run};
pub use schedule::Arrival;
pub use sink::NullSink;
pub use sweep::{Objective, rate_of, rates, sweep};
pub use target::Target;
pub use verify::{Verification, verify};
pub use workload::{
    Churn, Dialect, KeyPattern, KeyStyle, KvKind, KvOptions, Lateness, MixOptions, Order, QueryKind,
    QueryOptions, ReadKind, Recency, ReplayOptions, ReplaySample, RowShape, SampleSource, TsbsOptions,
    ValueKind, WorkloadOptions,
};
