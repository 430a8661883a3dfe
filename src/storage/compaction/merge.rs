//! Merge: several tables become one sorted run; what nobody can see any more goes.
//!
//! Seqnos decide, never the order of tables, so any set of tables may be merged. What may go:
//!
//! - *Superseded*: an entry, when a newer one of its slot is here and every snapshot sees that one.
//! - *Hidden*: an entry, when a range delete of any table of the version covers it and every snapshot sees the delete.
//! - *Expired*: an entry that a cutoff hides, and a delete of such entries alone: cutoffs are durable and stay. An entry
//!   that the retention of its series hides ([`SeriesCutoffs`]): it never comes back.
//! - *Spent*: a delete itself, when it is below the horizon (nothing it hides can come back from a WAL or a memtable)
//!   **and** no table outside of the merge has anything older that it covers.
//!
//! The first two of these are safe because what supersedes or hides stays as long as anything older exists anywhere: the last
//! rule is the only one that lets go of it, and looks at all tables of the version. Tables that appear later hold
//! nothing below the horizon, and merges that run at the same time only make the tables outside smaller: a version that
//! grows old during a merge errs on the side of keeping.
//!
//! Seqnos that no longer tell anything are *levelled*: where every input lies below the horizon, and no table outside
//! that could hold the same slots has seqnos among theirs, all entries get the highest seqno of the inputs. What could
//! stand between an entry's old seqno and its new one, a delete or another version, has been applied by then or is one
//! of the inputs'; a column of equal seqnos costs nothing.
//!
//! Samples of one series are copied in runs where one input has a stretch of time to itself.

use super::coverage::{Coverage, Stretch};
use super::cursor::Cursor;
use super::output::{OutputEvent, OutputOptions, Outputs};
use super::series_cutoffs::SeriesCutoffs;
use super::span::Span;
use crate::model::{KeyRange, Seqno, Slot, SlotClass};
use crate::storage::columns::{Columns, TAG_DELETE};
use crate::storage::range_delete::{RangeDelete, single_series};
use crate::storage::retention::Cutoff;
use crate::storage::sstable::{Block, TableError, TableIndex, TableMeta};
use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

/// Entries that are gathered before they are sifted.
const BATCH_ENTRIES: usize = 4096;
/// Bytes of values that are gathered before they are sifted.
const BATCH_BYTES: usize = 1 << 20;

/// One table that is merged.
pub trait TableInput {
    /// As the manifest has it: its visible keys count.
    fn meta(&self) -> &TableMeta;
    /// Its index.
    fn index(&self) -> &TableIndex;
    /// Reads block `index`; may wait.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    fn read_block(&mut self, index: usize) -> Result<Block, TableError>;
}

/// What a merge may drop, and where its output goes.
pub struct MergeOptions {
    /// Nothing below it can come back from a WAL or a memtable. Taken *before* the version whose tables are merged: a
    /// memtable that was flushed in between must not be missing on both sides.
    pub horizon: Seqno,
    /// Every snapshot, open or to come, sees everything below it. At least `horizon`.
    pub snapshot_horizon: Seqno,
    /// All other tables of the version, those of running merges too. Their blocks are not read.
    pub outside: Vec<Box<dyn TableInput>>,
    /// What is hidden for its age; durable in the manifest.
    pub cutoffs: Vec<Cutoff>,
    /// What the retention of series hides.
    pub series_cutoffs: Arc<SeriesCutoffs>,
    /// Where samples go: disjoint, and together covering what is kept of every span of the inputs (`Plan::spans`).
    pub spans: Vec<Span>,
    /// How tables are written.
    pub output: OutputOptions,
}

/// A merge under way.
pub struct Merge {
    cursors: Vec<Cursor>,
    started: bool,
    finished: bool,
    rules: Rules,
    coverage: Coverage,
    outputs: Outputs,
    /// Series, class and covered stretches at hand.
    series: Vec<u8>,
    class: SlotClass,
    stretches: Vec<Stretch>,
    /// Entries at hand, in order, not sifted yet.
    batch: Columns,
    /// The seqno that all entries get, where they are levelled.
    level_seqno: Option<Seqno>,
}

impl Merge {
    /// Prepares; nothing is read yet. Inputs that are deleted as a whole are never read.
    #[must_use]
    pub fn new(inputs: Vec<Box<dyn TableInput>>, options: MergeOptions) -> Self {
        let MergeOptions { horizon, snapshot_horizon, outside, cutoffs, series_cutoffs, spans, output } =
            options;
        let expired: Vec<RangeDelete> = cutoffs.iter().map(Cutoff::as_delete).collect();
        let rules = Rules { horizon: horizon.min(snapshot_horizon), snapshot_horizon, outside };
        let level_seqno = rules.level_seqno(&inputs);
        let mut own: Vec<RangeDelete> =
            inputs.iter().flat_map(|input| visible_deletes(input.as_ref())).collect();
        own.retain(|delete| !expired.iter().any(|cutoff| includes(cutoff, delete)));
        let foreign = rules.outside.iter().flat_map(|table| visible_deletes(table.as_ref()));
        let mut hiding: Vec<RangeDelete> = foreign.chain(own.iter().cloned()).collect();
        hiding.retain(|delete| delete.seqno < snapshot_horizon);
        // No snapshot sees what is too old.
        hiding.extend(expired);
        let cursors = inputs
            .into_iter()
            .filter(|input| !hiding.iter().any(|delete| hides_table(delete, input.meta())))
            .map(Cursor::new)
            .collect();
        let carried = rules.range_deletes_kept(own);
        Self {
            cursors,
            started: false,
            finished: false,
            rules,
            coverage: Coverage::new(hiding, series_cutoffs),
            outputs: Outputs::new(output, &spans, carried),
            series: Vec::new(),
            class: SlotClass::Metadata,
            stretches: Vec::new(),
            batch: Columns::default(),
            level_seqno,
        }
    }
    /// Reads and merges until there is something to write; `None` when all is done.
    ///
    /// # Errors
    /// When an input cannot be read; the merge cannot go on then.
    pub fn step(&mut self) -> Result<Option<OutputEvent>, TableError> {
        if !self.started {
            self.cursors.iter_mut().try_for_each(Cursor::load)?;
            self.started = true;
        }
        loop {
            if let Some(event) = self.outputs.pop() {
                return Ok(Some(event));
            }
            if self.finished {
                return Ok(None);
            }
            if !self.gather()? {
                self.sift_all();
                self.outputs.finish();
                self.finished = true;
            }
        }
    }
    /// Moves one run from an input to the batch; false when all inputs are at their end.
    fn gather(&mut self) -> Result<bool, TableError> {
        self.cursors.retain(|cursor| cursor.key().is_some());
        let Some(key) = self.cursors.iter().filter_map(Cursor::key).min() else { return Ok(false) };
        if key != (self.series.as_slice(), self.class) {
            let (series, class) = (key.0.to_vec(), key.1);
            self.sift_all();
            self.stretches = self.coverage.of(&series, class);
            self.series = series;
            self.class = class;
        }
        let here = (self.series.as_slice(), self.class);
        let (Some((first, number)), limit) = lowest_heads(&self.cursors, here) else { return Ok(true) };
        let Some(cursor) = self.cursors.get_mut(number) else { return Ok(true) };
        if limit == Some(first) {
            // Replay wrote an entry again that had been flushed already: one copy is enough.
            cursor.skip_one()?;
        } else {
            cursor.take_below(limit, &mut self.batch)?;
        }
        if self.batch.len() >= BATCH_ENTRIES || self.batch.heap().len() >= BATCH_BYTES {
            self.sift_complete();
        }
        Ok(true)
    }
    /// Sifts the slots of which all versions are in the batch: those before the last.
    fn sift_complete(&mut self) {
        let times = self.batch.times();
        let last = times.last().copied().unwrap_or_default();
        let complete = times.partition_point(|time| *time < last);
        self.sift(0..complete);
        let mut rest = Columns::default();
        // Versions of one slot that no snapshot tells apart must not pile up while more of them come.
        let superseded = |index: usize| {
            let newer = self.batch.seqnos().get(index + 1);
            newer.is_some_and(|seqno| Seqno(*seqno) < self.rules.snapshot_horizon)
        };
        for index in (complete..self.batch.len()).filter(|index| !superseded(*index)) {
            rest.extend_from(&self.batch, index..index + 1);
        }
        self.batch = rest;
    }
    fn sift_all(&mut self) {
        self.sift(0..self.batch.len());
        self.batch.clear();
    }
    /// Passes on what of `range` (whole slots) is kept, in runs as long as possible.
    fn sift(&mut self, range: Range<usize>) {
        let slots =
            Slots { columns: &self.batch, series: &self.series, class: self.class, range: range.clone() };
        if slots.need_no_look(&self.stretches) {
            self.pass_on(range);
            return;
        }
        let mut stretches = self.stretches.as_slice();
        let mut runs: Vec<Range<usize>> = Vec::new();
        for index in range {
            if !self.rules.keeps(&slots, index, &mut stretches) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == index => run.end = index + 1,
                _ => runs.push(index..index + 1),
            }
        }
        runs.into_iter().for_each(|run| self.pass_on(run));
    }
    fn pass_on(&mut self, run: Range<usize>) {
        if run.is_empty() {
            return;
        }
        if let Some(seqno) = self.level_seqno {
            self.batch.level_seqnos(run.clone(), seqno);
        }
        self.outputs.add(&self.series, self.class, &self.batch, run);
    }
}

/// Time and seqno of an entry.
type Head = (i64, u64);

/// The cursor with the lowest entry of `key`, and the next lowest entry of another cursor: the run that one input has
/// to itself goes from the first up to the second.
fn lowest_heads(cursors: &[Cursor], key: (&[u8], SlotClass)) -> (Option<(Head, usize)>, Option<Head>) {
    let (mut lowest, mut limit): (Option<(Head, usize)>, Option<Head>) = (None, None);
    for (number, cursor) in cursors.iter().enumerate().filter(|(_, cursor)| cursor.key() == Some(key)) {
        let Some(head) = cursor.head() else { continue };
        if lowest.is_none_or(|(first, _)| head < first) {
            limit = lowest.map(|(first, _)| first);
            lowest = Some((head, number));
        } else {
            limit = Some(limit.map_or(head, |limit| limit.min(head)));
        }
    }
    (lowest, limit)
}

/// Complete slots of one series and class.
struct Slots<'a> {
    columns: &'a Columns,
    series: &'a [u8],
    class: SlotClass,
    range: Range<usize>,
}

impl Slots<'_> {
    fn time(&self, index: usize) -> i64 {
        self.columns.times().get(index).copied().unwrap_or_default()
    }
    /// Whether there is nothing here that a rule could apply to.
    fn need_no_look(&self, stretches: &[Stretch]) -> bool {
        let range = || self.range.clone();
        let tags = self.columns.tags().get(range()).unwrap_or_default();
        let times = self.columns.times().get(range()).unwrap_or_default();
        stretches.is_empty() && !tags.contains(&TAG_DELETE) && times.is_sorted_by(|a, b| a < b)
    }
    /// Seqno of the next version of the slot at `index`.
    fn newer(&self, index: usize) -> Option<Seqno> {
        let next = index + 1;
        (self.range.contains(&next) && self.time(next) == self.time(index)).then(|| self.columns.seqno(next))
    }
}

/// What may go.
struct Rules {
    horizon: Seqno,
    snapshot_horizon: Seqno,
    outside: Vec<Box<dyn TableInput>>,
}

impl Rules {
    /// The seqno that all entries of the inputs may get.
    fn level_seqno(&self, inputs: &[Box<dyn TableInput>]) -> Option<Seqno> {
        let own = || inputs.iter().map(|input| input.meta());
        let (lowest, highest) =
            (own().map(|meta| meta.seqno_min).min()?, own().map(|meta| meta.seqno_max).max()?);
        let meets = |other: &TableMeta| own().any(|meta| may_share_slots(meta, other));
        let is_among = |other: &TableMeta| other.seqno_min <= highest && lowest <= other.seqno_max;
        let is_clear = highest < self.horizon
            && !self.outside.iter().map(|table| table.meta()).any(|other| is_among(other) && meets(other));
        is_clear.then_some(highest)
    }
    /// Whether the entry at `index` stays. Called in order; `stretches` is moved along.
    fn keeps(&self, slots: &Slots<'_>, index: usize, stretches: &mut &[Stretch]) -> bool {
        let (time, seqno) = (slots.time(index), slots.columns.seqno(index));
        if slots.newer(index).is_some_and(|newer| newer < self.snapshot_horizon) {
            return false;
        }
        while let Some(((_, to, _), after)) = stretches.split_first() {
            if *to >= time {
                break;
            }
            *stretches = after;
        }
        let covering = stretches.first().filter(|(from, _, _)| *from <= time);
        if covering.is_some_and(|(_, _, delete)| seqno.0 < *delete) {
            return false;
        }
        let is_delete = slots.columns.tags().get(index) == Some(&TAG_DELETE);
        let slot = slots.class.slot(time);
        !(is_delete && self.is_spent(seqno, |table| may_hold_older(table, slots.series, slot, seqno)))
    }
    /// Whether a delete hides nothing that exists or could come back.
    fn is_spent(&self, seqno: Seqno, hides_in: impl Fn(&dyn TableInput) -> bool) -> bool {
        seqno < self.horizon && !self.outside.iter().any(|table| hides_in(table.as_ref()))
    }
    /// The range deletes of the inputs that the outputs carry on.
    fn range_deletes_kept(&self, mut deletes: Vec<RangeDelete>) -> Vec<RangeDelete> {
        deletes.retain(|delete| !self.is_spent(delete.seqno, |table| hides_within(delete, table)));
        // Newest first within equal ranges: what a newer one covers that every snapshot sees says nothing more.
        deletes.sort_by(|a, b| {
            let range = |delete: &RangeDelete| (delete.times, Reverse(delete.seqno));
            (&a.keys.start, &a.keys.end)
                .cmp(&(&b.keys.start, &b.keys.end))
                .then_with(|| range(a).cmp(&range(b)))
        });
        deletes.dedup_by(|older, newer| {
            (&older.keys, older.times) == (&newer.keys, newer.times)
                && (older.seqno == newer.seqno || newer.seqno < self.snapshot_horizon)
        });
        let is_wide = |delete: &&RangeDelete| {
            delete.seqno < self.snapshot_horizon && delete.keys != single_series(&delete.keys.start)
        };
        let mut wide: Vec<RangeDelete> = deletes.iter().filter(is_wide).cloned().collect();
        wide.sort_by_key(|delete| Reverse(delete.seqno));
        wide.truncate(WIDE_DELETES_MAX);
        deletes.retain(|delete| !wide.iter().any(|newer| newer != delete && includes(newer, delete)));
        deletes
    }
}

/// Range deletes of several series against which each other is compared.
const WIDE_DELETES_MAX: usize = 256;

/// Whether two tables may have entries of one slot.
fn may_share_slots(a: &TableMeta, b: &TableMeta) -> bool {
    let slots = match (a.span, b.span) {
        (Some(_), Some(_)) => a.time_min <= b.time_max && b.time_min <= a.time_max,
        (None, None) => a.entries > 0 && b.entries > 0,
        _ => false,
    };
    slots && a.keys.overlaps(&b.keys)
}

/// Whether `table` may have an older version of one slot.
fn may_hold_older(table: &dyn TableInput, series: &[u8], slot: Slot, seqno: Seqno) -> bool {
    let (meta, index) = (table.meta(), table.index());
    let slot_possible = match slot {
        Slot::Time(time) => meta.span.is_some() && (meta.time_min..=meta.time_max).contains(&time),
        Slot::Metadata => meta.metadata_entries > 0,
        Slot::Timeless => meta.span.is_none() && meta.entries > 0,
    };
    slot_possible
        && meta.seqno_min < seqno
        && meta.keys.contains(series)
        && index.may_contain(series, slot.class())
        && has_block(index, (series, slot), |first| first <= (series, slot))
}

/// Whether `table` may have an entry that `delete` hides.
fn hides_within(delete: &RangeDelete, table: &dyn TableInput) -> bool {
    let (meta, index) = (table.meta(), table.index());
    if !covers_older(delete, meta) {
        return false;
    }
    let keys = delete.keys.intersection(&meta.keys);
    let start = &*keys.start;
    if keys != single_series(start) {
        let below_end = |series: &[u8]| keys.end.as_deref().is_none_or(|end| series < end);
        return has_block(index, (start, Slot::Metadata), |(series, _)| below_end(series));
    }
    let classes: &[SlotClass] =
        if meta.span.is_some() { &[SlotClass::Time] } else { &[SlotClass::Metadata, SlotClass::Timeless] };
    let (from, to) = match delete.times {
        Some((from, to)) => (Slot::Time(from), Slot::Time(to)),
        None => (Slot::Metadata, Slot::Time(i64::MAX)),
    };
    classes.iter().any(|class| index.may_contain(start, *class))
        && has_block(index, (start, from), |first| first <= (start, to))
}

/// Whether the first block that reaches `key` or beyond begins in time.
fn has_block(index: &TableIndex, key: (&[u8], Slot), in_time: impl Fn((&[u8], Slot)) -> bool) -> bool {
    let block = index.seek(key.0, key.1);
    block < index.block_count() && in_time(index.block_first_key(block))
}

/// Whether a table of this description may have an entry that `delete` hides.
pub(super) fn covers_older(delete: &RangeDelete, table: &TableMeta) -> bool {
    let slot_possible = match delete.times {
        None => table.entries > 0,
        Some((from, to)) => table.span.is_some() && from <= table.time_max && table.time_min <= to,
    };
    slot_possible && table.seqno_min < delete.seqno && table.keys.overlaps(&delete.keys)
}

/// Whether `delete` hides every entry of the table.
pub(super) fn hides_table(delete: &RangeDelete, table: &TableMeta) -> bool {
    let slots = match delete.times {
        None => true,
        Some((from, to)) => table.span.is_some() && from <= table.time_min && table.time_max <= to,
    };
    slots && table.seqno_max < delete.seqno && holds_keys(&delete.keys, &table.keys)
}

/// Whether `newer` covers all that `older` does.
fn includes(newer: &RangeDelete, older: &RangeDelete) -> bool {
    let times = match (newer.times, older.times) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(newer), Some(older)) => newer.0 <= older.0 && older.1 <= newer.1,
    };
    times && newer.seqno >= older.seqno && holds_keys(&newer.keys, &older.keys)
}

/// Whether every key of `inner` lies in `outer`. Asked for each pair of delete and table: it must not allocate.
pub(super) fn holds_keys(outer: &KeyRange, inner: &KeyRange) -> bool {
    let ends_within = match (&outer.end, &inner.end) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => inner <= outer,
    };
    outer.start <= inner.start && ends_within
}

/// The range deletes of a table, clipped to its visible keys.
fn visible_deletes(input: &dyn TableInput) -> impl Iterator<Item = RangeDelete> {
    let keys = &input.meta().keys;
    input.index().range_deletes().iter().filter_map(|delete| delete.clip(keys))
}

#[cfg(test)]
mod tests;
