//! What a table file still holds, damaged or not: for `tskv dump` and `tskv repair`.
//!
//! Every part has a checksum of its own, so each is taken or left by itself. Blocks are found by the index; where that
//! is damaged, by walking the file: a block's checksum covers the table's id and the block's place, so what fits is a
//! block of this table at this place.

use super::block::{Block, block_bytes_at};
use super::error::TableError;
use super::footer::{FOOTER_BYTES, Footer};
use super::index::{BlockHandle, BlockIndex, BlockStretch, IndexError, decode_range_deletes, read, section};
use super::meta::TableMeta;
use crate::encoding::{Corruption, Reader};
use crate::limits::BLOCK_BYTES_MAX;
use crate::model::{StoreId, TableId};
use crate::storage::byte_source::ByteSource;
use crate::storage::range_delete::RangeDelete;
use std::ops::Range;
use std::path::Path;

/// Bytes that the walk reads at once.
const WALK_BYTES: usize = 4 * BLOCK_BYTES_MAX;

/// The parts of a table file apart from its blocks, as far as they are sound.
#[derive(Debug)]
pub struct TableRemains {
    /// What the properties say.
    pub meta: Option<TableMeta>,
    /// Its range deletes.
    pub range_deletes: Option<Box<[RangeDelete]>>,
    /// What is wrong with footer, index, Bloom filter, range deletes and properties.
    pub damage: Vec<TableError>,
    id: TableId,
    index: Option<BlockIndex>,
    /// Where the blocks end, as far as it is known; else the end of the file.
    blocks_end: u64,
}

/// A block, or a stretch of bytes where one was.
#[derive(Debug)]
pub enum BlockFound {
    /// Its checksum is right and its chunks can be read.
    Sound(BlockHandle, Block),
    /// It cannot be used. What the index says of it, where there is one; its bytes.
    Damaged(Option<BlockStretch>, Range<u64>, TableError),
}

/// How far a walk over the blocks has come.
#[derive(Debug, Default)]
pub struct BlockWalk {
    number: usize,
    offset: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl TableRemains {
    /// Reads what there is of table `id` of `store`. `file` names it in errors.
    ///
    /// # Errors
    /// [`TableError::VersionUnsupported`] and [`TableError::FeaturesUnsupported`]: no damage.
    pub fn read(
        file: &Path,
        store: StoreId,
        id: TableId,
        source: &mut dyn ByteSource,
    ) -> Result<Self, TableError> {
        let blocks_end = source.bytes();
        let mut remains =
            Self { meta: None, range_deletes: None, damage: Vec::new(), id, index: None, blocks_end };
        match read_footer(file, source) {
            Ok(footer) if (footer.table, footer.store) == (id, store) => {
                remains.sections(file, &footer, source);
            }
            Ok(footer) => {
                let expected = format!("table {:016x} of store {store}", id.0);
                let found = format!("table {:016x} of store {}", footer.table.0, footer.store);
                remains.damage.push(Corruption::new(file, blocks_end, expected, found).into());
            }
            Err(error @ (TableError::Corrupt(_) | TableError::Read { .. })) => remains.damage.push(error),
            Err(error) => return Err(error),
        }
        Ok(remains)
    }

    /// Whether the blocks are found by the index, which tells of damaged ones what they held.
    #[must_use]
    pub fn has_index(&self) -> bool {
        self.index.is_some()
    }

    /// The next block behind `walk`; `None` at the end.
    pub fn next_block(
        &self,
        file: &Path,
        source: &mut dyn ByteSource,
        walk: &mut BlockWalk,
    ) -> Option<BlockFound> {
        let Some(index) = &self.index else { return self.walk_on(file, source, walk) };
        let stretch = index.stretch(walk.number)?;
        walk.number += 1;
        let handle = stretch.handle;
        let range = handle.offset..handle.offset + u64::from(handle.bytes);
        let block =
            read(file, source, range.clone()).and_then(|bytes| Block::decode(file, self.id, handle, bytes));
        Some(match block {
            Ok(block) => BlockFound::Sound(handle, block),
            Err(error) => BlockFound::Damaged(Some(stretch), range, error),
        })
    }

    fn sections(&mut self, file: &Path, footer: &Footer, source: &mut dyn ByteSource) {
        let end = source.bytes().saturating_sub(FOOTER_BYTES as u64);
        let [index, bloom, deletes, properties] = footer.sections;
        self.blocks_end = index;
        let mut part = |range: Range<u64>| -> Result<Vec<u8>, TableError> {
            let bytes = read(file, source, range.clone())?;
            section(file, &bytes, range.start, range).map(<[u8]>::to_vec)
        };
        let explain = |offset: u64| {
            move |error: IndexError| Corruption::new(file, offset, "a table's index", error.0).into()
        };
        let blocks =
            part(index..bloom).and_then(|bytes| BlockIndex::decode(&bytes, index).map_err(explain(index)));
        self.index = blocks.map_err(|error| self.damage.push(error)).ok();
        // Only its checksum counts here: it is made anew with the table.
        if let Err(error) = part(bloom..deletes) {
            self.damage.push(error);
        }
        let range_deletes = part(deletes..properties)
            .and_then(|bytes| decode_range_deletes(&bytes).map_err(explain(deletes)));
        self.range_deletes = range_deletes.map_err(|error| self.damage.push(error)).ok();
        let meta = part(properties..end).and_then(|bytes| {
            TableMeta::decode(&mut Reader::new(&bytes)).map_err(|error| {
                Corruption::new(file, properties, "a table's properties", error.to_string()).into()
            })
        });
        self.meta = meta.map_err(|error| self.damage.push(error)).ok();
    }

    /// Without an index: the next offset at which a block stands, and what lies before it.
    fn walk_on(&self, file: &Path, source: &mut dyn ByteSource, walk: &mut BlockWalk) -> Option<BlockFound> {
        let start = walk.offset;
        let mut offset = start;
        while offset < self.blocks_end {
            let bytes = match walk.bytes_at(file, source, offset, self.blocks_end) {
                Ok(bytes) => bytes,
                Err(error) => {
                    // A sector that cannot be read hides where the next block starts; what follows may be found.
                    offset = (offset + 1).next_multiple_of(512).min(self.blocks_end);
                    walk.offset = offset;
                    return Some(BlockFound::Damaged(None, start..offset, error));
                }
            };
            let Some(count) = block_bytes_at(self.id, offset, bytes) else {
                offset += 1;
                continue;
            };
            if offset > start {
                walk.offset = offset;
                return Some(lost_stretch(file, start..offset));
            }
            let content = bytes.get(..count).unwrap_or_default().to_vec();
            walk.offset = offset + count as u64;
            let handle = BlockHandle { offset, bytes: u32::try_from(count).unwrap_or(u32::MAX) };
            return Some(match Block::decode(file, self.id, handle, content) {
                Ok(block) => BlockFound::Sound(handle, block),
                Err(error) => BlockFound::Damaged(None, offset..walk.offset, error),
            });
        }
        walk.offset = self.blocks_end;
        (start < self.blocks_end).then(|| lost_stretch(file, start..self.blocks_end))
    }
}

impl BlockWalk {
    /// What the file holds from `offset` on, as far as a block can reach and blocks go.
    fn bytes_at(
        &mut self,
        file: &Path,
        source: &mut dyn ByteSource,
        offset: u64,
        end: u64,
    ) -> Result<&[u8], TableError> {
        let wanted = end.min(offset + BLOCK_BYTES_MAX as u64);
        let window_end = self.window_start + self.window.len() as u64;
        if offset < self.window_start || wanted > window_end {
            let window = read(file, source, offset..end.min(offset + WALK_BYTES as u64))?;
            (self.window, self.window_start) = (window, offset);
        }
        let from = usize::try_from(offset - self.window_start).unwrap_or(usize::MAX);
        Ok(self.window.get(from..).unwrap_or_default())
    }
}

fn lost_stretch(file: &Path, range: Range<u64>) -> BlockFound {
    let found = format!("{} bytes that are none", range.end - range.start);
    let error = Corruption::new(file, range.start, "a block", found).into();
    BlockFound::Damaged(None, range, error)
}

/// Which table of which store a file says it is; `None` where it has no sound footer.
pub fn read_identity(file: &Path, source: &mut dyn ByteSource) -> Option<(StoreId, TableId)> {
    read_footer(file, source).ok().map(|footer| (footer.store, footer.table))
}

fn read_footer(file: &Path, source: &mut dyn ByteSource) -> Result<Footer, TableError> {
    let file_bytes = source.bytes();
    let start = file_bytes.saturating_sub(FOOTER_BYTES as u64);
    Footer::decode(file, file_bytes, &read(file, source, start..file_bytes)?)
}
