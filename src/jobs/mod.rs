//! Work off the cores that may block: opening the store, the coordinator, flushes, merges, segments, verification.
//!
//! ```text
//! open_store ─▶ OpenedStore { version, boundaries, segments, … } ─▶ shards start
//!                     └ seed ─▶ Coordinator ◀── ToCoordinator ── shards, server
//!                                   └── ToShard (by ShardLink) ─▶ shards
//! check_store: verifies a store that nobody has open; repair_store: makes one usable again that is damaged
//! ```
//! A flush, in order: memtable frozen and its stream synced (shard) → tables written and synced → directory synced →
//! one manifest frame adds the tables and retires the segments → version shown to every shard → files unlinked.
//!
//! Shutdown, in order: no more connections → shards seal their streams and sync → [`ToCoordinator::Shutdown`] → its
//! `done` → the lock is dropped. What was not flushed is replayed by the next open; [`ToCoordinator::FlushAll`] before
//! it makes that open faster.
#![forbid(unsafe_code)]

mod boundaries;
mod check;
mod checkpoint;
mod compact;
mod coordinator;
mod error;
mod flush;
mod layout;
mod manifest_log;
mod message;
mod open;
mod options;
mod recover;
mod refill;
mod repair;
mod retention_clock;
mod segment_files;
mod series_survey;
mod status;
mod table_files;
#[cfg(test)]
mod test_disk;
#[cfg(test)]
mod tests;

pub(crate) use boundaries::split as split_by_weight;
pub use check::{CheckSummary, Finding, check_store};
pub use coordinator::Coordinator;
pub use error::{JobError, OpenError};
pub use message::{CoordinatorLink, Done, FlushRequest, JobReport, ShardLink, ToCoordinator, ToShard};
pub use open::{CoordinatorSeed, OpenedStore, open_store};
pub use options::{Progress, RetentionOptions, StoreOptions};
pub use recover::RecoveryReport;
pub use repair::{
    BlockLoss, Extent, Field, FieldValue, Key, ManifestPlan, RepairOptions, RepairReport, RepairStep,
    SegmentPlan, SeriesReach, TablePlan, repair_store,
};
pub use status::{JobsStatus, MergeStatus, StatusBoard};
pub use table_files::{FileSource, read_block};
