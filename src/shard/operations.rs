//! The life of an operation: it starts, runs in steps, waits, is resumed, and ends with its reply.

use super::effect::{Effects, ReadId, ShardRequest};
use super::hot_series::{bytes_answered, bytes_of, bytes_written};
use super::load_sample::units_of;
use super::park::{Hold, ParkId, ParkState, Parked, Queued, has_several_series};
use super::{Pause, Shard, Task};
use crate::model::{Command, Lsn, OperationId, Reply, ReplyError};
use crate::storage::sstable::TableError;
use crate::storage::version::Table;
use crate::teeth::{Bug, planted};
use std::sync::Arc;

/// A write that finds no room in log or memory waits this long before it is refused with BUSY.
pub(super) const STALL_NS_MAX: u64 = 5_000_000_000;
/// A scan whose client takes no chunk for this long is ended: it keeps memtables and tables alive.
pub(super) const CREDIT_NS_MAX: u64 = 600_000_000_000;

impl Shard {
    pub(super) fn execute(
        &mut self,
        now_ns: u64,
        operation: OperationId,
        command: &Command<'_>,
        reply_bytes_max: usize,
        fx: &mut impl Effects,
    ) {
        let is_owned = command.key().is_none_or(|key| self.keys.contains(key));
        assert!(is_owned || planted(Bug::RouteWithoutFence), "a command of a key that another shard owns");
        self.counters.operations += 1;
        let is_within_rate = self.rate_limit.as_mut().is_none_or(|limit| limit.admits(now_ns, command));
        if !is_within_rate {
            self.counters.refused_series_rate += 1;
            let per_second = self.options.series_rate_limit.unwrap_or_default();
            return fx.reply(operation, Reply::Error(ReplyError::SeriesRate { per_second }), Lsn(0));
        }
        self.note_load(command);
        if self.parking.must_queue(command) {
            if self.parking.has_room() {
                let queued = Queued { operation, command: command.to_stored(), reply_bytes_max, credit: 0 };
                self.parking.queue(command, queued);
            } else {
                fx.reply(operation, Reply::Error(ReplyError::Busy), Lsn(0));
            }
            return;
        }
        self.start(now_ns, operation, command, reply_bytes_max, fx);
    }

    fn note_load(&mut self, command: &Command<'_>) {
        if let Command::PutBatch { entries } = command {
            return entries.iter().for_each(|entry| {
                let bytes = bytes_of(&entry.value);
                self.load.note(entry.series, 1 + units_of(bytes));
                self.hot.note(entry.series, bytes);
            });
        }
        if let Some(key) = command.key() {
            let bytes = bytes_written(command);
            self.load.note(key, 1 + units_of(bytes));
            self.hot.note(key, bytes);
        }
    }

    pub(super) fn start(
        &mut self,
        now_ns: u64,
        operation: OperationId,
        command: &Command<'_>,
        reply_bytes_max: usize,
        fx: &mut impl Effects,
    ) {
        let mut task = Task { reply_bytes_max, ..Task::default() };
        let Err(pause) = self.step(operation, command, &mut task, fx) else { return self.finish(task) };
        if let Some(error) = self.final_error(&pause) {
            self.finish(task);
            fx.reply(operation, Reply::Error(error.borrow()), self.gate_of_error(&error, command));
            return;
        }
        if !self.parking.has_room() {
            self.finish(task);
            fx.reply(operation, Reply::Error(ReplyError::Busy), Lsn(0));
            return;
        }
        if !writes(command) && task.capture.is_none() {
            task.capture = Some(self.capture());
        }
        let hold = hold_of(command);
        let state = ParkState::Runnable;
        let parked = Parked { operation, command: command.to_stored(), task, reads_waiting: 0, state };
        let id = self.parking.park(parked, hold);
        self.wait_for(now_ns, id, pause, fx);
    }

    /// One step of a command, from the beginning or from where its task stands.
    pub(super) fn step(
        &mut self,
        operation: OperationId,
        command: &Command<'_>,
        task: &mut Task,
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        let mut metered = Metered { fx, bytes: 0, scanned: None };
        let outcome = self.run(operation, command, task, &mut metered);
        let Metered { bytes, scanned, .. } = metered;
        if let Some(series) = command.key().filter(|_| bytes > 0) {
            self.load.note(series, units_of(bytes));
            self.hot.note_answered(series, bytes);
        } else if let Some(series) = scanned {
            self.load.note(&series, units_of(bytes));
        }
        outcome
    }

    fn run(
        &mut self,
        operation: OperationId,
        command: &Command<'_>,
        task: &mut Task,
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        if self.log.poisoned()
            && self.depends_on(command.key()) > self.log.acked()
            && (writes(command) || !self.looks_back(command.key(), task))
        {
            // What it would show may never become durable: its reply would wait for ever.
            return Err(Pause::Refused(ReplyError::Poisoned));
        }
        if let Some(failure) = task.read_failure.take() {
            let source = std::io::Error::other(failure);
            return Err(Pause::Table(TableError::Read { file: "tables".into(), offset: 0, source }));
        }
        match command {
            Command::Put { .. }
            | Command::PutBatch { .. }
            | Command::Delete { .. }
            | Command::DeleteSlot { .. } => self.write_unconditionally(operation, task, command, fx),
            Command::GetAt { series, time } => self.get_at(operation, task, series, *time, fx),
            Command::GetNewest { series } => self.get_newest(operation, task, series, fx),
            Command::Scan(request) => self.scan(operation, task, request, fx),
            Command::StringSet { key, value, condition, return_old } => {
                self.string_set(operation, task, key, value, (*condition, *return_old), fx)
            }
            Command::StringGet { key } => self.string_get(operation, task, key, fx),
            Command::StringGetAny { key } => self.string_get_any(operation, task, key, fx),
            Command::StringLength { key } => self.string_length(operation, task, key, fx),
            Command::KeyExists { key } => self.key_exists(operation, task, key, fx),
            Command::KeyDelete { key } => self.key_delete(operation, task, key, fx),
            Command::KeyType { key } => self.key_type(operation, task, key, fx),
            Command::KeyCount => self.key_count(operation, task, fx),
            Command::KeyPage { from, count } => self.key_page(operation, task, from, *count, fx),
            Command::SeriesCreate { key, options } => self.series_create(operation, task, key, options, fx),
            Command::SeriesAlter { key, changes } => self.series_alter(operation, task, key, changes, fx),
            Command::SeriesAdd { key, time, value, on_duplicate, create } => {
                self.series_add(operation, task, key, *time, *value, *on_duplicate, create.as_ref(), fx)
            }
            Command::SeriesGet { key } => self.series_get(operation, task, key, fx),
            Command::SeriesRange { key, query } => self.series_range(operation, task, key, query, fx),
            Command::SeriesDelete { key, from, to } => {
                self.series_delete(operation, task, key, (*from, *to), fx)
            }
            Command::SeriesInfo { key, details } => self.series_info(operation, task, key, *details, fx),
        }
    }

    /// Runs a parked operation again.
    pub(super) fn resume(&mut self, now_ns: u64, id: ParkId, fx: &mut impl Effects) {
        let Some(mut parked) = self.parking.take(id) else { return };
        let command = parked.command.borrow();
        let outcome = self.step(parked.operation, &command, &mut parked.task, fx);
        match outcome {
            Ok(()) => {}
            Err(pause) => {
                let Some(error) = self.final_error(&pause) else {
                    drop(command);
                    self.parking.put_back(id, parked);
                    return self.wait_for(now_ns, id, pause, fx);
                };
                let gate = self.gate_of_error(&error, &command);
                fx.reply(parked.operation, Reply::Error(error.borrow()), gate);
            }
        }
        drop(command);
        self.finish(parked.task);
        self.release(now_ns, &parked.command.borrow(), fx);
    }

    /// Starts what a parked operation waits for.
    pub(super) fn wait_for(&mut self, now_ns: u64, id: ParkId, pause: Pause, fx: &mut impl Effects) {
        let Some(parked) = self.parking.get_mut(id) else { return };
        match pause {
            Pause::Need(blocks) => {
                parked.state = ParkState::Reading;
                parked.reads_waiting = 0;
                for block in blocks {
                    parked.reads_waiting += 1;
                    let key = (block.table.meta.id, block.index);
                    if let Some(read) = self.flights.join(key, id) {
                        self.counters.blocks_read += 1;
                        fx.read_block(read, &block.table, block.index);
                        self.flights.started(key, block);
                    }
                }
                assert!(parked.reads_waiting > 0, "a step that needs blocks names them");
            }
            Pause::Yield => {
                parked.state = ParkState::Runnable;
                self.runnable.push_back(id);
            }
            Pause::Credit => {
                let deadline_ns = now_ns.saturating_add(CREDIT_NS_MAX);
                parked.state = ParkState::Credit { deadline_ns };
                self.awaiting_credit.push_back((deadline_ns, id));
            }
            Pause::Stall => {
                if !matches!(parked.state, ParkState::Stalled { .. }) {
                    self.counters.stalls += 1;
                    parked.state = ParkState::Stalled { deadline_ns: now_ns.saturating_add(STALL_NS_MAX) };
                    self.stalled.push_back(id);
                }
            }
            Pause::Refused(_) | Pause::Table(_) => unreachable!("final errors are replied, not waited for"),
        }
    }

    /// The error that ends an operation, if the pause is one.
    fn final_error(&self, pause: &Pause) -> Option<FinalError> {
        match pause {
            Pause::Refused(error) => Some(FinalError::Refused(*error)),
            Pause::Table(error) => {
                let detail = error.to_string();
                log::error!("a read failed: {detail}");
                Some(FinalError::Read(detail))
            }
            Pause::Need(_) | Pause::Yield | Pause::Credit | Pause::Stall => None,
        }
    }

    pub(super) fn run_slice(&mut self, now_ns: u64, fx: &mut impl Effects) {
        if let Some(id) = self.runnable.pop_front() {
            self.resume(now_ns, id, fx);
        }
    }

    /// Lets go of what a finished operation kept.
    pub(super) fn finish(&mut self, task: Task) {
        if let Some(capture) = task.capture
            && let Some(count) = self.snapshots.get_mut(&capture.snapshot)
        {
            *count -= 1;
            if *count == 0 {
                self.snapshots.remove(&capture.snapshot);
            }
        }
    }

    /// Ends the hold of a finished operation and runs what queued behind it.
    pub(super) fn release(&mut self, now_ns: u64, finished: &Command<'_>, fx: &mut impl Effects) {
        match hold_of(finished) {
            Hold::Nothing => {}
            Hold::Everything => self.parking.release_everything(),
            Hold::Series(series) => {
                while let Some(queued) = self.parking.next_behind(series) {
                    let (before, command) = (self.parking.count(), queued.command.borrow());
                    self.start(now_ns, queued.operation, &command, queued.reply_bytes_max, fx);
                    if self.parking.count() > before && writes(&command) {
                        return;
                    }
                }
            }
        }
        self.run_barrier(now_ns, fx);
    }

    /// Runs what waited for ranges to be free, as far as they are.
    pub(super) fn run_barrier(&mut self, now_ns: u64, fx: &mut impl Effects) {
        while let Some(queued) = self.parking.next_of_barrier() {
            self.start(now_ns, queued.operation, &queued.command.borrow(), queued.reply_bytes_max, fx);
            if queued.credit > 0 {
                self.add_credit(queued.operation, queued.credit);
            }
        }
    }

    pub(super) fn retry_stalled(&mut self, now_ns: u64, fx: &mut impl Effects) {
        self.retrying = true;
        self.retry_stalled_in_order(now_ns, fx);
        self.retrying = false;
    }

    pub(super) fn retry_stalled_in_order(&mut self, now_ns: u64, fx: &mut impl Effects) {
        for _ in 0..self.stalled.len() {
            let Some(id) = self.stalled.front().copied() else { return };
            self.resume(now_ns, id, fx);
            let still_stalled = self
                .parking
                .get_mut(id)
                .is_some_and(|parked| matches!(parked.state, ParkState::Stalled { .. }));
            if still_stalled {
                return;
            }
            self.stalled.pop_front();
        }
    }

    pub(super) fn expire_stalled(&mut self, now_ns: u64, fx: &mut impl Effects) {
        while let Some(id) = self.stalled.front().copied() {
            let expired = match self.parking.get_mut(id).map(|parked| parked.state) {
                Some(ParkState::Stalled { deadline_ns }) => deadline_ns <= now_ns,
                Some(ParkState::Reading | ParkState::Runnable | ParkState::Credit { .. }) | None => true,
            };
            if !expired {
                return;
            }
            self.stalled.pop_front();
            let Some(parked) = self.parking.take(id) else { continue };
            fx.reply(parked.operation, Reply::Error(ReplyError::Busy), Lsn(0));
            self.finish(parked.task);
            self.release(now_ns, &parked.command.borrow(), fx);
        }
    }

    /// Ends scans whose client takes nothing.
    pub(super) fn expire_scans(&mut self, now_ns: u64, fx: &mut impl Effects) {
        while let Some((deadline_ns, id)) = self.awaiting_credit.front().copied()
            && deadline_ns <= now_ns
        {
            self.awaiting_credit.pop_front();
            let still_waits = |parked: &Parked| parked.state == ParkState::Credit { deadline_ns };
            if !self.parking.get(id).is_some_and(still_waits) {
                continue;
            }
            let Some(parked) = self.parking.take(id) else { continue };
            let seconds = usize::try_from(CREDIT_NS_MAX / 1_000_000_000).unwrap_or(usize::MAX);
            let error = ReplyError::Limit { what: "the scan's wait for credit, in seconds,", max: seconds };
            fx.reply(parked.operation, Reply::Error(error), Lsn(0));
            self.finish(parked.task);
            self.release(now_ns, &parked.command.borrow(), fx);
        }
    }

    pub(super) fn cancel(&mut self, now_ns: u64, operation: OperationId, fx: &mut impl Effects) {
        let is_scan = |queued: &mut Queued| matches!(queued.command.borrow(), Command::Scan(_));
        if self.parking.queued_mut(operation).is_some_and(is_scan) {
            self.parking.take_queued(operation);
            fx.reply(operation, Reply::ScanChunk { entries: &[], last: true }, Lsn(0));
            return self.run_barrier(now_ns, fx);
        }
        let only_reads = |parked: &Parked| !writes(&parked.command.borrow());
        let found =
            self.parking.place_of(operation).filter(|id| self.parking.get(*id).is_some_and(only_reads));
        let queued = if found.is_none() { self.parking.remove_queued(operation) } else { None };
        if queued.is_some_and(|queued| matches!(queued.command.borrow(), Command::Scan(_))) {
            fx.reply(operation, Reply::ScanChunk { entries: &[], last: true }, Lsn(0));
            self.run_barrier(now_ns, fx);
        }
        // Block reads that fly for it end in their flight; it is no longer among the waiting.
        if let Some(parked) = found.and_then(|id| self.parking.take(id)) {
            // Whoever asked counts on a last chunk, or waits for nothing else.
            if let Command::Scan(_) = parked.command.borrow() {
                fx.reply(operation, Reply::ScanChunk { entries: &[], last: true }, Lsn(0));
            }
            self.finish(parked.task);
            self.release(now_ns, &parked.command.borrow(), fx);
        }
    }

    /// The log position that an error depends on; that the log has failed is true at once.
    fn gate_of_error(&self, error: &FinalError, command: &Command<'_>) -> Lsn {
        match error {
            FinalError::Refused(ReplyError::Poisoned) => Lsn(0),
            FinalError::Refused(_) | FinalError::Read(_) => self.gate_of(command),
        }
    }
}

/// Passes effects on, and counts the bytes of the values that are answered.
struct Metered<'a, F> {
    fx: &'a mut F,
    bytes: usize,
    /// A series of a long answer about several: it stands for them.
    scanned: Option<Box<[u8]>>,
}

impl<F: Effects> Effects for Metered<'_, F> {
    fn reply(&mut self, operation: OperationId, reply: Reply<'_>, gate: Lsn) {
        let bytes = bytes_answered(&reply);
        self.bytes += bytes;
        if let Reply::ScanChunk { entries, .. } = &reply
            && units_of(bytes) > 0
        {
            self.scanned = entries.get(entries.len() / 2).map(|(series, ..)| Box::from(*series));
        }
        self.fx.reply(operation, reply, gate);
    }
    fn read_block(&mut self, read: ReadId, table: &Arc<Table>, block: usize) {
        self.fx.read_block(read, table, block);
    }
    fn request(&mut self, request: ShardRequest) {
        self.fx.request(request);
    }
}

/// An error on its way to the client.
enum FinalError {
    Refused(ReplyError<'static>),
    Read(String),
}

impl FinalError {
    fn borrow(&self) -> ReplyError<'_> {
        match self {
            Self::Refused(error) => *error,
            Self::Read(detail) => ReplyError::Read { detail },
        }
    }
}

/// What a command holds while it waits.
fn hold_of<'a>(command: &'a Command<'_>) -> Hold<'a> {
    match (writes(command), command.key()) {
        (false, _) => Hold::Nothing,
        // A batch that waits would else be overtaken on all its series but the first.
        (true, Some(_)) if has_several_series(command) => Hold::Everything,
        (true, None) => Hold::Everything,
        (true, Some(series)) => Hold::Series(series),
    }
}

/// Whether a command may write: it then holds its series while it waits.
fn writes(command: &Command<'_>) -> bool {
    match command {
        Command::Put { .. }
        | Command::PutBatch { .. }
        | Command::Delete { .. }
        | Command::DeleteSlot { .. }
        | Command::StringSet { .. }
        | Command::KeyDelete { .. }
        | Command::SeriesCreate { .. }
        | Command::SeriesAlter { .. }
        | Command::SeriesAdd { .. }
        | Command::SeriesDelete { .. } => true,
        Command::GetAt { .. }
        | Command::GetNewest { .. }
        | Command::Scan(_)
        | Command::StringGet { .. }
        | Command::StringGetAny { .. }
        | Command::StringLength { .. }
        | Command::KeyExists { .. }
        | Command::KeyType { .. }
        | Command::KeyCount
        | Command::KeyPage { .. }
        | Command::SeriesGet { .. }
        | Command::SeriesRange { .. }
        | Command::SeriesInfo { .. } => false,
    }
}
