//! TS.RANGE, TS.DEL and TS.INFO: reads of one series that may be long, slice by slice over a snapshot.

use super::aggregate::{EvaluationLimits, Order, Progress as Wanted, RangeEvaluation};
use super::effect::Effects;
use super::{Pause, Progress, Shard, Task};
use crate::limits::SCAN_SLICE_ENTRIES;
use crate::model::{
    ChunkInfo, EntryOp, OperationId, RangeQuery, Reply, ReplyError, ScanAnswer, ScanRequest, SeriesDetails,
    SeriesInfo,
};
use crate::storage::range_delete::single_series;
use crate::storage::read::{self, ScanOutput, ScanPosition, ScanStatus};

/// Bytes that a stored sample is taken to need, for TS.INFO.
const SAMPLE_BYTES: u64 = 17;
/// Samples per chunk, for TS.INFO.
const CHUNK_SAMPLES: u64 = 1024;

/// Which samples are being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The neighbour before the range, newest first.
    Before,
    /// The range.
    Main,
    /// The neighbour after the range.
    After,
}

/// Progress over one series.
pub(super) struct RangeTask {
    evaluation: Option<RangeEvaluation>,
    stage: Stage,
    position: ScanPosition,
    /// Samples counted so far, and the first and last time.
    count: u64,
    first_time: Option<i64>,
    last_time: i64,
    /// The samples in chunks, where TS.INFO is asked for them.
    chunks: Option<Vec<ChunkInfo>>,
}

/// Bytes of a chunk in the reply of TS.INFO, at least.
const CHUNK_REPLY_BYTES: usize = 100;

impl RangeTask {
    /// Counts a run of visible samples, in ascending order of time.
    fn count_run(&mut self, times: &[i64]) {
        self.count += times.len() as u64;
        self.first_time = self.first_time.or(times.first().copied());
        self.last_time = times.last().copied().unwrap_or(self.last_time);
        let Some(chunks) = &mut self.chunks else { return };
        let mut rest = times;
        while let [first, ..] = rest {
            if chunks.last().is_none_or(|chunk| chunk.samples == CHUNK_SAMPLES) {
                chunks.push(ChunkInfo { first_time: *first, ..ChunkInfo::default() });
            }
            let Some(chunk) = chunks.last_mut() else { return };
            let room = usize::try_from(CHUNK_SAMPLES - chunk.samples).unwrap_or(usize::MAX);
            let (taken, left) = rest.split_at(room.min(rest.len()));
            chunk.last_time = taken.last().copied().unwrap_or(chunk.last_time);
            chunk.samples += taken.len() as u64;
            chunk.bytes = chunk.samples * SAMPLE_BYTES;
            rest = left;
        }
    }
}

impl Shard {
    /// TS.RANGE, TS.REVRANGE.
    pub(super) fn series_range(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        key: &[u8],
        query: &RangeQuery,
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        let mut range = self.range_task(task, key, Some(query))?;
        let outcome = self.range_slice(operation, task, &mut range, key, fx);
        task.progress = Progress::Range(range);
        outcome
    }

    fn range_slice(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        range: &mut RangeTask,
        key: &[u8],
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        loop {
            let Some(evaluation) = &range.evaluation else { unreachable!("a range query has an evaluation") };
            let (times, reverse) = match range.stage {
                Stage::Before => (evaluation.before_range(), true),
                Stage::Main => (evaluation.scan_range(), evaluation.order() == Order::Descending),
                Stage::After => (evaluation.after_range(), false),
            };
            let is_done = match times {
                None => true,
                Some(times) => self.feed(task, range, key, times, reverse)?,
            };
            if !is_done {
                return Err(Pause::Yield);
            }
            range.position = ScanPosition::default();
            range.stage = match range.stage {
                Stage::Before => Stage::Main,
                Stage::Main => Stage::After,
                Stage::After => return self.range_reply(operation, task, range, key, fx),
            };
        }
    }

    /// Feeds one slice of samples; says whether the stage is complete.
    fn feed(
        &mut self,
        task: &mut Task,
        range: &mut RangeTask,
        key: &[u8],
        times: (i64, i64),
        reverse: bool,
    ) -> Result<bool, Pause> {
        let (output, status) = self.samples_slice(task, &mut range.position, key, times, reverse)?;
        let Some(evaluation) = &mut range.evaluation else { unreachable!("a range query has an evaluation") };
        let (mut sample_times, mut values) =
            (Vec::with_capacity(output.len()), Vec::with_capacity(output.len()));
        for run in output.runs() {
            for index in run.range.clone() {
                let EntryOp::Put(value) = run.columns.op(index) else { continue };
                let number = value.as_f64().ok_or(Pause::Refused(ReplyError::NotNumeric))?;
                sample_times.push(run.columns.times()[index]);
                values.push(number);
            }
        }
        let samples = || sample_times.iter().copied().zip(values.iter().copied());
        let enough = match range.stage {
            Stage::Before => samples().any(|(time, value)| evaluation.before(time, value)),
            Stage::After => samples().any(|(time, value)| evaluation.after(time, value)),
            Stage::Main => match evaluation.push(&sample_times, &values) {
                Ok(wanted) => wanted == Wanted::Enough,
                Err(error) => return Err(Pause::Refused(error.as_reply())),
            },
        };
        Ok(enough || status == ScanStatus::Done)
    }

    fn range_reply(
        &mut self,
        operation: OperationId,
        task: &Task,
        range: &mut RangeTask,
        key: &[u8],
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        /// Bytes of a row's time in a reply, and of each value, at most.
        const TIME_BYTES: usize = 28;
        const VALUE_BYTES: usize = 28;
        let Some(evaluation) = &mut range.evaluation else { unreachable!("a range query has an evaluation") };
        evaluation.finish().map_err(|error| Pause::Refused(error.as_reply()))?;
        let (rows, width) = (evaluation.times().len(), evaluation.width());
        if rows.saturating_mul(TIME_BYTES + width * VALUE_BYTES) > task.reply_bytes_max {
            return Err(Pause::Refused(ReplyError::TooLarge { bytes_max: task.reply_bytes_max }));
        }
        let reply = Reply::Samples { times: evaluation.times(), values: evaluation.values(), width };
        let gate = self.gate(key);
        fx.reply(operation, reply, gate);
        Ok(())
    }

    /// TS.DEL: counts what is visible in the range, then deletes it.
    pub(super) fn series_delete(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        key: &[u8],
        times: (i64, i64),
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        let mut range = self.range_task(task, key, None)?;
        let outcome = self.count_slice(task, &mut range, key, times);
        let count = range.count;
        task.progress = Progress::Range(range);
        outcome?;
        self.series_delete_counted(operation, task, key, times, count, fx)
    }

    /// TS.INFO.
    pub(super) fn series_info(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        key: &[u8],
        details: bool,
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        let options = self.series_options(task, key)?.unwrap_or_default();
        let mut range = self.range_task(task, key, None)?;
        if details {
            range.chunks.get_or_insert_default();
        }
        let outcome = self.count_slice(task, &mut range, key, (i64::MIN, i64::MAX));
        let (count, first, last) = (range.count, range.first_time.unwrap_or_default(), range.last_time);
        let chunks = range.chunks.take_if(|_| outcome.is_ok());
        task.progress = Progress::Range(range);
        outcome?;
        let details = chunks.map(|mut chunks| {
            if chunks.is_empty() {
                chunks.push(ChunkInfo::default());
            }
            SeriesDetails { key: key.into(), chunks }
        });
        let info = SeriesInfo {
            total_samples: count,
            memory_bytes: count * SAMPLE_BYTES + key.len() as u64,
            first_time: first,
            last_time: last,
            chunk_count: count.div_ceil(CHUNK_SAMPLES).max(1),
            options,
            details,
        };
        let gate = self.gate(key);
        fx.reply(operation, Reply::SeriesInfo(&info), gate);
        Ok(())
    }

    /// Counts one slice; `Ok` when the range is done.
    fn count_slice(
        &mut self,
        task: &mut Task,
        range: &mut RangeTask,
        key: &[u8],
        times: (i64, i64),
    ) -> Result<(), Pause> {
        if times.0 > times.1 || range.stage == Stage::After {
            return Ok(());
        }
        let (output, status) = self.samples_slice(task, &mut range.position, key, times, false)?;
        for run in output.runs() {
            range.count_run(run.columns.times().get(run.range.clone()).unwrap_or_default());
        }
        if range.chunks.as_ref().is_some_and(|chunks| chunks.len() * CHUNK_REPLY_BYTES > task.reply_bytes_max)
        {
            return Err(Pause::Refused(ReplyError::TooLarge { bytes_max: task.reply_bytes_max }));
        }
        if status == ScanStatus::More {
            return Err(Pause::Yield);
        }
        // The write that follows may have to wait for room: it must not count again.
        range.stage = Stage::After;
        Ok(())
    }

    /// The visible samples of one slice.
    fn samples_slice(
        &mut self,
        task: &mut Task,
        position: &mut ScanPosition,
        key: &[u8],
        (from, to): (i64, i64),
        reverse: bool,
    ) -> Result<(ScanOutput, ScanStatus), Pause> {
        let request = ScanRequest {
            keys: single_series(key),
            from,
            to,
            all_slots: false,
            reverse,
            limit: u64::MAX,
            answer: ScanAnswer::Entries,
        };
        let mut output = ScanOutput::default();
        let status = self.with_view(task, |view, blocks| {
            read::scan_step(view, &request, position, SCAN_SLICE_ENTRIES, blocks, &mut output)
        })?;
        task.pins.clear();
        Ok((output, status))
    }

    /// The task's progress; at the start, checks that the key holds a series.
    fn range_task(
        &mut self,
        task: &mut Task,
        key: &[u8],
        query: Option<&RangeQuery>,
    ) -> Result<Box<RangeTask>, Pause> {
        if let Progress::Range(range) = std::mem::take(&mut task.progress) {
            return Ok(range);
        }
        self.require_series(task, key)?;
        let evaluation = query.map(|query| RangeEvaluation::new(query.clone(), EvaluationLimits::default()));
        Ok(Box::new(RangeTask {
            evaluation,
            stage: Stage::Before,
            position: ScanPosition::default(),
            count: 0,
            first_time: None,
            last_time: 0,
            chunks: None,
        }))
    }
}
