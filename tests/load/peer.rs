//! A RESP server that notes when each request arrived, and answers `+OK`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The server; its threads end with the connections.
pub(crate) struct Peer {
    pub(crate) address: String,
    arrivals: Arc<Mutex<Vec<Duration>>>,
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
                std::thread::spawn(move || serve(stream, &noted, start));
            }
        });
        Self { address, arrivals }
    }
    /// When requests to write arrived, ascending.
    pub(crate) fn arrivals(&self) -> Vec<Duration> {
        let mut arrivals = std::mem::take(&mut *self.arrivals.lock().unwrap());
        arrivals.sort_unstable();
        arrivals
    }
}

fn serve(mut stream: TcpStream, noted: &Mutex<Vec<Duration>>, start: Instant) {
    stream.set_nodelay(true).unwrap();
    let (mut buffer, mut received) = (vec![0; 64 << 10], Vec::new());
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let now = start.elapsed();
        received.extend_from_slice(&buffer[..count]);
        // Keys and values hold no asterisk that begins a line: each begins a request.
        let starts = starts(&received);
        let whole = starts.windows(2).map(|pair| &received[pair[0]..pair[1]]);
        let last = starts.last().map(|start| &received[*start..]).filter(|request| is_whole(request));
        let requests: Vec<bool> = whole.chain(last).map(|request| request.starts_with(b"*3")).collect();
        if last.is_some() {
            received.clear();
        } else if let Some(start) = starts.last() {
            received.drain(..start);
        }
        let writes = requests.iter().filter(|is_write| **is_write).count();
        noted.lock().unwrap().extend(std::iter::repeat_n(now, writes));
        if stream.write_all(&b"+OK\r\n".repeat(requests.len())).is_err() {
            return;
        }
    }
}

/// Where the requests of `received` begin.
fn starts(received: &[u8]) -> Vec<usize> {
    let begins = |index: &usize| received[*index] == b'*' && (*index == 0 || received[*index - 1] == b'\n');
    (0..received.len()).filter(begins).collect()
}

/// Whether a request has all the lines that its header announces: two for each word, and its own.
fn is_whole(request: &[u8]) -> bool {
    let words = usize::from(request.get(1).copied().unwrap_or(b'0') - b'0');
    request.iter().filter(|byte| **byte == b'\n').count() == 1 + 2 * words
}
