//! Limits that a run must keep, like `write.p99_us<5000`: what a pipeline fails by.

use super::number::figure;
use super::totals::{Line, lines, total_of};
use crate::load::RunResult;
use std::fmt;

/// A limit on one figure of one operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    op: String,
    metric: Metric,
    is_upper: bool,
    is_inclusive: bool,
    limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    OpsPerS,
    ValuesPerS,
    Errors,
    MeanUs,
    PercentileUs(f64),
}

/// What became of a limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Whether it was kept.
    pub is_kept: bool,
    /// The limit and the figure, in words.
    pub words: String,
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Threshold {
    /// Parses `OPERATION.METRIC<LIMIT`; also `<=`, `>` and `>=`. Operations are those of the run, and `total`; metrics
    /// `ops_per_s`, `values_per_s`, `errors`, `mean_us`, `max_us` and percentiles like `p99_us` or `p99.9_us`.
    ///
    /// # Errors
    ///
    /// The text says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let at = text.find(['<', '>']).ok_or_else(|| format!("'{text}' has no < or >"))?;
        let (figure, comparison) = text.split_at(at);
        let is_upper = comparison.starts_with('<');
        let rest = comparison.get(1..).unwrap_or_default();
        let (is_inclusive, limit) = rest.strip_prefix('=').map_or((false, rest), |limit| (true, limit));
        let limit: f64 = limit.trim().parse().map_err(|_| format!("'{limit}' is no number"))?;
        if !limit.is_finite() {
            return Err(format!("'{limit}' is no limit"));
        }
        let (op, metric) =
            figure.trim().split_once('.').ok_or_else(|| format!("'{figure}' is not OPERATION.METRIC"))?;
        let metric = Metric::parse(metric)?;
        Ok(Self { text: text.to_owned(), op: op.to_owned(), metric, is_upper, is_inclusive, limit })
    }
    /// Looks whether a run kept it. A percentile with too few samples did not keep its limit: nobody knows.
    ///
    /// # Errors
    ///
    /// The run has no such operation: a limit that looks at nothing would always be kept.
    pub fn check(&self, result: &RunResult) -> Result<Verdict, String> {
        let found = if self.op == "total" {
            Some(total_of(result))
        } else {
            lines(result).into_iter().find(|line| line.name == self.op)
        };
        // Nothing that was not measured keeps a limit.
        if result.ops.values().all(|op| op.count == 0) {
            return Ok(Verdict {
                is_kept: false,
                words: format!("{self}: MISSED, no operation was answered"),
            });
        }
        let line = found.ok_or_else(|| {
            let names: Vec<_> = result.ops.keys().map(String::as_str).collect();
            format!("{self}: the run has no operation '{}', only {}", self.op, names.join(", "))
        })?;
        let Some(number) = self.metric.of(&line) else {
            return Ok(Verdict { is_kept: false, words: format!("{self}: too few samples to tell") });
        };
        let is_kept = (number == self.limit && self.is_inclusive)
            || (number < self.limit && self.is_upper)
            || (number > self.limit && !self.is_upper);
        let outcome = if is_kept { "kept" } else { "MISSED" };
        Ok(Verdict { is_kept, words: format!("{self}: {outcome} with {}", figure(number)) })
    }
}

impl Metric {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text.trim() {
            "ops_per_s" => Self::OpsPerS,
            "values_per_s" => Self::ValuesPerS,
            "errors" => Self::Errors,
            "mean_us" => Self::MeanUs,
            "max_us" => Self::PercentileUs(100.0),
            other => {
                let percentile = other.strip_prefix('p').and_then(|rest| rest.strip_suffix("_us"));
                let percentile = percentile.and_then(parse_percentile);
                Self::PercentileUs(percentile.ok_or_else(|| format!("'{other}' is no metric"))?)
            }
        })
    }
    /// The figure; none where a percentile has too few samples.
    fn of(self, line: &Line<'_>) -> Option<f64> {
        match self {
            Self::OpsPerS => Some(line.ops_per_s),
            Self::ValuesPerS => Some(line.values_per_s),
            Self::Errors => Some(line.errors as f64),
            Self::MeanUs => line.headline().summary().mean,
            Self::PercentileUs(percentile) => line.headline().percentile_us(percentile),
        }
    }
}

/// `99`, `99.9`, and as the document's fields write it, `999`.
fn parse_percentile(text: &str) -> Option<f64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let nines = (text.len() > 2 && text.bytes().all(|byte| byte == b'9')).then(|| {
        let (whole, fraction) = text.split_at(2);
        format!("{whole}.{fraction}")
    });
    nines.as_deref().unwrap_or(text).parse().ok().filter(|percentile| (0.0..=100.0).contains(percentile))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_parsed_or_refused() {
        // A limit that was understood differently than meant lets a regression through.
        let metric = |text: &str| Threshold::parse(text).unwrap().metric;
        assert_eq!(metric("write.p99_us<5000"), Metric::PercentileUs(99.0));
        assert_eq!(metric("write.p99.9_us <= 5000"), Metric::PercentileUs(99.9));
        assert_eq!(metric("write.p999_us<5000"), Metric::PercentileUs(99.9));
        assert_eq!(metric("total.p50_us<1"), Metric::PercentileUs(50.0));
        assert_eq!(metric("total.max_us<1e6"), Metric::PercentileUs(100.0));
        assert_eq!(metric("total.ops_per_s>=48000"), Metric::OpsPerS);
        for bad in [
            "",
            "write.p99_us",
            "write.p99_us<",
            "write.p99_us<fast",
            "write.p99_us<inf",
            "write.p99<5",
            "write.p_us<5",
            "write.p101_us<5",
            "write.pNaN_us<5",
            "p99_us<5",
            "<5",
        ] {
            assert!(Threshold::parse(bad).is_err(), "'{bad}' was accepted");
        }
    }
}
