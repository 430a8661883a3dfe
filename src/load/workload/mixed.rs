//! Rows of the TSBS shape, with reads of what was written between the writes.

use super::super::random::{below, draw};
use super::super::schedule::Share;
use super::super::wire::put_bulk;
use super::keys::Recency;
use super::kv::put_command_start;
use super::series_name::{CPU_FIELD_COUNT, SeriesNames};
use super::tsbs::{TsbsOptions, TsbsWorkload};
use super::{Dialect, Issued, Workload};
use crate::limits::SCAN_CREDIT_MAX;
use crate::load::wire::SCAN_CREDIT;
use crate::model::{Aggregator, BucketGrid, Command, KeyRange, ScanAnswer, ScanRequest};
use crate::protocol::binary::{Request, encode_request};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

const KIND_DICE: u64 = 0x6b69_6e64;
const PLACE_DICE: u64 = 0x706c_6163;
const END_DICE: u64 = 0x656e_6465;
/// Range reads and aggregates look back this far.
const RANGE_MS: i64 = 3_600_000;
/// Aggregates are per minute.
const BUCKET_MS: i64 = 60_000;
const _: () = assert!(SCAN_CREDIT <= SCAN_CREDIT_MAX);

/// A read of one series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ReadKind {
    /// The newest sample.
    Latest,
    /// The samples of an hour.
    Range,
    /// An hour, the maximum of each minute.
    Aggregate,
}

impl ReadKind {
    /// The operation's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Range => "range",
            Self::Aggregate => "agg",
        }
    }
}

/// What a mixed workload is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MixOptions {
    /// What is written.
    pub rows: TsbsOptions,
    /// Weight of writes.
    pub write: u64,
    /// Reads, and the weight of each.
    pub reads: Vec<(ReadKind, u64)>,
    /// Where the hours end: at the newest rows, or anywhere in what was written.
    pub recency: Recency,
}

/// Makes the operations of one thread.
#[derive(Debug)]
pub(super) struct MixedWorkload {
    options: MixOptions,
    writes: TsbsWorkload,
    names: SeriesNames,
    share: Share,
    made: u64,
    key: Vec<u8>,
}

impl MixedWorkload {
    pub(super) fn new(options: &MixOptions, share: Share) -> Self {
        Self {
            writes: TsbsWorkload::new(&options.rows, share),
            names: SeriesNames::new(options.rows.key_style, options.rows.seed),
            options: options.clone(),
            share,
            made: 0,
            key: Vec::new(),
        }
    }

    /// Index of the next operation: 0 writes, others read.
    fn choose(&self, sequence: u64) -> usize {
        let reads = self.options.reads.iter().map(|(_, weight)| *weight);
        let total = self.options.write + reads.clone().sum::<u64>();
        let mut place = below(draw(self.options.rows.seed ^ KIND_DICE, sequence), total);
        for (index, weight) in std::iter::once(self.options.write).chain(reads).enumerate() {
            if place < weight {
                return index;
            }
            place -= weight;
        }
        0
    }

    fn put_read(&mut self, out: &mut Vec<u8>, id: u64, kind: ReadKind, sequence: u64) {
        let die = draw(self.options.rows.seed ^ PLACE_DICE, sequence);
        let hosts = self.writes.walks().hosts();
        let host = hosts[usize::try_from(below(die, hosts.len() as u64)).unwrap_or(0)];
        let field = usize::try_from(die % CPU_FIELD_COUNT as u64).unwrap_or(0);
        self.key.clear();
        self.names.put(&mut self.key, host, field);
        let rows = &self.options.rows;
        let now = self.writes.walks().tick();
        let tick = match self.options.recency {
            Recency::Latest => now,
            Recency::Uniform => below(draw(rows.seed ^ END_DICE, sequence), now + 1),
        };
        let to = rows.time_of(tick);
        let from = to.saturating_sub(RANGE_MS.saturating_mul(rows.units_per_ms));
        let bucket = BUCKET_MS.saturating_mul(rows.units_per_ms);
        let read = SeriesRead {
            key: &self.key,
            from,
            to,
            bucket: (kind == ReadKind::Aggregate).then_some((Aggregator::Max, bucket)),
        };
        match kind {
            ReadKind::Latest => put_latest(out, id, rows.dialect, &self.key),
            ReadKind::Range | ReadKind::Aggregate => put_range(out, id, rows.dialect, &read),
        }
    }
}

impl Workload for MixedWorkload {
    fn op_names(&self) -> Vec<String> {
        let reads = self.options.reads.iter().map(|(kind, _)| kind.name().to_owned());
        std::iter::once("write".to_owned()).chain(reads).collect()
    }
    fn issue(&mut self, out: &mut Vec<u8>, first_id: u64) -> Option<Issued> {
        let sequence = self.made * self.share.threads + self.share.thread;
        self.made += 1;
        match self.choose(sequence) {
            0 => self.writes.issue(out, first_id),
            index => {
                let (kind, _) = self.options.reads[index - 1];
                self.put_read(out, first_id, kind, sequence);
                Some(Issued { op: u8::try_from(index).unwrap_or(u8::MAX), sequence, ..Issued::default() })
            }
        }
    }
}

/// A read of a stretch of one series, both ends included.
pub(super) struct SeriesRead<'a> {
    pub(super) key: &'a [u8],
    pub(super) from: i64,
    pub(super) to: i64,
    /// Aggregator and width of a bucket, in the store's unit.
    pub(super) bucket: Option<(Aggregator, i64)>,
}

impl SeriesRead<'_> {
    /// What a native scan answers with.
    pub(super) fn answer(&self) -> ScanAnswer {
        answer_of(self.bucket)
    }
}

/// What a native scan answers with.
pub(super) fn answer_of(bucket: Option<(Aggregator, i64)>) -> ScanAnswer {
    bucket.map_or(ScanAnswer::Entries, |(aggregator, width)| ScanAnswer::Buckets {
        aggregator,
        grid: BucketGrid { width, align: 0 },
    })
}

/// As TS.RANGE names it.
fn aggregator_name(aggregator: Aggregator) -> &'static [u8] {
    match aggregator {
        Aggregator::Max => b"max",
        _ => b"avg",
    }
}

/// Appends a read of the newest sample.
pub(super) fn put_latest(out: &mut Vec<u8>, id: u64, dialect: Dialect, key: &[u8]) {
    if dialect == Dialect::Native {
        encode_request(out, id, false, &Request::Data(Command::GetNewest { series: key }));
    } else {
        put_command_start(out, 2, b"TS.GET");
        put_bulk(out, key);
    }
}

/// Appends a read of a stretch of one series.
pub(super) fn put_range(out: &mut Vec<u8>, id: u64, dialect: Dialect, read: &SeriesRead<'_>) {
    if dialect == Dialect::Native {
        let mut end = read.key.to_vec();
        end.push(0);
        let keys = KeyRange { start: read.key.into(), end: Some(end.into()) };
        return put_scan(out, id, keys, read.from..=read.to, read.answer());
    }
    put_command_start(out, if read.bucket.is_some() { 7 } else { 4 }, b"TS.RANGE");
    put_bulk(out, read.key);
    let mut buffer = itoa::Buffer::new();
    put_bulk(out, buffer.format(read.from).as_bytes());
    put_bulk(out, buffer.format(read.to).as_bytes());
    if let Some((aggregator, bucket)) = read.bucket {
        put_bulk(out, b"AGGREGATION");
        put_bulk(out, aggregator_name(aggregator));
        put_bulk(out, buffer.format(bucket).as_bytes());
    }
}

/// Appends a native scan for the newest sample of each series in a range of keys.
pub(super) fn put_newest_of(out: &mut Vec<u8>, id: u64, keys: KeyRange) {
    put_scan(out, id, keys, i64::MIN..=i64::MAX, ScanAnswer::Newest);
}

/// Appends a native scan of a stretch of time over a range of keys.
pub(super) fn put_scan(
    out: &mut Vec<u8>,
    id: u64,
    keys: KeyRange,
    times: RangeInclusive<i64>,
    answer: ScanAnswer,
) {
    let (from, to) = times.into_inner();
    let request = ScanRequest { keys, from, to, all_slots: false, reverse: false, limit: u64::MAX, answer };
    encode_request(out, id, false, &Request::Scan { request, credit: SCAN_CREDIT });
}

#[cfg(test)]
mod tests {
    use super::super::tsbs::tests::options;
    use super::*;

    #[test]
    fn operations_come_in_the_proportions_asked_for() {
        // A mix of another proportion measures another service.
        let mix = MixOptions {
            rows: TsbsOptions { ticks: None, ..options(10, 0) },
            write: 80,
            reads: vec![(ReadKind::Range, 15), (ReadKind::Latest, 5)],
            recency: Recency::Latest,
        };
        for dialect in [Dialect::Native, Dialect::Series] {
            let mix = MixOptions { rows: TsbsOptions { dialect, ..mix.rows.clone() }, ..mix.clone() };
            let mut workload = MixedWorkload::new(&mix, Share { thread: 0, threads: 1 });
            let mut counts = [0_u32; 3];
            let mut out = Vec::new();
            for id in 1..=20_000 {
                out.clear();
                let issued = workload.issue(&mut out, id).unwrap();
                assert!(!out.is_empty() && issued.written.is_some() == (issued.op == 0));
                counts[usize::from(issued.op)] += 1;
            }
            for (count, share) in counts.iter().zip([0.80, 0.15, 0.05]) {
                assert!((f64::from(*count) / 20_000.0 - share).abs() < 0.01, "{counts:?}");
            }
        }
        assert_eq!(ReadKind::Aggregate.name(), "agg");
    }
}
