//! Slots, values, records and spans in words.

use crate::model::{DeleteScope, Slot, SlotClass, Value};
use crate::storage::wal::Record;
use std::fmt;

/// Bytes of a byte value that are shown.
const VALUE_BYTES_SHOWN: usize = 60;

/// A table's span.
pub(super) struct Span(pub(super) Option<(i64, i64)>);
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((start, end)) => write!(f, "span {start}..={end}"),
            None => f.write_str("no span"),
        }
    }
}

/// A slot in words.
pub(super) struct SlotText(pub(super) Slot);
impl fmt::Display for SlotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Slot::Metadata => f.write_str("metadata"),
            Slot::Timeless => f.write_str("timeless"),
            Slot::Time(time) => write!(f, "{time}"),
        }
    }
}

/// A slot class in words.
pub(super) struct ClassText(pub(super) SlotClass);
impl fmt::Display for ClassText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            SlotClass::Metadata => "metadata",
            SlotClass::Timeless => "timeless",
            SlotClass::Time => "samples",
        })
    }
}

/// A value, cut where it is long.
pub(super) struct ValueText<'a>(pub(super) Value<'a>);
impl fmt::Display for ValueText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::F64(number) => write!(f, "f64 {number:?}"),
            Value::I64(number) => write!(f, "i64 {number}"),
            Value::Bytes(bytes) => match bytes.get(..VALUE_BYTES_SHOWN) {
                Some(start) => write!(f, "{} bytes '{}'…", bytes.len(), start.escape_ascii()),
                None => write!(f, "{} bytes '{}'", bytes.len(), bytes.escape_ascii()),
            },
        }
    }
}

/// A record of the log.
pub(super) struct RecordText<'a>(pub(super) Record<'a>);
impl fmt::Display for RecordText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Record::Put { series, slot, value } => {
                write!(f, "put '{}' {} = {}", series.escape_ascii(), SlotText(slot), ValueText(value))
            }
            Record::DeleteSlot { series, slot } => {
                write!(f, "delete '{}' {}", series.escape_ascii(), SlotText(slot))
            }
            Record::Delete(DeleteScope::TimeRange { series, from, to }) => {
                write!(f, "delete '{}' times {from}..={to}", series.escape_ascii())
            }
            Record::Delete(DeleteScope::Series { series }) => {
                write!(f, "delete series '{}'", series.escape_ascii())
            }
            Record::Delete(DeleteScope::Prefix { prefix }) => {
                write!(f, "delete prefix '{}'", prefix.escape_ascii())
            }
            Record::Delete(DeleteScope::All) => f.write_str("delete everything"),
            Record::DeleteKeys { start, end: Some(end) } => {
                write!(f, "delete keys '{}'..'{}'", start.escape_ascii(), end.escape_ascii())
            }
            Record::DeleteKeys { start, end: None } => {
                write!(f, "delete keys from '{}' on", start.escape_ascii())
            }
        }
    }
}
