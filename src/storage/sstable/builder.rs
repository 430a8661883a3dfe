//! skeleton
use super::meta::TableMeta;
use crate::model::{EntryOp, Seqno, Slot, SlotClass, StoreId, TableId};
use crate::storage::columns::Columns;
use crate::storage::range_delete::RangeDelete;
use std::ops::Range;

/// What a table is made for.
#[derive(Clone, Copy, Debug)]
pub struct TableOptions {
    /// The store it belongs to.
    pub store: StoreId,
    /// Its id.
    pub id: TableId,
    /// Aligned stretch that all samples lie in (inclusive); `None` for a table without samples.
    pub span: Option<(i64, i64)>,
    /// Level of the span.
    pub level: u8,
    /// Bloom filter bits per (series, class); 0 for no filter.
    pub bloom_bits: u8,
}

/// Writes one table, in order, holding one block and the index in memory.
#[derive(Debug)]
pub struct TableBuilder {}

impl TableBuilder {
    /// Starts an empty table.
    #[must_use]
    pub fn new(options: TableOptions) -> Self {
        todo!("{options:?}")
    }
    /// Adds one entry.
    ///
    /// # Panics
    /// When it does not come after the last one in (series, slot, seqno) order, or lies outside the span.
    pub fn add(&mut self, series: &[u8], slot: Slot, seqno: Seqno, op: EntryOp<'_>) {
        todo!("{series:?}{slot:?}{seqno:?}{op:?}")
    }
    /// Adds a run of entries of one series and class.
    ///
    /// # Panics
    /// As [`TableBuilder::add`].
    pub fn add_columns(&mut self, series: &[u8], class: SlotClass, columns: &Columns, range: Range<usize>) {
        todo!("{series:?}{class:?}{columns:?}{range:?}")
    }
    /// Adds a range delete; any order, at any time before the end.
    pub fn add_range_delete(&mut self, delete: RangeDelete) {
        todo!("{delete:?}")
    }
    /// Takes the bytes that are finished, in file order; the caller writes them.
    #[must_use]
    pub fn take_bytes(&mut self) -> Vec<u8> {
        todo!()
    }
    /// Size of the file if it were finished now, roughly.
    #[must_use]
    pub fn bytes_estimate(&self) -> u64 {
        todo!()
    }
    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        todo!()
    }
    /// The last bytes of the file, and its description.
    #[must_use]
    pub fn finish(self) -> (Vec<u8>, TableMeta) {
        todo!()
    }
}
