//! What the background work is doing, for STATS and metrics.

use crate::storage::compaction::PlanReason;
use std::sync::{Arc, Mutex, PoisonError};

/// A merge that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeStatus {
    /// Why it was planned.
    pub reason: PlanReason,
    /// Tables that it reads.
    pub tables: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// A picture of the background work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobsStatus {
    /// Tables of the version.
    pub tables: usize,
    /// Bytes of them.
    pub table_bytes: u64,
    /// Live WAL segments.
    pub segments: usize,
    /// Bytes of them.
    pub segment_bytes: u64,
    /// Flushes that run now.
    pub flushes_running: usize,
    /// Memtables that wait for their flush or for its installation.
    pub flushes_waiting: usize,
    /// Bytes of memory of those.
    pub flush_backlog_bytes: u64,
    /// Merges that run now.
    pub merging: Vec<MergeStatus>,
    /// Bytes that the next merges would read.
    pub merge_backlog_bytes: u64,
    /// Flushes since the start.
    pub flushes_total: u64,
    /// Bytes of tables that they wrote.
    pub flush_bytes_total: u64,
    /// Merges since the start.
    pub merges_total: u64,
    /// The same by why they were planned, in the order of [`PlanReason::ALL`].
    pub merges_by_reason: [u64; PlanReason::ALL.len()],
    /// Bytes that they read.
    pub merge_bytes_read_total: u64,
    /// Bytes that they wrote.
    pub merge_bytes_written_total: u64,
    /// Segments made since the start.
    pub segments_made_total: u64,
    /// Of these, out of a retired one.
    pub segments_recycled_total: u64,
    /// Manifest edits since the start.
    pub edits_total: u64,
    /// Jobs and edits that failed.
    pub failures_total: u64,
    /// Whether something waits for disk space.
    pub out_of_space: bool,
    /// Samples before this time are hidden; `None` without retention, and before its first look at the clock.
    pub retention_cutoff: Option<i64>,
    /// Whether the clock leapt ahead, and nothing is dropped until it is believed.
    pub retention_held: bool,
    /// Bytes of tables that were dropped for retention since the start.
    pub retention_dropped_bytes_total: u64,
    /// Tables that were.
    pub retention_dropped_tables_total: u64,
    /// Bytes that tables of samples may take; `None` without retention by size.
    pub retention_limit_bytes: Option<u64>,
    /// Bytes that they take.
    pub sample_bytes: u64,
    /// Bytes of the next tables to be dropped for retention.
    pub retention_next_drop_bytes: u64,
    /// When, in seconds from now; by size, at the rate at which the newest samples came.
    pub retention_next_drop_seconds: u64,
    /// Series with a retention of their own, in tables.
    pub series_retention_series: u64,
    /// Bytes of tables that those hide, by the last look; merges free them.
    pub series_retention_hidden_bytes: u64,
    /// The last failure, as a sentence.
    pub last_error: Option<String>,
}

impl JobsStatus {
    /// How many merges were planned for which reason.
    pub fn named_merges(&self) -> impl Iterator<Item = (&'static str, u64)> {
        PlanReason::ALL.iter().map(|reason| reason.name()).zip(self.merges_by_reason)
    }
}

/// Where the coordinator shows its status; clones show the same.
#[derive(Clone, Debug, Default)]
pub struct StatusBoard(Arc<Mutex<JobsStatus>>);

impl StatusBoard {
    /// The picture as of the last message that the coordinator handled.
    #[must_use]
    pub fn read(&self) -> JobsStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    pub(super) fn write(&self, status: JobsStatus) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}
