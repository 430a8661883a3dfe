//! Threads: named, and for jobs of low priority.
#![expect(unsafe_code, reason = "thread priorities have no safe wrapper in the standard library")]

use super::check;
use crate::io::{Errno, Spawner};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Niceness of jobs: they give way to the cores, and still get what is left.
const JOB_NICENESS: i32 = 10;
/// `ioprio_set(2)`: who = one thread, class best effort, lowest level of it.
const IOPRIO_WHO_PROCESS: i32 = 1;
const IOPRIO_JOB: i32 = (IOPRIO_CLASS_BEST_EFFORT << IOPRIO_CLASS_SHIFT) | IOPRIO_LEVEL_LOWEST;
const IOPRIO_CLASS_BEST_EFFORT: i32 = 2;
const IOPRIO_CLASS_SHIFT: i32 = 13;
const IOPRIO_LEVEL_LOWEST: i32 = 7;

/// Starts a thread called `name` (the kernel shows its first 15 bytes).
///
/// # Errors
/// What `pthread_create(3)` says: out of memory, or a limit on threads.
pub fn spawn_thread<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(body)
}

/// Lets the calling thread run and do I/O only behind others (niceness 10, lowest best-effort I/O level).
///
/// # Errors
/// What `setpriority(2)` or `ioprio_set(2)` says; profiles may forbid them. The thread works all the same.
pub fn lower_thread_priority() -> Result<(), Errno> {
    // SAFETY: the call takes numbers only; 0 means the calling thread on Linux.
    let niced = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, JOB_NICENESS) };
    check(niced.into())?;
    // SAFETY: the call takes numbers only; 0 means the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_JOB) };
    check(result).map(drop)
}

/// Runs each job on a thread of its own, at low priority.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadSpawner;

impl Spawner for ThreadSpawner {
    fn spawn(&self, name: &str, job: Box<dyn FnOnce() + Send>) {
        // The job stays reachable when the thread cannot be made: it then runs here, late but not lost.
        let job = Arc::new(Mutex::new(Some(job)));
        let taken = Arc::clone(&job);
        let started = spawn_thread(name, move || {
            if let Err(errno) = lower_thread_priority() {
                log::debug!("jobs run at normal priority: {errno}");
            }
            run_once(&taken);
        });
        if let Err(error) = started {
            log::warn!("no thread for the job {name}, it runs on its starter's: {error}");
            run_once(&job);
        }
    }
}

fn run_once(job: &Mutex<Option<Box<dyn FnOnce() + Send>>>) {
    let job = job.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(job) = job {
        job();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn jobs_run_on_a_named_thread_behind_the_cores() {
        // Compaction at the cores' priority would show in every client's latency.
        let (sender, receiver) = channel();
        let job = move || {
            let name = std::thread::current().name().unwrap().to_owned();
            // SAFETY: takes numbers only.
            let niceness = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
            sender.send((name, niceness)).unwrap();
        };
        ThreadSpawner.spawn("tskv-job-7", Box::new(job));
        let (name, niceness) = receiver.recv().unwrap();
        assert_eq!(name, "tskv-job-7");
        assert!(niceness >= JOB_NICENESS);
    }
}
