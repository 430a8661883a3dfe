//! What a writer sent, what was acknowledged, and what a crash may have left of it.
//!
//! Each key has one writer. Its states after each prefix of what the writer sent are the only ones that recovery may
//! show, and the prefix must reach as far as the last acknowledged change. A store that has no room refuses writes and
//! takes deletes; where it may have, a write without a reply may be missing from the prefix.

use super::Reply;
use std::collections::BTreeMap;
use std::time::Instant;

/// What one key holds. Samples are kept by their bits.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    #[default]
    Absent,
    Text(Vec<u8>),
    Series(BTreeMap<i64, u64>),
}

/// TS.ADD's ON_DUPLICATE.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Policy {
    Block,
    First,
    Last,
    Sum,
}

impl Policy {
    pub(crate) const ALL: [Self; 4] = [Self::Block, Self::First, Self::Last, Self::Sum];
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Block => "BLOCK",
            Self::First => "FIRST",
            Self::Last => "LAST",
            Self::Sum => "SUM",
        }
    }
}

/// What a request does to one key.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// SET.
    Set(Vec<u8>),
    /// DEL, FLUSHALL, a delete of the series or of a prefix.
    Delete,
    /// TS.ADD.
    Add { time: i64, value: f64, policy: Policy },
    /// A native PUT or the part of a batch that goes to this key: whole or absent.
    Put(Vec<(i64, f64)>),
    /// TS.DEL, and the native delete of a time range.
    DeleteTimes { from: i64, to: i64, keeps_series: bool },
}

/// States that a key may be in after writes of which each may be missing.
const STATES_MAX: usize = 256;

impl Change {
    /// Whether a store without room refuses it.
    fn needs_room(&self) -> bool {
        match self {
            Self::Set(_) | Self::Add { .. } | Self::Put(_) => true,
            Self::Delete | Self::DeleteTimes { .. } => false,
        }
    }
    /// Whether it may change what a series holds at `time`.
    fn touches(&self, time: i64) -> bool {
        match self {
            Self::Set(_) | Self::Delete => true,
            Self::Add { time: own, .. } => *own == time,
            Self::Put(entries) => entries.iter().any(|(own, _)| *own == time),
            Self::DeleteTimes { from, to, .. } => (*from..=*to).contains(&time),
        }
    }
}

impl State {
    /// How many samples it holds within the times.
    pub(crate) fn count(&self, from: i64, to: i64) -> i64 {
        match self {
            Self::Series(samples) => i64::try_from(samples.range(from..=to).count()).unwrap(),
            Self::Absent | Self::Text(_) => 0,
        }
    }
    /// Applies a change; says whether it was accepted (a blocked duplicate is not).
    pub(crate) fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Set(text) => *self = Self::Text(text.clone()),
            Change::Delete => *self = Self::Absent,
            Change::Add { time, value, policy } => {
                let samples = self.samples();
                let old = samples.get(time).copied().map(f64::from_bits);
                let new = match (old, policy) {
                    (None, _) | (Some(_), Policy::Last) => *value,
                    (Some(old), Policy::First) => old,
                    (Some(old), Policy::Sum) => old + *value,
                    (Some(_), Policy::Block) => return false,
                };
                samples.insert(*time, new.to_bits());
            }
            Change::Put(entries) => {
                let samples = self.samples();
                samples.extend(entries.iter().map(|(time, value)| (*time, value.to_bits())));
            }
            Change::DeleteTimes { from, to, keeps_series } => {
                if let Self::Series(samples) = self {
                    samples.retain(|time, _| !(*from..=*to).contains(time));
                    if samples.is_empty() && !keeps_series {
                        *self = Self::Absent;
                    }
                }
            }
        }
        true
    }
    fn samples(&mut self) -> &mut BTreeMap<i64, u64> {
        if !matches!(self, Self::Series(_)) {
            *self = Self::Series(BTreeMap::new());
        }
        match self {
            Self::Series(samples) => samples,
            Self::Absent | Self::Text(_) => unreachable!("made a series above"),
        }
    }
}

/// What one writer owns and did since the last recovery.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) keys: Vec<Vec<u8>>,
    /// What the last recovery showed.
    base: Vec<State>,
    /// As if all that was sent had been done.
    pub(crate) current: Vec<State>,
    /// Changes in the order they were sent: key, change, number of the request.
    sent: Vec<(usize, Change, usize)>,
    /// Requests, and when each was acknowledged, if it was.
    acked: Vec<Option<Instant>>,
    /// Whether changes of different keys are done in the order they were sent too: one stream, and nothing is read first.
    pub(crate) ordered: bool,
    /// Whether writes may have been refused for want of room whose replies did not come any more.
    pub(crate) may_refuse: bool,
}

impl Ledger {
    pub(crate) fn new(keys: Vec<Vec<u8>>) -> Self {
        let base = vec![State::Absent; keys.len()];
        let (sent, acked) = (Vec::new(), Vec::new());
        Self { keys, current: base.clone(), base, sent, acked, ordered: false, may_refuse: false }
    }
    /// Notes a request that is about to be sent; its number. Says for each change whether it will be accepted.
    pub(crate) fn send(&mut self, changes: Vec<(usize, Change)>) -> (usize, Vec<bool>) {
        let request = self.acked.len();
        self.acked.push(None);
        let mut accepted = Vec::new();
        for (key, change) in changes {
            accepted.push(self.current[key].apply(&change));
            self.sent.push((key, change, request));
        }
        (request, accepted)
    }
    /// Notes that a request's reply has come.
    pub(crate) fn acknowledge(&mut self, request: usize) {
        self.acked[request] = Some(Instant::now());
    }
    fn changes_of(&self, request: usize) -> usize {
        self.sent.iter().filter(|(_, _, of)| *of == request).count()
    }
    /// Notes that a request was refused: none of its changes was made, now or ever.
    pub(crate) fn refuse(&mut self, request: usize) {
        self.sent.retain(|(_, _, of)| *of != request);
    }
    /// Notes a reply to a refused request, or behind one, where replies are not what was foreseen: what was answered by
    /// an error was not done, unless the log is to blame.
    pub(crate) fn note(&mut self, request: usize, reply: &Reply) {
        let is_in_doubt = |reply: &Reply| reply.blames_disk() && !reply.lacks_space();
        match reply {
            Reply::Error(_) if is_in_doubt(reply) => {}
            // Of several writes the error is that of some.
            Reply::Error(_) if self.changes_of(request) > 1 => {}
            Reply::Error(_) => self.refuse(request),
            // TS.MADD says of each sample what became of it.
            Reply::Array(items) => {
                assert_eq!(items.len(), self.changes_of(request), "a reply for each sample");
                let mut outcomes = items.iter();
                let is_refused = |item: &Reply| matches!(item, Reply::Error(_)) && !is_in_doubt(item);
                self.sent.retain(|(_, _, of)| *of != request || !outcomes.next().is_some_and(is_refused));
                if !items.iter().any(is_in_doubt) {
                    self.acknowledge(request);
                }
            }
            Reply::Simple(_) | Reply::Integer(_) | Reply::Bulk(_) => self.acknowledge(request),
        }
    }
    /// Requests acknowledged since the last recovery.
    pub(crate) fn acks(&self) -> usize {
        self.acked.iter().flatten().count()
    }
    /// Takes acknowledgements after `moment` as not given: a power cut may take back what they stood for.
    pub(crate) fn forgive_after(&mut self, moment: Instant) {
        self.acked.iter_mut().filter(|acked| **acked > Some(moment)).for_each(|acked| *acked = None);
    }
    /// Compares what recovery shows with what it may show, and starts again from there.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn settle(&mut self, recovered: &[State]) -> Result<(), String> {
        // Bit n: the key's state is the one after the first n changes sent.
        let mut fits_all = vec![true; self.sent.len() + 1];
        for (key, found) in recovered.iter().enumerate() {
            // One, but for writes that may be missing.
            let mut states = vec![self.base[key].clone()];
            let owed =
                self.sent.iter().rposition(|(at, _, request)| *at == key && self.acked[*request].is_some());
            let owed = owed.map_or(0, |index| index + 1);
            let mut fits = states.contains(found);
            let mut fits_any = fits && owed == 0;
            fits_all[0] &= fits_any;
            for (index, (at, change, request)) in self.sent.iter().enumerate() {
                if *at == key {
                    let without =
                        if self.may_be_missing(change, *request) { states.clone() } else { Vec::new() };
                    for state in &mut states {
                        state.apply(change);
                    }
                    states.extend(without);
                    states.sort_unstable();
                    states.dedup();
                    if states.len() > STATES_MAX {
                        self.forget_hopeless(&mut states, key, index, found);
                        assert!(states.len() <= STATES_MAX, "too many writes without a reply");
                    }
                    fits = states.contains(found);
                }
                let is_candidate = fits && index + 1 >= owed;
                fits_any |= is_candidate;
                fits_all[index + 1] &= is_candidate;
            }
            if !fits_any {
                return Err(self.describe(key, found, owed));
            }
        }
        // A request is whole or absent: no prefix that ends within one counts.
        let ends_request = |index: usize| match (
            index.checked_sub(1).and_then(|last| self.sent.get(last)),
            self.sent.get(index),
        ) {
            (Some((_, _, before)), Some((_, _, after))) => before != after,
            (None, _) | (_, None) => true,
        };
        let fits_one = fits_all.iter().enumerate().any(|(index, fits)| *fits && ends_request(index));
        if self.ordered && !fits_one {
            return Err("the keys of one ordered writer show no common prefix of what was sent".to_owned());
        }
        self.base = recovered.to_vec();
        self.current = self.base.clone();
        self.sent.clear();
        self.acked.clear();
        Ok(())
    }

    fn may_be_missing(&self, change: &Change, request: usize) -> bool {
        self.may_refuse && self.acked[request].is_none() && change.needs_room()
    }

    /// Of the states that a key may be in after the change at `index`, keeps those from which what was found may still
    /// come about: where it differs, something that follows touches it. Of the others one stands for all where everything
    /// is deleted later.
    fn forget_hopeless(&self, states: &mut Vec<State>, key: usize, index: usize, found: &State) {
        let mut later = Vec::new();
        let mut is_deleted_later = false;
        for (_, change, request) in self.sent[index + 1..].iter().filter(|(at, _, _)| *at == key) {
            if matches!(change, Change::Delete | Change::Set(_)) && !self.may_be_missing(change, *request) {
                is_deleted_later = true;
                break;
            }
            later.push(change);
        }
        let nothing = BTreeMap::new();
        let samples = |state: &'_ State| match state {
            State::Series(samples) => Some(samples.clone()),
            State::Absent => Some(nothing.clone()),
            State::Text(_) => None,
        };
        let Some(found) = samples(found) else {
            // Only what replaces everything makes a text of a series, whatever it holds.
            let mut has_one = false;
            return states
                .retain(|state| matches!(state, State::Text(_)) || !std::mem::replace(&mut has_one, true));
        };
        let is_hopeless = |state: &State| {
            let Some(own) = samples(state) else { return false };
            let mut differing =
                own.keys().chain(found.keys()).filter(|time| own.get(time) != found.get(time));
            differing.any(|time| !later.iter().any(|change| change.touches(*time)))
        };
        let mut spare = is_deleted_later;
        states.retain(|state| !is_hopeless(state) || std::mem::take(&mut spare));
    }

    fn describe(&self, key: usize, found: &State, owed: usize) -> String {
        let changes: Vec<_> = self.sent.iter().enumerate().filter(|(_, (at, _, _))| *at == key).collect();
        let mut text = format!("key {}: recovered {}", self.keys[key].escape_ascii(), brief(found));
        let mut state = self.base[key].clone();
        text += &format!(
            "\n  before: {}; acknowledged through change {owed} of {}",
            brief(&state),
            self.sent.len()
        );
        for (index, (_, change, request)) in changes {
            state.apply(change);
            if index + 12 >= owed {
                let acked = if self.acked[*request].is_some() { "acked" } else { "unacked" };
                text += &format!("\n  {} {acked} {change:?} -> {}", index + 1, brief(&state));
            }
        }
        let mut text: String = text.chars().take(6000).collect();
        if let (State::Series(found), State::Series(last)) = (found, &state) {
            let lost: Vec<_> =
                last.iter().filter(|(time, value)| found.get(time) != Some(value)).take(5).collect();
            let extra: Vec<_> =
                found.iter().filter(|(time, value)| last.get(time) != Some(value)).take(5).collect();
            text += &format!("\n  against the last state, missing: {lost:?}; beyond it: {extra:?}");
        }
        text
    }
}

fn brief(state: &State) -> String {
    match state {
        State::Absent => "nothing".to_owned(),
        State::Text(text) => format!("{} bytes '{}'", text.len(), text[..text.len().min(24)].escape_ascii()),
        State::Series(samples) => {
            let last = samples.last_key_value().map(|(time, value)| (*time, f64::from_bits(*value)));
            format!("{} samples, last {last:?}", samples.len())
        }
    }
}
