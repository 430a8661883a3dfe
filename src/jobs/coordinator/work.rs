//! Flushes, merges, segments and the ballast: when each is started, and what its end means.

use super::commit::Change;
use super::{Coordinator, FLUSH_FAILED, FLUSHES_MAX, MERGE_FAILED, SEGMENT_FAILED};
use crate::io::{Errno, Files};
use crate::jobs::compact::{MergeHorizon, merge_tables};
use crate::jobs::error::{JobError, out_of_space};
use crate::jobs::flush::flush_memtable;
use crate::jobs::message::{FlushRequest, Report, ToShard};
use crate::jobs::segment_files::{make_segment, recycle_segment};
use crate::jobs::status::MergeStatus;
use crate::model::{SegmentSeq, Seqno, TableId};
use crate::storage::compaction::{PickInput, PickTable, Plan, pick, pick_all};
use crate::storage::manifest::names::{BALLAST, segment_path};
use crate::storage::sstable::TableError;
use crate::storage::version::Table;
use crate::storage::wal::SegmentSpec;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Coordinator {
    pub(super) fn start_flushes(&mut self) {
        while self.flushes_running < FLUSHES_MAX && self.flush_retry_ns.is_none() && !self.stopping() {
            let Some(request) = self.flush_queue.pop_front() else { return };
            self.flushes_running += 1;
            let job = self.table_job.clone();
            self.spawn("tskv-flush", move || {
                let result = flush_memtable(&job, &request.memtable, &request.keys);
                Report::Flushed { request, result }
            });
        }
    }

    pub(super) fn flush_ended(
        &mut self,
        request: FlushRequest,
        result: Result<(Vec<Arc<Table>>, u64), JobError>,
    ) {
        self.flushes_running -= 1;
        match result {
            Ok((tables, bytes)) => {
                let FlushRequest { shard, memtable, releases, .. } = request;
                self.worked(FLUSH_FAILED);
                self.status.flushes_total += 1;
                self.status.flush_bytes_total += bytes;
                let memtable = memtable.id();
                self.changes.push_back(Change::Flushed { shard, memtable, tables, releases });
            }
            Err(error) => {
                self.flush_retry_ns = self.retry_at();
                self.failed(FLUSH_FAILED, &error);
                self.fail_barriers(&error);
                // The order of a shard's memtables is the order of its segments.
                self.flush_queue.push_front(request);
                // Those behind it in the queue wait for the same.
                let waiting = self.flush_queue.iter().map(|request| (request.shard, request.memtable.id()));
                let waiting: Vec<_> = waiting.collect();
                self.tell_flushes_failed(waiting, &error);
            }
        }
    }

    pub(super) fn take_horizon(&mut self, shard: u16, seqno: Seqno) {
        let before = self.horizon();
        let horizon = self.horizons.get_mut(usize::from(shard)).expect("shards are counted");
        *horizon = (*horizon).max(Some(seqno));
        self.nothing_to_merge &= self.horizon() == before;
        self.barrier_horizon(shard);
    }

    /// Nothing below it can come back or is looked at by a snapshot; 0 before every shard has reported.
    pub(super) fn horizon(&self) -> Seqno {
        let lowest = self.horizons.iter().copied().min().flatten();
        lowest.unwrap_or_default()
    }

    pub(super) fn start_merges(&mut self) {
        while self.merging.len() < self.options.background_threads.max(1)
            && self.merge_retry_ns.is_none()
            && !self.stopping()
        {
            if let Some(plan) = self.plans.pop_front() {
                self.start_merge(plan);
            } else if self.barrier_holds_merges() || self.nothing_to_merge {
                return;
            } else if let Some(plan) = self.pick_one() {
                self.start_merge(plan);
            } else {
                self.nothing_to_merge = true;
            }
        }
    }

    fn start_merge(&mut self, plan: Plan) {
        self.merging.insert(plan.inputs.clone(), merge_status(&plan));
        self.busy.extend(plan.inputs.iter().copied());
        let (job, version) = (self.table_job.clone(), Arc::clone(&self.version));
        let horizon = MergeHorizon::new(self.horizon());
        let room = self.bytes_of_log() + plan.bytes;
        let series_cutoffs = Arc::clone(&self.series.cutoffs);
        self.spawn("tskv-merge", move || {
            let result = require_room(&*job.files, room)
                .and_then(|()| merge_tables(&job, &version, &plan, horizon, Arc::clone(&series_cutoffs)));
            let tables = result.iter().flat_map(|(tables, _)| tables);
            let left_out = tables.map(|table| (table.meta.id, series_cutoffs.part_hidden(table))).collect();
            Report::Merged { inputs: plan.inputs, bytes_read: plan.bytes, result, left_out }
        });
    }

    pub(super) fn merge_ended(
        &mut self,
        inputs: Vec<TableId>,
        bytes_read: u64,
        result: Result<(Vec<Arc<Table>>, u64), JobError>,
    ) {
        let ended = self.merging.remove(&inputs).expect("a merge ends once");
        self.nothing_to_merge = false;
        match result {
            Ok((tables, bytes)) => {
                self.worked(MERGE_FAILED);
                self.status.merges_total += 1;
                self.status.merges_by_reason[ended.reason as usize] += 1;
                self.status.merge_bytes_read_total += bytes_read;
                self.status.merge_bytes_written_total += bytes;
                self.changes.push_back(Change::Merged { inputs, tables });
            }
            Err(error) => {
                self.busy.retain(|id| !inputs.contains(id));
                match &error {
                    // Trying again would read the same bytes; reads of other blocks go on.
                    JobError::Table(TableError::Corrupt(_)) => self.damaged.extend(inputs),
                    _ => self.merge_retry_ns = self.retry_at(),
                }
                self.failed(MERGE_FAILED, &error);
                self.fail_compactions(&error);
            }
        }
    }

    fn pick_one(&self) -> Option<Plan> {
        self.with_pick_input(pick)
    }

    /// Plans after which as few tables as possible are left.
    pub(super) fn pick_everything(&self) -> Vec<Plan> {
        self.with_pick_input(pick_all)
    }

    fn with_pick_input<T>(&self, choose: impl FnOnce(&PickInput<'_>) -> T) -> T {
        let tables: Vec<_> = self.version.tables().iter().map(|table| pick_table(table)).collect();
        let busy: BTreeSet<_> = self.busy.union(&self.damaged).copied().collect();
        choose(&PickInput {
            tables: &tables,
            busy: &busy,
            span_base: self.table_job.spans.base,
            level_max: self.table_job.spans.level_max,
            boundaries: &self.state.boundaries,
            table_bytes_target: self.options.table_bytes_target,
            horizon: self.horizon(),
            cutoffs: self.version.cutoffs(),
            hidden: &self.series.hidden,
        })
    }

    pub(super) fn start_segment(&mut self) {
        if self.segment_running || self.segment_retry_ns.is_some() || self.stopping() {
            return;
        }
        let Some(shard) = self.segment_needs.pop_front() else { return };
        self.segment_running = true;
        let seq = SegmentSeq(self.next_segment);
        self.next_segment += 1;
        let (salt, bytes) = (self.salts.next(), self.options.wal_segment_bytes);
        let spare = self.spares.pop();
        self.status.segments_recycled_total += u64::from(spare.is_some());
        // What the log holds must fit into tables, or nothing would ever free a segment again.
        let room = self.bytes_of_log() + bytes;
        let (files, stop) = (Arc::clone(&self.files), Arc::clone(&self.table_job.stop));
        self.spawn("tskv-segment", move || {
            let made = match spare {
                Some((retired, _)) => recycle_segment(&*files, retired, seq),
                None => require_room(&*files, room).and_then(|()| make_segment(&*files, seq, bytes, &stop)),
            };
            let result = made.map(|(file, direct)| SegmentSpec { seq, salt, bytes, file, direct });
            let paths = spare.map(|(retired, _)| retired).into_iter().chain([seq]).map(segment_path);
            let leftovers = if result.is_err() { paths.collect() } else { Vec::new() };
            Report::Segment { shard, result, leftovers }
        });
    }

    pub(super) fn segment_ended(
        &mut self,
        shard: u16,
        result: Result<SegmentSpec, JobError>,
        leftovers: Vec<PathBuf>,
    ) {
        self.segment_running = false;
        self.trash.extend(leftovers);
        match result {
            Ok(spec) => {
                self.worked(SEGMENT_FAILED);
                self.status.segments_made_total += 1;
                self.changes.push_back(Change::Segment { shard, spec });
            }
            Err(error) => {
                self.segment_retry_ns = self.retry_at();
                self.failed(SEGMENT_FAILED, &error);
                self.segment_needs.push_front(shard);
                let waiting = self.segment_needs.iter().copied().collect();
                self.tell_segments_failed(waiting, &error);
            }
        }
    }

    /// Tells shards that these memtables of theirs wait for better times.
    pub(super) fn tell_flushes_failed(&self, waiting: Vec<(u16, u64)>, error: &JobError) {
        let errno = errno_of(error);
        if !self.stopping() {
            let tell = |(shard, memtable)| self.shards.send(shard, ToShard::FlushFailed { memtable, errno });
            waiting.into_iter().for_each(tell);
        }
    }

    /// Tells shards that the segments that they asked for wait for better times.
    pub(super) fn tell_segments_failed(&self, waiting: Vec<u16>, error: &JobError) {
        let errno = errno_of(error);
        if !self.stopping() {
            waiting.into_iter().for_each(|shard| self.shards.send(shard, ToShard::SegmentFailed(errno)));
        }
    }

    /// Bytes of live segments: about what the tables that they become will take.
    fn bytes_of_log(&self) -> u64 {
        self.state.segments.values().map(|entry| entry.bytes).sum()
    }

    /// Puts bytes aside for the manifest of a full disk, once there is plenty of room.
    pub(super) fn start_ballast(&mut self) {
        let bytes = self.options.ballast_bytes;
        let wanted = !self.has_ballast && bytes > 0 && !self.stopping();
        if !wanted || self.ballast_running || self.ballast_retry_ns.is_some() {
            return;
        }
        self.ballast_running = true;
        let files = Arc::clone(&self.files);
        let room = self.bytes_of_log() + self.options.wal_segment_bytes + 4 * bytes;
        self.spawn("tskv-ballast", move || {
            let result = require_room(&*files, room).and_then(|()| write_ballast(&*files, bytes));
            Report::Ballast { result }
        });
    }

    pub(super) fn ballast_ended(&mut self, result: Result<(), JobError>) {
        self.ballast_running = false;
        match result {
            Ok(()) => self.has_ballast = true,
            // Without it the store works too; it is tried again when there may be room.
            Err(error) => {
                log::debug!("the ballast file could not be made: {error}");
                self.ballast_retry_ns = Some(self.now_ns + super::RETRY_NS * 20);
            }
        }
    }
}

fn merge_status(plan: &Plan) -> MergeStatus {
    MergeStatus { reason: plan.reason, tables: plan.inputs.len() as u64, bytes: plan.bytes }
}

fn pick_table(table: &Arc<Table>) -> PickTable<'_> {
    PickTable { meta: &table.meta, range_deletes: table.index.range_deletes() }
}

/// Gives up before a job half fills the disk: what it would take must be free.
fn require_room(files: &dyn Files, bytes: u64) -> Result<(), JobError> {
    let free = files.bytes_free().map_err(JobError::io("asking for free space of", ""))?;
    if free < bytes { Err(JobError::OutOfSpace) } else { Ok(()) }
}

fn write_ballast(files: &dyn Files, bytes: u64) -> Result<(), JobError> {
    let path = Path::new(BALLAST);
    let zeros = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    match files.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(JobError::io("removing", path)(error));
        }
        _ => {}
    }
    let written = files.create(path).and_then(|file| {
        files.write_all_at(&file, &zeros, 0)?;
        files.sync(&file)
    });
    written.map_err(|error| {
        let _ = files.remove(path);
        JobError::io("writing", path)(error)
    })
}

/// The number that shards answer clients by.
fn errno_of(error: &JobError) -> Errno {
    match error {
        JobError::OutOfSpace => Errno::ENOSPC,
        JobError::Io { source, .. } if out_of_space(source) => Errno::ENOSPC,
        JobError::Io { source, .. } => source.raw_os_error().map_or(Errno::EIO, Errno),
        JobError::Table(_)
        | JobError::Stopped
        | JobError::LogFailed { .. }
        | JobError::CheckpointExists(_) => Errno::EIO,
    }
}
