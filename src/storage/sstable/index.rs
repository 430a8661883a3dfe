//! skeleton
use super::error::TableError;
use super::meta::TableMeta;
use crate::model::{Slot, SlotClass, TableId};
use crate::storage::byte_source::ByteSource;
use crate::storage::range_delete::RangeDelete;
use std::path::Path;

/// Where a block lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHandle {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Length, checksum included.
    pub bytes: u32,
}

/// What is kept in memory of an open table: block index, Bloom filter, range deletes.
#[derive(Debug)]
pub struct TableIndex {}

impl TableIndex {
    /// Reads and verifies everything but the blocks. `file` names the table in errors.
    ///
    /// # Errors
    /// When the file is damaged, is not of this store, or cannot be read.
    pub fn load(
        file: &Path,
        store: crate::model::StoreId,
        source: &mut dyn ByteSource,
    ) -> Result<(Self, TableMeta), TableError> {
        todo!("{file:?}{store}{}", source.bytes())
    }
    /// The table's id, as its file says.
    #[must_use]
    pub fn id(&self) -> TableId {
        todo!()
    }
    /// False when the table has no entry of this series and class for certain.
    #[must_use]
    pub fn may_contain(&self, series: &[u8], class: SlotClass) -> bool {
        todo!("{series:?}{class:?}")
    }
    /// Blocks; 0 for a table of range deletes only.
    #[must_use]
    pub fn block_count(&self) -> usize {
        todo!()
    }
    /// Where block `index` lies.
    ///
    /// # Panics
    /// When `index` is out of range.
    #[must_use]
    pub fn block(&self, index: usize) -> BlockHandle {
        todo!("{index}")
    }
    /// First series and slot in block `index`.
    ///
    /// # Panics
    /// When `index` is out of range.
    #[must_use]
    pub fn block_first_key(&self, index: usize) -> (&[u8], Slot) {
        todo!("{index}")
    }
    /// Last series and slot in block `index`.
    ///
    /// # Panics
    /// When `index` is out of range.
    #[must_use]
    pub fn block_last_key(&self, index: usize) -> (&[u8], Slot) {
        todo!("{index}")
    }
    /// First block whose last key is not below (series, slot): the first that may hold it or something after it;
    /// `block_count()` when there is none.
    #[must_use]
    pub fn seek(&self, series: &[u8], slot: Slot) -> usize {
        todo!("{series:?}{slot:?}")
    }
    /// The table's range deletes, ascending by the start of their keys.
    #[must_use]
    pub fn range_deletes(&self) -> &[RangeDelete] {
        todo!()
    }
    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        todo!()
    }
}
