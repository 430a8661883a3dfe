//! A shard: owner of one key range, as a function from events to effects.
//!
//! [`Shard::handle`] does no I/O, reads no clock, starts no thread and rolls no dice. It owns the stream's log, the
//! memtables, the caches and every operation that waits.
//!
//! A command runs as a **task**: steps that either finish with a reply or stop with a `Pause` that says why. A step
//! that pauses has changed nothing; it runs again, from the beginning or from the position that the task keeps, when
//! what it waits for is there. Invariants:
//!
//! - A write takes its seqno, enters the log and the memtable in one step; nothing can pause in between.
//! - An operation that has read in order to write holds its series while it waits (`park`).
//! - Replies computed from memory carry the log position they depend on (`gate`).
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

pub mod aggregate;
mod block_cache;
mod effect;
mod event;
mod handover;
mod hot_series;
mod load_sample;
mod operations;
mod park;
mod point;
mod range;
mod rate_limit;
mod read;
mod sampler;
mod scan;
mod series;
#[cfg(test)]
mod tests;
mod value_cache;
mod write;

pub use effect::{Effects, ReadId, ShardRequest};
pub use event::{Event, Shortage};
pub use handover::{Handover, Leave, TakeOver};

use crate::limits::MEMTABLES_FROZEN_MAX;
use crate::metrics::HotList;
use crate::model::{Command, KeyRange, Lsn, ReplyError, SegmentSeq, Seqno};
use crate::storage::memtable::Memtable;
use crate::storage::read::{BlockRef, NewestSearch, Scratch};
use crate::storage::sstable::TableError;
use crate::storage::version::Version;
use crate::storage::wal::{StreamOptions, StreamWriter, SyncPolicy, WalIo};
use crate::teeth::{Bug, planted};
use block_cache::BlockCache;
use handover::{Leaving, Lent};
use hot_series::HotSeriesMeter;
use load_sample::LoadSample;
use park::{ParkId, ParkState, Parking};
use rate_limit::RateLimit;
use read::{Capture, Flights, Pins};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use value_cache::ValueCache;

/// The part of the cache's bytes that remembers single values; decoded blocks have the rest.
const VALUE_CACHE_SHARE: u64 = 8;

/// What a shard is made for.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Keys that it owns.
    pub keys: KeyRange,
    /// Its stream.
    pub stream: StreamOptions,
    /// When a write counts as acknowledged.
    pub sync: SyncPolicy,
    /// A memtable is frozen at this size.
    pub memtable_bytes: usize,
    /// A memtable is frozen at this age, so that an idle shard does not keep old log alive.
    pub memtable_age_ns: u64,
    /// Size of full WAL segments.
    pub wal_segment_bytes: u64,
    /// Budget of the caches.
    pub cache_bytes: u64,
    /// Above every seqno of the store.
    pub seqno_start: Seqno,
    /// Commands a second on one series; `None` for any number.
    pub series_rate_limit: Option<u32>,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardCounters {
    /// Commands executed.
    pub operations: u64,
    /// Entries put or deleted.
    pub entries_written: u64,
    /// Range deletes.
    pub range_deletes: u64,
    /// Memtables frozen.
    pub freezes: u64,
    /// Blocks read from tables.
    pub blocks_read: u64,
    /// Writes that had to wait for room.
    pub stalls: u64,
    /// Writes refused because the disk is full.
    pub refused_disk_full: u64,
    /// Commands refused because their series had too many.
    pub refused_series_rate: u64,
    /// Table lookups that a Bloom filter ended.
    pub bloom_negative: u64,
}

/// A figure of the present.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardGauges {
    /// Bytes of all memtables.
    pub memtable_bytes: u64,
    /// Entries in them.
    pub memtable_entries: u64,
    /// Frozen memtables.
    pub memtables_frozen: u64,
    /// Bytes of the block cache.
    pub cache_bytes: u64,
    /// Cache lookups answered.
    pub cache_hits: u64,
    /// Cache lookups not answered.
    pub cache_misses: u64,
    /// Bytes of remembered values.
    pub value_cache_bytes: u64,
    /// Lookups answered with one.
    pub value_cache_hits: u64,
    /// Values found in tables instead.
    pub value_cache_misses: u64,
    /// Operations that wait.
    pub parked: u64,
    /// Log bytes not yet durable.
    pub wal_bytes_unsynced: u64,
    /// Live WAL segments.
    pub wal_segments: u64,
    /// The next seqno.
    pub seqno_next: u64,
}

/// A memtable that takes no more writes.
struct Frozen {
    memtable: Arc<Memtable>,
    flushing: bool,
}

/// What reads look at.
struct Memory {
    active: Memtable,
    /// Oldest first.
    frozen: VecDeque<Frozen>,
    /// Of other shards; with keys that were handed over to this one.
    borrowed: Vec<Lent>,
    version: Arc<Version>,
}

impl Memory {
    /// All memtables but the active one.
    fn read_only(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        let frozen = self.frozen.iter().map(|frozen| &frozen.memtable);
        frozen.chain(self.borrowed.iter().map(|lent| &lent.memtable))
    }
}

/// See the module.
pub struct Shard {
    options: ShardOptions,
    keys: Arc<KeyRange>,
    /// Keys that it is about to hand over.
    leaving: Option<Leaving>,
    /// The highest seqno that a shard had which handed keys over to this one.
    taken_over: Seqno,
    log: StreamWriter,
    memory: Memory,
    cache: BlockCache,
    values: ValueCache,
    flights: Flights,
    parking: Parking,
    /// Operations with another slice to run.
    runnable: VecDeque<ParkId>,
    /// Writes without room, in order of arrival.
    stalled: VecDeque<ParkId>,
    /// Scans without credit and when to end them, in order of time; some have got credit since.
    awaiting_credit: VecDeque<(u64, ParkId)>,
    /// Open snapshots and how many operations read at each.
    snapshots: BTreeMap<Seqno, usize>,
    next_seqno: Seqno,
    /// Segments whose retirement has been asked for.
    releasing: BTreeSet<SegmentSeq>,
    segment_requested: bool,
    /// Why no new segment can be made: the disk is full, or fails.
    no_segment: Option<ReplyError<'static>>,
    /// Why no memtable can be flushed.
    no_tables: Option<ReplyError<'static>>,
    closing: bool,
    /// The writes without room are being tried again: others wait behind them.
    retrying: bool,
    active_since_ns: Option<u64>,
    sync_deadline_ns: Option<u64>,
    horizon_reported: Seqno,
    horizon_due_ns: u64,
    /// Memtable id through which everything must be sent for flushing, and the ticket to answer with.
    freeze_waiters: VecDeque<(u64, u64)>,
    counters: ShardCounters,
    load: LoadSample,
    hot: HotSeriesMeter,
    rate_limit: Option<RateLimit>,
    /// Space that lookups decode into.
    scratch: Scratch,
}

/// Why a step could not finish.
enum Pause {
    /// These blocks are needed.
    Need(Vec<BlockRef>),
    /// The slice is used up; there is more to do.
    Yield,
    /// The client takes no more chunks at present.
    Credit,
    /// There is no room for the write at present.
    Stall,
    /// The command fails.
    Refused(ReplyError<'static>),
    /// A table is damaged or unreadable; this request fails.
    Table(TableError),
}

/// Progress of one operation.
#[derive(Default)]
struct Task {
    /// Replies are refused above this.
    reply_bytes_max: usize,
    /// What a waiting read sees; `None`: the present.
    capture: Option<Capture>,
    /// Blocks read for it.
    pins: Pins,
    /// Where a long read has got to.
    progress: Progress,
    /// How far a search for the newest sample has come, while it needs blocks.
    search: NewestSearch,
    /// A block read failed.
    read_failure: Option<String>,
}

/// Where a long read has got to.
#[derive(Default)]
enum Progress {
    #[default]
    Start,
    Scan(Box<scan::ScanTask>),
    Range(Box<range::RangeTask>),
    Keys(Box<scan::KeysTask>),
}

impl Shard {
    /// A shard over what the store holds.
    #[must_use]
    pub fn new(options: ShardOptions, version: Arc<Version>) -> Self {
        Self {
            keys: Arc::new(options.keys.clone()),
            leaving: None,
            taken_over: Seqno(0),
            log: StreamWriter::new(options.stream),
            memory: Memory {
                active: Memtable::new(1),
                frozen: VecDeque::new(),
                borrowed: Vec::new(),
                version,
            },
            cache: BlockCache::new(options.cache_bytes - options.cache_bytes / VALUE_CACHE_SHARE),
            values: ValueCache::new(options.cache_bytes / VALUE_CACHE_SHARE),
            flights: Flights::default(),
            parking: Parking::default(),
            runnable: VecDeque::new(),
            stalled: VecDeque::new(),
            awaiting_credit: VecDeque::new(),
            snapshots: BTreeMap::new(),
            next_seqno: options.seqno_start,
            releasing: BTreeSet::new(),
            segment_requested: false,
            no_segment: None,
            no_tables: None,
            closing: false,
            retrying: false,
            active_since_ns: None,
            sync_deadline_ns: None,
            horizon_reported: Seqno(0),
            horizon_due_ns: 0,
            freeze_waiters: VecDeque::new(),
            counters: ShardCounters::default(),
            load: LoadSample::default(),
            hot: HotSeriesMeter::default(),
            rate_limit: options.series_rate_limit.map(RateLimit::new),
            scratch: Scratch::default(),
            options,
        }
    }

    /// Takes one event. `now_ns` is the monotonic clock.
    pub fn handle(&mut self, now_ns: u64, event: Event<'_>, fx: &mut impl Effects) {
        match event {
            Event::Execute { operation, command, reply_bytes_max } => {
                self.execute(now_ns, operation, command, reply_bytes_max, fx);
            }
            Event::BlockRead { read, result } => self.block_read(now_ns, read, result, fx),
            Event::Credit { operation, chunks } => self.add_credit(operation, chunks),
            Event::Cancel { operation } => self.cancel(now_ns, operation, fx),
            Event::WalDone { id, outcome } => {
                self.log.completed(id, outcome);
                self.retry_stalled(now_ns, fx);
            }
            Event::Version { version, flushed, retired } => {
                self.next_seqno = self.next_seqno.max(Seqno(version.seqno_max().0 + 1));
                self.see_version(version, fx);
                for segment in retired {
                    self.releasing.remove(&segment);
                    self.log.release(segment);
                }
                if !flushed.is_empty() {
                    self.no_tables = None;
                }
                flushed.into_iter().for_each(|id| self.dispose_flushed(id, fx));
                self.horizon_due_ns = now_ns;
                self.retry_stalled(now_ns, fx);
            }
            Event::SegmentReady(segment) => {
                self.segment_requested = false;
                self.no_segment = None;
                self.log.add_ready(segment);
                self.retry_stalled(now_ns, fx);
            }
            Event::DiskFull(shortage) => self.refuse_for(shortage, ReplyError::NoSpace, now_ns, fx),
            Event::DiskFails(shortage) => self.refuse_for(shortage, ReplyError::DiskFails, now_ns, fx),
            Event::FreezeNow { ticket } => {
                self.log.rotate();
                self.freeze_waiters.push_back((self.memory.active.id(), ticket));
            }
            Event::ReportHorizon => fx.request(ShardRequest::Horizon(self.horizon())),
            Event::Observe(_) if planted(Bug::SkipSeqnoRaise) => {}
            Event::Observe(seqno) => self.next_seqno = self.next_seqno.max(Seqno(seqno.0.saturating_add(1))),
            Event::Slice => self.run_slice(now_ns, fx),
            Event::Maintain => {
                self.expire_stalled(now_ns, fx);
                self.expire_scans(now_ns, fx);
                self.hot.tick(now_ns);
                self.maintain(now_ns, fx);
            }
            Event::Close => {
                self.closing = true;
                self.retry_stalled(now_ns, fx);
                self.log.seal_for_shutdown();
            }
        }
    }

    /// The next WAL operation to submit, if one may fly now.
    pub fn next_wal_io(&mut self) -> Option<WalIo> {
        self.log.next_io()
    }
    /// Makes the bytes of a write that [`Shard::next_wal_io`] gave.
    pub fn encode_wal(&mut self, id: u64, out: &mut [u8]) {
        self.log.encode(id, out);
    }
    /// Sets how many bytes of records a frame of the log gathers; before the first event.
    pub fn set_log_frame_bytes_target(&mut self, bytes: usize) {
        self.log.set_frame_bytes_target(bytes);
    }
    /// Hands over a segment before the first event.
    pub fn add_segment(&mut self, segment: crate::storage::wal::SegmentSpec) {
        self.log.add_ready(segment);
    }
    /// Replies with a gate up to here may leave.
    #[must_use]
    pub fn acked(&self) -> Lsn {
        self.log.acked()
    }
    /// Whether the log refuses writes for ever.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.log.poisoned()
    }
    /// Whether a sync of the log has failed, so that what was acknowledged before it may never become durable.
    #[must_use]
    pub fn has_failed_sync(&self) -> bool {
        self.log.sync_failed()
    }
    /// Whether the log has nothing staged or in flight.
    #[must_use]
    pub fn is_log_idle(&self) -> bool {
        self.log.is_idle()
    }
    /// Whether some operation has another slice to run.
    #[must_use]
    pub fn has_slices(&self) -> bool {
        !self.runnable.is_empty()
    }
    /// The highest seqno used so far.
    #[must_use]
    pub fn seqno(&self) -> Seqno {
        Seqno(self.next_seqno.0 - 1)
    }
    /// When the shard wants `Event::Maintain` at the latest; `u64::MAX` when nothing is due.
    #[must_use]
    pub fn deadline_ns(&self) -> u64 {
        // While no more may be frozen, the end of a flush is what counts.
        let may_freeze = self.memory.frozen.len() < MEMTABLES_FROZEN_MAX;
        let age = self.active_since_ns.filter(|_| may_freeze);
        let age = age.map(|since| since.saturating_add(self.options.memtable_age_ns));
        let horizon = (self.horizon() != self.horizon_reported).then_some(self.horizon_due_ns);
        let stall = self.stalled.front().and_then(|id| match self.parking.get(*id)?.state {
            ParkState::Stalled { deadline_ns } => Some(deadline_ns),
            ParkState::Reading | ParkState::Runnable | ParkState::Credit { .. } => None,
        });
        let credit = self.awaiting_credit.front().map(|(deadline_ns, _)| *deadline_ns);
        [age, self.sync_deadline_ns, horizon, stall, credit].into_iter().flatten().min().unwrap_or(u64::MAX)
    }
    /// Cost of the commands so far: one for each, of a batch one for each entry.
    #[must_use]
    pub fn load_cost(&self) -> u64 {
        self.load.cost()
    }
    /// Keys on which cost was spent of late, each as often as it cost.
    #[must_use]
    pub fn load_keys(&self) -> Vec<Box<[u8]>> {
        self.load.keys().iter().map(|key| key.as_slice().into()).collect()
    }
    /// Tables as it sees them: those of all shards.
    #[must_use]
    pub fn version(&self) -> &Arc<Version> {
        &self.memory.version
    }
    /// The series that took most in the last whole window.
    #[must_use]
    pub fn hot_series(&self) -> &Arc<HotList> {
        self.hot.last()
    }
    /// Counts since the start.
    #[must_use]
    pub fn counters(&self) -> ShardCounters {
        self.counters
    }
    /// Figures of the present.
    #[must_use]
    pub fn gauges(&self) -> ShardGauges {
        let frozen: usize = self.memory.frozen.iter().map(|frozen| frozen.memtable.bytes()).sum();
        let (cache_hits, cache_misses) = self.cache.hits_and_misses();
        let (value_cache_hits, value_cache_misses) = self.values.hits_and_misses();
        ShardGauges {
            memtable_bytes: (self.memory.active.bytes() + frozen) as u64,
            memtable_entries: self.memory.active.entries() as u64
                + self.memory.frozen.iter().map(|frozen| frozen.memtable.entries() as u64).sum::<u64>(),
            memtables_frozen: self.memory.frozen.len() as u64,
            cache_bytes: self.cache.bytes(),
            cache_hits,
            cache_misses,
            value_cache_bytes: self.values.bytes(),
            value_cache_hits,
            value_cache_misses,
            parked: self.parking.count() as u64,
            wal_bytes_unsynced: self.log.staged().0 - self.log.synced().0,
            wal_segments: self.log.live_segments().count() as u64,
            seqno_next: self.next_seqno.0,
        }
    }

    fn dispose_flushed(&mut self, id: u64, fx: &mut impl Effects) {
        let oldest = self.memory.frozen.pop_front().filter(|frozen| frozen.memtable.id() == id);
        let oldest = oldest.expect("memtables are flushed in the order in which they were frozen");
        fx.request(ShardRequest::Dispose(oldest.memtable));
        assert!(self.memory.frozen.len() < MEMTABLES_FROZEN_MAX, "a place was freed");
    }

    /// The log position that a reply about `series` depends on.
    fn gate(&self, series: &[u8]) -> Lsn {
        self.reachable(self.depends_on(Some(series)))
    }

    fn gate_of(&self, command: &Command<'_>) -> Lsn {
        self.reachable(self.depends_on(command.key()))
    }

    /// The log position that a reply about everything depends on.
    fn gate_of_all(&self) -> Lsn {
        self.reachable(self.log.staged())
    }

    /// After the log has failed nothing beyond `acked` is ever reached: what runs then does not show it.
    fn reachable(&self, gate: Lsn) -> Lsn {
        if self.log.poisoned() { gate.min(self.log.acked()) } else { gate }
    }

    /// The log position of the last thing that memory knows of a series, or of any.
    fn depends_on(&self, series: Option<&[u8]>) -> Lsn {
        let Some(series) = series else { return self.log.staged() };
        let frozen = self.memory.frozen.iter().map(|frozen| frozen.memtable.gate(series));
        frozen.chain([self.memory.active.gate(series)]).max().unwrap_or_default()
    }
}
