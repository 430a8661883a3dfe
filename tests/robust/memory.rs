//! Memory that the kernel limits: within the configured budget the daemon never meets the limit, and when the kernel
//! kills it all the same, nothing acknowledged is lost.

use crate::support::{Daemon, Reply, Resp, Rng, put_command};
use crate::{ControlGroup, MIB, Writer, flags, load_time, my_turn, skipped};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Two cores, each with five memtables at most and a cache; the budget of requests; what every daemon takes.
const BUDGET: u64 = 2 * (5 * 4 + 8) * MIB + 32 * MIB + 48 * MIB;
const SMALL: &str = "--cores 2 --memtable-bytes 4MiB --cache-bytes 8MiB --max-query-memory 32MiB \
                     --wal-segment-bytes 8MiB --max-value-bytes 64KiB --split-at m --sync none";

#[test]
fn the_configured_budget_holds_under_full_load() {
    // A daemon that outgrows its budget takes the machine with it, or is killed in the middle of the day.
    let _turn = my_turn();
    let Some(group) = ControlGroup::new("memory", "budget") else {
        return skipped("cgroup_memory", "no version 1 memory controller that we may use");
    };
    group.write("memory.limit_in_bytes", &(BUDGET + BUDGET / 4).to_string()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::launch_as(group.serve(), &dir.path().join("store"), &flags(SMALL)).serving();
    let (stop, requests, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let address = daemon.address();
    let mut highest = 0;
    thread::scope(|scope| {
        for number in 0..16 {
            let (address, stop, requests, refused) = (&address, &stop, &requests, &refused);
            scope.spawn(move || {
                let done = greedy_client(address, number, stop);
                requests.fetch_add(done.0, Ordering::Relaxed);
                refused.fetch_add(done.1, Ordering::Relaxed);
            });
        }
        let until = Instant::now() + load_time(10);
        while Instant::now() < until && daemon.is_alive() {
            highest = highest.max(daemon.resident_bytes());
            thread::sleep(Duration::from_millis(100));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(daemon.is_alive(), "killed; {}\n{}", group.read("memory.oom_control"), daemon.log());
    let killed = group
        .read("memory.oom_control")
        .lines()
        .any(|line| line.starts_with("oom_kill ") && line != "oom_kill 0");
    assert!(!killed, "{}", group.read("memory.oom_control"));
    assert!(highest < BUDGET, "{highest} bytes were resident, the budget is {BUDGET}");
    let (requests, refused) = (requests.into_inner(), refused.into_inner());
    assert!(requests > 2000, "{requests} requests are no load");
    println!(
        "memory: {} of {} MiB at most, {requests} requests, {refused} refused",
        highest / MIB,
        BUDGET / MIB
    );
    let mut client = Resp::connect(&address).unwrap();
    assert_eq!(client.ask("SET after load"), Reply::ok());
    daemon.terminate();
}

/// Large values, pipelines, reads and scans until the end; answers, and how many of them were errors.
fn greedy_client(address: &str, number: u64, stop: &AtomicBool) -> (u64, u64) {
    let mut rng = Rng(number);
    let (mut done, mut refused) = (0, 0);
    let mut client = Resp::connect(address).unwrap();
    let value = vec![b'v'; 48 << 10];
    while !stop.load(Ordering::Relaxed) {
        let mut pipeline = Vec::new();
        let count = 1 + rng.below(16);
        for _ in 0..count {
            let key = format!("{}{}", ['a', 'n', 'z'][rng.index(3)], rng.below(2000));
            let size = 1 + rng.index(value.len());
            match rng.below(8) {
                0..5 => put_command(&mut pipeline, &[b"SET", key.as_bytes(), &value[..size]]),
                5 => {
                    let (series, time) = (format!("t{number}"), rng.below(1 << 40).to_string());
                    put_command(
                        &mut pipeline,
                        &[b"TS.ADD", series.as_bytes(), time.as_bytes(), b"1.5", b"ON_DUPLICATE", b"LAST"],
                    );
                }
                6 => put_command(
                    &mut pipeline,
                    &[b"TS.RANGE", format!("t{number}").as_bytes(), b"-", b"+", b"COUNT", b"1000"],
                ),
                _ => put_command(&mut pipeline, &[b"GET", key.as_bytes()]),
            }
        }
        if client.send(&pipeline).is_err() {
            break;
        }
        for _ in 0..count {
            let Ok(reply) = client.reply() else { return (done, refused) };
            done += 1;
            refused += u64::from(!reply.error().is_empty());
        }
    }
    (done, refused)
}

#[test]
fn a_daemon_that_the_kernel_kills_for_memory_loses_nothing_acknowledged() {
    // The kernel kills without warning, in the middle of anything.
    let _turn = my_turn();
    let Some(group) = ControlGroup::new("memory", "kill") else {
        return skipped("cgroup_memory", "no version 1 memory controller that we may use");
    };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("store");
    let mut daemon =
        Daemon::launch_as(group.serve(), &data, &flags("--cores 2 --split-at writer:4")).serving();
    let limit = daemon.resident_bytes() + 12 * MIB;
    group.write("memory.limit_in_bytes", &limit.to_string()).unwrap();
    let address = daemon.address();
    let stop = AtomicBool::new(false);
    let mut writers: Vec<_> = (0..8).map(Writer::new).collect();
    let killed = thread::scope(|scope| {
        for writer in &mut writers {
            scope.spawn(|| writer.run(&address, &stop));
        }
        let ballast = scope.spawn(|| fill_memory(&address));
        let until = Instant::now() + Duration::from_secs(30);
        while daemon.is_alive() && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        let killed = !daemon.is_alive();
        if !killed {
            daemon.kill_now();
        }
        ballast.join().unwrap();
        killed
    });
    assert!(killed, "the limit of {limit} bytes was never met: nothing was tested");
    drop(daemon);
    let daemon = Daemon::start(&data, &flags("--cores 2"));
    let mut client = Resp::connect(&daemon.address()).unwrap();
    writers.iter().for_each(|writer| writer.verify(&mut client));
    let total: i64 = writers.iter().map(|writer| writer.acknowledged).sum();
    assert!(total > 0, "nothing was acknowledged before the kill");
    println!("memory: killed at {} MiB, {total} acknowledged samples, 0 lost", limit / MIB);
    daemon.terminate();
}

/// Large values until the daemon is gone: they go into memtables of 48 MiB.
fn fill_memory(address: &str) {
    let Ok(mut client) = Resp::connect(address) else { return };
    let value = vec![b'v'; 64 << 10];
    for number in 0..8192u64 {
        let key = format!("{}{number}", ['a', 'z'][usize::from(number % 2 == 0)]);
        if client.call(&[b"SET", key.as_bytes(), &value]).is_err() {
            return;
        }
    }
}
