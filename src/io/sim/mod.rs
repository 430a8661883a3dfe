//! A simulated machine: virtual clock, a disk that forgets, sockets, faults and jobs, all from one seed.
//!
//! ```text
//!  driver ── step_job ──► job threads ── SimFiles ───┐
//!     │                                              ▼
//!     ├── turn ──► CoreLoop<SimBackend> ──────► SimWorld { dice, clock, SimDisk, faults, sockets }
//!     ├── advance_to_next_event ────────────────────▲
//!     └── SimClient (bytes in, bytes out) ──────────┘
//! ```
//! Exactly one thread runs at any moment: the driver's, or that of the job which it steps. Nothing moves by itself,
//! so equal seeds and equal drivers give equal runs ([`SimWorld::trace_hash`]).
//!
//! **A simulated job blocks nowhere but in [`crate::io::Files`].** Waiting on a channel, a lock or a condition would
//! stop the whole world, for whoever could end the wait does not get to run. Jobs send results through unbounded
//! channels, and the driver looks for them between steps with `try_recv`.
//!
//! A power cut ([`Crash::PowerCut`]) or kill ([`Crash::ProcessKill`]) can come between any two steps, and with
//! [`SimWorld::cut_after`] between any two disk operations of code that runs to its end, such as recovery.

mod backend;
mod disk;
mod faults;
mod files;
mod jobs;
mod net;
mod rng;
mod state;
#[cfg(test)]
mod tests;
mod trace;
mod world;

pub use backend::{SimBackend, SimWaker};
pub use disk::{OpenMode, SECTOR_BYTES, SimDisk};
pub use faults::{Chaos, Fault, FaultEffect, OpKind};
pub use files::SimFiles;
pub use jobs::{JobId, JobStep, SimSpawner};
pub use net::SimClient;
pub use rng::Rng;
pub use state::BackendId;
pub use world::{SimOptions, SimWorld};

/// How a life of the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// What was not synced is lost, kept or torn.
    PowerCut,
    /// `kill -9`, or the end of a process that shut down well: it is gone, the kernel keeps all that was written,
    /// durable or not.
    ProcessKill,
}
