//! Makes a run that fails smaller: fewer lives, faults, cores and requests, as long as it still fails.
//!
//! Each part is tried for itself, from the one that saves most; what one part's going makes possible for another is
//! found by going round again. A smaller run is another run: that it fails too is luck that the seed's separate dice
//! make likely, so nothing here relies on it.

use super::{FaultSet, SimulationOptions};
use std::ops::Range;

/// Requests that a run is supposed to draw at most.
const OPS_MAX: u64 = 1 << 16;
/// Times that all parts are tried.
const ROUNDS_MAX: u32 = 3;

/// The smallest run found that `fails`, which is asked about each candidate. `start` must fail; `lives` is how many
/// lives it needs at most. Whoever wants to stop early lets `fails` say no.
#[must_use]
pub fn shrink(
    start: &SimulationOptions,
    lives: u64,
    mut fails: impl FnMut(&SimulationOptions) -> bool,
) -> SimulationOptions {
    let mut best = start.clone();
    for _ in 0..ROUNDS_MAX {
        let before = best.clone();
        fewer_lives(&mut best, lives, &mut fails);
        fewer_faults(&mut best, &mut fails);
        fewer_cores(&mut best, &mut fails);
        fewer_requests(&mut best, &mut fails);
        skip_requests(&mut best, &mut fails);
        if best == before {
            break;
        }
    }
    // Requests that are not drawn need not be left out.
    let end = best.ops_max.unwrap_or(u64::MAX);
    best.skip.retain(|range| range.start < end);
    best.skip.iter_mut().for_each(|range| range.end = range.end.min(end));
    best
}

/// Takes a candidate that fails.
fn take(
    best: &mut SimulationOptions,
    candidate: SimulationOptions,
    fails: &mut impl FnMut(&SimulationOptions) -> bool,
) -> bool {
    let is_better = candidate != *best && fails(&candidate);
    if is_better {
        *best = candidate;
    }
    is_better
}

fn fewer_lives(best: &mut SimulationOptions, lives: u64, fails: &mut impl FnMut(&SimulationOptions) -> bool) {
    let most = best.lives_max.unwrap_or(lives + 1);
    for lives_max in 0..most {
        let candidate = SimulationOptions { lives_max: Some(lives_max), ..best.clone() };
        if take(best, candidate, fails) {
            return;
        }
    }
}

fn fewer_faults(best: &mut SimulationOptions, fails: &mut impl FnMut(&SimulationOptions) -> bool) {
    let none = SimulationOptions { faults: FaultSet::NONE, ..best.clone() };
    if take(best, none, fails) {
        return;
    }
    for kind in best.faults.kinds().collect::<Vec<_>>() {
        let candidate = SimulationOptions { faults: best.faults.without(kind), ..best.clone() };
        take(best, candidate, fails);
    }
}

fn fewer_cores(best: &mut SimulationOptions, fails: &mut impl FnMut(&SimulationOptions) -> bool) {
    for cores in 1..best.cores.unwrap_or(3) {
        let candidate = SimulationOptions { cores: Some(cores), ..best.clone() };
        if take(best, candidate, fails) {
            return;
        }
    }
}

/// Ends the requests as early as possible: doubling, then halving what is left between.
fn fewer_requests(best: &mut SimulationOptions, fails: &mut impl FnMut(&SimulationOptions) -> bool) {
    let most = best.ops_max.unwrap_or(OPS_MAX);
    let mut low = 0;
    let mut high = 1;
    while high < most {
        let candidate = SimulationOptions { ops_max: Some(high), ..best.clone() };
        if take(best, candidate, fails) {
            break;
        }
        low = high;
        high *= 2;
    }
    let mut high = best.ops_max.unwrap_or(low);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        let candidate = SimulationOptions { ops_max: Some(middle), ..best.clone() };
        if take(best, candidate, fails) { high = middle } else { low = middle }
    }
}

/// Leaves out requests: halves, quarters, down to single ones.
fn skip_requests(best: &mut SimulationOptions, fails: &mut impl FnMut(&SimulationOptions) -> bool) {
    let Some(count) = best.ops_max else { return };
    let mut chunk = count.div_ceil(2);
    while chunk > 0 {
        let mut start = 0;
        while start < count {
            let end = count.min(start + chunk);
            if (start..end).any(|number| best.sends(number)) {
                let candidate = SimulationOptions { skip: add(&best.skip, start..end), ..best.clone() };
                take(best, candidate, fails);
            }
            start = end;
        }
        chunk /= 2;
    }
}

/// The ranges with one more, joined where they touch.
fn add(ranges: &[Range<u64>], more: Range<u64>) -> Vec<Range<u64>> {
    let mut all: Vec<_> = ranges.iter().cloned().chain([more]).collect();
    all.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in all {
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::FaultKind;

    #[test]
    fn only_what_a_failure_needs_is_left() {
        // A report of thousands of requests and all faults would explain nothing.
        let needs = |options: &SimulationOptions| {
            options.sends(17)
                && options.sends(23)
                && options.lives_max.is_none_or(|lives| lives >= 1)
                && options.faults.has(FaultKind::Torn)
        };
        let small = shrink(&SimulationOptions::new(5), 4, needs);
        assert_eq!(
            small.to_string(),
            "--seed 5 --cores 1 --faults torn --lives 1 --ops 24 --skip 0..17,18..23"
        );
    }
}
