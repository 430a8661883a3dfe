//! Judges answers about several keys: scans, and lists of names.

use super::Oracle;
use crate::model::OwnedValue;
use crate::simulator::model::{Answer, Entry, Gather, KeyState};
use std::collections::BTreeMap;

/// The parts of a scan that its check needs.
pub(super) struct ScanCheck {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) reverse: bool,
    pub(super) limit: u64,
    pub(super) gather: Gather,
}

impl ScanCheck {
    /// What the scan shows of a key.
    fn rows(&self, state: &KeyState) -> Vec<(i64, OwnedValue)> {
        state.gathered(self.from, self.to, self.reverse, self.gather)
    }
}

impl Oracle {
    pub(super) fn check_scan(
        &mut self,
        lows: &BTreeMap<usize, usize>,
        cutoffs: &BTreeMap<usize, i64>,
        scan: &ScanCheck,
        entries: &[Entry],
    ) -> Result<(), String> {
        let total = entries.len() as u64;
        if total > scan.limit {
            return Err(format!("{total} entries for a limit of {}", scan.limit));
        }
        let is_full = total == scan.limit;
        let mut rest = entries;
        let mut keys: Vec<(usize, usize)> = lows.iter().map(|(key, low)| (*key, *low)).collect();
        if scan.reverse {
            keys.reverse();
        }
        for (key, low) in keys {
            let name = self.names[key].clone();
            let count = rest.iter().take_while(|entry| entry.key == name).count();
            let (own, after) = rest.split_at(count);
            rest = after;
            // Where the limit ends the scan, this key's entries may be cut off, or it was not reached at all.
            let may_be_cut = is_full && rest.is_empty();
            let rows: Vec<_> = own.iter().map(|entry| (entry.time, entry.value.clone())).collect();
            let explains = |state: &KeyState| {
                let right = scan.rows(state);
                if may_be_cut { right.starts_with(&rows) } else { right == rows }
            };
            if may_be_cut && rows.is_empty() {
                continue;
            }
            self.show(None, (key, low, cutoffs[&key]), explains).map_err(|states| {
                let right: Vec<_> = states.iter().map(|state| scan.rows(state)).collect();
                format!("{} shows {rows:?}; right would be one of {right:?}", String::from_utf8_lossy(&name))
            })?;
        }
        match rest.first() {
            None => Ok(()),
            Some(entry) => Err(format!("a key out of order, or of nobody: {entry:?}")),
        }
    }

    /// Each key is named once, or there is none such.
    pub(super) fn check_names(
        &mut self,
        lows: &BTreeMap<usize, usize>,
        cutoffs: &BTreeMap<usize, i64>,
        answer: &Answer,
    ) -> Result<(), String> {
        let mut named: Vec<&[u8]> = match answer {
            Answer::Names(names) => names.iter().map(|name| &**name).collect(),
            Answer::Rows(rows) if rows.is_empty() => Vec::new(),
            _ => return Err("not a list of names".into()),
        };
        for (key, low) in lows {
            let name = self.names[*key].clone();
            let before = named.len();
            named.retain(|other| *other != name);
            let times = before - named.len();
            let explains = |state: &KeyState| times == usize::from(state.is_live());
            self.show(None, (*key, *low, cutoffs[key]), explains).map_err(|states| {
                let name = String::from_utf8_lossy(&name);
                format!("{name} is named {times} times; it should hold one of {states:?}")
            })?;
        }
        if named.is_empty() { Ok(()) } else { Err("keys of nobody".into()) }
    }
}
