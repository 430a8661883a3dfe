//! Clients that send what no client should, or behave as none should, against the real daemon on both backends.
//!
//! Every test ends the same way: the daemon lives, has not panicked, holds no more memory than it may, and a good client
//! on another connection is served.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic like the test itself")]
#![expect(clippy::disallowed_methods, reason = "real threads and real time: the daemon is a real process")]

mod behaviour;
mod fairness;
mod http;
mod native;
mod resp;
mod scans;
#[path = "../support/mod.rs"]
mod support;

use support::{Daemon, Reply, Resp};
use tempfile::TempDir;

const BACKENDS: [&str; 2] = ["io_uring", "epoll"];

/// A daemon under attack.
struct Target {
    daemon: Daemon,
    address: String,
    backend: &'static str,
    resident_bytes: u64,
    _dir: TempDir,
}

impl Target {
    fn start(backend: &'static str, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<_> = ["--backend", backend].iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
        let daemon = Daemon::start(&dir.path().join("store"), &all);
        Self::of(daemon, backend, dir)
    }
    fn of(daemon: Daemon, backend: &'static str, dir: TempDir) -> Self {
        let target = Self {
            address: daemon.address(),
            resident_bytes: daemon.resident_bytes(),
            backend,
            daemon,
            _dir: dir,
        };
        target.assert_serves("at the start");
        target
    }
    fn connect(&self) -> Resp {
        Resp::connect(&self.address).unwrap()
    }
    /// A good client is served.
    fn assert_serves(&self, after: &str) {
        let mut client = self.connect();
        let context = format!("{} {after}:\n{}", self.backend, self.daemon.log());
        for key in ["a", "m", "z"] {
            let set = client.call(&[b"SET", key.as_bytes(), after.as_bytes()]);
            assert_eq!(set.ok(), Some(Reply::ok()), "SET, {context}");
            let get = client.call(&[b"GET", key.as_bytes()]);
            assert_eq!(get.ok(), Some(Reply::Bulk(Some(after.as_bytes().to_vec()))), "GET, {context}");
        }
    }
    /// What must hold at the end of every attack. Memory may have grown by `growth_max` bytes.
    fn finish(mut self, growth_max: u64) {
        self.assert_serves("at the end");
        assert!(self.daemon.is_alive());
        let grown = self.daemon.resident_bytes().saturating_sub(self.resident_bytes);
        assert!(
            grown <= growth_max,
            "{}: {grown} bytes more are resident, {growth_max} allowed",
            self.backend
        );
        let log = self.daemon.log();
        assert!(!log.contains("panicked"), "{}: {log}", self.backend);
        self.daemon.terminate();
    }
}

/// The shards' split points put the keys a, m and z on different shards.
const TWO_CORES: [&str; 4] = ["--cores", "2", "--split-at", "k"];
const MIB: u64 = 1 << 20;
