//! What tskv asks of Linux besides file and socket operations: clocks, CPUs, limits, threads, wakers, listeners.
//!
//! The only place that reads a clock or starts a thread for the daemon; everything above is handed the time.
//! Nothing here is fatal by itself: each call reports, the caller decides.

mod cgroup;
mod clock;
mod cpu;
mod event_fd;
mod listener;
mod memory;
mod rlimit;
mod socket;
mod thread;

pub use clock::{monotonic_ns, now, thread_cpu_ns};
pub use cpu::{available_cpus, core_count_default, pin_to_cpu};
pub use listener::bind_listeners;
pub use memory::memory_bytes;
pub use rlimit::{open_files_limit, raise_open_files_limit};
pub use socket::{close_listener, close_socket, peer_address};
pub use thread::{ThreadSpawner, lower_thread_priority, spawn_thread};

#[cfg(loom)]
pub(crate) use event_fd::EventFd;
#[cfg(not(loom))]
pub(in crate::io) use event_fd::EventFd;
pub(in crate::io) use socket::{accept, receive, send, set_nonblocking};

use super::Errno;
use std::io;

/// The error number that the last system call of this thread left.
pub(in crate::io) fn last_errno() -> Errno {
    io::Error::last_os_error().into()
}

/// The value of a system call that answers -1 for an error.
pub(in crate::io) fn check(result: i64) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| last_errno())
}
