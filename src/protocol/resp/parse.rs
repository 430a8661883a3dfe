//! Finds requests in the bytes a RESP connection has received: incremental, resumable, without allocation per request.
//!
//! ```text
//! multibulk:  *<count>\r\n  then count times  $<bytes>\r\n<the bytes>\r\n
//! inline:     words separated by blanks, "double" or 'single' quoted, ended by \n
//! ```
//! Source: the RESP specification, and `networking.c` of Redis 7 for what clients may rely on. Invariants:
//! - [`ParseState`] remembers how far an incomplete request has been read, so a request of n bytes costs O(n) however
//!   it is cut into pieces. The caller keeps the bytes of an incomplete request in place, from offset 0.
//! - A declared length is compared with the limits before anything waits for it, and nothing is allocated for it.
//! - Every error ends the connection: after it nobody knows where the next request starts.

use super::table::words_per_key;
use crate::limits::{
    ARGUMENT_BYTES_MAX_UNAUTHENTICATED, ARGUMENTS_MAX, ARGUMENTS_MAX_UNAUTHENTICATED, INLINE_BYTES_MAX,
    QUERY_BYTES_MAX, QUERY_BYTES_MAX_UNAUTHENTICATED,
};
use std::fmt;
use std::ops::Range;

/// Longest `*<count>` or `$<bytes>` line: a sign and the digits of an i64 fit several times over.
const LENGTH_LINE_BYTES_MAX: usize = 32;
/// Places for arguments that are kept from one request to the next.
const ARGUMENTS_KEPT: usize = 1024;
/// Bytes of unquoted inline words that are kept from one request to the next.
const INLINE_BYTES_KEPT: usize = 4096;

/// What one request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RespLimits {
    /// Arguments of one request, the command's name included.
    pub arguments_max: usize,
    /// Bytes of one argument.
    pub argument_bytes_max: usize,
    /// Bytes of one inline request without its line end.
    pub inline_bytes_max: usize,
    /// Bytes of one multibulk request with all its framing.
    pub request_bytes_max: usize,
    /// Whether the client has authenticated; chooses the texts of errors only.
    pub authenticated: bool,
}

impl RespLimits {
    /// Limits of a client that has authenticated, or need not.
    #[must_use]
    pub fn authenticated() -> Self {
        Self {
            arguments_max: ARGUMENTS_MAX,
            argument_bytes_max: QUERY_BYTES_MAX,
            inline_bytes_max: INLINE_BYTES_MAX,
            request_bytes_max: QUERY_BYTES_MAX,
            authenticated: true,
        }
    }
    /// Limits of a client that still has to authenticate.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self {
            arguments_max: ARGUMENTS_MAX_UNAUTHENTICATED,
            argument_bytes_max: ARGUMENT_BYTES_MAX_UNAUTHENTICATED,
            inline_bytes_max: ARGUMENT_BYTES_MAX_UNAUTHENTICATED,
            request_bytes_max: QUERY_BYTES_MAX_UNAUTHENTICATED,
            authenticated: false,
        }
    }
}

/// Why the bytes are not RESP. The connection is answered with `-ERR ` + the text, unless [`RespError::is_silent`],
/// and closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RespError {
    /// The count after `*` is no number, or too large.
    MultibulkLength,
    /// More arguments than a client may send before AUTH.
    MultibulkLengthUnauthenticated,
    /// An argument does not start with `$`.
    BulkExpected { found: u8 },
    /// The length after `$` is no number, negative, or too large.
    BulkLength,
    /// A longer argument than a client may send before AUTH.
    BulkLengthUnauthenticated,
    /// An argument is not followed by CR LF.
    BulkEnd,
    /// An inline request without a line end.
    InlineTooBig,
    /// A quote is not closed, or a closing quote is followed by a letter.
    QuotesUnbalanced,
    /// A NUL byte in an inline request.
    InlineNul,
    /// The request as a whole is too large.
    RequestTooBig { bytes_max: usize },
    /// `POST` or `Host:`: a browser was made to talk to us. Closed without an answer.
    CrossProtocol,
}

impl RespError {
    /// Whether the connection is closed without an answer.
    #[must_use]
    pub fn is_silent(self) -> bool {
        matches!(self, Self::CrossProtocol)
    }
}

impl fmt::Display for RespError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        match self {
            Self::MultibulkLength => f.write_str("invalid multibulk length"),
            Self::MultibulkLengthUnauthenticated => f.write_str("unauthenticated multibulk length"),
            Self::BulkExpected { found: found @ 0x20..=0x7e } => {
                write!(f, "expected '$', got '{}'", char::from(*found))
            }
            Self::BulkExpected { .. } => f.write_str("expected '$', got ' '"),
            Self::BulkLength => f.write_str("invalid bulk length"),
            Self::BulkLengthUnauthenticated => f.write_str("unauthenticated bulk length"),
            Self::BulkEnd => f.write_str("expected CR LF after a bulk string"),
            Self::InlineTooBig => f.write_str("too big inline request"),
            Self::QuotesUnbalanced => f.write_str("unbalanced quotes in request"),
            Self::InlineNul => f.write_str("NUL byte in inline request"),
            Self::RequestTooBig { bytes_max } => write!(f, "request exceeds {bytes_max} bytes"),
            Self::CrossProtocol => f.write_str("possible cross-protocol scripting attack"),
        }
    }
}
impl std::error::Error for RespError {}

/// What [`parse`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The request goes on beyond the buffer. Nothing can be said before the buffer holds `needed` bytes; this is a
    /// hint from the client, not something to allocate at once.
    Incomplete { needed: usize },
    /// The first `consumed` bytes are a request; its words are at [`ParseState::args`] until the next [`parse`].
    Request { consumed: usize },
    /// The first `consumed` bytes ask for nothing (`*0`, an empty line) and get no answer.
    Nothing { consumed: usize },
}

/// The words of one request, the command's name first. Borrowed from the receive buffer (or, when inline, from the
/// state, which holds them without their quotes).
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    bytes: &'a [u8],
    ranges: &'a [Range<usize>],
}

impl<'a> Args<'a> {
    /// How many words.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }
    /// Whether there are none; never so for a request.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
    /// The word at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.bytes.get(self.ranges.get(index)?.clone())
    }
    /// The words from `index` on; none when there are fewer.
    #[must_use]
    pub fn from(&self, index: usize) -> Self {
        Self { bytes: self.bytes, ranges: self.ranges.get(index..).unwrap_or_default() }
    }
    /// A command on several keys, on some of them alone: its name, then the words of the keys in `keys`. `ranges` is
    /// space for it to point at.
    pub fn part<'b>(&self, keys: Range<usize>, ranges: &'b mut Vec<Range<usize>>) -> Args<'b>
    where
        'a: 'b,
    {
        let step = words_per_key(self.get(0).unwrap_or_default());
        ranges.clear();
        ranges.extend(self.ranges.first().cloned());
        let words = (1 + keys.start * step)..(1 + keys.end * step);
        ranges.extend_from_slice(self.ranges.get(words).unwrap_or_default());
        Args { bytes: self.bytes, ranges }
    }
    /// All words in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.ranges.iter().map(move |range| bytes.get(range.clone()).unwrap_or_default())
    }
    /// A copy that owns its bytes, for MULTI.
    #[must_use]
    pub fn to_stored(&self) -> StoredArgs {
        let mut stored = StoredArgs::default();
        for word in self.iter() {
            let start = stored.bytes.len();
            stored.bytes.extend_from_slice(word);
            stored.ranges.push(start..stored.bytes.len());
        }
        stored
    }
}

/// The words of one request with their bytes.
#[derive(Clone, Debug, Default)]
pub struct StoredArgs {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl StoredArgs {
    /// Borrows the words.
    #[must_use]
    pub fn borrow(&self) -> Args<'_> {
        Args { bytes: &self.bytes, ranges: &self.ranges }
    }
    /// Memory that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.ranges.capacity() * size_of::<Range<usize>>() + size_of::<Self>()
    }
    /// Collects words, as a test or a client would send them.
    pub fn collect<'w>(words: impl IntoIterator<Item = &'w [u8]>) -> Self {
        let mut stored = Self::default();
        for word in words {
            let start = stored.bytes.len();
            stored.bytes.extend_from_slice(word);
            stored.ranges.push(start..stored.bytes.len());
        }
        stored
    }
}

/// Where the parser is within a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Before the first byte, or after a request that was returned.
    #[default]
    Start,
    /// Looking for the end of an inline request; bytes before this offset hold none.
    Inline { searched: usize },
    /// `missing` arguments are still to come, the next one's length line starts at `offset`.
    Length { offset: usize, missing: usize },
    /// The argument at `offset` has `bytes`; `missing` counts it too.
    Bulk { offset: usize, bytes: usize, missing: usize },
}

/// Progress of one connection's parser. Reused from request to request.
#[derive(Clone, Debug, Default)]
pub struct ParseState {
    stage: Stage,
    ranges: Vec<Range<usize>>,
    /// Unquoted words of an inline request; `ranges` point here then.
    inline: Vec<u8>,
    is_inline: bool,
}

impl ParseState {
    /// The words of the request that [`parse`] returned last; `buffer` is what it was called with.
    #[must_use]
    pub fn args<'a>(&'a self, buffer: &'a [u8]) -> Args<'a> {
        Args { bytes: if self.is_inline { &self.inline } else { buffer }, ranges: &self.ranges }
    }
    /// Whether a request has begun that is not complete yet (for the deadline of slow clients).
    #[must_use]
    pub fn is_within_request(&self) -> bool {
        self.stage != Stage::Start
    }
    /// Memory kept between requests, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.ranges.capacity() * size_of::<Range<usize>>() + self.inline.capacity()
    }
    fn begin(&mut self) {
        self.ranges.clear();
        self.ranges.shrink_to(ARGUMENTS_KEPT);
        self.inline.clear();
        self.inline.shrink_to(INLINE_BYTES_KEPT);
    }
}

/// Looks for one request at the start of `buffer`.
///
/// After [`Parsed::Request`] or [`Parsed::Nothing`] the caller goes on with the bytes after `consumed`. After
/// [`Parsed::Incomplete`] it calls again with the same bytes and more.
///
/// # Errors
/// When the bytes are not RESP or exceed `limits`. The state is of no use then.
pub fn parse(buffer: &[u8], limits: &RespLimits, state: &mut ParseState) -> Result<Parsed, RespError> {
    if state.stage == Stage::Start {
        state.begin();
        match buffer.first() {
            None => return Ok(Parsed::Incomplete { needed: 1 }),
            Some(b'*') => {
                state.is_inline = false;
                match multibulk_start(buffer, limits)? {
                    Start::Incomplete { needed } => return Ok(Parsed::Incomplete { needed }),
                    Start::Empty { consumed } => return Ok(Parsed::Nothing { consumed }),
                    Start::Arguments { offset, missing } => state.stage = Stage::Length { offset, missing },
                }
            }
            Some(_) => {
                state.is_inline = true;
                state.stage = Stage::Inline { searched: 0 };
            }
        }
    }
    let parsed = match state.stage {
        Stage::Inline { searched } => parse_inline(buffer, searched, limits, state)?,
        Stage::Start | Stage::Length { .. } | Stage::Bulk { .. } => parse_bulks(buffer, limits, state)?,
    };
    if !matches!(parsed, Parsed::Incomplete { .. }) {
        state.stage = Stage::Start;
    }
    Ok(parsed)
}

/// What the `*<count>` line says.
enum Start {
    Incomplete { needed: usize },
    Empty { consumed: usize },
    Arguments { offset: usize, missing: usize },
}

fn multibulk_start(buffer: &[u8], limits: &RespLimits) -> Result<Start, RespError> {
    let (count, offset) = match length_line(buffer, 0) {
        LengthLine::Incomplete { needed } => return Ok(Start::Incomplete { needed }),
        LengthLine::Malformed => return Err(RespError::MultibulkLength),
        LengthLine::Length { value, next } => (value, next),
    };
    let Ok(count) = usize::try_from(count) else {
        return Ok(Start::Empty { consumed: offset });
    };
    match count {
        0 => Ok(Start::Empty { consumed: offset }),
        _ if count <= limits.arguments_max => Ok(Start::Arguments { offset, missing: count }),
        _ if limits.authenticated => Err(RespError::MultibulkLength),
        _ => Err(RespError::MultibulkLengthUnauthenticated),
    }
}

fn parse_bulks(buffer: &[u8], limits: &RespLimits, state: &mut ParseState) -> Result<Parsed, RespError> {
    loop {
        match state.stage {
            Stage::Length { offset, missing: 0 } => return Ok(Parsed::Request { consumed: offset }),
            Stage::Length { offset, missing } => match bulk_length(buffer, offset, limits)? {
                Ok((bytes, offset)) => state.stage = Stage::Bulk { offset, bytes, missing },
                Err(needed) => return Ok(Parsed::Incomplete { needed }),
            },
            Stage::Bulk { offset, bytes, missing } => {
                let end = offset + bytes;
                match buffer.get(end..end + 2) {
                    Some(b"\r\n") => {}
                    Some(_) => return Err(RespError::BulkEnd),
                    None => return Ok(Parsed::Incomplete { needed: end + 2 }),
                }
                if state.ranges.is_empty() && is_cross_protocol(buffer.get(offset..end).unwrap_or_default()) {
                    return Err(RespError::CrossProtocol);
                }
                state.ranges.push(offset..end);
                state.stage = Stage::Length { offset: end + 2, missing: missing - 1 };
            }
            Stage::Start | Stage::Inline { .. } => unreachable!("the stage was set by parse"),
        }
    }
}

/// Length of the argument whose `$` is at `offset`, and where it starts; or how many bytes are needed to tell.
fn bulk_length(
    buffer: &[u8],
    offset: usize,
    limits: &RespLimits,
) -> Result<Result<(usize, usize), usize>, RespError> {
    match buffer.get(offset) {
        None => return Ok(Err(offset + 1)),
        Some(b'$') => {}
        Some(&found) => return Err(RespError::BulkExpected { found }),
    }
    let (value, next) = match length_line(buffer, offset) {
        LengthLine::Incomplete { needed } => return Ok(Err(needed)),
        LengthLine::Malformed => return Err(RespError::BulkLength),
        LengthLine::Length { value, next } => (value, next),
    };
    let bytes = usize::try_from(value).map_err(|_| RespError::BulkLength)?;
    if bytes > limits.argument_bytes_max {
        return Err(match limits.authenticated {
            true => RespError::BulkLength,
            false => RespError::BulkLengthUnauthenticated,
        });
    }
    // Checked here, where each argument is announced, so that a request's fate does not depend on how it is cut.
    match next + bytes + 2 <= limits.request_bytes_max {
        true => Ok(Ok((bytes, next))),
        false => Err(RespError::RequestTooBig { bytes_max: limits.request_bytes_max }),
    }
}

/// What stands between a type byte and CR LF.
enum LengthLine {
    Incomplete { needed: usize },
    Malformed,
    Length { value: i64, next: usize },
}

/// Reads the number after the type byte at `offset`.
fn length_line(buffer: &[u8], offset: usize) -> LengthLine {
    let rest = buffer.get(offset + 1..).unwrap_or_default();
    let window = rest.get(..LENGTH_LINE_BYTES_MAX).unwrap_or(rest);
    let Some(end) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return match window.len() {
            LENGTH_LINE_BYTES_MAX => LengthLine::Malformed,
            _ => LengthLine::Incomplete { needed: buffer.len() + 1 },
        };
    };
    match rest.get(end..end + 2) {
        None if rest.get(end) == Some(&b'\r') => LengthLine::Incomplete { needed: buffer.len() + 1 },
        Some(b"\r\n") => match rest.get(..end).and_then(super::number::parse_integer) {
            Some(value) => LengthLine::Length { value, next: offset + 1 + end + 2 },
            None => LengthLine::Malformed,
        },
        _ => LengthLine::Malformed,
    }
}

fn parse_inline(
    buffer: &[u8],
    searched: usize,
    limits: &RespLimits,
    state: &mut ParseState,
) -> Result<Parsed, RespError> {
    let found = buffer.get(searched..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n'));
    let Some(found) = found else {
        state.stage = Stage::Inline { searched: buffer.len() };
        return match buffer.len() {
            bytes if bytes > limits.inline_bytes_max => Err(RespError::InlineTooBig),
            bytes => Ok(Parsed::Incomplete { needed: bytes + 1 }),
        };
    };
    let line = buffer.get(..searched + found).unwrap_or_default();
    if line.len() > limits.inline_bytes_max {
        return Err(RespError::InlineTooBig);
    }
    let consumed = line.len() + 1;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.contains(&0) {
        return Err(RespError::InlineNul);
    }
    split_words(line, &mut state.inline, &mut state.ranges)?;
    let first = state.args(buffer).get(0);
    match first {
        None => Ok(Parsed::Nothing { consumed }),
        Some(word) if is_cross_protocol(word) => Err(RespError::CrossProtocol),
        Some(_) if state.ranges.len() > limits.arguments_max => {
            Err(RespError::MultibulkLengthUnauthenticated)
        }
        Some(_) => Ok(Parsed::Request { consumed }),
    }
}

/// A web page can make a browser send us HTTP whose body holds commands; its first words give it away.
fn is_cross_protocol(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"post") || word.eq_ignore_ascii_case(b"host:")
}

/// Splits an inline request by Redis's rules (`sdssplitargs`): in double quotes `\n \r \t \b \a \xHH` and any other
/// escaped byte, in single quotes `\'`; a closing quote ends its word.
fn split_words(line: &[u8], out: &mut Vec<u8>, ranges: &mut Vec<Range<usize>>) -> Result<(), RespError> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c);
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|byte| is_blank(byte)).count();
        rest = rest.get(blanks..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        let start = out.len();
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            match byte {
                b'"' | b'\'' => {
                    rest = take_quoted(byte, rest, out)?;
                    if rest.first().is_some_and(|next| !is_blank(next)) {
                        return Err(RespError::QuotesUnbalanced);
                    }
                    break;
                }
                _ if is_blank(&byte) => break,
                _ => out.push(byte),
            }
        }
        ranges.push(start..out.len());
    }
}

/// Appends what stands before the closing `quote` and returns what comes after it.
fn take_quoted<'a>(quote: u8, mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], RespError> {
    let hex = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    loop {
        match (quote, rest) {
            (_, []) => return Err(RespError::QuotesUnbalanced),
            (b'"', [b'\\', b'x', high, low, tail @ ..]) if hex(high).is_some() && hex(low).is_some() => {
                out.push(hex(high).unwrap_or_default() << 4 | hex(low).unwrap_or_default());
                rest = tail;
            }
            (b'"', [b'\\', escaped, tail @ ..]) => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                rest = tail;
            }
            (b'\'', [b'\\', b'\'', tail @ ..]) => {
                out.push(b'\'');
                rest = tail;
            }
            (_, [byte, tail @ ..]) if *byte == quote => return Ok(tail),
            (_, [byte, tail @ ..]) => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
}
