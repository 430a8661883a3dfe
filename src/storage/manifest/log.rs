//! The manifest file: a header, then frames.
//!
//! ```text
//! header                                      frame
//! offset  bytes  field                        offset  bytes  field
//!      0      8  magic "tskvMFST"                  0      4  crc-32, see below
//!      8      2  format version                    4      4  payload bytes
//!     10      1  time unit                         8      8  frame index, from 0
//!     11      1  zero                             16      8  durable_end
//!     12      4  feature flags                    24      n  payload: edits (`edit.rs`)
//!     16     16  store id
//!     32      8  manifest number
//!     40      4  zero
//!     44      4  crc-32 over bytes 0..44
//! ```
//! Little-endian. A frame's crc covers the manifest number, the frame's offset in the file, bytes 4..24 and the
//! payload, so that a frame of another manifest or of another place is rejected. `durable_end`: the file was known
//! durable up to there when the frame was made. Frame 0 is the snapshot.

use super::edit::{Edit, decode_edits, encode_edits};
use super::error::ManifestError;
use super::state::State;
use crate::encoding::{Corruption, Reader, checksum, checksum_parts};
use crate::model::{StoreId, TimeUnit};
use std::path::Path;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 48;
/// Bytes of a frame before its payload.
pub const FRAME_HEADER_BYTES: usize = 24;
/// The format version this build writes, and the newest it reads.
pub const MANIFEST_VERSION: u16 = 1;
/// Longest manifest that is read. A state of a million tables fits.
pub const MANIFEST_BYTES_MAX: u64 = 256 << 20;

const MAGIC: &[u8; 8] = b"tskvMFST";
const HEADER_CRC_OFFSET: usize = MAGIC.len() + 2 + 2 + 4 + 16 + 8 + 4;
const FRAME_CRC_BYTES: usize = 4;
/// How many times over the bytes after a bad frame may be checksummed in search of a later frame.
pub(super) const SEARCH_FACTOR: usize = 8;
const _: () = assert!(HEADER_CRC_OFFSET + 4 == HEADER_BYTES);
const _: () = assert!(FRAME_CRC_BYTES + 4 + 8 + 8 == FRAME_HEADER_BYTES);

/// Makes the bytes of one manifest, in order. Pure: the caller writes and syncs them, and says what became durable.
#[derive(Clone, Debug)]
pub struct LogEncoder {
    number: u64,
    frame_index: u64,
    end: u64,
    durable_end: u64,
}

impl LogEncoder {
    /// Starts manifest `number` with a snapshot of `state`; the bytes are the whole file so far.
    #[must_use]
    pub fn start(number: u64, state: &State) -> (Self, Vec<u8>) {
        let mut bytes = encode_header(number, state.store, state.unit);
        let mut encoder = Self { number, frame_index: 0, end: HEADER_BYTES as u64, durable_end: 0 };
        bytes.extend_from_slice(&encoder.frame(&state.snapshot()));
        (encoder, bytes)
    }
    /// The manifest's number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
    /// Where the next frame goes.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }
    /// The bytes of a frame with these edits; they belong at the [`LogEncoder::end`] of before the call.
    ///
    /// # Panics
    /// When the frame would exceed 4 GiB.
    #[must_use]
    pub fn frame(&mut self, edits: &[Edit]) -> Vec<u8> {
        let payload = encode_edits(edits);
        let payload_bytes = u32::try_from(payload.len()).expect("a frame of edits is far below 4 GiB");
        let mut bytes = vec![0; FRAME_CRC_BYTES];
        bytes.extend_from_slice(&payload_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.frame_index.to_le_bytes());
        bytes.extend_from_slice(&self.durable_end.to_le_bytes());
        bytes.extend_from_slice(&payload);
        let crc = frame_checksum(self.number, self.end, bytes.get(FRAME_CRC_BYTES..).unwrap_or_default());
        bytes.splice(..FRAME_CRC_BYTES, crc.to_le_bytes());
        self.frame_index += 1;
        self.end += bytes.len() as u64;
        bytes
    }
    /// Records that everything made so far is durable, and returns the mark that says so. The mark itself needs no
    /// sync: it may be lost, and then says nothing.
    #[must_use]
    pub fn mark_durable(&mut self) -> Vec<u8> {
        self.durable_end = self.end;
        self.frame(&[])
    }
}

/// What a manifest holds.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The state after its last whole frame.
    pub state: State,
    /// Whole frames, marks included.
    pub frames: u64,
    /// Where the last whole frame ends.
    pub end: u64,
    /// Bytes behind that, of an append that was never acknowledged.
    pub torn_bytes: u64,
}

/// Reads a manifest. `file` is for error texts; `number` and `store` are what `CURRENT` says.
///
/// # Errors
/// When durable bytes are damaged, or the file is of another store or a newer format.
pub fn replay(file: &Path, number: u64, store: StoreId, bytes: &[u8]) -> Result<Replayed, ManifestError> {
    let header = decode_header(file, bytes)?;
    if header.store != store {
        let found = header.store;
        return Err(ManifestError::OtherStore { file: file.to_owned(), expected: store, found });
    }
    if header.number != number {
        let expected = format!("manifest number {number:016x}");
        return Err(Corruption::new(file, 32, expected, format!("{:016x}", header.number)).into());
    }
    let mut state = State::empty(store, header.unit);
    let (mut offset, mut index) = (HEADER_BYTES, 0);
    while let Ok(frame) = read_frame(number, offset, bytes) {
        if frame.index != index {
            break;
        }
        let payload_offset = (offset + FRAME_HEADER_BYTES) as u64;
        for edit in decode_edits(file, payload_offset, frame.payload)? {
            state.apply(edit).map_err(|error| {
                Corruption::new(file, offset as u64, "an edit that fits", error.to_string())
            })?;
        }
        offset = frame.end;
        index += 1;
    }
    check_end(file, number, offset, index, bytes)?;
    let (end, torn_bytes) = (offset as u64, bytes.len().saturating_sub(offset) as u64);
    Ok(Replayed { state, frames: index, end, torn_bytes })
}

pub(super) struct Frame<'a> {
    pub(super) index: u64,
    pub(super) durable_end: u64,
    pub(super) payload: &'a [u8],
    pub(super) end: usize,
}

pub(super) struct FrameFields {
    crc: u32,
    pub(super) payload_bytes: usize,
    pub(super) index: u64,
    pub(super) durable_end: u64,
}

fn encode_header(number: u64, store: StoreId, unit: TimeUnit) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&MANIFEST_VERSION.to_le_bytes());
    out.extend_from_slice(&[unit as u8, 0]);
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&store.0);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes());
    assert_eq!(out.len(), HEADER_CRC_OFFSET);
    let crc = checksum(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// What a manifest's header says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestHeader {
    /// The store that it belongs to.
    pub store: StoreId,
    /// Its number.
    pub number: u64,
    /// The store's time unit.
    pub unit: TimeUnit,
}

pub(super) fn decode_header(file: &Path, bytes: &[u8]) -> Result<ManifestHeader, ManifestError> {
    let truncated = |_| {
        let found = format!("{} bytes in all", bytes.len());
        Corruption::new(file, 0, format!("a header of {HEADER_BYTES} bytes"), found)
    };
    let mut reader = Reader::new(bytes);
    if reader.take(MAGIC.len()).map_err(truncated)? != MAGIC {
        return Err(Corruption::new(file, 0, "magic tskvMFST", "other bytes").into());
    }
    let version = reader.u16().map_err(truncated)?;
    if version != MANIFEST_VERSION {
        let file = file.to_owned();
        return Err(ManifestError::VersionUnsupported {
            file,
            found: version,
            supported_max: MANIFEST_VERSION,
        });
    }
    let unit_byte = reader.u8().map_err(truncated)?;
    reader.u8().map_err(truncated)?;
    let flags = reader.u32().map_err(truncated)?;
    if flags != 0 {
        return Err(ManifestError::FeaturesUnsupported { file: file.to_owned(), unknown: flags });
    }
    let mut store = StoreId::default();
    store.0.copy_from_slice(reader.take(size_of::<StoreId>()).map_err(truncated)?);
    let number = reader.u64().map_err(truncated)?;
    reader.u32().map_err(truncated)?;
    let stored = reader.u32().map_err(truncated)?;
    let computed = checksum(bytes.get(..HEADER_CRC_OFFSET).unwrap_or_default());
    if stored != computed {
        return Err(Corruption::checksum(file, HEADER_CRC_OFFSET as u64, computed, stored).into());
    }
    let unit = TimeUnit::from_byte(unit_byte)
        .ok_or_else(|| Corruption::new(file, 10, "a time unit", unit_byte.to_string()))?;
    Ok(ManifestHeader { store, number, unit })
}

fn frame_checksum(number: u64, offset: u64, covered: &[u8]) -> u32 {
    checksum_parts(&[&number.to_le_bytes(), &offset.to_le_bytes(), covered])
}

pub(super) fn read_fields(offset: usize, bytes: &[u8]) -> Option<FrameFields> {
    let mut reader = Reader::new(bytes.get(offset..)?);
    let crc = reader.u32().ok()?;
    let payload_bytes = usize::try_from(reader.u32().ok()?).ok()?;
    let (index, durable_end) = (reader.u64().ok()?, reader.u64().ok()?);
    (payload_bytes <= reader.left()).then_some(FrameFields { crc, payload_bytes, index, durable_end })
}

pub(super) fn read_frame(number: u64, offset: usize, bytes: &[u8]) -> Result<Frame<'_>, String> {
    let fields = read_fields(offset, bytes).ok_or("a frame cut off")?;
    let end = offset + FRAME_HEADER_BYTES + fields.payload_bytes;
    let covered = bytes.get(offset + FRAME_CRC_BYTES..end).unwrap_or_default();
    let computed = frame_checksum(number, offset as u64, covered);
    if computed != fields.crc {
        return Err(format!("crc {:#010x} where the bytes give {computed:#010x}", fields.crc));
    }
    let payload = bytes.get(offset + FRAME_HEADER_BYTES..end).unwrap_or_default();
    Ok(Frame { index: fields.index, durable_end: fields.durable_end, payload, end })
}

/// Decides whether the bytes after the last whole frame are a torn end or damage.
fn check_end(file: &Path, number: u64, end: usize, index: u64, bytes: &[u8]) -> Result<(), ManifestError> {
    if end == bytes.len() && index > 0 {
        return Ok(());
    }
    let found =
        read_frame(number, end, bytes).map_or_else(|found| found, |frame| format!("frame {}", frame.index));
    let damage = || Corruption::new(file, end as u64, format!("frame {index}"), found.clone());
    // CURRENT names a manifest only after its snapshot is durable.
    if index == 0 || called_durable_later(number, end, index, bytes) {
        return Err(damage().into());
    }
    Ok(())
}

/// Whether a whole frame somewhere behind `bad` says that the file was durable beyond it. Gives up, on the safe side,
/// when bytes look like more frames than a manifest can hold.
fn called_durable_later(number: u64, bad: usize, index: u64, bytes: &[u8]) -> bool {
    let mut budget = bytes.len().saturating_mul(SEARCH_FACTOR);
    for offset in bad..bytes.len().saturating_sub(FRAME_HEADER_BYTES - 1) {
        let Some(fields) = read_fields(offset, bytes) else { continue };
        let plausible = fields.index >= index
            && fields.index - index <= bytes.len() as u64
            && fields.durable_end > bad as u64
            && fields.durable_end <= offset as u64;
        if !plausible {
            continue;
        }
        if read_frame(number, offset, bytes).is_ok() {
            return true;
        }
        let Some(left) = budget.checked_sub(fields.payload_bytes + FRAME_HEADER_BYTES) else { return true };
        budget = left;
    }
    false
}
