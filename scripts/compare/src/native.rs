//! As much of tskv's native protocol as the measurements need; its pictures are in `src/protocol/binary` of tskv.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const HEADER_BYTES: usize = 16;
const MAGIC: u8 = 0xf7;
const VERSION: u8 = 1;
/// Stores several entries.
pub const PUT_BATCH: u8 = 0x11;
/// The sample of a series at a time.
pub const GET_AT: u8 = 0x12;
const SCAN: u8 = 0x20;
const SCAN_CREDIT: u8 = 0x21;
/// Slot class: a time follows.
pub const AT_TIME: u8 = 2;
/// Value type.
pub const F64: u8 = 1;
/// Status of a reply: try again.
pub const BUSY: u8 = 5;
const SCAN_BUCKETS: u8 = 8;
const AVERAGE: u8 = 1;
/// Chunks that a scan may be ahead.
const CREDIT: u8 = 64;

/// A whole request.
#[must_use]
pub fn frame(opcode: u8, id: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![MAGIC, VERSION, opcode, 0];
    frame.extend_from_slice(&u32::try_from(payload.len()).expect("a small request").to_le_bytes());
    frame.extend_from_slice(&id.to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Appends a length, as all byte strings begin with.
pub fn put_varint(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a byte string.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// A connection to tskv.
pub struct Native {
    socket: TcpStream,
    replies: BufReader<TcpStream>,
    payload: Vec<u8>,
}

impl Native {
    /// Connects.
    ///
    /// # Errors
    /// What the machine says.
    pub fn connect(address: &str) -> Result<Self, String> {
        let connect = || {
            let socket = TcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(Duration::from_secs(60)))?;
            let replies = BufReader::with_capacity(256 << 10, socket.try_clone()?);
            Ok(Self { socket, replies, payload: Vec::new() })
        };
        connect().map_err(|error: io::Error| format!("{address}: {error}"))
    }
    /// Sends a request.
    ///
    /// # Errors
    /// A broken connection.
    pub fn send(&mut self, frame: &[u8]) -> Result<(), String> {
        self.socket.write_all(frame).map_err(|error| format!("the connection to tskv broke: {error}"))
    }
    /// The next reply: its request's id and its payload, whose first byte is the status.
    ///
    /// # Errors
    /// A broken connection.
    pub fn reply(&mut self) -> Result<(u64, &[u8]), String> {
        let broken = |error: io::Error| format!("the connection to tskv broke: {error}");
        let mut header = [0; HEADER_BYTES];
        self.replies.read_exact(&mut header).map_err(broken)?;
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        self.payload.resize(length as usize, 0);
        self.replies.read_exact(&mut self.payload).map_err(broken)?;
        let id = u64::from_le_bytes(header[8..].try_into().expect("eight bytes"));
        Ok((id, &self.payload))
    }
    /// Reads series from `start` up to `end`: all samples, or the average of each series and bucket of `step_ms`. Gives
    /// the bytes that came, about 16 a sample.
    ///
    /// # Errors
    /// A broken connection, or tskv's refusal.
    pub fn scan(&mut self, start: &str, end: &str, step_ms: Option<i64>) -> Result<u64, String> {
        let mut payload = Vec::new();
        put_bytes(&mut payload, start.as_bytes());
        payload.push(1);
        put_bytes(&mut payload, end.as_bytes());
        payload.extend_from_slice(&i64::MIN.to_le_bytes());
        payload.extend_from_slice(&i64::MAX.to_le_bytes());
        payload.push(step_ms.map_or(0, |_| SCAN_BUCKETS));
        if let Some(step_ms) = step_ms {
            payload.push(AVERAGE);
            payload.extend_from_slice(&step_ms.to_le_bytes());
            payload.extend_from_slice(&0_i64.to_le_bytes());
        }
        payload.extend_from_slice(&[0, CREDIT]);
        self.send(&frame(SCAN, 1, &payload))?;
        let (mut bytes, mut chunks) = (0, 0);
        loop {
            let (_, payload) = self.reply()?;
            let &[status, last, ref runs @ ..] = payload else { return Err(refusal(payload)) };
            if status != 0 {
                return Err(refusal(payload));
            }
            bytes += runs.len() as u64;
            if last == 1 {
                return Ok(bytes);
            }
            chunks += 1;
            if chunks == CREDIT / 2 {
                chunks = 0;
                self.send(&frame(SCAN_CREDIT, 1, &[CREDIT / 2]))?;
            }
        }
    }
}

/// What tskv says in a reply that failed.
#[must_use]
pub fn refusal(payload: &[u8]) -> String {
    format!("tskv refused a request: {}", String::from_utf8_lossy(payload))
}
