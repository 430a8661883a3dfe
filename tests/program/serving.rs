//! A daemon and its tools: the first minute of a newcomer, and how a daemon ends.

use crate::clients::run_tool;
use crate::support::{Daemon, NO_FLAGS, tskv};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn values_go_in_and_come_out() {
    // What the README's first screen shows must work as it stands there.
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&directory.path().join("store"), &NO_FLAGS);
    assert!(text(daemon.ok(&["ping"])).contains("answered"));
    daemon.ok(&["put", "cpu.idle", "-5", "99.5"]);
    daemon.ok(&["put", "cpu.idle", "10", "0.1"]);
    daemon.ok(&["put", "cpu.user", "7", "-3", "--type", "i64"]);
    daemon.ok(&["put", "events", "now", "disk, replaced", "--type", "bytes"]);
    assert_eq!(text(daemon.ok(&["get", "cpu.idle"])), "0.1\n");
    assert_eq!(text(daemon.ok(&["get", "cpu.idle", "-5", "--with-time"])), "-5,99.5\n");
    assert_eq!(text(daemon.ok(&["get", "events"])), "disk, replaced\n");
    assert_eq!(daemon.run(&["get", "cpu.idle", "6"]).status.code(), Some(1), "no such value");
    let both = "cpu.idle,-5,99.5\ncpu.idle,10,0.1\ncpu.user,7,-3\n";
    assert_eq!(text(daemon.ok(&["scan", "--prefix", "cpu."])), both);
    assert_eq!(text(daemon.ok(&["scan", "cpu.idle", "--reverse", "--limit", "1"])), "cpu.idle,10,0.1\n");
    daemon.ok(&["flush"]);
    daemon.ok(&["delete", "cpu.idle", "--from", "0"]);
    daemon.ok(&["delete", "events"]);
    daemon.ok(&["compact"]);
    assert_eq!(text(daemon.ok(&["export"])), "series,timestamp_ms,value\ncpu.idle,-5,99.5\ncpu.user,7,-3\n");
    assert!(text(daemon.ok(&["stats"])).contains("requests"));
    assert!(text(daemon.ok(&["stats", "--fields"])).contains("connected_clients="));
    daemon.ok(&["delete", "--everything"]);
    assert_eq!(text(daemon.ok(&["export", "--values", "bits"])), "");
}

#[test]
fn short_benchmark_runs_over_both_protocols() {
    // A benchmark that only its author can start measures nothing.
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&directory.path().join("store"), &["--cores", "2"]);
    for arguments in [
        &["--workload", "kv"][..],
        &["--workload", "kv", "--protocol", "resp"],
        &["--workload", "kv", "--protocol", "resp", "--commands", "ts"],
        &["--workload", "mixed", "--hosts", "5", "--batch", "20"],
        &["--workload", "mixed", "--hosts", "5", "--batch", "20", "--protocol", "resp"],
        &["--batch", "1"],
    ] {
        let bench = ["bench", "-q", "-n", "500", "-P", "8", "-c", "2"];
        let report = text(daemon.ok(&[&bench[..], arguments].concat()));
        assert!(report.contains("write ") && report.contains("closed loop"), "{arguments:?}: {report}");
        assert!(report.contains("sync always"), "{arguments:?}: {report}");
    }
}

#[test]
fn term_ends_a_daemon_cleanly_and_nothing_is_lost() {
    // A supervisor that gets anything but 0 from a stop restarts what it meant to stop.
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store");
    for signal in ["TERM", "INT"] {
        let daemon = Daemon::start(&data, &NO_FLAGS);
        daemon.ok(&["put", signal, "1", "2"]);
        daemon.signal(signal);
        let (status, log) = daemon.wait();
        assert_eq!(status.code(), Some(0), "{signal}: {log}");
    }
    let daemon = Daemon::start(&data, &NO_FLAGS);
    assert_eq!(text(daemon.ok(&["scan", "--prefix", ""])), "INT,1,2\nTERM,1,2\n");
    drop(daemon);
    let check = tskv().arg("check").arg(&data).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

#[test]
fn second_daemon_is_refused_and_the_first_unharmed() {
    // Two daemons on one directory destroy it; two on one port share its clients by chance.
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store");
    let daemon = Daemon::start(&data, &NO_FLAGS);
    let other = directory.path().join("other");
    let same_directory =
        tskv().args(["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--data"]).arg(&data).output();
    let same_port = tskv()
        .args(["serve", "--listen", daemon.field("listen"), "--admin", "off", "--data"])
        .arg(&other)
        .output();
    let same_admin = tskv()
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", daemon.field("admin"), "--data"])
        .arg(&other)
        .output();
    for (output, hint) in [(same_directory, "lock"), (same_port, "taken"), (same_admin, "--admin")] {
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{said}");
        assert!(said.to_lowercase().contains(hint) || said.contains("another"), "{hint}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    daemon.ok(&["put", "a", "1", "1"]);
    // Nobody can look into, or check, what a daemon has open.
    assert_eq!(tskv().arg("check").arg(&data).output().unwrap().status.code(), Some(1));
}

#[test]
fn output_nobody_reads_is_no_error_message() {
    // `tskv scan … | head` must not end in a complaint or a panic.
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&directory.path().join("store"), &NO_FLAGS);
    let mut csv = tempfile::NamedTempFile::new().unwrap();
    writeln!(csv, "series,timestamp_ms,value").unwrap();
    (0..50_000).for_each(|time| writeln!(csv, "a,{time},{time}.5").unwrap());
    daemon.ok(&["import", csv.path().to_str().unwrap()]);
    let mut scan = tskv()
        .args(["scan", "a"])
        .env("TSKV_ADDR", daemon.field("listen"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    scan.stdout.take().unwrap().read_exact(&mut [0; 10]).unwrap();
    let output = scan.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let full = Command::new("sh")
        .args(["-c", &format!("exec {} scan a >/dev/full", env!("CARGO_BIN_EXE_tskv"))])
        .env("TSKV_ADDR", daemon.field("listen"))
        .output()
        .unwrap();
    assert_eq!(full.status.code(), Some(1), "a full disk is an error");
    assert!(String::from_utf8_lossy(&full.stderr).contains("stdout"));
}

#[test]
fn password_is_asked_for_and_enough() {
    // A daemon with a password that answers without one has none.
    let directory = tempfile::tempdir().unwrap();
    let (right, wrong) = (directory.path().join("right"), directory.path().join("wrong"));
    for (path, content) in [(&right, "geheim\n"), (&wrong, "geraten\n")] {
        std::fs::write(path, content).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let (right, wrong) = (right.to_str().unwrap(), wrong.to_str().unwrap());
    let daemon = Daemon::start(&directory.path().join("store"), &["--password-file", right]);
    for arguments in [&["put", "a", "1", "1"][..], &["get", "a", "--password-file", wrong]] {
        let output = daemon.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.to_lowercase().contains("password"), "{said}");
    }
    daemon.ok(&["put", "a", "1", "1", "--password-file", right]);
    daemon.ok(&["bench", "--protocol", "resp", "-n", "10", "--password-file", right]);
    assert!(!daemon.log().contains("geheim") && !daemon.log().contains("geraten"));
}

#[test]
fn systemd_hears_when_it_is_ready_and_when_it_stops() {
    // A unit of Type=notify that never hears READY=1 is killed after its start timeout.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut daemon = tskv()
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--data"])
        .arg(directory.path().join("store"))
        .env("NOTIFY_SOCKET", &path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut buf = [0; 256];
    let mut hear = || {
        let count = socket.recv(&mut buf).unwrap();
        String::from_utf8_lossy(&buf[..count]).into_owned()
    };
    assert!(hear().contains("READY=1"));
    Command::new("kill").arg(daemon.id().to_string()).status().unwrap();
    assert!(hear().contains("STOPPING=1"));
    assert!(daemon.wait().unwrap().success());
}

#[test]
fn closed_standard_streams_do_not_reach_the_store() {
    // With 0, 1 and 2 closed, the first files opened get these numbers, and a log line would land in the store.
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store");
    let notify = directory.path().join("notify");
    let socket = UnixDatagram::bind(&notify).unwrap();
    let script = format!(
        "exec {} serve --listen 127.0.0.1:0 --admin off --data {} <&- >&- 2>&-",
        env!("CARGO_BIN_EXE_tskv"),
        data.display()
    );
    let mut daemon = Command::new("sh").args(["-c", &script]).env("NOTIFY_SOCKET", &notify).spawn().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.recv(&mut [0; 256]).unwrap();
    Command::new("kill").arg(daemon.id().to_string()).status().unwrap();
    assert!(daemon.wait().unwrap().success());
    let check = tskv().arg("check").arg(&data).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

#[test]
fn unusable_directory_is_a_clear_message() {
    // "Permission denied" alone does not say of what.
    for data in ["/proc/tskv", "/dev/null/store"] {
        let output = tskv()
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--data", data])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{data}: {said}");
        assert!(said.contains(data) && !said.contains("panicked"), "{data}: {said}");
    }
}

#[test]
fn few_descriptors_are_a_clear_message() {
    // "Too many open files" in the middle of serving says nothing of ulimit.
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store");
    let script = format!(
        "ulimit -n 20; exec {} serve --listen 127.0.0.1:0 --admin off --data {}",
        env!("CARGO_BIN_EXE_tskv"),
        data.display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("ulimit"), "{said}");
}

#[test]
fn admin_port_shows_health_and_metrics() {
    // Prometheus refuses a whole page for one malformed line.
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&directory.path().join("store"), &NO_FLAGS);
    daemon.ok(&["put", "a", "1", "1"]);
    daemon.ok(&["get", "a"]);
    assert!(daemon.http("GET", "/healthz").starts_with("HTTP/1.1 200"));
    assert!(daemon.http("GET", "/readyz").starts_with("HTTP/1.1 200"));
    assert!(daemon.http("POST", "/metrics").starts_with("HTTP/1.1 405"));
    assert!(daemon.http("GET", "/nothing").starts_with("HTTP/1.1 404"));
    // Counters of the cores are published now and then.
    let deadline = Instant::now() + Duration::from_secs(5);
    let page = loop {
        let page = daemon.http("GET", "/metrics");
        if page.contains("tskv_put_total 1\n") && page.contains("tskv_get_total 1\n") {
            break page;
        }
        assert!(Instant::now() < deadline, "the counters never came:\n{page}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let (_, body) = page.split_once("\r\n\r\n").unwrap();
    let output = run_tool(Command::new("promtool").args(["check", "metrics"]), body);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
