//! Every decoder on its corpus and on seeded mutations of it: what libFuzzer drives (`tests/fuzz`, `scripts/fuzz.sh`)
//! in `cargo test`, with the same bodies, always the same inputs and no compiler flags.
//!
//! `TSKV_FUZZ_SECONDS`: how long each target runs (default a quarter of a second); `TSKV_FUZZ_FIRST`: the number of the
//! first mutation (default 0). A failure names target and number of the execution, and leaves the input in
//! `target/fuzz-failures`.
#![expect(clippy::unwrap_used, reason = "a test's helpers panic like the test itself")]
#![expect(clippy::disallowed_methods, reason = "the tests take their own time")]

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;
mod mutations;
mod seeds;
#[path = "../support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::Rng;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus");
/// More than this is no corpus but a landfill.
const CORPUS_BYTES_MAX: u64 = 200 << 10;
/// Executions between looks at the clock.
const BATCH: u64 = 256;

/// The committed inputs of a target, in the order of their names, then those that the present encoders make.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(Path::new(CORPUS).join(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let mut inputs: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    inputs.extend(seeds::of(target).into_iter().map(|(_, input)| input));
    inputs
}

/// Runs one input; a panic ends the test with all that is needed to see it again.
fn execute(target: bodies::Target, number: u64, input: &[u8]) {
    let (name, body) = target;
    if catch_unwind(AssertUnwindSafe(|| body(input))).is_ok() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz-failures");
    let file = folder.join(format!("{name}-{number}"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(&file, input).unwrap();
    panic!("execution {number} of {name} failed; replay: scripts/fuzz.sh --replay {name} {}", file.display());
}

fn seconds() -> f64 {
    std::env::var("TSKV_FUZZ_SECONDS").map_or(0.25, |text| text.parse().unwrap())
}

fn first_mutation() -> u64 {
    std::env::var("TSKV_FUZZ_FIRST").map_or(0, |text| text.parse().unwrap())
}

/// Some inputs go wrong only after the checksums were put right, or in the thousandth mutation.
fn mutations_hold(target: bodies::Target) {
    assert!(bodies::is_counting(), "without the counting allocator every bound holds");
    let corpus = corpus(target.0);
    corpus.iter().for_each(|input| execute(target, 0, input));
    let end = Instant::now() + Duration::from_secs_f64(seconds());
    let mut executions = corpus.len() as u64;
    let first = first_mutation();
    while Instant::now() < end {
        for _ in 0..BATCH {
            executions += 1;
            let number = first.wrapping_add(executions);
            let input = mutations::mutate(&mut Rng(number), &corpus);
            execute(target, number, &input);
        }
    }
    println!("fuzz {}: {executions} executions, seeded mutations", target.0);
}

#[test]
fn native_frames_hold() {
    // One frame from a stranger would end the daemon.
    mutations_hold(bodies::TARGETS[0]);
    mutations_hold(bodies::TARGETS[1]);
}

#[test]
fn resp_and_its_patterns_hold() {
    // The port that everybody can reach.
    mutations_hold(bodies::TARGETS[2]);
    mutations_hold(bodies::TARGETS[9]);
}

#[test]
fn http_heads_hold() {
    // The admin port has no password.
    mutations_hold(bodies::TARGETS[3]);
}

#[test]
fn segments_hold() {
    // A disk that lies would keep the store from opening, or give it records that nobody wrote.
    mutations_hold(bodies::TARGETS[4]);
}

#[test]
fn tables_hold() {
    // A rotten block would take all other tables with it.
    mutations_hold(bodies::TARGETS[5]);
}

#[test]
fn manifests_hold() {
    // Everything else hangs on this file.
    mutations_hold(bodies::TARGETS[6]);
}

#[test]
fn configurations_and_imports_hold() {
    // An operator's typing error deserves a sentence, not a backtrace.
    mutations_hold(bodies::TARGETS[7]);
    mutations_hold(bodies::TARGETS[8]);
}

#[test]
fn the_corpus_is_small_and_complete() {
    // A target without a corpus starts from nothing each time; a large one slows every clone.
    let mut bytes = 0;
    for (name, _) in bodies::TARGETS {
        let folder = std::fs::read_dir(Path::new(CORPUS).join(name)).unwrap();
        let sizes: Vec<u64> = folder.map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
        assert!(sizes.len() >= 2, "{name} has {} inputs", sizes.len());
        bytes += sizes.iter().sum::<u64>();
    }
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes} bytes");
}

#[test]
#[ignore = "writes the committed corpus: run it after seeds.rs has changed"]
fn write_the_corpus() {
    // Without this the hand-written inputs could not be told from found ones.
    for (name, _) in bodies::TARGETS {
        let folder = Path::new(CORPUS).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (file, input) in seeds::of(name) {
            std::fs::write(folder.join(file), input).unwrap();
        }
    }
}
