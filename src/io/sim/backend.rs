//! A core's way to the simulated disk and network.
//!
//! An operation on a file takes effect when its event is due, at a seeded time after its submission, so operations
//! overtake each other. A cancelled one may complete all the same, or not happen, or (a write) happen in part.
//! `poll` never waits: it reports what is ready, perhaps not all of it, and notes until when the core means to sleep
//! ([`SimWorld::is_runnable`], [`SimWorld::advance_to_next_event`]). With [`SimWorld::set_auto_advance`] it moves the
//! clock itself.
//!
//! [`SimWorld::is_runnable`]: super::SimWorld::is_runnable
//! [`SimWorld::advance_to_next_event`]: super::SimWorld::advance_to_next_event
//! [`SimWorld::set_auto_advance`]: super::SimWorld::set_auto_advance

use super::faults::OpKind;
use super::state::{BackendId, BackendState, Event, OpKey, Pending, State};
use super::world::Shared;
use crate::io::{Backend, Completion, Errno, Now, Op, Outcome, Token, Wait, Wake, Waker};
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};

/// By which a file operation may ask to be submitted again.
const TRANSIENT: [Errno; 3] = [Errno::EINTR, Errno::EAGAIN, Errno::ECANCELED];
/// Typical times of a device with a volatile cache, in virtual nanoseconds.
const READ_NS: u64 = 80_000;
const WRITE_NS: u64 = 60_000;
const DURABLE_WRITE_NS: u64 = 150_000;
const SYNC_NS: u64 = 800_000;
/// With auto-advance, what a caller does between two polls takes up to this.
const TURN_NS: u64 = 40_000;
/// Of operations that only fail, and of closing.
const SHORT_NS: u64 = 5_000;

/// [`Backend`] of one core in one life of a simulated machine.
pub struct SimBackend {
    shared: Arc<Shared>,
    id: BackendId,
    life: u32,
    waker: Arc<AtomicBool>,
}

/// Makes a simulated backend runnable; callable from jobs and other cores.
pub struct SimWaker {
    woken: Arc<AtomicBool>,
}

impl Wake for SimWaker {
    fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
    }
}

impl SimBackend {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let waker: Arc<AtomicBool> = Arc::default();
        let mut state = shared.lock();
        let id = BackendId(state.backend_next);
        state.backend_next += 1;
        let (ready, woken) = (VecDeque::new(), Arc::clone(&waker));
        state.backends.insert(id, BackendState { ready, in_flight: 0, woken, sleeps_until: 0 });
        let life = state.life;
        drop(state);
        Self { shared, id, life, waker }
    }
    /// By which the world knows it.
    #[must_use]
    pub fn id(&self) -> BackendId {
        self.id
    }
    fn enter(&self) -> Result<MutexGuard<'_, State>, Errno> {
        let state = self.shared.lock();
        if state.up && state.life == self.life { Ok(state) } else { Err(Errno::EIO) }
    }
}

impl Backend for SimBackend {
    fn name(&self) -> &'static str {
        "sim"
    }
    fn cpu_ns(&self) -> u64 {
        0
    }
    fn now(&self) -> Now {
        self.shared.lock().now()
    }
    fn submit(&mut self, token: Token, op: Op) {
        // After a crash the process is gone and nobody waits for an answer.
        if let Ok(mut state) = self.enter() {
            state.submit((self.id, token), op);
        }
    }
    fn poll(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> Result<(), Errno> {
        let mut state = self.enter()?;
        let turn_ns = if state.auto_advance { state.rng.below(TURN_NS) } else { 0 };
        state.advance_by(turn_ns);
        let now_ns = state.now().monotonic_ns;
        let until = if let Wait::Until(until) = wait { until } else { now_ns };
        if state.auto_advance {
            state.advance_for(self.id, until);
        }
        if !state.up {
            return Err(Errno::EIO);
        }
        state.reap(self.id, until, completions);
        Ok(())
    }
    fn flush(&mut self) -> Result<(), Errno> {
        self.enter().map(|_| ())
    }
    fn cancel(&mut self, token: Token) {
        if let Ok(mut state) = self.enter() {
            state.cancel((self.id, token));
        }
    }
    fn in_flight(&self) -> usize {
        self.shared.lock().backends.get(&self.id).map_or(0, |backend| backend.in_flight)
    }
    fn waker(&self) -> Waker {
        Arc::new(SimWaker { woken: Arc::clone(&self.waker) })
    }
}

impl Drop for SimBackend {
    /// Ends what is in flight, as far as it got. Sockets stay, as descriptors do, but for accepted ones of which
    /// nobody heard.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let keys: Vec<OpKey> = state.pending.keys().filter(|key| key.0 == self.id).copied().collect();
        for key in keys {
            state.abandon(key);
        }
        let unheard = state.backends.remove(&self.id).map(|backend| backend.ready).unwrap_or_default();
        for completion in unheard {
            if let Ok(Outcome::Accepted { socket, .. }) = completion.result {
                // It was opened for this completion, and nothing but its owner's close can have ended it.
                let _ = state.close_socket(socket);
            }
        }
    }
}

impl fmt::Debug for SimBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimBackend({}, life {})", self.id.0, self.life)
    }
}

impl fmt::Debug for SimWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimWaker")
    }
}

impl State {
    /// Starts an operation.
    fn submit(&mut self, key: OpKey, op: Op) {
        assert!(!self.pending.contains_key(&key), "token {} names two operations in flight", key.1.0);
        check_buffer(&op);
        let backend = self.backends.get_mut(&key.0).expect("a backend is in the table while it lives");
        backend.in_flight += 1;
        let (what, typical_ns) = kind_and_time(&op);
        let is_on_disk = matches!(op, Op::Read { .. } | Op::Write { .. } | Op::Sync { .. });
        self.trace.note(what, [key.0.0 as u64, key.1.0, self.now().monotonic_ns]);
        if let Some((kind, handle)) = watched_by(&op) {
            let path = self.disk.path_of(handle);
            self.faults.watch(kind, &path);
        }
        let serial = self.next_serial();
        let waits_for_peer = self.register_socket_op(key, &op);
        self.pending.insert(key, Pending { op, serial, covers: self.disk.write_seq() });
        let event = Event::Complete { key, serial };
        match (waits_for_peer, is_on_disk) {
            (true, _) => {}
            (false, true) => self.schedule_on_disk(typical_ns, event),
            (false, false) => self.schedule(typical_ns, event),
        }
    }
    /// Performs an operation whose time has come, unless it was cancelled.
    pub(super) fn complete_due(&mut self, key: OpKey, serial: u64) {
        if self.pending.get(&key).is_none_or(|pending| pending.serial != serial) {
            return;
        }
        let Some(Pending { mut op, covers, .. }) = self.pending.remove(&key) else { return };
        let result = match &mut op {
            Op::Read { file, offset, buf } => {
                self.read(file.handle(), *offset, buf, &TRANSIENT).map(Outcome::Transferred)
            }
            Op::Write { file, offset, buf, durable } => {
                self.write(file.handle(), *offset, buf, *durable, &TRANSIENT).map(Outcome::Transferred)
            }
            Op::Sync { file } => self.sync(file.handle(), covers, &TRANSIENT).map(|()| Outcome::Done),
            Op::Close { socket } => self.close_socket(*socket).map(|()| Outcome::Done),
            // These wait for their peers, unless there is none.
            Op::Accept { .. } | Op::Receive { .. } | Op::Send { .. } => Err(Errno::EBADF),
        };
        if let (Some((kind, handle)), Err(errno)) = (watched_by(&op), &result)
            && self.up
            && !errno.is_not_done()
        {
            self.failed.insert(key, (kind, self.disk.path_of(handle)));
        }
        self.finish(key, op, result);
    }
    /// Ends an operation early, or lets it be.
    fn cancel(&mut self, key: OpKey) {
        let Some(pending) = self.pending.get(&key) else { return };
        let on_file = matches!(pending.op, Op::Read { .. } | Op::Write { .. } | Op::Sync { .. });
        if matches!(pending.op, Op::Close { .. }) || (on_file && self.rng.chance(1, 2)) {
            self.trace.note("cancel too late", [key.0.0 as u64, key.1.0, 0]);
            return;
        }
        self.trace.note("cancel", [key.0.0 as u64, key.1.0, 0]);
        if let Some(op) = self.abandon(key) {
            self.finish(key, op, Err(Errno::ECANCELED));
        }
    }
    /// Takes an operation out of flight; of a write, any part may have happened.
    fn abandon(&mut self, key: OpKey) -> Option<Op> {
        let Pending { op, .. } = self.pending.remove(&key)?;
        self.unregister_socket_op(key, &op);
        if let Op::Write { file, offset, buf, .. } = &op
            && self.up
        {
            self.disk.write_part(file.handle(), *offset, buf, false, &mut self.rng);
        }
        Some(op)
    }
    /// Moves the clock until this backend has something to report, at most to `until`.
    fn advance_for(&mut self, id: BackendId, until: u64) {
        while self.up && !self.backends.get(&id).is_some_and(BackendState::has_news) {
            match self.next_event_ns().filter(|due_ns| *due_ns <= until) {
                Some(due_ns) => self.advance_to(due_ns),
                None if until < u64::MAX => return self.advance_to(until),
                None => return,
            }
        }
    }
    fn reap(&mut self, id: BackendId, until: u64, completions: &mut Vec<Completion>) {
        let now_ns = self.now().monotonic_ns;
        let Some(backend) = self.backends.get_mut(&id) else { return };
        let mut count = backend.ready.len();
        if count > 1 && self.rng.chance(1, 8) {
            count = 1 + self.rng.index(count);
        }
        let woken = backend.woken.swap(false, Ordering::SeqCst);
        backend.sleeps_until = if count > 0 || woken { now_ns } else { until };
        for completion in backend.ready.drain(..count) {
            backend.in_flight -= usize::from(!completion.more);
            if let Some((kind, path)) = self.failed.remove(&(id, completion.token)) {
                self.faults.note_failed(kind, &path);
            }
            let result = match completion.result {
                Ok(Outcome::Transferred(bytes)) => bytes as u64,
                Ok(Outcome::Accepted { socket, .. }) => u64::from(socket.0.cast_unsigned()),
                Ok(Outcome::Done) => 0,
                Err(errno) => u64::MAX - u64::from(errno.0.cast_unsigned()),
            };
            self.trace.note("complete", [id.0 as u64, completion.token.0, result]);
            completions.push(completion);
        }
    }
}

impl BackendState {
    /// Whether a poll would return at once.
    pub(super) fn has_news(&self) -> bool {
        !self.ready.is_empty() || self.woken.load(Ordering::SeqCst)
    }
}

/// Rejects what the contract forbids, where the fault is made.
fn check_buffer(op: &Op) {
    match op {
        Op::Receive { buf, .. } => assert!(buf.capacity() > buf.len(), "a receive needs spare capacity"),
        Op::Send { buf, from, .. } => assert!(*from < buf.len(), "a send needs bytes"),
        Op::Accept { .. } | Op::Close { .. } | Op::Read { .. } | Op::Write { .. } | Op::Sync { .. } => {}
    }
}

/// What may not be asked for again after a failure, and of which file.
fn watched_by(op: &Op) -> Option<(OpKind, i32)> {
    match op {
        Op::Write { file, .. } => Some((OpKind::Write, file.handle())),
        Op::Sync { file } => Some((OpKind::Sync, file.handle())),
        Op::Accept { .. } | Op::Receive { .. } | Op::Send { .. } | Op::Close { .. } | Op::Read { .. } => None,
    }
}

fn kind_and_time(op: &Op) -> (&'static str, u64) {
    match op {
        Op::Accept { .. } => ("submit accept", SHORT_NS),
        Op::Receive { .. } => ("submit receive", SHORT_NS),
        Op::Send { .. } => ("submit send", SHORT_NS),
        Op::Close { .. } => ("submit close", SHORT_NS),
        Op::Read { .. } => ("submit read", READ_NS),
        Op::Write { durable: false, .. } => ("submit write", WRITE_NS),
        Op::Write { durable: true, .. } => ("submit durable write", DURABLE_WRITE_NS),
        Op::Sync { .. } => ("submit sync", SYNC_NS),
    }
}
