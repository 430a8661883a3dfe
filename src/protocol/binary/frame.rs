//! Frames of the native protocol.
//!
//! ```text
//! offset  bytes  field
//!      0      1  magic 0xf7: no RESP type, no letter, no TLS record
//!      1      1  version
//!      2      1  opcode; the top bit is set in responses
//!      3      1  flags: 0b0011 a checksum follows the payload; 0b1100, in responses only, another core than the
//!                connection's did the work; all others are refused
//!      4      4  payload_bytes
//!      8      8  request id
//!     16      n  payload
//!   16+n      4  crc-32 of header and payload, if flagged
//! ```
//! Little-endian. Golden bytes: `tests/golden/frame_*.hex`. Each flag takes two bits so that no single flipped bit
//! turns a checked frame into an unchecked one. The length is compared with the limit before anything waits for
//! the payload, and nothing is allocated for it.

use crate::encoding::{Reader, checksum};
use crate::limits::{FRAME_BYTES_MAX, FRAME_BYTES_MAX_UNAUTHENTICATED};
use std::fmt;
use std::ops::Range;

/// First byte of every frame.
pub const MAGIC: u8 = 0xf7;
/// The version this build speaks.
pub const VERSION: u8 = 1;
/// Bytes before the payload.
pub const HEADER_BYTES: usize = REQUEST_ID.end;
/// Bytes after the payload of a frame with checksum.
pub const CHECKSUM_BYTES: usize = 4;
/// Flags of a frame with checksum.
pub const FLAG_CHECKSUM: u8 = 0b0011;
/// Flags of a response that came by way of another core.
pub const FLAG_FORWARDED: u8 = 0b1100;
/// Set in the opcode of responses.
pub const RESPONSE_BIT: u8 = 0x80;

const PREFIX: Range<usize> = 0..4;
const PAYLOAD_BYTES: Range<usize> = PREFIX.end..PREFIX.end + 4;
const REQUEST_ID: Range<usize> = PAYLOAD_BYTES.end..PAYLOAD_BYTES.end + 8;
const _: () = assert!(HEADER_BYTES == 16, "the picture above");
const _: () = assert!(FRAME_BYTES_MAX <= u32::MAX as usize, "payload_bytes is a u32");

/// What a frame asks for, or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Opcode {
    /// Only in responses, with request id 0: the connection ends, and why.
    Fatal = 0x00,
    /// Answers its payload.
    Ping = 0x01,
    /// Who speaks, and which limits hold.
    Hello = 0x02,
    /// Authenticates.
    Auth = 0x03,
    /// Stores one entry.
    Put = 0x10,
    /// Stores several entries.
    PutBatch = 0x11,
    /// The sample at a time.
    GetAt = 0x12,
    /// The newest sample.
    GetNewest = 0x13,
    /// Deletes a slot, a time range, a series, a prefix, or everything.
    Delete = 0x14,
    /// Streams entries.
    Scan = 0x20,
    /// Allows a scan more chunks. Has no response of its own.
    ScanCredit = 0x21,
    /// Ends a scan. Has no response of its own: the scan's last chunk says that it was cancelled.
    ScanCancel = 0x22,
    /// Counters, by name.
    Stats = 0x30,
    /// Writes all memtables to tables.
    Flush = 0x31,
    /// Flushes and merges everything; answered when done.
    Compact = 0x32,
    /// The routing table: which core has which keys, and its own port.
    Routes = 0x33,
    /// Moves a boundary between two shards; answered when that is over.
    Move = 0x34,
    /// Makes a second store of hard links in the data directory; answered when it is durable.
    Checkpoint = 0x35,
}

impl Opcode {
    const ALL: [Self; 18] = [
        Self::Fatal,
        Self::Ping,
        Self::Hello,
        Self::Auth,
        Self::Put,
        Self::PutBatch,
        Self::GetAt,
        Self::GetNewest,
        Self::Delete,
        Self::Scan,
        Self::ScanCredit,
        Self::ScanCancel,
        Self::Stats,
        Self::Flush,
        Self::Compact,
        Self::Routes,
        Self::Move,
        Self::Checkpoint,
    ];
    /// The opcode of a header byte, without [`RESPONSE_BIT`].
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|opcode| *opcode as u8 == byte)
    }
}

/// What may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Bytes of one payload.
    pub payload_bytes_max: usize,
}

impl FrameLimits {
    /// Limits of a client that has authenticated, or need not.
    #[must_use]
    pub fn authenticated() -> Self {
        Self { payload_bytes_max: FRAME_BYTES_MAX }
    }
    /// Limits of a client that still has to authenticate.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self { payload_bytes_max: FRAME_BYTES_MAX_UNAUTHENTICATED }
    }
}

/// A checked header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// As sent, [`RESPONSE_BIT`] included. Unknown opcodes fail their request, not the connection.
    pub opcode: u8,
    /// Whether the frame carries a checksum; its response should too.
    pub has_checksum: bool,
    /// Of a response: another core than the connection's has the keys. Routes that led here are stale.
    pub is_forwarded: bool,
    /// The client's choice.
    pub request_id: u64,
}

/// What [`decode_frame`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// The frame ends beyond the buffer; nothing can be said before it holds `needed` bytes. A hint from the peer, not
    /// something to allocate at once.
    Incomplete { needed: usize },
    /// The first `consumed` bytes are a frame.
    Frame { header: FrameHeader, payload: &'a [u8], consumed: usize },
}

/// Why bytes are no frame. The connection ends: nobody knows where the next one starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The first byte is not [`MAGIC`].
    Magic { found: u8 },
    /// Another version of the protocol.
    Version { found: u8 },
    /// Flags that this version does not know.
    Flags { found: u8 },
    /// A payload beyond the limit.
    TooLong { payload_bytes: u64, bytes_max: usize },
    /// Header or payload are not what was sent.
    Checksum { expected: u32, found: u32 },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic { found } => write!(f, "frame starts with {found:#04x}, not {MAGIC:#04x}"),
            Self::Version { found } => {
                write!(f, "protocol version {found} is not supported, this server speaks {VERSION}")
            }
            Self::Flags { found } => write!(f, "unknown flags {found:#010b}"),
            Self::TooLong { payload_bytes, bytes_max } => {
                write!(f, "payload of {payload_bytes} bytes exceeds the limit of {bytes_max}")
            }
            Self::Checksum { expected, found } => {
                write!(f, "frame checksum is {found:#010x}, expected {expected:#010x}")
            }
        }
    }
}
impl std::error::Error for FrameError {}

/// Looks for one frame at the start of `buffer`. Keeps nothing between calls: a frame's length stands at its start, so
/// an incomplete one costs O(1) to look at again.
///
/// # Errors
/// When the bytes are no frame of this version, or its payload exceeds the limit.
pub fn decode_frame<'a>(buffer: &'a [u8], limits: &FrameLimits) -> Result<Framed<'a>, FrameError> {
    // The first bytes are judged as they come: a wrong protocol should not wait for sixteen of them.
    match buffer {
        [magic, ..] if *magic != MAGIC => return Err(FrameError::Magic { found: *magic }),
        [_, version, ..] if *version != VERSION => return Err(FrameError::Version { found: *version }),
        [_, _, opcode, flags, ..] if !are_known(*opcode, *flags) => {
            return Err(FrameError::Flags { found: *flags });
        }
        _ => {}
    }
    let incomplete = |needed| Ok(Framed::Incomplete { needed });
    let Some((header, payload_bytes)) = read_header(buffer) else { return incomplete(HEADER_BYTES) };
    let too_long =
        FrameError::TooLong { payload_bytes: u64::from(payload_bytes), bytes_max: limits.payload_bytes_max };
    let payload_bytes = usize::try_from(payload_bytes).map_err(|_| too_long)?;
    if payload_bytes > limits.payload_bytes_max {
        return Err(too_long);
    }
    let payload_end = HEADER_BYTES + payload_bytes;
    let consumed = payload_end + if header.has_checksum { CHECKSUM_BYTES } else { 0 };
    let Some(frame) = buffer.get(..consumed) else { return incomplete(consumed) };
    let (checked, trailer) = frame.split_at(payload_end);
    if header.has_checksum {
        let found = Reader::new(trailer).u32().unwrap_or_default();
        let expected = checksum(checked);
        if expected != found {
            return Err(FrameError::Checksum { expected, found });
        }
    }
    Ok(Framed::Frame { header, payload: checked.get(HEADER_BYTES..).unwrap_or_default(), consumed })
}

/// Whether these are flags of this version, in a frame of this direction.
fn are_known(opcode: u8, flags: u8) -> bool {
    let is_response = opcode & RESPONSE_BIT != 0;
    match flags & !FLAG_CHECKSUM {
        0 | FLAG_FORWARDED if !matches!(flags & FLAG_CHECKSUM, 0 | FLAG_CHECKSUM) => false,
        0 => true,
        FLAG_FORWARDED => is_response,
        _ => false,
    }
}

fn read_header(buffer: &[u8]) -> Option<(FrameHeader, u32)> {
    let mut reader = Reader::new(buffer);
    let (_magic, _version) = (reader.u8().ok()?, reader.u8().ok()?);
    let (opcode, flags) = (reader.u8().ok()?, reader.u8().ok()?);
    let (payload_bytes, request_id) = (reader.u32().ok()?, reader.u64().ok()?);
    let has_checksum = flags & FLAG_CHECKSUM != 0;
    let is_forwarded = flags & FLAG_FORWARDED != 0;
    Some((FrameHeader { opcode, has_checksum, is_forwarded, request_id }, payload_bytes))
}

/// Appends a frame whose payload `put_payload` appends.
///
/// # Panics
/// When the payload exceeds [`FRAME_BYTES_MAX`]: what is sent is bounded by those who send it.
pub fn put_frame(out: &mut Vec<u8>, header: FrameHeader, put_payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let flags = flag(header.has_checksum, FLAG_CHECKSUM) | flag(header.is_forwarded, FLAG_FORWARDED);
    out.extend_from_slice(&[MAGIC, VERSION, header.opcode, flags]);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&header.request_id.to_le_bytes());
    assert_eq!(out.len() - start, HEADER_BYTES);
    put_payload(out);
    let payload_bytes = out.len() - start - HEADER_BYTES;
    assert!(payload_bytes <= FRAME_BYTES_MAX, "a payload of {payload_bytes} bytes");
    let payload_bytes = u32::try_from(payload_bytes).unwrap_or(u32::MAX);
    let place = out.get_mut(start + PAYLOAD_BYTES.start..start + PAYLOAD_BYTES.end);
    place.unwrap_or_default().copy_from_slice(&payload_bytes.to_le_bytes());
    if header.has_checksum {
        let crc = checksum(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());
    }
}
