//! One connection of the generator: what it still has to send, and whose replies it waits for.
//!
//! Requests are numbered from 1 on; the oldest unanswered one stands at the front. Replies without an id belong to the
//! front, replies with one to that request. An operation of several requests is complete when all of them are: its
//! last request, the owner, counts them. A window needs replies with ids: others must leave in their order.
//!
//! Where replies come in order, operations of one request that differ in nothing but their number are remembered
//! together, as one request with a count: what a burst costs does not depend on its length. Operations with due times of
//! their own are never alike.

use super::wire::{BadReply, Replies, Reply};
use super::workload::Issued;
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
    /// From the sequence of one operation to that of the next one alike.
    pub(super) stride: u64,
    /// Samples written; none for reads.
    pub(super) written: Option<u64>,
    /// Of one operation.
    pub(super) bytes_sent: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Request {
    /// Of the first that is not answered.
    pending: Pending,
    /// Operations alike that follow it.
    further: u64,
    /// How far behind this request its operation's owner stands.
    owner_distance: u32,
    /// Of an owner: requests of its operation that are not answered.
    parts_left: u32,
    answered: bool,
    failed: bool,
    values: u64,
    bytes_received: u64,
}

/// Complete operations that are alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Complete {
    /// Of the first.
    pub(super) pending: Pending,
    pub(super) count: u64,
    pub(super) failed: bool,
    /// Of all together.
    pub(super) values: u64,
    /// Of all together.
    pub(super) bytes_received: u64,
}

impl Complete {
    /// The numbers of the operations.
    pub(super) fn sequences(&self) -> impl Iterator<Item = u64> + use<> {
        let Pending { sequence, stride, .. } = self.pending;
        (0..self.count).map(move |index| sequence + index * stride)
    }
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
    /// Bytes that were read of replies that are not whole yet; they count for the next one that is.
    part_read: u64,
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
            part_read: 0,
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

    /// Takes note of an operation, or several alike, whose requests stand at `out[start..]`.
    #[inline]
    pub(super) fn push(&mut self, mut pending: Pending, start: usize, issued: &Issued) {
        let (further, part_ends) = (issued.further, issued.part_ends.as_slice());
        let count = usize::try_from(further + 1).unwrap_or(usize::MAX);
        pending.bytes_sent = ((self.out.len() - start) / count) as u64;
        self.outstanding += count;
        if part_ends.len() <= 1 {
            assert!(further == 0 || self.is_in_order(), "replies with ids are told apart one by one");
            self.requests.push_back(Request { pending, further, parts_left: 1, ..Request::default() });
            self.unsent += 1;
            self.open += count;
            return;
        }
        assert!(further == 0, "operations of several requests are pushed one by one");
        let count = u32::try_from(part_ends.len()).unwrap_or(u32::MAX);
        for index in 0..count {
            let owner_distance = count - 1 - index;
            let parts_left = if owner_distance == 0 { count } else { 0 };
            self.requests.push_back(Request { pending, owner_distance, parts_left, ..Request::default() });
            self.unsent += 1;
        }
        let room = if issued.is_in_turn { 1 } else { self.window.saturating_sub(self.open).max(1) };
        assert!(
            !issued.is_in_turn || self.outstanding == 1,
            "another's answer would let the next request go"
        );
        self.hold_back(start, part_ends, room);
    }

    /// Whether replies come in the order of the requests.
    pub(super) fn is_in_order(&self) -> bool {
        matches!(self.replies, Replies::Resp(_))
    }

    /// Leaves `room` requests in `out`.
    fn hold_back(&mut self, start: usize, part_ends: &[usize], room: usize) {
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
            if let Some(most) = self.alike() {
                let count = self.replies.take_acknowledged(&buffer, &mut at, most);
                if count > 0 {
                    self.answer_alike(
                        Reply { id: None, values: count, failed: false },
                        count,
                        (at - start) as u64,
                        each,
                    );
                    continue;
                }
            }
            match self.replies.next(&buffer, &mut at) {
                Ok(Some(reply)) => {
                    let bytes = std::mem::take(&mut self.part_read) + (at - start) as u64;
                    if let Err(bad) = self.answer(reply, bytes, each) {
                        break Err(bad);
                    }
                }
                Ok(None) => {
                    self.part_read += (at - start) as u64;
                    break Ok(());
                }
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
        if index == 0 && self.alike().is_some() {
            self.answer_alike(reply, 1, bytes, each);
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
                count: 1,
                failed: owner.failed,
                values: if owner.failed { 0 } else { owner.pending.written.unwrap_or(owner.values) },
                bytes_received: owner.bytes_received,
            };
            each(&complete);
        }
        self.move_on();
        Ok(())
    }

    /// How many operations alike wait at the front for one reply each: the common case.
    #[inline]
    fn alike(&self) -> Option<u64> {
        let front = self.requests.front()?;
        let is_single =
            !front.answered && front.owner_distance == 0 && front.parts_left == 1 && !front.failed;
        (is_single && self.held_back.is_empty()).then_some(front.further + 1)
    }

    /// Answers the first `count` of the operations at the front; `reply` and `bytes` are of all together.
    #[inline]
    fn answer_alike(&mut self, reply: Reply, count: u64, bytes: u64, each: &mut impl FnMut(&Complete)) {
        let Some(front) = self.requests.front_mut() else { return };
        let Request { pending, values, bytes_received, .. } = *front;
        let values = pending.written.map_or(values + reply.values, |written| count * written);
        if front.further < count {
            self.requests.pop_front();
        } else {
            front.further -= count;
            front.pending.sequence += count * pending.stride;
        }
        self.first_id += count;
        let answered = usize::try_from(count).unwrap_or(usize::MAX);
        self.open -= answered;
        self.outstanding -= answered;
        each(&Complete {
            pending,
            count,
            failed: reply.failed,
            values: if reply.failed { 0 } else { values },
            bytes_received: bytes_received + bytes,
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

    /// Gives up the connection; gives the operations that will not be answered, and how many of each there are.
    pub(super) fn lose(&mut self) -> impl Iterator<Item = (Pending, u64)> + '_ {
        self.is_lost = true;
        self.outstanding = 0;
        self.unsent = 0;
        self.open = 0;
        self.held_back.clear();
        self.out.clear();
        let lost = self.requests.drain(..).filter(|request| request.parts_left > 0);
        lost.map(|request| (request.pending, request.further + 1))
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
    fn parts(ends: &[usize]) -> Issued {
        Issued { part_ends: ends.to_vec(), ..Issued::default() }
    }
    fn done(request_id: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let header =
            FrameHeader { opcode: Opcode::Put as u8, has_checksum: false, is_forwarded: false, request_id };
        encode_response(&mut bytes, &header, &Response::Done);
        bytes
    }
    fn read(connection: &mut Connection, bytes: &[u8]) -> Result<Vec<u64>, BadReply> {
        let mut buffer = connection.take_receive_buffer();
        buffer.extend_from_slice(bytes);
        let mut complete = Vec::new();
        connection.read(buffer, &mut |done| complete.extend(done.sequences()))?;
        Ok(complete)
    }

    #[test]
    fn an_operation_of_several_requests_ends_with_the_last_reply() {
        // A query would be as fast as its fastest part.
        let mut connection = Connection::new(SocketId(3), Replies::Resp(RespReplies::default()), usize::MAX);
        connection.out.extend_from_slice(b"aabbcc");
        connection.push(pending(7), 0, &parts(&[2, 4, 6]));
        connection.out.extend_from_slice(b"dd");
        connection.push(pending(8), 6, &Issued::default());
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
        connection.push(pending(7), 0, &parts(&[2, 4, 6, 8]));
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
            connection.push(pending(sequence), start, &Issued::default());
        }
        assert_eq!(read(&mut connection, &done(3)).unwrap(), [12]);
        assert_eq!(read(&mut connection, &done(1)).unwrap(), [10]);
        assert!(read(&mut connection, &done(3)).is_err(), "a second reply to one request was taken");
        assert_eq!(connection.next_id(), 4);
        assert_eq!(connection.lose().map(|(lost, _)| lost.sequence).collect::<Vec<_>>(), [11]);
    }

    #[test]
    fn operations_alike_are_answered_in_any_pieces() {
        // A burst that is counted together would be answered as one, or journalled under other numbers.
        let replies = b"+OK\r\n+OK\r\n-ERR no\r\n+OK\r\n+OK\r\n$1\r\nx\r\n+OK\r\n";
        for piece in 1..=replies.len() {
            let replies_kind = Replies::Resp(RespReplies::default());
            let mut connection = Connection::new(SocketId(3), replies_kind, usize::MAX);
            connection.out.extend_from_slice(b"aabbccdd");
            connection.push(
                Pending { stride: 3, ..pending(10) },
                0,
                &Issued { further: 3, ..Issued::default() },
            );
            connection.out.extend_from_slice(b"eeff");
            connection.push(
                Pending { stride: 3, ..pending(40) },
                8,
                &Issued { further: 1, ..Issued::default() },
            );
            connection.out.push(b'g');
            connection.push(pending(90), 12, &Issued::default());
            assert_eq!((connection.outstanding, connection.take_output(5, Vec::new()).len()), (7, 13));
            let (mut found, mut bytes_received) = (Vec::new(), 0);
            for part in replies.chunks(piece) {
                let mut buffer = connection.take_receive_buffer();
                buffer.extend_from_slice(part);
                let mut each = |done: &Complete| {
                    assert_eq!((done.pending.sent_ns, done.failed), (5, done.pending.sequence == 16));
                    let bytes_sent = if done.pending.sequence == 90 { 1 } else { 2 };
                    assert_eq!(done.pending.bytes_sent, bytes_sent);
                    bytes_received += done.bytes_received;
                    found.extend(done.sequences());
                };
                connection.read(buffer, &mut each).unwrap();
            }
            assert_eq!(found, [10, 13, 16, 19, 40, 43, 90], "in pieces of {piece}");
            assert_eq!(bytes_received, replies.len() as u64, "in pieces of {piece}");
            assert_eq!((connection.outstanding, connection.open), (0, 0));
        }
    }

    #[test]
    fn a_write_that_depends_on_a_read_waits_for_it() {
        // Reading, changing and writing would take one round trip, which no client can do.
        let mut connection = Connection::new(SocketId(3), Replies::Resp(RespReplies::default()), usize::MAX);
        connection.out.extend_from_slice(b"readwrite");
        connection.push(pending(7), 0, &Issued { is_in_turn: true, ..parts(&[4, 9]) });
        assert_eq!(connection.take_output(5, Vec::new()), b"read");
        assert_eq!(read(&mut connection, b"$1\r\nx\r\n").unwrap(), Vec::<u64>::new());
        assert_eq!(connection.take_output(6, Vec::new()), b"write");
        assert_eq!((read(&mut connection, b"+OK\r\n").unwrap(), connection.outstanding), (vec![7], 0));
    }
}
