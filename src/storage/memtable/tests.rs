//! The memtable against a plain model: versions, order, memory, both indexes.
#![expect(clippy::cast_possible_truncation, reason = "rolled numbers are small")]

use super::*;
use crate::model::{DeleteScope, OwnedValue, Value};
use std::collections::{BTreeMap, BTreeSet};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % below
    }
}

type Version = (Vec<u8>, Slot, Seqno);
type Versions = BTreeMap<Version, Option<OwnedValue>>;

fn op(value: &Option<OwnedValue>) -> EntryOp<'_> {
    value.as_ref().map_or(EntryOp::Delete, |value| EntryOp::Put(value.borrow()))
}

fn owned(op: EntryOp<'_>) -> Option<OwnedValue> {
    match op {
        EntryOp::Put(value) => Some(value.into_owned()),
        EntryOp::Delete => None,
    }
}

fn random_value(dice: &mut Dice) -> Option<OwnedValue> {
    match dice.roll(8) {
        0 => None,
        1..5 => Some(OwnedValue::F64(f64::from_bits(dice.roll(u64::MAX)))),
        5 => Some(OwnedValue::I64(dice.roll(9) as i64)),
        6 => Some(OwnedValue::Bytes(vec![7; dice.roll(2500) as usize].into())),
        _ => Some(OwnedValue::Bytes(vec![8; dice.roll(20) as usize].into())),
    }
}

fn everything(memtable: &Memtable) -> Vec<(Version, Option<OwnedValue>)> {
    let mut all = Vec::new();
    for (series, class, columns) in memtable.runs() {
        for index in 0..columns.len() {
            let slot = class.slot(columns.times()[index]);
            all.push(((series.to_vec(), slot, columns.seqno(index)), owned(columns.op(index))));
        }
    }
    all
}

fn counted_bytes(memtable: &Memtable) -> usize {
    let keys: usize = memtable.series.iter().map(|state| state.key.len() + ALLOCATION_BYTES).sum();
    keys + memtable.long_runs.iter().map(LongRun::memory_bytes).sum::<usize>()
}

#[test]
fn a_memtable_holds_every_version_in_order() {
    // What is missing here is missing from the flush; what is out of order breaks the table that it writes.
    for seed in 0..30 {
        let mut dice = Dice(seed);
        let mut memtable = Memtable::new(seed);
        let mut model = Versions::new();
        // Seqnos arrive in any order, as replay of several segments brings them; some come twice.
        let (series_count, times) = ([1, 20][seed as usize % 2], [3, 100, 100_000][seed as usize % 3]);
        for _ in 0..4000 {
            let series = format!("s{}", dice.roll(series_count)).into_bytes();
            let slot = match dice.roll(10) {
                0 => Slot::Metadata,
                1 => Slot::Timeless,
                _ => Slot::Time(dice.roll(times) as i64 - times as i64 / 2),
            };
            let (seqno, value) = (Seqno(1 + dice.roll(100_000)), random_value(&mut dice));
            memtable.insert(&series, slot, seqno, op(&value), Lsn(seqno.0), false);
            model.insert((series, slot, seqno), value);
        }
        assert_eq!(memtable.entries(), model.len());
        assert_eq!(memtable.owned_bytes, counted_bytes(&memtable), "accounting of seed {seed}");
        for ((series, slot, seqno), value) in &model {
            let run = memtable.run(series_hash(series), series, slot.class()).expect("a run");
            let (columns, index) = run.find(slot.time_or_zero(), *seqno).expect("a version");
            assert_eq!((columns.seqno(index), owned(columns.op(index))), (*seqno, value.clone()));
        }
        assert!(everything(&memtable).into_iter().eq(model), "seed {seed}");
    }
}

#[test]
fn overwriting_in_place_keeps_the_highest_seqno() {
    // Without a snapshot only the newest version is kept; a replayed older one must never win over it.
    for seed in 0..30 {
        let mut dice = Dice(seed);
        let mut memtable = Memtable::new(0);
        let mut newest: BTreeMap<(Vec<u8>, Slot), (Seqno, Option<OwnedValue>)> = BTreeMap::new();
        for _ in 0..4000 {
            let series = format!("s{}", dice.roll(5)).into_bytes();
            let slot = match dice.roll(10) {
                0 => Slot::Metadata,
                1 => Slot::Timeless,
                _ => Slot::Time(dice.roll([10, 2000][seed as usize % 2]) as i64),
            };
            let (seqno, value) = (Seqno(1 + dice.roll(100_000)), random_value(&mut dice));
            memtable.insert(&series, slot, seqno, op(&value), Lsn(0), true);
            let entry = newest.entry((series, slot)).or_insert((seqno, value.clone()));
            if seqno >= entry.0 {
                *entry = (seqno, value);
            }
        }
        let expected =
            newest.into_iter().map(|((series, slot), (seqno, value))| ((series, slot, seqno), value));
        assert!(everything(&memtable).into_iter().eq(expected), "seed {seed}");
        assert_eq!(memtable.owned_bytes, counted_bytes(&memtable), "accounting of seed {seed}");
    }
}

#[test]
fn overwritten_bytes_are_collected() {
    // A key that is set again and again would otherwise fill the memtable and freeze it for nothing.
    for (keys, value_bytes) in [(1, 100), (300, 100), (1, 3000), (3, 3000)] {
        let mut memtable = Memtable::new(0);
        let mut highest = 0;
        for round in 0..5000_u64 {
            let value = vec![round as u8; value_bytes + (round % 50) as usize];
            let key = format!("key-{}", round % keys);
            let put = EntryOp::Put(Value::Bytes(&value));
            memtable.insert(key.as_bytes(), Slot::Timeless, Seqno(round + 1), put, Lsn(0), true);
            highest = highest.max(memtable.bytes());
        }
        let live = keys as usize * (value_bytes + 50);
        assert!(highest < 8 * live + (64 << 10), "{highest} bytes for {live}");
    }
}

#[test]
fn series_are_walked_in_key_order_from_any_key() {
    // Scans and flushes go by this order; hash order or a missed series would corrupt tables.
    let mut dice = Dice(3);
    let mut memtable = Memtable::new(0);
    let mut keys = BTreeSet::new();
    for seqno in 1..3000 {
        let key: Vec<u8> = (0..=dice.roll(4)).map(|_| dice.roll(6) as u8 * 51).collect();
        memtable.insert(&key, Slot::Timeless, Seqno(seqno), EntryOp::Delete, Lsn(0), true);
        keys.insert(key);
    }
    assert_eq!(memtable.series_count(), keys.len());
    for _ in 0..200 {
        let from: Vec<u8> = (0..dice.roll(4)).map(|_| dice.roll(256) as u8).collect();
        let place = memtable.seek_series(&from);
        assert_eq!(memtable.series_at(place), keys.range(from.clone()..).next().map(Vec::as_slice));
        let before = memtable.place_before(place).and_then(|place| memtable.series_at(place));
        assert_eq!(before, keys.range(..from).next_back().map(Vec::as_slice));
    }
    let last = memtable.place_before(memtable.series_end()).and_then(|place| memtable.series_at(place));
    assert_eq!(last, keys.last().map(Vec::as_slice));
}

#[test]
fn gates_rise_with_the_series_and_with_range_deletes() {
    // A reply that leaves before its gate shows what a crash can take back.
    let mut memtable = Memtable::new(0);
    assert!(memtable.is_empty() && memtable.gate(b"a") == Lsn(0));
    let put = EntryOp::Put(Value::I64(1));
    memtable.insert(b"a", Slot::Time(1), Seqno(5), put, Lsn(10), true);
    memtable.insert(b"b", Slot::Time(1), Seqno(6), put, Lsn(20), true);
    assert_eq!((memtable.gate(b"a"), memtable.gate(b"b"), memtable.gate(b"c")), (Lsn(10), Lsn(20), Lsn(0)));
    memtable.delete_range(RangeDelete::new(DeleteScope::All, Seqno(7)), Lsn(15));
    assert_eq!((memtable.gate(b"a"), memtable.gate(b"b"), memtable.gate(b"c")), (Lsn(15), Lsn(20), Lsn(15)));
    assert_eq!((memtable.seqno_min(), memtable.seqno_max()), (Some(Seqno(5)), Some(Seqno(7))));
    assert_eq!(memtable.lsn_max(), Lsn(20));
}

#[test]
fn deletes_are_found_by_series() {
    // A delete that a lookup misses brings deleted data back.
    let mut deletes = DeleteSet::default();
    let scopes = [
        DeleteScope::TimeRange { series: b"a", from: 1, to: 5 },
        DeleteScope::Series { series: b"b" },
        DeleteScope::Prefix { prefix: b"a" },
        DeleteScope::TimeRange { series: b"a", from: 4, to: 9 },
    ];
    for (at, scope) in scopes.into_iter().enumerate() {
        deletes.add(RangeDelete::new(scope, Seqno(at as u64 + 1)));
    }
    let covering = |series: &[u8], slot, snapshot| {
        deletes.covering(series_hash(series), series, slot, Seqno(snapshot)).0
    };
    assert_eq!(covering(b"a", Slot::Time(2), 9), 3);
    assert_eq!(covering(b"a", Slot::Time(2), 2), 1);
    assert_eq!(covering(b"a", Slot::Time(4), 9), 4);
    assert_eq!((covering(b"a", Slot::Timeless, 9), covering(b"a", Slot::Timeless, 2)), (3, 0));
    assert_eq!((covering(b"b", Slot::Metadata, 9), covering(b"c", Slot::Time(2), 9)), (2, 0));
    assert_eq!(deletes.all().len(), 4);
}

#[test]
fn small_series_and_long_ones_stay_within_their_memory() {
    // The memtable is sized in bytes: what a point costs decides how often it is flushed.
    let mut many = Memtable::new(0);
    let mut seqno = 0;
    for number in 0..12_500 {
        seqno += 1;
        let key = format!("hostname_{number:08}.cpu");
        many.insert(
            key.as_bytes(),
            Slot::Time(number),
            Seqno(seqno),
            EntryOp::Put(Value::F64(1.5)),
            Lsn(seqno),
            true,
        );
    }
    let per_series = many.bytes() / 12_500;
    assert!(per_series <= 200, "{per_series} bytes for a series of one sample");
    let mut long = Memtable::new(1);
    for time in 0..20_000 {
        for series in 0..10 {
            seqno += 1;
            let key = [b's', series];
            long.insert(
                &key,
                Slot::Time(time),
                Seqno(seqno),
                EntryOp::Put(Value::F64(2.5)),
                Lsn(seqno),
                true,
            );
        }
    }
    let per_point = long.bytes() as f64 / 200_000.0;
    assert!(per_point <= 40.0, "{per_point} bytes for a point of a long series");
}
