//! The command line: `tskv serve` and the tools around it.
//!
//! Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 141 when the reader of the output went away. What
//! a command prints for its caller goes to stdout, everything else to stderr.

pub mod admin;
mod args;
mod bench;
mod connect;
mod csv;
mod error;
mod format;
mod output;
pub mod serve;

pub use args::ServeArgs;
