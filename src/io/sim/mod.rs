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
//! **A simulated job blocks nowhere but in [`crate::io::Files`].** Waiting on a channel or a condition would stop the
//! whole world, for whoever could end the wait does not get to run; so would a lock that another job, or the driver's
//! code, needs while its holder is in a `Files` call. Jobs send results through unbounded channels, and the driver
//! looks for them between steps with `try_recv`.
//!
//! A power cut ([`Crash::PowerCut`]) or kill ([`Crash::ProcessKill`]) can come between any two steps, and with
//! [`SimWorld::cut_after`] between any two disk operations of code that runs to its end, such as recovery.
//!
//! A driver of one core and two jobs, through a power cut and a restart:
//!
//! ```
//! use std::path::Path;
//! use tskv::buffer::AlignedBuf;
//! use tskv::io::sim::{Crash, SimWorld};
//! use tskv::io::{Backend, Op, Token, Wait};
//!
//! let world = SimWorld::from_seed(7);
//! world.with_disk(|disk| disk.plant_file(Path::new("wal/1"), b"")).unwrap();
//! let mut dice = world.fork_rng();
//! for life in 0..2 {
//!     let (files, spawner, mut core) = (world.files(), world.spawner(), world.backend());
//!     for job in 0..2 {
//!         let files = world.files();
//!         let work = move || drop(files.create(Path::new(&format!("{life}.{job}"))));
//!         spawner.spawn("example", Box::new(work));
//!     }
//!     let (file, _direct) = files.open_for_wal(Path::new("wal/1")).unwrap();
//!     let write = Op::Write { file, offset: 0, buf: AlignedBuf::zeroed(4096), durable: true };
//!     core.submit(Token(life), write);
//!     let mut completions = Vec::new();
//!     for _step in 0..dice.below(10) {
//!         match dice.below(3) {
//!             0 => drop(world.step_any_job()),
//!             1 if world.is_runnable(core.id()) => core.poll(Wait::Until(u64::MAX), &mut completions).unwrap(),
//!             _ => drop(world.advance_to_next_event()),
//!         }
//!     }
//!     world.crash(Crash::PowerCut);
//!     world.restart();
//!     let survived = world.files().read_all(Path::new("wal/1"), 1 << 20).unwrap();
//!     assert!(completions.is_empty() || survived == [0; 4096], "seed {}: acknowledged and lost", world.seed());
//! }
//! ```

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
pub use faults::{Chaos, Fault, FaultEffect, FileFault, FileKind, FileOperations, OpKind};
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
