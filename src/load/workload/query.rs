//! The TSBS queries that a key-value store of series can answer, each kind alone, one after the other.
//!
//! | query | answer of the server | over RESP (TS.*) | over the native protocol |
//! |---|---|---|---|
//! | single-groupby-M-H-T | max per minute | TS.RANGE of each series | a scan of each series |
//! | cpu-max-all-H | max per hour, 8 h (H 32: 24 h), 10 metrics | TS.RANGE of each series | a scan of each series |
//! | double-groupby-M | mean per hour, 12 h, all hosts | TS.RANGE of each series | a scan of each metric's prefix |
//! | high-cpu-1, -all | points of 10 metrics, 12 h | TS.RANGE of each series | scans of series, or of prefixes |
//! | lastpoint | newest sample of every series | TS.GET of each series | a scan of each metric's prefix |
//! | groupby-orderby-limit | max per minute, 5 minutes, all hosts | TS.RANGE of each series | a scan of the prefix |
//!
//! Names with all tags begin with the host: a metric has no prefix then, and each series is asked for. The `values`
//! column counts what the server answered with. What a client does with the answers is left out: merging the series'
//! buckets, sorting the last query's, and filtering the points of high-cpu by their value, which the store cannot do.

use super::super::random::{below, draw};
use super::super::schedule::Share;
use super::mixed::{SeriesRead, answer_of, put_latest, put_newest_of, put_range, put_scan};
use super::series_name::{CPU_FIELD_COUNT, Host, KeyStyle, SeriesNames};
use super::tsbs::TsbsOptions;
use super::{Dialect, Issued, Workload};
use crate::model::{Aggregator, KeyRange};
use serde::{Deserialize, Serialize};

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;
const WINDOW_DICE: u64 = 0x7769_6e64;
const HOST_DICE: u64 = 0x686f_7374;

/// One kind of query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryKind {
    name: String,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Shape {
    /// Stretches of series of a few hosts, or of all (`hosts` 0).
    Ranges { metrics: usize, hosts: u64, window_ms: i64, bucket: Option<Bucket> },
    /// The newest sample of every series.
    LastPoint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Bucket {
    MaxPerMinute,
    MaxPerHour,
    MeanPerHour,
}

impl QueryKind {
    /// The names that [`QueryKind::parse`] knows.
    pub const NAMES: [&'static str; 16] = [
        "single-groupby-1-1-1",
        "single-groupby-1-1-12",
        "single-groupby-1-8-1",
        "single-groupby-5-1-1",
        "single-groupby-5-1-12",
        "single-groupby-5-8-1",
        "cpu-max-all-1",
        "cpu-max-all-8",
        "cpu-max-all-32-24",
        "double-groupby-1",
        "double-groupby-5",
        "double-groupby-all",
        "high-cpu-1",
        "high-cpu-all",
        "lastpoint",
        "groupby-orderby-limit",
    ];

    /// The kind of this name; none where there is none, or the store cannot answer it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let ranges = |metrics, hosts, hours, bucket| Shape::Ranges {
            metrics,
            hosts,
            window_ms: hours * HOUR_MS,
            bucket,
        };
        let shape = match name {
            "single-groupby-1-1-1" => ranges(1, 1, 1, Some(Bucket::MaxPerMinute)),
            "single-groupby-1-1-12" => ranges(1, 1, 12, Some(Bucket::MaxPerMinute)),
            "single-groupby-1-8-1" => ranges(1, 8, 1, Some(Bucket::MaxPerMinute)),
            "single-groupby-5-1-1" => ranges(5, 1, 1, Some(Bucket::MaxPerMinute)),
            "single-groupby-5-1-12" => ranges(5, 1, 12, Some(Bucket::MaxPerMinute)),
            "single-groupby-5-8-1" => ranges(5, 8, 1, Some(Bucket::MaxPerMinute)),
            "cpu-max-all-1" => ranges(10, 1, 8, Some(Bucket::MaxPerHour)),
            "cpu-max-all-8" => ranges(10, 8, 8, Some(Bucket::MaxPerHour)),
            "cpu-max-all-32-24" => ranges(10, 32, 24, Some(Bucket::MaxPerHour)),
            "double-groupby-1" => ranges(1, 0, 12, Some(Bucket::MeanPerHour)),
            "double-groupby-5" => ranges(5, 0, 12, Some(Bucket::MeanPerHour)),
            "double-groupby-all" => ranges(10, 0, 12, Some(Bucket::MeanPerHour)),
            "high-cpu-1" => ranges(10, 1, 12, None),
            "high-cpu-all" => ranges(10, 0, 12, None),
            "lastpoint" => Shape::LastPoint,
            "groupby-orderby-limit" => {
                let bucket = Some(Bucket::MaxPerMinute);
                Shape::Ranges { metrics: 1, hosts: 0, window_ms: 5 * MINUTE_MS, bucket }
            }
            _ => return None,
        };
        Some(Self { name: name.to_owned(), shape })
    }
}

/// Which queries, over which data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueryOptions {
    /// The rows that were loaded; `ticks` says until when.
    pub rows: TsbsOptions,
    /// The kinds, in order.
    pub kinds: Vec<QueryKind>,
    /// Queries of each kind.
    pub count: u64,
}

/// Makes the queries of one thread.
#[derive(Debug)]
pub(super) struct QueryWorkload {
    options: QueryOptions,
    names: SeriesNames,
    share: Share,
    made: u64,
    key: Vec<u8>,
}

impl QueryWorkload {
    pub(super) fn new(options: &QueryOptions, share: Share) -> Self {
        let names = SeriesNames::new(options.rows.key_style, options.rows.seed);
        Self { options: options.clone(), names, share, made: 0, key: Vec::new() }
    }

    fn put_ranges(&mut self, put: &mut Put<'_>, sequence: u64, shape: Shape) {
        let Shape::Ranges { metrics, hosts, window_ms, bucket } = shape else { return };
        let rows = &self.options.rows;
        let span_ms =
            i64::try_from(rows.ticks.unwrap_or(0)).unwrap_or(i64::MAX).saturating_mul(rows.interval_ms);
        let slack_ms = u64::try_from(span_ms.saturating_sub(window_ms)).unwrap_or(0);
        let die = draw(rows.seed ^ WINDOW_DICE, sequence);
        let start_ms = rows.start_ms + i64::try_from(below(die, slack_ms + 1)).unwrap_or(0);
        // Half open: both ends of the store's ranges are included.
        let from = start_ms.saturating_mul(rows.units_per_ms);
        let to = start_ms.saturating_add(window_ms).saturating_mul(rows.units_per_ms) - 1;
        let bucket = bucket.map(|bucket| {
            let (aggregator, width_ms) = match bucket {
                Bucket::MaxPerMinute => (Aggregator::Max, MINUTE_MS),
                Bucket::MaxPerHour => (Aggregator::Max, HOUR_MS),
                Bucket::MeanPerHour => (Aggregator::Avg, HOUR_MS),
            };
            (aggregator, width_ms.saturating_mul(rows.units_per_ms))
        });
        let by_prefix = hosts == 0 && self.has_prefixes();
        for field in 0..metrics.min(CPU_FIELD_COUNT) {
            if by_prefix {
                self.key.clear();
                self.names.put_field_prefix(&mut self.key, field);
                let keys = keys_with_prefix(&self.key);
                put.part(|out, id| put_scan(out, id, keys, from..=to, answer_of(bucket)));
                continue;
            }
            for host in chosen_hosts(&self.options.rows, hosts, sequence) {
                self.key.clear();
                self.names.put(&mut self.key, host, field);
                let read = SeriesRead { key: &self.key, from, to, bucket };
                let dialect = put.dialect;
                put.part(|out, id| put_range(out, id, dialect, &read));
            }
        }
    }

    /// Whether one request can ask for a metric of all hosts.
    fn has_prefixes(&self) -> bool {
        self.options.rows.dialect == Dialect::Native && self.options.rows.key_style == KeyStyle::Short
    }

    fn put_last_points(&mut self, put: &mut Put<'_>) {
        if self.has_prefixes() {
            for field in 0..CPU_FIELD_COUNT {
                self.key.clear();
                self.names.put_field_prefix(&mut self.key, field);
                let keys = keys_with_prefix(&self.key);
                put.part(|out, id| put_newest_of(out, id, keys));
            }
            return;
        }
        for index in 0..self.options.rows.hosts {
            for field in 0..CPU_FIELD_COUNT {
                self.key.clear();
                self.names.put(&mut self.key, Host { index, generation: 0 }, field);
                let dialect = put.dialect;
                put.part(|out, id| put_latest(out, id, dialect, &self.key));
            }
        }
    }
}

/// The hosts of a query: distinct ones by lot, or all where `count` is 0.
fn chosen_hosts(rows: &TsbsOptions, count: u64, sequence: u64) -> Vec<Host> {
    let host = |index| Host { index, generation: 0 };
    if count == 0 || count >= rows.hosts {
        return (0..rows.hosts).map(host).collect();
    }
    // A lot and its neighbours at equal distance: distinct without a set.
    let first = below(draw(rows.seed ^ HOST_DICE, sequence), rows.hosts);
    let distance = (rows.hosts / count).max(1);
    (0..count).map(|step| host((first + step * distance) % rows.hosts)).collect()
}

/// All keys that begin with `prefix`, which is text.
fn keys_with_prefix(prefix: &[u8]) -> KeyRange {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    KeyRange { start: prefix.into(), end: Some(end.into()) }
}

/// Collects the requests of one query.
struct Put<'a> {
    out: &'a mut Vec<u8>,
    next_id: u64,
    dialect: Dialect,
    part_ends: Vec<usize>,
}

impl Put<'_> {
    fn part(&mut self, put: impl FnOnce(&mut Vec<u8>, u64)) {
        put(self.out, self.next_id);
        self.next_id += 1;
        self.part_ends.push(self.out.len());
    }
}

impl Workload for QueryWorkload {
    fn op_names(&self) -> Vec<String> {
        self.options.kinds.iter().map(|kind| kind.name.clone()).collect()
    }
    fn issue(&mut self, out: &mut Vec<u8>, first_id: u64) -> Option<Issued> {
        let sequence = self.made * self.share.threads + self.share.thread;
        self.made += 1;
        let index = usize::try_from(sequence / self.options.count.max(1)).ok()?;
        let shape = self.options.kinds.get(index)?.shape;
        let dialect = self.options.rows.dialect;
        let mut put = Put { out, next_id: first_id, dialect, part_ends: Vec::new() };
        match shape {
            Shape::Ranges { .. } => self.put_ranges(&mut put, sequence, shape),
            Shape::LastPoint => self.put_last_points(&mut put),
        }
        let op = u8::try_from(index).ok()?;
        Some(Issued { op, sequence, part_ends: put.part_ends, ..Issued::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tsbs::tests::options;
    use super::*;

    #[test]
    fn queries_read_what_the_recipe_says() {
        // A query that reads fewer series than its name says is faster than those of others.
        let rows = TsbsOptions { ticks: Some(8_640), ..options(100, 0) };
        let expected = [1, 1, 8, 5, 5, 40, 10, 80, 320, 1, 5, 10, 10, 10, 10, 1];
        let expected_resp = [1, 1, 8, 5, 5, 40, 10, 80, 320, 100, 500, 1000, 10, 1000, 1000, 100];
        for (dialect, expected) in [(Dialect::Native, expected), (Dialect::Series, expected_resp)] {
            let kinds = QueryKind::NAMES.iter().map(|name| QueryKind::parse(name).unwrap()).collect();
            let options = QueryOptions { rows: TsbsOptions { dialect, ..rows.clone() }, kinds, count: 2 };
            let mut workload = QueryWorkload::new(&options, Share { thread: 0, threads: 1 });
            let mut out = Vec::new();
            for (index, requests) in expected.iter().enumerate() {
                for _ in 0..2 {
                    out.clear();
                    let issued = workload.issue(&mut out, 1).unwrap();
                    assert_eq!((usize::from(issued.op), issued.part_ends.len()), (index, *requests));
                    assert_eq!(issued.part_ends.last(), Some(&out.len()));
                }
            }
            assert_eq!(workload.issue(&mut out, 1), None);
        }
        assert_eq!(QueryKind::parse("iot"), None);
        let hosts = chosen_hosts(&rows, 8, 3);
        let distinct: std::collections::BTreeSet<u64> = hosts.iter().map(|host| host.index).collect();
        assert_eq!(distinct.len(), 8);
    }
}
