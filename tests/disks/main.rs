//! Real disks that fail under the real daemon: power cuts, torn sectors, failed syncs, bad, slow and full disks.
//!
//! Needs root, loop devices and, for a disk of our own making, FUSE; what a machine lacks is said as a skip. Each test
//! has mounts of its own, which nobody else sees and which end with it.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic like the test itself")]
#![expect(clippy::disallowed_methods, reason = "real threads and real time: the daemon is a real process")]

mod crashblk;
mod cuts;
mod demo;
mod failures;
mod full;
mod kernel;
mod rounds;
#[path = "../support/mod.rs"]
mod support;
mod volume;
