//! The handle to a simulated machine: one seed, one clock, one disk, any number of cores, jobs and clients.
//!
//! The driver owns the order of everything. It turns cores, steps jobs and moves the clock; nothing else moves. All
//! handles made from a world share it, and one lock guards it, which is free: only one thread runs at a time.

use super::backend::SimBackend;
use super::disk::SimDisk;
use super::faults::{Chaos, Fault, FileFault, FileKind, FileOperations};
use super::files::SimFiles;
use super::jobs::{JobId, JobStep, SimSpawner, current_job};
use super::net::SimClient;
use super::state::{BackendId, State};
use super::{Crash, Rng};
use crate::io::{Files, ListenerId, Now, SocketId, Spawner};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What a world is made of.
#[derive(Clone, Copy, Debug)]
pub struct SimOptions {
    /// Decides everything that the driver does not.
    pub seed: u64,
    /// Capacity of the disk; `u64::MAX` for one that never fills.
    pub disk_bytes: u64,
    /// Grain of O_DIRECT transfers of WAL files in bytes: 512 or 4096; 0 for a file system without O_DIRECT.
    pub direct_grain: usize,
    /// Failures that need no planting.
    pub chaos: Chaos,
    /// Bytes that each direction of a connection holds before its writer has to wait.
    pub socket_bytes: usize,
    /// Sockets that may be open at once; beyond, accepting fails with EMFILE.
    pub sockets_max: usize,
}

impl SimOptions {
    /// A disk without end, no chaos, and for the rest what the seed says.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x6f70_7469_6f6e_7321);
        Self {
            seed,
            disk_bytes: u64::MAX,
            direct_grain: [0, 512, 4096][rng.index(3)],
            chaos: Chaos::default(),
            socket_bytes: 64 << 10,
            sockets_max: 1024,
        }
    }
}

/// What all handles of a world share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Signalled when a job gives the baton back.
    pub(super) baton: Condvar,
    /// Handles whose last reference was dropped, perhaps under the lock of `state`; closed when that is next taken.
    pub(super) dropped: Arc<Mutex<Vec<i32>>>,
}

impl Shared {
    /// The world, brought up to date.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere has been or will be reported; the state is whole between calls.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = std::mem::take(&mut *self.dropped.lock().unwrap_or_else(PoisonError::into_inner));
        for handle in dropped {
            state.disk.close(handle);
        }
        state
    }
}

/// A simulated machine. Clones are handles to the same one. End it with [`SimWorld::crash`] or
/// [`SimWorld::run_jobs`]: threads of jobs that have begun wait for ever otherwise.
#[derive(Clone)]
pub struct SimWorld {
    shared: Arc<Shared>,
}

impl SimWorld {
    /// A running machine with an empty disk.
    #[must_use]
    pub fn new(options: SimOptions) -> Self {
        let state = Mutex::new(State::new(options));
        Self { shared: Arc::new(Shared { state, baton: Condvar::new(), dropped: Arc::default() }) }
    }
    /// A world of [`SimOptions::new`].
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self::new(SimOptions::new(seed))
    }
    /// The seed, for failure messages.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.shared.lock().options.seed
    }

    // ---- dice and trace

    /// A number in `0..bound` from the world's dice.
    ///
    /// # Panics
    /// When `bound` is 0.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        self.shared.lock().rng.below(bound)
    }
    /// Dice of their own for a workload, so that its draws do not depend on what the machine draws.
    #[must_use]
    pub fn fork_rng(&self) -> Rng {
        self.shared.lock().rng.fork()
    }
    /// Every decision and operation so far as one number: equal for equal runs.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.shared.lock().trace.hash()
    }
    /// Keeps the trace as text from now on (or stops): for looking into one seed.
    pub fn keep_trace(&self, keep: bool) {
        self.shared.lock().trace.keep_lines(keep);
    }
    /// The text kept since the last call.
    #[must_use]
    pub fn take_trace(&self) -> Vec<String> {
        self.shared.lock().trace.take_lines()
    }
    /// Adds a decision of the driver's own to the trace.
    pub fn note(&self, what: &'static str, fact: u64) {
        self.shared.lock().trace.note(what, [fact, 0, 0]);
    }

    // ---- clock

    /// Reads the clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        self.shared.lock().now()
    }
    /// Lets `poll` move the clock: a little with each call, and to the next event when it has nothing to report. For
    /// a world with one backend; off at first.
    pub fn set_auto_advance(&self, on: bool) {
        self.shared.lock().auto_advance = on;
    }
    /// When something next happens by itself: an operation completes, bytes arrive, a backend's wait ends.
    #[must_use]
    pub fn next_event_ns(&self) -> Option<u64> {
        next_event_ns(&self.shared.lock())
    }
    /// Moves the clock to the next event and performs it. Without one (`false`) the clock stands.
    #[must_use]
    pub fn advance_to_next_event(&self) -> bool {
        let mut state = self.shared.lock();
        let Some(next_ns) = next_event_ns(&state) else { return false };
        state.advance_to(next_ns);
        true
    }
    /// Moves the clock, performing what is due on the way.
    pub fn advance_to(&self, monotonic_ns: u64) {
        self.shared.lock().advance_to(monotonic_ns);
    }
    /// As [`SimWorld::advance_to`], from now on.
    pub fn advance_by(&self, ns: u64) {
        self.shared.lock().advance_by(ns);
    }
    /// Sets the wall clock forward or back; the monotonic clock does not notice.
    pub fn jump_wall_clock(&self, by_ns: i64) {
        self.shared.lock().jump_wall_clock(by_ns);
    }

    // ---- parts

    /// The jobs' way to the disk, until the next crash.
    #[must_use]
    pub fn files(&self) -> Arc<dyn Files> {
        Arc::new(SimFiles::new(Arc::clone(&self.shared)))
    }
    /// Starts jobs on threads that run one at a time; see [`SimWorld::step_job`].
    #[must_use]
    pub fn spawner(&self) -> Arc<dyn Spawner> {
        Arc::new(SimSpawner::new(Arc::clone(&self.shared)))
    }
    /// A core's backend, until the next crash.
    #[must_use]
    pub fn backend(&self) -> SimBackend {
        SimBackend::new(Arc::clone(&self.shared))
    }
    /// Whether a backend's next `poll` has something to say: completions, a wake-up, or the end of its wait.
    #[must_use]
    pub fn is_runnable(&self, backend: BackendId) -> bool {
        let state = self.shared.lock();
        let now_ns = state.now().monotonic_ns;
        state.backends.get(&backend).is_some_and(|backend| {
            !backend.ready.is_empty()
                || backend.woken.load(Ordering::SeqCst)
                || backend.sleeps_until <= now_ns
        })
    }
    /// A listening socket. Any backend may accept on it.
    #[must_use]
    pub fn listen(&self) -> ListenerId {
        self.shared.lock().listen()
    }
    /// A client that connects; the listener hears of it a little later.
    ///
    /// # Panics
    /// When there is no such listener in this life of the machine.
    #[must_use]
    pub fn connect(&self, listener: ListenerId) -> SimClient {
        let connection = self.shared.lock().connect(listener);
        SimClient::new(Arc::clone(&self.shared), connection)
    }

    /// Ends a listening socket; clients in its backlog are turned away.
    pub fn close_listener(&self, listener: ListenerId) {
        self.shared.lock().close_listener(listener);
    }
    /// A connection that is accepted already: the server's socket, which any backend may serve, and its client.
    #[must_use]
    pub fn connect_accepted(&self) -> (SocketId, SimClient) {
        let (socket, connection) = self.shared.lock().connect_accepted();
        (socket, SimClient::new(Arc::clone(&self.shared), connection))
    }

    // ---- jobs

    /// Jobs that have not ended, oldest first. Each can go on: jobs wait for nothing but the baton.
    #[must_use]
    pub fn runnable_jobs(&self) -> Vec<JobId> {
        self.shared.lock().jobs.live()
    }
    /// Lets one job run to its next call of [`Files`], or to its end. A panic of the job goes on here.
    ///
    /// # Panics
    /// When the job has ended, or from within a job.
    pub fn step_job(&self, job: JobId) -> JobStep {
        super::jobs::step(&self.shared, job)
    }
    /// Steps a job that the dice choose; `None` when there is none.
    pub fn step_any_job(&self) -> Option<(JobId, JobStep)> {
        let job = {
            let mut state = self.shared.lock();
            let live = state.jobs.live();
            if live.is_empty() {
                return None;
            }
            let index = state.rng.index(live.len());
            live[index]
        };
        Some((job, self.step_job(job)))
    }
    /// Steps jobs in seeded order until none is left.
    pub fn run_jobs(&self) {
        while self.step_any_job().is_some() {}
    }

    // ---- failures

    /// Ends the machine or the process: what was under way is done in part or not at all, the disk keeps what
    /// `kind` leaves it, all backends, files, locks and connections are dead, and all jobs run to their end (their
    /// calls fail) and are joined.
    ///
    /// # Panics
    /// From within a job; when a job goes on calling after its calls began to fail; when the machine has crashed and
    /// was not restarted.
    pub fn crash(&self, kind: Crash) {
        assert!(current_job().is_none(), "a job cannot crash the machine that runs it");
        {
            let mut state = self.shared.lock();
            assert!(!state.crashed, "the machine is down already");
            state.crash(kind);
            state.crashed = true;
        }
        super::jobs::end_all(&self.shared);
    }
    /// Starts the machine again after [`SimWorld::crash`]. Files, spawners and backends of before stay dead.
    ///
    /// # Panics
    /// When it has not crashed.
    pub fn restart(&self) {
        let mut state = self.shared.lock();
        assert!(state.crashed, "only a crashed machine can start");
        state.trace.note("restart", [0; 3]);
        state.crashed = false;
        state.up = true;
        state.life += 1;
        state.cut_before = None;
    }
    /// Whether the machine runs: false from a crash, or a cut of [`SimWorld::cut_after`], until the restart.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.shared.lock().up
    }
    /// Disk operations so far, of files and backends.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.shared.lock().operations
    }
    /// Takes the power away after this many further disk operations, wherever that is: later ones fail and change
    /// nothing. The driver then calls [`SimWorld::crash`]. For crashes in the middle of code that runs to its end.
    pub fn cut_after(&self, operations: u64) {
        let mut state = self.shared.lock();
        state.cut_before = Some(state.operations + operations);
    }
    /// Plants a failure.
    pub fn plant_fault(&self, fault: Fault) {
        self.shared.lock().faults.plant(fault);
    }
    /// Plants a failure of files of one kind.
    pub fn plant_file_fault(&self, fault: FileFault) {
        self.shared.lock().faults.plant_by_file(fault);
    }
    /// Operations on files of one kind so far.
    #[must_use]
    pub fn operations_on(&self, file: FileKind) -> FileOperations {
        self.shared.lock().faults.operations_on(file)
    }
    /// Each write or sync of a file by a process of which a write or sync had failed before, in words: there must be
    /// none.
    #[must_use]
    pub fn breaches(&self) -> Vec<String> {
        self.shared.lock().faults.breaches().to_vec()
    }
    /// Takes all planted failures away.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }
    /// How many planted failures have struck.
    #[must_use]
    pub fn fault_hits(&self) -> u64 {
        self.shared.lock().faults.hits
    }
    /// Sets the rates of failures that need no planting.
    pub fn set_chaos(&self, chaos: Chaos) {
        self.shared.lock().faults.chaos = chaos;
    }
    /// Looks at the disk from outside, or changes it: capacity, planted files, flipped bits. `look` must not use the
    /// world, which is locked meanwhile.
    pub fn with_disk<T>(&self, look: impl FnOnce(&mut SimDisk) -> T) -> T {
        look(&mut self.shared.lock().disk)
    }
}

fn next_event_ns(state: &State) -> Option<u64> {
    let waits = state.backends.values().map(|backend| backend.sleeps_until);
    let now_ns = state.now().monotonic_ns;
    let wait = waits.filter(|until| (now_ns + 1..u64::MAX).contains(until)).min();
    state.next_event_ns().into_iter().chain(wait).min()
}
