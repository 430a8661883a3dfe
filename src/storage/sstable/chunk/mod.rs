//! Chunk: entries of one series, slot class and value type, as columns. Point deletes mix with puts of any type.
//!
//! ```text
//! shared       varint  bytes of the series that are those of the chunk before it in the block; 0 in the first
//! suffix       varint, bytes: the rest of the series
//! shape        u8      bits 0-1 slot class, 2-3 value type (0: point deletes only), 4 some slot has several versions,
//!                      5 statistics present, 6-7 zero
//! count        varint  entries, 1..=CHUNK_ENTRIES_MAX
//! first time   zigzag  only in class Time
//! duration     varint  last time minus first; only in class Time and when count > 1
//! seqno min    varint
//! seqno range  varint  only when count > 1
//! codecs       u8, u8  times | seqnos << 4, kinds | values << 4          (codec/mod.rs)
//! statistics   f64 min, max, sum, first, last; varint count of puts, of NaN
//! body bytes   varint
//! body         times, seqnos, kinds, values (of the puts alone)
//! ```
//! Statistics stand in chunks of [`STATS_ENTRIES_MIN`] numbers or more; shorter ones are cheaper to decode. NaN counts
//! apart: min, max and sum are those of the other values (NaN, NaN and 0 when there are none).

mod decode;
mod encode;
mod stats;

pub(super) use decode::ChunkHead;
pub(super) use encode::EncodedChunk;
pub use stats::ChunkStats;

use crate::limits::SERIES_BYTES_MAX;
use crate::model::{Seqno, SlotClass, ValueType};

/// Chunks with fewer puts carry no statistics.
pub(super) const STATS_ENTRIES_MIN: usize = 16;

const SHAPE_CLASS: u8 = 0b11;
const SHAPE_TYPE_SHIFT: u32 = 2;
const SHAPE_VERSIONS: u8 = 1 << 4;
const SHAPE_STATS: u8 = 1 << 5;
const SHAPE_ZERO: u8 = 0b1100_0000;

/// What a block knows of one of its chunks without decoding it.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// Whether some slot has more than one version here. Versions of its last slot may also go on in the next chunk,
    /// which then begins at this one's `last_time`.
    pub has_versions: bool,
    /// Only in long chunks of numbers; compute them from the entries otherwise.
    pub stats: Option<ChunkStats>,
}

fn distance(from: i64, to: i64) -> u64 {
    to.wrapping_sub(from).cast_unsigned()
}

/// Bytes that two keys have in common at their start.
pub(super) fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Whether bytes can be a series key.
pub(super) fn is_series(bytes: &[u8]) -> bool {
    (1..=SERIES_BYTES_MAX).contains(&bytes.len())
}
