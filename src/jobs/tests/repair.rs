//! Repair: what is served afterwards is what the account said, nothing is deleted, and a cut loses nothing more.

use super::rig::{Model, Rig, Write, check, check_files, small_options};
use crate::io::Files;
use crate::io::sim::{Crash, SimWorld};
use crate::jobs::test_disk::{Random, TestDisk};
use crate::jobs::{OpenError, RepairOptions, RepairReport, RepairStep, ToCoordinator, repair_store};
use crate::model::{KeyRange, OwnedValue, Slot, TimeUnit};
use crate::storage::manifest::names::{CURRENT, parse_quarantine};
use crate::storage::wal::SegmentHeader;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Frames of one page, header and seal apart, in a segment of 256 pages.
const FIRST_SEGMENT_FRAMES: usize = 254;
/// Keys of shard 1 of two; shard 0 owns those below.
const SPLIT: &[u8] = b"k5";

fn put(series: &str, time: i64, value: f64) -> Write {
    Write::Put(series.into(), Slot::Time(time), OwnedValue::F64(value))
}

fn repair(files: &Arc<dyn Files>, apply: bool) -> Result<RepairReport, OpenError> {
    let options = RepairOptions { apply, time_unit: None, memory_bytes: 16 << 10, bloom_bits: 10 };
    repair_store(files, &options, 7)
}

fn story(report: &RepairReport) -> String {
    report.steps.iter().map(|step| format!("{step}\n")).collect()
}

/// Repairs, and checks what must hold whatever was damaged: saying it changes nothing, doing it leaves a sound store,
/// no byte of a damaged file is gone.
fn repair_fully(disk: &TestDisk, context: &str) -> (RepairReport, Model) {
    let before = contents(disk);
    let said = repair(&disk.files(), false).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(!said.applied && !said.steps.is_empty(), "{context}: damage was not seen");
    assert_eq!(contents(disk), before, "{context}: saying what would be done changed something");
    let done = repair(&disk.files(), true).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(done.applied, "{context}");
    assert_eq!(story(&said), story(&done), "{context}: done is not what was said");
    for step in &done.steps {
        if let RepairStep::SetAside { file, to } = step {
            assert_eq!(disk.content(to), before[file], "{context}: {} is not what was there", to.display());
        }
    }
    let (summary, findings) = check(disk).unwrap();
    assert_eq!(summary.damages, 0, "{context}: {findings:?}\n{}", story(&done));
    let again = repair(&disk.files(), true).unwrap();
    assert!(again.steps.is_empty() && !again.applied, "{context}: twice: {}", story(&again));
    let rig = Rig::open(disk, small_options(1), 1)
        .unwrap_or_else(|error| panic!("{context}: does not open: {error}\n{}", story(&done)));
    let content = rig.content();
    drop(rig);
    for step in &done.steps {
        if let RepairStep::SetAside { to, .. } = step {
            assert!(disk.paths().contains(to), "{context}: the open removed {}", to.display());
        }
    }
    (done, content)
}

/// All files but the lock, which every tool takes.
fn contents(disk: &TestDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = disk.paths().into_iter().filter(|path| path != Path::new("LOCK"));
    paths.map(|path| (path.clone(), disk.content(&path))).collect()
}

fn files_in(disk: &TestDisk, directory: &str) -> Vec<PathBuf> {
    let inside = |path: &PathBuf| path.starts_with(directory) && parse_quarantine(path).is_none();
    disk.paths().into_iter().filter(inside).collect()
}

fn flip(disk: &TestDisk, path: &Path, offset: usize) {
    disk.tamper(path, |bytes| bytes[offset] ^= 0x10);
}

/// Removes what the manifest does not name, so that it cannot be mistaken for something.
fn tidy(disk: &TestDisk) {
    for finding in check(disk).unwrap().1 {
        if let crate::jobs::Finding::Unnamed { file } = finding {
            disk.steal(file);
        }
    }
}

/// Two shards that log writes of their own and flush nothing; each write is one frame of one record.
fn logged() -> (TestDisk, [Vec<Write>; 2]) {
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, small_options(2), 1).unwrap();
    let mut history = [Vec::new(), Vec::new()];
    for index in 0..700 {
        let shard = index as usize % 2;
        let series = format!("k{}", if shard == 0 { index % 5 } else { 5 + index % 5 });
        let write = match index % 23 {
            22 => Write::DeleteTimes(series.into(), index - 60, index - 30),
            21 => Write::DeleteSlot(series.into(), Slot::Time(index - 10)),
            _ => put(&series, index / 3, index as f64),
        };
        rig.write(&write).unwrap();
        history[shard].push(write);
    }
    let disk = disk.copy();
    tidy(&disk);
    (disk, history)
}

fn shard_keys(shard: usize) -> KeyRange {
    match shard {
        0 => KeyRange { start: Box::default(), end: Some(SPLIT.into()) },
        _ => KeyRange { start: SPLIT.into(), end: None },
    }
}

/// The state after the first `counts` writes of each shard.
fn prefix(history: &[Vec<Write>; 2], counts: [usize; 2]) -> Model {
    let mut model = Model::new();
    for (shard, count) in counts.into_iter().enumerate() {
        history[shard][..count].iter().for_each(|write| write.apply(&mut model, &shard_keys(shard)));
    }
    model
}

/// How many writes of each shard come before `page` of a segment, told by where it stands in its stream.
fn before_page(disk: &TestDisk, segment: &Path, page: usize) -> [usize; 2] {
    let header = SegmentHeader::decode(&disk.content(segment)).unwrap().header;
    let earlier = if header.previous.is_some() { FIRST_SEGMENT_FRAMES } else { 0 };
    let mut counts = [350, 350];
    counts[usize::from(header.stream.0)] = earlier + page - 1;
    counts
}

#[test]
fn a_sound_store_is_left_alone() {
    // A repair that "improves" a sound store is a way to lose data.
    let (disk, history) = logged();
    let before = contents(&disk);
    let report = repair(&disk.files(), true).unwrap();
    assert!(report.steps.is_empty() && !report.applied, "{}", story(&report));
    assert_eq!(contents(&disk), before);
    let rig = Rig::open(&disk, small_options(1), 1).unwrap();
    assert_eq!(rig.content(), prefix(&history, [350, 350]));
    drop(rig);
    // Nor is a torn tail damage: the last frame was never acknowledged.
    let (disk, _) = logged();
    let used =
        |path: &PathBuf| disk.content(path).chunks(4096).rposition(|page| page.iter().any(|byte| *byte != 0));
    let (segment, last) = files_in(&disk, "wal")
        .into_iter()
        .rev()
        .find_map(|path| Some((used(&path)?, path)))
        .map(|(page, path)| (path, page))
        .unwrap();
    disk.tamper(&segment, |bytes| bytes[last * 4096..(last + 1) * 4096].fill(0));
    assert!(repair(&disk.files(), false).unwrap().steps.is_empty());
}

#[test]
fn a_damaged_stream_keeps_its_prefix_and_the_others_keep_all() {
    // Keeping less loses data, keeping more shows later writes without the earlier ones that they depend on.
    let (disk, history) = logged();
    let mut cuts = 0;
    for segment in files_in(&disk, "wal") {
        let pages = disk.content(&segment).len() / 4096;
        for page in (0..pages).step_by(if cfg!(debug_assertions) { 37 } else { 5 }) {
            for offset in [0, 8, 70] {
                let copy = disk.copy();
                flip(&copy, &segment, page * 4096 + offset);
                let context = format!("{} page {page} offset {offset}", segment.display());
                if check(&copy).unwrap().0.damages == 0 {
                    // Nothing durable was hit: an unused page, or padding.
                    assert!(repair(&copy.files(), true).unwrap().steps.is_empty(), "{context}");
                    continue;
                }
                let (report, content) = repair_fully(&copy, &context);
                // A header page holds no record; of any other page the frames before it are kept.
                let counts = if page == 0 { [350, 350] } else { before_page(&disk, &segment, page) };
                assert_eq!(content, prefix(&history, counts), "{context}\n{}", story(&report));
                cuts += usize::from(page > 0);
            }
        }
    }
    assert!(cuts > 20, "too few damaged frames to mean anything: {cuts}");
}

#[test]
fn a_missing_or_cut_segment_ends_its_stream_alone() {
    // Writes of other cores have nothing to do with it.
    let (disk, history) = logged();
    for segment in files_in(&disk, "wal") {
        let copy = disk.copy();
        copy.steal(&segment);
        let (report, content) = repair_fully(&copy, &format!("{} missing", segment.display()));
        let ends = |at: usize| [[at, 350], [350, at]].map(|counts| prefix(&history, counts));
        // Of one that was never used nothing is lost; behind a full one 96 writes are.
        let shown = [ends(0), ends(FIRST_SEGMENT_FRAMES), ends(350)].concat();
        assert!(shown.contains(&content), "{}", story(&report));
        let copy = disk.copy();
        copy.tamper(&segment, |bytes| bytes.truncate(10 * 4096));
        let (report, content) = repair_fully(&copy, &format!("{} cut", segment.display()));
        let shown = [ends(9), ends(FIRST_SEGMENT_FRAMES + 9), ends(350)].concat();
        assert!(shown.contains(&content), "{}\n{content:?}", story(&report));
    }
}

/// A store whose data is all in tables, each key and time written once.
fn tabled() -> (TestDisk, Model) {
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, small_options(2), 1).unwrap();
    let mut random = Random(1);
    for index in 0..24_000i64 {
        let value = f64::from_bits(random.next() >> 2);
        rig.write(&put(&format!("k{}", index % 10), index * 86_400, value)).unwrap();
        if index % 1000 == 999 {
            assert_eq!(rig.request(|done| ToCoordinator::FlushAll { done }), Some(Ok(())));
        }
    }
    let content = rig.content();
    let disk = disk.copy();
    tidy(&disk);
    (disk, content)
}

#[test]
fn of_a_damaged_table_every_sound_block_is_kept() {
    // One bad sector must not cost a table, and what it costs must be said to the entry.
    let (disk, full) = tabled();
    let tables = files_in(&disk, "tables");
    assert!(tables.len() >= 4, "{tables:?}");
    let (mut partly, mut wholly) = (0, 0);
    for table in &tables[..2] {
        let bytes = disk.content(table).len();
        for offset in
            (0..bytes).step_by(bytes / if cfg!(debug_assertions) { 12 } else { 200 }).chain([bytes - 20])
        {
            let copy = disk.copy();
            flip(&copy, table, offset);
            let context = format!("{} at {offset} of {bytes}", table.display());
            let (report, content) = repair_fully(&copy, &context);
            let missing: Vec<_> = full.keys().filter(|key| !content.contains_key(*key)).collect();
            assert!(content.iter().all(|(key, value)| full[key] == *value), "{context}");
            let lost: u64 = report
                .steps
                .iter()
                .map(|step| match step {
                    RepairStep::Table(plan) => plan.entries_lost.unwrap(),
                    _ => 0,
                })
                .sum();
            assert_eq!(missing.len() as u64, lost, "{context}\n{}", story(&report));
            for step in &report.steps {
                let RepairStep::Block(loss) = step else { continue };
                let Some((first, last)) = &loss.keys else { continue };
                let inside = |(series, slot): &&(Vec<u8>, Slot)| {
                    (&*first.0, first.1) <= (&**series, *slot) && (&**series, *slot) <= (&*last.0, last.1)
                };
                assert_eq!(missing.iter().filter(|key| inside(key)).count(), missing.len(), "{context}");
            }
            partly += usize::from(lost > 0);
            wholly += usize::from(lost == 0);
        }
    }
    assert!(partly > 5 && wholly > 0, "{partly} {wholly}");
}

#[test]
fn a_table_without_index_is_walked_block_by_block() {
    // The index is small and everything hangs on it; blocks are told by their own checksums.
    let (disk, full) = tabled();
    let tables = files_in(&disk, "tables");
    // The log still holds what went into the newest ones.
    for table in &tables[..tables.len() - 2] {
        // The last fifth is gone, index and footer with it.
        let copy = disk.copy();
        copy.tamper(table, |bytes| bytes.truncate(bytes.len() / 5 * 4));
        let (report, content) = repair_fully(&copy, &format!("{} cut", table.display()));
        let kept: u64 = report
            .steps
            .iter()
            .map(|step| match step {
                RepairStep::Table(plan) => plan.kept.count,
                _ => 0,
            })
            .sum();
        let lost: u64 = report
            .steps
            .iter()
            .map(|step| match step {
                RepairStep::Table(plan) => plan.entries_lost.unwrap(),
                _ => 0,
            })
            .sum();
        assert!(lost > 0 && content.len() as u64 + lost == full.len() as u64, "{}", story(&report));
        assert!(content.iter().all(|(key, value)| full[key] == *value));
        assert!(kept > 0, "{}", story(&report));
        // The footer alone.
        let copy = disk.copy();
        copy.tamper(table, |bytes| bytes.truncate(bytes.len() - 1));
        assert_eq!(repair_fully(&copy, "no footer").1, full);
        // The file is not there.
        let copy = disk.copy();
        copy.steal(table);
        let (report, content) = repair_fully(&copy, "no file");
        assert!(content.len() < full.len() && story(&report).contains("(no file)"), "{}", story(&report));
    }
}

#[test]
fn swapped_tables_are_found_where_they_lie() {
    // A restore that mixed up two names has lost nothing.
    let (disk, full) = tabled();
    let tables = files_in(&disk, "tables");
    let (first, second) = (disk.content(&tables[0]), disk.content(&tables[1]));
    disk.tamper(&tables[0], |bytes| *bytes = second);
    disk.tamper(&tables[1], |bytes| *bytes = first);
    let (report, content) = repair_fully(&disk, "swapped");
    assert_eq!(content, full, "{}", story(&report));
}

/// Tables and a log, with deletes of all kinds, overwritten values, and a merge.
fn mixed(shards: usize) -> (TestDisk, Model) {
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, small_options(shards), 3).unwrap();
    let mut random = Random(5);
    for round in 0..6 {
        for _ in 0..80 {
            rig.write(&super::rig::random_write(&mut random)).unwrap();
        }
        if round < 5 {
            assert_eq!(rig.request(|done| ToCoordinator::FlushAll { done }), Some(Ok(())));
        }
        if round == 2 {
            rig.request(|done| ToCoordinator::CompactAll { done });
        }
    }
    let content = rig.content();
    let disk = disk.copy();
    tidy(&disk);
    (disk, content)
}

#[test]
fn a_lost_manifest_is_put_together_from_the_files() {
    // CURRENT and the manifest are a few kilobytes; without them every byte of data would be out of reach.
    for shards in [1, 2] {
        let (disk, full) = mixed(shards);
        let manifest = files_in(&disk, "manifest").pop().unwrap();
        let bytes = disk.content(&manifest).len();
        let mut cases: Vec<(String, TestDisk)> = Vec::new();
        let mut case = |name: String, change: &dyn Fn(&TestDisk)| {
            let copy = disk.copy();
            change(&copy);
            cases.push((name, copy));
        };
        case("no CURRENT".into(), &|disk| disk.steal(CURRENT));
        case("CURRENT damaged".into(), &|disk| flip(disk, Path::new(CURRENT), 20));
        case("CURRENT empty".into(), &|disk| disk.tamper(Path::new(CURRENT), Vec::clear));
        case("no manifest".into(), &|disk| disk.steal(&manifest));
        case("neither".into(), &|disk| {
            disk.steal(&manifest);
            disk.steal(CURRENT);
        });
        for offset in (0..bytes).step_by(bytes / if cfg!(debug_assertions) { 14 } else { 300 }) {
            case(format!("manifest at {offset} of {bytes}"), &|disk| flip(disk, &manifest, offset));
        }
        for (name, disk) in cases {
            if check(&disk).is_ok_and(|(summary, _)| summary.damages == 0) {
                continue; // A mark at the end.
            }
            let (report, content) = repair_fully(&disk, &name);
            assert_eq!(content, full, "{shards} shards, {name}\n{}", story(&report));
        }
    }
}

#[test]
fn an_older_copy_of_the_manifest_is_not_believed() {
    // Restored from a backup, it would hide every table and segment made since.
    let disk = TestDisk::default();
    let mut rig = Rig::open(&disk, small_options(1), 1).unwrap();
    let manifest = files_in(&disk, "manifest").pop().unwrap();
    let old = disk.content(&manifest);
    for index in 0..600 {
        rig.write(&put("k1", index, 1.0)).unwrap();
    }
    let full = rig.content();
    let disk = disk.copy();
    tidy(&disk);
    disk.tamper(&manifest, |bytes| *bytes = old);
    assert!(check(&disk).unwrap().0.damages > 0, "the check must see what the open refuses");
    let (report, content) = repair_fully(&disk, "older manifest");
    assert_eq!(content, full, "{}", story(&report));
}

#[test]
fn the_unit_is_told_by_spans_or_by_the_operator() {
    // A store that comes back with another unit shows every sample at a wrong time, and expires it.
    let lose_manifest = |disk: &TestDisk| files_in(disk, "manifest").iter().for_each(|path| disk.steal(path));
    let (disk, full) = tabled();
    lose_manifest(&disk);
    assert_eq!(repair_fully(&disk, "spans").1, full);
    let (disk, history) = logged();
    lose_manifest(&disk);
    let refused = repair(&disk.files(), true).unwrap_err();
    assert!(refused.to_string().contains("--time-unit"), "{refused}");
    let unit = Some(TimeUnit::Milliseconds);
    let options = RepairOptions { apply: true, time_unit: unit, memory_bytes: 1 << 20, bloom_bits: 10 };
    assert!(repair_store(&disk.files(), &options, 7).unwrap().applied);
    assert_eq!(Rig::open(&disk, small_options(1), 1).unwrap().content(), prefix(&history, [350, 350]));
}

#[test]
fn what_was_set_aside_is_never_overwritten_and_foreign_files_stay() {
    // The damaged file is the last witness of what is lost.
    let (disk, full) = mixed(1);
    disk.plant("notes.txt", b"mine");
    disk.plant("tables/backup.sst", b"mine too");
    let mut seen = Vec::new();
    for round in 0..3u8 {
        disk.tamper(Path::new(CURRENT), |bytes| bytes[20] ^= 1 << round);
        seen.push(disk.content(Path::new(CURRENT)));
        let (_, content) = repair_fully(&disk, "CURRENT again");
        assert_eq!(content, full);
    }
    for (number, bytes) in ["", ".2", ".3"].iter().zip(seen) {
        assert_eq!(disk.content(Path::new(&format!("CURRENT.quarantine{number}"))), bytes);
    }
    assert_eq!(disk.content(Path::new("notes.txt")), b"mine");
    assert_eq!(disk.content(Path::new("tables/backup.sst")), b"mine too");
}

#[test]
fn a_store_in_use_or_not_there_is_refused() {
    // Two writers on one directory are the end of it; an empty directory is no store to be made up.
    let (disk, _) = mixed(1);
    let rig = Rig::open(&disk, small_options(1), 1).unwrap();
    assert!(matches!(repair(&disk.files(), true), Err(OpenError::Locked { .. })));
    drop(rig);
    assert!(repair(&TestDisk::default().files(), true).is_err());
}

fn world_of(disk: &TestDisk, seed: u64) -> SimWorld {
    let world = SimWorld::from_seed(seed);
    world.with_disk(|planted| {
        for directory in ["manifest", "tables", "wal"] {
            planted.create_dir(Path::new(directory)).unwrap();
        }
        planted.sync_dir(Path::new("")).unwrap();
        for (path, bytes) in contents(disk) {
            planted.plant_file(&path, &bytes).unwrap();
        }
    });
    world
}

#[test]
fn a_power_cut_at_any_step_of_a_repair_loses_nothing_more() {
    // Whoever repairs has one copy left; a cut in the middle must not take what the repair had not moved yet.
    let (disk, _) = mixed(2);
    let manifest = files_in(&disk, "manifest").pop().unwrap();
    let tables = files_in(&disk, "tables");
    let biggest = tables.iter().max_by_key(|path| disk.content(path).len()).unwrap();
    let segment = &files_in(&disk, "wal")[0];
    type Damage<'a> = (&'static str, &'a dyn Fn(&TestDisk));
    let damages: [Damage<'_>; 4] = [
        ("table and log", &|disk| {
            flip(disk, biggest, 100);
            flip(disk, segment, 3 * 4096 + 70);
        }),
        ("manifest and table", &|disk| {
            flip(disk, &manifest, 60);
            flip(disk, biggest, 100);
        }),
        ("manifest, CURRENT and log", &|disk| {
            flip(disk, &manifest, 60);
            flip(disk, Path::new(CURRENT), 20);
            flip(disk, segment, 3 * 4096 + 70);
        }),
        ("a table without a footer", &|disk| disk.tamper(biggest, |bytes| bytes.truncate(bytes.len() - 5))),
    ];
    for (name, damage) in damages {
        let damaged = disk.copy();
        damage(&damaged);
        let expected = repair_fully(&damaged.copy(), name).1;
        let mut cuts = 0;
        for seed in 0..if cfg!(debug_assertions) { 1 } else { 4 } {
            let mut operations = 1 + seed;
            loop {
                let context = format!("{name}, cut at operation {operations}, seed {seed}");
                let world = world_of(&damaged, seed << 32 | operations);
                world.cut_after(operations);
                let whole = repair(&world.files(), true).is_ok() && world.is_up();
                world.crash(Crash::PowerCut);
                world.restart();
                let report =
                    repair(&world.files(), true).unwrap_or_else(|error| panic!("{context}: {error}"));
                assert!(!whole || report.steps.is_empty(), "{context}: a whole repair was forgotten");
                let (summary, findings) = check_files(&*world.files()).unwrap();
                assert_eq!(summary.damages, 0, "{context}: {findings:?}");
                let rig = Rig::open_files(world.files(), small_options(1), 1);
                let rig = rig.unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(rig.content(), expected, "{context}\n{}", story(&report));
                if whole {
                    break;
                }
                cuts += 1;
                operations += if cfg!(debug_assertions) { 7 } else { 1 };
            }
        }
        assert!(cuts > 5, "{name}: only {cuts} cuts");
    }
}
