//! Walks one table that is merged, chunk by chunk, in order, within its visible keys.

use super::merge::TableInput;
use crate::encoding::Corruption;
use crate::model::{Slot, SlotClass};
use crate::storage::columns::Columns;
use crate::storage::sstable::{Block, ChunkHeader, TableError, TableMeta};

/// A place in one input.
pub(super) struct Cursor {
    input: Box<dyn TableInput>,
    block: Option<Block>,
    /// Next block to read.
    block_next: usize,
    /// Next chunk of `block`.
    chunk_next: usize,
    /// Series and class of `columns`.
    series: Vec<u8>,
    class: SlotClass,
    /// The chunk that is walked, and how far.
    columns: Columns,
    position: usize,
    /// Time and seqno of the last entry that was loaded.
    last: Option<(i64, u64)>,
}

impl Cursor {
    /// Before the first entry; [`Cursor::load`] comes next.
    pub(super) fn new(input: Box<dyn TableInput>) -> Self {
        let block_next = input.index().seek(&input.meta().keys.start, Slot::Metadata);
        Self {
            input,
            block: None,
            block_next,
            chunk_next: 0,
            series: Vec::new(),
            class: SlotClass::Metadata,
            columns: Columns::default(),
            position: 0,
            last: None,
        }
    }
    /// Series and class at hand; `None` at the end.
    pub(super) fn key(&self) -> Option<(&[u8], SlotClass)> {
        (self.position < self.columns.len()).then_some((self.series.as_slice(), self.class))
    }
    /// Time and seqno at hand.
    pub(super) fn head(&self) -> Option<(i64, u64)> {
        Some((*self.columns.times().get(self.position)?, *self.columns.seqnos().get(self.position)?))
    }
    /// Moves the entries of the chunk at hand that come before `limit` to `out`; steps on when none is left.
    pub(super) fn take_below(
        &mut self,
        limit: Option<(i64, u64)>,
        out: &mut Columns,
    ) -> Result<(), TableError> {
        let start = self.position;
        let times = self.columns.times().get(start..).unwrap_or_default();
        let seqnos = self.columns.seqnos().get(start..).unwrap_or_default();
        let count = limit.map_or(times.len(), |(time, seqno)| {
            let below = times.partition_point(|at| *at < time);
            let versions = times.iter().zip(seqnos).skip(below);
            below + versions.take_while(|(at, of)| (**at, **of) < (time, seqno)).count()
        });
        out.extend_from(&self.columns, start..start + count);
        self.position += count;
        self.load()
    }
    /// Steps over the entry at hand.
    pub(super) fn skip_one(&mut self) -> Result<(), TableError> {
        self.position += 1;
        self.load()
    }
    /// Loads chunks until there is an entry at hand, or the end is reached.
    pub(super) fn load(&mut self) -> Result<(), TableError> {
        while self.position >= self.columns.len() {
            self.columns.clear();
            self.position = 0;
            let Some(block) = self.block.as_ref().filter(|block| self.chunk_next < block.chunk_count())
            else {
                if !self.load_block()? {
                    return Ok(());
                }
                continue;
            };
            let header = block.chunk(self.chunk_next);
            let keys = &self.input.meta().keys;
            if header.series < &*keys.start {
                self.chunk_next += 1;
                continue;
            }
            if !keys.contains(header.series) {
                self.block = None;
                self.block_next = self.input.index().block_count();
                return Ok(());
            }
            let same = (self.series.as_slice(), self.class) == (header.series, header.class);
            let ascends = (self.series.as_slice(), self.class) <= (header.series, header.class);
            if !belongs(&header, self.input.meta()) || !ascends {
                return Err(self.damaged("a chunk that belongs here"));
            }
            block.decode_chunk(self.chunk_next, &mut self.columns)?;
            if !same {
                self.series.clear();
                self.series.extend_from_slice(header.series);
                self.class = header.class;
            }
            self.chunk_next += 1;
            let (head, last) = (self.head(), self.last);
            if same && last.is_some() && last >= head {
                return Err(self.damaged("entries in order"));
            }
            self.last = self.columns.times().last().copied().zip(self.columns.seqnos().last().copied());
        }
        Ok(())
    }
    /// Reads the next block; false when there is none.
    fn load_block(&mut self) -> Result<bool, TableError> {
        self.block = None;
        if self.block_next >= self.input.index().block_count() {
            return Ok(false);
        }
        self.block = Some(self.input.read_block(self.block_next)?);
        self.block_next += 1;
        self.chunk_next = 0;
        Ok(true)
    }
    /// The checksums were right, yet the table breaks its own rules: what it says must not be spread.
    fn damaged(&self, expected: &str) -> TableError {
        let block = self.block_next.saturating_sub(1);
        let offset = self.input.index().block(block).offset;
        Corruption::new(self.input.meta().file_name(), offset, expected, "another").into()
    }
}

/// Plans trust a table's description: an entry outside of it would have no table to go to.
fn belongs(header: &ChunkHeader<'_>, meta: &TableMeta) -> bool {
    let times = meta.time_min..=meta.time_max;
    match meta.span {
        Some((start, end)) => {
            header.class == SlotClass::Time
                && start <= header.first_time
                && header.last_time <= end
                && times.contains(&header.first_time)
                && times.contains(&header.last_time)
        }
        None => header.class != SlotClass::Time,
    }
}
