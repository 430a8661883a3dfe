//! Coordinated omission: a server that stalls must cost every request that was due meanwhile.

use crate::bench::{finish, start, undisturbed};
use crate::peer::{Peer, WRITES};
use crate::support::Daemon;
use std::process::Command;
use std::time::{Duration, Instant};

const RATE: f64 = 250.0;
/// The daemon stands still for this long,
const PAUSE: Duration = Duration::from_millis(1_000);
/// this often,
const PERIOD: Duration = Duration::from_millis(10_000);
/// this many times.
const PAUSES: u32 = 2;

#[test]
fn a_stall_is_counted_for_each_request_that_was_due() {
    // The p99 of a store that freezes every few seconds would look like that of one that never does.
    undisturbed(measure);
}

fn measure() -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&directory.path().join("store"), &["--sync", "none"]);
    let json = directory.path().join("result.json");
    let (address, duration) = (daemon.address(), format!("{}ms", (PERIOD * PAUSES).as_millis()));
    // Four requests in flight: those that wait for a place are the ones that a service time knows nothing of.
    let flags =
        ["-q", "--workload", "kv", "--ratio", "1:0", "-c", "4", "-P", "1", "-R", "250", "--warmup", "0s"];
    let child = start(&[&flags[..], &["-d", &duration, "--addr", &address]].concat(), &json);
    // The generator connects first.
    std::thread::sleep(Duration::from_millis(1_000));
    let pauses: Vec<Duration> = (0..PAUSES).map(|_| pause(daemon.pid())).collect();
    let finished = finish(child, &json);
    let op = &finished.result.ops["write"];
    let printed = String::from_utf8_lossy(&finished.output.stdout).into_owned();
    let asked = RATE * (PERIOD * PAUSES).as_secs_f64();
    assert!((op.count as f64 - asked).abs() < 2.0, "{} of {asked} requests were sent\n{printed}", op.count);
    let stalled = RATE * pauses.iter().sum::<Duration>().as_secs_f64();
    let dropped = finished.result.verdict.dropped as f64;
    assert!(dropped > stalled / 2.0, "{dropped} of {stalled} were due while nothing answered\n{printed}");

    let expected_us = response_us(&pauses, asked, 0.99);
    let reported_us = op.response_us.unwrap().p99.unwrap();
    let service = op.service_us;
    if (reported_us / expected_us - 1.0).abs() > 0.05 {
        return Err(format!("{reported_us} us, not {expected_us} us\n{printed}"));
    }
    if service.p99.unwrap() > expected_us / 2.0 {
        return Err(format!("the uncorrected p99 shows the stall: {service:?}\n{printed}"));
    }
    assert!(
        service.max.unwrap() > 0.9 * PAUSE.as_micros() as f64,
        "the stall was not seen at all: {service:?}"
    );
    Ok(())
}

/// Stops a process for a while, then waits for the rest of the period; how long it stood still.
fn pause(pid: u32) -> Duration {
    let begin = Instant::now();
    let stood_still = stand_still(pid);
    std::thread::sleep((PERIOD - PAUSE).saturating_sub(begin.elapsed() - stood_still));
    stood_still
}

fn stand_still(pid: u32) -> Duration {
    let signal = |name: &str| {
        assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
    };
    signal("STOP");
    let stopped = Instant::now();
    std::thread::sleep(PAUSE);
    signal("CONT");
    stopped.elapsed()
}

/// The latency that `quantile` of `count` requests do not exceed, when each waits for the end of the pause in which it
/// was due, and nothing else takes time.
fn response_us(pauses: &[Duration], count: f64, quantile: f64) -> f64 {
    let mut waits: Vec<f64> = Vec::new();
    for pause in pauses {
        let mut left = pause.as_secs_f64();
        while left > 0.0 {
            waits.push(left * 1e6);
            left -= 1.0 / RATE;
        }
    }
    waits.sort_by(|a, b| b.total_cmp(a));
    let beyond = count * (1.0 - quantile);
    let index = (0..waits.len()).find(|index| *index as f64 >= beyond).unwrap();
    waits[index]
}

#[test]
fn a_generator_that_stood_still_says_so() {
    // Its own pauses would be reported as the server's.
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("result.json");
    let peer = Peer::start();
    let flags = ["-q", "-c", "4", "-R", "250", "-d", "4s", "--warmup", "0s", "--addr", &peer.address];
    let child = start(&[&WRITES[..], &flags].concat(), &json);
    std::thread::sleep(Duration::from_millis(1_000));
    let _ = stand_still(child.id());
    let finished = finish(child, &json);
    let verdict = &finished.result.verdict;
    assert!(verdict.generator_limited, "{verdict:?}");
    assert!(verdict.max_generator_lag_ms.unwrap() > 900.0, "{verdict:?}");
    assert!(verdict.notes.iter().any(|note| note.contains("the generator itself was late")), "{verdict:?}");
}
