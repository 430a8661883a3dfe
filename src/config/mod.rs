//! What an operator may set: read once at start into a [`Config`], a checked value that nothing re-checks later.
//!
//! ```text
//! flag  >  environment (TSKV_<FLAG>)  >  --config FILE  >  default
//! ```
//! Each setting has one definition, in [`FLAGS`]: name, unit, default, help and parser. Command line, environment
//! and file all go through that parser, so they accept the same spellings. Invariants of a `Config`: every size is
//! within the bounds of `limits.rs`, addresses are resolved, split points ascend, the password was read from a
//! file that only its owner can read.

mod address;
mod contradictions;
mod error;
mod flags;
mod password;
mod quantity;
mod sources;
mod split_points;

pub use error::{ConfigError, Origin};
pub use flags::{FLAGS, Flag};
pub use password::{Password, read_password_file};
pub use quantity::{parse_bytes, parse_duration};
pub use sources::{Loaded, Sources};

pub use crate::io::BackendKind;
use crate::limits;
use crate::model::TimeUnit;
pub use crate::storage::wal::SyncPolicy;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The settings of `tskv serve`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Directory of the store; created where missing.
    pub data: PathBuf,
    /// Where clients connect; at least one, no two alike. Port 0 lets the kernel choose.
    pub listen: Vec<SocketAddr>,
    /// Where metrics and health are served over HTTP; `None` for nowhere.
    pub admin: Option<SocketAddr>,
    /// How the cores talk to the kernel.
    pub backend: BackendKind,
    /// How many cores serve, and which.
    pub cores: Cores,
    /// When an acknowledged write is on stable storage.
    pub sync: SyncPolicy,
    /// Unit of timestamps that a new store gets; an existing store must have the same. `None`: the store's own, or
    /// milliseconds for a new one.
    pub time_unit: Option<TimeUnit>,
    /// How long samples are kept; `None` for ever.
    pub retention: Option<Duration>,
    /// Bytes that tables of samples may take before the oldest go; `None` for all that the disk has.
    pub retention_bytes: Option<u64>,
    /// Whether retention believes the wall clock as it is at the start, however far it has leapt ahead.
    pub retention_trusts_clock: bool,
    /// What clients must know; `None` lets everyone on the loopback interface in.
    pub password: Option<Password>,
    /// Connections open at once, over all cores. Full: a new one is told so and closed.
    pub max_clients: usize,
    /// Bytes of one shard's active memtable before it is frozen and flushed.
    pub memtable_bytes: usize,
    /// Bytes of one WAL file; a multiple of [`limits::PAGE_BYTES`].
    pub wal_segment_bytes: u64,
    /// Bytes of decoded blocks that one core caches; 0 caches nothing. `None`: see [`Config::cache_bytes_of`].
    pub cache_bytes: Option<usize>,
    /// Longest value that is accepted.
    pub max_value_bytes: usize,
    /// Bits of Bloom filter per series and table; 0 for none.
    pub bloom_bits: u8,
    /// Where the key ranges of a new store are split; strictly ascending. Empty: computed from the data.
    pub split_at: Vec<Box<[u8]>>,
    /// Which ports the cores have of their own, besides those that all share.
    pub core_ports: CorePorts,
    /// Boundaries between shards follow the load.
    pub rebalance: bool,
    /// When they do.
    pub rebalance_limits: RebalanceLimits,
    /// Commands a second on one series; `None` for any number.
    pub series_rate_limit: Option<u32>,
    /// How long an idle core polls before it sleeps. `None`: tskv chooses.
    pub spin: Option<Duration>,
    /// What happens after a failed write or sync of the WAL.
    pub on_io_error: OnIoError,
    /// Unsent reply bytes of one connection. Full: it is dropped.
    pub max_output_bytes: usize,
    /// Received but unserved bytes of all connections together. Full: reading pauses.
    pub max_query_memory: usize,
    /// Requests that take longer are noted in the slow log; `None`: none is.
    pub slowlog_slower_than: Option<Duration>,
    /// Requests that the slow log holds.
    pub slowlog_len: usize,
    /// Threads for flush and compaction.
    pub background_threads: usize,
    /// What is logged to stderr.
    pub log_level: log::LevelFilter,
}

/// A core's cache where the system does not say how much memory there is.
const CACHE_BYTES_FALLBACK: u64 = 128 << 20;

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("./tskv-data"),
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 7878))],
            admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 7879))),
            backend: BackendKind::Auto,
            cores: Cores::Auto,
            sync: SyncPolicy::Always,
            time_unit: None,
            retention: None,
            retention_bytes: None,
            retention_trusts_clock: false,
            password: None,
            max_clients: 10_000,
            memtable_bytes: limits::MEMTABLE_BYTES_DEFAULT,
            wal_segment_bytes: limits::WAL_SEGMENT_BYTES_DEFAULT,
            cache_bytes: None,
            max_value_bytes: limits::VALUE_BYTES_DEFAULT,
            bloom_bits: 10,
            split_at: Vec::new(),
            core_ports: CorePorts::Off,
            spin: None,
            rebalance: true,
            rebalance_limits: RebalanceLimits::default(),
            series_rate_limit: None,
            on_io_error: OnIoError::Exit,
            max_output_bytes: limits::OUTPUT_BYTES_MAX,
            max_query_memory: 512 << 20,
            slowlog_slower_than: Some(Duration::from_millis(10)),
            slowlog_len: 128,
            background_threads: 2,
            log_level: log::LevelFilter::Info,
        }
    }
}

impl Config {
    /// Bytes of one core's cache on a machine with so much memory, as far as that is known: unless it is set, the cores
    /// share a quarter of the memory.
    #[must_use]
    pub fn cache_bytes_of(&self, memory_bytes: Option<u64>, cores: usize) -> u64 {
        let share = memory_bytes.map_or(CACHE_BYTES_FALLBACK, |bytes| bytes / 4 / cores.max(1) as u64);
        self.cache_bytes.map_or(share, |bytes| bytes as u64)
    }
    /// Whether the split points make as many shards as there are cores, or none are given.
    ///
    /// # Errors
    /// A sentence that names both flags.
    pub fn check_split_points(&self, cores: usize) -> Result<(), String> {
        let points = self.split_at.len();
        if points == 0 || points + 1 == cores {
            return Ok(());
        }
        let (wanted, made) = (cores - 1, points + 1);
        Err(format!(
            "--split-at with {points} keys makes {made} shards, and --cores gives {cores}; name {wanted} keys, or set \
             --cores {made}"
        ))
    }
    /// Whether each core can have a port of its own.
    ///
    /// # Errors
    /// A sentence that names the flags.
    pub fn check_core_ports(&self, cores: usize) -> Result<(), String> {
        let CorePorts::Base(base) = self.core_ports else { return Ok(()) };
        let last = usize::from(base) + cores - 1;
        if last > usize::from(u16::MAX) {
            return Err(format!(
                "--core-port-base {base} leaves no ports for {cores} cores; at most {}",
                usize::from(u16::MAX) + 1 - cores
            ));
        }
        let ports = usize::from(base)..=last;
        let listen = self.listen.iter().map(|address| ("--listen", address));
        let taken = listen.chain(self.admin.iter().map(|address| ("--admin", address)));
        match taken.into_iter().find(|(_, address)| ports.contains(&usize::from(address.port()))) {
            None => Ok(()),
            Some((flag, address)) => Err(format!(
                "--core-port-base {base} takes the ports {base} to {last}, and {flag} {address} is one of them; choose \
                 another base"
            )),
        }
    }
    /// Bytes of the longest chunk of a native scan.
    #[must_use]
    pub fn scan_chunk_bytes_max(&self) -> usize {
        contradictions::scan_chunk_bytes_max(self.max_value_bytes)
    }
}

/// Which CPUs serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// All that `sched_getaffinity(2)` and the cgroup allow.
    Auto,
    /// This many, 1..=[`limits::CORES_MAX`]; pinned only where there are as many CPUs.
    Count(usize),
    /// One on each of these CPUs; distinct, ascending.
    Cpus(Vec<usize>),
}

/// What makes moving boundaries worth while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebalanceLimits {
    /// The busiest shard's part of a fair share, in hundredths, from which on load is uneven; above 100.
    pub uneven_percent: u64,
    /// By so many hundredths the busiest shard's load must be expected to shrink; below 100.
    pub gain_percent: u64,
    /// After moves the load is not looked at for this long: the first moments tell of before.
    pub pause_ns: u64,
}

impl Default for RebalanceLimits {
    fn default() -> Self {
        Self { uneven_percent: 120, gain_percent: 10, pause_ns: 1_500_000_000 }
    }
}

/// The ports by which clients reach one core directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorePorts {
    /// None.
    Off,
    /// Whichever the kernel chooses.
    Auto,
    /// Core `i` has this one plus `i`.
    Base(u16),
}

/// What happens after a failed write or sync of the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnIoError {
    /// The process exits; a supervisor restarts it and recovery looks at what the disk holds.
    Exit,
    /// The shard refuses writes and serves reads until it is restarted.
    ReadOnly,
}
