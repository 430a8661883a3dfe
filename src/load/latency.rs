//! Latencies: full histograms, and the figures that are taken from them.
//!
//! One histogram per thread and operation, in nanoseconds with three significant digits from 1 ns to 10 min, merged
//! at the end: percentiles are never averaged. In files a histogram is HdrHistogram's V2 encoding, deflated, as
//! base64, so that other tools read it and nothing is lost between a run and its report.

use super::encoded::checked_v2;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::OnceLock;

/// Longest latency that is told apart; longer ones count as this long, which shows as the maximum.
pub const LATENCY_NS_MAX: u64 = 600_000_000_000;
/// Significant decimal digits of a recorded latency.
pub(super) const DIGITS: u8 = 3;
/// A percentile is told only where at least this many samples lie beyond it.
const SAMPLES_BEYOND_MIN: f64 = 10.0;

/// Latencies of one kind of operation. It takes about 250 KB while it is recorded or looked at, and about 1 KB after
/// [`LatencyHistogram::pack`]: a long run keeps one for each of its seconds.
#[derive(Clone)]
pub struct LatencyHistogram {
    open: OnceLock<Histogram<u64>>,
    /// The same in base64; always valid. None while samples are added.
    packed: Option<String>,
}

impl fmt::Debug for LatencyHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its 30,000 counts would bury whatever else is printed.
        f.debug_struct("LatencyHistogram").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl PartialEq for LatencyHistogram {
    fn eq(&self, other: &Self) -> bool {
        self.histogram() == other.histogram()
    }
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        let open =
            Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS).expect("the constant bounds are valid");
        Self { open: open.into(), packed: None }
    }
}

impl LatencyHistogram {
    /// Counts `count` operations that took `latency_ns` each.
    pub fn record_many(&mut self, latency_ns: u64, count: u64) {
        self.open_mut().saturating_record_n(latency_ns.min(LATENCY_NS_MAX), count);
    }
    /// Counts one operation.
    pub fn record(&mut self, latency_ns: u64) {
        self.record_many(latency_ns, 1);
    }
    /// Adds another histogram's samples.
    pub fn merge(&mut self, other: &Self) {
        self.open_mut().add(other.histogram()).expect("all have the same bounds");
    }
    /// Forgets all samples; keeps the memory.
    pub fn clear(&mut self) {
        self.open_mut().reset();
    }
    /// Keeps it in its packed form, until it is looked at or added to.
    pub fn pack(&mut self) {
        if self.packed.is_none() {
            self.packed = encode(self.histogram()).ok();
        }
        if self.packed.is_some() {
            self.open = OnceLock::new();
        }
    }
    /// Samples in all.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram().len()
    }
    /// The latency that `percentile` (0..=100) of the samples did not exceed, in microseconds; none where there are no
    /// samples, or so few that fewer than ten lie beyond it.
    #[must_use]
    pub fn percentile_us(&self, percentile: f64) -> Option<f64> {
        let beyond = (100.0 - percentile) / 100.0 * self.count() as f64;
        // A little slack: 0.1 % of 10,000 is 10 on paper and 9.99… in binary.
        let enough = percentile >= 100.0 || beyond + 1e-6 >= SAMPLES_BEYOND_MIN;
        (self.count() > 0 && enough).then(|| to_us(self.histogram().value_at_percentile(percentile)))
    }
    /// The figures that every report shows.
    #[must_use]
    pub fn summary(&self) -> LatencySummary {
        let any = self.count() > 0;
        LatencySummary {
            min: any.then(|| to_us(self.histogram().min())),
            mean: any.then(|| round_to_ns(self.histogram().mean())),
            stdev: any.then(|| round_to_ns(self.histogram().stdev())),
            p50: self.percentile_us(50.0),
            p90: self.percentile_us(90.0),
            p95: self.percentile_us(95.0),
            p99: self.percentile_us(99.0),
            p999: self.percentile_us(99.9),
            p9999: self.percentile_us(99.99),
            max: any.then(|| to_us(self.histogram().max())),
        }
    }
    /// The histogram itself, in nanoseconds, for reports that walk it.
    #[must_use]
    pub fn histogram(&self) -> &Histogram<u64> {
        self.open.get_or_init(|| {
            let packed = self.packed.as_deref().unwrap_or_default();
            decode(packed).expect("what was packed can be unpacked")
        })
    }
    fn open_mut(&mut self) -> &mut Histogram<u64> {
        let _ = self.histogram();
        self.packed = None;
        self.open.get_mut().expect("it was opened")
    }
}

fn encode(histogram: &Histogram<u64>) -> Result<String, String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .map_err(|error| format!("the histogram cannot be encoded: {error}"))?;
    Ok(STANDARD.encode(bytes))
}

fn decode(text: &str) -> Result<Histogram<u64>, String> {
    let bytes = STANDARD.decode(text).map_err(|error| format!("no base64: {error}"))?;
    let v2 = checked_v2(&bytes)?;
    let decoded: Histogram<u64> = Deserializer::new()
        .deserialize(&mut v2.as_slice())
        .map_err(|error| format!("no V2 histogram: {error}"))?;
    let mut histogram =
        Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS).expect("the constant bounds are valid");
    histogram.add(&decoded).map_err(|error| format!("a histogram of other bounds: {error}"))?;
    Ok(histogram)
}

impl Serialize for LatencyHistogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.packed {
            Some(packed) => serializer.serialize_str(packed),
            None => serializer.serialize_str(&encode(self.histogram()).map_err(serde::ser::Error::custom)?),
        }
    }
}
impl<'de> Deserialize<'de> for LatencyHistogram {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let packed = String::deserialize(deserializer)?;
        decode(&packed).map_err(serde::de::Error::custom)?;
        Ok(Self { open: OnceLock::new(), packed: Some(packed) })
    }
}

/// Figures of one histogram, in microseconds. A percentile is absent where fewer than ten samples lie beyond it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// Shortest.
    pub min: Option<f64>,
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Standard deviation.
    pub stdev: Option<f64>,
    /// Median.
    pub p50: Option<f64>,
    /// 90th percentile.
    pub p90: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// 99.9th percentile.
    pub p999: Option<f64>,
    /// 99.99th percentile.
    pub p9999: Option<f64>,
    /// Longest.
    pub max: Option<f64>,
}

fn to_us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// Nanoseconds as microseconds with three decimals: further ones would say nothing and fill the files.
fn round_to_ns(ns: f64) -> f64 {
    ns.round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_survive_a_file() {
        // A comparison of two files would compare something else than the two runs.
        let mut histogram = LatencyHistogram::default();
        (0..10_000_u64).for_each(|index| histogram.record(index * index));
        let json = serde_json::to_string(&histogram).unwrap();
        assert_eq!(serde_json::from_str::<LatencyHistogram>(&json).unwrap(), histogram);
        let mut packed = histogram.clone();
        packed.pack();
        assert_eq!(packed, histogram);
        packed.pack();
        packed.record(5);
        assert_eq!(packed.count(), 10_001, "what was packed takes further samples");
        for bad in ["\"\"", "\"?\"", "\"AAAA\"", "3"] {
            assert!(serde_json::from_str::<LatencyHistogram>(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn percentiles_without_enough_samples_are_not_told() {
        // A p99.99 of a thousand requests is the maximum under another name.
        let mut histogram = LatencyHistogram::default();
        assert_eq!(histogram.summary(), LatencySummary::default());
        (1..=1000).for_each(|us| histogram.record(us * 1000));
        let summary = histogram.summary();
        assert!(summary.p99.is_some_and(|us| (989.0..=992.0).contains(&us)), "{summary:?}");
        assert_eq!((summary.p999, summary.p9999), (None, None));
        assert!(summary.max.is_some_and(|us| (999.0..=1001.0).contains(&us)), "{summary:?}");
    }

    #[test]
    fn merged_histograms_are_as_if_recorded_in_one() {
        // Percentiles of several threads would depend on how the requests were spread over them.
        let (mut one, mut two, mut all) =
            (LatencyHistogram::default(), LatencyHistogram::default(), LatencyHistogram::default());
        for ns in 0..5000_u64 {
            if ns % 3 == 0 {
                one.record(ns * 77)
            } else {
                two.record(ns * 77)
            }
            all.record(ns * 77);
        }
        one.merge(&two);
        assert_eq!(one, all);
        all.record_many(u64::MAX, 2);
        assert!(all.histogram().max() >= LATENCY_NS_MAX, "too long a latency counts as the longest");
    }
}
