//! Edits: what one frame of the manifest changes.
//!
//! ```text
//! edit = kind (1 byte), then
//!   1 add table       table metadata (`sstable/meta.rs`), its length (varint) before it
//!   2 remove table    id (varint)
//!   3 add segment     seq (varint), stream (varint), salt (8 bytes), bytes (varint)
//!   4 retire segment  seq (varint)
//!   5 boundaries      count (varint), each with its length (varint) before it
//!   6 seqno floor     varint
//!   7 next table      varint
//!   8 next segment    varint
//!   9 retention       1 and the clock (8 bytes), or 0; count (varint) of cutoffs, for each: before (8 bytes), below
//!                     (varint)
//! ```

use super::error::ManifestError;
use super::state::SegmentEntry;
use crate::encoding::{Corruption, ReadError, Reader, put_varint};
use crate::limits::{CORES_MAX, CUTOFFS_MAX};
use crate::model::{SegmentSeq, Seqno, StreamId, TableId};
use crate::storage::retention::{Cutoff, Retention};
use crate::storage::sstable::TableMeta;
use std::path::Path;

const ADD_TABLE: u8 = 1;
const REMOVE_TABLE: u8 = 2;
const ADD_SEGMENT: u8 = 3;
const RETIRE_SEGMENT: u8 = 4;
const BOUNDARIES: u8 = 5;
const SEQNO_FLOOR: u8 = 6;
const NEXT_TABLE: u8 = 7;
const NEXT_SEGMENT: u8 = 8;
const RETENTION: u8 = 9;

/// One change of the store's files or numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A table belongs to the store from now on. Its file is durable.
    AddTable(TableMeta),
    /// A table no longer belongs to it.
    RemoveTable(TableId),
    /// A WAL segment exists. Its file is written and durable.
    AddSegment {
        /// Its number, never used before.
        seq: SegmentSeq,
        /// What is known of it.
        entry: SegmentEntry,
    },
    /// A WAL segment's records are all in tables; it will never be replayed again.
    RetireSegment(SegmentSeq),
    /// The split points between shards.
    Boundaries(Vec<Box<[u8]>>),
    /// Seqnos start above this.
    SeqnoFloor(Seqno),
    /// Table ids below this are taken.
    NextTable(TableId),
    /// Segment numbers below this are taken.
    NextSegment(SegmentSeq),
    /// What is too old from now on; takes the place of what was said before.
    Retention(Retention),
}

/// The payload of a frame.
#[must_use]
pub fn encode_edits(edits: &[Edit]) -> Vec<u8> {
    let mut out = Vec::new();
    edits.iter().for_each(|edit| encode_edit(edit, &mut out));
    out
}

fn encode_edit(edit: &Edit, out: &mut Vec<u8>) {
    let mut put_number = |kind: u8, number: u64| {
        out.push(kind);
        put_varint(out, number);
    };
    match edit {
        Edit::RemoveTable(id) => put_number(REMOVE_TABLE, id.0),
        Edit::RetireSegment(seq) => put_number(RETIRE_SEGMENT, seq.0),
        Edit::SeqnoFloor(seqno) => put_number(SEQNO_FLOOR, seqno.0),
        Edit::NextTable(id) => put_number(NEXT_TABLE, id.0),
        Edit::NextSegment(seq) => put_number(NEXT_SEGMENT, seq.0),
        Edit::AddTable(meta) => {
            let mut bytes = Vec::new();
            meta.encode(&mut bytes);
            put_number(ADD_TABLE, bytes.len() as u64);
            out.extend_from_slice(&bytes);
        }
        Edit::AddSegment { seq, entry } => {
            put_number(ADD_SEGMENT, seq.0);
            put_varint(out, u64::from(entry.stream.0));
            out.extend_from_slice(&entry.salt.to_le_bytes());
            put_varint(out, entry.bytes);
        }
        Edit::Boundaries(boundaries) => {
            put_number(BOUNDARIES, boundaries.len() as u64);
            for key in boundaries {
                put_varint(out, key.len() as u64);
                out.extend_from_slice(key);
            }
        }
        Edit::Retention(retention) => encode_retention(retention, out),
    }
}

fn encode_retention(retention: &Retention, out: &mut Vec<u8>) {
    out.extend_from_slice(&[RETENTION, u8::from(retention.clock().is_some())]);
    retention.clock().into_iter().for_each(|clock| out.extend_from_slice(&clock.to_le_bytes()));
    put_varint(out, retention.cutoffs().len() as u64);
    for cutoff in retention.cutoffs() {
        out.extend_from_slice(&cutoff.before.to_le_bytes());
        put_varint(out, cutoff.below.0);
    }
}

/// Reads a frame's payload, which starts at `offset` of `file`.
///
/// # Errors
/// When the bytes are not edits. Their checksum was right, so tskv wrote them wrongly or a newer one wrote them.
pub fn decode_edits(file: &Path, offset: u64, payload: &[u8]) -> Result<Vec<Edit>, ManifestError> {
    let mut reader = Reader::new(payload);
    let mut edits = Vec::new();
    while reader.left() > 0 {
        let at = offset + reader.offset() as u64;
        let edit = decode_edit(&mut reader).map_err(|found| Corruption::new(file, at, "an edit", found))?;
        edits.push(edit);
    }
    Ok(edits)
}

fn decode_edit(reader: &mut Reader<'_>) -> Result<Edit, String> {
    let text = |error: ReadError| error.to_string();
    let kind = reader.u8().map_err(text)?;
    Ok(match kind {
        ADD_TABLE => Edit::AddTable(decode_table(reader.prefixed().map_err(text)?)?),
        REMOVE_TABLE => Edit::RemoveTable(TableId(reader.varint().map_err(text)?)),
        ADD_SEGMENT => decode_segment(reader).map_err(text)?,
        RETIRE_SEGMENT => Edit::RetireSegment(SegmentSeq(reader.varint().map_err(text)?)),
        BOUNDARIES => decode_boundaries(reader).map_err(text)?,
        SEQNO_FLOOR => Edit::SeqnoFloor(Seqno(reader.varint().map_err(text)?)),
        NEXT_TABLE => Edit::NextTable(TableId(reader.varint().map_err(text)?)),
        NEXT_SEGMENT => Edit::NextSegment(SegmentSeq(reader.varint().map_err(text)?)),
        RETENTION => decode_retention(reader)?,
        unknown => return Err(format!("kind {unknown}")),
    })
}

fn decode_table(bytes: &[u8]) -> Result<TableMeta, String> {
    let mut reader = Reader::new(bytes);
    let meta = TableMeta::decode(&mut reader).map_err(|error| error.to_string())?;
    if reader.left() > 0 { Err(format!("{} bytes behind a table", reader.left())) } else { Ok(meta) }
}

fn decode_retention(reader: &mut Reader<'_>) -> Result<Edit, String> {
    let text = |error: ReadError| error.to_string();
    let clock = match reader.u8().map_err(text)? {
        0 => None,
        1 => Some(reader.u64().map_err(text)?.cast_signed()),
        other => return Err(format!("a clock that is there {other} times")),
    };
    let mut cutoffs = Vec::new();
    for _ in 0..reader.count(CUTOFFS_MAX).map_err(text)? {
        let before = reader.u64().map_err(text)?.cast_signed();
        cutoffs.push(Cutoff { before, below: Seqno(reader.varint().map_err(text)?) });
    }
    Retention::new(clock, cutoffs).map(Edit::Retention).ok_or_else(|| "cutoffs out of order".to_owned())
}

fn decode_segment(reader: &mut Reader<'_>) -> Result<Edit, ReadError> {
    let seq = SegmentSeq(reader.varint()?);
    let stream = reader.count(usize::from(u16::MAX))?;
    let stream = StreamId(u16::try_from(stream).unwrap_or(u16::MAX));
    let entry = SegmentEntry { stream, salt: reader.u64()?, bytes: reader.varint()? };
    Ok(Edit::AddSegment { seq, entry })
}

fn decode_boundaries(reader: &mut Reader<'_>) -> Result<Edit, ReadError> {
    let count = reader.count(CORES_MAX)?;
    let keys = (0..count).map(|_| reader.prefixed().map(Box::from));
    keys.collect::<Result<_, _>>().map(Edit::Boundaries)
}
