//! Entries into a chunk's bytes.

use super::super::codec::{self, Codec, Effort};
use super::super::meta::{TableMeta, put_bytes};
use super::{
    ChunkStats, SHAPE_STATS, SHAPE_TYPE_SHIFT, SHAPE_VERSIONS, STATS_ENTRIES_MIN, distance, shared_prefix,
};
use crate::encoding::{put_varint, put_zigzag};
use crate::limits::CHUNK_ENTRIES_MAX;
use crate::model::{EntryOp, Seqno, SlotClass, Value, ValueType};
use crate::storage::columns::{Columns, TAG_DELETE};
use std::ops::Range;

/// A chunk without its series: what is encoded before its place in a block is known.
#[derive(Debug, Default)]
pub(in super::super) struct EncodedChunk {
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
    pub(in super::super) fn bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }
    /// Counts its entries, which are of a class, into a table's description.
    pub(in super::super) fn note(&self, class: SlotClass, meta: &mut TableMeta) {
        meta.entries += self.entries;
        meta.metadata_entries += if class == SlotClass::Metadata { self.entries } else { 0 };
        meta.point_deletes += self.deletes;
        meta.seqno_min = meta.seqno_min.min(Seqno(self.seqnos.0));
        meta.seqno_max = meta.seqno_max.max(Seqno(self.seqnos.1));
    }
    /// Appends the chunk after one of `previous_series`.
    pub(in super::super) fn write(&self, out: &mut Vec<u8>, previous_series: &[u8], series: &[u8]) {
        let shared = shared_prefix(previous_series, series);
        put_varint(out, shared as u64);
        put_bytes(out, series.get(shared..).unwrap_or_default());
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&self.body);
    }
    /// Encodes entries `range`, which are in order, of one value type (`None`: all deletes) and at most
    /// `CHUNK_ENTRIES_MAX`.
    pub(in super::super) fn encode(
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
