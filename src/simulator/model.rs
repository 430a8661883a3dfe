//! What a key should hold, what each operation does to it, and what each question should be answered.
//!
//! The plainest possible store: one map per key. It knows nothing of logs, tables, cores or time, and shares no code
//! with the real one.

use crate::model::{Aggregator, OwnedValue};
use std::collections::BTreeMap;

/// What one key holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct KeyState {
    /// TS.CREATE or TS.ADD made a series of it.
    pub(super) has_metadata: bool,
    /// The string.
    pub(super) text: Option<OwnedValue>,
    pub(super) samples: BTreeMap<i64, OwnedValue>,
    /// TS.ADD found a series without metadata whose samples may have been too old: it may have made some, or not.
    pub(super) is_metadata_in_doubt: bool,
}

/// Something that changes keys. Keys are indexes into the run's list of names.
#[derive(Clone, Debug)]
pub(super) enum Mutation {
    /// SET.
    Set { key: usize, value: OwnedValue },
    /// DEL.
    Del { key: usize },
    /// TS.ADD, with ON_DUPLICATE LAST when `overwrite`.
    Add { key: usize, time: i64, value: f64, overwrite: bool },
    /// TS.DEL.
    RemoveTimes { key: usize, from: i64, to: i64 },
    /// Native PUT of one entry, PUT batch of several: key, time, value.
    Put { entries: Vec<(usize, i64, OwnedValue)> },
    /// Native DELETE of a time range.
    DeleteTimes { key: usize, from: i64, to: i64 },
    /// Native DELETE of one sample.
    DeleteAt { key: usize, time: i64 },
    /// Native DELETE of a series.
    DeleteSeries { key: usize },
    /// Native DELETE of a prefix; of everything when it is empty. FLUSHALL on a RESP connection.
    DeletePrefix { prefix: Vec<u8> },
}

/// Something that only looks.
#[derive(Clone, Debug)]
pub(super) enum Query {
    /// GET.
    Get { key: usize },
    /// TS.GET.
    Latest { key: usize },
    /// TS.RANGE or TS.REVRANGE.
    Range { key: usize, from: i64, to: i64, reverse: bool, count: Option<usize> },
    /// TS.RANGE or TS.REVRANGE with AGGREGATION.
    Aggregate { key: usize, from: i64, to: i64, reverse: bool, count: Option<usize>, fold: Fold, bucket: i64 },
    /// Native GET of one time.
    At { key: usize, time: i64 },
    /// Native GET of the newest sample.
    Newest { key: usize },
    /// KEYS of those that start with `prefix`.
    Keys { prefix: Vec<u8> },
    /// Native SCAN of every key that starts with `prefix`.
    Scan { prefix: Vec<u8>, from: i64, to: i64, reverse: bool, limit: u64, gather: Gather },
}

/// What a scan shows of each series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gather {
    /// Every sample.
    All,
    /// The newest sample of the time range.
    Newest,
    /// A value for each stretch of time, counted from 0, that holds samples of the range.
    Buckets { fold: Fold, bucket: i64 },
}

/// An aggregator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    Avg,
    Sum,
    Min,
    Max,
    Count,
    First,
    Last,
    Range,
}

impl Fold {
    pub(super) const ALL: [Self; 8] =
        [Self::Avg, Self::Sum, Self::Min, Self::Max, Self::Count, Self::First, Self::Last, Self::Range];
    /// As the native protocol has it.
    pub(super) fn aggregator(self) -> Aggregator {
        match self {
            Self::Avg => Aggregator::Avg,
            Self::Sum => Aggregator::Sum,
            Self::Min => Aggregator::Min,
            Self::Max => Aggregator::Max,
            Self::Count => Aggregator::Count,
            Self::First => Aggregator::First,
            Self::Last => Aggregator::Last,
            Self::Range => Aggregator::Range,
        }
    }
    /// As TS.RANGE spells it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Avg => "avg",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::Count => "count",
            Self::First => "first",
            Self::Last => "last",
            Self::Range => "range",
        }
    }
    /// Over at least one value, in order of time. Values are whole numbers below 2^32: sums are exact.
    #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^53 values")]
    fn over(self, values: &[f64]) -> f64 {
        let sum: f64 = values.iter().sum();
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match self {
            Self::Avg => sum / values.len() as f64,
            Self::Sum => sum,
            Self::Min => min,
            Self::Max => max,
            Self::Count => values.len() as f64,
            Self::First => values.first().copied().unwrap_or(f64::NAN),
            Self::Last => values.last().copied().unwrap_or(f64::NAN),
            Self::Range => max - min,
        }
    }
}

/// A reply, whatever the protocol.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Done,
    Integer(i64),
    Text(Option<OwnedValue>),
    /// Samples in the order of the reply; at most one for a question about one.
    Rows(Vec<(i64, OwnedValue)>),
    /// The key holds something else, or nothing, or the sample is there already.
    Refused,
    /// Keys, in no order.
    Names(Vec<Box<[u8]>>),
    /// Entries of a scan in order.
    Entries(Vec<Entry>),
    /// An error that no operation of the simulation should meet.
    Failed(String),
}

/// What an error reply says of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing was done: the node cannot keep up, or is going down.
    Refused,
    /// Nothing was done: the disk is full.
    NoSpace,
    /// Nothing was done: the disk fails to take what the log needs next.
    Disk,
    /// Nothing was done: what had to be read first cannot be read.
    Read,
    /// The log failed: it may have been done or not.
    Log,
    /// Nothing was done: a sample is too old.
    Expired,
}

impl Answer {
    /// What kind of error it is; `None` for a success and for errors that nothing explains.
    pub(super) fn failure(&self) -> Option<Failure> {
        let Self::Failed(text) = self else { return None };
        let kinds = [
            ("writes arrive faster than the disk takes them", Failure::Refused),
            ("the server is shutting down", Failure::Refused),
            ("the disk is full", Failure::NoSpace),
            ("the disk takes no new log segment or table", Failure::Disk),
            ("a write to the log failed", Failure::Log),
            ("a block could not be read", Failure::Read),
            ("Timestamp is older than retention", Failure::Expired),
        ];
        kinds.into_iter().find(|(part, _)| text.contains(part)).map(|(_, kind)| kind)
    }
    /// Whether two answers are the same, up to the last digits of numbers that a client reads as text.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        let (Self::Rows(own), Self::Rows(others)) = (self, other) else { return self == other };
        let close = |own: &OwnedValue, other: &OwnedValue| match (own, other) {
            (OwnedValue::F64(own), OwnedValue::F64(other)) => (own - other).abs() <= own.abs() * 1e-12,
            _ => own == other,
        };
        let same = |(own, other): (&(i64, OwnedValue), &(i64, OwnedValue))| {
            own.0 == other.0 && close(&own.1, &other.1)
        };
        own.len() == others.len() && own.iter().zip(others).all(same)
    }
}

/// One entry of a scan.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: Vec<u8>,
    pub(super) time: i64,
    pub(super) value: OwnedValue,
}

impl Mutation {
    /// The earliest sample that it writes.
    pub(super) fn earliest(&self) -> Option<i64> {
        match self {
            Self::Add { time, .. } => Some(*time),
            Self::Put { entries } => entries.iter().map(|(_, time, _)| *time).min(),
            _ => None,
        }
    }
    /// The keys that it touches, each once.
    pub(super) fn keys(&self, names: &[Vec<u8>]) -> Vec<usize> {
        match self {
            Self::Set { key, .. }
            | Self::Del { key }
            | Self::Add { key, .. }
            | Self::RemoveTimes { key, .. }
            | Self::DeleteTimes { key, .. }
            | Self::DeleteAt { key, .. }
            | Self::DeleteSeries { key } => vec![*key],
            Self::Put { entries } => {
                let mut keys: Vec<usize> = entries.iter().map(|(key, _, _)| *key).collect();
                keys.sort_unstable();
                keys.dedup();
                keys
            }
            Self::DeletePrefix { prefix } => {
                (0..names.len()).filter(|key| names[*key].starts_with(prefix)).collect()
            }
        }
    }
    /// Does to `state` what it does to one of its keys, and says what the client should hear.
    ///
    /// `may_age`: samples may be too old.
    pub(super) fn apply(&self, at: usize, state: &mut KeyState, may_age: bool) -> Answer {
        match self {
            Self::Set { value, .. } => {
                if state.is_series() {
                    *state = KeyState::default();
                }
                state.text = Some(value.clone());
            }
            Self::Del { .. } => {
                let present = state.is_live();
                *state = KeyState::default();
                return Answer::Integer(i64::from(present));
            }
            Self::Add { time, value, overwrite, .. } => {
                if state.text.is_some() || (state.samples.contains_key(time) && !overwrite) {
                    return Answer::Refused;
                }
                state.is_metadata_in_doubt |= may_age && !state.has_metadata && !state.samples.is_empty();
                state.has_metadata |= state.samples.is_empty();
                state.samples.insert(*time, OwnedValue::F64(*value));
                return Answer::Integer(*time);
            }
            Self::RemoveTimes { from, to, .. } => {
                if state.text.is_some() || !state.is_series() {
                    return Answer::Refused;
                }
                let before = state.samples.len();
                state.samples.retain(|time, _| !(from..=to).contains(&time));
                return Answer::Integer(i64::try_from(before - state.samples.len()).unwrap_or(i64::MAX));
            }
            Self::Put { entries } => {
                let own = entries.iter().filter(|(key, _, _)| *key == at);
                own.for_each(|(_, time, value)| drop(state.samples.insert(*time, value.clone())));
            }
            Self::DeleteTimes { from, to, .. } => {
                state.samples.retain(|time, _| !(from..=to).contains(&time))
            }
            Self::DeleteAt { time, .. } => drop(state.samples.remove(time)),
            Self::DeleteSeries { .. } | Self::DeletePrefix { .. } => *state = KeyState::default(),
        }
        Answer::Done
    }
}

impl KeyState {
    /// Whether there is such a key.
    pub(super) fn is_live(&self) -> bool {
        self.text.is_some() || self.is_series()
    }
    fn is_series(&self) -> bool {
        self.has_metadata || !self.samples.is_empty()
    }
    /// What it may look like to a reader for whom samples before `cutoff` are gone.
    pub(super) fn aged(&self, cutoff: i64) -> impl Iterator<Item = Self> {
        let mut aged = self.clone();
        aged.samples = aged.samples.split_off(&cutoff);
        let in_doubt = std::mem::take(&mut aged.is_metadata_in_doubt);
        let other = in_doubt.then(|| Self { has_metadata: !aged.has_metadata, ..aged.clone() });
        std::iter::once(aged).chain(other)
    }
    /// The samples within a range, in the order asked for.
    pub(super) fn rows(&self, from: i64, to: i64, reverse: bool) -> Vec<(i64, OwnedValue)> {
        let mut rows: Vec<_> = match from <= to {
            true => self.samples.range(from..=to).map(|(time, value)| (*time, value.clone())).collect(),
            false => Vec::new(),
        };
        if reverse {
            rows.reverse();
        }
        rows
    }
    /// What a scan shows of it.
    pub(super) fn gathered(
        &self,
        from: i64,
        to: i64,
        reverse: bool,
        gather: Gather,
    ) -> Vec<(i64, OwnedValue)> {
        match gather {
            Gather::All => self.rows(from, to, reverse),
            Gather::Newest => self.rows(from, to, true).into_iter().take(1).collect(),
            Gather::Buckets { fold, bucket } => {
                let mut rows = self.buckets(from, to, fold, bucket);
                if reverse {
                    rows.reverse();
                }
                rows
            }
        }
    }
    /// A row for each stretch of time, counted from 0, that holds samples of the range.
    fn buckets(&self, from: i64, to: i64, fold: Fold, bucket: i64) -> Vec<(i64, OwnedValue)> {
        let mut buckets: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        for (time, value) in self.rows(from, to, false) {
            let value = value.borrow().as_f64().unwrap_or(f64::NAN);
            buckets.entry(time.div_euclid(bucket) * bucket).or_default().push(value);
        }
        buckets.into_iter().map(|(start, values)| (start, OwnedValue::F64(fold.over(&values)))).collect()
    }
    /// The right answer to a question about one key.
    ///
    /// # Panics
    /// On what may be about several keys.
    pub(super) fn answer(&self, query: &Query) -> Answer {
        let numbers = |mut rows: Vec<(i64, OwnedValue)>| {
            rows.iter_mut().for_each(|(_, value)| {
                *value = OwnedValue::F64(value.borrow().as_f64().unwrap_or(f64::NAN));
            });
            Answer::Rows(rows)
        };
        let newest = || self.rows(i64::MIN, i64::MAX, true).into_iter().take(1).collect::<Vec<_>>();
        match query {
            Query::Get { .. } if self.text.is_none() && self.is_series() => Answer::Refused,
            Query::Get { .. } => Answer::Text(self.text.clone()),
            Query::Latest { .. } | Query::Range { .. } | Query::Aggregate { .. }
                if self.text.is_some() || !self.is_series() =>
            {
                Answer::Refused
            }
            Query::Latest { .. } => numbers(newest()),
            Query::Range { from, to, reverse, count, .. } => {
                let mut rows = self.rows(*from, *to, *reverse);
                rows.truncate(count.unwrap_or(usize::MAX));
                numbers(rows)
            }
            Query::Aggregate { from, to, reverse, count, fold, bucket, .. } => {
                let mut rows = self.buckets(*from, *to, *fold, *bucket);
                if *reverse {
                    rows.reverse();
                }
                rows.truncate(count.unwrap_or(usize::MAX));
                Answer::Rows(rows)
            }
            Query::At { time, .. } => Answer::Rows(self.rows(*time, *time, false)),
            Query::Newest { .. } => Answer::Rows(newest()),
            Query::Keys { .. } | Query::Scan { .. } => panic!("a scan is answered key by key"),
        }
    }
}
