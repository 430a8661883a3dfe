//! Reads over memtables and tables against a plain model, with a cache of zero blocks: every wait point is taken.
#![expect(clippy::cast_possible_truncation, reason = "rolled numbers are small")]

mod answers;
mod world;

use super::*;
use crate::model::{
    DeleteScope, EntryOp, KeyKind, Lsn, OwnedValue, ScanAnswer, ScanRequest, Slot, SlotClass, Value,
};
use crate::storage::range_delete::RangeDelete;
use std::collections::BTreeMap;
use world::{Contents, Dice, World, Write, random_keys, random_series, random_time};

/// What a scan must give out.
fn expected_scan(
    contents: &Contents,
    request: &ScanRequest,
    keys: &KeyRange,
) -> Vec<(Vec<u8>, Slot, OwnedValue)> {
    let wanted = contents.iter().filter(|((series, slot), _)| {
        let in_slots = match slot {
            Slot::Time(time) => (request.from..=request.to).contains(time),
            Slot::Metadata | Slot::Timeless => request.all_slots,
        };
        in_slots && request.keys.contains(series) && keys.contains(series)
    });
    let mut all: Vec<_> =
        wanted.map(|((series, slot), value)| (series.clone(), *slot, value.clone())).collect();
    if request.reverse {
        all.reverse();
    }
    all.truncate(usize::try_from(request.limit).unwrap_or(usize::MAX));
    all
}

fn collect(out: &ScanOutput, all: &mut Vec<(Vec<u8>, Slot, OwnedValue)>) {
    for run in out.runs() {
        for index in run.range {
            let EntryOp::Put(value) = run.columns.op(index) else { panic!("a delete in a scan") };
            let slot = run.class.slot(run.columns.times()[index]);
            all.push((run.series.to_vec(), slot, value.into_owned()));
        }
    }
}

fn check_scan(world: &World, dice: &mut Dice, view: &View<'_>, contents: &Contents, spread: u64) {
    let (a, b) = (random_time(dice, spread), random_time(dice, spread));
    let (from, to) = match dice.roll(9) {
        0..3 => (i64::MIN, i64::MAX),
        // A client may well ask for nothing.
        3 => (a.max(b), a.min(b)),
        _ => (a.min(b), a.max(b)),
    };
    let request = ScanRequest {
        keys: random_keys(dice),
        from,
        to,
        all_slots: dice.roll(2) == 0,
        reverse: dice.roll(2) == 0,
        limit: *dice.pick(&[u64::MAX, u64::MAX, 1, 10, 1000]),
        answer: ScanAnswer::Entries,
    };
    let max_entries = *dice.pick(&[1, 3, 100, 100_000]);
    let mut position = ScanPosition::default();
    let mut found = Vec::new();
    let mut calls = 0;
    loop {
        let mut out = ScanOutput::default();
        let status =
            world.complete(|pins| scan_step(view, &request, &mut position, max_entries, pins, &mut out));
        collect(&out, &mut found);
        if status == ScanStatus::Done {
            break;
        }
        calls += 1;
        assert!(calls < 200_000, "{request:?} gets nowhere");
    }
    let expected = expected_scan(contents, &request, view.keys);
    let first = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert!(
        found.len() == expected.len() && first.is_none(),
        "{request:?} in steps of {max_entries}: {} of {} entries, first difference {:?}",
        found.len(),
        expected.len(),
        first.map(|at| (&found[at], &expected[at])),
    );
    assert_eq!(position.emitted(), expected.len() as u64);
}

fn check_points(world: &World, dice: &mut Dice, view: &View<'_>, contents: &Contents, spread: u64) {
    let series = random_series(dice);
    let owned = view.keys.contains(&series);
    let mut scratch = Scratch::default();
    let slot = match dice.roll(4) {
        0 => Slot::Metadata,
        1 => Slot::Timeless,
        _ => Slot::Time(random_time(dice, spread)),
    };
    let found = world.complete(|pins| {
        let mut scratch = Scratch::default();
        Ok(match find_slot(view, &series, slot, pins, &mut scratch)? {
            Step::Ready(found) => Step::Ready(found.map(|found| found.value.into_owned())),
            Step::Need(blocks) => Step::Need(blocks),
        })
    });
    let expected = contents.get(&(series.clone(), slot)).filter(|_| owned);
    assert_eq!(found.as_ref(), expected, "{series:?} {slot:?}");

    let of_class = |class: SlotClass| -> Vec<(i64, OwnedValue)> {
        let wanted = |((other, slot), _): &(&(Vec<u8>, Slot), &OwnedValue)| {
            *other == series && slot.class() == class && owned
        };
        let all = contents.iter().filter(wanted);
        all.map(|((_, slot), value)| (slot.time_or_zero(), value.clone())).collect()
    };
    let mut search = NewestSearch::default();
    let found = world.complete(|pins| {
        let mut scratch = Scratch::default();
        Ok(match newest(view, &series, &mut search, pins, &mut scratch)? {
            Step::Ready(found) => Step::Ready(found.map(|found| (found.time, found.value.into_owned()))),
            Step::Need(blocks) => Step::Need(blocks),
        })
    });
    assert_eq!(found, of_class(SlotClass::Time).pop(), "newest of {series:?}");
    for class in [SlotClass::Metadata, SlotClass::Timeless, SlotClass::Time] {
        let mut search = NewestSearch::default();
        let exists =
            world.complete(|pins| class_exists(view, &series, class, &mut search, pins, &mut scratch));
        assert_eq!(exists, !of_class(class).is_empty(), "{class:?} of {series:?}");
    }
}

fn check_keys(world: &World, dice: &mut Dice, view: &View<'_>, contents: &Contents) {
    let keys = random_keys(dice);
    let after = (dice.roll(2) == 0).then(|| random_series(dice));
    let mut expected: BTreeMap<Vec<u8>, KeyKind> = BTreeMap::new();
    for (series, slot) in contents.keys() {
        let kind = if *slot == Slot::Timeless { KeyKind::String } else { KeyKind::Series };
        let entry = expected.entry(series.clone()).or_insert(kind);
        if kind == KeyKind::String {
            *entry = kind;
        }
    }
    expected.retain(|series, _| {
        keys.contains(series)
            && view.keys.contains(series)
            && after.as_ref().is_none_or(|after| series > after)
    });
    let mut position = KeyPosition::behind(after.as_deref());
    let mut scratch = Scratch::default();
    let mut found = BTreeMap::new();
    let max_keys = *dice.pick(&[1, 2, 100]);
    while world.complete(|pins| {
        let mut visit = |series: &[u8], kind| {
            assert!(found.insert(series.to_vec(), kind).is_none(), "{series:?} twice");
        };
        key_page_step(view, &keys, &mut position, max_keys, pins, &mut scratch, &mut visit)
    }) == ScanStatus::More
    {}
    assert_eq!(found, expected, "keys after {after:?} of {keys:?}");
}

fn check_world(seed: u64, count: u64, spread: u64, replace: bool, queries: usize) {
    let mut dice = Dice(seed);
    let world = World::random(&mut dice, count, spread, replace);
    let memtables: Vec<_> = world.memtables.iter().collect();
    for _ in 0..3 {
        let snapshot = match dice.roll(3) {
            0 if !replace => Seqno(dice.roll(count) + 1),
            1 => Seqno(count),
            _ => Seqno::MAX,
        };
        let keys = if dice.roll(2) == 0 { KeyRange::all() } else { random_keys(&mut dice) };
        let view = world.view(&memtables, snapshot, &keys);
        let contents = world.contents(snapshot);
        for _ in 0..queries {
            check_scan(&world, &mut dice, &view, &contents, spread);
            check_points(&world, &mut dice, &view, &contents, spread);
            check_points(&world, &mut dice, &view, &contents, spread);
            check_keys(&world, &mut dice, &view, &contents);
        }
    }
}

#[test]
fn reads_answer_as_the_model_does() {
    // Anything wrong here is a wrong answer to a client: a lost write, a deleted value that comes back, a duplicate.
    for seed in 0..100 {
        let spread = [4, 40, 400][seed as usize % 3];
        let replace = seed % 4 == 0;
        eprintln!("seed {seed}: check_world({seed}, 300, {spread}, {replace}, 8)");
        check_world(seed, 300, spread, replace, 8);
    }
}

#[test]
fn reads_over_many_blocks_answer_as_the_model_does() {
    // Series that span blocks and chunks, and versions of one slot that go on in the next, have paths of their own.
    for seed in 1000..1008 {
        let spread = [3, 3000][seed as usize % 2];
        let replace = seed % 4 == 0;
        eprintln!("seed {seed}: check_world({seed}, 8000, {spread}, {replace}, 4)");
        check_world(seed, 8000, spread, replace, 4);
    }
}

fn samples(times: std::ops::Range<i64>) -> Vec<Write> {
    let sample = |time: i64| {
        let value = Some(OwnedValue::F64(time as f64 * 1.37));
        Write::Entry { series: b"s".to_vec(), slot: Slot::Time(time), value }
    };
    times.map(sample).collect()
}

fn newest_and_reads(world: &World, seqno: Seqno, delete: Option<DeleteScope<'_>>) -> (Option<i64>, usize) {
    let mut memtable = Memtable::new(1);
    if let Some(scope) = delete {
        memtable.delete_range(RangeDelete::new(scope, seqno), Lsn(1));
    }
    let (memtables, keys) = ([&memtable], KeyRange::all());
    let view = world.view(&memtables, Seqno::MAX, &keys);
    let mut search = NewestSearch::default();
    let mut scratch = Scratch::default();
    world.complete_counting(|pins| {
        Ok(match newest(&View { ..view }, b"s", &mut search, pins, &mut scratch)? {
            Step::Ready(found) => Step::Ready(found.map(|found| found.time)),
            Step::Need(blocks) => Step::Need(blocks),
        })
    })
}

#[test]
fn the_newest_sample_is_found_without_reading_history() {
    // TS.ADD looks for it before every late sample: reading a long series for that would stop the shard.
    let world = World::of_table(samples(0..50_000));
    assert!(world.version.tables()[0].index.block_count() > 10);
    let after = Seqno(60_000);
    assert_eq!(newest_and_reads(&world, after, None), (Some(49_999), 1));
    let latest = DeleteScope::TimeRange { series: b"s", from: 20_000, to: i64::MAX };
    assert_eq!(newest_and_reads(&world, after, Some(latest)), (Some(19_999), 1));
    let all = DeleteScope::Series { series: b"s" };
    assert_eq!(newest_and_reads(&world, after, Some(all)), (None, 0));
    let first = DeleteScope::TimeRange { series: b"s", from: i64::MIN, to: 49_998 };
    assert_eq!(newest_and_reads(&world, after, Some(first)), (Some(49_999), 1));
}

#[test]
fn a_limited_scan_reads_no_more_blocks_than_it_visits() {
    // A reader that asks for ten samples of a long series must not pay for all of it.
    let world = World::of_table(samples(0..50_000));
    let keys = KeyRange::all();
    let memtables: Vec<_> = world.memtables.iter().collect();
    let view = world.view(&memtables, Seqno::MAX, &keys);
    for (reverse, limit, reads_max) in [(false, 10, 1), (true, 10, 1), (false, 8000, 16)] {
        let (from, to) = (i64::MIN, i64::MAX);
        let all = KeyRange::all();
        let request = ScanRequest {
            keys: all,
            from,
            to,
            all_slots: false,
            reverse,
            limit,
            answer: ScanAnswer::Entries,
        };
        let (mut position, mut out) = (ScanPosition::default(), ScanOutput::default());
        let mut reads = 0;
        loop {
            let step =
                |pins: &mut world::Pins| scan_step(&view, &request, &mut position, 8192, pins, &mut out);
            let (status, count) = world.complete_counting(step);
            reads += count;
            if status == ScanStatus::Done {
                break;
            }
        }
        assert_eq!(out.len() as u64, limit);
        assert!(reads <= reads_max, "{reads} blocks for {limit} samples");
    }
}

#[test]
fn a_step_over_deleted_entries_is_bounded() {
    // A million deleted entries must not hold a core: the step says More and others have their turn.
    let mut memtable = Memtable::new(0);
    let count = 100_000_u64;
    for time in 0..count {
        let (series, op) = if time % 2 == 0 {
            (b"points", EntryOp::Delete)
        } else {
            (b"ranges", EntryOp::Put(Value::I64(1)))
        };
        memtable.insert(series, Slot::Time(time as i64), Seqno(time + 1), op, Lsn(time), true);
    }
    memtable
        .delete_range(RangeDelete::new(DeleteScope::Series { series: b"ranges" }, Seqno(count + 1)), Lsn(0));
    let (memtables, version, keys) = ([&memtable], Version::default(), KeyRange::all());
    let view = View { memtables: &memtables, version: &version, snapshot: Seqno::MAX, keys: &keys };
    for reverse in [false, true] {
        let all = KeyRange::all();
        let (from, to, limit) = (i64::MIN, i64::MAX, u64::MAX);
        let request = ScanRequest {
            keys: all,
            from,
            to,
            all_slots: false,
            reverse,
            limit,
            answer: ScanAnswer::Entries,
        };
        let (mut position, mut out) = (ScanPosition::default(), ScanOutput::default());
        let mut calls = 0;
        let mut pins = world::Pins::default();
        while let Step::Ready(ScanStatus::More) =
            scan_step(&view, &request, &mut position, 1000, &mut pins, &mut out).expect("no tables")
        {
            calls += 1;
        }
        assert!(out.is_empty());
        assert!((90..300).contains(&calls), "{calls} calls of 1000 entries for {count}");
    }
}

#[test]
fn a_step_ends_when_it_has_gathered_enough_bytes() {
    // 8192 values of a mebibyte would be 8 GiB in one step.
    let mut memtable = Memtable::new(0);
    let value = vec![1; 100_000];
    for time in 0..50 {
        let seqno = time as u64 + 1;
        let put = EntryOp::Put(Value::Bytes(&value));
        memtable.insert(b"s", Slot::Time(time), Seqno(seqno), put, Lsn(seqno), true);
    }
    let (memtables, version, keys) = ([&memtable], Version::default(), KeyRange::all());
    let view = View { memtables: &memtables, version: &version, snapshot: Seqno::MAX, keys: &keys };
    for reverse in [false, true] {
        let all = KeyRange::all();
        let (from, to, limit) = (i64::MIN, i64::MAX, u64::MAX);
        let request = ScanRequest {
            keys: all,
            from,
            to,
            all_slots: false,
            reverse,
            limit,
            answer: ScanAnswer::Entries,
        };
        let mut position = ScanPosition::default();
        let mut gathered = 0;
        loop {
            let (mut out, mut pins) = (ScanOutput::default(), world::Pins::default());
            let step = scan_step(&view, &request, &mut position, 8192, &mut pins, &mut out);
            assert!(out.bytes() <= crate::limits::SCAN_CHUNK_BYTES + 110_000, "{} bytes", out.bytes());
            gathered += out.len();
            match step.expect("no tables") {
                Step::Ready(ScanStatus::More) => {}
                Step::Ready(ScanStatus::Done) => break,
                Step::Need(blocks) => panic!("{} blocks of no table", blocks.len()),
            }
        }
        assert_eq!(gathered, 50);
    }
}
