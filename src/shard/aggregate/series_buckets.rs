//! The buckets of a native scan: samples of one series after another become one row per bucket that holds any.
//!
//! Rows come in the order of the scan, so a bucket is done when a sample of another one, or of another series, comes.
//! Memory is one open bucket, whatever is fed.
//!
//! In a reverse scan time runs backwards: every time `t` is taken as `-1 - t`, which turns the axis around and keeps
//! all distances; what comes first in time is then what comes last.

use super::Sample;
use super::accumulator::{Accumulator, Window};
use crate::model::{Aggregator, BucketGrid, EntryOp, ReplyError, Value};
use crate::storage::read::{ScanOutput, ScanRun};
use crate::storage::sstable::ChunkStats;

/// See the module's header.
#[derive(Debug)]
pub(in crate::shard) struct SeriesBuckets {
    grid: BucketGrid,
    reverse: bool,
    accumulator: Accumulator,
    series: Vec<u8>,
    /// First and last time of the bucket that takes samples now.
    open: Option<(i64, i64)>,
    /// The sample before, of whatever bucket of this series.
    previous: Option<Sample>,
    /// Rows that may still be made.
    rows_left: u64,
}

impl SeriesBuckets {
    /// Starts. At most `limit` rows are made.
    pub(in crate::shard) fn new(aggregator: Aggregator, grid: BucketGrid, reverse: bool, limit: u64) -> Self {
        let kind = match (aggregator, reverse) {
            (Aggregator::First, true) => Aggregator::Last,
            (Aggregator::Last, true) => Aggregator::First,
            _ => aggregator,
        };
        let accumulator = Accumulator::new(kind);
        let (series, open, previous) = (Vec::new(), None, None);
        Self { grid, reverse, accumulator, series, open, previous, rows_left: limit }
    }
    /// Whether more samples can make more rows.
    pub(in crate::shard) fn is_full(&self) -> bool {
        self.rows_left == 0
    }
    /// Takes what comes next of a scan; rows that are done by it go to `rows`.
    ///
    /// # Errors
    /// When a value is no number.
    pub(in crate::shard) fn take(
        &mut self,
        run: &ScanRun<'_>,
        rows: &mut ScanOutput,
    ) -> Result<(), ReplyError<'static>> {
        if self.series != run.series {
            self.close(None, rows);
            self.previous = None;
            self.series.clear();
            self.series.extend_from_slice(run.series);
        }
        if let Some(chunk) = &run.summary {
            self.enter(chunk.first_time, None, rows);
            self.accumulator.add_chunk(&self.in_order(chunk.stats));
        }
        for index in run.range.clone() {
            let EntryOp::Put(value) = run.columns.op(index) else { continue };
            let value = value.as_f64().ok_or(ReplyError::NotNumeric)?;
            if let Some(time) = run.columns.times().get(index).filter(|_| !value.is_nan()) {
                self.add(*time, value, rows);
            }
        }
        Ok(())
    }
    /// No more samples come.
    pub(in crate::shard) fn finish(&mut self, rows: &mut ScanOutput) {
        self.close(None, rows);
    }

    fn add(&mut self, time: i64, value: f64, rows: &mut ScanOutput) {
        let sample = (if self.reverse { -1 - time } else { time }, value);
        self.enter(time, Some(sample), rows);
        self.accumulator.add(sample, self.previous, self.window());
        self.previous = Some(sample);
    }
    /// Makes the bucket of `time` the open one. `next` is the sample that comes there.
    fn enter(&mut self, time: i64, next: Option<Sample>, rows: &mut ScanOutput) {
        if self.open.is_none_or(|(first, last)| time < first || last < time) {
            self.close(next, rows);
            self.open = Some(self.grid.bucket_of(time));
        }
    }
    /// Makes a row of the open bucket, if there is one.
    fn close(&mut self, next: Option<Sample>, rows: &mut ScanOutput) {
        let window = self.window();
        let Some((first, _)) = self.open.take() else { return };
        let value = self.accumulator.take(next, window);
        if self.rows_left > 0 {
            self.rows_left -= 1;
            rows.push_sample(&self.series, first, Value::F64(value));
        }
    }
    /// The open bucket in the direction of the scan.
    fn window(&self) -> Window {
        let (first, last) = self.open.unwrap_or_default();
        let (start, end) = (i128::from(first), i128::from(last) + 1);
        // An instant turns around as it is, not as the unit of time that begins there.
        if self.reverse { Window { start: -1 - end, end: -1 - start } } else { Window { start, end } }
    }
    fn in_order(&self, stats: ChunkStats) -> ChunkStats {
        if self.reverse { ChunkStats { first: stats.last, last: stats.first, ..stats } } else { stats }
    }
}
