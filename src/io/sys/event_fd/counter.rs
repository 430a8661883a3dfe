//! The counter itself: in the kernel, or, where loom tries all orders of events, a model of the kernel's.
#![cfg_attr(
    not(loom),
    expect(unsafe_code, reason = "eventfd(2) has no safe wrapper in the standard library")
)]

use crate::io::Errno;
#[cfg(not(loom))]
use crate::io::sys::last_errno;
use std::os::fd::RawFd;
#[cfg(not(loom))]
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A counter at 0 that can be waited for.
#[cfg(not(loom))]
#[derive(Debug)]
pub(super) struct Counter {
    fd: OwnedFd,
}

#[cfg(not(loom))]
impl Counter {
    pub(super) fn new() -> Result<Self, Errno> {
        // SAFETY: the call takes numbers only.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(last_errno());
        }
        // SAFETY: the kernel just made `fd` and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }
    pub(super) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
    /// Ends the wait, or the next one.
    pub(super) fn add_one(&self) {
        let one = 1_u64;
        // SAFETY: the call reads the 8 bytes of a live local.
        let result = unsafe { libc::write(self.raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
        // EAGAIN would mean 2^64 - 2 unread wakes; the owner is awake then.
        debug_assert!(result == 8 || last_errno() == Errno::EAGAIN);
    }
    /// Sets the counter back to 0.
    pub(super) fn take(&self) {
        let mut count = 0_u64;
        // SAFETY: the call fills the 8 bytes of a live local.
        let result = unsafe { libc::read(self.raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
        // EAGAIN: the counter was 0 already. Nothing else can go wrong with a counter.
        debug_assert!(result == 8 || last_errno() == Errno::EAGAIN);
    }
}

/// The model: a number under a lock, as in the kernel's `eventfd_ctx`.
#[cfg(loom)]
#[derive(Debug)]
pub(super) struct Counter {
    count: loom::sync::Mutex<u64>,
    raised: loom::sync::Condvar,
}

#[cfg(loom)]
impl Counter {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self { count: loom::sync::Mutex::new(0), raised: loom::sync::Condvar::new() })
    }
    pub(super) fn raw_fd(&self) -> RawFd {
        unreachable!("a model has no descriptor")
    }
    pub(super) fn add_one(&self) {
        *self.count.lock().expect("no model panics") += 1;
        self.raised.notify_one();
    }
    pub(super) fn take(&self) {
        *self.count.lock().expect("no model panics") = 0;
    }
    /// Waits until the counter is above 0.
    pub(super) fn wait(&self) {
        let mut count = self.count.lock().expect("no model panics");
        while *count == 0 {
            count = self.raised.wait(count).expect("no model panics");
        }
    }
}
