//! RESP that is none, or asks for what cannot be given.

use crate::support::{Reply, put_command};
use crate::{BACKENDS, MIB, TWO_CORES, Target};
use std::net::Shutdown;

/// What comes back.
enum Answer {
    /// An error that starts so; then the connection ends.
    Ends(&'static str),
    /// Nothing; then the connection ends.
    Silence,
    /// A reply that starts so; the connection goes on.
    GoesOn(&'static str),
    /// Nothing; the connection goes on.
    Nothing,
}
use Answer::{Ends, GoesOn, Nothing, Silence};

const MULTIBULK: Answer = Ends("-ERR Protocol error: invalid multibulk length\r\n");
const BULK: Answer = Ends("-ERR Protocol error: invalid bulk length\r\n");
const NO_PASSWORD: &str = "-ERR AUTH <password> called without any password configured for the default user. \
Are you sure your configuration is correct?\r\n";

/// Name, bytes, answer. The texts are those of Redis 7 where it has one.
fn inputs() -> Vec<(&'static str, Vec<u8>, Answer)> {
    let command = |words: &[&[u8]]| {
        let mut bytes = Vec::new();
        put_command(&mut bytes, words);
        bytes
    };
    let mut many_auths = Vec::new();
    (0..10_000).for_each(|_| put_command(&mut many_auths, &[b"AUTH", b"x"]));
    let evil_name = [b"bad\r\n+OK\r\n".to_vec(), vec![b'x'; 1 << 20]].concat();
    vec![
        ("count -1", b"*-1\r\n".to_vec(), Nothing),
        ("count 0", b"*0\r\n".to_vec(), Nothing),
        ("count -2", b"*-2\r\n".to_vec(), Nothing),
        ("count 1e9", b"*1000000000\r\n".to_vec(), MULTIBULK),
        ("count 2^63", b"*9223372036854775808\r\n".to_vec(), MULTIBULK),
        ("count +3", b"*+3\r\n".to_vec(), MULTIBULK),
        ("count 03", b"*03\r\n".to_vec(), MULTIBULK),
        ("count with blank", b"* 3\r\n".to_vec(), MULTIBULK),
        ("count of letters", b"*abc\r\n".to_vec(), MULTIBULK),
        ("bytes -1", b"*1\r\n$-1\r\n".to_vec(), BULK),
        ("bytes -2", b"*1\r\n$-2\r\n".to_vec(), BULK),
        ("bytes 512 MiB + 1", b"*1\r\n$536870913\r\n".to_vec(), BULK),
        ("bytes beyond 64 bits", b"*1\r\n$99999999999999999999\r\n".to_vec(), BULK),
        ("bytes too few", b"*2\r\n$3\r\nGET\r\n$3\r\nabcd\r\n".to_vec(), Ends("-ERR Protocol error: ")),
        (
            "integer for bulk",
            b"*1\r\n:4\r\n".to_vec(),
            Ends("-ERR Protocol error: expected '$', got ':'\r\n"),
        ),
        (
            "simple for bulk",
            b"*1\r\n+PING\r\n".to_vec(),
            Ends("-ERR Protocol error: expected '$', got '+'\r\n"),
        ),
        ("nul for bulk", b"*1\r\n\0\r\n".to_vec(), Ends("-ERR Protocol error: expected '$', got ' '\r\n")),
        ("inline without end", vec![b'a'; 65 << 10], Ends("-ERR Protocol error: too big inline request\r\n")),
        (
            "open quote",
            b"SET \"k v\r\n".to_vec(),
            Ends("-ERR Protocol error: unbalanced quotes in request\r\n"),
        ),
        (
            "letter behind quote",
            b"SET 'k'v x\r\n".to_vec(),
            Ends("-ERR Protocol error: unbalanced quotes in request\r\n"),
        ),
        ("nul in inline", b"GET k\0k\r\n".to_vec(), Ends("-ERR Protocol error: ")),
        ("empty inline", b"\r\n\r\n\n".to_vec(), Nothing),
        (
            "AUTH without words",
            command(&[b"AUTH"]),
            GoesOn("-ERR wrong number of arguments for 'auth' command\r\n"),
        ),
        ("AUTH of one word", command(&[b"AUTH", b"x"]), GoesOn(NO_PASSWORD)),
        ("AUTH of three words", command(&[b"AUTH", b"a", b"b", b"c"]), GoesOn("-ERR syntax error\r\n")),
        ("HELLO 2", command(&[b"HELLO", b"2"]), GoesOn("*14\r\n$6\r\nserver\r\n")),
        ("HELLO 4", command(&[b"HELLO", b"4"]), GoesOn("-NOPROTO unsupported protocol version\r\n")),
        (
            "HELLO abc",
            command(&[b"HELLO", b"abc"]),
            GoesOn("-ERR Protocol version is not an integer or out of range\r\n"),
        ),
        ("unknown, 1 MiB", command(&[&evil_name]), GoesOn("-ERR unknown command 'bad  +OK  xxx")),
        ("EX 0", command(&[b"SET", b"k", b"v", b"EX", b"0"]), GoesOn("-ERR")),
        ("EX -1", command(&[b"SET", b"k", b"v", b"EX", b"-1"]), GoesOn("-ERR")),
        ("EX NaN", command(&[b"SET", b"k", b"v", b"EX", b"NaN"]), GoesOn("-ERR")),
        ("PX overflow", command(&[b"SET", b"k", b"v", b"PX", b"9223372036854775807"]), GoesOn("-ERR")),
        ("SCAN garbage", command(&[b"SCAN", b"garbage"]), GoesOn("-ERR invalid cursor\r\n")),
        ("SCAN 2^64", command(&[b"SCAN", b"18446744073709551616"]), GoesOn("-ERR invalid cursor\r\n")),
        ("empty key", command(&[b"SET", b"", b"v"]), GoesOn("-ERR")),
        ("key of 1025 bytes", command(&[b"SET", &[b'k'; 1025], b"v"]), GoesOn("-ERR")),
        ("value of 1 MiB + 1", command(&[b"SET", b"k", &vec![b'v'; (1 << 20) + 1]]), GoesOn("-ERR")),
        ("time beyond i64", command(&[b"TS.ADD", b"t", b"9223372036854775808", b"1"]), GoesOn("-ERR TSDB: ")),
        ("negative time", command(&[b"TS.ADD", b"t", b"-1", b"1"]), GoesOn("-ERR TSDB: ")),
        ("value of hex", command(&[b"TS.ADD", b"t", b"1", b"0x10"]), GoesOn("-ERR TSDB: invalid value\r\n")),
        (
            "bucket 0",
            command(&[b"TS.RANGE", b"t", b"-", b"+", b"AGGREGATION", b"sum", b"0"]),
            GoesOn("-ERR TSDB: "),
        ),
        ("EXEC without MULTI", command(&[b"EXEC"]), GoesOn("-ERR EXEC without MULTI\r\n")),
        ("10k AUTH", many_auths, GoesOn(NO_PASSWORD)),
        ("POST", b"POST / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), Silence),
        ("Host:", b"PING\r\nHost: evil\r\n\r\n".to_vec(), Ends("+PONG\r\n")),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), Ends("HTTP/1.1 400 ")),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), Silence),
    ]
}

#[test]
fn bad_resp_is_answered_or_ends_its_connection() {
    // What Redis refuses must be refused in its words, and must not hurt anybody else.
    for backend in BACKENDS {
        let target = Target::start(backend, &TWO_CORES);
        for (name, bytes, answer) in inputs() {
            let mut client = target.connect();
            client.send(&bytes).unwrap();
            if let GoesOn(_) | Nothing = answer {
                client.send(b"*2\r\n$4\r\nECHO\r\n$3\r\nend\r\n").unwrap();
                client.stream.shutdown(Shutdown::Write).unwrap();
            }
            let received = client.rest();
            let text = String::from_utf8_lossy(&received);
            let brief: String = text.chars().take(200).collect();
            let echoed = text.ends_with("$3\r\nend\r\n");
            let fits = match answer {
                Ends(start) => text.starts_with(start),
                Silence => text.is_empty(),
                GoesOn(start) => text.starts_with(start) && echoed,
                Nothing => text == "$3\r\nend\r\n",
            };
            assert!(fits, "{backend}, {name}: '{}' in {} bytes", brief.escape_debug(), text.len());
            assert!((received.len() as u64) < 2 * MIB, "{backend}, {name}: {} bytes", received.len());
            if name.starts_with("unknown") {
                assert!(
                    text.len() < 1024,
                    "{backend}: the client's name comes back whole: {} bytes",
                    text.len()
                );
            }
            target.assert_serves(name);
        }
        target.finish(64 * MIB);
    }
}

#[test]
fn commands_with_very_many_keys_are_answered_or_refused() {
    // One request must not take memory without bound, nor more slots than the mailboxes have.
    for backend in BACKENDS {
        let target = Target::start(backend, &TWO_CORES);
        let mut client = target.connect();
        let keys: Vec<_> = (0..100_000)
            .map(|key: u32| format!("{}{key}", if key.is_multiple_of(2) { 'a' } else { 'z' }))
            .collect();
        let mut words: Vec<&[u8]> = vec![b"MGET"];
        words.extend(keys.iter().map(|key| key.as_bytes()));
        let Reply::Array(values) = client.call(&words).unwrap() else { panic!("{backend}: no array") };
        assert_eq!(values.len(), keys.len(), "{backend}");
        words[0] = b"DEL";
        assert_eq!(client.call(&words).unwrap(), Reply::Integer(0), "{backend}");
        words[0] = b"EXISTS";
        assert_eq!(client.call(&words).unwrap(), Reply::Integer(0), "{backend}");
        client.send(b"*1000001\r\n$4\r\nMGET\r\n").unwrap();
        assert_eq!(client.rest(), b"-ERR Protocol error: invalid multibulk length\r\n", "{backend}");
        target.finish(192 * MIB);
    }
}

#[test]
fn before_auth_only_little_is_taken() {
    // Whoever has no password must not be able to make the daemon reserve memory (CVE-2021-32675).
    for backend in BACKENDS {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "open sesame\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, mode).unwrap();
        let flags: Vec<_> = ["--backend", backend, "--cores", "2", "--password-file", file.to_str().unwrap()]
            .map(str::to_owned)
            .into();
        let mut daemon = crate::Daemon::start(&dir.path().join("store"), &flags);
        let address = daemon.address();
        let connect = || crate::Resp::connect(&address).unwrap();
        let before = daemon.resident_bytes();
        let refused = |bytes: &[u8], text: &str| {
            let mut client = connect();
            client.send(bytes).unwrap();
            let found = client.rest();
            assert_eq!(
                String::from_utf8_lossy(&found),
                text,
                "{backend}: {}",
                bytes[..bytes.len().min(40)].escape_ascii()
            );
        };
        refused(b"*11\r\n$4\r\nAUTH\r\n", "-ERR Protocol error: unauthenticated multibulk length\r\n");
        refused(b"*2\r\n$4\r\nAUTH\r\n$16385\r\n", "-ERR Protocol error: unauthenticated bulk length\r\n");
        let mut client = connect();
        assert_eq!(
            client.ask("GET k"),
            Reply::Error("NOAUTH Authentication required.".to_owned()),
            "{backend}"
        );
        assert!(client.ask("HELLO 3").error().starts_with("NOAUTH "), "{backend}");
        for _ in 0..100 {
            assert!(client.ask("AUTH wrong").error().starts_with("WRONGPASS "), "{backend}");
            assert!(client.ask("AUTH default wrong").error().starts_with("WRONGPASS "), "{backend}");
            assert!(client.ask("AUTH nobody x").error().starts_with("WRONGPASS "), "{backend}");
        }
        for words in
            ["SET k v", "MULTI", "FLUSHALL", "CONFIG GET dir", "CLIENT LIST", "TS.ADD t 1 1", "DBSIZE"]
        {
            let reply = client.ask(words);
            assert!(reply.error().starts_with("NOAUTH "), "{backend}: {words}: {reply:?}");
        }
        // A flood of refused commands whose replies nobody reads.
        let flood: Vec<_> = (0..64)
            .map(|_| {
                let mut client = connect();
                client.stream.set_write_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
                let _ = client.send(&b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".repeat(50_000));
                client
            })
            .collect();
        let grown = daemon.resident_bytes().saturating_sub(before);
        assert!(grown < 160 * MIB, "{backend}: {grown} bytes more for clients without a password");
        drop(flood);
        assert_eq!(client.call(&[b"AUTH", b"open sesame"]).unwrap(), Reply::ok(), "{backend}");
        assert_eq!(client.ask("SET k v"), Reply::ok(), "{backend}");
        assert_eq!(client.ask("RESET"), Reply::Simple("RESET".to_owned()), "{backend}");
        assert!(client.ask("GET k").error().starts_with("NOAUTH "), "{backend}: RESET ends the session");
        assert!(daemon.is_alive() && !daemon.log().contains("panicked"), "{backend}: {}", daemon.log());
        assert!(!daemon.log().contains("sesame"), "{backend}: the password is in the log");
    }
}
