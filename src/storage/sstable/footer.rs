//! Footer: the last bytes of a table, of fixed size; where everything else is found.
//!
//! ```text
//! offset  bytes  field
//!      0     16  store id
//!     16      8  table id
//!     24      8  span start     (0 without a span)
//!     32      8  span end, inclusive
//!     40      8  seqno min
//!     48      8  seqno max
//!     56      8  offset of the index; blocks fill everything before it
//!     64      8  offset of the Bloom filter
//!     72      8  offset of the range deletes
//!     80      8  offset of the properties; they end where the footer starts
//!     88      2  features a reader must know: none yet
//!     90      1  1: has a span
//!     91      1  level of the span
//!     92      4  crc-32 over bytes 0..92, version and magic
//!     96      4  format version, 1
//!    100      8  magic "tskv.sst"
//! ```
//! Magic and version come last so that every version's reader finds them.

use super::error::TableError;
use crate::encoding::{Corruption, ReadError, Reader, checksum_parts};
use crate::model::{Seqno, StoreId, TableId};
use std::path::Path;

/// Bytes of the footer.
pub(super) const FOOTER_BYTES: usize = FIELDS_BYTES + CRC_BYTES + TAIL_BYTES;
const FIELDS_BYTES: usize = 16 + 8 * 9 + 2 + 1 + 1;
const CRC_BYTES: usize = 4;
const TAIL_BYTES: usize = 4 + 8;
const MAGIC: [u8; 8] = *b"tskv.sst";
const VERSION: u16 = 1;
const _: () = assert!(FIELDS_BYTES == 92 && FOOTER_BYTES == 108);

/// The fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) store: StoreId,
    pub(super) table: TableId,
    pub(super) span: Option<(i64, i64)>,
    pub(super) level: u8,
    pub(super) seqno_min: Seqno,
    pub(super) seqno_max: Seqno,
    /// Starts of index, Bloom filter, range deletes, properties.
    pub(super) sections: [u64; 4],
}

impl Footer {
    /// Appends the stored form.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut fields = Vec::with_capacity(FOOTER_BYTES);
        let (span_start, span_end) = self.span.unwrap_or_default();
        fields.extend_from_slice(&self.store.0);
        fields.extend_from_slice(&self.table.0.to_le_bytes());
        fields.extend_from_slice(&span_start.to_le_bytes());
        fields.extend_from_slice(&span_end.to_le_bytes());
        for number in [self.seqno_min.0, self.seqno_max.0].iter().chain(&self.sections) {
            fields.extend_from_slice(&number.to_le_bytes());
        }
        fields.extend_from_slice(&[0, 0, u8::from(self.span.is_some()), self.level]);
        assert_eq!(fields.len(), FIELDS_BYTES, "the footer is as drawn");
        let mut tail = u32::from(VERSION).to_le_bytes().to_vec();
        tail.extend_from_slice(&MAGIC);
        out.extend_from_slice(&fields);
        out.extend_from_slice(&checksum_parts(&[&fields, &tail]).to_le_bytes());
        out.extend_from_slice(&tail);
    }
    /// Verifies the last `FOOTER_BYTES` of a file of `file_bytes`.
    pub(super) fn decode(file: &Path, file_bytes: u64, bytes: &[u8]) -> Result<Self, TableError> {
        let offset = file_bytes.saturating_sub(bytes.len() as u64);
        let damaged =
            |expected: &str, found: &str| TableError::from(Corruption::new(file, offset, expected, found));
        let short = |_: ReadError| damaged("a footer", "too few bytes");
        let mut reader = Reader::new(bytes);
        let fields = reader.take(FIELDS_BYTES).map_err(short)?;
        let stored = reader.u32().map_err(short)?;
        let tail = reader.rest();
        let version = reader.u32().map_err(short)?;
        if reader.rest() != MAGIC {
            return Err(damaged("a table's magic at the end", "other bytes"));
        }
        let computed = checksum_parts(&[fields, tail]);
        if stored != computed {
            return Err(Corruption::checksum(file, offset, stored, computed).into());
        }
        if version != u32::from(VERSION) {
            let found = u16::try_from(version).unwrap_or(u16::MAX);
            return Err(TableError::VersionUnsupported { file: file.into(), found, supported_max: VERSION });
        }
        let (footer, features) = Self::decode_fields(fields).map_err(short)?;
        if features != 0 {
            return Err(TableError::FeaturesUnsupported { file: file.into(), unknown_flags: features });
        }
        if footer.sections.is_sorted() && footer.sections.iter().all(|start| *start <= offset) {
            Ok(footer)
        } else {
            Err(damaged("sections in order, before the footer", "other offsets"))
        }
    }
    fn decode_fields(fields: &[u8]) -> Result<(Self, u16), ReadError> {
        let mut reader = Reader::new(fields);
        let mut store = StoreId::default();
        store.0.copy_from_slice(reader.take(16)?);
        let table = TableId(reader.u64()?);
        let span = (reader.i64()?, reader.i64()?);
        let (seqno_min, seqno_max) = (Seqno(reader.u64()?), Seqno(reader.u64()?));
        let sections = [reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?];
        let features = reader.u16()?;
        let span = (reader.u8()? != 0).then_some(span);
        let level = reader.u8()?;
        Ok((Self { store, table, span, level, seqno_min, seqno_max, sections }, features))
    }
}
