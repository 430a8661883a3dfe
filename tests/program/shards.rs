//! Moving the boundaries between shards of a running daemon.

use crate::support::{Daemon, Reply, Resp};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tskv::client::{Client, ClientOptions};

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn start(directory: &tempfile::TempDir, cores: &str) -> Daemon {
    let flags = ["--cores", cores, "--split-at", "h,p", "--rebalance", "off"];
    let flags = if cores == "3" { &flags[..] } else { &["--cores", cores, "--rebalance", "off"] };
    Daemon::start(&directory.path().join("store"), flags)
}

#[test]
fn boundaries_move_by_hand_and_every_key_stays() {
    // The documented commands, what they refuse, and that no number of shards afterwards loses anything.
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(&directory, "3");
    for letter in 'a'..='z' {
        daemon.ok(&["put", &letter.to_string(), "1", "2"]);
    }
    daemon.ok(&["flush"]);
    for letter in 'a'..='z' {
        daemon.ok(&["put", &letter.to_string(), "2", "3"]);
    }
    let all = daemon.ok(&["scan", "--prefix", ""]);
    assert_eq!(text(all.clone()).lines().count(), 52);
    daemon.ok(&["shards", "move", "0", "c"]);
    assert_eq!(daemon.ok(&["scan", "--prefix", ""]), all);
    daemon.ok(&["delete", "--prefix", "d"]);
    daemon.ok(&["put", "d", "9", "9"]);
    daemon.ok(&["shards", "split-at", "s,x"]);
    assert_eq!(text(daemon.ok(&["get", "d", "--with-time"])), "9,9\n");
    daemon.ok(&["shards", "split-at", "b,y"]);
    let shown = text(daemon.ok(&["shards"]));
    assert!(shown.contains("'b'") && shown.contains("'y'") && shown.contains("5 moves done"), "{shown}");
    assert!(shown.contains("an operator asked for it"), "{shown}");
    for wrong in [&["move", "2", "z"][..], &["move", "0", "z"], &["move", "0", "b"], &["split-at", "c"]] {
        let output = daemon.run(&[&["shards"], wrong].concat());
        assert!(!output.status.success() && !output.stderr.is_empty(), "{wrong:?}");
    }
    let all = daemon.ok(&["scan", "--prefix", ""]);
    daemon.kill();
    for cores in ["1", "8", "3", "2"] {
        let daemon = start(&directory, cores);
        assert_eq!(daemon.ok(&["scan", "--prefix", ""]), all, "{cores} cores");
        daemon.kill();
    }
}

#[test]
fn pipelines_keep_their_order_over_moving_boundaries() {
    // A SET by the old route and a GET by the new one must not overtake each other, and nobody sees an error.
    const ROUNDS: usize = 400;
    const KEYS: usize = 16;
    const PIPELINES: usize = 4;
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(&directory, "3");
    let over = AtomicBool::new(false);
    let address = daemon.address();
    let keep_moving = || {
        let mut client = Client::connect(&address, &ClientOptions::default()).unwrap();
        let mut moved = 0;
        while !over.load(Ordering::SeqCst) {
            for key in [b"c", b"n", b"e", b"k"] {
                moved += u32::from(client.move_boundary(0, key).is_ok());
            }
        }
        moved
    };
    let pipeline = &|number: usize| {
        let mut client = Resp::connect(&address).unwrap();
        for round in 0..ROUNDS {
            let key = format!("{}{number}", char::from(b"abcdefghijklmnop"[round % KEYS]));
            let request = format!("SET {key} {round}\r\nGET {key}\r\nDBSIZE\r\nGET {key}\r\n");
            client.send(request.as_bytes()).unwrap();
            let replies: Vec<_> = (0..4).map(|_| client.reply().unwrap()).collect();
            let value = Reply::Bulk(Some(round.to_string().into_bytes()));
            assert_eq!(replies[0], Reply::ok(), "{key}, {round}");
            assert_eq!((&replies[1], &replies[3]), (&value, &value), "{key}, {round}");
            let Reply::Integer(count) = replies[2] else { panic!("{replies:?}") };
            let least = (round + 1).min(KEYS);
            assert!((least..=KEYS * PIPELINES).contains(&usize::try_from(count).unwrap()), "{count} keys");
        }
    };
    let moved = thread::scope(|scope| {
        let mover = scope.spawn(keep_moving);
        let pipelines: Vec<_> = (0..PIPELINES).map(|number| scope.spawn(move || pipeline(number))).collect();
        let outcomes: Vec<_> = pipelines.into_iter().map(thread::ScopedJoinHandle::join).collect();
        // First this: a test that fails must not wait for its mover.
        over.store(true, Ordering::SeqCst);
        outcomes.into_iter().for_each(|outcome| outcome.unwrap());
        mover.join().unwrap()
    });
    println!("{moved} boundaries moved under {} requests", 4 * PIPELINES * ROUNDS);
    assert!(moved > 10, "only {moved} boundaries moved");
    let count = Resp::connect(&address).unwrap().ask("DBSIZE");
    assert_eq!(count, Reply::Integer(64));
}
