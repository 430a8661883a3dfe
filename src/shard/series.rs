//! TS.* commands on one series. Semantics and texts: RedisTimeSeries, level of its 8.4.

use super::effect::Effects;
use super::{Pause, Shard, Task};
use crate::model::{
    DeleteScope, DuplicatePolicy, EntryOp, Lsn, OperationId, Reply, ReplyError, SeriesChanges, SeriesOptions,
    Slot, SlotClass, Value,
};
use crate::storage::read::edge_of;
use crate::storage::series_metadata;

/// What TS.ADD decided to do with a sample.
enum Upsert {
    /// Write this value.
    Write(f64),
    /// Keep what is there; the reply is the time that was asked for.
    Keep,
}

impl Shard {
    /// TS.CREATE.
    pub(super) fn series_create(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        key: &[u8],
        options: &SeriesOptions,
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        if self.is_present(task, key)? {
            return Err(Pause::Refused(ReplyError::KeyExists));
        }
        self.write_metadata(key, options)?;
        let gate = self.gate(key);
        fx.reply(operation, Reply::Ok, gate);
        Ok(())
    }

    /// TS.ALTER.
    pub(super) fn series_alter(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        key: &[u8],
        changes: &SeriesChanges,
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        self.require_series(task, key)?;
        let old = self.series_options(task, key)?.unwrap_or_default();
        let new = changes.apply(&old);
        let goes_back = old.retention > 0 && (new.retention == 0 || new.retention > old.retention);
        let hidden = if goes_back { self.kept_from(task, key)? } else { None };
        let bytes = series_metadata::encode(&new);
        let entry = (key, Slot::Metadata, EntryOp::Put(Value::Bytes(&bytes)));
        let gate = self.write_together(hidden_before(key, hidden).as_slice(), &[entry])?;
        fx.reply(operation, Reply::Ok, gate);
        Ok(())
    }

    /// TS.ADD, and one triple of TS.MADD.
    #[expect(
        clippy::too_many_arguments,
        reason = "the arguments of the command, and the three that all steps take"
    )]
    pub(super) fn series_add(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        key: &[u8],
        time: i64,
        value: f64,
        on_duplicate: Option<DuplicatePolicy>,
        create: Option<&SeriesOptions>,
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        if self.class_exists(task, key, SlotClass::Timeless)? {
            return Err(Pause::Refused(ReplyError::NotSeries));
        }
        let metadata = self.series_options(task, key)?;
        let newest = self.newest(task, key)?;
        if metadata.is_none() && newest.is_none() {
            let options = create.ok_or(Pause::Refused(ReplyError::NotSeries))?;
            self.check_age(Slot::Time(time))?;
            self.write_new_series(key, options, time, value)?;
            let gate = self.gate(key);
            fx.reply(operation, Reply::Integer(time), gate);
            return Ok(());
        }
        self.check_age(Slot::Time(time))?;
        let options = metadata.unwrap_or_default();
        let last = newest.as_ref().map(|(at, _)| *at).filter(|_| options.retention > 0);
        if last.is_some_and(|last| time < edge_of(last, options.retention)) {
            return Err(Pause::Refused(ReplyError::Expired));
        }
        let policy = on_duplicate.unwrap_or(options.effective_policy());
        let newest = match newest {
            None => None,
            Some((at, found)) => {
                Some((at, found.borrow().as_f64().ok_or(Pause::Refused(ReplyError::NotNumeric))?))
            }
        };
        let written = match newest {
            Some(last) if is_ignored(&options, policy, last, time, value) => last.0,
            Some((last, _)) if time <= last => {
                self.upsert(task, key, time, value, policy)?;
                time
            }
            Some(_) | None => {
                self.write(key, Slot::Time(time), EntryOp::Put(Value::F64(value)))?;
                time
            }
        };
        let gate = self.gate(key);
        fx.reply(operation, Reply::Integer(written), gate);
        Ok(())
    }

    /// Writes a sample that is not the newest one.
    fn upsert(
        &mut self,
        task: &mut Task,
        key: &[u8],
        time: i64,
        value: f64,
        policy: DuplicatePolicy,
    ) -> Result<(), Pause> {
        let decision = match self.find(task, key, Slot::Time(time))? {
            None => Upsert::Write(value),
            Some(old) => {
                let old = old.borrow().as_f64().ok_or(Pause::Refused(ReplyError::NotNumeric))?;
                resolve_duplicate(policy, old, value).ok_or(Pause::Refused(ReplyError::DuplicateBlocked))?
            }
        };
        match decision {
            Upsert::Keep => Ok(()),
            Upsert::Write(value) => {
                self.write(key, Slot::Time(time), EntryOp::Put(Value::F64(value))).map(drop)
            }
        }
    }

    /// TS.GET.
    pub(super) fn series_get(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        key: &[u8],
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        self.require_series(task, key)?;
        let newest = self.newest(task, key)?;
        let gate = self.gate(key);
        match newest {
            None => fx.reply(operation, Reply::NoSample, gate),
            Some((time, value)) => match value.borrow().as_f64() {
                None => return Err(Pause::Refused(ReplyError::NotNumeric)),
                Some(number) => {
                    fx.reply(operation, Reply::Sample { time, value: Value::F64(number) }, gate);
                }
            },
        }
        Ok(())
    }

    /// TS.DEL, once the samples are counted.
    pub(super) fn series_delete_counted(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        key: &[u8],
        times: (i64, i64),
        count: u64,
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        if count > 0 {
            self.delete_times(task, key, times)?;
        }
        let gate = self.gate(key);
        fx.reply(operation, Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX)), gate);
        Ok(())
    }

    /// Deletes samples. What the retention of the series hides stays hidden when its newest sample goes.
    pub(super) fn delete_times(
        &mut self,
        task: &mut Task,
        key: &[u8],
        (from, to): (i64, i64),
    ) -> Result<Lsn, Pause> {
        let hidden = self.kept_from(task, key)?;
        let hidden =
            if hidden.is_some() && self.newest_is_within(task, key, (from, to))? { hidden } else { None };
        let asked = DeleteScope::TimeRange { series: key, from, to };
        match hidden_before(key, hidden) {
            Some(hidden) => self.write_together(&[hidden, asked], &[]),
            None => self.write_together(&[asked], &[]),
        }
    }

    /// Whether the newest visible sample lies at one of these times.
    pub(super) fn newest_is_within(
        &mut self,
        task: &mut Task,
        key: &[u8],
        (from, to): (i64, i64),
    ) -> Result<bool, Pause> {
        Ok(self.newest(task, key)?.is_some_and(|(time, _)| (from..=to).contains(&time)))
    }

    /// Refuses keys that hold no series.
    pub(super) fn require_series(&mut self, task: &mut Task, key: &[u8]) -> Result<(), Pause> {
        if self.class_exists(task, key, SlotClass::Timeless)? {
            return Err(Pause::Refused(ReplyError::WrongType));
        }
        if self.class_exists(task, key, SlotClass::Metadata)?
            || self.class_exists(task, key, SlotClass::Time)?
        {
            return Ok(());
        }
        Err(Pause::Refused(ReplyError::SeriesAbsent))
    }

    /// Whether the key holds anything.
    pub(super) fn is_present(&mut self, task: &mut Task, key: &[u8]) -> Result<bool, Pause> {
        Ok(self.class_exists(task, key, SlotClass::Timeless)?
            || self.class_exists(task, key, SlotClass::Metadata)?
            || self.class_exists(task, key, SlotClass::Time)?)
    }

    /// The series' properties; `None` when it has no metadata.
    pub(super) fn series_options(
        &mut self,
        task: &mut Task,
        key: &[u8],
    ) -> Result<Option<SeriesOptions>, Pause> {
        let found = self.find(task, key, Slot::Metadata)?;
        let Some(Value::Bytes(bytes)) = found.as_ref().map(|value| value.borrow()) else { return Ok(None) };
        let unknown = Pause::Refused(ReplyError::Unsupported { what: "the series' metadata format" });
        series_metadata::decode(bytes).map(Some).ok_or(unknown)
    }

    fn write_metadata(&mut self, key: &[u8], options: &SeriesOptions) -> Result<(), Pause> {
        let bytes = series_metadata::encode(options);
        self.write(key, Slot::Metadata, EntryOp::Put(Value::Bytes(&bytes))).map(drop)
    }

    /// Metadata and first sample in one frame: a crash keeps both or neither.
    fn write_new_series(
        &mut self,
        key: &[u8],
        options: &SeriesOptions,
        time: i64,
        value: f64,
    ) -> Result<(), Pause> {
        let bytes = series_metadata::encode(options);
        let entries = [
            (key, Slot::Metadata, EntryOp::Put(Value::Bytes(&bytes))),
            (key, Slot::Time(time), EntryOp::Put(Value::F64(value))),
        ];
        self.write_together(&[], &entries).map(drop)
    }
}

/// The delete of what lies before a time that a series keeps from, if there is any such time.
pub(super) fn hidden_before(series: &[u8], kept_from: Option<i64>) -> Option<DeleteScope<'_>> {
    let to = kept_from?.checked_sub(1)?;
    Some(DeleteScope::TimeRange { series, from: i64::MIN, to })
}

/// The IGNORE filter: a sample close to the last one, in time and value, is dropped under policy last.
fn is_ignored(
    options: &SeriesOptions,
    policy: DuplicatePolicy,
    last: (i64, f64),
    time: i64,
    value: f64,
) -> bool {
    let (last_time, last_value) = last;
    policy == DuplicatePolicy::Last
        && !value.is_nan()
        && !last_value.is_nan()
        && time >= last_time
        && last_time.abs_diff(time) <= options.ignore_time_diff
        && (value - last_value).abs() <= options.ignore_value_diff
}

/// What to do where both an old and a new value exist; `None` is the error.
fn resolve_duplicate(policy: DuplicatePolicy, old: f64, new: f64) -> Option<Upsert> {
    let either_nan = old.is_nan() || new.is_nan();
    match policy {
        DuplicatePolicy::Block => None,
        DuplicatePolicy::First if old.is_nan() && !new.is_nan() => Some(Upsert::Write(new)),
        DuplicatePolicy::First => Some(Upsert::Keep),
        DuplicatePolicy::Last if new.is_nan() => Some(Upsert::Keep),
        DuplicatePolicy::Last => Some(Upsert::Write(new)),
        DuplicatePolicy::Min | DuplicatePolicy::Max | DuplicatePolicy::Sum
            if old.is_nan() && new.is_nan() =>
        {
            Some(Upsert::Keep)
        }
        DuplicatePolicy::Min | DuplicatePolicy::Max | DuplicatePolicy::Sum if either_nan => None,
        DuplicatePolicy::Min => Some(if new < old { Upsert::Write(new) } else { Upsert::Keep }),
        DuplicatePolicy::Max => Some(if new > old { Upsert::Write(new) } else { Upsert::Keep }),
        DuplicatePolicy::Sum => Some(Upsert::Write(old + new)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(policy: DuplicatePolicy, old: f64, new: f64) -> Option<Option<f64>> {
        resolve_duplicate(policy, old, new).map(|decision| match decision {
            Upsert::Write(value) => Some(value),
            Upsert::Keep => None,
        })
    }

    #[test]
    fn duplicates_follow_the_policy() {
        // A wrong policy silently changes stored measurements.
        use DuplicatePolicy::{Block, First, Last, Max, Min, Sum};
        assert_eq!(written(Block, 1.0, 2.0), None);
        assert_eq!((written(First, 1.0, 2.0), written(Last, 1.0, 2.0)), (Some(None), Some(Some(2.0))));
        assert_eq!((written(Min, 1.0, 2.0), written(Min, 2.0, 1.0)), (Some(None), Some(Some(1.0))));
        assert_eq!((written(Max, 1.0, 2.0), written(Sum, 1.0, 2.0)), (Some(Some(2.0)), Some(Some(3.0))));
        assert_eq!((written(Sum, f64::NAN, 2.0), written(Last, 1.0, f64::NAN)), (None, Some(None)));
        assert_eq!(written(First, f64::NAN, 2.0), Some(Some(2.0)));
    }

    #[test]
    fn an_exact_resend_is_ignored_under_policy_last() {
        // The reply is the last time and nothing is stored.
        let options = SeriesOptions::default();
        assert!(is_ignored(&options, DuplicatePolicy::Last, (5, 1.0), 5, 1.0));
        assert!(!is_ignored(&options, DuplicatePolicy::Last, (5, 1.0), 6, 1.0));
        assert!(!is_ignored(&options, DuplicatePolicy::Block, (5, 1.0), 5, 1.0));
    }
}
