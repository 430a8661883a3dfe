//! The walls: what the machine allows a server of this kind, measured by programs that do nothing else.
//!
//! ```text
//! wall device FILE SECONDS                           durable 4 KiB writes, one after the other: writes/s and p50
//! wall serve PORT REQUEST_BYTES [FILE]               answers +OK for every REQUEST_BYTES received, unparsed; with FILE
//!                                                    after a durable write of 4 KiB for all that came meanwhile
//! ```
//! Both write with O_DIRECT and RWF_DSYNC over io_uring into a file that was written before. The server is one thread:
//! receives of all connections are submitted and reaped in one system call, and each connection gets one send a turn.

use io_uring::{IoUring, opcode, types};
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;
use std::time::Instant;

const PAGE: usize = 4096;
/// The file is written round and round.
const FILE_BYTES: u64 = 64 << 20;
const RECEIVE_BYTES: usize = 64 << 10;
const CONNECTIONS_MAX: usize = 1024;
const ENTRIES: u32 = 4096;
const KIND_SHIFT: u32 = 32;
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const DURABLE: u64 = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().map_err(|_| format!("'{text}' is no number"));
    let outcome = match arguments[..] {
        ["device", file, seconds] => number(seconds).and_then(|seconds| device(file, seconds as f64)),
        ["serve", port, bytes] => number(port).and_then(|port| serve(port, number(bytes)?, None)),
        ["serve", port, bytes, file] => number(port).and_then(|port| serve(port, number(bytes)?, Some(file))),
        _ => Err("usage: wall device FILE SECONDS | wall serve PORT REQUEST_BYTES [FILE]".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wall: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A page at an address that O_DIRECT takes.
#[repr(align(4096))]
struct Page([u8; PAGE]);

/// A file whose blocks have all been written, and where the next page goes.
struct Durable {
    file: File,
    page: Box<Page>,
    offset: u64,
}

impl Durable {
    fn make(path: &str) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{path}: {error}");
        let mut plain = File::create(path).map_err(failed)?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..FILE_BYTES >> 20 {
            plain.write_all(&zeros).map_err(failed)?;
        }
        plain.sync_all().map_err(failed)?;
        let file = File::options().write(true).custom_flags(libc::O_DIRECT).open(path).map_err(failed)?;
        Ok(Self { file, page: Box::new(Page([7; PAGE])), offset: 0 })
    }
    /// The next write; the page outlives it because the caller reaps before it drops `self`.
    fn entry(&mut self) -> io_uring::squeue::Entry {
        let offset = self.offset;
        self.offset = (offset + PAGE as u64) % FILE_BYTES;
        opcode::Write::new(types::Fd(self.file.as_raw_fd()), self.page.0.as_ptr(), PAGE as u32)
            .offset(offset)
            .rw_flags(libc::RWF_DSYNC)
            .build()
            .user_data(DURABLE << KIND_SHIFT)
    }
}

fn ring() -> Result<IoUring, String> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(ENTRIES)
        .map_err(|error| format!("io_uring: {error}"))
}

fn push(ring: &mut IoUring, entry: &io_uring::squeue::Entry) -> Result<(), String> {
    loop {
        // SAFETY: the buffers of all entries live in structures that outlive the ring's loop, and each is used by one
        // operation at a time.
        if unsafe { ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        ring.submit().map_err(|error| error.to_string())?;
    }
}

fn device(path: &str, seconds: f64) -> Result<(), String> {
    let (mut ring, mut durable) = (ring()?, Durable::make(path)?);
    let (began, mut micros) = (Instant::now(), Vec::new());
    while began.elapsed().as_secs_f64() < seconds {
        let each = Instant::now();
        let entry = durable.entry();
        push(&mut ring, &entry)?;
        ring.submit_and_wait(1).map_err(|error| error.to_string())?;
        let result = ring.completion().next().map_or(-libc::EIO, |completion| completion.result());
        if result != PAGE as i32 {
            return Err(format!("{path}: a write gave {result}"));
        }
        micros.push(each.elapsed().as_secs_f64() * 1e6);
    }
    micros.sort_by(f64::total_cmp);
    let (rate, p50) = (micros.len() as f64 / began.elapsed().as_secs_f64(), micros[micros.len() / 2]);
    println!(r#"{{"writes_per_s":{rate:.0},"p50_us":{p50:.1}}}"#);
    Ok(())
}

struct Connection {
    socket: TcpStream,
    input: Box<[u8]>,
    /// Bytes of a request that has begun.
    begun: usize,
    /// Replies that wait for the durable write under way, or for the next.
    held: usize,
    /// Replies that may leave.
    free: usize,
    output: Vec<u8>,
    sent: usize,
    sending: bool,
}

struct Server {
    ring: IoUring,
    durable: Option<Durable>,
    writing: bool,
    connections: Vec<Option<Connection>>,
    /// Connections with replies that the write under way covers.
    covered: Vec<(usize, usize)>,
    /// Those that came after it was submitted.
    uncovered: Vec<usize>,
    to_send: VecDeque<usize>,
    request_bytes: usize,
}

fn serve(port: usize, request_bytes: usize, file: Option<&str>) -> Result<(), String> {
    let port = u16::try_from(port).map_err(|error| error.to_string())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|error| format!("port {port}: {error}"))?;
    let durable = file.map(Durable::make).transpose()?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("ready {address}");
    let mut server = Server {
        ring: ring()?,
        durable,
        writing: false,
        connections: Vec::new(),
        covered: Vec::new(),
        uncovered: Vec::new(),
        to_send: VecDeque::new(),
        request_bytes: request_bytes.max(1),
    };
    let accept = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).build().user_data(ACCEPT);
    push(&mut server.ring, &accept)?;
    let mut reaped = Vec::new();
    loop {
        server.ring.submit_and_wait(1).map_err(|error| error.to_string())?;
        reaped.extend(server.ring.completion().map(|entry| (entry.user_data(), entry.result())));
        for (token, result) in reaped.drain(..) {
            server.completed(token, result)?;
        }
        server.write_log()?;
        server.send()?;
    }
}

impl Server {
    fn completed(&mut self, token: u64, result: i32) -> Result<(), String> {
        let index = (token & u64::from(u32::MAX)) as usize;
        match token >> KIND_SHIFT {
            ACCEPT => self.accepted(result),
            RECEIVE => self.received(index, result),
            SEND => {
                self.sent(index, result);
                Ok(())
            }
            _ if result != PAGE as i32 => Err(format!("a durable write gave {result}")),
            _ => {
                self.writing = false;
                for (index, replies) in std::mem::take(&mut self.covered) {
                    if let Some(connection) = &mut self.connections[index] {
                        connection.free += replies;
                        self.to_send.push_back(index);
                    }
                }
                Ok(())
            }
        }
    }

    fn accepted(&mut self, result: i32) -> Result<(), String> {
        if result < 0 || self.connections.len() >= CONNECTIONS_MAX {
            return Err(format!("accept gave {result}, with {} connections", self.connections.len()));
        }
        // SAFETY: the kernel has just given this descriptor to this program, and nobody else has it.
        let socket = unsafe { <TcpStream as std::os::fd::FromRawFd>::from_raw_fd(result) };
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        self.connections.push(Some(Connection {
            socket,
            input: vec![0; RECEIVE_BYTES].into(),
            begun: 0,
            held: 0,
            free: 0,
            output: Vec::new(),
            sent: 0,
            sending: false,
        }));
        self.receive(self.connections.len() - 1)
    }

    fn receive(&mut self, index: usize) -> Result<(), String> {
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        let fd = types::Fd(connection.socket.as_raw_fd());
        let entry = opcode::Recv::new(fd, connection.input.as_mut_ptr(), RECEIVE_BYTES as u32).build();
        push(&mut self.ring, &entry.user_data(RECEIVE << KIND_SHIFT | index as u64))
    }

    fn received(&mut self, index: usize, result: i32) -> Result<(), String> {
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        if result <= 0 {
            // A send may be under way, whose buffer must stay.
            if !connection.sending {
                self.connections[index] = None;
            }
            return Ok(());
        }
        let is_other =
            matches!(connection.input[..6], [b'*', b'1' | b'2', ..] | [b'*', b'3', _, _, b'$', b'6']);
        if connection.begun == 0 && is_other {
            return self.introduced(index);
        }
        let bytes = connection.begun + usize::try_from(result).map_err(|error| error.to_string())?;
        connection.begun = bytes % self.request_bytes;
        let replies = bytes / self.request_bytes;
        if self.durable.is_some() {
            if connection.held == 0 && replies > 0 {
                self.uncovered.push(index);
            }
            connection.held += replies;
        } else {
            connection.free += replies;
            self.to_send.push_back(index);
        }
        self.receive(index)
    }

    /// Answers what `tskv bench` asks of a server before it measures: PING, INFO, CONFIG GET; one in each receive.
    fn introduced(&mut self, index: usize) -> Result<(), String> {
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        let asks_for = |word: &[u8]| connection.input.windows(word.len()).take(64).any(|found| found == word);
        let reply: &[u8] = if asks_for(b"PING") {
            b"+PONG\r\n"
        } else if asks_for(b"INFO") {
            b"$0\r\n\r\n"
        } else {
            b"*0\r\n"
        };
        connection.socket.write_all(reply).map_err(|error| error.to_string())?;
        // What comes next is looked at without what came before.
        connection.input[..64].fill(0);
        self.receive(index)
    }

    /// One durable write covers all requests that came before it; the next is submitted when it is done.
    fn write_log(&mut self) -> Result<(), String> {
        let Some(durable) = &mut self.durable else { return Ok(()) };
        if self.writing || self.uncovered.is_empty() {
            return Ok(());
        }
        for index in self.uncovered.drain(..) {
            if let Some(connection) = &mut self.connections[index] {
                self.covered.push((index, std::mem::take(&mut connection.held)));
            }
        }
        let entry = durable.entry();
        self.writing = true;
        push(&mut self.ring, &entry)
    }

    fn send(&mut self) -> Result<(), String> {
        while let Some(index) = self.to_send.pop_front() {
            let Some(connection) = &mut self.connections[index] else { continue };
            if connection.sending || connection.free == 0 {
                continue;
            }
            connection.output.clear();
            for _ in 0..std::mem::take(&mut connection.free) {
                connection.output.extend_from_slice(b"+OK\r\n");
            }
            connection.sent = 0;
            self.submit_send(index)?;
        }
        Ok(())
    }

    fn submit_send(&mut self, index: usize) -> Result<(), String> {
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        connection.sending = true;
        let left = &connection.output[connection.sent..];
        let fd = types::Fd(connection.socket.as_raw_fd());
        let entry = opcode::Send::new(fd, left.as_ptr(), left.len() as u32).build();
        push(&mut self.ring, &entry.user_data(SEND << KIND_SHIFT | index as u64))
    }

    fn sent(&mut self, index: usize, result: i32) {
        let Some(connection) = &mut self.connections[index] else { return };
        connection.sending = false;
        let Ok(count) = usize::try_from(result) else { return };
        connection.sent += count;
        if connection.sent < connection.output.len() {
            // A full socket: the rest goes when the loop comes round.
            let _ = self.submit_send(index);
        } else {
            self.to_send.push_back(index);
        }
    }
}
