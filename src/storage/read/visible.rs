//! From entries of one source to what a snapshot sees of them.

use super::deletes::Fragments;
use super::summary::{ChunkSummary, Summaries};
use crate::model::Seqno;
use crate::storage::columns::{Columns, TAG_DELETE};
use std::ops::Range;

/// Collects visible entries, up to a number of entries and of value bytes.
pub(super) struct Sink<'a> {
    out: &'a mut Columns,
    entries_end: usize,
    heap_end: usize,
    /// Takes the statistics of chunks instead of their entries, where there is one and they will do.
    summaries: Option<&'a mut Summaries>,
}

impl<'a> Sink<'a> {
    /// Appends to `out` at most `entries`, and ends after the one whose bytes make `heap_bytes` full.
    pub(super) fn new(out: &'a mut Columns, entries: usize, heap_bytes: usize) -> Self {
        let entries_end = out.len().saturating_add(entries);
        let heap_end = out.heap().len().saturating_add(heap_bytes);
        Self { out, entries_end, heap_end, summaries: None }
    }
    /// A sink that takes statistics too.
    pub(super) fn with_summaries(self, summaries: Option<&'a mut Summaries>) -> Self {
        Self { summaries, ..self }
    }
    /// What it takes of statistics, if any.
    pub(super) fn summaries(&self) -> Option<&Summaries> {
        self.summaries.as_deref()
    }
    /// Adds a chunk behind the entries so far.
    ///
    /// # Panics
    /// When it takes no statistics.
    pub(super) fn take_summary(&mut self, summary: ChunkSummary) {
        let place = self.out.len();
        let summaries = self.summaries.as_mut().expect("offered to a sink that takes summaries");
        summaries.add(place, summary);
    }
    /// Whether nothing more may be added.
    pub(super) fn is_full(&self) -> bool {
        self.room() == 0
    }
    /// Entries that may be added, as long as their bytes fit.
    pub(super) fn room(&self) -> usize {
        if self.out.heap().len() >= self.heap_end { 0 } else { self.entries_end - self.out.len() }
    }
    /// Adds an entry unless it is a point delete.
    pub(super) fn take_put(&mut self, columns: &Columns, index: usize) {
        if columns.tags()[index] != TAG_DELETE {
            self.out.extend_from(columns, index..index + 1);
        }
    }
    /// Adds entries from the near end of a range of puts; returns how many found room.
    fn take_range(&mut self, columns: &Columns, range: Range<usize>, reverse: bool) -> usize {
        let mut count = self.room().min(range.len());
        if !columns.heap().is_empty() {
            count = self.count_that_fit(columns, &range, reverse, count);
        }
        if reverse {
            self.out.extend_reversed(columns, range.end - count..range.end);
        } else {
            self.out.extend_from(columns, range.start..range.start + count);
        }
        count
    }
    /// Of the first `count` entries, those up to the one that makes the heap full.
    fn count_that_fit(&self, columns: &Columns, range: &Range<usize>, reverse: bool, count: usize) -> usize {
        let mut heap = self.out.heap().len();
        (0..count)
            .take_while(|nth| {
                let fits = heap < self.heap_end;
                let index = if reverse { range.end - 1 - nth } else { range.start + nth };
                heap += columns.value_bytes(index);
                fits
            })
            .count()
    }
}

/// Entries of one source before which, and among which, no other source has any.
#[derive(Clone, Debug)]
pub(super) struct Slice<'a> {
    pub(super) columns: &'a Columns,
    pub(super) range: Range<usize>,
    pub(super) reverse: bool,
}

impl Slice<'_> {
    /// Passes on what a snapshot sees, at most `budget` entries and what the sink takes. Returns the time up to which
    /// all versions have been visited; `None` when the sink takes nothing.
    pub(super) fn visit(
        mut self,
        snapshot: Seqno,
        deletes: &Fragments,
        sink: &mut Sink<'_>,
        budget: &mut usize,
    ) -> Option<i64> {
        let mut visited = None;
        while !self.range.is_empty() && !sink.is_full() {
            let (level, hidden_below) = self.next_level(deletes, (*budget).max(1));
            let count = level.len();
            let left = if is_plain(self.columns, &level, snapshot, hidden_below) {
                count - sink.take_range(self.columns, level.clone(), self.reverse)
            } else {
                self.visit_versions(&level, snapshot, hidden_below, sink)
            };
            let passed = count - left;
            *budget = budget.saturating_sub(passed);
            if passed > 0 {
                let last = if self.reverse { level.end - passed } else { level.start + passed - 1 };
                visited = Some(self.columns.times()[last]);
            }
            if left > 0 || *budget == 0 {
                break;
            }
            if self.reverse {
                self.range.end = level.start;
            } else {
                self.range.start = level.end;
            }
        }
        visited
    }
    /// The near part of the range in which one seqno decides what range deletes hide; about `budget` entries, ending
    /// between two slots.
    fn next_level(&self, deletes: &Fragments, budget: usize) -> (Range<usize>, Seqno) {
        let times = &self.columns.times()[self.range.clone()];
        if self.reverse {
            let (edge, seqno) = deletes.level_before(times[times.len() - 1]);
            let mut start = if times[0] >= edge { 0 } else { times.partition_point(|time| *time < edge) };
            if times.len() - start > budget {
                let cut = times[times.len() - budget];
                start = start.max(times.partition_point(|time| *time < cut));
            }
            (self.range.start + start..self.range.end, seqno)
        } else {
            let (edge, seqno) = deletes.level_after(times[0]);
            let all = times.len();
            let mut end =
                if times[all - 1] <= edge { all } else { times.partition_point(|time| *time <= edge) };
            if end > budget {
                let cut = times[budget - 1];
                end = end.min(times.partition_point(|time| *time <= cut));
            }
            (self.range.start..self.range.start + end, seqno)
        }
    }
    /// Slot by slot: the newest version that the snapshot sees, if it is a put that is not hidden. Returns how many
    /// entries, whole slots, were left because the sink was full.
    fn visit_versions(
        &self,
        level: &Range<usize>,
        snapshot: Seqno,
        hidden_below: Seqno,
        sink: &mut Sink<'_>,
    ) -> usize {
        let mut rest = level.clone();
        while !rest.is_empty() && !sink.is_full() {
            let versions = near_slot(self.columns, &rest, self.reverse);
            let seqnos = &self.columns.seqnos()[versions.clone()];
            let seen = seqnos.partition_point(|seqno| *seqno <= snapshot.0);
            if let Some(newest) = seen.checked_sub(1).filter(|newest| seqnos[*newest] >= hidden_below.0) {
                sink.take_put(self.columns, versions.start + newest);
            }
            if self.reverse {
                rest.end = versions.start;
            } else {
                rest.start = versions.end;
            }
        }
        rest.len()
    }
}

/// The versions of the slot at the near end of a range, which is not empty.
pub(super) fn near_slot(columns: &Columns, range: &Range<usize>, reverse: bool) -> Range<usize> {
    let times = &columns.times()[range.clone()];
    match times {
        // One version is the rule.
        [.., before, last] if reverse && before < last => range.end - 1..range.end,
        [first, after, ..] if !reverse && after > first => range.start..range.start + 1,
        [.., last] if reverse => range.start + times.partition_point(|time| time < last)..range.end,
        [first, ..] => range.start..range.start + times.partition_point(|time| time <= first),
        [] => range.clone(),
    }
}

/// Whether every entry is a put that the snapshot sees and nothing hides, each slot with one version. Written without
/// early exits so that the compiler vectorises it.
fn is_plain(columns: &Columns, range: &Range<usize>, snapshot: Seqno, hidden_below: Seqno) -> bool {
    let times = &columns.times()[range.clone()];
    let seqnos = &columns.seqnos()[range.clone()];
    let tags = &columns.tags()[range.clone()];
    let ascending = times.windows(2).fold(true, |ascending, pair| ascending & (pair[0] < pair[1]));
    let seen =
        seqnos.iter().fold(true, |seen, seqno| seen & (*seqno <= snapshot.0) & (*seqno >= hidden_below.0));
    let puts = tags.iter().fold(true, |puts, tag| puts & (*tag != TAG_DELETE));
    ascending & seen & puts
}
