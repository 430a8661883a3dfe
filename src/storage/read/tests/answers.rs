//! Scans that answer with the newest sample of each series, or take chunks as their statistics.

use super::world::{Dice, World, Write, random_keys, random_time};
use super::*;
use crate::model::{Aggregator, BucketGrid, ScanAnswer};

/// Everything that a scan gives out, and how many blocks it read.
fn run(
    world: &World,
    view: &View<'_>,
    request: &ScanRequest,
    max_entries: usize,
    mut visit: impl FnMut(&ScanRun<'_>),
) -> usize {
    let (mut position, mut reads) = (ScanPosition::default(), 0);
    for _ in 0..200_000 {
        let mut out = ScanOutput::default();
        let step =
            |pins: &mut world::Pins| scan_step(view, request, &mut position, max_entries, pins, &mut out);
        let (status, count) = world.complete_counting(step);
        reads += count;
        out.runs().for_each(|run| visit(&run));
        if status == ScanStatus::Done {
            return reads;
        }
    }
    panic!("{request:?} gets nowhere");
}

fn request(keys: KeyRange, times: (i64, i64), reverse: bool, answer: ScanAnswer) -> ScanRequest {
    let (from, to) = times;
    ScanRequest { keys, from, to, all_slots: false, reverse, limit: u64::MAX, answer }
}

#[test]
fn the_newest_of_each_series_is_the_last_that_is_visible() {
    // A deleted, overwritten or late sample shown as the newest is a wrong reading on a dashboard.
    for seed in 0..60 {
        let dice = &mut Dice(seed);
        let spread = *dice.pick(&[30, 300, 3000]);
        let count = 50 + dice.roll(1500);
        let world = World::random(dice, count, spread, false);
        let memtables: Vec<_> = world.memtables.iter().collect();
        let snapshot = if dice.roll(2) == 0 { Seqno::MAX } else { Seqno(dice.roll(count)) };
        let contents = world.contents(snapshot);
        let own = random_keys(dice);
        let view = world.view(&memtables, snapshot, &own);
        for _ in 0..6 {
            let (a, b) = (random_time(dice, spread), random_time(dice, spread));
            let times = if dice.roll(2) == 0 { (i64::MIN, i64::MAX) } else { (a.min(b), a.max(b)) };
            let mut request = request(random_keys(dice), times, dice.roll(2) == 0, ScanAnswer::Newest);
            request.limit = *dice.pick(&[u64::MAX, u64::MAX, 1, 3]);
            let all = ScanRequest { reverse: false, limit: u64::MAX, ..request.clone() };
            // Later samples of a series replace earlier ones.
            let newest: BTreeMap<Vec<u8>, (Slot, OwnedValue)> = expected_scan(&contents, &all, &own)
                .into_iter()
                .map(|(series, slot, value)| (series, (slot, value)))
                .collect();
            let mut expected: Vec<_> =
                newest.into_iter().map(|(series, (slot, value))| (series, slot, value)).collect();
            if request.reverse {
                expected.reverse();
            }
            expected.truncate(usize::try_from(request.limit).unwrap_or(usize::MAX));
            let mut found = Vec::new();
            let max_entries = *dice.pick(&[1, 3, 100_000]);
            run(&world, &view, &request, max_entries, |run| {
                for index in run.range.clone() {
                    let EntryOp::Put(value) = run.columns.op(index) else { panic!("a delete in a scan") };
                    let slot = run.class.slot(run.columns.times()[index]);
                    found.push((run.series.to_vec(), slot, value.into_owned()));
                }
            });
            assert_eq!(found, expected, "seed {seed}: {request:?}");
        }
    }
}

#[test]
fn the_newest_of_each_series_leaves_the_history_unread() {
    // A dashboard that shows the last value of each series must not pay for the years before.
    let (tables, series_count, samples) = (4_i64, 5, 10_000);
    let lists = (0..tables).map(|table| {
        let of_series = |series: u8| {
            (0..samples).map(move |step| {
                let time = table * samples + step;
                let noise = (time as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let value = Some(OwnedValue::F64(f64::from_bits(noise >> 2)));
                Write::Entry { series: vec![b's', series], slot: Slot::Time(time), value }
            })
        };
        (0..series_count).flat_map(of_series).collect()
    });
    let world = World::of_tables(lists.collect());
    let blocks: usize = world.version.tables().iter().map(|table| table.index.block_count()).sum();
    let memtables: Vec<_> = world.memtables.iter().collect();
    let keys = KeyRange::all();
    let view = world.view(&memtables, Seqno::MAX, &keys);
    for reverse in [false, true] {
        let request = request(KeyRange::all(), (i64::MIN, i64::MAX), reverse, ScanAnswer::Newest);
        let mut found = 0;
        let reads = run(&world, &view, &request, 8192, |run| {
            assert!(run.columns.times()[run.range.clone()].iter().all(|time| *time == tables * samples - 1));
            found += run.range.len();
        });
        assert_eq!(found, usize::from(series_count));
        // Of the newest table, where each series ends; of each other, only where one series ends and the next begins,
        // to learn its name.
        let reads_max = usize::from(series_count) * (tables as usize + 1);
        assert!(reads <= reads_max && reads * 3 < blocks, "{reads} of {blocks} blocks, reverse {reverse}");
    }
}

/// Long stretches of numbers, with what can come between a chunk and its statistics.
fn stretches(dice: &mut Dice) -> Vec<Write> {
    let mut writes = Vec::new();
    for _ in 0..3 + dice.roll(8) {
        let series = dice.pick(&world::SERIES[..3]).to_vec();
        let start = dice.roll(20_000) as i64 - 5000;
        let kind = dice.roll(8);
        for step in 0..1 + dice.roll(2500) as i64 {
            let number = dice.roll(2000) as f64 - 1000.0;
            let value = match kind {
                0 if dice.roll(300) == 0 => OwnedValue::F64(f64::NAN),
                1 if dice.roll(300) == 0 => OwnedValue::F64(number * 1e300),
                2 => OwnedValue::I64(number as i64),
                _ => OwnedValue::F64(number),
            };
            writes.push(Write::Entry {
                series: series.clone(),
                slot: Slot::Time(start + step),
                value: Some(value),
            });
        }
        let (seqno, time) = (Seqno(writes.len() as u64 + 1), start + dice.roll(2500) as i64);
        match dice.roll(7) {
            0 => writes.push(Write::Delete(RangeDelete::new(DeleteScope::Series { series: &series }, seqno))),
            1 | 2 => {
                let to = time + dice.roll(200) as i64;
                let scope = DeleteScope::TimeRange { series: &series, from: time, to };
                writes.push(Write::Delete(RangeDelete::new(scope, seqno)));
            }
            3 => writes.push(Write::Entry { series, slot: Slot::Time(time), value: None }),
            4 => {
                let value = Some(OwnedValue::F64(7.0));
                writes.push(Write::Entry { series, slot: Slot::Time(time), value });
            }
            _ => {}
        }
    }
    writes
}

/// Writes as flushes leave them: one table after the other.
fn cut(dice: &mut Dice, mut writes: Vec<Write>) -> Vec<Vec<Write>> {
    let mut lists = Vec::new();
    for _ in 0..dice.roll(3) {
        let later = writes.split_off(dice.roll(writes.len() as u64 + 1) as usize);
        lists.push(std::mem::replace(&mut writes, later));
    }
    lists.push(writes);
    lists
}

#[test]
fn statistics_stand_for_exactly_what_is_visible() {
    // A chunk taken for more, or less, than the snapshot sees of it is a wrong total that nobody notices.
    let mut taken = 0;
    for seed in 0..60 {
        let dice = &mut Dice(seed);
        let writes = stretches(dice);
        let count = writes.len() as u64;
        let mut world = match dice.roll(4) {
            0 => World::scattered(dice, writes, false),
            _ => World::of_tables(cut(dice, writes)),
        };
        world.grow_old(dice);
        let memtables: Vec<_> = world.memtables.iter().collect();
        let snapshot = if dice.roll(3) > 0 { Seqno::MAX } else { Seqno(dice.roll(count)) };
        let contents = world.contents(snapshot);
        let own = KeyRange::all();
        let view = world.view(&memtables, snapshot, &own);
        for _ in 0..4 {
            let (a, b) = (random_time(dice, 20_000), random_time(dice, 20_000));
            let times = if dice.roll(2) == 0 { (i64::MIN, i64::MAX) } else { (a.min(b), a.max(b)) };
            let grid = BucketGrid {
                width: *dice.pick(&[100, 3000, 10_000, 50_000, i64::MAX]),
                align: *dice.pick(&[0, 7, i64::MIN, i64::MAX]),
            };
            let aggregator = *dice.pick(&[Aggregator::Sum, Aggregator::Max, Aggregator::Last]);
            let answer = ScanAnswer::Buckets { aggregator, grid };
            let keys = if dice.roll(2) == 0 { random_keys(dice) } else { KeyRange::all() };
            let request = request(keys, times, dice.roll(2) == 0, answer);
            let expected = expected_scan(&contents, &request, &own);
            let mut rest = expected.as_slice();
            let max_entries = *dice.pick(&[20, 8192, 8192, 8192]);
            run(&world, &view, &request, max_entries, |run| {
                for index in run.range.clone() {
                    let EntryOp::Put(value) = run.columns.op(index) else { panic!("a delete in a scan") };
                    let found =
                        (run.series.to_vec(), Slot::Time(run.columns.times()[index]), value.into_owned());
                    let (next, after) = rest.split_first().expect("no more than is visible");
                    assert!(found == *next, "seed {seed}: {found:?}, not {next:?}, in {request:?}");
                    rest = after;
                }
                let Some(chunk) = &run.summary else { return };
                taken += 1;
                let (samples, after) = rest.split_at(chunk.stats.count as usize);
                rest = after;
                check_summary(run.series, chunk, samples, request.reverse);
                assert_eq!(grid.start_of(chunk.first_time), grid.start_of(chunk.last_time));
                let sums = aggregator == Aggregator::Sum;
                assert!(!sums || (chunk.stats.min > -1e290 && chunk.stats.max < 1e290), "{chunk:?}");
            });
            assert!(rest.is_empty(), "seed {seed}: {} samples are missing of {request:?}", rest.len());
        }
    }
    assert!(taken > 50, "only {taken} chunks were taken by their statistics: the test looks at nothing");
}

fn check_summary(
    series: &[u8],
    chunk: &ChunkSummary,
    samples: &[(Vec<u8>, Slot, OwnedValue)],
    reverse: bool,
) {
    assert!(samples.iter().all(|(other, _, _)| other == series));
    let mut points: Vec<(i64, f64)> = samples
        .iter()
        .map(|(_, slot, value)| (slot.time_or_zero(), value.borrow().as_f64().expect("a number")))
        .collect();
    if reverse {
        points.reverse();
    }
    let values = || points.iter().map(|(_, value)| *value);
    let (first, last) = (points[0], points[points.len() - 1]);
    assert_eq!((first.0, last.0), (chunk.first_time, chunk.last_time));
    assert_eq!((first.1, last.1), (chunk.stats.first, chunk.stats.last));
    assert_eq!(chunk.stats.min, values().fold(f64::INFINITY, f64::min));
    assert_eq!(chunk.stats.max, values().fold(f64::NEG_INFINITY, f64::max));
    assert_eq!(chunk.stats.sum, values().sum::<f64>(), "the same order of additions");
}
