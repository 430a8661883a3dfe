//! What the kernel's completions do.
#![expect(unsafe_code, reason = "the kernel tells how much of a buffer it has filled")]

use super::user_data::UserData;
use super::{InKernel, Kind, Uring};
use crate::io::op_table::OpKey;
use crate::io::{Completion, Errno, OpBuf, Outcome, SocketId, accept, sys};
use io_uring::cqueue;
use std::mem::MaybeUninit;

/// Completions copied out of the ring at once.
const REAP_BATCH: usize = 64;

impl Uring {
    /// Closes a socket that is to be closed, once the kernel has let go of it.
    pub(super) fn close_if_unused(&mut self, socket: SocketId) {
        let state = self.socket(socket);
        if state.ops.is_empty()
            && let Some(token) = state.closing.take()
        {
            sys::close_socket(socket);
            self.finish(token, Ok(Outcome::Done), OpBuf::None);
        }
    }

    /// Removes an operation of which the kernel holds nothing any more, and completes it.
    pub(super) fn finish_op(&mut self, key: OpKey, result: Result<Outcome, Errno>) {
        let Some(InKernel { token, kind, .. }) = self.ops.remove(key) else { return };
        let socket = kind.socket();
        let buf = match kind {
            Kind::Receive { buf, .. } | Kind::Send { buf, .. } => OpBuf::Bytes(buf),
            Kind::Read { buf, .. } | Kind::Write { buf, .. } => OpBuf::Aligned(buf),
            Kind::Accept { .. } | Kind::Sync { .. } => OpBuf::None,
        };
        self.finish(token, result, buf);
        if let Some(socket) = socket {
            self.socket(socket).ops.retain(|other| *other != key);
            self.close_if_unused(socket);
        }
    }

    /// Takes all completions out of the ring.
    pub(super) fn reap(&mut self) {
        let mut batch = [const { MaybeUninit::uninit() }; REAP_BATCH];
        loop {
            let entries = self.ring.completion().fill(&mut batch);
            if entries.is_empty() {
                return;
            }
            for entry in entries {
                self.on_completion(entry);
            }
        }
    }

    fn on_completion(&mut self, entry: &cqueue::Entry) {
        let result = entry.result();
        match UserData::from_bits(entry.user_data()) {
            UserData::Operation(key) => self.on_operation(key, result, cqueue::more(entry.flags())),
            UserData::Cancel(key) => self.on_cancel(key, result),
            UserData::Peer(index) => self.on_message_sent(index, result),
            UserData::WakeByEventFd => {
                self.waker_armed = false;
                self.waker.allow_signals();
            }
            UserData::WakeByPeer => self.waker.allow_signals(),
        }
    }

    fn on_operation(&mut self, key: OpKey, result: i32, more: bool) {
        let Some(op) = self.ops.get_mut(key) else {
            debug_assert!(false, "the kernel completed {key:?} twice");
            return;
        };
        let count = usize::try_from(result).map_err(|_| Errno(-result));
        match &mut op.kind {
            Kind::Accept { .. } => self.on_accept(key, result, more),
            Kind::Receive { buf, .. } => {
                if let Ok(count) = count {
                    let len = buf.len() + count;
                    assert!(len <= buf.capacity(), "the kernel received more than there was room for");
                    // SAFETY: the kernel filled `count` bytes behind the old length, which no one has changed since.
                    unsafe { buf.set_len(len) };
                }
                self.finish_op(key, count.map(Outcome::Transferred));
            }
            Kind::Send { .. } | Kind::Read { .. } | Kind::Write { .. } => {
                self.finish_op(key, count.map(Outcome::Transferred));
            }
            Kind::Sync { .. } => self.finish_op(key, count.map(|_| Outcome::Done)),
        }
    }

    fn on_accept(&mut self, key: OpKey, result: i32, more: bool) {
        let Some(InKernel { token, kind: Kind::Accept { armed, .. }, cancelled }) = self.ops.get_mut(key)
        else {
            return;
        };
        let (token, cancelled) = (*token, *cancelled);
        *armed = more;
        let failure = if result < 0 { Some(Errno(-result)) } else { None };
        if failure.is_none() {
            let result = Ok(accept::accepted(SocketId(result)));
            self.done.push(Completion { token, result, buf: OpBuf::None, more: true });
        }
        if more {
            return;
        }
        let lacks_multishot = failure == Some(Errno::EINVAL) && self.accept_multishot;
        self.accept_multishot &= !lacks_multishot;
        let goes_on = lacks_multishot
            || failure.is_none_or(|errno| errno == Errno::EAGAIN || accept::concerns_one_connection(errno));
        match failure {
            _ if goes_on && !cancelled => self.to_arm.push(key),
            Some(errno) if !goes_on => self.finish_op(key, Err(errno)),
            _ => self.finish_op(key, Err(Errno::ECANCELED)),
        }
    }

    fn on_cancel(&mut self, key: OpKey, result: i32) {
        let asked_again = result < 0 && self.ops.get_mut(key).is_some_and(|op| op.kind.waits_for_others());
        if asked_again {
            self.to_cancel.push(key);
        }
    }

    fn on_message_sent(&mut self, index: usize, result: i32) {
        // Whatever the reason, the peer has been claimed and nobody else would wake it.
        if result < 0
            && let Some(peer) = self.peers.get(index)
        {
            peer.wake_claimed();
        }
    }
}
