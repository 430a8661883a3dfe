//! Reports of stored runs: what they show, that it is what was measured, and that bad documents are refused.

use crate::fixture::{example_run, example_sweep};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use proptest::prelude::*;
use serde_json::{Value, json};
use tskv::load::report::{
    LatencyUnit, Percentiles, interval_log, parse_document, per_second_csv, spectra, spectrum, text_report,
};
use tskv::load::{LatencyHistogram, RunResult};

/// A stored report; `TSKV_WRITE_FIXTURES=1` writes it anew, for a change of its form.
fn golden(name: &str, report: &str) {
    let path = format!("{}/tests/load/fixtures/reports/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("TSKV_WRITE_FIXTURES").is_some() {
        std::fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, report).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap();
    assert!(stored == report, "{name} is not as stored; now it is:\n{report}");
}

/// A closed-loop run with errors, hardly any samples, and trouble to tell of.
fn closed_run() -> RunResult {
    let mut result = example_run();
    result.config.rate = None;
    result.config.arrival = None;
    result.config.label = None;
    result.config.duration_s = None;
    result.config.requests = Some(500);
    result.config.value_size_min_bytes = Some(16);
    result.config.value_size_max_bytes = Some(512);
    result.config.out_of_order = 0.05;
    result.runs.truncate(1);
    result.series.truncate(5);
    result.ops.remove("read");
    let write = result.ops.get_mut("write").unwrap();
    write.service_hdr_v2_base64.clear();
    (0..500).for_each(|index| write.service_hdr_v2_base64.record(180_500 + 100 * index));
    write.service_us = write.service_hdr_v2_base64.summary();
    write.response_us = None;
    write.response_hdr_v2_base64 = None;
    (write.count, write.errors) = (503, 3);
    write.first_error = Some("ERR the disk is \u{1b}[31mfull".to_owned());
    result.verdict.closed_loop = true;
    result.verdict.generator_limited = true;
    result.verdict.interrupted = true;
    result.verdict.target_rate = None;
    result.verdict.max_lag_ms = None;
    result.verdict.mean_lag_ms = None;
    result.verdict.max_generator_lag_ms = None;
    result.verdict.null_sink_rate = Some(2.5e6);
    result.verdict.notes = vec!["the generator's thread worked 97 % of its time".to_owned()];
    result.server = Default::default();
    result
}

#[test]
fn text_reports_are_as_stored() {
    // Scripts and people that read the table would have to learn it anew.
    golden("run.txt", &text_report(&example_run(), &Percentiles::default(), LatencyUnit::default()));
    golden("sweep.txt", &text_report(&example_sweep(), &Percentiles::default(), LatencyUnit::default()));
    let closed = text_report(&closed_run(), &Percentiles::default(), LatencyUnit::default());
    assert!(
        closed.contains(
            "closed loop: latencies omit waiting (coordinated omission); use -R for latency claims"
        )
    );
    assert!(!closed.contains('\u{1b}'), "a server's error must not write to the terminal");
    golden("closed.txt", &closed);
    assert!(
        !text_report(&example_run(), &Percentiles::default(), LatencyUnit::default()).contains("closed loop")
    );
}

#[test]
fn percentiles_with_too_few_samples_are_dashes() {
    // A p99.9 of 500 requests would be the maximum under another name.
    let report =
        text_report(&closed_run(), &Percentiles::parse("50,90,99,99.9,100").unwrap(), LatencyUnit::default());
    let line = report.lines().rfind(|line| line.starts_with("write")).unwrap();
    let cells: Vec<_> = line.split_whitespace().collect();
    assert_eq!(cells.len(), 7, "{line}");
    assert_eq!(cells[4..6], ["-", "-"], "{line}");
    assert!(cells[2].starts_with("205."), "{line}");
}

#[test]
fn files_are_as_stored() {
    // What reads these files knows their form and no other.
    let result = example_run();
    let files = spectra(&result);
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "read-response.hgrm",
            "read-service.hgrm",
            "write-response.hgrm",
            "write-service.hgrm",
            "total-response.hgrm",
            "total-service.hgrm"
        ]
    );
    golden("run-write-response.hgrm", &files[2].1);
    golden("run.csv", &per_second_csv(&result));
    golden("run.hlog", &String::from_utf8(interval_log(&result).unwrap()).unwrap());
}

#[test]
fn spectrum_ends_where_plotters_expect_it() {
    // A last row with a number for infinity breaks the axis of plotFiles.html, and a unit loses the line.
    let text = &spectra(&example_run())[0].1;
    let rows: Vec<Vec<_>> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(rows.iter().all(|row| row.len() == 4), "{text}");
    assert_eq!(rows.last().unwrap()[1..], ["1.000000000000", "10000", "inf"]);
    assert!(rows[1..].iter().all(|row| row[0].parse::<f64>().is_ok()), "{text}");
}

#[test]
fn interval_log_holds_the_run() {
    // Tools of others would compute other percentiles than the report shows.
    let result = example_run();
    let log = interval_log(&result).unwrap();
    let mut merged: Vec<(String, Histogram<u64>)> = Vec::new();
    let (mut starts, mut intervals) = (0, 0);
    for entry in IntervalLogIterator::new(&log) {
        match entry.unwrap() {
            LogEntry::StartTime(time) => {
                starts += 1;
                assert_eq!(time.as_secs(), 1_700_000_000);
            }
            LogEntry::Interval(interval) => {
                intervals += 1;
                let bytes = base64::Engine::decode(
                    &base64::engine::general_purpose::STANDARD,
                    interval.encoded_histogram(),
                );
                let histogram: Histogram<u64> =
                    Deserializer::new().deserialize(&mut bytes.unwrap().as_slice()).unwrap();
                let tag = interval.tag().unwrap().as_str().to_owned();
                match merged.iter_mut().find(|(found, _)| *found == tag) {
                    Some((_, sum)) => sum.add(histogram).unwrap(),
                    None => merged.push((tag, histogram)),
                }
            }
            LogEntry::BaseTime(_) => {}
        }
    }
    assert_eq!((starts, intervals), (1, 20));
    for (name, histogram) in merged {
        assert!(histogram == *result.ops[&name].headline().histogram(), "{name} differs");
    }
}

#[test]
fn csv_has_units_and_a_line_per_second_and_operation() {
    // A column without a unit is read in the wrong one.
    let csv = per_second_csv(&example_run());
    let mut lines = csv.lines();
    let header: Vec<_> = lines.next().unwrap().split(',').collect();
    assert!(header[4..].iter().all(|name| name.ends_with("_us") || name.ends_with("_per_s")), "{header:?}");
    let rows: Vec<Vec<_>> = lines.map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 20);
    assert!(rows.iter().all(|row| row.len() == header.len()));
    assert_eq!(rows[1][..6], ["1", "1.000", "1.000", "write", "4000.000", "40000.000"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merged_parts_are_the_whole(
        latencies in prop::collection::vec((1_u64..700_000_000_000, 1_u64..1000), 1..200),
        parts in 1_usize..5,
    ) {
        // A report of several operations or threads would tell percentiles that no request had.
        let mut whole = LatencyHistogram::default();
        let mut split = vec![LatencyHistogram::default(); parts];
        for (index, (ns, count)) in latencies.iter().enumerate() {
            whole.record_many(*ns, *count);
            split[index % parts].record_many(*ns, *count);
        }
        let mut merged = LatencyHistogram::default();
        split.iter().rev().for_each(|part| merged.merge(part));
        prop_assert!(merged == whole);
        prop_assert_eq!(merged.summary(), whole.summary());
        prop_assert_eq!(spectrum(&merged), spectrum(&whole));
    }

    #[test]
    fn spectrum_and_percentiles_agree(
        latencies in prop::collection::vec(1_u64..10_000_000_000, 1..500),
    ) {
        // The picture would contradict the table.
        let mut histogram = LatencyHistogram::default();
        latencies.iter().for_each(|ns| histogram.record(*ns));
        let text = spectrum(&histogram);
        for row in text.lines().skip(2).take_while(|line| !line.starts_with('#')) {
            let cells: Vec<f64> = row.split_whitespace().map(|cell| cell.parse().unwrap()).collect();
            let below = histogram.histogram().count_between(0, ns_of(cells[0]));
            prop_assert!(below as f64 >= cells[2], "{row}: {below} samples at most this long");
            prop_assert!(cells[2] / latencies.len() as f64 >= cells[1] - 1e-9, "{row}");
        }
        let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        prop_assert!(last.ends_with("inf"));
    }
}

/// A printed millisecond, rounded to microseconds, as the nanoseconds it may stand for at most.
fn ns_of(ms: f64) -> u64 {
    format!("{:.0}", ms * 1e6 + 500.0).parse().unwrap()
}

/// The stored document with one change.
fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut document = serde_json::to_value(example_run()).unwrap();
    change(&mut document);
    serde_json::to_vec(&document).unwrap()
}

#[test]
fn bad_documents_are_refused_with_the_reason() {
    // A report of nonsense looks like a report.
    parse_document(&changed(|_| {})).unwrap();
    let text = String::from_utf8(changed(|_| {})).unwrap();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "EOF"),
        ("no JSON", b"\x7fELF".to_vec(), "expected value at line 1"),
        ("NaN", text.replacen("\"elapsed_s\":5.0", "\"elapsed_s\":NaN", 1).into(), "expected value"),
        ("-nan", text.replacen("\"elapsed_s\":5.0", "\"elapsed_s\":-nan", 1).into(), "invalid number"),
        ("1e999", text.replacen("\"elapsed_s\":5.0", "\"elapsed_s\":1e999", 1).into(), "number out of range"),
        ("cut", text.as_bytes()[..text.len() / 2].to_vec(), "EOF"),
        ("nested", "[".repeat(100_000).into(), "recursion limit"),
        ("another's", br#"{"test":"SET","rps":1}"#.to_vec(), "no schema_version"),
        ("an array", b"[1,2]".to_vec(), "no schema_version"),
        (
            "newer",
            changed(|d| d["schema_version"] = json!(2)),
            "schema version 2, and this tskv reads version 1",
        ),
        (
            "field",
            changed(|d| drop(d["config"].as_object_mut().unwrap().remove("clients"))),
            "missing field `clients`",
        ),
        ("type", changed(|d| d["ops"]["write"]["count"] = json!("many")), "invalid type"),
        ("huge", changed(|d| d["ops"]["write"]["ops_per_s"] = json!(1e300)), "/ops/write/ops_per_s: 1"),
        (
            "negative",
            changed(|d| d["verdict"]["achieved_rate"] = json!(-1.0)),
            "/verdict/achieved_rate: -1 is out",
        ),
        (
            "negative count",
            changed(|d| d["ops"]["write"]["count"] = json!(-1)),
            "/ops/write/count: -1 is out",
        ),
        ("time", changed(|d| d["runs"][0]["elapsed_s"] = json!(1e10)), "/runs/0/elapsed_s"),
        ("start", changed(|d| d["runs"][1]["start_unix_ms"] = json!(i64::MIN)), "/runs/1/start_unix_ms"),
        ("long", changed(|d| d["ops"]["read"]["service_us"]["p99"] = json!(1e12)), "/ops/read/service_us"),
        ("no runs", changed(|d| d["runs"] = json!([])), "/runs: no repetition"),
        ("second", changed(|d| d["series"][0]["run"] = json!(7)), "/series/0/run: a second of a repetition"),
        ("histogram", changed(|d| d["ops"]["write"]["service_hdr_v2_base64"] = json!("AAAA")), "a histogram"),
        ("base64", changed(|d| d["ops"]["write"]["service_hdr_v2_base64"] = json!("?")), "no base64"),
        (
            "samples",
            changed(|d| d["ops"]["write"]["count"] = json!(1)),
            "/ops/write: a histogram of more samples",
        ),
        ("errors", changed(|d| d["ops"]["write"]["errors"] = json!(1_000_000)), "/ops/write: more errors"),
        (
            "half a response",
            changed(|d| d["ops"]["write"]["response_us"] = Value::Null),
            "/ops/write: response times come as figures and as a histogram",
        ),
    ];
    for (what, document, reason) in cases {
        let error =
            parse_document(&document).err().unwrap_or_else(|| panic!("{what} was accepted")).to_string();
        assert!(error.contains(reason), "{what}: '{error}' does not say '{reason}'");
    }
}

#[test]
fn documents_of_the_same_schema_with_more_in_them_are_read() {
    // A field that a later tskv adds would lock today's readers out.
    let more = changed(|document| {
        document["extra"] = json!({"a": [1, 2]});
        document["ops"]["write"]["p42_us"] = json!(3.0);
    });
    assert!(parse_document(&more).unwrap() == example_run());
}
