//! The `tskv` program from outside: what an operator types, what clients send, and what comes back.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic like the test itself")]
#![expect(clippy::disallowed_methods, reason = "real threads and real time: the daemon is a real process")]

mod backup;
mod clients;
mod connections;
mod data_set;
mod environment;
mod hot_series;
mod odd_starts;
mod protection;
mod retention;
mod routes;
mod serving;
mod shards;
mod slowlog;
#[path = "../support/mod.rs"]
mod support;
mod usage;
