//! Whole nodes through seeded lives, faults and crashes. One failing seed fails the test, and is printed with the
//! command that replays it.
//!
//! `TSKV_SIM_SECONDS` says for how long new seeds are run (20), `TSKV_SIM_SEEDS_MIN` how many at least (50),
//! `TSKV_SIM_SEEDS_MAX` how many at most. What `tests/seeds/` lists always runs first. A single seed is run with
//! `tskv simulate`.
#![expect(clippy::unwrap_used, reason = "a failed step of a test fails the test")]
#![expect(clippy::disallowed_methods, reason = "the time box of the test is real time")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tskv::simulator::{FaultSet, SimulationOptions, parse_skip, run_many};

/// New seeds begin here on every run: what CI runs today it runs tomorrow, and more of it on a faster machine.
const SEED_FIRST: u64 = 1;
/// Fewer new seeds say too little: the time box is stretched until so many have run, up to a limit.
const SEEDS_MIN_DEFAULT: u64 = 50;
const SECONDS_DEFAULT: u64 = 20;
const STRETCH: Duration = Duration::from_secs(600);
const THREADS: usize = 2;

fn number_of(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Runs that once failed: a line holds the seed, perhaps arguments that narrow it, and the story behind a `#`.
fn stored_runs() -> Vec<SimulationOptions> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut runs = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "txt")) {
        let text = std::fs::read_to_string(path).unwrap();
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let (arguments, story) = line.split_once('#').expect("a run has a story, behind a #");
            assert!(!story.trim().is_empty(), "{}: a run has a story", path.display());
            runs.push(parse_run(arguments));
        }
    }
    runs
}

/// Reads arguments of `tskv simulate`.
fn parse_run(arguments: &str) -> SimulationOptions {
    let mut options = SimulationOptions::new(0);
    let mut words = arguments.split_whitespace();
    while let Some(word) = words.next() {
        let value = words.next().unwrap_or_else(|| panic!("{word} has no value in: {arguments}"));
        match word {
            "--seed" => options.seed = value.parse().unwrap(),
            "--cores" => options.cores = Some(value.parse().unwrap()),
            "--faults" => options.faults = FaultSet::parse(value).unwrap(),
            "--lives" => options.lives_max = Some(value.parse().unwrap()),
            "--ops" => options.ops_max = Some(value.parse().unwrap()),
            "--skip" => options.skip = parse_skip(value).unwrap(),
            other => panic!("{other} narrows nothing"),
        }
    }
    options
}

#[test]
fn nodes_keep_their_promises_through_seeded_faults_and_crashes() {
    // Acknowledged writes are lost, deleted ones return, a reply shows what a crash takes back, or a request hangs.
    let stored = stored_runs();
    let seconds = number_of("TSKV_SIM_SECONDS").unwrap_or(SECONDS_DEFAULT);
    let seeds_min = number_of("TSKV_SIM_SEEDS_MIN").unwrap_or(SEEDS_MIN_DEFAULT);
    let seeds_max = number_of("TSKV_SIM_SEEDS_MAX").unwrap_or(u64::MAX);
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds);
    let started = AtomicUsize::new(0);
    let next = || {
        let nth = started.fetch_add(1, Ordering::Relaxed);
        let Some(new_seeds) = nth.checked_sub(stored.len()) else { return Some(stored[nth].clone()) };
        let new_seeds = new_seeds as u64;
        let now = Instant::now();
        let enough = now >= until && (new_seeds >= seeds_min || now >= until + STRETCH);
        (!enough && new_seeds < seeds_max).then(|| SimulationOptions::new(SEED_FIRST + new_seeds))
    };
    match run_many(THREADS, &next, &|_, _| {}) {
        Ok((count, total)) => {
            let took = began.elapsed().as_secs();
            println!("{count} seeds in {took} s, {} of them stored: {total}", stored.len());
            let wanted = seeds_min.min(seeds_max) + stored.len() as u64;
            assert!(count >= wanted, "only {count} seeds in {took} s");
            assert!(total.acknowledged > 0 && total.answered > 0 && total.replayed > 0, "{total}");
            assert!(total.opens_cut > 0 && total.rests > 0 && total.shutdowns > 0, "{total}");
        }
        Err(violation) => panic!("{violation}"),
    }
}
