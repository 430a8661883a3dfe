//! The bytes of format version 1, kept in `tests/golden/wal_segment_v1.hex`: two segments of one stream with every
//! kind of record. A golden file is never edited: a new version gets a new file, and this one must still open.

use super::super::{StreamOptions, StreamWriter, SyncPolicy};
use super::model_disk::ModelDisk;
use super::{Logged, Rng, STORE, STREAM, input, replay};
use crate::model::{OwnedValue, Seqno, Slot};

const GOLDEN: &str = include_str!("../../../../tests/golden/wal_segment_v1.hex");
/// Pages of each segment.
pub(super) const PAGES: u64 = 6;

/// What the golden file holds, with a seqno each.
pub(super) fn golden_records() -> Vec<(Seqno, Logged)> {
    let series = || b"cpu.load".to_vec();
    let put = |slot, value| Logged::Put(series(), slot, value);
    let records = [
        (1, put(Slot::Metadata, OwnedValue::Bytes(b"labels".as_slice().into()))),
        (2, put(Slot::Timeless, OwnedValue::Bytes(b"".as_slice().into()))),
        (3, put(Slot::Time(1_700_000_000_000), OwnedValue::F64(f64::from_bits(0x7ff8_0000_0000_0001)))),
        (4, put(Slot::Time(1_700_000_001_000), OwnedValue::F64(-0.0))),
        (300, put(Slot::Time(i64::MIN), OwnedValue::I64(i64::MIN))),
        (301, put(Slot::Time(i64::MAX), OwnedValue::I64(i64::MAX))),
        (302, Logged::DeleteSlot(series(), Slot::Time(-1))),
        (303, Logged::DeleteSlot(series(), Slot::Timeless)),
        (304, Logged::TimeRange(b"mem".to_vec(), i64::MIN, i64::MAX)),
        (305, Logged::Series(b"\x00\xff".to_vec())),
        (306, Logged::Prefix(b"".to_vec())),
        (307, Logged::Prefix(b"disk.".to_vec())),
        (1 << 40, Logged::All),
    ];
    records.into_iter().map(|(seqno, record)| (Seqno(seqno), record)).collect()
}

/// Writes the golden segments: three records in a frame, one write in flight, the last five records in segment 0x11.
pub(super) fn golden_segments() -> [Vec<u8>; 2] {
    let options =
        StreamOptions { store: STORE, stream: STREAM, policy: SyncPolicy::Always, writes_in_flight: 1 };
    let (mut writer, mut disk, mut rng) = (StreamWriter::new(options), ModelDisk::default(), Rng(0));
    writer.add_ready(disk.segment(0x10, PAGES));
    writer.add_ready(disk.segment(0x11, PAGES));
    for (index, (seqno, record)) in golden_records().iter().enumerate() {
        if index == 8 {
            writer.rotate();
        }
        writer.append(*seqno, &record.record());
        if index % 3 == 2 {
            disk.settle(&mut rng, &mut writer);
        }
    }
    disk.settle(&mut rng, &mut writer);
    [disk.content(0).to_vec(), disk.content(1).to_vec()]
}

/// Rows of 16 bytes that are not all zero, as `segment:offset: bytes`.
fn to_text(segments: &[Vec<u8>; 2]) -> String {
    let mut text = String::new();
    for (segment, bytes) in segments.iter().enumerate() {
        for (row, content) in bytes.chunks(16).enumerate() {
            if content.iter().any(|byte| *byte != 0) {
                let digits: String = content.iter().map(|byte| format!("{byte:02x}")).collect();
                text += &format!("{segment}:{:05x}: {digits}\n", row * 16);
            }
        }
    }
    text
}

fn from_text(text: &str) -> [Vec<u8>; 2] {
    let bytes = usize::try_from(PAGES).unwrap() * 4096;
    let mut segments = [vec![0; bytes], vec![0; bytes]];
    for line in text.lines() {
        let mut fields = line.split(':');
        let segment: usize = fields.next().unwrap().parse().unwrap();
        let offset = usize::from_str_radix(fields.next().unwrap(), 16).unwrap();
        let digits = fields.next().unwrap().trim();
        for (index, byte) in segments[segment][offset..offset + 16].iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[index * 2..index * 2 + 2], 16).unwrap();
        }
    }
    segments
}

#[test]
fn golden_segments_are_written_as_they_were() {
    // Another byte on disk is another format: it needs a new version.
    let written = to_text(&golden_segments());
    assert!(written == GOLDEN, "segments are written differently now:\n{written}");
}

#[test]
fn golden_segments_are_read_as_they_were() {
    // A store written by the first release would lose its last writes at the upgrade.
    let [first, second] = from_text(GOLDEN);
    let (records, ends) = replay([(input(0x10, PAGES), &*first), (input(0x11, PAGES), &*second)]).unwrap();
    assert_eq!(records, golden_records());
    let (first, second) = (&ends[0].1, &ends[1].1);
    assert!(first.sealed && first.end_offset == 5 * 4096 && first.frames == 4 && first.records == 8);
    assert!(!second.sealed && second.torn_bytes == 0 && second.records == 5);
    assert_eq!(second.seqnos, Some((Seqno(304), Seqno(1 << 40))));
    let previous = second.header.and_then(|header| header.previous).unwrap();
    assert_eq!((previous.end, previous.crc), (first.end_offset, first.last_crc));
}
