//! Block: the unit of I/O, of checksums and of caching.
//!
//! ```text
//! offset  bytes  field
//!      0      n  chunks, one after the other, in order of (series, class, first time)      (chunk/)
//!      n      4  crc-32 over table id (u64), the block's offset in the file (u64) and the chunks
//! ```
//! Id and offset are in the checksum so that a block read from the wrong place is no block. Cut at
//! `BLOCK_BYTES_TARGET`, at [`CHUNKS_MAX`] chunks and at [`SERIES_BYTES_TOTAL_MAX`] bytes of series written out: prefix
//! compression must not let a small block unfold into a large one.

use super::bloom::hash;
use super::chunk::{ChunkHead, ChunkHeader, is_series};
use super::codec::ColumnError;
use super::error::TableError;
use super::index::BlockHandle;
use crate::encoding::{Corruption, Reader, checksum_parts};
use crate::limits::{BLOCK_BYTES_MAX, BLOCK_BYTES_TARGET, SERIES_BYTES_MAX};
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

/// A block whose checksum and chunk headers have been verified. It holds the bytes as they lie in the file, the series
/// written out, and how to find them.
#[derive(Debug)]
pub struct Block {
    file: Box<Path>,
    offset: u64,
    /// As in the file, the checksum included.
    bytes: Box<[u8]>,
    /// Series of the chunks; neighbours of one series share its bytes.
    series: Box<[u8]>,
    chunks: Box<[ChunkPlace]>,
    groups: Groups,
}

/// Where a chunk lies in its block.
#[derive(Clone, Copy, Debug)]
struct ChunkPlace {
    series_start: u32,
    series_bytes: u16,
    class: SlotClass,
    /// What follows the series.
    head: u32,
}

impl ChunkPlace {
    /// The same in neighbours of one series and class alone.
    fn group(self) -> (u32, SlotClass) {
        (self.series_start, self.class)
    }
    fn series(self, arena: &[u8]) -> &[u8] {
        let start = self.series_start as usize;
        arena.get(start..start + usize::from(self.series_bytes)).unwrap_or_default()
    }
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
        let reader =
            decode_chunks(chunks).map_err(|(offset, error)| damaged(offset, "a chunk", error.to_string()))?;
        let groups = Groups::of(&reader.chunks, &reader.series, reader.groups);
        let (series, chunks) = (reader.series.into(), reader.chunks.into());
        Ok(Self { file: file.into(), offset: handle.offset, bytes: bytes.into(), series, chunks, groups })
    }
    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let places = self.chunks.len() * size_of::<ChunkPlace>() + self.groups.memory_bytes();
        size_of::<Self>() + self.file.as_os_str().len() + self.bytes.len() + self.series.len() + places
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
        let place = self.place(index);
        self.head(place).header(place.series(&self.series))
    }
    /// Appends the entries of chunk `index` to `out`, which is not cleared first.
    ///
    /// # Errors
    /// When the columns are malformed; `out` is as before then.
    ///
    /// # Panics
    /// When `index` is out of range.
    pub fn decode_chunk(&self, index: usize, out: &mut Columns) -> Result<(), TableError> {
        let place = self.place(index);
        let head = self.head(place);
        head.decode_entries(self.bytes_at_head(place), out).map_err(|error| {
            let offset = self.offset + u64::from(place.head) + u64::from(head.body_start());
            Corruption::new(&*self.file, offset, "the columns of a chunk", error.to_string()).into()
        })
    }
    /// Chunks of this series and class; empty when there are none.
    #[must_use]
    pub fn find(&self, series: &[u8], class: SlotClass) -> Range<usize> {
        let is_wanted = |place: &ChunkPlace| place.class == class && place.series(&self.series) == series;
        let at = |index: usize| self.chunks.get(index).is_some_and(is_wanted);
        let Some(start) = self.groups.find(hash(series, class), at) else { return 0..0 };
        let more =
            self.chunks.get(start + 1..).unwrap_or_default().iter().take_while(|place| is_wanted(place));
        start..start + 1 + more.count()
    }
    /// First chunk that is not below this series and class; `chunk_count()` when there is none.
    #[must_use]
    pub fn seek(&self, series: &[u8], class: SlotClass) -> usize {
        self.chunks.partition_point(|place| (place.series(&self.series), place.class) < (series, class))
    }
    fn place(&self, index: usize) -> ChunkPlace {
        *self.chunks.get(index).expect("callers stay below chunk_count")
    }
    fn head(&self, place: ChunkPlace) -> ChunkHead {
        let mut reader = Reader::new(self.bytes_at_head(place));
        ChunkHead::decode(&mut reader).expect("headers were verified when the block was decoded")
    }
    fn bytes_at_head(&self, place: ChunkPlace) -> &[u8] {
        self.bytes.get(place.head as usize..self.bytes.len() - CRC_BYTES).unwrap_or_default()
    }
}

/// Finds the chunks of a series without comparing series on the way: an open hash table of the first chunk of each
/// (series, class). A search by halves would miss the processor's cache at every step.
#[derive(Debug)]
struct Groups {
    /// Number of a chunk plus 1; 0 is free. At least half of them are.
    slots: Box<[u16]>,
}

impl Groups {
    /// Of chunks that make up `count` groups.
    fn of(chunks: &[ChunkPlace], arena: &[u8], count: usize) -> Self {
        let mut slots = vec![0; (2 * count).next_power_of_two()];
        let mut last = None;
        for (number, place) in (1..).zip(chunks) {
            if last.replace(place.group()) == Some(place.group()) {
                continue;
            }
            let hash = hash(place.series(arena), place.class);
            let free = probes(hash, slots.len()).find(|slot| slots.get(*slot) == Some(&0));
            let slot = free.and_then(|slot| slots.get_mut(slot));
            *slot.expect("half of the slots stay free") = number;
        }
        Self { slots: slots.into() }
    }
    /// The first chunk with this hash that `is_wanted`.
    fn find(&self, hash: u64, is_wanted: impl Fn(usize) -> bool) -> Option<usize> {
        let numbers = probes(hash, self.slots.len()).filter_map(|slot| self.slots.get(slot));
        let filled = numbers.map_while(|number| usize::from(*number).checked_sub(1));
        filled.into_iter().find(|chunk| is_wanted(*chunk))
    }
    fn memory_bytes(&self) -> usize {
        self.slots.len() * size_of::<u16>()
    }
}

/// Slots where a hash may lie, in the order to look at them; `count` is a power of two.
#[expect(clippy::cast_possible_truncation, reason = "only the low bits count")]
fn probes(hash: u64, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |step| (hash as usize).wrapping_add(step) & (count - 1))
}

/// Reads all chunk headers and checks their order; an error comes with its place.
fn decode_chunks(bytes: &[u8]) -> Result<ChunkReader, (usize, ColumnError)> {
    let mut reader = Reader::new(bytes);
    let mut chunks = ChunkReader::sized_for(bytes.len());
    while reader.left() > 0 {
        let offset = reader.offset();
        chunks.next(&mut reader).map_err(|error| (offset, error))?;
    }
    if chunks.chunks.is_empty() {
        return Err((0, ColumnError::Inconsistent("an empty block")));
    }
    Ok(chunks)
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
    chunks: Vec<ChunkPlace>,
    /// Series and classes so far.
    groups: usize,
    /// Time of the last entry so far.
    last_time: i64,
}

impl ChunkReader {
    /// One that seldom grows while it reads a block of so many bytes.
    fn sized_for(bytes: usize) -> Self {
        let bytes = bytes.min(BLOCK_BYTES_TARGET);
        Self {
            series: Vec::with_capacity(bytes / 4),
            chunks: Vec::with_capacity(bytes / 64),
            ..Self::default()
        }
    }
    fn next(&mut self, reader: &mut Reader<'_>) -> Result<(), ColumnError> {
        let previous = self.chunks.last().copied();
        let (series_start, series_bytes) = self.read_series(reader, previous)?;
        let head_at = reader.offset();
        let head = ChunkHead::decode(reader)?;
        let bad = ColumnError::Inconsistent;
        if self.chunks.len() == CHUNKS_MAX {
            return Err(bad("more chunks than a block may hold"));
        }
        let head_at = u32::try_from(head_at).map_err(|_| bad("a block of more than 4 GiB"))?;
        let place = ChunkPlace { series_start, series_bytes, class: head.class, head: head_at };
        let same_group = previous.is_some_and(|previous| previous.group() == place.group());
        let ascends = previous.is_none_or(|previous| {
            let key = |place: ChunkPlace| (place.series(&self.series), place.class);
            if same_group { self.last_time <= head.first_time } else { key(previous) < key(place) }
        });
        if !ascends {
            return Err(bad("chunks out of order"));
        }
        self.groups += usize::from(!same_group);
        self.last_time = head.last_time;
        self.chunks.push(place);
        Ok(())
    }
    /// Reads a chunk's series; returns its place in the arena, shared with the chunk before when it is the same.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the arena stays below SERIES_BYTES_TOTAL_MAX, a series below SERIES_BYTES_MAX"
    )]
    fn read_series(
        &mut self,
        reader: &mut Reader<'_>,
        previous: Option<ChunkPlace>,
    ) -> Result<(u32, u16), ColumnError> {
        let (last_start, last_bytes) =
            previous.map_or((0, 0), |place| (place.series_start, place.series_bytes));
        let shared = reader.count(usize::from(last_bytes))?;
        let suffix = reader.prefixed()?;
        if suffix.is_empty() && shared == usize::from(last_bytes) && shared > 0 {
            return Ok((last_start, last_bytes));
        }
        let start = self.series.len();
        if start + shared + suffix.len() > SERIES_BYTES_TOTAL_MAX {
            return Err(ColumnError::Inconsistent("more series than a block may hold"));
        }
        let shared = last_start as usize..last_start as usize + shared;
        self.series.extend_from_within(shared);
        self.series.extend_from_slice(suffix);
        let series = self.series.get(start..).unwrap_or_default();
        if is_series(series) {
            Ok((start as u32, series.len() as u16))
        } else {
            Err(ColumnError::Inconsistent("a series of 0 bytes or of too many"))
        }
    }
}
