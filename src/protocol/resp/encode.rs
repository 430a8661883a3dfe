//! Replies as RESP2 or RESP3, appended to a connection's output.
//!
//! ```text
//! +simple   -error   :integer   $bulk   *array          both
//! %map      ~set     ,double    _null                   RESP3; RESP2 has flat arrays, bulk texts and $-1 in their place
//! ```
//! The headers of collections are written by the caller's count: after `array_header(out, n)` exactly n elements follow.

use super::number::{put_double, put_integer, put_series_value};
use super::request::Protocol;
use crate::model::{ChunkInfo, KeyKind, Reply, ReplyError, SeriesInfo, Value};
use std::io::Write;

/// Texts of errors that the connection gives by itself; for [`error`].
pub mod texts {
    /// Before AUTH.
    pub const NOAUTH: &str = "NOAUTH Authentication required.";
    /// HELLO before AUTH, without AUTH.
    pub const NOAUTH_HELLO: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise \
         the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP \
         protocol version at the same time";
    /// AUTH failed.
    pub const WRONGPASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";
    /// AUTH when no password is set.
    pub const AUTH_WITHOUT_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the \
         default user. Are you sure your configuration is correct?";
    /// EXEC of a transaction in which a command was refused.
    pub const EXECABORT: &str = "EXECABORT Transaction discarded because of previous errors.";
    /// MULTI within MULTI.
    pub const MULTI_NESTED: &str = "ERR MULTI calls can not be nested";
    /// EXEC outside of MULTI.
    pub const EXEC_WITHOUT_MULTI: &str = "ERR EXEC without MULTI";
    /// DISCARD outside of MULTI.
    pub const DISCARD_WITHOUT_MULTI: &str = "ERR DISCARD without MULTI";
    /// While the store opens.
    pub const LOADING: &str = "LOADING tskv is replaying its log";
    /// More clients than the server takes.
    pub const MAX_CLIENTS: &str = "ERR max number of clients reached";
}

/// `+text`. The text is the server's own and holds no line end.
///
/// # Panics
/// When it does.
pub fn simple(out: &mut Vec<u8>, text: &str) {
    assert!(!text.contains(['\r', '\n']), "a simple string ends at its first line end");
    line(out, b'+', text.as_bytes());
}

/// `+OK`.
pub fn ok(out: &mut Vec<u8>) {
    out.extend_from_slice(b"+OK\r\n");
}

/// `-text`; line ends within the text become blanks.
pub fn error(out: &mut Vec<u8>, text: &[u8]) {
    let start = out.len();
    line(out, b'-', text);
    let end = out.len() - 2;
    for byte in out.get_mut(start..end).unwrap_or_default() {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
}

/// `:value`.
pub fn integer(out: &mut Vec<u8>, value: i64) {
    header(out, b':', value);
}

/// A bulk string.
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    count_header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Nothing: `_` in RESP3, `$-1` in RESP2.
pub fn null(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"$-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// No array: `_` in RESP3, `*-1` in RESP2 (EXEC of an aborted transaction).
pub fn null_array(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"*-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// A double; a bulk string in RESP2.
pub fn double(out: &mut Vec<u8>, protocol: Protocol, value: f64) {
    match protocol {
        Protocol::Resp3 => {
            out.push(b',');
            put_double(out, value);
            out.extend_from_slice(b"\r\n");
        }
        Protocol::Resp2 => {
            let mut text = Vec::with_capacity(24);
            put_double(&mut text, value);
            bulk(out, &text);
        }
    }
}

/// Announces `count` elements.
pub fn array_header(out: &mut Vec<u8>, count: usize) {
    count_header(out, b'*', count);
}

/// Announces `pairs` keys, each followed by its value.
pub fn map_header(out: &mut Vec<u8>, protocol: Protocol, pairs: usize) {
    match protocol {
        Protocol::Resp2 => count_header(out, b'*', pairs * 2),
        Protocol::Resp3 => count_header(out, b'%', pairs),
    }
}

/// Announces `count` distinct elements.
pub fn set_header(out: &mut Vec<u8>, protocol: Protocol, count: usize) {
    match protocol {
        Protocol::Resp2 => count_header(out, b'*', count),
        Protocol::Resp3 => count_header(out, b'~', count),
    }
}

/// A text that RESP3 marks as such (INFO); a bulk string in RESP2.
pub fn verbatim(out: &mut Vec<u8>, protocol: Protocol, text: &str) {
    match protocol {
        Protocol::Resp2 => bulk(out, text.as_bytes()),
        Protocol::Resp3 => {
            count_header(out, b'=', text.len() + 4);
            out.extend_from_slice(b"txt:");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

fn header(out: &mut Vec<u8>, kind: u8, value: i64) {
    out.push(kind);
    put_integer(out, value);
    out.extend_from_slice(b"\r\n");
}

fn count_header(out: &mut Vec<u8>, kind: u8, count: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// One command's reply.
///
/// # Panics
/// On [`Reply::ScanChunk`], which answers the native protocol only.
pub fn reply(out: &mut Vec<u8>, protocol: Protocol, reply: &Reply<'_>) {
    match reply {
        Reply::Ok => ok(out),
        Reply::Null => null(out, protocol),
        Reply::Integer(value) => integer(out, *value),
        Reply::Bytes(bytes) => bulk(out, bytes),
        Reply::Sample { time, value } => {
            array_header(out, 2);
            integer(out, *time);
            sample_value(out, protocol, *value);
        }
        Reply::NoSample => array_header(out, 0),
        Reply::Samples { times, values, width } => samples(out, protocol, times, values, *width),
        Reply::Kind(kind) => simple(out, kind_name(*kind)),
        Reply::Keys { keys, .. } => {
            array_header(out, keys.len());
            keys.iter().for_each(|(key, _)| bulk(out, key));
        }
        Reply::SeriesInfo(info) => series_info(out, protocol, info),
        Reply::Error(failure) => reply_error(out, failure),
        Reply::ScanChunk { .. } => unreachable!("only the native protocol scans"),
    }
}

/// What TYPE answers, and SCAN's TYPE option compares with.
#[must_use]
pub fn kind_name(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::None => "none",
        KeyKind::String => "string",
        KeyKind::Series => "TSDB-TYPE",
    }
}

/// An error with the prefix by which client libraries choose an exception.
pub fn reply_error(out: &mut Vec<u8>, failure: &ReplyError<'_>) {
    let mut text = Vec::with_capacity(64);
    write!(text, "{} {failure}", error_prefix(failure)).unwrap_or_else(|_| unreachable!("a vector takes it"));
    error(out, &text);
}

/// First word of an error's text.
fn error_prefix(failure: &ReplyError<'_>) -> &'static str {
    match failure {
        ReplyError::WrongType => "WRONGTYPE",
        ReplyError::Busy | ReplyError::SeriesRate { .. } => "BUSY",
        ReplyError::NoSpace => "NOSPACE",
        ReplyError::DiskFails | ReplyError::Poisoned | ReplyError::Read { .. } => "IOERR",
        _ => "ERR",
    }
}

/// The value of one sample: a simple string in RESP2, a double in RESP3.
fn sample_value(out: &mut Vec<u8>, protocol: Protocol, value: Value<'_>) {
    match (value, value.as_f64()) {
        (_, Some(number)) => sample_number(out, protocol, number),
        (Value::Bytes(bytes), None) => bulk(out, bytes),
        (Value::F64(_) | Value::I64(_), None) => unreachable!("numbers are numbers"),
    }
}

fn sample_number(out: &mut Vec<u8>, protocol: Protocol, value: f64) {
    match protocol {
        Protocol::Resp2 => {
            out.push(b'+');
            put_series_value(out, value);
        }
        Protocol::Resp3 => {
            out.push(b',');
            put_double(out, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Rows of TS.RANGE: each its time, then its values.
fn samples(out: &mut Vec<u8>, protocol: Protocol, times: &[i64], values: &[f64], width: usize) {
    assert_eq!(times.len() * width, values.len(), "each row has its values");
    assert!(width > 0, "a row has a value");
    array_header(out, times.len());
    for (time, row) in times.iter().zip(values.chunks_exact(width)) {
        array_header(out, width + 1);
        integer(out, *time);
        row.iter().for_each(|value| sample_number(out, protocol, *value));
    }
}

/// TS.INFO: 14 names and values, 16 with DEBUG.
fn series_info(out: &mut Vec<u8>, protocol: Protocol, info: &SeriesInfo) {
    fn count(out: &mut Vec<u8>, name: &str, value: u64) {
        simple(out, name);
        integer(out, i64::try_from(value).unwrap_or(i64::MAX));
    }
    let options = &info.options;
    map_header(out, protocol, if info.details.is_some() { 16 } else { 14 });
    count(out, "totalSamples", info.total_samples);
    count(out, "memoryUsage", info.memory_bytes);
    simple(out, "firstTimestamp");
    integer(out, info.first_time);
    simple(out, "lastTimestamp");
    integer(out, info.last_time);
    count(out, "retentionTime", options.retention);
    count(out, "chunkCount", info.chunk_count);
    count(out, "chunkSize", u64::from(options.chunk_bytes));
    simple(out, "chunkType");
    simple(out, if options.compressed { "compressed" } else { "uncompressed" });
    simple(out, "duplicatePolicy");
    simple(out, options.effective_policy().name());
    simple(out, "labels");
    match protocol {
        Protocol::Resp2 => array_header(out, 0),
        Protocol::Resp3 => map_header(out, protocol, 0),
    }
    simple(out, "sourceKey");
    null(out, protocol);
    simple(out, "rules");
    match protocol {
        Protocol::Resp2 => array_header(out, 0),
        Protocol::Resp3 => map_header(out, protocol, 0),
    }
    count(out, "ignoreMaxTimeDiff", options.ignore_time_diff);
    simple(out, "ignoreMaxValDiff");
    double(out, protocol, options.ignore_value_diff);
    if let Some(details) = &info.details {
        simple(out, "keySelfName");
        bulk(out, &details.key);
        simple(out, "Chunks");
        array_header(out, details.chunks.len());
        details.chunks.iter().for_each(|chunk| chunk_info(out, protocol, chunk));
    }
}

fn chunk_info(out: &mut Vec<u8>, protocol: Protocol, chunk: &ChunkInfo) {
    let figure = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    map_header(out, protocol, 5);
    for (name, value) in [
        ("startTimestamp", chunk.first_time),
        ("endTimestamp", chunk.last_time),
        ("samples", figure(chunk.samples)),
        ("size", figure(chunk.bytes)),
    ] {
        simple(out, name);
        integer(out, value);
    }
    simple(out, "bytesPerSample");
    let per_sample = if chunk.samples == 0 { -1.0 } else { chunk.bytes as f64 / chunk.samples as f64 };
    double(out, protocol, per_sample);
}
