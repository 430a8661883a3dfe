//! The seam that serves a core: submit operations, poll completions, never block but in `poll`.
//!
//! The contract, which `tests/backend_contract.rs` checks on every implementation:
//!
//! - Every `submit` ends in exactly one **final** completion (`more == false`) with the same token. Only
//!   [`Op::Accept`] yields completions before its final one (`more == true`).
//! - An operation owns its buffer from `submit` until its final completion brings it back, whatever the outcome.
//! - Transfers may be short. [`Outcome::Transferred`] counts bytes; the caller submits the rest. A receive of 0
//!   bytes means that the peer has closed its side; a file read of 0 bytes means the end of the file.
//! - `cancel` asks; the operation still completes once, with its result or `ECANCELED`. Cancelling a token that is
//!   unknown or already complete does nothing.
//! - [`Op::Close`] cancels what is in flight on the socket, and completes after all of that has completed; the
//!   socket's number is not reused before.
//! - Dropping a backend cancels what is in flight and waits for it: the kernel holds no buffer afterwards.
//! - `poll` returns when something completed, a waker was called since the last poll, or the deadline passed. It may
//!   return early with nothing.

use super::Errno;
use crate::buffer::AlignedBuf;
use crate::model::FileRef;
use std::net::SocketAddr;
use std::sync::Arc;

/// Names an operation; chosen by the caller, unique among the operations in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A connected socket that the backend knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub i32);

/// A listening socket that the backend knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub i32);

/// What can be asked of a backend.
#[derive(Debug)]
pub enum Op {
    /// Takes connections until cancelled: a completion with `more` for each, one final one. Connections that die
    /// before they are accepted are passed over; a lack of descriptors or memory ends it, to be submitted again later.
    Accept { listener: ListenerId },
    /// Appends received bytes to `buf`, up to its spare capacity, which must not be zero.
    Receive { socket: SocketId, buf: Vec<u8> },
    /// Sends `buf[from..]`, which must not be empty.
    Send { socket: SocketId, buf: Vec<u8>, from: usize },
    /// Ends both directions and gives the socket back to the machine.
    Close { socket: SocketId },
    /// Reads into `buf[..]` (its length says how many bytes) from `offset`.
    Read { file: FileRef, offset: u64, buf: AlignedBuf },
    /// Writes `buf[..]` at `offset`; with `durable`, completes only when the bytes are on stable storage (`RWF_DSYNC`).
    Write { file: FileRef, offset: u64, buf: AlignedBuf, durable: bool },
    /// Makes the data of all completed writes of the file durable (`fdatasync(2)`).
    Sync { file: FileRef },
}

/// What a completed operation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Bytes received, sent, read or written.
    Transferred(usize),
    /// A new connection. `peer` is unknown where the machine does not say.
    Accepted { socket: SocketId, peer: Option<SocketAddr> },
    /// A sync or close.
    Done,
}

/// The buffer of an operation on its way back.
#[derive(Debug)]
pub enum OpBuf {
    /// The operation had none.
    None,
    /// Of Receive and Send.
    Bytes(Vec<u8>),
    /// Of Read and Write.
    Aligned(AlignedBuf),
}

/// The end of an operation, or (with `more`) one of several results.
#[derive(Debug)]
pub struct Completion {
    /// The operation's name.
    pub token: Token,
    /// What happened.
    pub result: Result<Outcome, Errno>,
    /// Its buffer; `None` while `more`.
    pub buf: OpBuf,
    /// Whether further completions follow.
    pub more: bool,
}

/// How long `poll` may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until this time of the monotonic clock, in nanoseconds; `u64::MAX` waits for an event.
    Until(u64),
}

/// One reading of the clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic clock, nanoseconds since some start.
    pub monotonic_ns: u64,
    /// Wall clock, nanoseconds since 1970-01-01 UTC.
    pub unix_ns: i64,
}

/// Ends the wait of one backend; callable from any thread.
pub trait Wake: Send + Sync {
    /// Makes the backend's current or next `poll` return.
    fn wake(&self);
    /// The ring to which an io_uring peer may post the wake instead of calling [`Wake::wake`]; `None`: it may not.
    fn ring_fd(&self) -> Option<i32> {
        None
    }
    /// Marks the backend as woken, for a caller that then posts to [`Wake::ring_fd`]; `false` where it was already.
    fn claim(&self) -> bool {
        true
    }
    /// As [`Wake::wake`], even where somebody claimed it: for a claim whose message could not be delivered.
    fn wake_claimed(&self) {
        self.wake();
    }
}

/// A shared [`Wake`].
pub type Waker = Arc<dyn Wake>;

/// A core's way to sockets and files.
pub trait Backend {
    /// Short name for logs and metrics: `io_uring`, `epoll`, `sim`.
    fn name(&self) -> &'static str;
    /// Reads the clocks.
    fn now(&self) -> Now;
    /// CPU time that the calling thread has used, in nanoseconds; 0 where there is no such thing.
    fn cpu_ns(&self) -> u64;
    /// Starts an operation. May defer it to the next `poll`.
    fn submit(&mut self, token: Token, op: Op);
    /// Passes on what was submitted, waits as told, appends what completed to `completions`.
    ///
    /// # Errors
    /// Only when the backend itself is broken; the core cannot go on.
    fn poll(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> Result<(), Errno>;
    /// Passes on what was submitted, without waiting and without reaping.
    ///
    /// # Errors
    /// As [`Backend::poll`].
    fn flush(&mut self) -> Result<(), Errno>;
    /// Asks an operation to end early.
    fn cancel(&mut self, token: Token);
    /// Operations that have not completed.
    fn in_flight(&self) -> usize;
    /// A handle by which other threads end this backend's wait.
    fn waker(&self) -> Waker;
    /// Wakes another core's backend, by the cheapest way this one has.
    fn wake_peer(&mut self, peer: &Waker) {
        peer.wake();
    }
}
