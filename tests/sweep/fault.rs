//! Every disk operation of the fixed script fails in every way, once and for good (goal G3).

use crate::run::{every, number_of, thorough};
use tskv::simulator::sweep::{FaultPoint, FaultRun, fault_at, fault_points};

/// Failures between two that are tried when not all are.
const SAMPLE: usize = 97;

#[test]
fn no_failed_operation_costs_acknowledged_writes_or_answers() {
    // An error is swallowed, taken for success, tried again where that lies, or never gets better.
    sweep(1, 1);
}

#[test]
fn no_failed_operation_of_two_cores_costs_acknowledged_writes_or_answers() {
    // As above, with one log that fails and one that does not.
    sweep(2, 4);
}

/// Tries one in `stride` of the failures of a node when it is thorough, else a sample of them.
fn sweep(cores: usize, stride: usize) {
    let points: Vec<(usize, FaultPoint)> = fault_points(cores).unwrap().into_iter().enumerate().collect();
    if let Ok(text) = std::env::var("TSKV_SWEEP_FAULT") {
        let (of, nth) = text.split_once('/').unwrap();
        if of == cores.to_string() {
            let (_, point) = points[nth.parse::<usize>().unwrap()];
            println!("{point}: {:?}", fault_at(&point).unwrap());
        }
        return;
    }
    let stride = if thorough() {
        number_of("TSKV_SWEEP_STRIDE").map_or(stride, |n| usize::try_from(n).unwrap())
    } else {
        SAMPLE
    };
    let cases: Vec<(usize, FaultPoint)> = points.iter().copied().step_by(stride).collect();
    let run = |(_, point): &(usize, FaultPoint)| fault_at(point).map_err(|why| format!("{point}: {why}"));
    let replay = |(nth, _): &(usize, FaultPoint)| {
        format!("TSKV_SWEEP_FAULT={cores}/{nth} cargo test --test sweep no_failed -- --nocapture")
    };
    let outcome = every(&cases, None, run, replay);
    let count = |what: fn(&FaultRun) -> bool| outcome.results.iter().filter(|run| what(run)).count();
    let total = |what: fn(&FaultRun) -> u64| outcome.results.iter().map(what).sum::<u64>();
    let (healed, ended, poisoned) =
        (count(|run| run.healed), count(|run| run.ended), count(|run| run.poisoned));
    println!(
        "fault sweep, {cores} cores: {} failures of {} operations tried, {healed} healed without a restart, {ended} ended the process, \
         {poisoned} made it read-only, {} kept it from opening; {} requests were told of a full disk, {} of other errors; \
         in {:.0} s",
        cases.len(),
        points.len(),
        count(|run| run.not_opened),
        total(|run| run.no_space),
        total(|run| run.failed),
        outcome.seconds
    );
    assert_eq!(count(|run| run.struck), cases.len(), "some failures never struck");
    assert!(healed > 0 && total(|run| run.failed) > 0);
    // One in four on two cores need not meet each.
    if thorough() && cores == 1 {
        assert!(ended > 0 && poisoned > 0 && total(|run| run.no_space) > 0);
    }
}
