//! One exchange: bytes to a server on a connection of their own, and what it answers until it has nothing more to say.

use crate::support::put_command;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A server that takes longer to answer, or to close, has not understood.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the last command of each exchange says back.
const SENTINEL: &[u8] = b"that is all";

/// What a server did.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Everything that it sent.
    pub(crate) bytes: Vec<u8>,
    /// It closed the connection.
    pub(crate) closed: bool,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"{}", self.bytes.escape_ascii(), if self.closed { ", closed" } else { "" })
    }
}

/// Ends a transaction that may be open and says something that is known when it comes back.
pub(crate) fn put_sentinel(out: &mut Vec<u8>) {
    put_command(out, &[b"RESET"]);
    put_command(out, &[b"ECHO", SENTINEL]);
}

/// Connects, and sends the pieces one by one.
pub(crate) fn send(address: &str, pieces: &[&[u8]]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    for (index, piece) in pieces.iter().enumerate() {
        // A server that has had enough may have closed already.
        if stream.write_all(piece).is_err() {
            break;
        }
        if index + 1 < pieces.len() {
            std::thread::yield_now();
        }
    }
    stream
}

/// Reads until the sentinel comes back, the server closes, or nothing has come for `idle`.
pub(crate) fn listen(stream: &mut TcpStream, idle: Duration) -> Outcome {
    stream.set_read_timeout(Some(idle)).unwrap();
    let mut bytes = Vec::new();
    loop {
        match read_some(stream, &mut bytes) {
            None => return Outcome { bytes, closed: false },
            Some(false) => return Outcome { bytes, closed: true },
            Some(true) if is_over(&bytes) => return Outcome { bytes, closed: false },
            Some(true) => {}
        }
    }
}

/// Reads until this is `expected`, or can no longer become it.
pub(crate) fn expect(stream: &mut TcpStream, expected: &Outcome) -> Outcome {
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let give_up = Instant::now() + PATIENCE;
    let mut bytes = Vec::new();
    let mut closed = false;
    while Instant::now() < give_up {
        let complete = bytes == expected.bytes;
        if complete && closed == expected.closed || !expected.bytes.starts_with(&bytes) || closed {
            break;
        }
        closed = read_some(stream, &mut bytes) == Some(false);
    }
    Outcome { bytes, closed }
}

/// Whether bytes came, or the end; `None` when nothing did.
fn read_some(stream: &mut TcpStream, into: &mut Vec<u8>) -> Option<bool> {
    let mut room = [0; 16 << 10];
    match stream.read(&mut room) {
        Ok(0) => Some(false),
        Ok(count) => {
            into.extend_from_slice(&room[..count]);
            Some(true)
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        // A reset instead of an end: the server closed with bytes of ours unread.
        Err(_) => Some(false),
    }
}

fn is_over(bytes: &[u8]) -> bool {
    bytes.strip_suffix(b"\r\n").is_some_and(|bytes| bytes.ends_with(SENTINEL))
}
