//! Scans that their clients open and do not read: what they may cost others.

use crate::{BACKENDS, MIB, TWO_CORES, Target};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tskv::client::{Client, ClientOptions};
use tskv::limits::{MAILBOX_REQUESTS_MAX, SCANS_PER_CONNECTION_MAX};
use tskv::model::{KeyRange, ScanAnswer, ScanRequest, Slot, StoredEntry, Value};
use tskv::protocol::binary::{
    FrameLimits, Framed, Request, Response, decode_frame, decode_response, encode_request,
};

/// Half of each one's scans concern the shard of the other core, wherever the connection lies; if half of the connections
/// lie on each core, more scans wait there than requests may be under way.
const CLIENTS: usize = 320;
const _: () = assert!(CLIENTS / 2 * SCANS_PER_CONNECTION_MAX / 2 > MAILBOX_REQUESTS_MAX);
const SAMPLES: i64 = 50;

/// Opens as many scans as a connection may have, and lets each send nothing.
fn open_scans(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut bytes = Vec::new();
    for id in 1..=SCANS_PER_CONNECTION_MAX as u64 {
        let keys = KeyRange::prefix(if id % 2 == 0 { b"b" } else { b"y" });
        let (from, to) = (i64::MIN, i64::MAX);
        let request = ScanRequest {
            keys,
            from,
            to,
            all_slots: false,
            reverse: false,
            limit: u64::MAX,
            answer: ScanAnswer::Entries,
        };
        encode_request(&mut bytes, id, true, &Request::Scan { request, credit: 0 });
    }
    stream.write_all(&bytes).unwrap();
    stream
}

/// Takes everything after all; how many entries there were.
fn read_scans(stream: &mut TcpStream) -> usize {
    let mut bytes = Vec::new();
    for id in 1..=SCANS_PER_CONNECTION_MAX as u64 {
        encode_request(&mut bytes, id, true, &Request::ScanCredit { credit: 4 });
    }
    stream.write_all(&bytes).unwrap();
    let (mut received, mut ended, mut count) = (Vec::new(), 0, 0);
    while ended < SCANS_PER_CONNECTION_MAX {
        if let Framed::Frame { header, payload, consumed } =
            decode_frame(&received, &FrameLimits::authenticated()).unwrap()
        {
            match decode_response(&header, payload).unwrap() {
                Response::ScanChunk { entries, last } => {
                    count += entries.len();
                    ended += usize::from(last);
                }
                other => panic!("no chunk: {other:?}"),
            }
            received.drain(..consumed);
            continue;
        }
        let mut buf = [0; 4096];
        let read = stream.read(&mut buf).unwrap();
        assert!(read > 0, "the connection has ended");
        received.extend_from_slice(&buf[..read]);
    }
    count
}

#[test]
fn scans_that_nobody_reads_do_not_stop_their_core() {
    // Requests under way at another core are limited; scans that wait for credit would use the limit up for as long as
    // their clients like, and the credit that ends this would not be read either.
    for backend in BACKENDS {
        let target = Target::start(backend, &TWO_CORES);
        let mut writer = Client::connect(&target.address, &ClientOptions::default()).unwrap();
        for series in [&b"b"[..], b"y"] {
            let entry = |time| StoredEntry { series, slot: Slot::Time(time), value: Value::F64(0.5) };
            writer.put_batch(&(0..SAMPLES).map(entry).collect::<Vec<_>>()).unwrap();
        }
        let mut waiting: Vec<_> = (0..CLIENTS).map(|_| open_scans(&target.address)).collect();
        let begun = Instant::now();
        for _ in 0..20 {
            target.assert_serves("beside scans that nobody reads");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{backend}: {:?} for 20 rounds", begun.elapsed());
        // Whoever reads after all gets everything; the others end with their connections.
        for stream in waiting.iter_mut().step_by(40) {
            let count = read_scans(stream);
            assert_eq!(count, SCANS_PER_CONNECTION_MAX * usize::try_from(SAMPLES).unwrap(), "{backend}");
        }
        drop(waiting);
        target.finish(256 * MIB);
    }
}
