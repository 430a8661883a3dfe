//! Running `tskv bench` and reading what it measured.

use crate::support::tskv;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::sync::Mutex;
use tskv::load::RunResult;

/// A finished run.
pub(crate) struct Finished {
    pub(crate) result: RunResult,
    pub(crate) output: Output,
}

/// Starts `bench` with these flags; the result goes to `json`.
pub(crate) fn start(flags: &[&str], json: &Path) -> Child {
    let mut command = tskv();
    command.arg("bench").args(flags).arg("--json").arg(json);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for a run.
pub(crate) fn finish(child: Child, json: &Path) -> Finished {
    let output = child.wait_with_output().unwrap();
    let text = std::fs::read_to_string(json).unwrap_or_default();
    let result = serde_json::from_str(&text);
    let result =
        result.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    Finished { result, output }
}

/// Runs `bench` with these flags.
pub(crate) fn run(flags: &[&str]) -> Finished {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("result.json");
    finish(start(flags, &json), &json)
}

/// One measurement of time at a time: two would disturb each other.
static ALONE: Mutex<()> = Mutex::new(());

/// Repeats a measurement that this machine's other work may have disturbed: it fails when it fails each time.
///
/// Four attempts, because what is measured is the time at which a thread ran, and on two processors that compilers take
/// as well an attempt may find it waiting for longer than the bound allows. Attempts excuse only what comes and goes: a
/// limiter that bursts, or latencies without the wait, miss the bounds by a factor, and in each attempt.
pub(crate) fn undisturbed(mut measure: impl FnMut() -> Result<(), String>) {
    const ATTEMPTS: usize = 4;
    let _alone = ALONE.lock();
    let failures: Vec<String> = (0..ATTEMPTS).map_while(|_| measure().err()).collect();
    assert!(failures.len() < ATTEMPTS, "each attempt failed:\n{}", failures.join("\n"));
}
