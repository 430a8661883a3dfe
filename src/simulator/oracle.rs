//! Knows every operation that was sent, in the order that each key must see, and judges replies and recoveries.
//!
//! One connection writes a key at a time, so the operations on a key have one order: that in which they were sent.
//! Each key keeps the state after every prefix of them. A reply is right when some prefix explains it that holds
//! everything acknowledged, or shown by an earlier reply, before the question; a recovery is right when some prefix
//! explains each key that holds everything that had to survive, and no stream has a hole:
//!
//! ```text
//! key a   base ─o1─ s1 ─o2─ s2 ─o4─ s3     found s2: o4 is lost, o1 and o2 survived
//! key b   base ─o3─ s1                     found base: o3 is lost; wrong if o3 was acknowledged before o2 was sent
//! ```

use super::client::DumpEntry;
use super::model::{Answer, Entry, KeyState, Mutation, Query};
use crate::model::{OwnedValue, Slot};
use std::collections::{BTreeMap, BTreeSet};

/// Who waits for an answer that will never come.
const NOBODY: usize = usize::MAX;

/// A mutation that was sent.
#[derive(Clone)]
struct Operation {
    connection: usize,
    mutation: Mutation,
    /// Order of all sends and replies of the run.
    sent: u64,
    acked: Option<u64>,
}

/// One key.
#[derive(Clone)]
struct KeyLog {
    /// Element `k`: the state after the first `k` operations.
    states: Vec<KeyState>,
    operations: Vec<usize>,
    /// So many operations some reply has shown.
    shown: usize,
}

/// A request without a reply.
#[derive(Clone)]
enum Pending {
    Change {
        operation: usize,
        expected: Answer,
    },
    /// A question, and for each of its keys what it may see: at least `low` operations, at most those before the
    /// asker's own next one, `own`.
    Look {
        query: Query,
        connection: usize,
        lows: BTreeMap<usize, usize>,
    },
    Admin,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Oracle {
    pub(super) names: Vec<Vec<u8>>,
    keys: Vec<KeyLog>,
    operations: Vec<Operation>,
    pending: BTreeMap<u64, Pending>,
    ticks: u64,
    tickets: u64,
    pub(super) acknowledged: u64,
    pub(super) answered: u64,
    pub(super) refused: u64,
}

impl Oracle {
    /// An empty store; `names` ascend.
    pub(super) fn new(names: Vec<Vec<u8>>) -> Self {
        let keys = names.iter().map(|_| KeyLog {
            states: vec![KeyState::default()],
            operations: Vec::new(),
            shown: 0,
        });
        Self {
            keys: keys.collect(),
            names,
            operations: Vec::new(),
            pending: BTreeMap::new(),
            ticks: 0,
            tickets: 0,
            acknowledged: 0,
            answered: 0,
            refused: 0,
        }
    }
    /// Whether `connection` may write `key`: nobody else's operation on it is without an answer.
    pub(super) fn may_write(&self, connection: usize, key: usize) -> bool {
        let is_own = |operation: &usize| {
            let operation = &self.operations[*operation];
            operation.acked.is_some() || operation.connection == connection
        };
        self.keys[key].operations.iter().all(is_own)
    }
    /// Operations on keys that may still be lost.
    pub(super) fn history(&self) -> usize {
        self.operations.len()
    }
    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }
    fn ticket(&mut self, pending: Pending) -> u64 {
        self.tickets += 1;
        self.pending.insert(self.tickets, pending);
        self.tickets
    }
    /// Notes a mutation; the ticket names its reply.
    pub(super) fn change(&mut self, connection: usize, mutation: Mutation) -> u64 {
        let operation = self.operations.len();
        let mut expected = Answer::Done;
        for key in mutation.keys(&self.names) {
            let log = &mut self.keys[key];
            let mut state = log.states.last().expect("there is a base").clone();
            expected = mutation.apply(key, &mut state);
            log.states.push(state);
            log.operations.push(operation);
        }
        let sent = self.tick();
        self.operations.push(Operation { connection, mutation, sent, acked: None });
        self.ticket(Pending::Change { operation, expected })
    }
    /// Notes a question.
    pub(super) fn look(&mut self, connection: usize, query: Query) -> u64 {
        let keys: Vec<usize> = match &query {
            Query::Get { key }
            | Query::Latest { key }
            | Query::Range { key, .. }
            | Query::At { key, .. }
            | Query::Newest { key } => vec![*key],
            Query::Scan { prefix, .. } => {
                (0..self.names.len()).filter(|key| self.names[*key].starts_with(prefix)).collect()
            }
        };
        let lows = keys.into_iter().map(|key| (key, self.low(connection, key))).collect();
        self.ticket(Pending::Look { query, connection, lows })
    }
    /// What has no answer yet.
    pub(super) fn unanswered(&self) -> String {
        let text = |(ticket, pending): (&u64, &Pending)| match pending {
            Pending::Change { operation, .. } => {
                format!("{ticket}: {:?}", self.operations[*operation].mutation)
            }
            Pending::Look { query, .. } => format!("{ticket}: {query:?}"),
            Pending::Admin => format!("{ticket}: flush, merge or dump"),
        };
        self.pending.iter().map(text).collect::<Vec<_>>().join("\n")
    }
    /// Notes a FLUSH, a COMPACT or a dump.
    pub(super) fn admin(&mut self) -> u64 {
        self.ticket(Pending::Admin)
    }
    /// How many operations on `key` a question of `connection` must see.
    fn low(&self, connection: usize, key: usize) -> usize {
        let log = &self.keys[key];
        let is_seen = |operation: &usize| {
            let operation = &self.operations[*operation];
            operation.acked.is_some() || operation.connection == connection
        };
        log.operations.iter().rposition(is_seen).map_or(0, |last| last + 1).max(log.shown)
    }
    /// Judges a reply.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn reply(&mut self, ticket: u64, answer: &Answer) -> Result<(), String> {
        let tick = self.tick();
        let pending = self.pending.remove(&ticket).ok_or(format!("a second reply to request {ticket}"))?;
        match pending {
            Pending::Admin if *answer == Answer::Done => Ok(()),
            Pending::Admin => Err(format!("a flush or merge was answered {answer:?}")),
            Pending::Change { operation, .. } if answer.is_busy() => {
                self.refuse(operation);
                self.refused += 1;
                Ok(())
            }
            Pending::Change { operation, expected } => {
                let found = &mut self.operations[operation];
                found.acked = Some(tick);
                self.acknowledged += 1;
                match expected == *answer {
                    true => Ok(()),
                    false => Err(format!("{:?} was answered {answer:?}, not {expected:?}", found.mutation)),
                }
            }
            Pending::Look { query, connection, lows } => {
                self.answered += 1;
                if let Query::Scan { from, to, reverse, limit, .. } = query {
                    let Answer::Entries(entries) = answer else {
                        return Err(format!("{query:?} was answered {answer:?}"));
                    };
                    let scan = ScanCheck { from, to, reverse, limit };
                    return self.check_scan(&lows, &scan, entries).map_err(|why| format!("{query:?}: {why}"));
                }
                let (key, low) = lows.into_iter().next().expect("a question is about a key");
                let is_right = |state: &KeyState| state.answer(&query) == *answer;
                self.show(Some(connection), key, low, is_right).map_err(|states| {
                    let right: Vec<_> = states.iter().map(|state| state.answer(&query)).collect();
                    let name = String::from_utf8_lossy(&self.names[key]).into_owned();
                    format!("{query:?} of {name} was answered {answer:?}; right would be one of {right:?}")
                })
            }
        }
    }
    /// A request failed before it took effect: as if it had never been sent.
    pub(super) fn refused(&mut self, ticket: u64) {
        if let Some(Pending::Change { operation, .. }) = self.pending.remove(&ticket) {
            self.refuse(operation);
            self.refused += 1;
        }
    }
    /// A request will have no answer that says what became of it: it may have taken effect, and nobody counts on it.
    pub(super) fn unknown(&mut self, ticket: u64) {
        if let Some(Pending::Change { operation, .. }) = self.pending.remove(&ticket) {
            self.operations[operation].connection = NOBODY;
        }
    }
    /// A write was refused before it took effect: as if it had never been sent.
    fn refuse(&mut self, refused: usize) {
        for key in self.operations[refused].mutation.keys(&self.names) {
            let log = &mut self.keys[key];
            let Some(at) = log.operations.iter().position(|operation| *operation == refused) else {
                continue;
            };
            log.operations.remove(at);
            log.states.truncate(at + 1);
            log.shown -= usize::from(log.shown > at);
            for later in log.operations.get(at..).unwrap_or_default() {
                let mut state = log.states.last().expect("there is a base").clone();
                let answer = self.operations[*later].mutation.apply(key, &mut state);
                log.states.push(state);
                for pending in self.pending.values_mut() {
                    match pending {
                        Pending::Change { operation, expected } if operation == later => {
                            *expected = answer.clone()
                        }
                        _ => {}
                    }
                }
            }
            for pending in self.pending.values_mut() {
                if let Pending::Look { lows, .. } = pending
                    && let Some(low) = lows.get_mut(&key)
                {
                    *low -= usize::from(*low > at);
                }
            }
        }
    }
    /// Looks for a prefix of the key's operations that `explains` what a reply shows. It ends before the next operation
    /// of `connection`; a scan has none, since it may reach a shard after requests that were sent behind it.
    fn show(
        &mut self,
        connection: Option<usize>,
        key: usize,
        low: usize,
        explains: impl Fn(&KeyState) -> bool,
    ) -> Result<(), Vec<KeyState>> {
        let log = &mut self.keys[key];
        let own_next = log
            .operations
            .iter()
            .skip(low)
            .position(|at| Some(self.operations[*at].connection) == connection);
        let high = own_next.map_or(log.operations.len(), |nth| low + nth);
        match (low..=high).find(|count| explains(&log.states[*count])) {
            Some(count) => {
                log.shown = log.shown.max(count);
                Ok(())
            }
            None => Err(log.states[low..=high].to_vec()),
        }
    }
    fn check_scan(
        &mut self,
        lows: &BTreeMap<usize, usize>,
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
                let right = state.rows(scan.from, scan.to, scan.reverse);
                if may_be_cut { right.starts_with(&rows) } else { right == rows }
            };
            if may_be_cut && rows.is_empty() {
                continue;
            }
            self.show(None, key, low, explains).map_err(|states| {
                let right: Vec<_> =
                    states.iter().map(|state| state.rows(scan.from, scan.to, scan.reverse)).collect();
                format!("{} shows {rows:?}; right would be one of {right:?}", String::from_utf8_lossy(&name))
            })?;
        }
        match rest.first() {
            None => Ok(()),
            Some(entry) => Err(format!("a key out of order, or of nobody: {entry:?}")),
        }
    }

    /// Judges what a restart found, and goes on from there. `may_lose` says whether acknowledged writes may be gone;
    /// `stream_of` says in whose log the last life wrote a key.
    ///
    /// # Errors
    /// What is lost, invented, or out of order.
    pub(super) fn recovered(
        &mut self,
        dump: Vec<DumpEntry>,
        may_lose: bool,
        stream_of: impl Fn(&[u8]) -> u16,
    ) -> Result<(), String> {
        let mut found = self.states_of(dump)?;
        let mut survived: BTreeMap<u16, BTreeSet<usize>> = BTreeMap::new();
        let mut lost: BTreeMap<u16, BTreeSet<usize>> = BTreeMap::new();
        for (key, log) in self.keys.iter_mut().enumerate() {
            let name = &self.names[key];
            let state = found.remove(&key).unwrap_or_default();
            let acked = |at: &usize| self.operations[*at].acked.is_some();
            let must = log.operations.iter().rposition(acked).map_or(0, |last| last + 1).max(log.shown);
            let low = if may_lose { 0 } else { must };
            let fitting: Vec<usize> =
                (0..log.states.len()).filter(|count| log.states[*count] == state).collect();
            let fits = fitting.iter().copied().filter(|count| *count >= low);
            let (Some(least), Some(most)) = (fits.clone().min(), fits.max()) else {
                return Err(explain_loss(name, log, &self.operations, &state, low, &fitting));
            };
            let stream = stream_of(name);
            survived.entry(stream).or_default().extend(&log.operations[..least]);
            lost.entry(stream).or_default().extend(&log.operations[most..]);
            *log = KeyLog { states: vec![state], operations: Vec::new(), shown: 0 };
        }
        for (stream, survived) in &survived {
            let lost = lost.get(stream).cloned().unwrap_or_default();
            if let Some(both) = survived.intersection(&lost).next() {
                return Err(format!("half of {:?} is there", self.operations[*both].mutation));
            }
            let newest = survived.iter().max_by_key(|at| self.operations[**at].sent);
            let Some(newest) = newest.map(|at| &self.operations[*at]) else { continue };
            let is_hole = |at: &&usize| self.operations[**at].acked.is_some_and(|acked| acked < newest.sent);
            if let Some(hole) = lost.iter().find(is_hole) {
                let hole = &self.operations[*hole].mutation;
                return Err(format!("{:?} is there, but not {hole:?}, acknowledged before", newest.mutation));
            }
        }
        self.operations.clear();
        self.pending.clear();
        Ok(())
    }
    /// Forgets requests whose answers went down with the node.
    pub(super) fn forget_pending(&mut self) {
        self.pending.clear();
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

/// The parts of a scan that its check needs.
struct ScanCheck {
    from: i64,
    to: i64,
    reverse: bool,
    limit: u64,
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
