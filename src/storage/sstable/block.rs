//! skeleton
use super::chunk::ChunkHeader;
use super::error::TableError;
use super::index::BlockHandle;
use crate::model::{SlotClass, TableId};
use crate::storage::columns::Columns;
use std::ops::Range;
use std::path::Path;

/// A block whose checksum and chunk headers have been verified.
#[derive(Debug)]
pub struct Block {}

impl Block {
    /// Verifies a block's bytes as they lie in the file at `handle`.
    ///
    /// # Errors
    /// When they are not what was written.
    pub fn decode(
        file: &Path,
        table: TableId,
        handle: BlockHandle,
        bytes: Vec<u8>,
    ) -> Result<Self, TableError> {
        todo!("{file:?}{table:?}{handle:?}{bytes:?}")
    }
    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        todo!()
    }
    /// Chunks; at least one.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        todo!()
    }
    /// Header of chunk `index`.
    ///
    /// # Panics
    /// When `index` is out of range.
    #[must_use]
    pub fn chunk(&self, index: usize) -> ChunkHeader<'_> {
        todo!("{index}")
    }
    /// Appends the entries of chunk `index` to `out` (which is not cleared).
    ///
    /// # Errors
    /// When the columns are malformed; `out` may then hold some of the entries.
    ///
    /// # Panics
    /// When `index` is out of range.
    pub fn decode_chunk(&self, index: usize, out: &mut Columns) -> Result<(), TableError> {
        todo!("{index}{out:?}")
    }
    /// Chunks of this series and class; empty, at the place where they would be, when there are none.
    #[must_use]
    pub fn find(&self, series: &[u8], class: SlotClass) -> Range<usize> {
        todo!("{series:?}{class:?}")
    }
}
