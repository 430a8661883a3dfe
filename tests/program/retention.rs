//! `--retention` on the real daemon: what clients see of it, and what it gives back to the disk.

use crate::support::Daemon;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

const KEPT_SECONDS: i64 = 8;

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn table_bytes(data: &Path) -> u64 {
    let files = fs::read_dir(data.join("tables")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

fn stat(daemon: &Daemon, name: &str) -> i64 {
    let fields = String::from_utf8(daemon.ok(&["stats", "--fields"])).unwrap();
    let value = fields.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {fields}")).trim().parse().unwrap()
}

#[test]
fn old_samples_are_hidden_refused_and_given_back_to_the_disk() {
    // Users of others waited in vain for their disk: RedisTimeSeries #263 and #457, VictoriaMetrics #6000.
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store");
    let retention = format!("{KEPT_SECONDS}s");
    let flags = ["--retention", &retention, "--cores", "2"];
    let daemon = Daemon::start(&data, &flags);
    let wait = |name: &str, condition: &dyn Fn() -> bool| {
        let until = Instant::now() + Duration::from_secs(60);
        while !condition() {
            assert!(Instant::now() < until, "{name}: {}", daemon.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    daemon.ok(&["put", "warm-up", "now", "1"]);
    wait("the first look at the clock", &|| {
        daemon.http("GET", "/metrics").contains("\ntskv_retention_cutoff ")
    });

    // Samples that do not compress away, most of them about to be too old.
    let began = now_ms();
    let mut csv = "series,timestamp_ms,value\n".to_owned();
    let mut value = 1_u64;
    for nth in 0..20_000 {
        value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        writeln!(csv, "host:{},{},0.{value}", nth % 10, began - nth / 10).unwrap();
    }
    let file = directory.path().join("old.csv");
    fs::write(&file, csv).unwrap();
    daemon.ok(&["import", file.to_str().unwrap()]);
    daemon.resp(&[b"SET", b"greeting", b"hello"]);
    daemon.resp(&[b"TS.CREATE", b"made"]);
    let late = (began - KEPT_SECONDS * 1000 - 5000).to_string();
    let refused = daemon.resp(&[b"TS.ADD", b"made", late.as_bytes(), b"1"]);
    assert!(refused.starts_with("-ERR TSDB: Timestamp is older than retention"), "{refused}");
    let native = daemon.run(&["put", "made", &late, "1"]);
    assert_eq!(native.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&native.stderr).contains("older than retention"), "{native:?}");
    daemon.ok(&["flush"]);
    let full = table_bytes(&data);
    assert!(full > 100_000, "{full}");
    assert_eq!(stat(&daemon, "retention_dropped_bytes"), 0);
    assert!(stat(&daemon, "retention_next_drop_bytes") > 0);
    assert!((0..=KEPT_SECONDS).contains(&stat(&daemon, "retention_next_drop_seconds")));

    // Too old now: gone from every reply within a second or two, and their files soon after.
    std::thread::sleep(Duration::from_secs(KEPT_SECONDS.unsigned_abs()));
    wait("samples are hidden", &|| daemon.ok(&["scan", "--prefix", "host:"]).is_empty());
    assert!(now_ms() - began < KEPT_SECONDS * 1000 + 20_000, "it took long");
    assert_eq!(daemon.resp(&[b"EXISTS", b"host:1"]), ":0\r\n+OK\r\n");
    assert_eq!(daemon.resp(&[b"GET", b"greeting"]), "$5\r\nhello\r\n+OK\r\n");
    assert_eq!(daemon.resp(&[b"TS.GET", b"made"]), "*0\r\n+OK\r\n", "what TS.CREATE made has no age");
    wait("the disk has its bytes back", &|| table_bytes(&data) < full / 10);
    assert!(stat(&daemon, "retention_dropped_bytes") > i64::try_from(full / 2).unwrap());
    let added = daemon.resp(&[b"TS.ADD", b"made", b"*", b"7"]);
    assert!(added.starts_with(':'), "{added}");
    daemon.kill();

    // Without a retention nothing comes back, and what was too late is welcome.
    let daemon = Daemon::start(&data, &["--cores", "1"]);
    assert!(daemon.ok(&["scan", "--prefix", "host:"]).is_empty());
    daemon.ok(&["put", "host:1", &late, "2.5"]);
    let rows = format!("host:1,{late},2.5\n");
    assert_eq!(String::from_utf8(daemon.ok(&["scan", "--prefix", "host:"])).unwrap(), rows);
}
