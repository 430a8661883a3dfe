//! Creating and opening: what is refused, what is repaired, what is left alone.

use super::rig::{Model, Rig, Write, check, small_options};
use crate::io::sys::ThreadSpawner;
use crate::io::{Files, OsFiles};
use crate::jobs::test_disk::TestDisk;
use crate::jobs::{
    Coordinator, Finding, FlushRequest, OpenError, ShardLink, StoreOptions, ToCoordinator, ToShard,
    open_store,
};
use crate::model::{EntryOp, KeyRange, Lsn, OwnedValue, Seqno, Slot, TimeUnit, Value};
use crate::storage::manifest::ManifestError;
use crate::storage::memtable::Memtable;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

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

#[test]
fn damage_anywhere_is_refused_reported_or_harmless() {
    // The worst a bad disk may do is to stop the store. It must never give other data than was written, or fewer.
    let (disk, content) = sample();
    let step = if cfg!(debug_assertions) { 97 } else { 7 };
    for path in disk.paths() {
        let bytes = disk.content(&path);
        // A fresh segment is zeros up to its end; what matters lies in its first pages.
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1).min(bytes.len());
        for offset in (0..end).step_by(step) {
            let damaged = disk.copy();
            damaged.tamper(&path, |bytes| bytes[offset] ^= 1 << (offset % 8));
            judge(&damaged, &content, &format!("{} flipped at {offset}", path.display()));
        }
        for length in [0, 1, end / 2, end.saturating_sub(1), bytes.len().saturating_sub(1)] {
            let damaged = disk.copy();
            damaged.tamper(&path, |bytes| bytes.truncate(length));
            judge(&damaged, &content, &format!("{} cut to {length}", path.display()));
        }
        let damaged = disk.copy();
        damaged.tamper(&path, |bytes| bytes.extend_from_slice(&[7; 700]));
        judge(&damaged, &content, &format!("{} with bytes behind it", path.display()));
    }
}

fn judge(disk: &TestDisk, content: &Model, context: &str) {
    let (summary, findings) = check(disk).unwrap();
    let Ok(rig) = Rig::open(disk, small_options(1), 1) else {
        assert!(summary.damages > 0, "{context}: refused, but the check saw nothing: {findings:?}");
        return;
    };
    if summary.damages > 0 {
        // A damaged block: reading it is an error of its own.
        return;
    }
    let found = rig.content();
    // The last write of a stream has no witness: damage to it looks like a write that was cut off, and is told as one.
    let torn = |finding: &Finding| matches!(finding, Finding::TornTail { .. });
    if findings.iter().any(torn) && rig.opened.torn_tails > 0 {
        assert!(found.iter().all(|(key, value)| content.get(key) == Some(value)), "{context}: other data");
        assert!(found.len() + 1 >= content.len(), "{context}: more than the last write is gone");
    } else {
        assert_eq!(found, *content, "{context}: other data, and no complaint");
    }
}

#[test]
fn real_files_and_threads_work_alike() {
    // Everything above runs on a disk in memory; this is the machine.
    let directory = tempfile::tempdir().unwrap();
    let files: Arc<dyn Files> = Arc::new(OsFiles::new(directory.path()).unwrap());
    let opened = open_store(&files, &small_options(2), std::process::id(), &|_| ()).unwrap();
    assert!(opened.recovery.created && opened.segments.len() == 2);
    let locked = open_store(&files, &small_options(2), 1, &|_| ()).map(drop).unwrap_err();
    assert!(locked.to_string().contains(&std::process::id().to_string()), "{locked}");
    let (sender, receiver) = std::sync::mpsc::channel();
    let (answers, shard_receiver) = std::sync::mpsc::channel();
    let own = Arc::new(sender.clone());
    let coordinator =
        Coordinator::new(opened.seed, Arc::new(ThreadSpawner), Arc::new(Shards(Mutex::new(answers))), own);
    let board = coordinator.board();
    let started = std::time::Duration::from_secs(20);
    let thread =
        crate::io::sys::spawn_thread("coordinator", move || coordinator.run(&receiver, &|| 0)).unwrap();
    let mut memtable = Memtable::new(7);
    memtable.insert(b"k", Slot::Time(1), Seqno(5), EntryOp::Put(Value::F64(1.5)), Lsn(0), false);
    let (keys, releases) = (KeyRange::all(), vec![opened.segments[0].seq]);
    let request = FlushRequest { shard: 0, memtable: Arc::new(memtable), keys, releases: releases.clone() };
    sender.send(ToCoordinator::Flush(request)).unwrap();
    let (shard, message) = shard_receiver.recv_timeout(started).unwrap();
    let ToShard::Version { version, flushed, retired } = message else { panic!("{message:?}") };
    assert_eq!((shard, flushed, retired), (0, vec![7], releases));
    assert_eq!(version.tables().len(), 1);
    sender.send(ToCoordinator::NeedSegment { shard: 1 }).unwrap();
    let segment = loop {
        if let (1, ToShard::SegmentReady(spec)) = shard_receiver.recv_timeout(started).unwrap() {
            break spec;
        }
    };
    assert_eq!(segment.bytes, 1 << 20);
    let (done_sender, done) = std::sync::mpsc::channel();
    let shutdown =
        ToCoordinator::Shutdown { done: Box::new(move |result| done_sender.send(result.is_ok()).unwrap()) };
    sender.send(shutdown).unwrap();
    assert!(done.recv_timeout(started).unwrap());
    thread.join().unwrap();
    assert_eq!(board.read().flushes_total, 1);
    drop(opened.lock);
    let reopened = open_store(&files, &small_options(1), 1, &|_| ()).unwrap();
    assert_eq!((reopened.version.tables().len(), reopened.seqno_start), (1, Seqno(6)));
    assert_eq!(reopened.recovery.foreign, Vec::<PathBuf>::new());
}

struct Shards(Mutex<std::sync::mpsc::Sender<(u16, ToShard)>>);
impl ShardLink for Shards {
    fn send(&self, shard: u16, message: ToShard) {
        let _ = self.0.lock().unwrap().send((shard, message));
    }
    fn shards(&self) -> usize {
        2
    }
}
