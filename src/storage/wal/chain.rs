//! Whether the segments of a stream belong together: what one segment alone cannot tell.

use super::error::WalError;
use super::replay::{ReplayInput, SegmentEnd};

/// Checks one stream's live segments, in ascending order of their numbers.
///
/// # Errors
/// [`WalError::Damaged`] when a segment is missing, cut or replaced.
pub fn check_chain(segments: &[(ReplayInput, SegmentEnd)]) -> Result<(), WalError> {
    let _ = segments;
    todo!()
}
