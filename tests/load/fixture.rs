//! The stored example documents of `--json`, which reports are tested with.

use std::collections::BTreeMap;
use tskv::load::{
    Environment, LatencyHistogram, OpResult, Repetition, RepetitionOp, RunConfig, RunResult, SCHEMA_VERSION,
    Second, SecondOp, ServerReport, SweepPoint, Tool, Verdict,
};

const SECONDS: u64 = 5;
const REPETITIONS: u64 = 2;
/// Operations per second, by name.
const OPS: [(&str, u64); 2] = [("write", 4_000), ("read", 1_000)];

/// A latency like a store's: a narrow body, a tail, and in one second of each run a stall of 120 ms.
fn latency_ns(op: usize, run: u64, second: u64, index: u64, per_second: u64) -> u64 {
    let mixed = (index + 7919 * run + 104_729 * second).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let body = 180_000 + 60_000 * op as u64 + mixed % 90_000;
    let tail = if mixed.is_multiple_of(100) { 1_500_000 + mixed % 2_000_000 } else { 0 };
    let gap_ns = 1_000_000_000 / per_second;
    let stall = if second == 2 { 120_000_000_u64.saturating_sub(index * gap_ns) } else { 0 };
    body + tail + stall
}

fn repetition_op(count: u64, response: &LatencyHistogram, service: &LatencyHistogram) -> RepetitionOp {
    RepetitionOp {
        count,
        errors: 0,
        values: 10 * count,
        ops_per_s: count as f64 / SECONDS as f64,
        response_us: Some(response.summary()),
        service_us: service.summary(),
    }
}

/// A run at 5,000 operations per second, twice 5 s, with a stall in the third second of each.
pub(crate) fn example_run() -> RunResult {
    let mut ops = BTreeMap::new();
    let mut runs = vec![Repetition::default(); 2];
    let mut series = Vec::new();
    for run in 0..REPETITIONS {
        for second in 0..SECONDS {
            let marks = if second == 2 {
                [("syncs".to_owned(), 9), ("flushes".to_owned(), 1)].into()
            } else {
                BTreeMap::new()
            };
            series.push(Second { run, t_s: second as f64 + 1.0, length_s: 1.0, marks, ops: BTreeMap::new() });
        }
    }
    for (op, (name, per_second)) in OPS.into_iter().enumerate() {
        let (mut response, mut service) = (LatencyHistogram::default(), LatencyHistogram::default());
        for run in 0..REPETITIONS {
            let (mut run_response, mut run_service) =
                (LatencyHistogram::default(), LatencyHistogram::default());
            for second in 0..SECONDS {
                let mut in_second = LatencyHistogram::default();
                for index in 0..per_second {
                    let latency = latency_ns(op, run, second, index, per_second);
                    in_second.record(latency);
                    run_service.record(if latency > 5_000_000 { 300_000 } else { latency });
                }
                run_response.merge(&in_second);
                let place =
                    series.iter_mut().find(|found| found.run == run && found.t_s == second as f64 + 1.0);
                let measured = SecondOp::new(per_second, 0, 10 * per_second, in_second);
                place.unwrap().ops.insert(name.to_owned(), measured);
            }
            let count = per_second * SECONDS;
            runs[usize::try_from(run).unwrap()]
                .ops
                .insert(name.to_owned(), repetition_op(count, &run_response, &run_service));
            response.merge(&run_response);
            service.merge(&run_service);
        }
        let count = per_second * SECONDS * REPETITIONS;
        let measured = OpResult {
            count,
            errors: 0,
            values: 10 * count,
            bytes_sent: 512 * count,
            bytes_received: 17 * count,
            ops_per_s: per_second as f64,
            values_per_s: 10.0 * per_second as f64,
            response_us: Some(response.summary()),
            service_us: service.summary(),
            response_hdr_v2_base64: Some(response),
            service_hdr_v2_base64: service,
            first_error: None,
        };
        ops.insert(name.to_owned(), measured);
    }
    for (index, run) in runs.iter_mut().enumerate() {
        run.start_unix_ms = 1_700_000_000_000 + 10_000 * i64::try_from(index).unwrap();
        run.elapsed_s = SECONDS as f64;
        run.achieved_rate = 5_000.0;
    }
    RunResult {
        schema_version: SCHEMA_VERSION,
        tool: Tool { name: "tskv bench".to_owned(), version: "0.1.0".to_owned() },
        config: example_config(),
        env: Environment {
            cpu: Some("Example CPU".to_owned()),
            cores: 2,
            cpus_allowed: Some("1".to_owned()),
            kernel: Some("6.18.0".to_owned()),
            fs: Some("ext4".to_owned()),
            clock: Some("tsc".to_owned()),
            backend: Some("io_uring".to_owned()),
            host: Some("example".to_owned()),
            start_unix_ms: 1_700_000_000_000,
        },
        verdict: Verdict {
            failure: None,
            target_rate: Some(5_000.0),
            achieved_rate: 5_000.0,
            max_lag_ms: Some(0.21),
            mean_lag_ms: Some(0.02),
            max_generator_lag_ms: Some(0.21),
            generator_cpu_percent: 12.5,
            ..Verdict::default()
        },
        ops,
        runs,
        series,
        sweep: Vec::new(),
        server: ServerReport {
            product: Some("tskv 0.1.0".to_owned()),
            sync: Some("always".to_owned()),
            before: [("wal_syncs".to_owned(), 10.0)].into(),
            after: [("wal_syncs".to_owned(), 1_010.0)].into(),
            disk_bytes_per_value: Some(2.5),
            resident_bytes: Some(64e6),
        },
    }
}

fn example_config() -> RunConfig {
    RunConfig {
        command: "run".to_owned(),
        addr: "127.0.0.1:7878".to_owned(),
        protocol: "native".to_owned(),
        label: Some("example".to_owned()),
        tags: [("disk".to_owned(), "nvme".to_owned())].into(),
        clients: 16,
        threads: 1,
        pipeline: 8,
        duration_s: Some(5.0),
        warmup_s: 1.0,
        rate: Some(5_000.0),
        arrival: Some("const".to_owned()),
        max_in_flight: 10_000,
        runs: 2,
        seed: 123,
        workload: "mixed".to_owned(),
        mix: [("write".to_owned(), 80.0), ("read".to_owned(), 20.0)].into(),
        series: 1_000,
        key_pattern: "random".to_owned(),
        key_style: "short".to_owned(),
        values: "int".to_owned(),
        batch: 10,
        order: "tick".to_owned(),
        interval_ms: 10_000,
        ..RunConfig::default()
    }
}

/// Four rates, the last of which is beyond the objective.
pub(crate) fn example_sweep() -> RunResult {
    let mut result = example_run();
    result.config.command = "sweep".to_owned();
    for (index, rate) in [1_000.0, 2_000.0, 5_000.0, 10_000.0].into_iter().enumerate() {
        let mut ops = result.runs[0].ops.clone();
        for op in ops.values_mut() {
            op.ops_per_s *= rate / 5_000.0;
            if let Some(response) = &mut op.response_us {
                response.p99 = Some(800.0 * f64::from(1 << (2 * index)));
            }
        }
        let verdict = Verdict { target_rate: Some(rate), achieved_rate: rate, ..result.verdict.clone() };
        result.sweep.push(SweepPoint {
            rate,
            within_slo: index < 3,
            slo: "p99<20ms".to_owned(),
            missed_because: Vec::new(),
            verdict,
            ops,
        });
    }
    result
}

/// The stored document; `TSKV_WRITE_FIXTURES=1` writes it anew, for a change of the schema.
fn stored(name: &str, result: &RunResult) -> RunResult {
    let path = format!("{}/tests/load/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("TSKV_WRITE_FIXTURES").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(result).unwrap() + "\n").unwrap();
    }
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn stored_documents_are_read_as_they_were_written() {
    // A baseline saved today could not be compared with tomorrow's run.
    for (name, result) in [("run.json", example_run()), ("sweep.json", example_sweep())] {
        let read = stored(name, &result);
        assert!(read == result, "{name} is not what this build writes");
        let again: RunResult = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert!(again == read, "{name} changes when it is written again");
    }
}
