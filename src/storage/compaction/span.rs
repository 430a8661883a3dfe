//! Spans: aligned stretches of event time. A span of level k is `base * 8^k` long and starts at a multiple of its
//! length, so a span lies in exactly one span of every higher level. The topmost level is all of time.
//!
//! Ends are inclusive, so that `i64::MAX` is a time like any other; the first and last span of a level are cut at the
//! ends of time.

use crate::limits::SPAN_FACTOR;
use crate::storage::columns::Columns;
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

/// The level of the one span that is all of time.
pub const LEVEL_EVERYTHING: u8 = 63;

/// An aligned stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First time that belongs.
    pub start: i64,
    /// Last time that belongs.
    pub end: i64,
    /// Length is `base * 8^level`.
    pub level: u8,
}

impl Span {
    /// All of time.
    pub const EVERYTHING: Self = Self { start: i64::MIN, end: i64::MAX, level: LEVEL_EVERYTHING };

    /// Whether `time` belongs.
    #[must_use]
    pub fn contains(&self, time: i64) -> bool {
        (self.start..=self.end).contains(&time)
    }
}

/// The span of `level` that `time` lies in; all of time when spans of that level would be longer than that.
///
/// # Panics
/// When `base` is not positive.
#[must_use]
pub fn span_of(time: i64, base: i64, level: u8) -> Span {
    assert!(base > 0, "a span has a length");
    let length = (0..level).try_fold(i128::from(base), |length, _| {
        (length <= i128::from(i64::MAX)).then(|| length * i128::from(SPAN_FACTOR))
    });
    let Some(length) = length.filter(|_| level < LEVEL_EVERYTHING) else {
        return Span::EVERYTHING;
    };
    let start = i128::from(time).div_euclid(length) * length;
    Span { start: clamp(start), end: clamp(start + length - 1), level }
}

fn clamp(time: i128) -> i64 {
    i64::try_from(time).unwrap_or(if time < 0 { i64::MIN } else { i64::MAX })
}

/// The smallest span that both times lie in.
#[must_use]
pub fn span_covering(first: i64, last: i64, base: i64) -> Span {
    let mut level = 0;
    loop {
        let span = span_of(first, base, level);
        if span.contains(last) {
            return span;
        }
        level += 1;
    }
}

/// The spans that the samples of these runs are split into: of the lowest level at which at most
/// `count_max` are needed, each then made as small as its samples allow, so that one stray sample does not widen the
/// span of the others. Ascending and disjoint.
///
/// # Panics
/// When `count_max` is 0 or `base` is not positive.
pub fn choose_spans<C: Borrow<Columns>>(
    runs: impl Iterator<Item = C> + Clone,
    base: i64,
    count_max: usize,
) -> Vec<Span> {
    assert!(count_max > 0, "samples need a span");
    (0..=LEVEL_EVERYTHING)
        .find_map(|level| extents(runs.clone(), base, level, count_max))
        .unwrap_or_default()
        .into_values()
        .map(|(first, last)| span_covering(first, last, base))
        .collect()
}

/// First and last time in each span of `level`, by the span's start; `None` when there are more than `count_max`.
fn extents<C: Borrow<Columns>>(
    runs: impl Iterator<Item = C>,
    base: i64,
    level: u8,
    count_max: usize,
) -> Option<BTreeMap<i64, (i64, i64)>> {
    let mut extents: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for columns in runs {
        let mut rest = columns.borrow().times();
        while let Some(first) = rest.first() {
            let span = span_of(*first, base, level);
            let (inside, after) = rest.split_at(rest.partition_point(|time| *time <= span.end));
            let last = inside.last().unwrap_or(first);
            let extent = extents.entry(span.start).or_insert((*first, *last));
            *extent = (extent.0.min(*first), extent.1.max(*last));
            if extents.len() > count_max {
                return None;
            }
            rest = after;
        }
    }
    Some(extents)
}

/// As [`choose_spans`], for stretches of time (first and last) of which only the ends are known; at `level_max` up to
/// `COVER_SPANS_MAX` spans are taken rather than go above it.
#[must_use]
pub fn cover_spans(stretches: &[(i64, i64)], base: i64, level_max: u8, count_max: usize) -> Vec<Span> {
    let starts = |level: u8| {
        let limit = if level == level_max { count_max.max(COVER_SPANS_MAX) } else { count_max };
        let mut spans = BTreeSet::new();
        for (first, last) in stretches {
            let mut span = span_of(*first, base, level);
            spans.insert(span);
            while span.end < *last && spans.len() <= limit {
                span = span_of(span.end + 1, base, level);
                spans.insert(span);
            }
        }
        (spans.len() <= limit).then_some(spans)
    };
    (0..=LEVEL_EVERYTHING).find_map(starts).unwrap_or_default().into_iter().collect()
}

/// See [`cover_spans`]; also bounds how many tables a merge has under way.
const COVER_SPANS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{FLUSH_TABLES_MAX, SPAN_BASE_MS};
    use crate::model::{EntryOp, Seqno};

    const DAY: i64 = SPAN_BASE_MS;

    #[test]
    fn spans_nest_and_reach_both_ends_of_time() {
        // A time outside of every span has no table to go to.
        for time in [i64::MIN, i64::MIN + 1, -DAY, -1, 0, 1, DAY, 1_700_000_000_000, i64::MAX] {
            for base in [1, 10_000, DAY, i64::MAX] {
                let mut inner = span_of(time, base, 0);
                assert!(inner.contains(time));
                for level in 1..=LEVEL_EVERYTHING {
                    let outer = span_of(time, base, level);
                    assert!(
                        outer.contains(inner.start) && outer.contains(inner.end),
                        "{time} {base} {level}"
                    );
                    inner = outer;
                }
                assert_eq!(inner, Span::EVERYTHING);
            }
        }
        assert_eq!(span_of(-1, DAY, 0), Span { start: -DAY, end: -1, level: 0 });
        assert_eq!(span_of(9 * DAY, DAY, 1), Span { start: 8 * DAY, end: 16 * DAY - 1, level: 1 });
    }

    fn spans(times: &[i64]) -> Vec<Span> {
        let mut columns = Columns::default();
        times.iter().for_each(|time| columns.push(*time, Seqno(1), EntryOp::Delete));
        let spans = choose_spans(std::iter::once(&columns), DAY, FLUSH_TABLES_MAX);
        assert!(spans.len() <= FLUSH_TABLES_MAX);
        assert!(times.iter().all(|time| spans.iter().any(|span| span.contains(*time))));
        assert!(spans.is_sorted_by(|a, b| a.end < b.start));
        spans
    }

    #[test]
    fn scattered_times_share_few_spans() {
        // Daily samples over 36 years are 9,000 days: a table for each would be unusable.
        let daily: Vec<i64> = (-2000..7000).map(|day| day * DAY + 7).collect();
        assert!((2..=8).contains(&spans(&daily).len()));
        assert_eq!(spans(&[]).len(), 0);
        assert_eq!(spans(&[i64::MIN, -1, 0, i64::MAX]).len(), 4);
        assert_eq!(spans(&[5, 6, DAY - 1]), [Span { start: 0, end: DAY - 1, level: 0 }]);
    }

    #[test]
    fn stretches_are_covered_by_few_spans() {
        // A sample outside of a merge's spans has no table to go to.
        for stretches in [
            &[(0, 3 * DAY)][..],
            &[(i64::MIN, i64::MAX)],
            &[(-5, 5), (7000 * DAY, 7001 * DAY)],
            &[(i64::MAX, i64::MAX), (i64::MIN, i64::MIN)],
        ] {
            let spans = cover_spans(stretches, DAY, LEVEL_EVERYTHING, 8);
            assert!(spans.len() <= 8 && spans.is_sorted_by(|a, b| a.end < b.start));
            for (first, last) in stretches {
                let holds = |time: i64| spans.iter().any(|span| span.contains(time));
                assert!(holds(*first) && holds(*last) && holds(first.midpoint(*last)), "{first} {last}");
            }
        }
        assert_eq!(cover_spans(&[(0, 20 * DAY)], DAY, 0, 8).len(), 21);
    }

    #[test]
    fn a_stray_sample_leaves_the_others_their_span() {
        // Otherwise one wrong clock would put everything into one span that no retention can drop.
        let now = 20_000 * DAY;
        for stray in [i64::MIN, -DAY, 0, i64::MAX] {
            let mut times = vec![stray, now + 1, now + 2];
            times.sort_unstable();
            assert!(spans(&times).contains(&Span { start: now, end: now + DAY - 1, level: 0 }), "{stray}");
        }
    }
}
