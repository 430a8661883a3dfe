//! Retention by age and by size: what is hidden, what is given back to the disk, and what a clock or an operator may not do to it.

use super::rig::{Model, Rig, Write, check, random_write, small_options};
use crate::jobs::test_disk::TestDisk;
use crate::jobs::{RetentionOptions, StoreOptions, ToCoordinator};
use crate::model::{KeyRange, OwnedValue, Slot};
use std::time::Duration;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

fn options(shards: usize, days: Option<i64>) -> StoreOptions {
    let length = |days: i64| Duration::from_millis((days * DAY_MS).unsigned_abs());
    let retention = days.map(|days| RetentionOptions::new(length(days)));
    StoreOptions { retention, ..small_options(shards) }
}

/// Sets the wall clock, lets the coordinator look at it, and finishes what that starts.
fn clock(rig: &mut Rig, wall_ms: i64) {
    rig.disk.set_unix_ns(wall_ms * 1_000_000);
    rig.now_ns += 61_000_000_000;
    rig.settle();
}

fn cutoff(rig: &Rig) -> Option<i64> {
    rig.version.cutoffs().last().filter(|cutoff| cutoff.below.0 == u64::MAX).map(|cutoff| cutoff.before)
}

/// Takes out of the model what is too old for the store.
fn forget(model: &mut Model, rig: &Rig) {
    if let Some(hidden) = cutoff(rig) {
        model.retain(|(_, slot), _| !matches!(slot, Slot::Time(time) if *time < hidden));
    }
}

fn put(rig: &mut Rig, time: i64) {
    rig.write(&Write::Put(b"k1".to_vec(), Slot::Time(time), OwnedValue::F64(1.0))).unwrap();
}

fn times(rig: &Rig) -> Vec<i64> {
    let time = |slot: Slot| match slot {
        Slot::Time(time) => Some(time),
        Slot::Metadata | Slot::Timeless => None,
    };
    rig.content().into_keys().filter_map(|(_, slot)| time(slot)).collect()
}

fn flush(rig: &mut Rig) {
    assert_eq!(rig.request(|done| ToCoordinator::FlushAll { done }), Some(Ok(())));
}

fn table_bytes(disk: &TestDisk) -> usize {
    let tables = disk.paths().into_iter().filter(|path| path.starts_with("tables"));
    tables.map(|path| disk.content(&path).len()).sum()
}

/// The same machine, started again with another retention.
fn reopen(rig: Rig, days: Option<i64>) -> Rig {
    let disk = rig.disk.copy();
    drop(rig);
    Rig::open(&disk, options(1, days), 5).unwrap()
}

#[test]
fn a_store_with_retention_behaves_like_a_sorted_map_that_forgets() {
    // Flushes, merges, restarts, other retentions and a clock that goes back: what is gone stays gone, the rest stays.
    for seed in 0..if cfg!(debug_assertions) { 8 } else { 60 } {
        let disk = TestDisk::default();
        let (mut model, mut days, mut wall) = (Model::new(), Some(10), 12 * DAY_MS);
        let mut latest = wall;
        let mut rig = Rig::open(&disk, options(2, days), seed).unwrap();
        clock(&mut rig, wall);
        for step in 0..400 {
            let write = random_write(&mut rig.random);
            let is_late = matches!(&write, Write::Put(_, Slot::Time(time), _)
                if cutoff(&rig).is_some_and(|cutoff| *time < cutoff));
            if !is_late {
                rig.write(&write).unwrap();
                write.apply(&mut model, &KeyRange::all());
            }
            match rig.random.below(40) {
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
                    days = [None, Some(3), Some(10), Some(20)][rig.random.below(4) as usize];
                    let (shards, next) = (rig.random.below(3) as usize + 1, rig.random.next());
                    let disk = rig.disk.copy();
                    drop(rig);
                    rig = Rig::open(&disk, options(shards, days), next).unwrap();
                }
                4..8 => {
                    wall += rig.random.below(8 * HOUR_MS.unsigned_abs()) as i64 - 2 * HOUR_MS;
                    latest = latest.max(wall);
                    clock(&mut rig, wall);
                    let hidden = cutoff(&rig).unwrap_or(i64::MIN);
                    if let Some(days) = days.filter(|_| !rig.coordinator.board().read().retention_held) {
                        assert!(
                            hidden >= wall - days * DAY_MS,
                            "seed {seed}, step {step}: {hidden} at {wall}"
                        );
                    }
                    assert!(hidden <= latest - 3 * DAY_MS, "seed {seed}, step {step}: {hidden} at {latest}");
                }
                8..25 => drop(rig.step()),
                _ => {}
            }
            forget(&mut model, &rig);
            if step % 20 == 0 {
                assert_eq!(rig.content(), model, "seed {seed}, step {step}");
            }
        }
        assert_eq!(rig.request(|done| ToCoordinator::CompactAll { done }), Some(Ok(())));
        // After a restart in the last steps this was the first look at the clock.
        forget(&mut model, &rig);
        assert_eq!(rig.content(), model, "seed {seed}");
        let expired = |meta: &crate::storage::sstable::TableMeta| {
            meta.span.is_some() && rig.version.cutoffs().iter().any(|cutoff| cutoff.hides_table(meta))
        };
        assert!(!rig.version.tables().iter().any(|table| expired(&table.meta)), "seed {seed}");
        assert_eq!(check(&rig.disk.copy()).unwrap().0.damages, 0, "seed {seed}");
    }
}

#[test]
fn what_is_too_old_is_hidden_at_once_and_its_files_go() {
    // Retention that does not give the disk back is what users complain of most.
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, options(1, Some(10)), 1).unwrap();
    clock(&mut rig, 100 * DAY_MS);
    rig.write(&Write::Put(b"name".to_vec(), Slot::Timeless, OwnedValue::F64(7.0))).unwrap();
    rig.write(&Write::Put(b"k1".to_vec(), Slot::Metadata, OwnedValue::F64(7.0))).unwrap();
    for day in 91..=100 {
        for nth in 0..2000 {
            put(&mut rig, day * DAY_MS + nth * 7919);
        }
        flush(&mut rig);
    }
    let full = table_bytes(&rig.disk);
    let next = rig.coordinator.board().read();
    assert!(next.retention_next_drop_bytes > 0, "{next:?}");
    // Hidden to the millisecond of the last look, though its table is there.
    put(&mut rig, 90 * DAY_MS + 1);
    assert_eq!(times(&rig).len(), 20_001);
    clock(&mut rig, 100 * DAY_MS + 2);
    assert_eq!(times(&rig).len(), 20_000, "hidden in the memtable too");
    let first = next.retention_next_drop_seconds as i64;
    assert!(first > 86_400 && first < 2 * 86_400, "{first}");
    for hours in 1..=9 * 24 {
        clock(&mut rig, 100 * DAY_MS + hours * HOUR_MS);
    }
    assert_eq!(times(&rig).first(), Some(&(99 * DAY_MS)));
    let left = table_bytes(&rig.disk);
    assert!(left < full / 4, "{left} of {full} bytes are left");
    let status = rig.coordinator.board().read();
    assert!(status.retention_dropped_bytes_total > full as u64 / 2, "{status:?}");
    assert_eq!(rig.content().len(), 4000 + 2, "strings and metadata have no age");
}

#[test]
fn a_longer_retention_brings_nothing_back_and_keeps_what_is_written_then() {
    // What a reader was told is gone must not return, and history may be written again once there is room for it.
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, options(1, None), 2).unwrap();
    for day in 0..30 {
        put(&mut rig, day * DAY_MS);
    }
    rig = reopen(rig, Some(10));
    clock(&mut rig, 30 * DAY_MS);
    let kept: Vec<i64> = (20..30).map(|day| day * DAY_MS).collect();
    assert_eq!(times(&rig), kept);
    for days in [Some(25), None] {
        rig = reopen(rig, days);
        assert_eq!(times(&rig), kept, "{days:?}");
        clock(&mut rig, 30 * DAY_MS + 1);
        assert_eq!(times(&rig), kept, "{days:?}");
    }
    put(&mut rig, 5 * DAY_MS);
    flush(&mut rig);
    assert_eq!(times(&rig), [&[5 * DAY_MS], &kept[..]].concat());
    assert_eq!(rig.request(|done| ToCoordinator::CompactAll { done }), Some(Ok(())));
    rig = reopen(rig, None);
    assert_eq!(times(&rig), [&[5 * DAY_MS], &kept[..]].concat());
    assert_eq!(rig.version.cutoffs(), [], "nothing is left for the old cutoff to hide");
}

#[test]
fn a_clock_that_leaps_ahead_drops_nothing_until_it_lasts() {
    // One wrong answer of a time server would cost the store.
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, options(1, Some(16)), 3).unwrap();
    clock(&mut rig, 100 * DAY_MS);
    put(&mut rig, 99 * DAY_MS);
    flush(&mut rig);
    for wall in [9000 * DAY_MS, i64::MAX / 1_000_000, 9000 * DAY_MS] {
        clock(&mut rig, wall);
        assert_eq!(times(&rig), [99 * DAY_MS], "the clock says {wall}");
        assert!(rig.coordinator.board().read().retention_held);
    }
    // A restart does not make it true.
    rig = reopen(rig, Some(16));
    clock(&mut rig, 9000 * DAY_MS);
    assert_eq!((times(&rig), rig.coordinator.board().read().retention_held), (vec![99 * DAY_MS], true));
    // Back in order: as if nothing had been.
    clock(&mut rig, 100 * DAY_MS + HOUR_MS);
    assert!(!rig.coordinator.board().read().retention_held);
    assert_eq!(cutoff(&rig), Some(84 * DAY_MS + HOUR_MS));
    // It leaps and stays there, for a span.
    for hour in 0..24 {
        rig.now_ns += 3_600_000_000_000;
        clock(&mut rig, 9000 * DAY_MS + hour * HOUR_MS);
    }
    assert_eq!(times(&rig), [99 * DAY_MS]);
    rig.now_ns += 3_600_000_000_000;
    clock(&mut rig, 9001 * DAY_MS);
    assert_eq!((times(&rig), table_bytes(&rig.disk)), (Vec::new(), 0));
}

#[test]
fn an_operator_may_vouch_for_the_clock() {
    // After months in a drawer the clock is right, and the disk may be full.
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, options(1, Some(16)), 4).unwrap();
    clock(&mut rig, 100 * DAY_MS);
    put(&mut rig, 99 * DAY_MS);
    rig.disk.set_unix_ns(9000 * DAY_MS * 1_000_000);
    let disk = rig.disk.copy();
    drop(rig);
    let mut trusting = options(1, Some(16));
    trusting.retention.as_mut().unwrap().trusts_clock = true;
    let mut rig = Rig::open(&disk, trusting, 4).unwrap();
    rig.settle();
    assert_eq!((times(&rig), cutoff(&rig)), (Vec::new(), Some(8984 * DAY_MS)));
}

#[test]
fn a_look_that_waits_for_the_disk_does_not_keep_the_coordinator_awake() {
    // A wake-up in the past would burn a core for as long as the manifest cannot be written.
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, options(1, Some(16)), 6).unwrap();
    clock(&mut rig, 100 * DAY_MS);
    rig.disk.set_unix_ns((100 * DAY_MS + HOUR_MS) * 1_000_000);
    rig.now_ns += 61_000_000_000;
    rig.coordinator.handle(rig.now_ns, None);
    let wakes_at = rig.coordinator.wakes_at();
    assert!(wakes_at.is_none_or(|at| at > rig.now_ns), "the commit is under way: {wakes_at:?}");
    rig.now_ns += 61_000_000_000;
    rig.coordinator.handle(rig.now_ns, None);
    let wakes_at = rig.coordinator.wakes_at();
    assert!(wakes_at.is_none_or(|at| at > rig.now_ns), "and still is: {wakes_at:?}");
    rig.settle();
    assert_eq!(cutoff(&rig), Some(84 * DAY_MS + HOUR_MS));
}

#[test]
fn a_crash_at_any_call_never_brings_back_what_was_hidden() {
    // The frame that hides and drops is one; half of it would show samples whose neighbours are gone.
    for calls in 1..200 {
        let disk = TestDisk::default();
        let mut rig = Rig::open(&disk, options(1, Some(10)), calls).unwrap();
        clock(&mut rig, 30 * DAY_MS);
        for day in 20..30 {
            put(&mut rig, day * DAY_MS);
            flush(&mut rig);
        }
        rig.disk.die_after(calls);
        clock(&mut rig, 30 * DAY_MS + 20 * HOUR_MS);
        clock(&mut rig, 31 * DAY_MS + 16 * HOUR_MS);
        let shown = times(&rig);
        let is_dead = rig.disk.is_dead();
        let disk = rig.disk.copy();
        drop(rig);
        let rig = Rig::open(&disk, options(1, None), calls).unwrap();
        let found = times(&rig);
        assert!(found.len() <= shown.len() && shown.ends_with(&found), "{found:?} after {shown:?}");
        assert!(found.contains(&(22 * DAY_MS)), "nothing is dropped before its time: {found:?}");
        if !is_dead {
            return;
        }
    }
    panic!("the script is longer than that");
}

/// Bytes that tables of samples take.
fn sample_bytes(rig: &Rig) -> u64 {
    rig.version.tables().iter().filter(|table| table.meta.span.is_some()).map(|table| table.meta.bytes).sum()
}

#[test]
fn a_store_with_a_size_keeps_the_newest_samples_and_gives_the_disk_back() {
    // In the order of time, in any order, with late data and after restarts: the disk must not fill, what is gone must
    // stay gone, and nothing goes that is newer than what has to.
    const LIMIT: u64 = 64 << 10;
    for seed in 0..if cfg!(debug_assertions) { 3 } else { 12 } {
        let disk = TestDisk::default();
        let sized = |shards| StoreOptions { retention_bytes: Some(LIMIT), ..small_options(shards) };
        let mut rig = Rig::open(&disk, sized(2), seed).unwrap();
        let (mut written, mut gone) = (Model::new(), std::collections::BTreeSet::new());
        for round in 0..60 {
            for _ in 0..200 {
                let below = rig.random.below(10_000) as i64;
                let time = match seed % 3 {
                    0 => round * 10_000 + below,
                    // One in twenty is late, by up to a third of everything.
                    1 if below % 20 == 0 => (round - rig.random.below(20) as i64).max(0) * 10_000 + below,
                    1 => round * 10_000 + below,
                    _ => rig.random.below(600_000) as i64,
                };
                let key = format!("k{}", rig.random.below(9)).into_bytes();
                let value = OwnedValue::F64(rig.random.next() as f64);
                gone.remove(&(key.clone(), Slot::Time(time * 1000)));
                let write = Write::Put(key, Slot::Time(time * 1000), value);
                rig.write(&write).unwrap();
                write.apply(&mut written, &KeyRange::all());
            }
            match rig.random.below(6) {
                0 => flush(&mut rig),
                1 => {
                    let next = rig.random.next();
                    let disk = rig.disk.copy();
                    drop(rig);
                    rig = Rig::open(&disk, sized(1 + (next % 3) as usize), next).unwrap();
                }
                2 => assert_eq!(rig.request(|done| ToCoordinator::CompactAll { done }), Some(Ok(()))),
                _ => {
                    let shards = rig.shards.len() as u64;
                    let shard = rig.random.below(shards) as usize;
                    rig.freeze(shard);
                }
            }
            rig.settle();
            let at = format!("seed {seed}, round {round}");
            assert!(sample_bytes(&rig) <= LIMIT, "{at}: {} bytes", sample_bytes(&rig));
            assert_eq!(rig.coordinator.board().read().sample_bytes, sample_bytes(&rig), "{at}");
            let found = rig.content();
            let cut = rig.version.cutoffs().iter().map(|cutoff| cutoff.before).max().unwrap_or(i64::MIN);
            for (slot, value) in &written {
                let Slot::Time(time) = slot.1 else { panic!("samples only") };
                match found.get(slot) {
                    Some(found) => {
                        assert!(found == value && !gone.contains(slot), "{at}: {slot:?} came back")
                    }
                    None => {
                        gone.insert(slot.clone());
                    }
                }
                assert!(found.contains_key(slot) || time < cut || gone.contains(slot), "{at}: {slot:?}");
            }
        }
        let status = rig.coordinator.board().read();
        assert!(status.retention_dropped_bytes_total + status.merges_total > 0, "seed {seed}");
        // No less is kept than what fits: about half of it in the worst order.
        assert!(rig.content().len() as u64 * 16 > LIMIT / 4, "seed {seed}: {} samples", rig.content().len());
        assert_eq!(check(&rig.disk.copy()).unwrap().0.damages, 0, "seed {seed}");
    }
}

#[test]
fn samples_from_the_future_do_not_keep_the_present_out() {
    // One client with a wrong unit must not make a store with a size refuse or lose what the others write.
    let disk = TestDisk::default();
    let sized = StoreOptions { retention_bytes: Some(100 << 10), ..small_options(1) };
    let mut rig = Rig::open(&disk, sized, 3).unwrap();
    for nth in 0..2000 {
        put(&mut rig, 9_000_000 * DAY_MS + nth * 7919);
    }
    flush(&mut rig);
    rig.settle();
    for nth in 0..2000 {
        put(&mut rig, 20_000 * DAY_MS + nth * 7919);
    }
    assert_eq!(times(&rig).len(), 4000);
    flush(&mut rig);
    rig.settle();
    assert_eq!(times(&rig).len(), 4000, "there is room for both");
}

#[test]
fn what_a_cut_hides_in_a_memtable_stays_hidden_when_the_tables_are_gone() {
    // A cutoff that is forgotten with the tables that it emptied would bring back what a log still holds.
    let disk = TestDisk::default();
    let sized = StoreOptions { retention_bytes: Some(20 << 10), ..small_options(2) };
    let mut rig = Rig::open(&disk, sized.clone(), 7).unwrap();
    put(&mut rig, 5);
    for day in 100..160 {
        for nth in 0..300 {
            let value = OwnedValue::F64(rig.random.next() as f64);
            rig.write(&Write::Put(b"k7".to_vec(), Slot::Time(day * DAY_MS + nth), value)).unwrap();
        }
        rig.freeze(1);
        rig.settle();
        let is_cut = rig.coordinator.board().read().retention_dropped_tables_total > 0;
        assert_eq!(times(&rig).contains(&5), !is_cut, "day {day}");
    }
    assert!(!times(&rig).contains(&5), "the oldest of all goes first");
    let disk = rig.disk.copy();
    drop(rig);
    let mut rig = Rig::open(&disk, sized, 8).unwrap();
    rig.settle();
    assert!(!times(&rig).contains(&5), "after a restart too");
}
