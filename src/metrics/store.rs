//! Facts about the store and the process as a whole.

/// The store and the process at one moment; filled in by the server, from the coordinator and the configuration.
#[derive(Clone, Debug, Default)]
pub struct StoreSnapshot {
    /// Version of tskv.
    pub version: String,
    /// Seconds since the daemon was ready.
    pub uptime_seconds: u64,
    /// The store's id in hex.
    pub store: String,
    /// Directory of the store.
    pub data: String,
    /// Unit of timestamps: `ms`, `us`, `ns`.
    pub time_unit: String,
    /// Sync policy as `--sync` writes it.
    pub sync: String,
    /// Backend in use: `io_uring`, `epoll`.
    pub backend: String,
    /// Why it is not the one that `auto` prefers; `None` when it is.
    pub backend_reason: Option<String>,
    /// Addresses that clients connect to.
    pub listen: Vec<String>,
    /// First key of each shard but the first.
    pub boundaries: Vec<Box<[u8]>>,
    /// Moves of boundaries that were made, and those that were given up.
    pub moves_done: u64,
    /// See above.
    pub moves_given_up: u64,
    /// Live tables.
    pub sstable_files: u64,
    /// Bytes of them.
    pub sstable_bytes: u64,
    /// WAL segments that recovery would read, over all streams.
    pub wal_segments: u64,
    /// Bytes that they take on disk.
    pub wal_bytes: u64,
    /// Memtables flushed.
    pub flushes: u64,
    /// Bytes of tables that flushes wrote.
    pub flush_bytes: u64,
    /// Merges done.
    pub compactions: u64,
    /// The same by why they were planned.
    pub compactions_by_reason: Vec<(&'static str, u64)>,
    /// Merges that run: why, tables that each reads, bytes of them.
    pub merging: Vec<(&'static str, u64, u64)>,
    /// Bytes that merges read.
    pub compaction_read_bytes: u64,
    /// Bytes that merges wrote.
    pub compaction_written_bytes: u64,
    /// Bytes that merges still have to read to reach the wanted shape.
    pub compaction_debt_bytes: u64,
    /// Flushes and merges that failed and are tried again.
    pub job_failures: u64,
    /// Samples before this time are gone; `None` without retention.
    pub retention_cutoff: Option<i64>,
    /// Whether nothing is dropped because the wall clock has leapt ahead.
    pub retention_held: bool,
    /// Bytes of tables that were dropped for their age.
    pub retention_dropped_bytes: u64,
    /// Tables that were.
    pub retention_dropped_tables: u64,
    /// Bytes of tables that go next.
    pub retention_next_drop_bytes: u64,
    /// When, in seconds from now.
    pub retention_next_drop_seconds: u64,
    /// Bytes that tables of samples may take; `None` without retention by size.
    pub retention_limit_bytes: Option<u64>,
    /// Bytes that they take.
    pub sample_bytes: u64,
    /// Series with a retention of their own, in tables.
    pub series_retention_series: u64,
    /// Bytes of tables that those hide, by the last look; merges free them.
    pub series_retention_hidden_bytes: u64,
    /// Bytes that the file system has left.
    pub disk_free_bytes: u64,
    /// Whether writes are refused for want of space.
    pub disk_full: bool,
    /// Nanoseconds that recovery took at start.
    pub recovery_ns: u64,
    /// Records that it replayed.
    pub recovery_records: u64,
    /// Streams whose last frame was torn by a crash and cut off.
    pub torn_tails: u64,
    /// Bytes cut off.
    pub torn_bytes: u64,
    /// Requests slower than `--slowlog-slower-than`.
    pub slow_requests: u64,
}
