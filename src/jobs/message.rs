//! What shards, the server and jobs say to the coordinator, and what it says to shards.

use super::error::JobError;
use super::manifest_log::ManifestLog;
use super::series_survey::Survey;
use crate::io::Errno;
use crate::model::{CheckpointName, KeyRange, SegmentSeq, Seqno, TableId};
use crate::storage::manifest::State;
use crate::storage::memtable::Memtable;
use crate::storage::version::{Table, Version};
use crate::storage::wal::SegmentSpec;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Called once, when what was asked for is done or cannot be done.
pub type Done = Box<dyn FnOnce(Result<(), JobError>) + Send>;

/// A frozen memtable to be written to tables.
#[derive(Clone, Debug)]
pub struct FlushRequest {
    /// Whose memtable.
    pub shard: u16,
    /// Frozen, and its stream synced through its last lsn: tables must not survive what the log before them does not.
    pub memtable: Arc<Memtable>,
    /// The shard's keys; range deletes are clipped to them.
    pub keys: KeyRange,
    /// Finished segments that no memtable needs once this one is in tables; retired in the same manifest frame.
    pub releases: Vec<SegmentSeq>,
}

/// To the coordinator.
pub enum ToCoordinator {
    /// Write a memtable to tables. Requests of one shard come in the order of its memtables.
    Flush(FlushRequest),
    /// The shard's stream wants one more segment; ask once per segment. It is answered by `SegmentReady`, however long
    /// that takes.
    NeedSegment {
        /// The shard.
        shard: u16,
    },
    /// The lowest seqno that could still come back from the shard's log, or lies in its memtables, or that an open
    /// snapshot or a write to come may have. Only ever grows. Merges drop nothing before every shard has said it once.
    Horizon {
        /// The shard.
        shard: u16,
        /// See above.
        seqno: Seqno,
    },
    /// Answers `FreezeNow`: every memtable that held something then has been sent for flushing before this.
    Frozen {
        /// The shard.
        shard: u16,
        /// As in the request.
        ticket: u64,
    },
    /// Answers `FreezeNow` too: the shard's log has failed, so that what it holds in memory is not written before a
    /// restart.
    FreezeFailed {
        /// The shard.
        shard: u16,
        /// As in the request.
        ticket: u64,
    },
    /// Drop a memtable that is in tables and that its shard no longer reads.
    Dispose(Arc<Memtable>),
    /// Shards are split here from now on: tables are cut there, and the next open begins with it. Replay does not depend
    /// on it.
    Boundaries(Vec<Box<[u8]>>),
    /// Write everything that is in memory now to tables.
    FlushAll {
        /// Called when it is durable there.
        done: Done,
    },
    /// Write everything to tables and merge them until there is nothing left to merge or drop.
    CompactAll {
        /// Called at the end.
        done: Done,
    },
    /// Write everything to tables, then make a store of hard links to them below `checkpoints`.
    Checkpoint {
        /// Its directory there; must be new.
        name: CheckpointName,
        /// Called when it is durable.
        done: Done,
    },
    /// Stop working: flushes and merges under way are given up (the log has what they had), edits under way finish.
    Shutdown {
        /// Called when no job runs any more; the last thing that the coordinator does.
        done: Done,
    },
    /// A job of the coordinator's own has ended.
    Job(JobReport),
}

/// How a job of the coordinator ended; opaque.
pub struct JobReport(pub(super) Report);

pub(super) enum Report {
    Flushed {
        request: FlushRequest,
        result: Result<(Vec<Arc<Table>>, u64), JobError>,
    },
    Merged {
        inputs: Vec<TableId>,
        bytes_read: u64,
        result: Result<(Vec<Arc<Table>>, u64), JobError>,
        /// By new table, the part that was left out of what it could hold: see `coordinator/series.rs`.
        left_out: BTreeMap<TableId, u64>,
    },
    Surveyed {
        result: Result<Survey, JobError>,
    },
    Segment {
        shard: u16,
        result: Result<SegmentSpec, JobError>,
        /// Files that a failure may have left behind.
        leftovers: Vec<PathBuf>,
    },
    Committed {
        log: Box<ManifestLog>,
        next: Box<State>,
        result: Result<(), JobError>,
        ballast_used: bool,
    },
    Cleaned,
    Ballast {
        result: Result<(), JobError>,
    },
    Checkpoint {
        result: Result<(), JobError>,
    },
    Settled,
}

/// To one shard.
#[derive(Clone, Debug)]
pub enum ToShard {
    /// The tables have changed. Read from this version from now on; raise the seqno counter above
    /// `version.seqno_max()`.
    Version {
        /// All tables.
        version: Arc<Version>,
        /// Memtables of this shard (their ids) that are in it: drop them.
        flushed: Vec<u64>,
        /// Segments of this shard that are retired: release them, and report the new horizon.
        retired: Vec<SegmentSeq>,
    },
    /// A segment for the stream.
    SegmentReady(SegmentSpec),
    /// No segment could be made for now; it is tried again. With `ENOSPC`, writes that need one are refused.
    SegmentFailed(Errno),
    /// A memtable, or the edit that makes its tables count, could not be written for now; it is tried again and the log
    /// keeps what it holds.
    FlushFailed {
        /// Its id.
        memtable: u64,
        /// What the machine said.
        errno: Errno,
    },
    /// Close the open segment, freeze the memtable if it holds anything, send it (and those frozen before) for
    /// flushing as soon as the stream is synced that far, then answer `Frozen`.
    FreezeNow {
        /// To be repeated in the answer.
        ticket: u64,
    },
    /// Send `Horizon` now.
    ReportHorizon,
}

/// The coordinator's way to the shards. Messages to one shard arrive in order; sending never blocks.
pub trait ShardLink: Send + Sync {
    /// Passes a message on and wakes the shard's core.
    fn send(&self, shard: u16, message: ToShard);
    /// How many shards there are.
    fn shards(&self) -> usize;
}

/// The way to the coordinator, for shards, the server and jobs. Messages of one sender arrive in order; sending never
/// blocks; after the coordinator's end messages are dropped.
pub trait CoordinatorLink: Send + Sync {
    /// Passes a message on.
    fn send(&self, message: ToCoordinator);
}

impl CoordinatorLink for std::sync::mpsc::Sender<ToCoordinator> {
    fn send(&self, message: ToCoordinator) {
        // Only after its end: nobody waits for an answer then.
        let _ = Self::send(self, message);
    }
}
