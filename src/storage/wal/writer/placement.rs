//! Where the next record goes: into the staging frame, a new one, or the next segment.

use super::super::frame::{FRAME_HEADER_BYTES, frame_pages};
use super::super::segment::data_pages_end;
use super::{Admission, State, StreamWriter};
use crate::limits::{WAL_FRAME_BYTES_MAX, WAL_STAGED_BYTES_MAX};

/// Where the staging frame stands in the open segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Its first page.
    pub(super) page: usize,
    /// It is the segment's first frame: the header page is written with it.
    pub(super) begins_segment: bool,
}

impl Plan {
    /// Behind the header page.
    pub(super) fn first() -> Self {
        Self { page: 1, begins_segment: true }
    }
    /// Behind a frame of this many pages.
    pub(super) fn advance(&mut self, pages: usize) {
        self.page += pages;
        self.begins_segment = false;
    }
}

/// The answer for a record or batch that is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// Into the staging frame.
    Join,
    /// Into a frame after the staging frame.
    NewFrame,
    /// Into a segment that is ready, past this many that are too small for it.
    NextSegment { skipped: usize },
}

impl StreamWriter {
    /// Where `bytes` go. Changes nothing; what it says holds for the next append.
    #[inline]
    pub(super) fn placement(&self, bytes: usize, is_delete: bool) -> Result<Placement, Admission> {
        if self.state != State::Open {
            return Err(Admission::Closed);
        }
        if bytes > WAL_FRAME_BYTES_MAX - FRAME_HEADER_BYTES {
            return Err(Admission::TooLarge);
        }
        let pending = self.staged - self.written;
        if pending > 0 && pending + bytes as u64 > WAL_STAGED_BYTES_MAX as u64 {
            return Err(Admission::WaitForWrites);
        }
        if let (Some(plan), Some(segment)) = (self.plan, self.live.back()) {
            let pages_end = data_pages_end(segment.spec.pages(), !is_delete && self.ready.is_empty());
            let staged = self.staging.payload.len();
            let joined = staged + bytes;
            let may_join = joined <= self.frame_bytes_target || staged == 0;
            if may_join && plan.page + frame_pages(joined) <= pages_end {
                return Ok(Placement::Join);
            }
            let next_page = plan.page + frame_pages(staged);
            if staged > 0 && next_page + frame_pages(bytes) <= pages_end {
                return Ok(Placement::NewFrame);
            }
        }
        self.placement_in_ready(bytes, is_delete)
    }

    fn placement_in_ready(&self, bytes: usize, is_delete: bool) -> Result<Placement, Admission> {
        let fits = |(index, spec): (usize, &super::SegmentSpec)| {
            let last = index + 1 == self.ready.len();
            Plan::first().page + frame_pages(bytes) <= data_pages_end(spec.pages(), !is_delete && last)
        };
        let skipped = self.ready.iter().enumerate().position(fits);
        skipped.map(|skipped| Placement::NextSegment { skipped }).ok_or(Admission::WaitForSegment)
    }
}
