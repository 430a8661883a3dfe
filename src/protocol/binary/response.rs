//! Responses of the native protocol: a status, then what the opcode calls for.
//!
//! ```text
//! status u8; anything but 0: message (bytes, UTF-8)
//! PING        the payload                     AUTH, PUT, PUT_BATCH, DELETE, FLUSH, COMPACT  nothing
//! HELLO       server (bytes), time unit u8, needs_auth u8, value_bytes_max u32, batch_entries_max u32
//! GET_*       found u8; 1: time i64, value
//! SCAN        last u8, then runs until the end of the payload
//!   run       series (bytes), slot class u8, value type u8, count varint, count times i64 (class time only),
//!             count values without their type
//! STATS       count varint, count times name (bytes), value (bytes)
//! ROUTES      count varint, count times first key (bytes), port u16; ascending keys, the first is empty
//! FATAL       never has status 0
//! ```
//! A run shares series, class and type, so a sample costs 16 bytes.

use super::frame::{FrameError, FrameHeader, Opcode, RESPONSE_BIT, put_frame};
use super::request::PayloadError;
use super::wire::{
    bare_value, end, flag, put_bare_value, put_bytes, put_value, series, slot_class, value, value_type,
};
use crate::encoding::{Reader, put_varint};
use crate::limits::{FRAME_BYTES_MAX, VALUE_BYTES_CEILING};
use crate::model::{Reply, ReplyError, Slot, SlotClass, TimeUnit, Value};

/// Longest message of a failure; the rest is cut off.
const MESSAGE_BYTES_MAX: usize = 1024;

/// How a request ended. The number is what the frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum Status {
    /// As asked.
    Ok = 0,
    /// The payload makes no sense.
    BadRequest = 1,
    /// AUTH is needed first.
    Unauthenticated = 2,
    /// The password is wrong, or the server refuses clients from outside.
    Denied = 3,
    /// A limit was exceeded.
    TooLarge = 4,
    /// Try again later.
    Busy = 5,
    /// The disk is full; reads and deletes go on.
    NoSpace = 6,
    /// A block could not be read, the log not written, or no room be made for what it would take next.
    Io = 7,
    /// The server is closing.
    ShuttingDown = 8,
    /// Not in this version.
    Unsupported = 9,
    /// The scan was cancelled.
    Cancelled = 10,
    /// The key holds another kind of value.
    WrongType = 11,
    /// The bytes are no frame; the connection ends.
    BadFrame = 12,
    /// Any other failure; the message says which.
    Failed = 13,
}

impl Status {
    const ALL: [Self; 14] = [
        Self::Ok,
        Self::BadRequest,
        Self::Unauthenticated,
        Self::Denied,
        Self::TooLarge,
        Self::Busy,
        Self::NoSpace,
        Self::Io,
        Self::ShuttingDown,
        Self::Unsupported,
        Self::Cancelled,
        Self::WrongType,
        Self::BadFrame,
        Self::Failed,
    ];
    /// Reads the byte of a frame. A status of a later version is [`Status::Failed`].
    #[must_use]
    pub fn from_byte(byte: u8) -> Self {
        Self::ALL.into_iter().find(|status| *status as u8 == byte).unwrap_or(Self::Failed)
    }
}

/// What the server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// Name and version.
    pub server: &'a str,
    /// Unit of all timestamps.
    pub unit: TimeUnit,
    /// AUTH must come before anything else.
    pub needs_auth: bool,
    /// Longest value that is taken.
    pub value_bytes_max: u32,
    /// Most entries of one batch.
    pub batch_entries_max: u32,
}

/// One entry of a scan: series, slot, value.
pub type ScanEntry<'a> = (&'a [u8], Slot, Value<'a>);

/// Where the keys from one on are served, up to the next route's first key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'a> {
    /// First key; empty for the first route.
    pub first_key: &'a [u8],
    /// The owner's own port, on whatever host the client reached; 0 where it has none.
    pub port: u16,
}

/// One response.
#[derive(Clone, Debug, PartialEq)]
pub enum Response<'a> {
    /// It failed; the message is for people.
    Failure { status: Status, message: &'a str },
    /// To PING.
    Pong { payload: &'a [u8] },
    /// To HELLO.
    Hello(Hello<'a>),
    /// To whatever answers with nothing but success.
    Done,
    /// To GET.
    Sample(Option<(i64, Value<'a>)>),
    /// To SCAN.
    ScanChunk { entries: Vec<ScanEntry<'a>>, last: bool },
    /// To STATS: names and values.
    Stats(Vec<(&'a str, &'a str)>),
    /// To ROUTES: at least one, ascending.
    Routes(Vec<Route<'a>>),
}

/// The status of a failed command.
#[must_use]
pub fn status_of(failure: &ReplyError<'_>) -> Status {
    match failure {
        ReplyError::WrongType | ReplyError::NotSeries | ReplyError::NotNumeric => Status::WrongType,
        ReplyError::Busy | ReplyError::SeriesRate { .. } => Status::Busy,
        ReplyError::NoSpace => Status::NoSpace,
        ReplyError::DiskFails | ReplyError::Poisoned | ReplyError::Read { .. } => Status::Io,
        ReplyError::TooLarge { .. } | ReplyError::Limit { .. } => Status::TooLarge,
        ReplyError::ShuttingDown => Status::ShuttingDown,
        ReplyError::Unsupported { .. } => Status::Unsupported,
        ReplyError::SeriesAbsent
        | ReplyError::KeyExists
        | ReplyError::DuplicateBlocked
        | ReplyError::Expired => Status::Failed,
    }
}

/// The header of the response to a request.
fn response_header(request: &FrameHeader) -> FrameHeader {
    FrameHeader { opcode: request.opcode | RESPONSE_BIT, ..*request }
}

/// Appends a failure.
pub fn encode_failure(out: &mut Vec<u8>, request: &FrameHeader, status: Status, message: &str) {
    encode_response(out, request, &Response::Failure { status, message });
}

/// Appends the last frame of a connection whose peer sent no frame.
pub fn encode_fatal(out: &mut Vec<u8>, error: &FrameError) {
    let opcode = Opcode::Fatal as u8;
    let request = FrameHeader { opcode, has_checksum: false, is_forwarded: false, request_id: 0 };
    encode_failure(out, &request, Status::BadFrame, &error.to_string());
}

/// Appends what a shard answered.
///
/// # Panics
/// On replies that no native request calls for.
pub fn encode_reply(out: &mut Vec<u8>, request: &FrameHeader, reply: &Reply<'_>) {
    match reply {
        Reply::Ok => encode_response(out, request, &Response::Done),
        Reply::Sample { time, value } => {
            encode_response(out, request, &Response::Sample(Some((*time, *value))));
        }
        Reply::NoSample | Reply::Null => encode_response(out, request, &Response::Sample(None)),
        Reply::ScanChunk { entries, last } => encode_chunk(out, request, entries, *last),
        Reply::Error(failure) => encode_failure(out, request, status_of(failure), &failure.to_string()),
        Reply::Integer(_)
        | Reply::Bytes(_)
        | Reply::Samples { .. }
        | Reply::Kind(_)
        | Reply::Keys { .. }
        | Reply::SeriesInfo(_) => unreachable!("no native request calls for this reply"),
    }
}

/// Appends a response.
///
/// # Panics
/// On a payload beyond [`FRAME_BYTES_MAX`]; whoever fills chunks bounds them.
pub fn encode_response(out: &mut Vec<u8>, request: &FrameHeader, response: &Response<'_>) {
    if let Response::ScanChunk { entries, last } = response {
        return encode_chunk(out, request, entries, *last);
    }
    put_frame(out, response_header(request), |out| match response {
        Response::Failure { status, message } => {
            assert_ne!(*status, Status::Ok, "a failure has a status of its own");
            out.push(*status as u8);
            put_bytes(out, start_of(message).as_bytes());
        }
        success => {
            out.push(Status::Ok as u8);
            put_success(out, success);
        }
    });
}

/// The first [`MESSAGE_BYTES_MAX`] bytes of a text, without half a letter at the end.
fn start_of(message: &str) -> &str {
    let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
    message.get(..end).unwrap_or_default()
}

fn put_success(out: &mut Vec<u8>, response: &Response<'_>) {
    match response {
        Response::Pong { payload } => out.extend_from_slice(payload),
        Response::Hello(hello) => {
            put_bytes(out, hello.server.as_bytes());
            out.push(hello.unit as u8);
            out.push(u8::from(hello.needs_auth));
            out.extend_from_slice(&hello.value_bytes_max.to_le_bytes());
            out.extend_from_slice(&hello.batch_entries_max.to_le_bytes());
        }
        Response::Done => {}
        Response::Sample(None) => out.push(0),
        Response::Sample(Some((time, value))) => {
            out.push(1);
            out.extend_from_slice(&time.to_le_bytes());
            put_value(out, *value);
        }
        Response::Stats(pairs) => {
            put_varint(out, pairs.len() as u64);
            for (name, value) in pairs {
                put_bytes(out, name.as_bytes());
                put_bytes(out, value.as_bytes());
            }
        }
        Response::Routes(routes) => {
            put_varint(out, routes.len() as u64);
            for route in routes {
                put_bytes(out, route.first_key);
                out.extend_from_slice(&route.port.to_le_bytes());
            }
        }
        Response::Failure { .. } | Response::ScanChunk { .. } => {
            unreachable!("encoded by encode_response")
        }
    }
}

fn encode_chunk(out: &mut Vec<u8>, request: &FrameHeader, entries: &[ScanEntry<'_>], last: bool) {
    put_frame(out, response_header(request), |out| {
        out.push(Status::Ok as u8);
        out.push(u8::from(last));
        // What has no time is a run of its own, of one value.
        let alike = |a: &ScanEntry<'_>, b: &ScanEntry<'_>| {
            let are_samples = a.1.class() == SlotClass::Time && b.1.class() == SlotClass::Time;
            a.0 == b.0 && are_samples && a.2.value_type() == b.2.value_type()
        };
        entries.chunk_by(alike).for_each(|run| put_run(out, run));
    });
}

fn put_run(out: &mut Vec<u8>, run: &[ScanEntry<'_>]) {
    let Some((series, slot, value)) = run.first() else { return };
    put_bytes(out, series);
    out.push(slot.class() as u8);
    out.push(value.value_type() as u8);
    put_varint(out, run.len() as u64);
    if slot.class() == SlotClass::Time {
        run.iter().for_each(|entry| out.extend_from_slice(&entry.1.time_or_zero().to_le_bytes()));
    }
    run.iter().for_each(|entry| put_bare_value(out, entry.2));
}

/// Reads a response; `header` is the response's own.
///
/// # Errors
/// When the opcode is no response's, or the payload is not what it calls for.
pub fn decode_response<'a>(header: &FrameHeader, payload: &'a [u8]) -> Result<Response<'a>, PayloadError> {
    let unknown = PayloadError::Opcode { found: header.opcode };
    if header.opcode & RESPONSE_BIT == 0 {
        return Err(unknown);
    }
    let opcode = Opcode::from_byte(header.opcode & !RESPONSE_BIT);
    let mut reader = Reader::new(payload);
    let status = reader.u8()?;
    if status != Status::Ok as u8 {
        let message = text(&mut reader, "message")?;
        end(&reader)?;
        return Ok(Response::Failure { status: Status::from_byte(status), message });
    }
    let response = match opcode.ok_or(unknown)? {
        Opcode::Fatal | Opcode::ScanCredit | Opcode::ScanCancel => return Err(unknown),
        Opcode::Ping => Response::Pong { payload: reader.take(reader.left())? },
        Opcode::Hello => Response::Hello(hello(&mut reader)?),
        Opcode::GetAt | Opcode::GetNewest => Response::Sample(match flag(&mut reader, "found")? {
            false => None,
            true => Some((reader.i64()?, value(&mut reader, VALUE_BYTES_CEILING)?)),
        }),
        Opcode::Scan => chunk(&mut reader)?,
        Opcode::Stats => stats(&mut reader)?,
        Opcode::Routes => routes(&mut reader)?,
        Opcode::Auth
        | Opcode::Put
        | Opcode::PutBatch
        | Opcode::Delete
        | Opcode::Flush
        | Opcode::Compact
        | Opcode::Move
        | Opcode::Checkpoint => Response::Done,
    };
    end(&reader)?;
    Ok(response)
}

fn text<'a>(reader: &mut Reader<'a>, what: &'static str) -> Result<&'a str, PayloadError> {
    std::str::from_utf8(reader.prefixed()?).map_err(|_| PayloadError::Text { what })
}

fn hello<'a>(reader: &mut Reader<'a>) -> Result<Hello<'a>, PayloadError> {
    let server = text(reader, "server")?;
    let unit = reader.u8()?;
    Ok(Hello {
        server,
        unit: TimeUnit::from_byte(unit).ok_or(PayloadError::Field { what: "time unit", found: unit })?,
        needs_auth: flag(reader, "needs_auth")?,
        value_bytes_max: reader.u32()?,
        batch_entries_max: reader.u32()?,
    })
}

fn stats<'a>(reader: &mut Reader<'a>) -> Result<Response<'a>, PayloadError> {
    // A pair takes two bytes at least.
    let count = reader.count(reader.left() / 2)?;
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        pairs.push((text(reader, "name")?, text(reader, "value")?));
    }
    Ok(Response::Stats(pairs))
}

fn routes<'a>(reader: &mut Reader<'a>) -> Result<Response<'a>, PayloadError> {
    // A route takes three bytes at least.
    let count = reader.count(reader.left() / 3)?;
    let mut routes: Vec<Route<'a>> = Vec::with_capacity(count);
    for _ in 0..count {
        routes.push(Route { first_key: reader.prefixed()?, port: reader.u16()? });
    }
    let ascend = routes.is_sorted_by(|a, b| a.first_key < b.first_key);
    if !ascend || routes.first().is_none_or(|route| !route.first_key.is_empty()) {
        return Err(PayloadError::Routes);
    }
    Ok(Response::Routes(routes))
}

fn chunk<'a>(reader: &mut Reader<'a>) -> Result<Response<'a>, PayloadError> {
    let last = flag(reader, "last")?;
    let mut entries = Vec::new();
    while reader.left() > 0 {
        run(reader, &mut entries)?;
    }
    Ok(Response::ScanChunk { entries, last })
}

fn run<'a>(reader: &mut Reader<'a>, entries: &mut Vec<ScanEntry<'a>>) -> Result<(), PayloadError> {
    let series = series(reader)?;
    let (class, kind) = (slot_class(reader)?, value_type(reader)?);
    // Every value takes a byte at least.
    let count = reader.count(reader.left().min(FRAME_BYTES_MAX))?;
    if class != SlotClass::Time && count > 1 {
        // One visible value per slot; without this, a byte on the wire would cost an entry in memory.
        return Err(PayloadError::Limit { what: "values of a slot without time", max: 1 });
    }
    let time_bytes = if class == SlotClass::Time { size_of::<i64>() } else { 0 };
    let mut times = Reader::new(reader.take(count.saturating_mul(time_bytes))?);
    entries.reserve(count.min(times.left() / size_of::<i64>()));
    for _ in 0..count {
        let slot = match class {
            SlotClass::Time => Slot::Time(times.i64()?),
            SlotClass::Metadata | SlotClass::Timeless => class.slot(0),
        };
        entries.push((series, slot, bare_value(reader, kind, VALUE_BYTES_CEILING)?));
    }
    Ok(())
}
