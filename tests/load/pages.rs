//! The page with pictures: what is on it, that nothing from a document gets into it, and that a browser shows it.
#![expect(clippy::disallowed_methods, reason = "a browser that hangs is ended after a real time")]

use crate::fixture::{example_run, example_sweep};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tskv::load::report::{NamedRun, html_report};
use tskv::load::{LatencyHistogram, RunResult, SecondOp};

/// A browser that takes longer hangs.
const BROWSER_SECONDS_MAX: u64 = 90;

/// The example on a server that is slower by `percent`, at every request.
fn slower_run(percent: u64) -> RunResult {
    let slower = |latencies: &LatencyHistogram| {
        let mut slowed = LatencyHistogram::default();
        for step in latencies.histogram().iter_recorded() {
            slowed.record_many(step.value_iterated_to() * (100 + percent) / 100, step.count_at_value());
        }
        slowed
    };
    let mut result = example_run();
    result.config.label = Some("slower <disk> & \"controller\"".to_owned());
    for op in result.ops.values_mut() {
        op.service_hdr_v2_base64 = slower(&op.service_hdr_v2_base64);
        op.service_us = op.service_hdr_v2_base64.summary();
        op.response_hdr_v2_base64 = op.response_hdr_v2_base64.as_ref().map(slower);
        op.response_us = op.response_hdr_v2_base64.as_ref().map(LatencyHistogram::summary);
    }
    for second in &mut result.series {
        for op in second.ops.values_mut() {
            *op = SecondOp::new(op.count, op.errors, op.values, slower(&op.hdr_v2_base64));
        }
    }
    result
}

/// A page of runs under their labels.
fn page(runs: &[&RunResult]) -> String {
    let named: Vec<_> = runs.iter().map(|run| NamedRun::new(run, "run")).collect();
    html_report(&named, 3.0)
}

#[test]
fn page_asks_nobody_and_runs_nothing() {
    // On a machine without a network the pictures would be missing, and a document from elsewhere could phone home.
    let page = page(&[&example_run(), &slower_run(20), &example_sweep()]);
    for forbidden in
        ["http:", "https:", "<script", "<link", "@import", "url(", " src=", " href=", " on", "javascript:"]
    {
        let found: Vec<_> =
            page.match_indices(forbidden).map(|(at, _)| &page[at.saturating_sub(30)..at + 30]).collect();
        let found: Vec<_> = found.into_iter().filter(|text| !is_prose(text)).collect();
        assert!(found.is_empty(), "{forbidden}: {found:?}");
    }
    assert!(page.contains("default-src 'none'"));
}

/// The word "on" in a sentence, which only looks like the beginning of an attribute like `onload=`.
fn is_prose(text: &str) -> bool {
    text.match_indices(" on").all(|(at, _)| {
        let word: String = text[at + 1..].chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        !text[at + 1 + word.len()..].starts_with('=')
    }) && text.contains(" on")
}

#[test]
fn nothing_in_a_document_becomes_markup() {
    // A result from elsewhere could show a page of its own making.
    const EVIL: &str = "</title></svg><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u{0}";
    let mut result = example_sweep();
    let evil = || EVIL.to_owned();
    result.config.label = Some(evil());
    result.config.workload = evil();
    result.config.addr = evil();
    result.config.tags.insert(evil(), evil());
    result.config.mix.insert(evil(), 1.0);
    result.env.host = Some(evil());
    result.server.product = Some(evil());
    result.server.after.insert(evil(), 2.0);
    result.server.before.insert(evil(), 1.0);
    result.tool.name = evil();
    result.verdict.notes.push(evil());
    for op in result.ops.values_mut() {
        op.first_error = Some(evil());
    }
    let renamed = result.ops["write"].clone();
    result.ops.insert(evil(), renamed);
    for second in &mut result.series {
        let renamed = second.ops["write"].clone();
        second.ops.insert(evil(), renamed);
        second.marks.insert(evil(), 3);
    }
    for point in &mut result.sweep {
        point.slo = format!("p99<10ms{EVIL}");
        let renamed = point.ops["write"].clone();
        point.ops.insert(evil(), renamed);
    }
    let mut other = result.clone();
    other.config.workload = "another".to_owned();
    let page = page(&[&result, &other]);
    for markup in ["<script", "<img", "onerror=alert(2)>", "</title></svg>", "\u{0}"] {
        assert!(!page.contains(markup), "{markup} got in");
    }
    assert!(page.matches("&lt;script&gt;").count() > 20, "the names are not shown at all");
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
}

#[test]
fn page_holds_the_pictures_that_the_runs_allow() {
    // An engineer who asked for a comparison gets a page without one.
    let single = page(&[&example_run()]);
    for id in [
        "spectrum-total",
        "spectrum-0",
        "spectrum-1",
        "timeline-throughput",
        "timeline-p99",
        "timeline-events-0-0",
    ] {
        assert_eq!(single.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
    }
    for absent in ["id=\"changes-", "id=\"sweep-", "NaN", "inf\""] {
        assert!(!single.contains(absent), "{absent}");
    }
    let swept = page(&[&example_sweep()]);
    for id in ["sweep-latency-0", "sweep-latency-1", "sweep-rate"] {
        assert_eq!(swept.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
    }
    assert!(swept.contains("objective: p99&lt;20ms"));
    let pair = page(&[&example_run(), &slower_run(20)]);
    assert_eq!(pair.matches("id=\"changes-1\"").count(), 1);
    assert!(pair.contains("✗ +20."), "a regression is not shown as one");
    // Both runs, response and service time, all in one chart.
    let spectrum = &pair[pair.find("id=\"spectrum-total\"").unwrap()..];
    let spectrum = &spectrum[..spectrum.find("</svg>").unwrap()];
    assert_eq!(spectrum.matches("<path class=\"line ").count(), 4);
}

#[test]
fn page_of_an_empty_run_is_a_page() {
    // A run that was interrupted at once still has a reason to tell.
    let mut result = example_run();
    result.ops.clear();
    result.series.clear();
    result.runs.truncate(1);
    result.runs[0].ops.clear();
    result.runs[0].elapsed_s = 0.0;
    result.verdict.interrupted = true;
    let page = page(&[&result, &result]);
    assert!(page.contains("interrupted") && page.contains("No latencies were recorded"), "{page}");
    assert!(!page.contains("NaN"));
}

/// Runs the browser on a page; its standard output and what it logged.
fn browse(html: &Path, profile: &Path, arguments: &[&str]) -> (String, String) {
    let log = profile.with_extension("log");
    let out = profile.with_extension("out");
    let mut browser = Command::new("chromium");
    browser
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .arg(format!("file://{}", html.display()))
        .env("HOME", profile.parent().unwrap())
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::fs::File::create(&log).unwrap());
    let mut child = browser.spawn().expect("chromium is absent: run scripts/test.sh, which installs it");
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begin.elapsed() > Duration::from_secs(BROWSER_SECONDS_MAX) {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the browser hangs: {}", std::fs::read_to_string(&log).unwrap());
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let (out, log) = (read(&out), read(&log));
    assert!(status.success(), "{status}: {log}");
    (out, log)
}

#[test]
fn browser_shows_the_page_without_a_complaint() {
    // Markup that a browser repairs in its own way, or a style that the page's own policy forbids, shows something else.
    let folder = tempfile::tempdir().unwrap();
    let html = folder.path().join("report.html");
    std::fs::write(&html, page(&[&example_run(), &slower_run(20), &example_sweep()])).unwrap();
    // The same check sees a page that does complain: a test that is blind passes.
    let broken = folder.path().join("broken.html");
    let text = page(&[&example_run()]).replace("</main>", "<script>document.title = 'ran'</script></main>");
    std::fs::write(&broken, text).unwrap();
    let complaints = |log: &str| -> Vec<String> {
        log.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect()
    };
    let (dom, log) = browse(&html, &folder.path().join("profile"), &["--dump-dom"]);
    assert_eq!(complaints(&log), Vec::<String>::new());
    for (id, lines) in [
        ("spectrum-total", 6),
        ("timeline-throughput", 6),
        ("timeline-p99", 6),
        ("sweep-latency-0", 2),
        ("sweep-rate", 2),
    ] {
        let svg =
            &dom[dom.find(&format!("<svg id=\"{id}\"")).unwrap_or_else(|| panic!("{id} is not shown"))..];
        let svg = &svg[..svg.find("</svg>").unwrap()];
        assert_eq!(svg.matches("<path class=\"line ").count(), lines, "{id}");
        assert!(
            svg.contains("<title id=") && svg.contains("class=\"tick\"") && svg.contains("class=\"axis\""),
            "{id}"
        );
    }
    for id in ["changes-1", "changes-2", "timeline-events-0-0"] {
        assert!(dom.contains(&format!("<svg id=\"{id}\"")), "{id} is not shown");
    }
    assert!(dom.contains("<title>tskv bench: example (1), slower &lt;disk&gt;"), "{}", &dom[..500]);
    let (dom, log) = browse(&broken, &folder.path().join("profile"), &["--dump-dom"]);
    assert_eq!(complaints(&log).len(), 1, "the forbidden script is not told of: {log}");
    assert!(!dom.contains("<title>ran"), "the page's policy let a script run");
    if let Some(kept) = std::env::var_os("TSKV_KEEP_PAGES") {
        std::fs::copy(&html, Path::new(&kept).join("report.html")).unwrap();
        std::fs::write(Path::new(&kept).join("pair.html"), page(&[&example_run(), &slower_run(20)])).unwrap();
    }
}
