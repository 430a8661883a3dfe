//! io_uring against epoll: the same scripts to two daemons, the same bytes back.

use crate::commands::{Dialect, pieces, pipeline};
use crate::exchange::{Outcome, expect, listen, send};
use crate::seeds;
use crate::support::{Daemon, Reply, Resp, Rng};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tskv::client::{Client, ClientOptions};
use tskv::model::{Command, DeleteScope, KeyRange, ScanAnswer, ScanRequest, Slot, StoredEntry, Value};
use tskv::protocol::binary::{
    FrameLimits, Framed, Request, Response, decode_frame, decode_response, encode_request,
};

/// Scripts that are compared at least.
const SCRIPTS_MIN: u64 = 200;
const IDLE: Duration = Duration::from_millis(300);

struct Pair {
    daemons: [Daemon; 2],
    /// Of their first cores.
    addresses: [String; 2],
    cleaners: [Resp; 2],
    _dir: tempfile::TempDir,
}

impl Pair {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let daemons = ["epoll", "io_uring"].map(|backend| {
            let flags = ["--backend", backend, "--cores", "2", "--split-at", "k", "--sync", "interval=5ms"];
            // Answers say whether another core gave them: all come to the first one.
            let flags = [&flags[..], &["--core-port-base", "auto", "--rebalance", "off"]].concat();
            Daemon::start(&dir.path().join(backend), &flags)
        });
        let addresses = daemons.each_ref().map(|daemon| {
            let mut client = Client::connect(&daemon.address(), &ClientOptions::default()).unwrap();
            let routes = client.routes().unwrap();
            format!("{}:{}", daemon.host(), routes[0].1)
        });
        let cleaners = daemons.each_ref().map(|daemon| Resp::connect(&daemon.address()).unwrap());
        Self { daemons, addresses, cleaners, _dir: dir }
    }
    fn empty(&mut self) {
        for cleaner in &mut self.cleaners {
            assert_eq!(cleaner.call(&[b"FLUSHALL"]).unwrap(), Reply::ok());
        }
    }
}

#[test]
fn scripts_get_the_same_replies_from_both_backends() {
    // Whoever moves to a container without io_uring must not find another database there.
    let mut pair = Pair::start();
    let mut native = 0_u64;
    let count = seeds(SCRIPTS_MIN, |seed| {
        let rng = &mut Rng(seed);
        pair.empty();
        let outcomes = if rng.one_in(4) {
            native += 1;
            native_script(rng, &pair)
        } else {
            resp_script(rng, &pair)
        };
        let [epoll, uring] = outcomes;
        assert!(epoll == uring, "seed {seed}\nepoll:    {epoll:?}\nio_uring: {uring:?}");
    });
    println!("differential backends: {count} scripts, {native} of them native, 0 differences");
    pair.daemons.into_iter().for_each(Daemon::terminate);
}

fn resp_script(rng: &mut Rng, pair: &Pair) -> [Outcome; 2] {
    let bytes = pipeline(rng, Dialect::Tskv);
    let pieces = pieces(rng, &bytes);
    let [epoll, uring] = pair.addresses.clone();
    let by_epoll = listen(&mut send(&epoll, &pieces), IDLE);
    let by_uring = expect(&mut send(&uring, &pieces), &by_epoll);
    [by_epoll, by_uring]
}

/// Requests one at a time: native replies may overtake each other.
fn native_script(rng: &mut Rng, pair: &Pair) -> [Outcome; 2] {
    let mut requests = Vec::new();
    for id in 1..2 + rng.below(30) {
        let mut bytes = Vec::new();
        put_native(rng, &mut bytes, id);
        requests.push(bytes);
    }
    pair.addresses.each_ref().map(|address| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut bytes = Vec::new();
        for request in &requests {
            stream.write_all(request).unwrap();
            read_response(&mut stream, &mut bytes);
        }
        Outcome { bytes, closed: false }
    })
}

fn put_native(rng: &mut Rng, out: &mut Vec<u8>, id: u64) {
    let series: &[u8] = [&b"aa"[..], b"ab", b"zz"][rng.index(3)];
    let time = i64::try_from(rng.below(100)).unwrap();
    let value = match rng.below(3) {
        0 => Value::F64(rng.below(1000) as f64 / 3.0),
        1 => Value::I64(time - 50),
        _ => Value::Bytes(&series[..1]),
    };
    let request = match rng.below(8) {
        0 => Request::Data(Command::GetAt { series, time }),
        1 => Request::Data(Command::GetNewest { series }),
        2 => Request::Data(Command::Delete {
            scope: DeleteScope::TimeRange { series, from: time, to: time + 9 },
        }),
        3 => Request::Data(Command::Delete { scope: DeleteScope::Prefix { prefix: b"a" } }),
        4 => {
            let (keys, all_slots, reverse) = (KeyRange::all(), rng.one_in(2), rng.one_in(2));
            let limit = 1 + rng.below(500);
            let request = ScanRequest {
                keys,
                from: time,
                to: i64::MAX,
                all_slots,
                reverse,
                limit,
                answer: ScanAnswer::Entries,
            };
            Request::Scan { request, credit: 64 }
        }
        5 => {
            let entries = [&b"aa"[..], b"zz", series].map(|series| StoredEntry {
                series,
                slot: Slot::Time(time),
                value,
            });
            Request::Data(Command::PutBatch { entries: entries.into() })
        }
        _ => Request::Data(Command::Put { series, slot: Slot::Time(time), value }),
    };
    encode_request(out, id, rng.one_in(2), &request);
}

/// Reads one response, all chunks of a scan included; appends its bytes. Where one chunk ends and the next begins is
/// a matter of time, so of scans only the entries are kept.
fn read_response(stream: &mut TcpStream, into: &mut Vec<u8>) {
    let (mut received, mut room) = (Vec::new(), [0; 4096]);
    loop {
        match decode_frame(&received, &FrameLimits::authenticated()).unwrap() {
            Framed::Incomplete { .. } => {
                let count = stream.read(&mut room).unwrap();
                assert!(count > 0, "the daemon closed a connection that did nothing wrong");
                received.extend_from_slice(&room[..count]);
            }
            Framed::Frame { header, payload, consumed } => {
                let goes_on = match decode_response(&header, payload).unwrap() {
                    Response::ScanChunk { entries, last } => {
                        into.extend_from_slice(format!("{entries:?}").as_bytes());
                        !last
                    }
                    _ => {
                        into.extend_from_slice(&received[..consumed]);
                        false
                    }
                };
                received.drain(..consumed);
                if !goes_on {
                    return assert!(received.is_empty(), "one request, one response");
                }
            }
        }
    }
}
