//! Golden bytes both ways, every way to cut or damage a frame, and the table of hostile payloads.

use super::*;
use crate::encoding::put_varint;
use crate::limits::{BATCH_ENTRIES_MAX, FRAME_BYTES_MAX, FRAME_BYTES_MAX_UNAUTHENTICATED};
use crate::model::{
    Aggregator, BucketGrid, CheckpointName, Command, DeleteScope, KeyRange, Reply, ReplyError, ScanAnswer,
    ScanRequest, Slot, StoredEntry, TimeUnit, Value,
};
use proptest::prelude::*;

const LIMITS: FrameLimits = FrameLimits { payload_bytes_max: 4096 };
const REQUESTS: &str = include_str!("../../../tests/golden/frame_requests_v1.hex");
const RESPONSES: &str = include_str!("../../../tests/golden/frame_responses_v1.hex");

fn scan_request(start: &[u8], end: Option<&[u8]>) -> ScanRequest {
    ScanRequest {
        keys: KeyRange { start: start.into(), end: end.map(Into::into) },
        from: i64::MIN,
        to: i64::MAX,
        all_slots: false,
        reverse: true,
        limit: u64::MAX,
        answer: ScanAnswer::Entries,
    }
}

/// One of each, in the order of the golden file.
fn requests() -> Vec<(&'static str, Request<'static>)> {
    let time_entry = StoredEntry { series: b"cpu", slot: Slot::Time(-1), value: Value::F64(-0.0) };
    let meta_entry = StoredEntry { series: b"m\0", slot: Slot::Metadata, value: Value::Bytes(b"\xff") };
    let limited = ScanRequest { limit: 5, reverse: false, all_slots: true, ..scan_request(b"a", Some(b"b")) };
    let newest = ScanRequest { answer: ScanAnswer::Newest, ..scan_request(b"p", None) };
    let grid = BucketGrid { width: 60_000, align: -1 };
    let answer = ScanAnswer::Buckets { aggregator: Aggregator::Twa, grid };
    let buckets = ScanRequest { limit: 9, reverse: false, answer, ..scan_request(b"p", Some(b"q")) };
    vec![
        ("ping", Request::Ping { payload: b"hi" }),
        ("hello", Request::Hello { client: b"test" }),
        ("auth", Request::Auth { username: b"default", password: b"secret" }),
        (
            "put_f64",
            Request::Data(Command::Put { series: b"s", slot: Slot::Time(1), value: Value::F64(1.5) }),
        ),
        (
            "put_i64",
            Request::Data(Command::Put { series: b"s", slot: Slot::Time(i64::MAX), value: Value::I64(-2) }),
        ),
        (
            "put_bytes",
            Request::Data(Command::Put { series: b"k", slot: Slot::Timeless, value: Value::Bytes(b"v") }),
        ),
        ("put_batch", Request::Data(Command::PutBatch { entries: vec![time_entry, meta_entry] })),
        ("get_at", Request::Data(Command::GetAt { series: b"cpu", time: i64::MIN })),
        ("get_newest", Request::Data(Command::GetNewest { series: b"cpu" })),
        ("delete_slot", Request::Data(Command::DeleteSlot { series: b"s", slot: Slot::Time(4) })),
        (
            "delete_range",
            Request::Data(Command::Delete { scope: DeleteScope::TimeRange { series: b"s", from: 1, to: 2 } }),
        ),
        ("delete_series", Request::Data(Command::Delete { scope: DeleteScope::Series { series: b"s" } })),
        ("delete_prefix", Request::Data(Command::Delete { scope: DeleteScope::Prefix { prefix: b"p" } })),
        ("delete_all", Request::Data(Command::Delete { scope: DeleteScope::All })),
        ("scan_all", Request::Scan { request: scan_request(b"", None), credit: 8 }),
        ("scan_some", Request::Scan { request: limited, credit: 0 }),
        ("scan_credit", Request::ScanCredit { credit: 64 }),
        ("scan_cancel", Request::ScanCancel),
        ("stats", Request::Stats),
        ("flush", Request::Flush),
        ("compact", Request::Compact),
        ("routes", Request::Routes),
        ("scan_newest", Request::Scan { request: newest, credit: 8 }),
        ("scan_buckets", Request::Scan { request: buckets, credit: 2 }),
        ("move_boundary", Request::Move { boundary: 1, key: b"m" }),
        ("checkpoint", Request::Checkpoint { name: CheckpointName::new("backup-1").unwrap() }),
    ]
}

/// One of each, with the opcode of the request it answers.
fn responses() -> Vec<(&'static str, Opcode, Response<'static>)> {
    let hello = Hello {
        server: "tskv 0.1.0",
        unit: TimeUnit::Microseconds,
        needs_auth: true,
        value_bytes_max: 1 << 20,
        batch_entries_max: 65536,
    };
    let entries: Vec<ScanEntry<'static>> = vec![
        (b"a", Slot::Timeless, Value::Bytes(b"text")),
        (b"a", Slot::Time(1), Value::F64(0.5)),
        (b"a", Slot::Time(2), Value::F64(f64::NAN)),
        (b"a", Slot::Time(3), Value::I64(7)),
        (b"b", Slot::Time(3), Value::I64(8)),
        (b"b", Slot::Time(4), Value::Bytes(b"")),
    ];
    let routes = [Route { first_key: b"", port: 9001 }, Route { first_key: b"m", port: 0 }];
    let refused = Response::Failure { status: Status::Busy, message: "try again" };
    vec![
        ("pong", Opcode::Ping, Response::Pong { payload: b"hi" }),
        ("hello", Opcode::Hello, Response::Hello(hello)),
        ("put_done", Opcode::Put, Response::Done),
        ("put_busy", Opcode::Put, refused),
        ("sample", Opcode::GetAt, Response::Sample(Some((-5, Value::F64(2.0))))),
        ("sample_bytes", Opcode::GetNewest, Response::Sample(Some((i64::MAX, Value::Bytes(b"x"))))),
        ("no_sample", Opcode::GetNewest, Response::Sample(None)),
        ("chunk", Opcode::Scan, Response::ScanChunk { entries, last: false }),
        ("last_chunk", Opcode::Scan, Response::ScanChunk { entries: vec![], last: true }),
        ("stats", Opcode::Stats, Response::Stats(vec![("puts", "3"), ("backend", "epoll")])),
        ("compact_done", Opcode::Compact, Response::Done),
        ("routes", Opcode::Routes, Response::Routes(routes.to_vec())),
        ("forwarded_sample", Opcode::GetAt, Response::Sample(Some((1, Value::F64(1.0))))),
        ("forwarded_put_done", Opcode::Put, Response::Done),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Lines `name hex` of a golden file.
fn golden(file: &'static str) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let lines = file.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split_once(' ').map(|(name, bytes)| (name, unhex(bytes))).unwrap())
}

fn frame(bytes: &[u8]) -> (FrameHeader, &[u8]) {
    match decode_frame(bytes, &LIMITS).unwrap() {
        Framed::Frame { header, payload, consumed } => {
            assert_eq!(consumed, bytes.len());
            (header, payload)
        }
        incomplete @ Framed::Incomplete { .. } => panic!("{incomplete:?}"),
    }
}

#[test]
fn requests_match_their_golden_bytes_both_ways() {
    // A field that moves breaks every client that was built before.
    let mut known = golden(REQUESTS);
    for (id, (name, request)) in (1..).zip(requests()) {
        let mut encoded = Vec::new();
        encode_request(&mut encoded, id, id % 2 == 0, &request);
        let (golden_name, bytes) =
            known.next().unwrap_or_else(|| panic!("missing: {name} {}", hex(&encoded)));
        assert_eq!((golden_name, &bytes), (name, &encoded), "{name} {}", hex(&encoded));
        let (header, payload) = frame(&bytes);
        assert_eq!((header.request_id, header.has_checksum), (id, id % 2 == 0));
        assert_eq!(decode_request(&header, payload, &RequestLimits::default()), Ok(request), "{name}");
    }
    assert_eq!(known.next(), None);
}

#[test]
fn responses_match_their_golden_bytes_both_ways() {
    // As for requests: clients outlive servers.
    let mut known = golden(RESPONSES);
    for (id, (name, opcode, response)) in (1..).zip(responses()) {
        let request = FrameHeader {
            opcode: opcode as u8,
            has_checksum: id % 2 == 0,
            is_forwarded: name.starts_with("forwarded"),
            request_id: id,
        };
        let mut encoded = Vec::new();
        encode_response(&mut encoded, &request, &response);
        let (golden_name, bytes) =
            known.next().unwrap_or_else(|| panic!("missing: {name} {}", hex(&encoded)));
        assert_eq!((golden_name, &bytes), (name, &encoded), "{name} {}", hex(&encoded));
        let (header, payload) = frame(&bytes);
        assert_eq!(decode_response(&header, payload), Ok(response), "{name}");
    }
    assert_eq!(known.next(), None);
}

#[test]
fn shard_replies_become_responses() {
    // A reply encoded as another's shape reads as data that was never stored.
    let request =
        FrameHeader { opcode: Opcode::Scan as u8, has_checksum: false, is_forwarded: false, request_id: 9 };
    let entries: [ScanEntry<'_>; 1] = [(b"s", Slot::Time(1), Value::I64(1))];
    let cases = [
        (Reply::Ok, Response::ScanChunk { entries: vec![], last: false }, 0x10),
        (Reply::NoSample, Response::Sample(None), 0x13),
        (
            Reply::ScanChunk { entries: &entries, last: true },
            Response::ScanChunk { entries: entries.to_vec(), last: true },
            0x20,
        ),
        (
            Reply::Error(ReplyError::NoSpace),
            Response::Failure {
                status: Status::NoSpace,
                message: "the disk is full, writes are refused until there is space",
            },
            0x10,
        ),
    ];
    for (reply, expected, opcode) in cases {
        let mut out = Vec::new();
        encode_reply(&mut out, &FrameHeader { opcode, ..request }, &reply);
        let (header, payload) = frame(&out);
        let expected = if reply == Reply::Ok { Response::Done } else { expected };
        assert_eq!(decode_response(&header, payload), Ok(expected));
    }
}

#[test]
fn frames_cut_anywhere_are_incomplete_and_say_how_much_is_needed() {
    // A decoder that guesses on half a frame executes half a request.
    for (_, bytes) in golden(REQUESTS).chain(golden(RESPONSES)) {
        for cut in 0..bytes.len() {
            match decode_frame(&bytes[..cut], &LIMITS) {
                Ok(Framed::Incomplete { needed }) => {
                    assert!(cut < needed && needed <= bytes.len());
                    assert_eq!(needed == bytes.len(), cut >= HEADER_BYTES || bytes.len() == HEADER_BYTES);
                }
                other => panic!("cut at {cut}: {other:?}"),
            }
        }
        let two = [bytes.clone(), bytes.clone()].concat();
        assert!(
            matches!(decode_frame(&two, &LIMITS), Ok(Framed::Frame { consumed, .. }) if consumed == bytes.len())
        );
    }
}

#[test]
fn no_flipped_bit_passes_a_checksum() {
    // The checksum is asked for by those who do not trust the way; one bit must not get through.
    for (name, bytes) in golden(REQUESTS).chain(golden(RESPONSES)) {
        let has_checksum = bytes[3] & FLAG_CHECKSUM == FLAG_CHECKSUM;
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            match decode_frame(&damaged, &LIMITS) {
                Ok(Framed::Frame { header, payload, .. }) => {
                    assert!(!has_checksum, "{name}: bit {bit} went unseen");
                    // Without one, damage may change the meaning; it must not panic.
                    let _request = decode_request(&header, payload, &RequestLimits::default());
                    let _response = decode_response(&header, payload);
                }
                // A longer length waits for bytes that will fail.
                Ok(Framed::Incomplete { .. }) => assert!((4..8).contains(&(bit / 8)), "{name}: bit {bit}"),
                Err(_) => {}
            }
        }
    }
}

#[test]
fn payloads_cut_or_extended_are_refused() {
    // RELIABILITY §2.3 (a): payload shorter or longer than its fields.
    for (name, bytes) in golden(REQUESTS) {
        let (header, payload) = frame(&bytes);
        let decode = |payload: &[u8]| decode_request(&header, payload, &RequestLimits::default()).is_ok();
        let is_open_ended = name == "ping";
        for cut in 0..payload.len() {
            assert_eq!(decode(&payload[..cut]), is_open_ended, "{name} cut at {cut}");
        }
        assert_eq!(decode(&[payload, &[0]].concat()), is_open_ended, "{name} with a byte too many");
    }
    for (name, bytes) in golden(RESPONSES) {
        let (header, payload) = frame(&bytes);
        for cut in 0..payload.len() {
            // A chunk without its last runs is a shorter chunk; that is what the frame's length is for.
            let is_shorter = (name == "pong" && cut > 0) || name == "chunk";
            assert!(is_shorter || decode_response(&header, &payload[..cut]).is_err(), "{name} cut at {cut}");
        }
    }
}

#[test]
fn lengths_are_judged_before_the_payload_comes() {
    // Waiting for four gigabytes that a header promises would hold the connection and, buffered, the memory.
    let header = |payload_bytes: u32| {
        let mut bytes = vec![MAGIC, VERSION, Opcode::Ping as u8, 0];
        bytes.extend_from_slice(&payload_bytes.to_le_bytes());
        bytes.extend_from_slice(&7u64.to_le_bytes());
        bytes
    };
    let max = u32::try_from(FRAME_BYTES_MAX).unwrap();
    let unauthenticated = u32::try_from(FRAME_BYTES_MAX_UNAUTHENTICATED).unwrap();
    let limits = [(FrameLimits::authenticated(), max), (FrameLimits::unauthenticated(), unauthenticated)];
    for (limits, max) in limits {
        for length in [1, 3, max] {
            let needed = HEADER_BYTES + usize::try_from(length).unwrap();
            assert_eq!(decode_frame(&header(length), &limits), Ok(Framed::Incomplete { needed }));
        }
        for length in [max + 1, u32::MAX, i32::MIN.cast_unsigned()] {
            let error = decode_frame(&header(length), &limits).unwrap_err();
            assert!(matches!(error, FrameError::TooLong { .. }), "{error}");
        }
        assert!(matches!(decode_frame(&header(0), &limits), Ok(Framed::Frame { payload: b"", .. })));
    }
}

#[test]
fn other_protocols_and_versions_are_refused_at_their_first_bytes() {
    // RESP, HTTP and TLS sent to the native decoder; versions 0 and 255; unknown flags.
    for bytes in [&b"*"[..], b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"PING\r\n", &[0]] {
        assert_eq!(decode_frame(bytes, &LIMITS), Err(FrameError::Magic { found: bytes[0] }));
    }
    for found in [0, 2, 255] {
        assert_eq!(decode_frame(&[MAGIC, found], &LIMITS), Err(FrameError::Version { found }));
    }
    for found in (1..=255).filter(|flags| *flags != FLAG_CHECKSUM) {
        assert_eq!(decode_frame(&[MAGIC, VERSION, 1, found], &LIMITS), Err(FrameError::Flags { found }));
    }
    // Only an answer can have come by way of another core.
    let of_responses = [0, FLAG_CHECKSUM, FLAG_FORWARDED, FLAG_CHECKSUM | FLAG_FORWARDED];
    for found in (0..=255).filter(|flags| !of_responses.contains(flags)) {
        let start = [MAGIC, VERSION, 1 | RESPONSE_BIT, found];
        assert_eq!(decode_frame(&start, &LIMITS), Err(FrameError::Flags { found }));
    }
    let mut out = Vec::new();
    encode_fatal(&mut out, &FrameError::Version { found: 9 });
    let (header, payload) = frame(&out);
    assert_eq!((header.opcode, header.request_id), (RESPONSE_BIT, 0));
    let message = "protocol version 9 is not supported, this server speaks 1";
    assert_eq!(
        decode_response(&header, payload),
        Ok(Response::Failure { status: Status::BadFrame, message })
    );
}

/// A payload by its pieces.
fn payload(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.concat()
}

#[test]
fn hostile_payloads_fail_their_request() {
    // RELIABILITY §2.3 (a): counts and lengths that lie, keys and values at their limits, varints that overflow.
    let long_key = |bytes: usize| {
        let mut out = Vec::new();
        put_varint(&mut out, bytes as u64);
        out.extend(std::iter::repeat_n(0xff, bytes));
        out
    };
    let count = |count: u64| {
        let mut out = Vec::new();
        put_varint(&mut out, count);
        out
    };
    let entry: &[u8] = &[1, b's', 1, 3, 0];
    let time = 5i64.to_le_bytes();
    let width = 60_000_i64.to_le_bytes();
    let overlong = [0xff; 11];
    let refused: [(&str, Opcode, Vec<u8>); 31] = [
        ("empty key", Opcode::GetNewest, payload(&[&[0]])),
        ("key too long", Opcode::GetNewest, long_key(1025)),
        ("key length beyond payload", Opcode::GetNewest, payload(&[&[200, 1], b"abc"])),
        ("key length of 2^64", Opcode::GetNewest, count(u64::MAX)),
        ("varint of 11 bytes", Opcode::GetNewest, overlong.to_vec()),
        ("padded varint", Opcode::GetNewest, payload(&[&[0x81, 0x00], b"a"])),
        ("no time", Opcode::GetAt, payload(&[&[1, b's']])),
        ("slot class 3", Opcode::Put, payload(&[&[1, b's', 3], &time, &[2], &time])),
        ("value type 0", Opcode::Put, payload(&[&[1, b's', 2], &time, &[0], &time])),
        ("value type 4", Opcode::Put, payload(&[&[1, b's', 2], &time, &[4], &time])),
        ("bytes beyond payload", Opcode::Put, payload(&[&[1, b's', 1, 3, 9], b"abc"])),
        ("batch of nothing", Opcode::PutBatch, count(0)),
        ("batch of 2^64", Opcode::PutBatch, count(u64::MAX)),
        ("batch above its limit", Opcode::PutBatch, payload(&[&count(BATCH_ENTRIES_MAX as u64 + 1), entry])),
        ("batch shorter than its count", Opcode::PutBatch, payload(&[&count(3), entry, entry])),
        ("batch longer than its count", Opcode::PutBatch, payload(&[&count(1), entry, entry])),
        ("delete scope 0", Opcode::Delete, vec![0]),
        ("delete scope 6", Opcode::Delete, vec![6]),
        ("delete of an empty prefix", Opcode::Delete, vec![4, 0]),
        ("scan flag 16", Opcode::Scan, payload(&[&[0, 0], &time, &time, &[16, 0, 1]])),
        ("newest of all slots", Opcode::Scan, payload(&[&[0, 0], &time, &time, &[5, 0, 1]])),
        (
            "newest in buckets",
            Opcode::Scan,
            payload(&[&[0, 0], &time, &time, &[12, 1], &time, &time, &[0, 1]]),
        ),
        ("aggregator 0", Opcode::Scan, payload(&[&[0, 0], &time, &time, &[8, 0], &width, &time, &[0, 1]])),
        ("aggregator 14", Opcode::Scan, payload(&[&[0, 0], &time, &time, &[8, 14], &width, &time, &[0, 1]])),
        ("bucket width 0", Opcode::Scan, payload(&[&[0, 0], &time, &time, &[8, 1], &[0; 8], &time, &[0, 1]])),
        (
            "bucket width -1",
            Opcode::Scan,
            payload(&[&[0, 0], &time, &time, &[8, 1], &[255; 8], &time, &[0, 1]]),
        ),
        ("bucket cut off", Opcode::Scan, payload(&[&[0, 0], &time, &time, &[8, 1], &width])),
        ("scan has_end 2", Opcode::Scan, payload(&[&[0, 2], &time, &time, &[0, 0, 1]])),
        ("scan credit above its limit", Opcode::Scan, payload(&[&[0, 0], &time, &time, &[0, 0, 65]])),
        ("credit of 2^64", Opcode::ScanCredit, count(u64::MAX)),
        ("ping too long", Opcode::Ping, vec![0; 1025]),
    ];
    for (name, opcode, payload) in refused {
        let header =
            FrameHeader { opcode: opcode as u8, has_checksum: false, is_forwarded: false, request_id: 1 };
        let outcome = decode_request(&header, &payload, &RequestLimits::default());
        assert!(outcome.is_err(), "{name}: {outcome:?}");
    }
    for opcode in (0..=255u8).filter(|byte| Opcode::from_byte(*byte).is_none_or(|o| o == Opcode::Fatal)) {
        let header = FrameHeader { opcode, has_checksum: false, is_forwarded: false, request_id: 1 };
        let outcome = decode_request(&header, &[], &RequestLimits::default());
        assert_eq!(outcome, Err(PayloadError::Opcode { found: opcode }));
    }
}

#[test]
fn what_lies_just_within_the_limits_is_taken() {
    // A limit that is off by one refuses what the documentation promises.
    let limits = RequestLimits { value_bytes_max: 10 };
    let put = |series: &[u8], value: &[u8]| {
        let mut bytes = Vec::new();
        let command = Command::Put { series, slot: Slot::Timeless, value: Value::Bytes(value) };
        encode_request(&mut bytes, 1, false, &Request::Data(command));
        let (header, payload) = frame(&bytes);
        decode_request(&header, payload, &limits).map(|_| ())
    };
    assert_eq!(put(&[0xff; 1024], &[0; 10]), Ok(()));
    assert_eq!(put(b"\0", &[]), Ok(()));
    let limit = PayloadError::Limit { what: "bytes of a value", max: 10 };
    assert_eq!(put(b"s", &[0; 11]), Err(limit));
    let entry = StoredEntry { series: b"s", slot: Slot::Timeless, value: Value::Bytes(b"") };
    for (count, is_ok) in [(BATCH_ENTRIES_MAX, true), (BATCH_ENTRIES_MAX + 1, false)] {
        let mut bytes = Vec::new();
        encode_request(
            &mut bytes,
            1,
            false,
            &Request::Data(Command::PutBatch { entries: vec![entry.clone(); count] }),
        );
        let Ok(Framed::Frame { header, payload, .. }) = decode_frame(&bytes, &FrameLimits::authenticated())
        else {
            panic!("a whole frame")
        };
        assert_eq!(decode_request(&header, payload, &limits).is_ok(), is_ok);
    }
}

#[test]
fn hostile_responses_cost_no_more_than_their_bytes() {
    // A server gone wrong must not take its clients' memory: one declared count, no entries.
    let header = FrameHeader {
        opcode: Opcode::Scan as u8 | RESPONSE_BIT,
        has_checksum: false,
        is_forwarded: false,
        request_id: 1,
    };
    let mut run = vec![0, 0, 1, b's', 2, 1];
    put_varint(&mut run, 1 << 24);
    assert!(decode_response(&header, &run).is_err());
    let timeless = [&[0, 0, 1, b's', 1, 3, 100][..], &[0; 100]].concat();
    assert!(decode_response(&header, &timeless).is_err());
    let stats = FrameHeader { opcode: Opcode::Stats as u8 | RESPONSE_BIT, ..header };
    assert!(decode_response(&stats, &[0, 0xff, 0xff, 3, 0, 0]).is_err());
    let unknown = FrameHeader { opcode: 0x7f | RESPONSE_BIT, ..header };
    let failure = Response::Failure { status: Status::Failed, message: "?" };
    assert_eq!(decode_response(&unknown, &[99, 1, b'?']), Ok(failure));
    assert!(decode_response(&FrameHeader { opcode: Opcode::Put as u8, ..header }, &[0]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_payload_is_refused_or_means_what_it_encodes(
        opcode in 0u8..0x40,
        payload in proptest::collection::vec(prop_oneof![0u8..6, any::<u8>()], 0..60),
    ) {
        // Two payloads with one meaning are two checksums, two sizes, and one of them untested.
        let header = FrameHeader { opcode, has_checksum: false, is_forwarded: false, request_id: 3 };
        if let Ok(request) = decode_request(&header, &payload, &RequestLimits::default()) {
            let mut bytes = Vec::new();
            encode_request(&mut bytes, 3, false, &request);
            let (again, encoded) = frame(&bytes);
            prop_assert_eq!((again, encoded), (header, &payload[..]));
        }
        let response = FrameHeader { opcode: opcode | RESPONSE_BIT, ..header };
        if let Ok(decoded) = decode_response(&response, &payload) {
            let mut bytes = Vec::new();
            encode_response(&mut bytes, &header, &decoded);
            let (again, encoded) = frame(&bytes);
            prop_assert_eq!(again, response);
            prop_assert_eq!(decode_response(&again, encoded), Ok(decoded));
        }
    }
}
