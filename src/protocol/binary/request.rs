//! Requests of the native protocol: opcode and payload to what is asked, and back.
//!
//! ```text
//! PING        the payload comes back
//! HELLO       client name (bytes)
//! AUTH        user name (bytes), password (bytes)
//! PUT         series (bytes), slot, value
//! PUT_BATCH   count varint, count times series, slot, value
//! GET_AT      series, time i64
//! GET_NEWEST  series
//! DELETE      scope u8: 1 series, slot | 2 series, from i64, to i64 | 3 series | 4 prefix | 5
//! SCAN        start (bytes), has_end u8, [end (bytes)], from i64, to i64, flags u8 (1 all slots, 2 reverse, 4 newest of
//!             each series, 8 buckets; 1, 4 and 8 exclude each other), for 8: aggregator u8 (model::Aggregator), width
//!             i64 above 0, align i64; limit varint (0: none), credit varint (chunks that may be sent before the next
//!             SCAN_CREDIT)
//! SCAN_CREDIT chunks varint       SCAN_CANCEL, STATS, FLUSH, COMPACT, ROUTES  nothing
//! ```
//! The pieces are in `wire`. Numbers are compared with the limits before anything is allocated for them.

use super::frame::{FrameHeader, Opcode, put_frame};
use super::wire::{end, flag, key_bound, put_bytes, put_slot, put_value, series, slot, value};
use crate::encoding::{ReadError, Reader, put_varint};
use crate::limits::{BATCH_ENTRIES_MAX, CORES_MAX, SCAN_CREDIT_MAX, VALUE_BYTES_DEFAULT};
use crate::model::{
    Aggregator, BucketGrid, CheckpointName, Command, DeleteScope, KeyError, KeyRange, ScanAnswer,
    ScanRequest, StoredEntry,
};
use std::fmt;

/// Longest payload of PING, and longest client name, user name and password.
const SHORT_BYTES_MAX: usize = 1024;
/// Shortest entry of a batch: a series of one byte, a slot class, a value of no bytes.
const ENTRY_BYTES_MIN: usize = 2 + 1 + 2;
/// Flags of SCAN.
const SCAN_ALL_SLOTS: u8 = 1;
const SCAN_REVERSE: u8 = 2;
const SCAN_NEWEST: u8 = 4;
const SCAN_BUCKETS: u8 = 8;

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub enum Request<'a> {
    /// Answered with [`super::Response::Pong`].
    Ping { payload: &'a [u8] },
    /// Answered with [`super::Response::Hello`].
    Hello { client: &'a [u8] },
    /// Answered with [`super::Response::Done`] or [`super::Status::Denied`].
    Auth { username: &'a [u8], password: &'a [u8] },
    /// PUT, PUT batch, GET, DELETE. A batch may name series of several shards; the server splits it.
    Data(Command<'a>),
    /// Streams [`super::Response::ScanChunk`]s: `credit` of them before the first SCAN_CREDIT.
    Scan { request: ScanRequest, credit: u32 },
    /// Allows the scan with this request id `credit` more chunks.
    ScanCredit { credit: u32 },
    /// Ends the scan with this request id.
    ScanCancel,
    /// Answered with [`super::Response::Stats`].
    Stats,
    /// Answered with [`super::Response::Done`] when all memtables are tables.
    Flush,
    /// Answered with [`super::Response::Done`] when everything is flushed and merged.
    Compact,
    /// Reserved; refused.
    Routes,
    /// Moves the boundary between shard `boundary` and the next one to `key`. Answered with [`super::Response::Done`]
    /// when it lies there, or [`super::Status::Failed`] when nothing has moved.
    Move { boundary: u32, key: &'a [u8] },
    /// Answered with [`super::Response::Done`] when the checkpoint is durable.
    Checkpoint { name: CheckpointName },
}

/// What values may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// `--max-value-bytes`.
    pub value_bytes_max: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { value_bytes_max: VALUE_BYTES_DEFAULT }
    }
}

/// Why a payload is not what its opcode calls for. The request fails; the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadError {
    /// Cut off, or a length beyond the payload.
    Read(ReadError),
    /// A key that no series can have.
    Key(KeyError),
    /// A field whose value has no meaning.
    Field { what: &'static str, found: u8 },
    /// More than is allowed.
    Limit { what: &'static str, max: usize },
    /// Bytes behind the last field.
    Trailing { bytes: usize },
    /// A batch without entries.
    BatchEmpty,
    /// Buckets of no width.
    BucketEmpty,
    /// No request has this opcode.
    Opcode { found: u8 },
    /// Text that is not UTF-8.
    Text { what: &'static str },
    /// Routes that do not begin with the first key, or do not ascend.
    Routes,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "malformed payload: {error}"),
            Self::Key(error) => error.fmt(f),
            Self::Field { what, found } => write!(f, "{what} {found} is not known"),
            Self::Limit { what, max } => write!(f, "{what}: more than {max}"),
            Self::Trailing { bytes } => write!(f, "malformed payload: {bytes} bytes too many"),
            Self::BatchEmpty => f.write_str("a batch needs an entry"),
            Self::BucketEmpty => f.write_str("a bucket needs a width above 0"),
            Self::Opcode { found } => write!(f, "opcode {found:#04x} is not known"),
            Self::Text { what } => write!(f, "{what} is not UTF-8"),
            Self::Routes => f.write_str("the routes do not ascend from the first key"),
        }
    }
}
impl std::error::Error for PayloadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Key(error) => Some(error),
            _ => None,
        }
    }
}
impl From<ReadError> for PayloadError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Reads a request.
///
/// # Errors
/// When the opcode is unknown or the payload is not what it calls for.
pub fn decode_request<'a>(
    header: &FrameHeader,
    payload: &'a [u8],
    limits: &RequestLimits,
) -> Result<Request<'a>, PayloadError> {
    let unknown = PayloadError::Opcode { found: header.opcode };
    let mut reader = Reader::new(payload);
    let request = match Opcode::from_byte(header.opcode).ok_or(unknown)? {
        Opcode::Fatal => return Err(unknown),
        Opcode::Ping => Request::Ping { payload: short(reader.take(payload.len())?)? },
        Opcode::Hello => Request::Hello { client: short(reader.prefixed()?)? },
        Opcode::Auth => {
            Request::Auth { username: short(reader.prefixed()?)?, password: short(reader.prefixed()?)? }
        }
        Opcode::Put => {
            let StoredEntry { series, slot, value } = entry(&mut reader, limits)?;
            Request::Data(Command::Put { series, slot, value })
        }
        Opcode::PutBatch => Request::Data(batch(&mut reader, limits)?),
        Opcode::GetAt => Request::Data(Command::GetAt { series: series(&mut reader)?, time: reader.i64()? }),
        Opcode::GetNewest => Request::Data(Command::GetNewest { series: series(&mut reader)? }),
        Opcode::Delete => Request::Data(delete(&mut reader)?),
        Opcode::Scan => scan(&mut reader)?,
        Opcode::ScanCredit => Request::ScanCredit { credit: credit(&mut reader)? },
        Opcode::ScanCancel => Request::ScanCancel,
        Opcode::Stats => Request::Stats,
        Opcode::Flush => Request::Flush,
        Opcode::Compact => Request::Compact,
        Opcode::Routes => Request::Routes,
        Opcode::Move => Request::Move { boundary: boundary(&mut reader)?, key: series(&mut reader)? },
        Opcode::Checkpoint => Request::Checkpoint { name: checkpoint_name(&mut reader)? },
    };
    end(&reader)?;
    Ok(request)
}

fn short(bytes: &[u8]) -> Result<&[u8], PayloadError> {
    match bytes.len() {
        0..=SHORT_BYTES_MAX => Ok(bytes),
        _ => Err(PayloadError::Limit { what: "bytes", max: SHORT_BYTES_MAX }),
    }
}

fn entry<'a>(reader: &mut Reader<'a>, limits: &RequestLimits) -> Result<StoredEntry<'a>, PayloadError> {
    Ok(StoredEntry {
        series: series(reader)?,
        slot: slot(reader)?,
        value: value(reader, limits.value_bytes_max)?,
    })
}

fn batch<'a>(reader: &mut Reader<'a>, limits: &RequestLimits) -> Result<Command<'a>, PayloadError> {
    let declared = reader.varint()?;
    let count = usize::try_from(declared).unwrap_or(usize::MAX);
    if count > BATCH_ENTRIES_MAX {
        return Err(PayloadError::Limit { what: "entries of a batch", max: BATCH_ENTRIES_MAX });
    }
    if count == 0 {
        return Err(PayloadError::BatchEmpty);
    }
    // An entry of a few bytes becomes a larger one in memory; the bytes that came bound how many.
    let mut entries = Vec::with_capacity(count.min(reader.left() / ENTRY_BYTES_MIN));
    for _ in 0..count {
        entries.push(entry(reader, limits)?);
    }
    Ok(Command::PutBatch { entries })
}

fn delete<'a>(reader: &mut Reader<'a>) -> Result<Command<'a>, PayloadError> {
    let scope = match reader.u8()? {
        1 => return Ok(Command::DeleteSlot { series: series(reader)?, slot: slot(reader)? }),
        2 => DeleteScope::TimeRange { series: series(reader)?, from: reader.i64()?, to: reader.i64()? },
        3 => DeleteScope::Series { series: series(reader)? },
        4 => DeleteScope::Prefix { prefix: series(reader)? },
        5 => DeleteScope::All,
        found => return Err(PayloadError::Field { what: "delete scope", found }),
    };
    Ok(Command::Delete { scope })
}

fn scan<'a>(reader: &mut Reader<'a>) -> Result<Request<'a>, PayloadError> {
    let start = key_bound(reader)?.into();
    let end = match flag(reader, "has_end")? {
        true => Some(key_bound(reader)?.into()),
        false => None,
    };
    let (from, to) = (reader.i64()?, reader.i64()?);
    let flags = reader.u8()?;
    let answer = match flags & !SCAN_REVERSE {
        0 | SCAN_ALL_SLOTS => ScanAnswer::Entries,
        SCAN_NEWEST => ScanAnswer::Newest,
        SCAN_BUCKETS => buckets(reader)?,
        _ => return Err(PayloadError::Field { what: "scan flags", found: flags }),
    };
    let limit = match reader.varint()? {
        0 => u64::MAX,
        limit => limit,
    };
    let request = ScanRequest {
        keys: KeyRange { start, end },
        from,
        to,
        all_slots: flags & SCAN_ALL_SLOTS != 0,
        reverse: flags & SCAN_REVERSE != 0,
        limit,
        answer,
    };
    Ok(Request::Scan { request, credit: credit(reader)? })
}

fn buckets(reader: &mut Reader<'_>) -> Result<ScanAnswer, PayloadError> {
    let byte = reader.u8()?;
    let unknown = PayloadError::Field { what: "aggregator", found: byte };
    let aggregator = Aggregator::from_byte(byte).ok_or(unknown)?;
    let grid = BucketGrid { width: reader.i64()?, align: reader.i64()? };
    match grid.width {
        1.. => Ok(ScanAnswer::Buckets { aggregator, grid }),
        _ => Err(PayloadError::BucketEmpty),
    }
}

fn boundary(reader: &mut Reader<'_>) -> Result<u32, PayloadError> {
    let number = reader.varint()?;
    let is_small = number < CORES_MAX as u64;
    u32::try_from(number)
        .ok()
        .filter(|_| is_small)
        .ok_or(PayloadError::Limit { what: "boundary", max: CORES_MAX })
}

fn checkpoint_name(reader: &mut Reader<'_>) -> Result<CheckpointName, PayloadError> {
    let name = std::str::from_utf8(reader.prefixed()?).ok().and_then(CheckpointName::new);
    name.ok_or(PayloadError::Text { what: "checkpoint name" })
}

fn credit(reader: &mut Reader<'_>) -> Result<u32, PayloadError> {
    match u32::try_from(reader.varint()?) {
        Ok(credit @ 0..=SCAN_CREDIT_MAX) => Ok(credit),
        _ => Err(PayloadError::Limit { what: "scan credit", max: SCAN_CREDIT_MAX as usize }),
    }
}

/// Appends a request.
///
/// # Panics
/// On a command that the native protocol does not carry, and on a frame beyond [`crate::limits::FRAME_BYTES_MAX`].
pub fn encode_request(out: &mut Vec<u8>, request_id: u64, has_checksum: bool, request: &Request<'_>) {
    let header =
        FrameHeader { opcode: opcode_of(request) as u8, has_checksum, is_forwarded: false, request_id };
    put_frame(out, header, |out| match request {
        Request::Ping { payload } => out.extend_from_slice(payload),
        Request::Hello { client } => put_bytes(out, client),
        Request::Auth { username, password } => {
            put_bytes(out, username);
            put_bytes(out, password);
        }
        Request::Data(command) => put_command(out, command),
        Request::Scan { request, credit } => put_scan(out, request, *credit),
        Request::ScanCredit { credit } => put_varint(out, u64::from(*credit)),
        Request::Move { boundary, key } => {
            put_varint(out, u64::from(*boundary));
            put_bytes(out, key);
        }
        Request::Checkpoint { name } => put_bytes(out, name.as_str().as_bytes()),
        Request::ScanCancel | Request::Stats | Request::Flush | Request::Compact | Request::Routes => {}
    });
}

fn opcode_of(request: &Request<'_>) -> Opcode {
    match request {
        Request::Ping { .. } => Opcode::Ping,
        Request::Hello { .. } => Opcode::Hello,
        Request::Auth { .. } => Opcode::Auth,
        Request::Data(Command::Put { .. }) => Opcode::Put,
        Request::Data(Command::PutBatch { .. }) => Opcode::PutBatch,
        Request::Data(Command::GetAt { .. }) => Opcode::GetAt,
        Request::Data(Command::GetNewest { .. }) => Opcode::GetNewest,
        Request::Data(Command::Delete { .. } | Command::DeleteSlot { .. }) => Opcode::Delete,
        Request::Data(_) => unreachable!("the native protocol has no opcode for this command"),
        Request::Scan { .. } => Opcode::Scan,
        Request::ScanCredit { .. } => Opcode::ScanCredit,
        Request::ScanCancel => Opcode::ScanCancel,
        Request::Stats => Opcode::Stats,
        Request::Flush => Opcode::Flush,
        Request::Compact => Opcode::Compact,
        Request::Routes => Opcode::Routes,
        Request::Move { .. } => Opcode::Move,
        Request::Checkpoint { .. } => Opcode::Checkpoint,
    }
}

fn put_command(out: &mut Vec<u8>, command: &Command<'_>) {
    match command {
        Command::Put { series, slot, value } => {
            put_entry(out, &StoredEntry { series, slot: *slot, value: *value });
        }
        Command::PutBatch { entries } => {
            put_varint(out, entries.len() as u64);
            entries.iter().for_each(|entry| put_entry(out, entry));
        }
        Command::GetAt { series, time } => {
            put_bytes(out, series);
            out.extend_from_slice(&time.to_le_bytes());
        }
        Command::GetNewest { series } => put_bytes(out, series),
        Command::DeleteSlot { series, slot } => {
            out.push(1);
            put_bytes(out, series);
            put_slot(out, *slot);
        }
        Command::Delete { scope } => put_scope(out, scope),
        _ => unreachable!("the native protocol has no opcode for this command"),
    }
}

fn put_entry(out: &mut Vec<u8>, entry: &StoredEntry<'_>) {
    put_bytes(out, entry.series);
    put_slot(out, entry.slot);
    put_value(out, entry.value);
}

fn put_scope(out: &mut Vec<u8>, scope: &DeleteScope<'_>) {
    match scope {
        DeleteScope::TimeRange { series, from, to } => {
            out.push(2);
            put_bytes(out, series);
            out.extend_from_slice(&from.to_le_bytes());
            out.extend_from_slice(&to.to_le_bytes());
        }
        DeleteScope::Series { series } => {
            out.push(3);
            put_bytes(out, series);
        }
        DeleteScope::Prefix { prefix } => {
            out.push(4);
            put_bytes(out, prefix);
        }
        DeleteScope::All => out.push(5),
    }
}

fn put_scan(out: &mut Vec<u8>, request: &ScanRequest, credit: u32) {
    put_bytes(out, &request.keys.start);
    match &request.keys.end {
        None => out.push(0),
        Some(end) => {
            out.push(1);
            put_bytes(out, end);
        }
    }
    out.extend_from_slice(&request.from.to_le_bytes());
    out.extend_from_slice(&request.to.to_le_bytes());
    let all_slots = if request.all_slots { SCAN_ALL_SLOTS } else { 0 };
    let reverse = if request.reverse { SCAN_REVERSE } else { 0 };
    match request.answer {
        ScanAnswer::Entries => out.push(all_slots | reverse),
        ScanAnswer::Newest => out.push(SCAN_NEWEST | reverse),
        ScanAnswer::Buckets { aggregator, grid } => {
            out.extend_from_slice(&[SCAN_BUCKETS | reverse, aggregator as u8]);
            out.extend_from_slice(&grid.width.to_le_bytes());
            out.extend_from_slice(&grid.align.to_le_bytes());
        }
    }
    put_varint(out, if request.limit == u64::MAX { 0 } else { request.limit });
    put_varint(out, u64::from(credit));
}
