//! Range deletes, found by the series that they cover.
//!
//! Deletes of one series (TS.DEL, DEL) are filed under it; the few wide ones (prefix, everything) are looked through.
//! Used by memtables, where it grows, and by a version, for the deletes of its tables.

use super::series_hash;
use crate::model::{Seqno, Slot};
use crate::storage::range_delete::{RangeDelete, only_series};
use hashbrown::HashTable;

/// What one delete covers of a series that it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeDelete {
    /// Timestamps that it covers, inclusive; `None` covers every slot.
    pub times: Option<(i64, i64)>,
    /// When it was written.
    pub seqno: Seqno,
}

impl TimeDelete {
    /// Whether entries at `slot` are within its times.
    #[must_use]
    pub fn covers_slot(&self, slot: Slot) -> bool {
        match (self.times, slot) {
            (None, _) => true,
            (Some((from, to)), Slot::Time(time)) => (from..=to).contains(&time),
            (Some(_), Slot::Metadata | Slot::Timeless) => false,
        }
    }
}

/// A set of range deletes; see the module's header.
#[derive(Clone, Debug, Default)]
pub struct DeleteSet {
    /// In order of arrival.
    all: Vec<RangeDelete>,
    /// By series: the deletes that cover exactly one.
    single: HashTable<SeriesDeletes>,
    /// Places in `all` of the deletes that cover more than one series.
    wide: Vec<u32>,
    /// Bytes behind the lists above.
    owned_bytes: usize,
}

#[derive(Clone, Debug)]
struct SeriesDeletes {
    series: Box<[u8]>,
    deletes: Vec<TimeDelete>,
}

impl DeleteSet {
    /// Adds a delete.
    pub fn add(&mut self, delete: RangeDelete) {
        self.owned_bytes += delete.memory_bytes() - size_of::<RangeDelete>();
        match only_series(&delete.keys) {
            Some(series) => {
                let found = TimeDelete { times: delete.times, seqno: delete.seqno };
                self.owned_bytes += add_single(&mut self.single, series, found);
            }
            None => {
                let place = u32::try_from(self.all.len()).expect("a memtable's size bounds its deletes");
                self.wide.push(place);
            }
        }
        self.all.push(delete);
    }
    /// All of them, in order of arrival.
    #[must_use]
    pub fn all(&self) -> &[RangeDelete] {
        &self.all
    }
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
    /// What concerns one series, in no particular order.
    pub fn of_series<'a>(&'a self, hash: u64, series: &'a [u8]) -> impl Iterator<Item = TimeDelete> + 'a {
        let single = self.single.find(hash, |entry| *entry.series == *series);
        let wide = self.wide.iter().filter_map(move |place| {
            let delete = self.all.get(*place as usize)?;
            let found = TimeDelete { times: delete.times, seqno: delete.seqno };
            delete.keys.contains(series).then_some(found)
        });
        single.into_iter().flat_map(|entry| entry.deletes.iter().copied()).chain(wide)
    }
    /// Highest seqno, up to `snapshot`, of the deletes that cover a slot; 0 when there are none.
    #[must_use]
    pub fn covering(&self, hash: u64, series: &[u8], slot: Slot, snapshot: Seqno) -> Seqno {
        if self.is_empty() {
            return Seqno(0);
        }
        self.of_series(hash, series)
            .filter(|delete| delete.seqno <= snapshot && delete.covers_slot(slot))
            .map(|delete| delete.seqno)
            .max()
            .unwrap_or_default()
    }
    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.all.capacity() * size_of::<RangeDelete>()
            + self.wide.capacity() * size_of::<u32>()
            + self.single.allocation_size()
            + self.owned_bytes
    }
}

/// Files a delete under its series; returns the bytes that took.
fn add_single(table: &mut HashTable<SeriesDeletes>, series: &[u8], delete: TimeDelete) -> usize {
    let hash = series_hash(series);
    let entry = table.entry(hash, |entry| *entry.series == *series, |entry| series_hash(&entry.series));
    let mut bytes = 0;
    let mut entry = entry.or_insert_with(|| {
        bytes += series.len();
        SeriesDeletes { series: series.into(), deletes: Vec::new() }
    });
    let deletes = &mut entry.get_mut().deletes;
    let capacity = deletes.capacity();
    deletes.push(delete);
    bytes + (deletes.capacity() - capacity) * size_of::<TimeDelete>()
}
