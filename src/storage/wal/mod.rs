//! The write-ahead log: records, frames, segments; writing and replaying a stream.
//!
//! A **stream** is the log of one core slot: a chain of **segments**, pre-written files of a fixed size. A segment
//! holds a header page and then **frames**, each one group commit that starts on a page of its own; a frame holds
//! **records**. What a crash leaves is a prefix of the frames.
//!
//! ```text
//!   page 0       page 1                    page 3         page n        (rest: zeros, or a former life of the file)
//! ┌────────────┬─────────────────────────┬──────────────┬─────────────┬─ ─ ─ ─
//! │ header     │ frame: 64 bytes header, │ frame        │ seal frame  │
//! │ → previous │ records, zeros          │              │             │
//! └────────────┴─────────────────────────┴──────────────┴─────────────┴─ ─ ─ ─
//!   └──── one write, after the previous segment is sealed and durable
//! ```
//!
//! - `writer` is the state machine of one stream: it stages records, says what to write and sync, and how far replies
//!   may leave. It does no I/O.
//! - `replay` reads one segment back; `chain` checks that the segments of a stream belong together.
//! - `remains` looks at a segment page by page, damaged or not: for the tools.
#![forbid(unsafe_code)]

mod chain;
mod error;
mod frame;
mod policy;
mod record;
mod remains;
mod replay;
mod segment;
mod writer;

pub use chain::check_chain;
pub use error::WalError;
pub use policy::SyncPolicy;
pub use record::{Record, record_bytes};
pub use remains::{FrameView, find_life, scan_frames};
pub use replay::{ReplayInput, SegmentEnd, SegmentPrefix, replay_prefix, replay_segment};
pub use segment::{HeaderPage, PreviousSegment, SegmentHeader, SegmentSpec, record_bytes_max};
pub use writer::{Admission, SegmentLife, StreamOptions, StreamWriter, WalIo, WalOutcome};

#[cfg(test)]
mod tests;
