//! Runs many small cases on a few threads, and stops after a few that failed.
#![expect(clippy::disallowed_methods, reason = "how long a sweep took is real time")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Threads that cases are spread over.
const THREADS: usize = 2;

/// Failures that are told of before a sweep stops.
const FAILURES_MAX: usize = 6;

/// Whether everything is tried, and not a sample.
pub(crate) fn thorough() -> bool {
    std::env::var_os("TSKV_THOROUGH").is_some()
}

/// A number from the environment.
pub(crate) fn number_of(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// When no further case is begun: `variable` says after how many seconds, or it is unset.
pub(crate) fn deadline(variable: &str) -> Option<Instant> {
    number_of(variable).map(|seconds| Instant::now() + Duration::from_secs(seconds))
}

/// What all cases of a sweep came to.
pub(crate) struct Outcome<T> {
    /// In the order in which they ended.
    pub(crate) results: Vec<T>,
    /// Real time.
    pub(crate) seconds: f64,
}

/// Runs every case, in order, on a few threads; those from the first on for which there is time.
///
/// # Panics
/// When one fails: with `replay` of it, the command that shows it again.
pub(crate) fn every<C: Sync, T: Send>(
    cases: &[C],
    until: Option<Instant>,
    run: impl Fn(&C) -> Result<T, String> + Sync,
    replay: impl Fn(&C) -> String + Sync,
) -> Outcome<T> {
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(cases.len()));
    let failures: Mutex<Vec<String>> = Mutex::default();
    let worker = || {
        while failures.lock().unwrap().len() < FAILURES_MAX {
            if until.is_some_and(|until| Instant::now() >= until) {
                return;
            }
            let nth = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(nth) else { return };
            let announce = Announce { replay: &replay, case };
            match run(case) {
                Ok(result) => results.lock().unwrap().push(result),
                Err(why) => failures.lock().unwrap().push(format!("{why}\nreplay: {}", replay(case))),
            }
            drop(announce);
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(worker))));
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Outcome { results: results.into_inner().unwrap(), seconds: began.elapsed().as_secs_f64() }
}

/// Says which case it was when a panic comes by.
struct Announce<'a, C, R: Fn(&C) -> String> {
    replay: &'a R,
    case: &'a C,
}

impl<C, R: Fn(&C) -> String> Drop for Announce<'_, C, R> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the panic is of this case; replay: {}", (self.replay)(self.case));
        }
    }
}
