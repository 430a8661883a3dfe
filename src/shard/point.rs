//! Commands on one key that look at a few entries: native GET, the string commands, what a key is.

use super::effect::Effects;
use super::{Pause, Shard, Task};
use crate::model::{
    DeleteScope, EntryOp, KeyKind, Lsn, OperationId, Reply, ReplyError, SetCondition, Slot, SlotClass, Value,
};
use crate::storage::memtable::series_hash;

impl Shard {
    pub(super) fn get_at(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        series: &[u8],
        time: i64,
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        let gate = self.gate(series);
        if self.kept_from(task, series)?.is_some_and(|kept| time < kept) {
            fx.reply(operation, Reply::NoSample, gate);
            return Ok(());
        }
        self.find_with(task, series, Slot::Time(time), |value| match value {
            None => fx.reply(operation, Reply::NoSample, gate),
            Some(value) => fx.reply(operation, Reply::Sample { time, value }, gate),
        })
    }

    pub(super) fn get_newest(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        series: &[u8],
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        let found = self.newest(task, series)?;
        let gate = self.gate(series);
        match &found {
            None => fx.reply(operation, Reply::NoSample, gate),
            Some((time, value)) => {
                fx.reply(operation, Reply::Sample { time: *time, value: value.borrow() }, gate);
            }
        }
        Ok(())
    }

    /// SET. A key that holds a series is emptied first; Bloom filters on (key, slot class) tell without a read that it
    /// does not, so overwriting strings reads nothing.
    pub(super) fn string_set(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        key: &[u8],
        value: &[u8],
        (condition, return_old): (SetCondition, bool),
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        let is_series = self.is_series(task, key)?;
        let looks = return_old || condition != SetCondition::Always;
        let old = if looks { self.find(task, key, Slot::Timeless)? } else { None };
        if return_old && old.is_none() && is_series {
            return Err(Pause::Refused(ReplyError::WrongType));
        }
        let present = old.is_some() || is_series;
        let wanted = match condition {
            SetCondition::Always => true,
            SetCondition::IfAbsent => !present,
            SetCondition::IfPresent => present,
        };
        let op = EntryOp::Put(Value::Bytes(value));
        let gate = match (wanted, is_series) {
            (true, true) => {
                let everything = DeleteScope::Series { series: key };
                self.write_together(&[everything], &[(key, Slot::Timeless, op)])?
            }
            (true, false) => self.write(key, Slot::Timeless, op)?,
            (false, _) => self.gate(key),
        };
        match (&old, return_old) {
            (Some(old), true) => {
                reply_if_found(operation, Some(old.borrow()), gate, fx);
            }
            (None, true) => fx.reply(operation, Reply::Null, gate),
            (_, false) => fx.reply(operation, if wanted { Reply::Ok } else { Reply::Null }, gate),
        }
        Ok(())
    }

    /// GET.
    pub(super) fn string_get(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        key: &[u8],
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        if self.reply_with_string(operation, task, key, fx)? {
            return Ok(());
        }
        if self.is_series(task, key)? {
            return Err(Pause::Refused(ReplyError::WrongType));
        }
        let gate = self.gate(key);
        fx.reply(operation, Reply::Null, gate);
        Ok(())
    }

    /// One key of MGET: a series is no error there.
    pub(super) fn string_get_any(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        key: &[u8],
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        if !self.reply_with_string(operation, task, key, fx)? {
            let gate = self.gate(key);
            fx.reply(operation, Reply::Null, gate);
        }
        Ok(())
    }

    /// Replies with the string, if the key holds one.
    fn reply_with_string(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        key: &[u8],
        fx: &mut impl Effects,
    ) -> Result<bool, Pause> {
        let remembers = task.capture.is_none();
        if remembers && let Some((_, bytes)) = self.values.find(series_hash(key), key, SlotClass::Timeless) {
            // It lies in a table, and nothing later is known of the key: there is no log to wait for.
            fx.reply(operation, Reply::Bytes(bytes), Lsn(0));
            return Ok(true);
        }
        let gate = self.gate(key);
        self.find_with(task, key, Slot::Timeless, |value| reply_if_found(operation, value, gate, fx))
    }

    /// STRLEN.
    pub(super) fn string_length(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        key: &[u8],
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        let length = |value: Option<Value<'_>>| value.map(|value| with_text(value, <[u8]>::len));
        let bytes = self.find_with(task, key, Slot::Timeless, length)?;
        if bytes.is_none() && self.is_series(task, key)? {
            return Err(Pause::Refused(ReplyError::WrongType));
        }
        let gate = self.gate(key);
        let bytes = i64::try_from(bytes.unwrap_or_default()).unwrap_or(i64::MAX);
        fx.reply(operation, Reply::Integer(bytes), gate);
        Ok(())
    }

    /// EXISTS of one key.
    pub(super) fn key_exists(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        key: &[u8],
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        let present = self.is_present(task, key)?;
        let gate = self.gate(key);
        fx.reply(operation, Reply::Integer(i64::from(present)), gate);
        Ok(())
    }

    /// DEL of one key.
    pub(super) fn key_delete(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        key: &[u8],
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        let present = self.is_present(task, key)?;
        if present {
            self.write_delete(DeleteScope::Series { series: key })?;
        }
        let gate = self.gate(key);
        fx.reply(operation, Reply::Integer(i64::from(present)), gate);
        Ok(())
    }

    /// TYPE.
    pub(super) fn key_type(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        key: &[u8],
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        let kind = if self.class_exists(task, key, SlotClass::Timeless)? {
            KeyKind::String
        } else if self.is_series(task, key)? {
            KeyKind::Series
        } else {
            KeyKind::None
        };
        let gate = self.gate(key);
        fx.reply(operation, Reply::Kind(kind), gate);
        Ok(())
    }

    fn is_series(&mut self, task: &mut Task, key: &[u8]) -> Result<bool, Pause> {
        let classes = [SlotClass::Metadata, SlotClass::Time];
        if task.capture.is_none() && !self.may_hold(key, &classes) {
            return Ok(false);
        }
        Ok(self.class_exists(task, key, SlotClass::Metadata)?
            || self.class_exists(task, key, SlotClass::Time)?)
    }
}

/// Timeless values that were written natively as numbers read as their text.
fn with_text<T>(value: Value<'_>, use_text: impl FnOnce(&[u8]) -> T) -> T {
    match value {
        Value::Bytes(bytes) => use_text(bytes),
        Value::F64(number) => use_text(number.to_string().as_bytes()),
        Value::I64(number) => use_text(number.to_string().as_bytes()),
    }
}

/// Replies with a string, if there is one.
fn reply_if_found(
    operation: OperationId,
    value: Option<Value<'_>>,
    gate: Lsn,
    fx: &mut impl Effects,
) -> bool {
    if let Some(value) = value {
        with_text(value, |text| fx.reply(operation, Reply::Bytes(text), gate));
    }
    value.is_some()
}
