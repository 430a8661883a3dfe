//! Coordinated omission: a server that stalls must cost every request that was due meanwhile.

use crate::bench::{finish, start, undisturbed};
use crate::support::Daemon;
use std::process::Command;
use std::time::{Duration, Instant};

const RATE: f64 = 250.0;
/// The daemon stands still for this long,
const PAUSE: Duration = Duration::from_millis(1_000);
/// this often,
const PERIOD: Duration = Duration::from_millis(3_000);
/// this many times.
const PAUSES: u32 = 3;

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

/// Stops the daemon for a while, then lets it run for the rest of the period; how long it stood still.
fn pause(pid: u32) -> Duration {
    let signal = |name: &str| {
        assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
    };
    let begin = Instant::now();
    signal("STOP");
    let stopped = Instant::now();
    std::thread::sleep(PAUSE);
    signal("CONT");
    let stood_still = stopped.elapsed();
    std::thread::sleep((PERIOD - PAUSE).saturating_sub(begin.elapsed() - stood_still));
    stood_still
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
