//! A server that does nothing: it reads requests and acknowledges them, over RESP or the native protocol, one thread on
//! a loop-back port. What the generator reaches against it is the generator's own ceiling.

use crate::io::{
    AnyBackend, Backend, BackendKind, BackendOptions, Completion, ListenerId, Op, OpBuf, Outcome, SocketId,
    Token, Wait, Waker, open_backend, sys,
};
use crate::model::TimeUnit;
use crate::protocol::binary::{
    FrameHeader, FrameLimits, Framed, Hello, MAGIC, Opcode, Response, decode_frame, encode_response,
};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

const RECEIVE_BYTES: usize = 64 << 10;
const ACCEPT: Token = Token(u64::MAX);

/// A running sink; dropping it ends it.
pub struct NullSink {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl NullSink {
    /// Listens on a loop-back port of the machine's choice, on a thread that runs on `cpu` where one is given.
    ///
    /// # Errors
    /// Out of ports, threads or memory.
    pub fn start(backend: BackendKind, cpu: Option<usize>) -> io::Result<Self> {
        let mut bound = sys::bind_listeners(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1)?;
        let (listener, address) = bound.pop().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, started) = sync_channel(1);
        let stopped = Arc::clone(&stop);
        let thread = sys::spawn_thread("tskv-null-sink", move || {
            if let Some(Err(errno)) = cpu.map(sys::pin_to_cpu) {
                log::debug!("the null sink is not pinned: {errno}");
            }
            match open_backend(backend, &BackendOptions::default()) {
                Ok((backend, _)) => {
                    let sink = Sink::new(backend, listener);
                    // Whoever started it waits for this, so somebody hears it.
                    let _ = ready.send(Ok(sink.backend.waker()));
                    sink.run(&stopped);
                }
                Err(error) => {
                    let _ = ready.send(Err(error.to_string()));
                }
            }
            sys::close_listener(listener);
        })?;
        let waker = started.recv().map_err(io::Error::other)?.map_err(io::Error::other)?;
        Ok(Self { address, stop, waker, thread: Some(thread) })
    }
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for NullSink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the null sink's thread panicked");
        }
    }
}

/// One connection of the sink.
#[derive(Default)]
struct Peer {
    out: Vec<u8>,
    spare: Vec<u8>,
    is_sending: bool,
}

struct Sink {
    backend: AnyBackend,
    peers: BTreeMap<i32, Peer>,
}

impl Sink {
    fn new(mut backend: AnyBackend, listener: ListenerId) -> Self {
        backend.submit(ACCEPT, Op::Accept { listener });
        Self { backend, peers: BTreeMap::new() }
    }

    fn run(mut self, stop: &AtomicBool) {
        let mut completions = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            if self.backend.poll(Wait::Until(u64::MAX), &mut completions).is_err() {
                return;
            }
            for completion in completions.drain(..) {
                self.completed(completion);
            }
        }
        for fd in self.peers.keys() {
            self.backend.submit(token(*fd, false), Op::Close { socket: SocketId(*fd) });
        }
        self.backend.cancel(ACCEPT);
        while self.backend.in_flight() > 0 {
            if self.backend.poll(Wait::Until(u64::MAX), &mut completions).is_err() {
                return;
            }
        }
    }

    fn completed(&mut self, completion: Completion) {
        if let (ACCEPT, Ok(Outcome::Accepted { socket, .. })) = (completion.token, &completion.result) {
            self.peers.insert(socket.0, Peer::default());
            return self.receive(socket.0, Vec::with_capacity(RECEIVE_BYTES));
        }
        let Ok(fd) = i32::try_from(completion.token.0 / 2) else { return };
        let is_send = completion.token.0 % 2 == 1;
        let OpBuf::Bytes(buf) = completion.buf else { return };
        match completion.result {
            Ok(Outcome::Transferred(count)) if is_send => self.sent(fd, buf, count),
            Ok(Outcome::Transferred(count)) if count > 0 => self.received(fd, buf),
            // The peer has gone; its last send may still complete.
            _ => {
                if self.peers.remove(&fd).is_some() {
                    self.backend.submit(Token(u64::MAX - 1), Op::Close { socket: SocketId(fd) });
                }
            }
        }
    }

    fn receive(&mut self, fd: i32, buf: Vec<u8>) {
        self.backend.submit(token(fd, false), Op::Receive { socket: SocketId(fd), buf });
    }

    fn received(&mut self, fd: i32, mut buf: Vec<u8>) {
        let Some(peer) = self.peers.get_mut(&fd) else { return };
        let consumed = answer(&buf, &mut peer.out);
        if consumed == buf.len() {
            buf.clear();
        } else {
            buf.drain(..consumed);
            buf.reserve(RECEIVE_BYTES);
        }
        if !peer.out.is_empty() && !peer.is_sending {
            peer.is_sending = true;
            let out = std::mem::replace(&mut peer.out, std::mem::take(&mut peer.spare));
            self.backend.submit(token(fd, true), Op::Send { socket: SocketId(fd), buf: out, from: 0 });
        }
        self.receive(fd, buf);
    }

    fn sent(&mut self, fd: i32, mut buf: Vec<u8>, count: usize) {
        let Some(peer) = self.peers.get_mut(&fd) else { return };
        buf.drain(..count);
        if buf.is_empty() {
            std::mem::swap(&mut buf, &mut peer.out);
            peer.spare = std::mem::take(&mut peer.out);
        }
        if buf.is_empty() {
            peer.is_sending = false;
            return;
        }
        self.backend.submit(token(fd, true), Op::Send { socket: SocketId(fd), buf, from: 0 });
    }
}

fn token(fd: i32, is_send: bool) -> Token {
    Token(2 * u64::from(fd.unsigned_abs()) + u64::from(is_send))
}

/// Answers the whole requests of `bytes`; gives how many bytes they are.
fn answer(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let consumed = if rest[0] == MAGIC { answer_frame(rest, out) } else { answer_command(rest, out) };
        let Some(consumed) = consumed else { break };
        at += consumed;
    }
    at
}

fn answer_frame(rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let framed = decode_frame(rest, &FrameLimits::authenticated()).ok()?;
    let Framed::Frame { header, consumed, .. } = framed else { return None };
    let header = FrameHeader { has_checksum: false, ..header };
    match Opcode::from_byte(header.opcode) {
        Some(Opcode::Hello) => {
            let hello = Hello {
                server: "null-sink",
                unit: TimeUnit::default(),
                needs_auth: false,
                value_bytes_max: u32::MAX,
                batch_entries_max: u32::MAX,
            };
            encode_response(out, &header, &Response::Hello(hello));
        }
        Some(Opcode::GetAt | Opcode::GetNewest) => encode_response(out, &header, &Response::Sample(None)),
        Some(Opcode::Scan) => {
            encode_response(out, &header, &Response::ScanChunk { entries: Vec::new(), last: true });
        }
        Some(Opcode::Stats) => encode_response(out, &header, &Response::Stats(Vec::new())),
        Some(Opcode::ScanCredit | Opcode::ScanCancel) => {}
        _ => encode_response(out, &header, &Response::Done),
    }
    Some(consumed)
}

/// One array of bulk strings; reads are absent, everything else is fine.
fn answer_command(rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let (words, mut at) = header(rest, 0, b'*')?;
    let mut is_get = false;
    for word in 0..words {
        let (bytes, start) = header(rest, at, b'$')?;
        if word == 0 {
            is_get = rest.get(start..start + bytes) == Some(b"GET");
        }
        at = start.checked_add(bytes)?.checked_add(2)?;
        if at > rest.len() {
            return None;
        }
    }
    out.extend_from_slice(if is_get { b"$-1\r\n" } else { b"+OK\r\n" });
    Some(at)
}

/// The number behind `kind` at `at`, and where the line after it starts; none where there is more to come.
fn header(rest: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    if *rest.get(at)? != kind {
        return None;
    }
    let mut number = 0_usize;
    let mut position = at + 1;
    loop {
        match *rest.get(position)? {
            digit @ b'0'..=b'9' => number = number.checked_mul(10)?.checked_add(usize::from(digit - b'0'))?,
            b'\r' => break,
            _ => return None,
        }
        position += 1;
    }
    rest.get(position + 1).map(|_| (number, position + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_requests_are_answered_one_by_one() {
        // A sink that miscounts reports a ceiling that does not exist.
        let bytes =
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\r\n\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPI";
        let mut out = Vec::new();
        assert_eq!(answer(bytes, &mut out), bytes.len() - 10);
        assert_eq!(out, b"+OK\r\n$-1\r\n");
        for end in 0..bytes.len() {
            let mut out = Vec::new();
            let consumed = answer(&bytes[..end], &mut out);
            assert!(consumed <= end && out.len() / 5 <= 2);
        }
    }
}
