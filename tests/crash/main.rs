//! `kill -9` of the real daemon under load, judged from outside.
//!
//! A test is one store. Each loop starts the daemon on it with the other backend, another number of cores and other
//! limits, loads it over many connections, kills it at a random moment, now and then kills the recovery too, and compares what the next start
//! shows with what the clients noted. `TSKV_CRASH_LOOPS` is how many loops each store gets, `TSKV_CRASH_SECONDS` bounds
//! the time of each test; `TSKV_CRASH_SEED` replays one. What was reached is printed.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic like the test itself")]
#![expect(clippy::cast_possible_truncation, reason = "small counts")]
#![expect(clippy::disallowed_methods, reason = "real threads and real time: the daemon is a real process")]

mod calls;
mod scenarios;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use support::fleet::{Fleet, Round};
use support::{Daemon, Rng, number_from, tskv};

/// Loops of one store by default, and the time they may take.
const LOOPS: u64 = 100;
const SECONDS: u64 = 60;

#[test]
fn acknowledged_writes_survive_kill_9_with_sync_always() {
    // An acknowledged write that is gone after a crash breaks the first promise.
    run("io_uring", "always", 100, false);
}

#[test]
fn acknowledged_writes_survive_kill_9_with_sync_always_the_other_way_round() {
    // What lies on disk must not depend on the backend: here epoll makes the store, and each recovers from the other.
    run("epoll", "always", 100, false);
}

#[test]
fn acknowledged_writes_survive_kill_9_with_a_sync_interval() {
    // The kernel keeps what was written: only a power cut may lose it.
    run("io_uring", "interval=10ms", 30, false);
    run("epoll", "interval=10ms", 30, false);
}

#[test]
fn acknowledged_writes_survive_kill_9_without_sync() {
    // As above: an acknowledgement means that the write has completed.
    run("io_uring", "none", 30, false);
    run("epoll", "none", 30, false);
}

#[test]
fn acknowledged_writes_survive_kill_9_in_the_middle_of_moves() {
    // Keys change hands between shards all the time: what a crash finds half-way must be one or the other. Nor may a
    // client notice a move: before the kill every reply is what the model says.
    run("io_uring", "always", 20, true);
    run("epoll", "interval=10ms", 20, true);
}

/// The backend of a loop: that of the loop before has just been killed, and this one recovers from it.
fn backend_of(first: &str, round: u64) -> &'static str {
    let is_first = round.is_multiple_of(2);
    if (first == "io_uring") == is_first { "io_uring" } else { "epoll" }
}

fn run(first: &str, sync: &str, loops: u64, moves: bool) {
    let seed = number_from("TSKV_CRASH_SEED", 1 + u64::from(std::process::id()));
    let loops = number_from("TSKV_CRASH_LOOPS", loops.min(LOOPS));
    let until = Instant::now() + Duration::from_secs(number_from("TSKV_CRASH_SECONDS", SECONDS));
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("store");
    let mut rng = Rng(seed);
    let fleet = Fleet::new(&mut rng);
    let replay = format!("TSKV_CRASH_SEED={seed} cargo test --test crash; {first} first, sync {sync}");
    let (mut done, mut acks) = (0, 0);
    let mut kills = [0, 0];
    while done < loops && Instant::now() < until {
        let cores = if moves { 2 + rng.below(3) } else { 1 + rng.below(4) };
        let flags = flags(&mut rng, backend_of(first, done), sync, done, cores);
        fleet.move_boundaries(if moves { cores } else { 0 });
        let daemon = start(&data, &flags, &mut rng);
        let verdict = fleet.verify(&daemon.address());
        let daemon = keep_if_wrong(verdict, daemon, &data, &format!("{replay}, loop {done}, {flags:?}"));
        let (address, one_core) = (daemon.address(), flags[5] == "1");
        let life = Duration::from_millis(20 + rng.below(180));
        let round = Round { life, one_core, deletes: true };
        acks += fleet.load(&address, round, &mut rng, || daemon.kill());
        let wrong = fleet.take_wrong();
        assert!(wrong.is_empty(), "{replay}, loop {done}, {flags:?}: {wrong:#?}");
        kills[usize::from(backend_of(first, done) == "epoll")] += 1;
        done += 1;
    }
    let cores = 1 + rng.below(4);
    let flags = flags(&mut rng, backend_of(first, done), sync, done.max(1), cores);
    let daemon = Daemon::start(&data, &flags);
    let verdict = fleet.verify(&daemon.address());
    let daemon = keep_if_wrong(verdict, daemon, &data, &format!("{replay}, at the end, {flags:?}"));
    assert!(!moves || fleet.moved() > done, "{replay}: only {} boundaries moved", fleet.moved());
    let log = daemon.log();
    assert!(!log.contains("panicked"), "{replay}: the daemon panicked:\n{log}");
    daemon.kill();
    let check = tskv().arg("check").arg(&data).output().unwrap();
    let said = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success(), "{replay}: tskv check: {said}{}", String::from_utf8_lossy(&check.stdout));
    println!(
        "kill -9, {first} first and then in turns, sync {sync}: {done} of {loops} loops ({} io_uring, {} epoll), {acks} \
         acknowledged requests, 0 lost; {} boundaries moved",
        kills[0],
        kills[1],
        fleet.moved()
    );
}

/// Flags of one start; the core count stands at index 5.
fn flags(rng: &mut Rng, backend: &str, sync: &str, round: u64, cores: u64) -> Vec<String> {
    let mut flags: Vec<String> = ["--backend", backend, "--sync", sync, "--cores"].map(str::to_owned).into();
    flags.push(cores.to_string());
    if rng.one_in(2) {
        // Rotation, flush and compaction happen while the kill comes.
        let small = ["--memtable-bytes", "1MiB", "--wal-segment-bytes", "1MiB", "--max-value-bytes", "64KiB"];
        flags.extend(small.map(str::to_owned));
    }
    if rng.one_in(3) {
        flags.extend(["--cache-bytes", "0"].map(str::to_owned));
    }
    if round == 0 && cores > 1 {
        // An empty store has no keys to compute boundaries from.
        let points: Vec<_> = (1..cores).map(|point| ["n1:h", "r0:k", "r2:h"][point as usize - 1]).collect();
        flags.extend(["--split-at".to_owned(), points.join(",")]);
    }
    flags
}

/// Starts the daemon, sometimes after having killed it while it started.
fn start(data: &Path, flags: &[String], rng: &mut Rng) -> Daemon {
    while rng.one_in(4) {
        let daemon = Daemon::launch(data, flags);
        thread::sleep(Duration::from_micros(rng.below(120_000)));
        daemon.kill();
    }
    Daemon::start(data, flags)
}

/// Passes the daemon on if all is well; else keeps the store for a look and fails.
fn keep_if_wrong(verdict: Result<(), String>, daemon: Daemon, data: &Path, context: &str) -> Daemon {
    let Err(text) = verdict else { return daemon };
    let log = daemon.log();
    daemon.kill();
    let kept = std::env::temp_dir().join(format!("tskv-crash-{}", std::process::id()));
    let _ = std::process::Command::new("cp").arg("-r").arg(data).arg(&kept).status();
    let tail: Vec<_> = log.lines().rev().take(20).collect();
    panic!("{context}\n{text}\nthe store is kept in {}; the log, last line first: {tail:#?}", kept.display());
}
