//! Spans: aligned stretches of event time. A span of level k is `base * 8^k` long and starts at a multiple of its
//! length, so a span lies in exactly one span of every higher level. The topmost level is all of time.
//!
//! Ends are inclusive, so that `i64::MAX` is a time like any other; the first and last span of a level are cut at the
//! ends of time.

use crate::limits::SPAN_FACTOR;

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

/// The span of `level` that `time` lies in; all of time when spans of that level would be longer than half of it.
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

/// The spans that samples at these times are split into: the lowest level at which at most `count_max` are needed.
/// Ascending and disjoint.
pub fn choose_spans<'a>(
    times: impl Iterator<Item = &'a [i64]> + Clone,
    base: i64,
    count_max: usize,
) -> Vec<Span> {
    todo!("{}{base}{count_max}", times.count())
}
