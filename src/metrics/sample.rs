//! Snapshots for the tests of the renderers: two cores with every field set.

use super::hot::{HotList, HotSeries};
use super::latency::RequestKind;
use super::phases::PhaseTimes;
use super::{CoreMetrics, CoreSnapshot, StoreSnapshot};
use std::sync::Arc;

pub(super) fn cores() -> Vec<CoreSnapshot> {
    let mut metrics = CoreMetrics::default();
    metrics.net.connections_open = 3;
    metrics.net.rx_bytes = 1_000;
    metrics.requests.put = 10;
    metrics.requests.get = 20;
    metrics.requests.forwarded = 15;
    metrics.wal.fsync = 7;
    metrics.turns.cpu_ns = 1_500_000_000;
    metrics.shard.operations = 30;
    metrics.shard.memtable_bytes = 1 << 20;
    metrics.latencies.record(RequestKind::Put, 120_000, 1, 0);
    metrics.phases.record(&PhaseTimes([10_000, 110_000, 0, 0, 5_000]), 3);
    metrics.latencies.record(RequestKind::Get, 20_000, 1, 0);
    let hot = |series: &[u8], per_second| HotSeries { series: series.into(), per_second };
    metrics.hot = Arc::new(HotList {
        by_operations: vec![hot(b"cpu\"\n", 900), hot(b"mem", 80)],
        by_bytes: vec![hot(b"log", 5_000_000)],
    });
    vec![metrics.snapshot(0, 0), metrics.snapshot(1, 0)]
}

pub(super) fn store() -> StoreSnapshot {
    StoreSnapshot {
        version: "0.1.0".to_owned(),
        uptime_seconds: 3_725,
        store: "00112233".to_owned(),
        data: "./tskv-data".to_owned(),
        time_unit: "ms".to_owned(),
        sync: "always".to_owned(),
        backend: "epoll".to_owned(),
        backend_reason: Some("io_uring_setup: \"EPERM\" \\ a\nb".to_owned()),
        listen: vec!["127.0.0.1:7878".to_owned()],
        boundaries: vec![(*b"cpu\"\xff").into()],
        sstable_files: 4,
        sstable_bytes: 4 << 20,
        compactions_by_reason: vec![("tier", 3), ("trim", 0)],
        merging: vec![("tier", 4, 3 << 20)],
        recovery_ns: 1_250_000_000,
        ..StoreSnapshot::default()
    }
}
