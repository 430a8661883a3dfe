//! What all cores of the daemon know: configuration, identity of the store, where the coordinator is, and one place per
//! core where it leaves its counters for whoever reports.

use super::core_loop::Control;
use super::mailbox::Bell;
use super::moves::{MoveBoard, MoveError, MoveMessage, MoveOrder};
use super::pages::Cursors;
use super::placement::{LoadBoard, PLACEMENT_CORE};
use super::seats::Seats;
use super::slow_log::SlowLog;
use crate::config::{Config, Password};
use crate::io::{BackendChoice, Files};
use crate::jobs::{StatusBoard, ToCoordinator};
use crate::metrics::{CoreSnapshot, StoreSnapshot};
use crate::model::{OperationId, StoreId, TimeUnit};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use subtle::ConstantTimeEq;

/// See the module.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) store: StoreId,
    pub(crate) unit: TimeUnit,
    /// Addresses that clients connect to.
    pub(crate) listen: Vec<SocketAddr>,
    /// Each core's own port; empty for none.
    pub(crate) core_ports: Vec<u16>,
    /// Connections on each core.
    pub(crate) seats: Seats,
    pub(crate) cursors: Cursors,
    /// To each core.
    controls: Vec<Sender<Control>>,
    /// Boundaries, and how they move.
    pub(crate) moves: MoveBoard,
    /// What the shards are busy with.
    pub(crate) loads: LoadBoard,
    pub(crate) slow_log: SlowLog,
    coordinator: Sender<ToCoordinator>,
    board: StatusBoard,
    files: Arc<dyn Files>,
    pub(crate) bells: Arc<[Bell]>,
    /// Connections accepted so far.
    clients_ever: AtomicI64,
    /// Connections open on all cores.
    clients: AtomicUsize,
    /// Received and unserved bytes of all connections.
    query_memory: AtomicUsize,
    /// Each core's latest counters.
    snapshots: Box<[Mutex<Option<CoreSnapshot>>]>,
    /// What the coordinator and the start know.
    facts: Mutex<StoreSnapshot>,
    password_digest: Option<[u8; 32]>,
    closing: AtomicBool,
    /// Monotonic time of the start.
    pub(crate) started_ns: u64,
}

/// What [`Shared::new`] is told.
pub(crate) struct SharedParts {
    pub(crate) config: Config,
    pub(crate) store: StoreId,
    pub(crate) unit: TimeUnit,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) core_ports: Vec<u16>,
    pub(crate) coordinator: Sender<ToCoordinator>,
    pub(crate) bells: Arc<[Bell]>,
    pub(crate) controls: Vec<Sender<Control>>,
    pub(crate) facts: StoreSnapshot,
    pub(crate) board: StatusBoard,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) started_ns: u64,
}

impl Shared {
    pub(crate) fn new(parts: SharedParts) -> Self {
        let SharedParts {
            config,
            store,
            unit,
            listen,
            core_ports,
            coordinator,
            bells,
            controls,
            facts,
            board,
            files,
            started_ns,
        } = parts;
        let password_digest = config.password.as_ref().map(digest_of);
        Self {
            snapshots: bells.iter().map(|_| Mutex::new(None)).collect(),
            controls,
            moves: MoveBoard::new(&facts.boundaries),
            loads: LoadBoard::new(bells.len()),
            seats: Seats::new(bells.len()),
            coordinator,
            board,
            files,
            cursors: Cursors::default(),
            slow_log: SlowLog::default(),
            clients_ever: AtomicI64::new(0),
            clients: AtomicUsize::new(0),
            query_memory: AtomicUsize::new(0),
            facts: Mutex::new(facts),
            closing: AtomicBool::new(false),
            password_digest,
            config,
            store,
            unit,
            listen,
            core_ports,
            bells,
            started_ns,
        }
    }
    /// Whether clients must authenticate.
    pub(crate) fn needs_auth(&self) -> bool {
        self.password_digest.is_some()
    }
    /// Compares a password in constant time: digests, not the secrets, whatever their lengths. The only user is
    /// `default`; another name costs the same time and fails.
    pub(crate) fn admits(&self, username: &[u8], password: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(password).into();
        let expected = self.password_digest.unwrap_or_default();
        let same_password = digest.ct_eq(&expected);
        let same_name = username.ct_eq(b"default");
        bool::from(same_password & same_name) && self.needs_auth()
    }
    /// Takes a place for a connection; `false` when `--max-clients` are there.
    pub(crate) fn admit_client(&self) -> bool {
        let max = self.config.max_clients;
        self.clients
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < max).then_some(count + 1))
            .is_ok()
    }
    /// A number that no other connection has or had.
    pub(crate) fn next_client(&self) -> i64 {
        self.clients_ever.fetch_add(1, Ordering::Relaxed) + 1
    }
    /// Gives a connection's place back.
    pub(crate) fn release_client(&self) {
        let before = self.clients.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "only admitted connections are released");
    }
    /// Accounts for a connection's input buffer that grew or shrank; `false` when all of them together exceed
    /// `--max-query-memory`.
    pub(crate) fn account_query_memory(&self, before: usize, after: usize) -> bool {
        let total = if after >= before {
            self.query_memory.fetch_add(after - before, Ordering::Relaxed) + (after - before)
        } else {
            self.query_memory.fetch_sub(before - after, Ordering::Relaxed) - (before - after)
        };
        total <= self.config.max_query_memory
    }
    /// Leaves a core's counters.
    pub(crate) fn publish(&self, core: u16, snapshot: CoreSnapshot) {
        if let Some(place) = self.snapshots.get(usize::from(core)) {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
        }
    }
    /// The latest counters of all cores.
    pub(crate) fn snapshots(&self) -> Vec<CoreSnapshot> {
        let latest = |place: &Mutex<Option<CoreSnapshot>>| {
            place.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        self.snapshots.iter().filter_map(latest).collect()
    }
    /// Facts about the store, with the uptime filled in.
    pub(crate) fn facts(&self, now_ns: u64) -> StoreSnapshot {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        facts.uptime_seconds = now_ns.saturating_sub(self.started_ns) / 1_000_000_000;
        let jobs = self.board.read();
        facts.sstable_files = jobs.tables as u64;
        facts.sstable_bytes = jobs.table_bytes;
        facts.wal_segments = jobs.segments as u64;
        facts.wal_bytes = jobs.segment_bytes;
        facts.flushes = jobs.flushes_total;
        facts.flush_bytes = jobs.flush_bytes_total;
        facts.compactions = jobs.merges_total;
        facts.compactions_by_reason = jobs.named_merges().collect();
        let running = jobs.merging.iter().map(|merge| (merge.reason.name(), merge.tables, merge.bytes));
        facts.merging = running.collect();
        facts.compaction_read_bytes = jobs.merge_bytes_read_total;
        facts.compaction_written_bytes = jobs.merge_bytes_written_total;
        facts.compaction_debt_bytes = jobs.merge_backlog_bytes;
        facts.job_failures = jobs.failures_total;
        facts.retention_cutoff = jobs.retention_cutoff;
        facts.retention_limit_bytes = jobs.retention_limit_bytes;
        facts.sample_bytes = jobs.sample_bytes;
        facts.retention_held = jobs.retention_held;
        facts.retention_dropped_bytes = jobs.retention_dropped_bytes_total;
        facts.retention_dropped_tables = jobs.retention_dropped_tables_total;
        facts.retention_next_drop_bytes = jobs.retention_next_drop_bytes;
        facts.retention_next_drop_seconds = jobs.retention_next_drop_seconds;
        facts.series_retention_series = jobs.series_retention_series;
        facts.series_retention_hidden_bytes = jobs.series_retention_hidden_bytes;
        (facts.moves_done, facts.moves_given_up) = self.moves.counts();
        facts.slow_requests = self.slow_log.count();
        facts.disk_full = jobs.out_of_space;
        facts.disk_free_bytes = self.files.bytes_free().unwrap_or_default();
        facts
    }
    /// Sends a message to the coordinator. It may be gone at the end of the daemon's life; nothing is lost then.
    pub(crate) fn tell_coordinator(&self, message: ToCoordinator) {
        if self.coordinator.send(message).is_err() {
            log::debug!("the coordinator has stopped");
        }
    }
    /// Tells a core something, and wakes it.
    pub(crate) fn tell_core(&self, core: u16, message: Control) {
        let core = usize::from(core);
        if let (Some(control), Some(bell)) = (self.controls.get(core), self.bells.get(core)) {
            bell.deliver(|| control.send(message).is_ok());
        }
    }
    /// Begins to move boundary `index` to `key`.
    ///
    /// # Errors
    /// When it cannot be moved there, or not now.
    pub(crate) fn begin_move(
        &self,
        index: usize,
        key: &[u8],
        why: String,
        asked_by: Option<OperationId>,
    ) -> Result<u64, MoveError> {
        let order = self.moves.order(index, key, why, asked_by)?;
        let number = order.number;
        self.tell_core(order.from, Control::Move(MoveMessage::Begin(order)));
        Ok(number)
    }
    /// A move is over, and every core has been told.
    pub(crate) fn move_ended(
        &self,
        order: &MoveOrder,
        refusal: Option<&'static str>,
        began_ns: u64,
        now_ns: u64,
    ) {
        if refusal.is_none() {
            let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
            facts.boundaries = order.boundaries.to_vec();
        }
        self.moves.ended(order, refusal, began_ns, now_ns);
        // Who decides may have found the board busy since.
        self.ring(PLACEMENT_CORE);
        if let Some(operation) = order.asked_by {
            let error = refusal.map(|why| format!("nothing was moved: {why}"));
            self.tell_core(operation.connection.core, Control::Done { operation, error });
        }
    }
    /// Notes which backend the cores use.
    pub(crate) fn set_backend(&self, choice: &BackendChoice) {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        facts.backend = choice.name.to_owned();
        facts.backend_reason.clone_from(&choice.reason);
    }
    /// Tells all cores to stop.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.bells.iter().for_each(Bell::ring);
    }
    /// Wakes one core.
    pub(crate) fn ring(&self, core: u16) {
        if let Some(bell) = self.bells.get(usize::from(core)) {
            bell.ring();
        }
    }
    /// Whether the daemon is stopping.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

fn digest_of(password: &Password) -> [u8; 32] {
    Sha256::digest(password.reveal()).into()
}
