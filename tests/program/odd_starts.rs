//! Settings and surroundings that somebody will start the daemon with one day (RELIABILITY §2.3 e): each is refused with
//! a sentence that helps, or served.

use crate::support::{Daemon, NO_FLAGS, Reply, Resp, tskv};
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs `tskv serve` that must be refused; its exit status and what it said.
fn refused(directory: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let output = tskv().arg("serve").args(flags).current_dir(directory).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.stdout.is_empty() && !said.contains("panicked"), "{flags:?}: {said}");
    (output.status.code(), said)
}

#[test]
fn senseless_settings_are_refused_before_anything_is_made() {
    // Status 2, a sentence with the remedy, and a directory as empty as before.
    let split: String = (0..130).map(|number| format!("{number:03},")).collect();
    for (flags, hints) in [
        (&["--cache-bytes", "16777216TiB"][..], &["--cache-bytes", "64 bits"][..]),
        (&["--cache-bytes", "2TiB"], &["at most"]),
        (&["--memtable-bytes", "1"], &["at least"]),
        (&["--memtable-bytes", "10 MB", "--max-value-bytes", "10 MiB"], &["--memtable-bytes", "10MiB"]),
        (&["--max-query-memory", "-1"], &["--max-query-memory"]),
        (&["--max-clients", "0"], &["1 to 1000000"]),
        (&["--max-clients", "99999999999999999999"], &["1 to 1000000"]),
        (&["--cores", "129"], &["1 to 128"]),
        (&["--cores", "cpu:"], &["cpu:0,2-3"]),
        (&["--cores", "cpu:1023"], &["CPU 1023 is not available", "--cores"]),
        (&["--split-at", split.trim_end_matches(',')], &["split points"]),
        (&["--cores", "2", "--split-at", "b,a"], &["ascend"]),
        (&["--cores", "2", "--split-at", "a,b"], &["--split-at with 2 keys", "--cores 3"]),
        (&["--listen", "127.0.0.1"], &["has no port", "127.0.0.1:7878"]),
        (&["--listen", "::1:7878"], &["[::1]:7878"]),
        (&["--listen", "[::1]"], &["[::1]:7878"]),
        (&["--listen", "[fe80::1%nosuch]:1"], &["cannot be resolved"]),
        (&["--listen", "nosuch.invalid:1"], &["'nosuch.invalid' cannot be resolved"]),
        (&["--listen", ":7878"], &["0.0.0.0:7878"]),
        (&["--listen", "127.0.0.1:99999999999"], &["0 to 65535"]),
        (&["--admin", "127.0.0.1:65536"], &["--admin", "0 to 65535"]),
        (&["--listen", "127.0.0.1:1", "--admin", "127.0.0.1:1"], &["--listen and --admin both name"]),
        (&["--sync", "always", "--sync", "none"], &["cannot be used multiple times"]),
        (&["--wal-segment-bytes", "1MiB"], &["--wal-segment-bytes 1MiB", "--max-value-bytes 1MiB", "2MiB"]),
        (&["--max-output-bytes", "1MiB"], &["--max-output-bytes 1MiB", "at least 2MiB"]),
        (&["--max-query-memory", "2MiB"], &["--max-query-memory 2MiB", "at least 3MiB"]),
        (&["--password-file", "/dev/zero"], &["no regular file"]),
        (&["--password-file", "/no/such"], &["/no/such"]),
        (&["--data", ""], &["--data", "empty"]),
        (&["--data"], &["--data"]),
        (&["--datta", "x"], &["--data"]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (status, said) = refused(directory.path(), flags);
        assert_eq!(status, Some(2), "{flags:?}: {said}");
        assert!(hints.iter().all(|hint| said.contains(hint)), "{flags:?}: {said}");
        assert_eq!(directory.path().read_dir().unwrap().count(), 0, "{flags:?} left something behind");
    }
}

#[test]
fn files_that_are_no_configuration_are_refused_at_once() {
    // A fifo waits for ever, a huge file fills the memory, and a typing error is a setting that nobody reads.
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("folder")).unwrap();
    assert!(Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
    File::create(path("huge")).unwrap().set_len(100 << 20).unwrap();
    for (name, content) in [
        ("latin", &b"data = \"\xe9\"\n"[..]),
        ("twice", b"sync = \"none\"\nsync = \"none\"\n"),
        ("spelled_twice", b"max-clients = 1\nmax_clients = 1\n"),
        ("typo", b"wal-segment-byte = 1\n"),
        ("section", b"[serve]\nsync = \"none\"\n"),
        ("nul", b"sync = \"al\0ways\"\n"),
        ("contradiction", b"\xef\xbb\xbfmax-value-bytes = \"2MiB\"\r\nwal-segment-bytes = 1048576\r\n"),
        ("range", b"max-clients = 0\r\n"),
        ("float", b"max-clients = 1e3\n"),
        ("bare", b"sync = always\n"),
    ] {
        std::fs::write(path(name), content).unwrap();
    }
    let before = directory.path().read_dir().unwrap().count();
    for (name, hint) in [
        ("folder", "no regular file"),
        ("fifo", "no regular file"),
        ("absent", "absent"),
        ("huge", "longer than"),
        ("latin", "UTF-8 (byte 8)"),
        ("twice", "duplicate key"),
        ("spelled_twice", "keep one"),
        ("typo", "did you mean 'wal-segment-bytes'"),
        ("section", "no setting 'serve'"),
        ("nul", "line 1"),
        ("contradiction", "raise the second to 3MiB"),
        ("range", "1 to 1000000"),
        ("float", "float"),
        ("bare", "line 1"),
    ] {
        let began = Instant::now();
        let (status, said) = refused(directory.path(), &["--config", name]);
        assert!(status == Some(2) && said.contains(hint), "{name}: {status:?} {said}");
        assert!(began.elapsed() < Duration::from_secs(10), "{name} took {:?}", began.elapsed());
    }
    assert_eq!(directory.path().read_dir().unwrap().count(), before, "a refused start left something behind");
    // An empty file is a configuration that leaves everything as it is.
    std::fs::write(path("empty"), b"").unwrap();
    let daemon = Daemon::start(&path("store"), &["--config", path("empty").to_str().unwrap()]);
    daemon.ok(&["put", "a", "1", "1"]);
}

#[test]
fn a_store_refuses_settings_that_it_was_not_made_with() {
    // Timestamps in another unit are wrong by a factor of a thousand, silently.
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store");
    Daemon::start(&data, &["--time-unit", "us"]).terminate();
    let flags = ["--listen", "127.0.0.1:0", "--admin", "off", "--time-unit", "ns", "--data"];
    let (status, said) = refused(directory.path(), &[&flags[..], &[data.to_str().unwrap()]].concat());
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("time unit is us"), "{said}");
    Daemon::start(&data, &NO_FLAGS).terminate();
}

/// A port that is free now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for a daemon whose ready line nobody reads, and writes and reads through it.
fn serves(port: u16, context: &str) {
    let address = format!("127.0.0.1:{port}");
    let until = Instant::now() + Duration::from_secs(30);
    let mut client = loop {
        match Resp::connect(&address) {
            Ok(client) => break client,
            Err(error) => assert!(Instant::now() < until, "{context}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(client.ask("SET k v"), Reply::ok(), "{context}");
    assert_eq!(client.ask("GET k"), Reply::Bulk(Some(b"v".to_vec())), "{context}");
}

#[test]
fn odd_surroundings_are_served() {
    // A daemon is started by shells, cron, containers and supervisors; none of these is a reason to fail, and a closed
    // standard stream must never make log lines flow into a file of the store.
    for (preamble, flags) in [
        ("exec <&-", &[][..]),
        ("exec >&-", &[]),
        ("exec 2>&-", &[]),
        ("exec <&- >&- 2>&-", &["--log-level", "trace"]),
        ("exec >/dev/full 2>/dev/full", &["--log-level", "debug"]),
        ("ulimit -l 0", &[]),
        ("ulimit -c 0; ulimit -s 256", &[]),
        ("cd /proc", &[]),
        ("umask 000", &[]),
        ("trap '' HUP PIPE TERM INT", &[]),
        ("export TSKV_SYNC= TSKV_BLOOM_BITS=0", &[]),
        ("unset HOME PATH TERM; export LANG=xx_XX LC_ALL=xx", &[]),
        ("cd /", &["--cores", "7"]),
        ("cd /", &["--memtable-bytes", "1MiB", "--cache-bytes", "0", "--max-query-memory", "3MiB"]),
        ("cd /", &["--cache-bytes", "1TiB"]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("store");
        let port = free_port();
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("{preamble}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_tskv"), "serve"])
            .args(["--admin", "off", "--listen", &format!("127.0.0.1:{port}"), "--data"])
            .arg(&data)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        serves(port, preamble);
        assert!(child.try_wait().unwrap().is_none(), "{preamble}: it has ended");
        let mode = std::fs::metadata(data.join("LOCK")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{preamble}");
        child.kill().unwrap();
        child.wait().unwrap();
        let check = tskv().arg("check").arg(&data).output().unwrap();
        assert!(check.status.success(), "{preamble}: {}", String::from_utf8_lossy(&check.stdout));
    }
}

#[test]
fn data_directories_are_made_where_they_are_named() {
    // A relative or nested path that is not there yet is the usual first start.
    let directory = tempfile::tempdir().unwrap();
    for (data, is_made) in
        [("a/b/c", true), ("./here", true), ("mit Leerzeichen und ü", true), ("file/x", false)]
    {
        std::fs::write(directory.path().join("file"), "").unwrap();
        let port = free_port();
        let mut child = tskv()
            .current_dir(directory.path())
            .args(["serve", "--admin", "off", "--listen", &format!("127.0.0.1:{port}"), "--data", data])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if is_made {
            serves(port, data);
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(directory.path().join(data).join("CURRENT").is_file(), "{data}");
        } else {
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(1) && said.contains(data), "{data}: {said}");
        }
    }
}

#[test]
fn fewer_cpus_than_asked_are_said_or_served() {
    // In a container one CPU is usual; `--cores 4` from the manual must not end there.
    let directory = tempfile::tempdir().unwrap();
    let on_one_cpu = || {
        let mut command = Command::new("taskset");
        command.args(["-c", "0", env!("CARGO_BIN_EXE_tskv")]);
        command
    };
    for (name, flags, cores) in [("default", &[][..], "1"), ("more", &["--cores", "4"], "4")] {
        let daemon = Daemon::start_as(on_one_cpu(), &directory.path().join(name), flags);
        assert_eq!(daemon.field("cores"), cores);
        daemon.ok(&["put", "a", "1", "1"]);
        assert_eq!(daemon.log().contains("they are not pinned"), cores == "4", "{}", daemon.log());
    }
    let mut command = on_one_cpu();
    command.args(["serve", "--cores", "cpu:1", "--listen", "127.0.0.1:0", "--admin", "off", "--data", "x"]);
    let output = command.current_dir(directory.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("CPU 1 is not available"), "{said}");
    assert!(!directory.path().join("x").exists());
}

#[test]
fn too_few_descriptors_are_said_before_anything_is_made() {
    // A daemon that opens a store and then runs out of descriptors does so in the middle of a write.
    let directory = tempfile::tempdir().unwrap();
    let script = format!("ulimit -n 30; exec {} \"$@\"", env!("CARGO_BIN_EXE_tskv"));
    let output = Command::new("sh")
        .args(["-c", &script, "sh", "serve", "--listen", "127.0.0.1:0", "--admin", "off", "--data", "store"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("ulimit -n"), "{said}");
    assert!(!directory.path().join("store").exists());
}

#[test]
fn a_hangup_and_a_reader_that_went_away_end_nothing() {
    // Closing the terminal or the pipe that the daemon was started from is no order to stop.
    let directory = tempfile::tempdir().unwrap();
    // The pipe of its stdout is closed once the ready line has been read.
    let daemon = Daemon::start(&directory.path().join("store"), &NO_FLAGS);
    for signal in ["HUP", "PIPE", "HUP", "XFSZ"] {
        daemon.signal(signal);
        daemon.ok(&["put", "a", "1", "1"]);
    }
    daemon.terminate();
}
