//! skeleton
use super::span::Span;
use crate::model::{Seqno, TableId};
use crate::storage::range_delete::RangeDelete;
use crate::storage::sstable::TableMeta;
use std::collections::BTreeSet;

/// One table of the version.
#[derive(Clone, Copy, Debug)]
pub struct PickTable<'a> {
    /// As the manifest has it.
    pub meta: &'a TableMeta,
    /// Its range deletes.
    pub range_deletes: &'a [RangeDelete],
}

/// What the picker looks at.
#[derive(Clone, Copy, Debug)]
pub struct PickInput<'a> {
    /// All tables of the version.
    pub tables: &'a [PickTable<'a>],
    /// Tables of running plans: left alone.
    pub busy: &'a BTreeSet<TableId>,
    /// Length of a span of level 0, in the store's unit.
    pub span_base: i64,
    /// Highest level that spans are merged into; `LEVEL_EVERYTHING` without retention.
    pub level_max: u8,
    /// Shard boundaries, ascending.
    pub boundaries: &'a [Box<[u8]>],
    /// Size at which merges cut tables.
    pub table_bytes_target: u64,
    /// As in `MergeOptions`.
    pub horizon: Seqno,
}

/// Why a plan was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanReason {
    /// Tables of similar size lie over each other.
    Tier,
    /// Small tables of neighbouring spans share a wider one.
    Widen,
    /// A span that no longer receives data becomes one sorted run.
    Seal,
    /// Everything in them is deleted, or their range deletes hide nothing any more.
    Purge,
    /// The operator asked for it.
    All,
}

/// Tables to merge together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Ascending.
    pub inputs: Vec<TableId>,
    /// For `MergeOptions::spans`.
    pub spans: Vec<Span>,
    /// Why.
    pub reason: PlanReason,
    /// Bytes that are read.
    pub bytes: u64,
}

/// The most useful merge now, if any. Pure.
#[must_use]
pub fn pick(input: &PickInput<'_>) -> Option<Plan> {
    let _ = input;
    None
}

/// Merges, independent of each other, after which there are as few tables as possible.
#[must_use]
pub fn pick_all(input: &PickInput<'_>) -> Vec<Plan> {
    let _ = input;
    Vec::new()
}
