//! What a shard wants done; the core loop turns it into operations, messages and bytes.

use crate::model::{KeyRange, Lsn, OperationId, Reply, SegmentSeq, Seqno};
use crate::storage::memtable::Memtable;
use crate::storage::version::Table;
use std::sync::Arc;

/// Names a block read of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId(pub u64);

/// A request to the coordinator.
#[derive(Clone, Debug)]
pub enum ShardRequest {
    /// Write a frozen memtable to tables; these segments are not needed once it is there.
    Flush { memtable: Arc<Memtable>, keys: KeyRange, releases: Vec<SegmentSeq> },
    /// Make another WAL segment ready.
    Segment,
    /// Answers `Event::FreezeNow`: all that was in memory then has been sent for flushing.
    Frozen { ticket: u64 },
    /// Answers it too: the log has failed, and what is in memory cannot be written before a restart.
    FreezeFailed { ticket: u64 },
    /// Nothing below this seqno can come back from this shard's log or memory, or be seen by its readers.
    Horizon(Seqno),
}

/// Takes effects as they arise. Replies are encoded at once: they borrow what the shard holds.
pub trait Effects {
    /// Answers an operation. The bytes may leave when the log is acknowledged through `gate`.
    fn reply(&mut self, operation: OperationId, reply: Reply<'_>, gate: Lsn);
    /// Reads a block; ends in `Event::BlockRead`.
    fn read_block(&mut self, read: ReadId, table: &Arc<Table>, block: usize);
    /// Asks the coordinator.
    fn request(&mut self, request: ShardRequest);
}
