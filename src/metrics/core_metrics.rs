//! The counters of one core. The core alone increments them, so they are plain integers.

use super::hot::HotList;
use super::latency::{Latencies, RecentLatencies};
use super::phases::PhaseTotals;
use std::sync::Arc;

/// Everything that one core counts. Fields are totals since start unless their group says "now".
#[derive(Clone, Debug, Default)]
pub struct CoreMetrics {
    /// Sockets.
    pub net: NetCounters,
    /// Requests, counted where the connection lives.
    pub requests: RequestCounters,
    /// The write-ahead log.
    pub wal: WalCounters,
    /// Reads of tables.
    pub table: TableCounters,
    /// Why work had to wait or was refused.
    pub stalls: StallCounters,
    /// The loop itself.
    pub turns: LoopCounters,
    /// What the shard holds now; set, not incremented.
    pub shard: ShardGauges,
    /// How long requests took.
    pub latencies: Latencies,
    /// Where their time went.
    pub phases: PhaseTotals,
    /// The series that took most of late; set, not incremented.
    pub hot: Arc<HotList>,
}

impl CoreMetrics {
    /// A copy for whoever asked, with the latencies of the last 60 s as seen at `now_ns` (the core's clock).
    #[must_use]
    pub fn snapshot(&self, core: u16, now_ns: u64) -> CoreSnapshot {
        CoreSnapshot {
            core,
            net: self.net,
            requests: self.requests,
            wal: self.wal,
            table: self.table,
            stalls: self.stalls,
            turns: self.turns,
            shard: self.shard,
            totals: self.latencies.totals(),
            phases: self.phases,
            hot: Arc::clone(&self.hot),
            recent: self.latencies.recent(now_ns),
        }
    }
}

/// A copy of one core's counters; see [`CoreMetrics`] for the fields.
#[derive(Clone, Debug)]
pub struct CoreSnapshot {
    /// Whose.
    pub core: u16,
    /// See [`CoreMetrics::net`].
    pub net: NetCounters,
    /// See [`CoreMetrics::requests`].
    pub requests: RequestCounters,
    /// See [`CoreMetrics::wal`].
    pub wal: WalCounters,
    /// See [`CoreMetrics::table`].
    pub table: TableCounters,
    /// See [`CoreMetrics::stalls`].
    pub stalls: StallCounters,
    /// See [`CoreMetrics::turns`].
    pub turns: LoopCounters,
    /// See [`CoreMetrics::shard`].
    pub shard: ShardGauges,
    /// See [`CoreMetrics::hot`].
    pub hot: Arc<HotList>,
    pub(super) totals: super::latency::LatencyTotals,
    pub(super) phases: PhaseTotals,
    pub(super) recent: RecentLatencies,
}

/// Sockets of one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounters {
    /// Connections open now.
    pub connections_open: u64,
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Connections closed at once because of `--max-clients` or missing descriptors.
    pub connections_refused: u64,
    /// Connections dropped because they did not read their replies or missed a deadline.
    pub connections_dropped: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Times that reading from a connection was paused.
    pub backpressure_events: u64,
    /// Wrong passwords.
    pub auth_failures: u64,
}

/// Requests of one core's connections. A request of several keys counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounters {
    /// PUT, PUT batch, SET, MSET, TS.ADD, TS.MADD.
    pub put: u64,
    /// GET, MGET, TS.GET and the like.
    pub get: u64,
    /// SCAN, TS.RANGE, TS.REVRANGE.
    pub scan: u64,
    /// DELETE, DEL, TS.DEL, FLUSHALL.
    pub delete: u64,
    /// Everything else: PING, HELLO, INFO, …
    pub other: u64,
    /// Entries written; a batch counts each.
    pub entries_put: u64,
    /// Error replies.
    pub errors: u64,
    /// Commands sent to another core because it owns the key.
    pub forwarded: u64,
}

/// The WAL stream of one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalCounters {
    /// Records appended.
    pub appends: u64,
    /// Bytes of frames written.
    pub append_bytes: u64,
    /// Durable writes: data syncs, and writes that sync themselves.
    pub fsync: u64,
    /// Segments begun.
    pub rotations: u64,
}

/// Table reads of one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCounters {
    /// Tables that a Bloom filter spared a read.
    pub bloom_negative: u64,
    /// Blocks read from files.
    pub block_reads: u64,
    /// Bytes of them.
    pub block_read_bytes: u64,
    /// Blocks found in the cache.
    pub cache_hits: u64,
    /// Blocks not found in the cache.
    pub cache_misses: u64,
    /// Lookups that a remembered value answered.
    pub value_cache_hits: u64,
    /// Values that were found in tables instead.
    pub value_cache_misses: u64,
    /// Block reads that failed.
    pub read_errors: u64,
}

/// Why work of one core had to wait, or was refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StallCounters {
    /// Writes refused because flushes lag.
    pub memtable: u64,
    /// Writes refused because no WAL segment was ready.
    pub wal: u64,
    /// Writes refused because the disk is full.
    pub disk_full: u64,
    /// Requests refused because their series had too many.
    pub series_rate: u64,
    /// Requests that waited for room in another core's mailbox.
    pub mailbox: u64,
}

/// The loop of one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopCounters {
    /// Turns.
    pub turns: u64,
    /// CPU time of the core's thread in nanoseconds.
    pub cpu_ns: u64,
    /// Times that the kernel had to hold completions back.
    pub completion_overflows: u64,
    /// Receives that found no free buffer.
    pub receive_buffers_empty: u64,
}

/// What one shard holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardGauges {
    /// Operations executed by this shard since start, forwarded ones included.
    pub operations: u64,
    /// Bytes of the active and frozen memtables.
    pub memtable_bytes: u64,
    /// Entries of the active and frozen memtables.
    pub memtable_entries: u64,
    /// Frozen memtables that wait for their flush.
    pub memtables_frozen: u64,
    /// Bytes of cached blocks.
    pub cache_bytes: u64,
    /// Bytes of remembered values.
    pub value_cache_bytes: u64,
    /// Operations that wait for a block or behind another.
    pub operations_parked: u64,
    /// WAL segments not yet retired.
    pub wal_segments: u64,
    /// 1 after a failed write or sync of the log, until restart.
    pub poisoned: u64,
    /// How long the oldest log write or sync under way has waited for the disk, in nanoseconds.
    pub log_wait_ns: u64,
}
