//! One thread of the generator: many connections over one backend, nothing that blocks but the backend's `poll`.
//!
//! ```text
//! turn:  issue what is due ─▶ one send per connection with something to say ─▶ poll ─▶ read replies ─▶ record
//! ```
//! Under a schedule an operation is due at a time fixed beforehand; it goes to a connection that waits for nothing, else
//! to the next one with room, however late that is: it is never skipped. Without a schedule each connection is kept full.
//! Near a due time the thread spins, because a sleep would end late; it yields its processor to whoever wants it, and
//! time spent so is not counted as work.

use super::connection::{Complete, Connection, Pending};
use super::journal::{Acknowledged, JournalWriter};
use super::recorder::{Amounts, Answered, Recorder};
use super::schedule::Schedule;
use super::wire::SCAN_CREDIT;
use super::workload::Workload;
use crate::io::{AnyBackend, Backend, Completion, Errno, Op, OpBuf, Outcome, SocketId, Token, Wait, sys};
use crate::protocol::binary::{Request, encode_request};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Before a due time the thread spins for this long: timers end late by about as much.
const SPIN_NS: u64 = 60_000;
/// Longest wait: the stop flag and the seconds are looked at this often.
const WAIT_NS_MAX: u64 = 50_000_000;
/// Operations that are late are spread over about this many connections per turn.
const SPREAD: u64 = 8;
/// After the end of the time, late operations are still sent and replies awaited for this long.
const GRACE_NS: u64 = 5_000_000_000;
/// Set in the tokens of closes.
const CLOSES: u64 = 1 << 63;

/// When operations are sent.
pub(super) enum Pace {
    /// From this start on, whenever a connection has fewer than its number in flight.
    Closed { start_ns: u64 },
    /// At the schedule's times.
    Scheduled(Schedule),
    /// At the workload's own times, counted from this start.
    ByData { start_ns: u64 },
}

/// What one thread is told.
pub(super) struct Orders {
    pub(super) pace: Pace,
    /// Operations that a connection may wait for.
    pub(super) in_flight_max: usize,
    /// Operations to send in all; none: until `end_ns`.
    pub(super) budget: Option<u64>,
    /// No operation is due or sent from then on.
    pub(super) end_ns: u64,
    /// Ends the run early.
    pub(super) stop: Arc<AtomicBool>,
}

/// What a thread saw besides what its recorder tells.
#[derive(Clone, Debug, Default)]
pub(super) struct ThreadOutcome {
    pub(super) first_errors: Vec<Option<String>>,
    /// Connections that were lost, and why the first one was.
    pub(super) connections_lost: u64,
    pub(super) lost_reason: Option<String>,
    /// Operations without an answer.
    pub(super) unanswered: u64,
    /// Operations that were due and never sent, because the time was over.
    pub(super) unsent: u64,
    /// Operations that found all connections full when they were due.
    pub(super) dropped: u64,
    pub(super) lag_ns_max: u64,
    pub(super) lag_ns_sum: u128,
    pub(super) lag_count: u64,
    /// Lag of those that no full connection made late.
    pub(super) own_lag_ns_max: u64,
    pub(super) own_lag_ns_sum: u128,
    /// CPU time that was work, and the time that it is a part of.
    pub(super) busy_ns: u64,
    pub(super) elapsed_ns: u64,
    /// Why the workload ended early, or the backend broke.
    pub(super) failure: Option<String>,
}

/// The engine of one thread; see the module.
pub(super) struct Engine {
    backend: AnyBackend,
    connections: Vec<Connection>,
    workload: Box<dyn Workload>,
    orders: Orders,
    pub(super) recorder: Recorder,
    journal: Option<JournalWriter>,
    /// Connections that wait for nothing.
    idle: VecDeque<usize>,
    /// Where the search for room goes on.
    rotation: usize,
    /// Connections with something to send, or room to fill.
    touched: Vec<usize>,
    is_touched: Vec<bool>,
    /// Buffers between two uses.
    spare: Vec<Vec<u8>>,
    left: u64,
    has_ended: bool,
    outstanding: usize,
    spin_ns: u64,
    /// All connections were full since the last time that something was sent.
    was_full: bool,
    /// What was due before this time was held up by full connections.
    full_until_ns: u64,
    outcome: ThreadOutcome,
}

impl Engine {
    pub(super) fn new(
        backend: AnyBackend,
        connections: Vec<Connection>,
        workload: Box<dyn Workload>,
        orders: Orders,
        recorder: Recorder,
        journal: Option<JournalWriter>,
    ) -> Self {
        let count = connections.len();
        let op_count = workload.op_names().len();
        Self {
            backend,
            workload,
            left: orders.budget.unwrap_or(u64::MAX),
            orders,
            recorder,
            journal,
            idle: (0..count).collect(),
            rotation: 0,
            touched: (0..count).collect(),
            is_touched: vec![true; count],
            connections,
            spare: Vec::new(),
            has_ended: false,
            outstanding: 0,
            spin_ns: 0,
            was_full: false,
            full_until_ns: 0,
            outcome: ThreadOutcome { first_errors: vec![None; op_count], ..ThreadOutcome::default() },
        }
    }

    /// Runs to the end; gives the recorder and what else was seen.
    pub(super) fn run(mut self) -> (Recorder, ThreadOutcome) {
        self.await_start();
        let (start_ns, start_cpu_ns) = (sys::monotonic_ns(), sys::thread_cpu_ns());
        for index in 0..self.connections.len() {
            self.receive(index);
        }
        let mut completions = Vec::new();
        let mut last_cpu_ns = start_cpu_ns;
        loop {
            let now_ns = sys::monotonic_ns();
            if self.is_over(now_ns) {
                break;
            }
            let issued = self.issue(now_ns);
            self.send_touched();
            let wait = self.wait();
            if let Err(errno) = self.backend.poll(wait, &mut completions) {
                self.outcome.failure =
                    Some(format!("the generator's {} failed: {errno}", self.backend.name()));
                break;
            }
            let done_ns = sys::monotonic_ns();
            let is_spinning = wait == Wait::No && !issued && completions.is_empty();
            if is_spinning {
                // A server that shares this processor must not wait for a thread that does nothing.
                std::thread::yield_now();
            }
            let cpu_ns = sys::thread_cpu_ns();
            if is_spinning {
                self.spin_ns += cpu_ns - last_cpu_ns;
            }
            last_cpu_ns = cpu_ns;
            let busy_ns = cpu_ns.saturating_sub(start_cpu_ns + self.spin_ns);
            let behind_ns = self.behind_ns(done_ns);
            self.recorder.turn_over(done_ns, behind_ns, busy_ns);
            for completion in completions.drain(..) {
                self.completed(completion, done_ns);
            }
            self.recorder.settle();
        }
        self.finish(start_ns, start_cpu_ns)
    }

    /// A closed loop begins when measuring does, or its warm-up: what it sends earlier would be in no figure.
    #[expect(clippy::disallowed_methods, reason = "nothing is under way that this thread could serve")]
    fn await_start(&self) {
        if let Pace::Closed { start_ns } = self.orders.pace {
            std::thread::sleep(Duration::from_nanos(start_ns.saturating_sub(sys::monotonic_ns())));
        }
    }

    fn finish(mut self, start_ns: u64, start_cpu_ns: u64) -> (Recorder, ThreadOutcome) {
        let now_ns = sys::monotonic_ns();
        self.outcome.busy_ns = sys::thread_cpu_ns().saturating_sub(start_cpu_ns + self.spin_ns);
        self.outcome.elapsed_ns = now_ns - start_ns;
        self.outcome.unanswered += self.outstanding as u64;
        if let (Pace::Scheduled(schedule), false) = (&self.orders.pace, self.has_ended) {
            let horizon_ns = self.orders.end_ns.min(now_ns);
            if schedule.due_ns() < horizon_ns {
                self.outcome.unsent = schedule.backlog(horizon_ns);
            }
        }
        self.recorder.hand_over(self.behind_ns(now_ns), self.outcome.busy_ns);
        for connection in self.connections.iter().filter(|connection| !connection.is_lost) {
            self.backend.submit(close_token(connection.socket), Op::Close { socket: connection.socket });
        }
        let mut completions = Vec::new();
        while self.backend.in_flight() > 0
            && self.backend.poll(Wait::Until(u64::MAX), &mut completions).is_ok()
        {}
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal.flush()
        {
            self.outcome.failure.get_or_insert(format!("the journal cannot be written: {error}"));
        }
        if let Some(failure) = self.workload.failure() {
            self.outcome.failure.get_or_insert(failure);
        }
        (self.recorder, self.outcome)
    }

    /// How late the schedule is.
    fn behind_ns(&self, now_ns: u64) -> u64 {
        match &self.orders.pace {
            Pace::Scheduled(schedule) => now_ns.min(self.orders.end_ns).saturating_sub(schedule.due_ns()),
            Pace::Closed { .. } | Pace::ByData { .. } => 0,
        }
    }

    fn is_over(&mut self, now_ns: u64) -> bool {
        if self.orders.stop.load(Ordering::Relaxed) && !self.has_ended {
            self.has_ended = true;
            // What is in flight may still answer, but not for as long as at a regular end.
            self.orders.end_ns = now_ns.saturating_sub(GRACE_NS / 2);
        }
        if self.connections.iter().all(|connection| connection.is_lost) {
            return true;
        }
        let nothing_more = self.has_ended || self.left == 0 || self.schedule_is_over(now_ns);
        if nothing_more {
            self.has_ended = true;
        }
        (nothing_more && self.outstanding == 0) || now_ns >= self.orders.end_ns.saturating_add(GRACE_NS)
    }

    /// Whether no operation is left to be sent.
    fn schedule_is_over(&self, now_ns: u64) -> bool {
        match &self.orders.pace {
            Pace::Closed { .. } => now_ns >= self.orders.end_ns,
            Pace::Scheduled(schedule) => schedule.due_ns() >= self.orders.end_ns,
            Pace::ByData { .. } => false,
        }
    }

    /// Appends what is due to connections' outputs; says whether anything was.
    fn issue(&mut self, now_ns: u64) -> bool {
        if self.has_ended {
            return false;
        }
        match &self.orders.pace {
            Pace::Closed { .. } => self.fill(now_ns),
            Pace::Scheduled(_) | Pace::ByData { .. } => self.issue_due(now_ns),
        }
    }

    /// Closed loop: fills each connection that has room.
    fn fill(&mut self, now_ns: u64) -> bool {
        if now_ns >= self.orders.end_ns {
            return false;
        }
        let mut any = false;
        for position in 0..self.touched.len() {
            let index = self.touched[position];
            while self.left > 0 && !self.has_ended && !self.connections[index].is_lost {
                let room = self.orders.in_flight_max.saturating_sub(self.connections[index].outstanding);
                if room == 0 {
                    break;
                }
                any |= self.issue_some(index, None, self.left.min(room as u64));
            }
        }
        any
    }

    /// Open loop: sends what is due, late or not.
    fn issue_due(&mut self, now_ns: u64) -> bool {
        let mut any = false;
        let chunk = match &self.orders.pace {
            Pace::Scheduled(schedule) => schedule.backlog(now_ns).div_ceil(SPREAD),
            Pace::Closed { .. } | Pace::ByData { .. } => 1,
        };
        while self.left > 0 && !self.has_ended && self.next_due_ns() <= now_ns.min(self.orders.end_ns - 1) {
            let Some(index) = self.pick() else {
                self.was_full = true;
                return any;
            };
            if self.was_full {
                (self.was_full, self.full_until_ns) = (false, now_ns);
            }
            for _ in 0..chunk {
                let due_ns = self.next_due_ns();
                let has_room = self.connections[index].outstanding < self.orders.in_flight_max;
                if due_ns > now_ns || due_ns >= self.orders.end_ns || !has_room || self.left == 0 {
                    break;
                }
                any |= self.issue_some(index, Some(due_ns), 1);
                if self.has_ended {
                    break;
                }
                self.note_lag(due_ns, now_ns);
                if let Pace::Scheduled(schedule) = &mut self.orders.pace {
                    schedule.advance();
                }
            }
        }
        any
    }

    fn next_due_ns(&mut self) -> u64 {
        match &self.orders.pace {
            Pace::Closed { .. } => 0,
            Pace::Scheduled(schedule) => schedule.due_ns(),
            Pace::ByData { start_ns } => start_ns.saturating_add(self.workload.due_offset_ns().unwrap_or(0)),
        }
    }

    /// A connection for one more operation: one that waits for nothing, else the next one with room.
    fn pick(&mut self) -> Option<usize> {
        while let Some(index) = self.idle.pop_front() {
            let connection = &self.connections[index];
            if !connection.is_lost && connection.outstanding == 0 {
                return Some(index);
            }
        }
        let count = self.connections.len();
        for _ in 0..count {
            self.rotation = (self.rotation + 1) % count;
            let connection = &self.connections[self.rotation];
            if !connection.is_lost && connection.outstanding < self.orders.in_flight_max {
                return Some(self.rotation);
            }
        }
        None
    }

    /// Appends an operation to a connection's output, or up to `most` where they are alike and none has a due time of
    /// its own; false where there are no more.
    fn issue_some(&mut self, index: usize, intended_ns: Option<u64>, most: u64) -> bool {
        let connection = &mut self.connections[index];
        let (start, first_id) = (connection.out.len(), connection.next_id());
        let issued = if most > 1 && connection.is_in_order() {
            self.workload.issue_alike(&mut connection.out, first_id, most)
        } else {
            self.workload.issue(&mut connection.out, first_id)
        };
        let Some(issued) = issued else {
            self.has_ended = true;
            return false;
        };
        let pending = Pending {
            op: issued.op,
            intended_ns,
            sent_ns: 0,
            sequence: issued.sequence,
            stride: issued.stride,
            written: issued.written,
            bytes_sent: 0,
        };
        connection.push(pending, start, &issued);
        self.outstanding += usize::try_from(issued.further).unwrap_or(usize::MAX) + 1;
        self.left -= issued.further + 1;
        self.touch(index);
        true
    }

    fn note_lag(&mut self, due_ns: u64, now_ns: u64) {
        if due_ns < self.recorder.measure_ns() {
            return;
        }
        let lag_ns = now_ns.saturating_sub(due_ns);
        self.outcome.lag_ns_max = self.outcome.lag_ns_max.max(lag_ns);
        self.outcome.lag_ns_sum += u128::from(lag_ns);
        self.outcome.lag_count += 1;
        if due_ns < self.full_until_ns {
            self.outcome.dropped += 1;
        } else {
            self.outcome.own_lag_ns_max = self.outcome.own_lag_ns_max.max(lag_ns);
            self.outcome.own_lag_ns_sum += u128::from(lag_ns);
        }
    }

    fn touch(&mut self, index: usize) {
        if !self.is_touched[index] {
            self.is_touched[index] = true;
            self.touched.push(index);
        }
    }

    /// One send for each connection that has something to say and whose last send is done.
    fn send_touched(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for index in touched.drain(..) {
            self.is_touched[index] = false;
            let connection = &mut self.connections[index];
            if connection.out.is_empty() || connection.is_sending || connection.is_lost {
                continue;
            }
            let buf = connection.take_output(sys::monotonic_ns(), self.spare.pop().unwrap_or_default());
            let op = Op::Send { socket: connection.socket, buf, from: 0 };
            self.backend.submit(send_token(index), op);
        }
        self.touched = touched;
    }

    fn receive(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let op = Op::Receive { socket: connection.socket, buf: connection.take_receive_buffer() };
        self.backend.submit(receive_token(index), op);
    }

    fn wait(&mut self) -> Wait {
        let now_ns = sys::monotonic_ns();
        let mut until_ns = now_ns + WAIT_NS_MAX;
        if !self.has_ended
            && !self.was_full
            && self.left > 0
            && !matches!(self.orders.pace, Pace::Closed { .. })
        {
            let due_ns = self.next_due_ns();
            if due_ns <= now_ns + SPIN_NS {
                return Wait::No;
            }
            until_ns = until_ns.min(due_ns - SPIN_NS);
        }
        if now_ns < self.orders.end_ns {
            until_ns = until_ns.min(self.orders.end_ns);
        }
        Wait::Until(until_ns)
    }

    fn completed(&mut self, completion: Completion, done_ns: u64) {
        let Some((index, is_send)) = connection_of(completion.token) else { return };
        let OpBuf::Bytes(buf) = completion.buf else { return };
        if self.connections[index].is_lost {
            return;
        }
        match (completion.result, is_send) {
            (Ok(Outcome::Transferred(count)), true) => self.sent(index, buf, count),
            (Ok(Outcome::Transferred(0)), false) => {
                self.lose(index, "the server closed the connection", done_ns)
            }
            (Ok(_), false) => self.received(index, buf, done_ns),
            (Ok(_), true) => {}
            (Err(Errno::EINTR | Errno::EAGAIN), false) => self.receive(index),
            (Err(errno), _) => self.lose(index, &errno.to_string(), done_ns),
        }
    }

    fn sent(&mut self, index: usize, mut buf: Vec<u8>, count: usize) {
        let connection = &mut self.connections[index];
        if count < buf.len() {
            buf.drain(..count);
            let op = Op::Send { socket: connection.socket, buf, from: 0 };
            return self.backend.submit(send_token(index), op);
        }
        connection.is_sending = false;
        buf.clear();
        self.spare.push(buf);
        if !connection.out.is_empty() {
            self.touch(index);
        }
    }

    fn received(&mut self, index: usize, buf: Vec<u8>, done_ns: u64) {
        let Self { connections, recorder, journal, outcome, outstanding, .. } = self;
        let connection = &mut connections[index];
        let before = connection.outstanding;
        let mut failed_op = None;
        let read = connection.read(buf, &mut |complete: &Complete| {
            let Pending { op, intended_ns, sent_ns, written, .. } = complete.pending;
            let bytes_sent = complete.count * complete.pending.bytes_sent;
            if complete.failed {
                failed_op = Some(op);
            } else if let (Some(journal), true) = (journal.as_mut(), written.is_some()) {
                let writes = complete.sequences();
                writes.for_each(|sequence| journal.acknowledged(Acknowledged { sequence, sent_ns, done_ns }));
            }
            let answered = Answered { op, failed: complete.failed, intended_ns, sent_ns, done_ns };
            let Complete { values, bytes_received, .. } = *complete;
            recorder.record(answered, complete.count, Amounts { values, bytes_sent, bytes_received });
        });
        *outstanding -= before - connection.outstanding;
        if let Some(op) = failed_op {
            let first = &mut outcome.first_errors[usize::from(op)];
            if first.is_none() {
                *first = connection.replies.take_error();
            }
        }
        for id in connection.replies.take_credits() {
            encode_request(&mut connection.out, id, false, &Request::ScanCredit { credit: SCAN_CREDIT });
        }
        if let Err(bad) = read {
            return self.lose(index, &bad.to_string(), done_ns);
        }
        let is_idle = connection.outstanding == 0;
        if is_idle {
            self.idle.push_back(index);
        }
        self.touch(index);
        self.receive(index);
    }

    /// Gives up a connection: what it was asked counts as failed.
    fn lose(&mut self, index: usize, reason: &str, done_ns: u64) {
        let connection = &mut self.connections[index];
        self.outstanding -= connection.outstanding;
        for (Pending { op, intended_ns, sent_ns, .. }, count) in connection.lose() {
            self.outcome.unanswered += count;
            let answered = Answered {
                op,
                failed: true,
                intended_ns,
                sent_ns: if sent_ns == 0 { done_ns } else { sent_ns },
                done_ns,
            };
            self.recorder.record(answered, count, Amounts::default());
        }
        self.outcome.connections_lost += 1;
        self.outcome.lost_reason.get_or_insert_with(|| reason.to_owned());
        self.backend.submit(close_token(connection.socket), Op::Close { socket: connection.socket });
    }
}

fn receive_token(index: usize) -> Token {
    Token(2 * index as u64)
}
fn send_token(index: usize) -> Token {
    Token(2 * index as u64 + 1)
}
fn close_token(socket: SocketId) -> Token {
    Token(CLOSES | u64::from(socket.0.unsigned_abs()))
}
/// The connection of a token, and whether it is a send; none for closes.
fn connection_of(token: Token) -> Option<(usize, bool)> {
    let index = usize::try_from(token.0 / 2).ok()?;
    (token.0 & CLOSES == 0).then_some((index, token.0 % 2 == 1))
}
