//! The report on stdout: what was asked, what to believe, and a row per operation.

use super::latency::LatencyHistogram;
use super::live::{grouped, short};
use super::result::{OpResult, RunResult};
use std::fmt::Write;

/// The report of a run, with these percentiles (0..=100; 100 is the maximum).
#[must_use]
pub fn table(result: &RunResult, percentiles: &[f64]) -> String {
    let mut out = String::new();
    put_config(&mut out, result);
    put_verdict(&mut out, result);
    if result.ops.values().any(|op| op.response_hdr_v2_base64.is_some()) {
        out.push_str("\nresponse time, from the intended send (ms)\n");
        put_rows(&mut out, result, percentiles, |op| op.headline());
        out.push_str("\nservice time, from the actual send (ms)\n");
    } else {
        out.push_str("\nservice time, from the send (ms)\n");
    }
    put_rows(&mut out, result, percentiles, |op| &op.service_hdr_v2_base64);
    for (name, op) in &result.ops {
        if let Some(error) = &op.first_error {
            let _ = writeln!(out, "first error of {name}: {error}");
        }
    }
    put_server(&mut out, result);
    out
}

fn put_config(out: &mut String, result: &RunResult) {
    let config = &result.config;
    let commands = config.commands.as_deref().map_or_else(String::new, |commands| format!(" {commands}"));
    let _ = write!(
        out,
        "{} {} at {}, {}{commands}, {} connections, {} in flight each, {} threads",
        config.command,
        config.workload,
        config.addr,
        config.protocol,
        config.clients,
        config.pipeline,
        config.threads
    );
    let _ = match (config.rate, config.arrival.as_deref()) {
        (Some(rate), arrival) => write!(out, ", {rate:.0}/s {}", arrival.unwrap_or_default()),
        (None, _) => write!(out, ", closed loop"),
    };
    let seconds: f64 = result.runs.iter().map(|run| run.elapsed_s).sum();
    let _ = writeln!(
        out,
        ", {} x {:.2} s, batch {}",
        result.runs.len(),
        seconds / result.runs.len().max(1) as f64,
        config.batch
    );
    let server = &result.server;
    if let Some(product) = &server.product {
        let sync = server.sync.as_deref().unwrap_or("unknown");
        let _ = writeln!(out, "server: {product}, sync {sync}");
    }
}

fn put_verdict(out: &mut String, result: &RunResult) {
    let verdict = &result.verdict;
    let word = match (verdict.generator_limited, verdict.target_not_reached) {
        (true, _) => "generator_limited",
        (false, true) => "target_not_reached",
        (false, false) => "ok",
    };
    let _ = write!(out, "verdict: {word}, {:.0}/s", verdict.achieved_rate);
    if let Some(target) = verdict.target_rate {
        let _ = write!(out, " of {target:.0}/s asked");
    }
    let _ = write!(out, ", generator cpu {:.0} %", verdict.generator_cpu_percent);
    if let (Some(mean), Some(max), Some(own)) =
        (verdict.mean_lag_ms, verdict.max_lag_ms, verdict.max_generator_lag_ms)
    {
        let _ = write!(
            out,
            ", sends late by {mean:.3} ms on average and {max:.3} ms at most (by the generator {own:.3})"
        );
    }
    out.push('\n');
    for note in &verdict.notes {
        let _ = writeln!(out, "  {note}");
    }
}

fn put_rows(
    out: &mut String,
    result: &RunResult,
    percentiles: &[f64],
    pick: impl Fn(&OpResult) -> &LatencyHistogram,
) {
    let width = result.ops.keys().map(String::len).max().unwrap_or(0).max(5);
    let _ = write!(
        out,
        "{:width$} {:>12} {:>12} {:>12} {:>9} {:>7} {:>9}",
        "", "ops", "ops/s", "values/s", "MB/s", "errors", "mean"
    );
    for percentile in percentiles {
        let name = if *percentile >= 100.0 { "max".to_owned() } else { format!("p{percentile}") };
        let _ = write!(out, " {name:>9}");
    }
    out.push('\n');
    let mut all = LatencyHistogram::default();
    let mut total = OpResult::default();
    for (name, op) in &result.ops {
        put_row(out, name, width, op, pick(op), percentiles);
        all.merge(pick(op));
        total.count += op.count;
        total.errors += op.errors;
        total.bytes_sent += op.bytes_sent;
        total.bytes_received += op.bytes_received;
        total.ops_per_s += op.ops_per_s;
        total.values_per_s += op.values_per_s;
    }
    if result.ops.len() > 1 {
        put_row(out, "total", width, &total, &all, percentiles);
    }
}

fn put_row(
    out: &mut String,
    name: &str,
    width: usize,
    op: &OpResult,
    latencies: &LatencyHistogram,
    percentiles: &[f64],
) {
    let ms = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), |us| format!("{:.3}", us / 1e3));
    // Per second of the run: bytes belong to the same time as the operations.
    let seconds = op.count as f64 / op.ops_per_s.max(f64::EPSILON);
    let megabytes = (op.bytes_sent + op.bytes_received) as f64 / 1e6 / seconds.max(f64::EPSILON);
    let _ = write!(
        out,
        "{name:width$} {:>12} {:>12.0} {:>12} {megabytes:>9.1} {:>7} {:>9}",
        grouped(op.count),
        op.ops_per_s,
        short(op.values_per_s),
        op.errors,
        ms(latencies.summary().mean)
    );
    for percentile in percentiles {
        let _ = write!(out, " {:>9}", ms(latencies.percentile_us(*percentile)));
    }
    out.push('\n');
}

fn put_server(out: &mut String, result: &RunResult) {
    let server = &result.server;
    let grown = |name: &str| Some(server.after.get(name)? - server.before.get(name)?);
    let told: Vec<String> =
        [("flushes", "flushes"), ("compactions", "compactions"), ("wal_fsync", "log syncs")]
            .into_iter()
            .filter_map(|(counter, word)| grown(counter).map(|count| format!("{count:.0} {word}")))
            .collect();
    if !told.is_empty() {
        let _ = writeln!(out, "\nserver during the run: {}", told.join(", "));
    }
    if let Some(bytes) = server.disk_bytes_per_value {
        let _ = writeln!(out, "bytes on disk per value: {bytes:.2}");
    }
    if let Some(rate) = result.verdict.null_sink_rate {
        let _ =
            writeln!(out, "\nthis generator's ceiling here, against a sink that does nothing: {rate:.0}/s");
    }
}
