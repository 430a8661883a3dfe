//! Data directories that have rotted (RELIABILITY §2.3 d): bits flipped, blocks lost or swapped, files cut, stale,
//! missing, exchanged, or replaced by what is no file.
//!
//! A store passes when it does one of two things. It refuses to open, names the file and, for damage to content, the
//! offset, and `tskv check` finds the damage too. Or it serves exactly what was acknowledged: all of it, or, where the end
//! of a log was hit, all but the last writes of that log, and says so. It never panics, never removes what is not its
//! own, and never shows less, or anything else, in silence.
//!
//! `in_memory` tries thousands of cases with the functions that open and check a store; `on_disk` tries each kind of
//! trouble with each kind of file on the real program.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic like the test itself")]
#![expect(clippy::disallowed_methods, reason = "real threads and real time: the daemon is a real process")]

mod in_memory;
mod memory_files;
mod mutation;
mod on_disk;
mod running;
mod store;
#[path = "../support/mod.rs"]
mod support;
