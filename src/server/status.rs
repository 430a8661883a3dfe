//! Copies what the shard knows of itself into the core's counters.

use crate::metrics::CoreMetrics;
use crate::shard::Shard;
use std::sync::Arc;

/// Brings the counters up to date.
pub(crate) fn gather(metrics: &mut CoreMetrics, shard: &Shard) {
    let (counters, gauges) = (shard.counters(), shard.gauges());
    metrics.wal.appends = counters.entries_written + counters.range_deletes;
    metrics.table.bloom_negative = counters.bloom_negative;
    metrics.table.cache_hits = gauges.cache_hits;
    metrics.table.cache_misses = gauges.cache_misses;
    metrics.table.value_cache_hits = gauges.value_cache_hits;
    metrics.table.value_cache_misses = gauges.value_cache_misses;
    metrics.shard.value_cache_bytes = gauges.value_cache_bytes;
    metrics.shard.operations = counters.operations;
    metrics.shard.memtable_bytes = gauges.memtable_bytes;
    metrics.shard.memtable_entries = gauges.memtable_entries;
    metrics.shard.memtables_frozen = gauges.memtables_frozen;
    metrics.shard.cache_bytes = gauges.cache_bytes;
    metrics.shard.operations_parked = gauges.parked;
    metrics.shard.wal_segments = gauges.wal_segments;
    metrics.shard.poisoned = u64::from(shard.is_poisoned());
    metrics.stalls.memtable = counters.stalls;
    metrics.hot = Arc::clone(shard.hot_series());
    metrics.stalls.series_rate = counters.refused_series_rate;
    metrics.stalls.disk_full = counters.refused_disk_full;
}
