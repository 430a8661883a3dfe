//! Writes: admission, then log and memtable in one step, and what follows from a memtable that is full.

use super::effect::{Effects, ShardRequest};
use super::series::hidden_before;
use super::{Frozen, Pause, Shard, Shortage, Task};
use crate::limits::{MEMTABLE_SEGMENTS_MAX, MEMTABLES_FROZEN_MAX};
use crate::model::{
    Command, DeleteScope, EntryOp, KeyRange, Lsn, OperationId, Reply, ReplyError, Seqno, Slot, SlotClass,
    StoredEntry,
};
use crate::storage::memtable::{Memtable, series_hash};
use crate::storage::range_delete::RangeDelete;
use crate::storage::wal::{Admission, Record, SegmentLife, SyncPolicy, record_bytes, record_bytes_max};
use crate::teeth::{Bug, planted};
use std::mem;
use std::sync::Arc;

/// How often a shard reports its horizon when it has changed, in nanoseconds.
const HORIZON_INTERVAL_NS: u64 = 1_000_000_000;

impl Shard {
    /// PUT, PUT batch and deletes, whatever there is: log, memtable, reply. Only where one of them would move the edge of
    /// a series' retention back does it look first.
    pub(super) fn write_unconditionally(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        command: &Command<'_>,
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the caller passes these commands only")]
        match command {
            Command::Put { slot, .. } => self.check_age(*slot)?,
            Command::PutBatch { entries } => {
                entries.iter().try_for_each(|entry| self.check_age(entry.slot))?
            }
            _ => {}
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "the caller passes these commands only")]
        match command {
            Command::Put { series, slot: Slot::Metadata, value } => {
                self.write_over_edge(task, series, (Slot::Metadata, EntryOp::Put(*value)))?;
            }
            Command::Put { series, slot, value } => drop(self.write(series, *slot, EntryOp::Put(*value))?),
            Command::PutBatch { entries } => self.write_batch(task, entries)?,
            Command::DeleteSlot { series, slot } => {
                self.write_over_edge(task, series, (*slot, EntryOp::Delete))?;
            }
            Command::Delete { scope: DeleteScope::TimeRange { series, from, to } } => {
                self.delete_times(task, series, (*from, *to))?;
            }
            Command::Delete { scope } => self.write_delete(*scope)?,
            other => unreachable!("{other:?} looks before it writes"),
        }
        fx.reply(operation, Reply::Ok, self.log.staged());
        Ok(())
    }

    /// Refuses samples that would be hidden at once for their age.
    pub(super) fn check_age(&self, slot: Slot) -> Result<(), Pause> {
        match slot {
            Slot::Time(time) if self.memory.version.expired_below(time) == Seqno::MAX => {
                Err(Pause::Refused(ReplyError::Expired))
            }
            Slot::Time(_) | Slot::Metadata | Slot::Timeless => Ok(()),
        }
    }

    /// Writes one entry; a reply about its series waits for the log position.
    pub(super) fn write(&mut self, series: &[u8], slot: Slot, op: EntryOp<'_>) -> Result<Lsn, Pause> {
        let record = record_of(series, slot, op);
        self.admit(record_bytes(&record), matches!(op, EntryOp::Delete))?;
        let seqno = self.take_seqno();
        let lsn = self.log.append(seqno, &record);
        self.insert(series, slot, seqno, op, lsn);
        Ok(lsn)
    }

    /// Writes one entry that may move the edge of a retention back: metadata, or a delete of the newest sample.
    fn write_over_edge(
        &mut self,
        task: &mut Task,
        series: &[u8],
        (slot, op): (Slot, EntryOp<'_>),
    ) -> Result<Lsn, Pause> {
        let hidden = match slot {
            Slot::Timeless => None,
            Slot::Metadata => self.kept_from(task, series)?,
            Slot::Time(time) => match self.kept_from(task, series)? {
                Some(kept) if self.newest_is_within(task, series, (time, time))? => Some(kept),
                _ => None,
            },
        };
        match hidden_before(series, hidden) {
            None => self.write(series, slot, op),
            Some(hidden) => self.write_together(&[hidden], &[(series, slot, op)]),
        }
    }

    /// Writes what a crash keeps or loses together: deletes of a series or of times of one, then entries.
    pub(super) fn write_together(
        &mut self,
        deletes: &[DeleteScope<'_>],
        entries: &[(&[u8], Slot, EntryOp<'_>)],
    ) -> Result<Lsn, Pause> {
        let delete_bytes: usize = deletes.iter().map(|scope| record_bytes(&Record::Delete(*scope))).sum();
        let records = entries.iter().map(|(series, slot, op)| record_of(series, *slot, *op));
        let bytes = delete_bytes + records.map(|record| record_bytes(&record)).sum::<usize>();
        let only_deletes = entries.iter().all(|(_, _, op)| matches!(op, EntryOp::Delete));
        self.admit(bytes, only_deletes)?;
        self.log.batch_begin(bytes, only_deletes);
        for scope in deletes {
            let seqno = self.take_seqno();
            let lsn = self.log.append(seqno, &Record::Delete(*scope));
            self.delete_range(*scope, RangeDelete::new(*scope, seqno), lsn);
            self.counters.range_deletes += 1;
        }
        for (series, slot, op) in entries {
            let seqno = self.take_seqno();
            let lsn = self.log.append(seqno, &record_of(series, *slot, *op));
            self.insert(series, *slot, seqno, *op, lsn);
        }
        Ok(self.log.batch_end())
    }

    fn write_batch(&mut self, task: &mut Task, entries: &[StoredEntry<'_>]) -> Result<(), Pause> {
        let mut hidden = Vec::new();
        for entry in entries.iter().filter(|entry| entry.slot == Slot::Metadata) {
            hidden.extend(hidden_before(entry.series, self.kept_from(task, entry.series)?));
        }
        if !hidden.is_empty() {
            let puts = entries.iter().map(|entry| (entry.series, entry.slot, EntryOp::Put(entry.value)));
            let entries: Vec<_> = puts.collect();
            return self.write_together(&hidden, &entries).map(drop);
        }
        let record = |entry: &StoredEntry<'_>| {
            record_bytes(&record_of(entry.series, entry.slot, EntryOp::Put(entry.value)))
        };
        let bytes = entries.iter().map(record).sum();
        self.admit(bytes, false)?;
        self.log.batch_begin(bytes, false);
        for entry in entries {
            let op = EntryOp::Put(entry.value);
            let seqno = self.take_seqno();
            let lsn = self.log.append(seqno, &record_of(entry.series, entry.slot, op));
            self.insert(entry.series, entry.slot, seqno, op, lsn);
        }
        self.log.batch_end();
        Ok(())
    }

    /// Writes a range delete.
    pub(super) fn write_delete(&mut self, scope: DeleteScope<'_>) -> Result<(), Pause> {
        // Keys that others own have deletes of their own, under the seqnos of their owners: this one must not come to
        // hide what lies in them when they are handed over to this shard.
        let Some(mut delete) = RangeDelete::new(scope, Seqno(0)).clip(&self.keys) else { return Ok(()) };
        let keys = delete.keys.clone();
        let record = match scope {
            DeleteScope::Series { .. } | DeleteScope::TimeRange { .. } => Record::Delete(scope),
            DeleteScope::Prefix { .. } | DeleteScope::All => {
                Record::DeleteKeys { start: &keys.start, end: keys.end.as_deref() }
            }
        };
        self.admit(record_bytes(&record), true)?;
        let seqno = self.take_seqno();
        let lsn = self.log.append(seqno, &record);
        delete.seqno = seqno;
        self.delete_range(scope, delete, lsn);
        self.counters.range_deletes += 1;
        Ok(())
    }

    /// Whether a write of `bytes` may take a seqno now. A refused write has changed nothing.
    fn admit(&mut self, bytes: usize, is_delete: bool) -> Result<(), Pause> {
        if self.closing {
            return Err(Pause::Refused(ReplyError::ShuttingDown));
        }
        let bytes_max = record_bytes_max(self.options.wal_segment_bytes);
        if bytes > bytes_max {
            return Err(Pause::Refused(ReplyError::Limit {
                what: "the write, in bytes of log,",
                max: bytes_max,
            }));
        }
        if !self.stalled.is_empty() && !self.retrying {
            return Err(Pause::Stall);
        }
        if self.memory.frozen.len() >= MEMTABLES_FROZEN_MAX
            && self.memory.active.bytes() >= self.options.memtable_bytes
            && !is_delete
        {
            return Err(self.no_tables.map_or(Pause::Stall, |why| self.refuse_for_disk(why)));
        }
        match self.log.admission(bytes, is_delete) {
            Admission::Admitted => Ok(()),
            Admission::WaitForWrites => Err(Pause::Stall),
            Admission::WaitForSegment => {
                Err(self.no_segment.map_or(Pause::Stall, |why| self.refuse_for_disk(why)))
            }
            // The small first segments of a start may be too small for what the full-sized next one takes.
            Admission::TooLarge => Err(Pause::Stall),
            Admission::Closed if self.log.poisoned() => Err(Pause::Refused(ReplyError::Poisoned)),
            Admission::Closed => Err(Pause::Refused(ReplyError::ShuttingDown)),
        }
    }

    fn refuse_for_disk(&mut self, why: ReplyError<'static>) -> Pause {
        self.counters.refused_disk_full += u64::from(why == ReplyError::NoSpace);
        Pause::Refused(why)
    }

    /// Writes that need what the disk does not take are refused from now on, those that wait for it first.
    pub(super) fn refuse_for(
        &mut self,
        shortage: Shortage,
        why: ReplyError<'static>,
        now_ns: u64,
        fx: &mut impl Effects,
    ) {
        match shortage {
            Shortage::Segment => self.no_segment = Some(why),
            Shortage::Tables => self.no_tables = Some(why),
        }
        self.retry_stalled(now_ns, fx);
    }

    fn delete_range(&mut self, scope: DeleteScope<'_>, delete: RangeDelete, lsn: Lsn) {
        match scope {
            DeleteScope::TimeRange { .. } => {}
            DeleteScope::Series { series } => {
                let hash = series_hash(series);
                self.values.forget(hash, SlotClass::Metadata);
                self.values.forget(hash, SlotClass::Timeless);
            }
            DeleteScope::Prefix { .. } | DeleteScope::All => self.values.begin_epoch(),
        }
        self.memory.active.delete_range(delete, lsn);
    }

    fn insert(&mut self, series: &[u8], slot: Slot, seqno: Seqno, op: EntryOp<'_>, lsn: Lsn) {
        let class = slot.class();
        if class != SlotClass::Time && !planted(Bug::RememberForEver) {
            self.values.forget(series_hash(series), class);
        }
        let replace_older = self.snapshots.is_empty();
        self.memory.active.insert(series, slot, seqno, op, lsn, replace_older);
        self.counters.entries_written += 1;
    }

    fn take_seqno(&mut self) -> Seqno {
        let seqno = self.next_seqno;
        self.next_seqno = Seqno(seqno.0 + 1);
        seqno
    }

    /// The end of a turn: whatever has become due.
    pub(super) fn maintain(&mut self, now_ns: u64, fx: &mut impl Effects) {
        self.freeze_if_due(now_ns);
        self.flush_frozen(fx);
        self.report_frozen(fx);
        if self.log.wants_segment() && !self.segment_requested && !self.closing {
            self.segment_requested = true;
            fx.request(ShardRequest::Segment);
        }
        self.sync_if_due(now_ns);
        self.report_horizon(now_ns, fx);
    }

    fn freeze_if_due(&mut self, now_ns: u64) {
        if self.memory.active.is_empty() {
            self.active_since_ns = None;
            return;
        }
        let since = *self.active_since_ns.get_or_insert(now_ns);
        let asked = self.freeze_waiters.iter().any(|(through, _)| *through >= self.memory.active.id());
        let full = self.memory.active.bytes() >= self.options.memtable_bytes;
        let old = now_ns.saturating_sub(since) >= self.options.memtable_age_ns;
        let pins = self.log.live_segments().count() > MEMTABLE_SEGMENTS_MAX && self.memory.frozen.is_empty();
        if self.memory.frozen.len() >= MEMTABLES_FROZEN_MAX {
            return;
        }
        if old {
            // The open segment's first seqno would hold back what merges may forget.
            self.log.rotate();
        }
        if full || old || pins || asked {
            self.freeze();
        }
    }

    /// Makes the active memtable read-only and starts a new one, if the queue of frozen ones has room.
    pub(super) fn freeze(&mut self) -> bool {
        if self.memory.active.is_empty() || self.memory.frozen.len() >= MEMTABLES_FROZEN_MAX {
            return false;
        }
        let id = self.memory.active.id();
        let frozen = Arc::new(mem::replace(&mut self.memory.active, Memtable::new(id + 1)));
        self.parking.captures_mut().for_each(|capture| capture.active_was_frozen(id, &frozen));
        self.memory.frozen.push_back(Frozen { memtable: frozen, flushing: false });
        self.active_since_ns = None;
        self.counters.freezes += 1;
        // Tables must not run ahead of the log: a power cut would leave a hole in the stream.
        self.log.request_sync();
        true
    }

    /// Hands frozen memtables to a flush, oldest first, once the log is durable through their last write.
    fn flush_frozen(&mut self, fx: &mut impl Effects) {
        let synced = self.log.synced();
        for frozen in &mut self.memory.frozen {
            if frozen.memtable.lsn_max() > synced {
                break;
            }
            if frozen.flushing {
                continue;
            }
            // A segment that is closed but not yet durable to its end could not be retired with this flush, and on an
            // idle shard with no other one.
            let open = self.log.open_segment();
            let lsn_max = frozen.memtable.lsn_max();
            let is_closing = |segment: &SegmentLife| {
                !segment.finished && Some(segment.seq) != open && segment.last_lsn <= lsn_max
            };
            if self.log.live_segments().any(|segment| is_closing(&segment)) {
                break;
            }
            frozen.flushing = true;
            let memtable = Arc::clone(&frozen.memtable);
            let unneeded = |segment: &SegmentLife| segment.finished && segment.last_lsn <= lsn_max;
            let live = self.log.live_segments().filter(unneeded).map(|segment| segment.seq);
            let releases: Vec<_> = live.filter(|seq| !self.releasing.contains(seq)).collect();
            self.releasing.extend(&releases);
            // All of it, also what has been handed over since: this shard's log holds it.
            fx.request(ShardRequest::Flush { memtable, keys: KeyRange::all(), releases });
        }
    }

    fn sync_if_due(&mut self, now_ns: u64) {
        let SyncPolicy::IntervalMs(interval) = self.options.sync else { return };
        if self.log.synced() >= self.log.staged() {
            self.sync_deadline_ns = None;
            return;
        }
        let deadline = *self
            .sync_deadline_ns
            .get_or_insert(now_ns.saturating_add(u64::from(interval.get()) * 1_000_000));
        if now_ns >= deadline {
            self.log.request_sync();
            self.sync_deadline_ns = None;
        }
    }

    /// The lowest seqno that can still come back from this shard, or that an open snapshot sees.
    pub(super) fn horizon(&self) -> Seqno {
        let segments = self.log.live_segments().filter_map(|segment| segment.first_seqno);
        let frozen = self.memory.frozen.iter().filter_map(|frozen| frozen.memtable.seqno_min());
        let active = self.memory.active.seqno_min();
        let snapshot = self.snapshots.first_key_value().map(|(seqno, _)| *seqno);
        segments
            .chain(frozen)
            .chain(active)
            .chain(snapshot)
            .chain([self.next_seqno])
            .min()
            .unwrap_or_default()
    }

    fn report_horizon(&mut self, now_ns: u64, fx: &mut impl Effects) {
        if now_ns < self.horizon_due_ns {
            return;
        }
        let horizon = self.horizon();
        if horizon != self.horizon_reported {
            self.horizon_reported = horizon;
            self.horizon_due_ns = now_ns + HORIZON_INTERVAL_NS;
            fx.request(ShardRequest::Horizon(horizon));
        }
    }

    /// Answers requests to freeze once everything that was in memory has been sent for flushing.
    fn report_frozen(&mut self, fx: &mut impl Effects) {
        while let Some((through, ticket)) = self.freeze_waiters.front().copied() {
            let waits = |frozen: &Frozen| frozen.memtable.id() <= through && !frozen.flushing;
            let active_waits = self.memory.active.id() <= through && !self.memory.active.is_empty();
            if active_waits || self.memory.frozen.iter().any(waits) {
                if !self.log.poisoned() {
                    return;
                }
                // What the log does not hold for certain is never written to tables.
                self.freeze_waiters.pop_front();
                fx.request(ShardRequest::FreezeFailed { ticket });
                continue;
            }
            self.freeze_waiters.pop_front();
            fx.request(ShardRequest::Frozen { ticket });
        }
    }
}

fn record_of<'a>(series: &'a [u8], slot: Slot, op: EntryOp<'a>) -> Record<'a> {
    match op {
        EntryOp::Put(value) => Record::Put { series, slot, value },
        EntryOp::Delete => Record::DeleteSlot { series, slot },
    }
}
