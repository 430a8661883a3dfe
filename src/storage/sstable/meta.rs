//! What the manifest and the picker know of a table. Stored in the manifest and in the table's properties section.
//!
//! The last three fields came later: a description that ends before them is read, and says what is safe to believe.

use super::codec::Effort;
use crate::encoding::{ReadError, Reader, put_varint, put_zigzag};
use crate::model::{KeyRange, Seqno, TableId};

/// Description of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableMeta {
    /// Names the file `tables/<id:016x>.sst`.
    pub id: TableId,
    /// Length of the file.
    pub bytes: u64,
    /// Point entries: puts and point deletes.
    pub entries: u64,
    /// How many of the entries are point deletes.
    pub point_deletes: u64,
    /// Range deletes, kept apart from the entries.
    pub range_deletes: u64,
    /// First and last time (inclusive) of the aligned stretch that the table's samples lie in. `None`: the table has no
    /// samples, but metadata, timeless values and range deletes. A table holds either samples or the rest.
    pub span: Option<(i64, i64)>,
    /// Level of the span, see `compaction::Span`; 0 without one.
    pub level: u8,
    /// Work that was put into its columns.
    pub effort: Effort,
    /// First series that has entries; empty when none has.
    pub first_key: Box<[u8]>,
    /// Last series that has entries; empty when none has.
    pub last_key: Box<[u8]>,
    /// Visible key interval: what lies outside it in the file does not exist. As built: the smallest range that holds
    /// all entries and range deletes.
    pub keys: KeyRange,
    /// Earliest sample; above `time_max` when there is none.
    pub time_min: i64,
    /// Latest sample.
    pub time_max: i64,
    /// Lowest seqno of entries and range deletes.
    pub seqno_min: Seqno,
    /// Highest seqno of entries and range deletes.
    pub seqno_max: Seqno,
    /// How many of the entries are metadata, or could be: 0 is certain.
    pub metadata_entries: u64,
    /// How many of those give their series a retention, or could: 0 is certain.
    pub retentions: u64,
    /// Distinct pairs of a series and a slot class; 0 when they were not counted.
    pub series: u64,
}

impl TableMeta {
    /// The name of the file, relative to the data directory.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("tables/{:016x}.sst", self.id.0)
    }
    /// Appends the stored form. `bytes` comes first and has a fixed width.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes.to_le_bytes());
        for count in [self.id.0, self.entries, self.point_deletes, self.range_deletes] {
            put_varint(out, count);
        }
        out.push(u8::from(self.span.is_some()));
        if let Some((start, end)) = self.span {
            put_zigzag(out, start);
            put_zigzag(out, end);
        }
        out.push(self.level);
        out.push(self.effort as u8);
        put_bytes(out, &self.first_key);
        put_bytes(out, &self.last_key);
        put_key_range(out, &self.keys);
        put_zigzag(out, self.time_min);
        put_zigzag(out, self.time_max);
        put_varint(out, self.seqno_min.0);
        put_varint(out, self.seqno_max.0);
        put_varint(out, self.metadata_entries);
        put_varint(out, self.retentions);
        put_varint(out, self.series);
    }
    /// Reads the stored form, which fills the reader.
    ///
    /// # Errors
    /// When the bytes end early or hold a malformed number.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        let bytes = reader.u64()?;
        let id = TableId(reader.varint()?);
        let (entries, point_deletes, range_deletes) = (reader.varint()?, reader.varint()?, reader.varint()?);
        let span = if reader.u8()? == 0 { None } else { Some((reader.zigzag()?, reader.zigzag()?)) };
        let mut meta = Self {
            id,
            bytes,
            entries,
            point_deletes,
            range_deletes,
            span,
            level: reader.u8()?,
            effort: Effort::from_byte(reader.u8()?),
            first_key: reader.prefixed()?.into(),
            last_key: reader.prefixed()?.into(),
            keys: read_key_range(reader)?,
            time_min: reader.zigzag()?,
            time_max: reader.zigzag()?,
            seqno_min: Seqno(reader.varint()?),
            seqno_max: Seqno(reader.varint()?),
            metadata_entries: if span.is_none() { entries } else { 0 },
            retentions: if span.is_none() { entries } else { 0 },
            series: 0,
        };
        if reader.left() > 0 {
            meta.metadata_entries = reader.varint()?;
            meta.retentions = reader.varint()?;
            meta.series = reader.varint()?;
        }
        Ok(meta)
    }
}

/// Appends a byte string with its length before it.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a key range: start, whether it ends, end.
pub(super) fn put_key_range(out: &mut Vec<u8>, keys: &KeyRange) {
    put_bytes(out, &keys.start);
    out.push(u8::from(keys.end.is_some()));
    if let Some(end) = &keys.end {
        put_bytes(out, end);
    }
}

/// Reads what [`put_key_range`] wrote.
pub(super) fn read_key_range(reader: &mut Reader<'_>) -> Result<KeyRange, ReadError> {
    let start = reader.prefixed()?.into();
    let end = if reader.u8()? == 0 { None } else { Some(reader.prefixed()?.into()) };
    Ok(KeyRange { start, end })
}
