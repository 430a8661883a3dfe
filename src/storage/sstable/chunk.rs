//! Chunk: entries of one series, slot class and value type, as columns. Point deletes mix with puts of any type.
//!
//! ```text
//! shared       varint  bytes of the series that are those of the chunk before it in the block; 0 in the first
//! suffix       varint, bytes: the rest of the series
//! shape        u8      bits 0-1 slot class, 2-3 value type (0: point deletes only), 4 some slot has several versions,
//!                      5 statistics present, 6-7 zero
//! count        varint  entries, 1..=CHUNK_ENTRIES_MAX
//! first time   zigzag  only in class Time
//! duration     varint  last time minus first; only in class Time and when count > 1
//! seqno min    varint
//! seqno range  varint  only when count > 1
//! codecs       u8, u8  times | seqnos << 4, kinds | values << 4          (codec/mod.rs)
//! statistics   f64 min, max, sum, first, last; varint count of puts, of NaN
//! body bytes   varint
//! body         times, seqnos, kinds, values (of the puts alone)
//! ```
//! Statistics stand in chunks of [`STATS_ENTRIES_MIN`] numbers or more; shorter ones are cheaper to decode. NaN counts
//! apart: min, max and sum are those of the other values (NaN, NaN and 0 when there are none).

use super::codec::{self, Codec, ColumnError, Effort, decode_numbers, decode_offsets};
use super::meta::{TableMeta, put_bytes};
use crate::encoding::{Reader, put_varint, put_zigzag};
use crate::limits::{CHUNK_ENTRIES_MAX, SERIES_BYTES_MAX};
use crate::model::{EntryOp, Seqno, SlotClass, Value, ValueType};
use crate::storage::columns::{Columns, TAG_DELETE, pack};
use std::ops::Range;

/// Chunks with fewer puts carry no statistics.
pub(super) const STATS_ENTRIES_MIN: usize = 16;

const SHAPE_CLASS: u8 = 0b11;
const SHAPE_TYPE_SHIFT: u32 = 2;
const SHAPE_VERSIONS: u8 = 1 << 4;
const SHAPE_STATS: u8 = 1 << 5;
const SHAPE_ZERO: u8 = 0b1100_0000;

/// Statistics over the numeric puts of a chunk (integers as doubles).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChunkStats {
    /// Puts; point deletes do not count.
    pub count: u32,
    /// Puts whose value is NaN. They count in `count`, `first` and `last`, but not in `min`, `max` and `sum`.
    pub nan_count: u32,
    /// Smallest value; NaN when all are.
    pub min: f64,
    /// Largest value; NaN when all are.
    pub max: f64,
    /// Sum, added in time order.
    pub sum: f64,
    /// Value of the first put.
    pub first: f64,
    /// Value of the last put.
    pub last: f64,
}

impl ChunkStats {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let first = values.clone().next()?;
        let mut stats =
            Self { count: 0, nan_count: 0, min: f64::NAN, max: f64::NAN, sum: 0.0, first, last: first };
        for value in values {
            stats.count += 1;
            stats.last = value;
            if value.is_nan() {
                stats.nan_count += 1;
                continue;
            }
            // Written so that a NaN on the left gives way to the first number.
            stats.min = if stats.min <= value { stats.min } else { value };
            stats.max = if stats.max >= value { stats.max } else { value };
            stats.sum += value;
        }
        Some(stats)
    }
    fn encode(&self, out: &mut Vec<u8>) {
        for value in [self.min, self.max, self.sum, self.first, self.last] {
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        put_varint(out, u64::from(self.count));
        put_varint(out, u64::from(self.nan_count));
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, ColumnError> {
        let mut number = || reader.u64().map(f64::from_bits);
        let (min, max, sum, first, last) = (number()?, number()?, number()?, number()?, number()?);
        let count = reader.count(CHUNK_ENTRIES_MAX)?;
        let nan_count = reader.count(count)?;
        Ok(Self { count: narrow(count), nan_count: narrow(nan_count), min, max, sum, first, last })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "callers pass counts up to CHUNK_ENTRIES_MAX")]
fn narrow(count: usize) -> u32 {
    debug_assert!(count <= CHUNK_ENTRIES_MAX);
    count as u32
}

/// What a block knows of one of its chunks without decoding it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChunkHeader<'a> {
    /// Series of all its entries.
    pub series: &'a [u8],
    /// Slot class of all its entries.
    pub class: SlotClass,
    /// Type of its puts; `None` when it holds only point deletes.
    pub value_type: Option<ValueType>,
    /// Entries, 1..=`CHUNK_ENTRIES_MAX`.
    pub count: usize,
    /// Time of the first entry; 0 for classes without time.
    pub first_time: i64,
    /// Time of the last entry.
    pub last_time: i64,
    /// Lowest seqno.
    pub seqno_min: Seqno,
    /// Highest seqno.
    pub seqno_max: Seqno,
    /// Whether some of its entries are point deletes.
    pub has_deletes: bool,
    /// Whether some slot has more than one version here. Versions of its last slot may also go on in the next chunk,
    /// which then begins at this one's `last_time`.
    pub has_versions: bool,
    /// Only in long chunks of numbers; compute them from the entries otherwise.
    pub stats: Option<ChunkStats>,
}

/// A chunk without its series: what is encoded before its place in a block is known.
#[derive(Debug, Default)]
pub(super) struct EncodedChunk {
    /// From the shape to the body length.
    head: Vec<u8>,
    body: Vec<u8>,
    /// Of the column under work.
    offsets: Vec<u64>,
    entries: u64,
    deletes: u64,
    seqnos: (u64, u64),
}

impl EncodedChunk {
    /// Bytes without the series.
    pub(super) fn bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }
    /// Counts its entries into a table's description.
    pub(super) fn note(&self, meta: &mut TableMeta) {
        meta.entries += self.entries;
        meta.point_deletes += self.deletes;
        meta.seqno_min = meta.seqno_min.min(Seqno(self.seqnos.0));
        meta.seqno_max = meta.seqno_max.max(Seqno(self.seqnos.1));
    }
    /// Appends the chunk after one of `previous_series`.
    pub(super) fn write(&self, out: &mut Vec<u8>, previous_series: &[u8], series: &[u8]) {
        let shared = shared_prefix(previous_series, series);
        put_varint(out, shared as u64);
        put_bytes(out, series.get(shared..).unwrap_or_default());
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&self.body);
    }
    /// Encodes entries `range`, which are in order, of one value type (`None`: all deletes) and at most
    /// `CHUNK_ENTRIES_MAX`.
    pub(super) fn encode(
        &mut self,
        class: SlotClass,
        value_type: Option<ValueType>,
        columns: &Columns,
        range: Range<usize>,
        effort: Effort,
    ) {
        let count = range.len();
        assert!((1..=CHUNK_ENTRIES_MAX).contains(&count), "a chunk holds 1 to {CHUNK_ENTRIES_MAX} entries");
        let slice = Slice::new(columns, range);
        let (head, body, offsets) = (&mut self.head, &mut self.body, &mut self.offsets);
        head.clear();
        body.clear();
        let first_time = slice.times.first().copied().unwrap_or_default();
        let last_time = slice.times.last().copied().unwrap_or_default();
        let duration = distance(first_time, last_time);
        let seqno_min = slice.seqnos.iter().copied().min().unwrap_or_default();
        let seqno_range = slice.seqnos.iter().copied().max().unwrap_or_default() - seqno_min;
        let has_versions = !slice.times.is_sorted_by(|a, b| a < b);

        offsets.clear();
        offsets.extend(slice.times.iter().map(|time| distance(first_time, *time)));
        let times = codec::encode_offsets(body, offsets, duration, effort);
        offsets.clear();
        offsets.extend(slice.seqnos.iter().map(|seqno| seqno - seqno_min));
        let seqnos = codec::encode_offsets(body, offsets, seqno_range, effort);
        let kinds = encode_kinds(body, slice.tags, value_type);
        let (values, stats) = encode_values(body, columns, &slice, (value_type, kinds), effort);

        self.entries = count as u64;
        self.deletes = if kinds == Codec::Constant && value_type.is_some() {
            0
        } else {
            slice.tags.iter().filter(|tag| **tag == TAG_DELETE).count() as u64
        };
        self.seqnos = (seqno_min, seqno_min + seqno_range);
        let mut shape = class as u8 | value_type.map_or(0, |value_type| value_type as u8) << SHAPE_TYPE_SHIFT;
        shape |= if has_versions { SHAPE_VERSIONS } else { 0 };
        shape |= if stats.is_some() { SHAPE_STATS } else { 0 };
        head.push(shape);
        put_varint(head, count as u64);
        if class == SlotClass::Time {
            put_zigzag(head, first_time);
        }
        if class == SlotClass::Time && count > 1 {
            put_varint(head, duration);
        }
        put_varint(head, seqno_min);
        if count > 1 {
            put_varint(head, seqno_range);
        }
        head.push(times as u8 | (seqnos as u8) << 4);
        head.push(kinds as u8 | (values as u8) << 4);
        if let Some(stats) = stats {
            stats.encode(head);
        }
        put_varint(head, body.len() as u64);
    }
}

/// One stretch of columns.
struct Slice<'a> {
    times: &'a [i64],
    seqnos: &'a [u64],
    tags: &'a [u8],
    bits: &'a [u64],
    range: Range<usize>,
}

impl<'a> Slice<'a> {
    fn new(columns: &'a Columns, range: Range<usize>) -> Self {
        let part = || range.clone();
        Self {
            times: columns.times().get(part()).unwrap_or_default(),
            seqnos: columns.seqnos().get(part()).unwrap_or_default(),
            tags: columns.tags().get(part()).unwrap_or_default(),
            bits: columns.bits().get(part()).unwrap_or_default(),
            range,
        }
    }
}

fn distance(from: i64, to: i64) -> u64 {
    to.wrapping_sub(from).cast_unsigned()
}

/// Bytes that two keys have in common at their start.
pub(super) fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn encode_kinds(out: &mut Vec<u8>, tags: &[u8], value_type: Option<ValueType>) -> Codec {
    if value_type.is_none() || !tags.contains(&TAG_DELETE) {
        return Codec::Constant;
    }
    out.extend(tags.chunks(8).map(|tags| {
        (0..8).zip(tags).fold(0u8, |byte, (bit, tag)| byte | u8::from(*tag == TAG_DELETE) << bit)
    }));
    Codec::Plain
}

fn encode_values(
    out: &mut Vec<u8>,
    columns: &Columns,
    slice: &Slice<'_>,
    (value_type, kinds): (Option<ValueType>, Codec),
    effort: Effort,
) -> (Codec, Option<ChunkStats>) {
    match value_type {
        None => (Codec::Constant, None),
        Some(ValueType::Bytes) => (encode_bytes(out, columns, slice.range.clone()), None),
        Some(number) if kinds == Codec::Constant => encode_puts(out, slice.bits, number, effort),
        Some(number) => {
            let puts = slice.tags.iter().zip(slice.bits).filter(|(tag, _)| **tag != TAG_DELETE);
            encode_puts(out, &puts.map(|(_, bits)| *bits).collect::<Vec<_>>(), number, effort)
        }
    }
}

fn encode_puts(
    out: &mut Vec<u8>,
    bits: &[u64],
    value_type: ValueType,
    effort: Effort,
) -> (Codec, Option<ChunkStats>) {
    let codec = codec::encode_numbers(out, bits, value_type, effort);
    let stats = match value_type {
        _ if bits.len() < STATS_ENTRIES_MIN => None,
        ValueType::F64 => ChunkStats::of(bits.iter().map(|bits| f64::from_bits(*bits))),
        ValueType::I64 => {
            ChunkStats::of(bits.iter().filter_map(|bits| Value::I64(bits.cast_signed()).as_f64()))
        }
        ValueType::Bytes => None,
    };
    (codec, stats)
}

fn encode_bytes(out: &mut Vec<u8>, columns: &Columns, range: Range<usize>) -> Codec {
    let values = range.filter_map(|index| match columns.op(index) {
        EntryOp::Put(Value::Bytes(bytes)) => Some(bytes),
        _ => None,
    });
    let first = values.clone().next().unwrap_or_default();
    if values.clone().all(|value| value == first) {
        out.extend_from_slice(first);
        return Codec::Constant;
    }
    let lengths: Vec<u64> = values.clone().map(|value| value.len() as u64).collect();
    let longest = lengths.iter().copied().max().unwrap_or_default();
    let mut plain = Vec::new();
    codec::put_offsets(&mut plain, lengths.into_iter(), longest);
    values.for_each(|value| plain.extend_from_slice(value));
    codec::encode_bytes(out, &plain)
}

/// A chunk's header as a block keeps it; the series lies in the block's key arena.
#[derive(Clone, Debug)]
pub(super) struct ChunkEntry {
    pub(super) series: Range<u32>,
    pub(super) class: SlotClass,
    pub(super) value_type: Option<ValueType>,
    pub(super) count: u16,
    has_versions: bool,
    codecs: [Codec; 4],
    pub(super) first_time: i64,
    pub(super) last_time: i64,
    seqno_min: u64,
    seqno_range: u64,
    stats: Option<Box<ChunkStats>>,
    /// Body's place in the block.
    pub(super) body: Range<u32>,
}

impl ChunkEntry {
    /// Reads a header, the series excepted, and steps over the body. `series` is where that was put.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "counts are at most CHUNK_ENTRIES_MAX, offsets BLOCK_BYTES_MAX"
    )]
    pub(super) fn decode(reader: &mut Reader<'_>, series: Range<u32>) -> Result<Self, ColumnError> {
        let bad = ColumnError::Inconsistent;
        let shape = reader.u8()?;
        let class = SlotClass::from_byte(shape & SHAPE_CLASS).ok_or(bad("an unknown slot class"))?;
        if shape & SHAPE_ZERO != 0 {
            return Err(bad("unknown shape bits"));
        }
        let value_type = match (shape >> SHAPE_TYPE_SHIFT) & 0b11 {
            0 => None,
            byte => ValueType::from_byte(byte),
        };
        let count = reader.count(CHUNK_ENTRIES_MAX)?;
        if count == 0 {
            return Err(bad("an empty chunk"));
        }
        let timed = class == SlotClass::Time;
        let first_time = if timed { reader.zigzag()? } else { 0 };
        let duration = if timed && count > 1 { reader.varint()? } else { 0 };
        let last_time = first_time.checked_add_unsigned(duration).ok_or(bad("a time beyond the last one"))?;
        let seqno_min = reader.varint()?;
        let seqno_range = if count > 1 { reader.varint()? } else { 0 };
        seqno_min.checked_add(seqno_range).ok_or(bad("a seqno beyond the last one"))?;
        let (low, high) = (reader.u8()?, reader.u8()?);
        let codec = |id: u8| Codec::from_id(id).ok_or(bad("a codec of a newer version"));
        let codecs = [codec(low & 15)?, codec(low >> 4)?, codec(high & 15)?, codec(high >> 4)?];
        let stats = if shape & SHAPE_STATS == 0 { None } else { Some(Box::new(ChunkStats::decode(reader)?)) };
        let body_bytes = reader.count(reader.left())?;
        let body_start = reader.offset() as u32;
        reader.take(body_bytes)?;
        let entry = Self {
            series,
            class,
            value_type,
            count: count as u16,
            has_versions: shape & SHAPE_VERSIONS != 0,
            codecs,
            first_time,
            last_time,
            seqno_min,
            seqno_range,
            stats,
            body: body_start..reader.offset() as u32,
        };
        entry.check()
    }
    /// Refuses headers that contradict themselves.
    fn check(self) -> Result<Self, ColumnError> {
        let [times, seqnos, kinds, values] = self.codecs;
        let bad = |what| Err(ColumnError::Inconsistent(what));
        match (kinds, self.value_type) {
            _ if !times.serves_offsets() || !seqnos.serves_offsets() => {
                bad("times or seqnos in a foreign codec")
            }
            _ if !kinds.serves_kinds() => bad("kinds in a foreign codec"),
            _ if !values.serves_values(self.value_type) => bad("values in a foreign codec"),
            (Codec::Plain, None) => bad("kinds in a chunk of deletes"),
            _ if self.first_time == self.last_time && self.count > 1 && !self.has_versions => {
                bad("one time for several slots")
            }
            _ if self.stats.is_some() && self.value_type.is_none_or(|of| of == ValueType::Bytes) => {
                bad("statistics of what are no numbers")
            }
            _ => Ok(self),
        }
    }
    /// The public view.
    pub(super) fn header<'a>(&self, series: &'a [u8]) -> ChunkHeader<'a> {
        ChunkHeader {
            series,
            class: self.class,
            value_type: self.value_type,
            count: usize::from(self.count),
            first_time: self.first_time,
            last_time: self.last_time,
            seqno_min: Seqno(self.seqno_min),
            seqno_max: Seqno(self.seqno_min + self.seqno_range),
            has_deletes: self.has_deletes(),
            has_versions: self.has_versions,
            stats: self.stats.as_deref().copied(),
        }
    }
    /// Bytes of memory held.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.stats.as_ref().map_or(0, |_| size_of::<ChunkStats>())
    }
    fn has_deletes(&self) -> bool {
        let [_, _, kinds, _] = self.codecs;
        self.value_type.is_none() || kinds == Codec::Plain
    }
    fn body_of<'a>(&self, block: &'a [u8]) -> &'a [u8] {
        block.get(self.body.start as usize..self.body.end as usize).unwrap_or_default()
    }
    /// Appends the entries to `out`.
    pub(super) fn decode_entries(&self, block: &[u8], out: &mut Columns) -> Result<(), ColumnError> {
        let before = out.len();
        let result = self.decode_columns(block, out);
        // Half a chunk must not pass for entries: the columns would no longer be parallel.
        if result.is_err() {
            out.truncate(before);
        }
        result
    }
    fn decode_columns(&self, block: &[u8], out: &mut Columns) -> Result<(), ColumnError> {
        let mut reader = Reader::new(self.body_of(block));
        let [times, seqnos, kinds, values] = self.codecs;
        let count = usize::from(self.count);
        let parts = out.parts_mut();
        let start = parts.times.len();
        let (first_time, seqno_min) = (self.first_time, self.seqno_min);
        let duration = distance(first_time, self.last_time);
        decode_offsets(&mut reader, times, count, duration, parts.times, |offset| {
            first_time.wrapping_add_unsigned(offset)
        })?;
        decode_offsets(&mut reader, seqnos, count, self.seqno_range, parts.seqnos, |offset| {
            seqno_min.wrapping_add(offset)
        })?;
        self.check_order(
            parts.times.get(start..).unwrap_or_default(),
            parts.seqnos.get(start..).unwrap_or_default(),
        )?;
        let tag = self.value_type.map_or(TAG_DELETE, |value_type| value_type as u8);
        parts.tags.resize(start + count, tag);
        let tags = parts.tags.get_mut(start..).unwrap_or_default();
        let puts = if kinds == Codec::Plain { decode_kinds(&mut reader, tags)? } else { count };
        if self.stats.as_ref().is_some_and(|stats| stats.count as usize != puts) {
            return Err(ColumnError::Inconsistent("statistics of another number of values"));
        }
        match self.value_type {
            None => parts.bits.resize(start + count, 0),
            Some(ValueType::Bytes) => decode_bytes(&mut reader, values, puts, parts.bits, parts.heap)?,
            Some(number) => decode_numbers(&mut reader, values, puts, number, parts.bits)?,
        }
        if puts < count && self.value_type.is_some() {
            spread(parts.bits, start, tags);
        }
        if reader.left() == 0 {
            Ok(())
        } else {
            Err(ColumnError::Inconsistent("bytes after the last column"))
        }
    }
    fn check_order(&self, times: &[i64], seqnos: &[u64]) -> Result<(), ColumnError> {
        let bad = |what| Err(ColumnError::Inconsistent(what));
        if times.first() != Some(&self.first_time) || times.last() != Some(&self.last_time) {
            return bad("times that are not those of the header");
        }
        let seqno_max = self.seqno_min + self.seqno_range;
        if !seqnos.iter().all(|seqno| (self.seqno_min..=seqno_max).contains(seqno)) {
            return bad("seqnos that are not those of the header");
        }
        let ordered = if self.has_versions {
            times.iter().zip(seqnos).is_sorted_by(|a, b| a < b)
        } else {
            times.is_sorted_by(|a, b| a < b)
        };
        if ordered { Ok(()) } else { bad("entries out of order") }
    }
}

/// Marks the deletes; returns how many puts are left.
fn decode_kinds(reader: &mut Reader<'_>, tags: &mut [u8]) -> Result<usize, ColumnError> {
    let bitmap = reader.take(tags.len().div_ceil(8))?;
    let mut puts = tags.len();
    for (tags, byte) in tags.chunks_mut(8).zip(bitmap) {
        for (bit, tag) in (0..8).zip(tags) {
            if byte >> bit & 1 == 1 {
                *tag = TAG_DELETE;
                puts -= 1;
            }
        }
    }
    if puts == 0 { Err(ColumnError::Inconsistent("a value type without values")) } else { Ok(puts) }
}

fn decode_bytes(
    reader: &mut Reader<'_>,
    codec: Codec,
    count: usize,
    bits: &mut Vec<u64>,
    heap: &mut Vec<u8>,
) -> Result<(), ColumnError> {
    let expanded = if codec == Codec::Lz4 { codec::expand_bytes(reader)? } else { Vec::new() };
    let mut plain =
        if codec == Codec::Lz4 { Reader::new(&expanded) } else { Reader::new(reader.take(reader.left())?) };
    let mut lengths = Vec::new();
    if codec != Codec::Constant {
        decode_offsets(&mut plain, Codec::Plain, count, 0, &mut lengths, |length| length)?;
    }
    let bytes = plain.rest();
    let mut start = heap.len();
    if u32::try_from(start + bytes.len()).is_err() {
        return Err(ColumnError::Inconsistent("more value bytes than columns can hold"));
    }
    heap.extend_from_slice(bytes);
    if codec == Codec::Constant {
        bits.extend(std::iter::repeat_n(pack(start, bytes.len()), count));
        return Ok(());
    }
    for length in lengths {
        let length = usize::try_from(length).ok().filter(|length| *length <= heap.len() - start);
        let length = length.ok_or(ColumnError::Inconsistent("a value longer than the bytes left"))?;
        bits.push(pack(start, length));
        start += length;
    }
    if start == heap.len() { Ok(()) } else { Err(ColumnError::Inconsistent("bytes after the last value")) }
}

/// Moves the puts' values from the front of their stretch to the places of the puts; deletes get 0.
fn spread(bits: &mut Vec<u64>, start: usize, tags: &[u8]) {
    let values = bits.split_off(start);
    let mut values = values.into_iter();
    bits.extend(
        tags.iter().map(|tag| if *tag == TAG_DELETE { 0 } else { values.next().unwrap_or_default() }),
    );
}

/// Whether bytes can be a series key.
pub(super) fn is_series(bytes: &[u8]) -> bool {
    (1..=SERIES_BYTES_MAX).contains(&bytes.len())
}
