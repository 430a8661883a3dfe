//! One connection of the generator: what it still has to send, and whose replies it waits for.
//!
//! Requests are numbered from 1 on; the oldest unanswered one stands at the front. Replies without an id belong to the
//! front, replies with one to that request. An operation of several requests is complete when all of them are: its
//! last request, the owner, counts them. A window needs replies with ids: others must leave in their order.

use super::wire::{BadReply, Replies, Reply};
use crate::io::SocketId;
use std::collections::VecDeque;

/// Receive buffers start with this much, and grow where a reply needs it whole.
const RECEIVE_BYTES: usize = 16 << 10;

/// What is remembered of an operation until it is answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pending {
    pub(super) op: u8,
    pub(super) intended_ns: Option<u64>,
    /// 0 until its request was handed to the kernel.
    pub(super) sent_ns: u64,
    pub(super) sequence: u64,
    /// Samples written; none for reads.
    pub(super) written: Option<u64>,
    pub(super) bytes_sent: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Request {
    pending: Pending,
    /// How far behind this request its operation's owner stands.
    owner_distance: u32,
    /// Of an owner: requests of its operation that are not answered.
    parts_left: u32,
    answered: bool,
    failed: bool,
    values: u64,
    bytes_received: u64,
}

/// A complete operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Complete {
    pub(super) pending: Pending,
    pub(super) failed: bool,
    pub(super) values: u64,
    pub(super) bytes_received: u64,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: SocketId,
    pub(super) replies: Replies,
    /// Encoded and not handed to the kernel.
    pub(super) out: Vec<u8>,
    pub(super) is_sending: bool,
    /// The peer is gone, or said what is no reply.
    pub(super) is_lost: bool,
    /// Operations that are not complete.
    pub(super) outstanding: usize,
    /// Received and not read; empty while a receive is in flight.
    received: Vec<u8>,
    requests: VecDeque<Request>,
    /// Id of the front of `requests`.
    first_id: u64,
    /// Requests at the back that were not handed to the kernel.
    unsent: usize,
    /// Requests of large operations that wait until fewer are open on the connection.
    held_back: VecDeque<Vec<u8>>,
    /// Requests that are on their way or answered out of order.
    open: usize,
    /// Most requests of large operations that may be open.
    window: usize,
}

impl Connection {
    /// A connection over a socket that has been introduced. Of operations of many requests, `window` may be open.
    pub(super) fn new(socket: SocketId, replies: Replies, window: usize) -> Self {
        Self {
            socket,
            replies,
            out: Vec::new(),
            is_sending: false,
            is_lost: false,
            outstanding: 0,
            received: Vec::with_capacity(RECEIVE_BYTES),
            requests: VecDeque::new(),
            first_id: 1,
            unsent: 0,
            held_back: VecDeque::new(),
            open: 0,
            window,
        }
    }

    /// The id of the next request.
    pub(super) fn next_id(&self) -> u64 {
        self.first_id + self.requests.len() as u64
    }

    /// Takes note of an operation whose requests stand at `out[start..]` and end at `part_ends`, absolute positions in
    /// `out`; empty: a single request.
    #[inline]
    pub(super) fn push(&mut self, mut pending: Pending, start: usize, part_ends: &[usize]) {
        pending.bytes_sent = (self.out.len() - start) as u64;
        self.outstanding += 1;
        if part_ends.len() <= 1 {
            self.requests.push_back(Request { pending, parts_left: 1, ..Request::default() });
            self.unsent += 1;
            self.open += 1;
            return;
        }
        let count = u32::try_from(part_ends.len()).unwrap_or(u32::MAX);
        for index in 0..count {
            let owner_distance = count - 1 - index;
            let parts_left = if owner_distance == 0 { count } else { 0 };
            self.requests.push_back(Request { pending, owner_distance, parts_left, ..Request::default() });
            self.unsent += 1;
        }
        self.hold_back(start, part_ends);
    }

    /// Leaves as many requests in `out` as the window allows.
    fn hold_back(&mut self, start: usize, part_ends: &[usize]) {
        let room = self.window.saturating_sub(self.open).max(1);
        let kept = room.min(part_ends.len());
        let mut from = start;
        let mut cut = self.out.len();
        for (index, end) in part_ends.iter().enumerate() {
            if index == kept {
                cut = from;
            }
            if index >= kept {
                self.held_back.push_back(self.out[from..*end].to_vec());
            }
            from = *end;
        }
        self.out.truncate(cut);
        self.open += kept;
    }

    /// Takes what is to be sent, and notes the time.
    pub(super) fn take_output(&mut self, now_ns: u64, spare: Vec<u8>) -> Vec<u8> {
        let from = self.requests.len() - self.unsent;
        for request in self.requests.range_mut(from..) {
            request.pending.sent_ns = now_ns;
        }
        self.unsent = 0;
        self.is_sending = true;
        std::mem::replace(&mut self.out, spare)
    }

    /// The buffer for the next receive, with room.
    pub(super) fn take_receive_buffer(&mut self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.received);
        if buffer.capacity() - buffer.len() < RECEIVE_BYTES / 2 {
            buffer.reserve(buffer.len().max(RECEIVE_BYTES));
        }
        buffer
    }

    /// Reads the replies in `buffer`, which the next receive gets back; calls `each` for complete operations.
    pub(super) fn read(
        &mut self,
        mut buffer: Vec<u8>,
        each: &mut impl FnMut(&Complete),
    ) -> Result<(), BadReply> {
        let mut at = 0;
        let outcome = loop {
            let start = at;
            match self.replies.next(&buffer, &mut at) {
                Ok(Some(reply)) => {
                    if let Err(bad) = self.answer(reply, (at - start) as u64, each) {
                        break Err(bad);
                    }
                }
                Ok(None) => break Ok(()),
                Err(bad) => break Err(bad),
            }
        };
        if at == buffer.len() {
            buffer.clear();
        } else {
            buffer.drain(..at);
        }
        self.received = buffer;
        outcome
    }

    #[inline]
    fn answer(&mut self, reply: Reply, bytes: u64, each: &mut impl FnMut(&Complete)) -> Result<(), BadReply> {
        let index = match reply.id {
            None => 0,
            Some(id) => usize::try_from(id.wrapping_sub(self.first_id)).unwrap_or(usize::MAX),
        };
        if index == 0 && self.is_single() {
            self.answer_single(reply, bytes, each);
            return Ok(());
        }
        let Some(request) = self.requests.get_mut(index).filter(|request| !request.answered) else {
            return Err(BadReply("the server answered what was not asked".to_owned()));
        };
        request.answered = true;
        let owner_index = index + usize::try_from(request.owner_distance).unwrap_or(0);
        self.open -= 1;
        let owner = &mut self.requests[owner_index];
        owner.parts_left -= 1;
        owner.failed |= reply.failed;
        owner.values += reply.values;
        owner.bytes_received += bytes;
        if owner.parts_left == 0 {
            self.outstanding -= 1;
            let complete = Complete {
                pending: owner.pending,
                failed: owner.failed,
                values: if owner.failed { 0 } else { owner.pending.written.unwrap_or(owner.values) },
                bytes_received: owner.bytes_received,
            };
            each(&complete);
        }
        self.move_on();
        Ok(())
    }

    /// Whether the oldest request is an operation of its own that waits for its reply: the common case.
    #[inline]
    fn is_single(&self) -> bool {
        self.requests.front().is_some_and(|request| {
            !request.answered && request.owner_distance == 0 && request.parts_left == 1 && !request.failed
        }) && self.held_back.is_empty()
    }

    #[inline]
    fn answer_single(&mut self, reply: Reply, bytes: u64, each: &mut impl FnMut(&Complete)) {
        let Some(request) = self.requests.pop_front() else { return };
        self.first_id += 1;
        self.open -= 1;
        self.outstanding -= 1;
        let values = request.pending.written.unwrap_or(request.values + reply.values);
        each(&Complete {
            pending: request.pending,
            failed: reply.failed,
            values: if reply.failed { 0 } else { values },
            bytes_received: request.bytes_received + bytes,
        });
        self.move_on();
    }

    /// Forgets the answered requests at the front, and lets what was held back follow.
    #[inline]
    fn move_on(&mut self) {
        while self.requests.front().is_some_and(|request| request.answered) {
            self.requests.pop_front();
            self.first_id += 1;
        }
        if let Some(next) = self.held_back.pop_front() {
            self.out.extend_from_slice(&next);
            self.open += 1;
        }
    }

    /// Gives up the connection; gives the operations that will not be answered.
    pub(super) fn lose(&mut self) -> impl Iterator<Item = Pending> + '_ {
        self.is_lost = true;
        self.outstanding = 0;
        self.unsent = 0;
        self.open = 0;
        self.held_back.clear();
        self.out.clear();
        self.requests.drain(..).filter(|request| request.parts_left > 0).map(|request| request.pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::wire::{NativeReplies, RespReplies};
    use crate::protocol::binary::{FrameHeader, Opcode, Response, encode_response};

    fn pending(sequence: u64) -> Pending {
        Pending { sequence, ..Pending::default() }
    }
    fn done(request_id: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let header = FrameHeader { opcode: Opcode::Put as u8, has_checksum: false, request_id };
        encode_response(&mut bytes, &header, &Response::Done);
        bytes
    }
    fn read(connection: &mut Connection, bytes: &[u8]) -> Result<Vec<u64>, BadReply> {
        let mut buffer = connection.take_receive_buffer();
        buffer.extend_from_slice(bytes);
        let mut complete = Vec::new();
        connection.read(buffer, &mut |done| complete.push(done.pending.sequence))?;
        Ok(complete)
    }

    #[test]
    fn an_operation_of_several_requests_ends_with_the_last_reply() {
        // A query would be as fast as its fastest part.
        let mut connection = Connection::new(SocketId(3), Replies::Resp(RespReplies::default()), usize::MAX);
        connection.out.extend_from_slice(b"aabbcc");
        connection.push(pending(7), 0, &[2, 4, 6]);
        connection.out.extend_from_slice(b"dd");
        connection.push(pending(8), 6, &[]);
        assert_eq!(connection.take_output(5, Vec::new()), b"aabbccdd");
        assert_eq!(read(&mut connection, b"*1\r\n:1\r\n:2").unwrap(), Vec::<u64>::new());
        assert_eq!(read(&mut connection, b"\r\n+OK\r\n").unwrap(), [7]);
        assert_eq!((read(&mut connection, b"+OK\r\n").unwrap(), connection.outstanding), (vec![8], 0));
        assert!(read(&mut connection, b"+OK\r\n").is_err(), "a reply too many was taken");
    }

    #[test]
    fn requests_beyond_the_window_follow_one_by_one() {
        // A server that allows 16 open scans would refuse the others of a large query.
        let mut connection = Connection::new(SocketId(3), Replies::Native(NativeReplies::default()), 2);
        connection.out.extend_from_slice(b"aabbccdd");
        connection.push(pending(7), 0, &[2, 4, 6, 8]);
        assert_eq!(connection.take_output(5, Vec::new()), b"aabb");
        assert_eq!(read(&mut connection, &done(2)).unwrap(), Vec::<u64>::new());
        assert_eq!(connection.take_output(6, Vec::new()), b"cc");
        assert_eq!(read(&mut connection, &[done(1), done(3)].concat()).unwrap(), Vec::<u64>::new());
        assert_eq!(connection.take_output(6, Vec::new()), b"dd");
        assert_eq!(read(&mut connection, &done(4)).unwrap(), [7]);
    }

    #[test]
    fn replies_that_overtake_each_other_find_their_requests() {
        // A latency would be booked to another request, and the journal would name the wrong write.
        let mut connection = Connection::new(SocketId(3), Replies::Native(NativeReplies::default()), 8);
        for sequence in 10..13 {
            let start = connection.out.len();
            connection.out.push(b'x');
            connection.push(pending(sequence), start, &[]);
        }
        assert_eq!(read(&mut connection, &done(3)).unwrap(), [12]);
        assert_eq!(read(&mut connection, &done(1)).unwrap(), [10]);
        assert!(read(&mut connection, &done(3)).is_err(), "a second reply to one request was taken");
        assert_eq!(connection.next_id(), 4);
        assert_eq!(connection.lose().map(|lost| lost.sequence).collect::<Vec<_>>(), [11]);
    }
}
