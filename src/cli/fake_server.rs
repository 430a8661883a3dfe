//! A daemon for the tests of the tools: the native protocol over a map in memory.

use crate::model::{Command, OwnedValue, Slot, TimeUnit};
use crate::protocol::binary::{
    FrameLimits, Framed, Hello, Request, RequestLimits, Response, Status, decode_frame, decode_request,
    encode_failure, encode_response,
};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Entries of one chunk of a scan; small, so that tests see several.
const CHUNK_ENTRIES: usize = 5;

type Entries = BTreeMap<(Vec<u8>, Slot), OwnedValue>;

/// Serves each connection on a thread until it closes.
pub(super) struct FakeServer {
    listener_address: String,
    shared: Arc<Shared>,
}

struct Shared {
    unit: TimeUnit,
    entries: Mutex<Entries>,
    busy: AtomicBool,
    batches: AtomicU64,
    refusals: AtomicU64,
}

impl FakeServer {
    pub(super) fn start(unit: TimeUnit) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listener_address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            unit,
            entries: Mutex::default(),
            busy: AtomicBool::new(false),
            batches: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
        });
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .spawn(move || {
                for socket in listener.incoming().flatten() {
                    let shared = Arc::clone(&theirs);
                    std::thread::Builder::new().spawn(move || serve(socket, &shared)).unwrap();
                }
            })
            .unwrap();
        Self { listener_address, shared }
    }
    pub(super) fn address(&self) -> String {
        self.listener_address.clone()
    }
    pub(super) fn put(&self, series: &[u8], slot: Slot, value: OwnedValue) {
        self.shared.entries.lock().unwrap().insert((series.to_vec(), slot), value);
    }
    /// From now on, every third batch is refused as BUSY.
    pub(super) fn refuse_every_third_batch(&self) {
        self.shared.busy.store(true, Ordering::SeqCst);
    }
    pub(super) fn refusals(&self) -> u64 {
        self.shared.refusals.load(Ordering::SeqCst)
    }
}

fn serve(mut socket: TcpStream, shared: &Shared) {
    let (mut received, mut out) = (Vec::new(), Vec::new());
    let mut buf = vec![0; 64 << 10];
    loop {
        let count = socket.read(&mut buf).unwrap_or(0);
        if count == 0 {
            return;
        }
        received.extend_from_slice(&buf[..count]);
        while let Framed::Frame { header, payload, consumed } =
            decode_frame(&received, &FrameLimits::authenticated()).unwrap()
        {
            let request = decode_request(&header, payload, &RequestLimits::default()).unwrap();
            match answer(shared, request) {
                Ok(responses) => {
                    let responses = responses.iter();
                    responses.for_each(|response| encode_response(&mut out, &header, &response.borrow()));
                }
                Err(status) => encode_failure(&mut out, &header, status, "refused by the test"),
            }
            received.drain(..consumed);
        }
        if socket.write_all(&out).is_err() {
            return;
        }
        out.clear();
    }
}

/// A response that owns its bytes.
enum Owned {
    Hello(TimeUnit),
    Done,
    Chunk(Vec<((Vec<u8>, Slot), OwnedValue)>, bool),
}

impl Owned {
    fn borrow(&self) -> Response<'_> {
        match self {
            Self::Done => Response::Done,
            Self::Hello(unit) => Response::Hello(Hello {
                server: "fake",
                unit: *unit,
                needs_auth: false,
                value_bytes_max: 1 << 20,
                batch_entries_max: 65_536,
            }),
            Self::Chunk(entries, last) => Response::ScanChunk {
                entries: entries
                    .iter()
                    .map(|((series, slot), value)| (&**series, *slot, value.borrow()))
                    .collect(),
                last: *last,
            },
        }
    }
}

fn answer(shared: &Shared, request: Request<'_>) -> Result<Vec<Owned>, Status> {
    let mut entries = shared.entries.lock().unwrap();
    match request {
        Request::Hello { .. } => Ok(vec![Owned::Hello(shared.unit)]),
        Request::ScanCredit { .. } | Request::ScanCancel => Ok(Vec::new()),
        Request::Data(Command::PutBatch { entries: batch }) => {
            let count = shared.batches.fetch_add(1, Ordering::SeqCst);
            if shared.busy.load(Ordering::SeqCst) && count % 3 == 2 {
                shared.refusals.fetch_add(1, Ordering::SeqCst);
                return Err(Status::Busy);
            }
            for entry in batch {
                entries.insert((entry.series.to_vec(), entry.slot), entry.value.into_owned());
            }
            Ok(vec![Owned::Done])
        }
        Request::Scan { request, .. } => {
            let wanted = |(series, slot): &(Vec<u8>, Slot)| {
                request.keys.contains(series)
                    && match slot {
                        Slot::Time(time) => (request.from..=request.to).contains(time),
                        Slot::Metadata | Slot::Timeless => request.all_slots,
                    }
            };
            let found: Vec<_> = entries
                .iter()
                .filter(|(key, _)| wanted(key))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            let mut chunks: Vec<_> =
                found.chunks(CHUNK_ENTRIES).map(|chunk| Owned::Chunk(chunk.to_vec(), false)).collect();
            chunks.push(Owned::Chunk(Vec::new(), true));
            Ok(chunks)
        }
        other => panic!("the tests do not ask for {other:?}"),
    }
}
