//! Native frames that are none, or whose payload is not what their opcode calls for.

use crate::{BACKENDS, MIB, TWO_CORES, Target};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tskv::limits::{BATCH_ENTRIES_MAX, FRAME_BYTES_MAX, SERIES_BYTES_MAX};
use tskv::model::{Command, DeleteScope, KeyRange, ScanAnswer, ScanRequest, Slot, StoredEntry, Value};
use tskv::protocol::binary::{
    FrameHeader, FrameLimits, Framed, HEADER_BYTES, Opcode, RESPONSE_BIT, Request, Response, Status,
    decode_frame, decode_response, encode_request, put_frame,
};

struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Peer {
    fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { stream, received: Vec::new() }
    }
    /// Opcode, request id and status of the next response (`None`: success); `None` when the connection has ended.
    fn response(&mut self) -> Option<(u8, u64, Option<Status>)> {
        loop {
            if let Framed::Frame { header, payload, consumed } =
                decode_frame(&self.received, &FrameLimits::authenticated()).unwrap()
            {
                let status = match decode_response(&header, payload).unwrap() {
                    Response::Failure { status, message } => {
                        assert!(
                            message.len() > 5 && message.len() < 400,
                            "an error says what is wrong: {message}"
                        );
                        Some(status)
                    }
                    _ => None,
                };
                let answer = (header.opcode, header.request_id, status);
                self.received.drain(..consumed);
                return Some(answer);
            }
            let mut buf = vec![0; 64 << 10];
            match self.stream.read(&mut buf) {
                Ok(0) => return None,
                Ok(count) => self.received.extend_from_slice(&buf[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no response: {error}"),
            }
        }
    }
}

fn ping(id: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_request(&mut bytes, id, true, &Request::Ping { payload: b"payload" });
    bytes
}

/// A frame with any payload.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = FrameHeader { opcode, has_checksum: false, is_forwarded: false, request_id: 7 };
    put_frame(&mut bytes, header, |out| out.extend_from_slice(payload));
    bytes
}

fn put(series: &[u8], value: Value<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_request(&mut bytes, 7, false, &Request::Data(Command::Put { series, slot: Slot::Time(0), value }));
    bytes
}

/// Frames whose header or checksum is wrong: they end the connection.
fn broken() -> Vec<(String, Vec<u8>)> {
    let mut inputs = Vec::new();
    let mut changed = |name: &str, offset: usize, byte: u8| {
        let mut bytes = ping(7);
        bytes[offset] = byte;
        inputs.push((format!("{name} at {offset}"), bytes));
    };
    changed("version 0", 1, 0);
    changed("version 255", 1, 255);
    (1..8).filter(|bit| *bit != 1).for_each(|bit| changed("flags", 3, 3 ^ (1 << bit)));
    let checksum = ping(7).len() - 4;
    (checksum..checksum + 4).for_each(|offset| changed("checksum", offset, ping(7)[offset] ^ 0x10));
    changed("payload bit", HEADER_BYTES + 2, b'x');
    changed("id bit", 8, 99);
    for length in [u32::MAX, 1 << 31, u32::try_from(FRAME_BYTES_MAX).unwrap() + 1] {
        let mut bytes = ping(7);
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        inputs.push((format!("length {length}"), bytes));
    }
    inputs.push(("a second frame without magic".to_owned(), [ping(7), b"PING\r\n".to_vec()].concat()));
    inputs
}

#[test]
fn frames_with_a_wrong_header_end_their_connection() {
    // After it nobody knows where the next frame starts: going on would execute garbage.
    for backend in BACKENDS {
        let target = Target::start(backend, &TWO_CORES);
        for (name, bytes) in broken() {
            let mut peer = Peer::connect(&target.address);
            peer.stream.write_all(&bytes).unwrap();
            let mut answers: Vec<_> = std::iter::from_fn(|| peer.response()).collect();
            let last = answers.pop();
            assert_eq!(last, Some((RESPONSE_BIT, 0, Some(Status::BadFrame))), "{backend}, {name}");
            assert!(
                answers.iter().all(|(_, id, status)| (*id, *status) == (7, None)),
                "{backend}, {name}: {answers:?}"
            );
        }
        target.assert_serves("frames");
        target.finish(64 * MIB);
    }
}

/// Payloads that no request has: they fail the request, the connection goes on.
fn refused() -> Vec<(&'static str, Vec<u8>)> {
    let batch = Opcode::PutBatch as u8;
    let long_varint = [0x80; 10].into_iter().chain([1]).collect::<Vec<_>>();
    let entries: Vec<_> = (0..=BATCH_ENTRIES_MAX)
        .map(|_| StoredEntry { series: b"s", slot: Slot::Time(0), value: Value::I64(0) })
        .collect();
    let mut too_many = Vec::new();
    encode_request(&mut too_many, 7, false, &Request::Data(Command::PutBatch { entries }));
    let scan = |payload: &[u8]| frame(Opcode::Scan as u8, payload);
    vec![
        ("unknown opcode", frame(0x7f, b"")),
        ("opcode of a response", frame(RESPONSE_BIT | Opcode::Ping as u8, b"")),
        ("FATAL", frame(Opcode::Fatal as u8, b"")),
        ("ROUTES with a byte behind", frame(Opcode::Routes as u8, b"!")),
        ("PUT of nothing", frame(Opcode::Put as u8, b"")),
        ("PUT of one byte", frame(Opcode::Put as u8, b"\x01")),
        ("PUT cut in the slot", frame(Opcode::Put as u8, b"\x01k\x02\x00\x00")),
        ("PUT of an unknown slot", frame(Opcode::Put as u8, b"\x01k\x03\x01\0\0\0\0\0\0\0\0")),
        ("PUT of an unknown type", frame(Opcode::Put as u8, b"\x01k\x01\x04\0\0\0\0\0\0\0\0")),
        ("PUT with a byte behind", frame(Opcode::Put as u8, b"\x01k\x01\x01\0\0\0\0\0\0\0\0!")),
        ("key beyond the payload", frame(Opcode::Put as u8, b"\xff\xff\x03k")),
        ("key of 2^63 bytes", frame(Opcode::Put as u8, b"\xff\xff\xff\xff\xff\xff\xff\xff\x7fk")),
        ("varint of 11 bytes", frame(Opcode::Put as u8, &long_varint)),
        ("varint with a needless byte", frame(Opcode::Put as u8, b"\x81\x00k\x01\x01\0\0\0\0\0\0\0\0")),
        ("empty key", put(b"", Value::I64(1))),
        ("key of the limit + 1", put(&[b'k'; SERIES_BYTES_MAX + 1], Value::I64(1))),
        ("value of the limit + 1", put(b"k", Value::Bytes(&vec![0; (1 << 20) + 1]))),
        ("batch: count beyond the payload", frame(batch, b"\xff\x7f\x01k\x02")),
        ("batch: count of 2^64 - 1", frame(batch, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")),
        ("batch of the limit + 1", too_many),
        ("DELETE of an unknown scope", frame(Opcode::Delete as u8, b"\x09")),
        ("SCAN of nothing", scan(b"")),
        ("SCAN with credit 2^32", scan(b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\x1f")),
        ("GET_AT cut", frame(Opcode::GetAt as u8, b"\x01k\0\0\0")),
        ("AUTH cut", frame(Opcode::Auth as u8, b"\x05ab")),
    ]
}

#[test]
fn bad_payloads_fail_their_request_alone() {
    // One wrong request of a pipeline must not cost the others, and must not change anything.
    for backend in BACKENDS {
        let target = Target::start(backend, &TWO_CORES);
        let mut peer = Peer::connect(&target.address);
        for (name, bytes) in refused() {
            peer.stream.write_all(&[bytes, ping(8)].concat()).unwrap();
            let (_, id, status) = peer.response().unwrap();
            assert!(id == 7 && status.is_some(), "{backend}, {name}: {id} {status:?}");
            assert_eq!(
                peer.response(),
                Some((RESPONSE_BIT | Opcode::Ping as u8, 8, None)),
                "{backend}, {name}"
            );
        }
        let count = target.connect().ask("DBSIZE");
        assert_eq!(count, crate::Reply::Integer(3), "{backend}: only the good client's keys are there");
        target.finish(128 * MIB);
    }
}

#[test]
fn values_and_times_at_the_edge_come_back_as_they_were() {
    // A bit lost at the edge of a type is a measurement changed.
    for backend in BACKENDS {
        let target = Target::start(backend, &TWO_CORES);
        let options = tskv::client::ClientOptions { checksums: true, ..Default::default() };
        let mut client = tskv::client::Client::connect(&target.address, &options).unwrap();
        let quiet_nan = f64::from_bits(0x7ff8_dead_beef_0001);
        let values = [quiet_nan, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MIN_POSITIVE / 8.0, f64::MAX];
        let long = [0xff; SERIES_BYTES_MAX];
        for series in [&b"a\0b"[..], b"\xff\xfe\r\n", b"\0", &long, &long[..SERIES_BYTES_MAX - 1]] {
            for (value, time) in
                values.into_iter().zip([i64::MIN, i64::MAX, 0, -1, i64::MIN + 1, i64::MAX - 1])
            {
                client.put(series, Slot::Time(time), Value::F64(value)).unwrap();
                let found = client.get_at(series, time).unwrap().unwrap();
                assert_eq!(found.borrow(), Value::F64(value), "{backend} {time}");
            }
            let newest = client.get_newest(series).unwrap().unwrap();
            assert_eq!((newest.0, newest.1.borrow()), (i64::MAX, Value::F64(f64::INFINITY)), "{backend}");
            let request = ScanRequest {
                keys: KeyRange::prefix(series),
                from: i64::MIN,
                to: i64::MAX,
                all_slots: true,
                reverse: true,
                limit: u64::MAX,
                answer: ScanAnswer::Entries,
            };
            let mut times = Vec::new();
            client
                .scan(request)
                .unwrap()
                .for_each(|(found, slot, _)| {
                    if found == series {
                        times.push(slot);
                    }
                })
                .unwrap();
            let expected = [i64::MAX, i64::MAX - 1, 0, -1, i64::MIN + 1, i64::MIN].map(Slot::Time);
            assert_eq!(times, expected, "{backend}");
            client.delete(DeleteScope::TimeRange { series, from: i64::MIN, to: i64::MIN }).unwrap();
            client.delete(DeleteScope::TimeRange { series, from: i64::MAX, to: i64::MAX }).unwrap();
            assert_eq!(client.get_at(series, i64::MIN).unwrap(), None, "{backend}");
            assert_eq!(client.get_newest(series).unwrap().unwrap().0, i64::MAX - 1, "{backend}");
        }
        target.finish(64 * MIB);
    }
}

#[test]
fn frames_may_come_in_any_pieces() {
    // The network cuts where it likes.
    for backend in BACKENDS {
        let target = Target::start(backend, &TWO_CORES);
        let bytes = [put(b"key", Value::Bytes(b"value")), ping(8)].concat();
        for cut in 1..bytes.len() {
            let mut peer = Peer::connect(&target.address);
            peer.stream.set_nodelay(true).unwrap();
            peer.stream.write_all(&bytes[..cut]).unwrap();
            std::thread::sleep(Duration::from_millis(1));
            peer.stream.write_all(&bytes[cut..]).unwrap();
            let mut answers = [peer.response(), peer.response()];
            answers.sort_by_key(|answer| answer.map(|(_, id, _)| id));
            assert_eq!(
                answers.map(|answer| answer.map(|(_, id, status)| (id, status))),
                [Some((7, None)), Some((8, None))]
            );
        }
        target.finish(64 * MIB);
    }
}

#[test]
fn a_request_id_may_be_used_twice() {
    // Ids are the client's business: both answers come, and scans of one id do not mix up their credit.
    for backend in BACKENDS {
        let target = Target::start(backend, &TWO_CORES);
        let mut peer = Peer::connect(&target.address);
        let request = ScanRequest {
            keys: KeyRange::all(),
            from: 0,
            to: 0,
            all_slots: true,
            reverse: false,
            limit: u64::MAX,
            answer: ScanAnswer::Entries,
        };
        let mut bytes = Vec::new();
        for _ in 0..2 {
            encode_request(&mut bytes, 7, false, &Request::Scan { request: request.clone(), credit: 64 });
            encode_request(&mut bytes, 7, false, &Request::ScanCredit { credit: 64 });
            encode_request(&mut bytes, 7, false, &Request::ScanCancel);
            encode_request(&mut bytes, 7, false, &Request::Ping { payload: b"" });
        }
        peer.stream.write_all(&bytes).unwrap();
        let pongs = (0..100)
            .filter_map(|_| peer.response())
            .filter(|(opcode, _, _)| opcode & 0x7f == Opcode::Ping as u8);
        assert_eq!(pongs.take(2).count(), 2, "{backend}");
        target.finish(64 * MIB);
    }
}
