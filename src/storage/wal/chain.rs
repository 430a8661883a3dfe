//! Whether the segments of a stream belong together: what one segment alone cannot tell.
//!
//! A segment is begun only after the one before is sealed and durable to its end, and says in its header how that one
//! ended. So of a stream's live segments, all but the last that left a trace must be sealed, and each must end as the
//! next one says. Any page of a segment's life is such a trace: its first write goes out after the seal's sync.
//!
//! A segment that the manifest no longer lists was retired: its records are in tables. The first segment after a
//! start has no previous one, since recovery retires everything before the first new write.

use super::error::WalError;
use super::replay::{ReplayInput, SegmentEnd};
use super::segment::PreviousSegment;
use crate::encoding::Corruption;

/// Checks one stream's live segments, in ascending order of their numbers.
///
/// # Errors
/// [`WalError::Damaged`] when a segment is missing, cut, or replaced by another or by an older version of itself.
///
/// # Panics
/// When the segments are not in order, or not of one stream.
pub fn check_chain(segments: &[(ReplayInput, SegmentEnd)]) -> Result<(), WalError> {
    for pair in segments.windows(2) {
        assert!(pair[0].0.seq < pair[1].0.seq, "segments ascend");
        assert!(pair[0].0.stream == pair[1].0.stream, "segments are of one stream");
    }
    let Some(last) = segments.iter().rposition(|(_, end)| !end.never_used) else { return Ok(()) };
    let (begun, newest) = (&segments[..last], &segments[last]);
    for (input, end) in begun {
        if !end.sealed {
            let expected = format!("a frame, since segment {:#x} was begun later", newest.0.seq.0);
            return Err(damaged(input, end.end_offset, expected, "none that is whole"));
        }
    }
    for pair in segments[..=last].windows(2) {
        check_link(&pair[0], &pair[1])?;
    }
    check_first(&segments[0])
}

fn check_link(older: &(ReplayInput, SegmentEnd), newer: &(ReplayInput, SegmentEnd)) -> Result<(), WalError> {
    let (input, end) = newer;
    let Some(header) = &end.header else { return Ok(()) }; // The newest, torn in its first write.
    let link = PreviousSegment { seq: older.0.seq, end: older.1.end_offset, crc: older.1.last_crc };
    match header.previous {
        Some(previous) if previous == link => Ok(()),
        // What lay between has been retired.
        Some(previous) if previous.seq > older.0.seq && previous.seq < input.seq => Ok(()),
        Some(previous) if previous.seq == older.0.seq => {
            Err(damaged(&older.0, 0, describe(Some(&previous)), describe(Some(&link))))
        }
        previous => Err(damaged(input, 0, describe(Some(&link)), describe(previous.as_ref()))),
    }
}

/// The oldest live segment may follow a retired one, which has a lower number.
fn check_first((input, end): &(ReplayInput, SegmentEnd)) -> Result<(), WalError> {
    match end.header.and_then(|header| header.previous) {
        Some(previous) if previous.seq >= input.seq => {
            Err(damaged(input, 0, "a link to an earlier segment", describe(Some(&previous))))
        }
        _ => Ok(()),
    }
}

fn describe(previous: Option<&PreviousSegment>) -> String {
    match previous {
        Some(PreviousSegment { seq, end, crc }) => {
            format!("segment {:#x} before, ending at {end} with crc {crc:#010x}", seq.0)
        }
        None => "no segment before".to_owned(),
    }
}

fn damaged(
    input: &ReplayInput,
    offset: u64,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> WalError {
    WalError::Damaged(Corruption::new(&input.file, offset, expected, found))
}
