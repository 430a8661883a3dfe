//! Each workload and flag against the real daemon: what is asked for is what is done.

use crate::support::{Daemon, tskv};
use std::path::Path;
use tskv::load::RunResult;

struct Ran {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn words(&self) -> String {
        format!("status {:?}\n{}{}", self.status, self.stdout, self.stderr)
    }
}

fn bench(folder: &Path, flags: &str, address: &str) -> Ran {
    let mut command = tskv();
    command.current_dir(folder).arg("bench").args(flags.split_whitespace()).args(["--addr", address]);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn result(folder: &Path, name: &str) -> RunResult {
    serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
}

#[test]
fn mixes_of_ycsb_do_what_their_letters_mean() {
    // A mix of other proportions, or reads of keys that nobody loaded, is a benchmark of nothing.
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("store"), &["--sync", "none"]);
    let address = daemon.address();
    for protocol in ["resp", "native"] {
        let load =
            format!("load -q --workload ycsb-a --protocol {protocol} --keys 500 -c 4 -P 8 --json load.json");
        let ran = bench(folder.path(), &load, &address);
        assert_eq!(ran.status, Some(0), "{}", ran.words());
        assert_eq!(result(folder.path(), "load.json").ops["write"].count, 500);
        let mixes: [(&str, &str, f64, &str, f64); 6] = [
            ("a", "read", 0.5, "write", 0.5),
            ("b", "read", 0.95, "write", 0.05),
            ("c", "read", 1.0, "write", 0.0),
            ("d", "read", 0.95, "write", 0.05),
            ("e", "scan", 0.95, "write", 0.05),
            ("f", "read", 0.5, "rmw", 0.5),
        ];
        for (letter, read, read_share, write, write_share) in mixes {
            let flags = format!(
                "-q --workload ycsb-{letter} --protocol {protocol} --keys 500 -n 2000 -c 4 --json out.json"
            );
            let ran = bench(folder.path(), &flags, &address);
            if letter == "e" && protocol == "resp" {
                assert!(ran.status == Some(2) && ran.stderr.contains("--protocol native"), "{}", ran.words());
                continue;
            }
            assert_eq!(ran.status, Some(0), "ycsb-{letter}: {}", ran.words());
            let ops = result(folder.path(), "out.json").ops;
            for (name, share) in [(read, read_share), (write, write_share)] {
                let count = ops.get(name).map_or(0, |op| op.count) as f64 / 2000.0;
                assert!((count - share).abs() < 0.04, "ycsb-{letter} over {protocol}: {name} {count}");
            }
            let found = ops[read].values as f64 / ops[read].count as f64;
            let expected = if letter == "e" { 5.0..100.0 } else { 0.99..1.01 };
            assert!(expected.contains(&found), "ycsb-{letter} over {protocol}: {found} values per read");
        }
    }
    let ran = bench(folder.path(), "-q --workload ycsb-f --protocol resp -P 2 -n 10", &address);
    assert!(ran.status == Some(2) && ran.stderr.contains("wait for their reads"), "{}", ran.words());
}

#[test]
fn what_a_run_wrote_is_read_back_at_its_end() {
    // A store that acknowledges and forgets would be the fastest of all.
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("store"), &["--sync", "none"]);
    for workload in [
        "--workload kv --protocol resp --ratio 1:0 --keys 300 --key-pattern G",
        "--workload kv --protocol native --keys 300 --key-pattern P --read-recency latest",
        "--workload ycsb-f --protocol resp --keys 300",
        "--workload tsbs-devops --hosts 3 --batch 50",
        "--workload tsbs-devops --hosts 2 --batch 50 --protocol resp --key-style full",
        "--workload mixed --hosts 3 --batch 5 --read-recency uniform -t 2",
    ] {
        let ran = bench(folder.path(), &format!("-q -n 300 -c 3 {workload} --verify"), &daemon.address());
        assert_eq!(ran.status, Some(0), "{workload}: {}", ran.words());
        let said = ran.stdout.lines().last().unwrap();
        let read_back: u64 = said.split(", ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(said.ends_with(", 0 lost") && read_back > 50, "{workload}: {said}");
        let ran = bench(folder.path(), &format!("-q -n 300 -c 3 {workload} --verify 20%"), &daemon.address());
        let said = ran.stdout.lines().last().unwrap();
        let share: u64 = said.split(", ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(share < read_back / 2 && share > 0, "{workload}: {share} of {read_back}");
    }
}

#[test]
fn queries_are_answered_over_both_protocols() {
    // A query that asks beside the data is very fast.
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("store"), &["--sync", "none"]);
    let data = "--hosts 4 --interval 60s --span 1d";
    let ran = bench(folder.path(), &format!("load -q {data}"), &daemon.address());
    assert_eq!(ran.status, Some(0), "{}", ran.words());
    for protocol in ["native", "resp"] {
        let flags = format!("query -q {data} --queries 5 --protocol {protocol} --json query.json");
        let ran = bench(folder.path(), &flags, &daemon.address());
        assert_eq!(ran.status, Some(0), "{}", ran.words());
        let ops = result(folder.path(), "query.json").ops;
        assert_eq!(ops.len(), 16);
        let per_query = |name: &str| ops[name].values as f64 / ops[name].count as f64;
        // Samples of a minute each: buckets of a minute hold one, and each series has one newest.
        for (name, least, most) in [
            ("single-groupby-1-1-1", 60.0, 61.0),
            ("single-groupby-5-8-1", 4.0 * 5.0 * 60.0, 4.0 * 5.0 * 61.0),
            ("cpu-max-all-1", 80.0, 90.0),
            ("double-groupby-1", 48.0, 52.0),
            ("high-cpu-1", 7_200.0, 7_210.0),
            ("high-cpu-all", 28_800.0, 28_840.0),
            ("lastpoint", 40.0, 40.0),
            ("groupby-orderby-limit", 20.0, 24.0),
        ] {
            // TS.RANGE answers with pairs, of which each half counts.
            let values = per_query(name) / if protocol == "resp" { 2.0 } else { 1.0 };
            assert!((least..=most).contains(&values), "{protocol}: {name} read {values}");
        }
    }
}

#[test]
fn a_run_is_compared_with_a_baseline_by_itself() {
    // A pipeline would need two commands, and forget the second.
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("store"), &["--sync", "none"]);
    let address = daemon.address();
    let run = |more: &str| bench(folder.path(), &format!("-q -n 2000 -c 2 --workload kv {more}"), &address);
    let ran = run("--save-baseline main --units ms");
    assert_eq!(ran.status, Some(0), "{}", ran.words());
    assert!(ran.stdout.contains("saved this run as main") && ran.stdout.contains("service time in ms"));
    let path = folder.path().join("tskv-bench-baselines/main.json");
    let stored: RunResult = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let save_with_rates = |factor: f64| {
        let mut base = stored.clone();
        base.ops.values_mut().for_each(|op| op.ops_per_s *= factor);
        std::fs::write(&path, serde_json::to_vec(&base).unwrap()).unwrap();
    };
    let rate_line = |ran: &Ran| {
        let line = ran.stdout.lines().find(|line| line.contains("ops_per_s")).unwrap_or_default();
        line.to_owned()
    };
    // A base that nothing can reach, and one that everything surpasses.
    save_with_rates(1000.0);
    let ran = run("--baseline main --noise 50% --fail-on-regression --save-baseline next");
    assert_eq!(ran.status, Some(1), "{}", ran.words());
    assert!(
        rate_line(&ran).ends_with("WORSE") && ran.stdout.contains("not saved as next"),
        "{}",
        ran.words()
    );
    assert_eq!(run("--baseline main --noise 50%").status, Some(0), "nobody asked it to fail");
    save_with_rates(0.001);
    let ran = run("--baseline main --noise 50%");
    assert!(rate_line(&ran).ends_with("better"), "{}", ran.words());
    let ran = run("--baseline main --seed 7");
    assert!(ran.status == Some(2) && ran.stderr.contains("config.seed: 123 and 7"), "{}", ran.words());
    assert_eq!(ran.stdout, "", "it ran before it looked");
    assert_eq!(run("--baseline nothing").status, Some(2));
    assert_eq!(run("--fail-on-regression").status, Some(2), "without a base nothing fails");
}

#[test]
fn a_run_without_operations_keeps_no_limit() {
    // A server that answers nothing has no slow answer.
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("store"), &["--sync", "none"]);
    for limit in ["total.errors<=0", "write.p99_us<5000"] {
        let flags = format!("-q -R 0.1 --warmup 1s -d 500ms -c 1 --threshold {limit}");
        let ran = bench(folder.path(), &flags, &daemon.address());
        assert_eq!(ran.status, Some(1), "{limit}: {}", ran.words());
        assert!(ran.stdout.contains("MISSED, no operation was answered"), "{}", ran.words());
    }
}

#[test]
fn live_lines_come_as_often_as_asked_for() {
    // A log of an hour's run would be 3,600 lines.
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("store"), &["--sync", "none"]);
    let flags = "-R 200 --warmup 0s -d 4s -c 1 --workload kv --interval-report 2s --no-color";
    let ran = bench(folder.path(), flags, &daemon.address());
    let lines: Vec<_> = ran.stderr.lines().filter(|line| line.starts_with('[')).collect();
    assert!(lines.len() == 2 && lines[0].starts_with("[  2s/4s]"), "{lines:?}");
    let rates = lines.iter().flat_map(|line| line.split(' ')).filter_map(|word| word.strip_suffix("/s"));
    let sum: u64 = rates.filter_map(|rate| rate.parse::<u64>().ok()).sum();
    assert!((350..=410).contains(&sum), "two lines of 200/s in all: {lines:?}");
    assert!(!ran.stderr.contains('\u{1b}'));
    for wrong in ["0s", "1500ms", "often"] {
        let ran = bench(folder.path(), &format!("-n 1 --interval-report {wrong}"), &daemon.address());
        assert_eq!(ran.status, Some(2), "{}", ran.words());
    }
}

#[test]
fn a_file_that_cannot_be_replayed_to_its_end_fails_the_run() {
    // A script would take a replay of nothing for a fast one.
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("store"), &["--sync", "none"]);
    std::fs::write(folder.path().join("in.csv"), "series,timestamp_ms,value\na,1,2.5\na,2,warm\n").unwrap();
    let ran = bench(folder.path(), "replay -q --file in.csv --json out.json", &daemon.address());
    assert_eq!(ran.status, Some(1), "{}", ran.words());
    assert!(ran.stderr.contains("line 3") && ran.stderr.contains("--values bytes"), "{}", ran.words());
    let result = result(folder.path(), "out.json");
    assert_eq!(result.ops["write"].values, 1, "what came before the bad line was sent");
    assert!(result.verdict.failure.is_some_and(|failure| failure.contains("'warm'")));
    let ran = bench(folder.path(), "query -n 5", &daemon.address());
    assert!(ran.status == Some(2) && ran.stderr.contains("--queries"), "{}", ran.words());
}

#[test]
fn a_file_of_byte_strings_is_replayed() {
    // The readings of a whole data set could be replayed but for those that are no numbers.
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("store"), &["--sync", "none"]);
    std::fs::write(folder.path().join("in.csv"), "series,timestamp_ms,value\na,1,x,y\nb,-2,\na,3,z\n")
        .unwrap();
    let ran =
        bench(folder.path(), "replay -q --file in.csv --values bytes --json out.json", &daemon.address());
    assert_eq!(ran.status, Some(0), "{}", ran.words());
    assert_eq!(result(folder.path(), "out.json").ops["write"].values, 3);
    let ran =
        bench(folder.path(), "replay -q --file in.csv --values bytes --protocol resp", &daemon.address());
    assert!(ran.status == Some(2) && ran.stderr.contains("samples of TS.* and rows are numbers"));
}
