//! A RESP server that notes when requests arrived, and answers `+OK`.
//!
//! The requests that count are all equally long: it counts bytes, parses nothing, and so keeps up with a million a
//! second.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Flags that make all requests alike; [`REQUEST_BYTES`] is how long each is.
pub(crate) const WRITES: [&str; 8] =
    ["--workload", "kv", "--protocol", "resp", "--ratio", "1:0", "--value-size", "32"];
const FIRST_WORD: &[u8] = b"*3\r\n$3\r\nSET\r\n";
const KEY_BYTES: usize = "$20\r\nbench:s:000000000000\r\n".len();
const VALUE_BYTES: usize = "$32\r\n".len() + 32 + "\r\n".len();
const REQUEST_BYTES: usize = FIRST_WORD.len() + KEY_BYTES + VALUE_BYTES;
const OK: &[u8] = b"+OK\r\n";

/// The server; its threads end with the connections.
pub(crate) struct Peer {
    pub(crate) address: String,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
}

/// Requests that one read of a socket brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Duration,
    pub(crate) requests: usize,
}

impl Peer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let (noted, start) = (Arc::clone(&arrivals), Instant::now());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, noted) = (stream.unwrap(), Arc::clone(&noted));
                std::thread::spawn(move || {
                    // Noted at the end: a lock on the way would make connections wait for each other.
                    let arrived = serve(stream, start);
                    noted.lock().unwrap().extend(arrived);
                });
            }
        });
        Self { address, arrivals }
    }

    /// When requests to write arrived, ascending; call it when the generator has gone.
    pub(crate) fn arrivals(&self) -> Vec<Duration> {
        let mut all = Vec::new();
        let begin = Instant::now();
        // The connections end a moment after the generator has.
        while begin.elapsed() < Duration::from_millis(300) {
            all.append(&mut self.arrivals.lock().unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut times: Vec<Duration> =
            all.iter().flat_map(|arrival| std::iter::repeat_n(arrival.at, arrival.requests)).collect();
        times.sort_unstable();
        times
    }
}

fn serve(mut stream: TcpStream, start: Instant) -> Vec<Arrival> {
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let replies = OK.repeat(buffer.len() / REQUEST_BYTES + 1);
    let (mut bytes, mut whole, mut arrived) = (0, 0, Vec::with_capacity(1 << 16));
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let at = start.elapsed();
        // PING, INFO and CONFIG come one at a time, before the first write or on a connection of their own.
        let is_question = bytes == 0 && !buffer.starts_with(FIRST_WORD);
        let mut answered = 1;
        if !is_question {
            bytes += count;
            answered = bytes / REQUEST_BYTES - whole;
            whole += answered;
            arrived.push(Arrival { at, requests: answered });
        }
        if stream.write_all(&replies[..OK.len() * answered]).is_err() {
            break;
        }
    }
    arrived
}
