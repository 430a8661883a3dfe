//! The page at `/metrics`, in the Prometheus text format 0.0.4.
//!
//! Names and units are part of what operators build on: a renamed one breaks dashboards. Counters of all cores are
//! summed; what tells cores or shards apart has a label.

use super::hot::{HotList, HotSeries};
use super::latency::{
    BUCKET_BOUNDS_NS, Buckets, LatencyTotals, RecentLatencies, RequestKind, quantile_seconds,
};
use super::phases::{Phase, PhaseTotals};
use super::{CoreSnapshot, StoreSnapshot};
use std::fmt::Display;
use std::fmt::Write;

/// Renders the page. The order of `cores` does not matter.
#[must_use]
pub fn render_prometheus(cores: &[CoreSnapshot], store: &StoreSnapshot) -> String {
    let mut page = Page::default();
    net(&mut page, cores);
    requests(&mut page, cores);
    log_and_tables(&mut page, cores, store);
    stalls(&mut page, cores);
    per_shard(&mut page, cores, store);
    jobs(&mut page, store);
    process(&mut page, store);
    latency(&mut page, cores);
    page.text
}

type Pick = fn(&CoreSnapshot) -> u64;

fn net(page: &mut Page, cores: &[CoreSnapshot]) {
    let sum = |pick: Pick| cores.iter().map(pick).sum::<u64>();
    page.gauge("connections_open", "Client connections open now.", sum(|c| c.net.connections_open));
    let counters: [(&str, &str, Pick); 7] = [
        ("connections_accepted_total", "Client connections accepted.", |c| c.net.connections_accepted),
        ("connections_refused_total", "Connections closed at once for want of room.", |c| {
            c.net.connections_refused
        }),
        (
            "connections_dropped_total",
            "Connections dropped for not reading, or for missing a deadline.",
            |c| c.net.connections_dropped,
        ),
        ("rx_bytes_total", "Bytes received from clients.", |c| c.net.rx_bytes),
        ("tx_bytes_total", "Bytes sent to clients.", |c| c.net.tx_bytes),
        ("backpressure_events_total", "Times that reading from a connection was paused.", |c| {
            c.net.backpressure_events
        }),
        ("auth_failures_total", "Wrong passwords.", |c| c.net.auth_failures),
    ];
    for (name, help, pick) in counters {
        page.counter(name, help, sum(pick));
    }
}

fn requests(page: &mut Page, cores: &[CoreSnapshot]) {
    let sum = |pick: Pick| cores.iter().map(pick).sum::<u64>();
    let counters: [(&str, &str, Pick); 8] = [
        ("put_total", "Requests that write values.", |c| c.requests.put),
        ("get_total", "Requests that read single values.", |c| c.requests.get),
        ("scan_total", "Requests that read ranges.", |c| c.requests.scan),
        ("delete_total", "Requests that delete.", |c| c.requests.delete),
        ("other_requests_total", "Requests that touch no data.", |c| c.requests.other),
        ("entries_put_total", "Entries written; a batch counts each.", |c| c.requests.entries_put),
        ("errors_total", "Error replies.", |c| c.requests.errors),
        ("forwarded_total", "Commands sent to the core that owns the key.", |c| c.requests.forwarded),
    ];
    for (name, help, pick) in counters {
        page.counter(name, help, sum(pick));
    }
}

fn log_and_tables(page: &mut Page, cores: &[CoreSnapshot], store: &StoreSnapshot) {
    let sum = |pick: Pick| cores.iter().map(pick).sum::<u64>();
    let counters: [(&str, &str, Pick); 12] = [
        ("appends_total", "Records appended to the write-ahead log.", |c| c.wal.appends),
        ("wal_written_bytes_total", "Bytes written to the write-ahead log.", |c| c.wal.append_bytes),
        ("fsync_total", "Durable writes of the log: data syncs, and writes that sync themselves.", |c| {
            c.wal.fsync
        }),
        ("wal_rotations_total", "Log segments begun.", |c| c.wal.rotations),
        ("bloom_negative_total", "Tables that a Bloom filter spared a read.", |c| c.table.bloom_negative),
        ("block_reads_total", "Table blocks read from files.", |c| c.table.block_reads),
        ("block_read_bytes_total", "Bytes of table blocks read from files.", |c| c.table.block_read_bytes),
        ("block_read_errors_total", "Table block reads that failed.", |c| c.table.read_errors),
        ("cache_hits_total", "Table blocks found in the cache.", |c| c.table.cache_hits),
        ("cache_misses_total", "Table blocks not found in the cache.", |c| c.table.cache_misses),
        ("value_cache_hits_total", "Lookups that a remembered value answered.", |c| c.table.value_cache_hits),
        ("value_cache_misses_total", "Values found in tables instead.", |c| c.table.value_cache_misses),
    ];
    for (name, help, pick) in counters {
        page.counter(name, help, sum(pick));
    }
    page.gauge("sstable_files", "Live tables.", store.sstable_files);
    page.gauge("sstable_bytes", "Bytes of live tables.", store.sstable_bytes);
    page.gauge("wal_segments", "Log segments that a recovery would read.", store.wal_segments);
    page.gauge("wal_bytes", "Bytes of log segments on disk.", store.wal_bytes);
}

fn stalls(page: &mut Page, cores: &[CoreSnapshot]) {
    let causes: [(&str, Pick); 5] = [
        ("memtable", |c| c.stalls.memtable),
        ("wal", |c| c.stalls.wal),
        ("disk_full", |c| c.stalls.disk_full),
        ("series_rate", |c| c.stalls.series_rate),
        ("mailbox", |c| c.stalls.mailbox),
    ];
    page.family("stalls_total", "counter", "Requests that were refused or had to wait, by cause.");
    for (cause, pick) in causes {
        page.sample("stalls_total", &[("cause", cause)], cores.iter().map(pick).sum::<u64>());
    }
    let sum = |pick: Pick| cores.iter().map(pick).sum::<u64>();
    page.counter(
        "completion_overflows_total",
        "Times that the kernel held completions back.",
        sum(|c| c.turns.completion_overflows),
    );
    page.counter(
        "receive_buffers_empty_total",
        "Receives that found no free buffer.",
        sum(|c| c.turns.receive_buffers_empty),
    );
}

fn per_shard(page: &mut Page, cores: &[CoreSnapshot], store: &StoreSnapshot) {
    let gauges: [(&str, &str, Pick); 9] = [
        ("core_connections", "Client connections open on the core.", |c| c.net.connections_open),
        ("memtable_bytes", "Bytes in memtables.", |c| c.shard.memtable_bytes),
        ("memtable_entries", "Entries in memtables.", |c| c.shard.memtable_entries),
        ("memtables_frozen", "Frozen memtables that wait for their flush.", |c| c.shard.memtables_frozen),
        ("cache_bytes", "Bytes of cached table blocks.", |c| c.shard.cache_bytes),
        ("value_cache_bytes", "Bytes of remembered values.", |c| c.shard.value_cache_bytes),
        ("operations_parked", "Operations that wait for a block or behind another.", |c| {
            c.shard.operations_parked
        }),
        ("shard_wal_segments", "Log segments that the shard has not released.", |c| c.shard.wal_segments),
        ("poisoned", "1 after a failed write or sync of the shard's log, until restart.", |c| {
            c.shard.poisoned
        }),
    ];
    for (name, help, pick) in gauges {
        page.by_shard(name, "gauge", help, cores, pick);
    }
    page.by_shard("shard_operations_total", "counter", "Operations executed by the shard.", cores, |c| {
        c.shard.operations
    });
    page.by_shard("turns_total", "counter", "Turns of the core's loop.", cores, |c| c.turns.turns);
    page.family("cpu_seconds_total", "counter", "CPU time of the core's thread.");
    for core in cores {
        let shard = core.core.to_string();
        page.sample("cpu_seconds_total", &[("shard", &shard)], core.turns.cpu_ns as f64 / 1e9);
    }
    page.family(
        "log_wait_seconds",
        "gauge",
        "How long the oldest log write under way has waited for the disk.",
    );
    for core in cores {
        let shard = core.core.to_string();
        page.sample("log_wait_seconds", &[("shard", &shard)], core.shard.log_wait_ns as f64 / 1e9);
    }
    page.family("shard_moves_total", "counter", "Moves of boundaries between shards, by how they ended.");
    for (outcome, count) in [("done", store.moves_done), ("given_up", store.moves_given_up)] {
        page.sample("shard_moves_total", &[("outcome", outcome)], count);
    }
    hot_series(page, cores);
    page.family("shard_start_info", "gauge", "First key of each shard but the first.");
    for (index, key) in store.boundaries.iter().enumerate() {
        let (shard, key) = ((index + 1).to_string(), key.escape_ascii().to_string());
        page.sample("shard_start_info", &[("shard", &shard), ("key", &key)], 1);
    }
}

/// A few series of each shard, as they were in the last whole window.
fn hot_series(page: &mut Page, cores: &[CoreSnapshot]) {
    type List = fn(&HotList) -> &[HotSeries];
    let lists: [(&str, &str, List); 2] = [
        ("operations", "Operations a second on the hottest series of each shard.", |hot| &hot.by_operations),
        ("bytes", "Bytes of values a second of the series of each shard that have most.", |hot| {
            &hot.by_bytes
        }),
    ];
    for (unit, help, list) in lists {
        let name = format!("hot_series_{unit}_per_second");
        page.family(&name, "gauge", help);
        for core in cores {
            for hot in list(&core.hot) {
                let (shard, series) = (core.core.to_string(), hot.series.escape_ascii().to_string());
                page.sample(&name, &[("shard", &shard), ("series", &series)], hot.per_second);
            }
        }
    }
}

fn jobs(page: &mut Page, store: &StoreSnapshot) {
    let counters = [
        ("flushes_total", "Memtables flushed to tables.", store.flushes),
        ("flush_written_bytes_total", "Bytes of tables that flushes wrote.", store.flush_bytes),
        ("compactions_total", "Merges of tables.", store.compactions),
        ("compaction_read_bytes_total", "Bytes that merges read.", store.compaction_read_bytes),
        ("compaction_written_bytes_total", "Bytes that merges wrote.", store.compaction_written_bytes),
        ("job_failures_total", "Flushes and merges that failed and are tried again.", store.job_failures),
    ];
    for (name, help, value) in counters {
        page.counter(name, help, value);
    }
    page.family("compactions_by_reason_total", "counter", "Merges of tables, by why they were planned.");
    for (reason, merges) in &store.compactions_by_reason {
        page.sample("compactions_by_reason_total", &[("reason", reason)], merges);
    }
    page.gauge("compaction_debt_bytes", "Bytes that merges still have to read.", store.compaction_debt_bytes);
    retention(page, store);
    page.gauge("disk_free_bytes", "Bytes that the file system has left.", store.disk_free_bytes);
    page.gauge("disk_full", "1 while writes are refused for want of space.", u64::from(store.disk_full));
}

fn retention(page: &mut Page, store: &StoreSnapshot) {
    let (bytes, tables) = (store.retention_dropped_bytes, store.retention_dropped_tables);
    page.counter("retention_dropped_bytes_total", "Bytes of tables dropped for retention.", bytes);
    page.counter("retention_dropped_tables_total", "Tables dropped for retention.", tables);
    let (series, hidden) = (store.series_retention_series, store.series_retention_hidden_bytes);
    page.gauge("series_retention_series", "Series with a retention of their own, in tables.", series);
    let help = "Bytes of tables that these hide, about, until merges free them.";
    page.gauge("series_retention_hidden_bytes", help, hidden);
    let held = u64::from(store.retention_held);
    page.gauge("retention_held", "1 while nothing is dropped because the clock has leapt ahead.", held);
    page.gauge("sample_bytes", "Bytes that tables of samples take.", store.sample_bytes);
    if let Some(cutoff) = store.retention_cutoff {
        page.gauge("retention_cutoff", "Samples before this time, in the store's unit, are gone.", cutoff);
    }
    if let Some(limit) = store.retention_limit_bytes {
        page.gauge("retention_limit_bytes", "Bytes that tables of samples may take.", limit);
    }
    if store.retention_cutoff.is_some() || store.retention_limit_bytes.is_some() {
        let (bytes, seconds) = (store.retention_next_drop_bytes, store.retention_next_drop_seconds);
        page.gauge("retention_next_drop_bytes", "Bytes of tables that go next for retention.", bytes);
        page.gauge("retention_next_drop_seconds", "When those go, in seconds from now.", seconds);
    }
}

fn process(page: &mut Page, store: &StoreSnapshot) {
    page.gauge("uptime_seconds", "Seconds since the daemon was ready.", store.uptime_seconds);
    page.gauge("recovery_seconds", "Time that recovery took at start.", store.recovery_ns as f64 / 1e9);
    page.gauge("recovery_records", "Log records that recovery replayed at start.", store.recovery_records);
    page.gauge("torn_tails", "Log streams whose torn end recovery cut off at start.", store.torn_tails);
    page.gauge("torn_bytes", "Bytes of torn ends that recovery cut off at start.", store.torn_bytes);
    page.counter("slow_requests_total", "Requests slower than --slowlog-slower-than.", store.slow_requests);
    page.family("build_info", "gauge", "Version, sync policy and time unit.");
    let labels = [("version", &*store.version), ("sync", &*store.sync), ("time_unit", &*store.time_unit)];
    page.sample("build_info", &labels, 1);
    page.family("io_backend", "gauge", "The backend in use, and why it is not the preferred one.");
    let reason = store.backend_reason.as_deref().unwrap_or_default();
    page.sample("io_backend", &[("backend", &store.backend), ("reason", reason)], 1);
}

fn latency(page: &mut Page, cores: &[CoreSnapshot]) {
    let mut totals = LatencyTotals::default();
    let mut recent = RecentLatencies::empty();
    for core in cores {
        totals.add(&core.totals);
        recent.add(&core.recent);
    }
    page.family("request_duration_seconds", "histogram", "Time from a request's arrival to its reply.");
    for (kind, buckets) in RequestKind::ALL.into_iter().zip(&totals.0) {
        page.buckets("request_duration_seconds", ("op", kind.name()), buckets);
    }
    let mut phases = PhaseTotals::default();
    cores.iter().for_each(|core| phases.add(&core.phases));
    page.family(
        "request_phase_seconds",
        "histogram",
        "Where the time of requests went, until their reply had left.",
    );
    for (phase, buckets) in Phase::ALL.into_iter().zip(&phases.0) {
        page.buckets("request_phase_seconds", ("phase", phase.name()), buckets);
    }
    for (kind, histogram) in [("get", &recent.get), ("put", &recent.put)] {
        for (percentile, quantile) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
            page.gauge(
                &format!("{kind}_{percentile}_seconds"),
                "Latency quantile of the last 60 s.",
                quantile_seconds(histogram, quantile),
            );
        }
    }
}

/// The text under construction.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn by_shard(&mut self, name: &str, kind: &str, help: &str, cores: &[CoreSnapshot], pick: Pick) {
        self.family(name, kind, help);
        for core in cores {
            self.sample(name, &[("shard", &core.core.to_string())], pick(core));
        }
    }

    /// The samples of a histogram with one label.
    fn buckets(&mut self, name: &str, label: (&str, &str), buckets: &Buckets) {
        let mut cumulative = 0;
        for (count, bound_ns) in buckets.counts.iter().zip(BUCKET_BOUNDS_NS) {
            cumulative += count;
            let bound = (bound_ns as f64 / 1e9).to_string();
            self.sample(&format!("{name}_bucket"), &[label, ("le", &bound)], cumulative);
        }
        self.sample(&format!("{name}_bucket"), &[label, ("le", "+Inf")], buckets.count());
        self.sample(&format!("{name}_sum"), &[label], buckets.sum_ns as f64 / 1e9);
        self.sample(&format!("{name}_count"), &[label], buckets.count());
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.text, "# HELP tskv_{name} {help}\n# TYPE tskv_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "tskv_{name}");
        for (index, (label, content)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if index == 0 { '{' } else { ',' });
            self.escape(content);
            self.text.push('"');
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// Label values escape backslash, quote and line feed; a raw one would let a key forge metrics.
    fn escape(&mut self, content: &str) {
        for character in content.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                other => self.text.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use std::collections::BTreeSet;

    fn page() -> String {
        render_prometheus(&sample::cores(), &sample::store())
    }

    #[test]
    fn names_that_operators_build_on_are_there() {
        // A dashboard built on DESIGN §9 shows nothing when a name changes.
        let page = page();
        for line in [
            "tskv_connections_open 6",
            "tskv_rx_bytes_total 2000",
            "tskv_tx_bytes_total 0",
            "tskv_backpressure_events_total 0",
            "tskv_put_total 20",
            "tskv_get_total 40",
            "tskv_scan_total 0",
            "tskv_errors_total 0",
            "tskv_appends_total 0",
            "tskv_fsync_total 14",
            "tskv_sstable_files 4",
            "tskv_bloom_negative_total 0",
            "tskv_request_duration_seconds_bucket{op=\"put\",le=\"0.0001\"} 0",
            "tskv_request_duration_seconds_bucket{op=\"put\",le=\"0.00015\"} 2",
            "tskv_request_duration_seconds_bucket{op=\"put\",le=\"+Inf\"} 2",
            "tskv_request_duration_seconds_count{op=\"put\"} 2",
            "tskv_request_duration_seconds_sum{op=\"put\"} 0.00024",
            "tskv_recovery_seconds 1.25",
            "tskv_request_phase_seconds_bucket{phase=\"wal\",le=\"0.0001\"} 0",
            "tskv_request_phase_seconds_bucket{phase=\"wal\",le=\"0.00015\"} 6",
            "tskv_request_phase_seconds_sum{phase=\"queue\"} 0.00006",
            "tskv_request_phase_seconds_count{phase=\"send\"} 6",
            "tskv_cpu_seconds_total{shard=\"1\"} 1.5",
        ] {
            assert!(page.lines().any(|found| found == line), "no line {line}\n{page}");
        }
        assert!(page.contains("tskv_put_p99_seconds 0.0001"));
    }

    #[test]
    fn label_values_cannot_break_out() {
        // A key with a quote or a line feed would forge metrics, or make the whole page unreadable.
        let page = page();
        assert!(page.contains(r#"reason="io_uring_setup: \"EPERM\" \\ a\nb"} 1"#), "{page}");
        assert!(page.contains(r#"key="cpu\\\"\\xff"} 1"#), "{page}");
    }

    #[test]
    fn every_family_is_declared_once_before_its_samples() {
        // Prometheus refuses a page with a family declared twice.
        let page = page();
        let mut families = BTreeSet::new();
        for line in page.lines() {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                let name = declared.split(' ').next().unwrap();
                assert!(families.insert(name.to_owned()), "{name} twice");
                assert!(name.starts_with("tskv_"));
                assert_eq!(name.ends_with("_total"), declared.ends_with("counter"), "{declared}");
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                let family = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|suffix| name.strip_suffix(suffix).filter(|base| families.contains(*base)))
                    .unwrap_or(name);
                assert!(families.contains(family), "{line}");
                assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
            }
        }
    }

    #[test]
    fn promtool_finds_nothing_to_complain_about() {
        // What promtool flags, Prometheus' own users will.
        let Ok(mut promtool) = std::process::Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
        else {
            eprintln!("SKIPPED: promtool is not installed (Debian package prometheus)");
            return;
        };
        std::io::Write::write_all(&mut promtool.stdin.take().unwrap(), page().as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}
