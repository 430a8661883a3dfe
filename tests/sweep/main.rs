//! Sweeps of the simulated node: a crash at every disk operation, a failure of every disk operation, engine seeds, bits
//! that rot. Each prints what it reached; a failure prints the command that replays it.
//!
//! | variable | means | default |
//! |---|---|---|
//! | `TSKV_THOROUGH` | every place instead of a sample of them | unset |
//! | `TSKV_ENGINE_SEEDS`, `TSKV_ENGINE_FIRST` | how many engine seeds, from which on | 60, thorough 5,000; from 1 |
//! | `TSKV_ROT_FLIPS`, `TSKV_ROT_BASE` | flipped bits, in stores of this seed and the three behind it | 200, thorough 5,000; from 0 |
//! | `TSKV_ENGINE_SECONDS`, `TSKV_ROT_FLIP_SECONDS` | as many of these as fit into the time | unset |
//! | `TSKV_SWEEP_CRASH=CORES/OPERATION/VARIANT` | this crash only | |
//! | `TSKV_SWEEP_FAULT=CORES/N` | this failure only, by its number in the list | |
//! | `TSKV_SWEEP_STRIDE` | one in so many failures, when thorough | 1; 4 on two cores |
//! | `TSKV_ENGINE_SEED=N`, `TSKV_ROT_FLIP=BASE/N` | this one only | |
#![expect(clippy::unwrap_used, reason = "a failed step of a test fails the test")]

mod crash;
mod engine;
mod fault;
mod rot;
mod run;
