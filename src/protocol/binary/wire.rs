//! Pieces that requests and responses share.
//!
//! ```text
//! bytes   varint length, bytes
//! slot    class u8 (0 metadata, 1 timeless, 2 time); for 2, time i64
//! value   type u8 (1 f64, 2 i64, 3 bytes); 8 bytes, or bytes
//! ```

use super::request::PayloadError;
use crate::encoding::{Reader, put_varint};
use crate::limits::SERIES_BYTES_MAX;
use crate::model::{Slot, SlotClass, Value, ValueType, check_series};

/// Appends a byte string.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a slot.
pub(super) fn put_slot(out: &mut Vec<u8>, slot: Slot) {
    out.push(slot.class() as u8);
    if let Slot::Time(time) = slot {
        out.extend_from_slice(&time.to_le_bytes());
    }
}

/// Appends a value with its type.
pub(super) fn put_value(out: &mut Vec<u8>, value: Value<'_>) {
    out.push(value.value_type() as u8);
    put_bare_value(out, value);
}

/// Appends a value whose type stands elsewhere.
pub(super) fn put_bare_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::F64(value) => out.extend_from_slice(&value.to_bits().to_le_bytes()),
        Value::I64(value) => out.extend_from_slice(&value.to_le_bytes()),
        Value::Bytes(bytes) => put_bytes(out, bytes),
    }
}

/// Reads a key that may name a series.
pub(super) fn series<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], PayloadError> {
    let series = reader.prefixed()?;
    check_series(series).map_err(PayloadError::Key)?;
    Ok(series)
}

/// Reads a prefix or bound of keys: may be empty, and one byte longer than any key.
pub(super) fn key_bound<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], PayloadError> {
    let bytes = reader.prefixed()?;
    match bytes.len() {
        bytes_found if bytes_found > SERIES_BYTES_MAX + 1 => {
            Err(PayloadError::Limit { what: "bytes of a key bound", max: SERIES_BYTES_MAX + 1 })
        }
        _ => Ok(bytes),
    }
}

/// Reads a class of slots.
pub(super) fn slot_class(reader: &mut Reader<'_>) -> Result<SlotClass, PayloadError> {
    let byte = reader.u8()?;
    SlotClass::from_byte(byte).ok_or(PayloadError::Field { what: "slot class", found: byte })
}

/// Reads a slot.
pub(super) fn slot(reader: &mut Reader<'_>) -> Result<Slot, PayloadError> {
    let class = slot_class(reader)?;
    Ok(match class {
        SlotClass::Time => Slot::Time(reader.i64()?),
        SlotClass::Metadata | SlotClass::Timeless => class.slot(0),
    })
}

/// Reads a type of values.
pub(super) fn value_type(reader: &mut Reader<'_>) -> Result<ValueType, PayloadError> {
    let byte = reader.u8()?;
    ValueType::from_byte(byte).ok_or(PayloadError::Field { what: "value type", found: byte })
}

/// Reads a value of at most `bytes_max` bytes.
pub(super) fn value<'a>(reader: &mut Reader<'a>, bytes_max: usize) -> Result<Value<'a>, PayloadError> {
    let kind = value_type(reader)?;
    bare_value(reader, kind, bytes_max)
}

/// Reads a value whose type stood elsewhere.
pub(super) fn bare_value<'a>(
    reader: &mut Reader<'a>,
    kind: ValueType,
    bytes_max: usize,
) -> Result<Value<'a>, PayloadError> {
    Ok(match kind {
        ValueType::F64 => Value::F64(f64::from_bits(reader.u64()?)),
        ValueType::I64 => Value::I64(reader.i64()?),
        ValueType::Bytes => {
            let bytes = reader.prefixed()?;
            if bytes.len() > bytes_max {
                return Err(PayloadError::Limit { what: "bytes of a value", max: bytes_max });
            }
            Value::Bytes(bytes)
        }
    })
}

/// A byte that is 0 or 1.
pub(super) fn flag(reader: &mut Reader<'_>, what: &'static str) -> Result<bool, PayloadError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(PayloadError::Field { what, found }),
    }
}

/// Refuses bytes behind the last field.
pub(super) fn end(reader: &Reader<'_>) -> Result<(), PayloadError> {
    match reader.left() {
        0 => Ok(()),
        bytes => Err(PayloadError::Trailing { bytes }),
    }
}
