//! Rates: reached, evenly spaced, and honest where they are not reached.

use crate::bench::{run, undisturbed};
use crate::peer::Peer;
use std::time::Duration;

/// Values without line ends, so that the peer can tell requests apart.
const WRITES: [&str; 8] = ["--workload", "kv", "--protocol", "resp", "--ratio", "1:0", "--values", "int"];

#[test]
fn a_rate_is_reached_and_evenly_spaced() {
    // A limiter that bursts measures queues of its own making, and at another rate than the one reported.
    for (rate, clients) in [(1_000, "4"), (10_000, "8"), (40_000, "16")] {
        undisturbed(|| pace(rate, clients));
    }
}

fn pace(rate: u32, clients: &str) -> Result<(), String> {
    let peer = Peer::start();
    let text = rate.to_string();
    let flags = ["-q", "-d", "2s", "--warmup", "0s", "-R", &text, "-c", clients, "--addr", &peer.address];
    let finished = run(&[&WRITES[..], &flags].concat());
    let arrivals = peer.arrivals();
    let sent = f64::from(2 * rate);
    assert!((arrivals.len() as f64 - sent).abs() <= sent / 100.0, "{rate}/s: {} arrived", arrivals.len());
    let achieved = finished.result.verdict.achieved_rate;
    if (achieved / f64::from(rate) - 1.0).abs() >= 0.01 {
        return Err(format!("{rate}/s: {achieved}/s\n{}", String::from_utf8_lossy(&finished.output.stdout)));
    }
    evenly_spaced(&arrivals, rate)
}

/// Counts the arrivals of each stretch of 20 ms: an even stream has the same number in all of them; a stall of this
/// machine empties one and fills the next, a bursting limiter does it to all.
fn evenly_spaced(arrivals: &[Duration], rate: u32) -> Result<(), String> {
    const STRETCH: Duration = Duration::from_millis(20);
    let start = arrivals[0];
    let mut counts = vec![0_u32; 101];
    for arrival in arrivals {
        let index = (*arrival - start).as_nanos() / STRETCH.as_nanos();
        counts[usize::try_from(index).unwrap().min(100)] += 1;
    }
    let expected = rate / 50;
    let slack = (expected / 5).max(2);
    let even = counts[..100].iter().filter(|count| count.abs_diff(expected) <= slack).count();
    if even < 75 {
        return Err(format!("{rate}/s: only {even} of 100 stretches hold about {expected}: {counts:?}"));
    }
    // At a low rate single gaps can be seen.
    let gaps: Vec<Duration> = arrivals.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let (low, high) = (Duration::from_micros(500), Duration::from_micros(1_500));
    let regular = gaps.iter().filter(|gap| (low..=high).contains(gap)).count();
    if rate <= 1_000 && regular * 10 < gaps.len() * 8 {
        return Err(format!("{regular} of {} gaps are about a millisecond", gaps.len()));
    }
    Ok(())
}

#[test]
fn a_rate_out_of_reach_is_said_so() {
    // "Achieved 50,000/s" without the million asked for is a figure of something else.
    let peer = Peer::start();
    let flags = ["-q", "-d", "1s", "--warmup", "0s", "-R", "5M", "-c", "2", "--addr", &peer.address];
    let finished = run(&[&WRITES[..], &flags].concat());
    let verdict = &finished.result.verdict;
    assert!(verdict.target_not_reached && verdict.achieved_rate < 4e6, "{verdict:?}");
    let printed = String::from_utf8_lossy(&finished.output.stdout).into_owned();
    assert!(printed.contains("target not reached: asked 5000000/s, got "), "{printed}");
    assert!(verdict.generator_limited || verdict.dropped > 0, "somebody was the limit: {verdict:?}");
}

#[test]
fn independent_arrivals_have_the_rate_and_no_regular_gap() {
    // Poisson arrivals that are even would never show a queue.
    undisturbed(|| {
        let peer = Peer::start();
        let flags =
            ["-q", "-d", "3s", "--warmup", "0s", "-R", "500", "--arrival", "poisson", "-c", "4", "--addr"];
        let _ = run(&[&WRITES[..], &flags, &[&peer.address]].concat());
        let arrivals = peer.arrivals();
        let gaps: Vec<f64> = arrivals.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        // 1 - exp(-1/2) of independent gaps are shorter than half the mean; of even ones none.
        let short = gaps.iter().filter(|gap| **gap < mean / 2.0).count() as f64 / gaps.len() as f64;
        if (mean * 500.0 - 1.0).abs() > 0.1 || (short - 0.393).abs() > 0.08 {
            return Err(format!("a mean gap of {mean} s, {short} of them short"));
        }
        Ok(())
    });
}
