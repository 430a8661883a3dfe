//! Native scans: what to visit, and what to answer with.

use super::command::Aggregator;
use super::entry::KeyRange;

/// A native scan, as one shard sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanRequest {
    /// Series to visit; one series is `series..series\0`.
    pub keys: KeyRange,
    /// First timestamp.
    pub from: i64,
    /// Last timestamp, inclusive.
    pub to: i64,
    /// Also visit metadata and timeless slots (`export --format typed`, and string keys).
    pub all_slots: bool,
    /// Largest key first, newest sample first.
    pub reverse: bool,
    /// Entries in the answer in all; `u64::MAX` for no limit.
    pub limit: u64,
    /// What it answers with.
    pub answer: ScanAnswer,
}

/// What a native scan answers with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScanAnswer {
    /// Every entry.
    #[default]
    Entries,
    /// Per series the newest sample of the time range.
    Newest,
    /// Per series and bucket that holds a number, one value: an entry at the bucket's first instant. Only samples of
    /// the time range count, also for a time-weighted average; NaN counts for nothing; byte strings are refused.
    Buckets {
        /// The value.
        aggregator: Aggregator,
        /// The buckets.
        grid: BucketGrid,
    },
}

/// Time cut into buckets of one width: `align + n * width` for every whole n begins one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketGrid {
    /// Width of a bucket in the store's unit, above 0.
    pub width: i64,
    /// A time at which a bucket starts.
    pub align: i64,
}

impl BucketGrid {
    /// Start of the bucket that `time` falls into; may lie outside of `i64`.
    #[must_use]
    pub fn start_of(self, time: i64) -> i128 {
        let (time, align) = (i128::from(time), i128::from(self.align));
        time - (time - align).rem_euclid(i128::from(self.width))
    }
    /// First and last time of the bucket that `time` falls into, as far as times go.
    #[must_use]
    pub fn bucket_of(self, time: i64) -> (i64, i64) {
        let start = self.start_of(time);
        let last = start + i128::from(self.width) - 1;
        (i64::try_from(start).unwrap_or(i64::MIN), i64::try_from(last).unwrap_or(i64::MAX))
    }
}
