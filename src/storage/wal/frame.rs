//! A frame: one group commit, whole or absent after a crash.
//!
//! ```text
//! offset  bytes  field
//!      0      4  crc-32 over bytes 4..64
//!      4      4  crc-32 over the payload
//!      8      4  payload_bytes
//!     12      4  records in the payload
//!     16      8  segment seq
//!     24      8  salt of the segment
//!     32      4  page: the frame's place in the segment
//!     36      4  previous: the crc at offset 0 of the frame before, of the segment header for the first
//!     40      8  durable_off: bytes of this segment that were known durable when the frame was made
//!     48      8  base seqno: that of the first record
//!     56      2  kind: 1 data, 2 seal (no payload; nothing follows in the segment)
//!     58      2  stream
//!     60      4  zero
//!     64      n  payload: records, then zeros up to the next page
//! ```
//! The header has a checksum of its own, which covers the payload's: what a frame says of earlier ones
//! (`durable_off`) can be trusted even where its payload is torn, and looking for later frames costs one page each.
//! The header lies in one sector, so it is there or not.
//!
//! Invariants: a page is written once in a segment's life; `durable_off` is at most the frame's own offset.
//! Golden bytes: `tests/golden/wal_segment_v1.hex`.
#![deny(clippy::indexing_slicing)]

use crate::encoding::{Reader, checksum};
use crate::limits::{PAGE_BYTES, WAL_FRAME_BYTES_MAX};
use crate::model::{SegmentSeq, Seqno, StreamId};
use crate::teeth::{Bug, planted};
use std::ops::Range;

const CRC: Range<usize> = 0..4;
const PAYLOAD_CRC: Range<usize> = CRC.end..CRC.end + 4;
const PAYLOAD_BYTES: Range<usize> = PAYLOAD_CRC.end..PAYLOAD_CRC.end + 4;
const RECORDS: Range<usize> = PAYLOAD_BYTES.end..PAYLOAD_BYTES.end + 4;
const SEGMENT: Range<usize> = RECORDS.end..RECORDS.end + 8;
const SALT: Range<usize> = SEGMENT.end..SEGMENT.end + 8;
const PAGE: Range<usize> = SALT.end..SALT.end + 4;
const PREVIOUS: Range<usize> = PAGE.end..PAGE.end + 4;
const DURABLE_OFF: Range<usize> = PREVIOUS.end..PREVIOUS.end + 8;
const BASE_SEQNO: Range<usize> = DURABLE_OFF.end..DURABLE_OFF.end + 8;
const KIND: Range<usize> = BASE_SEQNO.end..BASE_SEQNO.end + 2;
const STREAM: Range<usize> = KIND.end..KIND.end + 2;
const ZERO: Range<usize> = STREAM.end..STREAM.end + 4;
/// Bytes before the payload.
pub(super) const FRAME_HEADER_BYTES: usize = ZERO.end;
const _: () = assert!(FRAME_HEADER_BYTES == 64);
const _: () = assert!(FRAME_HEADER_BYTES <= 512, "the header lies in one sector");

/// Pages that a frame with this payload fills.
pub(super) fn frame_pages(payload_bytes: usize) -> usize {
    (FRAME_HEADER_BYTES + payload_bytes).div_ceil(PAGE_BYTES)
}

/// Which life of which file a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) seq: SegmentSeq,
    pub(super) salt: u64,
    pub(super) stream: StreamId,
}

impl Life {
    /// What the frame carries of it.
    fn identity(self) -> (u64, u64) {
        if planted(Bug::CrcWithoutSegmentId) { (0, 0) } else { (self.seq.0, self.salt) }
    }
}

/// What a frame is for. The discriminant is what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum FrameKind {
    /// Holds records.
    Data = 1,
    /// Closes the segment.
    Seal = 2,
}

/// What stands before a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) kind: FrameKind,
    pub(super) payload_crc: u32,
    pub(super) payload_bytes: u32,
    pub(super) records: u32,
    pub(super) page: u32,
    pub(super) previous_crc: u32,
    pub(super) durable_off: u64,
    pub(super) base_seqno: Seqno,
}

impl FrameHeader {
    /// The stored form, and its checksum.
    pub(super) fn encode(&self, life: Life) -> ([u8; FRAME_HEADER_BYTES], u32) {
        let (seq, salt) = life.identity();
        let mut out = [0; FRAME_HEADER_BYTES];
        let mut put = |at: Range<usize>, bytes: &[u8]| {
            if let Some(field) = out.get_mut(at) {
                field.copy_from_slice(bytes);
            }
        };
        put(PAYLOAD_CRC, &self.payload_crc.to_le_bytes());
        put(PAYLOAD_BYTES, &self.payload_bytes.to_le_bytes());
        put(RECORDS, &self.records.to_le_bytes());
        put(SEGMENT, &seq.to_le_bytes());
        put(SALT, &salt.to_le_bytes());
        put(PAGE, &self.page.to_le_bytes());
        put(PREVIOUS, &self.previous_crc.to_le_bytes());
        put(DURABLE_OFF, &self.durable_off.to_le_bytes());
        put(BASE_SEQNO, &self.base_seqno.0.to_le_bytes());
        put(KIND, &(self.kind as u16).to_le_bytes());
        put(STREAM, &life.stream.0.to_le_bytes());
        let crc = checksum(out.get(CRC.end..).unwrap_or_default());
        if let Some(field) = out.get_mut(CRC) {
            field.copy_from_slice(&crc.to_le_bytes());
        }
        (out, crc)
    }
    /// Reads a frame header that stands at `page` of this segment life, and its checksum. `None` for anything else:
    /// zeros, a former life of the file, a write that went astray, torn or rotten bytes.
    pub(super) fn decode(bytes: &[u8], life: Life, page: u32) -> Option<(Self, u32)> {
        let bytes = bytes.get(..FRAME_HEADER_BYTES)?;
        let mut reader = Reader::new(bytes);
        let crc = reader.u32().ok()?;
        let header = Self {
            payload_crc: reader.u32().ok()?,
            payload_bytes: reader.u32().ok()?,
            records: reader.u32().ok()?,
            // The cheap comparisons come before the checksum: looking ahead meets mostly other lives and zeros.
            page: {
                let identity = (reader.u64().ok()?, reader.u64().ok()?);
                if identity != life.identity() {
                    return None;
                }
                reader.u32().ok()?
            },
            previous_crc: reader.u32().ok()?,
            durable_off: reader.u64().ok()?,
            base_seqno: Seqno(reader.u64().ok()?),
            kind: match reader.u16().ok()? {
                1 => FrameKind::Data,
                2 => FrameKind::Seal,
                _ => return None,
            },
        };
        let stream = reader.u16().ok()?;
        let zero = reader.u32().ok()?;
        let belongs = header.page == page && stream == life.stream.0 && zero == 0;
        let bounded = header.payload_bytes as usize <= WAL_FRAME_BYTES_MAX - FRAME_HEADER_BYTES;
        let empty_if_seal =
            header.kind == FrameKind::Data || (header.payload_bytes, header.records) == (0, 0);
        let intact = checksum(bytes.get(CRC.end..)?) == crc;
        (belongs && bounded && empty_if_seal && intact).then_some((header, crc))
    }
    /// The life that the frame header at `page` says it belongs to, where it is one.
    pub(super) fn life(bytes: &[u8], page: u32) -> Option<Life> {
        let mut reader = Reader::new(bytes.get(SEGMENT.start..FRAME_HEADER_BYTES)?);
        let (seq, salt) = (SegmentSeq(reader.u64().ok()?), reader.u64().ok()?);
        let mut reader = Reader::new(bytes.get(STREAM)?);
        let life = Life { seq, salt, stream: StreamId(reader.u16().ok()?) };
        Self::decode(bytes, life, page).map(|_| life)
    }
    /// Whether what stands here was meant for this life and is no frame of it at this place: rotten, torn, or a write
    /// that went astray. Damage that hits both parts of the identity at once is not seen.
    pub(super) fn leaves_a_trace(bytes: &[u8], life: Life) -> bool {
        let (seq, salt) = life.identity();
        let field = |at: Range<usize>| bytes.get(at).and_then(|field| Reader::new(field).u64().ok());
        let is_ours = |found: Option<u64>, ours: u64| ours != 0 && found == Some(ours);
        is_ours(field(SEGMENT), seq) || is_ours(field(SALT), salt)
    }
    /// Offset of the frame in its segment.
    pub(super) fn offset(&self) -> u64 {
        u64::from(self.page) * PAGE_BYTES as u64
    }
    /// First byte after the frame's pages.
    pub(super) fn end(&self) -> u64 {
        self.offset() + (frame_pages(self.payload_bytes as usize) * PAGE_BYTES) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Life = Life { seq: SegmentSeq(7), salt: 0x1234_5678_9abc_def0, stream: StreamId(3) };

    fn header() -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Data,
            payload_crc: 1,
            payload_bytes: 5000,
            records: 3,
            page: 2,
            previous_crc: 9,
            durable_off: 8192,
            base_seqno: Seqno(77),
        }
    }

    #[test]
    fn a_frame_is_read_only_where_and_when_it_was_written() {
        // Each of these differences is a frame of a former life, of another stream, or a write that went astray.
        let (bytes, crc) = header().encode(LIFE);
        assert_eq!(FrameHeader::decode(&bytes, LIFE, 2), Some((header(), crc)));
        assert_eq!(header().end(), 4 * 4096);
        for life in [
            Life { seq: SegmentSeq(8), ..LIFE },
            Life { salt: LIFE.salt ^ 1, ..LIFE },
            Life { stream: StreamId(4), ..LIFE },
        ] {
            assert_eq!(FrameHeader::decode(&bytes, life, 2), None);
        }
        assert_eq!(FrameHeader::decode(&bytes, LIFE, 3), None);
    }

    #[test]
    fn every_bit_of_the_header_is_covered() {
        // A field outside the checksum could say that torn bytes are sound.
        let (bytes, _) = header().encode(LIFE);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::decode(&flipped, LIFE, 2), None, "bit {bit}");
        }
        (0..bytes.len()).for_each(|cut| assert_eq!(FrameHeader::decode(&bytes[..cut], LIFE, 2), None));
        assert_eq!(FrameHeader::decode(&[0; 4096], LIFE, 0), None);
    }

    #[test]
    fn rotten_and_misplaced_headers_leave_a_trace() {
        // The last frame of a log has no witness: when it rots, this is what tells that there was one.
        let (bytes, _) = header().encode(LIFE);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameHeader::leaves_a_trace(&flipped, LIFE), "bit {bit}");
        }
        let former = Life { seq: SegmentSeq(6), salt: LIFE.salt ^ 1, ..LIFE };
        assert!(!FrameHeader::leaves_a_trace(&bytes, former));
        let unnumbered = Life { seq: SegmentSeq(0), salt: 0, ..LIFE };
        assert!(!FrameHeader::leaves_a_trace(&[0; 4096], unnumbered));
    }
}
