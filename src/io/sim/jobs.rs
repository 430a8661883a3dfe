//! Jobs on threads of their own, of which one runs at a time: the one that holds the baton.
//!
//! ```text
//!  driver: step(job) ──baton──► job thread ... Files call ──baton──► driver ... step(job) ──baton──► the call happens
//! ```
//! A thread is started by its job's first step and joined when the job ends, so no thread outlives it. A job that
//! never got a step before a crash is dropped unrun.
//!
//! Invariant: `holder` is the only job whose thread runs; `None` means the driver does.

use super::state::State;
use super::world::Shared;
use crate::io::{Errno, Spawner};
use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Calls that a job may make after they began to fail, before it counts as running for ever.
const CALLS_AFTER_CUT_MAX: u32 = 10_000;
/// Real time after which a step counts as blocked outside [`crate::io::Files`]. It decides nothing else.
const STEP_PATIENCE: Duration = Duration::from_secs(60);
/// Jobs are shallow, and many worlds run side by side.
const STACK_BYTES: usize = 1 << 20;

thread_local! {
    static CURRENT: Cell<Option<JobId>> = const { Cell::new(None) };
}

/// A job of the world; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// How a step of a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStep {
    /// It is about to make another call.
    Waiting,
    /// It has returned.
    Ended,
}

type Panic = Box<dyn Any + Send>;

struct Job {
    name: String,
    /// Taken by the first step.
    work: Option<Box<dyn FnOnce() + Send>>,
    thread: Option<JoinHandle<()>>,
    /// Signalled when the job is given the baton.
    turn: Arc<Condvar>,
    calls_after_cut: u32,
    ended: Option<Result<(), Panic>>,
}

/// All jobs that have not been joined.
#[derive(Default)]
pub(super) struct Jobs {
    jobs: BTreeMap<JobId, Job>,
    next: u64,
    holder: Option<JobId>,
}

impl Jobs {
    /// Jobs that have not ended, oldest first.
    pub(super) fn live(&self) -> Vec<JobId> {
        self.jobs.keys().copied().collect()
    }
}

/// [`Spawner`] of one life of a simulated machine.
pub struct SimSpawner {
    shared: Arc<Shared>,
    life: u32,
}

impl SimSpawner {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let life = shared.lock().life;
        Self { shared, life }
    }
}

impl Spawner for SimSpawner {
    fn spawn(&self, name: &str, job: Box<dyn FnOnce() + Send>) {
        let mut state = self.shared.lock();
        if !state.up || state.life != self.life {
            // A dead process starts nothing. The closure may hold files: it is dropped after the lock.
            drop(state);
            return;
        }
        let id = JobId(state.jobs.next);
        state.jobs.next += 1;
        state.trace.note_file("spawn", name, id.0, &[]);
        let job = Job {
            name: name.to_owned(),
            work: Some(job),
            thread: None,
            turn: Arc::default(),
            calls_after_cut: 0,
            ended: None,
        };
        state.jobs.jobs.insert(id, job);
    }
}

impl fmt::Debug for SimSpawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimSpawner(life {})", self.life)
    }
}

/// The job on whose thread the caller runs.
pub(super) fn current_job() -> Option<JobId> {
    CURRENT.get()
}

/// Gives the baton back before a call of a job, and waits for the next step. On the driver's thread: does nothing.
///
/// # Errors
/// EIO when the machine is down: the call must fail.
pub(super) fn yield_baton(shared: &Shared) -> Result<(), Errno> {
    let Some(id) = current_job() else { return Ok(()) };
    let mut state = shared.lock();
    if state.up {
        state.jobs.holder = None;
        shared.baton.notify_one();
        let turn = state.jobs.jobs.get(&id).map(|job| Arc::clone(&job.turn));
        let turn = turn.expect("a running job is in the table");
        while state.jobs.holder != Some(id) {
            state = wait(&turn, state);
        }
    }
    if state.up {
        return Ok(());
    }
    let job = state.jobs.jobs.get_mut(&id).expect("a running job is in the table");
    job.calls_after_cut += 1;
    let (calls, name) = (job.calls_after_cut, job.name.clone());
    assert!(calls <= CALLS_AFTER_CUT_MAX, "job {name} does not end though all its calls fail");
    Err(Errno::EIO)
}

/// See [`super::SimWorld::step_job`].
pub(super) fn step(shared: &Arc<Shared>, id: JobId) -> JobStep {
    assert!(current_job().is_none(), "a job cannot step jobs");
    let mut state = shared.lock();
    state.trace.note("step job", [id.0, 0, 0]);
    state.jobs.holder = Some(id);
    let job = state.jobs.jobs.get_mut(&id).expect("only a job that has not ended can be stepped");
    if let Some(work) = job.work.take() {
        let world = Arc::clone(shared);
        let builder = thread::Builder::new().name(format!("sim-{}", job.name)).stack_size(STACK_BYTES);
        #[cfg(test)]
        let planted = crate::teeth::planted_here();
        let life = move || {
            #[cfg(test)]
            crate::teeth::plant(planted);
            run(&world, id, work);
        };
        let thread = builder.spawn(life).expect("the machine starts a thread");
        job.thread = Some(thread);
    } else {
        job.turn.notify_one();
    }
    while state.jobs.holder.is_some() {
        let waited = shared.baton.wait_timeout(state, STEP_PATIENCE).unwrap_or_else(PoisonError::into_inner);
        state = waited.0;
        assert!(
            !waited.1.timed_out(),
            "{id:?} neither ends nor calls Files: it waits for what cannot happen"
        );
    }
    let ended = state.jobs.jobs.get_mut(&id).and_then(|job| job.ended.take());
    let Some(outcome) = ended else { return JobStep::Waiting };
    let job = state.jobs.jobs.remove(&id);
    drop(state);
    if let Some(thread) = job.and_then(|job| job.thread) {
        thread.join().expect("the thread catches its job's panics");
    }
    match outcome {
        Ok(()) => JobStep::Ended,
        Err(panic) => resume_unwind(panic),
    }
}

/// Lets every job run to its end while all its calls fail, in seeded order.
pub(super) fn end_all(shared: &Arc<Shared>) {
    loop {
        let mut state = shared.lock();
        let live = state.jobs.live();
        if live.is_empty() {
            return;
        }
        let id = live[state.rng.index(live.len())];
        let started = state.jobs.jobs.get(&id).is_some_and(|job| job.work.is_none());
        if started {
            drop(state);
            step(shared, id);
        } else {
            let unrun = state.jobs.jobs.remove(&id);
            drop(state);
            drop(unrun);
        }
    }
}

/// A job thread's life.
fn run(shared: &Shared, id: JobId, work: Box<dyn FnOnce() + Send>) {
    CURRENT.set(Some(id));
    let outcome = catch_unwind(AssertUnwindSafe(work));
    let mut state = shared.lock();
    if let Some(job) = state.jobs.jobs.get_mut(&id) {
        job.ended = Some(outcome);
    }
    state.jobs.holder = None;
    shared.baton.notify_one();
}

fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    condition.wait(state).unwrap_or_else(PoisonError::into_inner)
}
