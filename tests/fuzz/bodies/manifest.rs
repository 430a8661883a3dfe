//! Manifests and `CURRENT`.
//!
//! Input: a flag byte, then as its low two bits say: 0 pieces that are the edits of one frame each; 1 a manifest whose
//! checksums are put right; 2 `CURRENT` with its checksum put right; 3 a manifest as it is.

use super::allocation::bounded;
use super::blobs::{overwrite, pieces, split_flags};
use std::path::Path;
use tskv::encoding::{checksum, checksum_parts};
use tskv::model::{StoreId, TimeUnit};
use tskv::storage::manifest::edit::{decode_edits, encode_edits};
use tskv::storage::manifest::log::{FRAME_HEADER_BYTES, HEADER_BYTES};
use tskv::storage::manifest::{Current, LogEncoder, State, replay};

const FILE: &str = "fuzz.log";
const NUMBER: u64 = 7;
const STORE: StoreId = StoreId(*b"store-0123456789");
/// An edit of two bytes is a record of some 200 in a list that grows by doubling.
const FACTOR: usize = 400;

pub(crate) fn log_or_current(input: &[u8]) {
    let (flags, rest) = split_flags(input);
    match flags & 3 {
        0 => log(&frames_of(rest)),
        1 => {
            let mut bytes = rest.to_vec();
            put_checksums_right(&mut bytes);
            log(&bytes);
        }
        2 => current(rest),
        _ => log(rest),
    }
}

fn log(bytes: &[u8]) {
    let outcome = bounded(bytes.len(), FACTOR, || replay(Path::new(FILE), NUMBER, STORE, bytes));
    let replayed = match outcome {
        Ok(replayed) => replayed,
        Err(error) => return assert!(error.to_string().contains(FILE), "{error}"),
    };
    assert_eq!(replayed.end + replayed.torn_bytes, bytes.len() as u64);
    // What it says, written as a snapshot, says the same.
    let (_, snapshot) = LogEncoder::start(NUMBER, &replayed.state);
    let again = replay(Path::new(FILE), NUMBER, STORE, &snapshot).expect("what was written is read");
    assert_eq!(again.state, replayed.state);
}

fn current(input: &[u8]) {
    let mut bytes = input.to_vec();
    if bytes.len() >= 44 {
        let crc = checksum(&bytes[..40]);
        overwrite(&mut bytes, 40, &crc.to_le_bytes());
    }
    match bounded(bytes.len(), 2, || Current::decode(Path::new(FILE), &bytes)) {
        Ok(current) => assert!(current.encode() == bytes, "CURRENT has two forms"),
        Err(error) => assert!(error.to_string().contains(FILE), "{error}"),
    }
}

/// A manifest with these edits.
fn frames_of(input: &[u8]) -> Vec<u8> {
    let unit = [TimeUnit::Milliseconds, TimeUnit::Nanoseconds][input.len() % 2];
    let (_, start) = LogEncoder::start(NUMBER, &State::empty(STORE, unit));
    let mut bytes = start[..HEADER_BYTES].to_vec();
    for (index, edits) in (0u64..).zip(pieces(input)) {
        if let Ok(edits) = decode_edits(Path::new(FILE), 0, edits) {
            let written = encode_edits(&edits);
            assert_eq!(decode_edits(Path::new(FILE), 0, &written).as_ref().ok(), Some(&edits));
        }
        let mut frame = vec![0; 4];
        frame.extend_from_slice(&u32::try_from(edits.len()).expect("pieces are short").to_le_bytes());
        frame.extend_from_slice(&index.to_le_bytes());
        frame.extend_from_slice(&(bytes.len() as u64 * (index % 2)).to_le_bytes());
        frame.extend_from_slice(edits);
        let crc = frame_checksum(bytes.len(), &frame[4..]);
        overwrite(&mut frame, 0, &crc.to_le_bytes());
        bytes.extend_from_slice(&frame);
    }
    bytes
}

fn frame_checksum(offset: usize, covered: &[u8]) -> u32 {
    checksum_parts(&[&NUMBER.to_le_bytes(), &(offset as u64).to_le_bytes(), covered])
}

fn put_checksums_right(bytes: &mut [u8]) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    let crc = checksum(&bytes[..HEADER_BYTES - 4]);
    overwrite(bytes, HEADER_BYTES - 4, &crc.to_le_bytes());
    let mut at = HEADER_BYTES;
    while let Some(length) = bytes.get(at + 4..).and_then(|rest| rest.first_chunk::<4>()) {
        let end = at + FRAME_HEADER_BYTES + u32::from_le_bytes(*length) as usize;
        let Some(covered) = bytes.get(at + 4..end) else { return };
        let crc = frame_checksum(at, covered);
        overwrite(bytes, at, &crc.to_le_bytes());
        at = end;
    }
}
