//! Reads one segment back: its records up to the first frame that is not whole.

use super::error::WalError;
use super::record::Record;
use super::segment::SegmentHeader;
use crate::model::{SegmentSeq, Seqno, StoreId, StreamId};
use crate::storage::byte_source::ByteSource;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// What the manifest knows of a segment.
#[derive(Clone, Debug)]
pub struct ReplayInput {
    /// The segment.
    pub seq: SegmentSeq,
    /// Its stream.
    pub stream: StreamId,
    /// Random number of this life of the file.
    pub salt: u64,
    /// Length of the segment.
    pub bytes: u64,
    /// Its file, as errors name it.
    pub file: PathBuf,
}

/// How far a segment goes.
#[derive(Clone, Debug, Default)]
pub struct SegmentEnd {
    /// No page of this life was found: the segment was ready, nothing more.
    pub never_used: bool,
    /// Page 0, where it is whole.
    pub header: Option<SegmentHeader>,
    /// It was closed: nothing can follow in this segment.
    pub sealed: bool,
    /// Bytes up to the end of the last whole frame.
    pub end_offset: u64,
    /// Checksum of the last whole frame.
    pub last_crc: u32,
    /// Bytes after `end_offset` that belong to frames which are not whole, or follow one that is not: cut off.
    pub torn_bytes: u64,
    /// Lowest and highest seqno of the records.
    pub seqnos: Option<(Seqno, Seqno)>,
    /// Whole frames, the seal frame included.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
}

/// Visits the records of a segment in the order they were written.
///
/// # Errors
/// [`WalError::Damaged`] when something that was durable is not there; records before it have been visited.
pub fn replay_segment(
    store: StoreId,
    input: &ReplayInput,
    source: &mut dyn ByteSource,
    visit: &mut dyn FnMut(Seqno, Record<'_>) -> ControlFlow<()>,
) -> Result<SegmentEnd, WalError> {
    let _ = (store, input, source, visit);
    todo!()
}
