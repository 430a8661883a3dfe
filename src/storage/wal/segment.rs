//! A segment: one life of a WAL file, and its header page.
//!
//! ```text
//! offset  bytes  field (page 0; the rest of the page is zeros)
//!      0      8  magic "tskvwal\0"
//!      8      2  format version
//!     10      2  stream
//!     12      4  feature flags; unknown ones are refused
//!     16     16  store id
//!     32      8  segment seq, never used again within the store
//!     40      8  salt
//!     48      8  length of the segment in bytes
//!     56      8  previous segment of the stream: seq
//!     64      8  previous segment: end of its seal frame; 0 means that there is none
//!     72      4  previous segment: crc of its seal frame
//!     76      4  crc-32 over bytes 0..76
//! ```
//! Every version keeps magic, seq, salt and crc where they are, so that a recycled file of a newer version is seen for
//! what it is. The header goes out in one write with the first frame, after the previous segment is durable to its
//! end; it lies in one sector. Golden bytes: `tests/golden/wal_segment_v1.hex`.
#![deny(clippy::indexing_slicing)]

use super::frame::FRAME_HEADER_BYTES;
use super::replay::ReplayInput;
use crate::encoding::{Reader, checksum};
use crate::limits::{PAGE_BYTES, WAL_FRAME_BYTES_MAX};
use crate::model::{FileRef, SegmentSeq, StoreId, StreamId};
use std::ops::Range;
use std::path::PathBuf;

/// Format version that this build writes, and the newest that it reads.
pub(super) const VERSION: u16 = 1;
/// Pages that hold no data frame: the header and the seal frame.
pub(super) const PAGES_RESERVED: usize = 2;
/// One part in this many of a segment is kept for deletes while no other segment is ready.
const DELETE_RESERVE: usize = 16;
/// Shortest segment that can be used: a header, a frame, a seal frame.
pub(super) const SEGMENT_PAGES_MIN: usize = PAGES_RESERVED + 1;

const MAGIC_BYTES: [u8; 8] = *b"tskvwal\0";
const MAGIC: Range<usize> = 0..MAGIC_BYTES.len();
const FORMAT: Range<usize> = MAGIC.end..MAGIC.end + 2;
const STREAM: Range<usize> = FORMAT.end..FORMAT.end + 2;
const FEATURES: Range<usize> = STREAM.end..STREAM.end + 4;
const STORE: Range<usize> = FEATURES.end..FEATURES.end + 16;
const SEQ: Range<usize> = STORE.end..STORE.end + 8;
const SALT: Range<usize> = SEQ.end..SEQ.end + 8;
const BYTES: Range<usize> = SALT.end..SALT.end + 8;
const PREVIOUS_SEQ: Range<usize> = BYTES.end..BYTES.end + 8;
const PREVIOUS_END: Range<usize> = PREVIOUS_SEQ.end..PREVIOUS_SEQ.end + 8;
const PREVIOUS_CRC: Range<usize> = PREVIOUS_END.end..PREVIOUS_END.end + 4;
const CRC: Range<usize> = PREVIOUS_CRC.end..PREVIOUS_CRC.end + 4;
/// Bytes of page 0 that are used.
pub(super) const SEGMENT_HEADER_BYTES: usize = CRC.end;
const _: () = assert!(SEGMENT_HEADER_BYTES == 80);
const _: () = assert!(SEGMENT_HEADER_BYTES <= 512, "the header lies in one sector");

/// A pre-written file that is ready to become a stream's next segment. Its name, salt and length are in the manifest.
#[derive(Clone, Debug)]
pub struct SegmentSpec {
    /// Number of this life; segments of one stream are used in ascending order.
    pub seq: SegmentSeq,
    /// Random number of this life.
    pub salt: u64,
    /// Length of the file, a multiple of [`PAGE_BYTES`].
    pub bytes: u64,
    /// The file.
    pub file: FileRef,
    /// Whether O_DIRECT is in force. The bytes written are the same.
    pub direct: bool,
}

impl SegmentSpec {
    /// Length in pages.
    pub(super) fn pages(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX) / PAGE_BYTES
    }
}

/// Page at which data frames must end, so that the seal frame, and as asked the part kept for deletes, still fit.
pub(super) fn data_pages_end(segment_pages: usize, keep_for_deletes: bool) -> usize {
    let kept = if keep_for_deletes { segment_pages / DELETE_RESERVE } else { 0 };
    segment_pages.saturating_sub(1 + kept)
}

/// Largest [`record_bytes`](super::record_bytes) sum of one record or batch that a segment of `segment_bytes` takes
/// when it is empty, with the part kept for deletes left alone. Larger ones are refused for good: check it against
/// `--max-value-bytes` when the configuration is read, and against each request.
#[must_use]
pub fn record_bytes_max(segment_bytes: u64) -> usize {
    let pages = usize::try_from(segment_bytes).unwrap_or(usize::MAX) / PAGE_BYTES;
    let data_pages = data_pages_end(pages, true).saturating_sub(1);
    (data_pages * PAGE_BYTES).min(WAL_FRAME_BYTES_MAX).saturating_sub(FRAME_HEADER_BYTES)
}

/// Where the segment before ended: what links the segments of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreviousSegment {
    /// Its number.
    pub seq: SegmentSeq,
    /// Bytes up to the end of its seal frame.
    pub end: u64,
    /// Checksum of its seal frame.
    pub crc: u32,
}

/// Page 0 of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Store that the segment belongs to.
    pub store: StoreId,
    /// Stream that the segment belongs to.
    pub stream: StreamId,
    /// Number of this life.
    pub seq: SegmentSeq,
    /// Random number of this life.
    pub salt: u64,
    /// Length of the segment.
    pub bytes: u64,
    /// The segment before; none for the first after a start.
    pub previous: Option<PreviousSegment>,
}

/// A header page as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderPage {
    /// What it says; only `seq` and `salt` mean something where the version is not supported.
    pub header: SegmentHeader,
    /// Format version.
    pub version: u16,
    /// Feature flags; none are known to this build.
    pub features: u32,
    /// Its checksum.
    pub crc: u32,
}

impl SegmentHeader {
    /// What the manifest would say of the segment: for reading a file by itself.
    #[must_use]
    pub fn replay_input(&self, file: PathBuf) -> ReplayInput {
        ReplayInput { seq: self.seq, stream: self.stream, salt: self.salt, bytes: self.bytes, file }
    }
    /// The stored form, and its checksum.
    pub(super) fn encode(&self) -> ([u8; SEGMENT_HEADER_BYTES], u32) {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        let mut put = |at: Range<usize>, bytes: &[u8]| {
            if let Some(field) = out.get_mut(at) {
                field.copy_from_slice(bytes);
            }
        };
        put(MAGIC, &MAGIC_BYTES);
        put(FORMAT, &VERSION.to_le_bytes());
        put(STREAM, &self.stream.0.to_le_bytes());
        put(STORE, &self.store.0);
        put(SEQ, &self.seq.0.to_le_bytes());
        put(SALT, &self.salt.to_le_bytes());
        put(BYTES, &self.bytes.to_le_bytes());
        if let Some(previous) = self.previous {
            assert!(previous.end > 0, "a segment has a header page");
            put(PREVIOUS_SEQ, &previous.seq.0.to_le_bytes());
            put(PREVIOUS_END, &previous.end.to_le_bytes());
            put(PREVIOUS_CRC, &previous.crc.to_le_bytes());
        }
        let crc = checksum(out.get(..CRC.start).unwrap_or_default());
        if let Some(field) = out.get_mut(CRC) {
            field.copy_from_slice(&crc.to_le_bytes());
        }
        (out, crc)
    }
    /// Reads page 0 of a file. `None` when it is no intact header page.
    #[must_use]
    pub fn decode(page: &[u8]) -> Option<HeaderPage> {
        let bytes = page.get(..SEGMENT_HEADER_BYTES)?;
        let mut reader = Reader::new(bytes);
        let magic = reader.take(MAGIC.len()).ok()?;
        let version = reader.u16().ok()?;
        let stream = StreamId(reader.u16().ok()?);
        let features = reader.u32().ok()?;
        let mut store = StoreId::default();
        store.0.copy_from_slice(reader.take(STORE.len()).ok()?);
        let seq = SegmentSeq(reader.u64().ok()?);
        let salt = reader.u64().ok()?;
        let segment_bytes = reader.u64().ok()?;
        let previous = PreviousSegment {
            seq: SegmentSeq(reader.u64().ok()?),
            end: reader.u64().ok()?,
            crc: reader.u32().ok()?,
        };
        let crc = reader.u32().ok()?;
        let intact = magic == MAGIC_BYTES && checksum(bytes.get(..CRC.start)?) == crc;
        let previous = (previous.end > 0).then_some(previous);
        let header = Self { store, stream, seq, salt, bytes: segment_bytes, previous };
        intact.then_some(HeaderPage { header, version, features, crc })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{VALUE_BYTES_CEILING, WAL_SEGMENT_BYTES_MAX, WAL_SEGMENT_BYTES_MIN};

    fn header(previous: Option<PreviousSegment>) -> SegmentHeader {
        let store = StoreId(*b"0123456789abcdef");
        SegmentHeader { store, stream: StreamId(5), seq: SegmentSeq(9), salt: 11, bytes: 1 << 20, previous }
    }

    #[test]
    fn headers_come_back_and_every_flipped_bit_is_seen() {
        // A header that reads as another one joins the wrong segments, or hides a missing one.
        let previous = PreviousSegment { seq: SegmentSeq(8), end: 40_960, crc: 0xdead_beef };
        for header in [header(None), header(Some(previous))] {
            let (bytes, crc) = header.encode();
            let page = HeaderPage { header, version: VERSION, features: 0, crc };
            assert_eq!(SegmentHeader::decode(&bytes), Some(page));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes;
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(SegmentHeader::decode(&flipped), None, "bit {bit}");
            }
            (0..bytes.len()).for_each(|cut| assert_eq!(SegmentHeader::decode(&bytes[..cut]), None));
        }
    }

    #[test]
    fn the_largest_record_follows_from_the_segment() {
        // Too large a bound admits nothing for ever; too small a one refuses values that fit.
        assert_eq!(record_bytes_max(WAL_SEGMENT_BYTES_MIN), (256 - 1 - 1 - 16) * 4096 - 64);
        assert!(record_bytes_max(WAL_SEGMENT_BYTES_MAX) > VALUE_BYTES_CEILING);
        assert_eq!(record_bytes_max(0), 0);
    }
}
