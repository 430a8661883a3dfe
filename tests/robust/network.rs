//! A network that loses three packets of ten: slow, and not wrong.

use crate::support::{Daemon, tskv};
use crate::{flags, is_root, my_turn, skipped};
use std::fs;
use std::process::{Command, Output};

/// A network namespace with a lossy loopback; removed when dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Option<Self> {
        let name = format!("tskv-robust-{}", std::process::id());
        let made =
            is_root() && has("ip") && has("nft") && ran(Command::new("ip").args(["netns", "add", &name]));
        made.then_some(Self(name))
    }
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }
    /// Drops packets to and from the port, both ways, by chance.
    fn lose(&self, port: &str, percent: u32) -> bool {
        let rules = format!(
            "table inet lossy {{\n chain in {{\n type filter hook input priority 0\n \
             tcp dport {port} numgen random mod 100 < {percent} drop\n \
             tcp sport {port} numgen random mod 100 < {percent} drop\n }}\n}}\n"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), rules).unwrap();
        ran(self.command("nft").arg("-f").arg(file.path()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ran(Command::new("ip").args(["netns", "del", &self.0]));
    }
}

fn has(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    std::env::split_paths(&path).any(|directory| directory.join(program).exists())
}

fn ran(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_lossy_network_costs_time_and_nothing_else() {
    // What TCP repeats must arrive once, in order and whole, and no deadline may take a slow client for a bad one.
    let _turn = my_turn();
    let Some(namespace) = Namespace::new() else {
        return skipped("netns", "no network namespaces, or no nft");
    };
    if !ran(namespace.command("ip").args(["link", "set", "lo", "up"])) {
        return skipped("netns", "no loopback in a network namespace");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut serve = namespace.command("env");
    serve.arg("-i").arg(tskv().get_program()).arg("serve");
    let daemon =
        Daemon::launch_as(serve, &dir.path().join("store"), &flags("--cores 2 --split-at k")).serving();
    let address = daemon.address();
    let port = address.rsplit(':').next().unwrap();
    if !namespace.lose(port, 30) {
        return skipped("netns", "nft cannot drop by chance here");
    }
    let lines: Vec<_> = (0..2000)
        .map(|number| format!("{}{},{number},{number}.5", ['a', 'z'][number % 2], number % 7))
        .collect();
    let csv = dir.path().join("in.csv");
    fs::write(&csv, format!("series,timestamp_ms,value\n{}\n", lines.join("\n"))).unwrap();
    let run = |words: &[&str]| -> Output {
        let mut command = namespace.command("env");
        command.arg("-i").arg(tskv().get_program()).args(words).args(["--addr", &address]).output().unwrap()
    };
    let imported = run(&["import", csv.to_str().unwrap()]);
    assert!(imported.status.success(), "{}\n{}", String::from_utf8_lossy(&imported.stderr), daemon.log());
    let exported = run(&["export"]);
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let mut found: Vec<_> =
        String::from_utf8(exported.stdout).unwrap().lines().skip(1).map(str::to_owned).collect();
    let mut expected = lines;
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    daemon.terminate();
}
