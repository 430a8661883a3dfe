//! The journal of acknowledged writes, and the verification that finds what a store has lost.

use crate::bench::{finish, start};
use crate::support::{Daemon, tskv};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

/// Each workload that has a journal.
const WORKLOADS: [&[&str]; 4] = [
    &["--workload", "kv", "--keys", "500", "--ratio", "3:1"],
    &["--workload", "kv", "--keys", "500", "--protocol", "resp"],
    &["--workload", "kv", "--keys", "500", "--protocol", "resp", "--commands", "ts"],
    &["--hosts", "7", "--batch", "16", "--threads", "2", "--out-of-order", "10%:1m", "--values", "float"],
];

fn bench(address: &str, flags: &[&str]) -> Output {
    tskv().arg("bench").args(flags).args(["--addr", address]).output().unwrap()
}
fn verify(address: &str, journal: &Path) -> (Option<i32>, String) {
    let output = bench(address, &["verify", "--journal", journal.to_str().unwrap()]);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn verification_finds_a_write_that_was_lost() {
    // A verification that finds nothing in a broken store blesses every store.
    let directory = tempfile::tempdir().unwrap();
    for (index, workload) in WORKLOADS.into_iter().enumerate() {
        let daemon = Daemon::start(&directory.path().join(format!("store-{index}")), &[] as &[&str]);
        let (address, journal) = (daemon.address(), directory.path().join(format!("journal-{index}")));
        let flags = ["-q", "-n", "400", "-c", "4", "--journal", journal.to_str().unwrap()];
        let output = bench(&address, &[&flags[..], workload].concat());
        assert!(output.status.success(), "{workload:?}: {}", String::from_utf8_lossy(&output.stderr));
        let (status, said) = verify(&address, &journal);
        assert_eq!(status, Some(0), "{workload:?}: {said}");
        assert!(said.contains(", 0 lost") && !said.contains(" 0 values read back"), "{workload:?}: {said}");

        // One series, or the strings of a stretch of keys: some of what was acknowledged.
        let lost: &[&str] = match index {
            1 => &["delete", "--prefix", "bench:s:00000000001"],
            3 => &["delete", "--prefix", "cpu.usage_irq.host_3"],
            _ => &["delete", "--prefix", "bench:t:00000000001"],
        };
        assert!(tskv().args(lost).args(["--addr", &address]).output().unwrap().status.success());
        let (status, said) = verify(&address, &journal);
        assert_eq!(status, Some(1), "{workload:?}: {said}");
        assert!(said.contains("lost: ") && !said.contains(", 0 lost"), "{workload:?}: {said}");
    }
}

#[test]
fn what_was_acknowledged_before_a_kill_is_verified_after_it() {
    // The generator must outlive the server it measures, and its journal must hold what was promised.
    let directory = tempfile::tempdir().unwrap();
    let (store, journal) = (directory.path().join("store"), directory.path().join("journal"));
    let json = directory.path().join("result.json");
    let daemon = Daemon::start(&store, &[] as &[&str]);
    let address = daemon.address();
    let flags = [
        "-q",
        "-d",
        "30s",
        "-c",
        "4",
        "-P",
        "4",
        "--hosts",
        "5",
        "--batch",
        "10",
        "--addr",
        &address,
        "--journal",
        journal.to_str().unwrap(),
    ];
    let child = start(&flags, &json);
    std::thread::sleep(Duration::from_millis(1_500));
    daemon.kill();
    let finished = finish(child, &json);
    assert_eq!(finished.output.status.code(), Some(4), "a run without a server is not fine");
    let printed = String::from_utf8_lossy(&finished.output.stdout).into_owned();
    assert!(printed.contains("4 connections were lost"), "{printed}");
    let daemon = Daemon::start(&store, &[] as &[&str]);
    let (status, said) = verify(&daemon.address(), &journal);
    assert_eq!(status, Some(0), "{said}");
    assert!(!said.starts_with("0 acknowledged"), "{said}");
}

#[test]
fn an_interrupted_run_reports_what_it_has() {
    // An hour's run that was stopped in its last minute would be lost.
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("result.json");
    let daemon = Daemon::start(&directory.path().join("store"), &[] as &[&str]);
    let child = start(&["-q", "-d", "60s", "-c", "2", "--addr", &daemon.address()], &json);
    let pid = child.id().to_string();
    // The warm-up has passed: a tenth, at most 5 s.
    std::thread::sleep(Duration::from_millis(6_000));
    assert!(std::process::Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    let finished = finish(child, &json);
    assert_eq!(finished.output.status.code(), Some(130));
    assert!(finished.result.verdict.interrupted && finished.result.ops["write"].count > 0);
    assert!(finished.result.runs[0].elapsed_s < 10.0, "{} s", finished.result.runs[0].elapsed_s);
}

#[test]
fn nobody_there_has_a_status_of_its_own() {
    // A script that compares servers must tell a slow one from an absent one.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for protocol in ["native", "resp"] {
        let output = bench(&free, &["-n", "1", "--protocol", protocol]);
        assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_threshold_that_is_not_kept_fails_the_run() {
    // A pipeline would go on with a store that has become too slow.
    let run = |limit: &str| {
        let flags =
            ["-q", "--null-sink", "--workload", "kv", "--ratio", "1:0", "-d", "500ms", "--threshold", limit];
        let output = tskv().arg("bench").args(flags).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (status, said) = run("total.errors<=0");
    assert!(status == Some(0) && said.contains("threshold  total.errors"), "{status:?}: {said}");
    let (status, said) = run("write.p50_us<0.001");
    assert!(status == Some(1) && said.contains("threshold  write.p50_us"), "{status:?}: {said}");
    assert_eq!(run("scan.p50_us<1").0, Some(2), "a limit on what was not measured");
}
