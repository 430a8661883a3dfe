//! Hot series: shown to the operator, and held to a rate where they are limited.

use crate::support::{Daemon, Reply, Resp, put_command};
use std::time::{Duration, Instant};
use tskv::client::{Client, ClientOptions};
use tskv::model::{Slot, StoredEntry, Value};
use tskv::protocol::binary::Status;

/// Two windows of the daemon's, and what it takes to leave the counters.
const SHOWN_WITHIN: Duration = Duration::from_secs(12);

fn start(directory: &tempfile::TempDir, more: &[&str]) -> Daemon {
    let flags = ["--cores", "2", "--split-at", "m", "--rebalance", "off", "--sync", "none"];
    Daemon::start(&directory.path().join("store"), &[&flags[..], more].concat())
}

/// The commands, in one pipeline; replies are read and counted by what they are.
fn pipeline(client: &mut Resp, commands: &[Vec<&[u8]>]) -> (usize, usize) {
    let mut bytes = Vec::new();
    commands.iter().for_each(|words| put_command(&mut bytes, words));
    client.send(&bytes).unwrap();
    let replies: Vec<Reply> = commands.iter().map(|_| client.reply().unwrap()).collect();
    let refused = replies.iter().filter(|reply| reply.error().starts_with("BUSY")).count();
    let failed = replies.iter().filter(|reply| matches!(reply, Reply::Error(_))).count();
    assert_eq!(refused, failed, "{replies:?}");
    (replies.len() - refused, refused)
}

#[test]
fn hot_series_are_shown_wherever_an_operator_looks() {
    // A core at its limit for one series looks like a core at its limit; nobody finds the client to mend.
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(&directory, &[]);
    let mut client = Resp::connect(&daemon.address()).unwrap();
    let large = vec![b'x'; 200_000];
    let cold: Vec<String> = (0..900).map(|number| format!("cold:{number}")).collect();
    let deadline = Instant::now() + SHOWN_WITHIN;
    let mut round = 0;
    let shown = loop {
        // A third of the commands on each of two hot series; one large value among them.
        let mut commands: Vec<Vec<&[u8]>> = Vec::new();
        for key in cold.iter().skip(round * 90 % 900).take(90) {
            commands.push(vec![b"SET", b"hot \"one\"\n", b"1"]);
            commands.push(vec![b"GET", b"z:two"]);
            commands.push(vec![b"SET", key.as_bytes(), b"1"]);
        }
        commands.push(vec![b"SET", b"large", &large]);
        pipeline(&mut client, &commands);
        round += 1;
        let shown = String::from_utf8(daemon.ok(&["stats", "--fields"])).unwrap();
        if shown.contains("hot_operations_1=") && shown.contains("hot_bytes_0=") {
            break shown;
        }
        assert!(Instant::now() < deadline, "nothing is shown after {round} rounds:\n{shown}");
    };
    let field = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let hottest = [field("hot_operations_0="), field("hot_operations_1=")];
    assert!(
        hottest.iter().any(|row| row.starts_with("shard=0,") && row.ends_with("series=hot \\\"one\\\"\\n"))
    );
    assert!(hottest.iter().any(|row| row.starts_with("shard=1,") && row.ends_with("series=z:two")));
    assert!(field("hot_bytes_0=").ends_with("series=large"), "{shown}");
    let info = client.ask("INFO");
    let Reply::Bulk(Some(info)) = info else { panic!("{info:?}") };
    assert!(String::from_utf8(info).unwrap().contains("\r\nhot_operations_0:shard="));
    let metrics = daemon.http("GET", "/metrics");
    for series in ["series=\"z:two\"", "series=\"hot \\\\\\\"one\\\\\\\"\\\\n\""] {
        let is_it =
            |line: &str| line.starts_with("tskv_hot_series_operations_per_second{") && line.contains(series);
        assert!(metrics.lines().any(is_it), "{series}:\n{metrics}");
    }
    let cpu = metrics.lines().filter_map(|line| line.strip_prefix("tskv_cpu_seconds_total{"));
    let seconds: Vec<f64> = cpu.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(seconds.len() == 2 && seconds.iter().all(|seconds| *seconds > 0.0), "{seconds:?}");
    let top = String::from_utf8(daemon.ok(&["top", "-n", "2", "--interval", "250ms"])).unwrap();
    assert!(top.contains("operations/s  share") && top.matches("z:two").count() == 2, "{top}");
    assert!(!top.contains('\x1b'), "a file is no terminal");
    let wrong = daemon.run(&["top", "--interval", "1ms"]);
    assert_eq!(wrong.status.code(), Some(2));
    let shards = String::from_utf8(daemon.ok(&["shards"])).unwrap();
    assert!(shards.contains("cpu ms") && shards.contains("table bytes"), "{shards}");
}

#[test]
fn a_limited_series_leaves_the_others_alone() {
    // Without a limit one client's loop takes the core; with one that refuses the wrong series it is worse.
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(&directory, &["--series-rate-limit", "50"]);
    let mut client = Resp::connect(&daemon.address()).unwrap();
    let hot: Vec<Vec<&[u8]>> = (0..2_000).map(|_| vec![&b"SET"[..], b"hot", b"1"]).collect();
    let began = Instant::now();
    let (done, refused) = pipeline(&mut client, &hot);
    // What the bucket holds, and one more in each 20 ms.
    let most = 50 + began.elapsed().as_millis() / 20 + 1;
    let is_within = done >= 50 && done as u128 <= most;
    assert!(is_within && done + refused == 2_000, "{done} done, at most {most}");
    let names: Vec<String> = (0..2_000).map(|number| format!("key:{number}")).collect();
    let others: Vec<Vec<&[u8]>> = names.iter().map(|name| vec![&b"SET"[..], name.as_bytes(), b"1"]).collect();
    assert_eq!(pipeline(&mut client, &others), (2_000, 0));
    // The native protocol says so too, and a batch is whole or absent.
    let mut native = Client::connect(&daemon.address(), &ClientOptions::default()).unwrap();
    let mut refusal = None;
    for _ in 0..200 {
        let entry = |series| StoredEntry { series, slot: Slot::Time(1), value: Value::I64(1) };
        if let Err(error) = native.put_batch(&[entry(b"hot"), entry(b"batch")]) {
            refusal = Some(error);
            break;
        }
    }
    let refusal = refusal.unwrap();
    assert_eq!(refusal.status(), Some(Status::Busy));
    assert!(refusal.to_string().contains("--series-rate-limit"), "{refusal}");
    native.put(b"batch", Slot::Time(2), Value::I64(2)).unwrap();
    let counted = || {
        let metrics = daemon.http("GET", "/metrics");
        let mut lines = metrics.lines();
        let count = lines.find_map(|line| line.strip_prefix("tskv_stalls_total{cause=\"series_rate\"} "));
        count.unwrap().parse::<usize>().unwrap()
    };
    // Cores leave their counters four times a second.
    let deadline = Instant::now() + Duration::from_secs(5);
    while counted() <= refused {
        assert!(Instant::now() < deadline, "{} of more than {refused} are counted", counted());
        std::thread::sleep(Duration::from_millis(50));
    }
}
