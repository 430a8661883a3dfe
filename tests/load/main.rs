//! The load generator: what it measures must be what arithmetic says, and what it writes must stay readable.
//!
//! The program runs as a child against the real daemon, or against a server of this test that notes when each request
//! arrived. Shared machines disturb both, so bounds are as wide as a claim allows, and no wider.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic like the test itself")]
#![expect(clippy::disallowed_methods, reason = "real threads and real time: the generator is a real process")]

mod bench;
mod fixture;
mod journal;
mod omission;
mod pace;
mod pages;
mod peer;
mod report;
mod stored;
#[path = "../support/mod.rs"]
mod support;
mod workloads;
