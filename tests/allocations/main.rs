//! A request costs a serving core no allocation, once its connection and keys are known: counted by an allocator that
//! counts, over a whole daemon in this process and clients over loopback.
//!
//! What is counted is what threads named `tskv-core-…` allocate. Counters are published four times a second and
//! memtables grow now and then, so that a few allocations in thousands of requests are no finding; one per request is.

#![expect(
    unsafe_code,
    reason = "a global allocator is unsafe by its nature; it passes everything on to the system's"
)]
#![expect(clippy::unwrap_used, reason = "a test's helpers panic like the test itself")]
#![expect(clippy::disallowed_methods, reason = "the daemon runs on a real thread")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use tskv::config::{Config, Cores};
use tskv::model::{Command, Slot, Value};
use tskv::protocol::binary::{Request, encode_request};

/// Requests of each kind that are counted.
const REQUESTS: u64 = 4_000;
/// Requests sent at once.
const PIPELINE: u64 = 16;
/// Allocations that the whole of one count may have, besides those of published counters.
const ALLOWED: u64 = REQUESTS / 50;
/// Allocations that publishing the counters may have, four times a second however few requests there are.
const ALLOWED_PER_PUBLICATION: u64 = 8;

struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// Where the first of them came from.
static PLACES: Mutex<Vec<String>> = Mutex::new(Vec::new());
const PLACES_MAX: usize = 6;

thread_local! {
    /// This thread is looking at an allocation, and allocates to do so.
    static LOOKS: Cell<bool> = const { Cell::new(false) };
}

fn is_core() -> bool {
    let mut name = [0_u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, which `name` has.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name.starts_with(b"tskv-core")
}

fn note() {
    if !COUNTS.load(Ordering::Relaxed) || LOOKS.get() || !is_core() {
        return;
    }
    // One in a while is fine; what comes again is found among these.
    if ALLOCATIONS.fetch_add(1, Ordering::Relaxed).is_multiple_of(ALLOWED / 2) {
        LOOKS.set(true);
        let mut places = PLACES.lock().unwrap();
        if places.len() < PLACES_MAX {
            places.push(Backtrace::force_capture().to_string());
        }
        LOOKS.set(false);
    }
}

// SAFETY: every call is passed on to the system's allocator with the arguments that it came with.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: as the system's allocator, which gets the same arguments.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps what the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }
    // SAFETY: as the system's allocator, which gets the same arguments.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    // SAFETY: as the system's allocator, which gets the same arguments.
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note();
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, bytes) }
    }
    // SAFETY: as the system's allocator, which gets the same arguments.
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A daemon of one core on a thread of this process; it ends with the process.
fn start(data: &std::path::Path) -> SocketAddr {
    let config = Config {
        data: data.to_owned(),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        admin: None,
        cores: Cores::Count(1),
        ..Config::default()
    };
    let (is_ready, ready) = channel();
    std::thread::spawn(move || {
        let outcome =
            tskv::server::run(config, move |running| is_ready.send(running.listen[0]).unwrap(), || ());
        panic!("the daemon ended: {:?}", outcome.map_err(|error| error.to_string()));
    });
    ready.recv().unwrap()
}

/// Sends the requests over and over, `at_once` of them at a time, and reads `reply_bytes` for each; gives what the core
/// allocated for the last [`REQUESTS`] of them, and what it may have.
fn allocations(address: SocketAddr, requests: &[Vec<u8>], reply_bytes: usize, at_once: u64) -> (u64, u64) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut replies = vec![0; reply_bytes * usize::try_from(at_once).unwrap()];
    let mut turns = requests.iter().cycle();
    let mut run = |count: u64| {
        for _ in 0..count / at_once {
            let together: Vec<u8> =
                (0..at_once).flat_map(|_| turns.next().unwrap().iter().copied()).collect();
            socket.write_all(&together).unwrap();
            socket.read_exact(&mut replies).unwrap();
        }
    };
    run(REQUESTS);
    ALLOCATIONS.store(0, Ordering::Relaxed);
    PLACES.lock().unwrap().clear();
    let began = std::time::Instant::now();
    COUNTS.store(true, Ordering::Relaxed);
    run(REQUESTS);
    COUNTS.store(false, Ordering::Relaxed);
    let publications = 1 + u64::try_from(began.elapsed().as_millis()).unwrap() / 250;
    (ALLOCATIONS.load(Ordering::Relaxed), ALLOWED + publications * ALLOWED_PER_PUBLICATION)
}

fn resp(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    words.iter().for_each(|word| bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes()));
    bytes
}

fn native(command: Command<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_request(&mut bytes, 1, false, &Request::Data(command));
    bytes
}

#[test]
fn requests_of_known_connections_and_keys_allocate_nothing() {
    // The allocator's time and locks come back into every request, one small convenience after the other.
    let directory = tempfile::tempdir().unwrap();
    let address = start(&directory.path().join("store"));
    let keys: Vec<String> = (0..64).map(|key| format!("key:{key:04}")).collect();
    let sets: Vec<_> = keys.iter().map(|key| resp(&["SET", key, "a value of some bytes"])).collect();
    let gets: Vec<_> = keys.iter().map(|key| resp(&["GET", key])).collect();
    let put = |key: &String| {
        let (series, slot, value) = (key.as_bytes(), Slot::Time(1_000), Value::F64(1.5));
        native(Command::Put { series, slot, value })
    };
    let series: Vec<_> = (0..64).map(|series| format!("series:{series:04}")).collect();
    let puts: Vec<_> = series.iter().map(put).collect();
    let reads: Vec<_> = series
        .iter()
        .map(|series| native(Command::GetAt { series: series.as_bytes(), time: 1_000 }))
        .collect();
    let mut findings = Vec::new();
    for (name, requests, reply_bytes) in [
        ("SET", &sets, "+OK\r\n".len()),
        ("GET", &gets, "$21\r\na value of some bytes\r\n".len()),
        ("native PUT", &puts, 16 + 1),
        ("native GET", &reads, 16 + 1 + 1 + 8 + 1 + 8),
    ] {
        for at_once in [1, PIPELINE] {
            let (count, allowed) = allocations(address, requests, reply_bytes, at_once);
            println!("{name}, {at_once} at once: {count} allocations in {REQUESTS} requests");
            if count > allowed {
                let places = PLACES.lock().unwrap().join("\n--\n");
                findings.push(format!(
                    "{name}, {at_once} at once: {count} allocations, some of them at\n{places}"
                ));
            }
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n\n"));
}
