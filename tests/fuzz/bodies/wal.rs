//! Segments of the log.
//!
//! Input: a flag byte, then pieces. Piece 0 is the header page, each other one a frame (header and payload) with a flag
//! byte of its own before it; the harness lays them on pages. Flag bit 0 of the input: the pieces' flags count, else
//! all is put right. A frame's flags: 1 keep page, identity, length and link as they are; 2 keep the checksums too.
//! Bit 1 of the input: it is a segment as it lies on the disk, nothing is put right.

use super::allocation::bounded;
use super::blobs::{overwrite, pieces, put_piece, split_flags};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use tskv::encoding::checksum;
use tskv::limits::PAGE_BYTES;
use tskv::model::{FileRef, SegmentSeq, Seqno, StoreId, StreamId, Value};
use tskv::storage::wal::{
    Record, ReplayInput, SegmentEnd, SegmentHeader, SegmentSpec, StreamOptions, StreamWriter, SyncPolicy,
    WalError, WalIo, WalOutcome, record_bytes, replay_segment,
};

const HEADER_BYTES: usize = 80;
const FRAME_HEADER_BYTES: usize = 64;
const SEGMENT_BYTES_MAX: usize = 1 << 20;

pub(crate) fn segment(input: &[u8]) {
    let (flags, rest) = split_flags(input);
    let bytes = if flags & 2 == 0 { lay_out(rest, flags & 1 != 0) } else { rest.to_vec() };
    if bytes.len() > SEGMENT_BYTES_MAX {
        return;
    }
    let mut log = Log::default();
    let outcome = bounded(bytes.len(), 2, || replay(&bytes, &mut |_, record| log.count(record)));
    let end = match outcome {
        Ok(end) => end,
        Err(error) => return assert!(error.to_string().contains("fuzz.wal"), "{error}"),
    };
    assert_eq!(end.records, log.records);
    assert!(end.end_offset + end.torn_bytes <= bytes.len() as u64, "{end:?} in {} bytes", bytes.len());
    assert_eq!(end.seqnos.is_some(), end.records > 0);
    what_follows_the_prefix_is_not_needed(&bytes, &end, &log);
    records_survive_being_written(&bytes, &log);
}

/// What was replayed: how many records, and what they say.
#[derive(Default)]
struct Log {
    records: u64,
    text: Vec<u8>,
}

impl Log {
    fn count(&mut self, record: &Record<'_>) {
        self.records += 1;
        self.text.extend_from_slice(format!("{record:?}").as_bytes());
        if let Record::Put { value: Value::F64(number), .. } = record {
            self.text.extend_from_slice(&number.to_bits().to_le_bytes());
        }
    }
}

fn replay(bytes: &[u8], visit: &mut dyn FnMut(Seqno, &Record<'_>)) -> Result<SegmentEnd, WalError> {
    let file = PathBuf::from("fuzz.wal");
    let (store, input) = match SegmentHeader::decode(bytes) {
        Some(page) => (page.header.store, page.header.replay_input(file)),
        None => {
            let (seq, stream, bytes) = (SegmentSeq(1), StreamId(0), bytes.len() as u64);
            (StoreId::default(), ReplayInput { seq, stream, salt: 0, bytes, file })
        }
    };
    let mut source = bytes;
    replay_segment(store, &input, &mut source, &mut |seqno, record| {
        visit(seqno, &record);
        ControlFlow::Continue(())
    })
}

/// A cut right behind the last whole frame loses nothing.
fn what_follows_the_prefix_is_not_needed(bytes: &[u8], end: &SegmentEnd, log: &Log) {
    let mut cut = bytes.to_vec();
    let kept = usize::try_from(end.end_offset).expect("within the segment");
    cut[kept..].fill(0);
    let mut again = Log::default();
    let of_cut = replay(&cut, &mut |_, record| again.count(record)).expect("the prefix is whole");
    // What stands in the filler of the prefix's last page may still count as torn.
    assert_eq!(of_cut.end_offset, end.end_offset);
    assert!(again.text == log.text, "a prefix depends on what follows it");
}

/// The records, written by the writer into a segment of their own, are the same.
fn records_survive_being_written(bytes: &[u8], log: &Log) {
    let pages = (2 * bytes.len() / PAGE_BYTES + 16) as u64;
    let options = StreamOptions {
        store: StoreId::default(),
        stream: StreamId(3),
        policy: SyncPolicy::Always,
        writes_in_flight: 1,
    };
    let mut writer = StreamWriter::new(options);
    writer.add_ready(SegmentSpec {
        seq: SegmentSeq(9),
        salt: 0x5a17,
        bytes: pages * PAGE_BYTES as u64,
        file: FileRef::new(0, Arc::new(())),
        direct: false,
    });
    let (mut seqno, mut fits) = (0, true);
    let replayed = replay(bytes, &mut |_, record| {
        seqno += 1;
        fits = fits && writer.admits(record_bytes(record), true);
        if fits {
            writer.append(Seqno(seqno), record);
        }
    });
    if !fits || log.records == 0 || replayed.is_err() {
        return;
    }
    let mut written = vec![0; usize::try_from(pages).expect("small") * PAGE_BYTES];
    while let Some(io) = writer.next_io() {
        let WalIo::Write { id, offset, bytes, .. } = io else {
            unreachable!("each write is durable by itself")
        };
        let start = usize::try_from(offset).expect("within the segment");
        writer.encode(id, &mut written[start..start + bytes]);
        writer.completed(id, WalOutcome::Written(bytes));
    }
    let mut again = Log::default();
    replay(&written, &mut |_, record| again.count(record)).expect("what was written is read");
    assert!(again.records == log.records && again.text == log.text, "records change when they are written");
}

/// Lays pieces on pages.
fn lay_out(input: &[u8], flags_count: bool) -> Vec<u8> {
    let mut pieces = pieces(input);
    let header = pieces.next().unwrap_or_default();
    let mut out = vec![0; PAGE_BYTES];
    let header = &header[..header.len().min(HEADER_BYTES)];
    overwrite(&mut out, 0, header);
    let mut places = Vec::new();
    for piece in pieces {
        let (flags, frame) = split_flags(piece);
        if frame.len() >= FRAME_HEADER_BYTES {
            places.push((out.len(), frame.len(), if flags_count { flags } else { 0 }));
            out.extend_from_slice(frame);
            out.resize(out.len().next_multiple_of(PAGE_BYTES), 0);
        }
    }
    // Room for a frame that never came.
    out.resize(out.len() + PAGE_BYTES, 0);
    let length = out.len() as u64;
    overwrite(&mut out, 48, &length.to_le_bytes());
    let crc = checksum(&out[..76]);
    overwrite(&mut out, 76, &crc.to_le_bytes());
    let identity: Vec<u8> = out[32..48].to_vec();
    let stream = [out[10], out[11]];
    let mut previous = crc;
    for (at, length, flags) in places {
        if flags & 1 == 0 {
            let payload_bytes = u32::try_from(length - FRAME_HEADER_BYTES).expect("pieces are short");
            let page = u32::try_from(at / PAGE_BYTES).expect("segments are short");
            overwrite(&mut out, at + 8, &payload_bytes.to_le_bytes());
            overwrite(&mut out, at + 16, &identity);
            overwrite(&mut out, at + 32, &page.to_le_bytes());
            overwrite(&mut out, at + 36, &previous.to_le_bytes());
            overwrite(&mut out, at + 58, &stream);
            overwrite(&mut out, at + 60, &[0; 4]);
        }
        if flags & 2 == 0 {
            let payload_crc = checksum(&out[at + FRAME_HEADER_BYTES..at + length]);
            overwrite(&mut out, at + 4, &payload_crc.to_le_bytes());
            previous = checksum(&out[at + 4..at + FRAME_HEADER_BYTES]);
            overwrite(&mut out, at, &previous.to_le_bytes());
        }
    }
    out
}

/// A segment as the input that [`lay_out`] makes it from again.
///
/// # Panics
/// When it is no segment of whole frames.
#[allow(dead_code, reason = "corpora are written by the runner of `cargo test`")]
pub(crate) fn take_apart(segment: &[u8], flags: u8) -> Vec<u8> {
    let mut out = vec![flags];
    put_piece(&mut out, &segment[..HEADER_BYTES]);
    let mut at = PAGE_BYTES;
    while let Some(header) = segment.get(at..at + FRAME_HEADER_BYTES).filter(|header| header[..4] != [0; 4]) {
        let payload_bytes = u32::from_le_bytes(*header[8..].first_chunk().expect("64 bytes")) as usize;
        let frame = &segment[at..at + FRAME_HEADER_BYTES + payload_bytes];
        put_piece(&mut out, &[&[0], frame].concat());
        at += frame.len().next_multiple_of(PAGE_BYTES);
    }
    out
}
