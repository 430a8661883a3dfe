//! The next series over all memtables and tables, in key order or against it.
//!
//! An edge separates what was visited from what was not: forwards, series at or above it are left; in reverse, those
//! below it. Each source knows the first series left in it, or has yet to find out, which may take a block: the index
//! of a table knows only the ends of its blocks.

use super::merge::Merge;
use super::source::{Source, Target};
use super::{BlockRef, Blocks, Needs, View};
use crate::model::{KeyRange, Slot, SlotClass};
use crate::storage::memtable::{Memtable, SeriesPlace};
use crate::storage::sstable::Block;
use crate::storage::version::Table;
use std::sync::Arc;

/// Blocks of one table that one call asks for at most, to find the next series.
const NEED_BLOCKS_MAX: usize = 8;

/// See the module's header.
pub(super) struct Frontier<'a> {
    reverse: bool,
    keys: KeyRange,
    edge: Edge,
    memtables: Vec<MemtableFront<'a>>,
    tables: Vec<TableFront<'a>>,
}

/// Forwards inclusive and always there; in reverse exclusive, `None` above all keys.
type Edge = Option<Vec<u8>>;

/// What the walk came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A series.
    Series,
    /// No series is left.
    End,
    /// A block is missing; it is among the needs.
    Missing,
}

struct MemtableFront<'a> {
    memtable: &'a Memtable,
    /// `None`: no series left.
    place: Option<SeriesPlace>,
}

struct TableFront<'a> {
    table: &'a Arc<Table>,
    state: State,
    /// First series left, when known.
    key: Vec<u8>,
    /// The block last looked at.
    block: Option<(usize, Arc<Block>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Known,
    Missing(usize),
    End,
}

impl<'a> Frontier<'a> {
    /// A walk over the series in `keys` of the memtables and of these tables, from behind `after` on if given.
    pub(super) fn new(
        view: &View<'a>,
        tables: impl Iterator<Item = &'a Arc<Table>>,
        keys: KeyRange,
        after: Option<&[u8]>,
        reverse: bool,
    ) -> Self {
        let edge = match (after, reverse) {
            (None, false) => Some(keys.start.to_vec()),
            (None, true) => keys.end.as_ref().map(|end| end.to_vec()),
            (Some(series), false) => Some(successor(series).max(keys.start.to_vec())),
            (Some(series), true) => {
                let end = keys.end.as_deref().unwrap_or(series);
                Some(series.min(end).to_vec())
            }
        };
        let memtables = view.memtables.iter().map(|memtable| {
            let place = match &edge {
                Some(edge) => memtable.seek_series(edge),
                None => memtable.series_end(),
            };
            let place = if reverse { memtable.place_before(place) } else { Some(place) };
            MemtableFront { memtable, place }
        });
        let memtables = memtables.collect();
        let tables = tables.filter(|table| table.meta.keys.overlaps(&keys));
        let tables =
            tables.map(|table| TableFront { table, state: State::Unknown, key: Vec::new(), block: None });
        let tables = tables.collect();
        Self { reverse, keys, memtables, tables, edge }
    }
    /// Finds the next series and copies its key to `series`; the walk stays there until [`Frontier::pass`]. `entries`:
    /// how many are going to be visited, for reading ahead.
    pub(super) fn next(
        &mut self,
        series: &mut Vec<u8>,
        entries: usize,
        blocks: &mut dyn Blocks,
        needs: &mut Needs,
    ) -> Next {
        let mut missing = false;
        for front in &mut self.tables {
            front.find(self.edge.as_deref(), self.reverse, blocks);
            if let State::Missing(index) = front.state {
                missing = true;
                front.list_needs(index, self.reverse, entries, blocks, needs);
            }
        }
        if missing {
            return Next::Missing;
        }
        let in_memory = self.memtables.iter().filter_map(MemtableFront::key);
        let in_tables = self.tables.iter().filter_map(TableFront::key);
        let keys = in_memory.chain(in_tables);
        let next = if self.reverse { keys.max() } else { keys.min() };
        match next.filter(|key| self.keys.contains(key)) {
            Some(key) => {
                series.clear();
                series.extend_from_slice(key);
                Next::Series
            }
            None => Next::End,
        }
    }
    /// Moves the edge behind a series.
    pub(super) fn pass(&mut self, series: &[u8]) {
        for front in self.memtables.iter_mut().filter(|front| front.key() == Some(series)) {
            front.place = front.place.and_then(|place| {
                if self.reverse {
                    front.memtable.place_before(place)
                } else {
                    Some(front.memtable.place_after(place))
                }
            });
        }
        for front in self.tables.iter_mut().filter(|front| front.key() == Some(series)) {
            front.state = State::Unknown;
        }
        self.edge = Some(if self.reverse { series.to_vec() } else { successor(series) });
    }
    /// A merge of what the sources have of the series that the walk is at.
    pub(super) fn merge(&self, view: &View<'a>, target: Target<'a>, times: (i64, i64)) -> Merge<'a> {
        let runs = self.memtables.iter().filter(|front| front.key() == Some(target.series));
        let runs = runs.filter_map(|front| front.memtable.run_at(front.place?, target.class));
        let runs = runs.map(|run| Source::run(target, run, times));
        let tables = self.tables.iter().filter(|front| {
            front.key() == Some(target.series)
                && front.table.holds(target.class)
                && (target.class != SlotClass::Time || front.table.reaches(times.0, times.1))
        });
        let tables = tables.map(|front| Source::table(target, front.table, times));
        Merge::new(view, target, times, runs.chain(tables))
    }
}

impl<'a> MemtableFront<'a> {
    fn key(&self) -> Option<&'a [u8]> {
        self.memtable.series_at(self.place?)
    }
}

impl TableFront<'_> {
    fn key(&self) -> Option<&[u8]> {
        (self.state == State::Known).then_some(&*self.key)
    }
    /// Finds the first series left, if that is not known.
    fn find(&mut self, edge: Option<&[u8]>, reverse: bool, blocks: &mut dyn Blocks) {
        if matches!(self.state, State::Known | State::End) {
            return;
        }
        let visible = &self.table.meta.keys;
        self.state = if reverse {
            // What lies outside the visible keys is as if it were not in the file.
            let edge = match (edge, visible.end.as_deref()) {
                (Some(edge), Some(end)) => Some(edge.min(end)),
                (edge, end) => edge.or(end),
            };
            self.find_before(edge, blocks)
        } else {
            let edge = edge.unwrap_or_default().max(&visible.start);
            self.find_from(edge, blocks)
        };
        if self.state == State::Known && !self.table.meta.keys.contains(&self.key) {
            self.state = State::End;
        }
    }
    /// First series at or above `edge`.
    fn find_from(&mut self, edge: &[u8], blocks: &mut dyn Blocks) -> State {
        let table = self.table;
        let index = table.index.seek(edge, Slot::Metadata);
        if index == table.index.block_count() {
            return State::End;
        }
        let (first, _) = table.index.block_first_key(index);
        if first >= edge {
            return self.set_key(first);
        }
        let Some(block) = self.block(index, blocks) else { return State::Missing(index) };
        let chunk = block.seek(edge, SlotClass::Metadata);
        // A block that does not end as the index says must not stop the walk.
        let found = if chunk < block.chunk_count() {
            block.chunk(chunk).series
        } else {
            table.index.block_last_key(index).0
        };
        self.set_key(found)
    }
    /// Last series below `edge`.
    fn find_before(&mut self, edge: Option<&[u8]>, blocks: &mut dyn Blocks) -> State {
        let table = self.table;
        let count = table.index.block_count();
        let index = edge.map_or(count, |edge| table.index.seek(edge, Slot::Metadata));
        if let Some(edge) = edge
            && index < count
            && table.index.block_first_key(index).0 < edge
        {
            let Some(block) = self.block(index, blocks) else { return State::Missing(index) };
            let chunk = block.seek(edge, SlotClass::Metadata);
            // As above, for one that does not begin so.
            let found = match chunk.checked_sub(1) {
                Some(chunk) => block.chunk(chunk).series,
                None => table.index.block_first_key(index).0,
            };
            return self.set_key(found);
        }
        match index.checked_sub(1) {
            Some(index) => self.set_key(table.index.block_last_key(index).0),
            None => State::End,
        }
    }
    fn set_key(&mut self, key: &[u8]) -> State {
        self.key.clear();
        self.key.extend_from_slice(key);
        State::Known
    }
    fn block(&mut self, index: usize, blocks: &mut dyn Blocks) -> Option<Arc<Block>> {
        match &self.block {
            Some((known, block)) if *known == index => Some(Arc::clone(block)),
            _ => {
                let block = blocks.block(self.table, index)?;
                self.block = Some((index, Arc::clone(&block)));
                Some(block)
            }
        }
    }
    /// The missing block and some of those that come after it.
    fn list_needs(
        &self,
        missing: usize,
        reverse: bool,
        entries: usize,
        blocks: &mut dyn Blocks,
        needs: &mut Needs,
    ) {
        let mut reach = 0;
        let mut index = Some(missing);
        for _ in 0..NEED_BLOCKS_MAX {
            let Some(at) = index.filter(|at| *at < self.table.index.block_count()) else { break };
            let block = BlockRef { table: Arc::clone(self.table), index: at };
            reach += block.entries_estimate();
            if blocks.block(self.table, at).is_none() {
                needs.add(block);
            }
            if reach >= entries {
                break;
            }
            index = if reverse { at.checked_sub(1) } else { Some(at + 1) };
        }
    }
}

/// The key right behind this one.
fn successor(series: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(series.len() + 1);
    key.extend_from_slice(series);
    key.push(0);
    key
}
