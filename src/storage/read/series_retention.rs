//! Retention of a series: what lies too far behind its newest sample is hidden.
//!
//! It follows from what a view shows, the series' metadata and its newest sample; nothing else is kept of it. Writes
//! see to it that what was hidden stays so: whatever would move the edge back (another retention, a delete of the newest
//! sample) first logs a range delete of all that lies behind it.

use super::newest::{NewestSearch, newest};
use super::point::{Scratch, find_slot};
use super::{Blocks, Step, View};
use crate::model::{Slot, Value};
use crate::storage::series_metadata;
use crate::storage::sstable::TableError;

/// The earliest time that a series keeps; `None` when it has no retention or no sample. Blocks must stay at hand until
/// a call returns [`Step::Ready`].
///
/// # Errors
/// When a chunk is damaged.
pub fn kept_from(
    view: &View<'_>,
    series: &[u8],
    blocks: &mut dyn Blocks,
    scratch: &mut Scratch,
) -> Result<Step<Option<i64>>, TableError> {
    if !view.has_retentions() {
        return Ok(Step::Ready(None));
    }
    let retention = match find_slot(view, series, Slot::Metadata, blocks, scratch)? {
        Step::Need(missing) => return Ok(Step::Need(missing)),
        Step::Ready(None) => 0,
        Step::Ready(Some(found)) => match found.value {
            // What a newer tskv wrote is for that one to read: its commands on the series are refused.
            Value::Bytes(bytes) => series_metadata::decode(bytes).map_or(0, |options| options.retention),
            Value::F64(_) | Value::I64(_) => 0,
        },
    };
    if retention == 0 {
        return Ok(Step::Ready(None));
    }
    Ok(match newest(view, series, &mut NewestSearch::default(), blocks, scratch)? {
        Step::Need(missing) => Step::Need(missing),
        Step::Ready(found) => Step::Ready(found.map(|newest| edge_of(newest.time, retention))),
    })
}

/// The earliest time that a series with this newest sample keeps.
#[must_use]
pub fn edge_of(newest: i64, retention: u64) -> i64 {
    newest.saturating_sub_unsigned(retention)
}
