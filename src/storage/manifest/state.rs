//! What the manifest says: the files of the store and the numbers that must never go back.

use super::edit::Edit;
use crate::limits::{CORES_MAX, SERIES_BYTES_MAX};
use crate::model::{SegmentSeq, Seqno, StoreId, StreamId, TableId, TimeUnit};
use crate::storage::retention::Retention;
use crate::storage::sstable::TableMeta;
use std::collections::BTreeMap;
use std::fmt;

/// A WAL segment that must exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEntry {
    /// The stream that writes it.
    pub stream: StreamId,
    /// Tells this life of the file from others.
    pub salt: u64,
    /// Length of the file.
    pub bytes: u64,
}

/// The store as its manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Identity, fixed at creation.
    pub store: StoreId,
    /// Unit of its timestamps, fixed at creation.
    pub unit: TimeUnit,
    /// Live tables.
    pub tables: BTreeMap<TableId, TableMeta>,
    /// Live WAL segments.
    pub segments: BTreeMap<SegmentSeq, SegmentEntry>,
    /// Split points between shards, ascending; one fewer than there are shards.
    pub boundaries: Vec<Box<[u8]>>,
    /// Seqnos of new writes start above this.
    pub seqno_floor: Seqno,
    /// The next table gets this id or a higher one.
    pub next_table: TableId,
    /// The next segment gets this number or a higher one.
    pub next_segment: SegmentSeq,
    /// What is hidden for its age.
    pub retention: Retention,
}

/// Why an edit does not fit the state. From disk it is damage; from us it is a bug.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateError {
    /// A table that is there already.
    TableAddedTwice(TableId),
    /// A table that is not there.
    TableUnknown(TableId),
    /// A segment that is there already.
    SegmentAddedTwice(SegmentSeq),
    /// A segment that is not there.
    SegmentUnknown(SegmentSeq),
    /// A stream beyond the largest number of cores.
    StreamOutOfRange(StreamId),
    /// Split points that are too many, empty, too long or not ascending.
    BoundariesInvalid,
    /// The clock that decides about age went back.
    ClockWentBack {
        /// What it was.
        from: i64,
        /// What the edit says.
        to: Option<i64>,
    },
    /// A number that only grows went back.
    WentBack {
        /// Which one.
        what: &'static str,
        /// Its value.
        from: u64,
        /// What the edit says.
        to: u64,
    },
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TableAddedTwice(id) => write!(f, "table {:016x} is added twice", id.0),
            Self::TableUnknown(id) => write!(f, "table {:016x} is removed but was never added", id.0),
            Self::SegmentAddedTwice(seq) => write!(f, "segment {:016x} is added twice", seq.0),
            Self::SegmentUnknown(seq) => write!(f, "segment {:016x} is retired but was never added", seq.0),
            Self::StreamOutOfRange(stream) => write!(f, "stream {} is beyond {CORES_MAX}", stream.0),
            Self::BoundariesInvalid => {
                f.write_str("shard boundaries are too many, empty, too long or not ascending")
            }
            Self::ClockWentBack { from, to: Some(to) } => {
                write!(f, "the clock goes back from {from} to {to}")
            }
            Self::ClockWentBack { from, to: None } => write!(f, "the clock {from} is forgotten"),
            Self::WentBack { what, from, to } => write!(f, "{what} goes back from {from} to {to}"),
        }
    }
}
impl std::error::Error for StateError {}

impl State {
    /// A store without any file.
    #[must_use]
    pub fn empty(store: StoreId, unit: TimeUnit) -> Self {
        Self {
            store,
            unit,
            tables: BTreeMap::new(),
            segments: BTreeMap::new(),
            boundaries: Vec::new(),
            seqno_floor: Seqno(0),
            next_table: TableId(0),
            next_segment: SegmentSeq(0),
            retention: Retention::default(),
        }
    }

    /// Makes one change.
    ///
    /// # Errors
    /// When it does not fit; the state is then unchanged.
    pub fn apply(&mut self, edit: Edit) -> Result<(), StateError> {
        match edit {
            Edit::AddTable(meta) => self.add_table(meta),
            Edit::RemoveTable(id) => self.tables.remove(&id).map(drop).ok_or(StateError::TableUnknown(id)),
            Edit::AddSegment { seq, entry } => self.add_segment(seq, entry),
            Edit::RetireSegment(seq) => {
                self.segments.remove(&seq).map(drop).ok_or(StateError::SegmentUnknown(seq))
            }
            Edit::Boundaries(boundaries) => {
                check_boundaries(&boundaries)?;
                self.boundaries = boundaries;
                Ok(())
            }
            Edit::SeqnoFloor(floor) => raise("the seqno floor", &mut self.seqno_floor.0, floor.0),
            Edit::NextTable(next) => raise("the next table id", &mut self.next_table.0, next.0),
            Edit::NextSegment(next) => raise("the next segment number", &mut self.next_segment.0, next.0),
            Edit::Retention(retention) => self.set_retention(retention),
        }
    }

    /// Makes all changes or none.
    ///
    /// # Errors
    /// The first edit that does not fit.
    pub fn apply_all(&mut self, edits: &[Edit]) -> Result<(), StateError> {
        let mut next = self.clone();
        edits.iter().try_for_each(|edit| next.apply(edit.clone()))?;
        *self = next;
        Ok(())
    }

    /// The edits that make this state out of an empty one.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Edit> {
        let tables = self.tables.values().cloned().map(Edit::AddTable);
        let segments = self.segments.iter().map(|(&seq, &entry)| Edit::AddSegment { seq, entry });
        let rest = [
            Edit::Boundaries(self.boundaries.clone()),
            Edit::SeqnoFloor(self.seqno_floor),
            Edit::NextTable(self.next_table),
            Edit::NextSegment(self.next_segment),
        ];
        let retention =
            (self.retention != Retention::default()).then(|| Edit::Retention(self.retention.clone()));
        tables.chain(segments).chain(rest).chain(retention).collect()
    }

    /// Highest seqno that a table holds or the floor names.
    #[must_use]
    pub fn seqno_max(&self) -> Seqno {
        self.tables.values().map(|meta| meta.seqno_max).max().unwrap_or_default().max(self.seqno_floor)
    }

    fn add_table(&mut self, meta: TableMeta) -> Result<(), StateError> {
        let id = meta.id;
        if self.tables.contains_key(&id) {
            return Err(StateError::TableAddedTwice(id));
        }
        self.next_table.0 = self.next_table.0.max(id.0.saturating_add(1));
        self.tables.insert(id, meta);
        Ok(())
    }

    fn set_retention(&mut self, retention: Retention) -> Result<(), StateError> {
        if let (Some(from), to) = (self.retention.clock(), retention.clock())
            && to.is_none_or(|to| to < from)
        {
            return Err(StateError::ClockWentBack { from, to });
        }
        self.retention = retention;
        Ok(())
    }

    fn add_segment(&mut self, seq: SegmentSeq, entry: SegmentEntry) -> Result<(), StateError> {
        if self.segments.contains_key(&seq) {
            return Err(StateError::SegmentAddedTwice(seq));
        }
        if usize::from(entry.stream.0) >= CORES_MAX {
            return Err(StateError::StreamOutOfRange(entry.stream));
        }
        self.next_segment.0 = self.next_segment.0.max(seq.0.saturating_add(1));
        self.segments.insert(seq, entry);
        Ok(())
    }
}

fn raise(what: &'static str, value: &mut u64, to: u64) -> Result<(), StateError> {
    if to < *value {
        return Err(StateError::WentBack { what, from: *value, to });
    }
    *value = to;
    Ok(())
}

/// Checks split points: at most one fewer than cores, none empty or longer than a key, strictly ascending.
///
/// # Errors
/// [`StateError::BoundariesInvalid`].
pub fn check_boundaries(boundaries: &[Box<[u8]>]) -> Result<(), StateError> {
    let lengths = boundaries.iter().all(|key| (1..=SERIES_BYTES_MAX).contains(&key.len()));
    let ascending = boundaries.is_sorted_by(|a, b| a < b);
    if boundaries.len() < CORES_MAX && lengths && ascending {
        Ok(())
    } else {
        Err(StateError::BoundariesInvalid)
    }
}
