//! Reads over memtables and tables against a plain model, with a cache of zero blocks: every wait point is taken.
#![expect(clippy::cast_possible_truncation, reason = "rolled numbers are small")]

mod world;

use super::*;
use crate::model::{KeyKind, OwnedValue, ScanRequest, Slot, SlotClass};
use std::collections::BTreeMap;
use world::{Contents, Dice, World, random_keys, random_series, random_time};

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
            let crate::model::EntryOp::Put(value) = run.columns.op(index) else {
                panic!("a delete in a scan")
            };
            let slot = run.class.slot(run.columns.times()[index]);
            all.push((run.series.to_vec(), slot, value.into_owned()));
        }
    }
}

fn check_scan(world: &World, dice: &mut Dice, view: &View<'_>, contents: &Contents, spread: u64) {
    let (a, b) = (random_time(dice, spread), random_time(dice, spread));
    let (from, to) = if dice.roll(3) == 0 { (i64::MIN, i64::MAX) } else { (a.min(b), a.max(b)) };
    let request = ScanRequest {
        keys: random_keys(dice),
        from,
        to,
        all_slots: dice.roll(2) == 0,
        reverse: dice.roll(2) == 0,
        limit: *dice.pick(&[u64::MAX, u64::MAX, 1, 10, 1000]),
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
