//! The same bytes to two servers: tskv and redis-server 7, and tskv on io_uring and on epoll. What comes back must be
//! the same, byte for byte; where tskv departs from Redis on purpose, a table says so and is itself checked.
//!
//! `TSKV_DIFFERENTIAL_SECONDS`: how long each random comparison runs (default 3). A failure prints the seed and the
//! bytes; `TSKV_DIFFERENTIAL_SEED` runs that one alone.
#![expect(clippy::unwrap_used, reason = "a test's helpers panic like the test itself")]
#![expect(clippy::disallowed_methods, reason = "real threads and real time: the servers are real processes")]

mod backends;
mod commands;
mod exchange;
mod interrupted;
mod redis;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

/// Calls `run` with one seed after the other until the time is up; how many there were.
fn seeds(floor: u64, mut run: impl FnMut(u64)) -> u64 {
    if let Ok(seed) = std::env::var("TSKV_DIFFERENTIAL_SEED") {
        run(seed.parse().unwrap());
        return 1;
    }
    let seconds = std::env::var("TSKV_DIFFERENTIAL_SECONDS").map_or(3.0, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut seed = 0;
    while seed < floor || Instant::now() < end {
        seed += 1;
        run(seed);
    }
    seed
}
