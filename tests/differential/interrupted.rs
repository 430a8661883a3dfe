//! A kernel that interrupts, is short of memory, or asks for its completions to be read first: `io_uring_enter` fails
//! with EINTR, EAGAIN and EBUSY again and again, by strace, and the daemon serves on.

use crate::support::{Daemon, Reply, Resp};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Attaches strace to a daemon; its end takes the strace with it.
struct Injection(Child);

impl Injection {
    fn into(daemon: &Daemon, errno: &str, step: u32) -> Self {
        let inject = format!("inject=io_uring_enter:error={errno}:when=2+{step}");
        let mut child = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-e", "trace=io_uring_enter", "-e", &inject, "-p"])
            .arg(daemon.pid().to_string())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace, Debian package strace");
        // It says so once it holds all threads.
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "strace: {line}");
        Self(child)
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What an injected failure of strace turns into where its second half comes too late.
const HALF_INJECTED: &str = "io_uring backend failed: Function not implemented";
const ATTEMPTS: usize = 5;

/// Whether the daemon served on; false where strace has failed and not the daemon.
fn serves_on(errno: &str, step: u32) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--backend", "io_uring", "--cores", "2", "--split-at", "k"].map(str::to_owned);
    let mut daemon = Daemon::start(&dir.path().join("store"), &flags);
    let injection = Injection::into(&daemon, errno, step);
    let mut client = Resp::connect(&daemon.address()).unwrap();
    for round in 0..100 {
        // Both shards, and a value that takes several sends and receives.
        let value = vec![b'v'; if round % 10 == 0 { 300_000 } else { 10 + round }];
        for key in [&b"a"[..], b"z"] {
            for (words, reply) in [
                (&[b"SET", key, &value][..], Reply::ok()),
                (&[b"GET", key], Reply::Bulk(Some(value.clone()))),
            ] {
                let found = client.call(words);
                if found.is_err() && daemon.log().contains(HALF_INJECTED) {
                    return false;
                }
                let is_right = found.as_ref().is_ok_and(|found| *found == reply);
                assert!(is_right, "{errno}, round {round}: {found:?}, log: {}", daemon.log());
            }
        }
    }
    drop(injection);
    assert!(daemon.is_alive() && !daemon.log().contains("panicked"), "{errno}: {}", daemon.log());
    daemon.terminate();
    true
}

#[test]
fn io_uring_enter_that_fails_for_a_moment_is_entered_again() {
    // A signal at the wrong moment would end a core, or lose what it had submitted.
    for (errno, step) in [("EINTR", 2), ("EAGAIN", 3), ("EBUSY", 2)] {
        // strace replaces the call by one that does not exist, and its result afterwards; the second half is lost now
        // and then, and the daemon rightly gives up on a kernel without io_uring_enter.
        let served = (0..ATTEMPTS).any(|_| serves_on(errno, step));
        assert!(served, "{errno}: strace failed {ATTEMPTS} times");
    }
}
