//! Commands on one key that look at a few entries: native GET, the string commands, what a key is.

use super::effect::Effects;
use super::{Pause, Shard, Task};
use crate::model::{
    DeleteScope, EntryOp, KeyKind, OperationId, OwnedValue, Reply, ReplyError, SetCondition, Slot, SlotClass,
    Value,
};

impl Shard {
    pub(super) fn get_at(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        series: &[u8],
        time: i64,
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        let found = self.find(task, series, Slot::Time(time))?;
        self.reply_sample(operation, series, found.map(|value| (time, value)), fx);
        Ok(())
    }

    pub(super) fn get_newest(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        series: &[u8],
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        let found = self.newest(task, series)?;
        self.reply_sample(operation, series, found, fx);
        Ok(())
    }

    fn reply_sample(
        &mut self,
        operation: OperationId,
        series: &[u8],
        found: Option<(i64, OwnedValue)>,
        fx: &mut impl Effects,
    ) {
        let gate = self.gate(series);
        match &found {
            None => fx.reply(operation, Reply::NoSample, gate),
            Some((time, value)) => {
                fx.reply(operation, Reply::Sample { time: *time, value: value.borrow() }, gate);
            }
        }
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
        if wanted {
            let op = EntryOp::Put(Value::Bytes(value));
            if is_series {
                self.write_together(key, true, &[(Slot::Timeless, op)])?;
            } else {
                self.write(key, Slot::Timeless, op)?;
            }
        }
        let gate = self.gate(key);
        match (&old, return_old) {
            (Some(old), true) => reply_string(operation, old, gate, fx),
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
        let found = self.string_of(task, key)?;
        let gate = self.gate(key);
        match &found {
            None => fx.reply(operation, Reply::Null, gate),
            Some(value) => reply_string(operation, value, gate, fx),
        }
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
        let found = self.find(task, key, Slot::Timeless)?;
        let gate = self.gate(key);
        match &found {
            None => fx.reply(operation, Reply::Null, gate),
            Some(value) => reply_string(operation, value, gate, fx),
        }
        Ok(())
    }

    /// STRLEN.
    pub(super) fn string_length(
        &mut self,
        operation: OperationId,
        task: &mut Task,
        key: &[u8],
        fx: &mut impl Effects,
    ) -> Result<(), Pause> {
        let found = self.string_of(task, key)?;
        let bytes = found.as_ref().map_or(0, |value| with_text(value, <[u8]>::len));
        let gate = self.gate(key);
        fx.reply(operation, Reply::Integer(i64::try_from(bytes).unwrap_or(i64::MAX)), gate);
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
        Ok(self.class_exists(task, key, SlotClass::Metadata)?
            || self.class_exists(task, key, SlotClass::Time)?)
    }

    /// The string at a key; WRONGTYPE for a series.
    fn string_of(&mut self, task: &mut Task, key: &[u8]) -> Result<Option<OwnedValue>, Pause> {
        let found = self.find(task, key, Slot::Timeless)?;
        if found.is_none() && self.is_series(task, key)? {
            return Err(Pause::Refused(ReplyError::WrongType));
        }
        Ok(found)
    }
}

/// Timeless values that were written natively as numbers read as their text.
fn with_text<T>(value: &OwnedValue, use_text: impl FnOnce(&[u8]) -> T) -> T {
    match value {
        OwnedValue::Bytes(bytes) => use_text(bytes),
        OwnedValue::F64(number) => use_text(number.to_string().as_bytes()),
        OwnedValue::I64(number) => use_text(number.to_string().as_bytes()),
    }
}

fn reply_string(operation: OperationId, value: &OwnedValue, gate: crate::model::Lsn, fx: &mut impl Effects) {
    with_text(value, |text| fx.reply(operation, Reply::Bytes(text), gate));
}
