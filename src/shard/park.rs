//! Operations that wait: for blocks, for credit, for their next slice, for room in the log, or behind another
//! operation on the same series.
//!
//! An operation that writes after it has read **holds** its series while it waits: whatever comes later for that
//! series queues behind it, so that nothing overtakes. Operations on ranges wait until nothing is held, and what
//! comes later waits behind them. Reads hold nothing: they capture a snapshot.

use super::read::Capture;
use crate::limits::{PARKED_BYTES_MAX, PARKED_OPERATIONS_MAX};
use crate::model::{Command, KeyRange, OperationId, StoredCommand};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// Names a parked operation within its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ParkId(u64);

/// What one operation has got done so far.
pub(crate) struct Parked {
    /// Whose it is.
    pub(crate) operation: OperationId,
    /// What it does.
    pub(crate) command: StoredCommand,
    /// Its progress.
    pub(crate) task: super::Task,
    /// Block reads that it waits for.
    pub(crate) reads_waiting: usize,
    /// Why it waits.
    pub(crate) state: ParkState,
}

/// Why an operation waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParkState {
    /// For blocks.
    Reading,
    /// For its turn to run another slice.
    Runnable,
    /// For the client to take more of a scan; ended after this time of the monotonic clock, since it keeps memory.
    Credit { deadline_ns: u64 },
    /// For room in the log or the memtable; refused after this time of the monotonic clock.
    Stalled { deadline_ns: u64 },
}

/// What nothing may overtake while an operation waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold<'a> {
    /// It only reads.
    Nothing,
    /// It may write this series.
    Series(&'a [u8]),
    /// It writes a range of series.
    Everything,
}

/// A command that came while its series was held.
pub(crate) struct Queued {
    pub(crate) operation: OperationId,
    pub(crate) command: StoredCommand,
    pub(crate) reply_bytes_max: usize,
    /// Of a scan: chunks that the client takes, as far as it has said so.
    pub(crate) credit: u32,
}

/// All waiting operations of a shard.
#[derive(Default)]
pub(crate) struct Parking {
    parked: BTreeMap<ParkId, Parked>,
    /// Where each of them is: a client says often that it takes more of a scan, and thousands may wait.
    places: BTreeMap<OperationId, ParkId>,
    next: u64,
    /// Held series, and what queues behind each.
    holds: BTreeMap<Box<[u8]>, VecDeque<Queued>>,
    /// Writes on ranges that wait: everything queues behind them.
    range_holds: usize,
    /// Operations on ranges that wait until nothing is held, and all that came after the first of them.
    barrier: VecDeque<Queued>,
    queued: usize,
    /// Bytes of all their commands.
    bytes: usize,
}

impl Parking {
    /// Whether another operation may wait here.
    pub(crate) fn has_room(&self) -> bool {
        self.count() < PARKED_OPERATIONS_MAX && self.bytes < PARKED_BYTES_MAX
    }
    /// Operations that wait.
    pub(crate) fn count(&self) -> usize {
        self.parked.len() + self.queued
    }
    /// Whether a command has to queue behind others.
    pub(crate) fn must_queue(&self, command: &Command<'_>) -> bool {
        if self.holds.is_empty() && self.barrier.is_empty() && self.range_holds == 0 {
            return false;
        }
        !self.barrier.is_empty() || self.range_holds > 0 || self.is_held(command)
    }
    /// Queues a command for which [`Parking::must_queue`] was true.
    pub(crate) fn queue(&mut self, command: &Command<'_>, queued: Queued) {
        self.queued += 1;
        self.bytes += queued.command.bytes();
        let to_series = self.barrier.is_empty() && self.range_holds == 0;
        let key = command.key().filter(|_| to_series && !has_several_series(command));
        match key.and_then(|key| self.holds.get_mut(key)) {
            Some(queue) => queue.push_back(queued),
            None => self.barrier.push_back(queued),
        }
    }
    /// Whether something that a command touches is held.
    fn is_held(&self, command: &Command<'_>) -> bool {
        if let Command::PutBatch { entries } = command {
            return entries.iter().any(|entry| self.holds.contains_key(entry.series));
        }
        match command.key() {
            Some(key) => self.holds.contains_key(key),
            None => !self.holds.is_empty(),
        }
    }
    /// Parks an operation.
    pub(crate) fn park(&mut self, parked: Parked, hold: Hold<'_>) -> ParkId {
        let id = ParkId(self.next);
        self.next += 1;
        self.put_back(id, parked);
        match hold {
            Hold::Nothing => {}
            Hold::Everything => self.range_holds += 1,
            Hold::Series(series) if self.holds.contains_key(series) => {}
            Hold::Series(series) => {
                self.holds.insert(series.into(), VecDeque::new());
            }
        }
        id
    }
    /// Ends the hold of a write on a range.
    pub(crate) fn release_everything(&mut self) {
        self.range_holds -= 1;
    }
    /// Puts an operation back that ran another step.
    pub(crate) fn put_back(&mut self, id: ParkId, parked: Parked) {
        self.bytes += parked.command.bytes();
        self.places.insert(parked.operation, id);
        self.parked.insert(id, parked);
    }
    /// The operation, to run it.
    pub(crate) fn take(&mut self, id: ParkId) -> Option<Parked> {
        let parked = self.parked.remove(&id)?;
        self.places.remove(&parked.operation);
        self.bytes -= parked.command.bytes();
        Some(parked)
    }
    /// Where an operation is parked.
    pub(crate) fn place_of(&self, operation: OperationId) -> Option<ParkId> {
        self.places.get(&operation).copied()
    }
    /// Looks at an operation.
    pub(crate) fn get(&self, id: ParkId) -> Option<&Parked> {
        self.parked.get(&id)
    }
    /// Changes an operation's state.
    pub(crate) fn get_mut(&mut self, id: ParkId) -> Option<&mut Parked> {
        self.parked.get_mut(&id)
    }
    /// An operation on a range that has not begun.
    pub(crate) fn queued_mut(&mut self, operation: OperationId) -> Option<&mut Queued> {
        self.barrier.iter_mut().find(|queued| queued.operation == operation)
    }
    /// Whether something that waits here may still touch one of these keys; reads that have begun see what they captured.
    pub(crate) fn may_touch(&self, keys: &KeyRange) -> bool {
        let mut held = self.holds.range::<[u8], _>((Bound::Included(&*keys.start), Bound::Unbounded));
        let is_held = held.next().is_some_and(|(series, _)| keys.contains(series));
        self.has_ranges() || is_held
    }
    /// Whether operations on ranges wait that have not begun, or that write.
    pub(crate) fn has_ranges(&self) -> bool {
        self.range_holds > 0 || !self.barrier.is_empty()
    }
    /// Forgets a command that has not been started.
    pub(crate) fn remove_queued(&mut self, operation: OperationId) -> Option<Queued> {
        if self.queued == 0 {
            return None;
        }
        let queues = self.holds.values_mut().chain([&mut self.barrier]);
        for queue in queues {
            if let Some(index) = queue.iter().position(|queued| queued.operation == operation) {
                let queued = queue.remove(index)?;
                self.queued -= 1;
                self.bytes -= queued.command.bytes();
                return Some(queued);
            }
        }
        None
    }
    /// The next command behind the holder of `series`; when none is left, the hold ends.
    pub(crate) fn next_behind(&mut self, series: &[u8]) -> Option<Queued> {
        let queue = self.holds.get_mut(series)?;
        let next = queue.pop_front();
        match &next {
            Some(queued) => {
                self.queued -= 1;
                self.bytes -= queued.command.bytes();
            }
            None => {
                self.holds.remove(series);
            }
        }
        next
    }
    /// The next command of the barrier, once nothing is held.
    pub(crate) fn next_of_barrier(&mut self) -> Option<Queued> {
        let is_free = |queued: &Queued| !self.is_held(&queued.command.borrow());
        let front_is_free = self.range_holds == 0 && self.barrier.front().is_some_and(is_free);
        let next = front_is_free.then(|| self.barrier.pop_front()).flatten();
        if let Some(queued) = &next {
            self.queued -= 1;
            self.bytes -= queued.command.bytes();
        }
        next
    }
    /// Takes an operation on a range that has not begun out of the queue.
    pub(crate) fn take_queued(&mut self, operation: OperationId) -> Option<Queued> {
        let index = self.barrier.iter().position(|queued| queued.operation == operation)?;
        let taken = self.barrier.remove(index);
        if let Some(queued) = &taken {
            self.queued -= 1;
            self.bytes -= queued.command.bytes();
        }
        taken
    }
    /// Captures of all waiting reads, for a freeze to fix up.
    pub(crate) fn captures_mut(&mut self) -> impl Iterator<Item = &mut Capture> {
        self.parked.values_mut().filter_map(|parked| parked.task.capture.as_mut())
    }
}

/// Whether a batch is of more than one series: it then waits until none of them is held.
pub(super) fn has_several_series(command: &Command<'_>) -> bool {
    let Command::PutBatch { entries } = command else { return false };
    entries.iter().skip(1).zip(entries).any(|(entry, before)| entry.series != before.series)
}
