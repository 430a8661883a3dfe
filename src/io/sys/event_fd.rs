//! A counter in the kernel whose growth ends a wait: `eventfd(2)`.
//!
//! Waking is coalesced: between two [`EventFd::clear`] calls only the first [`Wake::wake`] enters the kernel. The flag
//! is swapped on both sides, so what a thread published before `wake` is visible after the `clear` that follows.

mod counter;

use crate::io::{Errno, Wake};
use counter::Counter;
#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering};
use std::os::fd::RawFd;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering};

/// The waker of one backend.
#[derive(Debug)]
pub(crate) struct EventFd {
    counter: Counter,
    signalled: AtomicBool,
    ring_fd: Option<RawFd>,
}

impl EventFd {
    /// A counter at 0. `ring_fd`: the ring through which io_uring peers may wake its owner.
    pub(crate) fn new(ring_fd: Option<RawFd>) -> Result<Self, Errno> {
        Ok(Self { counter: Counter::new()?, signalled: AtomicBool::new(false), ring_fd })
    }
    pub(in crate::io) fn raw_fd(&self) -> RawFd {
        self.counter.raw_fd()
    }
    /// Waits as a backend does, where the kernel is a model.
    #[cfg(loom)]
    pub(crate) fn wait(&self) {
        self.counter.wait();
    }
    /// Lets the next wake enter the kernel again. Call it when the wait has ended, before looking at what was published.
    pub(in crate::io) fn allow_signals(&self) {
        self.signalled.swap(false, Ordering::AcqRel);
    }
    /// Sets the counter back to 0, and as [`EventFd::allow_signals`].
    pub(crate) fn clear(&self) {
        self.counter.take();
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
        self.counter.add_one();
    }
}
