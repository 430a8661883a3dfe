//! Reading back what a journal says was acknowledged.
//!
//! The journal names the writes by number; the workload's options make each of them again. Samples have a slot of their
//! own, so each must be there with its value. A string key is written again and again: what must be there is a write of it
//! that none replaced for certain, which is to say that no other was sent after it had been acknowledged. Of writes that
//! were under way together either may have been the last, and one that was never acknowledged may have come at any time.

use super::error::LoadError;
use super::journal::{Acknowledged, Journal};
use super::random::{draw, unit};
use super::resp_client::{RespClient, RespValue};
use super::schedule::Share;
use super::target::Target;
use super::workload::{
    Dialect, KvOptions, KvWorkload, KvWrite, MixOptions, SampleEncoder, TsbsOptions, TsbsWorkload,
    WorkloadOptions, sequence_of,
};
use crate::client::Client;
use crate::model::{OwnedValue, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Missing writes that are named; the others are counted.
const NAMED_MAX: usize = 20;
/// Of the dice that choose what is read back.
const CHOICE_SEED: u64 = 0x7665_7269;

/// First line of a journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct JournalHeader {
    pub(super) threads: u64,
    pub(super) workload: WorkloadOptions,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Acknowledged writes in the journal.
    pub writes: u64,
    /// Values that were read back.
    pub values: u64,
    /// Of those, how many were absent or different.
    pub lost: u64,
    /// The first of them, in words.
    pub examples: Vec<String>,
}

impl Verification {
    fn check(&mut self, is_there: bool, what: impl FnOnce() -> String) {
        self.values += 1;
        if !is_there {
            self.lost += 1;
            if self.examples.len() < NAMED_MAX {
                self.examples.push(what());
            }
        }
    }
}

/// Reads back what `journal` says was acknowledged, or a share (0..=1) of it; the target's dialect is the journal's.
///
/// # Errors
/// When the journal or the server cannot be read.
pub fn verify(journal: &Path, target: &Target, share: f64) -> Result<Verification, LoadError> {
    let Journal { options, mut acknowledged } = Journal::read(journal).map_err(LoadError::Options)?;
    let writes = acknowledged.len() as u64;
    let header: JournalHeader = serde_json::from_str(&options)
        .map_err(|error| LoadError::Options(format!("{}: {error}", journal.display())))?;
    let mut found = Verification { writes, ..Verification::default() };
    // Strings are chosen by key, below: an older write of a key cannot be found any more.
    if !matches!(&header.workload, WorkloadOptions::Kv(KvOptions { dialect: Dialect::Strings, .. })) {
        acknowledged.retain(|write| is_chosen(write.sequence, share));
    }
    match &header.workload {
        WorkloadOptions::Kv(options) => {
            let target = Target { dialect: options.dialect, ..target.clone() };
            match options.dialect {
                Dialect::Strings => verify_strings(&target, options, &acknowledged, share, &mut found)?,
                Dialect::Native | Dialect::Series => {
                    verify_samples(&target, options, &acknowledged, &mut found)?
                }
            }
        }
        WorkloadOptions::Tsbs(options) => {
            let target = Target { dialect: options.dialect, ..target.clone() };
            verify_rows(&target, options, header.threads, &acknowledged, &mut found)?;
        }
        WorkloadOptions::Mixed(MixOptions { rows, .. }) => {
            let target = Target { dialect: rows.dialect, ..target.clone() };
            verify_rows(&target, rows, header.threads, &acknowledged, &mut found)?;
        }
        WorkloadOptions::Query(_) => {
            return Err(LoadError::Options("queries write nothing that could be verified".to_owned()));
        }
    }
    Ok(found)
}

/// Whether a write, or the string of a key, is among the share that is read back.
fn is_chosen(number: u64, share: f64) -> bool {
    share >= 1.0 || unit(draw(CHOICE_SEED, number)) < share
}

/// Reads single samples, over either protocol.
enum Reader {
    Native(Box<Client>),
    Resp(RespClient),
}

impl Reader {
    fn open(target: &Target) -> Result<Self, LoadError> {
        Ok(match target.dialect {
            Dialect::Native => Self::Native(Box::new(target.client()?)),
            Dialect::Strings | Dialect::Series => Self::Resp(target.resp_client()?),
        })
    }
    /// Whether the series holds `expected` at `time`.
    fn holds(&mut self, series: &[u8], time: i64, expected: Value<'_>) -> Result<bool, LoadError> {
        match self {
            Self::Native(client) => {
                Ok(client.get_at(series, time)?.is_some_and(|found| is_same(&found, expected)))
            }
            Self::Resp(client) => {
                let text = time.to_string();
                let reply = client.call(&[b"TS.RANGE", series, text.as_bytes(), text.as_bytes()])?;
                let expected = expected.as_f64();
                Ok(value_of(&reply).is_some_and(|found| Some(found) == expected))
            }
        }
    }
}

fn is_same(found: &OwnedValue, expected: Value<'_>) -> bool {
    match (found.borrow(), expected) {
        (Value::F64(found), Value::F64(expected)) => found.to_bits() == expected.to_bits(),
        (found, expected) => found == expected,
    }
}

/// The value of the only sample of a TS.RANGE reply.
fn value_of(reply: &RespValue) -> Option<f64> {
    let RespValue::Array(samples) = reply else { return None };
    let [RespValue::Array(sample)] = samples.as_slice() else { return None };
    match sample.as_slice() {
        [_, RespValue::Text(text)] => text.parse().ok(),
        [_, RespValue::Bytes(Some(text))] => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

fn verify_samples(
    target: &Target,
    options: &KvOptions,
    acknowledged: &[Acknowledged],
    found: &mut Verification,
) -> Result<(), LoadError> {
    let mut reader = Reader::open(target)?;
    let workload = KvWorkload::new(options, Share { thread: 0, threads: 1 });
    let (mut name, mut bytes) = (Vec::new(), Vec::new());
    for Acknowledged { sequence, .. } in acknowledged {
        let KvWrite { key, time } = workload.write_of(*sequence);
        workload.name_of(key, &mut name);
        let expected = workload.native_value(*sequence, &mut bytes);
        let is_there = reader.holds(&name, time, expected)?;
        found.check(is_there, || format!("{} at {time} (write {sequence})", name.escape_ascii()));
    }
    Ok(())
}

fn verify_strings(
    target: &Target,
    options: &KvOptions,
    acknowledged: &[Acknowledged],
    share: f64,
    found: &mut Verification,
) -> Result<(), LoadError> {
    let mut client = target.resp_client()?;
    let workload = KvWorkload::new(options, Share { thread: 0, threads: 1 });
    // Of each key, the write that was sent last.
    let mut last: BTreeMap<u64, Acknowledged> = BTreeMap::new();
    for write in acknowledged {
        let kept = last.entry(workload.key_of(write.sequence)).or_insert(*write);
        *kept = if write.sent_ns >= kept.sent_ns { *write } else { *kept };
    }
    let (mut name, mut value) = (Vec::new(), Vec::new());
    for (key, last) in last.into_iter().filter(|(key, _)| is_chosen(*key, share)) {
        workload.name_of(key, &mut name);
        let reply = client.call(&[b"GET", &name])?;
        let stored = match reply {
            RespValue::Bytes(Some(bytes)) => bytes,
            _ => Vec::new(),
        };
        let is_there = sequence_of(&stored).is_some_and(|written| {
            workload.put_value(written, &mut value);
            may_be_last(written, acknowledged, last) && workload.key_of(written) == key && value == stored
        });
        let sequence = last.sequence;
        found.check(is_there, || format!("{} (write {sequence} or a later one)", name.escape_ascii()));
    }
    Ok(())
}

/// Whether write number `written` of a key may be what a store holds after `last`, the write of that key that was sent
/// last of all that are acknowledged. `acknowledged` is sorted by number.
fn may_be_last(written: u64, acknowledged: &[Acknowledged], last: Acknowledged) -> bool {
    let known = acknowledged.binary_search_by_key(&written, |write| write.sequence);
    known.map_or(true, |at| acknowledged[at].done_ns >= last.sent_ns)
}

fn verify_rows(
    target: &Target,
    options: &TsbsOptions,
    threads: u64,
    acknowledged: &[Acknowledged],
    found: &mut Verification,
) -> Result<(), LoadError> {
    let mut reader = Reader::open(target)?;
    let mut encoder = SampleEncoder::new(options);
    let mut name = Vec::new();
    for thread in 0..threads {
        let mut workload = TsbsWorkload::new(options, Share { thread, threads });
        let sequences = acknowledged.iter().map(|write| write.sequence);
        let mut left = sequences.filter(|sequence| sequence % threads == thread).peekable();
        while left.peek().is_some() {
            let Some((sequence, samples)) = workload.next_batch() else { break };
            if left.next_if_eq(&sequence).is_none() {
                continue;
            }
            for sample in samples {
                name.clear();
                encoder.put_name(&mut name, sample);
                let time = options.time_of(sample.tick);
                let is_there = reader.holds(&name, time, encoder.native_value(sample))?;
                found.check(is_there, || format!("{} at {time} (write {sequence})", name.escape_ascii()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writes_that_were_under_way_together_may_end_in_either_order() {
        // A rule that is too lax misses a store that forgets; one that is too strict calls a sound store a liar.
        let write = |sequence, sent_ns, done_ns| Acknowledged { sequence, sent_ns, done_ns };
        let (slow, quick, later) = (write(1, 0, 10), write(2, 5, 8), write(4, 20, 30));
        let judged = |last, written| may_be_last(written, &[slow, quick, later], last);
        assert!(judged(quick, 1) && judged(quick, 2), "the slow one may have come behind the quick one");
        assert!(!judged(later, 1) && !judged(later, 2), "both had ended when the last one was sent");
        assert!(judged(later, 4) && judged(later, 3), "one that was never acknowledged may have come last");
    }
}
