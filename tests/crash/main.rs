//! `kill -9` of the real daemon under load, judged from outside.
//!
//! A test is one store. Each loop starts the daemon on it with the other backend, another number of cores and other
//! limits, loads it over many connections, kills it at a random moment, now and then kills the recovery too, and compares what the next start
//! shows with what the clients noted. `TSKV_CRASH_LOOPS` is how many loops each store gets, `TSKV_CRASH_SECONDS` bounds
//! the time of each test; `TSKV_CRASH_SEED` replays one. What was reached is printed.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic like the test itself")]
#![expect(clippy::cast_possible_truncation, reason = "small counts")]
#![expect(clippy::disallowed_methods, reason = "real threads and real time: the daemon is a real process")]

mod model;
mod scenarios;
#[path = "../support/mod.rs"]
mod support;
mod writer;

use model::{Change, State};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};
use support::{Daemon, Reply, Resp, Rng, tskv};
use tskv::client::{Client, ClientOptions};
use tskv::model::{KeyRange, OwnedValue, ScanRequest, Slot};
use writer::{Load, Native, NativeWriter, RespWriter, Stop};

/// Writers of each kind.
const WRITERS: usize = 4;

/// Loops of one store by default, and the time they may take.
const LOOPS: u64 = 100;
const SECONDS: u64 = 60;

#[test]
fn acknowledged_writes_survive_kill_9_with_sync_always() {
    // An acknowledged write that is gone after a crash breaks the first promise.
    run("io_uring", "always", 100);
}

#[test]
fn acknowledged_writes_survive_kill_9_with_sync_always_the_other_way_round() {
    // What lies on disk must not depend on the backend: here epoll makes the store, and each recovers from the other.
    run("epoll", "always", 100);
}

#[test]
fn acknowledged_writes_survive_kill_9_with_a_sync_interval() {
    // The kernel keeps what was written: only a power cut may lose it.
    run("io_uring", "interval=10ms", 30);
    run("epoll", "interval=10ms", 30);
}

#[test]
fn acknowledged_writes_survive_kill_9_without_sync() {
    // As above: an acknowledgement means that the write has completed.
    run("io_uring", "none", 30);
    run("epoll", "none", 30);
}

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// All clients of one store.
struct Fleet {
    resp: Vec<Mutex<RespWriter>>,
    native: Vec<Mutex<NativeWriter>>,
    /// Held for reading by whoever has requests under way, for writing by FLUSHALL.
    traffic: RwLock<()>,
    stop: AtomicBool,
    wrong: Mutex<Vec<String>>,
}

/// The backend of a loop: that of the loop before has just been killed, and this one recovers from it.
fn backend_of(first: &str, round: u64) -> &'static str {
    let is_first = round.is_multiple_of(2);
    if (first == "io_uring") == is_first { "io_uring" } else { "epoll" }
}

fn run(first: &str, sync: &str, loops: u64) {
    let seed = number_from("TSKV_CRASH_SEED", 1 + u64::from(std::process::id()));
    let loops = number_from("TSKV_CRASH_LOOPS", loops.min(LOOPS));
    let until = Instant::now() + Duration::from_secs(number_from("TSKV_CRASH_SECONDS", SECONDS));
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("store");
    let mut rng = Rng(seed);
    let fleet = Fleet {
        resp: (0..WRITERS).map(|writer| Mutex::new(RespWriter::new(writer, rng.next()))).collect(),
        native: (0..WRITERS).map(|writer| Mutex::new(NativeWriter::new(writer, rng.next()))).collect(),
        traffic: RwLock::new(()),
        stop: AtomicBool::new(false),
        wrong: Mutex::new(Vec::new()),
    };
    let replay = format!("TSKV_CRASH_SEED={seed} cargo test --test crash; {first} first, sync {sync}");
    let (mut done, mut acks) = (0, 0);
    while done < loops && Instant::now() < until {
        let flags = flags(&mut rng, backend_of(first, done), sync, done);
        let daemon = start(&data, &flags, &mut rng);
        let verdict = verify(&fleet, &daemon.address());
        let daemon = keep_if_wrong(verdict, daemon, &data, &format!("{replay}, loop {done}, {flags:?}"));
        let cores = &flags[5];
        acks += load(&fleet, daemon, &mut rng, cores == "1");
        let wrong = std::mem::take(&mut *fleet.wrong.lock().unwrap());
        assert!(wrong.is_empty(), "{replay}, loop {done}, {flags:?}: {wrong:#?}");
        done += 1;
    }
    let flags = flags(&mut rng, backend_of(first, done), sync, done.max(1));
    let daemon = Daemon::start(&data, &flags);
    let verdict = verify(&fleet, &daemon.address());
    let daemon = keep_if_wrong(verdict, daemon, &data, &format!("{replay}, at the end, {flags:?}"));
    let log = daemon.log();
    assert!(!log.contains("panicked"), "{replay}: the daemon panicked:\n{log}");
    daemon.kill();
    let check = tskv().arg("check").arg(&data).output().unwrap();
    let said = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success(), "{replay}: tskv check: {said}{}", String::from_utf8_lossy(&check.stdout));
    println!(
        "kill -9, {first} first and then in turns, sync {sync}: {done} of {loops} loops, {acks} acknowledged requests, 0 lost"
    );
}

/// Flags of one start; the core count stands at index 5.
fn flags(rng: &mut Rng, backend: &str, sync: &str, round: u64) -> Vec<String> {
    let cores = 1 + rng.below(4);
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

/// Loads the daemon until it is killed; how many requests were acknowledged.
fn load(fleet: &Fleet, daemon: Daemon, rng: &mut Rng, one_core: bool) -> u64 {
    let address = &daemon.address();
    let life = Duration::from_millis(20 + rng.below(180));
    let fat = rng.one_in(2);
    let load = Load {
        pipeline: 1 + rng.index(32),
        text_bytes: if fat { 8192 } else { 40 },
        batch: if fat { 60 } else { 8 },
    };
    let flush_after = rng.one_in(6).then(|| Duration::from_millis(rng.below(100)));
    fleet.stop.store(false, Ordering::Relaxed);
    for writer in &fleet.native {
        writer.lock().unwrap().ledger.ordered = one_core;
    }
    let judge = |stop: Stop| {
        if let Stop::Wrong(text) = stop {
            fleet.wrong.lock().unwrap().push(text);
        }
    };
    let goes_on = || !fleet.stop.load(Ordering::Relaxed);
    thread::scope(|scope| {
        for writer in &fleet.resp {
            scope.spawn(move || {
                let Ok(mut client) = Resp::connect(address) else { return };
                while goes_on() {
                    let _traffic = fleet.traffic.read().unwrap();
                    if let Err(stop) = writer.lock().unwrap().pipeline(&mut client, load) {
                        return judge(stop);
                    }
                }
            });
        }
        for writer in &fleet.native {
            scope.spawn(move || {
                let Ok(mut client) = Native::connect(address) else { return };
                while goes_on() {
                    let _traffic = fleet.traffic.read().unwrap();
                    if let Err(stop) = writer.lock().unwrap().pipeline(&mut client, load) {
                        return judge(stop);
                    }
                }
            });
        }
        if let Some(after) = flush_after {
            scope.spawn(move || {
                thread::sleep(after);
                flush_all(fleet, address);
            });
        }
        thread::sleep(life);
        daemon.kill();
        fleet.stop.store(true, Ordering::Relaxed);
    });
    let resp = fleet.resp.iter().map(|writer| writer.lock().unwrap().ledger.acks() as u64);
    let native = fleet.native.iter().map(|writer| writer.lock().unwrap().ledger.acks() as u64);
    resp.chain(native).sum()
}

/// FLUSHALL while nobody else has anything under way.
fn flush_all(fleet: &Fleet, address: &str) {
    let Ok(mut client) = Resp::connect(address) else { return };
    let _traffic = fleet.traffic.write().unwrap();
    let mut resp: Vec<_> = fleet.resp.iter().map(|writer| writer.lock().unwrap()).collect();
    let mut native: Vec<_> = fleet.native.iter().map(|writer| writer.lock().unwrap()).collect();
    let resp_ledgers = resp.iter_mut().map(|writer| &mut writer.ledger);
    let ledgers: Vec<_> = resp_ledgers.chain(native.iter_mut().map(|writer| &mut writer.ledger)).collect();
    let changes = |keys: usize| (0..keys).map(|key| (key, Change::Delete)).collect();
    let mut requests = Vec::new();
    for ledger in ledgers {
        let (request, _) = ledger.send(changes(ledger.keys.len()));
        requests.push((ledger, request));
    }
    if client.call(&[b"FLUSHALL"]).is_ok_and(|reply| reply == Reply::ok()) {
        requests.into_iter().for_each(|(ledger, request)| ledger.acknowledge(request));
    }
}

/// Compares what the daemon shows with what its clients noted.
fn verify(fleet: &Fleet, address: &str) -> Result<(), String> {
    let mut live = 0;
    let mut resp = Resp::connect(address).map_err(|error| error.to_string())?;
    for writer in &fleet.resp {
        let mut writer = writer.lock().unwrap();
        let states = writer.recovered(&mut resp)?;
        live += states.iter().filter(|state| **state != State::Absent).count();
        writer.ledger.settle(&states)?;
    }
    let mut client =
        Client::connect(address, &ClientOptions::default()).map_err(|error| error.to_string())?;
    for writer in &fleet.native {
        let mut writer = writer.lock().unwrap();
        let found = scanned(&mut client, KeyRange::prefix(&writer.prefix), false)?;
        live += found.len();
        let states = writer.ledger.keys.iter().map(|key| found.get(key).cloned().unwrap_or_default());
        let states: Vec<_> = states.collect();
        if let Some(key) = found.keys().find(|key| !writer.ledger.keys.contains(key)) {
            return Err(format!("a key that nobody wrote: {}", key.escape_ascii()));
        }
        if found != scanned(&mut client, KeyRange::prefix(&writer.prefix), true)? {
            return Err("a reverse scan differs from the forward one".to_owned());
        }
        writer.ledger.settle(&states)?;
    }
    let size = resp.ask("DBSIZE");
    if size != Reply::Integer(live as i64) {
        return Err(format!("DBSIZE says {size:?}, {live} keys were read"));
    }
    Ok(())
}

/// The samples of a range of series, by a native scan.
fn scanned(client: &mut Client, keys: KeyRange, reverse: bool) -> Result<BTreeMap<Vec<u8>, State>, String> {
    let request =
        ScanRequest { keys, from: i64::MIN, to: i64::MAX, all_slots: false, reverse, limit: u64::MAX };
    let scan = client.scan(request).map_err(|error| error.to_string())?;
    let mut found: BTreeMap<Vec<u8>, State> = BTreeMap::new();
    let mut last: Option<(Vec<u8>, i64)> = None;
    let mut wrong = None;
    let visit = |(series, slot, value): tskv::protocol::binary::ScanEntry<'_>| {
        let (Slot::Time(time), OwnedValue::F64(value)) = (slot, value.into_owned()) else {
            return wrong = Some("a scan shows what is no f64 sample".to_owned());
        };
        let at = (series.to_vec(), time);
        if last.as_ref().is_some_and(|last| if reverse { *last <= at } else { *last >= at }) {
            wrong = Some(format!("a scan is out of order at {} {time}", at.0.escape_ascii()));
        }
        let state = found.entry(at.0.clone()).or_default();
        state.apply(&Change::Put(vec![(time, value)]));
        last = Some(at);
    };
    scan.for_each(visit).map_err(|error| error.to_string())?;
    wrong.map_or(Ok(found), Err)
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
