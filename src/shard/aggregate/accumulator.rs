//! The aggregators of level L1, each as what it remembers of one bucket.
//!
//! Formulas are the original's, operation by operation, so that results agree to the last bit where its own do.

use crate::model::Aggregator;
use crate::storage::sstable::ChunkStats;

/// The part of a bucket that lies within the range, in time. Only twa looks at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// First instant.
    pub(super) start: i128,
    /// One past the last instant of the bucket, or the last instant of the range.
    pub(super) end: i128,
}

/// What one aggregator remembers of the open bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accumulator {
    kind: Aggregator,
    count: u64,
    /// By kind: sum, running mean, minimum, first, last, area.
    value: f64,
    /// By kind: maximum of a range, sum of squares.
    other: f64,
    /// The sum has left the doubles; `value` is a running mean.
    is_mean: bool,
    /// For twa: where the area starts, and the newest point.
    area_start: i128,
    point: (i64, f64),
}

impl Accumulator {
    /// Nothing seen.
    pub(super) fn new(kind: Aggregator) -> Self {
        Self { kind, count: 0, value: 0.0, other: 0.0, is_mean: false, area_start: 0, point: (0, 0.0) }
    }

    /// Takes a sample of the bucket; `previous` is the one before it, in whatever bucket.
    pub(super) fn add(&mut self, sample: (i64, f64), previous: Option<(i64, f64)>, window: Window) {
        let value = sample.1;
        let is_first = self.count == 0;
        self.count += 1;
        match self.kind {
            Aggregator::Count => {}
            Aggregator::Avg => self.add_to_mean(value),
            Aggregator::Sum => self.value += value,
            Aggregator::Min if is_first || value < self.value => self.value = value,
            Aggregator::Max if is_first || value > self.value => self.value = value,
            Aggregator::First if is_first => self.value = value,
            Aggregator::Min | Aggregator::Max | Aggregator::First => {}
            Aggregator::Last => self.value = value,
            Aggregator::Range if is_first => (self.value, self.other) = (value, value),
            Aggregator::Range => {
                self.value = self.value.min(value);
                self.other = self.other.max(value);
            }
            Aggregator::StdP | Aggregator::StdS | Aggregator::VarP | Aggregator::VarS => {
                self.value += value;
                self.other += value * value;
            }
            Aggregator::Twa => self.add_to_area(is_first, sample, previous, window),
        }
    }

    /// Takes all samples of a chunk, none of them NaN, by their statistics. For a sum or a mean, its values must be so
    /// small that sums of them stay within the doubles.
    ///
    /// # Panics
    /// When the aggregator needs the samples themselves.
    pub(super) fn add_chunk(&mut self, chunk: &ChunkStats) {
        let is_first = self.count == 0;
        self.count += u64::from(chunk.count);
        match self.kind {
            Aggregator::Count => {}
            Aggregator::Avg => self.add_chunk_to_mean(chunk),
            Aggregator::Sum => self.value += chunk.sum,
            Aggregator::Min if is_first || chunk.min < self.value => self.value = chunk.min,
            Aggregator::Max if is_first || chunk.max > self.value => self.value = chunk.max,
            Aggregator::First if is_first => self.value = chunk.first,
            Aggregator::Min | Aggregator::Max | Aggregator::First => {}
            Aggregator::Last => self.value = chunk.last,
            Aggregator::Range if is_first => (self.value, self.other) = (chunk.min, chunk.max),
            Aggregator::Range => {
                self.value = self.value.min(chunk.min);
                self.other = self.other.max(chunk.max);
            }
            Aggregator::StdP | Aggregator::StdS | Aggregator::VarP | Aggregator::VarS | Aggregator::Twa => {
                unreachable!("asked for samples, not for chunks")
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    fn add_chunk_to_mean(&mut self, chunk: &ChunkStats) {
        let count = self.count as f64;
        let sum = self.value + chunk.sum;
        if self.is_mean {
            self.value = self.value / count * (count - f64::from(chunk.count)) + chunk.sum / count;
        } else if sum.is_finite() {
            self.value = sum;
        } else {
            self.value = self.value / count + chunk.sum / count;
            self.is_mean = true;
        }
    }

    /// A sum, until it would leave the doubles; then a running mean.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    fn add_to_mean(&mut self, value: f64) {
        let count = self.count as f64;
        let overflows = (self.value < 0.0) == (value < 0.0) && self.value.abs() > f64::MAX - value.abs();
        if self.is_mean {
            self.value = self.value / count * (count - 1.0) + value / count;
        } else if overflows {
            self.value = self.value / count + value / count;
            self.is_mean = true;
        } else {
            self.value += value;
        }
    }

    fn add_to_area(
        &mut self,
        is_first: bool,
        sample: (i64, f64),
        previous: Option<(i64, f64)>,
        window: Window,
    ) {
        match (is_first, previous) {
            (false, _) => self.value += trapezoid(self.point, sample),
            (true, None) => self.area_start = i128::from(sample.0),
            (true, Some(previous)) => {
                self.area_start = window.start;
                let value = interpolate(previous, sample, window.start);
                self.value = area(value, sample.1, i128::from(sample.0) - window.start);
            }
        }
        self.point = sample;
    }

    /// The bucket's value; the accumulator is empty afterwards. `next` is the first sample after the bucket.
    pub(super) fn take(&mut self, next: Option<(i64, f64)>, window: Window) -> f64 {
        assert!(self.count > 0, "buckets without samples are filled, not closed");
        let result = self.result(next, window);
        *self = Self::new(self.kind);
        result
    }

    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    fn result(&self, next: Option<(i64, f64)>, window: Window) -> f64 {
        let count = self.count as f64;
        match self.kind {
            Aggregator::Count => count,
            Aggregator::Avg if self.is_mean => self.value,
            Aggregator::Avg => self.value / count,
            Aggregator::Sum | Aggregator::Min | Aggregator::Max | Aggregator::First | Aggregator::Last => {
                self.value
            }
            Aggregator::Range => self.other - self.value,
            Aggregator::VarP => self.variance(),
            Aggregator::StdP => self.variance().sqrt(),
            Aggregator::VarS | Aggregator::StdS if self.count == 1 => 0.0,
            Aggregator::VarS => self.variance() * count / (count - 1.0),
            Aggregator::StdS => (self.variance() * count / (count - 1.0)).sqrt(),
            Aggregator::Twa => self.time_weighted(next, window),
        }
    }

    /// Variance of the population. Rounding can push it below zero, where no variance is.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    fn variance(&self) -> f64 {
        let count = self.count as f64;
        let mean = self.value / count;
        let variance = (self.other - 2.0 * self.value * mean + mean * mean * count) / count;
        // Not `max`, which would turn a NaN of infinite inputs into 0.
        if variance < 0.0 { 0.0 } else { variance }
    }

    fn time_weighted(&self, next: Option<(i64, f64)>, window: Window) -> f64 {
        let mut total = self.value;
        let mut end = i128::from(self.point.0);
        if let Some(next) = next {
            let value = interpolate(self.point, next, window.end);
            total += area(self.point.1, value, window.end - end);
            end = window.end;
        }
        match end - self.area_start {
            0 => self.point.1,
            duration => total / as_f64(duration),
        }
    }
}

/// What a bucket without samples reports under EMPTY.
pub(super) fn of_nothing(
    kind: Aggregator,
    previous: Option<(i64, f64)>,
    next: Option<(i64, f64)>,
    window: Window,
) -> f64 {
    match (kind, previous, next) {
        (Aggregator::Sum | Aggregator::Count, _, _) => 0.0,
        (Aggregator::Last, Some(previous), _) => previous.1,
        (Aggregator::Twa, Some(previous), Some(next)) => {
            let start = interpolate(previous, next, window.start);
            let end = interpolate(previous, next, window.end);
            start / 2.0 + end / 2.0
        }
        _ => f64::NAN,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "durations become weights; doubles are what the original weighs with"
)]
fn as_f64(duration: i128) -> f64 {
    duration as f64
}

/// Value at `time` on the line through two samples.
fn interpolate(before: (i64, f64), after: (i64, f64), time: i128) -> f64 {
    let (start, end) = (i128::from(before.0), i128::from(after.0));
    assert!(start < end, "a line needs two instants");
    let share = as_f64(time - start) / as_f64(end - start);
    let rise = after.1 - before.1;
    match rise.is_finite() {
        // Exact where both samples agree.
        true => before.1 + rise * share,
        // Values so far apart that their difference leaves the doubles.
        false => before.1 * (1.0 - share) + after.1 * share,
    }
}

/// Area under the line between two samples.
fn trapezoid(before: (i64, f64), after: (i64, f64)) -> f64 {
    area(before.1, after.1, i128::from(after.0) - i128::from(before.0))
}

fn area(start: f64, end: f64, duration: i128) -> f64 {
    (start + end) / 2.0 * as_f64(duration)
}
