//! What is kept in memory of an open table: block index, Bloom filter, range deletes.
//!
//! ```text
//! index          blocks varint, then for each, in file order:
//!                  bytes varint (blocks lie one after the other from offset 0)
//!                  first series: shared varint (with the last series of the block before), suffix; first slot
//!                  last series:  shared varint (with this block's first series), suffix;           last slot
//!   slot         class u8; time zigzag in class Time
//! range deletes  count varint, then for each: keys (start, ended u8, end), timed u8, from and to zigzag, seqno varint
//! properties     a TableMeta
//! ```
//! These sections, and the Bloom filter before the range deletes, each end with a CRC-32 of their bytes.

use super::block::CRC_BYTES;
use super::bloom::{self, Bloom};
use super::chunk::{is_series, shared_prefix};
use super::error::TableError;
use super::footer::{FOOTER_BYTES, Footer};
use super::heads::Heads;
use super::meta::{TableMeta, put_bytes, put_key_range, read_key_range};
use crate::encoding::{Corruption, ReadError, Reader, checksum, put_varint, put_zigzag};
use crate::limits::{BLOCK_BYTES_MAX, SERIES_BYTES_MAX};
use crate::model::{KeyRange, Seqno, Slot, SlotClass, StoreId, TableId};
use crate::storage::byte_source::ByteSource;
use crate::storage::range_delete::RangeDelete;
use std::ops::Range;
use std::path::Path;

/// Where a block lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHandle {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Length, checksum included.
    pub bytes: u32,
}

/// What an index says of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockStretch {
    /// Where it lies.
    pub handle: BlockHandle,
    /// First series and slot in it.
    pub first: (Box<[u8]>, Slot),
    /// Last series and slot in it.
    pub last: (Box<[u8]>, Slot),
}

/// The keys of an index, and the places in them.
#[derive(Debug, Default)]
pub(super) struct BlockIndex {
    series: Vec<u8>,
    entries: Vec<BlockEntry>,
}

#[derive(Debug)]
struct BlockEntry {
    handle: BlockHandle,
    first: Range<u32>,
    first_slot: Slot,
    last: Range<u32>,
    last_slot: Slot,
}

impl BlockIndex {
    fn series(&self, place: &Range<u32>) -> &[u8] {
        self.series.get(place.start as usize..place.end as usize).unwrap_or_default()
    }
    /// Place and ends of block `number`, where there is one.
    pub(super) fn stretch(&self, number: usize) -> Option<BlockStretch> {
        let entry = self.entries.get(number)?;
        let key = |place: &Range<u32>, slot: Slot| (Box::from(self.series(place)), slot);
        let (first, last) = (key(&entry.first, entry.first_slot), key(&entry.last, entry.last_slot));
        Some(BlockStretch { handle: entry.handle, first, last })
    }
    /// Notes one more block, behind the others.
    pub(super) fn push(&mut self, handle: BlockHandle, first: (&[u8], Slot), last: (&[u8], Slot)) {
        let previous = self.entries.last().map(|entry| entry.last.clone());
        let first_place = self.intern(previous, first.0);
        let last_place = self.intern(Some(first_place.clone()), last.0);
        let (first_slot, last_slot) = (first.1, last.1);
        self.entries.push(BlockEntry { handle, first: first_place, first_slot, last: last_place, last_slot });
    }
    /// Stores a series unless it is the one before.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "two keys per block: far below 4 GiB for a table of any size"
    )]
    fn intern(&mut self, previous: Option<Range<u32>>, series: &[u8]) -> Range<u32> {
        if let Some(previous) = previous.filter(|place| self.series(place) == series) {
            return previous;
        }
        let start = self.series.len() as u32;
        self.series.extend_from_slice(series);
        start..self.series.len() as u32
    }
    pub(super) fn memory_bytes(&self) -> usize {
        self.series.capacity() + self.entries.capacity() * size_of::<BlockEntry>()
    }
    /// Appends the stored form.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.entries.len() as u64);
        let mut previous: &[u8] = &[];
        for entry in &self.entries {
            let (first, last) = (self.series(&entry.first), self.series(&entry.last));
            put_varint(out, u64::from(entry.handle.bytes));
            put_key(out, previous, first, entry.first_slot);
            put_key(out, first, last, entry.last_slot);
            previous = last;
        }
    }
    /// Reads the stored form of blocks that fill `blocks_bytes`.
    pub(super) fn decode(bytes: &[u8], blocks_bytes: u64) -> Result<Self, IndexError> {
        let mut reader = Reader::new(bytes);
        let count = reader.count(reader.left() / KEYS_BYTES_MIN)?;
        let mut index = Self::default();
        let mut offset = 0;
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let length = reader.count(BLOCK_BYTES_MAX)?;
            let after = last.clone();
            let first_slot = read_key(&mut reader, &after, &mut first)?;
            let last_slot = read_key(&mut reader, &first, &mut last)?;
            let ascends = index.entries.last().is_none_or(|previous| {
                (after.as_slice(), previous.last_slot) <= (first.as_slice(), first_slot)
            });
            // A block holds its first series in full: this bounds what prefix compression can unfold to.
            if !ascends || (&first, first_slot) > (&last, last_slot) || first.len() + CRC_BYTES >= length {
                return Err(IndexError("blocks out of order"));
            }
            let bytes = u32::try_from(length).map_err(|_| IndexError("a block of more than 4 GiB"))?;
            index.push(BlockHandle { offset, bytes }, (&first, first_slot), (&last, last_slot));
            offset += u64::from(bytes);
        }
        if offset == blocks_bytes && reader.left() == 0 {
            Ok(index)
        } else {
            Err(IndexError("blocks that do not fill the file up to the index"))
        }
    }
}

fn put_key(out: &mut Vec<u8>, previous: &[u8], series: &[u8], slot: Slot) {
    let shared = shared_prefix(previous, series);
    put_varint(out, shared as u64);
    put_bytes(out, series.get(shared..).unwrap_or_default());
    out.push(slot.class() as u8);
    if let Slot::Time(time) = slot {
        put_zigzag(out, time);
    }
}

/// Reads a key into `series`, which is rewritten.
fn read_key(reader: &mut Reader<'_>, previous: &[u8], series: &mut Vec<u8>) -> Result<Slot, IndexError> {
    let shared = reader.count(previous.len())?;
    let suffix = reader.prefixed()?;
    series.clear();
    series.extend_from_slice(previous.get(..shared).unwrap_or_default());
    series.extend_from_slice(suffix);
    if !is_series(series) {
        return Err(IndexError("a series of 0 bytes or of too many"));
    }
    match SlotClass::from_byte(reader.u8()?) {
        Some(SlotClass::Time) => Ok(Slot::Time(reader.zigzag()?)),
        Some(class) => Ok(class.slot(0)),
        None => Err(IndexError("an unknown slot class")),
    }
}

/// Fewest bytes that a block takes in the index.
const KEYS_BYTES_MIN: usize = 5;

pub(super) struct IndexError(pub(super) &'static str);

impl From<ReadError> for IndexError {
    fn from(_: ReadError) -> Self {
        Self("malformed numbers or lengths")
    }
}

/// Appends the stored form of range deletes.
pub(super) fn encode_range_deletes(deletes: &[RangeDelete], out: &mut Vec<u8>) {
    put_varint(out, deletes.len() as u64);
    for delete in deletes {
        put_key_range(out, &delete.keys);
        out.push(u8::from(delete.times.is_some()));
        if let Some((from, to)) = delete.times {
            put_zigzag(out, from);
            put_zigzag(out, to);
        }
        put_varint(out, delete.seqno.0);
    }
}

pub(super) fn decode_range_deletes(bytes: &[u8]) -> Result<Box<[RangeDelete]>, IndexError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(reader.left() / 4)?;
    let mut deletes = Vec::new();
    for _ in 0..count {
        let keys = read_key_range(&mut reader)?;
        let times = if reader.u8()? == 0 { None } else { Some((reader.zigzag()?, reader.zigzag()?)) };
        let seqno = Seqno(reader.varint()?);
        let longest = keys.start.len().max(keys.end.as_ref().map_or(0, |end| end.len()));
        if longest > SERIES_BYTES_MAX + 1 {
            return Err(IndexError("a range delete with a key of too many bytes"));
        }
        deletes.push(RangeDelete { keys, times, seqno });
    }
    if reader.left() == 0 { Ok(deletes.into()) } else { Err(IndexError("bytes after the last range delete")) }
}

/// What is kept in memory of an open table.
#[derive(Debug)]
pub struct TableIndex {
    table: TableId,
    blocks: BlockIndex,
    /// Of the last series of every block.
    heads: Heads,
    bloom: Bloom,
    range_deletes: Box<[RangeDelete]>,
}

impl TableIndex {
    /// Reads and verifies everything but the blocks. `file` names the table in errors.
    ///
    /// # Errors
    /// When the file is damaged, is not of this store, is of a newer format, or cannot be read.
    pub fn load(
        file: &Path,
        store: StoreId,
        source: &mut dyn ByteSource,
    ) -> Result<(Self, TableMeta), TableError> {
        let file_bytes = source.bytes();
        let damaged = |offset: u64, expected: &str, found: String| {
            TableError::from(Corruption::new(file, offset, expected, found))
        };
        let Some(footer_start) = file_bytes.checked_sub(FOOTER_BYTES as u64) else {
            return Err(damaged(0, "a table", format!("a file of {file_bytes} bytes")));
        };
        let footer = Footer::decode(file, file_bytes, &read(file, source, footer_start..file_bytes)?)?;
        if footer.store != store {
            return Err(damaged(footer_start, &format!("store {store}"), format!("store {}", footer.store)));
        }
        let [index, bloom, deletes, properties] = footer.sections;
        let bytes = read(file, source, index..footer_start)?;
        let section = |range: Range<u64>| section(file, &bytes, index, range);
        let explain =
            |offset: u64| move |error: IndexError| damaged(offset, "a table's index", error.0.into());
        let blocks = BlockIndex::decode(section(index..bloom)?, index).map_err(explain(index))?;
        let bloom_bytes = section(bloom..deletes)?;
        let filter = Bloom::decode(bloom_bytes)
            .ok_or_else(|| damaged(bloom, "a Bloom filter", format!("{} bytes", bloom_bytes.len())))?;
        let range_deletes = decode_range_deletes(section(deletes..properties)?).map_err(explain(deletes))?;
        let mut reader = Reader::new(section(properties..footer_start)?);
        let meta = TableMeta::decode(&mut reader)
            .map_err(|error| damaged(properties, "a table's properties", error.to_string()))?;
        let told =
            (meta.id, meta.bytes, meta.span, meta.level, meta.seqno_min, meta.seqno_max, reader.left());
        let stands =
            (footer.table, file_bytes, footer.span, footer.level, footer.seqno_min, footer.seqno_max, 0);
        if told != stands || meta.range_deletes != range_deletes.len() as u64 {
            return Err(damaged(properties, "properties that agree with the footer", "others".into()));
        }
        let heads = Heads::of(blocks.entries.iter().map(|entry| blocks.series(&entry.last)));
        Ok((Self { table: footer.table, blocks, heads, bloom: filter, range_deletes }, meta))
    }
    /// The table's id, as its file says.
    #[must_use]
    pub fn id(&self) -> TableId {
        self.table
    }
    /// False when the table has no entry of this series and class for certain. Knows nothing of range deletes.
    #[must_use]
    pub fn may_contain(&self, series: &[u8], class: SlotClass) -> bool {
        self.bloom.may_contain(bloom::hash(series, class))
    }
    /// Blocks; 0 for a table of range deletes only.
    #[must_use]
    pub fn block_count(&self) -> usize {
        self.blocks.entries.len()
    }
    /// Where block `index` lies.
    ///
    /// # Panics
    /// When `index` is out of range.
    #[must_use]
    pub fn block(&self, index: usize) -> BlockHandle {
        self.entry(index).handle
    }
    /// First series and slot in block `index`.
    ///
    /// # Panics
    /// When `index` is out of range.
    #[must_use]
    pub fn block_first_key(&self, index: usize) -> (&[u8], Slot) {
        let entry = self.entry(index);
        (self.blocks.series(&entry.first), entry.first_slot)
    }
    /// Last series and slot in block `index`.
    ///
    /// # Panics
    /// When `index` is out of range.
    #[must_use]
    pub fn block_last_key(&self, index: usize) -> (&[u8], Slot) {
        let entry = self.entry(index);
        (self.blocks.series(&entry.last), entry.last_slot)
    }
    /// First block whose last key is not below (series, slot): the first that may hold it or something after it;
    /// `block_count()` when there is none. Versions of one slot may go on in the blocks that follow.
    #[must_use]
    pub fn seek(&self, series: &[u8], slot: Slot) -> usize {
        let range = self.heads.range(series);
        let open = self.blocks.entries.get(range.clone()).unwrap_or_default();
        let is_below =
            |entry: &BlockEntry| (self.blocks.series(&entry.last), entry.last_slot) < (series, slot);
        range.start + open.partition_point(is_below)
    }
    /// The part of the blocks' bytes that keys of a range take, to the accuracy of a block: so many of so many.
    #[must_use]
    pub fn share_of(&self, keys: &KeyRange) -> (u64, u64) {
        let end = |handle: BlockHandle| handle.offset + u64::from(handle.bytes);
        let place = |block: usize| match self.blocks.entries.get(block) {
            Some(entry) => entry.handle.offset,
            None => self.blocks.entries.last().map_or(0, |last| end(last.handle)),
        };
        let to = keys.end.as_deref().map_or(self.block_count(), |end| self.seek(end, Slot::Metadata));
        let share = place(to).saturating_sub(place(self.seek(&keys.start, Slot::Metadata)));
        (share, place(self.block_count()).saturating_sub(place(0)))
    }
    /// The table's range deletes, ascending by the start of their keys.
    #[must_use]
    pub fn range_deletes(&self) -> &[RangeDelete] {
        &self.range_deletes
    }
    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let deletes: usize = self.range_deletes.iter().map(RangeDelete::memory_bytes).sum();
        let search = self.blocks.memory_bytes() + self.heads.memory_bytes() + self.bloom.memory_bytes();
        size_of::<Self>() + search + deletes
    }
    fn entry(&self, index: usize) -> &BlockEntry {
        self.blocks.entries.get(index).expect("callers stay below block_count")
    }
}

/// Reads part of the file; the caller has checked it against the file's length.
pub(super) fn read(
    file: &Path,
    source: &mut dyn ByteSource,
    range: Range<u64>,
) -> Result<Vec<u8>, TableError> {
    let offset = range.start;
    let count = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let mut bytes = vec![0; count];
    let read = source.read_at(offset, &mut bytes).map_err(|source| TableError::Read {
        file: file.into(),
        offset,
        source,
    })?;
    if read == count {
        Ok(bytes)
    } else {
        Err(Corruption::new(file, offset, format!("{count} bytes"), format!("{read} bytes")).into())
    }
}

/// The section at `range` of the file, verified, without its checksum. `tail` holds the file from `tail_start`.
pub(super) fn section<'a>(
    file: &Path,
    tail: &'a [u8],
    tail_start: u64,
    range: Range<u64>,
) -> Result<&'a [u8], TableError> {
    let place = |offset: u64| usize::try_from(offset - tail_start).unwrap_or(usize::MAX);
    let bytes = tail.get(place(range.start)..place(range.end)).unwrap_or_default();
    let Some((payload, stored)) = bytes.split_last_chunk::<CRC_BYTES>() else {
        return Err(Corruption::new(file, range.start, "a section", format!("{} bytes", bytes.len())).into());
    };
    let (stored, computed) = (u32::from_le_bytes(*stored), checksum(payload));
    if stored == computed {
        Ok(payload)
    } else {
        Err(Corruption::checksum(file, range.start, stored, computed).into())
    }
}
