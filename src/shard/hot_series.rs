//! Which series take most: two sketches of bounded size, fed from a sample of the commands.
//!
//! A sketch (Space-Saving, Metwally and others 2005) has so many places. A series without one takes that of the smallest
//! count, inherits the count and remembers it as its possible error: whatever takes more than one part in [`PLACES`]
//! has a place, and count less error is what it takes at least. Each window begins anew; the last whole one is told.

use super::sampler::Sampler;
use crate::metrics::{HotList, HotSeries};
use crate::model::{Command, Reply, Value};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Series that a sketch follows.
const PLACES: usize = 64;
/// Series that are told of each.
const TOLD: usize = 10;
/// Points that a series must surely have to be told: fewer are chance.
const POINTS_MIN: u64 = 8;
/// How long a window lasts.
const WINDOW_NS: u64 = 5_000_000_000;
/// One operation in so many is looked at, and one byte in so many.
const OPERATIONS_BETWEEN: u64 = 16;
const BYTES_BETWEEN: u64 = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct HotSeriesMeter {
    operations: Meter,
    bytes: Meter,
    window_began_ns: Option<u64>,
    last: Arc<HotList>,
}

impl Default for HotSeriesMeter {
    fn default() -> Self {
        Self {
            operations: Meter::new(OPERATIONS_BETWEEN),
            bytes: Meter::new(BYTES_BETWEEN),
            window_began_ns: None,
            last: Arc::default(),
        }
    }
}

impl HotSeriesMeter {
    /// A command on a series, with so many bytes of values.
    pub(super) fn note(&mut self, series: &[u8], bytes: usize) {
        self.operations.note(series, 1);
        self.bytes.note(series, bytes as u64);
    }
    /// A reply with values of a series.
    pub(super) fn note_answered(&mut self, series: &[u8], bytes: usize) {
        self.bytes.note(series, bytes as u64);
    }
    /// Ends the window if it is time to.
    pub(super) fn tick(&mut self, now_ns: u64) {
        let began_ns = *self.window_began_ns.get_or_insert(now_ns);
        let lasted_ns = now_ns.saturating_sub(began_ns);
        if lasted_ns < WINDOW_NS {
            return;
        }
        self.window_began_ns = Some(now_ns);
        let list =
            HotList { by_operations: self.operations.take(lasted_ns), by_bytes: self.bytes.take(lasted_ns) };
        if list != *self.last {
            self.last = Arc::new(list);
        }
    }
    /// The hottest series of the last whole window.
    pub(super) fn last(&self) -> &Arc<HotList> {
        &self.last
    }
}

/// One kind of load.
#[derive(Debug)]
struct Meter {
    sampler: Sampler,
    sketch: Sketch,
}

impl Meter {
    fn new(between: u64) -> Self {
        Self { sampler: Sampler::new(between), sketch: Sketch::default() }
    }
    fn note(&mut self, series: &[u8], units: u64) {
        let points = self.sampler.points(units);
        if points > 0 {
            self.sketch.add(series, points);
        }
    }
    /// What was hottest; begins anew.
    fn take(&mut self, lasted_ns: u64) -> Vec<HotSeries> {
        let mean = self.sampler.mean();
        let per_second = |points: u64| {
            let rate = u128::from(points * mean) * 1_000_000_000 / u128::from(lasted_ns.max(1));
            u64::try_from(rate).unwrap_or(u64::MAX)
        };
        let mut hottest: Vec<_> =
            self.sketch.places().filter(|place| place.count - place.error >= POINTS_MIN).collect();
        hottest.sort_by(|a, b| (b.count - b.error).cmp(&(a.count - a.error)).then(a.series.cmp(&b.series)));
        let told = hottest.iter().take(TOLD).map(|place| HotSeries {
            series: place.series.as_slice().into(),
            per_second: per_second(place.count - place.error),
        });
        let told = told.collect();
        self.sketch.used = 0;
        told
    }
}

/// The places, those of the present window first.
#[derive(Debug)]
struct Sketch {
    /// Hashes of the series, apart from them: most of a search looks only here.
    hashes: [u64; PLACES],
    counters: Box<[Place]>,
    used: usize,
}

#[derive(Debug, Default)]
struct Place {
    series: Vec<u8>,
    count: u64,
    /// Of that, what it may have inherited.
    error: u64,
}

impl Default for Sketch {
    fn default() -> Self {
        Self {
            hashes: [0; PLACES],
            counters: (0..PLACES)
                .map(|_| Place { series: Vec::with_capacity(64), ..Place::default() })
                .collect(),
            used: 0,
        }
    }
}

impl Sketch {
    fn places(&self) -> impl Iterator<Item = &Place> {
        self.counters.iter().take(self.used)
    }
    fn add(&mut self, series: &[u8], points: u64) {
        let hash = xxh3_64(series);
        let known = self.hashes.iter().take(self.used).position(|other| *other == hash);
        if let Some(index) = known.filter(|index| self.counters[*index].series == series) {
            self.counters[index].count += points;
            return;
        }
        let (index, inherited) = if self.used < PLACES {
            self.used += 1;
            (self.used - 1, 0)
        } else {
            let counts = self.counters.iter().map(|place| place.count).enumerate();
            counts.min_by_key(|(_, count)| *count).unwrap_or_default()
        };
        self.hashes[index] = hash;
        let place = &mut self.counters[index];
        place.series.clear();
        place.series.extend_from_slice(series);
        place.count = inherited + points;
        place.error = inherited;
    }
}

/// Bytes of the values that a command writes to its one series; a batch has them entry by entry.
pub(super) fn bytes_written(command: &Command<'_>) -> usize {
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other command writes no values")]
    match command {
        Command::Put { value, .. } => bytes_of(value),
        Command::StringSet { value, .. } => value.len(),
        Command::SeriesAdd { value, .. } => bytes_of(&Value::F64(*value)),
        _ => 0,
    }
}

/// Bytes of a value, with its time.
pub(super) fn bytes_of(value: &Value<'_>) -> usize {
    size_of::<i64>()
        + match value {
            Value::Bytes(bytes) => bytes.len(),
            Value::F64(_) | Value::I64(_) => size_of::<f64>(),
        }
}

/// Bytes of the values in an answer.
pub(super) fn bytes_answered(reply: &Reply<'_>) -> usize {
    match reply {
        Reply::Bytes(bytes) => bytes.len(),
        Reply::Sample { value, .. } => bytes_of(value),
        Reply::Samples { times, values, .. } => size_of_val(*times) + size_of_val(*values),
        Reply::ScanChunk { entries, .. } => entries.iter().map(|(_, _, value)| bytes_of(value)).sum(),
        Reply::Ok
        | Reply::Null
        | Reply::Integer(_)
        | Reply::NoSample
        | Reply::Kind(_)
        | Reply::Keys { .. }
        | Reply::SeriesInfo(_)
        | Reply::Error(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn names(list: &[HotSeries]) -> Vec<&str> {
        list.iter().map(|hot| std::str::from_utf8(&hot.series).expect("letters")).collect()
    }

    #[test]
    fn the_hottest_are_found_among_many_and_forgotten_when_they_cool() {
        // An operator who is shown yesterday's hot series, or a random one, mends the wrong client.
        let mut meter = HotSeriesMeter::default();
        meter.tick(0);
        for turn in 0..1_000_000_u64 {
            // Two in a hundred operations each, among a hundred thousand others.
            match turn % 50 {
                0 => meter.note(b"often", 10),
                1 => meter.note(b"often too", 10),
                2 if turn % 1000 == 2 => meter.note(b"large", 100_000),
                _ => meter.note(format!("cold {}", turn * 7919 % 100_000).as_bytes(), 10),
            }
        }
        meter.tick(WINDOW_NS / 2);
        assert_eq!(**meter.last(), HotList::default(), "the window is not over");
        meter.tick(10 * SECOND_NS);
        let list = Arc::clone(meter.last());
        let mut first_two = names(&list.by_operations[..2]);
        first_two.sort_unstable();
        assert_eq!(first_two, ["often", "often too"]);
        assert!(list.by_operations.len() <= TOLD);
        let rate = list.by_operations[0].per_second;
        assert!((1_200..2_400).contains(&rate), "2,000 a second are {rate}");
        assert_eq!(names(&list.by_bytes[..1]), ["large"]);
        let rate = list.by_bytes[0].per_second;
        assert!((9_000_000..11_000_000).contains(&rate), "10 MB a second are {rate}");
        meter.tick(20 * SECOND_NS);
        assert_eq!(**meter.last(), HotList::default());
    }

    #[test]
    fn a_sketch_counts_no_more_than_there_was() {
        // "At least so many" is what is promised of each that is told.
        let mut sketch = Sketch::default();
        for turn in 0..10_000_u64 {
            sketch.add(format!("{}", turn % 300).as_bytes(), 1);
            sketch.add(b"hot", 1);
        }
        let hot = sketch.places().find(|place| place.series == b"hot").expect("it has half of all");
        assert!((9_000..=10_000).contains(&(hot.count - hot.error)), "{hot:?}");
        assert!(sketch.places().all(|place| place.series == b"hot" || place.count - place.error <= 34));
        assert_eq!(sketch.places().count(), PLACES);
    }
}
