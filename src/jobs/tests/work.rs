//! The coordinator at work: flushes, merges, segments, a full disk, barriers, shutdown.

use super::rig::{Model, Rig, Write, WriteEnd, check, random_write, small_options};
use crate::jobs::test_disk::TestDisk;
use crate::jobs::{StoreOptions, ToCoordinator};
use crate::model::{KeyRange, OwnedValue, Slot};
use std::path::PathBuf;

fn files_of(disk: &TestDisk, kind: &str) -> Vec<PathBuf> {
    disk.paths().into_iter().filter(|path| path.starts_with(kind)).collect()
}

#[test]
fn a_store_behaves_like_a_sorted_map() {
    // Whatever is flushed, merged and reopened in whatever order, a read must not notice.
    for seed in 0..if cfg!(debug_assertions) { 6 } else { 100 } {
        let disk = TestDisk::default();
        let mut model = Model::new();
        let mut rig = Rig::open(&disk, small_options(2), seed).unwrap();
        for step in 0..600 {
            let write = random_write(&mut rig.random);
            rig.write(&write).unwrap();
            write.apply(&mut model, &KeyRange::all());
            match rig.random.below(60) {
                0 => {
                    let shard = rig.random.below(rig.shards.len() as u64) as usize;
                    rig.freeze(shard);
                }
                1 => rig.settle(),
                2 if step % 3 == 0 => {
                    let ended = rig.request(|done| ToCoordinator::CompactAll { done });
                    assert_eq!(ended, Some(Ok(())), "seed {seed}");
                }
                3 => {
                    let (shards, next) = (rig.random.below(3) as usize + 1, rig.random.next());
                    let disk = rig.disk.copy();
                    drop(rig);
                    rig = Rig::open(&disk, small_options(shards), next).unwrap();
                }
                4..30 => drop(rig.step()),
                _ => {}
            }
            if step % 50 == 0 {
                assert_eq!(rig.content(), model, "seed {seed}, step {step}");
            }
        }
        assert_eq!(rig.request(|done| ToCoordinator::CompactAll { done }), Some(Ok(())));
        assert_eq!(rig.content(), model, "seed {seed}");
        assert_eq!(rig.request(|done| ToCoordinator::Shutdown { done }), Some(Ok(())));
        let disk = rig.disk.copy();
        let (summary, findings) = check(&disk).unwrap();
        assert_eq!(summary.damages, 0, "seed {seed}: {findings:?}");
    }
}

#[test]
fn a_flush_retires_its_segments_and_the_log_stays_short() {
    // A log that is never retired fills the disk and makes every start slow.
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, small_options(1), 3).unwrap();
    for round in 0..20 {
        let value = OwnedValue::Bytes(vec![1; 300_000].into());
        for time in 0..3 {
            rig.write(&Write::Put(b"k".to_vec(), Slot::Time(round * 10 + time), value.clone())).unwrap();
        }
        rig.freeze(0);
        rig.settle();
    }
    let segments = files_of(&disk, "wal").len();
    assert!(segments <= 12, "{segments} segments are left");
    let status = rig.coordinator.board().read();
    assert_eq!((status.flushes_total, status.flushes_waiting), (20, 0));
    assert!(status.segments_recycled_total > 5, "{status:?}");
    assert_eq!(rig.content().len(), 60);
}

#[test]
fn compacting_everything_drops_what_is_deleted() {
    // Space that deletes never give back is a leak.
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, small_options(2), 5).unwrap();
    for time in 0..500 {
        let series = format!("k{}", time % 10).into_bytes();
        rig.write(&Write::Put(series, Slot::Time(time), OwnedValue::F64(1.0))).unwrap();
    }
    assert_eq!(rig.request(|done| ToCoordinator::FlushAll { done }), Some(Ok(())));
    assert!(rig.version.tables().iter().any(|table| table.meta.entries > 0));
    rig.write(&Write::DeleteAll).unwrap();
    assert_eq!(rig.request(|done| ToCoordinator::CompactAll { done }), Some(Ok(())));
    let left: u64 = rig.version.tables().iter().map(|table| table.meta.entries).sum();
    assert_eq!(left, 0, "{:?}", rig.version.tables().iter().map(|table| &table.meta).collect::<Vec<_>>());
    rig.settle();
    assert_eq!(
        files_of(&disk, "tables").len(),
        rig.version.tables().len(),
        "files of merged tables are removed"
    );
    assert_eq!(rig.content(), Model::new());
}

#[test]
fn a_delete_outlives_every_copy_of_what_it_hides() {
    // The log may still hold what tables have lost: a merge that forgets the delete brings the data back after a crash.
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, small_options(1), 5).unwrap();
    rig.write(&Write::Put(b"k".to_vec(), Slot::Time(1), OwnedValue::F64(1.0))).unwrap();
    rig.write(&Write::Put(b"l".to_vec(), Slot::Time(1), OwnedValue::F64(1.0))).unwrap();
    rig.freeze_releasing(0, 0);
    rig.settle();
    rig.write(&Write::DeleteSeries(b"k".to_vec())).unwrap();
    rig.write(&Write::DeleteSlot(b"l".to_vec(), Slot::Time(1))).unwrap();
    rig.freeze_releasing(0, !1);
    rig.settle();
    for _ in 0..3 {
        assert_eq!(rig.request(|done| ToCoordinator::CompactAll { done }), Some(Ok(())));
    }
    let reopened = Rig::open(&disk.copy(), small_options(1), 1).unwrap();
    assert!(reopened.opened.records == 2, "the segment with the puts was to stay: {:?}", reopened.opened);
    assert_eq!(reopened.content(), Model::new());
}

#[test]
fn a_full_disk_refuses_writes_and_heals_by_itself() {
    // A daemon that needs a restart after a full disk is down for the night.
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, small_options(1), 7).unwrap();
    rig.settle();
    let mut model = Model::new();
    disk.set_space(Some(1_300_000));
    let mut refused = 0;
    for time in 0..200 {
        let write = Write::Put(b"k".to_vec(), Slot::Time(time), OwnedValue::Bytes(vec![1; 40_000].into()));
        match rig.write(&write) {
            Ok(()) => write.apply(&mut model, &KeyRange::all()),
            Err(WriteEnd::Refused) => refused += 1,
            Err(WriteEnd::Unknown) => panic!("the log was written where there was no room"),
        }
        if time % 20 == 0 {
            rig.freeze(0);
            rig.settle();
        }
    }
    assert!(refused > 0 && rig.shards[0].segment_failures > 0, "the disk was never full");
    assert!(rig.coordinator.board().read().out_of_space);
    assert_eq!(rig.content(), model, "reads go on");
    disk.set_space(Some(100_000_000));
    for _ in 0..4 {
        rig.now_ns += 1_000_000_000;
        rig.settle();
    }
    let write = Write::Put(b"k".to_vec(), Slot::Time(-1), OwnedValue::F64(1.0));
    rig.write(&write).unwrap();
    write.apply(&mut model, &KeyRange::all());
    assert_eq!(rig.request(|done| ToCoordinator::FlushAll { done }), Some(Ok(())));
    assert!(!rig.coordinator.board().read().out_of_space);
    assert_eq!(rig.content(), model);
    let reopened = Rig::open(&disk.copy(), small_options(1), 1).unwrap();
    assert_eq!(reopened.content(), model);
}

#[test]
fn a_manifest_that_grows_is_rewritten() {
    // Otherwise a long life makes a long start.
    let disk = TestDisk::default();
    let options = StoreOptions { manifest_growth_bytes: 2000, ..small_options(1) };
    let mut rig = Rig::open(&disk, options, 7).unwrap();
    let before = files_of(&disk, "manifest");
    for time in 0..60 {
        rig.write(&Write::Put(b"k".to_vec(), Slot::Time(time), OwnedValue::F64(1.0))).unwrap();
        rig.freeze(0);
        rig.settle();
    }
    let after = files_of(&disk, "manifest");
    assert_eq!(after.len(), 1);
    assert_ne!(after, before);
    assert_eq!(Rig::open(&disk.copy(), small_options(1), 1).unwrap().content().len(), 60);
}

#[test]
fn shutdown_ends_with_work_waiting_and_loses_nothing() {
    // An operator's stop must not hang behind a long queue.
    let disk = TestDisk::default();
    let options = StoreOptions { background_threads: 2, ..small_options(2) };
    let mut rig = Rig::open(&disk, options, 9).unwrap();
    let mut model = Model::new();
    for _ in 0..300 {
        let write = random_write(&mut rig.random);
        rig.write(&write).unwrap();
        write.apply(&mut model, &KeyRange::all());
        if rig.random.below(30) == 0 {
            rig.freeze(0);
            rig.freeze(1);
        }
    }
    rig.send(ToCoordinator::CompactAll { done: Box::new(|ended| assert!(ended.is_err())) });
    assert_eq!(rig.request(|done| ToCoordinator::Shutdown { done }), Some(Ok(())));
    assert!(rig.coordinator.is_finished());
    drop(rig);
    assert_eq!(Rig::open(&disk, small_options(1), 1).unwrap().content(), model);
}

#[test]
fn flush_all_tells_when_the_disk_is_full() {
    // A request that never ends is worse than one that fails.
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, small_options(1), 7).unwrap();
    rig.write(&Write::Put(b"k".to_vec(), Slot::Time(1), OwnedValue::Bytes(vec![1; 40_000].into()))).unwrap();
    rig.settle();
    disk.set_space(Some(1000));
    let ended = rig.request(|done| ToCoordinator::FlushAll { done });
    assert_eq!(ended, Some(Err("the disk is full".into())));
    assert_eq!(rig.shards[0].flush_failures, 1);
    disk.set_space(None);
    rig.now_ns += 1_000_000_000;
    assert_eq!(rig.request(|done| ToCoordinator::FlushAll { done }), Some(Ok(())));
}
