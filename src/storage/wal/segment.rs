//! A segment: one life of a WAL file, and its header page.

use crate::model::{FileRef, SegmentSeq, StoreId, StreamId};

/// A pre-written file that is ready to become a stream's next segment. Its name, salt and length are in the manifest.
#[derive(Clone, Debug)]
pub struct SegmentSpec {
    /// Number of this life; segments of one stream are used in ascending order.
    pub seq: SegmentSeq,
    /// Random number of this life.
    pub salt: u64,
    /// Length of the file, a multiple of [`crate::limits::PAGE_BYTES`].
    pub bytes: u64,
    /// The file.
    pub file: FileRef,
    /// Whether O_DIRECT is in force. The bytes written are the same.
    pub direct: bool,
}

/// Where the segment before ended: what links the segments of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreviousSegment {
    /// Its number.
    pub seq: SegmentSeq,
    /// Bytes up to the end of its seal frame.
    pub end: u64,
    /// Checksum of its seal frame.
    pub crc: u32,
}

/// Page 0 of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Store that the segment belongs to.
    pub store: StoreId,
    /// Stream that the segment belongs to.
    pub stream: StreamId,
    /// Number of this life.
    pub seq: SegmentSeq,
    /// Random number of this life.
    pub salt: u64,
    /// Length of the segment.
    pub bytes: u64,
    /// The segment before; none for the first after a start.
    pub previous: Option<PreviousSegment>,
}

/// Largest [`record_bytes`](super::record_bytes) sum of one record or batch that a segment of `segment_bytes` takes
/// when it is empty, with the part kept for deletes left alone. Larger ones are refused for good.
#[must_use]
pub fn record_bytes_max(segment_bytes: u64) -> usize {
    let _ = segment_bytes;
    todo!()
}
