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

mod completion;
mod ring;
mod submission;
#[cfg(test)]
mod tests;
mod user_data;

use super::op_table::{OpKey, OpTable};
use super::sys::{self, EventFd};
use super::{
    Backend, Completion, Errno, ListenerId, Now, Op, OpBuf, Outcome, SocketId, Token, Wait, Wake, Waker,
    accept,
};
use crate::buffer::AlignedBuf;
use crate::model::FileRef;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use user_data::UserData;

pub(in crate::io) use ring::Unavailable;

/// Further entries of one poll while the kernel says that it has more work for us: each runs about 20 items.
const EXTRA_ENTRIES_PER_POLL: usize = 8;
/// Entries of one flush; more than one only where a signal interrupts.
const FLUSH_ATTEMPTS: usize = 3;
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
    fn cpu_ns(&self) -> u64 {
        sys::thread_cpu_ns()
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
            Op::Sync { file } => self.submit_sync(token, file),
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
        for _ in 0..FLUSH_ATTEMPTS {
            if self.ring.submission().is_empty() {
                break;
            }
            self.enter(Wait::No)?;
        }
        // What a signal or a full completion queue left behind goes with the next poll.
        Ok(())
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
        let entry = opcode::MsgRingData::new(Fd(ring_fd), 0, UserData::WakeByPeer.to_bits(), None).build();
        self.push(&entry.user_data(UserData::Peer(index).to_bits()));
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
