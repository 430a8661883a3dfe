//! `tskv bench report` and `compare` as an engineer runs them: files, exit statuses, and the plotter of others.

use crate::fixture::{example_run, example_sweep};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;
use tskv::load::{LatencySummary, RunResult};

/// The program in a directory of its own.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    fn save(&self, name: &str, result: &RunResult) {
        std::fs::write(self.path(name), serde_json::to_vec(result).unwrap()).unwrap();
    }
    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
    /// Runs `tskv bench` with words of a line; exit status, stdout, stderr.
    fn run(&self, line: &str) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tskv"));
        command.env_clear().current_dir(self.folder.path()).stdin(Stdio::null());
        let Output { status, stdout, stderr } =
            command.arg("bench").args(line.split_whitespace()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code().unwrap_or(-1), text(stdout), text(stderr))
    }
}

/// The example with each latency and each repetition's figures slower by `percent`, give or take `spread` percent
/// between the repetitions.
fn run_with(percent: f64, spread: f64, repetitions: usize) -> RunResult {
    let mut result = example_run();
    let slower = |summary: &mut LatencySummary, factor: f64| {
        let LatencySummary { min, mean, stdev, p50, p90, p95, p99, p999, p9999, max } = summary;
        for us in [min, mean, stdev, p50, p90, p95, p99, p999, p9999, max].into_iter().flatten() {
            *us *= factor;
        }
    };
    let base = 1.0 + percent / 100.0;
    for op in result.ops.values_mut() {
        op.response_us.iter_mut().for_each(|summary| slower(summary, base));
        slower(&mut op.service_us, base);
    }
    let first = result.runs[0].clone();
    result.runs = vec![first; repetitions];
    result.config.runs = repetitions as u64;
    for (index, run) in result.runs.iter_mut().enumerate() {
        // Evenly around the middle.
        let place = if repetitions > 1 { 2.0 * index as f64 / (repetitions - 1) as f64 - 1.0 } else { 0.0 };
        for op in run.ops.values_mut() {
            let factor = base * (1.0 + place * spread / 100.0);
            op.response_us.iter_mut().for_each(|summary| slower(summary, factor));
            slower(&mut op.service_us, factor);
        }
    }
    result.series.retain(|second| second.run < repetitions as u64);
    result
}

#[test]
fn report_prints_and_writes_what_is_asked_for() {
    // The files that other tools wait for would be missing, or hold another run.
    let bench = Bench::new();
    bench.save("run.json", &example_run());
    let (status, stdout, stderr) =
        bench.run("report run.json --html p.html --csv s.csv --hlog i.hlog --hgrm out --percentiles 50,99");
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(stdout.contains("open loop at 5,000 ops/s"), "{stdout}");
    assert!(
        stdout.lines().any(|line| line.split_whitespace().eq(["operation", "mean", "p50", "p99"])),
        "{stdout}"
    );
    assert!(bench.read("p.html").starts_with("<!DOCTYPE html>"));
    assert!(bench.read("s.csv").starts_with("run,t_s,length_s,op,ops_per_s"));
    assert!(bench.read("i.hlog").starts_with("#[Histogram log format version 1.3]\n"));
    assert!(bench.read("out-write-response.hgrm").contains("#[Mean    ="));
    let left: Vec<_> =
        std::fs::read_dir(bench.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")), "{left:?}");
    bench.save("sweep.json", &example_sweep());
    let (status, stdout, _) = bench.run("report run.json sweep.json --html both.html");
    assert_eq!(status, 0);
    assert!(stdout.contains("# run.json\n") && stdout.contains("# sweep.json\n"));
    assert!(bench.read("both.html").contains("id=\"changes-1\""));
}

#[test]
fn bad_files_are_named() {
    // Of twenty files in a pipeline, which one is broken?
    let bench = Bench::new();
    bench.save("run.json", &example_run());
    std::fs::write(bench.path("cut.json"), "{\"schema_version\":1,").unwrap();
    std::fs::write(bench.path("newer.json"), "{\"schema_version\":99}").unwrap();
    for (line, message) in [
        ("report missing.json", "missing.json: No such file"),
        ("report .", ".: Is a directory"),
        ("report run.json cut.json", "cut.json: not a result of tskv bench: EOF"),
        ("report newer.json", "newer.json: schema version 99, and this tskv reads version 1"),
        ("compare run.json cut.json", "cut.json: not a result"),
        ("compare run.json --baseline main", "main: No such file"),
        ("compare run.json", "nothing to compare it with"),
        ("compare run.json run.json --threshold writes.p99_us<1", "no operation 'writes', only read, write"),
        ("compare run.json run.json --threshold write.p99<1", "'p99' is no metric"),
        ("compare run.json --save-baseline ../x", "a name is made of letters"),
        ("report run.json run.json --csv x.csv", "--csv and --hlog hold one run"),
        ("report run.json --percentiles 50,fast", "'fast' is no percentile"),
    ] {
        let (status, stdout, stderr) = bench.run(line);
        assert_eq!((status, stdout.as_str()), (2, ""), "{line}: {stderr}");
        assert!(stderr.contains(message), "{line}: {stderr}");
    }
    let (status, _, stderr) = bench.run("report run.json --html no/such/folder.html");
    assert_eq!(status, 1, "the disk's trouble is not the caller's");
    assert!(stderr.contains("no/such/folder.html: No such file"), "{stderr}");
}

#[test]
fn runs_that_did_not_measure_the_same_are_refused() {
    // A faster machine or a smaller batch would pass for a better store.
    let bench = Bench::new();
    bench.save("base.json", &example_run());
    type Change = fn(&mut RunResult);
    let changes: [(&str, Change); 9] = [
        ("config.workload", |run| run.config.workload = "kv".to_owned()),
        ("config.rate", |run| run.config.rate = Some(6_000.0)),
        ("config.clients", |run| run.config.clients = 17),
        ("config.batch", |run| run.config.batch = 11),
        ("config.seed", |run| run.config.seed = 124),
        ("config.mix", |run| *run.config.mix.entry("write".to_owned()).or_default() = 79.0),
        ("server.sync", |run| run.server.sync = Some("none".to_owned())),
        ("env.host", |run| run.env.host = Some("another".to_owned())),
        ("env.cores", |run| run.env.cores = 4),
    ];
    for (what, change) in changes {
        let mut other = example_run();
        change(&mut other);
        bench.save("other.json", &other);
        let (status, stdout, stderr) = bench.run("compare base.json other.json");
        assert_eq!((status, stdout.as_str()), (2, ""), "{what}");
        assert!(stderr.contains(what) && stderr.contains("other.json"), "{what}: {stderr}");
        let (status, stdout, _) = bench.run("compare base.json other.json --force");
        assert_eq!(status, 0, "{what}");
        assert!(stdout.contains(what), "{what}: {stdout}");
    }
    // What names a run or its length is no obstacle, nor another server's word for the same promise.
    let mut other = example_run();
    other.server.sync = Some("appendfsync always".to_owned());
    other.config.label = Some("another".to_owned());
    other.config.duration_s = Some(6.0);
    other.env.kernel = Some("6.19.0".to_owned());
    bench.save("other.json", &other);
    let (status, stdout, _) = bench.run("compare base.json other.json");
    assert_eq!(status, 0);
    assert!(stdout.contains("server.sync: always and appendfsync always"), "{stdout}");
    assert!(stdout.contains("config.duration_s: 5.0 and 6.0") && stdout.contains("env.kernel"), "{stdout}");
}

#[test]
fn exit_status_tells_regressions_from_noise() {
    // A pipeline that fails by chance is switched off, and one that never fails is useless.
    let bench = Bench::new();
    let cases: [(&str, RunResult, RunResult, &str, i32); 8] = [
        ("the same", run_with(0.0, 0.0, 1), run_with(0.0, 0.0, 1), "", 0),
        ("2 %, below the floor", run_with(0.0, 0.0, 1), run_with(2.0, 0.0, 1), "", 0),
        ("2 %, above another floor", run_with(0.0, 0.0, 1), run_with(2.0, 0.0, 1), "--noise 1%", 1),
        ("10 %", run_with(0.0, 0.0, 1), run_with(10.0, 0.0, 1), "", 1),
        ("10 % better", run_with(10.0, 0.0, 1), run_with(0.0, 0.0, 1), "", 0),
        ("10 % in quiet repetitions", run_with(0.0, 1.0, 5), run_with(10.0, 1.0, 5), "", 1),
        ("10 % in noisy repetitions", run_with(0.0, 20.0, 5), run_with(10.0, 20.0, 5), "", 0),
        ("a noisy base and one new run", run_with(0.0, 20.0, 5), run_with(10.0, 0.0, 1), "", 0),
    ];
    for (what, base, new, flags, expected) in cases {
        bench.save("base.json", &base);
        bench.save("new.json", &new);
        let (status, stdout, stderr) = bench.run(&format!("compare base.json new.json {flags}"));
        assert_eq!(status, expected, "{what}: {stdout}{stderr}");
        assert_eq!(stdout.contains("WORSE"), expected == 1, "{what}: {stdout}");
        assert_eq!(
            stdout.contains("the noise is not known"),
            base.runs.len() + new.runs.len() == 2,
            "{what}"
        );
    }
    // Errors where there were none, and fewer operations.
    bench.save("base.json", &example_run());
    let mut failing = example_run();
    failing.ops.get_mut("write").unwrap().errors = 1;
    bench.save("new.json", &failing);
    assert_eq!(bench.run("compare base.json new.json").0, 1);
    let mut slow = example_run();
    slow.ops.get_mut("write").unwrap().ops_per_s *= 0.9;
    bench.save("new.json", &slow);
    assert_eq!(bench.run("compare base.json new.json").0, 1);
    bench.save("third.json", &example_run());
    let (status, stdout, _) = bench.run("compare base.json third.json new.json --html p.html");
    assert_eq!((status, stdout.matches("\nnew  ").count()), (1, 2), "{stdout}");
    assert!(bench.read("p.html").contains("id=\"changes-2\""));
}

#[test]
fn baselines_and_thresholds_gate_a_pipeline() {
    // The limit that was agreed on would not be kept, or the base would drift with each regression.
    let bench = Bench::new();
    bench.save("good.json", &run_with(0.0, 0.0, 2));
    bench.save("bad.json", &run_with(30.0, 0.0, 2));
    assert_eq!(bench.run("compare good.json --save-baseline main").0, 0);
    assert_eq!(bench.read("tskv-bench-baselines/main.json"), bench.read("good.json"));
    let (status, stdout, _) = bench.run("compare bad.json --baseline main --save-baseline main");
    assert_eq!(status, 1);
    assert!(stdout.contains("not saved as main: it is worse"), "{stdout}");
    assert_eq!(bench.read("tskv-bench-baselines/main.json"), bench.read("good.json"));
    assert_eq!(bench.run("compare good.json --baseline main").0, 0);
    assert_eq!(bench.run("compare good.json --baseline good.json").0, 0);
    for (limit, expected) in [
        ("write.p99_us<80000", 0),
        ("write.p99_us<60000", 1),
        ("total.ops_per_s>=5000", 0),
        ("total.ops_per_s>5000", 1),
        ("read.p99.99_us<1e9", 1),
        ("total.errors<=0", 0),
    ] {
        let (status, stdout, stderr) = bench.run(&format!("compare good.json --threshold {limit}"));
        assert_eq!(status, expected, "{limit}: {stdout}{stderr}");
        assert!(stdout.contains(limit), "{stdout}");
    }
}

#[test]
fn hdr_plot_draws_our_spectra() {
    // The format has readers, not a standard: ours is right when theirs read it.
    let bench = Bench::new();
    let plotter = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin/hdr-plot");
    assert!(plotter.exists(), "{} is absent: run scripts/test.sh, which installs it", plotter.display());
    bench.save("run.json", &example_run());
    assert_eq!(bench.run("report run.json --hgrm run").0, 0);
    let draw = |files: &[&str], picture: &str| {
        let mut command = Command::new(&plotter);
        // Fonts and settings are cached in the home directory.
        command.current_dir(bench.folder.path()).env("HOME", bench.folder.path()).env("MPLBACKEND", "Agg");
        command.args(["--units", "ms", "--output", picture]).args(files).output().unwrap()
    };
    let drawn = draw(&["run-write-response.hgrm", "run-write-service.hgrm"], "plot.png");
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
    let picture = std::fs::read(bench.path("plot.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 10_000, "{} bytes", picture.len());
    // The same file without its last lines is one that it cannot read: the plotter does look.
    let cut: String =
        bench.read("run-write-response.hgrm").lines().filter(|line| !line.starts_with('#')).collect();
    std::fs::write(bench.path("cut.hgrm"), cut).unwrap();
    assert!(!draw(&["cut.hgrm"], "cut.png").status.success());
}
