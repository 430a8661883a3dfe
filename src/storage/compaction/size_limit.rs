//! Retention by size: the time before which samples go, so that the tables of the others fit into so many bytes.
//!
//! What counts are bytes on the disk. A cut frees a table that ends before it, and by a merge the older part of one that
//! the picker trims there; a table that it leaves alone counts as a whole, though some of it is hidden:
//!
//! ```text
//!              cut
//! [ freed ]     │
//!      [ trimmed│ counts ]      at least half is hidden, and it reaches over several spans
//!            [ counts as a whole    ]
//! ```
//! So the disk gets what it is promised, and samples go in the order of their times, the oldest of all series first.

use super::picker::{cut_of, is_trimmed_at};
use crate::limits::{RETENTION_SPANS, SPAN_BASE_SECONDS_MIN};
use crate::model::TimeUnit;
use crate::storage::retention::Cutoff;
use crate::storage::sstable::TableMeta;

/// How many bytes tables of samples may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeLimit {
    /// See above.
    pub bytes: u64,
}

impl SizeLimit {
    /// The earliest time before which samples must go for the others to fit; `None` when all of them do.
    #[must_use]
    pub fn cut(
        &self,
        samples: &[&TableMeta],
        cutoffs: &[Cutoff],
        span_base: i64,
        level_max: u8,
    ) -> Option<i64> {
        let fits = |cut: i64| {
            let left = |meta: &&TableMeta| {
                let cut = cut_of(meta, cutoffs).map_or(cut, |hidden| hidden.max(cut));
                bytes_left(meta, cut, span_base, level_max)
            };
            samples.iter().map(left).sum::<u64>() <= self.bytes
        };
        (!fits(i64::MIN)).then(|| first_time(fits))
    }

    /// For how long the newest samples are likely to be kept: as many times the stretch of event time that the newest
    /// sixteenth of the limit covers, less the gaps in it. `None` while there is less than that. A power of two times
    /// ten seconds per span, so that spans of different lengths nest; it stays `current` where it is near enough.
    #[must_use]
    pub fn held(&self, samples: &[&TableMeta], unit: TimeUnit, current: Option<i64>) -> Option<i64> {
        let share = self.bytes / RETENTION_SPANS.unsigned_abs();
        if samples.iter().map(|meta| meta.bytes).sum::<u64>() < share.max(1) {
            return None;
        }
        let from = first_time(|cut| samples.iter().map(|meta| bytes_after(meta, cut)).sum::<u64>() <= share);
        let span = stretch_after(samples, from);
        let least = SPAN_BASE_SECONDS_MIN * unit.per_second();
        let near = |length: i64| {
            let known = length / RETENTION_SPANS;
            known / 2 <= span && span / 4 < known
        };
        current.filter(|length| near(*length)).or_else(|| {
            let doubled = |base: &i64| base.checked_mul(2).filter(|base| *base <= span);
            let base = std::iter::successors(Some(least), doubled).last()?;
            base.checked_mul(RETENTION_SPANS)
        })
    }
}

/// The lowest time that is `enough`, of which every later one is; the end of time if none is.
fn first_time(enough: impl Fn(i64) -> bool) -> i64 {
    let (mut low, mut high) = (i64::MIN, i64::MAX);
    while low < high {
        // Towards the lower one, also below zero.
        let middle = low.midpoint(high).min(high - 1);
        if enough(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

fn bytes_left(meta: &TableMeta, cut: i64, span_base: i64, level_max: u8) -> u64 {
    if meta.time_max < cut {
        0
    } else if is_trimmed_at(meta, cut, span_base, level_max) {
        bytes_after(meta, cut)
    } else {
        meta.bytes
    }
}

/// About how many bytes of a table are of samples from `cut` on: as if they were spread evenly.
fn bytes_after(meta: &TableMeta, cut: i64) -> u64 {
    let (first, last) = (i128::from(meta.time_min), i128::from(meta.time_max));
    let after = (last - i128::from(cut).max(first) + 1).max(0);
    let length = last - first + 1;
    let bytes = (i128::from(meta.bytes) * after + length - 1) / length;
    u64::try_from(bytes).expect("a part of a table is no more than the table")
}

/// Length of the union of what the tables cover from `from` on.
fn stretch_after(samples: &[&TableMeta], from: i64) -> i64 {
    let mut stretches: Vec<(i64, i64)> = samples
        .iter()
        .filter(|meta| meta.time_max >= from)
        .map(|meta| (meta.time_min.max(from), meta.time_max))
        .collect();
    stretches.sort_unstable();
    let (mut length, mut reached) = (0_i64, None::<i64>);
    for (first, last) in stretches {
        let start = reached.map_or(first, |reached| reached.max(first));
        length = length.saturating_add(last.saturating_sub(start).max(0));
        reached = reached.max(Some(last));
    }
    length
}

#[cfg(test)]
mod tests;
