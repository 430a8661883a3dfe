//! Every disk operation of the fixed script fails in every way, once and for good (goal G3).

use crate::run::{every, number_of, thorough};
use tskv::simulator::sweep::{FaultPoint, FaultRun, fault_at, fault_points};

/// Failures between two that are tried when not all are.
const SAMPLE: usize = 97;

#[test]
fn no_failed_operation_costs_acknowledged_writes_or_answers() {
    // An error is swallowed, taken for success, tried again where that lies, or never gets better.
    let points: Vec<(usize, FaultPoint)> = fault_points().unwrap().into_iter().enumerate().collect();
    if let Some(nth) = number_of("TSKV_SWEEP_FAULT") {
        let (_, point) = points[usize::try_from(nth).unwrap()];
        println!("{point}: {:?}", fault_at(&point).unwrap());
        return;
    }
    let stride = if thorough() { 1 } else { SAMPLE };
    let cases: Vec<(usize, FaultPoint)> = points.iter().copied().step_by(stride).collect();
    let run = |(_, point): &(usize, FaultPoint)| fault_at(point).map_err(|why| format!("{point}: {why}"));
    let replay = |(nth, _): &(usize, FaultPoint)| {
        format!("TSKV_SWEEP_FAULT={nth} cargo test --test sweep no_failed -- --nocapture")
    };
    let outcome = every(&cases, None, run, replay);
    let count = |what: fn(&FaultRun) -> bool| outcome.results.iter().filter(|run| what(run)).count();
    let total = |what: fn(&FaultRun) -> u64| outcome.results.iter().map(what).sum::<u64>();
    let (healed, ended, poisoned) =
        (count(|run| run.healed), count(|run| run.ended), count(|run| run.poisoned));
    println!(
        "fault sweep: {} failures of {} operations tried, {healed} healed without a restart, {ended} ended the process, \
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
    if thorough() {
        assert!(ended > 0 && poisoned > 0 && total(|run| run.no_space) > 0);
    }
}
