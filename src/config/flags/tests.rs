//! Every flag: its default, what it takes, what it refuses.

use super::super::BackendKind;
use super::*;
use crate::model::TimeUnit;
use std::os::unix::fs::PermissionsExt;

/// A flag, a value, and what must then hold.
type Case<'a> = (&'a str, &'a str, fn(&Config) -> bool);

fn set(name: &str, text: &str) -> Result<Config, String> {
    let flag = FLAGS.iter().find(|flag| flag.name == name).expect("a known flag");
    let mut config = Config::default();
    (flag.set)(&mut config, &[text.to_owned()])?;
    Ok(config)
}

#[test]
fn defaults_in_the_help_are_the_defaults_in_force() {
    // A help text that promises another default than the one in force misleads every operator.
    for flag in FLAGS.iter().filter(|flag| !flag.default.is_empty()) {
        assert_eq!(set(flag.name, flag.default), Ok(Config::default()), "--{}", flag.name);
    }
}

#[test]
fn each_flag_sets_what_it_names() {
    // A flag wired to another field changes what the operator did not touch.
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "geheim").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let secret = secret.to_str().unwrap();

    let cases: [Case; 33] = [
        ("data", "/var/lib/tskv", |c| c.data == Path::new("/var/lib/tskv")),
        ("listen", "[::1]:0", |c| c.listen == ["[::1]:0".parse().unwrap()]),
        ("admin", "off", |c| c.admin.is_none()),
        ("backend", "io_uring", |c| c.backend == BackendKind::Uring),
        ("cores", "cpu:0,2-3", |c| c.cores == Cores::Cpus(vec![0, 2, 3])),
        ("core-port-base", "7900", |c| c.core_ports == CorePorts::Base(7900)),
        ("core-port-base", "auto", |c| c.core_ports == CorePorts::Auto),
        ("sync", "interval=10ms", |c| c.sync.to_string() == "interval=10ms"),
        ("time-unit", "us", |c| c.time_unit == Some(TimeUnit::Microseconds)),
        ("retention", "30d", |c| c.retention == Some(Duration::from_secs(30 * 86_400))),
        ("retention-bytes", "5GiB", |c| c.retention_bytes == Some(5 << 30)),
        ("retention-clock", "trust", |c| c.retention_trusts_clock),
        ("password-file", secret, |c| c.password.as_ref().is_some_and(|p| p.reveal() == b"geheim")),
        ("max-clients", "5", |c| c.max_clients == 5),
        ("memtable-bytes", "1MiB", |c| c.memtable_bytes == 1 << 20),
        ("cache-bytes", "0", |c| c.cache_bytes == Some(0)),
        ("max-query-memory", "1GiB", |c| c.max_query_memory == 1 << 30),
        ("max-output-bytes", "2MiB", |c| c.max_output_bytes == 2 << 20),
        ("max-value-bytes", "16MiB", |c| c.max_value_bytes == 16 << 20),
        ("wal-segment-bytes", "1048577", |c| c.wal_segment_bytes == (1 << 20) + 4096),
        ("bloom-bits", "0", |c| c.bloom_bits == 0),
        ("split-at", "g,p", |c| c.split_at.len() == 2),
        ("rebalance", "off", |c| !c.rebalance),
        ("rebalance-uneven", "150%", |c| c.rebalance_limits.uneven_percent == 150),
        ("rebalance-gain", "5", |c| c.rebalance_limits.gain_percent == 5),
        ("rebalance-pause", "10s", |c| c.rebalance_limits.pause_ns == 10_000_000_000),
        ("series-rate-limit", "1000", |c| c.series_rate_limit == Some(1000)),
        ("spin", "50us", |c| c.spin == Some(Duration::from_micros(50))),
        ("on-io-error", "readonly", |c| c.on_io_error == OnIoError::ReadOnly),
        ("slowlog-slower-than", "250us", |c| c.slowlog_slower_than == Some(Duration::from_micros(250))),
        ("slowlog-len", "0", |c| c.slowlog_len == 0),
        ("background-threads", "1", |c| c.background_threads == 1),
        ("log-level", "debug", |c| c.log_level == log::LevelFilter::Debug),
    ];
    let named: std::collections::BTreeSet<_> = cases.iter().map(|case| case.0).collect();
    assert_eq!(named.len(), FLAGS.len(), "every flag has a case");
    for (name, text, holds) in cases {
        let config = set(name, text).unwrap_or_else(|reason| panic!("--{name} {text}: {reason}"));
        assert!(holds(&config), "--{name} {text} did not arrive");
    }
}

#[test]
fn values_out_of_range_are_refused_with_the_range() {
    // A limit of 0 or of 2^64 turns into a daemon that refuses all or bounds nothing.
    for (name, text, hint) in [
        ("cores", "0", "1 to 128"),
        ("cores", "129", "1 to 128"),
        ("cores", "-1", "1 to 128"),
        ("cores", "cpu:", "cpu:0,2-3"),
        ("cores", "cpu:3-1", "1-3"),
        ("cores", "cpu:1,1", "twice"),
        ("cores", "cpu:0-99999999999", "0 to 1023"),
        ("memtable-bytes", "0", "at least"),
        ("memtable-bytes", "1", "at least"),
        ("memtable-bytes", "16E", "unit"),
        ("memtable-bytes", "5GiB", "at most"),
        ("wal-segment-bytes", "257MiB", "at most"),
        ("max-value-bytes", "17MiB", "at most"),
        ("max-clients", "0", "1 to"),
        ("core-port-base", "0", "1 to 65535, auto or off"),
        ("core-port-base", "65536", "1 to 65535, auto or off"),
        ("series-rate-limit", "0", "or off"),
        ("rebalance-uneven", "100%", "101 to"),
        ("rebalance-gain", "91%", "1 to 90"),
        ("rebalance-pause", "1ms", "100ms to 1d"),
        ("bloom-bits", "33", "0 to 32"),
        ("background-threads", "0", "1 to"),
        ("sync", "interval=0", "1ms"),
        ("sync", "interval=10", "10ms"),
        ("sync", "interval", "interval=10ms"),
        ("sync", "sometimes", "always"),
        ("spin", "2s", "at most 1s"),
        ("time-unit", "s", "ms, us, ns"),
        ("retention", "999ms", "at least 1s"),
        ("retention", "30", "unit"),
        ("retention", "9999999w", "64 bits"),
        ("retention-bytes", "1MiB", "at least"),
        ("retention-bytes", "lots", "whole number"),
        ("retention-clock", "maybe", "check, trust"),
        ("backend", "kqueue", "auto, io_uring, epoll"),
        ("on-io-error", "panic", "exit, readonly"),
        ("log-level", "loud", "info"),
        ("data", "a\0b", "NUL"),
    ] {
        let reason = set(name, text).expect_err(name);
        assert!(reason.contains(hint), "--{name} {text}: {reason}");
    }
}
