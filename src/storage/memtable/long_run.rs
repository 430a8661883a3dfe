//! Entries of one series and one slot class that arrived since the last flush, ordered by (time, seqno).
//!
//! A list of column leaves, the last one held apart: appending in time order touches only that tail and never copies
//! what is full. A late arrival goes into the leaf where it belongs, which shifts at most one leaf. So there is no
//! separate run for late arrivals, and a reader sees one sorted sequence.
//!
//! Invariant: the concatenation of `full` and `tail` is strictly ascending by (time, seqno); only the tail of an
//! otherwise empty run may be empty, and only while it is being built.

use crate::model::{EntryOp, Seqno};
use crate::storage::columns::Columns;

/// Entries of a full leaf; also how long a chunk on disk gets.
const LEAF_ENTRIES: usize = crate::limits::CHUNK_ENTRIES_MAX;
/// A leaf with this many bytes of values is full, whatever its entries: splits and garbage collection stay short.
const LEAF_HEAP_BYTES: usize = 64 << 10;
/// Room that a leaf starts with when its run already fills others.
const LEAF_ENTRIES_FIRST: usize = 128;
/// Garbage in a leaf's heap below this is left alone.
pub(super) const GARBAGE_BYTES_MIN: usize = 4 << 10;

/// What an insertion did to the entry count and to memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Growth {
    /// Entries gained: 0 when one was overwritten or the arrival was obsolete.
    pub(super) entries: usize,
    /// Bytes of memory gained, wrapping: a shrinking heap gives a negative number in two's complement.
    pub(super) bytes: usize,
}

/// Columns, and how much of their heap is no longer referenced.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaf {
    columns: Columns,
    garbage: usize,
}

/// See the module's header.
#[derive(Clone, Debug, Default)]
pub(super) struct LongRun {
    full: Vec<Leaf>,
    tail: Leaf,
}

/// Where an entry goes.
enum Target {
    Append,
    Insert { leaf: usize, index: usize },
    Replace { leaf: usize, index: usize },
    Obsolete,
}

impl LongRun {
    /// Adds an entry. With `replace_older` nobody needs the older versions of its slot: the newest of them is
    /// overwritten, and an arrival that is itself older than what is there is dropped.
    pub(super) fn insert(&mut self, time: i64, seqno: Seqno, op: EntryOp<'_>, replace_older: bool) -> Growth {
        match self.target(time, seqno, replace_older) {
            Target::Append => self.append(time, seqno, op),
            Target::Insert { leaf, index } => self.insert_at(leaf, index, time, seqno, op),
            Target::Replace { leaf, index } => {
                let leaf = self.leaf_mut(leaf);
                let before = leaf.columns.memory_bytes();
                leaf.replace(index, seqno, op);
                Growth { entries: 0, bytes: leaf.columns.memory_bytes().wrapping_sub(before) }
            }
            Target::Obsolete => Growth::default(),
        }
    }
    /// Number of leaves; leaf numbers are below it.
    pub(super) fn leaf_count(&self) -> usize {
        self.full.len() + 1
    }
    /// The columns of a leaf.
    ///
    /// # Panics
    /// When there is no such leaf.
    pub(super) fn leaf(&self, leaf: usize) -> &Columns {
        if leaf == self.full.len() { &self.tail.columns } else { &self.full[leaf].columns }
    }
    /// First leaf whose last time is not below `time`; the number of leaves when there is none.
    pub(super) fn first_leaf_reaching(&self, time: i64) -> usize {
        if first_time(&self.tail.columns) <= time {
            // Equal times may begin in the leaf before.
            let before = self.full.last().is_some_and(|leaf| last_time(&leaf.columns) >= time);
            if !before {
                return self.full.len() + usize::from(last_time(&self.tail.columns) < time);
            }
        }
        self.full.partition_point(|leaf| last_time(&leaf.columns) < time)
    }
    /// Last leaf whose first time is not above `time`; `None` when all are above.
    pub(super) fn last_leaf_reaching(&self, time: i64) -> Option<usize> {
        if first_time(&self.tail.columns) <= time {
            return Some(self.full.len());
        }
        self.full.partition_point(|leaf| first_time(&leaf.columns) <= time).checked_sub(1)
    }

    /// Memory of the leaves and their list, counted anew: what the growths must add up to.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.full.capacity() * size_of::<Leaf>()
            + self.full.iter().map(|leaf| leaf.columns.memory_bytes()).sum::<usize>()
            + self.tail.columns.memory_bytes()
    }

    /// Decides where an entry belongs, and what becomes of other versions of its slot.
    fn target(&self, time: i64, seqno: Seqno, replace_older: bool) -> Target {
        let tail = &self.tail.columns;
        let Some(last) = tail.len().checked_sub(1) else { return Target::Append };
        let (last_time, last_seqno) = (tail.times()[last], tail.seqno(last));
        if (last_time, last_seqno) < (time, seqno) {
            return if last_time == time && replace_older {
                Target::Replace { leaf: self.full.len(), index: last }
            } else {
                Target::Append
            };
        }
        // The leaf whose last entry is not below the new one: it exists, the tail at the latest.
        let leaf = self.full.partition_point(|leaf| last_key(&leaf.columns) < (time, seqno));
        let columns = self.leaf(leaf);
        let index = position(columns, time, seqno);
        if columns.times()[index] == time {
            return match columns.seqno(index) == seqno {
                true => Target::Replace { leaf, index },
                // Something newer is there already: only replay comes in such an order.
                false if replace_older => Target::Obsolete,
                false => Target::Insert { leaf, index },
            };
        }
        match self.entry_before(leaf, index) {
            Some((leaf, index)) if replace_older && self.leaf(leaf).times()[index] == time => {
                Target::Replace { leaf, index }
            }
            _ => Target::Insert { leaf, index },
        }
    }
    fn append(&mut self, time: i64, seqno: Seqno, op: EntryOp<'_>) -> Growth {
        let mut bytes = 0;
        if self.tail.is_full() {
            let list_capacity = self.full.capacity();
            self.full.push(std::mem::take(&mut self.tail));
            bytes += (self.full.capacity() - list_capacity) * size_of::<Leaf>();
        }
        let before = self.tail.columns.memory_bytes();
        let after_full = !self.full.is_empty();
        self.tail.make_room(if after_full { LEAF_ENTRIES_FIRST } else { 0 });
        self.tail.columns.push(time, seqno, op);
        bytes += self.tail.columns.memory_bytes() - before;
        Growth { entries: 1, bytes }
    }
    fn insert_at(
        &mut self,
        mut leaf: usize,
        mut index: usize,
        time: i64,
        seqno: Seqno,
        op: EntryOp<'_>,
    ) -> Growth {
        let mut bytes = 0_usize;
        if self.leaf_mut(leaf).is_full() && self.leaf(leaf).len() > 1 {
            bytes = bytes.wrapping_add(self.split(leaf));
            let left = self.leaf(leaf).len();
            if index > left {
                (leaf, index) = (leaf + 1, index - left);
            }
        }
        let target = self.leaf_mut(leaf);
        let before = target.columns.memory_bytes();
        target.make_room(0);
        target.columns.insert(index, time, seqno, op);
        bytes = bytes.wrapping_add(target.columns.memory_bytes().wrapping_sub(before));
        Growth { entries: 1, bytes }
    }
    /// Halves a leaf; returns the bytes gained, wrapping.
    fn split(&mut self, leaf: usize) -> usize {
        let list_capacity = self.full.capacity();
        let whole = std::mem::take(self.leaf_mut(leaf));
        let middle = whole.columns.len() / 2;
        let left = Leaf::copied(&whole.columns, 0..middle);
        let right = Leaf::copied(&whole.columns, middle..whole.columns.len());
        let gained = (left.columns.memory_bytes() + right.columns.memory_bytes())
            .wrapping_sub(whole.columns.memory_bytes());
        *self.leaf_mut(leaf) = right;
        self.full.insert(leaf, left);
        gained.wrapping_add((self.full.capacity() - list_capacity) * size_of::<Leaf>())
    }
    fn entry_before(&self, leaf: usize, index: usize) -> Option<(usize, usize)> {
        if index > 0 {
            return Some((leaf, index - 1));
        }
        let leaf = leaf.checked_sub(1)?;
        Some((leaf, self.leaf(leaf).len() - 1))
    }
    fn leaf_mut(&mut self, leaf: usize) -> &mut Leaf {
        if leaf == self.full.len() { &mut self.tail } else { &mut self.full[leaf] }
    }
}

impl Leaf {
    fn is_full(&self) -> bool {
        self.columns.len() >= LEAF_ENTRIES || self.columns.heap().len() >= LEAF_HEAP_BYTES
    }
    /// A leaf with a part of other columns, without their garbage.
    fn copied(columns: &Columns, range: std::ops::Range<usize>) -> Self {
        let mut copy = Columns::default();
        copy.reserve_exact(range.len() + range.len() / 4);
        copy.extend_from(columns, range);
        Self { columns: copy, garbage: 0 }
    }
    /// Grows all columns alike when they are full, so that their memory is known from one of them.
    fn make_room(&mut self, first: usize) {
        let length = self.columns.len();
        if length == self.columns.capacity() {
            let wanted = (length + length / 2).max(length + 2).max(first);
            // A leaf never holds more than this, so the last growth is cut to size.
            let wanted = if length < LEAF_ENTRIES { wanted.min(LEAF_ENTRIES) } else { wanted };
            self.columns.reserve_exact(wanted - length);
        }
    }
    fn replace(&mut self, index: usize, seqno: Seqno, op: EntryOp<'_>) {
        self.garbage += replace_counting_garbage(&mut self.columns, index, seqno, op);
        if is_mostly_garbage(self.garbage, &self.columns) {
            *self = Self::copied(&self.columns, 0..self.columns.len());
        }
    }
}

/// Overwrites an entry; returns the bytes of its columns' heap that nothing refers to any more because of it.
pub(super) fn replace_counting_garbage(
    columns: &mut Columns,
    index: usize,
    seqno: Seqno,
    op: EntryOp<'_>,
) -> usize {
    let unreferenced = |columns: &Columns| columns.heap().len() - columns.value_bytes(index);
    let before = unreferenced(columns);
    columns.replace(index, seqno, op);
    unreferenced(columns) - before
}

/// Whether a heap is worth copying to get rid of its garbage.
pub(super) fn is_mostly_garbage(garbage: usize, columns: &Columns) -> bool {
    garbage >= GARBAGE_BYTES_MIN && garbage > columns.heap().len() / 2
}

/// First index whose (time, seqno) is not below.
fn position(columns: &Columns, time: i64, seqno: Seqno) -> usize {
    let equals = equal_times(columns.times(), time);
    equals.start + columns.seqnos()[equals].partition_point(|other| *other < seqno.0)
}

/// Where the entries of one time are among ascending times; empty at their place when there are none.
pub(super) fn equal_times(times: &[i64], time: i64) -> std::ops::Range<usize> {
    let start = times.partition_point(|other| *other < time);
    let count = times[start..].iter().take(4).take_while(|other| **other == time).count();
    // Versions of one slot are few, unless a snapshot has been open for long.
    let count = if count < 4 { count } else { times[start..].partition_point(|other| *other == time) };
    start..start + count
}

/// Time of the first entry; the highest time when there is none.
fn first_time(columns: &Columns) -> i64 {
    columns.times().first().copied().unwrap_or(i64::MAX)
}

/// Time of the last entry; the lowest time when there is none.
fn last_time(columns: &Columns) -> i64 {
    columns.times().last().copied().unwrap_or(i64::MIN)
}

/// (time, seqno) of the last entry.
fn last_key(columns: &Columns) -> (i64, Seqno) {
    let seqno = columns.seqnos().last().copied().unwrap_or(0);
    (last_time(columns), Seqno(seqno))
}
