//! TS.RANGE and TS.REVRANGE as a state machine that is fed with samples: filters, buckets, aggregators, COUNT.
//!
//! ```text
//! evaluation = RangeEvaluation::new(query, limits)
//! before_range() → feed `before` newest first until it takes one        (only twa and EMPTY ask)
//! scan_range()   → feed `push` in `order()` until it says Enough
//! after_range()  → feed `after` oldest first until it takes one         (only twa and EMPTY ask)
//! finish()       → times(), values(), width()
//! ```
//! Semantics: TS_COMMANDS §2, level L1, with three things of later levels: several aggregators in one query, EMPTY as
//! 8.10 has it (gaps at the edges of the range are filled when a sample lies on both sides), and NaN samples, which
//! native clients can write, count for no aggregator. Invariants:
//! - Memory is bounded by [`EvaluationLimits`], whatever is fed: rows beyond COUNT are not kept.
//! - Nothing overflows at the ends of `i64`: bucket arithmetic is done in 128 bits.

mod accumulator;
mod series_buckets;
#[cfg(test)]
mod tests;

use crate::limits::{AGGREGATE_BUCKETS_MAX, OUTPUT_BYTES_MAX};
use crate::model::{Aggregation, Aggregator, BucketGrid, BucketTimestamp, RangeQuery, ReplyError};
use accumulator::{Accumulator, Window};
use std::fmt;

pub(super) use series_buckets::SeriesBuckets;

/// Bytes that one sample takes in a reply, roughly.
const SAMPLE_REPLY_BYTES: usize = 32;

/// How much one query may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluationLimits {
    /// Values (rows × aggregators) of an aggregation.
    pub buckets_max: usize,
    /// Rows of a query without aggregation.
    pub samples_max: usize,
}

impl Default for EvaluationLimits {
    fn default() -> Self {
        Self { buckets_max: AGGREGATE_BUCKETS_MAX, samples_max: OUTPUT_BYTES_MAX / SAMPLE_REPLY_BYTES }
    }
}

/// The query would return more than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRows {
    /// The limit.
    pub max: usize,
}

impl fmt::Display for TooManyRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_reply().fmt(f)
    }
}
impl std::error::Error for TooManyRows {}

impl TooManyRows {
    /// As the client is told.
    #[must_use]
    pub fn as_reply(&self) -> ReplyError<'static> {
        ReplyError::Limit { what: "the number of samples or buckets in the reply", max: self.max }
    }
}

/// In which order samples are fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first: TS.REVRANGE without aggregation, which may then stop early.
    Descending,
}

/// Whether more samples can change the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Go on.
    More,
    /// COUNT is reached.
    Enough,
}

/// A sample.
type Sample = (i64, f64);

/// Evaluation of one query. See the module's header for the order of calls.
#[derive(Debug)]
pub struct RangeEvaluation {
    query: RangeQuery,
    buckets: Option<Buckets>,
    rows: Rows,
    is_finished: bool,
}

/// What aggregation remembers.
#[derive(Debug)]
struct Buckets {
    clause: Aggregation,
    accumulators: Vec<Accumulator>,
    /// Start and end of the bucket that takes samples now. Outside of i64 for buckets at its ends.
    open: Option<(i128, i128)>,
    /// The newest sample so far; before the first, the neighbour before the range.
    previous: Option<Sample>,
    /// The neighbour after the range.
    next: Option<Sample>,
}

/// The answer, as it grows.
#[derive(Debug)]
struct Rows {
    times: Vec<i64>,
    values: Vec<f64>,
    width: usize,
    rows_max: usize,
    /// COUNT.
    count: usize,
    /// Whether the last rows are kept, not the first ones.
    keeps_last: bool,
}

impl RangeEvaluation {
    /// Starts.
    #[must_use]
    pub fn new(query: RangeQuery, limits: EvaluationLimits) -> Self {
        let width = query.aggregation.as_ref().map_or(1, |clause| clause.aggregators.len());
        assert!(width > 0, "an aggregation has an aggregator");
        let buckets = query.aggregation.clone().map(|clause| {
            assert!(clause.bucket > 0, "a bucket has a width");
            let accumulators = clause.aggregators.iter().map(|kind| Accumulator::new(*kind)).collect();
            Buckets { clause, accumulators, open: None, previous: None, next: None }
        });
        let rows_max = if buckets.is_some() { limits.buckets_max / width } else { limits.samples_max };
        let count = query.count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
        let keeps_last = query.reverse && buckets.is_some();
        let rows = Rows { times: Vec::new(), values: Vec::new(), width, rows_max, count, keeps_last };
        Self { query, buckets, rows, is_finished: false }
    }

    /// First and last time of the samples to feed to [`Self::push`]; `None` when there can be none.
    #[must_use]
    pub fn scan_range(&self) -> Option<(i64, i64)> {
        let (mut from, mut to) = (self.query.from, self.query.to);
        if let Some([first, .., last] | [first @ last]) = self.query.filter_times.as_deref() {
            (from, to) = (from.max(*first), to.min(*last));
        }
        (from <= to).then_some((from, to))
    }

    /// In which order to feed them.
    #[must_use]
    pub fn order(&self) -> Order {
        match self.query.reverse && self.buckets.is_none() {
            true => Order::Descending,
            false => Order::Ascending,
        }
    }

    /// Where to look for the newest sample before the range; `None` when it does not matter.
    #[must_use]
    pub fn before_range(&self) -> Option<(i64, i64)> {
        let first = self.query.filter_times.as_ref().and_then(|times| times.first().copied());
        let to = self.query.from.checked_sub(1)?;
        let from = first.unwrap_or(i64::MIN);
        (self.needs_neighbours() && from <= to).then_some((from, to))
    }

    /// Where to look for the oldest sample after the range; `None` when it does not, or no longer, matter.
    #[must_use]
    pub fn after_range(&self) -> Option<(i64, i64)> {
        let last = self.query.filter_times.as_ref().and_then(|times| times.last().copied());
        let from = self.query.to.checked_add(1)?;
        let to = last.unwrap_or(i64::MAX);
        (self.needs_neighbours() && !self.rows.is_full() && from <= to).then_some((from, to))
    }

    fn needs_neighbours(&self) -> bool {
        let is_twa = |clause: &Aggregation| clause.aggregators.contains(&Aggregator::Twa);
        let asks = |buckets: &Buckets| buckets.clause.empty || is_twa(&buckets.clause);
        self.query.from <= self.query.to && self.buckets.as_ref().is_some_and(asks)
    }

    /// Offers a sample before the range; `true` when it is the neighbour and no older one is wanted.
    ///
    /// # Panics
    /// When the sample is not before the range, or samples of the range have been fed.
    pub fn before(&mut self, time: i64, value: f64) -> bool {
        assert!(time < self.query.from, "a neighbour lies before the range");
        self.offer_neighbour(time, value, |buckets, sample| {
            assert!(buckets.open.is_none(), "neighbours before the range come first");
            buckets.previous = Some(sample);
        })
    }

    /// Offers a sample after the range; `true` when it is the neighbour and no newer one is wanted.
    ///
    /// # Panics
    /// When the sample is not after the range.
    pub fn after(&mut self, time: i64, value: f64) -> bool {
        assert!(time > self.query.to, "a neighbour lies after the range");
        self.offer_neighbour(time, value, |buckets, sample| buckets.next = Some(sample))
    }

    fn offer_neighbour(&mut self, time: i64, value: f64, take: impl FnOnce(&mut Buckets, Sample)) -> bool {
        if value.is_nan() || !passes(&self.query, time, value) {
            return false;
        }
        if let Some(buckets) = &mut self.buckets {
            take(buckets, (time, value));
        }
        true
    }

    /// Takes samples of [`Self::scan_range`], in [`Self::order`] from call to call. Within one slice a descending
    /// query accepts both orders: what a chunk holds need not be turned around.
    ///
    /// # Errors
    /// When the answer exceeds its limit.
    ///
    /// # Panics
    /// When the slices differ in length, or after [`Self::finish`].
    pub fn push(&mut self, times: &[i64], values: &[f64]) -> Result<Progress, TooManyRows> {
        assert_eq!(times.len(), values.len(), "each time has its value");
        assert!(!self.is_finished, "the query is answered");
        let samples = times.iter().copied().zip(values.iter().copied());
        let is_ascending = times.first() <= times.last();
        match self.order() {
            Order::Descending if is_ascending => self.push_all(samples.rev()),
            Order::Descending | Order::Ascending => self.push_all(samples),
        }
    }

    fn push_all(&mut self, samples: impl Iterator<Item = Sample>) -> Result<Progress, TooManyRows> {
        let Self { query, buckets, rows, .. } = self;
        for (time, value) in samples {
            if rows.is_full() {
                return Ok(Progress::Enough);
            }
            let is_within = query.from <= time && time <= query.to;
            if !is_within || !passes(query, time, value) {
                continue;
            }
            match buckets {
                None => rows.push(time, |row| row.push(value))?,
                Some(_) if value.is_nan() => {}
                Some(buckets) => buckets.push(query, rows, (time, value))?,
            }
        }
        Ok(if rows.is_full() { Progress::Enough } else { Progress::More })
    }

    /// Ends the input.
    ///
    /// # Errors
    /// When the answer exceeds its limit.
    pub fn finish(&mut self) -> Result<(), TooManyRows> {
        if self.is_finished {
            return Ok(());
        }
        self.is_finished = true;
        if self.query.from > self.query.to {
            return Ok(());
        }
        if let Some(buckets) = &mut self.buckets {
            buckets.finish(&self.query, &mut self.rows)?;
            self.rows.cut();
            if self.query.reverse {
                self.rows.reverse();
            }
        }
        assert_eq!(self.rows.times.len() * self.rows.width, self.rows.values.len());
        Ok(())
    }

    /// Times of the rows, in the order of the reply. Whole after [`Self::finish`].
    #[must_use]
    pub fn times(&self) -> &[i64] {
        &self.rows.times
    }
    /// Values of the rows, [`Self::width`] for each.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.rows.values
    }
    /// Values per row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.rows.width
    }
    /// Memory that the answer holds.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.rows.times.capacity() * size_of::<i64>() + self.rows.values.capacity() * size_of::<f64>()
    }
}

/// The filters.
fn passes(query: &RangeQuery, time: i64, value: f64) -> bool {
    let by_time = query.filter_times.as_ref().is_none_or(|times| times.binary_search(&time).is_ok());
    by_time && query.filter_values.is_none_or(|(min, max)| min <= value && value <= max)
}

impl Buckets {
    /// Start of the bucket that `time` falls into.
    fn start_of(&self, time: i64) -> i128 {
        BucketGrid { width: self.clause.bucket, align: self.clause.align }.start_of(time)
    }
    fn width(&self) -> i128 {
        i128::from(self.clause.bucket)
    }

    fn push(&mut self, query: &RangeQuery, rows: &mut Rows, sample: Sample) -> Result<(), TooManyRows> {
        let time = i128::from(sample.0);
        debug_assert!(self.previous.is_none_or(|previous| previous.0 < sample.0), "samples ascend");
        match self.open {
            Some((_, end)) if time < end => {}
            open => {
                let start = self.start_of(sample.0);
                self.close(query, rows, Some(sample))?;
                if self.clause.empty && self.previous.is_some() {
                    let gap_start = open.map_or_else(|| self.start_of(query.from), |(_, end)| end);
                    self.fill(query, rows, gap_start..start, Some(sample))?;
                }
                self.open = Some((start, start + self.width()));
            }
        }
        let window = self.window(query);
        let previous = self.previous;
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.add(sample, previous, window));
        self.previous = Some(sample);
        Ok(())
    }

    /// The stretch of the open bucket within the range, for twa.
    fn window(&self, query: &RangeQuery) -> Window {
        let (start, end) = self.open.unwrap_or_default();
        Window { start: start.max(i128::from(query.from)), end: end.min(i128::from(query.to)) }
    }

    /// Reports the open bucket, if there is one.
    fn close(
        &mut self,
        query: &RangeQuery,
        rows: &mut Rows,
        next: Option<Sample>,
    ) -> Result<(), TooManyRows> {
        let window = self.window(query);
        let Some((start, _)) = self.open.take() else { return Ok(()) };
        let time = self.reported_time(start);
        rows.push(time, |row| {
            row.extend(self.accumulators.iter_mut().map(|accumulator| accumulator.take(next, window)));
        })
    }

    /// Reports the buckets that start in `gap`, which hold no samples.
    fn fill(
        &self,
        query: &RangeQuery,
        rows: &mut Rows,
        mut gap: std::ops::Range<i128>,
        next: Option<Sample>,
    ) -> Result<(), TooManyRows> {
        if rows.keeps_last && rows.count < usize::MAX {
            // Only the newest COUNT rows stay; a gap of millions of buckets need not pass by.
            let kept = i128::try_from(rows.count).unwrap_or(i128::MAX).saturating_mul(self.width());
            let skipped = (gap.end - kept - gap.start).max(0) / self.width();
            gap.start += skipped * self.width();
        }
        while gap.start < gap.end && !rows.is_full() {
            let start = gap.start.max(i128::from(query.from));
            let end = (gap.start + self.width()).min(i128::from(query.to));
            let window = Window { start, end };
            rows.push(self.reported_time(gap.start), |row| {
                let kinds = self.clause.aggregators.iter();
                row.extend(kinds.map(|kind| accumulator::of_nothing(*kind, self.previous, next, window)));
            })?;
            gap.start += self.width();
        }
        Ok(())
    }

    fn finish(&mut self, query: &RangeQuery, rows: &mut Rows) -> Result<(), TooManyRows> {
        let open = self.open;
        self.close(query, rows, self.next)?;
        if self.clause.empty && self.previous.is_some() && self.next.is_some() {
            let gap_start = open.map_or_else(|| self.start_of(query.from), |(_, end)| end);
            let gap_end = self.start_of(query.to) + self.width();
            self.fill(query, rows, gap_start..gap_end, self.next)?;
        }
        Ok(())
    }

    /// What a bucket reports as its time. A bucket around 0 reports 0 as its start, as the original does, whose times
    /// are never negative; buckets that lie wholly before 0 report their own.
    fn reported_time(&self, start: i128) -> i64 {
        let is_around_zero = start < 0 && start + self.width() > 0;
        let start = if is_around_zero { 0 } else { start };
        let time = match self.clause.bucket_timestamp {
            BucketTimestamp::Start => start,
            BucketTimestamp::Mid => start + self.width() / 2,
            BucketTimestamp::End => start + self.width(),
        };
        let clamped = time.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        i64::try_from(clamped).unwrap_or_else(|_| unreachable!("clamped to i64"))
    }
}

impl Rows {
    /// Whether COUNT is reached and further rows cannot replace these.
    fn is_full(&self) -> bool {
        !self.keeps_last && self.times.len() >= self.count
    }

    /// Appends a row, unless COUNT is reached.
    fn push(&mut self, time: i64, put_values: impl FnOnce(&mut Vec<f64>)) -> Result<(), TooManyRows> {
        if self.is_full() {
            return Ok(());
        }
        if self.keeps_last && self.times.len() >= self.count.saturating_mul(2).max(1024) {
            self.cut();
        }
        if self.times.len() >= self.rows_max {
            return Err(TooManyRows { max: self.rows_max });
        }
        self.times.push(time);
        put_values(&mut self.values);
        Ok(())
    }

    /// Forgets all but the last COUNT rows, where those are what is asked for.
    fn cut(&mut self) {
        if self.keeps_last && self.times.len() > self.count {
            let surplus = self.times.len() - self.count;
            self.times.drain(..surplus);
            self.values.drain(..surplus * self.width);
        }
    }

    fn reverse(&mut self) {
        self.times.reverse();
        self.values.reverse();
        if self.width > 1 {
            self.values.chunks_exact_mut(self.width).for_each(<[f64]>::reverse);
        }
    }
}
