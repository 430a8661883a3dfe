//! The coordinator: the one writer of the manifest, and the one that starts flushes, merges and segments.
//!
//! A state machine: [`Coordinator::handle`] takes a message and the time, and never waits. Everything that touches a
//! file runs as a job on a thread of the [`Spawner`] and comes back as a message.
//!
//! ```text
//! shard ──Flush──▶ queue ─▶ flush job ─▶ change ┐                       ┌─▶ Version to every shard
//! picker ─────────────────▶ merge job ─▶ change ├─▶ commit job (frame) ─┼─▶ SegmentReady to the shard
//! shard ──NeedSegment────▶ segment job ─▶ change ┘    one at a time      └─▶ clean-up job: unlink, spare segments
//! ```
//! Invariants: a change is shown to nobody before its edit is durable; a failed commit keeps its changes and tries them
//! again; a file is unlinked or used anew only after the edit that drops it is durable; at most one commit and one
//! segment job run, so frames and segment numbers are in order. A merge never delays a flush: they have slots of their
//! own.

mod barrier;
mod commit;
mod retention;
mod series;
mod work;

use super::error::JobError;
use super::flush::TableJob;
use super::manifest_log::ManifestLog;
use super::message::{CoordinatorLink, FlushRequest, JobReport, Report, ShardLink, ToCoordinator};
use super::open::CoordinatorSeed;
use super::options::{Salts, StoreOptions};
use super::status::{JobsStatus, MergeStatus, StatusBoard};
use crate::io::{Files, Spawner};
use crate::model::{SegmentSeq, Seqno, TableId};
use crate::storage::compaction::Plan;
use crate::storage::manifest::State;
use crate::storage::version::Version;
use barrier::{Barriers, Goal};
use commit::Change;
use retention::Watch;
use series::SeriesWatch;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// What failed is tried again after this long.
const RETRY_NS: u64 = 500_000_000;
/// Flushes that run at once. More would let a shard's later memtable retire segments that an earlier one needs.
const FLUSHES_MAX: usize = 1;
/// What can fail and is tried again.
const COMMIT_FAILED: &str = "the manifest could not be written";
const FLUSH_FAILED: &str = "a memtable could not be written";
const MERGE_FAILED: &str = "tables could not be merged";
const SURVEY_FAILED: &str = "the retention of series could not be looked at";
const SEGMENT_FAILED: &str = "a log segment could not be made";
/// Retired segments kept for use anew, per shard.
const SPARE_SEGMENTS_PER_SHARD: usize = 2;

/// See the module's header.
pub struct Coordinator {
    files: Arc<dyn Files>,
    spawner: Arc<dyn Spawner>,
    shards: Arc<dyn ShardLink>,
    /// How jobs report back.
    own: Arc<dyn CoordinatorLink>,
    options: StoreOptions,
    table_job: TableJob,
    salts: Salts,
    board: StatusBoard,
    status: JobsStatus,
    /// Failures that the log tells of, by what failed; until it works again.
    told: BTreeMap<&'static str, String>,
    now_ns: u64,

    state: State,
    version: Arc<Version>,
    /// By shard, the id of its last memtable that is in the version.
    flushed_last: Vec<u64>,
    /// Away while a commit job has it.
    log: Option<Box<ManifestLog>>,
    /// Changes whose edits are not yet durable, in order; the first `committing` of them are in the running commit.
    changes: VecDeque<Change>,
    committing: usize,
    commit_retry_ns: Option<u64>,

    flush_queue: VecDeque<FlushRequest>,
    flushes_running: usize,
    flush_retry_ns: Option<u64>,

    /// By their inputs.
    merging: BTreeMap<Vec<TableId>, MergeStatus>,
    /// The picker found nothing, and nothing has changed since that it looks at.
    nothing_to_merge: bool,
    merge_retry_ns: Option<u64>,
    /// Inputs of running merges and of those whose edit is not yet durable.
    busy: BTreeSet<TableId>,
    /// Tables that a merge found damaged: left alone until the next start.
    damaged: BTreeSet<TableId>,
    /// Plans of a CompactAll that have not started.
    plans: VecDeque<Plan>,
    horizons: Vec<Option<Seqno>>,

    segment_needs: VecDeque<u16>,
    segment_running: bool,
    segment_retry_ns: Option<u64>,
    next_segment: u64,
    /// Files of retired segments that can be used anew.
    spares: Vec<(SegmentSeq, u64)>,
    /// Files that nobody needs.
    trash: Vec<PathBuf>,
    clean_running: bool,

    has_ballast: bool,
    ballast_running: bool,
    ballast_retry_ns: Option<u64>,

    /// The retention by age that is asked for, if one is.
    watch: Option<Watch>,
    /// The version whose bytes were last held against the retention by size.
    sized_version: Option<u64>,
    /// The retention of series.
    series: SeriesWatch,

    barriers: Barriers,
    settled: bool,
    finished: bool,
}

impl Coordinator {
    /// Goes on from an open. `own` must lead to this coordinator's [`Coordinator::handle`].
    #[must_use]
    pub fn new(
        seed: CoordinatorSeed,
        spawner: Arc<dyn Spawner>,
        shards: Arc<dyn ShardLink>,
        own: Arc<dyn CoordinatorLink>,
    ) -> Self {
        let CoordinatorSeed {
            files,
            options,
            state,
            mut log,
            version,
            salts,
            next_table,
            stop,
            spans,
            retired,
            has_ballast,
        } = seed;
        assert_eq!(shards.shards(), options.shards, "the store was opened for as many shards as there are");
        let table_job = TableJob {
            files: Arc::clone(&files),
            store: state.store,
            spans,
            bloom_bits: options.bloom_bits,
            table_bytes_target: options.table_bytes_target,
            boundaries: state.boundaries.clone(),
            next_table,
            stop,
        };
        let next_segment = state.next_segment.0;
        let watch = options.retention.map(|retention| Watch::new(retention, state.unit, &state.retention));
        log.set_growth_bytes_min(options.manifest_growth_bytes);
        let mut coordinator = Self {
            files,
            spawner,
            shards,
            own,
            table_job,
            salts,
            board: StatusBoard::default(),
            status: JobsStatus::default(),
            told: BTreeMap::new(),
            now_ns: 0,
            state,
            version,
            flushed_last: vec![0; options.shards],
            log: Some(Box::new(log)),
            changes: VecDeque::new(),
            committing: 0,
            commit_retry_ns: None,
            flush_queue: VecDeque::new(),
            flushes_running: 0,
            flush_retry_ns: None,
            merging: BTreeMap::new(),
            nothing_to_merge: false,
            merge_retry_ns: None,
            busy: BTreeSet::new(),
            damaged: BTreeSet::new(),
            plans: VecDeque::new(),
            horizons: vec![None; options.shards],
            segment_needs: VecDeque::new(),
            segment_running: false,
            segment_retry_ns: None,
            next_segment,
            spares: Vec::new(),
            trash: Vec::new(),
            clean_running: false,
            has_ballast,
            ballast_running: false,
            ballast_retry_ns: None,
            watch,
            sized_version: None,
            series: SeriesWatch::default(),
            barriers: Barriers::default(),
            settled: false,
            finished: false,
            options,
        };
        coordinator.take_retired(retired);
        coordinator.show_status();
        coordinator
    }

    /// Where its status can be read from any thread.
    #[must_use]
    pub fn board(&self) -> StatusBoard {
        self.board.clone()
    }

    /// Takes a message; `None` when only time has passed. Starts what can be started.
    pub fn handle(&mut self, now_ns: u64, message: Option<ToCoordinator>) {
        self.now_ns = self.now_ns.max(now_ns);
        match message {
            None => {}
            Some(ToCoordinator::Flush(request)) => self.flush_queue.push_back(request),
            Some(ToCoordinator::Dispose(memtable)) => drop(memtable),
            Some(ToCoordinator::NeedSegment { shard }) => self.segment_needs.push_back(shard),
            Some(ToCoordinator::Horizon { shard, seqno }) => self.take_horizon(shard, seqno),
            Some(ToCoordinator::Frozen { shard, ticket }) => self.take_frozen(shard, ticket),
            Some(ToCoordinator::FreezeFailed { shard, ticket }) => self.freeze_failed(shard, ticket),
            Some(ToCoordinator::Boundaries(boundaries)) => {
                self.table_job.boundaries.clone_from(&boundaries);
                self.changes.push_back(Change::Boundaries(boundaries));
            }
            Some(ToCoordinator::FlushAll { done }) => self.begin_barrier(Goal::Tables, done),
            Some(ToCoordinator::CompactAll { done }) => self.begin_barrier(Goal::FewestTables, done),
            Some(ToCoordinator::Checkpoint { name, done }) => {
                self.begin_barrier(Goal::Checkpoint(name), done)
            }
            Some(ToCoordinator::Shutdown { done }) => self.begin_shutdown(done),
            Some(ToCoordinator::Job(JobReport(report))) => self.take_report(report),
        }
        self.forget_passed_retries();
        self.start_expiry();
        self.start_commit();
        self.start_flushes();
        self.start_segment();
        self.start_survey_if_due();
        self.advance_barriers();
        self.start_merges();
        self.start_cleaning();
        self.start_ballast();
        self.advance_shutdown();
        self.show_status();
    }

    /// When [`Coordinator::handle`] wants to be called even without a message; on the clock that it is given.
    #[must_use]
    pub fn wakes_at(&self) -> Option<u64> {
        let waiting = [self.commit_retry_ns, self.flush_retry_ns, self.merge_retry_ns];
        waiting
            .into_iter()
            .chain([self.segment_retry_ns, self.ballast_retry_ns, self.expiry_due_ns(), self.survey_due_ns()])
            .flatten()
            .min()
    }

    /// The wall clock that the manifest says was believed last, in the store's unit.
    #[must_use]
    pub fn retention_clock(&self) -> Option<i64> {
        self.state.retention.clock()
    }

    /// Whether it has shut down.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Handles messages until it has shut down, or nobody can send one any more. `clock` is monotonic, in nanoseconds.
    /// This is the daemon's coordinator thread; it sleeps when there is nothing to do.
    pub fn run(mut self, receiver: &Receiver<ToCoordinator>, clock: &dyn Fn() -> u64) {
        self.handle(clock(), None);
        while !self.finished {
            let message = match self.wakes_at() {
                None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => receiver.recv_timeout(Duration::from_nanos(at.saturating_sub(clock()))),
            };
            match message {
                Ok(message) => self.handle(clock(), Some(message)),
                Err(RecvTimeoutError::Timeout) => self.handle(clock(), None),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take_report(&mut self, report: Report) {
        match report {
            Report::Flushed { request, result } => self.flush_ended(request, result),
            Report::Merged { inputs, bytes_read, result, left_out } => {
                self.series.note_left_out(left_out);
                self.merge_ended(inputs, bytes_read, result);
            }
            Report::Surveyed { result } => self.survey_ended(result),
            Report::Segment { shard, result, leftovers } => self.segment_ended(shard, result, leftovers),
            Report::Committed { log, next, result, ballast_used } => {
                self.has_ballast &= !ballast_used;
                self.commit_ended(log, *next, result);
            }
            Report::Cleaned => self.clean_running = false,
            Report::Ballast { result } => self.ballast_ended(result),
            Report::Checkpoint { result } => self.checkpoint_ended(result),
            Report::Settled => self.settled = true,
        }
    }

    /// Starts a job; its report comes back as a message.
    fn spawn(&self, name: &str, job: impl FnOnce() -> Report + Send + 'static) {
        let own = Arc::clone(&self.own);
        self.spawner.spawn(name, Box::new(move || own.send(ToCoordinator::Job(JobReport(job())))));
    }

    fn stopping(&self) -> bool {
        self.table_job.check_stop().is_err()
    }

    fn retry_at(&self) -> Option<u64> {
        Some(self.now_ns + RETRY_NS)
    }

    fn forget_passed_retries(&mut self) {
        let now = self.now_ns;
        let retries = [
            &mut self.commit_retry_ns,
            &mut self.flush_retry_ns,
            &mut self.merge_retry_ns,
            &mut self.segment_retry_ns,
            &mut self.ballast_retry_ns,
        ];
        retries.into_iter().for_each(|retry| *retry = retry.filter(|at| *at > now));
    }

    /// Notes a failure that is tried again.
    fn failed(&mut self, what: &'static str, error: &JobError) {
        if matches!(error, JobError::Stopped) {
            return;
        }
        let text = format!("{what}: {error}");
        // Tried twice a second for as long as a disk is full: once is enough in the log.
        if self.told.insert(what, text.clone()).as_ref() != Some(&text) {
            log::warn!("{text}; it is tried again");
        }
        self.status.failures_total += 1;
        self.status.out_of_space |= matches!(error, JobError::OutOfSpace);
        self.status.last_error = Some(text);
    }

    /// Notes that what may have failed before has worked.
    fn worked(&mut self, what: &'static str) {
        if self.told.remove(what).is_some() {
            log::info!("no longer: {what}");
        }
    }

    fn show_status(&mut self) {
        self.show_retention();
        self.show_series_retention();
        let status = &mut self.status;
        status.tables = self.state.tables.len();
        status.table_bytes = self.state.tables.values().map(|meta| meta.bytes).sum();
        status.segments = self.state.segments.len();
        status.segment_bytes = self.state.segments.values().map(|entry| entry.bytes).sum();
        status.flushes_running = self.flushes_running;
        status.flushes_waiting = self.flush_queue.len();
        status.flush_backlog_bytes =
            self.flush_queue.iter().map(|request| request.memtable.bytes() as u64).sum();
        status.merging = self.merging.values().cloned().collect();
        status.merge_backlog_bytes = self.plans.iter().map(|plan| plan.bytes).sum();
        self.board.write(status.clone());
    }
}
