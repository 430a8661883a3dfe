//! What a manifest still holds frame by frame, damaged or not: for `tskv dump` and `tskv repair`.
//!
//! A frame's checksum covers the manifest's number and the frame's place, so a whole frame behind damage is known for
//! what it is. What the damaged ones said is lost: their edits may be the ones that matter.

use super::edit::{Edit, decode_edits};
use super::error::ManifestError;
use super::log::{
    FRAME_HEADER_BYTES, HEADER_BYTES, ManifestHeader, SEARCH_FACTOR, decode_header, read_fields, read_frame,
};
use crate::encoding::Corruption;
use std::path::Path;

/// The parts of a manifest.
#[derive(Debug)]
pub struct ManifestRemains {
    /// What the header says, or why it says nothing.
    pub header: Result<ManifestHeader, ManifestError>,
    /// Its frames and what lies between them, in order.
    pub frames: Vec<ManifestFrame>,
}

/// A frame, or a stretch of bytes where there is none.
#[derive(Debug)]
pub enum ManifestFrame {
    /// Its checksum is right.
    Whole {
        /// Where it starts.
        offset: u64,
        /// Counted from 0.
        index: u64,
        /// The file was known durable up to there when it was made.
        durable_end: u64,
        /// What it changes; nothing in a mark.
        edits: Vec<Edit>,
    },
    /// No frame: damage, or an append that was cut off.
    Damaged(Corruption),
}

/// Reads all there is of manifest `number`. `file` names it in errors.
#[must_use]
pub fn read_remains(file: &Path, number: u64, bytes: &[u8]) -> ManifestRemains {
    let mut frames = Vec::new();
    let mut offset = HEADER_BYTES;
    while offset < bytes.len() {
        let Ok(frame) = read_frame(number, offset, bytes) else {
            let next = next_frame(number, offset + 1, bytes);
            let found = format!("{} bytes that are none", next - offset);
            frames.push(ManifestFrame::Damaged(Corruption::new(file, offset as u64, "a frame", found)));
            offset = next;
            continue;
        };
        let payload_offset = (offset + FRAME_HEADER_BYTES) as u64;
        frames.push(match decode_edits(file, payload_offset, frame.payload) {
            Ok(edits) => {
                let (index, durable_end) = (frame.index, frame.durable_end);
                ManifestFrame::Whole { offset: offset as u64, index, durable_end, edits }
            }
            Err(error) => ManifestFrame::Damaged(Corruption::new(
                file,
                payload_offset,
                "edits that this build knows",
                error.to_string(),
            )),
        });
        offset = frame.end;
    }
    ManifestRemains { header: decode_header(file, bytes), frames }
}

/// Where the next whole frame starts; the end where there is none, or where bytes look like more frames than a
/// manifest can hold.
fn next_frame(number: u64, from: usize, bytes: &[u8]) -> usize {
    let mut budget = bytes.len().saturating_mul(SEARCH_FACTOR);
    for offset in from..bytes.len().saturating_sub(FRAME_HEADER_BYTES - 1) {
        let Some(fields) = read_fields(offset, bytes) else { continue };
        if fields.durable_end > offset as u64 || fields.index > bytes.len() as u64 {
            continue;
        }
        if read_frame(number, offset, bytes).is_ok() {
            return offset;
        }
        let Some(left) = budget.checked_sub(fields.payload_bytes + FRAME_HEADER_BYTES) else { break };
        budget = left;
    }
    bytes.len()
}
