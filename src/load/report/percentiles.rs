//! Which percentiles a report shows, and what they are called.

use super::number::{figure_or_dash, significant};
use crate::load::LatencyHistogram;

/// Unit of latencies in a table; documents and files for other tools have their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LatencyUnit {
    /// Of three decimals at most.
    #[default]
    Microseconds,
    /// Of three significant digits at least.
    Milliseconds,
    /// Of three significant digits at least.
    Seconds,
}

impl LatencyUnit {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Microseconds => "us",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
        }
    }
    /// A latency in this unit, or `-` where there is none.
    pub(super) fn figure(self, us: Option<f64>) -> String {
        let scaled = |factor: f64| us.map_or_else(|| "-".to_owned(), |us| significant(us / factor));
        match self {
            Self::Microseconds => figure_or_dash(us),
            Self::Milliseconds => scaled(1e3),
            Self::Seconds => scaled(1e6),
        }
    }
}

/// Percentiles in ascending order, each in 0..=100.
#[derive(Clone, Debug, PartialEq)]
pub struct Percentiles(Vec<f64>);

impl Default for Percentiles {
    fn default() -> Self {
        Self(vec![50.0, 90.0, 95.0, 99.0, 99.9, 99.99, 100.0])
    }
}

impl Percentiles {
    /// Most percentiles that a table shows.
    const COUNT_MAX: usize = 20;

    /// Parses a list like `50,99,99.9`.
    ///
    /// # Errors
    ///
    /// The text says which entry is no percentile.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut percentiles = Vec::new();
        for entry in text.split(',').map(str::trim) {
            let percentile = entry.parse().ok().filter(|percentile| (0.0..=100.0).contains(percentile));
            percentiles.push(percentile.ok_or_else(|| format!("'{entry}' is no percentile from 0 to 100"))?);
        }
        if percentiles.len() > Self::COUNT_MAX {
            return Err(format!("{} percentiles; at most {}", percentiles.len(), Self::COUNT_MAX));
        }
        percentiles.sort_by(f64::total_cmp);
        percentiles.dedup();
        Ok(Self(percentiles))
    }
    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = f64> {
        self.0.iter().copied()
    }
    /// Headings: `p50`, `p99.9`, and `max` for 100.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.iter().map(name).collect()
    }
    /// The figures of a histogram; `-` where there are too few samples.
    pub(super) fn figures(&self, latencies: &LatencyHistogram, unit: LatencyUnit) -> Vec<String> {
        self.iter().map(|percentile| unit.figure(latencies.percentile_us(percentile))).collect()
    }
}

/// `p50`, `p99.9`, and `max` for 100.
pub(super) fn name(percentile: f64) -> String {
    if percentile >= 100.0 { "max".to_owned() } else { format!("p{percentile}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_named_and_checked() {
        // A mistyped percentile would be shown as something else, or not at all.
        let parsed = Percentiles::parse("99.9, 50,100,50").unwrap();
        assert_eq!(parsed.names(), ["p50", "p99.9", "max"]);
        for bad in ["", "50,", "101", "-1", "NaN", "p99", "inf"] {
            assert!(Percentiles::parse(bad).is_err(), "'{bad}' was accepted");
        }
        assert!(Percentiles::parse(&["1"; 21].join(",")).is_err());
        assert_eq!(Percentiles::parse("50,90,95,99,99.9,99.99,100").unwrap(), Percentiles::default());
    }
}
