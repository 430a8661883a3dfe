//! The entries of one series and class in one place: a memtable's run, or a table.
//!
//! A table's entries become known in levels: block (its bounds are in the index) → chunk (its bounds are in the block)
//! → entries. A source goes down a level only when the merge has arrived at its bound, so what lies behind a limit, or
//! what a range delete hides, is never read.
//!
//! "Ahead" is towards later times in a forward scan, towards earlier times in a reverse one.

use super::deletes::Fragment;
use super::{BlockRef, Blocks};
use crate::model::{Seqno, Slot, SlotClass};
use crate::storage::columns::Columns;
use crate::storage::memtable::Run;
use crate::storage::sstable::{Block, ChunkHeader, TableError};
use crate::storage::version::Table;
use std::ops::Range;
use std::sync::Arc;

/// Which entries of which series, and which way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// Whose entries.
    pub(super) series: &'a [u8],
    /// Of which class.
    pub(super) class: SlotClass,
    /// Latest first.
    pub(super) reverse: bool,
}

/// See the module's header.
pub(super) struct Source<'a> {
    target: Target<'a>,
    /// What is left, inclusive.
    from: i64,
    to: i64,
    place: Place<'a>,
    /// Decoded entries of a chunk.
    buffer: Columns,
    /// Entries that are at hand, in the buffer or in the memtable's piece; never empty while loaded.
    loaded: Range<usize>,
    /// Bound of what is ahead of the entries at hand, kept while they are: it is asked for at every slot.
    ahead: Option<i64>,
}

enum Place<'a> {
    Run { run: Run<'a>, piece: usize },
    Block { table: &'a Arc<Table>, index: usize, bound: i64 },
    Chunk { table: &'a Arc<Table>, index: usize, block: Arc<Block>, chunk: usize, decoded: bool },
    End,
}

impl<'a> Source<'a> {
    /// Entries of a memtable's run at times in `from..=to`.
    pub(super) fn run(target: Target<'a>, run: Run<'a>, (from, to): (i64, i64)) -> Self {
        let place = Place::Run { run, piece: 0 };
        let mut source =
            Self { target, from, to, place, buffer: Columns::default(), loaded: 0..0, ahead: None };
        source.enter_run(run);
        source
    }
    /// Entries of a table at times in `from..=to`.
    pub(super) fn table(target: Target<'a>, table: &'a Arc<Table>, (from, to): (i64, i64)) -> Self {
        // What is known of the table bounds what its index leaves open: where a series ends within a block, a table of
        // long ago would otherwise seem to reach as far as the newest, and be read for it.
        let (from, to) = match target.class {
            SlotClass::Time => (from.max(table.meta.time_min), to.min(table.meta.time_max)),
            SlotClass::Metadata | SlotClass::Timeless => (from, to),
        };
        let mut source = Self {
            target,
            from,
            to,
            place: Place::End,
            buffer: Columns::default(),
            loaded: 0..0,
            ahead: None,
        };
        if from <= to {
            source.enter_table(table, None);
        }
        source
    }
    /// No entry lies before this time, in the direction of the scan; `None` when there are no more. Exact when the
    /// entries are loaded.
    pub(super) fn bound(&self) -> Option<i64> {
        match &self.place {
            Place::End => None,
            Place::Block { bound, .. } => Some(*bound),
            Place::Chunk { block, chunk, decoded: false, .. } => {
                let header = block.chunk(*chunk);
                Some(self.clip(if self.target.reverse { header.last_time } else { header.first_time }))
            }
            Place::Run { .. } | Place::Chunk { .. } => {
                let times = self.columns().times();
                Some(if self.target.reverse { times[self.loaded.end - 1] } else { times[self.loaded.start] })
            }
        }
    }
    /// Whether entries are at hand.
    pub(super) fn is_loaded(&self) -> bool {
        matches!(self.place, Place::Run { .. } | Place::Chunk { decoded: true, .. })
    }
    /// Whether a block is to be looked at next.
    pub(super) fn is_at_block(&self) -> bool {
        matches!(self.place, Place::Block { .. })
    }
    /// The chunk that comes next, when it is not decoded yet, and the bound of what comes after it.
    pub(super) fn chunk_at_hand(&self) -> Option<(ChunkHeader<'_>, Option<i64>)> {
        match &self.place {
            Place::Chunk { block, chunk, decoded: false, .. } => {
                Some((block.chunk(*chunk), self.find_ahead()))
            }
            Place::Chunk { .. } | Place::Block { .. } | Place::Run { .. } | Place::End => None,
        }
    }
    /// The entries at hand.
    ///
    /// # Panics
    /// When none are.
    pub(super) fn entries(&self) -> (&Columns, Range<usize>) {
        assert!(self.is_loaded(), "entries of a source that is not loaded");
        (self.columns(), self.loaded.clone())
    }
    /// No entry ahead of those at hand lies before this time; `None` when there are no more.
    pub(super) fn bound_ahead(&self) -> Option<i64> {
        self.ahead.filter(|bound| self.from <= *bound && *bound <= self.to)
    }
    /// Jumps over what is not loaded yet when a range delete, which covers the bound, hides it altogether. False: it
    /// has to be looked at.
    pub(super) fn skip_hidden(&mut self, fragment: Fragment) -> bool {
        let chunk_seqno_max = match &self.place {
            Place::Chunk { decoded: true, .. } | Place::Run { .. } | Place::End => return false,
            Place::Block { table, .. } | Place::Chunk { table, .. }
                if table.meta.seqno_max < fragment.seqno =>
            {
                self.skip_beyond(fragment);
                return true;
            }
            Place::Block { .. } => return false,
            Place::Chunk { block, chunk, .. } => {
                let header = block.chunk(*chunk);
                let covered = fragment.from <= self.clip(header.first_time)
                    && self.clip(header.last_time) <= fragment.to;
                if covered { header.seqno_max } else { Seqno::MAX }
            }
        };
        // Only this chunk: those ahead may hold something newer at the same times.
        let hidden = chunk_seqno_max < fragment.seqno;
        if hidden {
            self.next_piece();
        }
        hidden
    }
    fn skip_beyond(&mut self, fragment: Fragment) {
        let beyond =
            if self.target.reverse { fragment.from.checked_sub(1) } else { fragment.to.checked_add(1) };
        match beyond {
            Some(time) => self.skip_to(time),
            None => self.place = Place::End,
        }
    }
    /// Goes down one level. False: the block is missing.
    ///
    /// # Errors
    /// When a chunk is damaged.
    pub(super) fn load(&mut self, blocks: &mut dyn Blocks) -> Result<bool, TableError> {
        match &mut self.place {
            Place::Block { table, index, .. } => {
                let (table, index) = (*table, *index);
                let Some(block) = blocks.block(table, index) else { return Ok(false) };
                self.enter_block(table, index, block);
            }
            Place::Chunk { block, chunk, decoded, .. } if !*decoded => {
                self.buffer.clear();
                block.decode_chunk(*chunk, &mut self.buffer)?;
                *decoded = true;
                self.loaded = clip_times(self.buffer.times(), 0..self.buffer.len(), self.from, self.to);
                if self.loaded.is_empty() {
                    self.next_piece();
                } else {
                    self.ahead = self.find_ahead();
                }
            }
            Place::Chunk { .. } | Place::Run { .. } | Place::End => {}
        }
        Ok(true)
    }
    /// Leaves out everything before `time` (behind it, in a reverse scan).
    pub(super) fn skip_to(&mut self, time: i64) {
        if self.target.reverse {
            self.to = self.to.min(time);
        } else {
            self.from = self.from.max(time);
        }
        if self.from > self.to {
            self.place = Place::End;
        }
        match &self.place {
            Place::End => {}
            Place::Block { table, .. } => {
                let table = *table;
                self.enter_table(table, None);
            }
            Place::Chunk { decoded: false, .. } => self.check_chunk(),
            Place::Run { .. } | Place::Chunk { .. } => self.narrow(),
        }
    }
    /// Goes on to what is ahead of the entries at hand, whatever their times.
    pub(super) fn next_piece(&mut self) {
        match &self.place {
            Place::Run { run, piece } => {
                let run = *run;
                let next = if self.target.reverse { piece.checked_sub(1) } else { Some(piece + 1) };
                if !self.set_piece(run, next) {
                    self.place = Place::End;
                }
            }
            Place::Chunk { table, index, block, chunk, .. } => match self.chunk_ahead(block, *chunk) {
                Some(chunk) => {
                    let (table, index, block) = (*table, *index, Arc::clone(block));
                    self.place = Place::Chunk { table, index, block, chunk, decoded: false };
                    self.check_chunk();
                }
                None => {
                    let (table, next) = (*table, self.block_ahead(table, *index));
                    self.set_block(table, next);
                }
            },
            Place::Block { .. } | Place::End => {}
        }
    }
    /// The blocks from here on, with their bounds, as far as they hold what is left.
    pub(super) fn blocks_ahead(&self) -> impl Iterator<Item = (i64, BlockRef)> + '_ {
        let first = match &self.place {
            Place::Block { table, index, bound } => Some((*table, *index, *bound)),
            Place::Chunk { table, index, .. } => {
                self.block_ahead(table, *index).map(|(index, bound)| (*table, index, bound))
            }
            Place::Run { .. } | Place::End => None,
        };
        std::iter::successors(first, |(table, index, _)| {
            self.block_ahead(table, *index).map(|(index, bound)| (*table, index, bound))
        })
        .map(|(table, index, bound)| (bound, BlockRef { table: Arc::clone(table), index }))
    }

    fn columns(&self) -> &Columns {
        match &self.place {
            Place::Run { run, piece } => run.piece(*piece).0,
            Place::Block { .. } | Place::Chunk { .. } | Place::End => &self.buffer,
        }
    }
    fn clip(&self, time: i64) -> i64 {
        time.clamp(self.from, self.to)
    }
    fn slot(&self, time: i64) -> Slot {
        self.target.class.slot(time)
    }
    /// Drops loaded entries before what is left.
    fn narrow(&mut self) {
        let times = &self.columns().times()[self.loaded.clone()];
        if self.target.reverse {
            self.loaded.end -= trailing(times, |time| time > self.to);
        } else {
            self.loaded.start += leading(times, |time| time < self.from);
        }
        if self.loaded.is_empty() {
            match self.place {
                // Many pieces may lie behind the new bound.
                Place::Run { run, .. } => self.enter_run(run),
                _ => self.next_piece(),
            }
        }
    }

    fn enter_run(&mut self, run: Run<'a>) {
        let piece = if self.target.reverse {
            run.last_piece_reaching(self.to)
        } else {
            Some(run.first_piece_reaching(self.from))
        };
        if !self.set_piece(run, piece) {
            self.place = Place::End;
        }
    }
    /// Takes up a piece; false when it has nothing of what is left.
    fn set_piece(&mut self, run: Run<'a>, piece: Option<usize>) -> bool {
        let Some(piece) = piece.filter(|piece| *piece < run.piece_count()) else { return false };
        let (columns, range) = run.piece(piece);
        self.loaded = clip_times(columns.times(), range, self.from, self.to);
        self.place = Place::Run { run, piece };
        self.ahead = self.find_ahead();
        !self.loaded.is_empty()
    }
    fn find_ahead(&self) -> Option<i64> {
        let reverse = self.target.reverse;
        match &self.place {
            Place::Run { run, piece } => {
                let piece = if reverse { piece.checked_sub(1)? } else { piece + 1 };
                let (columns, range) =
                    if piece < run.piece_count() { run.piece(piece) } else { return None };
                Some(if reverse { columns.times()[range.end - 1] } else { columns.times()[range.start] })
            }
            Place::Chunk { table, index, block, chunk, .. } => match self.chunk_ahead(block, *chunk) {
                Some(chunk) if reverse => Some(block.chunk(chunk).last_time),
                Some(chunk) => Some(block.chunk(chunk).first_time),
                None => self.block_ahead(table, *index).map(|(_, bound)| bound),
            },
            Place::Block { .. } | Place::End => None,
        }
    }

    /// Finds the first block with what is left, which may be one that is at hand.
    fn enter_table(&mut self, table: &'a Arc<Table>, at_hand: Option<(usize, Arc<Block>)>) {
        let index = self.first_block(table).and_then(|index| self.block_bound(table, index));
        match (index, at_hand) {
            (Some((index, _)), Some((known, block))) if index == known => {
                self.enter_block(table, index, block);
            }
            (next, _) => self.set_block(table, next),
        }
    }
    fn set_block(&mut self, table: &'a Arc<Table>, next: Option<(usize, i64)>) {
        self.place = match next {
            Some((index, bound)) => Place::Block { table, index, bound },
            None => Place::End,
        };
    }
    fn first_block(&self, table: &Table) -> Option<usize> {
        let count = table.index.block_count();
        if !self.target.reverse {
            let index = table.index.seek(self.target.series, self.slot(self.from));
            return (index < count).then_some(index);
        }
        let last = (self.target.series, self.slot(self.to));
        let mut index = table.index.seek(last.0, last.1);
        if index == count || table.index.block_first_key(index) > last {
            return index.checked_sub(1);
        }
        // Versions of the last slot may go on in further blocks.
        while index + 1 < count && table.index.block_first_key(index + 1) <= last {
            index += 1;
        }
        Some(index)
    }
    /// The block if it can hold something of what is left, and the bound of that.
    fn block_bound(&self, table: &Table, index: usize) -> Option<(usize, i64)> {
        let series = self.target.series;
        let first = table.index.block_first_key(index);
        let last = table.index.block_last_key(index);
        if first > (series, self.slot(self.to)) || last < (series, self.slot(self.from)) {
            return None;
        }
        let (edge, otherwise) = if self.target.reverse { (last, self.to) } else { (first, self.from) };
        let own = edge.0 == series && edge.1.class() == self.target.class;
        Some((index, if own { self.clip(edge.1.time_or_zero()) } else { otherwise }))
    }
    fn block_ahead(&self, table: &Table, index: usize) -> Option<(usize, i64)> {
        let mut index = self.next_block(table, index)?;
        // Versions of a slot that was passed may fill blocks of their own; what is left lies ahead of them.
        while self.is_behind(table, index) {
            index = self.next_block(table, index)?;
        }
        self.block_bound(table, index)
    }
    fn next_block(&self, table: &Table, index: usize) -> Option<usize> {
        if self.target.reverse {
            return index.checked_sub(1);
        }
        Some(index + 1).filter(|index| *index < table.index.block_count())
    }
    /// Whether everything in a block was passed.
    fn is_behind(&self, table: &Table, index: usize) -> bool {
        let series = self.target.series;
        if self.target.reverse {
            table.index.block_first_key(index) > (series, self.slot(self.to))
        } else {
            table.index.block_last_key(index) < (series, self.slot(self.from))
        }
    }
    /// The chunk of the block that comes first in the scan and can hold something of what is left.
    fn enter_block(&mut self, table: &'a Arc<Table>, index: usize, block: Arc<Block>) {
        let chunks = block.find(self.target.series, self.target.class);
        let wanted = |chunk: &usize| {
            let header = block.chunk(*chunk);
            header.last_time >= self.from && header.first_time <= self.to
        };
        let mut chunks = chunks.filter(wanted);
        let chunk = if self.target.reverse { chunks.next_back() } else { chunks.next() };
        match chunk {
            Some(chunk) => self.place = Place::Chunk { table, index, block, chunk, decoded: false },
            None => {
                let next = self.block_ahead(table, index);
                self.set_block(table, next);
            }
        }
    }
    fn chunk_ahead(&self, block: &Block, chunk: usize) -> Option<usize> {
        let chunk = if self.target.reverse { chunk.checked_sub(1)? } else { chunk + 1 };
        let chunks = block.find(self.target.series, self.target.class);
        chunks.contains(&chunk).then_some(chunk)
    }
    /// Sees whether the chunk that the source came to reaches into what is left.
    fn check_chunk(&mut self) {
        let Place::Chunk { table, index, block, chunk, .. } = &self.place else { return };
        let header = block.chunk(*chunk);
        let (before, behind) = (header.last_time < self.from, header.first_time > self.to);
        let (passed, beyond) = if self.target.reverse { (behind, before) } else { (before, behind) };
        if beyond {
            self.place = Place::End;
        } else if passed {
            let (table, at_hand) = (*table, (*index, Arc::clone(block)));
            self.enter_table(table, Some(at_hand));
        }
    }
}

/// How many times at the start meet a condition that holds up to some time. Looks near the start first: a merge mostly
/// goes on by a few entries.
pub(super) fn leading(times: &[i64], within: impl Fn(i64) -> bool) -> usize {
    let mut reach = 1;
    while reach < times.len() && within(times[reach - 1]) {
        reach *= 2;
    }
    let skipped = reach / 2;
    skipped + times[skipped..reach.min(times.len())].partition_point(|time| within(*time))
}

/// How many times at the end meet a condition that holds from some time on.
pub(super) fn trailing(times: &[i64], within: impl Fn(i64) -> bool) -> usize {
    let count = times.len();
    let mut reach = 1;
    while reach < count && within(times[count - reach]) {
        reach *= 2;
    }
    let skipped = reach / 2;
    let near = &times[count - reach.min(count)..count - skipped];
    skipped + near.len() - near.partition_point(|time| !within(*time))
}

/// The part of a range of ascending times that lies in `from..=to`.
fn clip_times(times: &[i64], range: Range<usize>, from: i64, to: i64) -> Range<usize> {
    let within = &times[range.clone()];
    // Mostly nothing or everything is cut off.
    let start = if within.first().is_some_and(|first| *first >= from) {
        0
    } else {
        within.partition_point(|time| *time < from)
    };
    let end = if within.last().is_some_and(|last| *last <= to) {
        within.len()
    } else {
        within.partition_point(|time| *time <= to)
    };
    range.start + start..range.start + end.max(start)
}
