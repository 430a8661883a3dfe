//! The percentile spectrum as text, `.hgrm`: what HdrHistogram's plotFiles.html, gnuplot's scripts and hdr-plot read.
//!
//! ```text
//!        Value     Percentile TotalCount 1/(1-Percentile)
//!
//!        0.921     0.000000000000          1           1.00
//!       12.503     1.000000000000      39500            inf
//! #[Mean    =        6.602, StdDeviation   =        1.919]
//! ```
//! Milliseconds with three decimals, five ticks per half distance to 1. The readers take every line of four
//! blank-separated fields that does not begin with `#`, so there are no units and no thousands separators. Their axis
//! breaks at a parsable infinity, so the last row says `inf`.

use super::totals::{Line, lines};
use crate::load::{LatencyHistogram, RunResult};

/// HdrHistogram's default.
const TICKS_PER_HALF_DISTANCE: u32 = 5;
const NS_PER_MS: f64 = 1e6;

/// The spectrum of one histogram.
#[must_use]
pub fn spectrum(latencies: &LatencyHistogram) -> String {
    let histogram = latencies.histogram();
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut counted = 0;
    for tick in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        counted += tick.count_since_last_iteration();
        let quantile = tick.quantile_iterated_to();
        let beyond = if quantile < 1.0 { format!("{:.2}", 1.0 / (1.0 - quantile)) } else { "inf".to_owned() };
        let value_ms = tick.value_iterated_to() as f64 / NS_PER_MS;
        text += &format!("{value_ms:>12.3} {quantile:>18.12} {counted:>10} {beyond:>14}\n");
    }
    let sub_buckets = (2 * 10_u64.pow(u32::from(histogram.sigfig()))).next_power_of_two();
    text + &format!(
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]\n\
         #[Max     = {:>12.3}, Total count    = {:>12}]\n\
         #[Buckets = {:>12}, SubBuckets     = {sub_buckets:>12}]\n",
        histogram.mean() / NS_PER_MS,
        histogram.stdev() / NS_PER_MS,
        histogram.max() as f64 / NS_PER_MS,
        histogram.len(),
        histogram.buckets(),
    )
}

/// The spectra of a run by file suffix: `write-response.hgrm`, `total-service.hgrm`. What has no samples has no file.
#[must_use]
pub fn spectra(result: &RunResult) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for line in lines(result) {
        let Line { name, response, service, .. } = &line;
        let kinds = [("response", response.as_ref()), ("service", Some(service))];
        for (kind, latencies) in kinds {
            if let Some(latencies) = latencies.filter(|latencies| latencies.count() > 0) {
                files.push((format!("{}-{kind}.hgrm", file_part(name)), spectrum(latencies)));
            }
        }
    }
    files
}

/// A name as a part of a file name: anything but letters, digits, `-` and `_` would be a path or trouble.
fn file_part(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' }).collect()
}
