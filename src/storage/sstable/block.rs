//! Block: the unit of I/O, of checksums and of caching.
//!
//! ```text
//! offset  bytes  field
//!      0      n  chunks, one after the other, in order of (series, class, first time)      (chunk.rs)
//!      n      4  crc-32 over table id (u64), the block's offset in the file (u64) and the chunks
//! ```
//! Id and offset are in the checksum so that a block read from the wrong place is no block. Cut at
//! `BLOCK_BYTES_TARGET`, at [`CHUNKS_MAX`] chunks and at [`SERIES_BYTES_TOTAL_MAX`] bytes of series written out: prefix
//! compression must not let a small block unfold into a large one.

use super::chunk::{ChunkEntry, ChunkHeader, is_series};
use super::codec::ColumnError;
use super::error::TableError;
use super::index::BlockHandle;
use crate::encoding::{Corruption, Reader, checksum_parts};
use crate::limits::{BLOCK_BYTES_MAX, SERIES_BYTES_MAX};
use crate::model::{SlotClass, TableId};
use crate::storage::columns::Columns;
use std::ops::Range;
use std::path::Path;

/// Chunks in one block.
pub(super) const CHUNKS_MAX: usize = 1024;
/// Bytes of the series of one block, each written out where it differs from the one before.
pub(super) const SERIES_BYTES_TOTAL_MAX: usize = 256 << 10;
/// Bytes of a block's checksum.
pub(super) const CRC_BYTES: usize = 4;

const _: () = assert!(SERIES_BYTES_TOTAL_MAX >= 2 * SERIES_BYTES_MAX);

/// The checksum of a block.
pub(super) fn block_checksum(table: TableId, offset: u64, chunks: &[u8]) -> u32 {
    checksum_parts(&[&table.0.to_le_bytes(), &offset.to_le_bytes(), chunks])
}

/// A block whose checksum and chunk headers have been verified.
#[derive(Debug)]
pub struct Block {
    file: Box<Path>,
    offset: u64,
    bytes: Box<[u8]>,
    /// Series of the chunks; neighbours of one series share its bytes.
    series: Box<[u8]>,
    chunks: Box<[ChunkEntry]>,
}

impl Block {
    /// Verifies a block's bytes as they lie in the file at `handle`. `file` names the table in errors.
    ///
    /// # Errors
    /// When they are not what was written.
    pub fn decode(
        file: &Path,
        table: TableId,
        handle: BlockHandle,
        bytes: Vec<u8>,
    ) -> Result<Self, TableError> {
        let damaged = |offset: usize, expected: &str, found: String| {
            Corruption::new(file, handle.offset + offset as u64, expected, found)
        };
        if bytes.len() != handle.bytes as usize || bytes.len() > BLOCK_BYTES_MAX {
            let expected = format!("a block of {} bytes", handle.bytes);
            return Err(damaged(0, &expected, format!("{} bytes", bytes.len())).into());
        }
        let split = bytes.split_last_chunk::<CRC_BYTES>();
        let Some((chunks, stored)) = split else {
            return Err(damaged(0, "a block", format!("{} bytes", bytes.len())).into());
        };
        let (stored, computed) = (u32::from_le_bytes(*stored), block_checksum(table, handle.offset, chunks));
        if stored != computed {
            return Err(Corruption::checksum(file, handle.offset, stored, computed).into());
        }
        let (series, entries) =
            decode_chunks(chunks).map_err(|(offset, error)| damaged(offset, "a chunk", error.to_string()))?;
        Ok(Self { file: file.into(), offset: handle.offset, bytes: bytes.into(), series, chunks: entries })
    }
    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.bytes.len()
            + self.series.len()
            + self.chunks.iter().map(ChunkEntry::memory_bytes).sum::<usize>()
    }
    /// Chunks; at least one.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }
    /// Header of chunk `index`.
    ///
    /// # Panics
    /// When `index` is out of range.
    #[must_use]
    pub fn chunk(&self, index: usize) -> ChunkHeader<'_> {
        let entry = self.entry(index);
        entry.header(self.series_of(entry))
    }
    /// Appends the entries of chunk `index` to `out`, which is not cleared first.
    ///
    /// # Errors
    /// When the columns are malformed; `out` is as before then.
    ///
    /// # Panics
    /// When `index` is out of range.
    pub fn decode_chunk(&self, index: usize, out: &mut Columns) -> Result<(), TableError> {
        let entry = self.entry(index);
        entry.decode_entries(&self.bytes, out).map_err(|error| {
            let offset = self.offset + u64::from(entry.body.start);
            Corruption::new(&*self.file, offset, "the columns of a chunk", error.to_string()).into()
        })
    }
    /// Chunks of this series and class; empty, at the place where they would be, when there are none.
    #[must_use]
    pub fn find(&self, series: &[u8], class: SlotClass) -> Range<usize> {
        let start =
            self.chunks.partition_point(|entry| (self.series_of(entry), entry.class) < (series, class));
        let end =
            self.chunks.partition_point(|entry| (self.series_of(entry), entry.class) <= (series, class));
        start..end
    }
    fn entry(&self, index: usize) -> &ChunkEntry {
        self.chunks.get(index).expect("callers stay below chunk_count")
    }
    fn series_of(&self, entry: &ChunkEntry) -> &[u8] {
        self.series.get(entry.series.start as usize..entry.series.end as usize).unwrap_or_default()
    }
}

type Chunks = (Box<[u8]>, Box<[ChunkEntry]>);

/// Reads all chunk headers and checks their order; an error comes with its place.
fn decode_chunks(bytes: &[u8]) -> Result<Chunks, (usize, ColumnError)> {
    let mut reader = Reader::new(bytes);
    let mut chunks = ChunkReader::default();
    while reader.left() > 0 {
        let offset = reader.offset();
        chunks.next(&mut reader).map_err(|error| (offset, error))?;
    }
    if chunks.entries.is_empty() {
        return Err((0, ColumnError::Inconsistent("an empty block")));
    }
    Ok((chunks.series.into(), chunks.entries.into()))
}

/// Length of the block of `table` that starts at `offset` of its file, where nothing but its bytes tells: the chunks
/// that `bytes` begins with, up to a checksum that fits. `None` when no block starts there.
pub(super) fn block_bytes_at(table: TableId, offset: u64, bytes: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(bytes.get(..bytes.len().min(BLOCK_BYTES_MAX))?);
    let mut chunks = ChunkReader::default();
    let mut ends = Vec::new();
    while reader.left() > 0 && chunks.next(&mut reader).is_ok() {
        ends.push(reader.offset());
    }
    // A checksum rarely looks like more chunks, so the last end is nearly always the right one.
    ends.into_iter().rev().find_map(|end| {
        let stored = bytes.get(end..end + CRC_BYTES)?.first_chunk::<CRC_BYTES>()?;
        let computed = block_checksum(table, offset, bytes.get(..end)?);
        (u32::from_le_bytes(*stored) == computed).then_some(end + CRC_BYTES)
    })
}

/// Reads the chunk headers of a block, one after the other.
#[derive(Default)]
struct ChunkReader {
    series: Vec<u8>,
    entries: Vec<ChunkEntry>,
}

impl ChunkReader {
    fn next(&mut self, reader: &mut Reader<'_>) -> Result<(), ColumnError> {
        let previous = self.entries.last();
        let place = decode_series(reader, &mut self.series, previous.map(|entry| entry.series.clone()))?;
        let entry = ChunkEntry::decode(reader, place)?;
        if previous.is_some_and(|previous| !follows(&self.series, previous, &entry)) {
            return Err(ColumnError::Inconsistent("chunks out of order"));
        }
        if self.entries.len() == CHUNKS_MAX {
            return Err(ColumnError::Inconsistent("more chunks than a block may hold"));
        }
        self.entries.push(entry);
        Ok(())
    }
}

/// Reads a chunk's series; returns its place in the arena, shared with the chunk before when it is the same.
#[expect(clippy::cast_possible_truncation, reason = "the arena stays below SERIES_BYTES_TOTAL_MAX")]
fn decode_series(
    reader: &mut Reader<'_>,
    arena: &mut Vec<u8>,
    previous: Option<Range<u32>>,
) -> Result<Range<u32>, ColumnError> {
    let previous = previous.unwrap_or(0..0);
    let shared = reader.count(previous.len())?;
    let suffix = reader.prefixed()?;
    if suffix.is_empty() && shared == previous.len() && shared > 0 {
        return Ok(previous);
    }
    let start = arena.len();
    let shared = previous.start as usize..previous.start as usize + shared;
    if start + shared.len() + suffix.len() > SERIES_BYTES_TOTAL_MAX {
        return Err(ColumnError::Inconsistent("more series than a block may hold"));
    }
    if shared.end > arena.len() {
        return Err(ColumnError::Inconsistent("a series that shares what is not there"));
    }
    arena.extend_from_within(shared);
    arena.extend_from_slice(suffix);
    if is_series(arena.get(start..).unwrap_or_default()) {
        Ok(start as u32..arena.len() as u32)
    } else {
        Err(ColumnError::Inconsistent("a series of 0 bytes or of too many"))
    }
}

fn follows(series: &[u8], previous: &ChunkEntry, next: &ChunkEntry) -> bool {
    let key = |entry: &ChunkEntry| {
        (series.get(entry.series.start as usize..entry.series.end as usize).unwrap_or_default(), entry.class)
    };
    match key(previous).cmp(&key(next)) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Equal => previous.last_time <= next.first_time,
        std::cmp::Ordering::Greater => false,
    }
}
