//! tskv: a crash-safe time-series key-value store.
pub mod buffer;
pub mod cli;
pub mod client;
pub mod config;
pub mod encoding;
pub mod io;
pub mod jobs;
pub mod limits;
pub mod metrics;
pub mod model;
pub mod protocol;
pub mod server;
pub mod shard;
pub mod storage;
