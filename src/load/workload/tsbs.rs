//! The shape of TSBS cpu-only: ten random walks per host, a row per host and tick, rows tick by tick.
//!
//! Each field starts uniformly in [0, 100); every tick adds N(0, 1) and clamps to [0, 100]; the value written is the
//! state (`float`) or its whole part (`int`). The steps are dice by (seed, host, field, tick): hosts can be split over
//! threads, and the whole can be made again for a verification. It is shaped like TSBS, not the same random stream.

use super::super::random::{draw, normal, to_whole, unit};
use super::super::schedule::Share;
use super::super::wire::put_bulk;
use super::disorder::Disorder;
pub use super::disorder::{Churn, Lateness};
use super::kv::put_command_start;
use super::series_name::{FIELDS, Host, KeyStyle, SeriesNames};
use super::{Dialect, Issued, ValueKind, Workload};
use crate::model::{Command, Slot, StoredEntry, Value};
use crate::protocol::binary::{Request, encode_request};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;

/// Fields of a host.
const FIELD_COUNT: usize = FIELDS.len();
/// Steps are drawn from a table of this many quantiles, and between them.
const STEP_COUNT: usize = 4096;
const MAX: f64 = 100.0;

/// In which order samples are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// All hosts of a tick, then the next tick: neighbours differ in series. What collectors send.
    #[default]
    Tick,
    /// A batch of one series after the other: what a bulk import sends.
    Series,
}

/// What a TSBS-shaped workload is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TsbsOptions {
    /// What is spoken: native or TS.*.
    pub dialect: Dialect,
    /// Hosts; each has ten series.
    pub hosts: u64,
    /// Milliseconds between two ticks. Times are sent in the store's unit, of which `ticks_per_ms` make a millisecond.
    pub interval_ms: i64,
    /// Units of time of the store in a millisecond.
    pub units_per_ms: i64,
    /// Time of the first tick, in milliseconds since 1970-01-01 UTC.
    pub start_ms: i64,
    /// Ticks to make; none: without end.
    pub ticks: Option<u64>,
    /// `Int` or `Float`.
    pub values: ValueKind,
    /// Samples per write.
    pub batch: usize,
    /// In which order.
    pub order: Order,
    /// How series are named.
    pub key_style: KeyStyle,
    /// Rows that come late.
    pub late: Lateness,
    /// Share of rows that are sent twice.
    pub duplicates: f64,
    /// Hosts that are replaced.
    pub churn: Churn,
    /// Of everything drawn.
    pub seed: u64,
}

impl TsbsOptions {
    /// How many series the hosts have at one time.
    #[must_use]
    pub fn series_count(&self) -> u64 {
        self.hosts * FIELD_COUNT as u64
    }
    /// A time of the store.
    pub(in crate::load) fn time_of(&self, tick: u64) -> i64 {
        let elapsed_ms = i64::try_from(tick).unwrap_or(i64::MAX).saturating_mul(self.interval_ms);
        self.start_ms.saturating_add(elapsed_ms).saturating_mul(self.units_per_ms)
    }
    fn disorder(&self) -> Disorder {
        let ticks = |ms: i64| u64::try_from(ms / self.interval_ms.max(1)).unwrap_or(0);
        Disorder {
            seed: self.seed,
            late_share: self.late.share,
            delay_ticks_max: ticks(self.late.delay_ms).max(1),
            duplicate_share: self.duplicates,
            churn_share: self.churn.share,
            churn_ticks: if self.churn.share > 0.0 { ticks(self.churn.period_ms).max(1) } else { 0 },
        }
    }
}

/// A sample that is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::load) struct Sample {
    pub(in crate::load) host: Host,
    pub(in crate::load) field: usize,
    pub(in crate::load) tick: u64,
    pub(in crate::load) value: f64,
}

/// One sample of each series, for those who need the names.
pub(in crate::load) fn all_series(options: &TsbsOptions) -> impl Iterator<Item = Sample> {
    (0..options.hosts).flat_map(|index| {
        let host = Host { index, generation: 0 };
        (0..FIELD_COUNT).map(move |field| Sample { host, field, tick: 0, value: 0.0 })
    })
}

/// The walks of one thread's hosts, and the order in which their samples come.
#[derive(Debug)]
pub(in crate::load) struct Walks {
    options: TsbsOptions,
    disorder: Disorder,
    /// Quantiles of the normal distribution.
    steps: Vec<f64>,
    /// This thread's hosts.
    hosts: Vec<Host>,
    state: Vec<[f64; FIELD_COUNT]>,
    /// The next row to be made: its host's position, and its tick.
    next_host: usize,
    tick: u64,
    /// Late rows by the tick at which they come.
    held: BTreeMap<u64, Vec<(Host, u64, [f64; FIELD_COUNT])>>,
    /// Made and not taken.
    ready: VecDeque<Sample>,
}

impl Walks {
    pub(in crate::load) fn new(options: &TsbsOptions, share: Share) -> Self {
        let hosts: Vec<Host> = (0..options.hosts)
            .filter(|host| host % share.threads == share.thread)
            .map(|index| Host { index, generation: 0 })
            .collect();
        let start =
            |host: &Host| std::array::from_fn(|field| MAX * unit(walk_die(options.seed, *host, field, 0)));
        Self {
            disorder: options.disorder(),
            steps: quantiles(options.seed),
            state: hosts.iter().map(start).collect(),
            hosts,
            options: options.clone(),
            next_host: 0,
            tick: 0,
            held: BTreeMap::new(),
            ready: VecDeque::new(),
        }
    }

    /// The tick that is being made.
    pub(in crate::load) fn tick(&self) -> u64 {
        self.tick
    }
    /// The hosts of this thread, as they are now.
    pub(in crate::load) fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Appends the samples of the next write; fewer than a batch, or none, at the end.
    pub(in crate::load) fn take(&mut self, batch: &mut Vec<Sample>) {
        while self.ready.len() < self.options.batch && self.make_more() {}
        let count = self.options.batch.min(self.ready.len());
        batch.extend(self.ready.drain(..count));
    }

    /// Makes the next row, or in series order the next batch of a host's series; false at the end.
    fn make_more(&mut self) -> bool {
        if self.hosts.is_empty() || self.options.ticks.is_some_and(|ticks| self.tick >= ticks) {
            return false;
        }
        match self.options.order {
            Order::Tick => self.make_row(),
            Order::Series => self.make_columns(),
        }
        true
    }

    fn make_row(&mut self) {
        let (position, tick) = (self.next_host, self.tick);
        if position == 0 {
            for (host, tick, row) in self.held.remove(&tick).unwrap_or_default() {
                self.push_row(host, tick, &row);
            }
        }
        if self.disorder.is_replaced(self.hosts[position].index, tick) {
            self.hosts[position].generation += 1;
        }
        let host = self.hosts[position];
        self.walk(position, tick);
        let row = self.state[position];
        match self.disorder.delay(host.index, tick) {
            0 => self.push_row(host, tick, &row),
            delay => self.held.entry(tick + delay).or_default().push((host, tick, row)),
        }
        if self.disorder.is_duplicated(host.index, tick) {
            self.push_row(host, tick, &row);
        }
        self.next_host += 1;
        if self.next_host == self.hosts.len() {
            self.next_host = 0;
            self.tick += 1;
        }
    }

    /// A batch of ticks of one host, series by series.
    fn make_columns(&mut self) {
        let position = self.next_host;
        let last = self.options.ticks.unwrap_or(u64::MAX);
        let end = self.tick.saturating_add(self.options.batch as u64).min(last);
        let mut rows = Vec::new();
        for tick in self.tick..end {
            self.walk(position, tick);
            rows.push((tick, self.state[position]));
        }
        let host = self.hosts[position];
        for field in 0..FIELD_COUNT {
            self.ready.extend(rows.iter().map(|(tick, row)| Sample {
                host,
                field,
                tick: *tick,
                value: row[field],
            }));
        }
        self.next_host += 1;
        if self.next_host == self.hosts.len() {
            self.next_host = 0;
            self.tick = end;
        }
    }

    /// Moves a host's fields to `tick`; the first row carries the start.
    fn walk(&mut self, position: usize, tick: u64) {
        if tick == 0 {
            return;
        }
        let host = self.hosts[position];
        for (field, state) in self.state[position].iter_mut().enumerate() {
            let die = walk_die(self.options.seed, host, field, tick);
            *state = (*state + step(&self.steps, die)).clamp(0.0, MAX);
        }
    }

    fn push_row(&mut self, host: Host, tick: u64, row: &[f64; FIELD_COUNT]) {
        self.ready.extend((0..FIELD_COUNT).map(|field| Sample { host, field, tick, value: row[field] }));
    }
}

fn walk_die(seed: u64, host: Host, field: usize, tick: u64) -> u64 {
    draw(seed ^ host.index.rotate_left(20), tick * FIELD_COUNT as u64 + field as u64)
}

/// Sorted normal numbers: a large sample stands for the inverse of the distribution, and costs a look instead of a
/// logarithm and a cosine per sample.
fn quantiles(seed: u64) -> Vec<f64> {
    const PER_STEP: usize = 16;
    let mut sample: Vec<f64> = (0..STEP_COUNT * PER_STEP)
        .map(|index| normal(draw(!seed, 2 * index as u64), draw(!seed, 2 * index as u64 + 1)))
        .collect();
    sample.sort_by(f64::total_cmp);
    sample.chunks(PER_STEP).map(|chunk| chunk.iter().sum::<f64>() / chunk.len() as f64).collect()
}

/// A step: between two neighbouring quantiles, so that all bits of a float differ.
fn step(steps: &[f64], die: u64) -> f64 {
    let place = unit(die) * (STEP_COUNT - 1) as f64;
    let below = usize::try_from(to_whole(place)).unwrap_or(0);
    let (low, high) = (steps[below], steps[(below + 1).min(STEP_COUNT - 1)]);
    low + (high - low) * place.fract()
}

/// Encodes samples as writes; shared by whatever writes TSBS rows.
#[derive(Debug)]
pub(in crate::load) struct SampleEncoder {
    options: TsbsOptions,
    names: SeriesNames,
    /// Kept for their memory.
    keys: Vec<u8>,
    ends: Vec<usize>,
    text: Vec<u8>,
}

impl SampleEncoder {
    pub(in crate::load) fn new(options: &TsbsOptions) -> Self {
        Self {
            options: options.clone(),
            names: SeriesNames::new(options.key_style, options.seed),
            keys: Vec::new(),
            ends: Vec::new(),
            text: Vec::new(),
        }
    }
    /// The value as the native protocol stores it.
    pub(in crate::load) fn native_value(&self, sample: &Sample) -> Value<'static> {
        match self.options.values {
            ValueKind::Float => Value::F64(sample.value),
            ValueKind::Int | ValueKind::Bytes { .. } => {
                Value::I64(i64::try_from(to_whole(sample.value)).unwrap_or(0))
            }
        }
    }
    /// Appends the name of a sample's series.
    pub(in crate::load) fn put_name(&mut self, out: &mut Vec<u8>, sample: &Sample) {
        self.names.put(out, sample.host, sample.field);
    }

    /// Appends one write of all the samples.
    pub(in crate::load) fn put_write(&mut self, out: &mut Vec<u8>, id: u64, samples: &[Sample]) {
        self.keys.clear();
        self.ends.clear();
        for sample in samples {
            self.names.put(&mut self.keys, sample.host, sample.field);
            self.ends.push(self.keys.len());
        }
        if self.options.dialect == Dialect::Native {
            self.put_native(out, id, samples);
        } else {
            self.put_resp(out, samples);
        }
    }

    fn put_native(&self, out: &mut Vec<u8>, id: u64, samples: &[Sample]) {
        let mut start = 0;
        let entries: Vec<StoredEntry<'_>> = samples
            .iter()
            .zip(&self.ends)
            .map(|(sample, end)| {
                let series = &self.keys[start..*end];
                start = *end;
                let slot = Slot::Time(self.options.time_of(sample.tick));
                StoredEntry { series, slot, value: self.native_value(sample) }
            })
            .collect();
        let command = match entries.as_slice() {
            [StoredEntry { series, slot, value }] => Command::Put { series, slot: *slot, value: *value },
            _ => Command::PutBatch { entries },
        };
        encode_request(out, id, false, &Request::Data(command));
    }

    fn put_resp(&mut self, out: &mut Vec<u8>, samples: &[Sample]) {
        let is_single = samples.len() == 1;
        // Repeated and restarted rows must not fail; TS.MADD takes the policy from the series' creation.
        if is_single {
            put_command_start(out, 6, b"TS.ADD");
        } else {
            put_command_start(out, 1 + 3 * samples.len(), b"TS.MADD");
        }
        let mut start = 0;
        for (sample, end) in samples.iter().zip(&self.ends) {
            put_bulk(out, &self.keys[start..*end]);
            start = *end;
            let mut buffer = itoa::Buffer::new();
            put_bulk(out, buffer.format(self.options.time_of(sample.tick)).as_bytes());
            put_text(&mut self.text, self.options.values, sample.value);
            put_bulk(out, &self.text);
        }
        if is_single {
            put_bulk(out, b"ON_DUPLICATE");
            put_bulk(out, b"LAST");
        }
    }
}

fn put_text(text: &mut Vec<u8>, values: ValueKind, value: f64) {
    text.clear();
    let written = match values {
        ValueKind::Float => write!(text, "{value}"),
        ValueKind::Int | ValueKind::Bytes { .. } => write!(text, "{}", to_whole(value)),
    };
    written.expect("a vector takes what is written");
}

/// Writes TSBS rows.
#[derive(Debug)]
pub(in crate::load) struct TsbsWorkload {
    walks: Walks,
    encoder: SampleEncoder,
    share: Share,
    made: u64,
    batch: Vec<Sample>,
}

impl TsbsWorkload {
    pub(in crate::load) fn new(options: &TsbsOptions, share: Share) -> Self {
        let (walks, encoder) = (Walks::new(options, share), SampleEncoder::new(options));
        Self { walks, encoder, share, made: 0, batch: Vec::new() }
    }
    pub(in crate::load) fn walks(&self) -> &Walks {
        &self.walks
    }
    /// The samples of the next write and its sequence; none at the end.
    pub(in crate::load) fn next_batch(&mut self) -> Option<(u64, &[Sample])> {
        self.batch.clear();
        self.walks.take(&mut self.batch);
        let sequence = self.made * self.share.threads + self.share.thread;
        self.made += 1;
        (!self.batch.is_empty()).then_some((sequence, self.batch.as_slice()))
    }
}

impl Workload for TsbsWorkload {
    fn op_names(&self) -> Vec<String> {
        vec!["write".to_owned()]
    }
    fn issue(&mut self, out: &mut Vec<u8>, first_id: u64) -> Option<Issued> {
        let sequence = self.next_batch()?.0;
        self.encoder.put_write(out, first_id, &self.batch);
        Some(Issued { op: 0, written: Some(self.batch.len() as u64), sequence, part_ends: Vec::new() })
    }
}

#[cfg(test)]
pub(in crate::load) mod tests {
    use super::*;

    pub(in crate::load) fn options(hosts: u64, ticks: u64) -> TsbsOptions {
        TsbsOptions {
            dialect: Dialect::Native,
            hosts,
            interval_ms: 10_000,
            units_per_ms: 1,
            start_ms: 0,
            ticks: Some(ticks),
            values: ValueKind::Int,
            batch: 7,
            order: Order::Tick,
            key_style: KeyStyle::Short,
            late: Lateness::default(),
            duplicates: 0.0,
            churn: Churn::default(),
            seed: 123,
        }
    }
    fn samples(options: &TsbsOptions, share: Share) -> Vec<Sample> {
        let (mut walks, mut all) = (Walks::new(options, share), Vec::new());
        loop {
            let before = all.len();
            walks.take(&mut all);
            if all.len() == before {
                return all;
            }
        }
    }
    const ALONE: Share = Share { thread: 0, threads: 1 };

    #[test]
    fn walks_have_the_properties_of_the_recipe() {
        // Values that repeat more than TSBS's compress better, and flatter the store.
        let all = samples(&options(20, 4_000), ALONE);
        assert_eq!(all.len(), 20 * 4_000 * 10);
        let mut series: BTreeMap<(u64, usize), Vec<f64>> = BTreeMap::new();
        all.iter().for_each(|sample| {
            series.entry((sample.host.index, sample.field)).or_default().push(sample.value)
        });
        let (mut equal, mut pairs, mut far) = (0_u32, 0_u32, 0_u32);
        for values in series.values() {
            for pair in values.windows(2) {
                assert!((0.0..=100.0).contains(&pair[1]));
                let inside = pair.iter().all(|value| (8.0..92.0).contains(value));
                let step = pair[1].floor() - pair[0].floor();
                pairs += u32::from(inside);
                equal += u32::from(inside && step == 0.0);
                far += u32::from(inside && step.abs() > 4.0);
            }
        }
        let share = f64::from(equal) / f64::from(pairs);
        assert!((share - 0.369).abs() < 0.01, "{share} of the values equal the previous one");
        assert!(far < pairs / 10_000, "{far} of {pairs} steps are longer than 4");
    }

    #[test]
    fn rows_come_tick_by_tick_and_hosts_are_split_over_threads() {
        // Samples of one series in a row are what a bulk import sends, and much cheaper to store.
        let whole = samples(&options(6, 5), ALONE);
        let order: Vec<_> =
            whole.iter().map(|sample| (sample.tick, sample.host.index, sample.field)).collect();
        assert!(order.is_sorted());
        let mut parts: Vec<_> =
            (0..3).flat_map(|thread| samples(&options(6, 5), Share { thread, threads: 3 })).collect();
        parts.sort_by_key(|sample| (sample.tick, sample.host.index, sample.field));
        assert_eq!(parts, whole);
        let by_series = samples(&TsbsOptions { order: Order::Series, ..options(6, 5) }, ALONE);
        assert!(by_series.iter().take(5).all(|sample| sample.host.index == 0 && sample.field == 0));
        let mut sorted = by_series.clone();
        sorted.sort_by_key(|sample| (sample.tick, sample.host.index, sample.field));
        assert_eq!(sorted, whole, "the order changes nothing else");
    }

    #[test]
    fn disorder_comes_in_the_shares_asked_for() {
        // Late data that never comes would leave the store's hard path unmeasured.
        let mut options = options(50, 600);
        options.late = Lateness { share: 0.05, delay_ms: 600_000 };
        options.duplicates = 0.01;
        options.churn = Churn { share: 0.1, period_ms: 1_000_000 };
        let all = samples(&options, ALONE);
        let rows: Vec<_> = all.iter().filter(|sample| sample.field == 0).collect();
        let mut newest = 0;
        let late = rows.iter().filter(|row| {
            newest = newest.max(row.tick);
            row.tick < newest
        });
        let late_share = late.count() as f64 / rows.len() as f64;
        assert!((late_share - 0.05).abs() < 0.01, "{late_share} are late");
        let distinct: std::collections::BTreeSet<_> =
            rows.iter().map(|row| (row.host.index, row.tick)).collect();
        let duplicates = (rows.len() - distinct.len()) as f64 / rows.len() as f64;
        assert!((duplicates - 0.01).abs() < 0.005, "{duplicates} are sent twice");
        let replaced =
            rows.iter().map(|row| row.host.generation).filter(|generation| *generation > 0).count();
        assert!(replaced > 0, "no host was replaced");
    }
}
