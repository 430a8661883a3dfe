//! Merges against a model that knows every write: nothing visible may change, whatever is merged, whatever comes back.

use super::*;
use crate::model::{DeleteScope, EntryOp, OwnedValue, Slot, StoreId, TableId};
use crate::storage::compaction::{Flush, FlushOptions, cover_spans};
use crate::storage::retention::Retention;
use crate::storage::sstable::Effort;
use crate::storage::sstable::tests::Dice;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const STORE: StoreId = StoreId([9; 16]);
const BASE: i64 = 4;
const SERIES: [&[u8]; 5] = [b"a", b"ab", b"b", b"ba", b"c"];

#[derive(Clone, Debug, PartialEq)]
enum Write {
    Entry { series: &'static [u8], slot: Slot, seqno: u64, value: Option<OwnedValue> },
    Delete(RangeDelete),
}

impl Write {
    fn seqno(&self) -> u64 {
        match self {
            Self::Entry { seqno, .. } => *seqno,
            Self::Delete(delete) => delete.seqno.0,
        }
    }
}

/// A table file, and a reference to it.
#[derive(Clone)]
struct Stored {
    file: Arc<Vec<u8>>,
    index: Arc<TableIndex>,
    meta: TableMeta,
}

impl Stored {
    fn open(file: Vec<u8>) -> Self {
        let (index, meta) = TableIndex::load(Path::new("t"), STORE, &mut file.as_slice()).unwrap();
        Self { file: Arc::new(file), index: Arc::new(index), meta }
    }
    fn boxed(&self) -> Box<dyn TableInput> {
        Box::new(self.clone())
    }
    /// All writes in it that its visible keys let through.
    fn writes(&self) -> Vec<Write> {
        let mut writes = Vec::new();
        for number in 0..self.index.block_count() {
            let block = self.clone().read_block(number).unwrap();
            for chunk in 0..block.chunk_count() {
                let header = block.chunk(chunk);
                let Some(series) = SERIES.iter().find(|series| **series == header.series) else { panic!() };
                let mut columns = Columns::default();
                block.decode_chunk(chunk, &mut columns).unwrap();
                for index in (0..columns.len()).filter(|_| self.meta.keys.contains(series)) {
                    let value = match columns.op(index) {
                        EntryOp::Put(value) => Some(value.into_owned()),
                        EntryOp::Delete => None,
                    };
                    let slot = header.class.slot(columns.times()[index]);
                    writes.push(Write::Entry { series, slot, seqno: columns.seqno(index).0, value });
                }
            }
        }
        writes.extend(visible_deletes(self).map(Write::Delete));
        writes
    }
}

impl TableInput for Stored {
    fn meta(&self) -> &TableMeta {
        &self.meta
    }
    fn index(&self) -> &TableIndex {
        &self.index
    }
    fn read_block(&mut self, index: usize) -> Result<Block, TableError> {
        let handle = self.index.block(index);
        let start = usize::try_from(handle.offset).unwrap();
        let bytes = self.file[start..start + handle.bytes as usize].to_vec();
        Block::decode(Path::new("t"), self.index.id(), handle, bytes)
    }
}

fn output(ids: &Arc<AtomicU64>, dice: &mut Dice) -> OutputOptions {
    let ids = Arc::clone(ids);
    let boundaries: &[&[u8]] = match dice.roll(3) {
        0 => &[],
        1 => &[b"b"],
        _ => &[b"ab", b"bz"],
    };
    OutputOptions {
        store: STORE,
        bloom_bits: 10,
        effort: if dice.roll(2) == 0 { Effort::Quick } else { Effort::Thorough },
        boundaries: boundaries.iter().map(|key| (*key).into()).collect(),
        table_bytes_target: if dice.roll(2) == 0 { 1 } else { 1 << 20 },
        next_id: Box::new(move || TableId(ids.fetch_add(1, Ordering::Relaxed))),
    }
}

/// Collects what a flush or merge writes.
fn collect(mut step: impl FnMut() -> Option<OutputEvent>) -> Vec<Stored> {
    let mut files: BTreeMap<TableId, Vec<u8>> = BTreeMap::new();
    let mut tables = Vec::new();
    while let Some(event) = step() {
        match event {
            OutputEvent::Bytes { table, bytes } => files.entry(table).or_default().extend(bytes),
            OutputEvent::Finished { meta } => {
                let table = Stored::open(files.remove(&meta.id).unwrap());
                assert_eq!(table.meta, meta);
                tables.push(table);
            }
        }
    }
    assert!(files.is_empty(), "a table was begun and not finished");
    tables
}

fn flush(writes: &[Write], ids: &Arc<AtomicU64>, dice: &mut Dice) -> Vec<Stored> {
    let mut entries: Vec<_> = writes
        .iter()
        .filter_map(|write| match write {
            Write::Entry { series, slot, seqno, value } => Some((*series, *slot, *seqno, value)),
            Write::Delete(_) => None,
        })
        .collect();
    entries.sort_by_key(|(series, slot, seqno, _)| (*series, *slot, *seqno));
    let mut runs: Vec<(&[u8], SlotClass, Columns)> = Vec::new();
    for (series, slot, seqno, value) in entries {
        if runs.last().is_none_or(|run| (run.0, run.1) != (series, slot.class())) {
            runs.push((series, slot.class(), Columns::default()));
        }
        let op = value.as_ref().map_or(EntryOp::Delete, |value| EntryOp::Put(value.borrow()));
        runs.last_mut().unwrap().2.push(slot.time_or_zero(), Seqno(seqno), op);
    }
    let deletes: Vec<RangeDelete> = writes
        .iter()
        .filter_map(|write| match write {
            Write::Delete(delete) => Some(delete.clone()),
            Write::Entry { .. } => None,
        })
        .collect();
    let options = FlushOptions { output: output(ids, dice), span_base: BASE, keys: KeyRange::all() };
    let runs = runs.iter().map(|(series, class, columns)| (*series, *class, columns));
    let mut flush = Flush::new(options, runs, &deletes);
    collect(|| flush.step())
}

type Key = (&'static [u8], Slot);
type Visible = BTreeMap<Key, OwnedValue>;

fn visible<'a>(
    writes: impl Iterator<Item = &'a Write> + Clone,
    snapshot: u64,
    cutoffs: &[Cutoff],
) -> Visible {
    let seen = || writes.clone().filter(|write| write.seqno() <= snapshot);
    let mut newest: BTreeMap<Key, (u64, Option<OwnedValue>)> = BTreeMap::new();
    for write in seen() {
        if let Write::Entry { series, slot, seqno, value } = write {
            let place = newest.entry((series, *slot)).or_default();
            if place.0 <= *seqno {
                *place = (*seqno, value.clone());
            }
        }
    }
    for write in seen() {
        if let Write::Delete(delete) = write {
            newest.retain(|(series, slot), (seqno, _)| !delete.hides(series, *slot, Seqno(*seqno)));
        }
    }
    let is_kept = |slot: &Slot, seqno: u64| match slot {
        Slot::Time(time) => !cutoffs.iter().any(|cutoff| *time < cutoff.before && seqno < cutoff.below.0),
        Slot::Metadata | Slot::Timeless => true,
    };
    newest.retain(|(_, slot), (seqno, _)| is_kept(slot, *seqno));
    newest.into_iter().filter_map(|(key, (_, value))| Some((key, value?))).collect()
}

fn random_write(seqno: u64, dice: &mut Dice) -> Write {
    let series = SERIES[usize::try_from(dice.roll(5)).unwrap()];
    let time = |dice: &mut Dice| i64::try_from(dice.roll(24)).unwrap() - 8;
    let scope = match dice.roll(24) {
        0 => DeleteScope::All,
        1 => DeleteScope::Prefix { prefix: &series[..1] },
        2 => DeleteScope::Series { series },
        3..=5 => {
            let from = time(dice);
            DeleteScope::TimeRange { series, from, to: from + i64::try_from(dice.roll(12)).unwrap() }
        }
        _ => {
            let slot = match dice.roll(12) {
                0 => Slot::Metadata,
                1 => Slot::Timeless,
                _ => Slot::Time(time(dice)),
            };
            let value = match dice.roll(8) {
                0 | 1 => None,
                2 => Some(OwnedValue::I64(seqno.cast_signed())),
                3 => Some(OwnedValue::Bytes(seqno.to_string().into_bytes().into())),
                _ => Some(OwnedValue::F64(seqno as f64)),
            };
            return Write::Entry { series, slot, seqno, value };
        }
    };
    Write::Delete(RangeDelete::new(scope, Seqno(seqno)))
}

/// A bug that a run plants in the merge's inputs; the model must notice it.
#[derive(Clone, Copy, PartialEq)]
enum Planted {
    Nothing,
    /// Deletes are dropped although the WAL can still bring back what they hide.
    HorizonIgnored,
    /// Deletes are dropped although older tables are not part of the merge.
    OutsideIgnored,
    /// Versions are dropped although a snapshot still reads them.
    SnapshotsIgnored,
    /// Samples are dropped for their age that are not too old yet.
    CutoffAhead,
}

struct World {
    dice: Dice,
    ids: Arc<AtomicU64>,
    /// Everything that has ever been in a table.
    written: Vec<Write>,
    /// In memtables only.
    pending: Vec<Write>,
    tables: Vec<Stored>,
    horizon: u64,
    snapshot_horizon: u64,
    last_seqno: u64,
    retention: Retention,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            ids: Arc::default(),
            written: Vec::new(),
            pending: Vec::new(),
            tables: Vec::new(),
            horizon: 1,
            snapshot_horizon: 1,
            last_seqno: 0,
            retention: Retention::default(),
        }
    }
    fn chance(&mut self, one_in: u64) -> bool {
        self.dice.roll(one_in) == 0
    }
    fn write(&mut self, count: u64) {
        for _ in 0..count {
            self.last_seqno += 1;
            let write = random_write(self.last_seqno, &mut self.dice);
            self.pending.push(write);
        }
    }
    /// Flushes some of what is pending, and now and then what replay brought back, to tables.
    fn flush(&mut self) {
        let mut chosen = Vec::new();
        for write in std::mem::take(&mut self.pending) {
            if self.chance(3) { self.pending.push(write) } else { chosen.push(write) }
        }
        for write in self.written.clone() {
            if write.seqno() >= self.horizon && self.chance(8) {
                chosen.push(write);
            }
        }
        let new: Vec<Write> = chosen.iter().filter(|write| !self.written.contains(write)).cloned().collect();
        self.written.extend(new);
        let tables = flush(&chosen, &self.ids, &mut self.dice);
        self.tables.extend(tables);
    }
    /// Raises the horizons as far as pending writes allow.
    fn advance(&mut self) {
        let limit = self.pending.iter().map(Write::seqno).min().unwrap_or(self.last_seqno + 1);
        self.horizon += self.dice.roll(limit + 1 - self.horizon);
        let low = self.horizon.max(self.snapshot_horizon);
        self.snapshot_horizon = low + self.dice.roll(self.last_seqno + 2 - low);
        self.horizon = self.horizon.min(self.snapshot_horizon);
    }
    /// Time passes, or the retention is lengthened.
    fn age(&mut self) {
        if self.chance(3) {
            let before = i64::try_from(self.dice.roll(16)).unwrap() - 8;
            self.retention.advance(0, before);
        }
        if self.chance(4) {
            self.retention.lift(Seqno(self.last_seqno + 1));
        }
    }
    /// Makes two references of one, each with a part of the keys.
    fn split_reference(&mut self) {
        let Some(table) = self.tables.pop() else { return };
        let split: Box<[u8]> = SERIES[usize::try_from(self.dice.roll(5)).unwrap()].into();
        for keys in [
            KeyRange { start: table.meta.keys.start.clone(), end: Some(split.clone()) },
            KeyRange { start: split, end: None },
        ] {
            let keys = keys.intersection(&table.meta.keys);
            if !keys.is_empty() {
                let mut part = table.clone();
                part.meta.keys = keys;
                self.tables.push(part);
            }
        }
    }
    /// Merges one or two sets of tables, both planned on the same version, and maybe flushes before they are installed.
    fn merge(&mut self, planted: Planted) {
        let mut sets = [Vec::new(), Vec::new(), Vec::new()];
        let (first, second) = (1 + self.dice.roll(4), self.dice.roll(3));
        for table in std::mem::take(&mut self.tables) {
            let set = match self.dice.roll(6) {
                roll if roll < first => 0,
                roll if roll < first + second => 1,
                _ => 2,
            };
            sets[set].push(table);
        }
        let [a, b, others] = sets;
        let outputs = [
            self.merged(&a, &[b.as_slice(), &others].concat(), planted),
            self.merged(&b, &[a.as_slice(), &others].concat(), planted),
        ];
        if self.chance(2) {
            self.flush();
        }
        self.tables.extend(outputs.into_iter().flatten().chain(others));
    }
    fn merged(&mut self, inputs: &[Stored], others: &[Stored], planted: Planted) -> Vec<Stored> {
        let stretches: Vec<(i64, i64)> = inputs.iter().filter_map(|table| table.meta.span).collect();
        let horizon = if planted == Planted::HorizonIgnored { u64::MAX } else { self.horizon };
        let snapshots = if planted == Planted::SnapshotsIgnored { u64::MAX } else { self.snapshot_horizon };
        let outside = if planted == Planted::OutsideIgnored { &[] } else { others };
        let count_max = 1 + usize::try_from(self.dice.roll(8)).unwrap();
        let mut cutoffs = self.retention.cutoffs().to_vec();
        if planted == Planted::CutoffAhead {
            cutoffs.iter_mut().for_each(|cutoff| cutoff.before += 1);
        }
        let options = MergeOptions {
            horizon: Seqno(horizon),
            snapshot_horizon: Seqno(snapshots),
            outside: outside.iter().map(Stored::boxed).collect(),
            cutoffs,
            series_cutoffs: Arc::default(),
            spans: cover_spans(&stretches, BASE, 63, count_max),
            output: output(&self.ids, &mut self.dice),
        };
        let inputs = inputs.iter().map(Stored::boxed).collect();
        let mut merge = Merge::new(inputs, options);
        collect(|| merge.step().unwrap())
    }
    /// What readers see must be what was written, whatever a crash brings back.
    fn check(&mut self) -> Result<(), String> {
        let stored: Vec<Write> = self.tables.iter().flat_map(Stored::writes).collect();
        let live: Vec<Write> =
            self.written.iter().filter(|write| write.seqno() >= self.horizon).cloned().collect();
        let some: Vec<Write> = live.iter().filter(|_| self.dice.roll(2) == 0).cloned().collect();
        for replayed in [Vec::new(), live, some] {
            for snapshot in self.snapshot_horizon..=self.last_seqno + 1 {
                let rest = || self.pending.iter().chain(&replayed);
                let cutoffs = self.retention.cutoffs();
                let expected = visible(self.written.iter().chain(rest()), snapshot, cutoffs);
                let found = visible(stored.iter().chain(rest()), snapshot, cutoffs);
                if expected != found {
                    let (horizon, snapshots) = (self.horizon, self.snapshot_horizon);
                    return Err(format!(
                        "at snapshot {snapshot}, horizon {horizon}, snapshot horizon {snapshots}: \
                         expected {expected:?}, found {found:?}"
                    ));
                }
            }
        }
        Ok(())
    }
    fn run(seed: u64, planted: Planted) -> Result<(), String> {
        let mut world = Self::new(seed);
        for round in 0..6 {
            world.write(20);
            world.flush();
            if world.chance(4) {
                world.split_reference();
            }
            world.advance();
            if seed.is_multiple_of(2) {
                world.age();
            }
            world.check()?;
            world.merge(planted);
            world.check().map_err(|error| format!("seed {seed}, round {round}: {error}"))?;
        }
        Ok(())
    }
}

#[test]
fn no_merge_changes_what_anyone_can_see() {
    // Deleted data that comes back, or data that goes with a delete, is what a merge gets wrong first.
    let seeds = if cfg!(debug_assertions) { 15 } else { 200 };
    for seed in 0..seeds {
        World::run(seed, Planted::Nothing).unwrap();
    }
}

#[test]
fn the_model_notices_planted_bugs() {
    // A model that accepts a wrong merge proves nothing about a right one.
    for planted in
        [Planted::HorizonIgnored, Planted::OutsideIgnored, Planted::SnapshotsIgnored, Planted::CutoffAhead]
    {
        assert!((0..60).any(|seed| World::run(seed, planted).is_err()));
    }
}

#[test]
fn merging_everything_below_the_horizon_leaves_what_is_visible_and_nothing_else() {
    // Deletes and old versions that stay for ever would fill the disk.
    for seed in 0..50 {
        let mut world = World::new(seed);
        for _ in 0..4 {
            world.write(30);
            world.flush();
        }
        let pending = std::mem::take(&mut world.pending);
        world.tables.extend(flush(&pending, &world.ids, &mut world.dice));
        world.written.extend(pending);
        world.horizon = world.last_seqno + 1;
        world.snapshot_horizon = world.horizon;
        let stretches: Vec<(i64, i64)> = world.tables.iter().filter_map(|table| table.meta.span).collect();
        let options = MergeOptions {
            horizon: Seqno(world.horizon),
            snapshot_horizon: Seqno(world.horizon),
            outside: Vec::new(),
            cutoffs: Vec::new(),
            series_cutoffs: Arc::default(),
            spans: cover_spans(&stretches, BASE, 63, 2),
            output: output(&world.ids, &mut world.dice),
        };
        let inputs = std::mem::take(&mut world.tables);
        let inputs = inputs.into_iter().map(|table| Box::new(table) as Box<dyn TableInput>).collect();
        let mut merge = Merge::new(inputs, options);
        let tables = collect(|| merge.step().unwrap());
        let left: Vec<Write> = tables.iter().flat_map(Stored::writes).collect();
        let expected = visible(world.written.iter(), u64::MAX, &[]);
        assert_eq!(left.len(), expected.len(), "seed {seed}");
        assert_eq!(visible(left.iter(), u64::MAX, &[]), expected, "seed {seed}");
    }
}

/// Merges a table that holds only `delete`, with a table outside that holds only `older`: does the delete stay?
fn delete_stays(older: &Write, delete: &Write) -> bool {
    let ids = Arc::default();
    let mut dice = Dice(0);
    let input = flush(std::slice::from_ref(delete), &ids, &mut dice);
    let outside = flush(std::slice::from_ref(older), &ids, &mut dice);
    let stretches: Vec<(i64, i64)> = input.iter().filter_map(|table| table.meta.span).collect();
    let options = MergeOptions {
        horizon: Seqno(100),
        snapshot_horizon: Seqno(100),
        outside: outside.iter().map(Stored::boxed).collect(),
        cutoffs: Vec::new(),
        series_cutoffs: Arc::default(),
        spans: cover_spans(&stretches, BASE, 63, 8),
        output: output(&ids, &mut dice),
    };
    let mut merge = Merge::new(input.iter().map(Stored::boxed).collect(), options);
    let tables = collect(|| merge.step().unwrap());
    // Shard boundaries may have cut it in pieces.
    tables.iter().flat_map(Stored::writes).any(|write| write.seqno() == delete.seqno())
}

#[test]
fn a_delete_stays_while_something_older_lies_outside_and_no_longer() {
    // Dropped too early, what it hid comes back; kept for ever, deletes fill memory and disk.
    let put = |series, slot, seqno| Write::Entry { series, slot, seqno, value: Some(OwnedValue::I64(1)) };
    let point = |series, slot, seqno| Write::Entry { series, slot, seqno, value: None };
    let range = |scope, seqno| Write::Delete(RangeDelete::new(scope, Seqno(seqno)));
    let (b, ba) = (SERIES[2], SERIES[3]);
    for slot in [Slot::Metadata, Slot::Timeless, Slot::Time(0), Slot::Time(-3)] {
        let older = put(b, slot, 5);
        assert!(delete_stays(&older, &point(b, slot, 9)), "{slot:?}");
        assert!(!delete_stays(&older, &point(ba, slot, 9)), "{slot:?} of another series");
        assert!(!delete_stays(&older, &point(b, slot, 4)), "{slot:?} is newer");
        for scope in [DeleteScope::Series { series: b }, DeleteScope::Prefix { prefix: b }, DeleteScope::All]
        {
            assert!(delete_stays(&older, &range(scope, 9)), "{slot:?} {scope:?}");
            assert!(!delete_stays(&older, &range(scope, 4)), "{slot:?} {scope:?} is older");
        }
        for scope in [DeleteScope::Series { series: ba }, DeleteScope::Prefix { prefix: ba }] {
            assert!(!delete_stays(&older, &range(scope, 9)), "{slot:?} is not in {scope:?}");
        }
    }
    let older = put(b, Slot::Time(3), 5);
    for (from, to, stays) in
        [(3, 3, true), (0, 3, true), (3, 9, true), (i64::MIN, i64::MAX, true), (4, 9, false), (0, 2, false)]
    {
        let delete = range(DeleteScope::TimeRange { series: b, from, to }, 9);
        assert_eq!(delete_stays(&older, &delete), stays, "{from}..={to}");
    }
    assert!(!delete_stays(
        &put(b, Slot::Timeless, 5),
        &range(DeleteScope::TimeRange { series: b, from: 0, to: 0 }, 9)
    ));
    assert!(!delete_stays(&put(b, Slot::Time(2), 5), &point(b, Slot::Time(3), 9)), "another slot");
}

/// Seqnos of what a merge of `inputs` writes, with `outside` left alone, in order of series and slot.
fn seqnos_after(inputs: &[Write], outside: &[Write], horizon: u64) -> Vec<u64> {
    let ids = Arc::default();
    let mut dice = Dice(0);
    let (inputs, outside) = (flush(inputs, &ids, &mut dice), flush(outside, &ids, &mut dice));
    let stretches: Vec<(i64, i64)> = inputs.iter().filter_map(|table| table.meta.span).collect();
    let options = MergeOptions {
        horizon: Seqno(horizon),
        snapshot_horizon: Seqno(horizon),
        outside: outside.iter().map(Stored::boxed).collect(),
        cutoffs: Vec::new(),
        series_cutoffs: Arc::default(),
        spans: cover_spans(&stretches, BASE, 63, 8),
        output: output(&ids, &mut dice),
    };
    let mut merge = Merge::new(inputs.iter().map(Stored::boxed).collect(), options);
    collect(|| merge.step().unwrap()).iter().flat_map(Stored::writes).map(|write| write.seqno()).collect()
}

#[test]
fn seqnos_are_levelled_only_where_they_tell_nothing() {
    // Levelled too early, an older version beats a newer one, or returns from under its delete; never levelled, they
    // cost more than times and values together.
    let put = |time, seqno| Write::Entry {
        series: b"b",
        slot: Slot::Time(time),
        seqno,
        value: Some(OwnedValue::I64(1)),
    };
    let inputs = [put(1, 5), put(2, 1)];
    assert_eq!(seqnos_after(&inputs, &[], 100), [5, 5]);
    assert_eq!(seqnos_after(&inputs, &[], 5), [5, 1], "a log may bring back something between them");
    assert_eq!(seqnos_after(&inputs, &[put(2, 3)], 100), [5, 1], "a newer version lies outside");
    assert_eq!(seqnos_after(&inputs, &[put(2, 6)], 100), [5, 5], "what lies outside is newer than all of it");
    assert_eq!(seqnos_after(&inputs, &[put(900, 3)], 100), [5, 5], "what lies outside has other times");
    let delete = Write::Delete(RangeDelete::new(DeleteScope::Series { series: b"b" }, Seqno(3)));
    assert_eq!(seqnos_after(&inputs, &[delete], 100), [5], "the delete is applied first");
}

#[test]
fn a_delete_is_told_only_by_one_that_covers_all_of_it() {
    // A delete that is dropped for another leaves open what the other does not cover.
    let delete = |keys: KeyRange, times, seqno| RangeDelete { keys, times, seqno: Seqno(seqno) };
    let wide = KeyRange::prefix(b"b");
    let one = single_series(b"ba");
    assert!(includes(&delete(wide.clone(), None, 9), &delete(one.clone(), None, 8)));
    assert!(includes(&delete(wide.clone(), None, 9), &delete(one.clone(), Some((1, 2)), 8)));
    assert!(includes(&delete(wide.clone(), Some((1, 5)), 9), &delete(one.clone(), Some((1, 2)), 8)));
    assert!(!includes(&delete(wide.clone(), Some((1, 5)), 9), &delete(one.clone(), Some((0, 2)), 8)));
    assert!(!includes(&delete(wide.clone(), Some((1, 5)), 9), &delete(one.clone(), None, 8)));
    assert!(!includes(&delete(wide.clone(), None, 7), &delete(one.clone(), None, 8)));
    assert!(!includes(&delete(one, None, 9), &delete(wide, None, 8)));
}

#[test]
fn a_table_that_contradicts_its_description_stops_the_merge() {
    // The checksums are right and yet the table is wrong: an error for the operator, not a crash and not a copy.
    let write = Write::Entry { series: b"a", slot: Slot::Time(3), seqno: 5, value: None };
    let mut tables = flush(&[write], &Arc::default(), &mut Dice(1));
    tables[0].meta.time_max = 2;
    let options = MergeOptions {
        horizon: Seqno(1),
        snapshot_horizon: Seqno(1),
        outside: Vec::new(),
        cutoffs: Vec::new(),
        series_cutoffs: Arc::default(),
        spans: cover_spans(&[(0, 2)], 1, 63, 8),
        output: output(&Arc::default(), &mut Dice(1)),
    };
    let mut merge = Merge::new(tables.iter().map(Stored::boxed).collect(), options);
    let error = merge.step().unwrap_err().to_string();
    assert!(error.starts_with("table tables/0000000000000000.sst at offset 0"), "{error}");
}

#[test]
fn long_series_come_through_a_merge_in_time_order() {
    // Runs are copied in bulk between chunks, batches and blocks; an entry lost at a seam is lost for good.
    let ids = Arc::default();
    let mut dice = Dice(4);
    let mut parts = [Columns::default(), Columns::default(), Columns::default()];
    for time in 0..50_000i64 {
        let part = if dice.roll(10) > 0 { time / 20_000 } else { time % 3 };
        let value = EntryOp::Put(crate::model::Value::F64(time as f64));
        parts[usize::try_from(part).unwrap()].push(time, Seqno(time.cast_unsigned() + 1), value);
    }
    let mut inputs: Vec<Box<dyn TableInput>> = Vec::new();
    for part in &parts {
        let options =
            FlushOptions { output: output(&ids, &mut dice), span_base: 100_000, keys: KeyRange::all() };
        let runs = std::iter::once((&b"a"[..], SlotClass::Time, part));
        let mut flush = Flush::new(options, runs, &[]);
        inputs
            .extend(collect(|| flush.step()).into_iter().map(|table| Box::new(table) as Box<dyn TableInput>));
    }
    let options = MergeOptions {
        horizon: Seqno(1),
        snapshot_horizon: Seqno(1),
        outside: Vec::new(),
        cutoffs: Vec::new(),
        series_cutoffs: Arc::default(),
        spans: cover_spans(&[(0, 99_999)], 100_000, 63, 1),
        output: output(&ids, &mut dice),
    };
    let mut merge = Merge::new(inputs, options);
    let tables = collect(|| merge.step().unwrap());
    let writes: Vec<Write> = tables.iter().flat_map(Stored::writes).collect();
    assert_eq!(writes.len(), 50_000);
    for (write, time) in writes.iter().zip(0i64..) {
        let value = Some(OwnedValue::F64(time as f64));
        let seqno = time.cast_unsigned() + 1;
        assert_eq!(*write, Write::Entry { series: b"a", slot: Slot::Time(time), seqno, value });
    }
}

#[test]
#[ignore = "a measurement: cargo test --release --lib merge_speed -- --ignored --nocapture"]
#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
fn merge_speed() {
    // Compaction must keep up with writes on a fraction of a core.
    for (what, stride) in [("side by side", 0), ("every sample from another table", 1)] {
        let ids = Arc::default();
        let mut inputs: Vec<Box<dyn TableInput>> = Vec::new();
        for part in 0..4i64 {
            let mut columns = Columns::default();
            for index in 0..200_000i64 {
                let time = if stride == 0 { part * 200_000 + index } else { index * 4 + part };
                let value = EntryOp::Put(crate::model::Value::F64(time as f64 * 0.1));
                columns.push(time * 100, Seqno(index.cast_unsigned() * 7 + 1), value);
            }
            let mut output = output(&ids, &mut Dice(0));
            (output.table_bytes_target, output.boundaries) = (256 << 20, Vec::new());
            let options = FlushOptions { output, span_base: 1 << 40, keys: KeyRange::all() };
            let runs = SERIES.iter().map(|series| (*series, SlotClass::Time, &columns));
            let mut flush = Flush::new(options, runs, &[]);
            inputs.extend(collect(|| flush.step()).iter().map(Stored::boxed));
        }
        let mut output = output(&ids, &mut Dice(0));
        (output.table_bytes_target, output.boundaries) = (256 << 20, Vec::new());
        let options = MergeOptions {
            horizon: Seqno(1),
            snapshot_horizon: Seqno(1),
            outside: Vec::new(),
            cutoffs: Vec::new(),
            series_cutoffs: Arc::default(),
            spans: cover_spans(&[(0, 1)], 1 << 40, 63, 1),
            output,
        };
        let start = std::time::Instant::now();
        let mut merge = Merge::new(inputs, options);
        let (mut events, mut samples) = (0, 0);
        while let Some(event) = merge.step().unwrap() {
            events += 1;
            if let OutputEvent::Finished { meta } = event {
                samples += meta.entries;
            }
        }
        let rate = samples as f64 / start.elapsed().as_secs_f64() / 1e6;
        println!("{what}: {rate:.1} M samples/s, {samples} samples, {events} events");
    }
}
