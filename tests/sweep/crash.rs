//! The power goes at every disk operation of the fixed script (goal G2).

use crate::run::{every, thorough};
use tskv::simulator::sweep::{CrashRun, crash_at};

/// What a crash leaves is drawn this often at each place.
const VARIANTS: u64 = 4;
/// Places between two that are tried when not all are.
const SAMPLE: u64 = 41;

fn sweep(cores: usize) {
    if let Ok(text) = std::env::var("TSKV_SWEEP_CRASH") {
        let numbers: Vec<u64> = text.split('/').map(|part| part.parse().unwrap()).collect();
        if numbers[0] == cores as u64 {
            println!("{:?}", crash_at(cores, Some(numbers[1]), numbers[2]).unwrap());
        }
        return;
    }
    let operations = crash_at(cores, None, 0).unwrap().operations;
    let stride = if thorough() { 1 } else { SAMPLE };
    let places = (0..=operations).step_by(usize::try_from(stride).unwrap());
    let cases: Vec<(u64, u64)> =
        places.flat_map(|place| (0..VARIANTS).map(move |variant| (place, variant))).collect();
    let replay = |(place, variant): &(u64, u64)| {
        format!("TSKV_SWEEP_CRASH={cores}/{place}/{variant} cargo test --test sweep crash -- --nocapture")
    };
    let outcome = every(&cases, None, |(place, variant)| crash_at(cores, Some(*place), *variant), replay);
    let count = |what: fn(&CrashRun) -> bool| outcome.results.iter().filter(|run| what(run)).count();
    let (cut, again) = (count(|run| run.cut), count(|run| run.cut_again));
    let judged: u64 = outcome.results.iter().map(|run| run.judged).sum();
    println!(
        "crash sweep, {cores} cores: {} crashes at {} of {operations} disk operations, {again} cut again during recovery, \
         {judged} recoveries judged, in {:.0} s",
        cases.len(),
        cases.len() as u64 / VARIANTS,
        outcome.seconds
    );
    // The last place is behind the script's end.
    assert_eq!(cut as u64, (cases.len() as u64) - VARIANTS * u64::from(operations.is_multiple_of(stride)));
    assert!(again > 0 && outcome.results.iter().any(|run| run.replayed > 0));
    assert!(operations > 300, "the script is too short to mean anything: {operations} operations");
}

#[test]
fn a_crash_at_any_operation_of_one_core_loses_nothing_acknowledged() {
    // The order of two steps on the disk is wrong, or a recovery is not repeatable.
    sweep(1);
}

#[test]
fn a_crash_at_any_operation_of_two_cores_loses_nothing_acknowledged() {
    // As above, with two logs and deletes that concern both.
    sweep(2);
}
