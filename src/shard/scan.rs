//! Streams of entries and pages of keys: reads that run slice by slice over a snapshot.

use super::aggregate::SeriesBuckets;
use super::effect::Effects;
use super::park::ParkState;
use super::{Pause, Progress, Shard, Task};
use crate::limits::{SCAN_CHUNK_BYTES, SCAN_SLICE_ENTRIES};
use crate::model::{EntryOp, KeyKind, KeyRange, OperationId, Reply, ScanAnswer, ScanRequest, SlotClass};
use crate::storage::read::{self, KeyPosition, ScanOutput, ScanPosition, ScanStatus};

/// A native scan on this shard.
#[derive(Default)]
pub(super) struct ScanTask {
    position: ScanPosition,
    /// What is to be sent: entries, or rows of buckets.
    gathered: ScanOutput,
    /// In a scan of buckets; made by its first slice.
    buckets: Option<SeriesBuckets>,
    /// Chunks that the client still takes.
    credit: u32,
    /// The position is at the end; what was gathered is still to be sent.
    is_done: bool,
}

/// A walk over live keys: a page of them, or a count of all.
pub(super) struct KeysTask {
    range: KeyRange,
    position: KeyPosition,
    keys: Vec<(Box<[u8]>, KeyKind)>,
    count: i64,
}

impl Shard {
    /// SCAN: sends a chunk whenever enough has gathered and the client takes it.
    pub(super) fn scan(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        request: &ScanRequest,
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        let mut scan = match std::mem::take(&mut task.progress) {
            Progress::Scan(scan) => scan,
            Progress::Start | Progress::Range(_) | Progress::Keys(_) => Box::default(),
        };
        let outcome = self.scan_slice(operation, task, &mut scan, request, fx);
        task.progress = Progress::Scan(scan);
        outcome
    }

    fn scan_slice(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        scan: &mut ScanTask,
        request: &ScanRequest,
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        if !scan.is_done && scan.gathered.bytes() < SCAN_CHUNK_BYTES {
            scan.is_done = self.scan_gather(task, scan, request)? == ScanStatus::Done;
        }
        if !scan.is_done && scan.gathered.bytes() < SCAN_CHUNK_BYTES {
            return Err(Pause::Yield);
        }
        let is_empty = scan.gathered.is_empty();
        if scan.credit == 0 && !is_empty {
            return Err(Pause::Credit);
        }
        let entries = entries_of(&scan.gathered);
        fx.reply(operation, Reply::ScanChunk { entries: &entries, last: scan.is_done }, self.gate_of_all());
        drop(entries);
        scan.credit = scan.credit.saturating_sub(u32::from(!is_empty));
        scan.gathered.clear();
        if scan.is_done { Ok(()) } else { Err(Pause::Yield) }
    }

    /// Gathers one slice.
    fn scan_gather(
        &mut self,
        task: &mut Task,
        scan: &mut ScanTask,
        request: &ScanRequest,
    ) -> Result<ScanStatus, Pause> {
        let ScanTask { position, gathered, buckets, .. } = scan;
        let mut samples = ScanOutput::default();
        let out = match request.answer {
            ScanAnswer::Entries | ScanAnswer::Newest => &mut *gathered,
            ScanAnswer::Buckets { .. } => &mut samples,
        };
        let status = self.with_view(task, |view, blocks| {
            read::scan_step(view, request, position, SCAN_SLICE_ENTRIES, blocks, out)
        })?;
        task.pins.clear();
        let ScanAnswer::Buckets { aggregator, grid } = request.answer else { return Ok(status) };
        let start = || SeriesBuckets::new(aggregator, grid, request.reverse, request.limit);
        let buckets = buckets.get_or_insert_with(start);
        for run in samples.runs() {
            buckets.take(&run, gathered).map_err(Pause::Refused)?;
        }
        if status == ScanStatus::Done {
            buckets.finish(gathered);
        }
        Ok(if buckets.is_full() { ScanStatus::Done } else { status })
    }

    /// The client takes more chunks.
    pub(super) fn add_credit(&mut self, operation: OperationId, chunks: u32) {
        if let Some(queued) = self.parking.queued_mut(operation) {
            // It has not begun; without this it would wait for ever for what the client has sent already.
            queued.credit = queued.credit.saturating_add(chunks);
            return;
        }
        let Some(id) = self.parking.place_of(operation) else { return };
        let Some(parked) = self.parking.get_mut(id) else { return };
        if let Progress::Scan(scan) = &mut parked.task.progress {
            scan.credit = scan.credit.saturating_add(chunks);
            if matches!(parked.state, ParkState::Credit { .. }) && chunks > 0 {
                parked.state = ParkState::Runnable;
                self.runnable.push_back(id);
            }
        }
    }

    /// A page of live keys.
    pub(super) fn key_page(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        from: &[u8],
        count: usize,
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        let mut walk = keys_task(task, from);
        let outcome = self.walk_keys(task, &mut walk, count);
        let reply = match &outcome {
            // All that this slice looked at was deleted. A page without keys would be taken for the shard's end.
            Ok(ScanStatus::More) if walk.keys.is_empty() => Err(Pause::Yield),
            Ok(status) => {
                let more = *status == ScanStatus::More;
                fx.reply(operation, Reply::Keys { keys: &walk.keys, more }, self.gate_of_all());
                Ok(())
            }
            Err(_) => outcome.map(|_| ()),
        };
        task.progress = Progress::Keys(walk);
        reply
    }

    /// How many live keys there are.
    pub(super) fn key_count(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        let mut walk = keys_task(task, &[]);
        let outcome = self.walk_keys(task, &mut walk, SCAN_SLICE_ENTRIES);
        walk.count += i64::try_from(walk.keys.len()).unwrap_or(i64::MAX);
        walk.keys.clear();
        let count = walk.count;
        task.progress = Progress::Keys(walk);
        match outcome? {
            ScanStatus::More => Err(Pause::Yield),
            ScanStatus::Done => {
                fx.reply(operation, Reply::Integer(count), self.gate_of_all());
                Ok(())
            }
        }
    }

    /// Gathers at most `count` keys in one slice. Keys that were gathered before a pause stay.
    fn walk_keys(&mut self, task: &mut Task, walk: &mut KeysTask, count: usize) -> Result<ScanStatus, Pause> {
        let wanted = count.saturating_sub(walk.keys.len()).clamp(1, SCAN_SLICE_ENTRIES);
        let mut scratch = std::mem::take(&mut self.scratch);
        let status = self.with_view(task, |view, blocks| {
            let keys = &mut walk.keys;
            let visit = &mut |key: &[u8], kind| keys.push((key.into(), kind));
            read::key_page_step(view, &walk.range, &mut walk.position, wanted, blocks, &mut scratch, visit)
        });
        self.scratch = scratch;
        let status = status?;
        task.pins.clear();
        Ok(status)
    }
}

fn keys_task(task: &mut Task, from: &[u8]) -> Box<KeysTask> {
    match std::mem::take(&mut task.progress) {
        Progress::Keys(walk) => walk,
        Progress::Start | Progress::Scan(_) | Progress::Range(_) => {
            let range = KeyRange { start: from.into(), end: None };
            Box::new(KeysTask { range, position: KeyPosition::default(), keys: Vec::new(), count: 0 })
        }
    }
}

fn entries_of(gathered: &ScanOutput) -> Vec<(&[u8], crate::model::Slot, crate::model::Value<'_>)> {
    let mut entries = Vec::with_capacity(gathered.len());
    for run in gathered.runs() {
        for index in run.range.clone() {
            let time = if run.class == SlotClass::Time { run.columns.times()[index] } else { 0 };
            if let EntryOp::Put(value) = run.columns.op(index) {
                entries.push((run.series, run.class.slot(time), value));
            }
        }
    }
    entries
}
