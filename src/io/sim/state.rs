//! Everything a world consists of, behind one lock: dice, clock, disk, faults, operations under way, jobs, network.
//!
//! Both front ends end here: [`super::SimFiles`] performs an operation at once, [`super::SimBackend`] when its event
//! is due. Invariant: each event of kind `Complete` belongs to at most one operation (by serial number), so a
//! cancelled operation cannot complete again when its event comes.

use super::disk::SimDisk;
use super::faults::{FaultEffect, Faults, OpKind};
use super::jobs::Jobs;
use super::net::{Connection, ConnectionNumber, Direction, Listener};
use super::trace::Trace;
use super::world::SimOptions;
use super::{Crash, Rng};
use crate::io::{Completion, Errno, Now, Op, OpBuf, Token};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A backend of the world, in the order in which they were made; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackendId(pub usize);

/// Names an operation under way.
pub(super) type OpKey = (BackendId, Token);

/// What happens at a point of virtual time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// An operation on a file, or a close, takes effect.
    Complete { key: OpKey, serial: u64 },
    /// Bytes, room or an end have reached a connection's server side.
    Ready { connection: ConnectionNumber, direction: Direction },
    /// A connection has reached a listener.
    Arrival { listener: i32 },
}

/// An operation under way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) op: Op,
    pub(super) serial: u64,
    /// Of a sync: sequence number of the last write that had completed when it was submitted.
    pub(super) covers: u64,
}

/// What the world knows of one backend.
#[derive(Debug)]
pub(super) struct BackendState {
    pub(super) ready: VecDeque<Completion>,
    pub(super) in_flight: usize,
    pub(super) woken: Arc<AtomicBool>,
    /// End of its last wait, on the monotonic clock.
    pub(super) sleeps_until: u64,
}

/// See the module.
pub(super) struct State {
    pub(super) options: SimOptions,
    pub(super) rng: Rng,
    pub(super) trace: Trace,
    now: Now,
    /// False from a power cut or kill until the restart.
    pub(super) up: bool,
    /// From a crash to the restart.
    pub(super) crashed: bool,
    /// Counts restarts: what belongs to an earlier life is dead.
    pub(super) life: u32,
    pub(super) disk: SimDisk,
    pub(super) faults: Faults,
    /// Disk operations so far.
    pub(super) operations: u64,
    /// The power goes before the operation with this number.
    pub(super) cut_before: Option<u64>,
    pub(super) auto_advance: bool,
    events: BTreeMap<(u64, u64), Event>,
    serial: u64,
    pub(super) pending: BTreeMap<OpKey, Pending>,
    pub(super) backends: BTreeMap<BackendId, BackendState>,
    pub(super) backend_next: usize,
    pub(super) listeners: BTreeMap<i32, Listener>,
    pub(super) connections: BTreeMap<ConnectionNumber, Connection>,
    pub(super) connection_next: u64,
    pub(super) sockets: BTreeMap<i32, ConnectionNumber>,
    pub(super) jobs: Jobs,
}

impl State {
    pub(super) fn new(options: SimOptions) -> Self {
        let mut rng = Rng::new(options.seed);
        let faults = Faults::new(options.chaos);
        // Some time after 2020, so that wall clock and monotonic clock cannot be confused.
        let unix_ns = 1_600_000_000_000_000_000 + rng.below(1 << 57).cast_signed();
        Self {
            rng,
            trace: Trace::default(),
            now: Now { monotonic_ns: 1_000_000, unix_ns },
            up: true,
            crashed: false,
            life: 0,
            disk: SimDisk::new(options.disk_bytes),
            faults,
            operations: 0,
            cut_before: None,
            auto_advance: false,
            events: BTreeMap::new(),
            serial: 0,
            pending: BTreeMap::new(),
            backends: BTreeMap::new(),
            backend_next: 0,
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            connection_next: 0,
            sockets: BTreeMap::new(),
            jobs: Jobs::default(),
            options,
        }
    }

    // ---- time

    pub(super) fn now(&self) -> Now {
        self.now
    }
    pub(super) fn jump_wall_clock(&mut self, by_ns: i64) {
        self.trace.note("wall clock jumps", [by_ns.cast_unsigned(), 0, 0]);
        self.now.unix_ns = self.now.unix_ns.saturating_add(by_ns);
    }
    /// When the next event is due.
    pub(super) fn next_event_ns(&self) -> Option<u64> {
        self.events.keys().next().map(|(due_ns, _)| *due_ns)
    }
    /// Moves the clocks to `monotonic_ns`, performing what is due on the way. Never moves them back.
    pub(super) fn advance_to(&mut self, monotonic_ns: u64) {
        while let Some(entry) = self.events.first_entry() {
            let due_ns = entry.key().0;
            if due_ns > monotonic_ns || !self.up {
                break;
            }
            let event = entry.remove();
            self.set_clock(due_ns);
            match event {
                Event::Complete { key, serial } => self.complete_due(key, serial),
                Event::Ready { connection, direction } => self.socket_ready(connection, direction),
                Event::Arrival { listener } => self.accept_arrivals(listener),
            }
        }
        self.set_clock(monotonic_ns);
    }
    /// As [`State::advance_to`], from now on.
    pub(super) fn advance_by(&mut self, ns: u64) {
        self.advance_to(self.now.monotonic_ns.saturating_add(ns));
    }
    fn set_clock(&mut self, monotonic_ns: u64) {
        let step = monotonic_ns.saturating_sub(self.now.monotonic_ns);
        self.now.monotonic_ns += step;
        self.now.unix_ns = self.now.unix_ns.saturating_add(i64::try_from(step).unwrap_or(i64::MAX));
    }
    /// Plans an event for some time from now: usually after `typical_ns`, now and then much later.
    pub(super) fn schedule(&mut self, typical_ns: u64, event: Event) {
        let tail = if self.rng.chance(1, 32) { 16 } else { 1 };
        let delay_ns = (typical_ns / 2 + self.rng.below(typical_ns)) * tail;
        let serial = self.next_serial();
        self.events.insert((self.now.monotonic_ns + delay_ns, serial), event);
    }
    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    // ---- completions

    /// Ends an operation: its buffer goes home.
    pub(super) fn finish(&mut self, key: OpKey, op: Op, result: Result<crate::io::Outcome, Errno>) {
        let buf = match op {
            Op::Receive { buf, .. } | Op::Send { buf, .. } => OpBuf::Bytes(buf),
            Op::Read { buf, .. } | Op::Write { buf, .. } => OpBuf::Aligned(buf),
            Op::Accept { .. } | Op::Close { .. } | Op::Sync { .. } => OpBuf::None,
        };
        self.deliver(key, Completion { token: key.1, result, buf, more: false });
    }
    /// Hands a completion to its backend, if that still exists.
    pub(super) fn deliver(&mut self, key: OpKey, completion: Completion) {
        if let Some(backend) = self.backends.get_mut(&key.0) {
            backend.ready.push_back(completion);
        }
    }

    // ---- disk operations

    /// Counts an operation on a path and draws its fate: `Ok(true)` when it transfers only part. `transient` lists
    /// the errors by which it may ask to be repeated.
    ///
    /// # Errors
    /// EIO when the machine is down or goes down now; what was planted or drawn.
    pub(super) fn begin(&mut self, kind: OpKind, path: &str, transient: &[Errno]) -> Result<bool, Errno> {
        if self.up && self.cut_before.is_some_and(|last| self.operations >= last) {
            self.trace.note("power cut before operation", [self.operations, 0, 0]);
            self.up = false;
        }
        if !self.up {
            return Err(Errno::EIO);
        }
        self.operations += 1;
        match self.faults.strike(kind, path) {
            Some(FaultEffect::Fail(errno)) => Err(errno),
            Some(FaultEffect::Short) => Ok(true),
            None => match self.faults.draw_interruption(&mut self.rng, transient) {
                Some(errno) => Err(errno),
                None => Ok(self.faults.draw_short(&mut self.rng)),
            },
        }
    }
    /// A part of `len` bytes that keeps the file's grain: at least one grain, less than all where possible.
    fn short_of(&mut self, handle: i32, len: usize) -> usize {
        let grain = self.disk.grain_of(handle);
        let grains = len.div_ceil(grain);
        if grains < 2 { len } else { (1 + self.rng.index(grains - 1)) * grain }
    }
    pub(super) fn read(
        &mut self,
        handle: i32,
        offset: u64,
        buf: &mut [u8],
        transient: &[Errno],
    ) -> Result<usize, Errno> {
        let path = self.disk.path_of(handle);
        let short = self.begin(OpKind::Read, &path, transient)?;
        let count = if short { self.short_of(handle, buf.len()) } else { buf.len() };
        let count = self.disk.read(handle, offset, &mut buf[..count])?;
        self.trace.note_file("read", &path, offset, &buf[..count]);
        Ok(count)
    }
    pub(super) fn write(
        &mut self,
        handle: i32,
        offset: u64,
        data: &[u8],
        durable: bool,
        transient: &[Errno],
    ) -> Result<usize, Errno> {
        let path = self.disk.path_of(handle);
        let count = match self.begin(OpKind::Write, &path, transient) {
            Ok(true) => self.short_of(handle, data.len()),
            Ok(false) => data.len(),
            Err(errno) => {
                self.trace.note_file("failed write", &path, offset, data);
                if self.up && !errno.is_not_done() && !errno.is_out_of_space() {
                    self.disk.write_part(handle, offset, data, durable, &mut self.rng);
                }
                self.note_failed(OpKind::Write, &path, errno);
                return Err(errno);
            }
        };
        let written = self.disk.write(handle, offset, &data[..count], durable);
        let count = written.inspect_err(|errno| self.note_failed(OpKind::Write, &path, *errno))?;
        self.trace.note_file(if durable { "durable write" } else { "write" }, &path, offset, &data[..count]);
        Ok(count)
    }
    /// Syncs the writes of a file up to sequence number `covers`.
    pub(super) fn sync(&mut self, handle: i32, covers: u64, transient: &[Errno]) -> Result<(), Errno> {
        let path = self.disk.path_of(handle);
        if let Err(errno) = self.begin(OpKind::Sync, &path, transient) {
            self.trace.note_file("failed sync", &path, covers, &[]);
            if self.up && !errno.is_not_done() {
                self.disk.sync_failed(handle, covers, &mut self.rng);
            }
            self.note_failed(OpKind::Sync, &path, errno);
            return Err(errno);
        }
        self.trace.note_file("sync", &path, covers, &[]);
        self.disk.sync(handle, covers)
    }

    fn note_failed(&mut self, kind: OpKind, path: &str, errno: Errno) {
        if self.up && !errno.is_not_done() {
            self.faults.note_failed(kind, path);
        }
    }

    // ---- the end

    /// Applies what is under way as far as it got, then takes from disk and network what this end takes.
    pub(super) fn crash(&mut self, kind: Crash) {
        self.trace.note("crash", [kind as u64, self.operations, 0]);
        self.up = false;
        self.faults.forget_failed();
        for pending in std::mem::take(&mut self.pending).into_values() {
            if let Op::Write { file, offset, buf, .. } = pending.op {
                self.disk.write_part(file.handle(), offset, &buf, false, &mut self.rng);
            }
        }
        match kind {
            Crash::PowerCut => self.disk.crash(&mut self.rng),
            Crash::ProcessKill => self.disk.end_process(),
        }
        self.disconnect_all(kind == Crash::PowerCut);
        self.events.clear();
        self.backends.clear();
        self.listeners.clear();
        self.sockets.clear();
    }
}
