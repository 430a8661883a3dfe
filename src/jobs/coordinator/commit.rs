//! Changes of the store: made durable in order, several in one frame, then shown to the shards.

use super::{COMMIT_FAILED, Coordinator, SPARE_SEGMENTS_PER_SHARD};
use crate::io::Files;
use crate::jobs::error::JobError;
use crate::jobs::manifest_log::ManifestLog;
use crate::jobs::message::{Report, ToShard};
use crate::model::{SegmentSeq, StreamId, TableId};
use crate::storage::manifest::names::{BALLAST, segment_path, table_path};
use crate::storage::manifest::{Edit, SegmentEntry, State};
use crate::storage::retention::Retention;
use crate::storage::version::{Table, Version};
use crate::storage::wal::SegmentSpec;
use std::path::Path;
use std::sync::Arc;

/// Something that a job has prepared on disk and that counts once its edits are durable.
pub(super) enum Change {
    /// A memtable has become tables.
    Flushed { shard: u16, memtable: u64, tables: Vec<Arc<Table>>, releases: Vec<SegmentSeq> },
    /// Tables have become others.
    Merged { inputs: Vec<TableId>, tables: Vec<Arc<Table>> },
    /// The clock has moved on, and these tables hold nothing any more.
    Expired { retention: Retention, dropped: Vec<TableId> },
    /// A segment file is ready.
    Segment { shard: u16, spec: SegmentSpec },
    /// Shards are split elsewhere.
    Boundaries(Vec<Box<[u8]>>),
}

impl Change {
    fn edits(&self, out: &mut Vec<Edit>) {
        let added = |tables: &[Arc<Table>]| {
            tables.iter().map(|table| Edit::AddTable(table.meta.clone())).collect::<Vec<_>>()
        };
        match self {
            Self::Flushed { tables, releases, .. } => {
                out.extend(added(tables));
                out.extend(releases.iter().map(|seq| Edit::RetireSegment(*seq)));
            }
            Self::Merged { inputs, tables } => {
                out.extend(inputs.iter().map(|id| Edit::RemoveTable(*id)));
                out.extend(added(tables));
            }
            Self::Expired { retention, dropped } => {
                out.extend(dropped.iter().map(|id| Edit::RemoveTable(*id)));
                out.push(Edit::Retention(retention.clone()));
            }
            Self::Segment { shard, spec } => {
                let entry = SegmentEntry { stream: StreamId(*shard), salt: spec.salt, bytes: spec.bytes };
                out.push(Edit::AddSegment { seq: spec.seq, entry });
            }
            Self::Boundaries(boundaries) => out.push(Edit::Boundaries(boundaries.clone())),
        }
    }
}

impl Coordinator {
    /// Makes all waiting changes durable in one frame, unless a frame is under way.
    pub(super) fn start_commit(&mut self) {
        if self.changes.is_empty() || self.commit_retry_ns.is_some() {
            return;
        }
        let Some(mut log) = self.log.take() else { return };
        let mut edits = Vec::new();
        self.changes.iter().for_each(|change| change.edits(&mut edits));
        let mut next = self.state.clone();
        next.apply_all(&edits).expect("jobs and shards name only tables and segments that are live");
        // Tables may be dropped; the seqnos that they used up stay used up.
        let floor = next.seqno_max();
        if floor > next.seqno_floor {
            next.seqno_floor = floor;
            edits.push(Edit::SeqnoFloor(floor));
        }
        self.committing = self.changes.len();
        let files = Arc::clone(&self.files);
        self.spawn("tskv-manifest", move || {
            let (result, ballast_used) = commit(&*files, &mut log, &edits, &next);
            Report::Committed { log, next: Box::new(next), result, ballast_used }
        });
    }

    pub(super) fn commit_ended(&mut self, log: Box<ManifestLog>, next: State, result: Result<(), JobError>) {
        self.log = Some(log);
        let count = std::mem::take(&mut self.committing);
        if let Err(error) = result {
            self.commit_retry_ns = self.retry_at();
            self.failed(COMMIT_FAILED, &error);
            self.tell_commit_failed(&error);
            // What they wait for is not durable, and nobody knows when it will be.
            self.fail_barriers(&error);
            self.fail_compactions(&error);
            return;
        }
        self.status.edits_total += 1;
        self.worked(COMMIT_FAILED);
        self.status.out_of_space = false;
        let before = std::mem::replace(&mut self.state, next);
        let changes: Vec<_> = self.changes.drain(..count).collect();
        self.install(changes, &before);
    }

    /// What was flushed or made ready counts for nothing while the manifest does not name it.
    fn tell_commit_failed(&self, error: &JobError) {
        let (mut memtables, mut segments) = (Vec::new(), Vec::new());
        for change in &self.changes {
            match change {
                Change::Flushed { shard, memtable, .. } => memtables.push((*shard, *memtable)),
                Change::Segment { shard, .. } => segments.push(*shard),
                Change::Merged { .. } | Change::Expired { .. } | Change::Boundaries(_) => {}
            }
        }
        self.tell_flushes_failed(memtables, error);
        self.tell_segments_failed(segments, error);
    }

    /// Shows durable changes to the shards, and lets go of what they replace.
    fn install(&mut self, changes: Vec<Change>, before: &State) {
        let shard_count = self.shards.shards();
        let mut flushed = vec![Vec::new(); shard_count];
        let mut retired = vec![Vec::new(); shard_count];
        let mut segments = Vec::new();
        let mut tables: Vec<_> = self.version.tables().to_vec();
        let mut tables_changed = false;
        for change in changes {
            match change {
                Change::Flushed { shard, memtable, tables: added, releases } => {
                    tables.extend(added);
                    tables_changed = true;
                    flushed.get_mut(usize::from(shard)).expect("shards are counted").push(memtable);
                    retired.get_mut(usize::from(shard)).expect("shards are counted").extend(releases);
                }
                Change::Merged { inputs, tables: added } => {
                    tables.retain(|table| !inputs.contains(&table.meta.id));
                    tables.extend(added);
                    tables_changed = true;
                    self.trash.extend(inputs.iter().map(|id| table_path(*id)));
                    self.busy.retain(|id| !inputs.contains(id));
                }
                Change::Expired { dropped, .. } => {
                    self.tables_expired(&mut tables, &dropped);
                    tables_changed = true;
                    self.trash.extend(dropped.iter().map(|id| table_path(*id)));
                    self.busy.retain(|id| !dropped.contains(id));
                }
                Change::Segment { shard, spec } => segments.push((shard, spec)),
                Change::Boundaries(_) => {}
            }
        }
        if tables_changed {
            for (last, flushed) in self.flushed_last.iter_mut().zip(&flushed) {
                *last = flushed.iter().copied().fold(*last, u64::max);
            }
            let version = Version::with_cutoffs(tables, self.state.retention.cutoffs());
            self.version = Arc::new(version.numbered(self.version.number() + 1, self.flushed_last.clone()));
            self.nothing_to_merge = false;
            let parts = flushed.into_iter().zip(retired.iter().cloned());
            for (shard, (flushed, retired)) in (0u16..).zip(parts) {
                let version = Arc::clone(&self.version);
                self.shards.send(shard, ToShard::Version { version, flushed, retired });
            }
        }
        // Numbers of a stream ascend: a segment goes out after its predecessors.
        segments.into_iter().for_each(|(shard, spec)| self.shards.send(shard, ToShard::SegmentReady(spec)));
        let length = |seq: SegmentSeq| before.segments.get(&seq).map(|entry| (seq, entry.bytes));
        self.take_retired(retired.into_iter().flatten().filter_map(length).collect());
    }

    /// Keeps some files of retired segments for use anew; the others go.
    pub(super) fn take_retired(&mut self, retired: Vec<(SegmentSeq, u64)>) {
        let spares_max = SPARE_SEGMENTS_PER_SHARD * self.options.shards;
        for (seq, bytes) in retired {
            if bytes == self.options.wal_segment_bytes && self.spares.len() < spares_max {
                self.spares.push((seq, bytes));
            } else {
                self.trash.push(segment_path(seq));
            }
        }
    }

    /// Removes files that no durable manifest names any more.
    pub(super) fn start_cleaning(&mut self) {
        // A checkpoint links tables by their names.
        if self.clean_running || self.trash.is_empty() || self.barriers.checkpointing() {
            return;
        }
        self.clean_running = true;
        let (files, trash) = (Arc::clone(&self.files), std::mem::take(&mut self.trash));
        self.spawn("tskv-clean", move || {
            for path in trash {
                // The next open collects what cannot be removed now.
                if let Err(error) = files.remove(&path) {
                    log::debug!("removing {}: {error}", path.display());
                }
            }
            Report::Cleaned
        });
    }
}

/// Writes the frame; on a full disk, again without the ballast. Says whether the ballast is gone.
fn commit(
    files: &dyn Files,
    log: &mut ManifestLog,
    edits: &[Edit],
    next: &State,
) -> (Result<(), JobError>, bool) {
    let first = log.commit(edits, next);
    let full = matches!(first, Err(JobError::OutOfSpace));
    if full && files.remove(Path::new(BALLAST)).is_ok() {
        (log.commit(edits, next), true)
    } else {
        (first, false)
    }
}
