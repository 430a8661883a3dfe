//! Whole nodes through seeded lives and crashes. One failing seed fails the test, and is printed with the command
//! that replays it.
//!
//! `TSKV_SIM_SECONDS` says for how long new seeds are run (20), `TSKV_SIM_SEEDS_MIN` how many at least (10), `TSKV_SIM_SEEDS_MAX` how many at most,
//! `TSKV_SIM_SEED` runs that one only, and
//! `TSKV_SIM_TRACE=1` prints its trace as well. Stored seeds of `tests/seeds/` always run first.
#![expect(clippy::unwrap_used, reason = "a failed step of a test fails the test")]
#![expect(clippy::disallowed_methods, reason = "the time box of the test is real time, on real threads")]

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tskv::simulator::{Summary, Violation, run_seed, trace_seed};

/// New seeds begin here on every run: what CI runs today it runs tomorrow, and more of it on a faster machine.
const SEED_FIRST: u64 = 1;
/// Fewer new seeds say too little: the time box is stretched until so many have run, up to a limit.
const SEEDS_MIN_DEFAULT: u64 = 10;
const SECONDS_DEFAULT: u64 = 20;
const STRETCH: Duration = Duration::from_secs(600);

fn number_of(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Seeds that once failed: the first word of each line; the story follows.
fn stored_seeds() -> Vec<u64> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut seeds = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "txt")) {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        seeds.extend(lines.map(|line| {
            let (seed, story) = line.split_once(' ').expect("a seed has a story");
            assert!(!story.trim().is_empty(), "{}: a seed has a story", path.display());
            seed.parse::<u64>().unwrap()
        }));
    }
    seeds
}

fn add(total: &mut Summary, one: &Summary) {
    total.lives += one.lives;
    total.crashes += one.crashes;
    total.opens_cut += one.opens_cut;
    total.rests += one.rests;
    total.acknowledged += one.acknowledged;
    total.answered += one.answered;
    total.refused += one.refused;
    total.replayed += one.replayed;
    total.torn += one.torn;
}

/// Runs stored seeds, then new ones until the time is over; stops at the first failure.
fn run_seeds(stored: &[u64], seconds: u64, seeds_min: u64) -> Result<(u64, Summary), Violation> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let seeds_max = number_of("TSKV_SIM_SEEDS_MAX");
    let is_over = |new_seeds: u64| {
        let now = Instant::now();
        let enough = now >= until && (new_seeds >= seeds_min || now >= until + STRETCH);
        enough || seeds_max.is_some_and(|max| new_seeds >= max)
    };
    let next = AtomicU64::new(0);
    let outcome: Mutex<Result<(u64, Summary), Violation>> = Mutex::new(Ok((0, Summary::default())));
    let worker = || loop {
        let nth = next.fetch_add(1, Ordering::Relaxed);
        let is_new = nth >= stored.len() as u64;
        if outcome.lock().unwrap().is_err() || (is_new && is_over(nth - stored.len() as u64)) {
            return;
        }
        let new = SEED_FIRST + nth.saturating_sub(stored.len() as u64);
        let seed = usize::try_from(nth).ok().and_then(|nth| stored.get(nth)).copied().unwrap_or(new);
        let result = run_seed(seed);
        let mut outcome = outcome.lock().unwrap();
        match (&mut *outcome, result) {
            (Ok((count, total)), Ok(summary)) => {
                *count += 1;
                add(total, &summary);
            }
            (Ok(_), Err(violation)) => *outcome = Err(violation),
            (Err(_), _) => {}
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(worker);
        scope.spawn(worker);
    });
    outcome.into_inner().unwrap()
}

#[test]
fn nodes_keep_their_promises_through_seeded_crashes() {
    // Acknowledged writes are lost, deleted ones return, a reply shows what a crash takes back, or a request hangs.
    if let Some(seed) = number_of("TSKV_SIM_SEED") {
        let is_traced = number_of("TSKV_SIM_TRACE").is_some_and(|flag| flag > 0);
        let result = if is_traced { trace_seed(seed, |line| println!("{line}")) } else { run_seed(seed) };
        match result {
            Ok(summary) => println!("seed {seed}: ok, {summary:?}"),
            Err(violation) => panic!("{violation}"),
        }
        return;
    }
    let stored = stored_seeds();
    let seconds = number_of("TSKV_SIM_SECONDS").unwrap_or(SECONDS_DEFAULT);
    let seeds_min = number_of("TSKV_SIM_SEEDS_MIN").unwrap_or(SEEDS_MIN_DEFAULT);
    let began = Instant::now();
    match run_seeds(&stored, seconds, seeds_min) {
        Ok((count, total)) => {
            let took = began.elapsed().as_secs();
            println!("{count} seeds in {took} s, {} of them stored: {total:?}", stored.len());
            assert!(count >= seeds_min + stored.len() as u64, "only {count} seeds in {took} s");
            assert!(total.acknowledged > 0 && total.answered > 0 && total.replayed > 0, "{total:?}");
            assert!(total.opens_cut > 0 && total.rests > 0, "{total:?}");
        }
        Err(violation) => panic!("{violation}"),
    }
}
