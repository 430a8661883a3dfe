//! Simulated connections: two byte queues of bounded length between a client of the harness and a core's socket.
//!
//! The client acts at once; its bytes, its room and its end reach the server side a little later, as an event. Socket
//! numbers are reused lowest first, as the kernel does with descriptors, so that a stale number hits somebody else.

use super::state::{Event, OpKey, State};
use super::world::Shared;
use crate::io::{Completion, Errno, ListenerId, Op, OpBuf, Outcome, SocketId};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard};

/// Typical one-way time, in virtual nanoseconds.
const TRANSIT_NS: u64 = 30_000;
/// By which a transfer may ask to be submitted again.
const TRANSIENT: [Errno; 2] = [Errno::EINTR, Errno::EAGAIN];
/// A short transfer moves at most this much.
const SHORT_BYTES: usize = 64;
/// First socket and listener number: far from those of the process.
const SOCKET_FIRST: i32 = 100;
const LISTENER_FIRST: i32 = 50;

/// A connection of the world; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnectionNumber(pub(super) u64);

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    ToServer,
    ToClient,
}

/// A listening socket.
#[derive(Debug, Default)]
pub(super) struct Listener {
    backlog: VecDeque<ConnectionNumber>,
    accepts: Vec<OpKey>,
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// The server's operations on it, in order.
    waiting: VecDeque<OpKey>,
    /// Whether an event for the server is on its way.
    announced: bool,
}

/// Both ends of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    port: u16,
    to_server: Pipe,
    to_client: Pipe,
    accepted: bool,
    /// The client will send nothing more.
    client_ended: bool,
    client_gone: bool,
    server_gone: bool,
    /// Torn down by force: bytes under way are lost.
    reset: bool,
}

impl Connection {
    fn pipe_mut(&mut self, direction: Direction) -> &mut Pipe {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }
    fn end_server(&mut self) {
        self.server_gone = true;
        self.to_server.bytes.clear();
    }
}

impl State {
    pub(super) fn listen(&mut self) -> ListenerId {
        let number = self.listeners.keys().next_back().map_or(LISTENER_FIRST, |last| last + 1);
        self.listeners.insert(number, Listener::default());
        ListenerId(number)
    }
    /// Ends a listener: what waits in its backlog is turned away.
    pub(super) fn close_listener(&mut self, listener: ListenerId) {
        let Some(closed) = self.listeners.remove(&listener.0) else { return };
        for number in closed.backlog {
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.end_server();
            }
            self.forget_connection(number);
        }
        for key in closed.accepts {
            if let Some(pending) = self.pending.remove(&key) {
                self.finish(key, pending.op, Err(Errno::EBADF));
            }
        }
    }
    pub(super) fn connect(&mut self, listener: ListenerId) -> ConnectionNumber {
        let number = self.new_connection();
        let found = self.listeners.get_mut(&listener.0).expect("clients connect to a listener of this life");
        found.backlog.push_back(number);
        self.schedule(TRANSIT_NS, Event::Arrival { listener: listener.0 });
        number
    }
    fn new_connection(&mut self) -> ConnectionNumber {
        let number = ConnectionNumber(self.connection_next);
        self.connection_next += 1;
        let port = 1024 + u16::try_from(number.0 % 60_000).expect("the remainder fits a port");
        let connection = Connection {
            port,
            to_server: Pipe::default(),
            to_client: Pipe::default(),
            accepted: false,
            client_ended: false,
            client_gone: false,
            server_gone: false,
            reset: false,
        };
        self.connections.insert(number, connection);
        number
    }
    /// A connection that some backend has accepted already.
    pub(super) fn connect_accepted(&mut self) -> (SocketId, ConnectionNumber) {
        let number = self.new_connection();
        (self.open_socket(number), number)
    }
    /// Gives a connection the lowest free socket number.
    fn open_socket(&mut self, number: ConnectionNumber) -> SocketId {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.accepted = true;
        }
        let free = (SOCKET_FIRST..).find(|socket| !self.sockets.contains_key(socket));
        let socket = free.expect("fewer sockets than numbers");
        self.sockets.insert(socket, number);
        SocketId(socket)
    }
    /// Queues an operation that waits for a peer. False where there is no such socket or listener, and for others.
    pub(super) fn register_socket_op(&mut self, key: OpKey, op: &Op) -> bool {
        let (socket, direction) = match op {
            Op::Accept { listener } => {
                let Some(found) = self.listeners.get_mut(&listener.0) else { return false };
                found.accepts.push(key);
                if !found.backlog.is_empty() {
                    self.schedule(TRANSIT_NS, Event::Arrival { listener: listener.0 });
                }
                return true;
            }
            Op::Receive { socket, .. } => (socket, Direction::ToServer),
            Op::Send { socket, .. } => (socket, Direction::ToClient),
            Op::Close { .. } | Op::Read { .. } | Op::Write { .. } | Op::Sync { .. } => return false,
        };
        let Some(number) = self.sockets.get(&socket.0).copied() else { return false };
        let Some(connection) = self.connections.get_mut(&number) else { return false };
        connection.pipe_mut(direction).waiting.push_back(key);
        self.announce(number, direction);
        true
    }
    /// Takes an operation out of the queues.
    pub(super) fn unregister_socket_op(&mut self, key: OpKey, op: &Op) {
        let (socket, direction) = match op {
            Op::Accept { listener } => {
                if let Some(found) = self.listeners.get_mut(&listener.0) {
                    found.accepts.retain(|waiting| *waiting != key);
                }
                return;
            }
            Op::Receive { socket, .. } => (socket, Direction::ToServer),
            Op::Send { socket, .. } => (socket, Direction::ToClient),
            Op::Close { .. } | Op::Read { .. } | Op::Write { .. } | Op::Sync { .. } => return,
        };
        let number = self.sockets.get(&socket.0).copied();
        if let Some(connection) = number.and_then(|number| self.connections.get_mut(&number)) {
            connection.pipe_mut(direction).waiting.retain(|waiting| *waiting != key);
        }
    }
    /// Tells the server side a little later that one direction may have moved.
    fn announce(&mut self, number: ConnectionNumber, direction: Direction) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let pipe = connection.pipe_mut(direction);
        if !pipe.announced && !pipe.waiting.is_empty() {
            pipe.announced = true;
            self.schedule(TRANSIT_NS, Event::Ready { connection: number, direction });
        }
    }
    /// Gives waiting connections to waiting accepts.
    pub(super) fn accept_arrivals(&mut self, listener: i32) {
        loop {
            let Some(found) = self.listeners.get_mut(&listener) else { return };
            let Some(number) = found.backlog.front().copied() else { return };
            if found.accepts.is_empty() {
                return;
            }
            let nth = self.rng.index(found.accepts.len());
            if self.sockets.len() >= self.options.sockets_max {
                let key = found.accepts.remove(nth);
                if let Some(pending) = self.pending.remove(&key) {
                    self.finish(key, pending.op, Err(Errno::EMFILE));
                }
                return;
            }
            found.backlog.pop_front();
            let key = found.accepts[nth];
            let Some(port) = self.connections.get(&number).map(|connection| connection.port) else {
                continue;
            };
            let peer = Some(SocketAddr::from(([127, 0, 0, 1], port)));
            let socket = self.open_socket(number);
            let result = Ok(Outcome::Accepted { socket, peer });
            self.deliver(key, Completion { token: key.1, result, buf: OpBuf::None, more: true });
        }
    }
    /// Serves the first operation that waits for this direction, if it can go on.
    pub(super) fn socket_ready(&mut self, number: ConnectionNumber, direction: Direction) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let room = self.options.socket_bytes;
        let can_move = connection.can_move(direction, room);
        let pipe = connection.pipe_mut(direction);
        pipe.announced = false;
        let Some(key) = pipe.waiting.front().copied().filter(|_| can_move) else { return };
        pipe.waiting.pop_front();
        let Some(mut pending) = self.pending.remove(&key) else { return };
        let short = self.faults.draw_short(&mut self.rng);
        let limit = if short { 1 + self.rng.index(SHORT_BYTES) } else { usize::MAX };
        let result = match (self.faults.draw_interruption(&mut self.rng, &TRANSIENT), &mut pending.op) {
            (Some(errno), _) => Err(errno),
            (None, Op::Receive { buf, .. }) => connection.receive(buf, limit),
            (None, Op::Send { buf, from, .. }) => {
                connection.send(buf.get(*from..).unwrap_or(&[]), room, limit)
            }
            (None, _) => Err(Errno::EBADF),
        };
        self.finish(key, pending.op, result.map(Outcome::Transferred));
        self.announce(number, direction);
    }
    /// Ends both directions of a socket: what waits on it is cancelled first. What was sent still arrives.
    ///
    /// # Errors
    /// `EBADF` where there is no such socket.
    pub(super) fn close_socket(&mut self, socket: SocketId) -> Result<(), Errno> {
        let number = self.sockets.remove(&socket.0).ok_or(Errno::EBADF)?;
        let connection = self.connections.get_mut(&number).ok_or(Errno::EBADF)?;
        connection.end_server();
        let mut waiting = std::mem::take(&mut connection.to_server.waiting);
        waiting.append(&mut connection.to_client.waiting);
        for key in waiting {
            if let Some(pending) = self.pending.remove(&key) {
                self.finish(key, pending.op, Err(Errno::ECANCELED));
            }
        }
        self.forget_connection(number);
        Ok(())
    }
    /// The server's machine is gone; with `lossy` so are bytes on their way to the clients.
    pub(super) fn disconnect_all(&mut self, lossy: bool) {
        for connection in self.connections.values_mut() {
            connection.end_server();
            connection.to_server.waiting.clear();
            connection.to_client.waiting.clear();
            if lossy {
                connection.reset = true;
                let kept = self.rng.index(connection.to_client.bytes.len() + 1);
                connection.to_client.bytes.truncate(kept);
            }
        }
        self.connections.retain(|_, connection| !connection.client_gone);
    }
    fn forget_connection(&mut self, number: ConnectionNumber) {
        let both_gone = |connection: &Connection| connection.client_gone && connection.server_gone;
        if self.connections.get(&number).is_some_and(both_gone) {
            self.connections.remove(&number);
        }
    }
    /// The client's end, in full (`gone`) or of its sending direction.
    fn end_client(&mut self, number: ConnectionNumber, gone: bool, reset: bool) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.client_ended = true;
        connection.client_gone |= gone;
        connection.reset |= reset && !connection.server_gone;
        if gone {
            connection.to_client.bytes.clear();
        }
        if reset {
            connection.to_server.bytes.clear();
        }
        self.announce(number, Direction::ToServer);
        self.announce(number, Direction::ToClient);
        self.forget_connection(number);
    }
}

impl Connection {
    /// Whether an operation of the server in this direction would end now.
    fn can_move(&self, direction: Direction, room: usize) -> bool {
        self.reset
            || match direction {
                Direction::ToServer => self.client_ended || !self.to_server.bytes.is_empty(),
                Direction::ToClient => self.client_gone || self.to_client.bytes.len() < room,
            }
    }
    fn receive(&mut self, buf: &mut Vec<u8>, limit: usize) -> Result<usize, Errno> {
        if self.reset {
            return Err(Errno::ECONNRESET);
        }
        let count = self.to_server.bytes.len().min(buf.capacity() - buf.len()).min(limit);
        buf.extend(self.to_server.bytes.drain(..count));
        Ok(count)
    }
    fn send(&mut self, bytes: &[u8], room: usize, limit: usize) -> Result<usize, Errno> {
        if self.reset || self.client_gone {
            return Err(Errno::ECONNRESET);
        }
        let count = bytes.len().min(room.saturating_sub(self.to_client.bytes.len())).min(limit);
        self.to_client.bytes.extend(&bytes[..count]);
        Ok(count)
    }
}

/// A client of the harness. It acts when the driver says so, and at once; dropping it closes the connection. One that
/// does not read is a slow client: after the connection's capacity the server's sends wait.
pub struct SimClient {
    shared: Arc<Shared>,
    connection: ConnectionNumber,
}

impl SimClient {
    pub(super) fn new(shared: Arc<Shared>, connection: ConnectionNumber) -> Self {
        Self { shared, connection }
    }
    fn enter(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
    /// Sends what the connection has room for, and says how many bytes that was: 0 when it is full.
    ///
    /// # Errors
    /// `ECONNRESET` when the server has closed or crashed.
    ///
    /// # Panics
    /// After [`SimClient::finish_sending`].
    pub fn send(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut state = self.enter();
        let room = state.options.socket_bytes;
        let connection = state.connections.get_mut(&self.connection).ok_or(Errno::ECONNRESET)?;
        assert!(!connection.client_ended, "this client said that it sends nothing more");
        if connection.server_gone {
            return Err(Errno::ECONNRESET);
        }
        let count = bytes.len().min(room.saturating_sub(connection.to_server.bytes.len()));
        connection.to_server.bytes.extend(&bytes[..count]);
        state.trace.note_file("client sends", "", self.connection.0, &bytes[..count]);
        state.announce(self.connection, Direction::ToServer);
        Ok(count)
    }
    /// Appends what has arrived, at most `bytes_max`, and says how many bytes that was: 0 when nothing has.
    ///
    /// # Errors
    /// `ECONNRESET` when the server has closed or crashed, and everything that arrived before was received.
    pub fn receive(&mut self, received: &mut Vec<u8>, bytes_max: usize) -> Result<usize, Errno> {
        let mut state = self.enter();
        let connection = state.connections.get_mut(&self.connection).ok_or(Errno::ECONNRESET)?;
        let count = connection.to_client.bytes.len().min(bytes_max);
        if connection.server_gone && connection.to_client.bytes.is_empty() {
            return Err(Errno::ECONNRESET);
        }
        received.extend(connection.to_client.bytes.drain(..count));
        let start = received.len() - count;
        state.trace.note_file("client receives", "", self.connection.0, &received[start..]);
        state.announce(self.connection, Direction::ToClient);
        Ok(count)
    }
    /// Whether a backend has accepted the connection.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.enter().connections.get(&self.connection).is_some_and(|connection| connection.accepted)
    }
    /// Whether the server has closed or crashed; bytes that arrived before may still wait.
    #[must_use]
    pub fn is_closed_by_server(&self) -> bool {
        self.enter().connections.get(&self.connection).is_none_or(|connection| connection.server_gone)
    }
    /// Closes the sending direction: the server reads what was sent, then an end of 0 bytes.
    pub fn finish_sending(&mut self) {
        self.enter().end_client(self.connection, false, false);
    }
    /// Tears the connection down: bytes under way are lost and the server's operations end with `ECONNRESET`.
    pub fn reset(self) {
        self.enter().end_client(self.connection, true, true);
    }
}

impl Drop for SimClient {
    fn drop(&mut self) {
        self.enter().end_client(self.connection, true, false);
    }
}

impl fmt::Debug for SimClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimClient({})", self.connection.0)
    }
}
