//! The interval log, `.hlog` version 1.3: a histogram per second and operation, for HdrHistogram's own tools.
//!
//! Latencies are nanoseconds; the maximum of each line, which is for people, is milliseconds. Times are seconds since
//! the start of the first repetition. Tags are names of operations.

use crate::load::RunResult;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::time::{Duration, UNIX_EPOCH};

const LEGEND: &str =
    "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";
const NS_PER_MS: f64 = 1e6;

/// The log of a run.
///
/// # Errors
///
/// A histogram could not be encoded; the text says which.
pub fn interval_log(result: &RunResult) -> Result<Vec<u8>, String> {
    let failed = |error| format!("the interval log's header: {error}");
    let start_ms = result.runs.first().map_or(0, |run| run.start_unix_ms);
    let start = UNIX_EPOCH + Duration::from_millis(u64::try_from(start_ms).unwrap_or(0));
    let (mut log, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("[Latencies in nanoseconds, Interval_Max in milliseconds]")
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(&mut log, &mut serializer)
        .map_err(failed)?;
    log.extend_from_slice(LEGEND.as_bytes());
    // The legend comes after the headers, so the lines need a writer of their own, without any.
    let mut lines = IntervalLogWriterBuilder::new();
    let mut headless = Vec::new();
    let mut writer = lines
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(&mut headless, &mut serializer)
        .map_err(failed)?;
    for second in &result.series {
        let run = usize::try_from(second.run).ok().and_then(|index| result.runs.get(index));
        let offset_ms = run.map_or(0, |run| run.start_unix_ms - start_ms);
        let begin_s = (offset_ms as f64 / 1e3 + second.t_s - second.length_s).max(0.0);
        for (name, op) in &second.ops {
            let tag: String = name
                .chars()
                .map(|c| if matches!(c, ',' | ' ') || c.is_control() { '_' } else { c })
                .collect();
            // A copy, which is closed again: a long run has thousands of them.
            let latencies = op.hdr_v2_base64.clone();
            writer
                .write_histogram(
                    latencies.histogram(),
                    Duration::from_secs_f64(begin_s),
                    Duration::from_secs_f64(second.length_s.max(0.0)),
                    Tag::new(&tag),
                )
                .map_err(|error| format!("the interval log, {tag} at {begin_s} s: {error}"))?;
        }
    }
    drop(writer);
    // Its only header repeats the divisor.
    let body = headless.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    log.extend_from_slice(headless.get(body..).unwrap_or_default());
    Ok(log)
}
