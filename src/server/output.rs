//! Reply bytes of one connection on their way out, held back until what they say cannot be lost.
//!
//! Bytes are addressed by their offset since the connection began. A mark `(offset, lsn)` says that bytes from
//! `offset` on may leave only when the shard's log is acknowledged through `lsn`. Marks ascend in both parts, so
//! replies leave in order whatever the order of completions.

use super::blame::{Answered, Begun, Head, LogTimes};
use crate::model::Lsn;
use std::collections::VecDeque;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Encoded and not yet handed to a send.
    bytes: Vec<u8>,
    /// Offset of `bytes[0]`.
    start: u64,
    marks: VecDeque<(u64, Lsn)>,
    /// Bytes that an operation under way is sending.
    sending: usize,
    /// A buffer that came back from a send, to be filled next.
    spare: Vec<u8>,
    /// The requests whose replies are here or being sent, by where these end; offsets ascend.
    answered: VecDeque<Answered>,
}

/// A spare buffer above this is given back to the allocator.
const SPARE_BYTES_MAX: usize = 256 << 10;

impl Output {
    /// Where the next reply is appended; call [`Output::hold`] first for what must wait.
    pub(crate) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
    /// Makes everything appended from now on wait for `gate`.
    pub(crate) fn hold(&mut self, gate: Lsn) {
        let held = self.marks.back().map_or(Lsn(0), |mark| mark.1);
        if gate > held {
            let offset = self.start + self.bytes.len() as u64;
            self.marks.push_back((offset, gate));
        }
    }
    /// Bytes not yet taken by the machine.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.bytes.len() + self.sending
    }
    /// Bytes that a send is working on.
    pub(crate) fn sending(&self) -> usize {
        self.sending
    }
    /// Whether nothing is left to send or under way.
    pub(crate) fn is_drained(&self) -> bool {
        self.pending_bytes() == 0
    }
    /// The log position that the last byte waits for, if it waits.
    pub(crate) fn waits_for(&self, acked: Lsn) -> Option<Lsn> {
        self.marks.back().map(|mark| mark.1).filter(|lsn| *lsn > acked)
    }
    /// The next bytes to send, if some may leave and no send is under way.
    pub(crate) fn take_sendable(&mut self, acked: Lsn) -> Option<Vec<u8>> {
        if self.sending > 0 {
            return None;
        }
        while self.marks.front().is_some_and(|(_, lsn)| *lsn <= acked) {
            self.marks.pop_front();
        }
        let end = self.start + self.bytes.len() as u64;
        let free_end = self.marks.front().map_or(end, |(offset, _)| *offset);
        let count = usize::try_from(free_end - self.start).expect("a part of a buffer's length");
        if count == 0 {
            return None;
        }
        let mut taken = std::mem::take(&mut self.spare);
        if count == self.bytes.len() {
            std::mem::swap(&mut taken, &mut self.bytes);
        } else {
            taken.extend(self.bytes.drain(..count));
        }
        self.start = free_end;
        self.sending = taken.len();
        Some(taken)
    }
    /// The machine took `count` of the bytes under way; `left` are still to be sent.
    pub(crate) fn sent(&mut self, left: usize) {
        assert!(left <= self.sending, "a send cannot grow: {left} of {}", self.sending);
        self.sending = left;
    }
    /// Takes a buffer back whose bytes have all been sent.
    pub(crate) fn recycle(&mut self, mut buffer: Vec<u8>) {
        assert!(self.sending == 0, "a buffer comes back when its last byte has left");
        if buffer.capacity() <= SPARE_BYTES_MAX && buffer.capacity() > self.spare.capacity() {
            buffer.clear();
            self.spare = buffer;
        }
    }
    /// The reply to a request ends here.
    pub(crate) fn answered(&mut self, begun: Begun, head: Option<Box<Head>>) {
        let end = self.start + self.bytes.len() as u64;
        let gate = self.marks.back().map_or(Lsn(0), |mark| mark.1);
        match self.answered.back_mut() {
            Some(last) if last.answered_ns.is_none() && last.begun == begun && head.is_none() => {
                (last.end, last.gate) = (end, gate);
                last.count += 1;
            }
            Some(_) | None => {
                let (answered_ns, reached_ns) = (None, None);
                self.answered.push_back(Answered {
                    begun,
                    end,
                    gate,
                    count: 1,
                    answered_ns,
                    reached_ns,
                    head,
                });
            }
        }
    }
    /// The turn ends in which the latest replies were made.
    pub(crate) fn end_turn(&mut self, now_ns: u64) {
        let latest = self.answered.iter_mut().rev().take_while(|answered| answered.answered_ns.is_none());
        latest.for_each(|answered| answered.answered_ns = Some(now_ns));
    }
    /// Notes when the log let the replies leave that have just been handed to a send, and gives the requests.
    pub(crate) fn hand_over(&mut self, log: &LogTimes, now_ns: u64, mut visit: impl FnMut(&Begun, u32)) {
        let handed = self.answered.iter_mut().take_while(|answered| answered.end <= self.start);
        for answered in handed.filter(|answered| answered.reached_ns.is_none()) {
            let answered_ns = answered.answered_ns.unwrap_or(now_ns);
            answered.reached_ns = Some(log.reached(answered.gate, answered_ns, now_ns));
            visit(&answered.begun, answered.count);
        }
    }
    /// The next requests whose replies have left, once a send is complete.
    pub(crate) fn take_sent(&mut self) -> Option<Answered> {
        let has_left = self.sending == 0 && self.answered.front()?.reached_ns.is_some();
        has_left.then(|| self.answered.pop_front()).flatten()
    }
    /// Drops what still waits for the log: it will never be acknowledged. Says whether there was any.
    pub(crate) fn drop_held(&mut self, acked: Lsn) -> bool {
        while self.marks.front().is_some_and(|(_, lsn)| *lsn <= acked) {
            self.marks.pop_front();
        }
        let Some((offset, _)) = self.marks.front().copied() else { return false };
        let keep = usize::try_from(offset - self.start).expect("a mark lies within the bytes");
        self.bytes.truncate(keep);
        self.marks.clear();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(output: &mut Output, acked: u64) -> Option<Vec<u8>> {
        let bytes = output.take_sendable(Lsn(acked));
        if bytes.is_some() {
            output.sent(0);
        }
        bytes
    }

    #[test]
    fn a_reply_leaves_only_when_its_write_is_acknowledged() {
        // A reply that overtakes the log promises what a crash can take back.
        let mut output = Output::default();
        output.bytes_mut().extend_from_slice(b"free");
        output.hold(Lsn(10));
        output.bytes_mut().extend_from_slice(b"ten");
        output.hold(Lsn(5));
        output.bytes_mut().extend_from_slice(b"behind");
        output.hold(Lsn(20));
        output.bytes_mut().extend_from_slice(b"twenty");
        assert_eq!(output.waits_for(Lsn(9)), Some(Lsn(20)));
        assert_eq!(taken(&mut output, 9).as_deref(), Some(&b"free"[..]));
        assert_eq!(taken(&mut output, 9), None);
        assert_eq!(taken(&mut output, 10).as_deref(), Some(&b"tenbehind"[..]));
        assert_eq!(taken(&mut output, 20).as_deref(), Some(&b"twenty"[..]));
        assert!(output.is_drained() && output.waits_for(Lsn(20)).is_none());
    }

    #[test]
    fn one_send_at_a_time() {
        // Two sends in flight on one socket may interleave their bytes.
        let mut output = Output::default();
        output.bytes_mut().extend_from_slice(b"a");
        let first = output.take_sendable(Lsn(0)).expect("the byte is free");
        output.bytes_mut().extend_from_slice(b"b");
        assert_eq!(output.take_sendable(Lsn(0)), None);
        output.sent(0);
        output.recycle(first);
        assert_eq!(output.take_sendable(Lsn(0)).as_deref(), Some(&b"b"[..]));
    }

    #[test]
    fn held_replies_can_be_withdrawn_when_the_log_fails() {
        // A write that failed must not be reported as done.
        let mut output = Output::default();
        output.bytes_mut().extend_from_slice(b"free");
        output.hold(Lsn(10));
        output.bytes_mut().extend_from_slice(b"+OK");
        assert!(output.drop_held(Lsn(9)));
        assert_eq!(taken(&mut output, 9).as_deref(), Some(&b"free"[..]));
        assert!(!output.drop_held(Lsn(9)));
    }
}
