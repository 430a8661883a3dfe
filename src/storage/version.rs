//! The set of tables that a read sees: immutable, shared by an `Arc`, replaced as a whole.
//!
//! The coordinator makes a new one whenever a flush or a merge is installed; a table's file stays open, and hence
//! readable, as long as some version that holds it is in use.

use super::memtable::DeleteSet;
use super::retention::Cutoff;
use super::sstable::{TableIndex, TableMeta};
use crate::model::{FileRef, KeyRange, Seqno, SlotClass, TableId};
use std::cmp::Reverse;
use std::sync::Arc;

/// An open table.
#[derive(Debug)]
pub struct Table {
    /// What the manifest says of it.
    pub meta: TableMeta,
    /// What is kept in memory of its file.
    pub index: TableIndex,
    /// Its blocks are read from here.
    pub file: FileRef,
}

/// See the module's header.
#[derive(Debug, Default)]
pub struct Version {
    /// Highest seqno first.
    tables: Vec<Arc<Table>>,
    /// Those with samples; latest sample first.
    samples: Vec<Arc<Table>>,
    /// Those with metadata or timeless values; highest seqno first.
    timeless: Vec<Arc<Table>>,
    /// Those of them with metadata.
    metadata: Vec<Arc<Table>>,
    /// Range deletes of all tables.
    deletes: DeleteSet,
    seqno_max: Seqno,
    /// Whether any series may have a retention.
    has_retentions: bool,
    /// What is hidden for its age.
    cutoffs: Vec<Cutoff>,
    /// Counts versions since the start.
    number: u64,
    /// By shard, the id of its last memtable that is in these tables.
    flushed: Vec<u64>,
}

impl Table {
    /// Whether it has samples at times in `from..=to`, as far as its description tells.
    #[must_use]
    pub fn reaches(&self, from: i64, to: i64) -> bool {
        self.meta.time_min <= to && self.meta.time_max >= from
    }
    /// Whether it can have entries of a class: a table holds either samples or the rest.
    #[must_use]
    pub fn holds(&self, class: SlotClass) -> bool {
        let has_samples = self.meta.time_min <= self.meta.time_max;
        match class {
            SlotClass::Time => self.meta.entries > 0 && has_samples,
            SlotClass::Timeless => self.meta.entries > 0 && !has_samples,
            SlotClass::Metadata => self.meta.metadata_entries > 0,
        }
    }
    /// Bytes and entries of the file that keys of a range take, roughly.
    #[must_use]
    pub fn share_of(&self, keys: &KeyRange) -> (u64, u64) {
        let TableMeta { bytes, entries, first_key, last_key, .. } = &self.meta;
        let starts_within = *keys.start <= **first_key;
        let ends_within = keys.end.as_ref().is_none_or(|end| last_key < end);
        if starts_within && ends_within {
            return (*bytes, *entries);
        }
        if **last_key < *keys.start || keys.end.as_ref().is_some_and(|end| end <= first_key) {
            return (0, 0);
        }
        let (share, all) = self.index.share_of(keys);
        let part = |whole: u64| {
            let part = u128::from(whole) * u128::from(share) / u128::from(all.max(1));
            u64::try_from(part).unwrap_or(whole)
        };
        (part(*bytes), part(*entries))
    }
    /// Whether it may have entries of a series and class.
    #[must_use]
    pub fn may_contain(&self, series: &[u8], class: SlotClass) -> bool {
        let meta = &self.meta;
        *series >= *meta.first_key
            && *series <= *meta.last_key
            && meta.keys.contains(series)
            && self.index.may_contain(series, class)
    }
}

impl Version {
    /// The version that consists of these tables.
    #[must_use]
    pub fn new(tables: Vec<Arc<Table>>) -> Self {
        Self::with_cutoffs(tables, &[])
    }
    /// The version that consists of these tables, less what the cutoffs hide.
    #[must_use]
    pub fn with_cutoffs(mut tables: Vec<Arc<Table>>, cutoffs: &[Cutoff]) -> Self {
        tables.sort_by_key(|table| Reverse((table.meta.seqno_max, table.meta.id)));
        let holding = |class: SlotClass| -> Vec<Arc<Table>> {
            tables.iter().filter(|table| table.holds(class)).cloned().collect()
        };
        let (timeless, metadata) = (holding(SlotClass::Timeless), holding(SlotClass::Metadata));
        let mut samples = holding(SlotClass::Time);
        samples.sort_by_key(|table| Reverse((table.meta.time_max, table.meta.seqno_max)));
        let mut deletes = DeleteSet::default();
        for table in &tables {
            let visible = table.index.range_deletes().iter();
            visible.filter_map(|delete| delete.clip(&table.meta.keys)).for_each(|delete| deletes.add(delete));
        }
        let seqno_max = tables.first().map_or(Seqno(0), |table| table.meta.seqno_max);
        let (number, flushed) = (0, Vec::new());
        let has_retentions = tables.iter().any(|table| table.meta.retentions > 0);
        let cutoffs = cutoffs.to_vec();
        Self {
            tables,
            samples,
            timeless,
            metadata,
            deletes,
            seqno_max,
            has_retentions,
            cutoffs,
            number,
            flushed,
        }
    }
    /// The same with its place in the order of versions, and for each shard the id of its last memtable that is in it:
    /// memtables of a shard are flushed in the order of their ids, which begin at 1 with each start.
    #[must_use]
    pub fn numbered(self, number: u64, flushed: Vec<u64>) -> Self {
        Self { number, flushed, ..self }
    }
    /// Its place in the order of versions since the start; a higher one holds whatever the lower ones did.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
    /// Whether a memtable of a shard is in these tables.
    #[must_use]
    pub fn has_flushed(&self, shard: u16, memtable: u64) -> bool {
        self.flushed.get(usize::from(shard)).is_some_and(|last| memtable <= *last)
    }
    /// All tables, highest seqno first.
    #[must_use]
    pub fn tables(&self) -> &[Arc<Table>] {
        &self.tables
    }
    /// The table with this id.
    #[must_use]
    pub fn table(&self, id: TableId) -> Option<&Arc<Table>> {
        self.tables.iter().find(|table| table.meta.id == id)
    }
    /// Tables that can hold entries of a class. Those with samples come with the latest sample first, the others with
    /// the highest seqno first.
    #[must_use]
    pub fn tables_of(&self, class: SlotClass) -> &[Arc<Table>] {
        match class {
            SlotClass::Time => &self.samples,
            SlotClass::Timeless => &self.timeless,
            SlotClass::Metadata => &self.metadata,
        }
    }
    /// Whether any series may have a retention of its own.
    #[must_use]
    pub fn has_retentions(&self) -> bool {
        self.has_retentions
    }
    /// The range deletes of all tables, each clipped to what its table shows.
    #[must_use]
    pub fn deletes(&self) -> &DeleteSet {
        &self.deletes
    }
    /// What is hidden for its age, in tables and memtables alike.
    #[must_use]
    pub fn cutoffs(&self) -> &[Cutoff] {
        &self.cutoffs
    }
    /// Samples with a lower seqno at this time are hidden for their age; 0 when none are.
    #[must_use]
    pub fn expired_below(&self, time: i64) -> Seqno {
        let covering = self.cutoffs.iter().filter(|cutoff| time < cutoff.before);
        covering.map(|cutoff| cutoff.below).max().unwrap_or_default()
    }
    /// Highest seqno in any table; 0 without tables. A shard's counter must be above it.
    #[must_use]
    pub fn seqno_max(&self) -> Seqno {
        self.seqno_max
    }
}
