//! What happens to a shard.

use super::effect::ReadId;
use crate::model::{Command, OperationId, SegmentSeq, Seqno};
use crate::storage::version::Version;
use crate::storage::wal::{SegmentSpec, WalOutcome};
use std::sync::Arc;

/// What cannot be made because the disk is full, or fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// A log segment; until the next one is ready.
    Segment,
    /// The tables of a memtable; until one of them is flushed.
    Tables,
}

/// One thing that happened. `Shard::handle` turns it into effects.
#[derive(Debug)]
pub enum Event<'a> {
    /// A command for this shard. Replies are refused above `reply_bytes_max` bytes.
    Execute { operation: OperationId, command: &'a Command<'a>, reply_bytes_max: usize },
    /// A block read that the shard asked for has ended: the block's bytes, or what the machine said.
    BlockRead { read: ReadId, result: Result<Vec<u8>, String> },
    /// The client of a scan takes this many more chunks.
    Credit { operation: OperationId, chunks: u32 },
    /// Nobody waits for the operation any more.
    Cancel { operation: OperationId },
    /// A WAL operation has ended.
    WalDone { id: u64, outcome: WalOutcome },
    /// The set of tables changed. `flushed`: memtables that are in it now. `retired`: segments that are gone.
    Version { version: Arc<Version>, flushed: Vec<u64>, retired: Vec<SegmentSeq> },
    /// A segment was made ready.
    SegmentReady(SegmentSpec),
    /// The disk is too full for what this shard has asked for. It is tried again without being asked.
    DiskFull(Shortage),
    /// The disk has failed again and again to take what this shard has asked for. It is tried on without being asked.
    DiskFails(Shortage),
    /// Close the open segment, freeze what is in memory, send it for flushing, then answer with the ticket.
    FreezeNow { ticket: u64 },
    /// Report the horizon now.
    ReportHorizon,
    /// Some other shard has used seqnos up to here.
    Observe(Seqno),
    /// One slice of one operation that has more to do.
    Slice,
    /// The end of a turn: freezes, asks for segments, timers.
    Maintain,
    /// No more commands will come: seal the log.
    Close,
}
