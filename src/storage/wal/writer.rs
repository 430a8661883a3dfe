//! The state machine that writes one stream.

use super::policy::SyncPolicy;
use super::record::Record;
use super::segment::SegmentSpec;
use crate::model::{FileRef, Lsn, SegmentSeq, Seqno, StoreId, StreamId};

/// What a stream is made for.
#[derive(Clone, Copy, Debug)]
pub struct StreamOptions {
    /// The store.
    pub store: StoreId,
    /// The stream.
    pub stream: StreamId,
    /// When a write counts as acknowledged.
    pub policy: SyncPolicy,
    /// Writes that may be in flight, 1..=[`crate::limits::WAL_WRITES_IN_FLIGHT_MAX`].
    pub writes_in_flight: usize,
}

/// Whether a record or batch may be appended now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The next append may be of this size.
    Admitted,
    /// Too much is staged; writes must complete first.
    WaitForWrites,
    /// No segment has room for it: another must be made ready.
    WaitForSegment,
    /// No segment can ever have room for it.
    TooLarge,
    /// The stream is poisoned or was sealed for shutdown.
    Closed,
}

/// What the caller must do with a file.
#[derive(Clone, Debug)]
pub enum WalIo {
    /// Write `bytes` bytes at `offset`, both multiples of the page; with `durable`, complete only when they are on
    /// stable storage. [`StreamWriter::encode`] makes the bytes, before the next call of [`StreamWriter::next_io`].
    Write { id: u64, file: FileRef, offset: u64, bytes: usize, durable: bool },
    /// Make all completed writes of the file durable.
    Sync { id: u64, file: FileRef },
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalOutcome {
    /// A write transferred this many bytes, perhaps fewer than asked: the rest is issued again.
    Written(usize),
    /// A sync is done.
    Synced,
    /// Interrupted or cancelled before it did anything (`EINTR`, `EAGAIN`, `ECANCELED`): it is issued again.
    NotDone,
    /// Any other error: the stream is poisoned.
    Failed,
}

/// A segment that the stream has used and that is not yet released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentLife {
    /// Its number.
    pub seq: SegmentSeq,
    /// Seqno of its first record; `None` while it has none.
    pub first_seqno: Option<Seqno>,
    /// Position after its last record so far.
    pub last_lsn: Lsn,
    /// Sealed and durable, with nothing in flight: only then may the file be retired or used again.
    pub finished: bool,
}

/// The log of one core slot, as a state machine: see the module header.
#[derive(Debug)]
pub struct StreamWriter {
    options: StreamOptions,
}

#[expect(unused_variables, reason = "signatures first")]
impl StreamWriter {
    /// A stream without segments.
    #[must_use]
    pub fn new(options: StreamOptions) -> Self {
        Self { options }
    }
    /// Takes a segment for later use. Numbers ascend.
    pub fn add_ready(&mut self, segment: SegmentSpec) {
        let _ = self.options.stream;
        todo!()
    }
    /// Segments that are ready and not begun.
    #[must_use]
    pub fn ready_count(&self) -> usize {
        todo!()
    }
    /// Whether another segment should be made ready.
    #[must_use]
    pub fn wants_segment(&self) -> bool {
        todo!()
    }
    /// Whether the very next append or batch may be of `bytes` (sum of `record_bytes`).
    #[must_use]
    pub fn admission(&self, bytes: usize, is_delete: bool) -> Admission {
        todo!()
    }
    /// Whether [`StreamWriter::admission`] says yes.
    #[must_use]
    pub fn admits(&self, bytes: usize, is_delete: bool) -> bool {
        self.admission(bytes, is_delete) == Admission::Admitted
    }
    /// Stages a record and returns its end position.
    pub fn append(&mut self, seqno: Seqno, record: &Record<'_>) -> Lsn {
        todo!()
    }
    /// Begins a batch that is whole or absent after a crash: `bytes` is the sum of its `record_bytes`.
    pub fn batch_begin(&mut self, bytes: usize) {
        todo!()
    }
    /// Ends the batch and returns its end position.
    pub fn batch_end(&mut self) -> Lsn {
        todo!()
    }
    /// What to submit now; call until `None`.
    pub fn next_io(&mut self) -> Option<WalIo> {
        todo!()
    }
    /// Fills the buffer of the write that `next_io` has just returned.
    pub fn encode(&mut self, id: u64, out: &mut [u8]) {
        todo!()
    }
    /// Takes the outcome of an operation.
    pub fn completed(&mut self, id: u64, outcome: WalOutcome) {
        todo!()
    }
    /// Asks for a sync of what is written, under `interval` and `none`.
    pub fn request_sync(&mut self) {
        todo!()
    }
    /// Replies up to here may leave.
    #[must_use]
    pub fn acked(&self) -> Lsn {
        todo!()
    }
    /// On stable storage up to here.
    #[must_use]
    pub fn synced(&self) -> Lsn {
        todo!()
    }
    /// Handed to the kernel up to here.
    #[must_use]
    pub fn written(&self) -> Lsn {
        todo!()
    }
    /// Staged up to here.
    #[must_use]
    pub fn staged(&self) -> Lsn {
        todo!()
    }
    /// A write or sync has failed: nothing more is written or acknowledged.
    #[must_use]
    pub fn poisoned(&self) -> bool {
        todo!()
    }
    /// Nothing staged, in flight, or waiting for a sync that was asked for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        todo!()
    }
    /// Segments that were begun and not released, oldest first.
    pub fn live_segments(&self) -> impl Iterator<Item = SegmentLife> + '_ {
        std::iter::empty()
    }
    /// The segment that the next record goes to, unless it must begin another.
    #[must_use]
    pub fn open_segment(&self) -> Option<SegmentSeq> {
        todo!()
    }
    /// Closes the open segment: the next record begins another.
    pub fn rotate(&mut self) {
        todo!()
    }
    /// Seals the open segment and admits nothing more.
    pub fn seal_for_shutdown(&mut self) {
        todo!()
    }
    /// Forgets a segment that the manifest has retired.
    ///
    /// # Panics
    /// When it is not finished.
    pub fn release(&mut self, seq: SegmentSeq) {
        todo!()
    }
}
