//! A counter in the kernel whose growth ends a wait: `eventfd(2)`.
//!
//! Waking is coalesced: between two [`EventFd::clear`] calls only the first [`Wake::wake`] enters the kernel. The flag
//! is swapped on both sides, so what a thread published before `wake` is visible after the `clear` that follows.
#![expect(unsafe_code, reason = "eventfd(2) has no safe wrapper in the standard library")]

use super::last_errno;
use crate::io::{Errno, Wake};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The waker of one backend.
#[derive(Debug)]
pub(in crate::io) struct EventFd {
    fd: OwnedFd,
    signalled: AtomicBool,
    ring_fd: Option<RawFd>,
}

impl EventFd {
    /// A counter at 0. `ring_fd`: the ring through which io_uring peers may wake its owner.
    pub(in crate::io) fn new(ring_fd: Option<RawFd>) -> Result<Self, Errno> {
        // SAFETY: the call takes numbers only.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(last_errno());
        }
        // SAFETY: the kernel just made `fd` and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, signalled: AtomicBool::new(false), ring_fd })
    }
    pub(in crate::io) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
    /// Lets the next wake enter the kernel again. Call it when the wait has ended, before looking at what was published.
    pub(in crate::io) fn allow_signals(&self) {
        self.signalled.swap(false, Ordering::AcqRel);
    }
    /// Sets the counter back to 0, and as [`EventFd::allow_signals`].
    pub(in crate::io) fn clear(&self) {
        let mut count = 0_u64;
        // SAFETY: the call fills the 8 bytes of a live local.
        let result = unsafe { libc::read(self.raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
        // EAGAIN: the counter was 0 already. Nothing else can go wrong with a counter.
        debug_assert!(result == 8 || last_errno() == Errno::EAGAIN);
        self.allow_signals();
    }
}

impl Wake for EventFd {
    fn wake(&self) {
        if self.claim() {
            self.wake_claimed();
        }
    }
    fn ring_fd(&self) -> Option<RawFd> {
        self.ring_fd
    }
    fn claim(&self) -> bool {
        !self.signalled.swap(true, Ordering::AcqRel)
    }
    fn wake_claimed(&self) {
        let one = 1_u64;
        // SAFETY: the call reads the 8 bytes of a live local.
        let result = unsafe { libc::write(self.raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
        // EAGAIN would mean 2^64 - 2 unread wakes; the owner is awake then.
        debug_assert!(result == 8 || last_errno() == Errno::EAGAIN);
    }
}
