//! A random store in pieces, and the plain model of what it must answer.
#![expect(clippy::cast_possible_truncation, reason = "rolled numbers are small")]

use crate::model::{
    DeleteScope, EntryOp, FileRef, KeyRange, Lsn, OwnedValue, Seqno, Slot, SlotClass, StoreId, TableId,
};
use crate::storage::memtable::Memtable;
use crate::storage::range_delete::RangeDelete;
use crate::storage::read::{BlockRef, Blocks, Step, View};
use crate::storage::retention::Retention;
use crate::storage::sstable::{Block, Effort, TableBuilder, TableError, TableIndex, TableOptions};
use crate::storage::version::{Table, Version};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const STORE: StoreId = StoreId([5; 16]);

/// A seeded generator.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % below
    }
    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len() as u64) as usize]
    }
}

/// One write.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Entry { series: Vec<u8>, slot: Slot, value: Option<OwnedValue> },
    Delete(RangeDelete),
}

/// What is visible.
pub(super) type Contents = BTreeMap<(Vec<u8>, Slot), OwnedValue>;

/// Writes by seqno (place + 1), and the sources that hold them.
pub(super) struct World {
    pub(super) writes: Vec<Write>,
    pub(super) memtables: Vec<Memtable>,
    pub(super) version: Version,
    files: Vec<(TableId, Vec<u8>)>,
}

pub(super) const SERIES: [&[u8]; 9] =
    [b"a", b"a\0", b"a\0\0", b"ab", b"b", b"b\xff", b"c", b"cpu", b"\xff\xff"];

pub(super) fn random_series(dice: &mut Dice) -> Vec<u8> {
    dice.pick(&SERIES).to_vec()
}

pub(super) fn random_time(dice: &mut Dice, spread: u64) -> i64 {
    match dice.roll(20) {
        0 => *dice.pick(&[i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX, -1, 0]),
        _ => dice.roll(spread) as i64 - spread as i64 / 3,
    }
}

pub(super) fn random_keys(dice: &mut Dice) -> KeyRange {
    let (a, b) = (random_series(dice), random_series(dice));
    match dice.roll(5) {
        0 => KeyRange::all(),
        1 => KeyRange::prefix(&a),
        2 => crate::storage::range_delete::single_series(&a),
        3 => KeyRange { start: a.into(), end: None },
        _ => KeyRange { start: a.clone().min(b.clone()).into(), end: Some(a.max(b).into()) },
    }
}

fn random_value(dice: &mut Dice) -> OwnedValue {
    match dice.roll(10) {
        0..6 => OwnedValue::F64(f64::from_bits(dice.roll(u64::MAX))),
        6 => OwnedValue::I64(dice.roll(u64::MAX) as i64),
        7 => OwnedValue::Bytes(vec![b'v'; dice.roll(3000) as usize].into()),
        _ => OwnedValue::Bytes(dice.roll(1000).to_string().into_bytes().into()),
    }
}

fn random_write(dice: &mut Dice, spread: u64, seqno: Seqno) -> Write {
    let series = random_series(dice);
    if dice.roll(40) == 0 {
        let (a, b) = (random_time(dice, spread), random_time(dice, spread));
        let scope = match dice.roll(30) {
            0 => DeleteScope::All,
            1..3 => DeleteScope::Prefix { prefix: &series[..1] },
            3..6 => DeleteScope::Series { series: &series },
            _ => DeleteScope::TimeRange { series: &series, from: a.min(b), to: a.max(b) },
        };
        return Write::Delete(RangeDelete::new(scope, seqno));
    }
    let slot = match dice.roll(12) {
        0 => Slot::Metadata,
        1 => Slot::Timeless,
        _ => Slot::Time(random_time(dice, spread)),
    };
    let value = (dice.roll(8) > 0).then(|| random_value(dice));
    Write::Entry { series, slot, value }
}

impl World {
    /// `count` writes, spread over memtables and tables in any order. `replace`: memtables overwrite in place, so that
    /// only the latest snapshot means anything.
    pub(super) fn random(dice: &mut Dice, count: u64, spread: u64, replace: bool) -> Self {
        let writes = (1..=count).map(|seqno| random_write(dice, spread, Seqno(seqno))).collect();
        Self::scattered(dice, writes, replace)
    }
    /// These writes, spread over memtables and tables in any order.
    pub(super) fn scattered(dice: &mut Dice, writes: Vec<Write>, replace: bool) -> Self {
        let count = writes.len() as u64;
        let (memtable_count, table_count) = (1 + dice.roll(3), dice.roll(4));
        let mut world = Self {
            writes,
            memtables: (0..memtable_count).map(Memtable::new).collect(),
            version: Version::default(),
            files: Vec::new(),
        };
        let mut parts = vec![Vec::new(); table_count as usize];
        let mut order: Vec<usize> = (0..count as usize).collect();
        if dice.roll(2) == 0 {
            for at in (1..order.len()).rev() {
                order.swap(at, dice.roll(at as u64 + 1) as usize);
            }
        }
        // Long stretches in one source, as flushes leave them, or everything everywhere.
        let stretch = *dice.pick(&[1, 50, 1000]);
        for (place, at) in order.into_iter().enumerate() {
            let sources = memtable_count + table_count;
            let hash = (place as u64 / stretch).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            match (hash % sources) as usize {
                part if part < parts.len() => parts[part].push(at),
                part => world.write_memtable(part - table_count as usize, at, replace),
            }
        }
        let tables = parts.iter_mut().flat_map(|part| {
            part.sort_unstable();
            let visible = if dice.roll(2) == 0 { KeyRange::all() } else { random_keys(dice) };
            world.build_tables(&visible, part)
        });
        world.version = Version::new(tables.collect());
        world.grow_old(dice);
        world
    }
    /// Makes some of the samples too old: by a cutoff that was lifted, by one that is in force, or by both.
    pub(super) fn grow_old(&mut self, dice: &mut Dice) {
        let count = self.writes.len() as u64;
        let time_of = |write: &Write| match write {
            Write::Entry { slot: Slot::Time(time), .. } => Some(*time),
            Write::Entry { .. } | Write::Delete(_) => None,
        };
        let times: Vec<i64> = self.writes.iter().filter_map(time_of).collect();
        if times.is_empty() {
            return;
        }
        let mut retention = Retention::default();
        if dice.roll(3) == 0 {
            retention.advance(0, *dice.pick(&times));
            retention.lift(Seqno(1 + dice.roll(count)));
        }
        if dice.roll(3) == 0 {
            retention.advance(0, *dice.pick(&times));
        }
        self.version = Version::with_cutoffs(self.version.tables().to_vec(), retention.cutoffs());
    }
    /// One table with these writes, nothing in memory.
    pub(super) fn of_table(writes: Vec<Write>) -> Self {
        let count = writes.len();
        let (memtables, version) = (vec![Memtable::new(0)], Version::default());
        let mut world = Self { writes, memtables, version, files: Vec::new() };
        let part: Vec<usize> = (0..count).collect();
        world.version = Version::new(world.build_tables(&KeyRange::all(), &part));
        world
    }
    /// A table of each of these lists of writes, which are in the order of their seqnos; nothing in memory.
    pub(super) fn of_tables(lists: Vec<Vec<Write>>) -> Self {
        let mut ends: Vec<usize> = vec![0];
        ends.extend(lists.iter().scan(0, |end, list| {
            *end += list.len();
            Some(*end)
        }));
        let mut world = Self {
            writes: lists.into_iter().flatten().collect(),
            memtables: vec![Memtable::new(0)],
            version: Version::default(),
            files: Vec::new(),
        };
        let parts = ends.windows(2).map(|pair| (pair[0]..pair[1]).collect::<Vec<_>>());
        let parts: Vec<_> = parts.collect();
        let tables = parts.iter().flat_map(|part| world.build_tables(&KeyRange::all(), part)).collect();
        world.version = Version::new(tables);
        world
    }
    fn write_memtable(&mut self, memtable: usize, at: usize, replace: bool) {
        let (seqno, lsn) = (Seqno(at as u64 + 1), Lsn(at as u64));
        let memtable = &mut self.memtables[memtable];
        match &self.writes[at] {
            Write::Entry { series, slot, value } => {
                memtable.insert(series, *slot, seqno, op(value.as_ref()), lsn, replace);
            }
            Write::Delete(delete) => memtable.delete_range(delete.clone(), lsn),
        }
    }
    /// One table with samples and one without, of which only a stretch of keys is visible: what lies outside is made
    /// of writes that never happened, and writes of `part` outside are forgotten.
    fn build_tables(&mut self, visible: &KeyRange, part: &[usize]) -> Vec<Arc<Table>> {
        let mut entries: BTreeMap<(Vec<u8>, Slot, u64), Option<OwnedValue>> = BTreeMap::new();
        let mut deletes = Vec::new();
        for at in part {
            let seqno = *at as u64 + 1;
            match self.writes[*at].clone() {
                Write::Entry { series, slot, value } => {
                    if !visible.contains(&series) {
                        self.writes[*at] = nothing();
                    }
                    entries.insert((series, slot, seqno), value);
                }
                Write::Delete(delete) => {
                    self.writes[*at] = delete.clip(visible).map_or_else(nothing, Write::Delete);
                    deletes.push(delete);
                }
            }
        }
        let mut tables = Vec::new();
        for samples in [true, false] {
            let id = TableId(self.files.len() as u64 + 1);
            let span = samples.then_some((i64::MIN, i64::MAX));
            let options =
                TableOptions { store: STORE, id, span, level: 0, bloom_bits: 10, effort: Effort::Quick };
            let mut builder = TableBuilder::new(options);
            for ((series, slot, seqno), value) in &entries {
                if (slot.class() == SlotClass::Time) == samples {
                    builder.add(series, *slot, Seqno(*seqno), op(value.as_ref()));
                }
            }
            if !samples {
                deletes.drain(..).for_each(|delete| builder.add_range_delete(delete));
            }
            if builder.is_empty() {
                continue;
            }
            let mut file = builder.take_bytes();
            let (tail, _) = builder.finish();
            file.extend(tail);
            let (index, mut meta) =
                TableIndex::load(Path::new("t"), STORE, &mut &*file).expect("a fresh table");
            meta.keys = meta.keys.intersection(visible);
            self.files.push((id, file));
            if !meta.keys.is_empty() {
                tables.push(Arc::new(Table { meta, index, file: FileRef::new(0, Arc::new(())) }));
            }
        }
        tables
    }
    /// What a snapshot sees, as the definition has it.
    pub(super) fn contents(&self, snapshot: Seqno) -> Contents {
        let mut newest = BTreeMap::new();
        let mut deletes = Vec::new();
        for (at, write) in self.writes.iter().enumerate() {
            let seqno = Seqno(at as u64 + 1);
            match write {
                _ if seqno > snapshot => {}
                Write::Entry { series, slot, value } => {
                    newest.insert((series, *slot), (seqno, value.as_ref()));
                }
                Write::Delete(delete) => deletes.push(delete),
            }
        }
        let visible = newest.into_iter().filter_map(|((series, slot), (seqno, value))| {
            let is_old = |time: i64| {
                let cutoffs = self.version.cutoffs();
                cutoffs.iter().any(|cutoff| time < cutoff.before && seqno < cutoff.below)
            };
            let hidden = deletes.iter().any(|delete| delete.hides(series, slot, seqno))
                || matches!(slot, Slot::Time(time) if is_old(time));
            let value = value.filter(|_| !hidden)?;
            Some(((series.to_vec(), slot), value.clone()))
        });
        visible.collect()
    }
    /// Runs a step until it is ready, reading every block that it asks for and forgetting them all afterwards.
    pub(super) fn complete<T>(&self, step: impl FnMut(&mut Pins) -> Result<Step<T>, TableError>) -> T {
        self.complete_counting(step).0
    }
    /// As [`World::complete`]; also says how many blocks were read.
    pub(super) fn complete_counting<T>(
        &self,
        mut step: impl FnMut(&mut Pins) -> Result<Step<T>, TableError>,
    ) -> (T, usize) {
        let mut pins = Pins::default();
        loop {
            match step(&mut pins).expect("tables are sound") {
                Step::Ready(result) => return (result, pins.blocks.len()),
                Step::Need(blocks) => {
                    assert!(!blocks.is_empty(), "a step must say what it waits for");
                    blocks.into_iter().for_each(|block| self.read(block, &mut pins));
                }
            }
        }
    }
    fn read(&self, block: BlockRef, pins: &mut Pins) {
        let id = block.table.meta.id;
        assert!(pins.block(&block.table, block.index).is_none(), "block {} is at hand", block.index);
        let (_, file) = self.files.iter().find(|(other, _)| *other == id).expect("a table of this world");
        let handle = block.table.index.block(block.index);
        let start = handle.offset as usize;
        let bytes = file[start..start + handle.bytes as usize].to_vec();
        let decoded = Block::decode(Path::new("t"), id, handle, bytes).expect("a fresh block");
        pins.blocks.push((id, block.index, Arc::new(decoded)));
    }
    pub(super) fn view<'a>(
        &'a self,
        memtables: &'a [&'a Memtable],
        snapshot: Seqno,
        keys: &'a KeyRange,
    ) -> View<'a> {
        View { memtables, version: &self.version, snapshot, keys }
    }
}

/// Only the blocks that were read for the call under way.
#[derive(Default)]
pub(super) struct Pins {
    blocks: Vec<(TableId, usize, Arc<Block>)>,
}

impl Blocks for Pins {
    fn block(&mut self, table: &Arc<Table>, index: usize) -> Option<Arc<Block>> {
        let same = |pin: &&(TableId, usize, Arc<Block>)| pin.0 == table.meta.id && pin.1 == index;
        self.blocks.iter().find(same).map(|(_, _, block)| Arc::clone(block))
    }
}

/// A write that changes nothing.
fn nothing() -> Write {
    Write::Delete(RangeDelete { keys: KeyRange::all(), times: Some((1, 0)), seqno: Seqno(0) })
}

fn op(value: Option<&OwnedValue>) -> EntryOp<'_> {
    value.map_or(EntryOp::Delete, |value: &OwnedValue| EntryOp::Put(value.borrow()))
}
