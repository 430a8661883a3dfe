//! How a shard reads: the view of an operation, blocks at hand, block reads under way.

use super::block_cache::{BlockCache, BlockKey};
use super::effect::{Effects, ReadId};
use super::park::ParkId;
use super::value_cache::ValueCache;
use super::{Pause, Shard, Task};
use crate::limits::{MEMTABLES_BORROWED_MAX, MEMTABLES_FROZEN_MAX};
use crate::model::{KeyRange, OwnedValue, Seqno, Slot, SlotClass, Value};
use crate::storage::memtable::{Memtable, series_hash};
use crate::storage::read::{self, BlockRef, Blocks, NewestSearch, Step, View};
use crate::storage::sstable::{Block, TableError};
use crate::storage::version::{Table, Version};
use crate::teeth::{Bug, planted};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Memtables that one read looks at: the active one, and those that are frozen or borrowed.
const MEMTABLES_READ_MAX: usize = 1 + MEMTABLES_FROZEN_MAX + MEMTABLES_BORROWED_MAX;

/// What a waiting read sees: the shard as it was when the read first ran.
pub(crate) struct Capture {
    /// Later entries are not seen.
    pub(crate) snapshot: Seqno,
    /// Memtables that were frozen, or have been since.
    frozen: Vec<Arc<Memtable>>,
    /// The memtable that was active; still is, unless it is among the frozen.
    active: u64,
    version: Arc<Version>,
    /// The shard's keys then: a read that has begun goes on over what is handed over meanwhile.
    keys: Arc<KeyRange>,
}

impl Capture {
    /// The active memtable became read-only: keeps it.
    pub(crate) fn active_was_frozen(&mut self, id: u64, memtable: &Arc<Memtable>) {
        if self.active == id {
            self.frozen.push(Arc::clone(memtable));
        }
    }
}

/// Blocks that were read for one operation; it keeps them until it gets somewhere.
#[derive(Default)]
pub(crate) struct Pins(Vec<(BlockKey, Arc<Block>)>);

impl Pins {
    pub(crate) fn add(&mut self, key: BlockKey, block: Arc<Block>) {
        self.0.push((key, block));
    }
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Caches and pins as the storage layer sees them.
pub(crate) struct BlocksAtHand<'a> {
    cache: &'a mut BlockCache,
    pins: &'a Pins,
    /// Only for what reads the present: it knows no other time.
    values: Option<&'a mut ValueCache>,
}

impl Blocks for BlocksAtHand<'_> {
    fn block(&mut self, table: &Arc<Table>, index: usize) -> Option<Arc<Block>> {
        let key = (table.meta.id, index);
        let pinned = self.pins.0.iter().find(|(pinned, _)| *pinned == key);
        match pinned {
            Some((_, block)) => Some(Arc::clone(block)),
            None => self.cache.find(key),
        }
    }
    fn remembered(&mut self, hash: u64, series: &[u8], class: SlotClass) -> Option<(Seqno, &[u8])> {
        self.values.as_mut()?.find(hash, series, class)
    }
    fn remember(&mut self, hash: u64, series: &[u8], class: SlotClass, entry: (Seqno, &[u8])) {
        if let Some(values) = &mut self.values {
            values.keep(hash, series, class, entry);
        }
    }
}

/// Block reads under way: one flight per block, however many wait for it.
#[derive(Default)]
pub(crate) struct Flights {
    by_block: BTreeMap<BlockKey, (ReadId, Vec<ParkId>)>,
    by_read: BTreeMap<ReadId, BlockRef>,
    next: u64,
}

impl Flights {
    /// Waits for a block; the id of a new read when none is under way.
    pub(crate) fn join(&mut self, key: BlockKey, id: ParkId) -> Option<ReadId> {
        if let Some((_, waiting)) = self.by_block.get_mut(&key) {
            waiting.push(id);
            return None;
        }
        let read = ReadId(self.next);
        self.next += 1;
        self.by_block.insert(key, (read, vec![id]));
        Some(read)
    }
    /// Remembers what a new read is of.
    pub(crate) fn started(&mut self, key: BlockKey, block: BlockRef) {
        if let Some((read, _)) = self.by_block.get(&key) {
            self.by_read.insert(*read, block);
        }
    }
    /// A read has ended: its block and who waits for it.
    fn land(&mut self, read: ReadId) -> Option<(BlockRef, Vec<ParkId>)> {
        let block = self.by_read.remove(&read)?;
        let (_, waiting) = self.by_block.remove(&(block.table.meta.id, block.index))?;
        Some((block, waiting))
    }
}

fn map_step<T, U>(step: Step<T>, map: impl FnOnce(T) -> U) -> Step<U> {
    match step {
        Step::Ready(value) => Step::Ready(map(value)),
        Step::Need(blocks) => Step::Need(blocks),
    }
}

impl Shard {
    /// What the shard holds at present, for an operation that will wait. `finish` gives the snapshot back.
    pub(super) fn capture(&mut self) -> Capture {
        self.capture_at(self.seqno())
    }

    /// The same as of an earlier seqno; entries beyond it must not have replaced older ones that are wanted.
    fn capture_at(&mut self, snapshot: Seqno) -> Capture {
        *self.snapshots.entry(snapshot).or_default() += 1;
        Capture {
            snapshot,
            frozen: self.memory.read_only().cloned().collect(),
            active: self.memory.active.id(),
            version: Arc::clone(&self.memory.version),
            keys: Arc::clone(&self.keys),
        }
    }

    /// After the log has failed: lets a read see what was acknowledged, and nothing beyond. `false` where that is not
    /// known any more, since the lost writes took the place of what they replaced.
    pub(super) fn looks_back(&mut self, series: Option<&[u8]>, task: &mut Task) -> bool {
        let frozen = self.memory.frozen.iter().map(|frozen| &*frozen.memtable);
        let gates = frozen.chain([&self.memory.active]).map(|memtable| memtable.entry_gate(series));
        if gates.max().is_some_and(|gate| gate > self.log.acked()) {
            return false;
        }
        let Some(seqno) = self.log.written_seqno() else { return false };
        if seqno < self.taken_over {
            // Keys were handed over with seqnos that this log has not reached: what is durable of them lies above it.
            return false;
        }
        match &task.capture {
            Some(capture) => capture.snapshot <= seqno,
            None => {
                task.capture = Some(self.capture_at(seqno));
                true
            }
        }
    }

    /// Runs one storage call on what the task sees.
    pub(super) fn with_view<T>(
        &mut self,
        task: &Task,
        call: impl FnOnce(&View<'_>, &mut BlocksAtHand<'_>) -> Result<Step<T>, TableError>,
    ) -> Result<T, Pause> {
        let mut memtables: [&Memtable; MEMTABLES_READ_MAX] = [&self.memory.active; MEMTABLES_READ_MAX];
        let mut many = Vec::new();
        let (memtables, version, snapshot, keys) = match &task.capture {
            None => {
                let frozen = self.memory.read_only().map(|memtable| &**memtable);
                let places = memtables.iter_mut().skip(1);
                let count = 1 + places.zip(frozen).map(|(place, memtable)| *place = memtable).count();
                (memtables.get(..count).unwrap_or_default(), &*self.memory.version, Seqno::MAX, &*self.keys)
            }
            Some(capture) => {
                many.extend(capture.frozen.iter().map(|memtable| &**memtable));
                if self.memory.active.id() == capture.active {
                    many.push(&self.memory.active);
                }
                (&*many, &*capture.version, capture.snapshot, &*capture.keys)
            }
        };
        let everywhere;
        let keys = if planted(Bug::ReadOutsideClip) {
            everywhere = KeyRange::all();
            &everywhere
        } else {
            keys
        };
        let view = View { memtables, version, snapshot, keys };
        let values = task.capture.is_none().then_some(&mut self.values);
        let mut blocks = BlocksAtHand { cache: &mut self.cache, pins: &task.pins, values };
        match call(&view, &mut blocks) {
            Ok(Step::Ready(found)) => Ok(found),
            Ok(Step::Need(blocks)) => Err(Pause::Need(blocks)),
            Err(error) => Err(Pause::Table(error)),
        }
    }

    /// Whether memory or tables may hold entries of one of the classes: `false` is certain. Costs no read.
    pub(super) fn may_hold(&mut self, series: &[u8], classes: &[SlotClass]) -> bool {
        let hash = series_hash(series);
        let frozen = self.memory.read_only().map(|memtable| &**memtable);
        let mut memtables = frozen.chain([&self.memory.active]);
        if memtables.any(|memtable| memtable.holds(hash, series, classes)) {
            return true;
        }
        for class in classes {
            for table in self.memory.version.tables_of(*class) {
                if table.may_contain(series, *class) {
                    return true;
                }
                self.counters.bloom_negative += 1;
            }
        }
        false
    }
    /// Passes the visible value of one slot to `take` without copying it.
    pub(super) fn find_with<T>(
        &mut self,
        task: &Task,
        series: &[u8],
        slot: Slot,
        take: impl FnOnce(Option<Value<'_>>) -> T,
    ) -> Result<T, Pause> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let taken = self.with_view(task, |view, blocks| {
            let step = read::find_slot(view, series, slot, blocks, &mut scratch)?;
            Ok(map_step(step, |found| take(found.map(|found| found.value))))
        });
        self.scratch = scratch;
        taken
    }
    /// The visible value of one slot.
    pub(super) fn find(
        &mut self,
        task: &Task,
        series: &[u8],
        slot: Slot,
    ) -> Result<Option<OwnedValue>, Pause> {
        self.find_with(task, series, slot, |value| value.map(Value::into_owned))
    }
    /// The newest visible sample.
    pub(super) fn newest(
        &mut self,
        task: &mut Task,
        series: &[u8],
    ) -> Result<Option<(i64, OwnedValue)>, Pause> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut search = task.search;
        let found = self.with_view(task, |view, blocks| {
            let step = read::newest(view, series, &mut search, blocks, &mut scratch)?;
            Ok(map_step(step, |found| found.map(|found| (found.time, found.value.into_owned()))))
        });
        self.scratch = scratch;
        task.search = if found.is_ok() { NewestSearch::default() } else { search };
        found
    }
    /// The earliest time that the series keeps, if it has a retention and samples.
    pub(super) fn kept_from(&mut self, task: &Task, series: &[u8]) -> Result<Option<i64>, Pause> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let kept = self.with_view(task, |view, blocks| read::kept_from(view, series, blocks, &mut scratch));
        self.scratch = scratch;
        kept
    }
    /// Whether the series has a visible entry of the class.
    pub(super) fn class_exists(
        &mut self,
        task: &mut Task,
        series: &[u8],
        class: SlotClass,
    ) -> Result<bool, Pause> {
        if task.capture.is_none() && !self.may_hold(series, &[class]) {
            return Ok(false);
        }
        if class == SlotClass::Time {
            return Ok(self.newest(task, series)?.is_some());
        }
        self.find_with(task, series, class.slot(0), |value| value.is_some())
    }

    /// A block read has ended: hands the block to all that wait for it.
    pub(super) fn block_read(
        &mut self,
        now_ns: u64,
        read: ReadId,
        result: Result<Vec<u8>, String>,
        fx: &mut impl Effects,
    ) {
        let Some((block, waiting)) = self.flights.land(read) else { return };
        let key = (block.table.meta.id, block.index);
        let decoded = result.and_then(|bytes| {
            let name = block.table.meta.file_name();
            let handle = block.table.index.block(block.index);
            Block::decode(Path::new(&name), block.table.meta.id, handle, bytes)
                .map(Arc::new)
                .map_err(|error| error.to_string())
        });
        if let Ok(block) = &decoded {
            self.cache.insert(key, Arc::clone(block));
        }
        for id in waiting {
            let Some(parked) = self.parking.get_mut(id) else { continue };
            parked.reads_waiting -= 1;
            match &decoded {
                Ok(block) => parked.task.pins.add(key, Arc::clone(block)),
                Err(failure) => parked.task.read_failure = Some(failure.clone()),
            }
            if parked.reads_waiting == 0 {
                self.resume(now_ns, id, fx);
            }
        }
    }
}
