//! Seeded scripts on one core and its jobs (goal G1).

use crate::run::{deadline, every, number_of, thorough};
use tskv::simulator::sweep::{EngineRun, engine_seed};

#[test]
fn the_engine_keeps_its_promises_through_seeded_crashes() {
    // Acknowledged writes are lost, deleted ones return, or a reply shows what was never written.
    if let Some(seed) = number_of("TSKV_ENGINE_SEED") {
        println!("engine seed {seed}: {:?}", engine_seed(seed).unwrap());
        return;
    }
    let count = number_of("TSKV_ENGINE_SEEDS").unwrap_or(if thorough() { 5000 } else { 60 });
    let first = number_of("TSKV_ENGINE_FIRST").unwrap_or(1);
    let seeds: Vec<u64> = (first..first + count).collect();
    let run = |seed: &u64| engine_seed(*seed).map_err(|why| format!("engine seed {seed}: {why}"));
    let replay =
        |seed: &u64| format!("TSKV_ENGINE_SEED={seed} cargo test --test sweep the_engine -- --nocapture");
    let outcome = every(&seeds, deadline("TSKV_ENGINE_SECONDS"), run, replay);
    let done = outcome.results.len() as u64;
    let total = |what: fn(&EngineRun) -> u64| outcome.results.iter().map(what).sum::<u64>();
    println!(
        "engine: {done} seeds from {first}, {} lives, {} cut short, {} recoveries judged, {} writes acknowledged, in {:.0} s",
        total(|run| run.lives),
        total(|run| run.cuts),
        total(|run| run.judged),
        total(|run| run.acknowledged),
        outcome.seconds
    );
    assert!(done == count || number_of("TSKV_ENGINE_SECONDS").is_some_and(|_| done > 0));
    assert!(total(|run| run.cuts) > 0 && total(|run| run.replayed) > 0 && total(|run| run.acknowledged) > 0);
}

#[test]
fn an_engine_seed_runs_the_same_way_twice() {
    // A failure that cannot be replayed cannot be understood.
    for seed in 1..6 {
        assert_eq!(engine_seed(seed), engine_seed(seed), "seed {seed}");
    }
}
