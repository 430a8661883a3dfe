//! The state machine that writes one stream. It does no I/O: the core asks [`StreamWriter::next_io`] what to submit,
//! and reports with [`StreamWriter::completed`] how it went.
//!
//! ```text
//! append ──► staging frame ──close──► queue: [written][in flight][in flight][closed]…   ──► front leaves when written
//!               (payload)                     ▲ out of order  ▲ at most `writes_in_flight` of the front are issued
//! ```
//!
//! **Where records go** is decided when they are appended: the staging frame has its place in a segment (`plan`), and
//! a record that does not fit closes it, or seals the segment and begins the next ready one. So admission is a
//! question of arithmetic, and what was admitted can always be written.
//!
//! **What may be acknowledged.** `written` is the end of the longest prefix of frames whose writes have completed in
//! full, whatever the order of completions. Under `always` each write is durable by itself (`RWF_DSYNC`), so `synced`
//! is the same. Under `interval` and `none`, `synced` is what `written` was when the last completed sync was
//! submitted. Replies wait for [`StreamWriter::acked`]: `synced` under `always`, else `written`.
//!
//! Invariants:
//! - `synced <= written <= staged`, each only growing; records of one batch share a frame.
//! - Each page of a segment is written once, except that what a short write left is issued again with the same bytes.
//! - A segment's first write (header and first frame) is issued only when the segment before is sealed and durable to
//!   its end, under every policy.
//! - After a failed write or sync nothing is written and nothing more is acknowledged. What was written before a failed
//!   write, and acknowledged under `interval` or `none`, is still synced; after a failed sync nothing is: the kernel may
//!   have dropped the pages, so another one would prove nothing.

mod frame_queue;
mod interface;
mod placement;

use self::frame_queue::{Frame, FrameQueue};
pub use self::interface::{Admission, SegmentLife, StreamOptions, WalIo, WalOutcome};
use self::placement::{Placement, Plan};
use super::frame::{FrameHeader, FrameKind, Life, frame_pages};
use super::policy::SyncPolicy;
use super::record::{Record, RecordEncoder, record_bytes};
use super::segment::{PreviousSegment, SEGMENT_PAGES_MIN, SegmentHeader, SegmentSpec};
use crate::encoding::checksum;
use crate::limits::{PAGE_BYTES, WAL_FRAME_BYTES_TARGET, WAL_WRITES_IN_FLIGHT_MAX};
use crate::model::{Lsn, SegmentSeq, Seqno};
use crate::teeth::{Bug, planted};
use std::collections::VecDeque;

/// The log of one core slot, as a state machine: see the module header.
#[derive(Debug)]
pub struct StreamWriter {
    options: StreamOptions,
    ready: VecDeque<SegmentSpec>,
    /// Begun and not released, oldest first; `plan` lies in the last.
    live: VecDeque<LiveSegment>,
    plan: Option<Plan>,
    staging: Staging,
    queue: FrameQueue,
    sync: Option<SyncInFlight>,
    /// A sync is wanted until `synced` reaches this.
    sync_target: u64,
    staged: u64,
    written: u64,
    synced: u64,
    /// What the next segment's header says of the one before.
    previous: Option<PreviousSegment>,
    state: State,
    next_id: u64,
    /// The write that was handed out and not yet encoded.
    to_encode: Option<u64>,
    last_seqno: Seqno,
    /// Bytes that the batch under way may still take.
    batch_left: Option<usize>,
    /// See [`StreamWriter::set_frame_bytes_target`].
    frame_bytes_target: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Closing,
    Poisoned { sync_failed: bool },
}

#[derive(Debug)]
struct LiveSegment {
    spec: SegmentSpec,
    first_seqno: Option<Seqno>,
    last_lsn: u64,
    /// Its seal frame has been queued.
    sealed: bool,
    /// Offset up to which its writes have completed without a gap.
    written_end: u64,
    /// Offset up to which it is on stable storage.
    durable_end: u64,
    /// Its seal frame is on stable storage.
    finished: bool,
    /// Checksum of the last frame that was encoded, or of the header.
    crc: u32,
}

/// The frame that records are appended to.
#[derive(Debug, Default)]
struct Staging {
    payload: Vec<u8>,
    encoder: RecordEncoder,
    records: u32,
    base_seqno: Seqno,
}

#[derive(Clone, Copy, Debug)]
struct SyncInFlight {
    id: u64,
    segment: SegmentSeq,
    /// What it covers: writes that had completed when it was submitted.
    lsn: u64,
    offset: u64,
}

impl StreamWriter {
    /// A stream without segments.
    ///
    /// # Panics
    /// When `writes_in_flight` is outside its bounds.
    #[must_use]
    pub fn new(options: StreamOptions) -> Self {
        let in_flight = options.writes_in_flight;
        assert!((1..=WAL_WRITES_IN_FLIGHT_MAX).contains(&in_flight), "{in_flight} writes in flight");
        Self {
            options,
            ready: VecDeque::new(),
            live: VecDeque::new(),
            plan: None,
            staging: Staging::default(),
            queue: FrameQueue::new(in_flight),
            sync: None,
            sync_target: 0,
            staged: 0,
            written: 0,
            synced: 0,
            previous: None,
            state: State::Open,
            next_id: 0,
            to_encode: None,
            last_seqno: Seqno(0),
            batch_left: None,
            frame_bytes_target: WAL_FRAME_BYTES_TARGET,
        }
    }

    /// A frame is sealed before its records exceed this many bytes; [`WAL_FRAME_BYTES_TARGET`] at first. One record or
    /// batch that is larger gets a frame of its own.
    pub fn set_frame_bytes_target(&mut self, bytes: usize) {
        self.frame_bytes_target = bytes;
    }

    /// Takes a segment for later use.
    ///
    /// # Panics
    /// When its length is no multiple of the page or below three pages, or its number not above all that came before:
    /// the chain check goes by them.
    pub fn add_ready(&mut self, segment: SegmentSpec) {
        assert!(segment.bytes.is_multiple_of(PAGE_BYTES as u64), "segment of {} bytes", segment.bytes);
        assert!(segment.pages() >= SEGMENT_PAGES_MIN, "segment of {} bytes", segment.bytes);
        assert!(u32::try_from(segment.pages()).is_ok(), "segment of {} bytes", segment.bytes);
        let newest = self.ready.back().or(self.live.back().map(|live| &live.spec)).map(|spec| spec.seq);
        let newest = newest.max(self.previous.map(|previous| previous.seq));
        assert!(newest < Some(segment.seq), "segment {} comes after {newest:?}", segment.seq.0);
        self.ready.push_back(segment);
    }

    /// Segments that are ready and not begun.
    #[must_use]
    pub fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// Whether another segment should be made ready: there is none beyond the one in use or about to be used. Stays
    /// true until it comes; ask the coordinator for one at a time.
    #[must_use]
    pub fn wants_segment(&self) -> bool {
        self.state == State::Open && self.ready.len() <= usize::from(self.plan.is_none())
    }

    /// Whether the very next append or batch may be of `bytes` (the sum of its [`record_bytes`]); the answer holds
    /// until then unless [`StreamWriter::next_io`] or [`StreamWriter::rotate`] comes between. While no further segment
    /// is ready, the last sixteenth of a segment is kept for deletes.
    #[must_use]
    pub fn admission(&self, bytes: usize, is_delete: bool) -> Admission {
        self.placement(bytes, is_delete).map_or_else(|refusal| refusal, |_| Admission::Admitted)
    }

    /// Whether [`StreamWriter::admission`] says yes.
    #[must_use]
    pub fn admits(&self, bytes: usize, is_delete: bool) -> bool {
        self.placement(bytes, is_delete).is_ok()
    }

    /// Stages a record and returns its end position: when `acked` reaches it, its reply may leave.
    ///
    /// # Panics
    /// When it is not admitted, its key or value is outside the limits, or its seqno below an earlier one.
    #[inline]
    pub fn append(&mut self, seqno: Seqno, record: &Record<'_>) -> Lsn {
        if self.batch_left.is_none() {
            self.make_room(record_bytes(record), record.is_delete());
        }
        assert!(seqno >= self.last_seqno, "seqno {} comes after {}", seqno.0, self.last_seqno.0);
        self.last_seqno = seqno;
        if self.staging.records == 0 {
            self.staging.base_seqno = seqno;
            self.staging.encoder = RecordEncoder::new(seqno);
        }
        let before = self.staging.payload.len();
        self.staging.encoder.put(&mut self.staging.payload, seqno, record);
        self.staging.records += 1;
        let bytes = self.staging.payload.len() - before;
        if let Some(left) = &mut self.batch_left {
            *left = left.checked_sub(bytes).expect("a batch is no larger than was said at its beginning");
        }
        self.staged += bytes as u64;
        Lsn(self.staged)
    }

    /// Begins a batch that is whole or absent after a crash: appends up to [`StreamWriter::batch_end`] share a frame.
    /// `bytes` is the sum of their [`record_bytes`].
    ///
    /// # Panics
    /// When the batch is not admitted, or one is under way.
    pub fn batch_begin(&mut self, bytes: usize, is_delete: bool) {
        assert!(self.batch_left.is_none(), "batches do not nest");
        self.make_room(bytes, is_delete);
        self.batch_left = Some(bytes);
    }

    /// Ends the batch and returns its end position.
    ///
    /// # Panics
    /// When there is none.
    pub fn batch_end(&mut self) -> Lsn {
        assert!(self.batch_left.take().is_some(), "a batch is under way");
        Lsn(self.staged)
    }

    /// Replies up to here may leave.
    #[must_use]
    pub fn acked(&self) -> Lsn {
        if planted(Bug::AckBeforeSync) {
            return self.staged();
        }
        match self.options.policy {
            SyncPolicy::Always => self.synced(),
            SyncPolicy::IntervalMs(_) | SyncPolicy::None => self.written(),
        }
    }

    /// On stable storage up to here.
    #[must_use]
    pub fn synced(&self) -> Lsn {
        Lsn(self.synced)
    }

    /// Handed to the kernel up to here: what a killed process leaves.
    #[must_use]
    pub fn written(&self) -> Lsn {
        Lsn(self.written)
    }

    /// Staged up to here.
    #[must_use]
    pub fn staged(&self) -> Lsn {
        Lsn(self.staged)
    }

    /// A write or sync has failed: nothing more is written or acknowledged.
    #[must_use]
    pub fn poisoned(&self) -> bool {
        matches!(self.state, State::Poisoned { .. })
    }

    /// A sync has failed: what was written and not synced before may be lost, and no later sync would tell.
    #[must_use]
    pub fn sync_failed(&self) -> bool {
        self.state == State::Poisoned { sync_failed: true }
    }

    /// The seqno of the last record before the first that is not written, if one is not: with a failed log, what will
    /// ever be acknowledged.
    #[must_use]
    pub fn written_seqno(&self) -> Option<Seqno> {
        let staged = (self.staging.records > 0).then_some(self.staging.base_seqno);
        let first = self.queue.first_data_seqno().or(staged)?;
        Some(Seqno(first.0.saturating_sub(1)))
    }

    /// Nothing is staged, in flight, or waiting for a sync. A poisoned stream is never idle again.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let settled = self.live.iter().all(|segment| !segment.sealed || segment.finished);
        settled
            && !self.poisoned()
            && self.staging.records == 0
            && self.queue.is_empty()
            && !self.sync_pending()
    }

    /// Segments that were begun and not released, oldest first.
    pub fn live_segments(&self) -> impl Iterator<Item = SegmentLife> + '_ {
        let staged_in = self.open_segment().filter(|_| self.staging.records > 0);
        self.live.iter().map(move |segment| {
            let open = staged_in == Some(segment.spec.seq);
            SegmentLife {
                seq: segment.spec.seq,
                first_seqno: segment.first_seqno.or(open.then_some(self.staging.base_seqno)),
                last_lsn: Lsn(if open { self.staged } else { segment.last_lsn }),
                finished: segment.finished,
            }
        })
    }

    /// The segment that the last record went to and the next one may go to; `None` when the next one begins another.
    #[must_use]
    pub fn open_segment(&self) -> Option<SegmentSeq> {
        self.plan.and(self.live.back()).map(|segment| segment.spec.seq)
    }

    /// Asks for a sync of what is staged now, under `interval` and `none`; under `always` every write is one. The sync
    /// is issued once those writes have completed.
    pub fn request_sync(&mut self) {
        self.sync_target = self.staged;
    }

    /// Seals the open segment, if any: the next record begins another. An idle stream does this by age, so that its
    /// segment can be retired.
    pub fn rotate(&mut self) {
        assert!(self.batch_left.is_none(), "a batch is under way");
        if self.state == State::Open {
            self.seal_open();
        }
    }

    /// Seals the open segment and admits nothing more. When [`StreamWriter::is_idle`] says so, all is on stable
    /// storage, under every policy.
    pub fn seal_for_shutdown(&mut self) {
        self.rotate();
        self.request_sync();
        if self.state == State::Open {
            self.state = State::Closing;
        }
    }

    /// Forgets a segment that the manifest has retired.
    ///
    /// # Panics
    /// When it is not live, or not finished: a write still in flight would hit the file's next life.
    pub fn release(&mut self, seq: SegmentSeq) {
        let index = self.live.iter().position(|segment| segment.spec.seq == seq);
        let segment =
            index.and_then(|index| self.live.remove(index)).expect("only live segments are released");
        assert!(segment.finished, "segment {} is released before it is finished", seq.0);
    }

    /// What to submit now; call until `None`. Each write must be encoded before the next call.
    ///
    /// # Panics
    /// When the last write was not encoded, or a batch is under way.
    pub fn next_io(&mut self) -> Option<WalIo> {
        assert!(self.to_encode.is_none(), "a write was not encoded");
        assert!(self.batch_left.is_none(), "a batch is under way");
        let io = match self.state {
            State::Poisoned { sync_failed: true } => None,
            State::Poisoned { sync_failed: false } => self.next_sync(),
            State::Open | State::Closing => self.next_sync().or_else(|| self.next_write()),
        };
        self.check_invariants();
        io
    }

    fn next_sync(&mut self) -> Option<WalIo> {
        if self.sync.is_some() {
            return None;
        }
        // Only one segment can hold what is written and not durable: the next one waits for it.
        let segment = self.live.iter().find(|segment| segment.written_end > segment.durable_end)?;
        let sealed = segment.sealed && !self.queue.holds(segment.spec.seq);
        let requested = self.synced < self.sync_target && self.written >= self.sync_target;
        if !sealed && !requested && !self.poisoned() {
            return None;
        }
        let (seq, offset, file) = (segment.spec.seq, segment.written_end, segment.spec.file.clone());
        let id = self.take_id();
        self.sync = Some(SyncInFlight { id, segment: seq, lsn: self.written, offset });
        Some(WalIo::Sync { id, file })
    }

    fn next_write(&mut self) -> Option<WalIo> {
        if self.queue.all_issued() && self.queue.may_issue() {
            // Group commit: what has gathered since the last write goes out together.
            self.close_staging();
        }
        if self.queue.next_begins_segment() && !self.may_begin_segment() {
            return self.queue.next_to_repeat().map(|index| self.issue(index));
        }
        self.queue.next_to_issue().map(|index| self.issue(index))
    }

    /// Whether everything before the segment of the queue's front is on stable storage.
    fn may_begin_segment(&self) -> bool {
        let next = self.queue.front_segment();
        let mut before = self.live.iter().take_while(|segment| Some(segment.spec.seq) != next);
        let durable = before.all(|segment| segment.finished) || planted(Bug::SealWithoutSync);
        self.queue.none_issued() && durable
    }

    fn issue(&mut self, index: usize) -> WalIo {
        let id = self.take_id();
        let durable = self.options.policy == SyncPolicy::Always && !planted(Bug::SkipWalSync);
        let frame = self.queue.issue(index, id);
        let (seq, offset, bytes) = (frame.segment, frame.offset_left(), frame.bytes_left());
        self.to_encode = Some(id);
        let file = self.segment(seq).spec.file.clone();
        WalIo::Write { id, file, offset, bytes, durable }
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn segment(&self, seq: SegmentSeq) -> &LiveSegment {
        let found = self.live.iter().rev().find(|segment| segment.spec.seq == seq);
        found.expect("a segment stays live while frames for it are queued")
    }

    fn segment_mut(&mut self, seq: SegmentSeq) -> &mut LiveSegment {
        let found = self.live.iter_mut().rev().find(|segment| segment.spec.seq == seq);
        found.expect("a segment stays live while frames for it are queued")
    }

    /// Fills the buffer of the write that [`StreamWriter::next_io`] has just returned.
    ///
    /// # Panics
    /// When `id` is not that write, or `out` not as long as it said.
    pub fn encode(&mut self, id: u64, out: &mut [u8]) {
        assert!(self.to_encode.take() == Some(id), "write {id} is not the one to encode");
        let index = self.queue.index_of(id).expect("a write to encode is queued");
        if !self.queue.frame(index).is_encoded() {
            self.encode_headers(index);
        }
        self.queue.frame(index).copy_to(out);
    }

    /// Fixes what is known only now: the frame before, and what is durable.
    fn encode_headers(&mut self, index: usize) {
        let (store, stream) = (self.options.store, self.options.stream);
        let (previous, seq) = (self.previous, self.queue.frame(index).segment);
        let segment = self.segment_mut(seq);
        let life = Life { seq, salt: segment.spec.salt, stream };
        let header =
            SegmentHeader { store, stream, seq, salt: life.salt, bytes: segment.spec.bytes, previous };
        let (durable_off, last_crc) = (segment.durable_end, segment.crc);
        let frame = self.queue.frame_mut(index);
        let segment_header = frame.begins_segment.then(|| header.encode());
        let previous_crc = segment_header.map_or(last_crc, |(_, crc)| crc);
        let frame_header = FrameHeader {
            kind: frame.kind,
            payload_crc: checksum(&frame.payload),
            payload_bytes: u32::try_from(frame.payload.len()).expect("a frame is below WAL_FRAME_BYTES_MAX"),
            records: frame.records,
            page: frame.page,
            previous_crc,
            durable_off,
            base_seqno: frame.base_seqno,
        };
        let (bytes, crc) = frame_header.encode(life);
        frame.set_headers(bytes, segment_header.map(|(bytes, _)| bytes));
        let (kind, end) = (frame.kind, frame_header.end());
        self.segment_mut(seq).crc = crc;
        if kind == FrameKind::Seal {
            self.previous = Some(PreviousSegment { seq, end, crc });
        }
    }

    /// Takes the outcome of an operation. After poisoning, outcomes of writes that were still in flight change nothing.
    ///
    /// # Panics
    /// When no operation of this id is in flight, or the outcome cannot be one of it.
    pub fn completed(&mut self, id: u64, outcome: WalOutcome) {
        let is_sync = self.sync.is_some_and(|sync| sync.id == id);
        if self.sync_failed() || (self.poisoned() && !is_sync) {
            return;
        }
        let is_again = outcome == WalOutcome::Failed && planted(Bug::RetrySyncAfterEio);
        let outcome = if is_again { WalOutcome::NotDone } else { outcome };
        match (self.sync.filter(|sync| sync.id == id), outcome) {
            (_, WalOutcome::Failed) => self.state = State::Poisoned { sync_failed: is_sync },
            (Some(sync), WalOutcome::Synced) => self.sync_done(sync),
            (Some(_), WalOutcome::NotDone) => self.sync = None,
            (Some(_), WalOutcome::Written(_)) => panic!("sync {id} ended as a write"),
            (None, WalOutcome::Synced) => panic!("write {id} ended as a sync"),
            (None, WalOutcome::NotDone) => self.write_done(id, 0),
            (None, WalOutcome::Written(bytes)) => self.write_done(id, bytes),
        }
        self.check_invariants();
    }

    fn sync_done(&mut self, sync: SyncInFlight) {
        self.sync = None;
        self.synced = self.synced.max(sync.lsn);
        let sealed = !self.queue.holds(sync.segment);
        let segment = self.segment_mut(sync.segment);
        segment.durable_end = sync.offset;
        segment.finished = segment.sealed && sealed && segment.written_end == sync.offset;
    }

    fn write_done(&mut self, id: u64, bytes: usize) {
        let index = self.queue.index_of(id).expect("a completed write is in flight");
        if !self.queue.advance(index, bytes) {
            // Nothing moves, again and again: the device does not take it.
            self.state = State::Poisoned { sync_failed: false };
            return;
        }
        while let Some(frame) = self.queue.pop_written() {
            self.frame_written(&frame);
        }
    }

    /// All frames up to this one are written.
    fn frame_written(&mut self, frame: &Frame) {
        let durable = self.options.policy == SyncPolicy::Always;
        let segment = self.segment_mut(frame.segment);
        segment.written_end = frame.end();
        if durable {
            segment.durable_end = segment.written_end;
            segment.finished = frame.kind == FrameKind::Seal;
        }
        self.written = frame.lsn_end;
        if durable {
            self.synced = self.written;
        }
    }

    fn sync_pending(&self) -> bool {
        self.sync.is_some() || self.synced < self.sync_target
    }

    fn check_invariants(&self) {
        assert!(self.synced <= self.written, "synced {} beyond written {}", self.synced, self.written);
        assert!(self.written <= self.staged, "written {} beyond staged {}", self.written, self.staged);
        if cfg!(debug_assertions) {
            self.queue.check_invariants();
            for segment in &self.live {
                assert!(segment.durable_end <= segment.written_end);
                assert!(segment.written_end <= segment.spec.bytes);
                assert!(segment.sealed || !segment.finished);
            }
        }
    }

    /// Ends the staging frame and gives it its place in the queue.
    fn close_staging(&mut self) {
        if self.staging.records == 0 {
            return;
        }
        let plan = self.plan.as_mut().expect("staged records have a place");
        let segment = self.live.back_mut().expect("a plan lies in a live segment");
        let payload = std::mem::replace(&mut self.staging.payload, self.queue.take_buffer());
        segment.first_seqno = segment.first_seqno.or(Some(self.staging.base_seqno));
        segment.last_lsn = self.staged;
        let (segment, pages) = (segment.spec.seq, frame_pages(payload.len()));
        self.queue.push(Frame::data(
            segment,
            *plan,
            payload,
            self.staging.records,
            self.staging.base_seqno,
            self.staged,
        ));
        plan.advance(pages);
        self.staging.records = 0;
    }

    /// Closes the open segment, if any: the next frame begins another.
    fn seal_open(&mut self) {
        self.close_staging();
        let Some(plan) = self.plan.take() else { return };
        let segment = self.live.back_mut().expect("a plan lies in a live segment");
        segment.sealed = true;
        self.queue.push(Frame::seal(segment.spec.seq, plan, self.last_seqno, self.staged));
    }

    fn begin_next_segment(&mut self) {
        self.seal_open();
        let spec = self.ready.pop_front().expect("placement found a ready segment");
        self.live.push_back(LiveSegment {
            spec,
            first_seqno: None,
            last_lsn: self.staged,
            sealed: false,
            written_end: 0,
            durable_end: 0,
            finished: false,
            crc: 0,
        });
        self.plan = Some(Plan::first());
    }

    /// Prepares the staging frame for this many bytes.
    #[inline]
    fn make_room(&mut self, bytes: usize, is_delete: bool) {
        match self.placement(bytes, is_delete) {
            Ok(Placement::Join) => {}
            Ok(Placement::NewFrame) => self.close_staging(),
            // Segments that are too small are sealed empty, so that every older one is sealed.
            Ok(Placement::NextSegment { skipped }) => (0..=skipped).for_each(|_| self.begin_next_segment()),
            Err(refusal) => panic!("{bytes} bytes are appended without admission: {refusal:?}"),
        }
    }
}
