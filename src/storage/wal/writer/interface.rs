//! What the writer and its caller say to each other.

use super::super::policy::SyncPolicy;
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
    /// Too much is staged: room comes when writes complete.
    WaitForWrites,
    /// No segment has room for it: another must be made ready.
    WaitForSegment,
    /// No frame can hold it, now or later.
    TooLarge,
    /// The stream is poisoned or was sealed for shutdown.
    Closed,
}

/// What the caller must do with a file.
#[derive(Clone, Debug)]
pub enum WalIo {
    /// Write `bytes` bytes at `offset`, both multiples of the page; with `durable`, complete only when they are on
    /// stable storage. [`StreamWriter::encode`](super::StreamWriter::encode) makes the bytes, before the next call of [`StreamWriter::next_io`](super::StreamWriter::next_io).
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
    /// Any other error, `ENOSPC` too (the space was written before): the stream is poisoned.
    Failed,
}

/// A segment that the stream has begun and that is not yet released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentLife {
    /// Its number.
    pub seq: SegmentSeq,
    /// Seqno of its first record; `None` while it has none.
    pub first_seqno: Option<Seqno>,
    /// Position after its last record so far.
    pub last_lsn: Lsn,
    /// Sealed and durable, with nothing in flight: only then may it be retired, or its file be used again.
    pub finished: bool,
}
