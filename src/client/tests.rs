//! The client against a scripted server on a local socket.
#![expect(clippy::disallowed_methods, reason = "the scripted server needs a thread of its own")]

use super::*;
use crate::model::{KeyRange, ScanAnswer};
use crate::protocol::binary::{
    Hello, RequestLimits, Route, ScanEntry, Status, decode_request, encode_failure, encode_response,
};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::thread::JoinHandle;

/// Chunks that the scripted server's scans have, one entry each.
const CHUNKS: i64 = 40;

/// What the server saw.
#[derive(Debug, Default)]
struct Seen {
    samples: BTreeMap<(Vec<u8>, i64), f64>,
    batches: usize,
    /// How often a scan waited for credit.
    stalls: usize,
    cancelled: bool,
}

struct Server {
    stream: TcpStream,
    received: Vec<u8>,
    out: Vec<u8>,
    seen: Seen,
    /// The running scan: its header, the next chunk, the credit left.
    scan: Option<(FrameHeader, i64, u32)>,
}

impl Server {
    /// Serves one connection until its end and returns what it saw.
    fn start() -> (String, JoinHandle<Seen>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let handle = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let received = Vec::new();
            let mut server = Self { stream, received, out: Vec::new(), seen: Seen::default(), scan: None };
            while server.step() {}
            server.seen
        });
        (address, handle)
    }

    fn step(&mut self) -> bool {
        let received = std::mem::take(&mut self.received);
        let mut rest = &received[..];
        while let Framed::Frame { header, payload, consumed } =
            decode_frame(rest, &FrameLimits::authenticated()).unwrap()
        {
            self.answer(&header, decode_request(&header, payload, &RequestLimits::default()).unwrap());
            rest = &rest[consumed..];
        }
        self.received = rest.to_vec();
        self.stream.write_all(&self.out).unwrap();
        self.out.clear();
        let mut buffer = [0; 4096];
        // One end of the connection may be gone before the other has said all; that is the end as well.
        let count = self.stream.read(&mut buffer).unwrap_or(0);
        self.received.extend_from_slice(&buffer[..count]);
        count > 0
    }

    fn answer(&mut self, header: &FrameHeader, request: Request<'_>) {
        let hello = Hello {
            server: "scripted",
            unit: TimeUnit::Nanoseconds,
            needs_auth: true,
            value_bytes_max: 1 << 20,
            batch_entries_max: 3,
        };
        let response = match request {
            Request::Hello { .. } => Response::Hello(hello),
            Request::Auth { password: b"secret", .. } => Response::Done,
            Request::Auth { .. } => Response::Failure { status: Status::Denied, message: "wrong password" },
            Request::Ping { payload } => {
                return encode_response(&mut self.out, header, &Response::Pong { payload });
            }
            Request::Data(command) => return self.run(header, &command),
            Request::Scan { credit, .. } => {
                self.scan = Some((*header, 0, credit));
                return self.stream_chunks();
            }
            Request::ScanCredit { credit } => {
                if let Some((_, _, left)) = &mut self.scan {
                    *left += credit;
                }
                return self.stream_chunks();
            }
            Request::ScanCancel => {
                self.seen.cancelled = true;
                if let Some((scan, ..)) = self.scan.take() {
                    encode_failure(&mut self.out, &scan, Status::Cancelled, "cancelled");
                }
                return;
            }
            Request::Stats => Response::Stats(vec![("a", "1"), ("b", "2")]),
            Request::Flush | Request::Compact | Request::Move { .. } => Response::Done,
            Request::Checkpoint { .. } => Response::Done,
            Request::Routes => Response::Routes(vec![Route { first_key: b"", port: 0 }]),
        };
        encode_response(&mut self.out, header, &response);
    }

    fn run(&mut self, header: &FrameHeader, command: &Command<'_>) {
        let response = match command {
            Command::PutBatch { entries } if entries.iter().any(|entry| entry.series == b"full") => {
                Response::Failure { status: Status::NoSpace, message: "the disk is full" }
            }
            Command::PutBatch { entries } => {
                self.seen.batches += 1;
                for entry in entries {
                    let key = (entry.series.to_vec(), entry.slot.time_or_zero());
                    self.seen.samples.insert(key, entry.value.as_f64().unwrap());
                }
                Response::Done
            }
            Command::Put { series, slot, value } => {
                let key = (series.to_vec(), slot.time_or_zero());
                self.seen.samples.insert(key, value.as_f64().unwrap());
                Response::Done
            }
            Command::GetAt { series, time } => {
                let found = self.seen.samples.get(&(series.to_vec(), *time));
                Response::Sample(found.map(|value| (*time, Value::F64(*value))))
            }
            Command::GetNewest { series } => {
                let newest = self.seen.samples.iter().rfind(|(key, _)| key.0 == *series);
                Response::Sample(newest.map(|(key, value)| (key.1, Value::F64(*value))))
            }
            _ => Response::Done,
        };
        encode_response(&mut self.out, header, &response);
    }

    fn stream_chunks(&mut self) {
        let Some((header, next, credit)) = &mut self.scan else { return };
        while *credit > 0 && *next < CHUNKS {
            let entries: Vec<ScanEntry<'_>> = vec![(b"s", Slot::Time(*next), Value::I64(*next))];
            *next += 1;
            *credit -= 1;
            let chunk = Response::ScanChunk { entries, last: *next == CHUNKS };
            encode_response(&mut self.out, header, &chunk);
        }
        match *next == CHUNKS {
            true => self.scan = None,
            false => self.seen.stalls += 1,
        }
    }
}

fn everything() -> ScanRequest {
    ScanRequest {
        keys: KeyRange::all(),
        from: i64::MIN,
        to: i64::MAX,
        all_slots: false,
        reverse: false,
        limit: u64::MAX,
        answer: ScanAnswer::Entries,
    }
}

#[test]
fn calls_reach_the_server_and_come_back() {
    // With and without checksums: a client that frames wrongly can do nothing at all.
    for checksums in [false, true] {
        let (address, server) = Server::start();
        let options = ClientOptions { checksums, batches_in_flight_max: 2, ..ClientOptions::default() };
        let mut client = Client::connect(&address, &options).unwrap();
        assert_eq!(client.info().unit, TimeUnit::Nanoseconds);
        assert!(client.info().needs_auth);
        assert_eq!(client.auth("default", b"wrong").unwrap_err().status(), Some(Status::Denied));
        client.auth("default", b"secret").unwrap();
        client.ping().unwrap();
        client.put(b"s", Slot::Time(1), Value::F64(0.5)).unwrap();
        let entry = |time| StoredEntry { series: b"s", slot: Slot::Time(time), value: Value::F64(1.0) };
        let entries: Vec<_> = (2..22).map(entry).collect();
        client.put_batch(&entries).unwrap();
        assert_eq!(client.get_at(b"s", 1).unwrap(), Some(OwnedValue::F64(0.5)));
        assert_eq!(client.get_at(b"s", 0).unwrap(), None);
        assert_eq!(client.get_newest(b"s").unwrap(), Some((21, OwnedValue::F64(1.0))));
        client.delete(DeleteScope::Prefix { prefix: b"p" }).unwrap();
        client.delete_slot(b"s", Slot::Timeless).unwrap();
        assert_eq!(client.stats().unwrap()[1], ("b".to_owned(), "2".to_owned()));
        client.flush().unwrap();
        client.compact().unwrap();
        drop(client);
        let seen = server.join().unwrap();
        assert_eq!((seen.samples.len(), seen.batches), (21, 7), "batches of at most three");
    }
}

#[test]
fn a_refused_batch_is_reported_after_all_answers_are_in() {
    // An answer left unread would be taken for the next request's.
    let (address, server) = Server::start();
    let mut client = Client::connect(&address, &ClientOptions::default()).unwrap();
    let entry = |series| StoredEntry { series, slot: Slot::Time(1), value: Value::F64(1.0) };
    client.submit_batch(&[entry(b"a")]).unwrap();
    client.submit_batch(&[entry(b"full")]).unwrap();
    client.submit_batch(&[entry(b"b")]).unwrap();
    let error = client.finish_batches().unwrap_err();
    assert_eq!((error.status(), error.to_string().as_str()), (Some(Status::NoSpace), "the disk is full"));
    client.ping().unwrap();
    drop(client);
    assert_eq!(server.join().unwrap().batches, 2);
}

#[test]
fn a_refused_batch_leaves_no_answer_behind() {
    // Two refusals, one of them seen while later batches fly: the other must not fail the ping.
    let (address, server) = Server::start();
    let options = ClientOptions { batches_in_flight_max: 2, ..ClientOptions::default() };
    let mut client = Client::connect(&address, &options).unwrap();
    let entry = |series: &'static [u8]| StoredEntry { series, slot: Slot::Time(1), value: Value::F64(1.0) };
    // The server takes three entries a batch.
    let entries: Vec<_> =
        [b"full".as_slice(), b"full", b"ok"].into_iter().flat_map(|series| vec![entry(series); 3]).collect();
    let error = client.put_batch(&entries).unwrap_err();
    assert_eq!(error.status(), Some(Status::NoSpace));
    client.ping().unwrap();
    drop(client);
    server.join().unwrap();
}

#[test]
fn a_scan_streams_within_its_credit() {
    // A client that never gives credit back waits for ever; one that gives too much is flooded.
    let (address, server) = Server::start();
    let mut client = Client::connect(&address, &ClientOptions::default()).unwrap();
    let mut times = Vec::new();
    client.scan(everything()).unwrap().for_each(|(_, slot, _)| times.push(slot.time_or_zero())).unwrap();
    assert_eq!(times, (0..CHUNKS).collect::<Vec<_>>());
    client.ping().unwrap();
    drop(client);
    let seen = server.join().unwrap();
    assert!(seen.stalls > 0 && !seen.cancelled);
}

#[test]
fn a_scan_left_early_is_cancelled_and_the_connection_goes_on() {
    // Chunks of a forgotten scan would be read as answers to the next request.
    let (address, server) = Server::start();
    let mut client = Client::connect(&address, &ClientOptions::default()).unwrap();
    let mut scan = client.scan(everything()).unwrap();
    assert_eq!(scan.next_chunk().unwrap().unwrap().len(), 1);
    drop(scan);
    client.ping().unwrap();
    let mut scan = client.scan(everything()).unwrap();
    let _chunk = scan.next_chunk().unwrap();
    scan.cancel().unwrap();
    client.ping().unwrap();
    drop(client);
    assert!(server.join().unwrap().cancelled);
}

#[test]
fn what_is_no_tskv_is_told_so() {
    // The commonest mistake: the address of something else.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 64];
        let _count = stream.read(&mut buffer).unwrap();
        stream.write_all(b"-ERR unknown command\r\n").unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let _count = stream.read(&mut buffer).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n").unwrap();
        let (stream, _) = listener.accept().unwrap();
        drop(stream);
    });
    let error = Client::connect(&address, &ClientOptions::default()).unwrap_err();
    let text = "a tskv server that is full, or none at all: it says 'ERR unknown command'";
    assert_eq!(error.to_string(), text);
    let error = Client::connect(&address, &ClientOptions::default()).unwrap_err();
    let text = "this is not the data port of a tskv server (its answer starts with 0x48)";
    assert_eq!(error.to_string(), text);
    let error = Client::connect(&address, &ClientOptions::default()).unwrap_err();
    assert!(matches!(error, ClientError::Closed | ClientError::Connection { .. }), "{error}");
    server.join().unwrap();
    let error = Client::connect(&address, &ClientOptions::default()).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot connect to {address}: ")), "{error}");
}

#[test]
fn a_silent_server_ends_in_a_time_out() {
    // Without one, a command in a script hangs for ever on a host that swallows packets.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let options =
        ClientOptions { answer_timeout: Some(Duration::from_millis(30)), ..ClientOptions::default() };
    let error = Client::connect(&address, &options).unwrap_err();
    assert_eq!(error.to_string(), "the server did not answer within the time-out");
}
