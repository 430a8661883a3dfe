//! A run: connections, threads, repetitions; collecting what the threads measured; the verdict.

use super::collector::{Collector, LiveSecond};
use super::connection::Connection;
use super::engine::{Engine, Orders, Pace, ThreadOutcome};
use super::environment::environment;
use super::error::LoadError;
use super::journal::JournalFile;
use super::latency::LatencyHistogram;
use super::recorder::{OpSecond, Recorder, ThreadSecond};
use super::result::{OpResult, Repetition, RepetitionOp, RunConfig, RunResult, SCHEMA_VERSION, Second, Tool};
use super::schedule::{Arrival, Schedule, Share};
use super::sink::NullSink;
use super::target::{ServerCounters, Target};
use super::verdict::{Evidence, verdict};
use super::wire::{NativeReplies, Replies, RespReplies};
use super::workload::{Dialect, ReplayOptions, ReplayWorkload, SampleSource, Workload, WorkloadOptions};
use crate::io::{BackendKind, BackendOptions, SocketId, open_backend, sys};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// From the decision to start until the first operation may be due: threads make their backends meanwhile.
const START_DELAY_NS: u64 = 50_000_000;
/// A time that does not come.
const NEVER_NS: u64 = u64::MAX / 2;
/// How often the server's counters are read during a run.
const MARKS_PERIOD_NS: u64 = 1_000_000_000;
/// Requests of one large operation that may be open on a connection: below the daemon's limit on scans.
const NATIVE_WINDOW: usize = 8;

/// How much to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// This many operations.
    Operations(u64),
    /// For this long after the warm-up.
    Nanoseconds(u64),
    /// Until the workload ends.
    Whole,
}

/// What is sent.
pub enum Source {
    /// Operations made from options.
    Made(WorkloadOptions),
    /// Samples of a file; one thread, one repetition.
    Replay(ReplayOptions, Option<Box<dyn SampleSource>>),
}

/// What a run is.
pub struct RunOptions {
    /// The server.
    pub target: Target,
    /// The generator's backend.
    pub backend: BackendKind,
    /// Connections in all.
    pub clients: u64,
    /// Threads; each has its share of the connections.
    pub threads: u64,
    /// Operations that a connection may wait for.
    pub in_flight_max: u64,
    /// How much to send.
    pub amount: Amount,
    /// Before the measured time, in nanoseconds.
    pub warmup_ns: u64,
    /// Operations per second over all threads; none: closed loop.
    pub rate: Option<f64>,
    /// How arrivals are spread.
    pub arrival: Arrival,
    /// Repetitions.
    pub runs: u64,
    /// Of arrivals.
    pub seed: u64,
    /// What is sent.
    pub source: Source,
    /// Where acknowledged writes are noted.
    pub journal: Option<PathBuf>,
    /// Processors of the threads, in turn; empty: the kernel chooses.
    pub cpus: Vec<usize>,
    /// Seconds between two live seconds that are told.
    pub live_interval_s: u64,
    /// Send to a sink of the generator's own instead of the target.
    pub null_sink: bool,
    /// The document's account of all this.
    pub config: RunConfig,
}

/// What one repetition measured.
struct Measured {
    repetition: Repetition,
    totals: Vec<OpSecond>,
    service: Vec<LatencyHistogram>,
    series: Vec<Second>,
    evidence: Evidence,
    first_errors: Vec<Option<String>>,
}

/// Runs to the end, or until `stop` is set; `live` hears of each second.
///
/// # Errors
/// When it could not be made at all; what went wrong during it is in the verdict.
pub fn run(
    mut options: RunOptions,
    stop: &Arc<AtomicBool>,
    live: &mut dyn FnMut(&LiveSecond),
) -> Result<RunResult, LoadError> {
    let cpus = sys::available_cpus().unwrap_or_default();
    if let Some(cpu) = options.cpus.iter().find(|cpu| !cpus.contains(cpu)) {
        return Err(LoadError::Options(format!(
            "--cpus: processor {cpu} is not among those allowed here ({cpus:?})"
        )));
    }
    let sink = if options.null_sink { Some(start_sink(&options, &cpus)?) } else { None };
    if let Some(sink) = &sink {
        options.target.address = sink.address().to_string();
        options.target.password = None;
    }
    prepare(&options)?;
    let journal = create_journal(&options)?;
    let before = options.target.counters()?;
    let mut backend_name = String::new();
    let mut all = Vec::new();
    for index in 0..options.runs {
        let measured = repeat(&mut options, index, journal.as_ref(), stop, live, &mut backend_name)?;
        all.push(measured);
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    // A server that died during the run tells nothing any more; the figures until then stand.
    let after = options.target.counters().unwrap_or_else(|_| before.clone());
    let mut result = summarize(&options, all, stop.load(Ordering::Relaxed));
    result.env = environment(&backend_name);
    if !options.cpus.is_empty() {
        let cpus: Vec<String> = options.cpus.iter().map(usize::to_string).collect();
        result.env.cpus_allowed = Some(cpus.join(","));
    }
    result.server = ServerCounters::report(&before, &after);
    Ok(result)
}

fn start_sink(options: &RunOptions, cpus: &[usize]) -> Result<NullSink, LoadError> {
    let cpu = if cpus.len() > 1 { cpus.last().copied() } else { None };
    NullSink::start(options.backend, cpu).map_err(|error| LoadError::Machine(format!("null sink: {error}")))
}

/// What the server needs before the first operation: series, for commands that do not make them.
fn prepare(options: &RunOptions) -> Result<(), LoadError> {
    match &options.source {
        Source::Made(workload) if !options.null_sink => {
            super::prepare::create_series(&options.target, workload)
        }
        _ => Ok(()),
    }
}

fn create_journal(options: &RunOptions) -> Result<Option<JournalFile>, LoadError> {
    let Some(path) = &options.journal else { return Ok(None) };
    let Source::Made(workload) = &options.source else {
        return Err(LoadError::Options(
            "a replayed file is its own journal; --journal is for run and load".to_owned(),
        ));
    };
    if options.runs > 1 {
        return Err(LoadError::Options("a journal holds one repetition; leave out --runs".to_owned()));
    }
    let header = super::verify::JournalHeader { threads: options.threads, workload: workload.clone() };
    let header = serde_json::to_string(&header).map_err(|error| LoadError::Options(error.to_string()))?;
    let failed = |source| LoadError::File { path: path.display().to_string(), source };
    JournalFile::create(path, &header).map(Some).map_err(failed)
}

/// What the threads of a repetition hand back.
type ThreadEnd = Result<(ThreadOutcome, Vec<LatencyHistogram>, u64), String>;

struct Threads {
    handles: Vec<JoinHandle<ThreadEnd>>,
    seconds: Receiver<ThreadSecond>,
    give_back: Vec<Sender<Vec<OpSecond>>>,
    measure_ns: u64,
    backend_name: &'static str,
    op_names: Vec<String>,
}

fn repeat(
    options: &mut RunOptions,
    index: u64,
    journal: Option<&JournalFile>,
    stop: &Arc<AtomicBool>,
    live: &mut dyn FnMut(&LiveSecond),
    backend_name: &mut String,
) -> Result<Measured, LoadError> {
    let start_unix_ms = sys::now().unix_ns / 1_000_000;
    let threads = start(options, journal, stop)?;
    threads.backend_name.clone_into(backend_name);
    let duration_ns = match options.amount {
        Amount::Nanoseconds(ns) => Some(ns),
        Amount::Operations(_) | Amount::Whole => None,
    };
    let mut collector = Collector::new(index, threads.op_names.clone(), options.threads, duration_ns);
    collector.tell_every(options.live_interval_s);
    let mut marks = MarkReader::new(options);
    let Threads { handles, seconds, give_back, measure_ns, op_names, .. } = threads;
    while handles.iter().any(|handle| !handle.is_finished()) {
        match seconds.recv_timeout(Duration::from_millis(100)) {
            Ok(second) => take_second(&mut collector, second, &give_back),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        collector.note_marks(&mut marks.read(measure_ns));
        collector.finish_seconds(live);
    }
    let mut evidence = Evidence::new(options);
    let mut service = vec![LatencyHistogram::default(); op_names.len()];
    let mut first_errors = vec![None; op_names.len()];
    let mut last_done_ns = measure_ns;
    for handle in handles {
        let ended =
            handle.join().map_err(|_| LoadError::Machine("a generator thread panicked".to_owned()))?;
        let (outcome, thread_service, done_ns) = ended.map_err(LoadError::Machine)?;
        service.iter_mut().zip(&thread_service).for_each(|(sum, part)| sum.merge(part));
        for (first, found) in first_errors.iter_mut().zip(&outcome.first_errors) {
            *first = first.take().or_else(|| found.clone());
        }
        last_done_ns = last_done_ns.max(done_ns);
        evidence.add(&outcome);
    }
    for second in seconds.try_iter() {
        take_second(&mut collector, second, &give_back);
    }
    let measured_ns = (last_done_ns - measure_ns).max(1);
    let is_cut = stop.load(Ordering::Relaxed) || evidence.failure.is_some() || evidence.all_lost;
    let elapsed_ns = duration_ns.filter(|_| !is_cut).map_or(measured_ns, |ns| ns.max(measured_ns));
    let elapsed_s = elapsed_ns as f64 / 1e9;
    let (totals, series) = collector.finish(elapsed_s, live);
    let repetition = repetition_of(&op_names, &totals, &service, options.rate, elapsed_s, start_unix_ms);
    evidence.count(&totals, elapsed_s);
    Ok(Measured { repetition, totals, service, series, evidence, first_errors })
}

fn take_second(collector: &mut Collector, second: ThreadSecond, give_back: &[Sender<Vec<OpSecond>>]) {
    let thread = usize::try_from(second.thread).unwrap_or(usize::MAX);
    let ops = collector.take(second);
    if let Some(thread) = give_back.get(thread) {
        // A thread that has ended needs no memory.
        let _ = thread.send(ops);
    }
}

/// Opens the connections and starts the threads.
fn start(
    options: &mut RunOptions,
    journal: Option<&JournalFile>,
    stop: &Arc<AtomicBool>,
) -> Result<Threads, LoadError> {
    let mut sockets: Vec<Vec<SocketId>> = Vec::new();
    sockets.resize_with(usize::try_from(options.threads).unwrap_or(1), Vec::new);
    for client in 0..options.clients {
        let thread = usize::try_from(client % options.threads).unwrap_or(0);
        sockets[thread].push(options.target.open()?);
    }
    let cpus = if options.null_sink { sys::available_cpus().unwrap_or_default() } else { Vec::new() };
    let start_ns = sys::monotonic_ns() + START_DELAY_NS;
    let measure_ns = start_ns + options.warmup_ns;
    let (finished, seconds) = channel();
    let (started, first_backend) = channel();
    let (mut handles, mut give_back, mut op_names) = (Vec::new(), Vec::new(), Vec::new());
    for (thread, sockets) in (0_u64..).zip(sockets) {
        let share = Share { thread, threads: options.threads };
        let workload = make_workload(options, share)?;
        op_names = workload.op_names();
        let orders = orders(options, share, start_ns, measure_ns, stop);
        let (spare_sender, spare) = channel();
        give_back.push(spare_sender);
        let recorder = Recorder::new(thread, op_names.len(), measure_ns, finished.clone(), spare);
        let dialect = options.target.dialect;
        let connections: Vec<Connection> =
            sockets.into_iter().map(|socket| connection(dialect, socket)).collect();
        let (backend, journal) = (options.backend, journal.map(JournalFile::writer));
        // The last processor is the sink's.
        let own = if options.cpus.is_empty() {
            &cpus[..cpus.len().saturating_sub(1)]
        } else {
            options.cpus.as_slice()
        };
        let cpu = (!own.is_empty()).then(|| own[usize::try_from(thread).unwrap_or(0) % own.len()]);
        let started = started.clone();
        let body = move || -> ThreadEnd {
            settle_thread(cpu);
            let options =
                BackendOptions { helper_name: "tskv-bench-io".to_owned(), ..BackendOptions::default() };
            let (backend, choice) = open_backend(backend, &options).map_err(|error| error.to_string())?;
            // Only the first one is listened to.
            let _ = started.send(choice.name);
            let engine = Engine::new(backend, connections, workload, orders, recorder, journal);
            let (recorder, outcome) = engine.run();
            Ok((outcome, recorder.service, recorder.last_done_ns))
        };
        let handle = sys::spawn_thread(&format!("tskv-bench-{thread}"), body);
        handles.push(handle.map_err(|error| LoadError::Machine(format!("no thread: {error}")))?);
    }
    let backend_name = first_backend.recv_timeout(Duration::from_secs(10)).unwrap_or("unknown");
    Ok(Threads { handles, seconds, give_back, measure_ns, backend_name, op_names })
}

fn connection(dialect: Dialect, socket: SocketId) -> Connection {
    match dialect {
        Dialect::Native => Connection::new(socket, Replies::Native(NativeReplies::default()), NATIVE_WINDOW),
        Dialect::Strings | Dialect::Series => {
            Connection::new(socket, Replies::Resp(RespReplies::default()), usize::MAX)
        }
    }
}

/// Timers that end on time, and a processor of its own where one is given.
fn settle_thread(cpu: Option<usize>) {
    if let Err(error) = rustix::thread::set_current_timer_slack(NonZeroU64::new(1)) {
        log::debug!("timers may end 50 us late: {error}");
    }
    if let Some(Err(errno)) = cpu.map(sys::pin_to_cpu) {
        log::debug!("the generator is not pinned: {errno}");
    }
}

fn make_workload(options: &mut RunOptions, share: Share) -> Result<Box<dyn Workload>, LoadError> {
    match &mut options.source {
        Source::Made(made) => Ok(made.make(share)),
        Source::Replay(replay, source) => match source.take() {
            Some(source) if share.threads == 1 => Ok(Box::new(ReplayWorkload::new(*replay, source))),
            _ => Err(LoadError::Options("a file is replayed once, by one thread".to_owned())),
        },
    }
}

fn orders(
    options: &RunOptions,
    share: Share,
    start_ns: u64,
    measure_ns: u64,
    stop: &Arc<AtomicBool>,
) -> Orders {
    let by_data = matches!(&options.source, Source::Replay(ReplayOptions { speed: Some(_), .. }, _));
    let pace = match options.rate {
        _ if by_data => Pace::ByData { start_ns },
        Some(rate) => Pace::Scheduled(Schedule::new(options.arrival, rate, share, options.seed, start_ns)),
        None => Pace::Closed { start_ns },
    };
    let (budget, end_ns) = match options.amount {
        Amount::Nanoseconds(ns) => (None, measure_ns + ns),
        Amount::Whole => (None, NEVER_NS),
        Amount::Operations(count) => {
            let rest = u64::from(share.thread < count % share.threads);
            (Some(count / share.threads + rest), NEVER_NS)
        }
    };
    let in_flight_max = usize::try_from(options.in_flight_max).unwrap_or(usize::MAX).max(1);
    Orders { pace, in_flight_max, budget, end_ns, stop: Arc::clone(stop) }
}

/// Reads the server's counters once a second, on a connection of its own.
struct MarkReader {
    target: Option<Target>,
    last: Option<ServerCounters>,
    next_ns: u64,
}

impl MarkReader {
    fn new(options: &RunOptions) -> Self {
        // A sink has nothing to tell, and asking it would cost it time.
        let target = (!options.null_sink).then(|| options.target.clone());
        Self { target, last: None, next_ns: 0 }
    }
    /// The second that ended just now and what the server did in it.
    fn read(&mut self, measure_ns: u64) -> Option<(u64, BTreeMap<String, u64>)> {
        let now_ns = sys::monotonic_ns();
        let target = self.target.as_ref()?;
        if now_ns < self.next_ns.max(measure_ns) {
            return None;
        }
        self.next_ns = now_ns + MARKS_PERIOD_NS;
        let Ok(counters) = target.counters() else {
            // It is busy, stopped or gone; asking again would delay the collecting.
            self.target = None;
            return None;
        };
        let marks = self.last.as_ref().map(|last| counters.marks_since(last));
        self.last = Some(counters);
        let second = ((now_ns - measure_ns) / 1_000_000_000).checked_sub(1)?;
        marks.filter(|marks| !marks.is_empty()).map(|marks| (second, marks))
    }
}

fn repetition_of(
    names: &[String],
    totals: &[OpSecond],
    service: &[LatencyHistogram],
    rate: Option<f64>,
    elapsed_s: f64,
    start_unix_ms: i64,
) -> Repetition {
    let mut ops = BTreeMap::new();
    for ((name, total), service) in names.iter().zip(totals).zip(service) {
        if total.count == 0 {
            continue;
        }
        let is_open = rate.is_some() || service.count() > 0;
        let op = RepetitionOp {
            count: total.count,
            errors: total.errors,
            values: total.values,
            ops_per_s: total.count as f64 / elapsed_s,
            response_us: is_open.then(|| total.latencies.summary()),
            service_us: if is_open { service.summary() } else { total.latencies.summary() },
        };
        ops.insert(name.clone(), op);
    }
    let count: u64 = totals.iter().map(|total| total.count).sum();
    Repetition { start_unix_ms, elapsed_s, achieved_rate: count as f64 / elapsed_s, ops }
}

/// The document of all repetitions together.
fn summarize(options: &RunOptions, all: Vec<Measured>, interrupted: bool) -> RunResult {
    let elapsed_s: f64 = all.iter().map(|measured| measured.repetition.elapsed_s).sum();
    let names: Vec<String> = match &options.source {
        Source::Made(made) => made.make(Share { thread: 0, threads: 1 }).op_names(),
        Source::Replay(..) => vec!["write".to_owned()],
    };
    let mut ops = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        let (mut total, mut service) = (OpSecond::default(), LatencyHistogram::default());
        let mut first_error = None;
        for measured in &all {
            total.merge(&measured.totals[index]);
            service.merge(&measured.service[index]);
            first_error = first_error.or_else(|| measured.first_errors[index].clone());
        }
        if total.count > 0 {
            ops.insert(name.clone(), op_result(total, service, first_error, options, elapsed_s));
        }
    }
    let evidence: Vec<&Evidence> = all.iter().map(|measured| &measured.evidence).collect();
    let verdict = verdict(options, &evidence, interrupted);
    let (mut runs, mut series) = (Vec::new(), Vec::new());
    for measured in all {
        runs.push(measured.repetition);
        series.extend(measured.series);
    }
    RunResult {
        schema_version: SCHEMA_VERSION,
        tool: Tool { name: "tskv bench".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
        config: options.config.clone(),
        env: super::Environment::default(),
        verdict,
        ops,
        runs,
        series,
        sweep: Vec::new(),
        server: super::ServerReport::default(),
    }
}

fn op_result(
    total: OpSecond,
    service: LatencyHistogram,
    first_error: Option<String>,
    options: &RunOptions,
    elapsed_s: f64,
) -> OpResult {
    let is_open = options.rate.is_some() || service.count() > 0;
    let (response, service) =
        if is_open { (Some(total.latencies), service) } else { (None, total.latencies) };
    OpResult {
        count: total.count,
        errors: total.errors,
        values: total.values,
        bytes_sent: total.bytes_sent,
        bytes_received: total.bytes_received,
        ops_per_s: total.count as f64 / elapsed_s,
        values_per_s: total.values as f64 / elapsed_s,
        response_us: response.as_ref().map(LatencyHistogram::summary),
        service_us: service.summary(),
        response_hdr_v2_base64: response,
        service_hdr_v2_base64: service,
        first_error,
    }
}
