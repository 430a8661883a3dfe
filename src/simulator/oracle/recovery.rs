//! Judges what a restart found: for each key some prefix of its operations that holds what had to survive, and for each
//! stream no hole.

use super::{KeyLog, Losses, Operation, Oracle};
use crate::model::{OwnedValue, Slot};
use crate::simulator::client::DumpEntry;
use crate::simulator::model::KeyState;
use std::collections::{BTreeMap, BTreeSet};

impl Oracle {
    /// Judges what a restart found, and goes on from there; see [`Oracle::judge`].
    ///
    /// # Errors
    /// What is lost, invented, or out of order.
    pub(in crate::simulator) fn recovered(
        &mut self,
        dump: Vec<DumpEntry>,
        losses: Losses,
        stream_of: impl Fn(&[u8]) -> u16,
    ) -> Result<(), String> {
        let states = self.judge(dump, losses, stream_of)?;
        for (log, state) in self.keys.iter_mut().zip(states) {
            *log = KeyLog { states: vec![state], operations: Vec::new(), shown: 0, cutoff: i64::MIN };
        }
        self.operations.clear();
        self.pending.clear();
        Ok(())
    }
    /// Judges what a restart found, and gives the state of each key. `losses` says which acknowledged writes may be gone,
    /// `stream_of` in whose log the last life wrote a key.
    ///
    /// # Errors
    /// What is lost, invented, or out of order.
    pub(in crate::simulator) fn judge(
        &self,
        dump: Vec<DumpEntry>,
        losses: Losses,
        stream_of: impl Fn(&[u8]) -> u16,
    ) -> Result<Vec<KeyState>, String> {
        let mut found = self.states_of(dump)?;
        let mut states = Vec::new();
        let mut survived: BTreeMap<u16, BTreeSet<usize>> = BTreeMap::new();
        let mut lost: BTreeMap<u16, BTreeSet<usize>> = BTreeMap::new();
        // One cutoff holds for all keys, and is as durable as what a reply shows.
        let cutoff = self.keys.iter().map(|log| log.cutoff).max().unwrap_or(i64::MIN);
        for (key, log) in self.keys.iter().enumerate() {
            let name = &self.names[key];
            let state = found.remove(&key).unwrap_or_default();
            let must_survive = |at: &usize| {
                let acked = self.operations[*at].acked;
                acked.is_some_and(|acked| match losses {
                    Losses::Nothing => true,
                    Losses::After(time_ns) => acked.at_ns <= time_ns,
                    Losses::Anything => false,
                })
            };
            let must = log.operations.iter().rposition(must_survive).map_or(0, |last| last + 1);
            let low = if losses == Losses::Nothing { must.max(log.shown) } else { must };
            let cutoffs = self.cutoffs_of(&log.states, cutoff);
            let explains = |count: &usize| {
                let mut aged = cutoffs.iter().flat_map(|cutoff| log.states[*count].aged(*cutoff));
                aged.any(|aged| aged == state)
            };
            let fitting: Vec<usize> = (0..log.states.len()).filter(explains).collect();
            let fits = fitting.iter().copied().filter(|count| *count >= low);
            let (Some(least), Some(most)) = (fits.clone().min(), fits.max()) else {
                return Err(explain_loss(name, log, &self.operations, &state, low, &fitting));
            };
            let stream = stream_of(name);
            survived.entry(stream).or_default().extend(&log.operations[..least]);
            lost.entry(stream).or_default().extend(&log.operations[most..]);
            states.push(state);
        }
        for (stream, survived) in &survived {
            let lost = lost.get(stream).cloned().unwrap_or_default();
            if let Some(both) = survived.intersection(&lost).next() {
                return Err(format!("half of {:?} is there", self.operations[*both].mutation));
            }
            let newest = survived.iter().max_by_key(|at| self.operations[**at].sent);
            let Some(newest) = newest.map(|at| &self.operations[*at]) else { continue };
            let is_hole =
                |at: &&usize| self.operations[**at].acked.is_some_and(|acked| acked.tick < newest.sent);
            if let Some(hole) = lost.iter().find(is_hole) {
                let hole = &self.operations[*hole].mutation;
                return Err(format!("{:?} is there, but not {hole:?}, acknowledged before", newest.mutation));
            }
        }
        Ok(states)
    }
    /// What the entries say of each key.
    fn states_of(&self, dump: Vec<DumpEntry>) -> Result<BTreeMap<usize, KeyState>, String> {
        let mut states: BTreeMap<usize, KeyState> = BTreeMap::new();
        for (name, slot, value) in dump {
            let key = self.names.binary_search(&name);
            let key = key.map_err(|_| format!("a key of nobody: {}", String::from_utf8_lossy(&name)))?;
            let state = states.entry(key).or_default();
            let is_double = match (slot, value) {
                (Slot::Metadata, _) => std::mem::replace(&mut state.has_metadata, true),
                (Slot::Timeless, text @ OwnedValue::Bytes(_)) => state.text.replace(text).is_some(),
                (Slot::Timeless, other) => return Err(format!("a string that is {other:?}")),
                (Slot::Time(time), value) => state.samples.insert(time, value).is_some(),
            };
            if is_double {
                return Err(format!("{slot:?} of {} is shown twice", String::from_utf8_lossy(&name)));
            }
        }
        Ok(states)
    }
}

fn explain_loss(
    name: &[u8],
    log: &KeyLog,
    operations: &[Operation],
    state: &KeyState,
    low: usize,
    fitting: &[usize],
) -> String {
    let name = String::from_utf8_lossy(name);
    let last = log.operations.iter().map(|at| &operations[*at]).rev().take(4);
    let last: Vec<_> = last.map(|operation| (&operation.mutation, operation.acked.is_some())).collect();
    let right = &log.states[low..];
    format!(
        "{name} holds {state:?}, the state after {fitting:?} of its {} operations; at least {low} must be there. \
         Right would be one of the last of {right:?}; newest operations (acknowledged?): {last:?}",
        log.operations.len()
    )
}
