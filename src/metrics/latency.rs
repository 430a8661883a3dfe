//! How long requests took: totals in fixed buckets for Prometheus, and the last minute in finer ones.
//!
//! The last minute is a ring of sub-histograms of 10 s each. A recording goes to the one of its time; an expired one
//! is emptied on the first recording that needs its place. Memory is fixed: about 15 KiB per sub-histogram.

use hdrhistogram::Histogram;

/// What a request is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A write of values.
    Put,
    /// A read of single values.
    Get,
    /// A read of a range.
    Scan,
    /// A delete.
    Delete,
    /// Everything else.
    Other,
}

impl RequestKind {
    /// All kinds, in the order of [`LatencyTotals`].
    pub(super) const ALL: [Self; 5] = [Self::Put, Self::Get, Self::Scan, Self::Delete, Self::Other];

    /// The value of the label `op`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Scan => "scan",
            Self::Delete => "delete",
            Self::Other => "other",
        }
    }
}

/// Upper bounds of the Prometheus buckets in nanoseconds; the last bucket has none.
pub(super) const BUCKET_BOUNDS_NS: [u64; 20] = [
    50_000,
    100_000,
    150_000,
    200_000,
    300_000,
    500_000,
    750_000,
    1_000_000,
    2_000_000,
    3_000_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
];
const BUCKET_COUNT: usize = BUCKET_BOUNDS_NS.len() + 1;

/// Time that one sub-histogram covers.
const STRETCH_NS: u64 = 10_000_000_000;
/// Stretches that make up "the last 60 s"; one more is being filled.
const STRETCHES: u64 = 6;
/// Latencies outside these bounds are recorded at the bound.
const RECENT_LOWEST_NS: u64 = 1_000;
const RECENT_HIGHEST_NS: u64 = 60_000_000_000;

/// Latencies of one core's requests.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    totals: LatencyTotals,
    recent_put: Recent,
    recent_get: Recent,
}

impl Latencies {
    /// Records `count` requests that took `latency_ns` each and ended at `now_ns` on the core's clock. Costs no
    /// allocation.
    pub fn record(&mut self, kind: RequestKind, latency_ns: u64, count: u32, now_ns: u64) {
        self.totals.0[kind as usize].record(latency_ns, count);
        match kind {
            RequestKind::Put => self.recent_put.record(latency_ns, count, now_ns),
            RequestKind::Get => self.recent_get.record(latency_ns, count, now_ns),
            RequestKind::Scan | RequestKind::Delete | RequestKind::Other => {}
        }
    }

    pub(super) fn totals(&self) -> LatencyTotals {
        self.totals
    }

    pub(super) fn recent(&self, now_ns: u64) -> RecentLatencies {
        RecentLatencies { put: self.recent_put.merged(now_ns), get: self.recent_get.merged(now_ns) }
    }
}

/// Totals since start, by [`RequestKind`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LatencyTotals(pub(super) [Buckets; RequestKind::ALL.len()]);

impl LatencyTotals {
    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.add(theirs);
        }
    }
}

/// Counts per bucket (not cumulative), and the sum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buckets {
    pub(super) counts: [u64; BUCKET_COUNT],
    pub(super) sum_ns: u64,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { counts: [0; BUCKET_COUNT], sum_ns: 0 }
    }
}

impl Buckets {
    /// Adds up with another core's.
    pub(super) fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }

    pub(super) fn record(&mut self, latency_ns: u64, count: u32) {
        let index = BUCKET_BOUNDS_NS.partition_point(|bound| *bound < latency_ns);
        self.counts[index] += u64::from(count);
        self.sum_ns = self.sum_ns.saturating_add(latency_ns.saturating_mul(u64::from(count)));
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// PUT and GET latencies of the last 60 s.
#[derive(Clone, Debug)]
pub(super) struct RecentLatencies {
    pub(super) put: Histogram<u32>,
    pub(super) get: Histogram<u32>,
}

impl RecentLatencies {
    pub(super) fn empty() -> Self {
        Self { put: sub_histogram(), get: sub_histogram() }
    }

    pub(super) fn add(&mut self, other: &Self) {
        merge(&mut self.put, &other.put);
        merge(&mut self.get, &other.get);
    }
}

/// A latency quantile in seconds; 0 without recordings, as Prometheus shows an idle daemon.
pub(super) fn quantile_seconds(histogram: &Histogram<u32>, quantile: f64) -> f64 {
    if histogram.is_empty() { 0.0 } else { histogram.value_at_quantile(quantile) as f64 / 1e9 }
}

/// The ring: a stretch `s` lives at `s % ring.len()`.
#[derive(Clone, Debug)]
struct Recent {
    ring: Vec<(u64, Histogram<u32>)>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { ring: (0..=STRETCHES).map(|_| (0, sub_histogram())).collect() }
    }
}

impl Recent {
    fn record(&mut self, latency_ns: u64, count: u32, now_ns: u64) {
        let stretch = now_ns / STRETCH_NS;
        let slot = (stretch % (STRETCHES + 1)) as usize;
        let (current, histogram) = &mut self.ring[slot];
        if *current != stretch {
            histogram.reset();
            *current = stretch;
        }
        histogram.saturating_record_n(latency_ns.clamp(RECENT_LOWEST_NS, RECENT_HIGHEST_NS), count);
    }

    fn merged(&self, now_ns: u64) -> Histogram<u32> {
        let newest = now_ns / STRETCH_NS;
        let oldest = newest.saturating_sub(STRETCHES);
        let mut merged = sub_histogram();
        for (stretch, histogram) in &self.ring {
            if (oldest..=newest).contains(stretch) {
                merge(&mut merged, histogram);
            }
        }
        merged
    }
}

fn merge(into: &mut Histogram<u32>, from: &Histogram<u32>) {
    into.add(from).expect("histograms of the same bounds add up");
}

/// Two significant digits over all latencies that matter.
fn sub_histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(RECENT_LOWEST_NS, RECENT_HIGHEST_NS, 2).expect("the constant bounds are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn recent_latencies_forget_after_a_minute() {
        // An old outlier that stays in p99 hides whether the daemon is well now.
        let mut latencies = Latencies::default();
        latencies.record(RequestKind::Get, 5 * SECOND_NS, 1, 3 * SECOND_NS);
        for second in 3..80 {
            latencies.record(RequestKind::Get, 100_000, 1, second * SECOND_NS);
        }
        let p99 = |now| quantile_seconds(&latencies.recent(now).get, 0.999);
        assert!(p99(80 * SECOND_NS) < 0.001, "the outlier of second 3 is gone");
        assert_eq!(latencies.recent(200 * SECOND_NS).get.len(), 0, "an idle daemon has no recent latency");
        assert_eq!(latencies.totals().0[RequestKind::Get as usize].count(), 78);
    }

    #[test]
    fn recent_latencies_cover_at_least_a_minute() {
        // Too short a window makes p99 of a slow client meaningless.
        let mut latencies = Latencies::default();
        for second in 0..60 {
            latencies.record(RequestKind::Put, 100_000, 1, (1000 + second) * SECOND_NS);
        }
        assert_eq!(latencies.recent(1059 * SECOND_NS).put.len(), 60);
    }

    #[test]
    fn quantiles_are_within_two_digits() {
        // A rougher histogram would show 1.0 ms for 1.3 ms.
        let mut latencies = Latencies::default();
        for _ in 0..100 {
            latencies.record(RequestKind::Put, 1_300_000, 1, 0);
        }
        let p50 = quantile_seconds(&latencies.recent(0).put, 0.5);
        assert!((p50 - 0.0013).abs() < 0.00002, "{p50}");
    }

    #[test]
    fn bucket_bounds_are_inclusive() {
        // Prometheus defines `le` as "at most".
        let mut buckets = Buckets::default();
        buckets.record(50_000, 1);
        buckets.record(50_001, 1);
        buckets.record(u64::MAX, 1);
        assert_eq!((buckets.counts[0], buckets.counts[1], buckets.counts[BUCKET_COUNT - 1]), (1, 1, 1));
    }
}
