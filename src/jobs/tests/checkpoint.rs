//! Checkpoints: what they hold, and what is left of one that is cut short.

use super::rig::{Model, Rig, check_files, random_write, small_options, thorough};
use crate::io::Files;
use crate::io::sim::{Crash, SimWorld};
use crate::jobs::checkpoint::Below;
use crate::jobs::test_disk::{Random, TestDisk};
use crate::jobs::{Finding, ToCoordinator};
use crate::model::{CheckpointName, KeyRange};
use crate::storage::manifest::names::CHECKPOINTS_DIR;
use std::path::Path;
use std::sync::Arc;

fn name() -> CheckpointName {
    CheckpointName::new("c-1").unwrap()
}

/// The checkpoint as a store of its own.
fn inside(files: &Arc<dyn Files>) -> Arc<dyn Files> {
    Arc::new(Below { files: Arc::clone(files), at: Path::new(CHECKPOINTS_DIR).join(name().as_str()) })
}

fn write_some(rig: &mut Rig, model: &mut Model, random: &mut Random, count: usize) {
    for _ in 0..count {
        let write = random_write(random);
        rig.write(&write).unwrap();
        write.apply(model, &KeyRange::all());
        if random.below(12) == 0 {
            rig.freeze(random.below(rig.shards.len() as u64) as usize);
        }
        rig.step();
    }
}

fn checkpoint(rig: &mut Rig) -> Option<Result<(), String>> {
    rig.request(|done| ToCoordinator::Checkpoint { name: name(), done })
}

/// Files with second names (the simulated machine), and without.
fn machines(seed: u64) -> [Arc<dyn Files>; 2] {
    [SimWorld::from_seed(seed).files(), TestDisk::default().files()]
}

#[test]
fn a_checkpoint_is_a_store_of_its_own() {
    // Merges of the first store drop tables that the checkpoint shares; writes to one must not show in the other.
    for seed in 0..if thorough() { 60 } else { 6 } {
        for files in machines(seed) {
            let mut random = Random(seed);
            let mut model = Model::new();
            let shards = 1 + random.below(2) as usize;
            let mut rig = Rig::open_files(Arc::clone(&files), small_options(shards), seed).unwrap();
            write_some(&mut rig, &mut model, &mut random, 150);
            assert_eq!(checkpoint(&mut rig), Some(Ok(())));
            let then = model.clone();
            write_some(&mut rig, &mut model, &mut random, 150);
            assert_eq!(rig.request(|done| ToCoordinator::CompactAll { done }), Some(Ok(())));
            let again = checkpoint(&mut rig).unwrap().unwrap_err();
            assert_eq!(again, "there is a checkpoint 'c-1' already");
            rig.settle();

            let (summary, findings) = check_files(&*inside(&files)).unwrap();
            assert_eq!((summary.damages, summary.segments), (0, 0), "seed {seed}: {findings:?}");
            let mut second = Rig::open_files(inside(&files), small_options(1), seed).unwrap();
            assert_eq!(second.content(), then, "seed {seed}");
            let mut apart = then;
            write_some(&mut second, &mut apart, &mut random, 100);
            assert_eq!(second.request(|done| ToCoordinator::CompactAll { done }), Some(Ok(())));
            assert_eq!((second.content(), rig.content()), (apart, model.clone()), "seed {seed}");
            drop((rig, second));
            let rig = Rig::open_files(Arc::clone(&files), small_options(1), seed).unwrap();
            assert_eq!(rig.content(), model, "seed {seed}: after a restart");
            drop(rig);
            let (summary, findings) = check_files(&*files).unwrap();
            let is_spare = |finding: &Finding| matches!(finding, Finding::Unnamed { .. });
            assert!(summary.damages == 0 && findings.iter().all(is_spare), "seed {seed}: {findings:?}");
        }
    }
}

#[test]
fn a_checkpoint_that_was_cut_short_is_no_store() {
    // A directory that looks whole and lacks a table would be believed on the day that it is needed.
    let (mut whole, mut cleared) = (0, 0);
    for calls in 1.. {
        let world = SimWorld::from_seed(calls);
        let files = world.files();
        let mut model = Model::new();
        let mut random = Random(calls);
        let mut rig = Rig::open_files(Arc::clone(&files), small_options(1), calls).unwrap();
        write_some(&mut rig, &mut model, &mut random, 40);
        rig.settle();
        world.cut_after(calls);
        let told = checkpoint(&mut rig);
        let was_cut = !world.is_up();
        world.crash(Crash::PowerCut);
        world.restart();
        drop(rig);
        let files = world.files();
        // Before the next start clears it away.
        let claims = inside(&files).list(Path::new("")).unwrap_or_default();
        let claims = claims.iter().any(|entry| entry.name == "CURRENT");
        assert!(claims || told != Some(Ok(())), "cut after {calls}: it was said to be durable");
        if claims {
            let (summary, findings) = check_files(&*inside(&files)).unwrap();
            assert_eq!(summary.damages, 0, "cut after {calls}: {findings:?}");
            let second = Rig::open_files(inside(&files), small_options(1), calls).unwrap();
            assert_eq!(second.content(), model, "cut after {calls}");
            whole += 1;
        }
        let mut rig = Rig::open_files(Arc::clone(&files), small_options(1), calls).unwrap();
        assert_eq!(rig.content(), model, "cut after {calls}: the store itself");
        if !claims {
            for directory in ["", "tables", "manifest"] {
                let left = inside(&files).list(Path::new(directory)).unwrap_or_default();
                let left: Vec<_> = left.iter().filter(|entry| entry.bytes > 0).collect();
                assert!(left.is_empty(), "cut after {calls}: {left:?} hold space for nothing");
            }
            assert_eq!(checkpoint(&mut rig), Some(Ok(())), "cut after {calls}: the name is free");
            cleared += 1;
        }
        if !was_cut {
            break;
        }
    }
    println!("jobs: {cleared} cuts left no checkpoint, {whole} a whole one");
    assert!(cleared > 20 && whole > 0, "the script is too short to mean anything: {cleared}, {whole}");
}
