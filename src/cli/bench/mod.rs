//! `tskv bench`: flags to a run of the load generator, and its result to the terminal and to files.

mod args;
mod compare;
mod keyed;
mod options;
mod report;

pub(super) use args::{BENCH_HELP, BenchArgs};

use super::connect::Target as Server;
use super::csv::{CsvReader, parse_value};
use super::error::CliError;
use super::output::Output;
use crate::load::report::{NamedRun, Threshold, text_report};
use crate::load::{
    self, Amount, Dialect, LiveSecond, LoadError, Objective, ReplayOptions, ReplaySample, RunOptions,
    RunResult, SampleSource, Source, Target, Verification,
};
use crate::model::{Value, ValueType};
use args::{BenchCommand, QueryArgs, ReplayArgs, RunArgs, SweepArgs, VerifyArgs};
use report::Stored;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Exit status where nobody answers.
const STATUS_CONNECT: u8 = 3;
/// Exit status after more errors than allowed.
const STATUS_ERRORS: u8 = 4;
/// Exit status after Ctrl-C, as shells show it.
const STATUS_INTERRUPTED: u8 = 130;

/// Runs what the flags say.
pub(super) fn run(args: &BenchArgs) -> Result<(), CliError> {
    match &args.command {
        None => run_once(&args.run, "run"),
        Some(BenchCommand::Run(args)) => run_once(args, "run"),
        Some(BenchCommand::Load(args)) => run_once(args, "load"),
        Some(BenchCommand::Query(args)) => query(args),
        Some(BenchCommand::Replay(args)) => replay(args),
        Some(BenchCommand::Sweep(args)) => sweep(args),
        Some(BenchCommand::Verify(args)) => verify(args),
        Some(BenchCommand::Report(args)) => report::run(args),
        Some(BenchCommand::Compare(args)) => compare::run(args),
    }
}

fn run_once(args: &RunArgs, command: &str) -> Result<(), CliError> {
    let options = options::run_options(args, command)?;
    run_and_tell(args, options)
}

fn query(args: &QueryArgs) -> Result<(), CliError> {
    let options = options::query_options(args)?;
    run_and_tell(&args.run, options)
}

fn replay(args: &ReplayArgs) -> Result<(), CliError> {
    let mut options = options::run_options(&args.run, "replay")?;
    let reader = CsvReader::open(&args.file, Arc::default()).map_err(CliError::failed)?;
    let value_type = options::replay_type(&args.run);
    let ns_per_unit = options::ns_per_unit(reader.unit());
    let speed = options::replay_speed(&args.speed)?;
    let replay = ReplayOptions {
        dialect: options.target.dialect,
        batch: usize::try_from(options.config.batch).unwrap_or(1),
        speed,
        ns_per_unit,
    };
    options.config.workload = "replay".to_owned();
    options.config.speed = speed;
    if args.run.load.requests.is_none() && args.run.load.duration.is_none() {
        options.amount = Amount::Whole;
        options.config.duration_s = None;
    }
    options.warmup_ns = 0;
    options.config.warmup_s = 0.0;
    options.source = Source::Replay(replay, Some(Box::new(CsvSource { reader, value_type })));
    run_and_tell(&args.run, options)
}

fn sweep(args: &SweepArgs) -> Result<(), CliError> {
    let rates = load::rates(&args.rates).map_err(|reason| CliError::Usage(format!("--rates: {reason}")))?;
    let objective =
        Objective::parse(&args.slo).map_err(|reason| CliError::Usage(format!("--slo: {reason}")))?;
    if args.run.load.rate.is_some() {
        return Err(CliError::Usage("--rate: a sweep takes its rates from --rates".to_owned()));
    }
    let mut first = args.run.clone();
    first.load.rate = rates.first().map(f64::to_string);
    let first = options::run_options(&first, "sweep")?;
    if args.run.output.dry_run {
        return print_config(&first);
    }
    if args.run.load.verify.is_some() || args.run.load.journal.is_some() {
        return Err(CliError::Usage(
            "--journal, --verify: a sweep makes several runs; use bench run".to_owned(),
        ));
    }
    let base = args.run.output.baseline.read_for(&first.config)?;
    report::refuse_unwritable(&args.run.output.files, args.run.output.json.as_deref())?;
    let stop = stop_flag()?;
    let mut failure = None;
    let mut live = live_printer(&args.run);
    let outcome = load::sweep(&rates, &objective, |rate| {
        let mut one = args.run.clone();
        one.load.rate = Some(rate.to_string());
        let options = options::run_options(&one, "sweep").map_err(|error| {
            failure = Some(error);
            LoadError::Options("see above".to_owned())
        })?;
        if !args.run.output.quiet {
            eprintln!("rate {rate:.0}/s");
        }
        load::run(options, &stop, &mut live)
    });
    if let Some(error) = failure {
        return Err(error);
    }
    let result = outcome.map_err(from_load)?;
    tell(&args.run, &result, base.as_ref(), Output::stdout())
}

fn verify(args: &VerifyArgs) -> Result<(), CliError> {
    let server = Server::new(&args.connect)?;
    let target = target(&server, Dialect::Native);
    let found = load::verify(&args.journal, &target, 1.0).map_err(from_load)?;
    tell_verification(&found, &mut Output::stdout())
}

fn tell_verification(found: &Verification, output: &mut Output) -> Result<(), CliError> {
    let mut text = format!(
        "{} acknowledged writes, {} values read back, {} lost\n",
        found.writes, found.values, found.lost
    );
    for example in &found.examples {
        text.push_str(&format!("lost: {example}\n"));
    }
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .map_err(|error| CliError::output(&error))?;
    if found.lost > 0 { Err(CliError::Negative) } else { Ok(()) }
}

/// The server as the generator wants it.
fn target(server: &Server, dialect: Dialect) -> Target {
    Target { address: server.address().to_owned(), password: server.password().map(<[u8]>::to_vec), dialect }
}

fn run_and_tell(args: &RunArgs, mut options: RunOptions) -> Result<(), CliError> {
    if args.output.dry_run {
        return print_config(&options);
    }
    let base = args.output.baseline.read_for(&options.config)?;
    report::refuse_unwritable(&args.output.files, args.output.json.as_deref())?;
    let verification = PlannedVerification::new(args, &mut options)?;
    let stop = stop_flag()?;
    let result = load::run(options, &stop, &mut live_printer(args)).map_err(from_load)?;
    let told = tell(args, &result, base.as_ref(), Output::stdout());
    match verification {
        // What was lost counts more than what was slow.
        Some(planned) => planned.verify().and(told),
        None => told,
    }
}

fn print_config(options: &RunOptions) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(&options.config).map_err(CliError::failed)?;
    let mut output = Output::stdout();
    writeln!(output, "{text}").and_then(|()| output.flush()).map_err(|error| CliError::output(&error))
}

/// Reading back after a run, from its journal; without --journal from one that is removed at the end.
struct PlannedVerification {
    journal: PathBuf,
    is_temporary: bool,
    target: Target,
    share: f64,
}

impl PlannedVerification {
    fn new(args: &RunArgs, options: &mut RunOptions) -> Result<Option<Self>, CliError> {
        let Some(share) = &args.load.verify else { return Ok(None) };
        let share = options::share(share)
            .filter(|share| *share > 0.0)
            .ok_or_else(|| CliError::Usage("--verify: write it as 1%, or without a share".to_owned()))?;
        if options.null_sink {
            return Err(CliError::Usage("--verify: the null sink keeps nothing".to_owned()));
        }
        let is_temporary = options.journal.is_none();
        let name = format!("tskv-bench-{}.journal", std::process::id());
        let journal = options.journal.get_or_insert_with(|| std::env::temp_dir().join(name)).clone();
        Ok(Some(Self { journal, is_temporary, target: options.target.clone(), share }))
    }
    fn verify(&self) -> Result<(), CliError> {
        let found = load::verify(&self.journal, &self.target, self.share).map_err(from_load)?;
        tell_verification(&found, &mut Output::stdout())
    }
}

impl Drop for PlannedVerification {
    fn drop(&mut self) {
        if self.is_temporary {
            // A run that could not begin left none.
            let _ = std::fs::remove_file(&self.journal);
        }
    }
}

/// The first Ctrl-C ends the run early, a second one the program.
fn stop_flag() -> Result<Arc<AtomicBool>, CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(
            signal,
            i32::from(STATUS_INTERRUPTED),
            Arc::clone(&stop),
        )
        .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
        .map_err(CliError::failed)?;
    }
    Ok(stop)
}

/// Prints a line a second: redrawn on a terminal, one after the other else.
fn live_printer(args: &RunArgs) -> impl FnMut(&LiveSecond) + use<> {
    let quiet = args.output.quiet;
    let redraw = !args.output.no_color && std::io::stderr().is_terminal();
    move |second| {
        if !quiet {
            let line = load::live_line(second);
            let is_last = second.total_s.is_some_and(|total| second.t_s >= total);
            let mut stderr = std::io::stderr().lock();
            // A closed stderr is no reason to stop measuring.
            let _ = match redraw {
                true if is_last => writeln!(stderr, "\r\x1b[K{line}"),
                true => write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush()),
                false => writeln!(stderr, "{line}"),
            };
        }
    }
}

/// Writes the report and the files, and says with the exit status how it went.
fn tell(
    args: &RunArgs,
    result: &RunResult,
    base: Option<&Stored>,
    mut output: Output,
) -> Result<(), CliError> {
    let text = text_report(result, &args.output.percentiles, args.output.units.unit());
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .map_err(|error| CliError::output(&error))?;
    // A full disk must not hide whether the limits were kept.
    let written = write_outputs(args, result);
    let is_kept = keep_thresholds(&args.output.thresholds, result, &mut output)?;
    let errors: u64 = result.ops.values().map(|op| op.errors).sum();
    let lost = result.verdict.connections_lost;
    let verdict = &result.verdict;
    let is_whole =
        !verdict.interrupted && verdict.failure.is_none() && errors <= args.load.max_errors && lost == 0;
    let mut comparison = String::new();
    let is_worse = args.output.baseline.conclude(&mut comparison, base, result, is_kept && is_whole)?;
    output
        .write_all(comparison.as_bytes())
        .and_then(|()| output.flush())
        .map_err(|error| CliError::output(&error))?;
    written?;
    if let Some(failure) = &verdict.failure {
        return Err(CliError::failed(failure));
    }
    if verdict.interrupted {
        return Err(CliError::Status(STATUS_INTERRUPTED, "interrupted".to_owned()));
    }
    if errors > args.load.max_errors {
        return Err(CliError::Status(STATUS_ERRORS, format!("{errors} requests failed")));
    }
    if lost > 0 {
        return Err(CliError::Status(STATUS_ERRORS, format!("{lost} connections were lost")));
    }
    if is_kept && !(is_worse && args.output.fail_on_regression) { Ok(()) } else { Err(CliError::Negative) }
}

/// Writes the files that were asked for: all that can be written; the first failure is told.
fn write_outputs(args: &RunArgs, result: &RunResult) -> Result<(), CliError> {
    let json = match &args.output.json {
        Some(path) => serde_json::to_string_pretty(result)
            .map_err(CliError::failed)
            .and_then(|json| report::write_file(path, (json + "\n").as_bytes())),
        None => Ok(()),
    };
    json.and(report::write_files(&args.output.files, &[result], &[NamedRun::new(result, "this run")]))
}

/// Says which limits the run kept; whether all were.
fn keep_thresholds(
    thresholds: &[Threshold],
    result: &RunResult,
    output: &mut Output,
) -> Result<bool, CliError> {
    let (mut text, mut is_kept) = (String::new(), true);
    for threshold in thresholds {
        let verdict =
            threshold.check(result).map_err(|reason| CliError::Usage(format!("--threshold: {reason}")))?;
        text += &format!("threshold  {}\n", verdict.words);
        is_kept &= verdict.is_kept;
    }
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    written.map_err(|error| CliError::output(&error))?;
    Ok(is_kept)
}

fn from_load(error: LoadError) -> CliError {
    match error {
        LoadError::Connect { .. } => {
            CliError::Status(STATUS_CONNECT, format!("{error}; is the server running there?"))
        }
        LoadError::Options(reason) => CliError::Usage(reason),
        error => CliError::failed(error),
    }
}

/// A CSV file as the generator reads it.
struct CsvSource {
    reader: CsvReader,
    value_type: ValueType,
}

impl SampleSource for CsvSource {
    fn next_sample(&mut self) -> Result<Option<ReplaySample>, String> {
        let Some(sample) = self.reader.next_sample().map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let value = parse_value(self.value_type, sample.value).map(Value::into_owned);
        let (series, time) = (sample.series.to_vec(), sample.time);
        match value {
            Ok(value) => Ok(Some(ReplaySample { series, time, value })),
            Err(reason) => Err(format!("{}; --values bytes replays byte strings", self.reader.error(reason))),
        }
    }
}
