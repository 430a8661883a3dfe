//! A backend under watch: every completion is checked against what was submitted.

use crate::machine::{Peer, Received};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tskv::io::{Backend, Completion, ListenerId, Op, OpBuf, Outcome, SocketId, Token, Wait};

/// No single wait of a test takes longer.
const PATIENCE_NS: u64 = 20_000_000_000;
/// Pace at which a test looks at the outside while it waits.
const STEP_NS: u64 = 1_000_000;
/// What a returned buffer is filled with; a byte changed later means that the kernel still had the buffer.
const CANARY: u8 = 0xA5;
/// Returned buffers kept under watch.
const QUARANTINE_MAX: usize = 16;

/// Drives one backend.
pub(crate) struct Driver<B> {
    pub(crate) backend: B,
    next_token: u64,
    open: BTreeSet<Token>,
    finished: BTreeMap<Token, Completion>,
    /// In the order in which they came.
    pub(crate) order: Vec<Token>,
    pub(crate) accepted: Vec<SocketId>,
    quarantine: VecDeque<Vec<u8>>,
}

impl<B: Backend> Driver<B> {
    pub(crate) fn new(backend: B) -> Self {
        Self {
            backend,
            next_token: 0,
            open: BTreeSet::new(),
            finished: BTreeMap::new(),
            order: Vec::new(),
            accepted: Vec::new(),
            quarantine: VecDeque::new(),
        }
    }

    pub(crate) fn submit(&mut self, op: Op) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.open.insert(token);
        self.backend.submit(token, op);
        assert_eq!(self.backend.in_flight(), self.open.len(), "in_flight after a submit");
        token
    }
    pub(crate) fn receive(&mut self, socket: SocketId, bytes: usize) -> Token {
        self.submit(Op::Receive { socket, buf: Vec::with_capacity(bytes) })
    }
    pub(crate) fn send(&mut self, socket: SocketId, bytes: &[u8]) -> Token {
        self.submit(Op::Send { socket, buf: bytes.to_vec(), from: 0 })
    }
    pub(crate) fn accept(&mut self, listener: ListenerId) -> Token {
        self.submit(Op::Accept { listener })
    }
    pub(crate) fn close(&mut self, socket: SocketId) {
        let token = self.submit(Op::Close { socket });
        assert_eq!(self.wait_for(token).result, Ok(Outcome::Done));
    }

    /// One poll; every completion must belong to an operation that has none yet.
    pub(crate) fn poll(&mut self, wait: Wait) {
        let mut completions = Vec::new();
        self.backend.poll(wait, &mut completions).unwrap();
        for completion in completions {
            let token = completion.token;
            assert!(self.open.contains(&token), "a completion of an operation that is over: {completion:?}");
            if completion.more {
                assert!(matches!(completion.buf, OpBuf::None), "the buffer came before the end");
                match completion.result {
                    Ok(Outcome::Accepted { socket, .. }) => self.accepted.push(socket),
                    other => panic!("only accepts yield more than one result: {other:?}"),
                }
            } else {
                self.open.remove(&token);
                self.order.push(token);
                self.finished.insert(token, completion);
            }
        }
        assert_eq!(self.backend.in_flight(), self.open.len(), "in_flight after a poll");
        let untouched = |buf: &Vec<u8>| buf.iter().all(|byte| *byte == CANARY);
        assert!(self.quarantine.iter().all(untouched), "the kernel wrote to a buffer that it had given back");
    }

    /// Polls in small steps until `done` gives something.
    pub(crate) fn until<T>(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let give_up_ns = self.backend.now().monotonic_ns + PATIENCE_NS;
        loop {
            if let Some(value) = done(self) {
                return value;
            }
            let now_ns = self.backend.now().monotonic_ns;
            assert!(now_ns < give_up_ns, "waited too long for {what}");
            self.poll(Wait::Until(now_ns + STEP_NS));
        }
    }
    pub(crate) fn take_finished(&mut self, token: Token) -> Option<Completion> {
        self.finished.remove(&token)
    }
    /// Polls until the operation completes, without looking at anything else: only the backend can end the waits.
    pub(crate) fn wait_for(&mut self, token: Token) -> Completion {
        let give_up_ns = self.backend.now().monotonic_ns + PATIENCE_NS;
        loop {
            if let Some(completion) = self.take_finished(token) {
                return completion;
            }
            assert!(self.backend.now().monotonic_ns < give_up_ns, "waited too long for a completion");
            self.poll(Wait::Until(give_up_ns));
        }
    }
    /// The bytes of a receive that must succeed.
    pub(crate) fn received(&mut self, token: Token) -> Vec<u8> {
        let completion = self.wait_for(token);
        let OpBuf::Bytes(buf) = completion.buf else { panic!("a receive has a buffer") };
        assert_eq!(completion.result, Ok(Outcome::Transferred(buf.len())));
        buf
    }
    /// Lets the peer send all of `bytes`.
    pub(crate) fn peer_sends(&mut self, peer: &mut impl Peer, mut bytes: &[u8]) {
        self.until("the peer to send", |_| {
            bytes = &bytes[peer.try_send(bytes)..];
            bytes.is_empty().then_some(())
        });
    }
    /// Lets the peer receive exactly `count` bytes.
    pub(crate) fn peer_receives(&mut self, peer: &mut impl Peer, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("the peer to receive", |_| {
            if bytes.len() < count {
                let left = count - bytes.len();
                assert_ne!(
                    peer.try_receive(&mut bytes, left),
                    Received::Ended,
                    "the peer's stream ended early"
                );
            }
            (bytes.len() == count).then_some(())
        });
        bytes
    }
    /// Waits until the peer sees the end of the connection.
    pub(crate) fn peer_sees_end(&mut self, peer: &mut impl Peer) {
        let mut rest = Vec::new();
        self.until("the peer to see the end", |_| {
            loop {
                match peer.try_receive(&mut rest, 1 << 20) {
                    Received::Bytes(_) => {}
                    Received::NothingYet => return None,
                    Received::Ended => return Some(()),
                }
            }
        });
    }
    /// Keeps a returned buffer under watch for a while.
    pub(crate) fn watch(&mut self, buf: OpBuf) {
        if let OpBuf::Bytes(mut buf) = buf {
            buf.resize(buf.capacity(), 0);
            buf.fill(CANARY);
            self.quarantine.push_back(buf);
            if self.quarantine.len() > QUARANTINE_MAX {
                self.quarantine.pop_front();
            }
        }
    }
    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }
}

/// Pseudo-random numbers: the same in every run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }
    /// Below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % sides
    }
}
