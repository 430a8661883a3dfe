//! skeleton
use crate::model::{Seqno, SlotClass, ValueType};

/// Statistics over the numeric puts of a chunk (integers as doubles).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChunkStats {
    /// Puts; point deletes do not count.
    pub count: u32,
    /// Puts whose value is NaN. They count in `count`, `first` and `last`, but not in `min`, `max` and `sum`.
    pub nan_count: u32,
    /// Smallest value; NaN when all are.
    pub min: f64,
    /// Largest value; NaN when all are.
    pub max: f64,
    /// Sum in time order.
    pub sum: f64,
    /// Value of the first put.
    pub first: f64,
    /// Value of the last put.
    pub last: f64,
}

/// What a block knows of one of its chunks without decoding it.
#[derive(Clone, Copy, Debug)]
pub struct ChunkHeader<'a> {
    /// Series of all its entries.
    pub series: &'a [u8],
    /// Slot class of all its entries.
    pub class: SlotClass,
    /// Type of its puts; `None` when it holds only point deletes.
    pub value_type: Option<ValueType>,
    /// Entries, 1..=`CHUNK_ENTRIES_MAX`.
    pub count: usize,
    /// Time of the first entry; 0 for classes without time.
    pub first_time: i64,
    /// Time of the last entry.
    pub last_time: i64,
    /// Lowest seqno.
    pub seqno_min: Seqno,
    /// Highest seqno.
    pub seqno_max: Seqno,
    /// Whether some of its entries are point deletes.
    pub has_deletes: bool,
    /// Whether some slot has more than one version here.
    pub has_versions: bool,
    /// Present for chunks of numbers.
    pub stats: Option<ChunkStats>,
}
