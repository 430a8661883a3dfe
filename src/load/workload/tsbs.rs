//! The shapes of TSBS cpu-only and devops: rows of fields per host and tick, tick by tick, inside a tick by measurement.
//!
//! What fields are is in `metrics.rs`: those of cpu start uniformly in [0, 100), and every tick adds N(0, 1) and clamps
//! to [0, 100]. The value written is the state (`float`) or its whole part (`int`). The steps are dice by (seed, host, field, tick): hosts can be split over
//! threads, and the whole can be made again for a verification. It is shaped like TSBS, not the same random stream.

use super::super::random::{draw, normal, to_whole, unit};
use super::super::schedule::Share;
use super::super::wire::put_bulk;
use super::disorder::Disorder;
pub use super::disorder::{Churn, Lateness};
use super::kv::put_command_start;
use super::metrics::{Field, RowShape, Start, Step};
use super::series_name::{Host, KeyStyle, SeriesNames};
use super::{Dialect, Issued, ValueKind, Workload};
use crate::model::{Command, Slot, StoredEntry, Value};
use crate::protocol::binary::{Request, encode_request};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::ops::Range;

/// Steps are drawn from a table of this many quantiles, and between them.
const STEP_COUNT: usize = 4096;

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
    /// What a host reports; each field is a series.
    #[serde(default)]
    pub shape: RowShape,
    /// Hosts.
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
        self.hosts * self.shape.field_count() as u64
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
        (0..options.shape.field_count()).map(move |field| Sample { host, field, tick: 0, value: 0.0 })
    })
}

/// Samples of one host that are sent together.
type Row = Vec<Sample>;

/// The walks of one thread's hosts, and the order in which their samples come.
#[derive(Debug)]
pub(in crate::load) struct Walks {
    options: TsbsOptions,
    disorder: Disorder,
    /// Quantiles of the normal distribution.
    steps: Vec<f64>,
    fields: Vec<Field>,
    /// The fields of each row of a host.
    rows: Vec<Range<usize>>,
    /// This thread's hosts.
    hosts: Vec<Host>,
    /// Of each host all fields, one host after the other.
    state: Vec<f64>,
    /// The next row to be made: which of a host's, its host's position, and its tick.
    next_row: usize,
    next_host: usize,
    tick: u64,
    /// Late rows by the tick at which they come.
    held: BTreeMap<u64, Vec<Row>>,
    /// Made and not taken.
    ready: VecDeque<Sample>,
}

impl Walks {
    pub(in crate::load) fn new(options: &TsbsOptions, share: Share) -> Self {
        let hosts: Vec<Host> = (0..options.hosts)
            .filter(|host| host % share.threads == share.thread)
            .map(|index| Host { index, generation: 0 })
            .collect();
        let fields: Vec<Field> = options.shape.fields().copied().collect();
        let start = |host: &Host| {
            let (seed, host) = (options.seed, *host);
            let count = fields.len();
            let place =
                move |(field, of): (usize, &Field)| start_of(of.start, walk_die(seed, host, field, count, 0));
            fields.iter().enumerate().map(place).collect::<Vec<f64>>()
        };
        Self {
            disorder: options.disorder(),
            steps: quantiles(options.seed),
            state: hosts.iter().flat_map(start).collect(),
            fields,
            rows: options.shape.rows(),
            hosts,
            options: options.clone(),
            next_row: 0,
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
        let is_first_row = self.next_row == 0;
        if position == 0 && is_first_row {
            for row in self.held.remove(&tick).unwrap_or_default() {
                self.ready.extend(row);
            }
        }
        if is_first_row && self.disorder.is_replaced(self.hosts[position].index, tick) {
            self.hosts[position].generation += 1;
        }
        let (host, fields) = (self.hosts[position], self.rows[self.next_row].clone());
        self.walk(position, fields.clone(), tick);
        let delay = self.disorder.delay(host.index, tick);
        let is_duplicated = self.disorder.is_duplicated(host.index, tick);
        if delay > 0 || is_duplicated {
            let mut row = Row::new();
            self.show(position, fields.clone(), tick, |sample| row.push(sample));
            if delay > 0 {
                self.held.entry(tick + delay).or_default().push(row.clone());
            }
            if is_duplicated {
                self.ready.extend(row);
            }
        }
        if delay == 0 {
            let mut ready = std::mem::take(&mut self.ready);
            self.show(position, fields, tick, |sample| ready.push_back(sample));
            self.ready = ready;
        }
        self.next_host += 1;
        if self.next_host == self.hosts.len() {
            self.next_host = 0;
            self.next_row = (self.next_row + 1) % self.rows.len();
            self.tick += u64::from(self.next_row == 0);
        }
    }

    /// A batch of ticks of one host, series by series.
    fn make_columns(&mut self) {
        let position = self.next_host;
        let last = self.options.ticks.unwrap_or(u64::MAX);
        let end = self.tick.saturating_add(self.options.batch as u64).min(last);
        let mut columns = vec![Vec::new(); self.fields.len()];
        for tick in self.tick..end {
            for fields in self.rows.clone() {
                self.walk(position, fields.clone(), tick);
                self.show(position, fields, tick, |sample| columns[sample.field].push(sample));
            }
        }
        self.ready.extend(columns.into_iter().flatten());
        self.next_host += 1;
        if self.next_host == self.hosts.len() {
            self.next_host = 0;
            self.tick = end;
        }
    }

    /// Moves some fields of a host to `tick`; the first row carries the start.
    fn walk(&mut self, position: usize, fields: Range<usize>, tick: u64) {
        if tick == 0 {
            return;
        }
        let (host, count) = (self.hosts[position], self.fields.len());
        let states = &mut self.state[position * count..(position + 1) * count];
        for field in fields {
            let die = walk_die(self.options.seed, host, field, count, tick);
            take_step(&mut states[field], self.fields[field].step, || step(&self.steps, die));
        }
    }

    /// Gives the samples of some fields of a host, which are a whole measurement.
    fn show(&self, position: usize, fields: Range<usize>, tick: u64, mut each: impl FnMut(Sample)) {
        let (host, count) = (self.hosts[position], self.fields.len());
        let states = &self.state[position * count..(position + 1) * count];
        let row = &states[fields.clone()];
        for field in fields {
            let value = self.fields[field].shown.map_or(states[field], |shown| shown(row));
            each(Sample { host, field, tick, value });
        }
    }
}

fn walk_die(seed: u64, host: Host, field: usize, field_count: usize, tick: u64) -> u64 {
    draw(seed ^ host.index.rotate_left(20), tick * field_count as u64 + field as u64)
}

fn start_of(start: Start, die: u64) -> f64 {
    match start {
        Start::At(value) => value,
        Start::Below(limit) => limit * unit(die),
        Start::OneOf(values) => values[usize::try_from(die % values.len() as u64).unwrap_or(0)],
    }
}

fn take_step(state: &mut f64, step: Step, normal: impl FnOnce() -> f64) {
    match step {
        Step::Stay => {}
        Step::Add(more) => *state += more,
        Step::Count(mean) => *state += (mean + normal()).abs(),
        Step::Walk { mean, deviation, low, high } => {
            *state = (*state + mean + deviation * normal()).clamp(low, high);
        }
    }
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
    /// By field: whether it is written with its fraction.
    fractions: Vec<bool>,
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
            fractions: options.shape.fields().map(|field| field.is_fraction).collect(),
            keys: Vec::new(),
            ends: Vec::new(),
            text: Vec::new(),
        }
    }
    /// The value as the native protocol stores it.
    pub(in crate::load) fn native_value(&self, sample: &Sample) -> Value<'static> {
        if self.is_whole(sample) { Value::I64(whole_part(sample.value)) } else { Value::F64(sample.value) }
    }
    fn is_whole(&self, sample: &Sample) -> bool {
        self.options.values != ValueKind::Float && !self.fractions[sample.field]
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
            let is_whole = self.is_whole(sample);
            put_text(&mut self.text, is_whole, sample.value);
            put_bulk(out, &self.text);
        }
        if is_single {
            put_bulk(out, b"ON_DUPLICATE");
            put_bulk(out, b"LAST");
        }
    }
}

fn put_text(text: &mut Vec<u8>, is_whole: bool, value: f64) {
    text.clear();
    let written = if is_whole { write!(text, "{}", whole_part(value)) } else { write!(text, "{value}") };
    written.expect("a vector takes what is written");
}

/// Without the fraction, towards 0.
fn whole_part(value: f64) -> i64 {
    let size = i64::try_from(to_whole(value.abs())).unwrap_or(i64::MAX);
    if value < 0.0 { -size } else { size }
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
        Some(Issued { written: Some(self.batch.len() as u64), sequence, ..Issued::default() })
    }
}

#[cfg(test)]
pub(in crate::load) mod tests {
    use super::*;

    pub(in crate::load) fn options(hosts: u64, ticks: u64) -> TsbsOptions {
        TsbsOptions {
            shape: RowShape::Cpu,
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

    #[test]
    fn devops_rows_are_those_of_the_recipe() {
        // Fields that never settle compress worse than TSBS's, and those that are constant better.
        let options = TsbsOptions { shape: RowShape::Devops, ..options(3, 400) };
        let all = samples(&options, ALONE);
        assert_eq!(all.len(), 3 * 400 * 101);
        let order: Vec<_> = all.iter().take(40).map(|sample| (sample.host.index, sample.field)).collect();
        assert_eq!((order[0], order[10], order[30], order[37]), ((0, 0), (1, 0), (0, 10), (1, 10)));
        let of = |field: usize| -> Vec<f64> {
            let found = all.iter().filter(|sample| sample.host.index == 1 && sample.field == field);
            found.map(|sample| sample.value).collect()
        };
        let field = |name: (&str, &str)| {
            of((0..101).find(|field| super::super::metrics::names_of(*field) == name).unwrap())
        };
        let reads = field(("diskio", "reads"));
        assert!(reads.is_sorted() && (reads[399] / 399.0 - 50.0).abs() < 1.0, "{}", reads[399]);
        assert!(
            field(("postgresl", "deadlocks"))[250..].iter().all(|value| (980.0..=1000.0).contains(value))
        );
        let (total, used, free) = (field(("mem", "total")), field(("mem", "used")), field(("mem", "free")));
        for tick in 0..400 {
            assert!((total[tick] - used[tick] - free[tick]).abs() < 1.0);
        }
        let percent = field(("mem", "used_percent"));
        assert!(percent.iter().all(|value| (0.0..=100.0).contains(value)));
        assert!((percent[7] - 100.0 * used[7] / total[7]).abs() < 1e-9);
        assert_eq!(field(("redis", "uptime_in_seconds"))[399], 3990.0);
        assert!(field(("kernel", "boot_time")).windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!((whole_part(-2.7), whole_part(2.7)), (-2, 2));
        let by_series = samples(&TsbsOptions { order: Order::Series, ..options.clone() }, ALONE);
        let key = |sample: &Sample| (sample.tick, sample.host.index, sample.field);
        let (mut sorted, mut expected) = (by_series, all.clone());
        sorted.sort_by_key(key);
        expected.sort_by_key(key);
        assert_eq!(sorted, expected);
    }
}
