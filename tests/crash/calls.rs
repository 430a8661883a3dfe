//! System calls of the real daemon that fail (goal G3): strace attaches to a loaded daemon and makes the Nth call of a
//! kind fail, come back short, or be the last. The epoll backend, since a ring's operations are no system calls.
//!
//! `TSKV_STRACE_RUNS` is how many runs are made, `TSKV_CRASH_SECONDS` bounds their time, `TSKV_CRASH_SEED` replays.

use super::support::fleet::{Fleet, Round};
use super::support::{Daemon, Rng, may_have_refused, number_from, skipped, tskv};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tskv::client::{Client, ClientOptions};

/// Runs by default, and the time they may take.
const RUNS: u64 = 50;
const SECONDS: u64 = 90;
/// A loaded daemon makes its Nth call of a kind within this time.
const STRIKE: Duration = Duration::from_millis(1500);

/// What happens to one call: as strace writes it, and whether the log has failed for good then.
struct Injury {
    calls: &'static str,
    how: &'static str,
    sync: &'static str,
    ends_log: bool,
    /// The call that it happens to is one of so many first ones, of each thread.
    nth_max: u64,
    /// Jobs make the calls: something must be flushed.
    flushes: bool,
}

/// A short write that reports fewer bytes than a page: nothing was written, and no page counts as done.
const INJURIES: [Injury; 10] = [
    Injury { ends_log: true, ..LOG_WRITE },
    Injury { how: "retval=100", ..LOG_WRITE },
    Injury { how: "error=EINTR", ..LOG_WRITE },
    Injury { how: "error=EAGAIN", ..LOG_WRITE },
    Injury { how: "signal=KILL", ..LOG_WRITE },
    Injury { calls: "fdatasync", sync: "interval=10ms", nth_max: 4, ..LOG_WRITE },
    JOB_WRITE,
    Injury { how: "signal=KILL", ..JOB_WRITE },
    Injury { calls: "fdatasync,fsync,renameat", ..JOB_WRITE },
    // A full disk, for whoever asks it for room; writes are refused one by one meanwhile.
    Injury { calls: "pwrite64,openat,renameat", how: "error=ENOSPC", ..JOB_WRITE },
];
const LOG_WRITE: Injury = Injury {
    calls: "pwritev2",
    how: "error=EIO",
    sync: "always",
    ends_log: false,
    nth_max: 12,
    flushes: false,
};
const JOB_WRITE: Injury = Injury { calls: "pwrite64", nth_max: 1, flushes: true, ..LOG_WRITE };

/// Strace, attached; its end lets the daemon go on alone.
struct Strace {
    child: Child,
    /// It tells of each new thread: where nobody could read that any more, it would be killed by the pipe.
    _told: BufReader<ChildStderr>,
}

impl Strace {
    fn attach(daemon: &Daemon, injury: &Injury, nth: u64, log: &Path) -> Self {
        let inject = format!("inject={}:{}:when={nth}", injury.calls, injury.how);
        let mut child = Command::new("strace")
            .args(["-f", "-o"])
            .arg(log)
            .args(["-e", &format!("trace={}", injury.calls), "-e", &inject, "-p"])
            .arg(daemon.pid().to_string())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It says so once it holds all threads.
        let mut line = String::new();
        let mut told = BufReader::new(child.stderr.take().unwrap());
        told.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "strace: {line}");
        Self { child, _told: told }
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // By SIGTERM it lets go of the daemon before it ends.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Whether strace is there and may attach to a process of ours.
fn has_strace() -> bool {
    let tried = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    let works = tried.as_ref().is_ok_and(|output| output.status.success());
    if !works {
        skipped("strace", "it is missing, or may not trace");
    }
    works
}

#[test]
fn a_system_call_that_fails_costs_nothing_acknowledged() {
    // An error, a short count or an interruption is taken for success, or a retry for a cure.
    if !has_strace() {
        return;
    }
    let seed = number_from("TSKV_CRASH_SEED", 1 + u64::from(std::process::id()));
    let runs = number_from("TSKV_STRACE_RUNS", RUNS);
    let until = Instant::now() + Duration::from_secs(number_from("TSKV_CRASH_SECONDS", SECONDS));
    let mut rng = Rng(seed);
    let (mut done, mut struck, mut acks, mut missed) = (0, 0, 0, Vec::new());
    while done < runs && Instant::now() < until {
        let injury = &INJURIES[usize::try_from(done).unwrap() % INJURIES.len()];
        let (hit, acknowledged) = one_run(injury, done, &mut rng, seed);
        struck += u64::from(hit);
        if !hit {
            missed.push((injury.calls, injury.how));
        }
        acks += acknowledged;
        done += 1;
    }
    assert!(10 * struck >= 9 * done, "only {struck} of {done} failures struck: {missed:?}");
    println!(
        "system calls that fail: {done} of {runs} runs, {struck} struck, {acks} acknowledged requests, 0 lost (seed {seed})"
    );
}

/// Loads a daemon while one of its calls goes wrong, ends it, and judges the next start: whether the call was made, and
/// how many requests were acknowledged.
fn one_run(injury: &Injury, number: u64, rng: &mut Rng, seed: u64) -> (bool, u64) {
    let dir = tempfile::tempdir().unwrap();
    let (data, trace) = (dir.path().join("store"), dir.path().join("trace"));
    let policy = ["exit", "readonly"][usize::from(rng.one_in(2))];
    let nth = 1 + rng.below(injury.nth_max);
    let context = format!(
        "TSKV_CRASH_SEED={seed} cargo test --test crash a_system_call; run {number}: {} {} at call {nth}, sync {}, {policy}",
        injury.calls, injury.how, injury.sync
    );
    let flags = [
        "--backend epoll --cores 1 --wal-segment-bytes 1MiB --memtable-bytes 1MiB --max-value-bytes 64KiB",
        &format!("--sync {} --on-io-error {policy}", injury.sync),
    ];
    let flags: Vec<String> = flags.iter().flat_map(|part| part.split(' ')).map(str::to_owned).collect();
    let daemon = Daemon::start(&data, &flags);
    let fleet = Fleet::new(rng);
    let (address, mut daemon) = (daemon.address(), Some(daemon));
    let round = Round { life: Duration::from_millis(30 + rng.below(40)), one_core: true, deletes: true };
    let hit = || std::fs::read_to_string(&trace).is_ok_and(|text| text.contains("INJECTED"));
    let mut ended = None;
    let acks = fleet.load(&address, round, rng, || {
        let mut running = daemon.take().unwrap();
        let strace = Strace::attach(&running, injury, nth, &trace);
        let give_up = Instant::now() + STRIKE;
        if injury.flushes
            && let Ok(mut client) = Client::connect(&address, &ClientOptions::default())
        {
            // Its failure is what is wanted.
            let _ = client.flush();
        }
        while running.is_alive() && !hit() && Instant::now() < give_up {
            thread::sleep(Duration::from_millis(2));
        }
        // What was taken for success is acknowledged meanwhile, and what is tried again succeeds.
        thread::sleep(Duration::from_millis(60));
        let must_end = hit() && injury.ends_log && policy == "exit";
        drop(strace);
        if must_end {
            let status = running.wait_at_most(Duration::from_secs(5));
            assert_eq!(status.and_then(|status| status.code()), Some(1), "{context}: the exit status");
        } else {
            ended = Some(!running.is_alive());
            running.kill();
        }
    });
    let wrong = fleet.take_wrong();
    assert!(wrong.is_empty(), "{context}: {wrong:#?}");
    let log = std::fs::read_to_string(data.with_extension("log")).unwrap();
    assert!(!log.contains("panicked"), "{context}: the daemon panicked:\n{log}");
    let says_so = log.contains("a write or sync of the log failed");
    assert!(!injury.ends_log || !hit() || says_so, "{context}: the log says nothing:\n{log}");
    let by_itself = ended == Some(true) && policy == "exit" && says_so;
    assert!(ended != Some(true) || by_itself || injury.how == "signal=KILL", "{context}: it ended:\n{log}");
    if may_have_refused(&log) {
        fleet.expect_refusals();
    }
    let daemon = Daemon::start(&data, &flags);
    fleet.verify(&daemon.address()).unwrap_or_else(|text| panic!("{context}: {text}\n{log}"));
    daemon.kill();
    let check = tskv().arg("check").arg(&data).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success(), "{context}: tskv check: {said}");
    (hit() || ended == Some(true), acks)
}
