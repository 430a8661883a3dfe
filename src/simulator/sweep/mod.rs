//! Small scripts on whole simulated nodes, tried exhaustively: every place where the power can go, every operation
//! that can fail, bits that rot, and seeded scripts by the thousand.
//!
//! ```text
//! script ─► stage ─► node: CoreLoop<SimBackend> × 1–2, Coordinator, jobs ─► SimDisk (crash, faults, flips)
//!              └───► oracle: every reply and every recovery
//! ```
//! | sweep | what is tried | goal |
//! |---|---|---|
//! | [`crash_at`] | a crash at each disk operation of the fixed script, and at operations of the recovery from it | G2 |
//! | [`fault_at`] | each operation on each kind of file fails in each way, once and for good | G3 |
//! | [`engine_seed`] | a seeded script, its crashes and recoveries | G1 |
//! | [`RotBase`] | one bit of a store at rest is flipped | G10 |
//!
//! Everything is decided by the arguments, so each failure is replayed by calling with the same ones.

mod crash;
mod engine;
mod fault;
mod rot;
mod script;
mod stage;
#[cfg(test)]
mod tests;

pub use crash::{CrashRun, crash_at};
pub use engine::{EngineRun, engine_seed};
pub use fault::{FaultEnd, FaultPoint, FaultRun, fault_at, fault_points};
pub use rot::{RotBase, RotVerdict};
