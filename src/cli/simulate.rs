//! `tskv simulate`: whole nodes on a simulated machine, through faults and crashes, from a seed.

use super::args::SimulateArgs;
use super::error::CliError;
use super::output::Output;
use crate::simulator::{
    FaultSet, SimulationOptions, Summary, ViolationKind, parse_skip, run_many, shrink, trace, under_way,
};
use std::io::{self, IsTerminal, Write};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// How long `--shrink` looks for something smaller where `--seconds` does not say.
const SHRINK_SECONDS: u64 = 120;

/// Runs the simulation.
pub(super) fn run(args: &SimulateArgs) -> Result<(), CliError> {
    let options = options_of(args)?;
    report_panics();
    if args.shrink {
        return make_smaller(&options, args.seconds.unwrap_or(SHRINK_SECONDS));
    }
    if args.trace {
        return show_trace(&options);
    }
    match &args.seeds {
        None if args.seconds.is_none() => run_one(&options),
        seeds => run_several(&options, seeds.as_deref(), args),
    }
}

fn options_of(args: &SimulateArgs) -> Result<SimulationOptions, CliError> {
    let faults = FaultSet::parse(&args.faults).map_err(CliError::Usage)?;
    let skip = args.skip.as_deref().map_or(Ok(Vec::new()), parse_skip).map_err(CliError::Usage)?;
    let cores = args.cores.map(usize::from);
    Ok(SimulationOptions {
        cores,
        faults,
        ops_max: args.ops,
        lives_max: args.lives,
        skip,
        ..SimulationOptions::new(args.seed)
    })
}

/// A panic of the code under test is a finding: it is told with the command that replays it, and exit status 1.
fn report_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        let runs = under_way();
        let these = if runs.len() == 1 { "it was" } else { "it was one of" };
        runs.iter().for_each(|arguments| eprintln!("{these}: tskv simulate {arguments}"));
        println!("panic: see stderr");
        std::process::exit(1);
    }));
}

fn verdict(options: &SimulationOptions, summary: &Summary) -> String {
    let narrowing = options.narrowing();
    let with = if narrowing.is_empty() { String::new() } else { format!(", with {narrowing}") };
    format!("seed {}: ok, trace {:016x}{with}", options.seed, summary.trace_hash)
}

fn say(text: &str) -> Result<(), CliError> {
    let mut output = Output::stdout();
    writeln!(output, "{text}").and_then(|()| output.flush()).map_err(|error| CliError::output(&error))
}

fn run_one(options: &SimulationOptions) -> Result<(), CliError> {
    match crate::simulator::run(options) {
        Ok(summary) => say(&format!("{summary}\n{}", verdict(options, &summary))),
        Err(violation) => {
            say(&violation.to_string())?;
            Err(CliError::Negative)
        }
    }
}

fn show_trace(options: &SimulationOptions) -> Result<(), CliError> {
    let mut output = Output::stdout();
    let mut failure = None;
    let outcome = trace(options, |line| {
        if failure.is_none() {
            failure = writeln!(output, "{line}").err();
        }
    });
    let last = match &outcome {
        Ok(summary) => verdict(options, summary),
        Err(violation) => violation.to_string(),
    };
    let written = failure.map_or(Ok(()), Err).and_then(|()| writeln!(output, "{last}"));
    written.and_then(|()| output.flush()).map_err(|error| CliError::output(&error))?;
    outcome.map(drop).map_err(|_| CliError::Negative)
}

/// The seeds of `--seeds`: so many from the first one on, or a range.
fn seeds_of(first: u64, text: Option<&str>) -> Result<(u64, u64), CliError> {
    let number = |word: &str| {
        word.parse::<u64>()
            .map_err(|_| CliError::Usage(format!("--seeds `{word}`: write a number of seeds, or A..B")))
    };
    let (first, end) = match text.map(|text| (text, text.split_once(".."))) {
        None => (first, u64::MAX),
        Some((_, Some((start, end)))) => (number(start)?, number(end)?),
        Some((count, None)) => (first, first.saturating_add(number(count)?)),
    };
    if first >= end {
        return Err(CliError::Usage("--seeds names no seed".to_owned()));
    }
    Ok((first, end))
}

#[expect(clippy::disallowed_methods, reason = "the time box of --seconds is real time")]
fn run_several(
    options: &SimulationOptions,
    seeds: Option<&str>,
    args: &SimulateArgs,
) -> Result<(), CliError> {
    let (first, end) = seeds_of(options.seed, seeds)?;
    let began = Instant::now();
    let box_end = args.seconds.map(|seconds| began + Duration::from_secs(seconds));
    let next_seed = AtomicU64::new(first);
    let next = || {
        let is_late = box_end.is_some_and(|end| Instant::now() >= end);
        let seed = next_seed.fetch_add(1, Ordering::Relaxed);
        (!is_late && seed < end).then(|| options.with_seed(seed))
    };
    let (count, told_ms) = (AtomicU64::new(0), AtomicU64::new(0));
    let done = |_: &SimulationOptions, _: &Summary| {
        let count = count.fetch_add(1, Ordering::Relaxed) + 1;
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let interval_ms = u64::try_from(PROGRESS_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        let last_ms = told_ms.load(Ordering::Relaxed);
        let is_due = elapsed_ms >= last_ms + interval_ms
            && told_ms.compare_exchange(last_ms, elapsed_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_due {
            let rate = count * 1000 / elapsed_ms.max(1);
            let end = if io::stderr().is_terminal() { "\r" } else { "\n" };
            eprint!("{count} seeds in {} s, {rate}/s, all sound{end}", elapsed_ms / 1000);
        }
    };
    let threads = args.threads.map_or_else(
        || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        usize::from,
    );
    match run_many(threads, &next, &done) {
        Ok((count, total)) => {
            let narrowing = options.narrowing();
            let with = if narrowing.is_empty() { String::new() } else { format!(", with {narrowing}") };
            let took = began.elapsed().as_secs_f64();
            say(&format!("{count} seeds in {took:.1} s: ok{with}\n{total}"))
        }
        Err(violation) => {
            say(&violation.to_string())?;
            Err(CliError::Negative)
        }
    }
}

/// How a run in a process of its own failed: panics and endless loops of the code under test cannot harm this one.
fn failure_of(options: &SimulationOptions) -> Result<Option<String>, CliError> {
    let program = std::env::current_exe().map_err(CliError::failed)?;
    let arguments = options.to_string();
    let output = Command::new(program)
        .arg("simulate")
        .args(arguments.split(' '))
        .output()
        .map_err(CliError::failed)?;
    if output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let kinds = [
        ViolationKind::Answer,
        ViolationKind::Recovery,
        ViolationKind::Open,
        ViolationKind::Hang,
        ViolationKind::CoreEnded,
    ];
    let kind = kinds.into_iter().find(|kind| text.contains(&format!(": {kind}: ")));
    Ok(Some(kind.map_or_else(|| "panic".to_owned(), |kind| kind.to_string())))
}

#[expect(clippy::disallowed_methods, reason = "the search for something smaller is bounded in real time")]
fn make_smaller(options: &SimulationOptions, seconds: u64) -> Result<(), CliError> {
    let Some(kind) = failure_of(options)? else {
        return Err(CliError::Failed(format!("seed {} does not fail: nothing to shrink", options.seed)));
    };
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut tries = 0;
    let lives = crate::simulator::LIVES_MAX;
    let small = shrink(options, lives, |candidate| {
        tries += 1;
        // A run that cannot be started shows nothing.
        let fails = Instant::now() < until && failure_of(candidate).ok().flatten().as_ref() == Some(&kind);
        if fails {
            eprintln!("try {tries}: {kind} with {candidate}");
        }
        fails
    });
    let program = std::env::current_exe().map_err(CliError::failed)?;
    let shown = Command::new(program).arg("simulate").args(small.to_string().split(' ')).output();
    let shown = shown.map_err(CliError::failed)?;
    let text = String::from_utf8_lossy(&shown.stdout);
    say(&format!("{}\nsmallest after {tries} tries:\ntskv simulate {small}", text.trim_end()))?;
    Err(CliError::Negative)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::FaultKind;

    #[test]
    fn seeds_are_a_count_or_a_range() {
        // A campaign that runs other seeds than it says proves nothing about those.
        assert_eq!(seeds_of(7, Some("10")).unwrap(), (7, 17));
        assert_eq!(seeds_of(7, Some("3..5")).unwrap(), (3, 5));
        assert_eq!(seeds_of(7, None).unwrap(), (7, u64::MAX));
        for bad in ["0", "5..5", "x", "1..y"] {
            assert!(matches!(seeds_of(1, Some(bad)), Err(CliError::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn the_last_line_says_what_narrowed_the_run() {
        // Hashes of different runs of one seed would be compared.
        let summary = Summary { trace_hash: 0xab, ..Summary::default() };
        let whole = SimulationOptions::new(7);
        assert_eq!(verdict(&whole, &summary), "seed 7: ok, trace 00000000000000ab");
        let narrow = SimulationOptions { faults: FaultSet::ALL.without(FaultKind::Rot), ..whole };
        assert_eq!(verdict(&narrow, &summary), "seed 7: ok, trace 00000000000000ab, with --faults all,-rot");
    }
}
