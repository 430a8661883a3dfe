//! The one thread beside a core that waits for the disk in its place.
//!
//! Buffers move to the helper with their job and come back with its result; the loop and the helper share nothing
//! but the two queues. The helper wakes the loop after each result; wakes are coalesced.

use super::file_call;
use crate::io::op_table::OpKey;
use crate::io::sys::{self, EventFd};
use crate::io::{Errno, OpBuf, Outcome, Wake};
use crate::model::FileRef;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What to do with a file.
#[derive(Debug)]
pub(super) enum Work {
    Read { offset: u64 },
    Write { offset: u64, durable: bool },
    Sync,
}

/// A file operation on its way to the helper.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) key: OpKey,
    pub(super) file: FileRef,
    pub(super) work: Work,
    pub(super) buf: OpBuf,
}

/// A file operation on its way back.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) key: OpKey,
    pub(super) result: Result<Outcome, Errno>,
    pub(super) buf: OpBuf,
}

#[derive(Debug, Default)]
struct Queues {
    jobs: VecDeque<Job>,
    finished: Vec<Finished>,
    stopping: bool,
}

#[derive(Debug)]
struct Shared {
    queues: Mutex<Queues>,
    job_came: Condvar,
    waker: Arc<EventFd>,
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loop's side of the helper. Dropping it waits for the job under way; jobs not begun are dropped.
#[derive(Debug)]
pub(super) struct Helper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Helper {
    pub(super) fn start(name: &str, waker: Arc<EventFd>) -> Result<Self, Errno> {
        let shared =
            Arc::new(Shared { queues: Mutex::new(Queues::default()), job_came: Condvar::new(), waker });
        let theirs = Arc::clone(&shared);
        let thread = sys::spawn_thread(name, move || run(&theirs))?;
        Ok(Self { shared, thread: Some(thread) })
    }
    pub(super) fn submit(&self, job: Job) {
        self.shared.queues().jobs.push_back(job);
        self.shared.job_came.notify_one();
    }
    /// Takes a job back that the helper has not begun.
    pub(super) fn withdraw(&self, key: OpKey) -> Option<Job> {
        let mut queues = self.shared.queues();
        let index = queues.jobs.iter().position(|job| job.key == key)?;
        queues.jobs.remove(index)
    }
    /// Swaps the results so far with the empty `finished`.
    pub(super) fn take_finished(&self, finished: &mut Vec<Finished>) {
        debug_assert!(finished.is_empty(), "results would get lost");
        std::mem::swap(&mut self.shared.queues().finished, finished);
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let mut queues = self.shared.queues();
        queues.stopping = true;
        queues.jobs.clear();
        drop(queues);
        self.shared.job_came.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there has stopped the process already.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared) {
    let mut queues = shared.queues();
    loop {
        if let Some(job) = queues.jobs.pop_front() {
            drop(queues);
            let finished = execute(job);
            queues = shared.queues();
            queues.finished.push(finished);
            shared.waker.wake();
        } else if queues.stopping {
            return;
        } else {
            queues = shared.job_came.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn execute(job: Job) -> Finished {
    let Job { key, file, work, mut buf } = job;
    let result = match (work, &mut buf) {
        (Work::Read { offset }, OpBuf::Aligned(buf)) => {
            file_call::read(&file, buf, offset).map(Outcome::Transferred)
        }
        (Work::Write { offset, durable }, OpBuf::Aligned(buf)) => {
            file_call::write(&file, buf, offset, durable).map(Outcome::Transferred)
        }
        (Work::Sync, _) => file_call::sync(&file).map(|()| Outcome::Done),
        (Work::Read { .. } | Work::Write { .. }, OpBuf::None | OpBuf::Bytes(_)) => Err(Errno::EINVAL),
    };
    Finished { key, result, buf }
}
