//! What a segment holds page by page, damaged or not: for `tskv dump`, and for the account of what a repair sets aside.
//!
//! Frames start on pages, so after damage reading goes on at the next page that holds a frame of the same life.
//! Nothing here decides what is in force: that is for `replay` and `chain`.
#![deny(clippy::indexing_slicing)]

use super::error::WalError;
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use super::record::{Record, RecordDecoder};
use super::replay::{ReplayInput, Window};
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::encoding::{Corruption, checksum};
use crate::limits::PAGE_BYTES;
use crate::model::{SegmentSeq, Seqno};
use crate::storage::byte_source::ByteSource;
use std::ops::ControlFlow;
use std::path::Path;

/// A frame whose header is sound.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    /// Where it starts.
    pub offset: u64,
    /// First byte behind its pages.
    pub end: u64,
    /// It closes the segment.
    pub seal: bool,
    /// How many records it says it has.
    pub records: u32,
    /// Seqno of the first of them.
    pub base_seqno: Seqno,
    /// Bytes of the segment that were known durable when it was made.
    pub durable_off: u64,
    payload: Result<&'a [u8], (u32, u32)>,
}

impl FrameView<'_> {
    /// Whether its payload is what was written.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.payload.is_ok()
    }
    /// Visits its records in the order they were written, as far as they can be read.
    ///
    /// # Errors
    /// When its payload is damaged. `file` names the segment.
    pub fn visit(
        &self,
        file: &Path,
        visit: &mut dyn FnMut(Seqno, Record<'_>) -> ControlFlow<()>,
    ) -> Result<(), Corruption> {
        let payload = self
            .payload
            .map_err(|(expected, found)| Corruption::checksum(file, self.offset, expected, found))?;
        let mut decoder = RecordDecoder::new(payload, self.base_seqno);
        for _ in 0..self.records {
            let at = self.offset + (FRAME_HEADER_BYTES + decoder.offset()) as u64;
            match decoder.next_record() {
                Ok(Some((seqno, record))) => {
                    if visit(seqno, record).is_break() {
                        return Ok(());
                    }
                }
                Ok(None) => return Err(Corruption::new(file, at, "a record", "end of the frame's records")),
                Err(error) => return Err(Corruption::new(file, at, "a record", error.to_string())),
            }
        }
        Ok(())
    }
}

/// Visits every frame of this life at or behind `offset`, whatever lies between them.
///
/// # Errors
/// [`WalError::Read`]; [`WalError::Stopped`] when `visit` breaks.
pub fn scan_frames(
    input: &ReplayInput,
    source: &mut dyn ByteSource,
    offset: u64,
    visit: &mut dyn FnMut(FrameView<'_>) -> ControlFlow<()>,
) -> Result<(), WalError> {
    let page = PAGE_BYTES as u64;
    let end = input.bytes.min(source.bytes());
    let mut window = Window::new(source);
    let mut offset = offset.next_multiple_of(page).max(page);
    while offset < end {
        let Ok(number) = u32::try_from(offset / page) else { return Ok(()) };
        let bytes = window.bytes(input, offset, FRAME_HEADER_BYTES)?;
        let Some((header, _)) = FrameHeader::decode(bytes, input.life(), number) else {
            offset += page;
            continue;
        };
        let count = FRAME_HEADER_BYTES + header.payload_bytes as usize;
        let payload = window.bytes(input, offset, count)?.get(FRAME_HEADER_BYTES..).unwrap_or_default();
        let found = checksum(payload);
        let view = FrameView {
            offset,
            end: header.end(),
            seal: header.kind == FrameKind::Seal,
            records: header.records,
            base_seqno: header.base_seqno,
            durable_off: header.durable_off,
            payload: if found == header.payload_crc { Ok(payload) } else { Err((header.payload_crc, found)) },
        };
        // A frame whose payload is damaged may lie about nothing but that: its header has a checksum of its own.
        let next = header.end();
        if visit(view).is_break() {
            return Err(WalError::Stopped);
        }
        offset = next;
    }
    Ok(())
}

/// Which life of a segment file this is, told by the file alone: from its header page, else from any frame that
/// carries the number of its name. `None` when it was never written to in this life, or nothing of it is left.
///
/// # Errors
/// [`WalError::Read`].
pub fn find_life(
    seq: SegmentSeq,
    file: &Path,
    source: &mut dyn ByteSource,
) -> Result<Option<(ReplayInput, Option<SegmentHeader>)>, WalError> {
    let page = PAGE_BYTES as u64;
    let file_bytes = source.bytes();
    let mut input =
        ReplayInput { seq, stream: Default::default(), salt: 0, bytes: file_bytes, file: file.into() };
    let mut window = Window::new(source);
    let bytes = window.bytes(&input, 0, SEGMENT_HEADER_BYTES)?;
    if let Some(found) = SegmentHeader::decode(bytes).filter(|found| found.header.seq == seq) {
        return Ok(Some((found.header.replay_input(file.into()), Some(found.header))));
    }
    let mut offset = page;
    while offset < file_bytes {
        let Ok(number) = u32::try_from(offset / page) else { break };
        let bytes = window.bytes(&input, offset, FRAME_HEADER_BYTES)?;
        if let Some(life) = FrameHeader::life(bytes, number).filter(|life| life.seq == seq) {
            (input.stream, input.salt) = (life.stream, life.salt);
            return Ok(Some((input, None)));
        }
        offset += page;
    }
    Ok(None)
}
