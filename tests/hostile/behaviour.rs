//! Clients whose bytes are fine and whose manners are not.

use crate::support::{Reply, Resp, put_command};
use crate::{BACKENDS, Daemon, MIB, TWO_CORES, Target};
use std::io::Read;
use std::net::Shutdown;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

#[test]
fn clients_that_do_not_read_are_paused_then_dropped() {
    // Replies that nobody reads must not fill the memory of everybody (CVE-2025-21605).
    for backend in BACKENDS {
        let target = Target::start(backend, &TWO_CORES);
        let value = vec![b'v'; 1 << 20];
        let mut client = target.connect();
        for key in [&b"big-a"[..], b"z-big"] {
            assert_eq!(client.call(&[b"SET", key, &value]).unwrap(), Reply::ok());
        }
        let idle = target.daemon.resident_bytes();
        let mut silent: Vec<_> = (0..20).map(|_| target.connect()).collect();
        for (number, client) in silent.iter_mut().enumerate() {
            let mut bytes = Vec::new();
            let key: &[u8] = if number % 2 == 0 { b"big-a" } else { b"z-big" };
            // Fifty mebibytes of replies each, were they not paused.
            (0..50).for_each(|_| put_command(&mut bytes, &[b"GET", key]));
            client.send(&bytes).unwrap();
        }
        thread::sleep(Duration::from_millis(500));
        target.assert_serves("while others do not read");
        let grown = target.daemon.resident_bytes().saturating_sub(idle);
        assert!(grown < 192 * MIB, "{backend}: {grown} bytes for clients that do not read");
        // Ten seconds later they are gone; whoever reads then finds the end.
        thread::sleep(Duration::from_secs(13));
        for (number, client) in silent.iter_mut().enumerate() {
            client.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut bytes = 0;
            let mut buf = vec![0; 1 << 20];
            let ended = loop {
                match client.stream.read(&mut buf) {
                    Ok(0) => break true,
                    Ok(count) => bytes += count,
                    Err(error) => break error.kind() == std::io::ErrorKind::ConnectionReset,
                }
            };
            assert!(
                ended && bytes < 50 << 20,
                "{backend}: client {number} got {bytes} bytes and is still connected"
            );
        }
        target.finish(192 * MIB);
    }
}

#[test]
fn a_hundred_thousand_pipelined_requests_are_answered_in_order() {
    // A deep pipeline is legal: it is slowed down, not cut.
    for backend in BACKENDS {
        let target = Target::start(backend, &TWO_CORES);
        let client = target.connect();
        let mut sender = client.stream.try_clone().unwrap();
        let writer = thread::spawn(move || {
            let mut bytes = Vec::new();
            for number in 0..100_000 {
                // Own and other core's keys, so that replies come back out of order.
                let key = if number % 3 == 0 { "a" } else { "z" };
                put_command(&mut bytes, &[b"ECHO", number.to_string().as_bytes()]);
                put_command(&mut bytes, &[b"EXISTS", key.as_bytes()]);
            }
            std::io::Write::write_all(&mut sender, &bytes).unwrap();
            sender.shutdown(Shutdown::Write).unwrap();
        });
        // Nothing is read for a while.
        thread::sleep(Duration::from_millis(300));
        target.assert_serves("while a pipeline waits");
        let mut client = client;
        for number in 0..100_000 {
            assert_eq!(
                client.reply().unwrap(),
                Reply::Bulk(Some(number.to_string().into_bytes())),
                "{backend}"
            );
            assert_eq!(client.reply().unwrap(), Reply::Integer(1), "{backend}");
        }
        writer.join().unwrap();
        assert_eq!(client.rest(), b"", "{backend}");
        target.finish(96 * MIB);
    }
}

#[test]
fn a_half_closed_connection_still_gets_its_replies() {
    // `printf … | nc` closes its side first.
    for backend in BACKENDS {
        let target = Target::start(backend, &TWO_CORES);
        let mut client = target.connect();
        let mut bytes = Vec::new();
        for number in 0..3000 {
            let key = format!("{}{number}", if number % 2 == 0 { 'a' } else { 'z' });
            put_command(&mut bytes, &[b"SET", key.as_bytes(), b"v"]);
        }
        client.send(&bytes).unwrap();
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.rest(), b"+OK\r\n".repeat(3000), "{backend}");
        assert_eq!(target.connect().ask("DBSIZE"), Reply::Integer(3003), "{backend}");
        target.finish(64 * MIB);
    }
}

#[test]
fn resets_in_the_middle_of_a_reply_hurt_nobody() {
    // A reset arrives while a send is in flight and replies wait for the log.
    for backend in BACKENDS {
        let target = Target::start(backend, &TWO_CORES);
        let value = vec![b'v'; 200 << 10];
        assert_eq!(target.connect().call(&[b"SET", b"big", &value]).unwrap(), Reply::ok());
        for round in 0..200_u64 {
            let mut client = target.connect();
            let mut bytes = Vec::new();
            for key in [&b"reset"[..], b"z-reset", b"big"] {
                put_command(&mut bytes, &[b"SET", key, &value[..1000]]);
                put_command(&mut bytes, &[b"GET", b"big"]);
                put_command(&mut bytes, &[b"DBSIZE"]);
                put_command(&mut bytes, &[b"SCAN", b"0"]);
            }
            client.send(&bytes).unwrap();
            let mut some = [0; 100];
            if round % 2 == 0 {
                client.stream.read_exact(&mut some).unwrap();
            }
            // Linger 0: closing sends a reset.
            socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        target.finish(96 * MIB);
    }
}

#[test]
fn a_request_that_never_ends_is_cut_off_after_ten_seconds() {
    // Slow loris: a byte now and then keeps a connection, and with enough of them all.
    let targets = BACKENDS.map(|backend| Target::start(backend, &TWO_CORES));
    thread::scope(|scope| {
        for target in &targets {
            let slow: [&[u8]; 3] =
                [b"*2\r\n$4\r\nECHO\r\n$100\r\n", b"SET key ", b"\xf7\x01\x01\x00\x40\0\0\0"];
            for start in slow {
                scope.spawn(move || {
                    let mut client = target.connect();
                    let begun = Instant::now();
                    client.send(start).unwrap();
                    while client.send(b"x").is_ok() && begun.elapsed() < Duration::from_secs(30) {
                        thread::sleep(Duration::from_secs(1));
                    }
                    let seconds = begun.elapsed().as_secs();
                    let kind = start.escape_ascii();
                    assert!((9..20).contains(&seconds), "{}: {kind} lived for {seconds} s", target.backend);
                });
            }
            scope.spawn(move || {
                // Idle between requests is no offence.
                let mut client = target.connect();
                thread::sleep(Duration::from_secs(15));
                assert_eq!(client.ask("PING"), Reply::Simple("PONG".to_owned()), "{}", target.backend);
            });
        }
    });
    targets.into_iter().for_each(|target| target.finish(64 * MIB));
}

#[test]
fn one_client_too_many_is_told_so() {
    // A refused client that is not told why looks like a broken network.
    for backend in BACKENDS {
        let target = Target::start(backend, &["--cores", "2", "--max-clients", "8"]);
        let pong = Reply::Simple("PONG".to_owned());
        let mut clients = Vec::new();
        let until = Instant::now() + Duration::from_secs(5);
        while clients.len() < 8 && Instant::now() < until {
            // The connection that looked whether the daemon serves may still be closing.
            let mut client = target.connect();
            if client.call(&[b"PING"]).is_ok_and(|reply| reply == pong) {
                clients.push(client);
            }
        }
        assert_eq!(clients.len(), 8, "{backend}");
        for _ in 0..50 {
            let mut refused = target.connect();
            assert_eq!(refused.rest(), b"-ERR max number of clients reached\r\n", "{backend}");
        }
        clients.iter_mut().for_each(|client| assert_eq!(client.ask("PING"), pong, "{backend}"));
        clients.truncate(4);
        thread::sleep(Duration::from_millis(200));
        target.finish(64 * MIB);
    }
}

#[test]
fn running_out_of_descriptors_is_survived() {
    // Accept fails with EMFILE; those who are connected must not notice, and later ones must get in again.
    for backend in BACKENDS {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("prlimit");
        command.args(["--nofile=64:64", env!("CARGO_BIN_EXE_tskv"), "serve"]);
        let flags: Vec<_> = ["--backend", backend, "--cores", "1"].map(str::to_owned).into();
        let daemon = Daemon::launch_as(command, &dir.path().join("store"), &flags).serving();
        let target = Target::of(daemon, backend, dir);
        let mut first = target.connect();
        assert_eq!(first.ask("SET k v"), Reply::ok());
        let crowd: Vec<_> = (0..200).filter_map(|_| Resp::connect(&target.address).ok()).collect();
        for _ in 0..20 {
            assert_eq!(first.ask("SET k v"), Reply::ok(), "{backend}");
            thread::sleep(Duration::from_millis(20));
        }
        drop(crowd);
        thread::sleep(Duration::from_millis(500));
        target.finish(64 * MIB);
    }
}

#[test]
fn connection_storms_leave_nothing_behind() {
    // Descriptors, slots and memory of closed connections come back.
    for backend in BACKENDS {
        let target = Target::start(backend, &TWO_CORES);
        let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", target.daemon.pid())).unwrap().count();
        let before = descriptors();
        for round in 0..1500 {
            let mut client = target.connect();
            match round % 3 {
                0 => drop(client),
                1 => client.send(&PING[..7]).unwrap(),
                _ => {
                    client.send(PING).unwrap();
                    socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
            }
        }
        let until = Instant::now() + Duration::from_secs(5);
        while descriptors() > before + 2 && Instant::now() < until {
            thread::sleep(Duration::from_millis(50));
        }
        assert!(descriptors() <= before + 2, "{backend}: {} descriptors, {before} before", descriptors());
        target.finish(64 * MIB);
    }
}

#[test]
fn a_reply_behind_the_last_request_does_not_stay_unread_for_ever() {
    // It comes from another core when nothing more is asked: no further request notices that nobody reads.
    for backend in BACKENDS {
        let target = Target::start(backend, &TWO_CORES);
        let mut client = target.connect();
        let value = vec![b'v'; 1 << 20];
        let mut words: Vec<&[u8]> = vec![b"MGET"];
        for key in [&b"big-a"[..], b"z-big"] {
            assert_eq!(client.call(&[b"SET", key, &value]).unwrap(), Reply::ok());
            words.extend([key; 16]);
        }
        let mut bytes = Vec::new();
        put_command(&mut bytes, &words);
        let mut silent: Vec<_> = (0..4).map(|_| target.connect()).collect();
        silent.iter_mut().for_each(|client| client.send(&bytes).unwrap());
        thread::sleep(Duration::from_secs(14));
        for client in &mut silent {
            client.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            assert!(client.rest().len() < 32 << 20, "{backend}: a client that did not read got everything");
        }
        target.finish(192 * MIB);
    }
}

#[test]
fn a_pipeline_of_large_replies_is_slowed_down_not_cut() {
    // Replies that other cores are still working on count too: else a client that reads all it gets is dropped.
    for backend in BACKENDS {
        let target = Target::start(backend, &TWO_CORES);
        let value = vec![b'v'; 1 << 20];
        let mut client = target.connect();
        for key in [&b"big-a"[..], b"z-big"] {
            assert_eq!(client.call(&[b"SET", key, &value]).unwrap(), Reply::ok());
        }
        let mut bytes = Vec::new();
        for _ in 0..100 {
            put_command(&mut bytes, &[b"GET", b"big-a"]);
            put_command(&mut bytes, &[b"GET", b"z-big"]);
        }
        client.send(&bytes).unwrap();
        thread::sleep(Duration::from_secs(1));
        for number in 0..200 {
            let reply = client.reply().unwrap_or_else(|error| panic!("{backend}: reply {number}: {error}"));
            assert!(reply == Reply::Bulk(Some(value.clone())), "{backend}: reply {number}");
        }
        target.finish(192 * MIB);
    }
}

#[test]
fn after_a_failed_log_write_everyone_gets_an_answer() {
    // With --on-io-error readonly a reply that waits for a write which never becomes durable would wait for ever.
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("store");
    let mut command = Command::new("strace");
    // -D: the daemon is the child, its tracer is not; killing it ends both.
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwritev2"]);
    command.args(["-e", "inject=pwritev2:error=EIO:when=20+", env!("CARGO_BIN_EXE_tskv"), "serve"]);
    let flags = ["--backend", "epoll", "--cores", "2", "--split-at", "k", "--on-io-error", "readonly"];
    let flags: Vec<_> = flags.map(str::to_owned).into();
    let daemon = Daemon::launch_as(command, &data, &flags).serving();
    let mut failed = false;
    for number in 0..100 {
        let Ok(mut client) = Resp::connect(&daemon.address()) else { break };
        client.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let key = if number % 2 == 0 { "a" } else { "z" };
        for command in
            [format!("SET {key} {number}"), format!("GET {key}"), "DBSIZE".to_owned(), "SCAN 0".to_owned()]
        {
            let words: Vec<_> = command.split(' ').map(str::as_bytes).collect();
            match client.call(&words) {
                Ok(reply) => failed |= reply.error().starts_with("IOERR "),
                Err(error) => {
                    let timed_out = error.kind() == std::io::ErrorKind::WouldBlock;
                    assert!(!timed_out, "{command}: no answer; the log:\n{}", daemon.log());
                    break;
                }
            }
        }
    }
    assert!(failed, "no write failed; the log:\n{}", daemon.log());
    for command in ["flush", "compact", "flush"] {
        let begun = Instant::now();
        let output = daemon.run(&[command]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("the log of core"), "{command}: {said}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{command} took {:?}", begun.elapsed());
    }
    let mut client = Resp::connect(&daemon.address()).unwrap();
    assert!(client.ask("SET a 1").error().starts_with("IOERR "), "writes are refused");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}
