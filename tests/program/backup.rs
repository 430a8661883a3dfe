//! `tskv backup` beside a serving daemon: what is in it, where it goes, and what is refused.

use crate::support::{Daemon, NO_FLAGS, tskv};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn backup(daemon: &Daemon, flags: &[&str], to: &Path) -> Output {
    let mut arguments = vec!["backup"];
    arguments.extend(flags);
    arguments.push(to.to_str().unwrap());
    daemon.run(&arguments)
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_backup_made_under_load_holds_all_that_was_acknowledged_before() {
    // Made from files that change meanwhile, a copy by hand opens on a good day only.
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&directory.path().join("store"), &["--cores", "2"]);
    let (acknowledged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let target = directory.path().join("monday");
    let before = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1.. {
                let (key, value) = (format!("k{number}"), number.to_string());
                assert_eq!(daemon.resp(&[b"SET", key.as_bytes(), value.as_bytes()]), "+OK\r\n+OK\r\n");
                acknowledged.store(number, Ordering::Release);
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        while acknowledged.load(Ordering::Acquire) < 200 {
            std::thread::yield_now();
        }
        let before = acknowledged.load(Ordering::Acquire);
        let output = backup(&daemon, &[], &target);
        stop.store(true, Ordering::Relaxed);
        assert!(output.status.success() && told(&output).contains("sound: "), "{}", told(&output));
        before
    });
    // The first store goes on without it, and the second without the first.
    daemon.ok(&["compact"]);
    daemon.ok(&["delete", "--everything"]);
    drop(daemon);
    fs::remove_dir_all(directory.path().join("store")).unwrap();
    let second = Daemon::start(&target, &NO_FLAGS);
    for number in 1..=before {
        let (key, value) = (format!("k{number}"), number.to_string());
        let reply = second.resp(&[b"GET", key.as_bytes()]);
        assert_eq!(reply, format!("${}\r\n{value}\r\n+OK\r\n", value.len()), "of {before}");
    }
    assert!(second.resp(&[b"SET", b"after", b"1"]).starts_with("+OK"));
}

#[test]
fn a_backup_goes_where_it_is_told_and_nowhere_else() {
    // One that overwrites an older one, or shares bytes where its own were asked for, fails when it is needed.
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store");
    let daemon = Daemon::start(&data, &NO_FLAGS);
    daemon.ok(&["put", "cpu", "1", "2.5"]);
    let links = |at: &Path| {
        let tables = fs::read_dir(at.join("tables")).unwrap();
        tables.map(|table| table.unwrap().metadata().unwrap().nlink()).collect::<Vec<_>>()
    };

    let shared = directory.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let output = backup(&daemon, &[], &shared);
    assert!(output.status.success(), "an empty directory will do: {}", told(&output));
    assert_eq!(links(&shared), [2], "the table is shared");
    let copied = directory.path().join("copied");
    let output = backup(&daemon, &["--copy"], &copied);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(links(&copied), [1], "bytes of its own");
    let scanned = |at: &Path| Daemon::start(at, &NO_FLAGS).ok(&["scan", "cpu"]);
    assert_eq!((scanned(&shared), scanned(&copied)), (b"cpu,1,2.5\n".to_vec(), b"cpu,1,2.5\n".to_vec()));

    let output = backup(&daemon, &[], &shared);
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("is not empty"), "{}", told(&output));
    let kept = String::from_utf8(daemon.ok(&["backup"])).unwrap();
    let kept = Path::new(kept.trim());
    assert!(kept.starts_with(data.canonicalize().unwrap().join("checkpoints")), "{}", kept.display());
    let checked = tskv().arg("check").arg(kept).output().unwrap();
    assert!(checked.status.success(), "{}", told(&checked));
    // It is no foreign thing in the store either, and survives restarts of it.
    drop(daemon);
    let daemon = Daemon::start(&data, &NO_FLAGS);
    drop(daemon);
    let checked = tskv().arg("check").arg(&data).output().unwrap();
    assert!(checked.status.success() && !told(&checked).contains("foreign"), "{}", told(&checked));
    assert!(kept.join("CURRENT").exists());
}
