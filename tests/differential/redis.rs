//! tskv against redis-server: what both know must look the same to a client.

use crate::commands::{Dialect, pieces, pipeline};
use crate::exchange::{Outcome, expect, listen, put_sentinel, send};
use crate::seeds;
use crate::support::{Daemon, Reply, Resp, Rng};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Pipelines that are compared at least.
const PIPELINES_MIN: u64 = 500;
/// When a server that waits for the rest of a request is taken to wait. Doubled when a comparison fails: a busy machine
/// must not look like a difference.
const IDLE: Duration = Duration::from_millis(150);
const ATTEMPTS: u32 = 4;

/// A redis-server without persistence; killed when dropped.
struct Redis {
    child: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Redis {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server, Debian package redis-server");
        let address = format!("127.0.0.1:{port}");
        let give_up = Instant::now() + Duration::from_secs(20);
        while Resp::connect(&address).is_err() {
            assert!(Instant::now() < give_up, "redis-server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, address, _dir: dir }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both servers, and a connection to each that empties it.
struct Pair {
    redis: Redis,
    tskv: Daemon,
    cleaners: [Resp; 2],
    _dir: tempfile::TempDir,
}

impl Pair {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let flags = ["--cores", "2", "--split-at", "k", "--sync", "none"].map(str::to_owned);
        let tskv = Daemon::start(&dir.path().join("store"), &flags);
        let redis = Redis::start();
        let cleaners = [&redis.address, &tskv.address()].map(|address| Resp::connect(address).unwrap());
        Self { redis, tskv, cleaners, _dir: dir }
    }
    /// What Redis does with the pieces, and what tskv does.
    fn compare(&mut self, pieces: &[&[u8]], idle: Duration) -> (Outcome, Outcome) {
        for cleaner in &mut self.cleaners {
            assert_eq!(cleaner.call(&[b"FLUSHALL"]).unwrap(), Reply::ok());
        }
        let expected = listen(&mut send(&self.redis.address, pieces), idle);
        let found = expect(&mut send(&self.tskv.address(), pieces), &expected);
        (expected, found)
    }
}

#[test]
fn pipelines_look_as_with_redis() {
    // A client library that works with Redis would stumble over the first reply that differs.
    let mut pair = Pair::start();
    let (mut closed, mut waited) = (0_u64, 0_u64);
    let count = seeds(PIPELINES_MIN, |seed| {
        let rng = &mut Rng(seed);
        let bytes = pipeline(rng, Dialect::Redis);
        let pieces = pieces(rng, &bytes);
        let mut outcomes = pair.compare(&pieces, IDLE);
        for attempt in 1..ATTEMPTS {
            if outcomes.0 == outcomes.1 {
                break;
            }
            outcomes = pair.compare(&pieces, IDLE * 2_u32.pow(attempt));
        }
        let (redis, tskv) = outcomes;
        assert!(redis == tskv, "seed {seed}: {}\nredis: {redis:?}\ntskv:  {tskv:?}", bytes.escape_ascii());
        closed += u64::from(redis.closed);
        waited += u64::from(!redis.closed && !redis.bytes.ends_with(b"all\r\n"));
    });
    println!(
        "differential redis: {count} pipelines, {closed} ended by an error, {waited} unfinished, 0 differences"
    );
    pair.tskv.terminate();
}

/// What tskv does otherwise on purpose: bytes, how Redis's answer starts, how tskv's starts, and why.
type Departure = (&'static [u8], &'static [u8], &'static [u8], &'static str);

const DEPARTURES: [Departure; 14] = [
    (
        b"*2\r\n$4\r\nECHO\r\n$1\r\nabc*1\r\n$4\r\nPING\r\n",
        b"$1\r\na\r\n+PONG\r\n",
        b"-ERR Protocol error: expected CR LF after a bulk string\r\n",
        "Redis steps over the two bytes behind an argument unseen; a client that counts wrongly is told at once",
    ),
    (
        b"*1\rx$4\r\nPING\r\n",
        b"+PONG\r\n",
        b"-ERR Protocol error: invalid multibulk length\r\n",
        "Redis takes any byte behind the CR of a length for its LF",
    ),
    (
        b"*1\n$4\r\nPING\r\n",
        b"-ERR Protocol error: invalid multibulk length\r\n",
        b"-ERR Protocol error: invalid multibulk length\r\n",
        "the same answer; but Redis waits for a CR first, tskv says it at the LF",
    ),
    (
        b"*1048577\r\n",
        b"",
        b"-ERR Protocol error: invalid multibulk length\r\n",
        "fewer arguments per request: memory is bounded per connection (limits.rs)",
    ),
    (
        b"*1\r\n$100000000\r\n",
        b"",
        b"-ERR Protocol error: invalid bulk length\r\n",
        "a request is at most 64 MiB",
    ),
    (
        b"ECHO a\0b\r\n",
        b"",
        b"-ERR Protocol error: NUL byte in inline request\r\n",
        "Redis looks for the end of the line no further than the NUL, and waits",
    ),
    (b"SET \"\" v\r\n", b"+OK\r\n", b"-ERR ", "a series has a name of 1 to 1024 bytes"),
    (b"SET k v EX 10\r\n", b"+OK\r\n", b"-ERR ", "keys do not expire by a clock: retention is TS.CREATE's"),
    (
        b"SET a v\r\nKEYS \"[\\xff-b]\"\r\n",
        b"+OK\r\n*1\r\n",
        b"+OK\r\n*0\r\n",
        "ranges of patterns compare bytes; in Redis the processor decides whether \\xff is 255 or -1",
    ),
    (
        b"*1\r\n\x01\r\n",
        b"-ERR Protocol error: expected '$', got '\x01'\r\n",
        b"-ERR Protocol error: expected '$', got ' '\r\n",
        "control bytes of a client are not repeated",
    ),
    (b"SELECT 1\r\n", b"+OK\r\n", b"-ERR DB index is out of range\r\n", "there is one database"),
    (
        b"INCR k\r\n",
        b":1\r\n",
        b"-ERR unknown command 'INCR', with args beginning with: 'k' \r\n",
        "no command that reads and writes a string",
    ),
    (
        b"GET /\r\n",
        b"$-1\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        "an inline GET of a path is a browser: see protocol/detect.rs",
    ),
    (
        b"HELLO 3\r\n",
        b"%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n",
        b"%7\r\n$6\r\nserver\r\n",
        "the server's own name and version",
    ),
];

#[test]
fn departures_from_redis_are_those_of_the_table() {
    // A difference that nobody wrote down is a bug of one of the two; one that is gone must leave the table.
    let mut pair = Pair::start();
    for (bytes, redis, tskv, reason) in DEPARTURES {
        let mut all = bytes.to_vec();
        put_sentinel(&mut all);
        let (by_redis, _) = pair.compare(&[&all], IDLE);
        let by_tskv = listen(&mut send(&pair.tskv.address(), &[&all]), IDLE);
        let context = format!("{} ({reason})", bytes.escape_ascii());
        assert!(by_redis.bytes.starts_with(redis), "redis answers {by_redis:?} to {context}");
        assert!(by_tskv.bytes.starts_with(tskv), "tskv answers {by_tskv:?} to {context}");
    }
    pair.tskv.terminate();
}

/// A pattern of the pieces that patterns are made of; of ranges beyond ASCII see `DEPARTURES`.
fn pattern(rng: &mut Rng) -> Vec<u8> {
    const PIECES: [&[u8]; 16] = [
        b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"a", b"b", b"z", b"[a-c]", b"[^a]", b"[z-x]", b"\\*",
        b"[\\]]", b"c",
    ];
    (0..rng.index(7)).flat_map(|_| PIECES[rng.index(PIECES.len())].to_vec()).collect()
}

#[test]
fn patterns_select_the_keys_that_redis_selects() {
    // A script that deletes by pattern would delete something else.
    let mut pair = Pair::start();
    let keys: [&[u8]; 14] =
        [b"a", b"b", b"ab", b"abc", b"*", b"?", b"[", b"]", b"^a", b"a-c", b"\\", b"z\xff", b"aaa", b"]b"];
    for cleaner in &mut pair.cleaners {
        for key in keys {
            assert_eq!(cleaner.call(&[b"SET", key, b"v"]).unwrap(), Reply::ok());
        }
    }
    let count = seeds(PIPELINES_MIN, |seed| {
        let pattern = pattern(&mut Rng(seed));
        let selected = pair.cleaners.each_mut().map(|client| {
            let Ok(Reply::Array(keys)) = client.call(&[b"KEYS", &pattern]) else { panic!("seed {seed}") };
            let mut keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
            keys.sort();
            keys
        });
        let [redis, tskv] = selected;
        assert_eq!(redis, tskv, "seed {seed}: {}", pattern.escape_ascii());
    });
    println!("differential redis: {count} patterns, 0 differences");
    pair.tskv.terminate();
}
