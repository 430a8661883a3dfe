//! The io_uring backend.
//!
//! One kernel entry per poll submits what was queued since the last one, runs the kernel's deferred work and waits.
//! The loop of completions:
//!
//! ```text
//! submit ──► OpTable (owns the buffer) ──► submission queue ──► kernel ──► completion queue ──► reap ──► poll's vector
//!               ▲ key = user_data                                              │
//!               └── cancel, re-arm (accept, waker) before the next entry ◄─────┘
//! ```
//!
//! - An operation, its buffer and its file stay in the table until the kernel's **final** completion of it; nothing
//!   else removes it (RELIABILITY R11). Dropping the backend cancels everything and reaps until the kernel holds no
//!   memory of ours; should the ring itself fail, the memory is leaked rather than freed under the kernel.
//! - A cancel that the kernel answers with "just running" is asked again: the operation may go back to waiting.
//! - A socket is closed by the loop itself, after its last operation's final completion.
//! - The waker is an eventfd with a read always armed; io_uring peers post to the ring instead (`MSG_RING`), which
//!   costs them no system call of their own.
#![expect(
    unsafe_code,
    reason = "the kernel is handed pointers, and tells how much of a buffer it has filled"
)]

mod ring;

use super::op_table::{OpKey, OpTable};
use super::sys::{self, EventFd};
use super::{
    Backend, Completion, Errno, ListenerId, Now, Op, OpBuf, Outcome, SocketId, Token, Wait, Wake, Waker,
    accept,
};
use crate::buffer::AlignedBuf;
use crate::model::FileRef;
use io_uring::types::{CancelBuilder, Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::sync::Arc;

pub(in crate::io) use ring::Unavailable;

/// The two highest bits of user_data say what completed; the rest is an [`OpKey`] or an index.
const TAG_SHIFT: u32 = 62;
const TAG_OPERATION: u64 = 0;
/// A request to cancel the operation with this key.
const TAG_CANCEL: u64 = 1;
/// A message to the peer with this index in `peers`.
const TAG_PEER: u64 = 2;
/// A wake: the eventfd's read, or a peer's message.
const TAG_WAKE: u64 = 3;
const WAKE_BY_EVENT_FD: u64 = TAG_WAKE << TAG_SHIFT;
const WAKE_BY_PEER: u64 = WAKE_BY_EVENT_FD | 1;

/// Completions copied out of the ring at once.
const REAP_BATCH: usize = 64;
/// Further entries of one poll while the kernel says that it has more work for us: each runs about 20 items.
const EXTRA_ENTRIES_PER_POLL: usize = 8;
/// The kernel moves at most this much per transfer anyway.
const TRANSFER_BYTES_MAX: usize = 1 << 30;
/// Drop asks again at this pace for what the kernel still holds.
const DROP_WAIT_NS: u64 = 50_000_000;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// Sizes of one ring.
#[derive(Clone, Copy, Debug)]
pub struct UringOptions {
    /// Operations queued between two kernel entries before one is made in between.
    pub submissions: u32,
    /// Completions that the ring holds; the kernel keeps more in lists of its own, which is slower.
    pub completions: u32,
}

#[derive(Debug)]
struct InKernel {
    token: Token,
    kind: Kind,
    /// A cancel was asked for.
    cancelled: bool,
}
#[derive(Debug)]
enum Kind {
    /// `armed`: the kernel has it; else it waits in `to_arm`.
    Accept {
        listener: ListenerId,
        armed: bool,
    },
    Receive {
        socket: SocketId,
        buf: Vec<u8>,
    },
    Send {
        socket: SocketId,
        buf: Vec<u8>,
    },
    Read {
        _file: FileRef,
        buf: AlignedBuf,
    },
    Write {
        _file: FileRef,
        buf: AlignedBuf,
    },
    Sync {
        _file: FileRef,
    },
}

impl Kind {
    fn socket(&self) -> Option<SocketId> {
        match self {
            Self::Receive { socket, .. } | Self::Send { socket, .. } => Some(*socket),
            Self::Accept { .. } | Self::Read { .. } | Self::Write { .. } | Self::Sync { .. } => None,
        }
    }
    /// Whether it can wait for ever, so that a cancel must reach it.
    fn waits_for_others(&self) -> bool {
        matches!(self, Self::Accept { .. } | Self::Receive { .. } | Self::Send { .. })
    }
}

/// Operations of one socket.
#[derive(Debug, Default)]
struct Socket {
    ops: Vec<OpKey>,
    /// The close that waits for them.
    closing: Option<Token>,
}

/// The io_uring backend of one core: belongs to the thread that opened it.
pub struct Uring {
    ring: IoUring,
    ops: OpTable<InKernel>,
    /// By number.
    sockets: Vec<Socket>,
    /// Completions for the next poll.
    done: Vec<Completion>,
    /// Accepts to hand to the kernel again before the next entry.
    to_arm: Vec<OpKey>,
    /// Cancels to ask again before the next entry.
    to_cancel: Vec<OpKey>,
    waker: Arc<EventFd>,
    /// Where the kernel puts the eventfd's count while `waker_armed`.
    wake_count: Box<[u8; 8]>,
    waker_armed: bool,
    /// Those we have sent a message.
    peers: Vec<Waker>,
    message_ring: bool,
    accept_multishot: bool,
    /// A kernel entry failed for good.
    broken: Option<Errno>,
    /// Operations submitted whose final completion no poll has delivered.
    in_flight: usize,
    _of_one_thread: PhantomData<*const ()>,
}

/// Queues a submission; an error means that the queue is full.
fn push(ring: &mut IoUring, entry: &squeue::Entry) -> Result<(), squeue::PushError> {
    // SAFETY: memory that entries name belongs to operations in `Uring::ops`, or is `Uring::wake_count`; both stay until
    // the kernel's final completion, and `Drop for Uring` waits for that.
    unsafe { ring.submission().push(entry) }
}

fn transfer_len(len: usize) -> u32 {
    u32::try_from(len.min(TRANSFER_BYTES_MAX)).expect("the bound fits")
}

fn peer_index(bits: u64) -> usize {
    usize::try_from(bits & !(TAG_WAKE << TAG_SHIFT)).unwrap_or(usize::MAX)
}

fn operation_tag(key: OpKey) -> u64 {
    TAG_OPERATION << TAG_SHIFT | key.to_bits()
}

impl Uring {
    pub(in crate::io) fn open(options: UringOptions) -> Result<Self, Unavailable> {
        let (ring, abilities) = ring::open(options.submissions, options.completions)?;
        let reachable_at = abilities.message_ring.then(|| ring.as_raw_fd());
        let waker = Arc::new(EventFd::new(reachable_at).map_err(Unavailable::Refused)?);
        Ok(Self {
            ring,
            ops: OpTable::new(),
            sockets: Vec::new(),
            done: Vec::new(),
            to_arm: Vec::new(),
            to_cancel: Vec::new(),
            waker,
            wake_count: Box::new([0; 8]),
            waker_armed: false,
            peers: Vec::new(),
            message_ring: abilities.message_ring,
            accept_multishot: true,
            broken: None,
            in_flight: 0,
            _of_one_thread: PhantomData,
        })
    }

    fn socket(&mut self, socket: SocketId) -> &mut Socket {
        let index = usize::try_from(socket.0).expect("descriptors are not negative");
        if index >= self.sockets.len() {
            self.sockets.resize_with(index + 1, Socket::default);
        }
        &mut self.sockets[index]
    }

    fn finish(&mut self, token: Token, result: Result<Outcome, Errno>, buf: OpBuf) {
        self.done.push(Completion { token, result, buf, more: false });
    }

    /// Queues a submission, making room by a kernel entry where the queue is full.
    fn push(&mut self, entry: &squeue::Entry) {
        while self.broken.is_none() && push(&mut self.ring, entry).is_err() {
            match self.ring.submit().map_err(Errno::from) {
                Ok(_) | Err(Errno::EINTR) => {}
                // The kernel takes nothing more before its completions are read.
                Err(Errno::EAGAIN | Errno(libc::EBUSY)) => self.reap(),
                Err(errno) => self.broken = Some(errno),
            }
        }
    }

    /// Hands an operation to the kernel; `entry` makes the submission from what the table now owns.
    fn start(&mut self, token: Token, kind: Kind, entry: squeue::Entry) {
        let socket = kind.socket();
        let key = self.ops.insert(InKernel { token, kind, cancelled: false });
        if let Some(socket) = socket {
            self.socket(socket).ops.push(key);
        }
        self.push(&entry.user_data(operation_tag(key)));
    }

    fn is_closing(&mut self, socket: SocketId) -> bool {
        self.socket(socket).closing.is_some()
    }

    fn submit_receive(&mut self, token: Token, socket: SocketId, mut buf: Vec<u8>) {
        let spare = buf.spare_capacity_mut();
        assert!(!spare.is_empty(), "a receive needs spare capacity");
        if self.is_closing(socket) {
            return self.finish(token, Err(Errno::EBADF), OpBuf::Bytes(buf));
        }
        // The vector may move into the table; its bytes stay where they are.
        let entry =
            opcode::Recv::new(Fd(socket.0), spare.as_mut_ptr().cast(), transfer_len(spare.len())).build();
        self.start(token, Kind::Receive { socket, buf }, entry);
    }

    fn submit_send(&mut self, token: Token, socket: SocketId, buf: Vec<u8>, from: usize) {
        assert!(from < buf.len(), "a send needs bytes");
        if self.is_closing(socket) {
            return self.finish(token, Err(Errno::EBADF), OpBuf::Bytes(buf));
        }
        let bytes = &buf[from..];
        let entry = opcode::Send::new(Fd(socket.0), bytes.as_ptr(), transfer_len(bytes.len()))
            .flags(libc::MSG_NOSIGNAL)
            .build();
        self.start(token, Kind::Send { socket, buf }, entry);
    }

    fn submit_read(&mut self, token: Token, file: FileRef, offset: u64, mut buf: AlignedBuf) {
        let entry = opcode::Read::new(Fd(file.handle()), buf.as_mut_ptr(), transfer_len(buf.len()));
        let entry = entry.offset(offset).build();
        self.start(token, Kind::Read { _file: file, buf }, entry);
    }

    fn submit_write(&mut self, token: Token, file: FileRef, offset: u64, mut buf: AlignedBuf, durable: bool) {
        let flags = if durable { libc::RWF_DSYNC } else { 0 };
        let entry = opcode::Write::new(Fd(file.handle()), buf.as_mut_ptr(), transfer_len(buf.len()));
        let entry = entry.offset(offset).rw_flags(flags).build();
        self.start(token, Kind::Write { _file: file, buf }, entry);
    }

    fn submit_accept(&mut self, token: Token, listener: ListenerId) {
        // On older kernels an accept on a non-blocking listener fails instead of waiting.
        if let Err(errno) = sys::set_nonblocking(listener.0, false) {
            return self.finish(token, Err(errno), OpBuf::None);
        }
        let kind = Kind::Accept { listener, armed: false };
        let key = self.ops.insert(InKernel { token, kind, cancelled: false });
        self.arm_accept(key);
    }

    fn arm_accept(&mut self, key: OpKey) {
        let Some(InKernel { kind: Kind::Accept { listener, armed }, .. }) = self.ops.get_mut(key) else {
            return;
        };
        *armed = true;
        let listener = Fd(listener.0);
        let entry = if self.accept_multishot {
            opcode::AcceptMulti::new(listener).flags(libc::SOCK_CLOEXEC).build()
        } else {
            let (no_address, no_len) = (std::ptr::null_mut(), std::ptr::null_mut());
            opcode::Accept::new(listener, no_address, no_len).flags(libc::SOCK_CLOEXEC).build()
        };
        self.push(&entry.user_data(operation_tag(key)));
    }

    fn arm_waker(&mut self) {
        if !self.waker_armed {
            self.waker_armed = true;
            let count = self.wake_count.as_mut_ptr();
            let entry = opcode::Read::new(Fd(self.waker.raw_fd()), count, 8).build();
            self.push(&entry.user_data(WAKE_BY_EVENT_FD));
        }
    }

    fn push_cancel(&mut self, target: u64, tag: u64) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(target)).build();
        self.push(&entry.user_data(tag));
    }

    fn cancel_key(&mut self, key: OpKey) {
        let Some(op) = self.ops.get_mut(key) else { return };
        op.cancelled = true;
        if matches!(op.kind, Kind::Accept { armed: false, .. }) {
            // The kernel does not have it.
            self.finish_op(key, Err(Errno::ECANCELED));
        } else {
            self.push_cancel(operation_tag(key), TAG_CANCEL << TAG_SHIFT | key.to_bits());
        }
    }

    fn close(&mut self, token: Token, socket: SocketId) {
        if self.is_closing(socket) {
            return self.finish(token, Err(Errno::EBADF), OpBuf::None);
        }
        self.socket(socket).closing = Some(token);
        // Backwards: where a full queue makes `push` reap, what is left moves to places that are still to come.
        for index in (0..self.socket(socket).ops.len()).rev() {
            if let Some(key) = self.socket(socket).ops.get(index).copied() {
                self.cancel_key(key);
            }
        }
        self.close_if_unused(socket);
    }

    /// Closes a socket that is to be closed, once the kernel has let go of it.
    fn close_if_unused(&mut self, socket: SocketId) {
        let state = self.socket(socket);
        if state.ops.is_empty()
            && let Some(token) = state.closing.take()
        {
            sys::close_socket(socket);
            self.finish(token, Ok(Outcome::Done), OpBuf::None);
        }
    }

    /// Removes an operation of which the kernel holds nothing any more, and completes it.
    fn finish_op(&mut self, key: OpKey, result: Result<Outcome, Errno>) {
        let Some(InKernel { token, kind, .. }) = self.ops.remove(key) else { return };
        let socket = kind.socket();
        let buf = match kind {
            Kind::Receive { buf, .. } | Kind::Send { buf, .. } => OpBuf::Bytes(buf),
            Kind::Read { buf, .. } | Kind::Write { buf, .. } => OpBuf::Aligned(buf),
            Kind::Accept { .. } | Kind::Sync { .. } => OpBuf::None,
        };
        self.finish(token, result, buf);
        if let Some(socket) = socket {
            self.socket(socket).ops.retain(|other| *other != key);
            self.close_if_unused(socket);
        }
    }

    /// Takes all completions out of the ring.
    fn reap(&mut self) {
        let mut batch = [const { MaybeUninit::uninit() }; REAP_BATCH];
        loop {
            let entries = self.ring.completion().fill(&mut batch);
            if entries.is_empty() {
                return;
            }
            for entry in entries {
                self.on_completion(entry);
            }
        }
    }

    fn on_completion(&mut self, entry: &cqueue::Entry) {
        let (bits, result) = (entry.user_data(), entry.result());
        match bits >> TAG_SHIFT {
            TAG_OPERATION => self.on_operation(OpKey::from_bits(bits), result, cqueue::more(entry.flags())),
            TAG_CANCEL => self.on_cancel(OpKey::from_bits(bits), result),
            TAG_PEER => self.on_peer(bits, result),
            _ => {
                self.waker_armed &= bits != WAKE_BY_EVENT_FD;
                self.waker.allow_signals();
            }
        }
    }

    fn on_operation(&mut self, key: OpKey, result: i32, more: bool) {
        let Some(op) = self.ops.get_mut(key) else {
            debug_assert!(false, "the kernel completed {key:?} twice");
            return;
        };
        let count = usize::try_from(result).map_err(|_| Errno(-result));
        match &mut op.kind {
            Kind::Accept { .. } => self.on_accept(key, result, more),
            Kind::Receive { buf, .. } => {
                if let Ok(count) = count {
                    let len = buf.len() + count;
                    assert!(len <= buf.capacity(), "the kernel received more than there was room for");
                    // SAFETY: the kernel filled `count` bytes behind the old length, which no one has changed since.
                    unsafe { buf.set_len(len) };
                }
                self.finish_op(key, count.map(Outcome::Transferred));
            }
            Kind::Send { .. } | Kind::Read { .. } | Kind::Write { .. } => {
                self.finish_op(key, count.map(Outcome::Transferred));
            }
            Kind::Sync { .. } => self.finish_op(key, count.map(|_| Outcome::Done)),
        }
    }

    fn on_accept(&mut self, key: OpKey, result: i32, more: bool) {
        let Some(InKernel { token, kind: Kind::Accept { armed, .. }, cancelled }) = self.ops.get_mut(key)
        else {
            return;
        };
        let (token, cancelled) = (*token, *cancelled);
        *armed = more;
        let failure = if result < 0 { Some(Errno(-result)) } else { None };
        if failure.is_none() {
            let result = Ok(accept::accepted(SocketId(result)));
            self.done.push(Completion { token, result, buf: OpBuf::None, more: true });
        }
        if more {
            return;
        }
        let lacks_multishot = failure == Some(Errno::EINVAL) && self.accept_multishot;
        self.accept_multishot &= !lacks_multishot;
        let goes_on = lacks_multishot
            || failure.is_none_or(|errno| errno == Errno::EAGAIN || accept::concerns_one_connection(errno));
        match failure {
            _ if goes_on && !cancelled => self.to_arm.push(key),
            Some(errno) if !goes_on => self.finish_op(key, Err(errno)),
            _ => self.finish_op(key, Err(Errno::ECANCELED)),
        }
    }

    fn on_cancel(&mut self, key: OpKey, result: i32) {
        let asked_again = result < 0 && self.ops.get_mut(key).is_some_and(|op| op.kind.waits_for_others());
        if asked_again {
            self.to_cancel.push(key);
        }
    }

    fn on_peer(&mut self, bits: u64, result: i32) {
        // Whatever the reason, the peer has been claimed and nobody else would wake it.
        if result < 0
            && let Some(peer) = self.peers.get(peer_index(bits))
        {
            peer.wake_claimed();
        }
    }

    /// Queues what earlier completions asked for.
    fn push_follow_ups(&mut self) {
        self.arm_waker();
        while let Some(key) = self.to_arm.pop() {
            self.arm_accept(key);
        }
        while let Some(key) = self.to_cancel.pop() {
            self.cancel_key(key);
        }
    }

    /// Whether the kernel has work that only an entry gets done.
    fn kernel_asks(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// One kernel entry: submits everything, runs deferred work, and waits for a completion as told. It may end
    /// early, or with part of the submissions left: the next entry goes on.
    fn enter(&mut self, wait: Wait) -> Result<(), Errno> {
        let left_ns = match wait {
            Wait::No => Some(0),
            Wait::Until(u64::MAX) => None,
            Wait::Until(deadline_ns) => Some(deadline_ns.saturating_sub(sys::monotonic_ns())),
        };
        let entered = match left_ns {
            None => self.ring.submit_and_wait(1),
            Some(0) => self.ring.submit(),
            Some(ns) => {
                let nanoseconds = u32::try_from(ns % NS_PER_SECOND).unwrap_or(0);
                let time = Timespec::new().sec(ns / NS_PER_SECOND).nsec(nanoseconds);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        };
        match entered.map_err(Errno::from) {
            // The time is up; a signal came; the kernel wants its completions read first, or is short of memory.
            Ok(_) | Err(Errno(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)) => Ok(()),
            Err(errno) => {
                self.broken = Some(errno);
                Err(errno)
            }
        }
    }

    /// Cancels everything and waits until the kernel holds none of our memory, or cannot be asked any more.
    fn drain(&mut self) {
        let keys: Vec<OpKey> = self.ops.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.cancel_key(key);
        }
        if self.waker_armed {
            // Ends the read of the eventfd.
            self.waker.wake_claimed();
        }
        while self.is_in_use() && self.broken.is_none() {
            while let Some(key) = self.to_cancel.pop() {
                self.cancel_key(key);
            }
            // An error is kept in `broken`.
            let _ = self.enter(Wait::Until(sys::monotonic_ns() + DROP_WAIT_NS));
            self.reap();
        }
    }

    fn is_in_use(&self) -> bool {
        self.ops.len() > 0 || self.waker_armed
    }
}

impl Backend for Uring {
    fn name(&self) -> &'static str {
        "io_uring"
    }
    fn now(&self) -> Now {
        sys::now()
    }
    fn submit(&mut self, token: Token, op: Op) {
        self.in_flight += 1;
        match op {
            Op::Accept { listener } => self.submit_accept(token, listener),
            Op::Receive { socket, buf } => self.submit_receive(token, socket, buf),
            Op::Send { socket, buf, from } => self.submit_send(token, socket, buf, from),
            Op::Close { socket } => self.close(token, socket),
            Op::Read { file, offset, buf } => self.submit_read(token, file, offset, buf),
            Op::Write { file, offset, buf, durable } => self.submit_write(token, file, offset, buf, durable),
            Op::Sync { file } => {
                let entry = opcode::Fsync::new(Fd(file.handle())).flags(FsyncFlags::DATASYNC).build();
                self.start(token, Kind::Sync { _file: file }, entry);
            }
        }
    }
    fn poll(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> Result<(), Errno> {
        self.push_follow_ups();
        let idle = self.done.is_empty() && self.ring.completion().is_empty();
        let wait = if idle { wait } else { Wait::No };
        if wait != Wait::No || !self.ring.submission().is_empty() || self.kernel_asks() {
            self.enter(wait)?;
        }
        self.reap();
        for _ in 0..EXTRA_ENTRIES_PER_POLL {
            if !self.kernel_asks() {
                break;
            }
            self.enter(Wait::No)?;
            self.reap();
        }
        if let Some(errno) = self.broken {
            return Err(errno);
        }
        self.in_flight -= self.done.iter().filter(|completion| !completion.more).count();
        completions.append(&mut self.done);
        Ok(())
    }
    fn flush(&mut self) -> Result<(), Errno> {
        if self.ring.submission().is_empty() { Ok(()) } else { self.enter(Wait::No) }
    }
    fn cancel(&mut self, token: Token) {
        if let Some(key) = self.ops.find(|op| op.token == token && !op.cancelled) {
            self.cancel_key(key);
        }
    }
    fn in_flight(&self) -> usize {
        self.in_flight
    }
    fn waker(&self) -> Waker {
        Arc::clone(&self.waker) as Waker
    }
    fn wake_peer(&mut self, peer: &Waker) {
        let Some(ring_fd) = peer.ring_fd().filter(|_| self.message_ring) else { return peer.wake() };
        if !peer.claim() {
            return;
        }
        let is_peer = |known: &Waker| std::ptr::addr_eq(Arc::as_ptr(known), Arc::as_ptr(peer));
        let index = self.peers.iter().position(is_peer).unwrap_or_else(|| {
            self.peers.push(Arc::clone(peer));
            self.peers.len() - 1
        });
        let entry = opcode::MsgRingData::new(Fd(ring_fd), 0, WAKE_BY_PEER, None).build();
        self.push(&entry.user_data(TAG_PEER << TAG_SHIFT | index as u64));
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.drain();
        // Connections that were taken for the next poll have no owner yet.
        accept::close_undelivered(&self.done);
        if self.is_in_use() {
            log::error!("io_uring failed with operations under way; their memory is not given back");
            std::mem::forget(std::mem::replace(&mut self.ops, OpTable::new()));
            std::mem::forget(std::mem::take(&mut self.wake_count));
        }
    }
}
