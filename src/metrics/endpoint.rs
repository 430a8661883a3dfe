//! The admin port: one thread that serves small answers over HTTP to anybody who asks, and to no one else's harm.
//!
//! ```text
//! accept -> read until `answer` has a reply (5 s, 8 KiB) -> write it (10 s) -> close
//! ```
//! Invariants: at most [`CONNECTIONS_MAX`] connections; one more evicts the oldest, so that idle ones cannot shut a
//! scraper out. Every connection ends by its deadline. Running out of descriptors also evicts the oldest; when there is
//! none, the newcomer is closed, for which one descriptor is held in reserve, instead of spinning. The thread sleeps in `poll(2)` when nothing happens, and
//! [`Endpoint`] wakes it to stop. What a request means is the caller's affair: this file never looks into one.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Connections open at once. Full: the oldest is closed.
pub const CONNECTIONS_MAX: usize = 128;
/// Longest request head. Longer: closed with what `answer` says of it.
pub const HEAD_BYTES_MAX: usize = 8 << 10;
/// A request head must be complete this long after its connection opened.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// A reply must be taken this long after it was ready.
const REPLY_DEADLINE: Duration = Duration::from_secs(10);
/// Connections accepted before those that are open get their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How long stopping waits for the thread, which may be in the middle of rendering a page.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// What to do with the bytes of a request that have come so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The head is not complete; read on.
    Incomplete,
    /// Send this, then close.
    Reply(Vec<u8>),
}

/// Turns the bytes of a request head into an answer. `full` says that no more will be read. Must return within a
/// second or so: it runs on the endpoint's thread.
pub type Responder = Box<dyn Fn(&[u8], bool) -> Answer + Send>;

/// A running endpoint; stops when dropped.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    wake: UnixStream,
    stopped: Receiver<()>,
}

impl Endpoint {
    /// Binds `address` and starts the thread.
    ///
    /// # Errors
    /// What `bind(2)` says, with the address; or that no thread could be started.
    pub fn start(address: SocketAddr, answer: Responder) -> io::Result<Self> {
        let listener = TcpListener::bind(address)
            .map_err(|error| io::Error::new(error.kind(), format!("admin port {address}: {error}")))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (wake, woken) = UnixStream::pair()?;
        let (finished, stopped) = sync_channel(1);
        let server = Server {
            listener,
            woken,
            reserve: File::open("/dev/null").ok(),
            connections: VecDeque::new(),
            answer,
        };
        std::thread::Builder::new().name("tskv-admin".to_owned()).spawn(move || server.run(&finished))?;
        Ok(Self { address, wake, stopped })
    }

    /// Where it listens, with the port that the kernel chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Endpoint {
    /// Stops the thread; waits for it for a second at most.
    fn drop(&mut self) {
        let _ = self.wake.write_all(b"x");
        let _ = self.stopped.recv_timeout(STOP_PATIENCE);
    }
}

struct Server {
    listener: TcpListener,
    woken: UnixStream,
    /// Given up for a moment when descriptors run out, so that a connection can be accepted and closed.
    reserve: Option<File>,
    /// Oldest first.
    connections: VecDeque<Connection>,
    answer: Responder,
}

struct Connection {
    socket: TcpStream,
    head: Vec<u8>,
    reply: Vec<u8>,
    sent: usize,
    deadline: Instant,
}

impl Server {
    fn run(mut self, finished: &SyncSender<()>) {
        loop {
            match self.wait() {
                Ok(Ready { stop: true, .. }) => break,
                Ok(ready) => self.turn(&ready),
                Err(error) => {
                    log::error!("the admin port stopped: {error}");
                    break;
                }
            }
        }
        drop(self);
        let _ = finished.send(());
    }

    /// Sleeps until something can be done, or until the next deadline.
    fn wait(&self) -> io::Result<Ready> {
        let mut fds =
            vec![PollFd::new(&self.woken, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
        fds.extend(self.connections.iter().map(|connection| {
            let wanted = if connection.reply.is_empty() { PollFlags::IN } else { PollFlags::OUT };
            PollFd::new(&connection.socket, wanted)
        }));
        let deadline = self.connections.iter().map(|connection| connection.deadline).min();
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(now()) + Duration::from_millis(1);
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut flagged = fds.iter().map(|fd| !fd.revents().is_empty());
        let (stop, accept) = (flagged.next().unwrap_or(true), flagged.next().unwrap_or(false));
        Ok(Ready { stop, accept, connections: flagged.collect() })
    }

    fn turn(&mut self, ready: &Ready) {
        let mut flagged = ready.connections.iter();
        let (answer, moment) = (&self.answer, now());
        self.connections.retain_mut(|connection| {
            let is_ready = flagged.next().copied().unwrap_or(false);
            connection.deadline > moment && (!is_ready || connection.advance(answer))
        });
        if ready.accept {
            self.accept();
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    if socket.set_nonblocking(true).is_err() {
                        continue;
                    }
                    if self.connections.len() == CONNECTIONS_MAX {
                        self.connections.pop_front();
                    }
                    let deadline = now() + HEAD_DEADLINE;
                    let (head, reply) = (Vec::new(), Vec::new());
                    self.connections.push_back(Connection { socket, head, reply, sent: 0, deadline });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The newcomer is more likely to want something than the one that has waited longest.
                Err(error) if is_out_of_descriptors(&error) && self.connections.pop_front().is_some() => {}
                Err(error) if is_out_of_descriptors(&error) => {
                    self.refuse_one();
                    return;
                }
                // The client gave up between its connect and our accept, or a signal came.
                Err(_) => {}
            }
        }
    }

    /// Accepts and closes one connection at the cost of the reserve: otherwise `poll` would report the listener for
    /// ever. Only called when there is no connection of our own to give up.
    fn refuse_one(&mut self) {
        drop(self.reserve.take());
        drop(self.listener.accept());
        self.reserve = File::open("/dev/null").ok();
        if self.reserve.is_none() {
            // Someone took the descriptor in between; without a pause this would spin until one is free.
            let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 50_000_000 }));
        }
    }
}

/// What `poll` found.
struct Ready {
    stop: bool,
    accept: bool,
    connections: Vec<bool>,
}

impl Connection {
    /// Does what can be done now; whether the connection goes on.
    fn advance(&mut self, answer: &Responder) -> bool {
        if self.reply.is_empty() && !self.read(answer) {
            return false;
        }
        self.reply.is_empty() || self.write()
    }

    fn read(&mut self, answer: &Responder) -> bool {
        let mut buf = [0; HEAD_BYTES_MAX];
        let room = HEAD_BYTES_MAX - self.head.len();
        match self.socket.read(&mut buf[..room]) {
            Ok(0) => return false,
            Ok(count) => self.head.extend_from_slice(&buf[..count]),
            Err(error) => return is_transient(&error),
        }
        let full = self.head.len() == HEAD_BYTES_MAX;
        match answer(&self.head, full) {
            Answer::Incomplete => !full,
            Answer::Reply(reply) => {
                self.reply = reply;
                self.deadline = now() + REPLY_DEADLINE;
                !self.reply.is_empty()
            }
        }
    }

    fn write(&mut self) -> bool {
        while self.sent < self.reply.len() {
            match self.socket.write(&self.reply[self.sent..]) {
                Ok(0) => return false,
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        self.finish();
        false
    }

    /// Closes so that the reply arrives: unread bytes would turn the close into a reset that may destroy it.
    fn finish(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
        let mut rest = [0; HEAD_BYTES_MAX];
        for _ in 0..8 {
            if !matches!(self.socket.read(&mut rest), Ok(1..)) {
                return;
            }
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let full = [
        rustix::io::Errno::MFILE,
        rustix::io::Errno::NFILE,
        rustix::io::Errno::NOBUFS,
        rustix::io::Errno::NOMEM,
    ];
    full.into_iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[expect(clippy::disallowed_methods, reason = "the endpoint has a thread of its own and no core's clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers a head that ends in an empty line with how long it was.
    fn echo_length() -> Responder {
        Box::new(|head, full| match head.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(end) => Answer::Reply(format!("{} bytes", end + 4).into_bytes()),
            None if full => Answer::Reply(b"too long".to_vec()),
            None => Answer::Incomplete,
        })
    }
    fn start(answer: Responder) -> Endpoint {
        Endpoint::start(SocketAddr::from(([127, 0, 0, 1], 0)), answer).unwrap()
    }
    fn ask(endpoint: &Endpoint, request: &[u8]) -> String {
        let mut socket = TcpStream::connect(endpoint.address()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        socket.write_all(request).unwrap();
        let mut reply = String::new();
        socket.read_to_string(&mut reply).unwrap();
        reply
    }

    #[test]
    fn request_is_answered_and_closed() {
        // A scraper that waits for more than the answer times out.
        let endpoint = start(echo_length());
        assert_eq!(ask(&endpoint, b"GET /metrics HTTP/1.1\r\n\r\n"), "25 bytes");
        let mut slow = TcpStream::connect(endpoint.address()).unwrap();
        for byte in b"GET / HTTP/1.1\r\n\r\nGET /again HTTP/1.1\r\n\r\n" {
            // The reply may close the connection before the second request is out.
            let _ = slow.write_all(&[*byte]);
        }
        let mut reply = Vec::new();
        let _ = slow.read_to_end(&mut reply);
        assert_eq!(reply, b"18 bytes");
    }

    #[test]
    fn overlong_head_is_answered_before_it_is_whole() {
        // A head without an end would grow until the memory is full.
        let endpoint = start(echo_length());
        assert_eq!(ask(&endpoint, &[b'a'; HEAD_BYTES_MAX]), "too long");
    }

    #[test]
    fn idle_connections_do_not_shut_a_scraper_out() {
        // A thousand idle connections must cost nothing but themselves.
        let endpoint = start(echo_length());
        let idle: Vec<_> =
            (0..3 * CONNECTIONS_MAX).map(|_| TcpStream::connect(endpoint.address()).unwrap()).collect();
        assert_eq!(ask(&endpoint, b"GET / HTTP/1.1\r\n\r\n"), "18 bytes");
        drop(idle);
    }

    #[test]
    fn large_reply_reaches_a_slow_reader() {
        // A metrics page larger than the socket's buffer must arrive whole.
        let endpoint = start(Box::new(|_, _| Answer::Reply(vec![b'x'; 8 << 20])));
        assert_eq!(ask(&endpoint, b"x").len(), 8 << 20);
    }

    #[test]
    fn stopping_does_not_wait_for_clients() {
        // A scraper that hangs would keep the daemon from shutting down.
        let endpoint = start(echo_length());
        let address = endpoint.address();
        let _hanging = TcpStream::connect(address).unwrap();
        let start = now();
        drop(endpoint);
        assert!(start.elapsed() < Duration::from_millis(900));
        assert!(TcpStream::connect(address).is_err(), "the port is free again");
    }

    #[test]
    fn taken_port_is_an_error_that_names_it() {
        // "Address already in use" without an address helps nobody.
        let endpoint = start(echo_length());
        let error = Endpoint::start(endpoint.address(), echo_length()).unwrap_err();
        assert!(error.to_string().contains(&endpoint.address().to_string()), "{error}");
    }
}
