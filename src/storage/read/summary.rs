//! Chunks whose statistics stand for their entries in a scan of buckets.
//!
//! A chunk is taken as its statistics only where they tell all that the snapshot sees of it: it lies within the times
//! that are left and within one bucket; it holds puts alone, one version of each slot, all within the snapshot; no
//! other source, and no other chunk of its own, reaches into its stretch of time; no range delete hides any of it
//! (`Merge::summary_at`). And only where the answer is as it would be from the entries: not with NaN among them, not
//! for what needs the squares or the times, and for sums not where they could leave the doubles.

use crate::model::{Aggregator, BucketGrid, ScanAnswer};
use crate::storage::sstable::ChunkStats;

/// Sums of larger values are added one by one: their order decides whether they leave the doubles. So many samples
/// of this size as could ever be stored stay within.
const SUMMED_MAX: f64 = 1e290;

/// A chunk of a scan's output that was not decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChunkSummary {
    /// Time of its first sample.
    pub first_time: i64,
    /// Time of its last sample.
    pub last_time: i64,
    /// Over all its samples, of which none is NaN.
    pub stats: ChunkStats,
}

/// Which summaries a scan wants, and those that it has got.
#[derive(Clone, Debug)]
pub(super) struct Summaries {
    grid: BucketGrid,
    sums: bool,
    /// Each with the number of entries in the output before it.
    list: Vec<(usize, ChunkSummary)>,
}

impl Summaries {
    /// `None` when the answer always needs the entries.
    pub(super) fn new(answer: ScanAnswer) -> Option<Self> {
        let ScanAnswer::Buckets { aggregator, grid } = answer else { return None };
        let sums = match aggregator {
            Aggregator::Sum | Aggregator::Avg => true,
            Aggregator::Count
            | Aggregator::Min
            | Aggregator::Max
            | Aggregator::Range
            | Aggregator::First
            | Aggregator::Last => false,
            Aggregator::StdP | Aggregator::StdS | Aggregator::VarP | Aggregator::VarS | Aggregator::Twa => {
                return None;
            }
        };
        Some(Self { grid, sums, list: Vec::new() })
    }
    /// Whether a chunk's statistics are as good as its samples.
    pub(super) fn wants(&self, chunk: &ChunkSummary) -> bool {
        let stats = &chunk.stats;
        let summable = stats.min.abs() < SUMMED_MAX && stats.max.abs() < SUMMED_MAX;
        self.grid.start_of(chunk.first_time) == self.grid.start_of(chunk.last_time)
            && stats.nan_count == 0
            && (summable || !self.sums)
    }
    pub(super) fn add(&mut self, place: usize, summary: ChunkSummary) {
        self.list.push((place, summary));
    }
    /// Takes out what was added.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (usize, ChunkSummary)> + '_ {
        self.list.drain(..)
    }
}
