//! The newest sample of a series, and whether a slot class has anything at all.

use super::merge::{Merge, Stop};
use super::point::{Found, Scratch, covering_delete, find_slot, visible};
use super::source::{Source, Target};
use super::visible::Sink;
use super::{Blocks, Needs, Step, View};
use crate::model::{Seqno, Slot, SlotClass};
use crate::storage::columns::Columns;
use crate::storage::memtable::{Run, series_hash};
use crate::storage::sstable::TableError;

/// Progress of a search for the newest sample over several calls: what lies above has been looked through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewestSearch {
    /// `None` before the first call.
    up_to: Option<i64>,
}

/// The visible sample with the highest time. It starts at the latest entries and looks at earlier ones only as far as
/// deletes make it. `search` starts as its default and is kept while the call returns [`Step::Need`].
///
/// # Errors
/// When a chunk is damaged.
pub fn newest<'a>(
    view: &View<'a>,
    series: &[u8],
    search: &mut NewestSearch,
    blocks: &mut dyn Blocks,
    scratch: &'a mut Scratch,
) -> Result<Step<Option<Found<'a>>>, TableError> {
    if !view.keys.contains(series) {
        return Ok(Step::Ready(None));
    }
    if search.up_to.is_none()
        && let Some(found) = newest_at_hand(view, series)
    {
        return Ok(Step::Ready(Some(found)));
    }
    let target = Target { series, class: SlotClass::Time, reverse: true };
    let times = (i64::MIN, search.up_to.unwrap_or(i64::MAX));
    let mut merge = series_merge(view, target, times);
    scratch.best.clear();
    let mut needs = Needs::default();
    let mut sink = Sink::new(&mut scratch.best, 1, usize::MAX);
    let mut unbounded = usize::MAX;
    let stop = merge.advance(&mut sink, &mut unbounded, blocks, &mut needs)?;
    search.up_to = Some(merge.to);
    if stop == Stop::Missing {
        return Ok(needs.into_step());
    }
    let found = if scratch.best.is_empty() { None } else { visible(&scratch.best, 0, Seqno(0)) };
    Ok(Step::Ready(found))
}

/// The last entry of the memtables, when it is plainly the answer: what nearly every call finds while a series is being
/// written.
fn newest_at_hand<'a>(view: &View<'a>, series: &[u8]) -> Option<Found<'a>> {
    let hash = series_hash(series);
    let runs = view.memtables.iter().filter_map(|memtable| memtable.run(hash, series, SlotClass::Time));
    let last = |run: Run<'a>| {
        let (columns, range) = run.piece(run.piece_count() - 1);
        (columns, range.end - 1)
    };
    let by_time_and_seqno =
        |(columns, index): &(&'a Columns, usize)| (columns.times()[*index], columns.seqno(*index));
    let (columns, index) = runs.map(last).max_by_key(by_time_and_seqno)?;
    let (time, seqno) = by_time_and_seqno(&(columns, index));
    // Tables come with the latest sample first.
    let mut later =
        view.version.tables_of(SlotClass::Time).iter().take_while(|table| table.meta.time_max >= time);
    if seqno > view.snapshot || later.any(|table| table.may_contain(series, SlotClass::Time)) {
        return None;
    }
    visible(columns, index, covering_delete(view, hash, series, Slot::Time(time)))
}

/// Whether a series has a visible entry of a class.
///
/// # Errors
/// When a chunk is damaged.
pub fn class_exists(
    view: &View<'_>,
    series: &[u8],
    class: SlotClass,
    search: &mut NewestSearch,
    blocks: &mut dyn Blocks,
    scratch: &mut Scratch,
) -> Result<Step<bool>, TableError> {
    let step = match class {
        SlotClass::Time => newest(view, series, search, blocks, scratch)?,
        SlotClass::Metadata | SlotClass::Timeless => find_slot(view, series, class.slot(0), blocks, scratch)?,
    };
    Ok(match step {
        Step::Ready(found) => Step::Ready(found.is_some()),
        Step::Need(blocks) => Step::Need(blocks),
    })
}

/// A merge of everything that a view has of a series and class at some times, found through hash tables and filters.
pub(super) fn series_merge<'a>(view: &View<'a>, target: Target<'a>, times: (i64, i64)) -> Merge<'a> {
    let hash = series_hash(target.series);
    let runs = view.memtables.iter().filter_map(|memtable| {
        Some(Source::run(target, memtable.run(hash, target.series, target.class)?, times))
    });
    let tables = view.version.tables_of(target.class).iter().filter(|table| {
        let in_time = target.class != SlotClass::Time || table.reaches(times.0, times.1);
        in_time && table.may_contain(target.series, target.class)
    });
    let tables = tables.map(|table| Source::table(target, table, times));
    Merge::new(view, target, times, runs.chain(tables))
}
