//! The epoll backend: for kernels and containers without io_uring.
//!
//! Socket operations are tried when they are submitted and parked where they would wait; an edge from epoll lets them
//! run again. A descriptor is watched from its first parked operation on, so a connection that was accepted here can
//! be handed to another core as long as nothing was submitted on it. File operations go to one helper thread per
//! core, except reads that the page cache can serve at once: the loop never writes to a file and never syncs.
//!
//! Readiness is remembered per descriptor. It is cleared by `EAGAIN`, and by a short transfer, which on a stream
//! means that the kernel's buffer is used up (`epoll(7)`); once the peer has ended its side reading never waits again.

mod file_call;
mod helper;
mod poller;

use super::op_table::{OpKey, OpTable};
use super::sys::{self, EventFd};
use super::{
    Backend, Completion, Errno, ListenerId, Now, Op, OpBuf, Outcome, SocketId, Token, Wait, Waker, accept,
};
use crate::buffer::AlignedBuf;
use crate::model::FileRef;
use helper::{Finished, Helper, Job, Work};
use poller::Poller;
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;

/// Connections taken from one listener per poll; the others wait for the next one.
const ACCEPTS_PER_POLL: usize = 64;

/// An operation that waits for its descriptor, or for the helper.
#[derive(Debug)]
struct Parked {
    token: Token,
    kind: Kind,
}
#[derive(Debug)]
enum Kind {
    Accept {
        listener: ListenerId,
    },
    Receive {
        socket: SocketId,
        buf: Vec<u8>,
    },
    Send {
        socket: SocketId,
        buf: Vec<u8>,
        from: usize,
    },
    /// The helper, or the queue to it, holds the buffer.
    File,
}

/// What is known of a descriptor.
#[derive(Debug)]
struct Descriptor {
    /// Operations that wait until it is readable, oldest first.
    readers: VecDeque<OpKey>,
    /// Operations that wait until it is writable, oldest first.
    writers: VecDeque<OpKey>,
    watched: bool,
    readable: bool,
    writable: bool,
    ended: bool,
}

impl Descriptor {
    /// Nothing is known: trying will tell.
    fn new() -> Self {
        let (readers, writers) = (VecDeque::new(), VecDeque::new());
        Self { readers, writers, watched: false, readable: true, writable: true, ended: false }
    }
    /// Forgets a descriptor whose number may come back as another; keeps the queues' memory.
    fn forget(&mut self) {
        assert!(self.readers.is_empty() && self.writers.is_empty(), "operations outlive their descriptor");
        (self.watched, self.readable, self.writable, self.ended) = (false, true, true, false);
    }
}

/// The epoll backend of one core.
pub struct Epoll {
    poller: Poller,
    waker: Arc<EventFd>,
    /// Waits for the transfer under way when dropped.
    helper: Helper,
    ops: OpTable<Parked>,
    /// By number.
    descriptors: Vec<Descriptor>,
    /// Completions for the next poll.
    done: Vec<Completion>,
    /// Listeners that may have more connections than the last poll took.
    listeners_ready: Vec<ListenerId>,
    /// File operations that the helper has.
    helper_jobs: usize,
    /// Kept for its memory; empty between polls.
    finished: Vec<Finished>,
    /// Operations submitted whose final completion no poll has delivered.
    in_flight: usize,
}

impl Epoll {
    /// An epoll instance with its helper thread, which is called `helper_name`.
    ///
    /// # Errors
    /// Out of descriptors, memory or threads.
    pub fn open(helper_name: &str) -> Result<Self, Errno> {
        let waker = Arc::new(EventFd::new(None)?);
        let poller = Poller::new()?;
        poller.watch_reading(waker.raw_fd())?;
        let helper = Helper::start(helper_name, Arc::clone(&waker))?;
        Ok(Self {
            poller,
            waker,
            helper,
            ops: OpTable::new(),
            descriptors: Vec::new(),
            done: Vec::new(),
            listeners_ready: Vec::new(),
            helper_jobs: 0,
            finished: Vec::new(),
            in_flight: 0,
        })
    }

    fn descriptor(&mut self, fd: RawFd) -> &mut Descriptor {
        let index = usize::try_from(fd).expect("descriptors are not negative");
        if index >= self.descriptors.len() {
            self.descriptors.resize_with(index + 1, Descriptor::new);
        }
        &mut self.descriptors[index]
    }

    fn finish(&mut self, token: Token, result: Result<Outcome, Errno>, buf: OpBuf) {
        self.done.push(Completion { token, result, buf, more: false });
    }

    /// Ends a parked operation.
    fn finish_parked(&mut self, key: OpKey, result: Result<Outcome, Errno>) {
        let Parked { token, kind } =
            self.ops.remove(key).expect("queues hold keys of parked operations only");
        let buf = match kind {
            Kind::Receive { buf, .. } | Kind::Send { buf, .. } => OpBuf::Bytes(buf),
            Kind::Accept { .. } | Kind::File => OpBuf::None,
        };
        self.finish(token, result, buf);
    }

    /// Queues an operation behind the older ones of its kind, and tries them.
    fn submit_reader(&mut self, fd: RawFd, parked: Parked) {
        let key = self.ops.insert(parked);
        self.descriptor(fd).readers.push_back(key);
        self.run_readers(fd);
    }
    fn submit_writer(&mut self, fd: RawFd, parked: Parked) {
        let key = self.ops.insert(parked);
        self.descriptor(fd).writers.push_back(key);
        self.run_writers(fd);
    }

    fn run_readers(&mut self, fd: RawFd) {
        loop {
            let descriptor = self.descriptor(fd);
            let Some(key) = descriptor.readers.front().copied() else { return };
            if !descriptor.readable {
                return self.watch(fd);
            }
            let parked = self.ops.get_mut(key).expect("queues hold keys of parked operations only");
            let result = match &mut parked.kind {
                Kind::Accept { listener } => {
                    let listener = *listener;
                    return self.run_accept(key, listener);
                }
                Kind::Receive { buf, .. } => {
                    let room = buf.capacity() - buf.len();
                    sys::receive(fd, buf).map(|count| (count, count < room))
                }
                Kind::Send { .. } | Kind::File => unreachable!("only accepts and receives read"),
            };
            let descriptor = self.descriptor(fd);
            match result {
                Err(Errno::EAGAIN) => descriptor.readable = false,
                Err(Errno::EINTR) => {}
                result => {
                    if result.is_ok_and(|(count, short)| short && count > 0) {
                        descriptor.readable = descriptor.ended;
                    }
                    descriptor.readers.pop_front();
                    self.finish_parked(key, result.map(|(count, _)| Outcome::Transferred(count)));
                }
            }
        }
    }

    fn run_writers(&mut self, fd: RawFd) {
        loop {
            let descriptor = self.descriptor(fd);
            let Some(key) = descriptor.writers.front().copied() else { return };
            if !descriptor.writable {
                return self.watch(fd);
            }
            let parked = self.ops.get_mut(key).expect("queues hold keys of parked operations only");
            let Kind::Send { buf, from, .. } = &parked.kind else { unreachable!("only sends write") };
            let bytes = buf.get(*from..).unwrap_or(&[]);
            let wanted = bytes.len();
            let result = sys::send(fd, bytes);
            let descriptor = self.descriptor(fd);
            match result {
                Err(Errno::EAGAIN) => descriptor.writable = false,
                Err(Errno::EINTR) => {}
                result => {
                    // A short send leaves it writable: the rest, when it comes, finds out.
                    debug_assert!(result.is_err() || result.is_ok_and(|count| count <= wanted));
                    descriptor.writers.pop_front();
                    self.finish_parked(key, result.map(Outcome::Transferred));
                }
            }
        }
    }

    /// Takes connections until there are no more, or enough for one poll.
    fn run_accept(&mut self, key: OpKey, listener: ListenerId) {
        let Some(Parked { token, .. }) = self.ops.get_mut(key) else { return };
        let token = *token;
        for _ in 0..ACCEPTS_PER_POLL {
            match sys::accept(listener.0) {
                Ok(socket) => {
                    // The number may have been another connection's, closed by another core.
                    self.descriptor(socket.0).forget();
                    let result = Ok(accept::accepted(socket));
                    self.done.push(Completion { token, result, buf: OpBuf::None, more: true });
                }
                Err(Errno::EAGAIN) => {
                    self.descriptor(listener.0).readable = false;
                    return self.watch(listener.0);
                }
                Err(errno) if accept::concerns_one_connection(errno) => {}
                Err(errno) => {
                    self.descriptor(listener.0).readers.pop_front();
                    return self.finish_parked(key, Err(errno));
                }
            }
        }
        if !self.listeners_ready.contains(&listener) {
            self.listeners_ready.push(listener);
        }
    }

    /// Makes epoll tell when a descriptor with parked operations is ready.
    fn watch(&mut self, fd: RawFd) {
        if self.descriptor(fd).watched {
            return;
        }
        match self.poller.watch(fd) {
            Ok(()) => self.descriptor(fd).watched = true,
            Err(errno) => self.end_all(fd, errno),
        }
    }

    /// Ends everything that is parked on a descriptor.
    fn end_all(&mut self, fd: RawFd, errno: Errno) {
        loop {
            let descriptor = self.descriptor(fd);
            let Some(key) = descriptor.readers.pop_front().or_else(|| descriptor.writers.pop_front()) else {
                return;
            };
            self.finish_parked(key, Err(errno));
        }
    }

    fn submit_accept(&mut self, token: Token, listener: ListenerId) {
        // An accept with nothing to take would stop the loop.
        match sys::set_nonblocking(listener.0, true) {
            Ok(()) => self.submit_reader(listener.0, Parked { token, kind: Kind::Accept { listener } }),
            Err(errno) => self.finish(token, Err(errno), OpBuf::None),
        }
    }

    fn submit_read(&mut self, token: Token, file: FileRef, offset: u64, mut buf: AlignedBuf) {
        match file_call::read_without_waiting(&file, &mut buf, offset) {
            Ok(count) => self.finish(token, Ok(Outcome::Transferred(count)), OpBuf::Aligned(buf)),
            // Whatever was wrong, the helper's read finds out.
            Err(_) => self.submit_file(token, file, Work::Read { offset }, OpBuf::Aligned(buf)),
        }
    }

    fn submit_file(&mut self, token: Token, file: FileRef, work: Work, buf: OpBuf) {
        let key = self.ops.insert(Parked { token, kind: Kind::File });
        self.helper_jobs += 1;
        self.helper.submit(Job { key, file, work, buf });
    }

    fn close(&mut self, token: Token, socket: SocketId) {
        self.end_all(socket.0, Errno::ECANCELED);
        self.descriptor(socket.0).forget();
        sys::close_socket(socket);
        self.finish(token, Ok(Outcome::Done), OpBuf::None);
    }

    fn on_ready(&mut self, index: usize) {
        let ready = self.poller.ready(index);
        if ready.fd == self.waker.raw_fd() {
            return self.waker.clear();
        }
        let descriptor = self.descriptor(ready.fd);
        descriptor.readable |= ready.readable;
        descriptor.writable |= ready.writable;
        descriptor.ended |= ready.ended;
        self.run_readers(ready.fd);
        self.run_writers(ready.fd);
    }

    fn collect_from_helper(&mut self) {
        if self.helper_jobs == 0 {
            return;
        }
        let mut finished = std::mem::take(&mut self.finished);
        self.helper.take_finished(&mut finished);
        self.helper_jobs -= finished.len();
        for Finished { key, result, buf } in finished.drain(..) {
            let Parked { token, .. } =
                self.ops.remove(key).expect("a job's operation stays until it is finished");
            self.finish(token, result, buf);
        }
        self.finished = finished;
    }
}

impl Backend for Epoll {
    fn name(&self) -> &'static str {
        "epoll"
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
            Op::Receive { socket, buf } => {
                assert!(buf.len() < buf.capacity(), "a receive needs spare capacity");
                self.submit_reader(socket.0, Parked { token, kind: Kind::Receive { socket, buf } });
            }
            Op::Send { socket, buf, from } => {
                assert!(from < buf.len(), "a send needs bytes");
                self.submit_writer(socket.0, Parked { token, kind: Kind::Send { socket, buf, from } });
            }
            Op::Close { socket } => self.close(token, socket),
            Op::Read { file, offset, buf } => self.submit_read(token, file, offset, buf),
            Op::Write { file, offset, buf, durable } => {
                self.submit_file(token, file, Work::Write { offset, durable }, OpBuf::Aligned(buf));
            }
            Op::Sync { file } => self.submit_file(token, file, Work::Sync, OpBuf::None),
        }
    }
    fn poll(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> Result<(), Errno> {
        let idle = self.done.is_empty() && self.listeners_ready.is_empty();
        let count = self.poller.wait(if idle { wait } else { Wait::No })?;
        for index in 0..count {
            self.on_ready(index);
        }
        for _ in 0..self.listeners_ready.len() {
            let listener = self.listeners_ready.swap_remove(0);
            self.run_readers(listener.0);
        }
        self.collect_from_helper();
        self.in_flight -= self.done.iter().filter(|completion| !completion.more).count();
        completions.append(&mut self.done);
        Ok(())
    }
    fn flush(&mut self) -> Result<(), Errno> {
        // Everything was passed on when it was submitted.
        Ok(())
    }
    fn cancel(&mut self, token: Token) {
        let Some(key) = self.ops.find(|parked| parked.token == token) else { return };
        let Some(parked) = self.ops.get_mut(key) else { return };
        let fd = match &parked.kind {
            Kind::Accept { listener } => listener.0,
            Kind::Receive { socket, .. } | Kind::Send { socket, .. } => socket.0,
            Kind::File => {
                // What the helper has begun runs to its end.
                if let Some(job) = self.helper.withdraw(key) {
                    self.helper_jobs -= 1;
                    self.ops.remove(key);
                    self.finish(token, Err(Errno::ECANCELED), job.buf);
                }
                return;
            }
        };
        let descriptor = self.descriptor(fd);
        descriptor.readers.retain(|other| *other != key);
        descriptor.writers.retain(|other| *other != key);
        self.finish_parked(key, Err(Errno::ECANCELED));
    }
    fn in_flight(&self) -> usize {
        self.in_flight
    }
    fn waker(&self) -> Waker {
        Arc::clone(&self.waker) as Waker
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        // Connections that were taken for the next poll have no owner yet.
        accept::close_undelivered(&self.done);
    }
}
