//! What one shard can be asked to do. The protocols parse into these; multi-key requests become one per key.
//!
//! Commands borrow the receive buffer of their connection; a shard copies what it must keep when it parks one
//! ([`Command::to_stored`]).

use super::entry::DeleteScope;
use super::key::Slot;
use super::scan::ScanRequest;
use super::value::{OwnedValue, Value};

/// One operation on one shard. The doc of each variant names the replies it gives besides errors.
#[derive(Clone, Debug, PartialEq)]
pub enum Command<'a> {
    /// Stores one entry; last write wins; reads nothing. `Ok`.
    Put { series: &'a [u8], slot: Slot, value: Value<'a> },
    /// Stores several entries of this shard, whole or not at all after a crash. `Ok`.
    PutBatch { entries: Vec<StoredEntry<'a>> },
    /// The sample at exactly `time`. `Sample` or `NoSample`.
    GetAt { series: &'a [u8], time: i64 },
    /// The newest sample. `Sample` or `NoSample`.
    GetNewest { series: &'a [u8] },
    /// Deletes without looking. `Ok`.
    Delete { scope: DeleteScope<'a> },
    /// Deletes one slot without looking. `Ok`.
    DeleteSlot { series: &'a [u8], slot: Slot },
    /// Streams entries: `ScanChunk` until one says it is the last. Runs on each shard in key order.
    Scan(ScanRequest),
    /// SET: replaces whatever the key held. `Ok`, `Null` when the condition fails, or the old value.
    StringSet { key: &'a [u8], value: &'a [u8], condition: SetCondition, return_old: bool },
    /// GET. `Bytes` or `Null`; WRONGTYPE for a series.
    StringGet { key: &'a [u8] },
    /// One key of MGET. `Bytes` or `Null`; never an error for a series.
    StringGetAny { key: &'a [u8] },
    /// STRLEN. `Integer`.
    StringLength { key: &'a [u8] },
    /// EXISTS of one key. `Integer` 0 or 1.
    KeyExists { key: &'a [u8] },
    /// DEL of one key. `Integer` 0 or 1.
    KeyDelete { key: &'a [u8] },
    /// TYPE. `Kind`.
    KeyType { key: &'a [u8] },
    /// How many keys this shard holds (walks them). `Integer`.
    KeyCount,
    /// A page of live keys in order, strictly after `after`. `Keys`.
    KeyPage { from: Box<[u8]>, count: usize },
    /// TS.CREATE. `Ok`.
    SeriesCreate { key: &'a [u8], options: SeriesOptions },
    /// TS.ALTER. `Ok`.
    SeriesAlter { key: &'a [u8], changes: SeriesChanges },
    /// TS.ADD, or one triple of TS.MADD (`create` is then `None`). `Integer`: the time written.
    SeriesAdd {
        key: &'a [u8],
        time: i64,
        value: f64,
        on_duplicate: Option<DuplicatePolicy>,
        create: Option<SeriesOptions>,
    },
    /// TS.GET. `Sample` or `NoSample`.
    SeriesGet { key: &'a [u8] },
    /// TS.RANGE, TS.REVRANGE. `Samples`.
    SeriesRange { key: &'a [u8], query: Box<RangeQuery> },
    /// TS.DEL: counts, then deletes. `Integer`.
    SeriesDelete { key: &'a [u8], from: i64, to: i64 },
    /// TS.INFO, with its chunks where `details` asks for them. `SeriesInfo`.
    SeriesInfo { key: &'a [u8], details: bool },
}

/// One entry of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEntry<'a> {
    /// Whose entry.
    pub series: &'a [u8],
    /// Where in the series.
    pub slot: Slot,
    /// The value.
    pub value: Value<'a>,
}

/// When SET writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetCondition {
    /// In any case.
    #[default]
    Always,
    /// NX: only if the key does not exist.
    IfAbsent,
    /// XX: only if it exists.
    IfPresent,
}

/// What TS.ADD does when the timestamp is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum DuplicatePolicy {
    /// An error.
    #[default]
    Block = 1,
    /// Keeps the old value.
    First = 2,
    /// Takes the new value.
    Last = 3,
    /// Keeps the smaller.
    Min = 4,
    /// Keeps the larger.
    Max = 5,
    /// Adds them.
    Sum = 6,
}

impl DuplicatePolicy {
    /// Reads the stored form.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Block, Self::First, Self::Last, Self::Min, Self::Max, Self::Sum]
            .into_iter()
            .find(|policy| *policy as u8 == byte)
    }
    /// Name as TS.INFO prints it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::First => "first",
            Self::Last => "last",
            Self::Min => "min",
            Self::Max => "max",
            Self::Sum => "sum",
        }
    }
}

/// Properties that TS.CREATE and TS.ADD may give a new series; stored in its metadata slot.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesOptions {
    /// How far behind the newest sample others are kept, in the store's unit; for ever when 0.
    pub retention: u64,
    /// Accepted and reported; tskv chooses its own chunk size.
    pub chunk_bytes: u32,
    /// Accepted and reported; tskv chooses its own encoding.
    pub compressed: bool,
    /// `None` means the server's default, block.
    pub duplicate_policy: Option<DuplicatePolicy>,
    /// IGNORE: largest time difference, in the store's unit.
    pub ignore_time_diff: u64,
    /// IGNORE: largest value difference.
    pub ignore_value_diff: f64,
}

impl Default for SeriesOptions {
    fn default() -> Self {
        Self {
            retention: 0,
            chunk_bytes: 4096,
            compressed: true,
            duplicate_policy: None,
            ignore_time_diff: 0,
            ignore_value_diff: 0.0,
        }
    }
}

/// What TS.ALTER changes; `None` leaves a property as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesChanges {
    /// See [`SeriesOptions::retention`].
    pub retention: Option<u64>,
    /// See [`SeriesOptions::chunk_bytes`].
    pub chunk_bytes: Option<u32>,
    /// See [`SeriesOptions::duplicate_policy`].
    pub duplicate_policy: Option<DuplicatePolicy>,
    /// IGNORE: largest differences of time and value.
    pub ignore: Option<(u64, f64)>,
}

impl SeriesChanges {
    /// The properties after the change.
    #[must_use]
    pub fn apply(&self, options: &SeriesOptions) -> SeriesOptions {
        let (ignore_time_diff, ignore_value_diff) =
            self.ignore.unwrap_or((options.ignore_time_diff, options.ignore_value_diff));
        SeriesOptions {
            retention: self.retention.unwrap_or(options.retention),
            chunk_bytes: self.chunk_bytes.unwrap_or(options.chunk_bytes),
            compressed: options.compressed,
            duplicate_policy: self.duplicate_policy.or(options.duplicate_policy),
            ignore_time_diff,
            ignore_value_diff,
        }
    }
}

/// TS.RANGE and TS.REVRANGE after the key.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeQuery {
    /// First timestamp; `i64::MIN` for `-`.
    pub from: i64,
    /// Last timestamp, inclusive; `i64::MAX` for `+`.
    pub to: i64,
    /// Newest first.
    pub reverse: bool,
    /// FILTER_BY_TS, sorted and distinct; `None` when not given.
    pub filter_times: Option<Vec<i64>>,
    /// FILTER_BY_VALUE, inclusive.
    pub filter_values: Option<(f64, f64)>,
    /// COUNT: rows of the reply.
    pub count: Option<u64>,
    /// AGGREGATION.
    pub aggregation: Option<Aggregation>,
}

/// The AGGREGATION clause.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregation {
    /// One value per bucket each, in this order.
    pub aggregators: Vec<Aggregator>,
    /// Width of a bucket, above 0.
    pub bucket: i64,
    /// A time at which a bucket starts.
    pub align: i64,
    /// What a bucket reports as its time.
    pub bucket_timestamp: BucketTimestamp,
    /// Reports buckets without samples too.
    pub empty: bool,
}

/// What a bucket reports as its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BucketTimestamp {
    /// Its first instant.
    #[default]
    Start,
    /// Start + bucket / 2.
    Mid,
    /// Start + bucket.
    End,
}

/// Aggregators of level L1. The numbers are those of the native protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Aggregator {
    /// Mean.
    Avg = 1,
    /// Sum.
    Sum = 2,
    /// Smallest.
    Min = 3,
    /// Largest.
    Max = 4,
    /// Largest minus smallest.
    Range = 5,
    /// How many.
    Count = 6,
    /// Earliest.
    First = 7,
    /// Latest.
    Last = 8,
    /// Standard deviation of the population.
    StdP = 9,
    /// Standard deviation of a sample.
    StdS = 10,
    /// Variance of the population.
    VarP = 11,
    /// Variance of a sample.
    VarS = 12,
    /// Time-weighted average.
    Twa = 13,
}

impl Aggregator {
    /// Each with its name, as TS.RANGE and the command line know it.
    pub const ALL: [(&'static str, Self); 13] = [
        ("avg", Self::Avg),
        ("sum", Self::Sum),
        ("min", Self::Min),
        ("max", Self::Max),
        ("range", Self::Range),
        ("count", Self::Count),
        ("first", Self::First),
        ("last", Self::Last),
        ("std.p", Self::StdP),
        ("std.s", Self::StdS),
        ("var.p", Self::VarP),
        ("var.s", Self::VarS),
        ("twa", Self::Twa),
    ];

    /// Reads the number that the native protocol sends.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().map(|(_, aggregator)| aggregator).find(|aggregator| *aggregator as u8 == byte)
    }
    /// Finds it by its name, in letters of either case.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        let is_named = |known: &&(&str, Self)| known.0.as_bytes().eq_ignore_ascii_case(name);
        Self::ALL.iter().find(is_named).map(|(_, aggregator)| *aggregator)
    }
}

/// A command that owns its bytes: parked, or on its way to another core.
#[derive(Clone, Debug)]
pub struct StoredCommand {
    bytes: Box<[u8]>,
    kind: StoredKind,
}

/// The owned shape: byte strings are lengths into `StoredCommand::bytes`, in order of appearance.
#[derive(Clone, Debug)]
enum StoredKind {
    Put { series: usize, slot: Slot, value: OwnedValue },
    PutBatch { entries: Vec<(usize, Slot, OwnedValue)> },
    GetAt { time: i64 },
    GetNewest,
    DeleteTimeRange { from: i64, to: i64 },
    DeleteSeries,
    DeletePrefix,
    DeleteAll,
    DeleteSlot { slot: Slot },
    Scan(ScanRequest),
    StringSet { key: usize, condition: SetCondition, return_old: bool },
    StringGet,
    StringGetAny,
    StringLength,
    KeyExists,
    KeyDelete,
    KeyType,
    KeyCount,
    KeyPage { from: Box<[u8]>, count: usize },
    SeriesCreate { options: SeriesOptions },
    SeriesAlter { changes: SeriesChanges },
    SeriesAdd { time: i64, value: f64, on_duplicate: Option<DuplicatePolicy>, create: Option<SeriesOptions> },
    SeriesGet,
    SeriesRange { query: Box<RangeQuery> },
    SeriesDelete { from: i64, to: i64 },
    SeriesInfo { details: bool },
}

impl StoredCommand {
    /// Whether it streams its reply, as its client takes it.
    #[must_use]
    pub fn is_scan(&self) -> bool {
        matches!(self.kind, StoredKind::Scan(_))
    }
    /// Bytes that it keeps alive.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let value_bytes = |value: &OwnedValue| match value {
            OwnedValue::Bytes(bytes) => bytes.len(),
            OwnedValue::F64(_) | OwnedValue::I64(_) => 0,
        };
        let kept = match &self.kind {
            StoredKind::Put { value, .. } => value_bytes(value),
            StoredKind::PutBatch { entries } => {
                let values: usize = entries.iter().map(|(_, _, value)| value_bytes(value)).sum();
                entries.capacity() * size_of::<(usize, Slot, OwnedValue)>() + values
            }
            _ => 0,
        };
        self.bytes.len() + kept + size_of::<Self>()
    }
    /// Borrows it as a command.
    #[must_use]
    pub fn borrow(&self) -> Command<'_> {
        let all = &*self.bytes;
        match &self.kind {
            StoredKind::Put { series, slot, value } => {
                Command::Put { series: &all[..*series], slot: *slot, value: value.borrow() }
            }
            StoredKind::PutBatch { entries } => {
                let mut rest = all;
                let entries = entries
                    .iter()
                    .map(|(series_bytes, slot, value)| {
                        let (series, tail) = rest.split_at(*series_bytes);
                        rest = tail;
                        StoredEntry { series, slot: *slot, value: value.borrow() }
                    })
                    .collect();
                Command::PutBatch { entries }
            }
            StoredKind::GetAt { time } => Command::GetAt { series: all, time: *time },
            StoredKind::GetNewest => Command::GetNewest { series: all },
            StoredKind::DeleteTimeRange { from, to } => {
                Command::Delete { scope: DeleteScope::TimeRange { series: all, from: *from, to: *to } }
            }
            StoredKind::DeleteSeries => Command::Delete { scope: DeleteScope::Series { series: all } },
            StoredKind::DeletePrefix => Command::Delete { scope: DeleteScope::Prefix { prefix: all } },
            StoredKind::DeleteAll => Command::Delete { scope: DeleteScope::All },
            StoredKind::DeleteSlot { slot } => Command::DeleteSlot { series: all, slot: *slot },
            StoredKind::Scan(request) => Command::Scan(request.clone()),
            StoredKind::StringSet { key, condition, return_old } => Command::StringSet {
                key: &all[..*key],
                value: &all[*key..],
                condition: *condition,
                return_old: *return_old,
            },
            StoredKind::StringGet => Command::StringGet { key: all },
            StoredKind::StringGetAny => Command::StringGetAny { key: all },
            StoredKind::StringLength => Command::StringLength { key: all },
            StoredKind::KeyExists => Command::KeyExists { key: all },
            StoredKind::KeyDelete => Command::KeyDelete { key: all },
            StoredKind::KeyType => Command::KeyType { key: all },
            StoredKind::KeyCount => Command::KeyCount,
            StoredKind::KeyPage { from, count } => Command::KeyPage { from: from.clone(), count: *count },
            StoredKind::SeriesCreate { options } => {
                Command::SeriesCreate { key: all, options: options.clone() }
            }
            StoredKind::SeriesAlter { changes } => {
                Command::SeriesAlter { key: all, changes: changes.clone() }
            }
            StoredKind::SeriesAdd { time, value, on_duplicate, create } => Command::SeriesAdd {
                key: all,
                time: *time,
                value: *value,
                on_duplicate: *on_duplicate,
                create: create.clone(),
            },
            StoredKind::SeriesGet => Command::SeriesGet { key: all },
            StoredKind::SeriesRange { query } => Command::SeriesRange { key: all, query: query.clone() },
            StoredKind::SeriesDelete { from, to } => Command::SeriesDelete { key: all, from: *from, to: *to },
            StoredKind::SeriesInfo { details } => Command::SeriesInfo { key: all, details: *details },
        }
    }
}

impl Command<'_> {
    /// The key that decides which shard executes it; `None` for commands on ranges, which go to several.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Put { series, .. }
            | Self::GetAt { series, .. }
            | Self::GetNewest { series }
            | Self::DeleteSlot { series, .. }
            | Self::Delete {
                scope: DeleteScope::TimeRange { series, .. } | DeleteScope::Series { series },
            } => Some(series),
            Self::PutBatch { entries } => entries.first().map(|entry| entry.series),
            Self::StringSet { key, .. }
            | Self::StringGet { key }
            | Self::StringGetAny { key }
            | Self::StringLength { key }
            | Self::KeyExists { key }
            | Self::KeyDelete { key }
            | Self::KeyType { key }
            | Self::SeriesCreate { key, .. }
            | Self::SeriesAlter { key, .. }
            | Self::SeriesAdd { key, .. }
            | Self::SeriesGet { key }
            | Self::SeriesRange { key, .. }
            | Self::SeriesDelete { key, .. }
            | Self::SeriesInfo { key, .. } => Some(key),
            Self::Delete { scope: DeleteScope::Prefix { .. } | DeleteScope::All }
            | Self::Scan(_)
            | Self::KeyCount
            | Self::KeyPage { .. } => None,
        }
    }

    /// A copy that owns its bytes.
    #[must_use]
    pub fn to_stored(&self) -> StoredCommand {
        let mut bytes = Vec::new();
        let kind = match self {
            Self::Put { series, slot, value } => {
                bytes.extend_from_slice(series);
                StoredKind::Put { series: series.len(), slot: *slot, value: value.into_owned() }
            }
            Self::PutBatch { entries } => {
                let entries = entries
                    .iter()
                    .map(|entry| {
                        bytes.extend_from_slice(entry.series);
                        (entry.series.len(), entry.slot, entry.value.into_owned())
                    })
                    .collect();
                StoredKind::PutBatch { entries }
            }
            Self::StringSet { key, value, condition, return_old } => {
                bytes.reserve_exact(key.len() + value.len());
                bytes.extend_from_slice(key);
                bytes.extend_from_slice(value);
                StoredKind::StringSet { key: key.len(), condition: *condition, return_old: *return_old }
            }
            Self::Delete { scope: DeleteScope::Prefix { prefix } } => {
                bytes.extend_from_slice(prefix);
                StoredKind::DeletePrefix
            }
            other => {
                bytes.extend_from_slice(other.key().unwrap_or_default());
                other.kind_of_single_key()
            }
        };
        StoredCommand { bytes: bytes.into_boxed_slice(), kind }
    }

    /// The owned shape of the commands whose only byte string is their key.
    fn kind_of_single_key(&self) -> StoredKind {
        match self {
            Self::GetAt { time, .. } => StoredKind::GetAt { time: *time },
            Self::GetNewest { .. } => StoredKind::GetNewest,
            Self::Delete { scope: DeleteScope::TimeRange { from, to, .. } } => {
                StoredKind::DeleteTimeRange { from: *from, to: *to }
            }
            Self::Delete { scope: DeleteScope::Series { .. } } => StoredKind::DeleteSeries,
            Self::Delete { scope: DeleteScope::All } => StoredKind::DeleteAll,
            Self::DeleteSlot { slot, .. } => StoredKind::DeleteSlot { slot: *slot },
            Self::Scan(request) => StoredKind::Scan(request.clone()),
            Self::StringGet { .. } => StoredKind::StringGet,
            Self::StringGetAny { .. } => StoredKind::StringGetAny,
            Self::StringLength { .. } => StoredKind::StringLength,
            Self::KeyExists { .. } => StoredKind::KeyExists,
            Self::KeyDelete { .. } => StoredKind::KeyDelete,
            Self::KeyType { .. } => StoredKind::KeyType,
            Self::KeyCount => StoredKind::KeyCount,
            Self::KeyPage { from, count } => StoredKind::KeyPage { from: from.clone(), count: *count },
            Self::SeriesCreate { options, .. } => StoredKind::SeriesCreate { options: options.clone() },
            Self::SeriesAlter { changes, .. } => StoredKind::SeriesAlter { changes: changes.clone() },
            Self::SeriesAdd { time, value, on_duplicate, create, .. } => StoredKind::SeriesAdd {
                time: *time,
                value: *value,
                on_duplicate: *on_duplicate,
                create: create.clone(),
            },
            Self::SeriesGet { .. } => StoredKind::SeriesGet,
            Self::SeriesRange { query, .. } => StoredKind::SeriesRange { query: query.clone() },
            Self::SeriesDelete { from, to, .. } => StoredKind::SeriesDelete { from: *from, to: *to },
            Self::SeriesInfo { details, .. } => StoredKind::SeriesInfo { details: *details },
            Self::Put { .. }
            | Self::PutBatch { .. }
            | Self::StringSet { .. }
            | Self::Delete { scope: DeleteScope::Prefix { .. } } => {
                unreachable!("commands with more than a key are stored by their caller")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_command_is_the_command_again() {
        // A field lost here is lost on every forwarded or parked request.
        let entry = |series, value| StoredEntry { series, slot: Slot::Time(-1), value };
        let commands = [
            Command::Put { series: b"s", slot: Slot::Timeless, value: Value::Bytes(b"v") },
            Command::PutBatch {
                entries: vec![entry(b"ab", Value::I64(3)), entry(b"c", Value::Bytes(b"xy"))],
            },
            Command::Delete { scope: DeleteScope::TimeRange { series: b"s", from: 1, to: 2 } },
            Command::Delete { scope: DeleteScope::Series { series: b"s" } },
            Command::Delete { scope: DeleteScope::Prefix { prefix: b"p" } },
            Command::Delete { scope: DeleteScope::All },
            Command::DeleteSlot { series: b"s", slot: Slot::Time(4) },
            Command::StringSet {
                key: b"k",
                value: b"long value",
                condition: SetCondition::IfAbsent,
                return_old: true,
            },
            Command::StringGet { key: b"k" },
            Command::KeyCount,
            Command::KeyPage { from: (*b"k").into(), count: 10 },
            Command::SeriesAdd { key: b"k", time: 1, value: 2.0, on_duplicate: None, create: None },
            Command::SeriesDelete { key: b"k", from: 3, to: 9 },
            Command::SeriesAlter {
                key: b"k",
                changes: SeriesChanges { retention: Some(5), ..SeriesChanges::default() },
            },
        ];
        for command in commands {
            assert_eq!(command.to_stored().borrow(), command);
        }
    }
}
