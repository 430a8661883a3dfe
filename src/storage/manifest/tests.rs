//! Round trips, golden bytes, and every truncation and bit flip of the manifest and `CURRENT`.

use super::edit::{decode_edits, encode_edits};
use super::names::{manifest_path, parse_manifest, parse_segment, parse_table, segment_path, table_path};
use super::{Current, Edit, LogEncoder, ManifestError, Replayed, SegmentEntry, State, StateError, replay};
use crate::model::{KeyRange, SegmentSeq, Seqno, StoreId, StreamId, TableId, TimeUnit};
use crate::storage::retention::Retention;
use crate::storage::sstable::{Effort, TableMeta};
use std::path::Path;

const STORE: StoreId = StoreId(*b"store-0123456789");
const NUMBER: u64 = 7;

fn meta(id: u64) -> TableMeta {
    TableMeta {
        id: TableId(id),
        bytes: 1000 + id,
        entries: 10,
        point_deletes: 1,
        range_deletes: 2,
        span: Some((-86_400_000, 86_399_999)),
        level: 0,
        effort: Effort::Thorough,
        first_key: b"cpu"[..].into(),
        last_key: b"mem"[..].into(),
        keys: KeyRange { start: b"cpu"[..].into(), end: Some(b"mem\0"[..].into()) },
        time_min: -5,
        time_max: 5,
        seqno_min: Seqno(id),
        seqno_max: Seqno(id + 9),
        metadata_entries: 0,
        retentions: 0,
        series: 4,
    }
}

fn segment(seq: u64, stream: u16) -> Edit {
    let entry = SegmentEntry { stream: StreamId(stream), salt: 0x1122_3344_5566_7788, bytes: 1 << 20 };
    Edit::AddSegment { seq: SegmentSeq(seq), entry }
}

/// Frames as a store makes them: a snapshot, a flush, a merge, a segment; each but the snapshot with its mark.
fn sample() -> (Vec<u8>, Vec<(usize, State)>) {
    let mut state = State::empty(STORE, TimeUnit::Microseconds);
    let first =
        [Edit::AddTable(meta(0)), segment(0, 0), segment(1, 1), Edit::Boundaries(vec![b"k"[..].into()])];
    state.apply_all(&first).unwrap();
    let (mut encoder, mut bytes) = LogEncoder::start(NUMBER, &state);
    let mut states = vec![(bytes.len(), state.clone())];
    let frames = [
        vec![Edit::AddTable(meta(1)), Edit::AddTable(meta(2)), Edit::RetireSegment(SegmentSeq(0))],
        vec![Edit::RemoveTable(TableId(0)), Edit::RemoveTable(TableId(1)), Edit::AddTable(meta(3))],
        vec![
            segment(2, 0),
            Edit::SeqnoFloor(Seqno(12)),
            Edit::NextTable(TableId(9)),
            Edit::NextSegment(SegmentSeq(5)),
        ],
    ];
    for edits in frames {
        bytes.extend(encoder.frame(&edits));
        state.apply_all(&edits).unwrap();
        states.push((bytes.len(), state.clone()));
        bytes.extend(encoder.mark_durable());
        assert_eq!(bytes.len() as u64, encoder.end());
    }
    (bytes, states)
}

fn read(bytes: &[u8]) -> Result<Replayed, ManifestError> {
    replay(&manifest_path(NUMBER), NUMBER, STORE, bytes)
}

fn damage_offset(error: ManifestError) -> u64 {
    let ManifestError::Damaged(corruption) = error else { panic!("not damage: {error}") };
    corruption.offset
}

#[test]
fn replay_gives_the_state_that_was_written() {
    // Anything else loses tables or replays segments that are gone.
    let (bytes, states) = sample();
    let replayed = read(&bytes).unwrap();
    assert_eq!(replayed.state, states.last().unwrap().1);
    assert_eq!((replayed.end, replayed.torn_bytes, replayed.frames), (bytes.len() as u64, 0, 7));
    let (_, snapshot) = LogEncoder::start(NUMBER, &replayed.state);
    assert_eq!(read(&snapshot).unwrap().state, replayed.state, "a snapshot must say everything");
}

#[test]
fn every_truncation_yields_a_frame_prefix_or_is_refused() {
    // A cut must never give a state that never was; a snapshot that is cut was durable once, so it is damage.
    let (bytes, states) = sample();
    for end in 0..bytes.len() {
        match read(&bytes[..end]) {
            Ok(replayed) => {
                let (_, expected) = states.iter().rev().find(|(at, _)| *at <= end).unwrap();
                assert_eq!(replayed.state, *expected, "cut at {end}");
                assert_eq!(replayed.end + replayed.torn_bytes, end as u64);
            }
            Err(error) => {
                assert!(end < states[0].0, "cut at {end}: {error}");
                damage_offset(error);
            }
        }
    }
}

#[test]
fn every_bit_flip_is_refused_or_cuts_only_the_last_mark() {
    // The last frame was acknowledged: taking damage to it for a torn tail would lose a flush whose log is gone.
    let (bytes, states) = sample();
    let last_mark = states.last().unwrap().0;
    for offset in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[offset] ^= 1 << bit;
            match read(&flipped) {
                Ok(replayed) => {
                    assert!(offset >= last_mark, "flip of bit {bit} at {offset} went unnoticed");
                    assert_eq!(replayed.state, states.last().unwrap().1);
                }
                Err(ManifestError::Damaged(corruption)) => {
                    let bound = offset.max(super::log::HEADER_BYTES) as u64;
                    assert!(corruption.offset <= bound, "{corruption} for a flip at {offset}");
                }
                Err(other) => assert!(offset < super::log::HEADER_BYTES, "{other} for a flip at {offset}"),
            }
        }
    }
}

#[test]
fn a_torn_append_is_cut_off() {
    // A crash during an append must not keep the store from opening. The tail may be any part of the bytes, zeros
    // between them, and whole frames behind a hole: nothing of it was acknowledged.
    let (bytes, states) = sample();
    let start = states[2].0 + 24;
    let tail = &bytes[start..states[3].0];
    for hole in [0..1, 0..tail.len(), tail.len() / 2..tail.len(), 4..8] {
        let mut torn = bytes[..states[3].0].to_vec();
        torn[start..][hole.clone()].fill(0);
        let replayed = read(&torn).unwrap();
        assert_eq!(replayed.state, states[2].1, "hole {hole:?}");
        assert!(replayed.torn_bytes > 0);
    }
    // The mark and the frame after it are written without a sync between them: the mark alone may be lost.
    let mut torn = bytes[..states[3].0].to_vec();
    torn[states[2].0..start].fill(0);
    assert_eq!(read(&torn).unwrap().state, states[2].1);
}

#[test]
fn frames_of_other_manifests_and_places_are_not_taken() {
    // A block that the disk wrote to the wrong place is whole in itself.
    let (bytes, states) = sample();
    let (first_end, second) = (states[0].0, &bytes[states[0].0..states[1].0]);
    let mut doubled = bytes[..first_end].to_vec();
    doubled.extend_from_slice(second);
    doubled.extend_from_slice(second);
    assert_eq!(read(&doubled).unwrap().state, states[1].1);
    assert!(replay(&manifest_path(8), 8, STORE, &bytes).is_err());
    let other = replay(&manifest_path(NUMBER), NUMBER, StoreId([1; 16]), &bytes);
    assert!(matches!(other, Err(ManifestError::OtherStore { .. })));
}

#[test]
fn newer_formats_are_named_as_such() {
    // "Damaged" would send the operator to repair a file that only needs a newer build.
    let (mut bytes, _) = sample();
    bytes[8] = 9;
    assert!(matches!(read(&bytes), Err(ManifestError::VersionUnsupported { found: 9, .. })));
    let (mut bytes, _) = sample();
    bytes[12] = 4;
    assert!(matches!(read(&bytes), Err(ManifestError::FeaturesUnsupported { unknown: 4, .. })));
    let mut current = Current { store: STORE, manifest: 1 }.encode();
    current[8] = 2;
    let read = Current::decode(Path::new("CURRENT"), &current);
    assert!(matches!(read, Err(ManifestError::VersionUnsupported { found: 2, .. })));
}

#[test]
fn edits_that_do_not_fit_are_refused() {
    // Each of these would make files disappear from the store, or come back.
    let mut state = State::empty(STORE, TimeUnit::Milliseconds);
    state.apply_all(&[Edit::AddTable(meta(1)), segment(3, 0), Edit::SeqnoFloor(Seqno(5))]).unwrap();
    let before = state.clone();
    let cases = [
        (Edit::AddTable(meta(1)), StateError::TableAddedTwice(TableId(1))),
        (Edit::RemoveTable(TableId(2)), StateError::TableUnknown(TableId(2))),
        (segment(3, 1), StateError::SegmentAddedTwice(SegmentSeq(3))),
        (Edit::RetireSegment(SegmentSeq(4)), StateError::SegmentUnknown(SegmentSeq(4))),
        (segment(5, 128), StateError::StreamOutOfRange(StreamId(128))),
        (Edit::Boundaries(vec![b"b"[..].into(), b"a"[..].into()]), StateError::BoundariesInvalid),
        (Edit::Boundaries(vec![Box::default()]), StateError::BoundariesInvalid),
        (Edit::SeqnoFloor(Seqno(4)), StateError::WentBack { what: "the seqno floor", from: 5, to: 4 }),
    ];
    for (edit, error) in cases {
        assert_eq!(state.apply_all(&[Edit::AddTable(meta(8)), edit]), Err(error));
        assert_eq!(state, before, "a frame is applied whole or not at all");
    }
    let (mut encoder, mut bytes) = LogEncoder::start(NUMBER, &before);
    let at = bytes.len() as u64;
    bytes.extend(encoder.frame(&[Edit::RemoveTable(TableId(2))]));
    assert_eq!(damage_offset(read(&bytes).unwrap_err()), at);
}

#[test]
fn numbers_never_go_back_when_their_files_do() {
    // A reused number would let a stale file of that name pass for the new one.
    let mut state = State::empty(STORE, TimeUnit::Milliseconds);
    state.apply_all(&[Edit::AddTable(meta(4)), segment(6, 0)]).unwrap();
    state.apply_all(&[Edit::RemoveTable(TableId(4)), Edit::RetireSegment(SegmentSeq(6))]).unwrap();
    assert_eq!((state.next_table, state.next_segment), (TableId(5), SegmentSeq(7)));
    let (_, bytes) = LogEncoder::start(NUMBER, &state);
    assert_eq!(read(&bytes).unwrap().state, state);
}

#[test]
fn hostile_payloads_are_refused_without_large_allocations() {
    // Counts and lengths come from disk; believing them would take gigabytes for ten bytes.
    let payloads = [
        vec![1, 0xff, 0xff, 0xff, 0xff, 0x0f],
        vec![5, 0xff, 0xff, 0xff, 0xff, 0x0f],
        vec![5, 1, 0xff, 0xff, 0x7f],
        vec![3, 1, 0xff, 0xff, 0xff, 0x7f],
        vec![0],
        vec![9, 1],
        vec![9, 2, 0],
        vec![9, 0, 65],
        vec![9, 0, 0xff, 0xff, 0xff, 0xff, 0x0f],
        [&[9, 0, 1][..], &i64::MIN.to_le_bytes(), &[7]].concat(),
        vec![2],
    ];
    for payload in payloads {
        assert!(decode_edits(Path::new("m"), 0, &payload).is_err(), "{payload:?}");
    }
    let mut bytes = encode_edits(&[Edit::AddTable(meta(1))]);
    bytes[1] -= 1;
    assert!(decode_edits(Path::new("m"), 0, &bytes).is_err());
    // Bytes that look like a frame everywhere must not take quadratic time.
    let (_, mut bytes) = LogEncoder::start(NUMBER, &State::empty(STORE, TimeUnit::Milliseconds));
    let index = 1u64.to_le_bytes();
    for _ in 0..20_000 {
        let end = (bytes.len() as u64).to_le_bytes();
        bytes.extend([&[0; 4][..], &[0, 0, 1, 0], &index, &end].concat());
    }
    let _ = read(&bytes);
}

#[test]
fn current_names_the_manifest_or_is_refused() {
    // A wrong manifest number opens a state of long ago.
    let current = Current { store: STORE, manifest: 0x0102_0304 };
    let bytes = current.encode();
    let path = Path::new("CURRENT");
    assert_eq!(Current::decode(path, &bytes), Ok(current));
    for end in 0..bytes.len() {
        assert!(Current::decode(path, &bytes[..end]).is_err(), "cut at {end}");
    }
    for offset in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[offset] ^= 1 << bit;
            assert!(Current::decode(path, &flipped).is_err(), "bit {bit} at {offset}");
        }
    }
    assert!(Current::decode(path, &[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn names_read_as_they_are_written_and_others_are_foreign() {
    // A file that only looks like ours must never be deleted, one of ours never be overlooked.
    let name = |path: std::path::PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(parse_manifest(&name(manifest_path(0xab))), Some(0xab));
    assert_eq!(parse_segment(&name(segment_path(SegmentSeq(u64::MAX)))), Some(SegmentSeq(u64::MAX)));
    assert_eq!(parse_table(&name(table_path(TableId(0)))), Some(TableId(0)));
    let foreign = [
        "1.sst",
        "00000000000000AB.sst",
        "000000000000000a.sst.tmp",
        "+00000000000000a.sst",
        ".sst",
        "lost+found",
    ];
    assert!(foreign.iter().all(|name| parse_table(name).is_none()));
    assert_eq!(meta(3).file_name(), table_path(TableId(3)).to_string_lossy());
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(32).map(line).collect()
}

fn golden(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("TSKV_WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, hex(bytes)).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap();
    assert_eq!(stored, hex(bytes), "{name}: the format has changed; a new version needs a file of its own");
}

/// What a store says that has lengthened its retention once, and then been open for a while.
fn retentions() -> Vec<Edit> {
    let mut retention = Retention::default();
    retention.advance(1_700_000_000_000, 1_690_000_000_000);
    let first = retention.clone();
    retention.lift(Seqno(42));
    retention.advance(1_700_000_060_000, -5);
    vec![Edit::Retention(first), Edit::Retention(retention)]
}

#[test]
fn what_is_too_old_is_remembered() {
    // Forgotten, samples come back that readers were told are gone; and the clock decides what is dropped for good.
    let mut state = State::empty(STORE, TimeUnit::Milliseconds);
    for edit in retentions() {
        state.apply(edit).unwrap();
        let (_, bytes) = LogEncoder::start(NUMBER, &state);
        assert_eq!(read(&bytes).unwrap().state, state);
    }
    let (from, to) = (1_700_000_060_000, Some(1_700_000_000_000));
    assert_eq!(state.apply(retentions().swap_remove(0)), Err(StateError::ClockWentBack { from, to }));
    assert!(state.apply(Edit::Retention(Retention::default())).is_err());
}

#[test]
fn a_manifest_from_before_series_were_counted_is_read() {
    // It names the tables of a store that must open, with all their metadata.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/manifest_v1.hex");
    let digits: Vec<u8> = std::fs::read(path).unwrap().into_iter().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
    let mut expected = sample().1.pop().unwrap().1;
    expected.tables.values_mut().for_each(|meta| meta.series = 0);
    assert_eq!(read(&bytes).unwrap().state, expected);
}

#[test]
fn stored_bytes_of_the_format_still_read_and_write() {
    // Old stores must open with this build, and older builds must refuse what they cannot read.
    golden("manifest_counted_v1.hex", &sample().0);
    golden("manifest_retention_v1.hex", &encode_edits(&retentions()));
    assert_eq!(decode_edits(Path::new("m"), 0, &encode_edits(&retentions())), Ok(retentions()));
    golden("current_v1.hex", &Current { store: STORE, manifest: NUMBER }.encode());
}
