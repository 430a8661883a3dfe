//! The same numbers for people (`tskv stats`) and for INFO.

use super::hot::{HotList, HotSeries};
use super::latency::{RecentLatencies, quantile_seconds};
use super::{CoreSnapshot, StoreSnapshot};
use hdrhistogram::Histogram;
use std::fmt::Write;

/// One section of INFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoSection {
    /// Its heading.
    pub name: &'static str,
    /// Field names and values, in order.
    pub fields: Vec<(&'static str, String)>,
}

/// What INFO tells, without what Redis clients look for (version, mode, modules), which the protocol adds. Field
/// names are Redis' own where the meaning is the same.
#[must_use]
pub fn info_sections(cores: &[CoreSnapshot], store: &StoreSnapshot) -> Vec<InfoSection> {
    let sum = |pick: fn(&CoreSnapshot) -> u64| cores.iter().map(pick).sum::<u64>().to_string();
    let section = |name, fields| InfoSection { name, fields };
    vec![
        section(
            "Server",
            vec![
                ("tskv_version", store.version.clone()),
                ("uptime_in_seconds", store.uptime_seconds.to_string()),
                ("io_backend", store.backend.clone()),
                ("io_backend_reason", one_line(store.backend_reason.as_deref().unwrap_or_default())),
                ("cores", cores.len().to_string()),
                ("store", store.store.clone()),
                ("data", one_line(&store.data)),
                ("time_unit", store.time_unit.clone()),
                ("sync", store.sync.clone()),
            ],
        ),
        section(
            "Clients",
            vec![
                ("connected_clients", sum(|c| c.net.connections_open)),
                ("backpressure_events", sum(|c| c.net.backpressure_events)),
            ],
        ),
        section(
            "Memory",
            vec![
                ("memtable_bytes", sum(|c| c.shard.memtable_bytes)),
                ("memtables_frozen", sum(|c| c.shard.memtables_frozen)),
                ("cache_bytes", sum(|c| c.shard.cache_bytes)),
                ("value_cache_bytes", sum(|c| c.shard.value_cache_bytes)),
            ],
        ),
        section(
            "Persistence",
            vec![
                ("sstable_files", store.sstable_files.to_string()),
                ("sstable_bytes", store.sstable_bytes.to_string()),
                ("wal_segments", store.wal_segments.to_string()),
                ("wal_appends", sum(|c| c.wal.appends)),
                ("wal_fsync", sum(|c| c.wal.fsync)),
                ("flushes", store.flushes.to_string()),
                ("compactions", store.compactions.to_string()),
                ("compactions_by_reason", by_reason(store)),
                ("merging", merging(store, |bytes| bytes.to_string())),
                ("compaction_debt_bytes", store.compaction_debt_bytes.to_string()),
                (
                    "retention_cutoff",
                    store.retention_cutoff.map_or("off".to_owned(), |time| time.to_string()),
                ),
                (
                    "retention_limit_bytes",
                    store.retention_limit_bytes.map_or("off".to_owned(), |limit| limit.to_string()),
                ),
                ("sample_bytes", store.sample_bytes.to_string()),
                ("retention_held", u64::from(store.retention_held).to_string()),
                ("retention_dropped_bytes", store.retention_dropped_bytes.to_string()),
                ("retention_next_drop_bytes", store.retention_next_drop_bytes.to_string()),
                ("retention_next_drop_seconds", store.retention_next_drop_seconds.to_string()),
                ("series_retention_series", store.series_retention_series.to_string()),
                ("series_retention_hidden_bytes", store.series_retention_hidden_bytes.to_string()),
                ("disk_free_bytes", store.disk_free_bytes.to_string()),
                ("disk_full", u64::from(store.disk_full).to_string()),
                ("poisoned_shards", sum(|c| c.shard.poisoned)),
                ("writes_refused_disk_full", sum(|c| c.stalls.disk_full)),
                ("log_wait_ms", longest_log_wait_ms(cores)),
                ("recovery_records", store.recovery_records.to_string()),
                ("torn_tails", store.torn_tails.to_string()),
            ],
        ),
        section(
            "Stats",
            vec![
                ("total_connections_received", sum(|c| c.net.connections_accepted)),
                ("rejected_connections", sum(|c| c.net.connections_refused)),
                ("total_net_input_bytes", sum(|c| c.net.rx_bytes)),
                ("total_net_output_bytes", sum(|c| c.net.tx_bytes)),
                ("put", sum(|c| c.requests.put)),
                ("get", sum(|c| c.requests.get)),
                ("scan", sum(|c| c.requests.scan)),
                ("delete", sum(|c| c.requests.delete)),
                ("total_error_replies", sum(|c| c.requests.errors)),
                ("forwarded", sum(|c| c.requests.forwarded)),
                ("shard_moves", store.moves_done.to_string()),
                ("refused_series_rate", sum(|c| c.stalls.series_rate)),
            ],
        ),
        section("Hot", hot_fields(cores)),
    ]
}

/// The hottest series of all cores, hottest first: `shard=N,per_second=N,series=KEY`, the key last and escaped.
fn hot_fields(cores: &[CoreSnapshot]) -> Vec<(&'static str, String)> {
    let operations = ranked(cores, |hot| &hot.by_operations).into_iter();
    let bytes = ranked(cores, |hot| &hot.by_bytes).into_iter();
    HOT_OPERATIONS.into_iter().zip(operations).chain(HOT_BYTES.into_iter().zip(bytes)).collect()
}

const HOT_OPERATIONS: [&str; 10] = [
    "hot_operations_0",
    "hot_operations_1",
    "hot_operations_2",
    "hot_operations_3",
    "hot_operations_4",
    "hot_operations_5",
    "hot_operations_6",
    "hot_operations_7",
    "hot_operations_8",
    "hot_operations_9",
];
const HOT_BYTES: [&str; 10] = [
    "hot_bytes_0",
    "hot_bytes_1",
    "hot_bytes_2",
    "hot_bytes_3",
    "hot_bytes_4",
    "hot_bytes_5",
    "hot_bytes_6",
    "hot_bytes_7",
    "hot_bytes_8",
    "hot_bytes_9",
];

fn ranked(cores: &[CoreSnapshot], list: fn(&HotList) -> &[HotSeries]) -> Vec<String> {
    let mut all: Vec<(u16, &HotSeries)> =
        cores.iter().flat_map(|core| list(&core.hot).iter().map(|hot| (core.core, hot))).collect();
    all.sort_by(|a, b| b.1.per_second.cmp(&a.1.per_second).then(a.1.series.cmp(&b.1.series)));
    let line = |(shard, hot): &(u16, &HotSeries)| {
        format!("shard={shard},per_second={},series={}", hot.per_second, hot.series.escape_ascii())
    };
    all.iter().map(line).collect()
}

/// Of all cores, the longest that a log write under way has waited for the disk.
fn longest_log_wait_ms(cores: &[CoreSnapshot]) -> String {
    let longest = cores.iter().map(|core| core.shard.log_wait_ns).max().unwrap_or(0);
    (longest / 1_000_000).to_string()
}

/// The answer to STATS: every field of [`info_sections`], the latencies of the last 60 s in microseconds, and as
/// `summary` the text of [`render_stats`].
#[must_use]
pub fn stat_pairs(cores: &[CoreSnapshot], store: &StoreSnapshot) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = info_sections(cores, store)
        .into_iter()
        .flat_map(|section| section.fields)
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let mut recent = RecentLatencies::empty();
    cores.iter().for_each(|core| recent.add(&core.recent));
    for (kind, histogram) in [("get", &recent.get), ("put", &recent.put)] {
        for (percentile, quantile) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
            let micros = quantile_seconds(histogram, quantile) * 1e6;
            pairs.push((format!("{kind}_{percentile}_us"), format!("{micros:.1}")));
        }
    }
    pairs.push(("summary".to_owned(), render_stats(cores, store)));
    pairs
}

/// The text of `tskv stats`.
#[must_use]
pub fn render_stats(cores: &[CoreSnapshot], store: &StoreSnapshot) -> String {
    let sum = |pick: fn(&CoreSnapshot) -> u64| cores.iter().map(pick).sum::<u64>();
    let mut recent = RecentLatencies::empty();
    cores.iter().for_each(|core| recent.add(&core.recent));
    let mut text = String::new();
    let mut line = |label: &str, content: String| {
        let _ = writeln!(text, "{label:<13}{content}");
    };
    line(
        "tskv",
        format!("{}, up {}, at {}", store.version, duration(store.uptime_seconds), store.listen.join(" ")),
    );
    line(
        "store",
        format!("{}, unit {}, sync {}, in {}", store.store, store.time_unit, store.sync, store.data),
    );
    let backend = match &store.backend_reason {
        Some(reason) => format!("{} ({})", store.backend, one_line(reason)),
        None => store.backend.clone(),
    };
    line("backend", format!("{backend}, cores {}", cores.len()));
    line(
        "connections",
        format!(
            "{} open, {} accepted, {} refused, {} dropped",
            count(sum(|c| c.net.connections_open)),
            count(sum(|c| c.net.connections_accepted)),
            count(sum(|c| c.net.connections_refused)),
            count(sum(|c| c.net.connections_dropped)),
        ),
    );
    line(
        "requests",
        format!(
            "put {}, get {}, scan {}, delete {}, errors {}, forwarded {}",
            count(sum(|c| c.requests.put)),
            count(sum(|c| c.requests.get)),
            count(sum(|c| c.requests.scan)),
            count(sum(|c| c.requests.delete)),
            count(sum(|c| c.requests.errors)),
            count(sum(|c| c.requests.forwarded)),
        ),
    );
    line("put, 60 s", latency(&recent.put));
    line("get, 60 s", latency(&recent.get));
    line(
        "log",
        format!(
            "{} records in {} durable writes, {} segments live",
            count(sum(|c| c.wal.appends)),
            count(sum(|c| c.wal.fsync)),
            count(store.wal_segments),
        ),
    );
    line(
        "tables",
        format!(
            "{} files, {}; {} flushes, {} compactions, debt {}",
            count(store.sstable_files),
            bytes(store.sstable_bytes),
            count(store.flushes),
            count(store.compactions),
            bytes(store.compaction_debt_bytes),
        ),
    );
    if !store.merging.is_empty() {
        line("merging", merging(store, bytes));
    }
    line(
        "memory",
        format!(
            "memtables {} ({} frozen), cache {}",
            bytes(sum(|c| c.shard.memtable_bytes)),
            count(sum(|c| c.shard.memtables_frozen)),
            bytes(sum(|c| c.shard.cache_bytes + c.shard.value_cache_bytes)),
        ),
    );
    line(
        "recovery",
        format!(
            "{} records in {} ms at start, {} torn tails ({} cut off)",
            count(store.recovery_records),
            count(store.recovery_ns / 1_000_000),
            count(store.torn_tails),
            bytes(store.torn_bytes),
        ),
    );
    if let Some(text) = retention(store) {
        line("retention", text);
    }
    if store.series_retention_series > 0 {
        let (series, hidden) =
            (count(store.series_retention_series), bytes(store.series_retention_hidden_bytes));
        line(
            "series",
            format!("{series} with a retention of their own hide about {hidden}, which merges free"),
        );
    }
    let full = if store.disk_full { ", FULL: writes are refused until there is space" } else { "" };
    line("disk", format!("{} free{full}", bytes(store.disk_free_bytes)));
    if sum(|c| c.shard.poisoned) > 0 {
        line("POISONED", "a write to the log failed; writes are refused until restart".to_owned());
    }
    for core in cores {
        let shard = format!(
            "{} operations, memtable {}, cpu {}",
            count(core.shard.operations),
            bytes(core.shard.memtable_bytes),
            duration(core.turns.cpu_ns / 1_000_000_000)
        );
        line(&format!("shard {}", core.core), shard);
    }
    text
}

/// What is gone, what of the disk came back, and what goes next; `None` without retention.
fn retention(store: &StoreSnapshot) -> Option<String> {
    let by_age = store.retention_cutoff.map(|cutoff| format!("before {cutoff} all is gone, "));
    let by_size = store
        .retention_limit_bytes
        .map(|limit| format!("{} of samples, at most {}, ", bytes(store.sample_bytes), bytes(limit)));
    if by_age.is_none() && by_size.is_none() {
        return None;
    }
    let next = match store.retention_next_drop_bytes {
        0 => "nothing to drop".to_owned(),
        next => format!("{} go in {}", bytes(next), duration(store.retention_next_drop_seconds)),
    };
    let held = if store.retention_held { ", HELD: the clock has leapt ahead" } else { "" };
    let dropped = bytes(store.retention_dropped_bytes);
    let limits: String = by_age.into_iter().chain(by_size).collect();
    Some(format!("{limits}{dropped} given back, {next}{held}"))
}

/// Merges by why they were planned: `tier=3,trim=1`.
fn by_reason(store: &StoreSnapshot) -> String {
    let some = store.compactions_by_reason.iter().filter(|(_, merges)| *merges > 0);
    some.map(|(reason, merges)| format!("{reason}={merges}")).collect::<Vec<_>>().join(",")
}

/// The merges that run: `tier of 4 tables with 1.2 MiB, ...`.
fn merging(store: &StoreSnapshot, bytes: impl Fn(u64) -> String) -> String {
    let tell = |(reason, tables, size): &(&str, u64, u64)| {
        format!("{reason} of {tables} tables with {}", bytes(*size))
    };
    store.merging.iter().map(tell).collect::<Vec<_>>().join(", ")
}

/// Text from elsewhere without what would end the line.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn latency(histogram: &Histogram<u32>) -> String {
    if histogram.is_empty() {
        return "no requests".to_owned();
    }
    let millis = |quantile| quantile_seconds(histogram, quantile) * 1e3;
    format!("p50 {:.3} ms, p95 {:.3} ms, p99 {:.3} ms", millis(0.5), millis(0.95), millis(0.99))
}

/// A number with separators between its thousands.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size with a binary unit.
fn bytes(number: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let exponent = (number.max(1).ilog2() / 10) as usize;
    if exponent == 0 {
        return format!("{number} B");
    }
    format!("{:.1} {}", number as f64 / (1_u64 << (10 * exponent)) as f64, units[exponent])
}

/// Seconds in the two largest units that fit.
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn text_shows_sums_over_cores() {
        // A single core's numbers shown as the daemon's mislead by the number of cores.
        let text = render_stats(&sample::cores(), &sample::store());
        for part in [
            "0.1.0, up 1 h 2 min",
            "put 20, get 40",
            "6 open",
            "memtables 2.0 MiB",
            "p50 0.12",
            "tables       4 files, 4.0 MiB",
            "shard 1      30 operations",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("FULL") && !text.contains("POISONED"));
        assert!(text.lines().all(|line| !line.contains('\r')), "a reason with a line feed stays on its line");
    }

    #[test]
    fn info_fields_hold_no_line_ends_of_their_own() {
        // INFO is lines: a stray one would be read as another field.
        for section in info_sections(&sample::cores(), &sample::store()) {
            let one_line = |text: &str| !text.contains(['\n', '\r']);
            assert!(section.fields.iter().all(|(name, value)| one_line(name) && one_line(value)));
        }
    }

    #[test]
    fn stats_carry_each_name_once() {
        // A name given twice leaves a program with the wrong one of two values.
        let pairs = stat_pairs(&sample::cores(), &sample::store());
        let names: std::collections::BTreeSet<_> = pairs.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), pairs.len());
        assert!(
            pairs.iter().any(|(name, value)| name == "put_p99_us" && value.starts_with("12")),
            "{pairs:?}"
        );
        assert!(pairs.iter().any(|(name, value)| name == "summary" && value.lines().count() > 5));
    }

    #[test]
    fn numbers_read_well_at_their_limits() {
        // Wrong separators or a shift overflow make the largest stores unreadable.
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(90_000), "1 d 1 h");
    }
}
