//! The life of the daemon: limits, sockets, store, threads; then serving; then the way down in the right order.
//!
//! Start: sockets are bound (a taken port is known at once) → the store is opened and recovered → the coordinator →
//! one thread per core → ready. Down: cores stop accepting, answer what they have, seal their logs → the coordinator
//! ends its jobs → the store's lock is released.

use super::bind::{Bound, CoreListener, bind};
use super::core_loop::{Control, CoreEnd, CoreLoop};
use super::mailbox::{Bell, Mailboxes};
use super::net::Net;
use super::router::Router;
use super::shared::{Shared, SharedParts};
use crate::config::{Config, Cores};
use crate::io::{
    BackendChoice, BackendOptions, Files, OpenBackendError, OsFiles, Spawner, open_backend, sys,
};
use crate::jobs::{
    Coordinator, CoordinatorLink, OpenError, OpenedStore, Progress, RetentionOptions, ShardLink,
    StoreOptions, ToCoordinator, ToShard, open_store,
};
use crate::limits::{
    MAILBOX_REQUESTS_MAX, TABLE_BYTES_TARGET, WAL_FRAME_BYTES_TARGET, WAL_WRITES_IN_FLIGHT_MAX,
};
use crate::metrics::{StoreSnapshot, render_prometheus};
use crate::model::StreamId;
use crate::shard::{Shard, ShardOptions};
use crate::storage::wal::StreamOptions;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Descriptors for the store, the loops and the admin port, besides clients: a fixed part and one per core.
const DESCRIPTORS_FIXED: u64 = 32;
const DESCRIPTORS_PER_CORE: u64 = 8;
/// Segments that a start makes are small, so that it is ready at once.
const WAL_SEGMENT_BYTES_START: u64 = 1 << 20;
/// An idle shard freezes its memtable at this age.
const MEMTABLE_AGE_NS: u64 = 600_000_000_000;
/// Kept back on disk for the manifest of a full disk.
const BALLAST_BYTES: u64 = 4 << 20;

/// What the daemon tells whoever started it.
pub struct Running {
    /// Where clients connect.
    pub listen: Vec<SocketAddr>,
    /// The backend in use.
    pub backend: String,
    /// How many cores serve.
    pub cores: usize,
    /// Renders the metrics page.
    pub metrics: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

/// Why the daemon did not start, or ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// An address could not be bound.
    Bind { address: SocketAddr, source: io::Error },
    /// Too few file descriptors.
    Descriptors { limit: u64, needed: u64 },
    /// The data directory cannot be used.
    Directory { path: std::path::PathBuf, source: io::Error },
    /// The store cannot be opened.
    Open { path: std::path::PathBuf, source: OpenError },
    /// No backend.
    Backend(OpenBackendError),
    /// A CPU of `--cores cpu:…` is not ours to use.
    Cpu { cpu: usize, allowed: Vec<usize> },
    /// Settings do not fit the number of cores; the text is a whole sentence.
    Cores(String),
    /// A thread could not be started.
    Thread(io::Error),
    /// The machine has no randomness to give.
    Entropy(getrandom::Error),
    /// Signals cannot be received.
    Signals(io::Error),
    /// The log of a core failed: what was acknowledged is on disk, the outcome of the rest is unknown.
    LogFailed { core: u16 },
    /// The backend of a core failed while it served.
    BackendFailed { core: u16, errno: crate::io::Errno },
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { address, source } if source.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "{address} is taken: another tskv or another program listens there; stop it or choose another --listen"
            ),
            Self::Bind { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Self::Descriptors { limit, needed } => write!(
                f,
                "only {limit} files may be open, at least {needed} are needed; raise `ulimit -n` (systemd: LimitNOFILE=)"
            ),
            Self::Directory { path, source } => {
                write!(f, "the data directory {} cannot be used: {source}", path.display())
            }
            Self::Open { path, source } => write!(f, "data directory {}: {source}", path.display()),
            Self::Backend(error) => error.fmt(f),
            Self::Cpu { cpu, allowed } => {
                write!(
                    f,
                    "CPU {cpu} is not available to this process, which may use {allowed:?}; change --cores"
                )
            }
            Self::Cores(reason) => f.write_str(reason),
            Self::Thread(error) => write!(f, "a thread could not be started: {error}"),
            Self::Entropy(error) => write!(f, "no random numbers: {error}"),
            Self::Signals(error) => write!(f, "signals cannot be received: {error}"),
            Self::LogFailed { core } => write!(
                f,
                "the log of core {core} failed; writes without a reply may be lost. Look at the disk, then start again"
            ),
            Self::BackendFailed { core, errno } => {
                write!(f, "the I/O backend of core {core} failed: {errno}")
            }
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::Directory { source, .. } => Some(source),
            Self::Thread(error) | Self::Signals(error) => Some(error),
            Self::Open { source, .. } => Some(source),
            Self::Backend(error) => Some(error),
            Self::Entropy(error) => Some(error),
            Self::Descriptors { .. }
            | Self::Cpu { .. }
            | Self::Cores(_)
            | Self::LogFailed { .. }
            | Self::BackendFailed { .. } => None,
        }
    }
}

impl ServeError {
    /// Whether bytes on disk are damaged or missing: starting again does not help, `tskv check` says more.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Open { source, .. } if source.is_damage())
    }
    /// Whether the settings are to blame, for this machine or this store.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        let refused = |source: &OpenError| {
            matches!(source, OpenError::TimeUnitMismatch { .. } | OpenError::OptionsInvalid { .. })
        };
        match self {
            Self::Cpu { .. } | Self::Cores(_) => true,
            Self::Open { source, .. } => refused(source),
            Self::Bind { .. }
            | Self::Descriptors { .. }
            | Self::Directory { .. }
            | Self::Backend(_)
            | Self::Thread(_)
            | Self::Entropy(_)
            | Self::Signals(_)
            | Self::LogFailed { .. }
            | Self::BackendFailed { .. } => false,
        }
    }
}

/// Serves until SIGTERM or SIGINT (twice means now), or until a core fails.
///
/// # Errors
/// When it cannot start, or ended by itself.
pub fn run(
    mut config: Config,
    ready: impl FnOnce(Running),
    stopping: impl FnOnce(),
) -> Result<(), ServeError> {
    outlive_signals()?;
    let placement = place_cores(&config.cores)?;
    config.check_split_points(placement.len()).map_err(ServeError::Cores)?;
    config.check_core_ports(placement.len()).map_err(ServeError::Cores)?;
    limit_clients(&mut config, placement.len())?;
    size_caches(&mut config, placement.len());
    let bound = bind(&config, placement.len())?;
    let data = config.data.clone();
    let directory = |source| ServeError::Directory { path: data.clone(), source };
    let files: Arc<dyn Files> = Arc::new(OsFiles::new(&config.data).map_err(directory)?);
    let started_ns = sys::monotonic_ns();
    let options = store_options(&config, placement.len())?;
    let opened = open_store(&files, &options, std::process::id(), &log_progress)
        .map_err(|source| ServeError::Open { path: data.clone(), source })?;
    let recovery_ns = sys::monotonic_ns() - started_ns;
    Node::start(config, &files, opened, placement, bound, recovery_ns)?.serve(ready, stopping)
}

/// Where each core runs: a CPU, or wherever the kernel likes.
fn place_cores(cores: &Cores) -> Result<Vec<Option<usize>>, ServeError> {
    let allowed = sys::available_cpus().unwrap_or_default();
    Ok(match cores {
        Cores::Auto => {
            let count = sys::core_count_default().max(1);
            (0..count).map(|core| allowed.get(core).copied()).collect()
        }
        Cores::Count(count) if *count <= allowed.len() => {
            allowed.iter().take(*count).map(|cpu| Some(*cpu)).collect()
        }
        Cores::Count(count) => {
            let cpus = allowed.len();
            log::warn!("{count} cores on {cpus} CPUs: they are not pinned, and latency suffers");
            vec![None; *count]
        }
        Cores::Cpus(cpus) => {
            if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
                return Err(ServeError::Cpu { cpu: *cpu, allowed });
            }
            cpus.iter().map(|cpu| Some(*cpu)).collect()
        }
    })
}

/// Fits `--max-clients` to the descriptors that the process may have.
fn limit_clients(config: &mut Config, cores: usize) -> Result<(), ServeError> {
    let limit = sys::raise_open_files_limit().or_else(|_| sys::open_files_limit()).unwrap_or(1024);
    let reserved = DESCRIPTORS_FIXED + DESCRIPTORS_PER_CORE * cores as u64;
    let Some(left) = limit.checked_sub(reserved).filter(|left| *left > 0) else {
        return Err(ServeError::Descriptors { limit, needed: reserved + 1 });
    };
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    if left < config.max_clients {
        log::warn!(
            "only {limit} files may be open: at most {left} clients, not {}; raise `ulimit -n`",
            config.max_clients
        );
        config.max_clients = left;
    }
    Ok(())
}

/// Fits the block caches to the memory, unless `--cache-bytes` says how large they are.
fn size_caches(config: &mut Config, cores: usize) {
    let bytes = config.cache_bytes_of(sys::memory_bytes(), cores);
    if config.cache_bytes.is_none() {
        log::info!("block cache: {} MiB on each core (--cache-bytes)", bytes >> 20);
    }
    config.cache_bytes = Some(usize::try_from(bytes).unwrap_or(usize::MAX));
}

fn store_options(config: &Config, cores: usize) -> Result<StoreOptions, ServeError> {
    let mut entropy = [0; 16];
    getrandom::fill(&mut entropy).map_err(ServeError::Entropy)?;
    Ok(StoreOptions {
        shards: cores,
        time_unit: config.time_unit,
        split_at: (!config.split_at.is_empty()).then(|| config.split_at.clone()),
        wal_segment_bytes: config.wal_segment_bytes,
        wal_segment_bytes_first: WAL_SEGMENT_BYTES_START.min(config.wal_segment_bytes),
        memtable_bytes: config.memtable_bytes,
        bloom_bits: config.bloom_bits,
        table_bytes_target: TABLE_BYTES_TARGET,
        background_threads: config.background_threads,
        ballast_bytes: BALLAST_BYTES,
        manifest_growth_bytes: StoreOptions::default().manifest_growth_bytes,
        retention: config.retention.map(|length| RetentionOptions {
            trusts_clock: config.retention_trusts_clock,
            ..RetentionOptions::new(length)
        }),
        retention_bytes: config.retention_bytes,
        entropy,
    })
}

fn log_progress(progress: Progress) {
    match progress {
        Progress::Created => log::info!("a new store was created"),
        Progress::Tables { done, total } => log::debug!("opened {done} of {total} tables"),
        Progress::Replay { done, total, records } => {
            log::info!("replayed {done} of {total} log segments, {records} records");
        }
        Progress::Flush => log::info!("writing what was replayed to tables"),
    }
}

/// The coordinator's way to the cores.
struct CoreLinks {
    controls: Vec<Sender<Control>>,
    bells: Arc<[Bell]>,
}

impl ShardLink for CoreLinks {
    fn send(&self, shard: u16, message: ToShard) {
        let core = usize::from(shard);
        if let (Some(control), Some(bell)) = (self.controls.get(core), self.bells.get(core)) {
            bell.deliver(|| control.send(Control::Shard(message)).is_ok());
        }
    }
    fn shards(&self) -> usize {
        self.controls.len()
    }
}

/// What the daemon fixes and the simulator varies, to reach in a few requests what otherwise takes millions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Knobs {
    /// Requests that one core may have under way at another.
    pub(crate) mailbox_requests_max: usize,
    /// An idle shard freezes its memtable at this age.
    pub(crate) memtable_age_ns: u64,
    /// Log writes of one stream in flight, 1..=[`WAL_WRITES_IN_FLIGHT_MAX`].
    pub(crate) wal_writes_in_flight: usize,
    /// Log frames are sealed before their records exceed this; 1 gives each write a frame of its own.
    pub(crate) wal_frame_bytes_target: usize,
}

impl Default for Knobs {
    /// The daemon's.
    fn default() -> Self {
        Self {
            mailbox_requests_max: MAILBOX_REQUESTS_MAX,
            memtable_age_ns: MEMTABLE_AGE_NS,
            wal_writes_in_flight: WAL_WRITES_IN_FLIGHT_MAX,
            wal_frame_bytes_target: WAL_FRAME_BYTES_TARGET,
        }
    }
}

/// What a node stands on: an open store is not part of it.
pub(crate) struct NodeStart {
    pub(crate) knobs: Knobs,
    pub(crate) config: Config,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) spawner: Arc<dyn Spawner>,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) core_ports: Vec<u16>,
    pub(crate) recovery_ns: u64,
    pub(crate) started_ns: u64,
}

/// A node that is put together and does not run yet: threads run it in the daemon, the simulator turns it by hand.
pub(crate) struct NodeParts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) coordinator: Coordinator,
    /// What the coordinator is to handle, in order.
    pub(crate) inbox: Receiver<ToCoordinator>,
    pub(crate) to_coordinator: Sender<ToCoordinator>,
    pub(crate) cores: Vec<CoreParts>,
    /// To be released last.
    pub(crate) lock: Box<dyn crate::io::FileLock>,
}

/// One core of a node, before it has a backend.
pub(crate) struct CoreParts {
    pub(crate) inbox: Receiver<Control>,
    pub(crate) shard: Shard,
    pub(crate) net: Net,
}

/// Puts a node of as many cores as the store was opened for together.
pub(crate) fn assemble(start: NodeStart, opened: OpenedStore) -> NodeParts {
    let NodeStart { knobs, config, files, spawner, listen, core_ports, recovery_ns, started_ns } = start;
    let router = Router::new(&opened.boundaries);
    let count = opened.segments.len();
    let (mailboxes, bells) = Mailboxes::for_cores(count, knobs.mailbox_requests_max);
    let (to_coordinator, inbox) = channel();
    let (controls, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| channel()).unzip();
    let facts = facts_of(&config, &opened, &router, &listen, recovery_ns);
    let links = CoreLinks { controls: controls.clone(), bells: Arc::clone(&bells) };
    let to_cores = controls.clone();
    let own: Arc<dyn CoordinatorLink> = Arc::new(to_coordinator.clone());
    let coordinator = Coordinator::new(opened.seed, spawner, Arc::new(links), own);
    let shared = Arc::new(Shared::new(SharedParts {
        config,
        store: opened.store,
        unit: opened.unit,
        listen,
        core_ports,
        coordinator: to_coordinator.clone(),
        bells,
        controls: to_cores,
        facts,
        board: coordinator.board(),
        files,
        started_ns,
    }));
    let seats = mailboxes.into_iter().zip(controls).zip(inboxes.into_iter().zip(opened.segments));
    let cores = seats.map(|((mailboxes, control), (inbox, segment))| {
        let options = shard_options(&shared, &router, mailboxes.core(), opened.seqno_start, &knobs);
        let mut shard = Shard::new(options, Arc::clone(&opened.version));
        shard.set_log_frame_bytes_target(knobs.wal_frame_bytes_target);
        shard.add_segment(segment);
        CoreParts { inbox, shard, net: Net::new(mailboxes, router.clone(), Arc::clone(&shared), control) }
    });
    NodeParts { cores: cores.collect(), shared, coordinator, inbox, to_coordinator, lock: opened.lock }
}

/// Everything that runs.
struct Node {
    shared: Arc<Shared>,
    /// Each core says how it began (its backend) and how it ended.
    begun: Receiver<Result<BackendChoice, OpenBackendError>>,
    ended: Receiver<(u16, CoreEnd)>,
    coordinator: Sender<ToCoordinator>,
    cores: usize,
    /// Released last.
    _lock: Box<dyn crate::io::FileLock>,
}

impl Node {
    fn start(
        config: Config,
        files: &Arc<dyn Files>,
        opened: OpenedStore,
        placement: Vec<Option<usize>>,
        Bound { per_core, listen, core_ports }: Bound,
        recovery_ns: u64,
    ) -> Result<Self, ServeError> {
        report_recovery(&opened);
        let start = NodeStart {
            knobs: Knobs::default(),
            config,
            files: Arc::clone(files),
            spawner: Arc::new(sys::ThreadSpawner),
            listen,
            core_ports,
            recovery_ns,
            started_ns: sys::monotonic_ns(),
        };
        let NodeParts { shared, coordinator: state, inbox: coordinator_inbox, to_coordinator, cores, lock } =
            assemble(start, opened);
        let core_count = cores.len();
        sys::spawn_thread("tskv-coord", move || state.run(&coordinator_inbox, &sys::monotonic_ns))
            .map_err(ServeError::Thread)?;
        let (begin, begun) = channel();
        let (end, ended) = channel();
        for ((cpu, listeners), core) in placement.into_iter().zip(per_core).zip(cores) {
            let CoreParts { inbox, shard, net } = core;
            let name = format!("tskv-core-{}", net.core);
            let seat = Seat { cpu, listeners, inbox, shard, net, begin: begin.clone(), end: end.clone() };
            sys::spawn_thread(&name, move || seat.run()).map_err(ServeError::Thread)?;
        }
        Ok(Self { shared, begun, ended, coordinator: to_coordinator, cores: core_count, _lock: lock })
    }

    fn serve(self, ready: impl FnOnce(Running), stopping: impl FnOnce()) -> Result<(), ServeError> {
        let outcome = self.await_cores();
        if let Ok(choice) = &outcome {
            self.shared.set_backend(choice);
            if let Some(reason) = &choice.reason {
                log::warn!("{reason}; using {}", choice.name);
            }
            stop_on_signals(&self.shared)?;
            let shared = Arc::clone(&self.shared);
            ready(Running {
                listen: self.shared.listen.clone(),
                backend: choice.name.to_owned(),
                cores: self.cores,
                metrics: Box::new(move || {
                    Some(render_prometheus(&shared.snapshots(), &shared.facts(sys::monotonic_ns())))
                }),
            });
        } else {
            self.shared.close();
        }
        let mut failure = outcome.err().map(ServeError::Backend);
        let mut stopping = Some(stopping);
        // A core that could not begin has no end to wait for.
        let running = if failure.is_some() { 0 } else { self.cores };
        for _ in 0..running {
            let Ok((core, end)) = self.ended.recv() else { break };
            stopping.take().into_iter().for_each(|stopping| stopping());
            self.shared.close();
            let error = match end {
                CoreEnd::Closed => None,
                CoreEnd::LogFailed => Some(ServeError::LogFailed { core }),
                CoreEnd::BackendFailed(errno) => Some(ServeError::BackendFailed { core, errno }),
            };
            failure = failure.or(error);
        }
        let (done, is_done) = channel();
        let shutdown = ToCoordinator::Shutdown {
            done: Box::new(move |_| {
                // The receiver below waits for exactly this.
                let _ = done.send(());
            }),
        };
        if self.coordinator.send(shutdown).is_ok() && is_done.recv().is_err() {
            log::debug!("the coordinator ended without a word");
        }
        failure.map_or(Ok(()), Err)
    }

    /// Waits until every core has its backend.
    fn await_cores(&self) -> Result<BackendChoice, OpenBackendError> {
        let mut choice = None;
        for _ in 0..self.cores {
            match self.begun.recv() {
                Ok(begun) => choice = Some(begun?),
                Err(_) => break,
            }
        }
        Ok(choice.expect("there is at least one core"))
    }
}

fn shard_options(
    shared: &Shared,
    router: &Router,
    core: u16,
    seqno_start: crate::model::Seqno,
    knobs: &Knobs,
) -> ShardOptions {
    let config = &shared.config;
    let stream = StreamOptions {
        store: shared.store,
        stream: StreamId(core),
        policy: config.sync,
        writes_in_flight: knobs.wal_writes_in_flight,
    };
    ShardOptions {
        keys: router.keys(core),
        stream,
        sync: config.sync,
        memtable_bytes: config.memtable_bytes,
        memtable_age_ns: knobs.memtable_age_ns,
        wal_segment_bytes: config.wal_segment_bytes,
        cache_bytes: config.cache_bytes_of(None, usize::from(router.shards())),
        seqno_start,
        series_rate_limit: config.series_rate_limit,
    }
}

fn facts_of(
    config: &Config,
    opened: &OpenedStore,
    router: &Router,
    listen: &[SocketAddr],
    recovery_ns: u64,
) -> StoreSnapshot {
    StoreSnapshot {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        store: opened.store.to_string(),
        data: std::path::absolute(&config.data).unwrap_or_else(|_| config.data.clone()).display().to_string(),
        time_unit: opened.unit.to_string(),
        sync: config.sync.to_string(),
        listen: listen.iter().map(SocketAddr::to_string).collect(),
        boundaries: router.boundaries().to_vec(),
        recovery_ns,
        recovery_records: opened.recovery.records,
        torn_tails: opened.recovery.torn_tails,
        torn_bytes: opened.recovery.torn_bytes,
        ..StoreSnapshot::default()
    }
}

fn report_recovery(opened: &OpenedStore) {
    let recovery = &opened.recovery;
    if recovery.records > 0 || recovery.torn_tails > 0 {
        log::info!(
            "recovered {} records from {} log segments; {} torn tails of {} bytes were cut off",
            recovery.records,
            recovery.segments,
            recovery.torn_tails,
            recovery.torn_bytes
        );
    }
    for path in &recovery.foreign {
        log::warn!("{} in the data directory is not ours; it is left alone", path.display());
    }
}

/// Signals that must not end the daemon, from before its first write: a file over the size limit is an error of its
/// write, and there is no configuration to reload.
fn outlive_signals() -> Result<(), ServeError> {
    use signal_hook::consts::{SIGHUP, SIGXFSZ};
    for signal in [SIGHUP, SIGXFSZ] {
        signal_hook::flag::register(signal, Arc::default()).map_err(ServeError::Signals)?;
    }
    Ok(())
}

/// SIGTERM and SIGINT: stop; the second one: exit at once.
fn stop_on_signals(shared: &Arc<Shared>) -> Result<(), ServeError> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).map_err(ServeError::Signals)?;
    let shared = Arc::clone(shared);
    let watch = move || {
        for _ in signals.forever() {
            if shared.is_closing() {
                log::warn!("stopping now");
                std::process::exit(1);
            }
            log::info!("stopping; once more to stop at once");
            shared.close();
        }
    };
    sys::spawn_thread("tskv-signals", watch).map(drop).map_err(ServeError::Thread)
}

/// What a core's thread is given.
struct Seat {
    cpu: Option<usize>,
    listeners: Vec<CoreListener>,
    inbox: Receiver<Control>,
    shard: Shard,
    net: Net,
    begin: Sender<Result<BackendChoice, OpenBackendError>>,
    end: Sender<(u16, CoreEnd)>,
}

impl Seat {
    fn run(self) {
        let Self { cpu, listeners, inbox, shard, net, begin, end } = self;
        let core = net.core;
        if let Some(cpu) = cpu
            && let Err(errno) = sys::pin_to_cpu(cpu)
        {
            log::warn!("core {core} is not pinned to CPU {cpu}: {errno}");
        }
        let options =
            BackendOptions { helper_name: format!("tskv-files-{core}"), ..BackendOptions::default() };
        let config = &net.shared.config;
        let spin_ns = config.spin.map_or(0, |spin| u64::try_from(spin.as_nanos()).unwrap_or(u64::MAX));
        let backend = match open_backend(config.backend, &options) {
            Ok((backend, choice)) => {
                // The main thread waits for this; it has gone only when another core could not begin.
                let _ = begin.send(Ok(choice));
                backend
            }
            Err(error) => {
                let _ = begin.send(Err(error));
                return;
            }
        };
        drop(begin);
        let outcome = CoreLoop::new(backend, shard, net, inbox, listeners, spin_ns).run();
        if end.send((core, outcome)).is_err() {
            log::debug!("core {core} ended after the daemon");
        }
    }
}
