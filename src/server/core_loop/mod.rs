//! One core: its backend, its shard, its connections, and the loop that turns completions into events and effects
//! into operations. The only place that sees both `shard` and `io`.
//!
//! One turn: completions → mailboxes → client operations within a budget → log writes → messages and wake-ups → one
//! send per connection → one slice of background work → timers → wait. A turn does bounded work and never blocks but
//! in its wait.

mod block_reads;
mod log_watch;
mod moving;
mod sockets;

use super::bind::CoreListener;
use super::blame::LogTimes;
use super::clients::client_lines;
use super::connection::Closing;
use super::desk::Desk;
use super::mailbox::{Arrival, ForwardedReply, ForwardedRequest, ReplySummary, RequestBody};
use super::moves::MoveMessage;
use super::net::{FollowUp, FollowUpBody, Net};
use super::pages::PAGE_KEYS;
use super::placement::{PLACEMENT_CORE, Placement};
use super::shared::Shared;
use super::tokens::Work;
use crate::buffer::AlignedBuf;
use crate::config::OnIoError;
use crate::io::{Backend, Completion, Errno, Now, Op, OpBuf, Outcome, SocketId, Wait};
use crate::jobs::{FlushRequest, ToCoordinator, ToShard};
use crate::limits::TURN_BUDGET_NS;
use crate::model::{ConnectionId, Dialect, Lsn, OperationId};
use crate::shard::{Event, Shard, ShardRequest, Shortage};
use crate::storage::wal::{WalIo, WalOutcome};
use block_reads::BlockReads;
use log_watch::LogWatch;
use moving::Moving;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

/// Messages taken from each mailbox ring in one turn.
const MAIL_PER_TURN: usize = 256;
/// Idle work such as deadlines of slow clients is looked at this often, while there are connections that need it.
const SWEEP_INTERVAL_NS: u64 = 1_000_000_000;
/// A busy core leaves its counters for reporters this often.
const PUBLISH_INTERVAL_NS: u64 = 250_000_000;
/// After shutdown begins, replies may take this long to leave.
const SHUTDOWN_NS: u64 = 3_000_000_000;

/// A core that has done less than this since does not wake the one that decides.
const COST_TOLD_MIN: u64 = 200;

/// What other threads tell a core.
pub(crate) enum Control {
    /// From the coordinator.
    Shard(ToShard),
    /// From another core, or whoever decides: about keys that move.
    Move(MoveMessage),
    /// A connection that another core has accepted, and that has a seat here.
    Adopt { socket: SocketId, peer: Option<SocketAddr> },
    /// A reply to an operation of this core's connections that the coordinator worked on.
    Done { operation: crate::model::OperationId, error: Option<String> },
}

/// How a core ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CoreEnd {
    /// It was told to, and its log is sealed.
    Closed,
    /// Its log failed, and the configuration says to exit.
    LogFailed,
    /// Its backend failed.
    BackendFailed(Errno),
}

/// See the module.
pub(crate) struct CoreLoop<B: Backend> {
    backend: B,
    pub(super) shard: Shard,
    pub(super) net: Net,
    control: Receiver<Control>,
    listeners: Vec<CoreListener>,
    completions: Vec<Completion>,
    arrivals: Vec<Arrival>,
    ready: VecDeque<ConnectionId>,
    block_reads: BlockReads,
    /// Log buffers to be filled again.
    wal_buffers: Vec<AlignedBuf>,
    sweep_due_ns: u64,
    publish_due_ns: u64,
    unpublished: bool,
    accept_retry_ns: Option<u64>,
    /// Listeners whose accept has ended (no descriptors left) and is to be started again.
    accepts_ended: Vec<u32>,
    closing_since_ns: Option<u64>,
    spin_ns: u64,
    poison_handled: bool,
    /// Why no segment could be made at the last try: logged when it changes, not at each try.
    segment_failure: Option<Errno>,
    /// Why no memtable could be flushed at the last try.
    flush_failure: Option<Errno>,
    log_watch: LogWatch,
    shared: Arc<Shared>,
    now: Now,
    /// Connections that wait for a mailbox; tried again next turn.
    blocked: Vec<ConnectionId>,
    /// Connections whose next reply waits for the log; looked at again when it has got further than `log_seen`.
    awaiting_log: Vec<ConnectionId>,
    log_seen: Lsn,
    moving: Moving,
    placement: Placement,
    /// Cost of this shard's commands when the core that decides was last told.
    cost_told: u64,
    /// When the log got how far.
    log_times: LogTimes,
}

impl<B: Backend> CoreLoop<B> {
    /// A core that serves `listeners`.
    pub(crate) fn new(
        mut backend: B,
        shard: Shard,
        net: Net,
        control: Receiver<Control>,
        listeners: Vec<CoreListener>,
        spin_ns: u64,
    ) -> Self {
        net.mailboxes.own_bell().set_waker(backend.waker());
        for (number, listener) in (0u32..).zip(&listeners) {
            backend.submit(Work::Accept(number).token(), Op::Accept { listener: listener.id });
        }
        let now = backend.now();
        let placement = Placement::new(net.shared.config.rebalance_limits);
        Self {
            shared: Arc::clone(&net.shared),
            backend,
            shard,
            net,
            control,
            listeners,
            completions: Vec::new(),
            arrivals: Vec::new(),
            ready: VecDeque::new(),
            block_reads: BlockReads::default(),
            wal_buffers: Vec::new(),
            sweep_due_ns: now.monotonic_ns,
            publish_due_ns: 0,
            unpublished: true,
            accept_retry_ns: None,
            accepts_ended: Vec::new(),
            closing_since_ns: None,
            spin_ns,
            poison_handled: false,
            segment_failure: None,
            flush_failure: None,
            log_watch: LogWatch::default(),
            now,
            blocked: Vec::new(),
            awaiting_log: Vec::new(),
            log_seen: Lsn(0),
            moving: Moving::default(),
            placement,
            cost_told: 0,
            log_times: LogTimes::default(),
        }
    }

    /// Runs until told to stop.
    pub(crate) fn run(&mut self) -> CoreEnd {
        loop {
            if let Some(end) = self.turn() {
                return end;
            }
        }
    }

    /// One bounded iteration; says how the core ended, if it did.
    pub(crate) fn turn(&mut self) -> Option<CoreEnd> {
        let wait = self.wait();
        let waited = self.poll(wait);
        self.net.mailboxes.own_bell().wake_up();
        if let Err(errno) = waited {
            log::error!("core {}: the {} backend failed: {errno}", self.net.core, self.backend.name());
            return Some(CoreEnd::BackendFailed(errno));
        }
        self.now = self.backend.now();
        self.net.now_ns = self.now.monotonic_ns;
        self.net.metrics.turns.turns += 1;
        self.take_completions();
        self.take_control();
        self.take_mail();
        self.run_requests();
        self.run_follow_ups();
        self.submit_log();
        self.settle();
        self.publish_mail();
        self.send_outputs();
        if self.shard.has_slices() {
            self.shard.handle(self.now.monotonic_ns, Event::Slice, &mut self.net);
            self.settle();
        }
        self.go_on_moving();
        self.place();
        self.maintain();
        self.publish_counters();
        self.end()
    }

    /// Whether other cores have sent something that the next turn will find: a driver that turns loops by hand lets
    /// none of them sleep in a poll, so nobody rings for it.
    pub(crate) fn has_mail(&self) -> bool {
        self.net.mailboxes.has_arrivals()
    }

    /// Whether a sync of the log has failed.
    pub(crate) fn has_failed_sync(&self) -> bool {
        self.shard.has_failed_sync()
    }

    fn poll(&mut self, wait: Wait) -> Result<(), Errno> {
        if self.spin_ns > 0 && wait != Wait::No {
            let until = self.now.monotonic_ns.saturating_add(self.spin_ns);
            loop {
                self.backend.poll(Wait::No, &mut self.completions)?;
                let spun_enough = self.backend.now().monotonic_ns >= until;
                if !self.completions.is_empty() || self.net.mailboxes.has_arrivals() || spun_enough {
                    break;
                }
                std::hint::spin_loop();
            }
            if !self.completions.is_empty() {
                return Ok(());
            }
        }
        let wait = if wait == Wait::No { Wait::No } else { self.last_look(wait) };
        self.backend.poll(wait, &mut self.completions)
    }

    /// Announces sleep, then looks once more for mail that came before the announcement.
    fn last_look(&mut self, wait: Wait) -> Wait {
        self.net.mailboxes.own_bell().go_to_sleep();
        let is_awaited = self.net.mailboxes.has_arrivals()
            || (self.shared.is_closing() && self.closing_since_ns.is_none());
        if is_awaited { Wait::No } else { wait }
    }

    /// How long the core may sleep.
    fn wait(&self) -> Wait {
        // Those in `blocked` wait for replies of other cores, which ring, or for a ring that is backed up.
        let has_work = !self.ready.is_empty()
            || !self.net.follow_ups.is_empty()
            || self.net.has_output()
            || self.shard.has_slices()
            || self.net.mailboxes.is_backed_up();
        if has_work {
            return Wait::No;
        }
        let sweep = (self.net.connections.count() > 0).then_some(self.sweep_due_ns);
        let publish = self.unpublished.then_some(self.publish_due_ns);
        let closing = self.closing_since_ns.map(|since| since.saturating_add(SHUTDOWN_NS));
        let timers = [sweep, publish, closing, self.accept_retry_ns, self.moving.deadline_ns()];
        let deadline = timers.into_iter().flatten().min().unwrap_or(u64::MAX);
        Wait::Until(deadline.min(self.shard.deadline_ns()))
    }

    fn take_completions(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            match Work::of(completion.token) {
                Work::Wal(id) => self.wal_done(id, completion),
                Work::Block(id) => self.block_done(id, completion),
                Work::Accept(listener) => self.accepted(listener, &completion),
                Work::Receive { index, generation } => self.received(self.id(index, generation), completion),
                Work::Send { index, generation } => self.sent(self.id(index, generation), completion),
                Work::Close { index, generation } => self.closed(self.id(index, generation)),
            }
        }
        self.completions = completions;
        self.net.acked = self.shard.acked();
    }

    fn wal_done(&mut self, id: u64, completion: Completion) {
        let outcome = match completion.result {
            Ok(Outcome::Transferred(bytes)) => WalOutcome::Written(bytes),
            Ok(Outcome::Done | Outcome::Accepted { .. }) => WalOutcome::Synced,
            Err(errno) if errno.is_not_done() => WalOutcome::NotDone,
            Err(errno) => {
                log::error!("core {}: a write or sync of the log failed: {errno}", self.net.core);
                WalOutcome::Failed
            }
        };
        if let OpBuf::Aligned(buf) = completion.buf {
            self.wal_buffers.push(buf);
        }
        self.log_watch.ended(id);
        self.shard.handle(self.now.monotonic_ns, Event::WalDone { id, outcome }, &mut self.net);
    }

    fn take_control(&mut self) {
        loop {
            match self.control.try_recv() {
                Ok(Control::Shard(message)) => self.shard_message(message),
                Ok(Control::Move(message)) => self.move_message(message),
                Ok(Control::Adopt { socket, peer }) => self.welcome(socket, peer),
                Ok(Control::Done { operation, error }) => self.desk().admin_done(operation, error),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        if self.shared.is_closing() && self.closing_since_ns.is_none() {
            self.begin_close();
        }
    }

    fn shard_message(&mut self, message: ToShard) {
        let event = match message {
            ToShard::Version { version, flushed, retired } => {
                self.flush_failure = self.flush_failure.filter(|_| flushed.is_empty());
                Event::Version { version, flushed, retired }
            }
            ToShard::SegmentReady(segment) => {
                self.segment_failure = None;
                Event::SegmentReady(segment)
            }
            ToShard::SegmentFailed(errno) => {
                let before = self.segment_failure.replace(errno);
                if before != Some(errno) {
                    log::warn!("core {}: no new log segment for now, trying on: {errno}", self.net.core);
                }
                let Some(event) = refusal(errno, before, Shortage::Segment) else { return };
                event
            }
            ToShard::FlushFailed { memtable, errno } => {
                let before = self.flush_failure.replace(errno);
                if before != Some(errno) {
                    log::warn!("core {}: memtable {memtable} is not flushed yet: {errno}", self.net.core);
                }
                let Some(event) = refusal(errno, before, Shortage::Tables) else { return };
                event
            }
            ToShard::FreezeNow { ticket } => Event::FreezeNow { ticket },
            ToShard::ReportHorizon => Event::ReportHorizon,
        };
        self.shard.handle(self.now.monotonic_ns, event, &mut self.net);
    }

    fn take_mail(&mut self) {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        let seqno = self.net.mailboxes.receive(MAIL_PER_TURN, &mut arrivals);
        if seqno > self.shard.seqno() {
            self.shard.handle(self.now.monotonic_ns, Event::Observe(seqno), &mut self.net);
        }
        for arrival in arrivals.drain(..) {
            match arrival {
                Arrival::Reply(reply) => {
                    let id = reply.operation.connection;
                    self.net.forwarded_reply(reply);
                    self.wake_paused(id);
                }
                Arrival::Request(request) => self.forwarded_request(&request),
            }
        }
        self.arrivals = arrivals;
    }

    fn forwarded_request(&mut self, request: &ForwardedRequest) {
        let ForwardedRequest { operation, reply_bytes_max, .. } = *request;
        let now_ns = self.now.monotonic_ns;
        match &request.body {
            RequestBody::Execute(command) => {
                self.net.begin_remote(request);
                let command = &command.borrow();
                let event = Event::Execute { operation, command, reply_bytes_max };
                self.shard.handle(now_ns, event, &mut self.net);
            }
            RequestBody::Clients { place } => self.tell_clients(operation, *place),
            RequestBody::Credit(chunks) => {
                self.shard.handle(now_ns, Event::Credit { operation, chunks: *chunks }, &mut self.net);
            }
            RequestBody::Fence { order } => self.moving.fence(*order),
            RequestBody::Cancel => self.shard.handle(now_ns, Event::Cancel { operation }, &mut self.net),
        }
    }

    /// Runs requests of the connections that have some, in turns, within the budget.
    fn run_requests(&mut self) {
        let mut blocked = std::mem::take(&mut self.blocked);
        blocked.drain(..).for_each(|id| self.make_ready(id));
        self.blocked = blocked;
        let deadline = self.now.monotonic_ns.saturating_add(TURN_BUDGET_NS);
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else { break };
            self.serve(id);
            if self.backend.now().monotonic_ns >= deadline {
                break;
            }
        }
    }

    /// Gives one connection its share of the turn.
    fn serve(&mut self, id: ConnectionId) {
        if let Some(connection) = self.net.connections.get_mut(id) {
            connection.is_ready = false;
        }
        match self.desk().serve(id) {
            super::desk::Served::Drained => self.receive(id),
            super::desk::Served::More => self.make_ready(id),
            super::desk::Served::Blocked => self.blocked.push(id),
            super::desk::Served::Paused => {
                self.net.metrics.net.backpressure_events += 1;
                let now_ns = self.now.monotonic_ns;
                if let Some(connection) = self.net.connections.get_mut(id) {
                    connection.backed_up_since_ns.get_or_insert(now_ns);
                }
            }
            super::desk::Served::Gone => {}
        }
        self.net.mark_dirty(id);
    }

    fn desk(&mut self) -> Desk<'_> {
        Desk { net: &mut self.net, shard: &mut self.shard, now: self.now, spent: 0 }
    }

    fn run_follow_ups(&mut self) {
        for _ in 0..self.net.follow_ups.len() {
            let Some(follow_up) = self.net.follow_ups.pop_front() else { break };
            if self.net.holds_follow_up(&follow_up) {
                self.net.follow_ups_held.push_back(follow_up);
                continue;
            }
            let FollowUp { shard, operation, dialect, body } = follow_up;
            match body {
                FollowUpBody::Page { from } => self.desk().ask_page(operation, dialect, from, PAGE_KEYS),
                FollowUpBody::Clients { place } => self.list_clients(shard, operation, dialect, place),
                FollowUpBody::Scan => {
                    let Some((shard, command, credit)) = self.net.moved_scan(operation, dialect) else {
                        continue;
                    };
                    self.desk().execute_stored(shard, operation, dialect, command);
                    self.desk().credit(shard, operation, credit);
                }
            }
        }
    }

    /// Asks a core, which may be this one, for a slice of its connections.
    fn list_clients(&mut self, core: u16, operation: OperationId, dialect: Dialect, place: u32) {
        if self.net.connections.get_mut(operation.connection).is_none() {
            return;
        }
        if core != self.net.core {
            return self.net.forward(core, operation, dialect, RequestBody::Clients { place });
        }
        let lines = client_lines(&self.net.connections, place, self.now.monotonic_ns);
        self.net.clients_listed(operation, lines.text.as_bytes(), lines.next);
    }

    /// Answers another core's question for this one's connections.
    fn tell_clients(&mut self, operation: OperationId, place: u32) {
        let lines = client_lines(&self.net.connections, place, self.now.monotonic_ns);
        let summary = ReplySummary { next_place: lines.next, ..ReplySummary::default() };
        let reply = ForwardedReply { operation, bytes: lines.text.into_bytes(), summary };
        self.net.mailboxes.send_reply(operation.connection.core, self.shard.seqno(), reply);
    }

    fn submit_log(&mut self) {
        while let Some(io) = self.shard.next_wal_io() {
            let (WalIo::Write { id, .. } | WalIo::Sync { id, .. }) = io;
            self.log_watch.submitted(id, self.now.monotonic_ns);
            match io {
                WalIo::Write { id, file, offset, bytes, durable } => {
                    let mut buf = self.wal_buffer(bytes);
                    self.shard.encode_wal(id, &mut buf);
                    self.net.metrics.wal.append_bytes += bytes as u64;
                    self.net.metrics.wal.fsync += u64::from(durable);
                    self.backend.submit(Work::Wal(id).token(), Op::Write { file, offset, buf, durable });
                }
                WalIo::Sync { id, file } => {
                    self.net.metrics.wal.fsync += 1;
                    self.backend.submit(Work::Wal(id).token(), Op::Sync { file });
                }
            }
        }
    }

    fn wal_buffer(&mut self, bytes: usize) -> AlignedBuf {
        /// Buffers above this are not kept.
        const KEPT_BYTES_MAX: usize = 2 << 20;
        let mut buf = match self.wal_buffers.pop() {
            Some(buf) if buf.capacity() >= bytes && buf.capacity() <= KEPT_BYTES_MAX => buf,
            Some(_) | None => AlignedBuf::with_capacity(bytes.max(64 << 10)),
        };
        buf.set_len(bytes);
        buf
    }

    /// Turns what the shard asked for into operations and messages.
    fn settle(&mut self) {
        self.net.seqno = self.shard.seqno();
        self.net.acked = self.shard.acked();
        self.read_wanted_blocks();
        let shard = self.net.core;
        for request in std::mem::take(&mut self.net.shard_requests) {
            self.shared.tell_coordinator(match request {
                ShardRequest::Flush { memtable, keys, releases } => {
                    ToCoordinator::Flush(FlushRequest { shard, memtable, keys, releases })
                }
                ShardRequest::Segment => ToCoordinator::NeedSegment { shard },
                ShardRequest::Frozen { ticket } => ToCoordinator::Frozen { shard, ticket },
                ShardRequest::FreezeFailed { ticket } => ToCoordinator::FreezeFailed { shard, ticket },
                ShardRequest::Dispose(memtable) => ToCoordinator::Dispose(memtable),
                ShardRequest::Horizon(seqno) => ToCoordinator::Horizon { shard, seqno },
            });
        }
        if self.shard.is_poisoned() && !self.poison_handled {
            self.poison_handled = true;
            self.log_failed();
        }
    }

    /// The log has failed: replies that wait for it become errors, and their connections end.
    fn log_failed(&mut self) {
        self.net.fail_held();
        for id in self.net.connections.ids() {
            let acked = self.net.acked;
            let Some(connection) = self.net.connections.get_mut(id) else { continue };
            if connection.output.drop_held(acked) | connection.slots.waits_for_log(acked) {
                let text = b"-IOERR a write to the log failed, the outcome is unknown\r\n";
                if connection.dialect_is_resp() {
                    connection.output.bytes_mut().extend_from_slice(text);
                }
                connection.closing = Closing::AfterReplies;
                connection.is_cut_off = true;
                connection.input.clear();
            }
            self.net.mark_dirty(id);
        }
    }

    fn publish_mail(&mut self) {
        self.net.release_held();
        let Self { net, backend, .. } = self;
        net.mailboxes.publish(net.seqno, |waker| backend.wake_peer(waker));
    }

    fn maintain(&mut self) {
        self.shard.handle(self.now.monotonic_ns, Event::Maintain, &mut self.net);
        self.settle();
        self.submit_log();
        if self.accept_retry_ns.is_some_and(|due| due <= self.now.monotonic_ns) {
            self.accept_retry_ns = None;
            for number in std::mem::take(&mut self.accepts_ended) {
                let listener = self.listeners[number as usize].id;
                self.backend.submit(Work::Accept(number).token(), Op::Accept { listener });
            }
        }
        if self.now.monotonic_ns >= self.sweep_due_ns {
            self.sweep_due_ns = self.now.monotonic_ns + SWEEP_INTERVAL_NS;
            self.sweep();
        }
    }

    fn publish_counters(&mut self) {
        self.unpublished = true;
        if self.now.monotonic_ns < self.publish_due_ns {
            return;
        }
        self.publish_due_ns = self.now.monotonic_ns + PUBLISH_INTERVAL_NS;
        // A disk that hangs wakes nobody: how long it does is told all the same.
        self.unpublished = self.log_watch.is_waiting();
        self.net.metrics.shard.log_wait_ns = self.log_watch.look(self.net.core, self.now.monotonic_ns);
        super::status::gather(&mut self.net.metrics, &self.shard);
        self.net.metrics.turns.cpu_ns = self.backend.cpu_ns();
        let (cost, shard) = (self.shard.load_cost(), &self.shard);
        self.shared.loads.publish(self.net.core, cost, || shard.load_keys());
        if self.net.core != PLACEMENT_CORE && self.decides() && cost > self.cost_told + COST_TOLD_MIN {
            self.cost_told = cost;
            self.shared.ring(PLACEMENT_CORE);
        }
        let snapshot = self.net.metrics.snapshot(self.net.core, self.now.monotonic_ns);
        self.shared.publish(self.net.core, snapshot);
    }

    fn begin_close(&mut self) {
        self.closing_since_ns = Some(self.now.monotonic_ns);
        for (number, _) in (0u32..).zip(&self.listeners) {
            self.backend.cancel(Work::Accept(number).token());
        }
        self.shard.handle(self.now.monotonic_ns, Event::Close, &mut self.net);
        for id in self.net.connections.ids() {
            if let Some(connection) = self.net.connections.get_mut(id)
                && connection.closing == Closing::No
            {
                connection.closing = Closing::AfterReplies;
                self.net.mark_dirty(id);
            }
        }
    }

    fn end(&mut self) -> Option<CoreEnd> {
        if self.shard.is_poisoned() && self.shared.config.on_io_error == OnIoError::Exit {
            return Some(CoreEnd::LogFailed);
        }
        let since = self.closing_since_ns?;
        let late = self.now.monotonic_ns.saturating_sub(since) > SHUTDOWN_NS;
        let log_done = self.shard.is_log_idle() || self.shard.is_poisoned();
        let quiet = self.net.connections.count() == 0
            && !self.net.has_held()
            && self.net.mailboxes.requests_under_way() == 0;
        if late {
            self.net.connections.ids().into_iter().for_each(|id| self.close_now(id));
        }
        (log_done && (quiet || late)).then_some(CoreEnd::Closed)
    }
}

/// What a shard is told of a disk that has not taken what it needs: a full one is known at once, any other failure may
/// have been a single one and counts from the second in a row, of whatever kind.
fn refusal(errno: Errno, before: Option<Errno>, shortage: Shortage) -> Option<Event<'static>> {
    match (errno.is_out_of_space(), before) {
        (true, _) => Some(Event::DiskFull(shortage)),
        (false, Some(_)) => Some(Event::DiskFails(shortage)),
        (false, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fails_in_turns_is_said_to_fail() {
        // EIO, then a file system that is read-only, then EIO again: writes would be called too fast for ever.
        let refused = |errno, before| refusal(errno, before, Shortage::Segment);
        assert!(refused(Errno::EIO, None).is_none(), "one failure may be a single one");
        let other = Errno(libc::EROFS);
        assert!(matches!(refused(other, Some(Errno::EIO)), Some(Event::DiskFails(Shortage::Segment))));
        assert!(matches!(refused(Errno::EIO, Some(Errno::EIO)), Some(Event::DiskFails(Shortage::Segment))));
        let full = Errno(libc::ENOSPC);
        assert!(matches!(refused(full, None), Some(Event::DiskFull(Shortage::Segment))));
    }
}
