//! Whole nodes, simulated: the daemon's cores, coordinator, jobs and store on one machine of [`crate::io::sim`], with
//! clients, crashes and an oracle, all from one seed.
//!
//! ```text
//!  schedule ── draws workload, order of steps, crashes ──► node: CoreLoop<SimBackend> × cores, Coordinator, jobs
//!     │                                                        ▲
//!     ├── client: RESP and native bytes ───────────────────────┘
//!     └── oracle: every request and reply, every recovery ──► verdict
//! ```
//! Equal seeds give equal runs: [`Summary::trace_hash`]. A seed that fails is replayed with
//! `TSKV_SIM_SEED=N cargo test --test simulation`.

mod client;
mod model;
mod node;
mod oracle;
mod schedule;
pub mod sweep;
#[cfg(test)]
mod tests;

use std::fmt;

/// What a seed's run went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Every decision and operation as one number.
    pub trace_hash: u64,
    /// Lives of the node.
    pub lives: u64,
    /// Crashes, those during recovery included.
    pub crashes: u64,
    /// Opens that the power interrupted.
    pub opens_cut: u64,
    /// Times that a node came to rest with every request answered.
    pub rests: u64,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Questions answered, and the answers judged.
    pub answered: u64,
    /// Writes refused because the node could not keep up.
    pub refused: u64,
    /// Log records that recoveries replayed.
    pub replayed: u64,
    /// Recoveries that found a torn tail.
    pub torn: u64,
}

/// What a run did wrong.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed that shows it.
    pub seed: u64,
    /// In which life of the node, from 0.
    pub life: u64,
    /// What is wrong.
    pub what: String,
    /// Settings of that life.
    pub options: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, life, what, options } = self;
        write!(
            f,
            "seed {seed}, life {life}: {what}\n{options}\nreplay: TSKV_SIM_SEED={seed} cargo test --test simulation"
        )
    }
}
impl std::error::Error for Violation {}

/// Runs one seed.
///
/// # Errors
/// The first thing that went wrong.
///
/// # Panics
/// When the code under test does; the seed is printed first.
pub fn run_seed(seed: u64) -> Result<Summary, Violation> {
    let _announce = Announce(seed);
    schedule::Run::new(seed).run()
}

/// As [`run_seed`], and the trace as text.
///
/// # Errors
/// As [`run_seed`].
pub fn trace_seed(seed: u64, mut show: impl FnMut(&str)) -> Result<Summary, Violation> {
    let _announce = Announce(seed);
    let mut run = schedule::Run::new(seed);
    run.world().keep_trace(true);
    let outcome = run.run();
    run.world().take_trace().iter().for_each(|line| show(line));
    outcome
}

/// Says which seed it was when a panic comes by.
struct Announce(u64);

impl Drop for Announce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the panic is of seed {0}: TSKV_SIM_SEED={0} cargo test --test simulation", self.0);
        }
    }
}
