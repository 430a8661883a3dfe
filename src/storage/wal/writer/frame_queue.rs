//! Frames on their way to the device, in stream order.
//!
//! The front of the queue is issued, at most `writes_in_flight` frames of it; a frame leaves when it and all before it
//! are written. A frame keeps its payload until then, since what a short write left must be issued again.

use super::super::frame::{FRAME_HEADER_BYTES, FrameKind, frame_pages};
use super::super::segment::SEGMENT_HEADER_BYTES;
use super::placement::Plan;
use crate::limits::{PAGE_BYTES, WAL_FRAME_BYTES_TARGET};
use crate::model::{SegmentSeq, Seqno};
use crate::teeth::{Bug, planted};
use std::collections::VecDeque;

/// Completions of one frame that may leave it where it was before the device counts as broken.
const ATTEMPTS_MAX: u32 = 64;
/// A payload buffer that has grown beyond this is not kept.
const BUFFER_BYTES_KEPT_MAX: usize = 2 * WAL_FRAME_BYTES_TARGET;

static ZERO_PAGE: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// How far a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameState {
    /// Not yet issued.
    Closed,
    /// A write of this id is under way.
    InFlight { id: u64 },
    /// Part of it must be issued again.
    Repeat,
    /// All of it is written.
    Written,
}

/// One frame with its place.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) segment: SegmentSeq,
    pub(super) page: u32,
    /// The segment's header page is written with it.
    pub(super) begins_segment: bool,
    pub(super) kind: FrameKind,
    pub(super) payload: Vec<u8>,
    /// Pages of all that is written with it.
    pages: usize,
    pub(super) records: u32,
    pub(super) base_seqno: Seqno,
    /// Stream position after its last record.
    pub(super) lsn_end: u64,
    state: FrameState,
    /// Bytes written so far, a multiple of the page.
    done: usize,
    attempts: u32,
    header: Option<[u8; FRAME_HEADER_BYTES]>,
    segment_header: Option<[u8; SEGMENT_HEADER_BYTES]>,
}

impl Frame {
    /// Holds records.
    pub(super) fn data(
        segment: SegmentSeq,
        plan: Plan,
        payload: Vec<u8>,
        records: u32,
        base_seqno: Seqno,
        lsn_end: u64,
    ) -> Self {
        Self {
            segment,
            page: u32::try_from(plan.page).expect("segments have fewer than 2^32 pages"),
            begins_segment: plan.begins_segment,
            kind: FrameKind::Data,
            pages: usize::from(plan.begins_segment) + frame_pages(payload.len()),
            payload,
            records,
            base_seqno,
            lsn_end,
            state: FrameState::Closed,
            done: 0,
            attempts: 0,
            header: None,
            segment_header: None,
        }
    }
    /// Closes a segment.
    pub(super) fn seal(segment: SegmentSeq, plan: Plan, last_seqno: Seqno, lsn_end: u64) -> Self {
        Self { kind: FrameKind::Seal, ..Self::data(segment, plan, Vec::new(), 0, last_seqno, lsn_end) }
    }
    /// Bytes still to write.
    pub(super) fn bytes_left(&self) -> usize {
        self.pages * PAGE_BYTES - self.done
    }
    /// Where they go.
    pub(super) fn offset_left(&self) -> u64 {
        let first_page = if self.begins_segment { 0 } else { u64::from(self.page) };
        first_page * PAGE_BYTES as u64 + self.done as u64
    }
    /// First byte after it.
    pub(super) fn end(&self) -> u64 {
        self.offset_left() + self.bytes_left() as u64
    }
    /// Whether its headers are fixed.
    pub(super) fn is_encoded(&self) -> bool {
        self.header.is_some()
    }
    /// Fixes its headers: what is issued again has the same bytes.
    pub(super) fn set_headers(
        &mut self,
        header: [u8; FRAME_HEADER_BYTES],
        segment_header: Option<[u8; SEGMENT_HEADER_BYTES]>,
    ) {
        assert!(self.header.is_none(), "headers are fixed once");
        assert!(self.begins_segment == segment_header.is_some());
        (self.header, self.segment_header) = (Some(header), segment_header);
    }
    /// Fills `out` with the bytes still to write.
    pub(super) fn copy_to(&self, out: &mut [u8]) {
        assert!(out.len() == self.bytes_left(), "{} bytes for {}", out.len(), self.bytes_left());
        let mut cursor = Cursor { skip: self.done, out };
        if let Some(header) = &self.segment_header {
            cursor.put(header);
            cursor.put(&ZERO_PAGE[header.len()..]);
        }
        let header = self.header.as_ref().expect("headers are fixed before bytes are made");
        cursor.put(header);
        cursor.put(&self.payload);
        cursor.out.fill(0);
    }
}

/// Copies parts one after the other, leaving out the first `skip` bytes.
struct Cursor<'a> {
    skip: usize,
    out: &'a mut [u8],
}

impl Cursor<'_> {
    fn put(&mut self, part: &[u8]) {
        let skipped = self.skip.min(part.len());
        self.skip -= skipped;
        let part = &part[skipped..];
        let (head, rest) = std::mem::take(&mut self.out).split_at_mut(part.len());
        head.copy_from_slice(part);
        self.out = rest;
    }
}

/// See the module header.
#[derive(Debug)]
pub(super) struct FrameQueue {
    frames: VecDeque<Frame>,
    /// Frames at the front that were issued at least once.
    issued: usize,
    issued_max: usize,
    /// Payload buffers for reuse.
    buffers: Vec<Vec<u8>>,
}

impl FrameQueue {
    /// Issues at most this many frames beyond what is written.
    pub(super) fn new(issued_max: usize) -> Self {
        Self { frames: VecDeque::new(), issued: 0, issued_max, buffers: Vec::new() }
    }
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
    pub(super) fn push(&mut self, frame: Frame) {
        self.frames.push_back(frame);
    }
    pub(super) fn frame(&self, index: usize) -> &Frame {
        &self.frames[index]
    }
    pub(super) fn frame_mut(&mut self, index: usize) -> &mut Frame {
        &mut self.frames[index]
    }
    /// Every frame was issued.
    pub(super) fn all_issued(&self) -> bool {
        self.issued == self.frames.len()
    }
    /// Nothing before the first closed frame is unwritten.
    pub(super) fn none_issued(&self) -> bool {
        self.issued == 0
    }
    /// One more frame may be issued.
    pub(super) fn may_issue(&self) -> bool {
        self.issued < self.issued_max
    }
    /// Some frame of this segment is not yet written.
    pub(super) fn holds(&self, segment: SegmentSeq) -> bool {
        self.frames.iter().any(|frame| frame.segment == segment)
    }
    /// The first seqno of the oldest unwritten frame that holds records.
    pub(super) fn first_data_seqno(&self) -> Option<Seqno> {
        self.frames.iter().find(|frame| frame.kind == FrameKind::Data).map(|frame| frame.base_seqno)
    }
    /// Segment of the oldest unwritten frame.
    pub(super) fn front_segment(&self) -> Option<SegmentSeq> {
        self.frames.front().map(|frame| frame.segment)
    }
    /// Whether the first frame not yet issued is a segment's first.
    pub(super) fn next_begins_segment(&self) -> bool {
        self.frames.get(self.issued).is_some_and(|frame| frame.begins_segment)
    }
    /// A frame of which part must be issued again.
    pub(super) fn next_to_repeat(&self) -> Option<usize> {
        self.frames.iter().take(self.issued).position(|frame| frame.state == FrameState::Repeat)
    }
    /// What to issue next: what must be repeated, else the first closed frame if one more may be issued.
    pub(super) fn next_to_issue(&self) -> Option<usize> {
        let next = (self.may_issue() && !self.all_issued()).then_some(self.issued);
        self.next_to_repeat().or(next)
    }
    /// Marks a frame as in flight.
    pub(super) fn issue(&mut self, index: usize, id: u64) -> &Frame {
        self.issued = self.issued.max(index + 1);
        let frame = &mut self.frames[index];
        assert!(matches!(frame.state, FrameState::Closed | FrameState::Repeat), "frame is issued twice");
        frame.state = FrameState::InFlight { id };
        frame
    }
    /// The frame that this write belongs to.
    pub(super) fn index_of(&self, id: u64) -> Option<usize> {
        self.frames.iter().take(self.issued).position(|frame| frame.state == FrameState::InFlight { id })
    }
    /// Takes a completed write; `false` when the frame makes no progress.
    pub(super) fn advance(&mut self, index: usize, bytes: usize) -> bool {
        let frame = &mut self.frames[index];
        let left = frame.bytes_left();
        assert!(bytes <= left, "{bytes} bytes written of {left}");
        let bytes = if bytes > 0 && planted(Bug::IgnoreShortWrite) { left } else { bytes };
        if bytes == left {
            frame.state = FrameState::Written;
            frame.done += bytes;
            return true;
        }
        // Whole pages count: the device may need aligned writes, and the same bytes may be written again.
        let progress = bytes / PAGE_BYTES * PAGE_BYTES;
        frame.state = FrameState::Repeat;
        frame.done += progress;
        frame.attempts = if progress > 0 { 0 } else { frame.attempts + 1 };
        frame.attempts < ATTEMPTS_MAX
    }
    /// Takes the oldest frame if it is written.
    pub(super) fn pop_written(&mut self) -> Option<Frame> {
        let mut frame = self.frames.pop_front_if(|frame| frame.state == FrameState::Written)?;
        self.issued -= 1;
        self.keep_buffer(std::mem::take(&mut frame.payload));
        Some(frame)
    }
    fn keep_buffer(&mut self, mut buffer: Vec<u8>) {
        let useful = (1..=BUFFER_BYTES_KEPT_MAX).contains(&buffer.capacity());
        if useful && self.buffers.len() <= self.issued_max {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
    /// An empty buffer for the next payload.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }
    pub(super) fn check_invariants(&self) {
        assert!(self.issued <= self.frames.len());
        assert!(self.issued <= self.issued_max);
        for (index, frame) in self.frames.iter().enumerate() {
            assert!(
                (frame.state == FrameState::Closed) == (index >= self.issued),
                "frames are issued in order"
            );
        }
    }
}
