//! What an operator sees of the clients that are connected, whichever core serves them.

use crate::support::{Daemon, Reply, Resp};
use std::collections::BTreeSet;

/// The lines of CLIENT LIST.
fn listed(client: &mut Resp) -> Vec<String> {
    match client.ask("CLIENT LIST") {
        Reply::Bulk(Some(text)) => String::from_utf8(text).unwrap().lines().map(str::to_owned).collect(),
        other => panic!("CLIENT LIST: {other:?}"),
    }
}

/// A field of a line.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    line.split(' ').filter_map(|field| field.split_once('=')).find(|(found, _)| *found == name).unwrap().1
}

#[test]
fn every_core_tells_of_its_connections() {
    // An operator who looks for a client must find it, whichever core accepted it.
    let directory = tempfile::tempdir().unwrap();
    for backend in ["auto", "epoll"] {
        let data = directory.path().join(backend);
        let daemon = Daemon::start(&data, &["--backend", backend, "--cores", "2", "--split-at", "k"]);
        let mut clients: Vec<_> = (0..300).map(|_| Resp::connect(&daemon.address()).unwrap()).collect();
        let mut ids = BTreeSet::new();
        for (number, client) in clients.iter_mut().enumerate() {
            let Reply::Integer(id) = client.ask("CLIENT ID") else { panic!("CLIENT ID is a number") };
            assert!(id > 0 && ids.insert(id), "{id} is given twice");
            assert_eq!(client.ask(&format!("CLIENT SETNAME number-{number}")), Reply::ok());
            let Reply::Bulk(Some(line)) = client.ask("CLIENT INFO") else { panic!("CLIENT INFO is text") };
            assert_eq!(field(&String::from_utf8(line).unwrap(), "id"), id.to_string());
        }
        let lines = listed(&mut clients[7]);
        let found: BTreeSet<i64> = lines.iter().map(|line| field(line, "id").parse().unwrap()).collect();
        assert!(ids.is_subset(&found), "{} of {} are listed", found.len(), ids.len());
        assert_eq!(found.len(), lines.len(), "a connection is listed twice");
        let names: BTreeSet<_> = lines.iter().map(|line| field(line, "name")).collect();
        assert!((0..300).all(|number| names.contains(format!("number-{number}").as_str())));
        let on = |core: &str| lines.iter().filter(|line| field(line, "core") == core).count();
        assert!(on("0") >= 30 && on("1") >= 30, "{} and {} by core", on("0"), on("1"));
        // It waits for the other core; the reply keeps its place all the same, in a transaction too.
        let client = &mut clients[0];
        client.send(b"ECHO a\r\nCLIENT LIST\r\nGET z\r\nMULTI\r\nCLIENT LIST\r\nECHO b\r\nEXEC\r\n").unwrap();
        assert_eq!(client.reply().unwrap(), Reply::Bulk(Some(b"a".to_vec())));
        assert!(matches!(client.reply().unwrap(), Reply::Bulk(Some(text)) if text.len() > 300 * 50));
        assert_eq!(client.reply().unwrap(), Reply::Bulk(None));
        assert_eq!(client.reply().unwrap(), Reply::ok());
        (0..2).for_each(|_| assert_eq!(client.reply().unwrap(), Reply::Simple("QUEUED".to_owned())));
        let Reply::Array(replies) = client.reply().unwrap() else { panic!("EXEC gives an array") };
        assert!(
            matches!(&replies[..], [Reply::Bulk(Some(list)), Reply::Bulk(Some(b))] if list.len() > 300 * 50 && b == b"b")
        );
        clients.truncate(1);
        // The others have gone, and their numbers with them.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while listed(&mut clients[0]).len() > 1 {
            assert!(std::time::Instant::now() < until, "closed connections are still listed");
        }
        let mut late = Resp::connect(&daemon.address()).unwrap();
        assert!(matches!(late.ask("CLIENT ID"), Reply::Integer(id) if id > *ids.last().unwrap()));
    }
}

#[test]
fn the_chunks_of_a_series_are_told() {
    // TS.INFO … DEBUG: tools draw a series' layout from it, over either core.
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&directory.path().join("store"), &["--cores", "2", "--split-at", "k"]);
    let mut client = Resp::connect(&daemon.address()).unwrap();
    let text = |text: &str| Reply::Simple(text.to_owned());
    for key in ["a", "z"] {
        assert_eq!(client.ask(&format!("TS.CREATE {key}")), Reply::ok());
        for time in [5, 9] {
            assert_eq!(client.ask(&format!("TS.ADD {key} {time} 1")), Reply::Integer(time));
        }
        let Reply::Array(items) = client.ask(&format!("TS.INFO {key} DEBUG")) else { panic!("an array") };
        assert_eq!(items.len(), 32);
        assert_eq!(items[28..30], [text("keySelfName"), Reply::Bulk(Some(key.as_bytes().to_vec()))]);
        let Reply::Array(chunks) = &items[31] else { panic!("chunks are an array") };
        let Reply::Array(chunk) = &chunks[0] else { panic!("a chunk is names and values") };
        let shape = [("startTimestamp", 5), ("endTimestamp", 9), ("samples", 2)];
        for ((name, value), pair) in shape.into_iter().zip(chunk.chunks(2)) {
            assert_eq!(pair, [text(name), Reply::Integer(value)]);
        }
        assert_eq!(chunks.len(), 1);
    }
    assert_eq!(client.ask("TS.INFO a DEBUGGER").error(), "ERR TSDB: unexpected argument");
}
