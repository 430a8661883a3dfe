//! A chunk's bytes into its header and entries.

use super::super::codec::{self, Codec, ColumnError, decode_numbers, decode_offsets};
use super::{
    ChunkHeader, ChunkStats, SHAPE_CLASS, SHAPE_STATS, SHAPE_TYPE_SHIFT, SHAPE_VERSIONS, SHAPE_ZERO, distance,
};
use crate::encoding::Reader;
use crate::limits::CHUNK_ENTRIES_MAX;
use crate::model::{Seqno, SlotClass, ValueType};
use crate::storage::columns::{Columns, TAG_DELETE, pack};

/// A chunk's header without its series. Blocks do not keep these: reading one takes tens of nanoseconds, while kept
/// they would outweigh the chunks of short series.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct ChunkHead {
    pub(in super::super) class: SlotClass,
    value_type: Option<ValueType>,
    count: u16,
    has_versions: bool,
    codecs: [Codec; 4],
    pub(in super::super) first_time: i64,
    pub(in super::super) last_time: i64,
    seqno_min: u64,
    seqno_range: u64,
    stats: Option<ChunkStats>,
    /// Where the body lies in what the reader reads.
    body_start: u32,
    body_bytes: u32,
}

impl ChunkHead {
    /// Reads a header and steps over the body.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "counts are at most CHUNK_ENTRIES_MAX, offsets BLOCK_BYTES_MAX"
    )]
    pub(in super::super) fn decode(reader: &mut Reader<'_>) -> Result<Self, ColumnError> {
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
        let stats = if shape & SHAPE_STATS == 0 { None } else { Some(ChunkStats::decode(reader)?) };
        let body_bytes = reader.count(reader.left())?;
        let body_start = reader.offset() as u32;
        reader.take(body_bytes)?;
        let head = Self {
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
            body_start,
            body_bytes: body_bytes as u32,
        };
        head.check()
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
    pub(in super::super) fn header<'a>(&self, series: &'a [u8]) -> ChunkHeader<'a> {
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
            stats: self.stats,
        }
    }
    fn has_deletes(&self) -> bool {
        let [_, _, kinds, _] = self.codecs;
        self.value_type.is_none() || kinds == Codec::Plain
    }
    /// Where the body begins in what the header was read from.
    pub(in super::super) fn body_start(&self) -> u32 {
        self.body_start
    }
    /// Appends the entries to `out`; `bytes` is what the header was read from.
    pub(in super::super) fn decode_entries(
        &self,
        bytes: &[u8],
        out: &mut Columns,
    ) -> Result<(), ColumnError> {
        let before = out.len();
        let start = self.body_start as usize;
        let body = bytes.get(start..start + self.body_bytes as usize).unwrap_or_default();
        let result = self.decode_columns(body, out);
        // Half a chunk must not pass for entries: the columns would no longer be parallel.
        if result.is_err() {
            out.truncate(before);
        }
        result
    }
    fn decode_columns(&self, body: &[u8], out: &mut Columns) -> Result<(), ColumnError> {
        let mut reader = Reader::new(body);
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
