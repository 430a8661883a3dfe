//! The slow log: what an operator and a Redis client see of requests that took long.

use crate::support::Daemon;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn slow_requests_are_told_with_where_their_time_went() {
    // Without the split an operator knows that it was slow, which the client knew before.
    let directory = tempfile::tempdir().unwrap();
    // Every durable write takes longer than a microsecond.
    let flags = ["--slowlog-slower-than", "1us", "--slowlog-len", "3", "--cores", "1"];
    let daemon = Daemon::start(&directory.path().join("store"), &flags);
    for value in ["1", "2", "3", "4"] {
        daemon.ok(&["put", "room", value, value]);
    }
    let table = text(daemon.ok(&["slowlog"]));
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 1 + 3, "the newest three and a head: {table}");
    let heads: Vec<_> = lines[0].split_whitespace().collect();
    assert_eq!(heads[2..9], ["time", "total", "ms", "queue", "wal", "read", "forward"], "{table}");
    let fields: Vec<_> = lines[1].split_whitespace().collect();
    let number = |index: usize| fields[index].parse::<f64>().unwrap();
    // id, time, total, queue, wal, read, forward, send
    let phases: f64 = (3..8).map(number).sum();
    assert!((number(2) - phases).abs() < 0.01, "the phases are the whole: {table}");
    assert!(number(4) > 0.0, "a durable write waits for the log: {table}");
    assert!(lines[1].contains("put room"), "{table}");
    // A core leaves its counters four times a second.
    std::thread::sleep(std::time::Duration::from_millis(600));
    let metrics = daemon.http("GET", "/metrics");
    let count = |phase: &str| {
        let name = format!("tskv_request_phase_seconds_count{{phase=\"{phase}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok()).unwrap()
    };
    assert!(count("wal") >= 4 && count("wal") == count("send"), "{metrics}");
    daemon.ok(&["slowlog", "--reset"]);
    let off = ["--slowlog-slower-than", "off", "--cores", "1"];
    drop(daemon);
    let daemon = Daemon::start(&directory.path().join("store"), &off);
    daemon.ok(&["put", "room", "9", "9"]);
    assert_eq!(text(daemon.ok(&["slowlog", "--all"])), "no slow requests\n");
}
