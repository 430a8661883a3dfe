//! Creating and opening: what is refused, what is repaired, what is left alone.

use super::rig::{Model, Rig, Write, check, small_options};
use crate::jobs::test_disk::TestDisk;
use crate::jobs::{Finding, OpenError, StoreOptions, ToCoordinator, open_store};
use crate::model::{OwnedValue, Slot, TimeUnit};
use crate::storage::manifest::ManifestError;
use std::path::{Path, PathBuf};

fn put(key: &str, time: i64, value: f64) -> Write {
    Write::Put(key.into(), Slot::Time(time), OwnedValue::F64(value))
}

fn try_open(disk: &TestDisk, options: &StoreOptions) -> Result<(), OpenError> {
    open_store(&disk.files(), options, 42, &|_| ()).map(drop)
}

/// A store with something in tables and something in the log, closed like a killed process leaves it.
fn sample() -> (TestDisk, Model) {
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, small_options(2), 1).unwrap();
    for index in 0..300 {
        rig.write(&put(&format!("k{}", index % 10), index * 1000, index as f64)).unwrap();
    }
    assert_eq!(rig.request(|done| ToCoordinator::FlushAll { done }), Some(Ok(())));
    for index in 0..20 {
        rig.write(&put(&format!("k{}", index % 10), -1 - index, 0.5)).unwrap();
    }
    let content = rig.content();
    assert_eq!(content.len(), 320);
    let disk = disk.copy();
    // Segments kept for use anew are nobody's: whether they are there makes no difference.
    for finding in check(&disk).unwrap().1 {
        let Finding::Unnamed { file } = finding else { panic!("{finding}") };
        disk.steal(file);
    }
    (disk, content)
}

#[test]
fn a_creation_that_dies_anywhere_leaves_no_store_or_a_good_one() {
    // Half a store would refuse to open for ever, or hide that it is empty.
    for calls in 1.. {
        let disk = TestDisk::default();
        disk.die_after(calls);
        let created = try_open(&disk, &small_options(2)).is_ok();
        for seed in 0..8 {
            let rest = disk.after_crash(seed);
            let reopened = Rig::open(&rest, small_options(2), 1);
            let rig = reopened.unwrap_or_else(|error| panic!("call {calls}, seed {seed}: {error}"));
            assert!(!(created && rig.opened.created), "call {calls}: a durable creation was forgotten");
            assert_eq!(rig.content(), Model::new());
        }
        if !disk.is_dead() {
            return;
        }
    }
}

#[test]
fn reopening_gives_back_what_was_logged_and_flushed() {
    // The plainest promise of all.
    let (disk, content) = sample();
    for shards in [2, 1, 3] {
        let rig = Rig::open(&disk, small_options(shards), 1).unwrap();
        assert_eq!(rig.content(), content, "{shards} shards");
        drop(rig);
        let (summary, findings) = check(&disk).unwrap();
        assert_eq!(summary.damages, 0, "{findings:?}");
        assert_eq!(summary.records, 0, "the log is in tables after an open");
    }
}

#[test]
fn a_second_daemon_is_refused_and_told_who_has_the_store() {
    // Two writers would overwrite each other's log.
    let disk = TestDisk::default();
    let first = Rig::open(&disk, small_options(1), 1).unwrap();
    let error = try_open(&disk, &small_options(1)).unwrap_err();
    assert!(matches!(error, OpenError::Locked { pid: Some(42) }), "{error}");
    assert!(error.to_string().contains("42"));
    assert!(matches!(check(&disk), Err(OpenError::Locked { .. })));
    drop(first);
    try_open(&disk, &small_options(1)).unwrap();
}

#[test]
fn lost_files_are_named_and_nothing_is_created_over_data() {
    // An empty store where there was a full one looks like success to everything downstream.
    let (disk, _) = sample();
    for path in disk.paths() {
        if path == Path::new("LOCK") || path == Path::new("ballast") {
            continue;
        }
        let disk = disk.copy();
        disk.steal(&path);
        let before = disk.paths();
        let error = try_open(&disk, &small_options(2)).expect_err(&path.display().to_string());
        assert!(error.is_damage(), "{}: {error}", path.display());
        match error {
            OpenError::FileMissing { ref file, .. } => assert_eq!(*file, path),
            OpenError::CurrentMissing { .. } => assert_eq!(path, Path::new("CURRENT")),
            other => panic!("{}: {other}", path.display()),
        }
        assert_eq!(disk.paths(), before, "a refused open leaves the directory as it was");
        let (summary, _) = check(&disk).unwrap();
        assert!(summary.damages > 0);
    }
}

#[test]
fn whatever_stands_in_a_files_place_is_refused() {
    // A symlink or fifo there is a mistake or an attack; following it reads or hangs somewhere else.
    let (disk, _) = sample();
    for path in disk.paths() {
        if path == Path::new("ballast") {
            continue;
        }
        for directory in [false, true] {
            let disk = disk.copy();
            disk.plant_other(&path, directory);
            let error = try_open(&disk, &small_options(2)).expect_err(&path.display().to_string());
            assert!(matches!(error, OpenError::WrongKind { .. }), "{}: {error}", path.display());
        }
    }
    for directory in ["wal", "tables", "manifest"] {
        let disk = disk.copy();
        disk.plant(directory, b"");
        assert!(matches!(try_open(&disk, &small_options(2)), Err(OpenError::WrongKind { .. })));
    }
}

#[test]
fn foreign_files_stay_and_unnamed_files_of_ours_go() {
    // Deleting what is not ours is unforgivable; keeping what nobody names fills the disk.
    let (disk, content) = sample();
    let foreign =
        [".swp", "tables/notes.txt", "wal/00000000000000aa.wal.tmp", "tables/1.sst", "manifest/M-1.log"];
    foreign.iter().for_each(|path| disk.plant(path, b"mine"));
    disk.plant_other("lost+found", true);
    let ours = ["tables/0000000000000fff.sst", "wal/0000000000000fff.wal"];
    ours.iter().for_each(|path| disk.plant(path, &[0; 5000]));
    let rig = Rig::open(&disk, small_options(2), 1).unwrap();
    assert_eq!(rig.content(), content);
    let mut named = rig.opened.foreign.clone();
    named.sort();
    let mut expected: Vec<PathBuf> = foreign.iter().chain(["lost+found"].iter()).map(PathBuf::from).collect();
    expected.sort();
    assert_eq!(named, expected);
    assert_eq!(rig.opened.collected, ours.map(PathBuf::from));
    let paths = disk.paths();
    assert!(foreign.iter().all(|path| paths.contains(&PathBuf::from(path))));
    assert!(!ours.iter().any(|path| paths.contains(&PathBuf::from(path))));
}

#[test]
fn files_of_another_store_are_neither_used_nor_removed() {
    // A copy that went to the wrong directory must not vanish, nor its data appear here.
    let (disk, content) = sample();
    let other = TestDisk::default();
    let options = StoreOptions { entropy: [9; 16], ..small_options(1) };
    let mut rig = Rig::open(&other, options.clone(), 1).unwrap();
    rig.write(&put("other", 1, 1.0)).unwrap();
    assert_eq!(rig.request(|done| ToCoordinator::FlushAll { done }), Some(Ok(())));
    rig.write(&put("other", 2, 1.0)).unwrap();
    let is = |kind: &'static str| move |path: &PathBuf| path.extension().is_some_and(|ending| ending == kind);
    let table = other.paths().into_iter().find(is("sst")).unwrap();
    let segment =
        other.paths().into_iter().filter(is("wal")).find(|path| other.content(path)[0] != 0).unwrap();
    disk.plant("tables/0000000000000abc.sst", &other.content(&table));
    disk.plant("wal/0000000000000abc.wal", &other.content(&segment));
    let rig = Rig::open(&disk, small_options(2), 1).unwrap();
    assert_eq!(rig.content(), content);
    assert_eq!(rig.opened.foreign.len(), 2);
    drop(rig);
    // In the place of a file of this store it is damage.
    let ours = disk.paths().into_iter().find(is("sst")).unwrap();
    disk.plant(&ours, &other.content(&table));
    assert!(try_open(&disk, &small_options(2)).unwrap_err().is_damage());
}

#[test]
fn a_manifest_of_long_ago_is_refused() {
    // Opening it would silently forget everything since, and collect the files that hold it.
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, small_options(1), 1).unwrap();
    let manifest = disk.paths().into_iter().find(|path| path.starts_with("manifest")).unwrap();
    let old = disk.content(&manifest);
    rig.write(&put("a", 1, 1.0)).unwrap();
    rig.settle();
    rig.freeze(0);
    rig.write(&put("a", 2, 1.0)).unwrap();
    let disk = disk.copy();
    disk.tamper(&manifest, |bytes| *bytes = old.clone());
    let before = disk.paths();
    let error = try_open(&disk, &small_options(1)).unwrap_err();
    assert!(error.is_damage(), "{error}");
    assert_eq!(disk.paths(), before);
}

#[test]
fn the_time_unit_is_fixed_at_creation() {
    // Another unit would move every sample in time.
    let disk = TestDisk::default();
    let asked = |unit| StoreOptions { time_unit: Some(unit), ..small_options(1) };
    try_open(&disk, &asked(TimeUnit::Nanoseconds)).unwrap();
    let error = try_open(&disk, &asked(TimeUnit::Milliseconds)).unwrap_err();
    assert_eq!(error.to_string(), "the store's time unit is ns, fixed when it was created; ms was asked for");
    let opened = open_store(&disk.files(), &small_options(1), 1, &|_| ()).unwrap();
    assert_eq!(opened.unit, TimeUnit::Nanoseconds);
}

#[test]
fn a_store_of_a_newer_version_is_called_that() {
    // Calling it damaged would make the operator repair it.
    let (disk, _) = sample();
    let newer = disk.copy();
    newer.tamper(Path::new("CURRENT"), |bytes| bytes[8] = 2);
    let error = try_open(&newer, &small_options(2)).unwrap_err();
    assert!(
        matches!(error, OpenError::Manifest(ManifestError::VersionUnsupported { .. })) && !error.is_damage()
    );
    let manifest = disk.paths().into_iter().find(|path| path.starts_with("manifest")).unwrap();
    disk.tamper(&manifest, |bytes| bytes[12] = 1);
    let error = try_open(&disk, &small_options(2)).unwrap_err();
    assert!(matches!(error, OpenError::Manifest(ManifestError::FeaturesUnsupported { .. })));
}

#[test]
fn a_full_disk_at_start_is_a_clear_error_and_heals() {
    // A half-done open must not cost anything.
    let (disk, content) = sample();
    let full = disk.copy();
    full.set_space(Some(10_000));
    let error = try_open(&full, &small_options(2)).unwrap_err();
    assert!(error.is_out_of_space(), "{error}");
    full.set_space(None);
    assert_eq!(Rig::open(&full, small_options(2), 1).unwrap().content(), content);
    let fresh = TestDisk::default();
    fresh.set_space(Some(100));
    assert!(try_open(&fresh, &small_options(2)).unwrap_err().is_out_of_space());
    fresh.set_space(None);
    try_open(&fresh, &small_options(2)).unwrap();
}

#[test]
fn shards_are_even_after_a_restart_with_another_number() {
    // All data on one core is what more cores were bought against.
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, small_options(1), 1).unwrap();
    for index in 0..2000 {
        rig.write(&put(&format!("series-{:03}", index % 200), index * 1000, 1.0)).unwrap();
    }
    drop(rig);
    let rig = Rig::open(&disk, small_options(4), 1).unwrap();
    let content = rig.content();
    for shard in 0..4 {
        let keys = rig.keys_of(shard);
        let held = content.keys().filter(|(series, _)| keys.contains(series)).count();
        assert!(held >= 400, "shard {shard} holds {held} of 2000");
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    // Better a sentence now than a panic later.
    let disk = TestDisk::default();
    let bad = [
        StoreOptions { shards: 0, ..small_options(1) },
        StoreOptions { shards: 1000, ..small_options(1) },
        StoreOptions { wal_segment_bytes: 5000, ..small_options(1) },
        StoreOptions { split_at: Some(Vec::new()), ..small_options(2) },
        StoreOptions { split_at: Some(vec![b"b"[..].into(), b"a"[..].into()]), ..small_options(3) },
    ];
    for options in bad {
        assert!(matches!(try_open(&disk, &options), Err(OpenError::OptionsInvalid { .. })));
    }
    assert!(disk.files().list(Path::new("")).unwrap().is_empty());
}
