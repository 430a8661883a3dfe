//! Value of a series' metadata slot: its properties.
//!
//! ```text
//! bytes  field
//!     1  format, 1
//!     1  duplicate policy, 0 when unset
//!     1  flags: bit 0 compressed
//!     n  retention, varint, in the store's unit
//!     n  chunk bytes, varint
//!     n  ignore: time difference, varint
//!     8  ignore: value difference, f64 bits
//! ```
//! Golden bytes: in the test below. Unknown formats are refused: a newer tskv wrote them.

use crate::encoding::{Reader, put_varint};
use crate::model::{DuplicatePolicy, EntryOp, SeriesOptions, Value};

const FORMAT: u8 = 1;
const FLAG_COMPRESSED: u8 = 1;

/// The stored form.
#[must_use]
pub fn encode(options: &SeriesOptions) -> Vec<u8> {
    let policy = options.duplicate_policy.map_or(0, |policy| policy as u8);
    let flags = if options.compressed { FLAG_COMPRESSED } else { 0 };
    let mut out = vec![FORMAT, policy, flags];
    put_varint(&mut out, options.retention);
    put_varint(&mut out, u64::from(options.chunk_bytes));
    put_varint(&mut out, options.ignore_time_diff);
    out.extend_from_slice(&options.ignore_value_diff.to_bits().to_le_bytes());
    out
}

/// Reads the stored form; `None` when it is not one that this build knows.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<SeriesOptions> {
    let mut reader = Reader::new(bytes);
    if reader.u8().ok()? != FORMAT {
        return None;
    }
    let duplicate_policy = match reader.u8().ok()? {
        0 => None,
        byte => Some(DuplicatePolicy::from_byte(byte)?),
    };
    let flags = reader.u8().ok()?;
    let options = SeriesOptions {
        duplicate_policy,
        compressed: flags & FLAG_COMPRESSED != 0,
        retention: reader.varint().ok()?,
        chunk_bytes: u32::try_from(reader.varint().ok()?).ok()?,
        ignore_time_diff: reader.varint().ok()?,
        ignore_value_diff: f64::from_bits(reader.u64().ok()?),
    };
    (reader.left() == 0).then_some(options)
}

/// Whether an entry of a metadata slot may give its series a retention: one that this build cannot read may.
#[must_use]
pub fn may_give_retention(op: EntryOp<'_>) -> bool {
    match op {
        EntryOp::Put(Value::Bytes(bytes)) => decode(bytes).is_none_or(|options| options.retention > 0),
        EntryOp::Put(Value::F64(_) | Value::I64(_)) | EntryOp::Delete => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_properties_are_read_back_from_golden_bytes() {
        // Another layout would change the duplicate policy of every existing series.
        let options = SeriesOptions {
            retention: 300,
            chunk_bytes: 4096,
            compressed: true,
            duplicate_policy: Some(DuplicatePolicy::Last),
            ignore_time_diff: 5,
            ignore_value_diff: 0.5,
        };
        let golden = [1, 3, 1, 0xac, 2, 0x80, 0x20, 5, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f];
        assert_eq!(encode(&options), golden);
        assert_eq!(decode(&golden), Some(options));
        (0..golden.len()).for_each(|end| assert_eq!(decode(&golden[..end]), None));
    }
}
