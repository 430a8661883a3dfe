//! FlushAll, CompactAll, Checkpoint and Shutdown: requests that wait for other work.
//!
//! ```text
//! FreezeNow to every shard → all Frozen → all their flushes durable → FlushAll is done
//!   → the job that links the tables → Checkpoint is done
//!   → ReportHorizon to every shard → all reported, running merges over → survey of series → plans → all merged → CompactAll is done
//! ```
//! One barrier is worked on at a time, in order of arrival.

use super::Coordinator;
use super::commit::Change;
use crate::jobs::checkpoint::write_checkpoint;
use crate::jobs::error::JobError;
use crate::jobs::message::{Done, Report, ToShard};
use crate::model::CheckpointName;
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering;

/// Requests that wait.
#[derive(Default)]
pub(super) struct Barriers {
    waiting: VecDeque<(Goal, Done)>,
    active: Option<Barrier>,
    last_ticket: u64,
    checkpoint_running: bool,
    shutdown: Option<Done>,
    settling: bool,
}

impl Barriers {
    /// Whether a job reads the names of tables.
    pub(super) fn checkpointing(&self) -> bool {
        self.checkpoint_running
    }
}

/// What is to be reached once everything is in tables.
pub(super) enum Goal {
    /// Nothing more.
    Tables,
    /// As few of them as possible.
    FewestTables,
    /// A second store of them.
    Checkpoint(CheckpointName),
}

struct Barrier {
    goal: Goal,
    done: Done,
    phase: Phase,
}

enum Phase {
    /// Until these shards have answered FreezeNow.
    Freeze { ticket: u64, missing: BTreeSet<u16> },
    /// Until nothing waits for a flush.
    Flush,
    /// Until these shards have reported their horizon.
    Horizon { missing: BTreeSet<u16> },
    /// Until merges that were under way are over.
    Quiet,
    /// Until it is known what the retention of series hides.
    Survey,
    /// Until all plans are done.
    Merge,
    /// Until the job has ended.
    Checkpoint,
}

impl Coordinator {
    pub(super) fn begin_barrier(&mut self, goal: Goal, done: Done) {
        if self.stopping() {
            done(Err(JobError::Stopped));
            return;
        }
        self.barriers.waiting.push_back((goal, done));
    }

    pub(super) fn take_frozen(&mut self, shard: u16, answered: u64) {
        if let Some(Barrier { phase: Phase::Freeze { ticket, missing }, .. }) = &mut self.barriers.active
            && *ticket == answered
        {
            missing.remove(&shard);
        }
    }

    /// A shard's log has failed: whoever waits for it to be flushed is told, for it never will be.
    pub(super) fn freeze_failed(&mut self, shard: u16, answered: u64) {
        let asked = |barrier: &mut Barrier| matches!(barrier.phase, Phase::Freeze { ticket, .. } if ticket == answered);
        if let Some(barrier) = self.barriers.active.take_if(asked) {
            (barrier.done)(Err(JobError::LogFailed { shard }));
        }
    }

    pub(super) fn barrier_horizon(&mut self, shard: u16) {
        if let Some(Barrier { phase: Phase::Horizon { missing }, .. }) = &mut self.barriers.active {
            missing.remove(&shard);
        }
    }

    /// Whether no merge may start that was not planned by the CompactAll under way.
    pub(super) fn barrier_holds_merges(&self) -> bool {
        let phase = self.barriers.active.as_ref().map(|barrier| &barrier.phase);
        matches!(phase, Some(Phase::Horizon { .. } | Phase::Quiet | Phase::Survey | Phase::Merge))
    }

    /// A flush failed: whoever waits for flushes is told instead of waiting for better times.
    pub(super) fn fail_barriers(&mut self, error: &JobError) {
        let flushing = |barrier: &mut Barrier| matches!(barrier.phase, Phase::Freeze { .. } | Phase::Flush);
        if let Some(barrier) = self.barriers.active.take_if(flushing) {
            (barrier.done)(Err(copy(error)));
        }
    }

    /// A merge failed: the CompactAll under way is told, and its other plans are dropped.
    pub(super) fn fail_compactions(&mut self, error: &JobError) {
        let merging = |barrier: &mut Barrier| matches!(barrier.phase, Phase::Merge);
        if let Some(barrier) = self.barriers.active.take_if(merging) {
            self.plans.clear();
            (barrier.done)(Err(copy(error)));
        }
    }

    pub(super) fn advance_barriers(&mut self) {
        loop {
            let Some(mut barrier) = self.barriers.active.take() else {
                let Some((goal, done)) = self.barriers.waiting.pop_front() else { return };
                let phase = self.begin_freeze();
                self.barriers.active = Some(Barrier { goal, done, phase });
                continue;
            };
            if !self.phase_is_over(&barrier.phase) {
                self.barriers.active = Some(barrier);
                return;
            }
            match self.next_phase(&barrier) {
                Some(phase) => {
                    barrier.phase = phase;
                    self.barriers.active = Some(barrier);
                }
                None => (barrier.done)(Ok(())),
            }
        }
    }

    pub(super) fn checkpoint_ended(&mut self, result: Result<(), JobError>) {
        self.barriers.checkpoint_running = false;
        let linking = |barrier: &mut Barrier| matches!(barrier.phase, Phase::Checkpoint);
        if let Some(barrier) = self.barriers.active.take_if(linking) {
            (barrier.done)(result);
        }
    }

    fn phase_is_over(&self, phase: &Phase) -> bool {
        match phase {
            Phase::Freeze { missing, .. } | Phase::Horizon { missing } => missing.is_empty(),
            Phase::Flush => {
                let installing = |change: &Change| matches!(change, Change::Flushed { .. });
                self.flush_queue.is_empty()
                    && self.flushes_running == 0
                    && !self.changes.iter().any(installing)
            }
            Phase::Quiet | Phase::Merge => {
                let installing = |change: &Change| matches!(change, Change::Merged { .. });
                let is_quiet = self.merging.is_empty() && self.plans.is_empty() && !self.series.is_running();
                is_quiet && !self.changes.iter().any(installing)
            }
            Phase::Survey => !self.series.is_running(),
            Phase::Checkpoint => false,
        }
    }

    fn next_phase(&mut self, barrier: &Barrier) -> Option<Phase> {
        match (&barrier.phase, &barrier.goal) {
            (Phase::Freeze { .. }, _) => Some(Phase::Flush),
            (Phase::Flush, Goal::Checkpoint(name)) => {
                self.start_checkpoint(name.clone());
                Some(Phase::Checkpoint)
            }
            (Phase::Flush, Goal::FewestTables) => {
                let missing = self.all_shards();
                missing.iter().for_each(|shard| self.shards.send(*shard, ToShard::ReportHorizon));
                Some(Phase::Horizon { missing })
            }
            (Phase::Horizon { .. }, _) => Some(Phase::Quiet),
            (Phase::Quiet, _) => {
                self.start_survey();
                Some(Phase::Survey)
            }
            (Phase::Survey, _) => {
                self.plans = self.pick_everything().into();
                Some(Phase::Merge)
            }
            (Phase::Flush | Phase::Merge | Phase::Checkpoint, _) => None,
        }
    }

    fn start_checkpoint(&mut self, name: CheckpointName) {
        self.barriers.checkpoint_running = true;
        let (job, state) = (self.table_job.clone(), self.state.clone());
        self.spawn("tskv-checkpoint", move || Report::Checkpoint {
            result: write_checkpoint(&job, &name, state),
        });
    }

    fn begin_freeze(&mut self) -> Phase {
        self.barriers.last_ticket += 1;
        let (ticket, missing) = (self.barriers.last_ticket, self.all_shards());
        missing.iter().for_each(|shard| self.shards.send(*shard, ToShard::FreezeNow { ticket }));
        Phase::Freeze { ticket, missing }
    }

    fn all_shards(&self) -> BTreeSet<u16> {
        (0u16..).take(self.shards.shards()).collect()
    }

    pub(super) fn begin_shutdown(&mut self, done: Done) {
        self.table_job.stop.store(true, Ordering::Relaxed);
        self.plans.clear();
        let active = self.barriers.active.take().map(|barrier| barrier.done);
        let waiting = std::mem::take(&mut self.barriers.waiting).into_iter().map(|(_, done)| done);
        waiting
            .chain(active)
            .chain(self.barriers.shutdown.take())
            .for_each(|done| done(Err(JobError::Stopped)));
        self.barriers.shutdown = Some(done);
    }

    /// Ends when nothing runs: edits that wait are made durable first, unless the disk refuses them; what they would
    /// have named is collected by the next open, and the log still has it.
    pub(super) fn advance_shutdown(&mut self) {
        let committing = !self.barriers.settling
            && (self.log.is_none() || (!self.changes.is_empty() && self.commit_retry_ns.is_none()));
        let jobs = self.flushes_running + self.merging.len();
        let running = self.segment_running
            || self.clean_running
            || self.ballast_running
            || self.series.is_running()
            || self.barriers.checkpoint_running;
        if self.barriers.shutdown.is_none() || jobs > 0 || running || committing {
            return;
        }
        if self.settled {
            self.finished = true;
            if let Some(done) = self.barriers.shutdown.take() {
                done(Ok(()));
            }
        } else if !self.barriers.settling
            && let Some(mut log) = self.log.take()
        {
            self.barriers.settling = true;
            // The log goes with the job: nothing is written after this.
            self.spawn("tskv-settle", move || {
                log.settle();
                Report::Settled
            });
        }
    }
}

/// What can be told of an error to several.
fn copy(error: &JobError) -> JobError {
    match error {
        JobError::Stopped => JobError::Stopped,
        JobError::OutOfSpace => JobError::OutOfSpace,
        JobError::LogFailed { shard } => JobError::LogFailed { shard: *shard },
        JobError::CheckpointExists(name) => JobError::CheckpointExists(name.clone()),
        JobError::Io { doing, file, source } => JobError::Io {
            doing,
            file: file.clone(),
            source: source
                .raw_os_error()
                .map_or_else(|| source.kind().into(), std::io::Error::from_raw_os_error),
        },
        JobError::Table(error) => JobError::Io {
            doing: "reading",
            file: std::path::PathBuf::new(),
            source: std::io::Error::other(error.to_string()),
        },
    }
}
