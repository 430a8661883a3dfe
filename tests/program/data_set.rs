//! Import, `kill -9`, another backend and another number of cores, export: the same bits, before and after compaction.
//!
//! Runs on every file of `TSKV_TEST_DATA` (default `../shared/data`), whose checksums come with them, and always on
//! generated files with the same quirks: negative times, late blocks, duplicates, NaN, exponents, commas in bytes.

use crate::support::Daemon;
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Which backend writes and which reads; `auto` is io_uring where the machine allows it.
const BACKENDS: [&str; 2] = ["auto", "epoll"];

/// What `export --values bits` must print for a file: the last line of each series and time.
fn expected_export(plain: &[u8], is_bytes: bool) -> Vec<u8> {
    let mut samples = BTreeMap::new();
    for line in plain.split(|byte| *byte == b'\n').skip(1).filter(|line| !line.is_empty()) {
        let mut parts = line.splitn(3, |byte| *byte == b',');
        let (series, time, value) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let time: i64 = std::str::from_utf8(time).unwrap().parse().unwrap();
        samples.insert((series, time), value);
    }
    let mut export = Vec::new();
    for ((series, time), value) in samples {
        export.extend_from_slice(series);
        export.extend_from_slice(format!(",{time},").as_bytes());
        if is_bytes {
            export.extend_from_slice(value);
        } else {
            let number: f64 = std::str::from_utf8(value).unwrap().parse().unwrap();
            let bits = if number.is_nan() { 0x7ff8_0000_0000_0000 } else { number.to_bits() };
            export.extend_from_slice(format!("{bits:016x}").as_bytes());
        }
        export.push(b'\n');
    }
    export
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Sends a file through the whole circle: written under one backend, read under `then`, the other one.
fn survives(file: &Path, is_bytes: bool, expected: &[u8], [first, then]: [&str; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store");
    let value_type = if is_bytes { "bytes" } else { "f64" };
    let daemon = Daemon::start(&data, &["--backend", first, "--cores", "2", "--memtable-bytes", "1MiB"]);
    daemon.ok(&["import", "--type", value_type, file.to_str().unwrap()]);
    daemon.kill();
    let daemon = Daemon::start(&data, &["--backend", then, "--cores", "3", "--rebalance", "off"]);
    compare(file, "after kill -9", &daemon.ok(&["export", "--values", "bits"]), expected);
    daemon.ok(&["compact"]);
    compare(file, "after compact", &daemon.ok(&["export", "--values", "bits"]), expected);
    daemon.kill();
    let daemon = Daemon::start(&data, &["--backend", first, "--cores", "1"]);
    compare(file, "after a second kill -9", &daemon.ok(&["export", "--values", "bits"]), expected);
}

/// Loads a file into four shards that are split by hand, then into three that the daemon chooses: each holds a share.
fn spreads(file: &Path, expected: &[u8], [first, then]: [&str; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store");
    let lines: Vec<&[u8]> = expected.split_inclusive(|byte| *byte == b'\n').collect();
    let key =
        |line: &[u8]| String::from_utf8(line.split(|byte| *byte == b',').next().unwrap().into()).unwrap();
    let splits: Vec<String> = (1..4).map(|quarter| key(lines[lines.len() * quarter / 4])).collect();
    let flags = ["--backend", first, "--cores", "4", "--rebalance", "off", "--split-at", &splits.join(",")];
    let daemon = Daemon::start(&data, &flags);
    daemon.ok(&["import", file.to_str().unwrap()]);
    // The page is refreshed now and then; all entries are still in the memtables.
    let deadline = Instant::now() + Duration::from_secs(10);
    let entries = loop {
        let entries = per_shard(&daemon, "tskv_memtable_entries");
        if entries.iter().sum::<u64>() >= lines.len() as u64 {
            break entries;
        }
        assert!(Instant::now() < deadline, "{}: {entries:?} of {}", file.display(), lines.len());
    };
    assert_even(file, &entries, 4);
    daemon.kill();
    let daemon = Daemon::start(&data, &["--backend", then, "--cores", "3"]);
    compare(file, "on three shards", &daemon.ok(&["export", "--values", "bits"]), expected);
    let page = daemon.http("GET", "/metrics");
    let starts =
        page.lines().filter_map(|line| line.strip_prefix("tskv_shard_start_info{")?.split('"').nth(3));
    let starts: Vec<&str> = starts.collect();
    let mut entries = vec![0; starts.len() + 1];
    for line in &lines {
        entries[starts.partition_point(|start| *start <= key(line).as_str())] += 1;
    }
    assert_even(file, &entries, 3);
}

/// The figures of one metric, shard by shard.
fn per_shard(daemon: &Daemon, metric: &str) -> Vec<u64> {
    let page = daemon.http("GET", "/metrics");
    let figures =
        page.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix("{shard=")?.split(' ').nth(1));
    figures.map(|figure| figure.parse().unwrap()).collect()
}

fn assert_even(file: &Path, entries: &[u64], shards: usize) {
    let least = entries.iter().sum::<u64>() / 10;
    let is_even = entries.len() == shards && entries.iter().all(|count| *count >= least);
    assert!(is_even, "{}: a shard holds less than a tenth: {entries:?}", file.display());
}

/// Compares two exports; names the first line that differs.
fn compare(file: &Path, when: &str, found: &[u8], expected: &[u8]) {
    let lines = |text: &'_ [u8]| text.iter().filter(|byte| **byte == b'\n').count();
    let pair = found.split(|byte| *byte == b'\n').zip(expected.split(|byte| *byte == b'\n'));
    if let Some((number, (found, expected))) =
        pair.enumerate().find(|(_, (found, expected))| found != expected)
    {
        let (found, expected) = (found.escape_ascii(), expected.escape_ascii());
        panic!("{} {when}: line {}: found '{found}', expected '{expected}'", file.display(), number + 1);
    }
    assert_eq!(lines(found), lines(expected), "{} {when}: number of lines", file.display());
    assert!(found == expected);
}

/// Deterministic numbers.
struct Random(u64);
impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A file with the quirks of the real ones.
fn generated(random: &mut Random, is_bytes: bool) -> String {
    let mut text = "series,timestamp_ms,value\n".to_owned();
    for index in 0..20_000_i64 {
        let series = random.next() % 40;
        // Blocks that come late, times before 1970, and a time in ten that was there before.
        let block = if index % 5_000 < 1_000 { 9_000_000 } else { 0 };
        let time =
            (index / 40) * 1_000 - 5_000_000 - block - i64::from(random.next().is_multiple_of(10)) * 1_000;
        let value = match (is_bytes, random.next() % 6) {
            (true, 0) => String::new(),
            (true, _) => format!("{{\"a\":{},\"text\":\"ü, {}\"}}", random.next(), random.next() % 9),
            (false, 0) => "NaN".to_owned(),
            (false, 1) => format!("{}e-{}", random.next(), random.next() % 300),
            (false, 2) => "-0.0".to_owned(),
            (false, 3) => format!("{}", f64::from_bits(random.next() >> 2)),
            (false, _) => format!("{}.{}", random.next() % 1_000, random.next()),
        };
        let _ = writeln!(text, "host{series:02}.cpu,{time},{value}");
    }
    text
}

#[test]
fn generated_files_survive_kill_restart_and_compaction() {
    // One sample lost or changed on the way to disk and back is what a store must never do.
    let directory = tempfile::tempdir().unwrap();
    for (is_bytes, name) in [(false, "floats.csv"), (true, "bytes.csv")] {
        let text = generated(&mut Random(0x7465_7374), is_bytes);
        let path = directory.path().join(name);
        std::fs::write(&path, &text).unwrap();
        let expected = expected_export(text.as_bytes(), is_bytes);
        survives(&path, is_bytes, &expected, BACKENDS);
        survives(&path, is_bytes, &expected, [BACKENDS[1], BACKENDS[0]]);
        if !is_bytes {
            spreads(&path, &expected, BACKENDS);
        }
    }
}

#[test]
fn real_files_survive_kill_restart_and_compaction() {
    // Real data has combinations that nobody thinks of.
    let directory = std::env::var_os("TSKV_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let Ok(manifest) = std::fs::read(directory.join("MANIFEST.json")) else {
        // Not `eprintln!`, which the test harness would keep for itself.
        let note = format!("NOTE: no data set at {}; generated files stand for it\n", directory.display());
        return std::io::stderr().write_all(note.as_bytes()).unwrap();
    };
    let files: Vec<serde_json::Value> = serde_json::from_slice(&manifest).unwrap();
    assert!(!files.is_empty());
    let mut spread = 0;
    for (index, entry) in files.iter().enumerate() {
        let path = directory.join(entry["file"].as_str().unwrap());
        let is_bytes = entry["kind"] == "bytes";
        let mut plain = Vec::new();
        MultiGzDecoder::new(File::open(&path).unwrap()).read_to_end(&mut plain).unwrap();
        let expected = expected_export(&plain, is_bytes);
        assert_eq!(sha256(&expected), entry["sha256_lww_export"].as_str().unwrap(), "{}", path.display());
        let backends = if index % 2 == 0 { BACKENDS } else { [BACKENDS[1], BACKENDS[0]] };
        survives(&path, is_bytes, &expected, backends);
        // Shards are ranges of keys: few series cannot be spread.
        if !is_bytes && entry["series"].as_u64().unwrap() >= 20 {
            spreads(&path, &expected, backends);
            spread += 1;
        }
    }
    assert!(spread > 2, "no file was spread over several shards");
}
