//! A core's sockets: accepting, receiving, sending and closing, and when each may happen.
//!
//! A connection stays until all its operations have completed. It is paused (nothing is received) while its replies
//! pile up, and dropped when it takes none of them for too long.

use super::{Control, CoreLoop};
use crate::io::{Backend, Completion, Op, OpBuf, Outcome, SocketId};
use crate::limits::{OUTPUT_BYTES_PAUSE, RECEIVE_BYTES, REQUEST_DEADLINE_NS};
use crate::model::ConnectionId;
use crate::server::admission;
use crate::server::connection::{Closing, Connection, Receiving};
use crate::server::slow_log::SlowRequest;
use crate::server::tokens::Work;
use std::net::SocketAddr;

/// An input buffer above this is made small again once its large request has been served.
const INPUT_BYTES_KEPT_MAX: usize = 8 * RECEIVE_BYTES;
/// A client that takes so much of its replies at once is reading them.
const PROGRESS_BYTES: usize = 16 << 10;
/// A paused accept (no descriptors left) is tried again after this.
const ACCEPT_RETRY_NS: u64 = 100_000_000;

impl<B: Backend> CoreLoop<B> {
    pub(super) fn id(&self, index: u32, generation: u32) -> ConnectionId {
        ConnectionId { core: self.net.core, index, generation }
    }

    pub(super) fn accepted(&mut self, listener: u32, completion: &Completion) {
        match completion.result {
            Ok(Outcome::Accepted { socket, peer }) => self.seat(listener, socket, peer),
            Ok(_) => {}
            Err(errno) if self.closing_since_ns.is_none() => {
                log::warn!("core {}: accepting connections failed, trying again: {errno}", self.net.core);
            }
            Err(_) => {}
        }
        if !completion.more && self.closing_since_ns.is_none() {
            self.accept_retry_ns = Some(self.now.monotonic_ns.saturating_add(ACCEPT_RETRY_NS));
            self.accepts_ended.push(listener);
        }
    }

    /// Keeps a new connection, or gives it to a core that has fewer.
    fn seat(&mut self, listener: u32, socket: SocketId, peer: Option<SocketAddr>) {
        let core = self.net.core;
        let is_shared = self.listeners.get(listener as usize).is_some_and(|listener| listener.is_shared);
        if !is_shared {
            self.shared.seats.take_at(core);
            return self.welcome(socket, peer);
        }
        match self.shared.seats.take(core) {
            seat if seat == core => self.welcome(socket, peer),
            seat => self.shared.tell_core(seat, Control::Adopt { socket, peer }),
        }
    }

    /// Begins to serve a connection that has a seat here.
    pub(super) fn welcome(&mut self, socket: SocketId, peer: Option<SocketAddr>) {
        self.net.metrics.net.connections_accepted += 1;
        let is_admitted = self.shared.admit_client();
        self.net.metrics.net.connections_refused += u64::from(!is_admitted);
        let authenticated = !self.shared.needs_auth();
        let now_ns = self.now.monotonic_ns;
        let client = self.shared.next_client();
        let make = |id| Connection::new(id, client, socket, peer, authenticated, now_ns);
        let id = self.net.connections.insert(self.net.core, make);
        self.net.metrics.net.connections_open = self.net.connections.count() as u64;
        let farewell = if !is_admitted {
            Some(admission::FULL)
        } else if self.closing_since_ns.is_some() {
            Some(admission::STOPPING)
        } else {
            admission::is_denied(&self.shared.config, peer).then_some(admission::DENIED)
        };
        let Some(farewell) = farewell else { return self.receive(id) };
        if let Some(connection) = self.net.connections.get_mut(id) {
            connection.is_admitted = is_admitted;
            connection.output.bytes_mut().extend_from_slice(farewell);
            connection.closing = Closing::AfterReplies;
        }
        self.net.mark_dirty(id);
    }

    /// Starts a receive, unless one is under way or the connection is paused.
    pub(super) fn receive(&mut self, id: ConnectionId) {
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        if connection.receiving != Receiving::No || connection.closing != Closing::No {
            return;
        }
        let mut buf = std::mem::take(&mut connection.input);
        let before = buf.capacity();
        if before > INPUT_BYTES_KEPT_MAX && buf.len() < RECEIVE_BYTES {
            // A large request has passed: its memory belongs to all connections.
            buf.shrink_to(2 * RECEIVE_BYTES);
        }
        if buf.capacity() - buf.len() < RECEIVE_BYTES / 4 {
            // Doubling keeps a large request linear; only received bytes make the buffer grow.
            buf.reserve(RECEIVE_BYTES.max(buf.len()));
        }
        if !self.shared.account_query_memory(before, buf.capacity()) && buf.capacity() > 2 * RECEIVE_BYTES {
            log::warn!("closing a connection: --max-query-memory is used up");
            connection.input = buf;
            self.net.metrics.net.connections_dropped += 1;
            return self.close_now(id);
        }
        connection.receiving = Receiving::Yes;
        connection.operations += 1;
        let op = Op::Receive { socket: connection.socket, buf };
        self.backend.submit(Work::Receive { index: id.index, generation: id.generation }.token(), op);
    }

    pub(super) fn received(&mut self, id: ConnectionId, completion: Completion) {
        let now_ns = self.now.monotonic_ns;
        let Some(connection) = self.net.connections.get_mut(id) else {
            unreachable!("a connection stays until its operations have completed")
        };
        connection.operations -= 1;
        if let OpBuf::Bytes(buf) = completion.buf {
            connection.input = buf;
        }
        connection.receiving = Receiving::No;
        match completion.result {
            Ok(Outcome::Transferred(0)) => {
                connection.receiving = Receiving::Ended;
                if connection.closing != Closing::No {
                    connection.input.clear();
                } else {
                    // What was sent before the end is still answered.
                    connection.closing = Closing::AfterReplies;
                    connection.is_ready = true;
                    self.ready.push_back(id);
                }
                self.net.mark_dirty(id);
            }
            Ok(Outcome::Transferred(count)) => {
                self.net.metrics.net.rx_bytes += count as u64;
                connection.active_ns = now_ns;
                self.make_ready(id);
            }
            Ok(_) => unreachable!("a receive transfers bytes"),
            Err(errno) if errno.is_not_done() && connection.closing == Closing::No => self.receive(id),
            Err(_) => self.close_now(id),
        }
        self.forget_if_done(id);
    }

    pub(super) fn make_ready(&mut self, id: ConnectionId) {
        if let Some(connection) = self.net.connections.get_mut(id)
            && !connection.is_ready
        {
            connection.is_ready = true;
            self.ready.push_back(id);
        }
    }

    pub(super) fn sent(&mut self, id: ConnectionId, completion: Completion) {
        let Some(connection) = self.net.connections.get_mut(id) else {
            unreachable!("a connection stays until its operations have completed")
        };
        connection.operations -= 1;
        let OpBuf::Bytes(buf) = completion.buf else { unreachable!("a send brings its buffer back") };
        let pending = connection.output.sending();
        let from = buf.len() - pending;
        match completion.result {
            Ok(Outcome::Transferred(count)) => {
                self.net.metrics.net.tx_bytes += count as u64;
                connection.output.sent(pending - count);
                if count >= PROGRESS_BYTES && connection.backed_up_since_ns.is_some() {
                    // It is slow, but it reads.
                    connection.backed_up_since_ns = Some(self.now.monotonic_ns);
                }
                if count < pending {
                    self.send(id, buf, from + count);
                } else {
                    connection.output.recycle(buf);
                    self.replies_left(id);
                    self.after_send(id);
                }
            }
            Err(errno) if errno.is_not_done() && connection.closing != Closing::Now => {
                self.send(id, buf, from)
            }
            Ok(_) | Err(_) => {
                connection.output.sent(0);
                self.close_now(id);
            }
        }
        self.forget_if_done(id);
    }

    /// The kernel has taken replies: tells where the time of their requests went.
    fn replies_left(&mut self, id: ConnectionId) {
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        let slower_than = self.shared.config.slowlog_slower_than;
        let slow_ns = slower_than.map_or(u128::MAX, |limit| limit.as_nanos());
        while let Some(answered) = connection.output.take_sent() {
            let times = answered.times(self.now.monotonic_ns);
            self.net.metrics.phases.record(&times, answered.count);
            if u128::from(times.total_ns()) <= slow_ns {
                continue;
            }
            let remembered = || connection.heads.at(answered.begun.served_ns).copied();
            let request = SlowRequest {
                unix_s: self.now.unix_ns.div_euclid(1_000_000_000),
                kind: answered.begun.kind,
                times,
                count: answered.count,
                head: answered.head.as_deref().copied().or_else(remembered),
                peer: connection.peer,
                client_name: connection.name.clone(),
            };
            self.shared.slow_log.add(request, self.shared.config.slowlog_len);
        }
    }

    /// A send is complete: goes on reading if that was paused, and sends what has gathered.
    pub(super) fn after_send(&mut self, id: ConnectionId) {
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        if !connection.is_backed_up() {
            connection.backed_up_since_ns = None;
            self.make_ready(id);
        }
        self.net.mark_dirty(id);
    }

    pub(super) fn send(&mut self, id: ConnectionId, buf: Vec<u8>, from: usize) {
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        connection.operations += 1;
        let op = Op::Send { socket: connection.socket, buf, from };
        self.backend.submit(Work::Send { index: id.index, generation: id.generation }.token(), op);
    }

    pub(super) fn closed(&mut self, id: ConnectionId) {
        if let Some(connection) = self.net.connections.get_mut(id) {
            connection.operations -= 1;
        }
        self.forget_if_done(id);
    }

    /// Ends a connection at once: cancels what it waits for and closes the socket.
    pub(super) fn close_now(&mut self, id: ConnectionId) {
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        if connection.closing == Closing::Now {
            return;
        }
        connection.closing = Closing::Now;
        connection.operations += 1;
        let socket = connection.socket;
        let scans = std::mem::take(&mut connection.scans);
        self.backend
            .submit(Work::Close { index: id.index, generation: id.generation }.token(), Op::Close { socket });
        for scan in scans.into_iter().filter(|scan| !scan.is_moving) {
            let operation = crate::model::OperationId { connection: id, sequence: scan.sequence, part: 0 };
            self.desk().cancel(scan.shard, operation);
        }
    }

    pub(super) fn forget_if_done(&mut self, id: ConnectionId) {
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        if connection.closing == Closing::Now && connection.operations == 0 {
            self.shared.account_query_memory(connection.input.capacity(), 0);
            if connection.is_admitted {
                self.shared.release_client();
            }
            self.shared.seats.leave(id.core);
            self.net.connections.remove(id);
            self.net.metrics.net.connections_open = self.net.connections.count() as u64;
        }
    }

    /// A connection that had too many replies outstanding may go on.
    pub(super) fn wake_paused(&mut self, id: ConnectionId) {
        let Some(connection) = self.net.connections.get_mut(id) else { return };
        if connection.receiving != Receiving::Yes && !connection.is_backed_up() {
            self.make_ready(id);
        }
    }

    /// One send per connection with something to send.
    pub(super) fn send_outputs(&mut self) {
        let acked = self.net.acked;
        if acked > self.log_seen {
            self.log_seen = acked;
            self.log_times.advanced(acked, self.now.monotonic_ns);
            // Emptied and put back: its memory is used again in the next turn.
            let mut awaiting_log = std::mem::take(&mut self.awaiting_log);
            for id in awaiting_log.drain(..) {
                if let Some(connection) = self.net.connections.get_mut(id) {
                    connection.awaits_log = false;
                }
                self.net.mark_dirty(id);
            }
            self.awaiting_log = awaiting_log;
        }
        let spare = std::mem::take(&mut self.net.dirty_spare);
        let mut dirty = std::mem::replace(&mut self.net.dirty, spare);
        for id in dirty.drain(..) {
            let Some(connection) = self.net.connections.get_mut(id) else { continue };
            connection.is_dirty = false;
            connection.output.end_turn(self.now.monotonic_ns);
            if connection.closing == Closing::Now {
                continue;
            }
            let bytes_max = connection.output_bytes_max(self.shared.config.max_output_bytes);
            if connection.is_overflowing || connection.unsent_bytes() > bytes_max {
                log::warn!("closing a connection that does not read its replies: {bytes_max} bytes wait");
                self.net.metrics.net.connections_dropped += 1;
                self.close_now(id);
                continue;
            }
            if let Some(bytes) = connection.output.take_sendable(acked) {
                let (now_ns, latencies) = (self.now.monotonic_ns, &mut self.net.metrics.latencies);
                connection.output.hand_over(&self.log_times, now_ns, |begun, count| {
                    latencies.record(begun.kind, now_ns.saturating_sub(begun.arrived_ns), count, now_ns);
                });
                self.send(id, bytes, 0);
                continue;
            }
            if connection.output.waits_for(acked).is_some() {
                if !connection.awaits_log {
                    connection.awaits_log = true;
                    self.awaiting_log.push(id);
                }
            } else if connection.closing == Closing::AfterReplies && connection.is_drained() {
                self.close_now(id);
            }
        }
        self.net.dirty_spare = dirty;
    }

    /// Drops connections that are too slow.
    pub(super) fn sweep(&mut self) {
        let now_ns = self.now.monotonic_ns;
        for id in self.net.connections.ids() {
            let Some(connection) = self.net.connections.get_mut(id) else { continue };
            let late = |since: Option<u64>| {
                since.is_some_and(|since| now_ns.saturating_sub(since) > REQUEST_DEADLINE_NS)
            };
            if connection.unsent_bytes() > OUTPUT_BYTES_PAUSE {
                // Replies can pile up behind the last request, when nothing else would notice.
                connection.backed_up_since_ns.get_or_insert(now_ns);
            }
            // While no send is under way it is not the client that is slow.
            let is_unread = connection.output.sending() > 0 && late(connection.backed_up_since_ns);
            if connection.closing != Closing::Now && (late(connection.request_since_ns) || is_unread) {
                self.net.metrics.net.connections_dropped += 1;
                self.close_now(id);
            }
        }
    }
}
