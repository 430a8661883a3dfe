//! What the daemon counts, and how it tells.
//!
//! Each core owns one [`CoreMetrics`] and increments plain integers; nobody else touches them. Whoever asks gets a
//! [`CoreSnapshot`], a copy made by the core, and sums: [`render_prometheus`] for `/metrics`, [`stat_pairs`] for
//! STATS and `tskv stats`, [`info_sections`] for INFO. Facts of the store as a whole come as a [`StoreSnapshot`].
#![forbid(unsafe_code)]

mod core_metrics;
pub mod endpoint;
mod hot;
mod latency;
mod phases;
mod prometheus;
mod stats;
mod store;

pub use core_metrics::{
    CoreMetrics, CoreSnapshot, LoopCounters, NetCounters, RequestCounters, ShardGauges, StallCounters,
    TableCounters, WalCounters,
};
pub use hot::{HotList, HotSeries};
pub use latency::{Latencies, RequestKind};
pub use phases::{Phase, PhaseTimes, PhaseTotals};
pub use prometheus::render_prometheus;
pub use stats::{InfoSection, info_sections, render_stats, stat_pairs};
pub use store::StoreSnapshot;

#[cfg(test)]
mod sample;
