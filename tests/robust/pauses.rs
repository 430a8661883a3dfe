//! Processes that stop, clocks that jump, and a second daemon on the same data.

use crate::support::{Daemon, Reply, Resp, tskv};
use crate::{ControlGroup, Writer, flags, load_time, my_turn, skipped};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Loads the daemon, pauses it in the middle with `pause`, lets it run on, then kills it.
fn paused(daemon: Daemon, data: &Path, pause: &dyn Fn(&Daemon)) {
    let address = daemon.address();
    let stop = AtomicBool::new(false);
    let mut writers: Vec<_> = (0..6).map(Writer::new).collect();
    thread::scope(|scope| {
        for writer in &mut writers {
            scope.spawn(|| writer.run(&address, &stop));
        }
        thread::sleep(Duration::from_millis(300));
        pause(&daemon);
        thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
    });
    let mut client = Resp::connect(&address).unwrap();
    for writer in &writers {
        assert_eq!(writer.acknowledged, writer.sent, "{} was refused something by a pause", writer.series);
        writer.verify(&mut client);
    }
    daemon.kill();
    let daemon = Daemon::start(data, &flags("--cores 2"));
    let mut client = Resp::connect(&daemon.address()).unwrap();
    writers.iter().for_each(|writer| writer.verify(&mut client));
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    daemon.terminate();
}

#[test]
fn a_stopped_process_goes_on_where_it_was() {
    // A debugger, a swapped-out virtual machine, a laptop's lid: no deadline that passed meanwhile may cost an ack.
    let _turn = my_turn();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("store");
    paused(Daemon::start(&data, &flags("--cores 2 --split-at writer:3")), &data, &|daemon| {
        let signal = |name: &str| {
            assert!(
                Command::new("kill")
                    .args(["-s", name, &daemon.pid().to_string()])
                    .status()
                    .unwrap()
                    .success()
            );
        };
        signal("STOP");
        thread::sleep(load_time(5));
        signal("CONT");
    });
}

#[test]
fn a_frozen_group_goes_on_where_it_was() {
    // Containers are paused by the freezer, which stops threads wherever they are in the kernel.
    let _turn = my_turn();
    let Some(group) = ControlGroup::new("freezer", "pause") else {
        return skipped("cgroup_freezer", "no version 1 freezer that we may use");
    };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("store");
    let daemon = Daemon::launch_as(group.serve(), &data, &flags("--cores 2 --split-at writer:3")).serving();
    paused(daemon, &data, &|_| {
        for _ in 0..4 {
            group.write("freezer.state", "FROZEN").unwrap();
            thread::sleep(Duration::from_millis(400));
            group.write("freezer.state", "THAWED").unwrap();
            thread::sleep(Duration::from_millis(50));
        }
    });
}

/// A library that shifts the wall clock of a process, built from source.
fn clock_library(directory: &Path) -> Option<PathBuf> {
    let library = directory.join("wall_clock.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/robust/wall_clock.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    built.is_ok_and(|status| status.success()).then_some(library)
}

#[test]
fn a_wall_clock_that_jumps_neither_deletes_nor_disconnects() {
    // A machine that boots with a wrong clock and is then corrected must not lose samples, nor time out its clients.
    let _turn = my_turn();
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = clock_library(dir.path()) else {
        return skipped("cc", "no C compiler to build the clock that jumps");
    };
    let (data, clock) = (dir.path().join("store"), dir.path().join("offset"));
    let start = || {
        let mut command = tskv();
        command.env("LD_PRELOAD", &library).env("TSKV_CLOCK_FILE", &clock).arg("serve");
        Daemon::launch_as(command, &data, &flags("--cores 2")).serving()
    };
    let jump = |seconds: i64| fs::write(&clock, seconds.to_string()).unwrap();
    let add = |client: &mut Resp, series: &str| match client.ask(&format!("TS.ADD {series} * 1")) {
        Reply::Integer(time) => time / 1000,
        other => panic!("{other:?}"),
    };
    const HOUR: i64 = 3600;
    jump(0);
    let daemon = start();
    let mut client = Resp::connect(&daemon.address()).unwrap();
    let now = add(&mut client, "long");
    let mut expected = 1;
    for offset in [-HOUR, 24 * HOUR, -10 * HOUR, 20 * 365 * 24 * HOUR, 0] {
        jump(offset);
        // A sample at * is at the wall clock's time, wherever that is.
        let told = add(&mut client, "long");
        assert!((told - now - offset).abs() < 60, "{offset}: {told}, and it was {now}");
        expected += 1;
        let Reply::Array(samples) = client.ask("TS.RANGE long - +") else { panic!("the series is gone") };
        assert_eq!(samples.len(), expected, "after a jump by {offset} s");
    }
    daemon.kill();
    for offset in [-100 * HOUR, 100 * HOUR] {
        jump(offset);
        let daemon = start();
        let mut client = Resp::connect(&daemon.address()).unwrap();
        let Reply::Array(samples) = client.ask("TS.RANGE long - +") else { panic!("the series is gone") };
        assert_eq!(samples.len(), expected, "after a start {offset} s away");
        assert_eq!(client.ask("SET still writable"), Reply::ok());
        daemon.kill();
    }
}

#[test]
fn a_second_daemon_says_so_and_harms_nothing() {
    // Two daemons on one directory would write one log; systemd restarts and careless hands start second ones.
    let _turn = my_turn();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("store");
    let daemon = Daemon::start(&data, &flags("--cores 2 --split-at writer:3"));
    let address = daemon.address();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&data, &link).unwrap();
    let stop = AtomicBool::new(false);
    let mut writers: Vec<_> = (0..4).map(Writer::new).collect();
    thread::scope(|scope| {
        for writer in &mut writers {
            scope.spawn(|| writer.run(&address, &stop));
        }
        // On the same data, also by another name, and on the same port with data of its own.
        let other = dir.path().join("other");
        let tries = [
            (&data, "127.0.0.1:0"),
            (&link, "127.0.0.1:0"),
            (&other, address.as_str()),
            (&data, "127.0.0.1:0"),
        ];
        let ended = tries.map(|(path, listen)| {
            let begun = Instant::now();
            let mut second = tskv();
            second.args(["serve", "--admin", "off", "--listen", listen, "--data"]).arg(path);
            (second.output(), begun.elapsed())
        });
        stop.store(true, Ordering::Relaxed);
        for (number, (second, took)) in ended.into_iter().enumerate() {
            let second = second.unwrap();
            let said = String::from_utf8_lossy(&second.stderr).into_owned();
            assert!(!second.status.success() && second.stdout.is_empty(), "{said}");
            assert!(took < Duration::from_secs(10), "after {took:?}: {said}");
            let expected = match number {
                2 => "is taken".to_owned(),
                _ => format!("process {}); stop it first", daemon.pid()),
            };
            assert!(said.contains(&expected), "{expected} is missing in: {said}");
        }
    });
    let mut client = Resp::connect(&address).unwrap();
    for writer in &writers {
        assert!(writer.acknowledged > 0 && writer.acknowledged == writer.sent, "{}", writer.series);
        writer.verify(&mut client);
    }
    daemon.terminate();
}
