//! Writes one table, streaming: memory holds one chunk, one block, the index and 8 bytes per (series, class).

use super::block::{CHUNKS_MAX, CRC_BYTES, SERIES_BYTES_TOTAL_MAX, block_checksum};
use super::bloom;
use super::chunk::{EncodedChunk, is_series};
use super::codec::Effort;
use super::footer::{FOOTER_BYTES, Footer};
use super::index::{BlockHandle, BlockIndex, encode_range_deletes};
use super::meta::TableMeta;
use crate::encoding::checksum;
use crate::limits::{BLOCK_BYTES_TARGET, CHUNK_ENTRIES_MAX};
use crate::model::{EntryOp, KeyRange, Seqno, Slot, SlotClass, StoreId, TableId, Value, ValueType};
use crate::storage::columns::{Columns, TAG_DELETE};
use crate::storage::range_delete::{RangeDelete, single_series};
use crate::storage::series_metadata;
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
    /// Work that is put into its columns.
    pub effort: Effort,
}

/// Writes one table, in order.
#[derive(Debug)]
pub struct TableBuilder {
    options: TableOptions,
    /// Series and class of the last entry.
    series: Vec<u8>,
    class: SlotClass,
    /// Time and seqno of the last entry.
    last: (i64, u64),
    /// Entries of `series` and `class` that are not in a chunk yet.
    pending: Columns,
    scratch: EncodedChunk,
    block: BlockUnderWay,
    finished: Vec<u8>,
    /// Bytes of all blocks closed so far.
    blocks_bytes: u64,
    index: BlockIndex,
    hashes: Vec<u64>,
    range_deletes: Vec<RangeDelete>,
    meta: TableMeta,
}

/// The chunks of the block that is being filled.
#[derive(Debug, Default)]
struct BlockUnderWay {
    bytes: Vec<u8>,
    chunks: usize,
    /// Bytes of its series, each counted where it differs from the one before.
    series_bytes: usize,
    first: Option<(Box<[u8]>, Slot)>,
    last_series: Vec<u8>,
    last_slot: Option<Slot>,
}

impl TableBuilder {
    /// Starts an empty table.
    #[must_use]
    pub fn new(options: TableOptions) -> Self {
        let meta = TableMeta {
            id: options.id,
            span: options.span,
            level: options.level,
            effort: options.effort,
            time_min: i64::MAX,
            time_max: i64::MIN,
            seqno_min: Seqno::MAX,
            ..TableMeta::default()
        };
        Self {
            options,
            series: Vec::new(),
            class: SlotClass::Metadata,
            last: (0, 0),
            pending: Columns::default(),
            scratch: EncodedChunk::default(),
            block: BlockUnderWay::default(),
            finished: Vec::new(),
            blocks_bytes: 0,
            index: BlockIndex::default(),
            hashes: Vec::new(),
            range_deletes: Vec::new(),
            meta,
        }
    }
    /// The table's id.
    #[must_use]
    pub fn id(&self) -> TableId {
        self.options.id
    }
    /// Adds one entry.
    ///
    /// # Panics
    /// When it does not come after the last one in (series, slot, seqno) order, or does not belong into the span.
    pub fn add(&mut self, series: &[u8], slot: Slot, seqno: Seqno, op: EntryOp<'_>) {
        let (class, time) = (slot.class(), slot.time_or_zero());
        self.enter(series, class, (time, seqno.0), (time, seqno.0));
        self.push(time, seqno, op);
    }
    /// Adds entries `range` of `columns`: a run of one series and class, in order.
    ///
    /// # Panics
    /// As [`TableBuilder::add`].
    pub fn add_columns(&mut self, series: &[u8], class: SlotClass, columns: &Columns, range: Range<usize>) {
        let Some(last) = range.end.checked_sub(1).filter(|_| !range.is_empty()) else { return };
        let key = |index: usize| {
            let time = columns.times().get(index).copied().expect("the range lies within the columns");
            (time, columns.seqno(index).0)
        };
        assert!(is_ordered(columns, range.clone()), "a run's entries ascend by time and seqno");
        self.enter(series, class, key(range.start), key(last));
        let tags = columns.tags().get(range.clone()).unwrap_or_default();
        let value_type = tags.iter().find_map(|tag| ValueType::from_byte(*tag));
        let numbers = value_type.is_some_and(|value_type| {
            value_type != ValueType::Bytes
                && tags.iter().all(|tag| *tag == TAG_DELETE || *tag == value_type as u8)
        });
        if numbers && range.len() >= CHUNK_ENTRIES_MAX / 4 {
            self.add_numbers(value_type, columns, range);
            return;
        }
        for index in range {
            let (time, seqno) = key(index);
            self.push(time, Seqno(seqno), columns.op(index));
        }
    }
    /// Encodes whole chunks straight from the columns; only the ends pass through `pending`.
    fn add_numbers(&mut self, value_type: Option<ValueType>, columns: &Columns, range: Range<usize>) {
        let mut range = range;
        if !self.pending.is_empty() {
            if self.pending_type().is_some_and(|pending| Some(pending) != value_type) {
                self.close_chunk();
            }
            let room = (CHUNK_ENTRIES_MAX - self.pending.len()) % CHUNK_ENTRIES_MAX;
            let fill = range.start..range.end.min(range.start + room);
            range.start = fill.end;
            self.pending.extend_from(columns, fill);
            if self.pending.len() == CHUNK_ENTRIES_MAX {
                self.close_chunk();
            }
        }
        while range.len() >= CHUNK_ENTRIES_MAX {
            let chunk = range.start..range.start + CHUNK_ENTRIES_MAX;
            range.start = chunk.end;
            // The stretch may hold nothing but deletes although the run has values.
            let tags = columns.tags().get(chunk.clone()).unwrap_or_default();
            let chunk_type = value_type.filter(|_| tags.iter().any(|tag| *tag != TAG_DELETE));
            self.scratch.encode(self.class, chunk_type, columns, chunk.clone(), self.options.effort);
            let time = |index: usize| columns.times().get(index).copied().unwrap_or_default();
            self.place_chunk(time(chunk.start), time(chunk.end - 1));
        }
        self.pending.extend_from(columns, range);
    }
    /// Checks that a run from `first` to `last` (times and seqnos) may come now, and notes it.
    fn enter(&mut self, series: &[u8], class: SlotClass, first: (i64, u64), last: (i64, u64)) {
        if (self.series.as_slice(), self.class) == (series, class) {
            assert!(self.last < first, "entries of a series ascend by slot and seqno");
        } else {
            assert!((self.series.as_slice(), self.class) < (series, class), "series ascend");
            assert!(is_series(series), "a series has 1 to 1024 bytes");
            self.close_chunk();
            self.series.clear();
            self.series.extend_from_slice(series);
            self.class = class;
            self.hashes.push(bloom::hash(series, class));
            self.meta.series += 1;
        }
        match self.options.span {
            Some((start, end)) => {
                assert_eq!(class, SlotClass::Time, "a table with a span holds samples");
                assert!(start <= first.0 && last.0 <= end, "samples lie within the table's span");
            }
            None => assert_ne!(class, SlotClass::Time, "samples go into a table with a span"),
        }
        self.last = last;
        if class == SlotClass::Time {
            self.meta.time_min = self.meta.time_min.min(first.0);
            self.meta.time_max = self.meta.time_max.max(last.0);
        }
    }
    fn push(&mut self, time: i64, seqno: Seqno, op: EntryOp<'_>) {
        let gives_retention = self.class == SlotClass::Metadata && series_metadata::may_give_retention(op);
        self.meta.retentions += u64::from(gives_retention);
        let new_type = match op {
            EntryOp::Put(value) => Some(value.value_type()),
            EntryOp::Delete => None,
        };
        let type_changes = || match (self.pending_type(), new_type) {
            (Some(pending), Some(new)) => pending != new,
            _ => false,
        };
        let value_bytes = match op {
            EntryOp::Put(Value::Bytes(bytes)) => bytes.len(),
            _ => 0,
        };
        let full = self.pending.len() == CHUNK_ENTRIES_MAX
            || self.pending.heap().len() + value_bytes > BLOCK_BYTES_TARGET;
        if !self.pending.is_empty() && (full || type_changes()) {
            self.close_chunk();
        }
        self.pending.push(time, seqno, op);
    }
    /// Type of the pending puts. The last tag tells it unless that is a delete.
    fn pending_type(&self) -> Option<ValueType> {
        self.pending.tags().iter().rev().find_map(|tag| ValueType::from_byte(*tag))
    }
    /// Makes a chunk of what is pending.
    fn close_chunk(&mut self) {
        let (Some(first), Some(last)) = (self.pending.times().first(), self.pending.times().last()) else {
            return;
        };
        let (first, last, count) = (*first, *last, self.pending.len());
        let value_type = self.pending_type();
        self.scratch.encode(self.class, value_type, &self.pending, 0..count, self.options.effort);
        self.place_chunk(first, last);
        self.pending.clear();
    }
    /// Moves the chunk in `scratch`, of the current series, into the block.
    fn place_chunk(&mut self, first_time: i64, last_time: i64) {
        let same_series = self.block.last_series == self.series;
        let series_bytes = if same_series { 0 } else { self.series.len() };
        let chunk_bytes = self.scratch.bytes() + series_bytes;
        let full = self.block.chunks == CHUNKS_MAX
            || self.block.series_bytes + series_bytes > SERIES_BYTES_TOTAL_MAX
            || self.block.bytes.len() + chunk_bytes > BLOCK_BYTES_TARGET + BLOCK_BYTES_TARGET / 2;
        if full && self.block.chunks > 0 {
            self.close_block();
        }
        let block = &mut self.block;
        if block.chunks == 0 {
            block.first = Some((self.series.as_slice().into(), self.class.slot(first_time)));
        }
        self.scratch.write(&mut block.bytes, &block.last_series, &self.series);
        if block.last_series != self.series {
            block.series_bytes += self.series.len();
            block.last_series.clone_from(&self.series);
        }
        block.chunks += 1;
        block.last_slot = Some(self.class.slot(last_time));
        self.scratch.note(self.class, &mut self.meta);
        if self.block.bytes.len() >= BLOCK_BYTES_TARGET {
            self.close_block();
        }
    }
    fn close_block(&mut self) {
        let block = &mut self.block;
        let (Some(first), Some(last_slot)) = (block.first.take(), block.last_slot.take()) else { return };
        let offset = self.blocks_bytes;
        let crc = block_checksum(self.options.id, offset, &block.bytes);
        let bytes = block.bytes.len() + CRC_BYTES;
        let handle =
            BlockHandle { offset, bytes: u32::try_from(bytes).expect("a block is at most BLOCK_BYTES_MAX") };
        self.index.push(handle, (&first.0, first.1), (&block.last_series, last_slot));
        if self.meta.entries > 0 && self.meta.first_key.is_empty() {
            self.meta.first_key = first.0;
        }
        self.finished.extend_from_slice(&block.bytes);
        self.finished.extend_from_slice(&crc.to_le_bytes());
        self.blocks_bytes += bytes as u64;
        block.bytes.clear();
        block.chunks = 0;
        block.series_bytes = 0;
        block.last_series.clear();
    }
    /// Adds a range delete; any order, at any time before the end.
    ///
    /// # Panics
    /// When the table has a span: range deletes belong into tables without one.
    pub fn add_range_delete(&mut self, delete: RangeDelete) {
        assert!(self.options.span.is_none(), "range deletes go into a table without a span");
        self.meta.seqno_min = self.meta.seqno_min.min(delete.seqno);
        self.meta.seqno_max = self.meta.seqno_max.max(delete.seqno);
        self.range_deletes.push(delete);
    }
    /// Takes the bytes that are finished, in file order; the caller writes them.
    #[must_use]
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.finished)
    }
    /// Bytes that [`TableBuilder::take_bytes`] would give.
    #[must_use]
    pub fn ready_bytes(&self) -> usize {
        self.finished.len()
    }
    /// Size of the file if it were finished now, roughly.
    #[must_use]
    pub fn bytes_estimate(&self) -> u64 {
        let filter = self.hashes.len() * usize::from(self.options.bloom_bits) / 8;
        let index = self.index.memory_bytes() / 2;
        let pending = self.pending.len() * 16 + self.pending.heap().len();
        let deletes = self.range_deletes.len() * 64;
        self.blocks_bytes
            + (self.block.bytes.len() + filter + index + pending + deletes + FOOTER_BYTES) as u64
    }
    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty() && self.range_deletes.is_empty()
    }
    /// The last bytes of the file (what was not taken yet included), and its description.
    ///
    /// # Panics
    /// When the table is empty.
    #[must_use]
    pub fn finish(mut self) -> (Vec<u8>, TableMeta) {
        assert!(!self.is_empty(), "an empty table says nothing");
        self.close_chunk();
        self.close_block();
        self.range_deletes.sort_by(|a, b| {
            let key = |delete: &RangeDelete| (delete.seqno, delete.times);
            a.keys.start.cmp(&b.keys.start).then_with(|| key(a).cmp(&key(b)))
        });
        self.meta.range_deletes = self.range_deletes.len() as u64;
        if !self.hashes.is_empty() {
            self.meta.last_key = self.series.as_slice().into();
        }
        self.meta.keys = self.extent();
        let mut out = self.finished;
        let blocks_in_out = out.len() as u64;
        let position = |out: &Vec<u8>| self.blocks_bytes + out.len() as u64 - blocks_in_out;
        let mut sections = [0; 4];
        for (number, section) in sections.iter_mut().enumerate() {
            *section = position(&out);
            let start = out.len();
            match number {
                0 => self.index.encode(&mut out),
                1 => bloom::encode(&self.hashes, self.options.bloom_bits, &mut out),
                2 => encode_range_deletes(&self.range_deletes, &mut out),
                _ => {
                    self.meta.encode(&mut out);
                    self.meta.bytes = position(&out) + (CRC_BYTES + FOOTER_BYTES) as u64;
                    // The length has a fixed width, so knowing it does not change it.
                    out.truncate(start);
                    self.meta.encode(&mut out);
                }
            }
            let crc = checksum(out.get(start..).unwrap_or_default());
            out.extend_from_slice(&crc.to_le_bytes());
        }
        let footer = Footer {
            store: self.options.store,
            table: self.options.id,
            span: self.options.span,
            level: self.options.level,
            seqno_min: self.meta.seqno_min,
            seqno_max: self.meta.seqno_max,
            sections,
        };
        footer.encode(&mut out);
        assert_eq!(position(&out), self.meta.bytes, "a table is as long as it says");
        (out, self.meta)
    }
    /// The smallest key range with all entries and range deletes.
    fn extent(&self) -> KeyRange {
        let mut ranges = self.range_deletes.iter().map(|delete| delete.keys.clone()).collect::<Vec<_>>();
        if !self.hashes.is_empty() {
            let end = single_series(&self.meta.last_key).end;
            ranges.push(KeyRange { start: self.meta.first_key.clone(), end });
        }
        let start = ranges.iter().map(|range| range.start.clone()).min().unwrap_or_default();
        let open = ranges.iter().any(|range| range.end.is_none());
        let end = if open { None } else { ranges.into_iter().filter_map(|range| range.end).max() };
        KeyRange { start, end }
    }
}

fn is_ordered(columns: &Columns, range: Range<usize>) -> bool {
    let times = columns.times().get(range.clone()).unwrap_or_default();
    // The common case compiles to a few instructions per entry; only runs with versions need the seqnos.
    times.is_sorted_by(|a, b| a < b) || {
        let seqnos = columns.seqnos().get(range).unwrap_or_default();
        times.iter().zip(seqnos).is_sorted_by(|a, b| a < b)
    }
}
