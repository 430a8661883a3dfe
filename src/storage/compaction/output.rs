//! skeleton
use crate::model::{StoreId, TableId};
use crate::storage::sstable::TableMeta;

/// What a flush or merge makes; the caller writes it.
#[derive(Debug)]
pub enum OutputEvent {
    /// The next bytes of a table's file. The first event with a new id starts the file; several tables may be under
    /// way at once.
    Bytes { table: TableId, bytes: Vec<u8> },
    /// The table's last bytes have been handed out: it can be synced.
    Finished { meta: TableMeta },
}

/// How tables are written.
pub struct OutputOptions {
    /// The store they belong to.
    pub store: StoreId,
    /// Bloom filter bits per (series, class).
    pub bloom_bits: u8,
    /// Shard boundaries, ascending: no table holds keys of both sides of one.
    pub boundaries: Vec<Box<[u8]>>,
    /// Tables are cut, between two series, when they reach this.
    pub table_bytes_target: u64,
    /// Gives an id to each table made.
    pub next_id: Box<dyn FnMut() -> TableId + Send>,
}
