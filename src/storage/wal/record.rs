//! One write of the log: what was put or deleted, with its seqno.
//!
//! ```text
//! kind byte     bits 0-2  operation: 1 put, 2 delete slot, 3 delete time range, 4 delete series,
//!                                    5 delete prefix, 6 delete all, 7 delete keys
//!               bits 3-4  slot class (put, delete slot), else 0
//!               bits 5-6  value type (put), else 0
//!               bit  7    the series is that of the record before: its bytes are left out
//! seqno         varint: difference to the record before, or to the frame's base
//! series        length varint, bytes (operations 1 to 4); the prefix (operation 5); the first key (operation 7)
//! end           varint: 0 for none, else the length plus one, then the bytes (operation 7)
//! time          zigzag varint: difference to the time before it in the frame, wrapping (slot class time;
//!               two of them for a time range: from, to)
//! value         f64: 8 bytes; i64: zigzag varint; bytes: length varint, bytes
//! ```
//! What a record leaves to the next one (seqno, time, series) starts anew with every frame, so that each frame reads
//! alone. Golden bytes: `tests/golden/wal_segment_v1.hex`.
#![deny(clippy::indexing_slicing)]

use crate::encoding::{ReadError, Reader, VARINT_BYTES_MAX, put_varint, put_zigzag, varint_bytes};
use crate::limits::{SERIES_BYTES_MAX, VALUE_BYTES_CEILING};
use crate::model::{DeleteScope, KeyError, Seqno, Slot, SlotClass, Value, ValueType, check_series};
use std::fmt;
use std::ops::Range;

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// Stores a value.
    Put { series: &'a [u8], slot: Slot, value: Value<'a> },
    /// Removes what is older at one slot.
    DeleteSlot { series: &'a [u8], slot: Slot },
    /// Removes what is older in a range.
    Delete(DeleteScope<'a>),
    /// Removes what is older of all series from `start` on and below `end`: what a shard writes for a delete of many
    /// keys, cut to the keys that it owns at that moment, so that a replay need not know who owned what.
    DeleteKeys { start: &'a [u8], end: Option<&'a [u8]> },
}

const PUT: u8 = 1;
const DELETE_SLOT: u8 = 2;
const DELETE_TIME_RANGE: u8 = 3;
const DELETE_SERIES: u8 = 4;
const DELETE_PREFIX: u8 = 5;
const DELETE_ALL: u8 = 6;
const DELETE_KEYS: u8 = 7;
const OPERATION_MASK: u8 = 0b0000_0111;
const CLASS_SHIFT: u32 = 3;
const TYPE_SHIFT: u32 = 5;
const SAME_SERIES: u8 = 0b1000_0000;
const _: () = assert!((SlotClass::Time as u8) < 4, "a slot class fits two bits");
const _: () = assert!((ValueType::Bytes as u8) < 4, "a value type fits two bits");

/// Kind byte, seqno, two times and the length of a series.
const OVERHEAD_BYTES_MAX: usize = 1 + 3 * VARINT_BYTES_MAX + 2;
const _: () = assert!(SERIES_BYTES_MAX < 1 << 14, "the length of a series fits two bytes");

/// Bytes that the record may take in the log, at most: what admission and batches count with.
#[must_use]
pub fn record_bytes(record: &Record<'_>) -> usize {
    OVERHEAD_BYTES_MAX
        + match *record {
            Record::Put { series, value, .. } => series.len() + value_bytes_max(value),
            Record::DeleteSlot { series, .. }
            | Record::Delete(DeleteScope::TimeRange { series, .. } | DeleteScope::Series { series }) => {
                series.len()
            }
            Record::Delete(DeleteScope::Prefix { prefix }) => prefix.len(),
            Record::Delete(DeleteScope::All) => 0,
            Record::DeleteKeys { start, end } => start.len() + end.map_or(0, <[u8]>::len),
        }
}

fn value_bytes_max(value: Value<'_>) -> usize {
    match value {
        Value::F64(_) | Value::I64(_) => VARINT_BYTES_MAX,
        Value::Bytes(bytes) => varint_bytes(bytes.len() as u64) + bytes.len(),
    }
}

impl Record<'_> {
    /// Whether it removes rather than stores.
    #[must_use]
    pub fn is_delete(&self) -> bool {
        !matches!(self, Self::Put { .. })
    }
}

/// Appends the records of one frame.
#[derive(Debug, Default)]
pub(super) struct RecordEncoder {
    seqno: u64,
    time: i64,
    /// Where the frame's payload has the series of the record before; empty where there is none.
    series: Range<usize>,
}

impl RecordEncoder {
    /// For a frame whose first record has this seqno.
    pub(super) fn new(base: Seqno) -> Self {
        Self { seqno: base.0, time: 0, series: 0..0 }
    }
    /// Appends a record to the frame's payload.
    ///
    /// # Panics
    /// When a key or value is outside its limits, or the seqno below the one before.
    pub(super) fn put(&mut self, payload: &mut Vec<u8>, seqno: Seqno, record: &Record<'_>) {
        match *record {
            Record::Put { series, slot, value } => {
                let kind = PUT | slot_bits(slot) | (value.value_type() as u8) << TYPE_SHIFT;
                self.put_head(payload, kind, seqno, series);
                self.put_slot(payload, slot);
                put_value(payload, value);
            }
            Record::DeleteSlot { series, slot } => {
                self.put_head(payload, DELETE_SLOT | slot_bits(slot), seqno, series);
                self.put_slot(payload, slot);
            }
            Record::Delete(DeleteScope::TimeRange { series, from, to }) => {
                self.put_head(payload, DELETE_TIME_RANGE, seqno, series);
                self.put_time(payload, from);
                self.put_time(payload, to);
            }
            Record::Delete(DeleteScope::Series { series }) => {
                self.put_head(payload, DELETE_SERIES, seqno, series);
            }
            Record::Delete(DeleteScope::Prefix { prefix }) => {
                assert!(prefix.len() <= SERIES_BYTES_MAX, "prefix of {} bytes", prefix.len());
                payload.push(DELETE_PREFIX);
                self.put_seqno(payload, seqno);
                put_varint(payload, prefix.len() as u64);
                payload.extend_from_slice(prefix);
            }
            Record::Delete(DeleteScope::All) => {
                payload.push(DELETE_ALL);
                self.put_seqno(payload, seqno);
            }
            Record::DeleteKeys { start, end } => {
                let end_bytes = end.map_or(0, <[u8]>::len);
                assert!(start.len() <= SERIES_BYTES_MAX, "first key of {} bytes", start.len());
                assert!(end_bytes <= SERIES_BYTES_MAX, "end key of {end_bytes} bytes");
                payload.push(DELETE_KEYS);
                self.put_seqno(payload, seqno);
                put_varint(payload, start.len() as u64);
                payload.extend_from_slice(start);
                put_varint(payload, end.map_or(0, |end| end.len() as u64 + 1));
                payload.extend_from_slice(end.unwrap_or_default());
            }
        }
    }
    #[inline]
    fn put_head(&mut self, payload: &mut Vec<u8>, kind: u8, seqno: Seqno, series: &[u8]) {
        assert!(!series.is_empty(), "a series has a key");
        assert!(series.len() <= SERIES_BYTES_MAX, "series key of {} bytes", series.len());
        let same = payload.get(self.series.clone()) == Some(series);
        payload.push(if same { kind | SAME_SERIES } else { kind });
        self.put_seqno(payload, seqno);
        if !same {
            put_varint(payload, series.len() as u64);
            self.series = payload.len()..payload.len() + series.len();
            payload.extend_from_slice(series);
        }
    }
    #[inline]
    fn put_seqno(&mut self, payload: &mut Vec<u8>, seqno: Seqno) {
        assert!(seqno.0 >= self.seqno, "seqno {} comes after {}", seqno.0, self.seqno);
        put_varint(payload, seqno.0 - self.seqno);
        self.seqno = seqno.0;
    }
    #[inline]
    fn put_slot(&mut self, payload: &mut Vec<u8>, slot: Slot) {
        if let Slot::Time(time) = slot {
            self.put_time(payload, time);
        }
    }
    #[inline]
    fn put_time(&mut self, payload: &mut Vec<u8>, time: i64) {
        put_zigzag(payload, time.wrapping_sub(self.time));
        self.time = time;
    }
}

fn slot_bits(slot: Slot) -> u8 {
    (slot.class() as u8) << CLASS_SHIFT
}

fn put_value(payload: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::F64(value) => payload.extend_from_slice(&value.to_bits().to_le_bytes()),
        Value::I64(value) => put_zigzag(payload, value),
        Value::Bytes(bytes) => {
            assert!(bytes.len() <= VALUE_BYTES_CEILING, "value of {} bytes", bytes.len());
            put_varint(payload, bytes.len() as u64);
            payload.extend_from_slice(bytes);
        }
    }
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordError {
    /// They end too early, or a number in them is malformed.
    Read(ReadError),
    /// No record has this kind byte.
    KindUnknown { kind: u8 },
    /// The key of a series is outside its limits.
    Series(KeyError),
    /// A prefix or value is longer than any may be.
    TooLong { bytes: usize, bytes_max: usize },
    /// The series of the record before is meant, and there is none.
    SeriesMissing,
    /// Seqnos do not fit 64 bits.
    SeqnoOverflow,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::KindUnknown { kind } => write!(f, "unknown record kind {kind:#04x}"),
            Self::Series(error) => error.fmt(f),
            Self::TooLong { bytes, bytes_max } => {
                write!(f, "{bytes} bytes where at most {bytes_max} are allowed")
            }
            Self::SeriesMissing => write!(f, "a record that repeats the series of none before it"),
            Self::SeqnoOverflow => write!(f, "a seqno beyond 64 bits"),
        }
    }
}

impl From<ReadError> for RecordError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Reads the records of one frame. Allocates nothing and never panics, whatever the bytes.
#[derive(Debug)]
pub(super) struct RecordDecoder<'a> {
    reader: Reader<'a>,
    seqno: u64,
    time: i64,
    series: &'a [u8],
}

impl<'a> RecordDecoder<'a> {
    /// For a frame whose header names this base.
    pub(super) fn new(payload: &'a [u8], base: Seqno) -> Self {
        Self { reader: Reader::new(payload), seqno: base.0, time: 0, series: &[] }
    }
    /// Bytes read so far.
    pub(super) fn offset(&self) -> usize {
        self.reader.offset()
    }
    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// When the bytes are not what [`RecordEncoder`] writes.
    pub(super) fn next_record(&mut self) -> Result<Option<(Seqno, Record<'a>)>, RecordError> {
        if self.reader.left() == 0 {
            return Ok(None);
        }
        let kind = self.reader.u8()?;
        let delta = self.reader.varint()?;
        self.seqno = self.seqno.checked_add(delta).ok_or(RecordError::SeqnoOverflow)?;
        let record = self.record(kind)?;
        Ok(Some((Seqno(self.seqno), record)))
    }
    fn record(&mut self, kind: u8) -> Result<Record<'a>, RecordError> {
        let same = kind & SAME_SERIES != 0;
        let class = SlotClass::from_byte(kind >> CLASS_SHIFT & 0b11);
        let value_type = kind >> TYPE_SHIFT & 0b11;
        // Bits that an operation does not use are zero: one record has one encoding.
        let plain = kind & !SAME_SERIES == kind & OPERATION_MASK;
        match (kind & OPERATION_MASK, class, ValueType::from_byte(value_type)) {
            (PUT, Some(class), Some(value_type)) => {
                let (series, slot) = (self.series(same)?, self.slot(class)?);
                Ok(Record::Put { series, slot, value: self.value(value_type)? })
            }
            (DELETE_SLOT, Some(class), None) if value_type == 0 => {
                Ok(Record::DeleteSlot { series: self.series(same)?, slot: self.slot(class)? })
            }
            (DELETE_TIME_RANGE, ..) if plain => {
                let (series, from) = (self.series(same)?, self.time()?);
                Ok(Record::Delete(DeleteScope::TimeRange { series, from, to: self.time()? }))
            }
            (DELETE_SERIES, ..) if plain => {
                Ok(Record::Delete(DeleteScope::Series { series: self.series(same)? }))
            }
            (DELETE_PREFIX, ..) if plain && !same => {
                let prefix = bounded(self.reader.prefixed()?, SERIES_BYTES_MAX)?;
                Ok(Record::Delete(DeleteScope::Prefix { prefix }))
            }
            (DELETE_ALL, ..) if plain && !same => Ok(Record::Delete(DeleteScope::All)),
            (DELETE_KEYS, ..) if plain && !same => {
                let start = bounded(self.reader.prefixed()?, SERIES_BYTES_MAX)?;
                Ok(Record::DeleteKeys { start, end: self.end_key()? })
            }
            _ => Err(RecordError::KindUnknown { kind }),
        }
    }
    fn series(&mut self, same: bool) -> Result<&'a [u8], RecordError> {
        if !same {
            let series = self.reader.prefixed()?;
            check_series(series).map_err(RecordError::Series)?;
            self.series = series;
        }
        if self.series.is_empty() { Err(RecordError::SeriesMissing) } else { Ok(self.series) }
    }
    fn end_key(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        let Some(bytes) = self.reader.count(SERIES_BYTES_MAX + 1)?.checked_sub(1) else { return Ok(None) };
        Ok(Some(self.reader.take(bytes)?))
    }
    fn slot(&mut self, class: SlotClass) -> Result<Slot, RecordError> {
        Ok(match class {
            SlotClass::Time => Slot::Time(self.time()?),
            SlotClass::Metadata | SlotClass::Timeless => class.slot(0),
        })
    }
    fn time(&mut self) -> Result<i64, RecordError> {
        self.time = self.time.wrapping_add(self.reader.zigzag()?);
        Ok(self.time)
    }
    fn value(&mut self, value_type: ValueType) -> Result<Value<'a>, RecordError> {
        Ok(match value_type {
            ValueType::F64 => Value::F64(f64::from_bits(self.reader.u64()?)),
            ValueType::I64 => Value::I64(self.reader.zigzag()?),
            ValueType::Bytes => Value::Bytes(bounded(self.reader.prefixed()?, VALUE_BYTES_CEILING)?),
        })
    }
}

fn bounded(bytes: &[u8], bytes_max: usize) -> Result<&[u8], RecordError> {
    if bytes.len() <= bytes_max {
        Ok(bytes)
    } else {
        Err(RecordError::TooLong { bytes: bytes.len(), bytes_max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

    /// A record that owns its bytes, for generating.
    #[derive(Clone, Debug)]
    enum Owned {
        Put(Vec<u8>, Slot, crate::model::OwnedValue),
        DeleteSlot(Vec<u8>, Slot),
        TimeRange(Vec<u8>, i64, i64),
        Series(Vec<u8>),
        Prefix(Vec<u8>),
        All,
        Keys(Vec<u8>, Option<Vec<u8>>),
    }

    impl Owned {
        fn record(&self) -> Record<'_> {
            match self {
                Self::Put(series, slot, value) => Record::Put { series, slot: *slot, value: value.borrow() },
                Self::DeleteSlot(series, slot) => Record::DeleteSlot { series, slot: *slot },
                Self::TimeRange(series, from, to) => {
                    Record::Delete(DeleteScope::TimeRange { series, from: *from, to: *to })
                }
                Self::Series(series) => Record::Delete(DeleteScope::Series { series }),
                Self::Prefix(prefix) => Record::Delete(DeleteScope::Prefix { prefix }),
                Self::All => Record::Delete(DeleteScope::All),
                Self::Keys(start, end) => Record::DeleteKeys { start, end: end.as_deref() },
            }
        }
    }

    fn owned() -> impl Strategy<Value = Owned> {
        use crate::model::OwnedValue;
        let series = || {
            prop_oneof![
                Just(b"cpu".to_vec()),
                Just(vec![0xff; SERIES_BYTES_MAX]),
                proptest::collection::vec(any::<u8>(), 1..40)
            ]
        };
        let slot = || {
            prop_oneof![
                Just(Slot::Metadata),
                Just(Slot::Timeless),
                any::<i64>().prop_map(Slot::Time),
                (0i64..1000).prop_map(Slot::Time)
            ]
        };
        let value = prop_oneof![
            any::<u64>().prop_map(|bits| OwnedValue::F64(f64::from_bits(bits))),
            any::<i64>().prop_map(OwnedValue::I64),
            proptest::collection::vec(any::<u8>(), 0..300)
                .prop_map(|bytes| OwnedValue::Bytes(bytes.into_boxed_slice())),
        ];
        prop_oneof![
            6 => (series(), slot(), value).prop_map(|(series, slot, value)| Owned::Put(series, slot, value)),
            1 => (series(), slot()).prop_map(|(series, slot)| Owned::DeleteSlot(series, slot)),
            1 => (series(), any::<i64>(), any::<i64>()).prop_map(|(s, from, to)| Owned::TimeRange(s, from, to)),
            1 => series().prop_map(Owned::Series),
            1 => proptest::collection::vec(any::<u8>(), 0..5).prop_map(Owned::Prefix),
            1 => Just(Owned::All),
            1 => (proptest::collection::vec(any::<u8>(), 0..5), proptest::option::of(series()))
                .prop_map(|(start, end)| Owned::Keys(start, end)),
        ]
    }

    proptest! {
        #[test]
        fn records_come_back_as_they_were_put(
            records in proptest::collection::vec((owned(), 0u64..1 << 40), 1..30),
            base in any::<u32>(),
        ) {
            // What replay reads is what is served after a crash.
            let (mut payload, mut seqno) = (Vec::new(), u64::from(base));
            let mut encoder = RecordEncoder::new(Seqno(seqno));
            for (owned, delta) in &records {
                seqno += delta;
                let before = payload.len();
                encoder.put(&mut payload, Seqno(seqno), &owned.record());
                assert!(payload.len() - before <= record_bytes(&owned.record()), "admission counted too little");
            }
            let (mut decoder, mut seqno) = (RecordDecoder::new(&payload, Seqno(u64::from(base))), u64::from(base));
            for (owned, delta) in &records {
                seqno += delta;
                assert_eq!(decoder.next_record(), Ok(Some((Seqno(seqno), owned.record()))));
            }
            assert_eq!(decoder.next_record(), Ok(None));
        }

        #[test]
        fn hostile_bytes_end_in_an_error_or_in_records(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // A panic in replay would keep a store closed for ever.
            let mut decoder = RecordDecoder::new(&bytes, Seqno(u64::MAX - 3));
            while let Ok(Some(_)) = decoder.next_record() {}
            assert!(decoder.offset() <= bytes.len());
        }
    }

    #[test]
    fn impossible_kinds_and_lengths_are_refused() {
        // A record that reads as another one is wrong data with a right checksum.
        let cases: [(&[u8], RecordError); 8] = [
            (&[0, 0], RecordError::KindUnknown { kind: 0 }),
            (&[DELETE_KEYS | SAME_SERIES, 0], RecordError::KindUnknown { kind: 0x87 }),
            (&[PUT | 3 << CLASS_SHIFT | 1 << TYPE_SHIFT, 0], RecordError::KindUnknown { kind: 0x39 }),
            (&[PUT, 0], RecordError::KindUnknown { kind: PUT }),
            (&[DELETE_SERIES | 1 << TYPE_SHIFT, 0], RecordError::KindUnknown { kind: 0x24 }),
            (&[DELETE_ALL | SAME_SERIES, 0], RecordError::KindUnknown { kind: 0x86 }),
            (&[DELETE_SERIES, 0, 0], RecordError::Series(KeyError::Empty)),
            (&[DELETE_SERIES | SAME_SERIES, 0], RecordError::SeriesMissing),
        ];
        for (bytes, error) in cases {
            assert_eq!(RecordDecoder::new(bytes, Seqno(1)).next_record(), Err(error), "{bytes:02x?}");
        }
        let overflow = RecordDecoder::new(&[DELETE_ALL, 1], Seqno(u64::MAX)).next_record();
        assert_eq!(overflow, Err(RecordError::SeqnoOverflow));
    }

    #[test]
    fn a_run_of_one_series_costs_twelve_bytes_a_sample() {
        // The log is written on the latency path of every put: its size is the throughput of an import.
        let mut payload = Vec::new();
        let mut encoder = RecordEncoder::new(Seqno(1));
        let put = |encoder: &mut RecordEncoder, payload: &mut Vec<u8>, n: u64| {
            let slot = Slot::Time(1_700_000_000_000 + n.cast_signed());
            let record = Record::Put { series: b"cpu.load", slot, value: Value::F64(0.5) };
            encoder.put(payload, Seqno(n), &record);
        };
        put(&mut encoder, &mut payload, 1);
        let first = payload.len();
        (2..1002).for_each(|n| put(&mut encoder, &mut payload, n));
        assert!(payload.len() - first <= 12_000, "{} bytes", payload.len() - first);
    }
}
