//! One slot: the newest version that the snapshot sees.

use super::{BlockRef, Blocks, Needs, Step, View};
use crate::model::{EntryOp, Seqno, Slot, SlotClass, Value};
use crate::storage::columns::Columns;
use crate::storage::memtable::series_hash;
use crate::storage::sstable::{Block, TableError};
use crate::storage::version::Table;
use std::sync::Arc;

/// A visible entry. The value borrows a memtable, or the scratch space that the lookup was given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found<'a> {
    /// Its time; 0 for slots without.
    pub time: i64,
    /// Its seqno.
    pub seqno: Seqno,
    /// Its value.
    pub value: Value<'a>,
}

/// Space that lookups decode chunks into; reused, so that a lookup does not allocate.
#[derive(Debug, Default)]
pub struct Scratch {
    /// One decoded chunk.
    pub(super) chunk: Columns,
    /// The best entry so far.
    pub(super) best: Columns,
}

/// The visible value at exactly this slot.
///
/// # Errors
/// When a chunk is damaged.
pub fn find_slot<'a>(
    view: &View<'a>,
    series: &[u8],
    slot: Slot,
    blocks: &mut dyn Blocks,
    scratch: &'a mut Scratch,
) -> Result<Step<Option<Found<'a>>>, TableError> {
    if !view.keys.contains(series) {
        return Ok(Step::Ready(None));
    }
    let (hash, class) = (series_hash(series), slot.class());
    let may_remember = class != SlotClass::Time && view.snapshot == Seqno::MAX;
    if may_remember && let Some((seqno, bytes)) = blocks.remembered(hash, series, class) {
        scratch.best.clear();
        scratch.best.push(0, seqno, EntryOp::Put(Value::Bytes(bytes)));
        return Ok(Step::Ready(visible(&scratch.best, 0, Seqno(0))));
    }
    let in_memory = newest_in_memtables(view, hash, series, slot);
    let newest = in_memory.map_or(Seqno(0), |(columns, index)| columns.seqno(index));
    let hidden_below = covering_delete(view, hash, series, slot);
    let mut search = Search { slot, snapshot: view.snapshot, best: newest.max(hidden_below), scratch };
    search.scratch.best.clear();
    let mut needs = Needs::default();
    for table in candidates(view, series, slot, search.best) {
        if table.meta.seqno_max <= search.best {
            continue;
        }
        for index in blocks_of(table, series, slot) {
            match blocks.block(table, index) {
                Some(block) => search.look_into(&block, series)?,
                None => needs.add(BlockRef { table: Arc::clone(table), index }),
            }
        }
    }
    // What was found since may be newer than all that a missing block can hold.
    needs.list.retain(|block| block.table.meta.seqno_max > search.best);
    if !needs.list.is_empty() {
        return Ok(needs.into_step());
    }
    // It is newer than what is in memory, and than any delete.
    if may_remember
        && !scratch.best.is_empty()
        && let EntryOp::Put(Value::Bytes(bytes)) = scratch.best.op(0)
    {
        blocks.remember(hash, series, class, (scratch.best.seqno(0), bytes));
    }
    let in_tables = !scratch.best.is_empty();
    let found = if in_tables { Some((&scratch.best, 0)) } else { in_memory };
    Ok(Step::Ready(found.and_then(|(columns, index)| visible(columns, index, hidden_below))))
}

fn newest_in_memtables<'a>(
    view: &View<'a>,
    hash: u64,
    series: &[u8],
    slot: Slot,
) -> Option<(&'a Columns, usize)> {
    let in_memtable = |memtable: &&'a crate::storage::memtable::Memtable| {
        memtable.run(hash, series, slot.class())?.find(slot.time_or_zero(), view.snapshot)
    };
    view.memtables.iter().filter_map(in_memtable).max_by_key(|(columns, index)| columns.seqno(*index))
}

/// Highest seqno of what covers the slot: range deletes, and its age.
pub(super) fn covering_delete(view: &View<'_>, hash: u64, series: &[u8], slot: Slot) -> Seqno {
    let sets = view.memtables.iter().map(|memtable| memtable.deletes());
    let sets = sets.chain([view.version.deletes()]);
    let deleted = sets.map(|set| set.covering(hash, series, slot, view.snapshot)).max().unwrap_or_default();
    match slot {
        Slot::Time(time) => deleted.max(view.version.expired_below(time)),
        Slot::Metadata | Slot::Timeless => deleted,
    }
}

/// Tables that may hold a version of the slot above `floor`.
fn candidates<'a>(
    view: &View<'a>,
    series: &[u8],
    slot: Slot,
    floor: Seqno,
) -> impl Iterator<Item = &'a Arc<Table>> {
    let snapshot = view.snapshot;
    view.version.tables_of(slot.class()).iter().filter(move |table| {
        let in_time = match slot {
            Slot::Time(time) => table.reaches(time, time),
            Slot::Metadata | Slot::Timeless => true,
        };
        in_time
            && table.meta.seqno_max > floor
            && table.meta.seqno_min <= snapshot
            && table.may_contain(series, slot.class())
    })
}

/// The blocks of a table that may hold the slot: one, unless its versions go on over several.
fn blocks_of(table: &Table, series: &[u8], slot: Slot) -> impl Iterator<Item = usize> {
    let first = table.index.seek(series, slot);
    (first..table.index.block_count())
        .take_while(move |index| table.index.block_first_key(*index) <= (series, slot))
}

/// Looks for the newest version of a slot in one block after the other.
struct Search<'a> {
    slot: Slot,
    snapshot: Seqno,
    /// Seqno of the best entry so far, which lies in `scratch.best`; at first what is known to be newer or hidden.
    best: Seqno,
    scratch: &'a mut Scratch,
}

impl Search<'_> {
    fn look_into(&mut self, block: &Block, series: &[u8]) -> Result<(), TableError> {
        let (time, class) = (self.slot.time_or_zero(), self.slot.class());
        for chunk in block.find(series, class) {
            let header = block.chunk(chunk);
            let holds_time =
                class != SlotClass::Time || (header.first_time..=header.last_time).contains(&time);
            if !holds_time || header.seqno_max <= self.best {
                continue;
            }
            self.scratch.chunk.clear();
            block.decode_chunk(chunk, &mut self.scratch.chunk)?;
            let columns = &self.scratch.chunk;
            let start = columns.times().partition_point(|other| *other < time);
            let end = start + columns.times()[start..].partition_point(|other| *other == time);
            let seen = columns.seqnos()[start..end].partition_point(|seqno| *seqno <= self.snapshot.0);
            if seen > 0 && columns.seqno(start + seen - 1) > self.best {
                self.best = columns.seqno(start + seen - 1);
                self.scratch.best.clear();
                self.scratch.best.push(time, self.best, columns.op(start + seen - 1));
            }
        }
        Ok(())
    }
}

/// The entry, if it is a put that range deletes leave.
pub(super) fn visible(columns: &Columns, index: usize, hidden_below: Seqno) -> Option<Found<'_>> {
    let seqno = columns.seqno(index);
    match columns.op(index) {
        EntryOp::Put(value) if seqno >= hidden_below => {
            Some(Found { time: columns.times()[index], seqno, value })
        }
        EntryOp::Put(_) | EntryOp::Delete => None,
    }
}
