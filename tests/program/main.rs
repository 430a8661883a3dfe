//! The `tskv` program from outside: what an operator types, and what comes back.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on says so by panicking; it waits in real time"
)]

mod daemon;
mod data_set;
mod serving;
mod usage;
