//! One write of the log: what was put or deleted, with its seqno.

use crate::model::{DeleteScope, Slot, Value};

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// Stores a value.
    Put { series: &'a [u8], slot: Slot, value: Value<'a> },
    /// Removes what is older at one slot.
    DeleteSlot { series: &'a [u8], slot: Slot },
    /// Removes what is older in a range.
    Delete(DeleteScope<'a>),
}

/// Bytes that the record may take in the log, at most: what admission and batches count with.
#[must_use]
pub fn record_bytes(record: &Record<'_>) -> usize {
    let _ = record;
    todo!()
}
