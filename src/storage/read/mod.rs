//! Reads over memtables and tables, without I/O: lookups and scans that say which blocks they need.
//!
//! ```text
//! point   find_slot                       one slot: newest version that the snapshot sees, unless deleted
//! newest  newest, class_exists            the latest sample; whether a class has anything
//! scan    scan_step   ─► merge ─► source  many series, both directions, bounded work per step
//! keys    key_page_step                   live keys and what they hold
//! series_retention  kept_from               what lies too far behind a series' newest sample is hidden
//! summary                         chunks that a scan of buckets takes as their statistics
//! deletes                                 range deletes of one series, cut into disjoint stretches
//! frontier                                the next series over all sources
//! ```
//! A call asks its [`Blocks`] for what it wants to look at. When something is missing, it returns [`Step::Need`] with
//! every block that it knows it will look at; the caller reads them (in parallel), keeps them at hand and calls again
//! with the same arguments. Blocks must stay at hand until a call returns [`Step::Ready`]; then all may be let go.
//! Nothing else is kept between calls than positions, and those only move when a call gets somewhere.
//!
//! An entry is visible when its seqno is at most the snapshot, no newer entry of its slot is, it is no point delete,
//! no range delete up to the snapshot with a higher seqno covers it, and it is not too old for the store
//! (`Version::cutoffs`). Scans also leave out what is too old for its series; lookups leave that to their caller.
#![forbid(unsafe_code)]

mod deletes;
mod frontier;
mod keys;
mod merge;
mod newest;
mod point;
mod scan;
mod series_retention;
mod source;
mod summary;
#[cfg(test)]
mod tests;
mod visible;

pub use keys::{KeyPosition, key_kind, key_page_step};
pub use newest::{NewestSearch, class_exists, newest};
pub use point::{Found, Scratch, find_slot};
pub use scan::{ScanOutput, ScanPosition, ScanRun, ScanStatus, scan_step};
pub use series_retention::{edge_of, kept_from};
pub use summary::ChunkSummary;

use super::memtable::Memtable;
use super::sstable::Block;
use super::version::{Table, Version};
use crate::model::{KeyRange, Seqno, SlotClass};
use std::sync::Arc;

/// What a read looks at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Active and frozen, in any order.
    pub memtables: &'a [&'a Memtable],
    /// The tables.
    pub version: &'a Version,
    /// Entries above it are not seen; [`Seqno::MAX`] sees everything.
    pub snapshot: Seqno,
    /// Series outside do not exist: memtables and tables may hold what another shard owns.
    pub keys: &'a KeyRange,
}

impl View<'_> {
    /// Whether any series may have a retention of its own.
    #[must_use]
    pub fn has_retentions(&self) -> bool {
        self.version.has_retentions() || self.memtables.iter().any(|memtable| memtable.has_retentions())
    }
}

/// Gives blocks that are at hand: from a cache, and those that were read for this operation.
pub trait Blocks {
    /// A block of a table, when it is there.
    fn block(&mut self, table: &Arc<Table>, index: usize) -> Option<Arc<Block>>;
    /// The visible entry of a slot without time as of the present, where an earlier lookup left it.
    fn remembered(&mut self, _hash: u64, _series: &[u8], _class: SlotClass) -> Option<(Seqno, &[u8])> {
        None
    }
    /// Takes such an entry, which lies in a table, for later lookups.
    fn remember(&mut self, _hash: u64, _series: &[u8], _class: SlotClass, _entry: (Seqno, &[u8])) {}
}

/// Names a block that has to be read.
#[derive(Clone, Debug)]
pub struct BlockRef {
    /// Whose block.
    pub table: Arc<Table>,
    /// Which one; `table.index.block(index)` says where it lies.
    pub index: usize,
}

/// Result of a call that may have to wait.
#[derive(Debug)]
pub enum Step<T> {
    /// Got somewhere.
    Ready(T),
    /// Blocks that are missing, each once; at least one.
    Need(Vec<BlockRef>),
}

impl BlockRef {
    /// Entries that the block holds if its table's blocks are alike.
    fn entries_estimate(&self) -> usize {
        let blocks = self.table.index.block_count().max(1) as u64;
        usize::try_from(self.table.meta.entries / blocks).unwrap_or(usize::MAX).max(1)
    }
}

/// Missing blocks, each once.
#[derive(Debug, Default)]
struct Needs {
    list: Vec<BlockRef>,
}

impl Needs {
    fn add(&mut self, block: BlockRef) {
        let same =
            |other: &BlockRef| other.index == block.index && other.table.meta.id == block.table.meta.id;
        if !self.list.iter().any(same) {
            self.list.push(block);
        }
    }
    /// The result of a call that got nowhere without them.
    fn into_step<T>(self) -> Step<T> {
        assert!(!self.list.is_empty(), "a read waits for no block");
        Step::Need(self.list)
    }
}
