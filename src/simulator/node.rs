//! One life of a node: the daemon's own parts (cores, coordinator, jobs, store) on the simulated machine, moved one
//! step at a time.

use super::workload::KEYS;
use crate::config::{Config, OnIoError, SyncPolicy};
use crate::io::sim::{BackendId, Rng, SimBackend, SimClient, SimWorld};
use crate::io::{FileLock, ListenerId};
use crate::jobs::{Coordinator, OpenError, RetentionOptions, StoreOptions, ToCoordinator, open_store};
use crate::server::{CoreEnd, CoreListener, CoreLoop, CoreParts, Knobs, NodeStart, Shared, assemble};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// The clock passes at most this much at once while something could run: a step of a job, a turn, a little more.
const WORK_NS: u64 = 200_000;
/// And this much while only clients could do something: they are not so slow that deadlines for them pass.
const REST_NS: u64 = 50_000_000;

/// Settings of one life.
#[derive(Clone, Debug)]
pub(super) struct NodeOptions {
    pub(super) cores: usize,
    pub(super) sync: SyncPolicy,
    pub(super) on_io_error: OnIoError,
    pub(super) memtable_bytes: usize,
    pub(super) cache_bytes: usize,
    pub(super) bloom_bits: u8,
    pub(super) table_bytes: u64,
    pub(super) wal_segment_bytes: u64,
    pub(super) background_threads: usize,
    pub(super) retention: Option<RetentionOptions>,
    pub(super) entropy: [u8; 16],
    pub(super) knobs: Knobs,
}

/// Where a store that holds nothing is split, for up to this many cores and one more.
const SPLITS: [&[u8]; 2] = [b"m:3", b"t:2"];

/// See the module.
pub(super) struct Node {
    world: SimWorld,
    /// Those that have not ended, with their numbers.
    cores: Vec<(usize, BackendId, CoreLoop<SimBackend>)>,
    /// The number of a core that does not get to run.
    pub(super) paused: Option<usize>,
    shared: Arc<Shared>,
    coordinator: Coordinator,
    inbox: Receiver<ToCoordinator>,
    listener: ListenerId,
    boundaries: Vec<Box<[u8]>>,
    /// Records that the open replayed, and torn tails that it cut off.
    pub(super) replayed: (u64, u64),
    /// Dropped last, as the daemon does.
    _lock: Box<dyn FileLock>,
}

impl Node {
    /// Opens the store and puts a node on it.
    ///
    /// # Errors
    /// As [`open_store`]: also when the power goes meanwhile.
    pub(super) fn start(world: &SimWorld, options: &NodeOptions) -> Result<Self, OpenError> {
        let store = StoreOptions {
            shards: options.cores,
            time_unit: None,
            split_at: split_points(options.cores),
            wal_segment_bytes: options.wal_segment_bytes,
            wal_segment_bytes_first: options.wal_segment_bytes,
            memtable_bytes: options.memtable_bytes,
            bloom_bits: options.bloom_bits,
            table_bytes_target: options.table_bytes,
            background_threads: options.background_threads,
            ballast_bytes: 64 << 10,
            manifest_growth_bytes: StoreOptions::default().manifest_growth_bytes,
            retention: options.retention,
            retention_bytes: None,
            entropy: options.entropy,
        };
        let config = Config {
            sync: options.sync,
            on_io_error: options.on_io_error,
            memtable_bytes: options.memtable_bytes,
            cache_bytes: Some(options.cache_bytes),
            wal_segment_bytes: store.wal_segment_bytes,
            bloom_bits: options.bloom_bits,
            // It orders moves itself, more of them than any load.
            rebalance: false,
            ..Config::default()
        };
        Self::start_with(world, &store, config, options.knobs)
    }
    /// As [`Node::start`], with every setting of store and daemon.
    ///
    /// # Errors
    /// As [`open_store`].
    pub(super) fn start_with(
        world: &SimWorld,
        store: &StoreOptions,
        config: Config,
        knobs: Knobs,
    ) -> Result<Self, OpenError> {
        let files = world.files();
        let opened = open_store(&files, store, 1, &|_| {})?;
        let boundaries = opened.boundaries.clone();
        let replayed = (opened.recovery.records, u64::from(opened.recovery.torn_tails > 0));
        let started_ns = world.now().monotonic_ns;
        let spawner = world.spawner();
        let start = NodeStart {
            knobs,
            config,
            files,
            spawner,
            listen: Vec::new(),
            core_ports: Vec::new(),
            recovery_ns: 0,
            started_ns,
        };
        let parts = assemble(start, opened);
        let listener = world.listen();
        let seat = |(number, CoreParts { inbox, shard, net }): (usize, CoreParts)| {
            let backend = world.backend();
            (
                number,
                backend.id(),
                CoreLoop::new(
                    backend,
                    shard,
                    net,
                    inbox,
                    vec![CoreListener { id: listener, is_shared: true }],
                    0,
                ),
            )
        };
        let cores = parts.cores.into_iter().enumerate().map(seat).collect();
        let mut coordinator = parts.coordinator;
        coordinator.handle(started_ns, None);
        Ok(Self {
            world: world.clone(),
            cores,
            paused: None,
            shared: parts.shared,
            coordinator,
            inbox: parts.inbox,
            listener,
            boundaries,
            replayed,
            _lock: parts.lock,
        })
    }
    /// The clock by which the store last hid what was too old.
    pub(super) fn retention_clock(&self) -> Option<i64> {
        self.coordinator.retention_clock()
    }
    /// A client that connects.
    pub(super) fn connect(&self) -> SimClient {
        self.world.connect(self.listener)
    }
    /// Where the shards are split.
    pub(super) fn boundaries(&self) -> Vec<Box<[u8]>> {
        self.boundaries.clone()
    }
    /// Begins to move a boundary to some key, or next to one, unless a move is under way or it cannot lie there.
    pub(super) fn move_some_boundary(&self, mut dice: Rng) {
        let count = self.shared.moves.boundaries().len();
        let index = dice.index(count.max(1));
        let mut key = KEYS[dice.index(KEYS.len())].0.as_bytes().to_vec();
        match dice.below(4) {
            0 => key.push(0),
            1 => key.truncate(1),
            _ => {}
        }
        let begun = self.shared.begin_move(index, &key, "the simulation wants it".to_owned(), None);
        self.world.remark(|| format!("-- boundary {index} to {}: {begun:?}", key.escape_ascii()));
    }
    /// Moves that took place, and those that came to nothing.
    pub(super) fn moves(&self) -> (u64, u64) {
        self.shared.moves.counts()
    }
    /// As SIGTERM: cores answer what they have, seal their logs and end.
    pub(super) fn begin_shutdown(&mut self) {
        self.shared.close();
    }
    /// Whether every core has ended.
    pub(super) fn cores_have_ended(&self) -> bool {
        self.cores.is_empty()
    }
    /// Ends the coordinator, once the cores have.
    pub(super) fn shut_coordinator_down(&mut self) {
        let now_ns = self.world.now().monotonic_ns;
        self.coordinator.handle(now_ns, Some(ToCoordinator::Shutdown { done: Box::new(|_| {}) }));
    }
    /// Whether everything has ended in order.
    pub(super) fn has_shut_down(&self) -> bool {
        self.coordinator.is_finished()
    }
    /// Whether a sync of some core's log has failed.
    pub(super) fn has_failed_sync(&self) -> bool {
        self.cores.iter().any(|(_, _, core)| core.has_failed_sync())
    }
    /// Turns a core that has something to do, if there is one.
    ///
    /// # Errors
    /// How the core ended, if it was not told to.
    pub(super) fn turn_a_core(&mut self, dice: &mut Rng) -> Result<bool, CoreEnd> {
        let runnable: Vec<usize> =
            (0..self.cores.len()).filter(|core| self.is_runnable(&self.cores[*core])).collect();
        if runnable.is_empty() {
            return Ok(false);
        }
        let chosen = runnable[dice.index(runnable.len())];
        match self.cores[chosen].2.turn() {
            None => Ok(true),
            Some(CoreEnd::Closed) => {
                drop(self.cores.remove(chosen));
                Ok(true)
            }
            Some(end) => Err(end),
        }
    }
    /// Lets the coordinator handle one message, or the passing of time; `false` when there is neither.
    pub(super) fn step_coordinator(&mut self) -> bool {
        let now_ns = self.world.now().monotonic_ns;
        let message = self.inbox.try_recv().ok();
        let is_due = self.coordinator.wakes_at().is_some_and(|at| at <= now_ns);
        let has_work = message.is_some() || is_due;
        if has_work {
            self.coordinator.handle(now_ns, message);
        }
        has_work
    }
    /// Stops as the daemon does on SIGTERM: cores answer what they have and seal their logs, then the coordinator ends
    /// its jobs. Says whether it came to its end; where a core ended otherwise or the power went, it did not.
    pub(super) fn shut_down(&mut self) -> bool {
        self.shared.close();
        while !self.cores.is_empty() && self.world.is_up() {
            let ended: Vec<_> = self.cores.iter_mut().map(|(_, _, core)| core.turn()).collect();
            if ended.iter().flatten().any(|end| *end != CoreEnd::Closed) {
                return false;
            }
            let mut ended = ended.iter();
            self.cores.retain(|_| ended.next().is_some_and(Option::is_none));
            self.step_jobs();
        }
        self.shut_coordinator_down();
        while !self.coordinator.is_finished() && self.world.is_up() {
            self.step_jobs();
        }
        self.coordinator.is_finished()
    }
    fn step_jobs(&mut self) {
        let stepped = self.world.step_any_job().is_some();
        if !self.step_coordinator() && !stepped {
            self.pass_time();
        }
    }
    /// Moves the clock to whatever comes next; while there is work, only by as much as work may take.
    pub(super) fn pass_time(&self) {
        let now_ns = self.world.now().monotonic_ns;
        let next = self.world.next_event_ns().into_iter().chain(self.coordinator.wakes_at()).min();
        let is_busy =
            !self.world.runnable_jobs().is_empty() || self.cores.iter().any(|core| self.is_runnable(core));
        let most = now_ns + if is_busy { WORK_NS } else { REST_NS };
        // Where nothing is due, something may still wait for the clock: a disk that hangs, for one.
        self.world.advance_to(next.unwrap_or(most).clamp(now_ns, most));
    }
    fn is_runnable(&self, (number, id, core): &(usize, BackendId, CoreLoop<SimBackend>)) -> bool {
        self.paused != Some(*number) && (self.world.is_runnable(*id) || core.has_mail())
    }
}

/// Boundaries for this many cores; `None` for one, and where there are more cores than places to split at.
fn split_points(cores: usize) -> Option<Vec<Box<[u8]>>> {
    let first = (SPLITS.len() + 1).checked_sub(cores)?;
    let splits = SPLITS.get(first..).filter(|splits| !splits.is_empty())?;
    Some(splits.iter().map(|key| (*key).into()).collect())
}

/// Which stream a key belongs to.
pub(super) fn stream_of(boundaries: &[Box<[u8]>], key: &[u8]) -> u16 {
    let before = boundaries.iter().filter(|split| ***split <= *key).count();
    u16::try_from(before).expect("there are few shards")
}
