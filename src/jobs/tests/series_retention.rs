//! Retention of series: what it hides is given back to the disk, and nothing else is.

use super::rig::{Model, Rig, Write, check, small_options};
use crate::jobs::ToCoordinator;
use crate::jobs::test_disk::{Random, TestDisk};
use crate::model::{KeyRange, OwnedValue, SeriesOptions, Slot};
use crate::storage::compaction::PlanReason;
use crate::storage::series_metadata;
use std::collections::BTreeMap;

const HOUR_MS: i64 = 3_600_000;

fn keep(series: &[u8], retention: i64) -> Write {
    let options = SeriesOptions { retention: retention.unsigned_abs(), ..SeriesOptions::default() };
    Write::Put(series.to_vec(), Slot::Metadata, OwnedValue::Bytes(series_metadata::encode(&options).into()))
}

fn put(series: &[u8], time: i64) -> Write {
    // Nothing that packs well: bytes stand for samples.
    let bits = Random(time.cast_unsigned()).next() >> 12;
    let value = f64::from_bits(bits | 1023 << 52);
    Write::Put(series.to_vec(), Slot::Time(time), OwnedValue::F64(value))
}

fn compact(rig: &mut Rig) {
    assert_eq!(rig.request(|done| ToCoordinator::CompactAll { done }), Some(Ok(())));
}

/// Everything in tables, and no log left from which older things could come back.
fn flush(rig: &mut Rig) {
    (0..rig.shards.len()).for_each(|shard| rig.freeze_releasing(shard, u64::MAX));
    rig.settle();
}

/// Lets the next survey come, and finishes what it starts.
fn survey(rig: &mut Rig) {
    rig.report_horizons();
    rig.now_ns += 11_000_000_000;
    rig.settle();
}

/// What a reader is shown.
fn content(rig: &Rig, retentions: &BTreeMap<Vec<u8>, i64>) -> Model {
    let mut content = rig.content();
    trim(&mut content, retentions);
    content
}

fn table_bytes(disk: &TestDisk) -> usize {
    let tables = disk.paths().into_iter().filter(|path| path.starts_with("tables"));
    tables.map(|path| disk.content(&path).len()).sum()
}

/// Takes out of the model what the retention of its series hides: hidden once is hidden for ever.
fn trim(model: &mut Model, retentions: &BTreeMap<Vec<u8>, i64>) {
    for (series, retention) in retentions {
        let times = || model.keys().filter(|(other, _)| other == series).map(|(_, slot)| *slot);
        let newest =
            times().filter_map(|slot| if let Slot::Time(time) = slot { Some(time) } else { None }).max();
        let Some(newest) = newest else { continue };
        model.retain(|(other, slot), _| {
            other != series || !matches!(slot, Slot::Time(time) if *time < newest - retention)
        });
    }
}

#[test]
fn what_the_retention_of_series_hides_is_given_back() {
    // Retention that does not give the disk back is what users complain of most.
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, small_options(1), 1).unwrap();
    rig.write(&keep(b"k1", HOUR_MS)).unwrap();
    let times = || (0..4000).map(|nth| nth * 10_000);
    times()
        .for_each(|time| ["k1", "k2"].iter().for_each(|key| rig.write(&put(key.as_bytes(), time)).unwrap()));
    flush(&mut rig);
    survey(&mut rig);
    let status = rig.coordinator.board().read();
    assert_eq!(status.series_retention_series, 1);
    assert!(status.series_retention_hidden_bytes > 0, "{status:?}");
    let before = table_bytes(&rig.disk);
    let shown = content(&rig, &BTreeMap::from([(b"k1".to_vec(), HOUR_MS)]));
    let of = |series: &[u8]| shown.keys().filter(|(other, _)| other == series).count();
    assert_eq!((of(b"k1"), of(b"k2")), (1 + 361, 4000));
    // A part of each table is hidden, less than half: it goes when the operator asks for it.
    compact(&mut rig);
    assert_eq!(rig.content(), shown);
    let after = table_bytes(&rig.disk);
    assert!(after * 10 < before * 7, "{after} of {before} bytes are left");
    // Now nearly all of it is, and nobody asks.
    rig.write(&keep(b"k2", HOUR_MS)).unwrap();
    flush(&mut rig);
    (0..5).for_each(|_| survey(&mut rig));
    let left = table_bytes(&rig.disk);
    assert!(left * 3 < after, "{left} of {after} bytes are left");
    assert_eq!(rig.content().len(), 2 + 2 * 361);
    let status = rig.coordinator.board().read();
    assert_eq!(status.series_retention_hidden_bytes, 0);
    assert!(status.merges_by_reason[PlanReason::Trim as usize] > 0, "{status:?}");
    assert_eq!(status.merges_by_reason.iter().sum::<u64>(), status.merges_total);
    assert_eq!(check(&rig.disk.copy()).unwrap().0.damages, 0);
}

#[test]
fn a_table_that_was_trimmed_is_left_alone() {
    // Beside a series that keeps everything, one that forgets looks as if it still had what was left out of it.
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, small_options(1), 1).unwrap();
    let forgetful = ["k1", "k2", "k3", "k4"];
    forgetful.iter().for_each(|series| rig.write(&keep(series.as_bytes(), HOUR_MS)).unwrap());
    for time in (0..2000).map(|nth| nth * 20_000) {
        rig.write(&put(b"k5", time)).unwrap();
        forgetful.iter().for_each(|series| rig.write(&put(series.as_bytes(), time)).unwrap());
    }
    flush(&mut rig);
    (0..3).for_each(|_| survey(&mut rig));
    let trimmed = rig.coordinator.board().read();
    assert!(trimmed.merges_by_reason[PlanReason::Trim as usize] > 0, "{trimmed:?}");
    assert_eq!(rig.content().len(), 4 + 2000 + 4 * 181);
    for nth in 0..10 {
        rig.write(&put(b"k5", 40_000_000 + nth)).unwrap();
        flush(&mut rig);
        survey(&mut rig);
    }
    let later = rig.coordinator.board().read();
    let trims = |status: &crate::jobs::JobsStatus| status.merges_by_reason[PlanReason::Trim as usize];
    assert_eq!(trims(&later), trims(&trimmed), "{later:?}");
}

#[test]
fn a_store_whose_series_forget_behaves_like_a_sorted_map_that_does() {
    // Flushes, merges, surveys, restarts, series that are deleted and made again: what is kept is never dropped.
    for seed in 0..if cfg!(debug_assertions) { 12 } else { 100 } {
        let disk = TestDisk::default();
        let mut random = Random(seed);
        let (mut model, mut retentions) = (Model::new(), BTreeMap::new());
        let mut rig = Rig::open(&disk, small_options(2), seed).unwrap();
        let mut now = 0;
        for step in 0..600 {
            now += random.below(600_000).cast_signed();
            let series = format!("k{}", random.below(9)).into_bytes();
            let write = match random.below(60) {
                0 => {
                    retentions.remove(&series);
                    Write::DeleteSeries(series)
                }
                1..4 if !retentions.contains_key(&series) => {
                    let hours = [1, 5, 40][random.below(3) as usize];
                    retentions.insert(series.clone(), hours * HOUR_MS);
                    keep(&series, hours * HOUR_MS)
                }
                4 | 5 if retentions.contains_key(&series) => {
                    // As a shard does it: what is hidden is deleted before it could come back.
                    let old = content(&rig, &retentions).into_keys().filter(|(other, _)| *other == series);
                    let first = old.filter(|(_, slot)| matches!(slot, Slot::Time(_))).min();
                    if let Some((_, Slot::Time(first))) = first {
                        rig.write(&Write::DeleteTimes(series.clone(), i64::MIN, first - 1)).unwrap();
                    }
                    let hours = [2, 20, 100][random.below(3) as usize];
                    retentions.insert(series.clone(), hours * HOUR_MS);
                    keep(&series, hours * HOUR_MS)
                }
                6..12 => put(&series, now - random.below(72 * HOUR_MS.unsigned_abs()).cast_signed()),
                _ => put(&series, now),
            };
            rig.write(&write).unwrap();
            write.apply(&mut model, &KeyRange::all());
            trim(&mut model, &retentions);
            match random.below(40) {
                0 => {
                    let shard = random.below(rig.shards.len() as u64) as usize;
                    rig.freeze(shard);
                }
                1..3 => survey(&mut rig),
                3 if step % 3 == 0 => compact(&mut rig),
                4 if step % 5 == 0 => {
                    let copy = rig.disk.copy();
                    drop(rig);
                    rig = Rig::open(&copy, small_options(random.below(3) as usize + 1), seed).unwrap();
                }
                5..20 => drop(rig.step()),
                _ => {}
            }
            if step % 10 == 0 {
                assert_eq!(content(&rig, &retentions), model, "seed {seed}, step {step}");
            }
        }
        flush(&mut rig);
        compact(&mut rig);
        assert_eq!(rig.content(), model, "seed {seed}: a merge leaves what is hidden");
        assert_eq!(check(&rig.disk.copy()).unwrap().0.damages, 0, "seed {seed}");
    }
}
