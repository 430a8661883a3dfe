//! A run in words: what was asked for, what it is worth, what the server said.

use super::number::{bytes, count, figure, printable, rate, short};
use crate::load::{RunConfig, RunResult};

/// Said with every closed-loop result.
pub const CLOSED_LOOP: &str =
    "closed loop: latencies omit waiting (coordinated omission); use -R for latency claims";

/// Name of a run for legends and headings: its label, or `fallback`.
pub(super) fn run_name(result: &RunResult, fallback: &str) -> String {
    printable(result.config.label.as_deref().filter(|label| !label.is_empty()).unwrap_or(fallback))
}

/// The workload: `mixed (read 20, write 80), 1,000 series, batch 10, int values, seed 123`.
pub(super) fn workload(config: &RunConfig) -> String {
    let mut parts = vec![config.workload.clone()];
    if !config.mix.is_empty() {
        let weights: Vec<_> =
            config.mix.iter().map(|(name, weight)| format!("{name} {}", rate(*weight))).collect();
        parts = vec![format!("{} ({})", config.workload, weights.join(", "))];
    }
    parts.push(format!("{} series", count(config.series)));
    parts.push(match config.zipf {
        Some(exponent) => format!("{} keys ({exponent})", config.key_pattern),
        None => format!("{} keys", config.key_pattern),
    });
    parts.push(format!("batch {}", count(config.batch)));
    parts.push(match (config.value_size_min_bytes, config.value_size_max_bytes) {
        (Some(min), Some(max)) if min != max => format!("{} of {min}-{max} bytes", config.values),
        (Some(size), _) | (None, Some(size)) => format!("{} of {size} bytes", config.values),
        (None, None) => format!("{} values", config.values),
    });
    for (share, what) in
        [(config.out_of_order, "late"), (config.duplicates, "twice"), (config.churn, "churn")]
    {
        if share > 0.0 {
            parts.push(format!("{} % {what}", short(100.0 * share)));
        }
    }
    if let Some(speed) = config.speed {
        parts.push(format!("speed {speed}x"));
    }
    parts.push(format!("seed {}", config.seed));
    printable(&parts.join(", "))
}

/// How it was sent: protocol and connections.
pub(super) fn sending(result: &RunResult) -> String {
    let config = &result.config;
    let protocol = match &config.commands {
        Some(commands) => format!("{} ({commands})", config.protocol),
        None => config.protocol.clone(),
    };
    let threads = if config.threads == 1 { "thread" } else { "threads" };
    printable(&format!(
        "{protocol} to {}, {} connections, pipeline {}, {} {threads}",
        config.addr,
        count(config.clients),
        count(config.pipeline),
        count(config.threads),
    ))
}

/// When it was sent: the schedule and the time.
pub(super) fn schedule(result: &RunResult) -> String {
    let config = &result.config;
    let schedule = match (config.rate, &config.arrival) {
        (Some(asked), arrival) => {
            format!("open loop at {} ops/s ({})", rate(asked), arrival.as_deref().unwrap_or("const"))
        }
        (None, _) => "closed loop".to_owned(),
    };
    let length = match (config.requests, config.duration_s) {
        (Some(requests), _) => format!("{} requests", count(requests)),
        (None, Some(seconds)) => format!("{} s", rate(seconds)),
        (None, None) => "until its end".to_owned(),
    };
    let times = if result.runs.len() > 1 { format!(" x {}", result.runs.len()) } else { String::new() };
    printable(&format!("{schedule}, {length}{times}, warm-up {} s", rate(config.warmup_s)))
}

/// Whether the figures can be trusted: `ok`, or what is wrong with them.
pub(super) fn verdict(result: &RunResult) -> String {
    let verdict = &result.verdict;
    let mut words = Vec::new();
    if verdict.failure.is_some() {
        words.push("failed".to_owned());
    }
    if verdict.interrupted {
        words.push("interrupted".to_owned());
    }
    if verdict.generator_limited {
        words.push("generator_limited".to_owned());
    }
    if verdict.target_not_reached {
        let asked = verdict.target_rate.map_or_else(|| "?".to_owned(), rate);
        words.push(format!("target_not_reached: asked {asked}/s, got {}/s", rate(verdict.achieved_rate)));
    }
    if !words.is_empty() {
        return words.join("; ");
    }
    match verdict.target_rate {
        Some(asked) => format!("ok: asked {}/s, got {}/s", rate(asked), rate(verdict.achieved_rate)),
        None => format!("ok: {}/s", rate(verdict.achieved_rate)),
    }
}

/// What the verdict has to say besides: its notes, and what a closed loop hides if none of them tells.
pub(super) fn notes(result: &RunResult) -> Vec<String> {
    let mut notes: Vec<_> = result.verdict.notes.iter().map(|note| printable(note)).collect();
    if result.verdict.closed_loop && !notes.iter().any(|note| note.starts_with("closed loop:")) {
        notes.push(CLOSED_LOOP.to_owned());
    }
    notes
}

/// What the generator says of itself.
pub(super) fn generator(result: &RunResult) -> String {
    let verdict = &result.verdict;
    let mut parts = vec![format!("cpu {} %", short(verdict.generator_cpu_percent))];
    if let Some(lag_ms) = verdict.max_lag_ms {
        let mean = verdict.mean_lag_ms.map_or_else(String::new, |mean| format!("mean {} ms, ", figure(mean)));
        parts.push(format!("behind schedule {mean}max {} ms", figure(lag_ms)));
    }
    if let Some(lag_ms) = verdict.max_generator_lag_ms {
        parts.push(format!("of that its own doing max {} ms", figure(lag_ms)));
    }
    if verdict.target_rate.is_some() {
        parts.push(format!("{} over the in-flight bound", count(verdict.dropped)));
    }
    if let Some(ceiling) = verdict.null_sink_rate {
        parts.push(format!("ceiling {}/s against the null sink", rate(ceiling)));
    }
    parts.join(", ")
}

/// What the server said of itself: `tskv 0.1.0, sync always, 2.5 bytes on disk per value, 61.0 MiB resident`.
pub(super) fn server(result: &RunResult) -> String {
    let server = &result.server;
    let mut parts = vec![server.product.clone().unwrap_or_else(|| "unknown product".to_owned())];
    parts.push(format!("sync {}", server.sync.as_deref().unwrap_or("unknown")));
    if let Some(disk) = server.disk_bytes_per_value {
        parts.push(format!("{} bytes on disk per value", short(disk)));
    }
    if let Some(resident) = server.resident_bytes {
        parts.push(format!("{} resident", bytes(resident)));
    }
    printable(&parts.join(", "))
}

/// What the server's counters grew by, by name; those that stood still are left out.
pub(super) fn server_growth(result: &RunResult) -> Vec<(String, f64)> {
    let server = &result.server;
    let grown = server.after.iter().filter_map(|(name, after)| {
        let growth = after - server.before.get(name)?;
        (growth != 0.0).then(|| (printable(name), growth))
    });
    grown.collect()
}

/// Whether a counter tells of work that a client may wait for.
pub(super) fn is_background_work(counter: &str) -> bool {
    ["flush", "compact", "sync", "stall", "evict", "rewrite"].iter().any(|word| counter.contains(word))
}
