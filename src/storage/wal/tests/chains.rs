//! Streams of several segments of which one is missing, cut or exchanged.

use super::super::{ReplayInput, StreamOptions, StreamWriter, SyncPolicy, WalError};
use super::model_disk::ModelDisk;
use super::{Rng, STORE, STREAM, input, number, replay};
use crate::model::{SegmentSeq, Seqno};

const PAGES: u64 = 6;

/// A stream's segments with their content.
type Segments = Vec<(ReplayInput, Vec<u8>)>;

/// Four segments, the last one open, with their content before each was sealed.
fn stream() -> (Segments, Vec<Vec<u8>>) {
    let options =
        StreamOptions { store: STORE, stream: STREAM, policy: SyncPolicy::None, writes_in_flight: 2 };
    let (mut writer, mut disk, mut rng) = (StreamWriter::new(options), ModelDisk::default(), Rng(3));
    let mut unsealed = Vec::new();
    for segment in 0..4 {
        if segment > 0 {
            writer.rotate();
        }
        writer.add_ready(disk.segment(10 + segment, PAGES));
        for frame in 0..2 {
            writer.append(Seqno(segment * 2 + frame + 1), &number(segment * 2 + frame + 1).record());
            writer.request_sync();
            disk.settle(&mut rng, &mut writer);
        }
        unsealed.push(disk.content(i32::try_from(segment).unwrap()).to_vec());
    }
    let content = |segment: u64| disk.content(i32::try_from(segment).unwrap()).to_vec();
    ((0..4).map(|segment| (input(10 + segment, PAGES), content(segment))).collect(), unsealed)
}

fn seqnos(segments: &[(ReplayInput, Vec<u8>)]) -> Result<Vec<u64>, WalError> {
    let segments = segments.iter().map(|(input, bytes)| (input.clone(), &**bytes));
    replay(segments).map(|(records, _)| records.iter().map(|(seqno, _)| seqno.0).collect())
}

fn damage(segments: &[(ReplayInput, Vec<u8>)]) -> String {
    match seqnos(segments) {
        Err(WalError::Damaged(damage)) => damage.to_string(),
        other => panic!("not damage: {other:?}"),
    }
}

#[test]
fn a_sound_stream_replays_whole() {
    // If not, the checks below refuse everything.
    let (segments, _) = stream();
    assert_eq!(seqnos(&segments).unwrap(), (1..=8).collect::<Vec<u64>>());
}

#[test]
fn a_lost_segment_is_damage_unless_it_is_the_last() {
    // A hole in the middle of a stream would serve later writes without the earlier ones.
    for lost in 0..3 {
        let (mut segments, _) = stream();
        segments[lost].1.fill(0);
        assert!(damage(&segments).contains(&format!("{:016x}.wal at offset 0", 10 + lost)));
        let (mut segments, _) = stream();
        segments[lost].1.truncate(4096 * 3);
        assert!(damage(&segments).contains("at offset 12288"));
        let (mut segments, _) = stream();
        segments[lost].1[4096 * 2..].fill(0);
        assert!(damage(&segments).contains("at offset 8192"));
    }
    let (mut segments, _) = stream();
    segments[3].1.fill(0);
    assert_eq!(seqnos(&segments).unwrap().len(), 6);
}

#[test]
fn an_older_version_of_a_segment_is_damage() {
    // A file restored from a backup is valid in itself; only its successor knows better.
    let (segments, unsealed) = stream();
    for restored in 0..3 {
        let mut segments = segments.clone();
        segments[restored].1.clone_from(&unsealed[restored]);
        damage(&segments);
    }
}

#[test]
fn exchanged_segments_are_damage() {
    // Both files are valid; they stand under each other's name.
    for (a, b) in [(0, 1), (1, 2), (0, 3)] {
        let (mut segments, _) = stream();
        let content = segments[a].1.clone();
        segments[a].1 = std::mem::replace(&mut segments[b].1, content);
        damage(&segments);
    }
}

#[test]
fn a_seal_that_differs_from_what_the_next_header_says_is_damage() {
    // Two histories of one store have been mixed.
    let (segments, _) = stream();
    let (mut other, mut disk, mut rng) = (
        StreamWriter::new(StreamOptions {
            store: STORE,
            stream: STREAM,
            policy: SyncPolicy::Always,
            writes_in_flight: 1,
        }),
        ModelDisk::default(),
        Rng(0),
    );
    other.add_ready(disk.segment(11, PAGES));
    other.append(Seqno(3), &number(33).record());
    other.rotate();
    disk.settle(&mut rng, &mut other);
    let mut mixed = segments.clone();
    mixed[1].1 = disk.content(0).to_vec();
    damage(&mixed);
}

#[test]
fn retired_segments_leave_no_hole() {
    // A segment that the manifest has retired lives on in tables: its absence must not keep the store closed.
    for gone in [vec![0], vec![1], vec![0, 1], vec![0, 2], vec![1, 2]] {
        let (mut segments, _) = stream();
        segments.retain(|(input, _)| !gone.iter().any(|gone| input.seq == SegmentSeq(10 + gone)));
        assert_eq!(seqnos(&segments).unwrap().len(), 8 - 2 * gone.len());
    }
}

#[test]
fn a_torn_first_write_still_proves_that_the_segment_before_was_durable() {
    // Its first write goes out only after the seal: a damaged older segment must not pass as a torn tail.
    let (mut segments, _) = stream();
    segments.truncate(3);
    segments[2].1[4096..].fill(0);
    assert_eq!(seqnos(&segments).unwrap().len(), 4);
    segments[1].1[4096 * 2] ^= 1;
    damage(&segments);
}
