//! Whole nodes, simulated: the daemon's cores, coordinator, jobs and store on one machine of [`crate::io::sim`], with
//! clients, crashes and an oracle, all from one seed.
//!
//! ```text
//!  plan ── draws settings, troubles, the end ─▶ schedule ── order of steps ─▶ node: CoreLoop<SimBackend> × cores,
//!                                                  │                                Coordinator, jobs
//!                     workload ── requests ─▶ client: RESP and native bytes ───────────────┘
//!                                                  └─▶ oracle: every request and reply, every recovery ─▶ verdict
//! ```
//! Equal options give equal runs: [`Summary::trace_hash`], on any machine and in any build. A seed that fails is
//! replayed with the `tskv simulate` line that it prints; [`shrink()`] makes that line smaller.
//!
//! # What the oracle expects under each fault
//!
//! | fault | expected |
//! |---|---|
//! | none | each reply right; everything answered once the node rests; the last life takes writes |
//! | crash, recovery-crash | every acknowledged write is there afterwards, and what replies have shown; each key holds a prefix of its operations, without holes in its stream; the next recovery finds the same |
//! | power-cut, torn, lost-names | the same under `always`; `interval`: what was acknowledged longer ago than the interval and a sync; `none`: any prefix per stream |
//! | eio | IOERR is an answer, and leaves the outcome open; a core may end the process or refuse writes; a merge, flush or open may fail and is repeated. Nothing acknowledged is lost |
//! | enospc | NOSPACE is an answer, and nothing was done; opens may fail until there is space. Five seconds after space returned no write may be refused for it |
//! | short, interrupted | nobody notices |
//! | slow-disk, hung-disk | BUSY is an answer, and nothing was done; nothing else changes |
//! | latent | a read may be answered with IOERR; other answers are right |
//! | rot | the store refuses to open, or answers are right, or errors; never other data. In the log, the tail may be cut off |
//! | slow-client, deaf-client | their replies come later, or the server gives them up; others' do not change |
//! | half-close | everything asked before is answered, then the server closes |
//! | reset | the outcome of what was under way is open |
//! | clock-jump, pause | nobody notices |
//! | tiny | BUSY at most |
//! | moves | nobody notices; each key by itself holds a prefix of its operations |

mod age;
mod campaign;
mod client;
mod faults;
mod model;
mod node;
mod options;
mod oracle;
mod plan;
mod schedule;
mod shrink;
pub mod sweep;
#[cfg(test)]
mod tests;
mod trouble;
mod workload;

pub use campaign::run_many;
pub use faults::{FaultKind, FaultSet};
pub use options::{SimulationOptions, parse_skip};
pub use shrink::shrink;

/// Lives that a seed draws at most, before the last, healthy one.
pub const LIVES_MAX: u64 = plan::LIVES_MAX;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// What a run went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Every decision and operation as one number.
    pub trace_hash: u64,
    /// Lives of the node.
    pub lives: u64,
    /// Crashes, those during recovery included.
    pub crashes: u64,
    /// Opens that were interrupted, or failed because the machine did, or were repeated to see the same again.
    pub opens_cut: u64,
    /// Orderly shutdowns.
    pub shutdowns: u64,
    /// Times that a node came to rest with every request answered.
    pub rests: u64,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Questions answered, and the answers judged.
    pub answered: u64,
    /// Writes refused because the node could not keep up, was full, or went down.
    pub refused: u64,
    /// Requests answered with an error of the machine or a refusal.
    pub failed: u64,
    /// Planted failures and bad sectors that were met.
    pub faults: u64,
    /// Bits flipped in files at rest.
    pub flips: u64,
    /// Those that made the store refuse to open, or to answer.
    pub flips_noticed: u64,
    /// Times that a reply showed samples to be gone for their age.
    pub expired: u64,
    /// Log records that recoveries replayed.
    pub replayed: u64,
    /// Recoveries that found a torn tail.
    pub torn: u64,
    /// Boundaries that were moved.
    pub moves: u64,
    /// Moves that were given up.
    pub moves_refused: u64,
}

impl Summary {
    /// Adds what another run went through; the hash is left alone.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.lives, other.lives),
            (&mut self.crashes, other.crashes),
            (&mut self.opens_cut, other.opens_cut),
            (&mut self.shutdowns, other.shutdowns),
            (&mut self.rests, other.rests),
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.answered, other.answered),
            (&mut self.refused, other.refused),
            (&mut self.failed, other.failed),
            (&mut self.faults, other.faults),
            (&mut self.flips, other.flips),
            (&mut self.flips_noticed, other.flips_noticed),
            (&mut self.expired, other.expired),
            (&mut self.replayed, other.replayed),
            (&mut self.torn, other.torn),
            (&mut self.moves, other.moves),
            (&mut self.moves_refused, other.moves_refused),
        ];
        pairs.into_iter().for_each(|(sum, part)| *sum += part);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} lives, {} crashes, {} opens interrupted, {} shutdowns, {} writes acknowledged, {} refused, {} answers \
             judged, {} errors, {} faults met, {} bits flipped ({} noticed), {} replies that showed \
             samples too old, {} records replayed, {} torn tails, {} boundaries moved ({} moves given up)",
            self.lives,
            self.crashes,
            self.opens_cut,
            self.shutdowns,
            self.acknowledged,
            self.refused,
            self.answered,
            self.failed,
            self.faults,
            self.flips,
            self.flips_noticed,
            self.expired,
            self.replayed,
            self.torn,
            self.moves,
            self.moves_refused
        )
    }
}

/// What sort of promise was broken; shrinking keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViolationKind {
    /// A reply is wrong, missing, or came twice.
    Answer,
    /// A restart found the wrong things.
    Recovery,
    /// The store does not open.
    Open,
    /// Nothing goes on.
    Hang,
    /// A core ended by itself.
    CoreEnded,
}

impl fmt::Display for ViolationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answer => "wrong answer",
            Self::Recovery => "wrong recovery",
            Self::Open => "no open",
            Self::Hang => "hang",
            Self::CoreEnded => "core ended",
        })
    }
}

/// What a run did wrong.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The run that shows it.
    pub options: SimulationOptions,
    /// Which sort.
    pub kind: ViolationKind,
    /// In which life of the node, from 0.
    pub life: u64,
    /// What is wrong.
    pub what: String,
    /// What that life was made of.
    pub settings: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { options, kind, life, what, settings } = self;
        write!(
            f,
            "seed {}, life {life}: {kind}: {what}\n{settings}\nreplay: tskv simulate {options}",
            options.seed
        )
    }
}
impl std::error::Error for Violation {}

/// Makes one run.
///
/// # Errors
/// The first thing that went wrong.
///
/// # Panics
/// When the code under test does; the command that replays it is printed first.
pub fn run(options: &SimulationOptions) -> Result<Summary, Box<Violation>> {
    let _announce = Announce::new(options);
    schedule::Run::new(options.clone()).run(|_| {})
}

/// As [`run`], and the trace as text.
///
/// # Errors
/// As [`run`].
///
/// # Panics
/// As [`run`].
pub fn trace(options: &SimulationOptions, mut show: impl FnMut(&str)) -> Result<Summary, Box<Violation>> {
    let _announce = Announce::new(options);
    let mut run = schedule::Run::new(options.clone());
    run.world.keep_trace(true);
    run.run(|world| world.take_trace().iter().for_each(|line| show(line)))
}

/// Arguments of the runs that are under way, for whoever reports a panic: it may be that of a job, on another thread.
#[must_use]
pub fn under_way() -> Vec<String> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

static UNDER_WAY: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Keeps a run in the list of those under way, and says which it was when a panic comes by.
struct Announce(String);

impl Announce {
    fn new(options: &SimulationOptions) -> Self {
        let arguments = options.to_string();
        UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).insert(arguments.clone());
        Self(arguments)
    }
}

impl Drop for Announce {
    fn drop(&mut self) {
        UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
        if std::thread::panicking() {
            eprintln!("the panic is of: tskv simulate {}", self.0);
        }
    }
}
