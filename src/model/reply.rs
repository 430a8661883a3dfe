//! What a shard answers. Replies borrow what the shard holds and are encoded before it goes on.

use super::command::{DuplicatePolicy, SeriesOptions};
use super::key::Slot;
use super::value::Value;
use std::fmt;

/// The answer to one command.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply<'a> {
    /// Done.
    Ok,
    /// No such key, or the condition of SET failed.
    Null,
    /// A count, a length, a timestamp.
    Integer(i64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A sample.
    Sample { time: i64, value: Value<'a> },
    /// The series has no (such) sample.
    NoSample,
    /// Rows of TS.RANGE: times, and for each `width` values.
    Samples { times: &'a [i64], values: &'a [f64], width: usize },
    /// TYPE.
    Kind(KeyKind),
    /// A page of live keys in order with what they hold, and whether more may follow.
    Keys { keys: &'a [(Box<[u8]>, KeyKind)], more: bool },
    /// TS.INFO.
    SeriesInfo(&'a SeriesInfo),
    /// Entries of a scan, in order; `last` on the final chunk of this shard.
    ScanChunk { entries: &'a [(&'a [u8], Slot, Value<'a>)], last: bool },
    /// It failed.
    Error(ReplyError<'a>),
}

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Nothing.
    None,
    /// A timeless value.
    String,
    /// Samples or series metadata.
    Series,
}

/// TS.INFO.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesInfo {
    /// Visible samples.
    pub total_samples: u64,
    /// Bytes that the series takes in memory and tables, roughly.
    pub memory_bytes: u64,
    /// 0 when empty.
    pub first_time: i64,
    /// 0 when empty.
    pub last_time: i64,
    /// Chunks, counting the one in memory.
    pub chunk_count: u64,
    /// Properties.
    pub options: SeriesOptions,
    /// What DEBUG adds.
    pub details: Option<SeriesDetails>,
}

/// What TS.INFO … DEBUG adds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesDetails {
    /// The series' own name.
    pub key: Box<[u8]>,
    /// Its samples in chunks, ascending; one of no samples when there are none.
    pub chunks: Vec<ChunkInfo>,
}

/// A stretch of a series' samples, as TS.INFO counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkInfo {
    /// Time of the first sample; 0 when there is none.
    pub first_time: i64,
    /// Time of the last sample; 0 when there is none.
    pub last_time: i64,
    /// Visible samples.
    pub samples: u64,
    /// Bytes that they take, roughly.
    pub bytes: u64,
}

/// Why a command failed, as the client must be told. The protocols choose code and text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyError<'a> {
    /// The key holds another kind of value.
    WrongType,
    /// TS.*: the key does not exist.
    SeriesAbsent,
    /// TS.MADD on a missing key or a string, TS.ADD on a string.
    NotSeries,
    /// TS.CREATE on an existing key.
    KeyExists,
    /// TS.ADD under policy block, or NaN under min, max, sum.
    DuplicateBlocked,
    /// A sample that retention would hide at once.
    Expired,
    /// TS.* on samples that are byte strings.
    NotNumeric,
    /// Writes arrive faster than the disk takes them; try again.
    Busy,
    /// Its series has had as many commands as it may in this second.
    SeriesRate { per_second: u32 },
    /// The disk is full; reads and deletes go on.
    NoSpace,
    /// No log segment or table can be made, for another reason than a full disk; it is tried on, and nothing was done.
    DiskFails,
    /// A write or sync of the log failed; writes are refused until restart.
    Poisoned,
    /// A read of a block failed: what and where.
    Read { detail: &'a str },
    /// The reply would exceed the connection's output limit.
    TooLarge { bytes_max: usize },
    /// A bound of the request was exceeded.
    Limit { what: &'a str, max: usize },
    /// The store is closing.
    ShuttingDown,
    /// The command is not supported in this form.
    Unsupported { what: &'a str },
}

impl fmt::Display for ReplyError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType => f.write_str("Operation against a key holding the wrong kind of value"),
            Self::SeriesAbsent => f.write_str("TSDB: the key does not exist"),
            Self::NotSeries => f.write_str("TSDB: the key is not a TSDB key"),
            Self::KeyExists => f.write_str("TSDB: key already exists"),
            Self::DuplicateBlocked => f.write_str(
                "TSDB: Error at upsert, update is not supported when DUPLICATE_POLICY is set to BLOCK mode, \
                 or either current or new value is NaN and DUPLICATE_POLICY is MAX/MIN/SUM",
            ),
            Self::Expired => f.write_str("TSDB: Timestamp is older than retention"),
            Self::NotNumeric => f.write_str("TSDB: the series holds byte values, which have no number"),
            Self::Busy => f.write_str("writes arrive faster than the disk takes them, try again"),
            Self::SeriesRate { per_second } => {
                write!(f, "the series has more than {per_second} requests a second (--series-rate-limit), try again")
            }
            Self::NoSpace => f.write_str("the disk is full, writes are refused until there is space"),
            Self::DiskFails => f.write_str(
                "the disk takes no new log segment or table, writes are refused until it does; the server's log \
                 says why",
            ),
            Self::Poisoned => f.write_str("a write to the log failed, writes are refused until restart"),
            Self::Read { detail } => write!(f, "a block could not be read: {detail}"),
            Self::TooLarge { bytes_max } => {
                write!(f, "the reply exceeds {bytes_max} bytes; ask for less with COUNT or a smaller range")
            }
            Self::Limit { what, max } => write!(f, "{what} exceeds its limit of {max}"),
            Self::ShuttingDown => f.write_str("the server is shutting down"),
            Self::Unsupported { what } => write!(f, "{what} is not supported"),
        }
    }
}
impl std::error::Error for ReplyError<'_> {}

impl SeriesOptions {
    /// The policy in force: the series' own, else the server's default.
    #[must_use]
    pub fn effective_policy(&self) -> DuplicatePolicy {
        self.duplicate_policy.unwrap_or_default()
    }
}
