//! Power cuts: at every call of a short life, and at random ones of longer lives.

use super::rig::{Model, Rig, Write, WriteEnd, check, check_files, random_write, small_options, thorough};
use crate::io::sim::{Crash, SimWorld};
use crate::jobs::test_disk::{Random, TestDisk};
use crate::jobs::{OpenError, StoreOptions, ToCoordinator};
use crate::model::KeyRange;

/// A write under way when the machine died, and the shards of that life.
type Pending = Option<(Write, Vec<KeyRange>)>;

/// Writes, flushes and merges until the machine dies; what was acknowledged goes into the model.
fn live(
    open: &dyn Fn(StoreOptions) -> Result<Rig, OpenError>,
    dead: &dyn Fn() -> bool,
    model: &mut Model,
    seed: u64,
    steps: usize,
) -> Pending {
    let mut random = Random(seed);
    let mut rig = open(small_options(random.below(2) as usize + 1)).ok()?;
    for step in 0..steps {
        let write = random_write(&mut random);
        match rig.write(&write) {
            Ok(()) => write.apply(model, &KeyRange::all()),
            Err(WriteEnd::Unknown | WriteEnd::Refused) => {
                let shards = (0..rig.shards.len()).map(|shard| rig.keys_of(shard)).collect();
                return Some((write, shards));
            }
        }
        match random.below(12) {
            0 => rig.freeze(random.below(rig.shards.len() as u64) as usize),
            1 if step > steps / 2 => {
                rig.request(|done| ToCoordinator::CompactAll { done });
            }
            2 => rig.settle(),
            _ => drop(rig.step()),
        }
        if dead() {
            return None;
        }
        if step % 16 == 0 {
            rig.now_ns += 1_000_000_000;
        }
    }
    rig.request(|done| ToCoordinator::Shutdown { done });
    None
}

/// Whether `found` is what was acknowledged, with the write under way on some of the shards.
fn explains(found: &Model, model: &Model, pending: &Pending) -> bool {
    let Some((write, shards)) = pending else { return found == model };
    (0..1u32 << shards.len()).any(|mask| {
        let mut possible = model.clone();
        let reached = shards.iter().enumerate().filter(|(index, _)| mask >> index & 1 == 1);
        reached.for_each(|(_, keys)| write.apply(&mut possible, keys));
        possible == *found
    })
}

/// What goes wrong in a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The power goes.
    Cut,
    /// A few calls fail; the power goes at the end.
    Error,
}

/// Lives in which the `calls`-th call goes wrong, each going on from what the last one left.
fn cut(fault: Fault, calls: u64, seed: u64, lives: usize, steps: usize) -> bool {
    let mut disk = TestDisk::default();
    let mut model = Model::new();
    let mut died = false;
    for life in 0..lives as u64 {
        match fault {
            Fault::Cut => disk.die_after(calls + life * 7),
            Fault::Error => disk.fail_after(calls + life * 7, 1 + calls % 3),
        }
        let open = |options| Rig::open(&disk, options, seed + life);
        let pending = live(&open, &|| disk.is_dead(), &mut model, seed + life, steps);
        died |= disk.is_dead() || disk.calls() >= calls;
        let rest = disk.after_crash(seed ^ life << 32);
        let context = format!("{fault:?} at call {calls}, seed {seed}, life {life}");
        let rig =
            Rig::open(&rest, small_options(1), seed).unwrap_or_else(|error| panic!("{context}: {error}"));
        let found = rig.content();
        assert!(
            explains(&found, &model, &pending),
            "{context}: found {found:?}\nexpected {model:?}\nand maybe {pending:?}"
        );
        drop(rig);
        let (summary, findings) = check(&rest).unwrap();
        assert_eq!(summary.damages, 0, "{context}: {findings:?}");
        // A cut during recovery itself, and recovery of that.
        let again = disk.after_crash(seed ^ life << 32);
        again.die_after(1 + calls % 29);
        drop(Rig::open(&again, small_options(1), seed));
        let again = again.after_crash(seed);
        let rig = Rig::open(&again, small_options(1), seed)
            .unwrap_or_else(|error| panic!("{context}, twice: {error}"));
        assert_eq!(rig.content(), found, "{context}: a second recovery differs");
        drop(rig);
        (disk, model) = (again, found);
    }
    died
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_acknowledged() {
    // Each call is a place where the order of steps matters: table, directory, manifest, CURRENT, segment, unlink.
    let stride = if thorough() { 1 } else { 13 };
    let mut calls = 1;
    while cut(Fault::Cut, calls, 11, 1, 60) {
        calls += stride;
    }
    println!("jobs: power cuts at {} of {calls} calls", calls.div_ceil(stride));
    assert!(calls > 200, "the script is too short to mean anything: {calls} calls");
}

#[test]
fn failed_calls_lose_nothing_acknowledged() {
    // A sync that failed must not be tried again, a file never be appended to after a failed append: what the kernel
    // then calls durable is not.
    for seed in 0..if thorough() { 600 } else { 15 } {
        let mut random = Random(seed);
        cut(Fault::Error, 5 + random.below(400), random.next(), 2, 120);
    }
}

#[test]
fn power_cuts_at_random_calls_over_several_lives_lose_nothing() {
    // Debris of one cut must not turn into damage or data in a later life.
    for seed in 0..if thorough() { 150 } else { 6 } {
        let mut random = Random(seed);
        cut(Fault::Cut, 20 + random.below(500), random.next(), 4, 200);
    }
}

#[test]
fn the_simulated_machine_agrees() {
    // Its disk tears and forgets in other ways than the one above; the daemon's simulation stands on it.
    for seed in 0..if thorough() { 100 } else { 6 } {
        let world = SimWorld::from_seed(seed);
        let mut random = Random(seed);
        let mut model = Model::new();
        for life in 0..4 {
            world.cut_after(10 + random.below(500));
            let open = |options| Rig::open_files(world.files(), options, seed + life);
            let pending = live(&open, &|| !world.is_up(), &mut model, seed + life, 120);
            world.crash(Crash::PowerCut);
            world.restart();
            let context = format!("seed {seed}, life {life}");
            let rig = open(small_options(1)).unwrap_or_else(|error| panic!("{context}: {error}"));
            let found = rig.content();
            assert!(
                explains(&found, &model, &pending),
                "{context}: {found:?}\nexpected {model:?}\nmaybe {pending:?}"
            );
            drop(rig);
            let (summary, findings) = check_files(&*world.files()).unwrap();
            assert_eq!(summary.damages, 0, "{context}: {findings:?}");
            model = found;
        }
    }
}
