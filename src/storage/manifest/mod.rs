//! The manifest: a log of edits that says which files make up the store.
//!
//! ```text
//! CURRENT ──names──▶ manifest/M-<n>.log : header │ frame 0: snapshot │ frame 1 │ mark │ frame 3 │ mark …
//! ```
//!
//! - One frame is one atomic change: all of its edits or none.
//! - A manifest is named by `CURRENT` only after its snapshot is durable, so header and snapshot can never be torn.
//! - After a frame is durable a *mark* follows: a frame without edits that says so. A bad frame that a later frame
//!   calls durable is damage; any other bad frame is the torn end of an append that was never acknowledged.
//! - Nobody appends to a manifest after a failed append, nor to one that was read from disk: a new one is written and
//!   swapped in (`jobs/manifest_log.rs`).
//!
//! Layouts: [`log`] (frames), [`edit`] (payload), [`current`]. Golden bytes: `tests/golden/manifest_counted_v1.hex` and
//! `current_v1.hex`.
#![deny(clippy::indexing_slicing)]

pub mod current;
pub mod edit;
pub mod error;
pub mod log;
pub mod names;
pub mod remains;
pub mod state;

pub use current::Current;
pub use edit::Edit;
pub use error::ManifestError;
pub use log::{LogEncoder, ManifestHeader, Replayed, replay};
pub use remains::{ManifestFrame, ManifestRemains, read_remains};
pub use state::{SegmentEntry, State, StateError};

#[cfg(test)]
mod tests;
