//! The memtable: what was written since the last flush, ordered.
//!
//! ```text
//! series key ──hash──► number ──► SeriesState { key, lsn, run per slot class }
//!            ──order─► number                     │
//!                                                 ├─► entry of the single pool: runs of one entry
//!                                                 └─► LongRun: leaves of columns, ordered by (time, seqno)
//! range deletes ─► DeleteSet, by series
//! ```
//! Two indexes lead to a series' number: a hash table for reads and writes of one key, an ordered list for scans and
//! flushes. Numbers are given in order of first arrival and never change.
//!
//! One shard writes it; frozen, it is the same type behind an `Arc`, and only read. It knows nothing of tables.
//!
//! Invariants: every number is in both indexes once; a series has at least one run; a run is never empty.
#![forbid(unsafe_code)]

mod delete_set;
mod long_run;
mod run;
mod series_order;
mod single_pool;
#[cfg(test)]
mod tests;

pub use delete_set::{DeleteSet, TimeDelete};
pub use run::{Run, RunPiece};

use crate::model::{EntryOp, KeyRange, Lsn, Seqno, Slot, SlotClass};
use crate::storage::columns::Columns;
use crate::storage::range_delete::RangeDelete;
use crate::storage::series_metadata;
use hashbrown::HashTable;
use long_run::{Growth, LongRun};
use series_order::{Place, SeriesOrder};
use single_pool::{SingleId, SinglePool};
use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

/// Memory that an allocation costs besides what was asked for, as the usual allocators do it.
const ALLOCATION_BYTES: usize = 16;

static ALL_KEYS: LazyLock<KeyRange> = LazyLock::new(KeyRange::all);

/// Hash of a series key, as memtables and delete sets want it. The same in every process: nothing iterates over a
/// hash table, and floods of colliding keys are bounded by the memtable's size.
#[must_use]
pub fn series_hash(series: &[u8]) -> u64 {
    let mut hasher = foldhash::fast::FixedState::with_seed(0x7453_6b76).build_hasher();
    hasher.write(series);
    hasher.finish()
}

/// A series in the hash index. A part of its hash lies beside it: the index grows without a look at any key, which
/// would be a stall of as many cache misses as there are series.
#[derive(Clone, Copy, Debug)]
struct IndexEntry {
    hash: u32,
    number: u32,
}

impl IndexEntry {
    fn new(hash: u64, number: u32) -> Self {
        Self { hash: (hash >> 32) as u32, number }
    }
    fn spread(self) -> u64 {
        spread(u64::from(self.hash) << 32)
    }
}

/// The hash that the index goes by, made of the part that entries keep.
fn spread(hash: u64) -> u64 {
    (hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// See the module's header.
#[derive(Clone, Debug, Default)]
pub struct Memtable {
    id: u64,
    index: HashTable<IndexEntry>,
    order: SeriesOrder,
    series: Vec<SeriesState>,
    singles: SinglePool,
    long_runs: Vec<LongRun>,
    deletes: DeleteSet,
    has_retentions: bool,
    entries: usize,
    seqno_min: Option<Seqno>,
    seqno_max: Option<Seqno>,
    lsn_max: Lsn,
    /// Of the last entry, and of the last range delete.
    entry_lsn: Lsn,
    delete_lsn: Lsn,
    /// Bytes of the keys and of the leaves of long runs.
    owned_bytes: usize,
}

/// What is known of one series.
#[derive(Clone, Debug)]
struct SeriesState {
    key: Box<[u8]>,
    /// Of the last record that concerned it.
    lsn: Lsn,
    /// By slot class.
    runs: [RunId; 3],
}

/// Where the entries of one series and class are, in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RunId(u32);

/// What a [`RunId`] means.
enum RunPlace {
    None,
    Single(SingleId),
    Long(usize),
}

/// A series in the order of a memtable; valid until the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesPlace(Place);

impl Memtable {
    /// An empty one. The id is whatever the shard wants to recognise it by.
    #[must_use]
    pub fn new(id: u64) -> Self {
        Self { id, ..Self::default() }
    }
    /// What the shard called it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }
    /// Adds an entry. Seqnos may arrive in any order (replay); the highest of a slot is what reads find.
    ///
    /// `replace_older`: no snapshot needs the older version, so the newest one of the slot is overwritten in place,
    /// and an entry that is itself older than the newest one is dropped.
    pub fn insert(
        &mut self,
        series: &[u8],
        slot: Slot,
        seqno: Seqno,
        op: EntryOp<'_>,
        lsn: Lsn,
        replace_older: bool,
    ) {
        let number = self.number_of(series);
        self.has_retentions |= slot == Slot::Metadata && series_metadata::may_give_retention(op);
        let class = slot.class() as usize;
        let time = slot.time_or_zero();
        let state = &mut self.series[number];
        state.lsn = state.lsn.max(lsn);
        let growth = match state.runs[class].place() {
            RunPlace::Long(run) => self.long_runs[run].insert(time, seqno, op, replace_older),
            RunPlace::None if SinglePool::takes(op) => {
                state.runs[class] = RunId::single(self.singles.add(time, seqno, op));
                Growth { entries: 1, bytes: 0 }
            }
            RunPlace::None => {
                let mut run = LongRun::default();
                let growth = run.insert(time, seqno, op, replace_older);
                state.runs[class] = RunId::long(self.long_runs.len());
                self.long_runs.push(run);
                growth
            }
            RunPlace::Single(id) => self.insert_beside_single(number, id, slot, seqno, op, replace_older),
        };
        self.entries += growth.entries;
        self.owned_bytes = self.owned_bytes.wrapping_add(growth.bytes);
        self.note(seqno, lsn);
        self.entry_lsn = self.entry_lsn.max(lsn);
    }
    /// Adds a delete of a range of keys or times.
    pub fn delete_range(&mut self, delete: RangeDelete, lsn: Lsn) {
        self.note(delete.seqno, lsn);
        self.delete_lsn = self.delete_lsn.max(lsn);
        self.deletes.add(delete);
    }
    /// Bytes of memory that it holds, indexes included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.owned_bytes
            + self.index.allocation_size()
            + self.order.memory_bytes()
            + self.series.capacity() * size_of::<SeriesState>()
            + self.singles.memory_bytes()
            + self.long_runs.capacity() * size_of::<LongRun>()
            + self.deletes.memory_bytes()
    }
    /// Whether there is nothing to flush, range deletes included.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries == 0 && self.deletes.is_empty()
    }
    /// Entries, counting every version that it holds and point deletes, not range deletes.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries
    }
    /// Whether any series may have a retention of its own.
    #[must_use]
    pub fn has_retentions(&self) -> bool {
        self.has_retentions
    }
    /// Series that have entries.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.series.len()
    }
    /// Lowest seqno that was added, even if it has been overwritten since; `None` when nothing was.
    #[must_use]
    pub fn seqno_min(&self) -> Option<Seqno> {
        self.seqno_min
    }
    /// Highest seqno that was added.
    #[must_use]
    pub fn seqno_max(&self) -> Option<Seqno> {
        self.seqno_max
    }
    /// Highest lsn that was added; the WAL must be synced up to it before a flush counts.
    #[must_use]
    pub fn lsn_max(&self) -> Lsn {
        self.lsn_max
    }
    /// Lsn that must be acknowledged before a reply may tell what this memtable knows of a series; 0 when nothing.
    #[must_use]
    pub fn gate(&self, series: &[u8]) -> Lsn {
        self.entry_gate(Some(series)).max(self.delete_lsn)
    }
    /// Lsn of the last entry of a series, or of any; 0 when there is none. Up to there what older snapshots see may have
    /// been written over. A range delete takes nothing from them.
    #[must_use]
    pub fn entry_gate(&self, series: Option<&[u8]>) -> Lsn {
        let Some(series) = series else { return self.entry_lsn };
        self.find(series_hash(series), series).map_or(Lsn(0), |number| self.series[number].lsn)
    }
    /// Range deletes, in order of arrival.
    #[must_use]
    pub fn range_deletes(&self) -> &[RangeDelete] {
        self.deletes.all()
    }
    /// Range deletes, by series.
    #[must_use]
    pub fn deletes(&self) -> &DeleteSet {
        &self.deletes
    }
    /// Whether a series has entries of one of these classes, visible or not; `hash` is the key's [`series_hash`].
    #[must_use]
    pub fn holds(&self, hash: u64, series: &[u8], classes: &[SlotClass]) -> bool {
        let holds = |number| classes.iter().any(|class| self.run_of(number, *class).is_some());
        self.find(hash, series).is_some_and(holds)
    }
    /// The entries of a series and class; `hash` is the key's [`series_hash`].
    #[must_use]
    pub fn run(&self, hash: u64, series: &[u8], class: SlotClass) -> Option<Run<'_>> {
        let number = self.find(hash, series)?;
        self.run_of(number, class)
    }
    /// First series whose key is not below `key`.
    #[must_use]
    pub fn seek_series(&self, key: &[u8]) -> SeriesPlace {
        SeriesPlace(self.order.seek(key, |number| &self.series[number as usize].key))
    }
    /// The place behind the last series.
    #[must_use]
    pub fn series_end(&self) -> SeriesPlace {
        SeriesPlace(self.order.end())
    }
    /// The key at a place; `None` behind the last.
    #[must_use]
    pub fn series_at(&self, place: SeriesPlace) -> Option<&[u8]> {
        let number = self.order.get(place.0)?;
        Some(&self.series[number as usize].key)
    }
    /// The entries at a place.
    #[must_use]
    pub fn run_at(&self, place: SeriesPlace, class: SlotClass) -> Option<Run<'_>> {
        self.run_of(self.order.get(place.0)? as usize, class)
    }
    /// The next place; stays behind the last.
    #[must_use]
    pub fn place_after(&self, place: SeriesPlace) -> SeriesPlace {
        SeriesPlace(self.order.after(place.0))
    }
    /// The place before; `None` before the first.
    #[must_use]
    pub fn place_before(&self, place: SeriesPlace) -> Option<SeriesPlace> {
        self.order.before(place.0).map(SeriesPlace)
    }
    /// Everything but range deletes in the order of tables: series, slot class, time, seqno. One series and class may
    /// come in several pieces.
    pub fn pieces<'a>(&'a self, keys: &'a KeyRange) -> impl Iterator<Item = RunPiece<'a>> + Clone {
        let first = self.seek_series(&keys.start);
        let places = std::iter::successors(Some(first), |place| Some(self.place_after(*place)));
        places
            .map_while(|place| self.series_at(place).map(|series| (place, series)))
            .take_while(|(_, series)| keys.contains(series))
            .flat_map(move |(place, series)| {
                [SlotClass::Metadata, SlotClass::Timeless, SlotClass::Time].into_iter().flat_map(
                    move |class| {
                        self.run_at(place, class).into_iter().flat_map(move |run| {
                            run.pieces().map(move |(columns, range)| RunPiece {
                                series,
                                class,
                                columns,
                                range,
                            })
                        })
                    },
                )
            })
    }
    /// As [`Memtable::pieces`], for all keys, in the form that a flush takes: whole columns.
    pub fn runs(&self) -> impl Iterator<Item = (&[u8], SlotClass, Cow<'_, Columns>)> + Clone {
        self.pieces(&ALL_KEYS).map(|piece| {
            let columns = if piece.range.len() == piece.columns.len() {
                Cow::Borrowed(piece.columns)
            } else {
                let mut copy = Columns::default();
                copy.reserve_exact(piece.range.len());
                copy.extend_from(piece.columns, piece.range);
                Cow::Owned(copy)
            };
            (piece.series, piece.class, columns)
        })
    }

    /// Adds a second entry to a run of one.
    fn insert_beside_single(
        &mut self,
        number: usize,
        id: SingleId,
        slot: Slot,
        seqno: Seqno,
        op: EntryOp<'_>,
        replace_older: bool,
    ) -> Growth {
        let (columns, range) = self.singles.get(id);
        let (time, old_seqno) = (columns.times()[range.start], columns.seqno(range.start));
        let same_slot = time == slot.time_or_zero();
        if same_slot && (seqno == old_seqno || replace_older) {
            if seqno < old_seqno {
                return Growth::default();
            }
            if SinglePool::takes(op) {
                self.singles.replace(id, seqno, op);
                return Growth::default();
            }
        }
        let mut run = LongRun::default();
        let mut growth = run.insert(time, old_seqno, columns.op(range.start), false);
        let second = run.insert(slot.time_or_zero(), seqno, op, replace_older);
        growth.bytes = growth.bytes.wrapping_add(second.bytes);
        self.singles.release(id);
        self.series[number].runs[slot.class() as usize] = RunId::long(self.long_runs.len());
        self.long_runs.push(run);
        Growth { entries: second.entries, ..growth }
    }
    /// Number of a series, which is made when it is new.
    fn number_of(&mut self, series: &[u8]) -> usize {
        let hash = series_hash(series);
        if let Some(number) = self.find(hash, series) {
            return number;
        }
        let number = u32::try_from(self.series.len()).expect("a memtable's size bounds its series");
        self.series.push(SeriesState { key: series.into(), lsn: Lsn(0), runs: [RunId::NONE; 3] });
        self.order.insert(number, |other| &self.series[other as usize].key);
        self.index.insert_unique(spread(hash), IndexEntry::new(hash, number), |other| other.spread());
        self.owned_bytes = self.owned_bytes.wrapping_add(series.len() + ALLOCATION_BYTES);
        number as usize
    }
    fn find(&self, hash: u64, series: &[u8]) -> Option<usize> {
        let sought = IndexEntry::new(hash, 0).hash;
        let is_it =
            |entry: &IndexEntry| entry.hash == sought && *self.series[entry.number as usize].key == *series;
        Some(self.index.find(spread(hash), is_it)?.number as usize)
    }
    fn run_of(&self, number: usize, class: SlotClass) -> Option<Run<'_>> {
        match self.series[number].runs[class as usize].place() {
            RunPlace::None => None,
            RunPlace::Single(id) => {
                let (columns, range) = self.singles.get(id);
                Some(Run::single(columns, range.start))
            }
            RunPlace::Long(run) => Some(Run::long(&self.long_runs[run])),
        }
    }
    fn note(&mut self, seqno: Seqno, lsn: Lsn) {
        self.seqno_min = Some(self.seqno_min.map_or(seqno, |min| min.min(seqno)));
        self.seqno_max = Some(self.seqno_max.map_or(seqno, |max| max.max(seqno)));
        self.lsn_max = self.lsn_max.max(lsn);
    }
}

impl RunId {
    const NONE: Self = Self(u32::MAX);
    /// Set for long runs, clear for singles.
    const LONG: u32 = 1 << 31;

    fn single(id: SingleId) -> Self {
        assert!(id.0 & Self::LONG == 0, "single {} of one memtable", id.0);
        Self(id.0)
    }
    fn long(run: usize) -> Self {
        let run = u32::try_from(run).expect("a memtable's size bounds its runs");
        assert!(run & Self::LONG == 0, "run {run} of one memtable");
        Self(run | Self::LONG)
    }
    fn place(self) -> RunPlace {
        match self {
            Self::NONE => RunPlace::None,
            Self(id) if id & Self::LONG == 0 => RunPlace::Single(SingleId(id)),
            Self(id) => RunPlace::Long((id & !Self::LONG) as usize),
        }
    }
}
