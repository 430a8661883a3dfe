//! Tables: immutable sorted files of entries and range deletes (`tables/<id>.sst`).
//!
//! ```text
//! file     block 0 .. block n-1 | index | bloom | range deletes | properties | footer (fixed size, last)
//! block    about 16 KiB of chunks; the unit of I/O, of checksums and of caching              (block.rs)
//! chunk    up to 1024 entries of one series, slot class and value type, as columns           (chunk/, codec/)
//! index    offset, length, first and last (series, slot) of every block                      (index.rs)
//! bloom    over (series, slot class): most lookups of what a table does not hold read nothing (bloom.rs)
//! range deletes, properties (a `TableMeta`), footer                              (index.rs, meta.rs, footer.rs)
//! ```
//! Order: series bytewise, then metadata, timeless, timestamps; within one slot the seqno ascends, so the newest
//! version is the last. Nothing lies between the parts, and each part ends with a CRC-32, so every bit of a file is
//! covered by one. Invariants: entries are unique by (series, slot, seqno); a table is never changed once written.
#![deny(clippy::indexing_slicing)]

mod block;
mod bloom;
mod builder;
mod chunk;
mod codec;
mod error;
mod footer;
mod heads;
mod index;
mod meta;
mod owner;
mod remains;

pub use block::Block;
pub use builder::{TableBuilder, TableOptions};
pub use chunk::{ChunkHeader, ChunkStats};
pub use codec::Effort;
pub use error::TableError;
pub use index::{BlockHandle, BlockStretch, TableIndex};
pub use meta::TableMeta;
pub use owner::read_owner;
pub use remains::{BlockFound, BlockWalk, TableRemains, read_identity};

#[cfg(test)]
pub(crate) mod tests;
