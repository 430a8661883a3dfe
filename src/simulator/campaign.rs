//! Many runs, side by side on some threads, until one fails or there are no more.

use super::{SimulationOptions, Summary, Violation, run};
use std::sync::{Mutex, PoisonError};

/// Makes the runs that `next` gives, on `threads` threads, and tells `done` of each that was sound. Gives how many
/// there were, and their sum.
///
/// # Errors
/// The first failure. Runs that are under way then are still finished.
///
/// # Panics
/// As [`run`]; when `threads` is 0.
pub fn run_many(
    threads: usize,
    next: &(dyn Fn() -> Option<SimulationOptions> + Sync),
    done: &(dyn Fn(&SimulationOptions, &Summary) + Sync),
) -> Result<(u64, Summary), Box<Violation>> {
    assert!(threads > 0, "nobody would run them");
    let outcome: Mutex<Result<(u64, Summary), Box<Violation>>> = Mutex::new(Ok((0, Summary::default())));
    let lock = || outcome.lock().unwrap_or_else(PoisonError::into_inner);
    let worker = || {
        while lock().is_ok()
            && let Some(options) = next()
        {
            let result = run(&options);
            if let Ok(summary) = &result {
                done(&options, summary);
            }
            match (&mut *lock(), result) {
                (Ok((count, total)), Ok(summary)) => {
                    *count += 1;
                    total.add(&summary);
                }
                (first @ Ok(_), Err(violation)) => *first = Err(violation),
                (Err(_), _) => {}
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(worker);
        }
    });
    outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
}
