//! What happens to the directory while the daemon serves.

use crate::support::{Daemon, NO_FLAGS, Reply, Resp};
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn a_file_size_limit_stops_writes_and_heals_like_a_full_disk() {
    // EFBIG is no damage: what was acknowledged stays readable, and writes go on once the limit is lifted.
    for backend in ["io_uring", "epoll"] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("store");
        Daemon::start(&data, &NO_FLAGS).terminate();
        let mut command = Command::new("prlimit");
        command.args(["--fsize=5242880:", env!("CARGO_BIN_EXE_tskv")]);
        let flags = ["--backend", backend, "--cores", "1", "--wal-segment-bytes", "16MiB"];
        let daemon = Daemon::start_as(command, &data, &flags);
        let mut client = Resp::connect(&daemon.address()).unwrap();
        let value = vec![b'v'; 64 << 10];
        let mut stored = 0;
        let refusal = loop {
            match client.call(&[b"SET", format!("key-{stored}").as_bytes(), &value]).unwrap() {
                reply if reply == Reply::ok() => stored += 1,
                Reply::Error(error) => break error,
                other => panic!("{other:?}"),
            }
            assert!(stored < 1000, "{backend}: the limit is not felt");
        };
        assert!(refusal.starts_with("NOSPACE "), "{backend}: {refusal}\n{}", daemon.log());
        for number in 0..stored {
            let reply = client.call(&[b"GET", format!("key-{number}").as_bytes()]).unwrap();
            assert!(reply == Reply::Bulk(Some(value.clone())), "{backend}: key-{number}");
        }
        assert_eq!(client.ask("DEL key-0"), Reply::Integer(1), "{backend}: deletes go on");
        let pid = daemon.pid().to_string();
        assert!(
            Command::new("prlimit").args(["--fsize=unlimited:", "--pid", &pid]).status().unwrap().success()
        );
        let until = Instant::now() + Duration::from_secs(10);
        while client.call(&[b"SET", b"after", &value]).unwrap() != Reply::ok() {
            assert!(Instant::now() < until, "{backend}: writes do not resume\n{}", daemon.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
        daemon.kill();
        let daemon = Daemon::start(&data, &NO_FLAGS);
        assert_eq!(daemon.resp(&[b"DBSIZE"]), format!(":{stored}\r\n+OK\r\n"), "{backend}");
        daemon.terminate();
    }
}

#[test]
fn a_directory_that_is_deleted_under_a_daemon_is_told() {
    // It cannot go on for long; what it must do is to say so, answer everybody, and end when told.
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("store");
    let daemon = Daemon::start(&data, &["--cores", "2", "--split-at", "k"]);
    let mut client = Resp::connect(&daemon.address()).unwrap();
    for key in ["a", "z"] {
        assert_eq!(client.ask(&format!("SET {key} 1")), Reply::ok());
    }
    delete_under_a_writer(&data);
    for key in ["a", "z"] {
        assert_eq!(client.ask(&format!("GET {key}")), Reply::Bulk(Some(b"1".to_vec())));
    }
    let began = Instant::now();
    let flush = daemon.run(&["flush"]);
    let said = String::from_utf8_lossy(&flush.stderr).into_owned();
    assert!(!flush.status.success() && !said.is_empty(), "a flush to nowhere: {:?} {said}", flush.status);
    assert!(began.elapsed() < Duration::from_secs(20), "the flush took {:?}", began.elapsed());
    let log = daemon.log();
    assert!(log.contains("No such file or directory") && !log.contains("panicked"), "{log}");
    assert_eq!(client.ask("GET a"), Reply::Bulk(Some(b"1".to_vec())), "reads go on");
    daemon.signal("TERM");
    let (status, log) = daemon.wait();
    assert!(status.code().is_some() && !log.contains("panicked"), "{status} {log}");
    assert!(!data.exists(), "a directory that its owner deleted comes back");
}

/// Removes the directory, again as often as the daemon creates a file in it meanwhile (a log segment made ready).
fn delete_under_a_writer(directory: &Path) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && Instant::now() < until => {}
            removed => return removed.unwrap(),
        }
    }
}
