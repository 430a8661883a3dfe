//! `epoll(7)`: which descriptors are ready.
#![expect(unsafe_code, reason = "epoll has no safe wrapper in the standard library")]

use crate::io::sys::{check, last_errno};
use crate::io::{Errno, Wait, sys};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Events taken by one wait; more stay for the next.
const EVENTS_MAX: i32 = 256;
const NS_PER_SECOND: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) fd: RawFd,
    /// Something can be read: bytes, a connection, the end, or an error.
    pub(super) readable: bool,
    /// Something can be written, or writing would tell the error.
    pub(super) writable: bool,
    /// The peer will send no more, or the socket is broken: reading never waits again.
    pub(super) ended: bool,
}

/// One epoll instance; dropping it closes it.
pub(super) struct Poller {
    fd: OwnedFd,
    events: Box<[libc::epoll_event]>,
    /// Events of the last wait.
    count: usize,
    /// `epoll_pwait2(2)` (Linux 5.11) is missing or forbidden: waits are rounded up to milliseconds.
    coarse: bool,
}

impl Poller {
    pub(super) fn new() -> Result<Self, Errno> {
        // SAFETY: takes a number only.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(last_errno());
        }
        // SAFETY: the kernel just made `fd` and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX.unsigned_abs() as usize]
            .into_boxed_slice();
        Ok(Self { fd, events, count: 0, coarse: false })
    }

    /// Watches both directions of a descriptor, edge-triggered: what is ready already counts as an edge. Closing the
    /// descriptor ends it.
    pub(super) fn watch(&self, fd: RawFd) -> Result<(), Errno> {
        self.add(fd, libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP)
    }

    /// As [`Poller::watch`], for reading only: emptying an eventfd would otherwise be an event of its own.
    pub(super) fn watch_reading(&self, fd: RawFd) -> Result<(), Errno> {
        self.add(fd, libc::EPOLLIN)
    }

    fn add(&self, fd: RawFd, interest: i32) -> Result<(), Errno> {
        let wanted = interest | libc::EPOLLET;
        let mut event =
            libc::epoll_event { events: wanted.cast_unsigned(), u64: u64::from(fd.cast_unsigned()) };
        // SAFETY: `event` is a live local that the call reads.
        let result = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        check(result.into()).map(drop)
    }

    /// Waits as told and says how many descriptors are ready; an interrupted wait ends early with none.
    pub(super) fn wait(&mut self, wait: Wait) -> Result<usize, Errno> {
        let left_ns = match wait {
            Wait::No => Some(0),
            Wait::Until(u64::MAX) => None,
            Wait::Until(deadline_ns) => Some(deadline_ns.saturating_sub(sys::monotonic_ns())),
        };
        let mut result = if self.coarse { self.wait_ms(left_ns) } else { self.wait_ns(left_ns) };
        if !self.coarse && matches!(result, Err(Errno(libc::ENOSYS | libc::EPERM))) {
            self.coarse = true;
            result = self.wait_ms(left_ns);
        }
        self.count = match result {
            Err(Errno::EINTR) => 0,
            result => result?,
        };
        Ok(self.count)
    }

    /// What the last wait found at `index`.
    pub(super) fn ready(&self, index: usize) -> Ready {
        assert!(index < self.count, "no event was found there");
        let event = self.events[index];
        let has = |flags: i32| event.events & flags.cast_unsigned() != 0;
        let ended = has(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR);
        let [a, b, c, d, ..] = { event.u64 }.to_le_bytes();
        Ready {
            fd: RawFd::from_le_bytes([a, b, c, d]),
            readable: ended || has(libc::EPOLLIN),
            writable: has(libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR),
            ended,
        }
    }

    fn wait_ns(&mut self, left_ns: Option<u64>) -> Result<usize, Errno> {
        let time = left_ns.map(|ns| libc::timespec {
            tv_sec: i64::try_from(ns / NS_PER_SECOND).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(ns % NS_PER_SECOND).unwrap_or(0),
        });
        let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let (fd, events) = (self.fd.as_raw_fd(), self.events.as_mut_ptr());
        // SAFETY: `events` has room for EVENTS_MAX events, `time` is null or a live local, no mask is given.
        let result = unsafe { libc::epoll_pwait2(fd, events, EVENTS_MAX, time, std::ptr::null()) };
        check(result.into())
    }

    fn wait_ms(&mut self, left_ns: Option<u64>) -> Result<usize, Errno> {
        // Rounded up: waking early would spin until the deadline.
        let ms = left_ns.map_or(-1, |ns| i32::try_from(ns.div_ceil(NS_PER_MS)).unwrap_or(i32::MAX));
        let (fd, events) = (self.fd.as_raw_fd(), self.events.as_mut_ptr());
        // SAFETY: `events` has room for EVENTS_MAX events.
        let result = unsafe { libc::epoll_wait(fd, events, EVENTS_MAX, ms) };
        check(result.into())
    }
}
