//! Hand-computed cases, and random queries against a naive model.

use super::*;
use crate::storage::sstable::ChunkStats;
use proptest::prelude::*;

fn query(from: i64, to: i64) -> RangeQuery {
    RangeQuery {
        from,
        to,
        reverse: false,
        filter_times: None,
        filter_values: None,
        count: None,
        aggregation: None,
    }
}

fn aggregated(from: i64, to: i64, aggregator: Aggregator, bucket: i64) -> RangeQuery {
    let aggregation = Aggregation {
        aggregators: vec![aggregator],
        bucket,
        align: 0,
        bucket_timestamp: BucketTimestamp::Start,
        empty: false,
    };
    RangeQuery { aggregation: Some(aggregation), ..query(from, to) }
}

fn with_empty(mut query: RangeQuery) -> RangeQuery {
    query.aggregation.as_mut().unwrap().empty = true;
    query
}

/// Feeds a series (ascending) as a shard would, in slices of `slice` samples.
fn run_in_slices(
    query: &RangeQuery,
    series: &[Sample],
    slice: usize,
    limits: EvaluationLimits,
) -> Result<Vec<(i64, Vec<f64>)>, TooManyRows> {
    let mut evaluation = RangeEvaluation::new(query.clone(), limits);
    let inside = |(from, to): (i64, i64)| {
        series.iter().copied().filter(move |sample| (from..=to).contains(&sample.0)).collect::<Vec<_>>()
    };
    if let Some(range) = evaluation.before_range() {
        let _found = inside(range).into_iter().rev().any(|(time, value)| evaluation.before(time, value));
    }
    let samples = evaluation.scan_range().map(inside).unwrap_or_default();
    let mut slices: Vec<_> = samples.chunks(slice).collect();
    if evaluation.order() == Order::Descending {
        slices.reverse();
    }
    for slice in slices {
        let (times, values): (Vec<_>, Vec<_>) = slice.iter().copied().unzip();
        if evaluation.push(&times, &values)? == Progress::Enough {
            break;
        }
    }
    if let Some(range) = evaluation.after_range() {
        let _found = inside(range).into_iter().any(|(time, value)| evaluation.after(time, value));
    }
    evaluation.finish()?;
    let rows = evaluation.values().chunks_exact(evaluation.width()).map(<[f64]>::to_vec);
    Ok(evaluation.times().iter().copied().zip(rows).collect())
}

/// One value per row.
fn run(query: &RangeQuery, series: &[Sample]) -> Vec<Sample> {
    let rows = run_in_slices(query, series, 2, EvaluationLimits::default()).unwrap();
    rows.into_iter().map(|(time, values)| (time, values[0])).collect()
}

/// NaN equals NaN.
fn assert_rows(found: &[Sample], expected: &[Sample]) {
    let bits = |rows: &[Sample]| rows.iter().map(|(t, v)| (*t, v.to_bits())).collect::<Vec<_>>();
    let plain = |rows: &[Sample]| {
        rows.iter().map(|(t, v)| (*t, if v.is_nan() { f64::NAN } else { *v })).collect::<Vec<_>>()
    };
    assert_eq!(bits(&plain(found)), bits(&plain(expected)), "found {found:?}, expected {expected:?}");
}

const SERIES: [Sample; 6] = [(1, 10.0), (3, 30.0), (11, 5.0), (12, 15.0), (41, 100.0), (55, 7.0)];

#[test]
fn without_aggregation_samples_come_as_they_are() {
    // The plainest read: a lost end sample or a wrong order shows at once to every client.
    assert_rows(&run(&query(i64::MIN, i64::MAX), &SERIES), &SERIES);
    assert_rows(&run(&query(3, 12), &SERIES), &SERIES[1..4]);
    assert_rows(&run(&query(12, 3), &SERIES), &[]);
    let newest_two = RangeQuery { reverse: true, count: Some(2), ..query(i64::MIN, i64::MAX) };
    assert_rows(&run(&newest_two, &SERIES), &[(55, 7.0), (41, 100.0)]);
    let oldest_two = RangeQuery { count: Some(2), ..query(2, i64::MAX) };
    assert_rows(&run(&oldest_two, &SERIES), &SERIES[1..3]);
}

#[test]
fn filters_work_on_raw_samples() {
    // Filtering after aggregation would compare averages with bounds meant for samples.
    let by_value = RangeQuery { filter_values: Some((7.0, 30.0)), ..query(0, 100) };
    assert_rows(&run(&by_value, &SERIES), &[(1, 10.0), (3, 30.0), (12, 15.0), (55, 7.0)]);
    let by_time = RangeQuery { filter_times: Some(vec![3, 4, 41]), ..query(0, 100) };
    assert_rows(&run(&by_time, &SERIES), &[(3, 30.0), (41, 100.0)]);
    let both = RangeQuery { filter_values: Some((0.0, 20.0)), ..aggregated(0, 100, Aggregator::Sum, 20) };
    assert_rows(&run(&both, &SERIES), &[(0, 30.0), (40, 7.0)]);
    let nan = RangeQuery { filter_values: Some((f64::NEG_INFINITY, f64::INFINITY)), ..query(0, 9) };
    assert_rows(&run(&nan, &[(1, f64::NAN), (2, 1.0)]), &[(2, 1.0)]);
    assert_rows(&run(&query(0, 9), &[(1, f64::NAN)]), &[(1, f64::NAN)]);
}

#[test]
fn each_aggregator_by_hand() {
    // One bucket of 2, 4, 4, 4, 5, 5, 7, 9: mean 5, population variance 4.
    let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
    let series: Vec<_> = (10..).zip(values).collect();
    let cases = [
        (Aggregator::Avg, 5.0),
        (Aggregator::Sum, 40.0),
        (Aggregator::Min, 2.0),
        (Aggregator::Max, 9.0),
        (Aggregator::Range, 7.0),
        (Aggregator::Count, 8.0),
        (Aggregator::First, 2.0),
        (Aggregator::Last, 9.0),
        (Aggregator::VarP, 4.0),
        (Aggregator::StdP, 2.0),
        (Aggregator::VarS, 32.0 / 7.0),
        (Aggregator::StdS, (32.0_f64 / 7.0).sqrt()),
        // Trapezoids: (2+4)/2 + 4 + 4 + 4.5 + 5 + 6 + 8 over 7.
        (Aggregator::Twa, 34.5 / 7.0),
    ];
    for (aggregator, expected) in cases {
        assert_rows(&run(&aggregated(0, 100, aggregator, 100), &series), &[(0, expected)]);
    }
    for aggregator in
        [Aggregator::VarS, Aggregator::StdS, Aggregator::VarP, Aggregator::StdP, Aggregator::Range]
    {
        assert_rows(&run(&aggregated(0, 100, aggregator, 100), &[(1, 3.5)]), &[(0, 0.0)]);
    }
}

#[test]
fn mean_survives_a_sum_beyond_the_doubles() {
    // Two readings of 1e308 average to 1e308, not to infinity.
    let series = [(1, 1e308), (2, 1e308), (3, 1e308)];
    let rows = run(&aggregated(0, 9, Aggregator::Avg, 10), &series);
    assert!((rows[0].1 / 1e308 - 1.0).abs() < 1e-12, "{rows:?}");
    assert_rows(&run(&aggregated(0, 9, Aggregator::Sum, 10), &series), &[(0, f64::INFINITY)]);
}

#[test]
fn buckets_follow_alignment_and_report_the_time_asked_for() {
    // A bucket shifted by one unit moves samples between hours of a report.
    let mut query = aggregated(0, 100, Aggregator::Count, 10);
    assert_rows(&run(&query, &SERIES), &[(0, 2.0), (10, 2.0), (40, 1.0), (50, 1.0)]);
    query.aggregation.as_mut().unwrap().align = 2;
    // Buckets [-8,2) [2,12) [12,22) [32,42) [52,62); the first reports 0.
    assert_rows(&run(&query, &SERIES), &[(0, 1.0), (2, 2.0), (12, 1.0), (32, 1.0), (52, 1.0)]);
    query.aggregation.as_mut().unwrap().align = 0;
    query.aggregation.as_mut().unwrap().bucket_timestamp = BucketTimestamp::Mid;
    assert_rows(&run(&query, &SERIES), &[(5, 2.0), (15, 2.0), (45, 1.0), (55, 1.0)]);
    query.aggregation.as_mut().unwrap().bucket_timestamp = BucketTimestamp::End;
    assert_rows(&run(&query, &SERIES), &[(10, 2.0), (20, 2.0), (50, 1.0), (60, 1.0)]);
    let negative = aggregated(i64::MIN, i64::MAX, Aggregator::Count, 10);
    assert_rows(
        &run(&negative, &[(-25, 1.0), (-21, 1.0), (-1, 1.0), (0, 1.0)]),
        &[(-30, 2.0), (-10, 1.0), (0, 1.0)],
    );
}

#[test]
fn count_limits_rows_and_reverse_keeps_the_newest() {
    // COUNT before reversing would return the oldest buckets to who asks for the newest.
    let query = RangeQuery { count: Some(3), ..aggregated(0, 100, Aggregator::Max, 10) };
    assert_rows(&run(&query, &SERIES), &[(0, 30.0), (10, 15.0), (40, 100.0)]);
    let reverse = RangeQuery { reverse: true, ..query };
    assert_rows(&run(&reverse, &SERIES), &[(50, 7.0), (40, 100.0), (10, 15.0)]);
    let many: Vec<_> = (0..10_000).map(|time| (time, 1.0)).collect();
    let newest = RangeQuery { reverse: true, count: Some(2), ..aggregated(0, 20_000, Aggregator::Sum, 3) };
    assert_rows(&run(&newest, &many), &[(9999, 1.0), (9996, 3.0)]);
}

#[test]
fn empty_fills_gaps_between_samples() {
    // Charts draw a line through a gap that is not reported as one.
    let nan = f64::NAN;
    let empty = |aggregator| with_empty(aggregated(0, 60, aggregator, 10));
    let expected = |gap: f64, values: [f64; 4]| {
        [(0, values[0]), (10, values[1]), (20, gap), (30, gap), (40, values[2]), (50, values[3])]
    };
    assert_rows(&run(&empty(Aggregator::Sum), &SERIES), &expected(0.0, [40.0, 20.0, 100.0, 7.0]));
    assert_rows(&run(&empty(Aggregator::Count), &SERIES), &expected(0.0, [2.0, 2.0, 1.0, 1.0]));
    assert_rows(&run(&empty(Aggregator::Last), &SERIES), &expected(15.0, [30.0, 15.0, 100.0, 7.0]));
    assert_rows(&run(&empty(Aggregator::Min), &SERIES), &expected(nan, [10.0, 5.0, 100.0, 7.0]));
    assert_rows(&run(&empty(Aggregator::First), &SERIES), &expected(nan, [10.0, 5.0, 100.0, 7.0]));
}

#[test]
fn empty_fills_edges_only_between_samples() {
    // Without the rule of a sample on both sides, `- +` would run to infinity.
    let nan = f64::NAN;
    let query = with_empty(aggregated(20, 39, Aggregator::Avg, 10));
    assert_rows(&run(&query, &SERIES), &[(20, nan), (30, nan)]);
    assert_rows(&run(&query, &SERIES[..4]), &[]);
    assert_rows(&run(&query, &SERIES[4..]), &[]);
    let leading = with_empty(aggregated(20, 49, Aggregator::Avg, 10));
    assert_rows(&run(&leading, &SERIES), &[(20, nan), (30, nan), (40, 100.0)]);
    assert_rows(&run(&leading, &SERIES[4..]), &[(40, 100.0)]);
    let trailing = with_empty(aggregated(10, 29, Aggregator::Last, 10));
    assert_rows(&run(&trailing, &SERIES), &[(10, 15.0), (20, 15.0)]);
    assert_rows(&run(&trailing, &SERIES[..4]), &[(10, 15.0)]);
    assert_rows(
        &run(&with_empty(aggregated(i64::MIN, i64::MAX, Aggregator::Sum, 50)), &SERIES),
        &[(0, 160.0), (50, 7.0)],
    );
    // The neighbour must pass the filters too.
    let filtered = RangeQuery { filter_values: Some((50.0, 200.0)), ..leading };
    assert_rows(&run(&filtered, &SERIES), &[(40, 100.0)]);
}

#[test]
fn twa_uses_the_neighbours_of_a_bucket() {
    // Straight line v = t: any stretch of it averages to its middle.
    let line: Vec<_> = [(0, 0.0), (10, 10.0), (14, 14.0), (30, 30.0)].to_vec();
    let whole = aggregated(0, 30, Aggregator::Twa, 10);
    // [0,10): 0 to 10. [10,20): 10 to 20. [30,40): 30 alone, with the line from 30 to 30.
    assert_rows(&run(&whole, &line), &[(0, 5.0), (10, 15.0), (30, 30.0)]);
    assert_rows(&run(&with_empty(whole), &line), &[(0, 5.0), (10, 15.0), (20, 25.0), (30, 30.0)]);
    // Neighbours outside of the range count, up to its ends: [12, 18] lies on the line from 10 to 30.
    assert_rows(&run(&aggregated(12, 18, Aggregator::Twa, 100), &line), &[(0, 15.0)]);
    // Without neighbours only the stretch between the samples counts.
    assert_rows(&run(&aggregated(0, 100, Aggregator::Twa, 100), &line[1..3]), &[(0, 12.0)]);
    assert_rows(&run(&aggregated(0, 100, Aggregator::Twa, 100), &[(7, 3.0)]), &[(0, 3.0)]);
    let reverse = RangeQuery { reverse: true, ..aggregated(0, 30, Aggregator::Twa, 10) };
    assert_rows(&run(&reverse, &line), &[(30, 30.0), (10, 15.0), (0, 5.0)]);
    assert_rows(&run(&with_empty(aggregated(20, 25, Aggregator::Twa, 10)), &line), &[(20, 22.5)]);
}

#[test]
fn several_aggregators_share_a_row() {
    // Columns that swap places under REVRANGE would exchange minima and maxima.
    let mut query = aggregated(0, 100, Aggregator::Min, 20);
    query.reverse = true;
    query.aggregation.as_mut().unwrap().aggregators =
        vec![Aggregator::Min, Aggregator::Max, Aggregator::Count];
    let rows = run_in_slices(&query, &SERIES, 3, EvaluationLimits::default()).unwrap();
    assert_eq!(rows, [(40, vec![7.0, 100.0, 2.0]), (0, vec![5.0, 30.0, 4.0])]);
}

#[test]
fn the_ends_of_time_do_not_overflow() {
    // Wrapped bucket bounds would loop for ever, or answer with times from the other end.
    let series = [(i64::MIN, 1.0), (0, 2.0), (i64::MAX, 3.0)];
    for aggregator in [Aggregator::Twa, Aggregator::Count] {
        for bucket in [1 << 62, i64::MAX] {
            for align in [i64::MIN, -1, 0, i64::MAX] {
                let mut query = with_empty(aggregated(i64::MIN, i64::MAX, aggregator, bucket));
                query.aggregation.as_mut().unwrap().align = align;
                query.aggregation.as_mut().unwrap().bucket_timestamp = BucketTimestamp::End;
                let rows = run(&query, &series);
                assert!((3..=6).contains(&rows.len()), "{rows:?}");
                assert!(rows.is_sorted_by_key(|row| row.0), "{rows:?}");
            }
        }
    }
}

#[test]
fn the_number_of_rows_is_bounded() {
    // EMPTY with a bucket of 1 between two far samples asks for more rows than there is memory.
    let limits = EvaluationLimits { buckets_max: 100, samples_max: 4 };
    let far = [(0, 1.0), (1 << 60, 1.0)];
    let query = with_empty(aggregated(0, i64::MAX, Aggregator::Sum, 1));
    assert_eq!(run_in_slices(&query, &far, 2, limits), Err(TooManyRows { max: 100 }));
    let newest = RangeQuery { reverse: true, count: Some(3), ..query.clone() };
    let rows = run_in_slices(&newest, &far, 2, limits).unwrap();
    let times: Vec<_> = rows.iter().map(|row| row.0).collect();
    assert_eq!(times, [1 << 60, (1 << 60) - 1, (1 << 60) - 2]);
    let oldest = RangeQuery { count: Some(3), ..query };
    assert_eq!(run_in_slices(&oldest, &far, 2, limits).unwrap().len(), 3);
    assert_eq!(run_in_slices(&super::tests::query(0, 100), &SERIES, 2, limits), Err(TooManyRows { max: 4 }));
}

/// The same answer, computed from the definition, bucket by bucket.
fn naive(query: &RangeQuery, series: &[Sample]) -> Vec<Sample> {
    let keep: Vec<_> = series.iter().copied().filter(|(time, value)| passes(query, *time, *value)).collect();
    let in_range = |time: i64| query.from <= time && time <= query.to;
    let Some(clause) = &query.aggregation else {
        let mut rows: Vec<_> = keep.into_iter().filter(|sample| in_range(sample.0)).collect();
        if query.reverse {
            rows.reverse();
        }
        rows.truncate(query.count.map_or(usize::MAX, |count| usize::try_from(count).unwrap()));
        return rows;
    };
    let keep: Vec<_> = keep.into_iter().filter(|sample| !sample.1.is_nan()).collect();
    let start_of = |time: i64| time - (time - clause.align).rem_euclid(clause.bucket);
    let mut rows = Vec::new();
    if query.from > query.to {
        return rows;
    }
    let mut start = start_of(query.from);
    while start <= query.to {
        let end = start + clause.bucket;
        let inside: Vec<_> =
            keep.iter().copied().filter(|s| in_range(s.0) && (start..end).contains(&s.0)).collect();
        let first_time = start.max(query.from);
        let before = keep.iter().copied().rfind(|sample| sample.0 < first_time);
        let after = keep.iter().copied().find(|sample| sample.0 >= end || sample.0 > query.to);
        let window = Window { start: first_time.into(), end: end.min(query.to).into() };
        let reported = if start < 0 && end > 0 { 0 } else { start };
        let value = match inside.as_slice() {
            [] if clause.empty && before.is_some() && after.is_some() => {
                accumulator::of_nothing(clause.aggregators[0], before, after, window)
            }
            [] => {
                start = end;
                continue;
            }
            samples => naive_value(clause.aggregators[0], before, samples, after, window),
        };
        rows.push((reported, value));
        start = end;
    }
    if query.reverse {
        rows.reverse();
    }
    rows.truncate(query.count.map_or(usize::MAX, |count| usize::try_from(count).unwrap()));
    rows
}

fn naive_value(
    kind: Aggregator,
    before: Option<Sample>,
    samples: &[Sample],
    after: Option<Sample>,
    window: Window,
) -> f64 {
    let values = || samples.iter().map(|sample| sample.1);
    let count = samples.len() as f64;
    let sum: f64 = values().sum();
    let mean = sum / count;
    let squares: f64 = values().map(|value| (value - mean).powi(2)).sum();
    match kind {
        Aggregator::Avg => mean,
        Aggregator::Sum => sum,
        Aggregator::Min => values().fold(f64::INFINITY, f64::min),
        Aggregator::Max => values().fold(f64::NEG_INFINITY, f64::max),
        Aggregator::Range => {
            values().fold(f64::NEG_INFINITY, f64::max) - values().fold(f64::INFINITY, f64::min)
        }
        Aggregator::Count => count,
        Aggregator::First => samples[0].1,
        Aggregator::Last => samples[samples.len() - 1].1,
        Aggregator::VarP => squares / count,
        Aggregator::StdP => (squares / count).sqrt(),
        Aggregator::VarS | Aggregator::StdS if samples.len() == 1 => 0.0,
        Aggregator::VarS => squares / (count - 1.0),
        Aggregator::StdS => (squares / (count - 1.0)).sqrt(),
        Aggregator::Twa => naive_twa(before, samples, after, window),
    }
}

fn naive_twa(before: Option<Sample>, samples: &[Sample], after: Option<Sample>, window: Window) -> f64 {
    let on_line =
        |a: Sample, b: Sample, time: f64| a.1 + (b.1 - a.1) * (time - a.0 as f64) / (b.0 as f64 - a.0 as f64);
    let mut points: Vec<(f64, f64)> = samples.iter().map(|sample| (sample.0 as f64, sample.1)).collect();
    let (start, end) = (window.start as f64, window.end as f64);
    if let Some(before) = before {
        points.insert(0, (start, on_line(before, samples[0], start)));
    }
    if let Some(after) = after {
        points.push((end, on_line(samples[samples.len() - 1], after, end)));
    }
    let area: f64 =
        points.windows(2).map(|pair| (pair[0].1 + pair[1].1) / 2.0 * (pair[1].0 - pair[0].0)).sum();
    let length = points[points.len() - 1].0 - points[0].0;
    if length == 0.0 { samples[0].1 } else { area / length }
}

fn any_query() -> impl Strategy<Value = RangeQuery> {
    use Aggregator::{Avg, Count, First, Last, Max, Min, Range, StdP, StdS, Sum, Twa, VarP, VarS};
    let kinds = [Avg, Sum, Min, Max, Range, Count, First, Last, StdP, StdS, VarP, VarS, Twa];
    let aggregation = (proptest::sample::select(kinds.to_vec()), 1i64..25, -30i64..30, any::<bool>());
    let filter_times = proptest::option::of(proptest::collection::btree_set(-60i64..60, 1..40));
    let bounds = (-70i64..70, -70i64..70);
    (
        bounds,
        any::<bool>(),
        filter_times,
        proptest::option::of(1u64..6),
        proptest::option::weighted(0.8, aggregation),
        any::<bool>(),
    )
        .prop_map(|((from, to), reverse, times, count, aggregation, filters_values)| RangeQuery {
            from,
            to,
            reverse,
            filter_times: times.map(|times| times.into_iter().collect()),
            filter_values: filters_values.then_some((-5.0, 6.0)),
            count,
            aggregation: aggregation.map(|(kind, bucket, align, empty)| Aggregation {
                aggregators: vec![kind],
                bucket,
                align,
                bucket_timestamp: BucketTimestamp::Start,
                empty,
            }),
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_query_answers_as_its_definition(
        query in any_query(),
        samples in proptest::collection::btree_map(-60i64..60, -80i32..80, 0..30),
        slice in 1usize..7,
    ) {
        // Streaming keeps little; whatever it forgets too early shows as a difference here.
        let as_value = |tenth: i32| if tenth == 0 { f64::NAN } else { f64::from(tenth) / 10.0 };
        let series: Vec<_> = samples.into_iter().map(|(time, tenth)| (time, as_value(tenth))).collect();
        let rows = run_in_slices(&query, &series, slice, EvaluationLimits::default()).unwrap();
        let expected = naive(&query, &series);
        let times: Vec<_> = rows.iter().map(|row| row.0).collect();
        prop_assert_eq!(&times, &expected.iter().map(|row| row.0).collect::<Vec<_>>());
        for ((_, found), (time, wanted)) in rows.iter().zip(&expected) {
            let is_same = found[0].is_nan() && wanted.is_nan() || (found[0] - wanted).abs() < 1e-6;
            prop_assert!(is_same, "at {}: {} instead of {}", time, found[0], wanted);
        }
    }
}

#[test]
fn chunks_taken_by_their_statistics_are_as_their_samples() {
    // The answer must not depend on which parts of the data happen to lie in whole chunks.
    let mut state = 11_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..300 {
        let values: Vec<f64> = (0..1 + random(200)).map(|_| random(2000) as f64 / 7.0 - 140.0).collect();
        let cut = usize::try_from(random(values.len() as u64 + 1)).unwrap();
        let (samples, chunk) = values.split_at(cut);
        for kind in [
            Aggregator::Avg,
            Aggregator::Sum,
            Aggregator::Min,
            Aggregator::Max,
            Aggregator::Range,
            Aggregator::Count,
            Aggregator::First,
            Aggregator::Last,
        ] {
            let window = Window { start: 0, end: 1000 };
            let (mut whole, mut mixed) = (Accumulator::new(kind), Accumulator::new(kind));
            for (time, value) in (0..).zip(&values) {
                whole.add((time, *value), None, window);
            }
            for (time, value) in (0..).zip(samples) {
                mixed.add((time, *value), None, window);
            }
            if let ([first, ..], [.., last]) = (chunk, chunk) {
                mixed.add_chunk(&ChunkStats {
                    count: u32::try_from(chunk.len()).unwrap(),
                    nan_count: 0,
                    min: chunk.iter().copied().fold(f64::INFINITY, f64::min),
                    max: chunk.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    sum: chunk.iter().sum(),
                    first: *first,
                    last: *last,
                });
            }
            let (whole, mixed) = (whole.take(None, window), mixed.take(None, window));
            let magnitude: f64 = values.iter().map(|value| value.abs()).sum();
            let is_sum = matches!(kind, Aggregator::Sum | Aggregator::Avg);
            let ulps = if is_sum { magnitude * f64::EPSILON * values.len() as f64 } else { 0.0 };
            assert!(
                (whole - mixed).abs() <= ulps,
                "{kind:?}: {mixed}, not {whole}, of {values:?} cut at {cut}"
            );
        }
    }
}

#[test]
fn a_mean_whose_sum_leaves_the_doubles_takes_chunks_too() {
    // The mean of huge values is a number; infinity is not it.
    let window = Window { start: 0, end: 1000 };
    let mut mean = Accumulator::new(Aggregator::Avg);
    mean.add((0, f64::MAX), None, window);
    mean.add((1, f64::MAX), None, window);
    let small = ChunkStats { count: 2, nan_count: 0, min: 1.0, max: 3.0, sum: 4.0, first: 1.0, last: 3.0 };
    mean.add_chunk(&small);
    assert!((mean.take(None, window) / (f64::MAX / 2.0) - 1.0).abs() < 1e-12);
}
