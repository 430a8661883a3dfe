//! What the contract suite needs of a machine: a backend, files, and somebody outside to talk to.
//!
//! Nothing here waits, so that a simulated machine, whose time passes in `poll` only, can implement it too.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use tskv::io::sys::{bind_listeners, close_listener};
use tskv::io::{
    AnyBackend, Backend, BackendKind, BackendOptions, Files, ListenerId, OsFiles, SocketId, open_backend,
};

/// What a peer found when it tried to receive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Bytes(usize),
    NothingYet,
    /// The other side has closed, orderly or not.
    Ended,
}

/// The outside end of a connection. Dropping it closes it.
pub(crate) trait Peer {
    /// Sends some of `bytes`, perhaps none, and says how many.
    fn try_send(&mut self, bytes: &[u8]) -> usize;
    /// Appends at most `limit` bytes that have arrived.
    fn try_receive(&mut self, into: &mut Vec<u8>, limit: usize) -> Received;
}

/// A machine to run the suite on.
pub(crate) trait Machine {
    type Backend: Backend;
    type Peer: Peer;
    /// A fresh machine.
    fn new() -> Self;
    /// A backend for the calling thread.
    fn backend(&mut self) -> Self::Backend;
    /// The files that backends of this machine understand, in an empty directory.
    fn files(&self) -> &dyn Files;
    /// A connection that is there already: our socket, and its other end.
    fn connection(&mut self) -> (SocketId, Self::Peer);
    /// A listening socket.
    fn listener(&mut self) -> ListenerId;
    /// Connects to a listening socket from outside.
    fn connect(&mut self, listener: ListenerId) -> Self::Peer;
    /// Gives a listening socket back.
    fn close_listener(&mut self, listener: ListenerId);
}

/// The machine that the tests run on; `KIND` is an index into [`KINDS`].
pub(crate) struct OsMachine<const KIND: usize> {
    files: OsFiles,
    listeners: Vec<(ListenerId, SocketAddr)>,
    _directory: tempfile::TempDir,
}

/// Backend, and sizes of its ring.
const KINDS: [(BackendKind, u32, u32); 3] =
    [(BackendKind::Epoll, 0, 0), (BackendKind::Uring, 1024, 8192), (BackendKind::Uring, 2, 4)];
pub(crate) type EpollMachine = OsMachine<0>;
pub(crate) type UringMachine = OsMachine<1>;
/// A ring so small that its queues are full and overflow all the time.
pub(crate) type TinyUringMachine = OsMachine<2>;

impl<const KIND: usize> Machine for OsMachine<KIND> {
    type Backend = AnyBackend;
    type Peer = TcpStream;

    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = OsFiles::new(directory.path()).unwrap();
        Self { files, listeners: Vec::new(), _directory: directory }
    }
    fn backend(&mut self) -> AnyBackend {
        let (kind, submissions, completions) = KINDS[KIND];
        let options = BackendOptions { helper_name: "test-files".to_owned(), submissions, completions };
        open_backend(kind, &options).unwrap().0
    }
    fn files(&self) -> &dyn Files {
        &self.files
    }
    fn connection(&mut self) -> (SocketId, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_nonblocking(true).unwrap();
        let ours = listener.accept().unwrap().0;
        // As for accepted sockets; small echoes would wait for delayed acknowledgements.
        ours.set_nodelay(true).unwrap();
        (SocketId(ours.into_raw_fd()), peer)
    }
    fn listener(&mut self) -> ListenerId {
        let listener = bind_listeners("127.0.0.1:0".parse().unwrap(), 1).unwrap()[0];
        self.listeners.push(listener);
        listener.0
    }
    fn connect(&mut self, listener: ListenerId) -> TcpStream {
        let (_, addr) = self.listeners.iter().find(|(known, _)| *known == listener).unwrap();
        let peer = TcpStream::connect(addr).unwrap();
        peer.set_nonblocking(true).unwrap();
        peer
    }
    fn close_listener(&mut self, listener: ListenerId) {
        self.listeners.retain(|(known, _)| *known != listener);
        close_listener(listener);
    }
}

impl Peer for TcpStream {
    fn try_send(&mut self, bytes: &[u8]) -> usize {
        match self.write(bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("the peer cannot send: {error}"),
        }
    }
    fn try_receive(&mut self, into: &mut Vec<u8>, limit: usize) -> Received {
        let mut room = vec![0; limit];
        match self.read(&mut room) {
            Ok(0) => Received::Ended,
            Ok(count) => {
                into.extend_from_slice(&room[..count]);
                Received::Bytes(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Received::NothingYet,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Received::Ended,
            Err(error) => panic!("the peer cannot receive: {error}"),
        }
    }
}
