//! The engine without I/O: turns bytes into answers and answers into bytes. The same code runs under the server, in
//! the tools and in the simulator.
#![forbid(unsafe_code)]

pub mod byte_source;
pub mod columns;
pub mod compaction;
pub mod manifest;
pub mod memtable;
pub mod range_delete;
pub mod read;
pub mod retention;
pub mod series_metadata;
pub mod sstable;
pub mod version;
pub mod wal;
