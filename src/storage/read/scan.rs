//! Scans: visible entries of many series, in series order then slot order or against it, a bounded stretch per call.

use super::frontier::{Frontier, Next};
use super::merge::{Merge, Stop};
use super::newest::series_merge;
use super::point::Scratch;
use super::series_retention::kept_from;
use super::source::Target;
use super::summary::{ChunkSummary, Summaries};
use super::visible::Sink;
use super::{Blocks, Needs, Step, View};
use crate::limits::SCAN_CHUNK_BYTES;
use crate::model::{EntryOp, KeyRange, ScanAnswer, ScanRequest, Seqno, SlotClass, Value};
use crate::storage::columns::Columns;
use crate::storage::range_delete::only_series;
use crate::storage::sstable::TableError;
use crate::storage::version::Table;
use crate::teeth::{Bug, planted};
use std::ops::Range;
use std::sync::Arc;

/// Whether a scan has more to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanStatus {
    /// Call again; the output may be empty so far.
    More,
    /// Everything was visited, or the limit is reached.
    Done,
}

/// How far a scan has come. Starts as its default; only ever moves on. Holds for any later view of the same shard.
#[derive(Clone, Debug, Default)]
pub struct ScanPosition {
    place: Place,
    /// The series that `place` speaks of.
    series: Vec<u8>,
    /// Entries that were given out.
    emitted: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Start,
    /// Within a series: times `from..=to` of a class are left, and the classes after it.
    Within {
        class: SlotClass,
        from: i64,
        to: i64,
    },
    /// The samples of a series come next; which of them are too old for it is not known yet.
    Samples,
    /// A series is done.
    After,
    Done,
}

/// Entries that a scan visited, in the order of the visit: in a reverse scan, times descend.
#[derive(Clone, Debug, Default)]
pub struct ScanOutput {
    columns: Columns,
    runs: Vec<OutputRun>,
    keys: Vec<u8>,
}

#[derive(Clone, Debug)]
struct OutputRun {
    key: Range<usize>,
    class: SlotClass,
    entries: Range<usize>,
    summary: Option<ChunkSummary>,
}

/// Entries of one series and class in a scan's output.
#[derive(Clone, Debug)]
pub struct ScanRun<'a> {
    /// Whose entries.
    pub series: &'a [u8],
    /// Of which class.
    pub class: SlotClass,
    /// Holds them, among others.
    pub columns: &'a Columns,
    /// Which of the columns' entries they are; all are puts.
    pub range: Range<usize>,
    /// Only in a scan of buckets: a chunk that stands here as its statistics; the range is then empty.
    pub summary: Option<ChunkSummary>,
}

impl ScanOutput {
    /// Entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.columns.len()
    }
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }
    /// Bytes of keys, times and values in it, roughly what it takes to send them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.keys.len() + self.columns.len() * 16 + self.columns.heap().len()
    }
    /// Forgets the entries, keeping the memory.
    pub fn clear(&mut self) {
        self.columns.clear();
        self.runs.clear();
        self.keys.clear();
    }
    /// The entries by series and class. A series and class may come in two runs one after the other.
    pub fn runs(&self) -> impl Iterator<Item = ScanRun<'_>> {
        self.runs.iter().map(|run| ScanRun {
            series: &self.keys[run.key.clone()],
            class: run.class,
            columns: &self.columns,
            range: run.entries.clone(),
            summary: run.summary,
        })
    }
    /// Adds a sample of a series behind what is there.
    pub fn push_sample(&mut self, series: &[u8], time: i64, value: Value<'_>) {
        let start = self.columns.len();
        self.columns.push(time, Seqno(0), EntryOp::Put(value));
        self.close_run(start..start + 1, series, SlotClass::Time);
    }
    /// Files entries that were added under their series.
    fn close_run(&mut self, entries: Range<usize>, series: &[u8], class: SlotClass) {
        match self.runs.last_mut() {
            _ if entries.is_empty() => {}
            Some(last)
                if last.summary.is_none()
                    && last.class == class
                    && self.keys[last.key.clone()] == *series =>
            {
                last.entries.end = entries.end;
            }
            _ => {
                let key = self.add_key(series);
                self.runs.push(OutputRun { key, class, entries, summary: None });
            }
        }
    }
    /// Files a chunk that was taken as its statistics, with `place` entries before it.
    fn add_summary(&mut self, place: usize, series: &[u8], summary: ChunkSummary) {
        let key = self.add_key(series);
        let (class, entries) = (SlotClass::Time, place..place);
        self.runs.push(OutputRun { key, class, entries, summary: Some(summary) });
    }
    fn add_key(&mut self, series: &[u8]) -> Range<usize> {
        let last = self.runs.last().map(|run| run.key.clone());
        if let Some(key) = last.filter(|key| self.keys[key.clone()] == *series) {
            return key;
        }
        let key = self.keys.len()..self.keys.len() + series.len();
        self.keys.extend_from_slice(series);
        key
    }
}

impl ScanPosition {
    /// Entries given out so far.
    #[must_use]
    pub fn emitted(&self) -> u64 {
        self.emitted
    }
}

/// Appends the next visible entries to `out` (of a scan of buckets: the samples that go into them, or chunks of such
/// as their statistics; of a scan of the newest: one of each series): visits up to about `max_entries` (hidden ones and series count too) and
/// ends early when [`SCAN_CHUNK_BYTES`] of values were added. Each call finds its place anew from `position`, so views
/// may differ from call to call; what was given out stays as it was.
///
/// # Errors
/// When a chunk is damaged. The position then still names what could not be read.
pub fn scan_step(
    view: &View<'_>,
    request: &ScanRequest,
    position: &mut ScanPosition,
    max_entries: usize,
    blocks: &mut dyn Blocks,
    out: &mut ScanOutput,
) -> Result<Step<ScanStatus>, TableError> {
    let keys = request.keys.intersection(view.keys);
    if position.place == Place::Done || keys.is_empty() {
        position.place = Place::Done;
        return Ok(Step::Ready(ScanStatus::Done));
    }
    let mut scan = Scan {
        view,
        request,
        keys,
        frontier: None,
        budget: max_entries.max(1),
        heap_end: out.columns.heap().len().saturating_add(SCAN_CHUNK_BYTES),
        progressed: false,
        needs: Needs::default(),
        summaries: Summaries::new(request.answer),
        scratch: Scratch::default(),
    };
    // Taken out so that a merge may borrow the key while the place moves.
    let mut series = std::mem::take(&mut position.series);
    let stop = scan.run(&mut series, position, blocks, out);
    position.series = series;
    Ok(match stop? {
        Stop::Done => {
            position.place = Place::Done;
            Step::Ready(ScanStatus::Done)
        }
        Stop::Missing if !scan.progressed => scan.needs.into_step(),
        Stop::Missing | Stop::Enough => Step::Ready(ScanStatus::More),
    })
}

/// One call of [`scan_step`].
struct Scan<'a, 'v> {
    view: &'a View<'v>,
    request: &'a ScanRequest,
    keys: KeyRange,
    /// Made when the next series is wanted.
    frontier: Option<Frontier<'v>>,
    budget: usize,
    heap_end: usize,
    /// Whether something was visited that a later call need not visit again.
    progressed: bool,
    needs: Needs,
    summaries: Option<Summaries>,
    scratch: Scratch,
}

impl<'v> Scan<'_, 'v> {
    fn run(
        &mut self,
        series: &mut Vec<u8>,
        position: &mut ScanPosition,
        blocks: &mut dyn Blocks,
        out: &mut ScanOutput,
    ) -> Result<Stop, TableError> {
        loop {
            if position.emitted >= self.limit() {
                return Ok(Stop::Done);
            }
            let (class, from, to) = match position.place {
                Place::Within { class, from, to } => (class, from, to),
                Place::Done => return Ok(Stop::Done),
                Place::Samples => match self.first_time(series, blocks)? {
                    None => return Ok(Stop::Missing),
                    Some(from) => {
                        let (class, to) = (SlotClass::Time, self.request.to);
                        position.place = Place::Within { class, from, to };
                        continue;
                    }
                },
                Place::Start | Place::After => {
                    if self.budget == 0 {
                        return Ok(Stop::Enough);
                    }
                    match self.next_series(series, position.place == Place::Start, blocks) {
                        Next::Missing => return Ok(Stop::Missing),
                        Next::End => return Ok(Stop::Done),
                        Next::Series => {}
                    }
                    self.budget -= 1;
                    position.place = self.first_place();
                    continue;
                }
            };
            let newest = self.request.answer == ScanAnswer::Newest;
            let target = Target {
                series: &*series,
                class,
                reverse: self.request.reverse || (newest && !planted(Bug::FirstForNewest)),
            };
            let mut merge = self.merge(target, (from, to));
            let emitted = position.emitted;
            let mut stop = self.visit(&mut merge, target, position, blocks, out);
            self.progressed |= merge.passed;
            if newest && position.emitted > emitted {
                // The series has given what is wanted of it.
                stop = stop.map(|_| Stop::Done);
            }
            position.place = match stop {
                Ok(Stop::Done) => self.place_after(class),
                Ok(Stop::Enough | Stop::Missing) | Err(_) => {
                    Place::Within { class, from: merge.from, to: merge.to }
                }
            };
            drop(merge);
            let stop = stop?;
            if position.place == Place::After {
                self.progressed = true;
                if let Some(frontier) = &mut self.frontier {
                    frontier.pass(series);
                }
            }
            if stop != Stop::Done && position.emitted < self.limit() {
                return Ok(stop);
            }
        }
    }
    /// Goes through one class of one series.
    fn visit(
        &mut self,
        merge: &mut Merge<'_>,
        target: Target<'_>,
        position: &mut ScanPosition,
        blocks: &mut dyn Blocks,
        out: &mut ScanOutput,
    ) -> Result<Stop, TableError> {
        let start = out.columns.len();
        let left = usize::try_from(self.limit() - position.emitted).unwrap_or(usize::MAX);
        let left = if self.request.answer == ScanAnswer::Newest { left.min(1) } else { left };
        let heap = self.heap_end.saturating_sub(out.columns.heap().len());
        let sink = Sink::new(&mut out.columns, left, heap);
        let mut sink = sink.with_summaries(self.summaries.as_mut());
        let stop = merge.advance(&mut sink, &mut self.budget, blocks, &mut self.needs);
        // Even when a chunk is damaged: what came before it is out, and the position says so.
        position.emitted += (out.columns.len() - start) as u64;
        let mut start = start;
        for (place, summary) in self.summaries.iter_mut().flat_map(Summaries::drain) {
            out.close_run(start..place, target.series, target.class);
            out.add_summary(place, target.series, summary);
            start = place;
        }
        out.close_run(start..out.columns.len(), target.series, target.class);
        stop
    }
    /// Entries to give out in all. Those of buckets are for the caller to count.
    fn limit(&self) -> u64 {
        match self.request.answer {
            ScanAnswer::Entries | ScanAnswer::Newest => self.request.limit,
            ScanAnswer::Buckets { .. } => u64::MAX,
        }
    }
    fn next_series(&mut self, series: &mut Vec<u8>, at_start: bool, blocks: &mut dyn Blocks) -> Next {
        if let Some(only) = only_series(&self.keys) {
            if !at_start {
                return Next::End;
            }
            series.clear();
            series.extend_from_slice(only);
            return Next::Series;
        }
        let left = match self.request.answer {
            // The blocks that come next are those of the history.
            ScanAnswer::Newest => 1,
            ScanAnswer::Entries | ScanAnswer::Buckets { .. } => {
                usize::try_from(self.limit()).unwrap_or(usize::MAX).min(self.budget)
            }
        };
        let frontier = self.frontier.get_or_insert_with(|| {
            let after = if at_start { None } else { Some(&**series) };
            let tables = self.view.version.tables().iter();
            let wanted = |table: &&'v Arc<Table>| wants(self.request, table);
            Frontier::new(self.view, tables.filter(wanted), self.keys.clone(), after, self.request.reverse)
        });
        frontier.next(series, left, blocks, &mut self.needs)
    }
    fn merge<'s>(&self, target: Target<'s>, times: (i64, i64)) -> Merge<'s>
    where
        'v: 's,
    {
        match &self.frontier {
            Some(frontier) => frontier.merge(self.view, target, times),
            None => series_merge(self.view, target, times),
        }
    }
    /// The first time at which samples of a series are wanted; `None` when blocks are missing that tell it.
    fn first_time(&mut self, series: &[u8], blocks: &mut dyn Blocks) -> Result<Option<i64>, TableError> {
        let ScanRequest { from, to, answer, .. } = self.request;
        if *answer == ScanAnswer::Newest && *to == i64::MAX {
            // No retention hides the newest sample.
            return Ok(Some(*from));
        }
        Ok(match kept_from(self.view, series, blocks, &mut self.scratch)? {
            Step::Ready(kept) => Some((*from).max(kept.unwrap_or(i64::MIN))),
            Step::Need(missing) => {
                missing.into_iter().for_each(|block| self.needs.add(block));
                None
            }
        })
    }
    fn first_place(&self) -> Place {
        match (self.request.all_slots, self.request.reverse) {
            (true, false) => self.place_at(SlotClass::Metadata),
            _ => self.place_at(SlotClass::Time),
        }
    }
    fn place_after(&self, class: SlotClass) -> Place {
        match (class, self.request.reverse) {
            _ if !self.request.all_slots => Place::After,
            (SlotClass::Metadata, false) | (SlotClass::Time, true) => self.place_at(SlotClass::Timeless),
            (SlotClass::Timeless, false) => self.place_at(SlotClass::Time),
            (SlotClass::Timeless, true) => self.place_at(SlotClass::Metadata),
            (SlotClass::Time, false) | (SlotClass::Metadata, true) => Place::After,
        }
    }
    fn place_at(&self, class: SlotClass) -> Place {
        match class {
            SlotClass::Time => Place::Samples,
            SlotClass::Metadata | SlotClass::Timeless => Place::Within { class, from: 0, to: 0 },
        }
    }
}

/// Whether a table can have something for a scan.
fn wants(request: &ScanRequest, table: &Table) -> bool {
    (table.holds(SlotClass::Time) && table.reaches(request.from, request.to))
        || (request.all_slots && table.holds(SlotClass::Timeless))
}
