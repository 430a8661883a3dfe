//! Every bit flip and every cut of small segments: what replay yields is a prefix, or it says that there is damage.

use super::super::{SegmentEnd, StreamOptions, StreamWriter, SyncPolicy, WalError, replay_segment};
use super::golden::{PAGES, golden_records, golden_segments};
use super::model_disk::ModelDisk;
use super::{Logged, Rng, STORE, STREAM, blob, input, number, replay, thorough};
use crate::model::{Seqno, StoreId};
use crate::storage::byte_source::ByteSource;
use std::ops::ControlFlow;

const PAGE: usize = 4096;

/// A segment of 8 pages that is not sealed: frames of one, two and one pages, written one after the other.
fn open_segment() -> (Vec<u8>, Vec<(Seqno, Logged)>) {
    let options =
        StreamOptions { store: STORE, stream: STREAM, policy: SyncPolicy::Always, writes_in_flight: 1 };
    let (mut writer, mut disk, mut rng) = (StreamWriter::new(options), ModelDisk::default(), Rng(0));
    writer.add_ready(disk.segment(7, 8));
    let records: Vec<(Seqno, Logged)> = [number(1), number(2), blob(3, 5000), number(4)]
        .into_iter()
        .zip(1..)
        .map(|(r, n)| (Seqno(n), r))
        .collect();
    for (index, (seqno, record)) in records.iter().enumerate() {
        writer.append(*seqno, &record.record());
        if index > 0 {
            disk.settle(&mut rng, &mut writer);
        }
    }
    (disk.content(0).to_vec(), records)
}

fn replay_open(bytes: &[u8]) -> Result<(Vec<(Seqno, Logged)>, SegmentEnd), WalError> {
    let (records, mut ends) = replay([(input(7, 8), bytes)])?;
    Ok((records, ends.remove(0).1))
}

/// Bits to flip: all of them, or some, most near the start of a page.
fn bits(bytes: usize) -> impl Iterator<Item = usize> {
    let (near, far) = if thorough() { (1, 1) } else { (5, 61) };
    (0..bytes * 8).filter(move |bit| bit % if bit / 8 % PAGE < 150 { near } else { far } == 0)
}

/// The stretches of the open segment that checksums cover: its header, and three frames.
fn covered(bytes: &[u8]) -> [std::ops::Range<usize>; 4] {
    let frame = |page: usize| {
        let payload_bytes = u32::from_le_bytes(bytes[page * PAGE + 8..page * PAGE + 12].try_into().unwrap());
        page * PAGE..page * PAGE + 64 + usize::try_from(payload_bytes).unwrap()
    };
    [0..80, frame(1), frame(2), frame(4)]
}

#[test]
fn a_flipped_bit_gives_a_prefix_or_damage_and_below_the_watermark_damage() {
    // Served wrong, or silently cut where it was acknowledged: both are what a log is there to prevent.
    let (bytes, records) = open_segment();
    let covered = covered(&bytes);
    for bit in bits(bytes.len()) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let place = covered.iter().position(|covered| covered.contains(&(bit / 8)));
        match (place, replay_open(&flipped)) {
            // Only what fills the page of the last frame is looked at: a sector of what came later may stand there.
            (None, Ok((found, end))) => {
                let torn_bytes = if (covered[3].end..5 * PAGE).contains(&(bit / 8)) { 4096 } else { 0 };
                assert!(found == records && end.torn_bytes == torn_bytes, "bit {bit}: {end:?}");
            }
            // The last frame was not known durable to anyone, and what is left of it is told.
            (Some(3), Ok((found, end))) => {
                assert!(found == records[..3] && end.torn_bytes == 4096, "bit {bit}: {end:?}");
            }
            (Some(place @ 0..3), Err(WalError::Damaged(damage))) => {
                assert_eq!(damage.offset, covered[place].start as u64, "bit {bit}: {damage}");
            }
            (place, result) => panic!("bit {bit} in {place:?}: {:?}", result.map(|(_, end)| end)),
        }
    }
}

#[test]
fn a_file_cut_short_is_damage() {
    // Segments are written to their full length before use: a shorter file has lost something.
    let (bytes, _) = open_segment();
    for cut in (0..bytes.len()).step_by(if thorough() { 1 } else { 97 }) {
        let error = replay_open(&bytes[..cut]).unwrap_err();
        assert!(matches!(error, WalError::Damaged(damage) if damage.offset == cut as u64));
    }
}

#[test]
fn a_lost_rest_gives_a_prefix() {
    // What a power cut does to the end of a log must never be taken for damage, nor hide what came before.
    let (bytes, records) = open_segment();
    let mut most = 0;
    for cut in (0..=5 * PAGE).step_by(if thorough() { 1 } else { 13 }) {
        let mut lost = bytes.clone();
        lost[cut..].fill(0);
        let (found, _) = replay_open(&lost).unwrap();
        assert_eq!(found, records[..found.len()], "cut at {cut}");
        assert!(found.len() >= most, "cut at {cut}");
        most = found.len();
    }
    assert_eq!(most, records.len());
}

#[test]
fn every_flipped_bit_of_sealed_segments_is_seen() {
    // The newer segment proves that all of the older one was durable: nothing of it may go missing.
    let [first, second] = golden_segments();
    for bit in bits(first.len()) {
        let mut flipped = first.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match replay([(input(0x10, PAGES), &*flipped), (input(0x11, PAGES), &*second)]) {
            Ok((records, _)) => assert_eq!(records, golden_records(), "bit {bit}"),
            Err(error) => assert!(matches!(error, WalError::Damaged(_)), "bit {bit}: {error}"),
        }
    }
}

#[test]
fn exchanged_and_copied_pages_are_damage() {
    // A write that went astray carries a valid checksum; only its place says that it does not belong.
    let (bytes, _) = open_segment();
    for (from, to) in [(1, 2), (2, 1), (4, 1), (1, 3), (4, 2), (5, 1), (1, 0), (0, 1)] {
        let mut copied = bytes.clone();
        copied.copy_within(from * PAGE..(from + 1) * PAGE, to * PAGE);
        assert!(matches!(replay_open(&copied), Err(WalError::Damaged(_))), "page {from} over {to}");
    }
}

#[test]
fn foreign_segments_are_damage_and_older_lives_are_nothing() {
    // Another store's file in place of ours must not be taken for an empty one.
    let (bytes, _) = open_segment();
    let with = |change: &dyn Fn(&mut crate::storage::wal::ReplayInput)| {
        let mut input = input(7, 8);
        change(&mut input);
        replay([(input, &*bytes)])
    };
    assert!(matches!(with(&|input| input.seq.0 = 6), Err(WalError::Damaged(_))), "a newer life");
    assert!(matches!(with(&|input| input.salt = 0), Err(WalError::Damaged(_))), "another salt");
    assert!(matches!(with(&|input| input.stream.0 = 9), Err(WalError::Damaged(_))), "another stream");
    assert!(matches!(with(&|input| input.bytes = 4096), Err(WalError::Damaged(_))), "another length");
    let (records, ends) = with(&|input| input.seq.0 = 8).unwrap();
    assert!(records.is_empty() && ends[0].1.never_used, "a former life of the file");
    let visit = &mut |_, _: super::Record<'_>| ControlFlow::Continue(());
    let other = replay_segment(StoreId(*b"some other store"), &input(7, 8), &mut &*bytes, visit);
    assert!(matches!(other, Err(WalError::Damaged(_))), "another store");
}

#[test]
fn newer_formats_are_named_as_such() {
    // "Damaged" would send the operator to repair a sound store.
    let (bytes, _) = open_segment();
    for (at, is_version) in [(8, true), (12, false)] {
        let mut newer = bytes.clone();
        newer[at] = 2;
        let crc = crate::encoding::checksum(&newer[..76]).to_le_bytes();
        newer[76..80].copy_from_slice(&crc);
        let error = replay_open(&newer).unwrap_err();
        assert_eq!(matches!(error, WalError::VersionUnsupported { found: 2, .. }), is_version);
        assert_eq!(matches!(error, WalError::FeaturesUnsupported { unknown: 2, .. }), !is_version);
        assert!(error.to_string().contains("0000000000000007.wal"));
    }
}

/// Fails at one place, and reads no more than a few bytes at a time.
struct BadSector<'a> {
    bytes: &'a [u8],
    bad_at: u64,
}

impl ByteSource for BadSector<'_> {
    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        if offset >= self.bad_at {
            return Err(std::io::Error::other("bad sector"));
        }
        let count = buf.len().min(1000).min(usize::try_from(self.bad_at - offset).unwrap());
        self.bytes.read_at(offset, &mut buf[..count])
    }
}

#[test]
fn a_sector_that_cannot_be_read_is_named() {
    // Taking it for the end of the log would lose what stands behind it.
    let (bytes, _) = open_segment();
    let visit = &mut |_, _: super::Record<'_>| ControlFlow::Continue(());
    let mut source = BadSector { bytes: &bytes, bad_at: 9000 };
    let error = replay_segment(STORE, &input(7, 8), &mut source, visit).unwrap_err();
    assert!(matches!(error, WalError::Read { offset: 9000, .. }), "{error}");
}

#[test]
fn the_visitor_can_stop() {
    // A recovery that has failed elsewhere must not read on.
    let (bytes, _) = open_segment();
    let mut seen = 0;
    let stopped = replay_segment(STORE, &input(7, 8), &mut &*bytes, &mut |_, _| {
        seen += 1;
        ControlFlow::Break(())
    });
    assert!(matches!(stopped, Err(WalError::Stopped)) && seen == 1);
}

#[test]
fn random_pages_never_panic() {
    // A panic at recovery would keep a store closed for ever.
    let (bytes, records) = open_segment();
    let mut rng = Rng(1);
    for _ in 0..2_000 {
        let mut broken = bytes.clone();
        for _ in 0..=rng.below(6) {
            let from = rng.index(broken.len());
            let count = rng.index(broken.len() - from).min(600);
            let fill = rng.next().to_le_bytes()[0];
            if rng.one_in(2) {
                broken[from..from + count].fill(fill);
            } else {
                let to = rng.index(broken.len() - count);
                broken.copy_within(from..from + count, to);
            }
        }
        if let Ok((found, _)) = replay_open(&broken) {
            assert_eq!(found, records[..found.len()]);
        }
    }
}
