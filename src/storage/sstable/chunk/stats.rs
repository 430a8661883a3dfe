//! What a chunk says of its values without being decoded.

use super::super::codec::ColumnError;
use crate::encoding::{Reader, put_varint};
use crate::limits::CHUNK_ENTRIES_MAX;

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
    /// Sum, added in time order.
    pub sum: f64,
    /// Value of the first put.
    pub first: f64,
    /// Value of the last put.
    pub last: f64,
}

impl ChunkStats {
    pub(super) fn of(values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let first = values.clone().next()?;
        let mut stats =
            Self { count: 0, nan_count: 0, min: f64::NAN, max: f64::NAN, sum: 0.0, first, last: first };
        for value in values {
            stats.count += 1;
            stats.last = value;
            if value.is_nan() {
                stats.nan_count += 1;
                continue;
            }
            // Written so that a NaN on the left gives way to the first number.
            stats.min = if stats.min <= value { stats.min } else { value };
            stats.max = if stats.max >= value { stats.max } else { value };
            stats.sum += value;
        }
        Some(stats)
    }
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for value in [self.min, self.max, self.sum, self.first, self.last] {
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        put_varint(out, u64::from(self.count));
        put_varint(out, u64::from(self.nan_count));
    }
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, ColumnError> {
        let mut number = || reader.u64().map(f64::from_bits);
        let (min, max, sum, first, last) = (number()?, number()?, number()?, number()?, number()?);
        let count = reader.count(CHUNK_ENTRIES_MAX)?;
        let nan_count = reader.count(count)?;
        Ok(Self { count: narrow(count), nan_count: narrow(nan_count), min, max, sum, first, last })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "callers pass counts up to CHUNK_ENTRIES_MAX")]
fn narrow(count: usize) -> u32 {
    debug_assert!(count <= CHUNK_ENTRIES_MAX);
    count as u32
}
