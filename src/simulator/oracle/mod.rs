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
//!
//! Where there is a retention, samples before some cutoff may be gone from what a prefix explains: the cutoff is at most
//! what the clock allows (`cutoff_max`), and never less than what a reader of the key, or before a restart of any key,
//! has seen.

mod recovery;
mod scans;

use super::model::{Answer, Failure, KeyState, Mutation, Query};
use scans::ScanCheck;
use std::collections::BTreeMap;

/// A mutation that was sent.
#[derive(Clone)]
struct Operation {
    connection: usize,
    mutation: Mutation,
    /// Order of all sends and replies of the run.
    sent: u64,
    sent_ns: u64,
    acked: Option<Acked>,
    /// Its connection is gone, or the machine failed under it: it may be done, or never be.
    is_unknown: bool,
}

/// When a reply was read.
#[derive(Clone, Copy)]
struct Acked {
    tick: u64,
    at_ns: u64,
}

/// What the machine does in a life, and hence what clients may be told.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// A key is written only when everything before on it was answered. Needed where single writes may be refused:
    /// what is left of several under way would be no prefix of them.
    pub(super) one_at_a_time: bool,
    /// Files fail: requests may be answered with IOERR, and their outcome is unknown.
    pub(super) machine_fails: bool,
    /// Writes may be refused for want of space, if they were sent before this time.
    pub(super) full_until_ns: u64,
    /// The node is going down: it may refuse anything.
    pub(super) is_closing: bool,
    /// The stream of each key.
    pub(super) streams: Vec<u16>,
}

/// What a crash may have taken of what was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Losses {
    Nothing,
    /// What was acknowledged after this time.
    After(u64),
    Anything,
}

/// One key.
#[derive(Clone)]
struct KeyLog {
    /// Element `k`: the state after the first `k` operations.
    states: Vec<KeyState>,
    operations: Vec<usize>,
    /// So many operations some reply has shown.
    shown: usize,
    /// Samples before this time are gone: some reply has shown that.
    cutoff: i64,
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
        asked: u64,
        lows: BTreeMap<usize, usize>,
        /// For each key what was known to be gone.
        cutoffs: BTreeMap<usize, i64>,
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
    pub(super) rules: Rules,
    /// No cutoff in force is later than this; `i64::MIN` without retention.
    pub(super) cutoff_max: i64,
    /// Times that a reply showed samples to be gone for their age.
    pub(super) expired: u64,
    ticks: u64,
    tickets: u64,
    pub(super) acknowledged: u64,
    pub(super) answered: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    /// Writes that were refused because they were too old.
    pub(super) too_old: u64,
}

impl Oracle {
    /// An empty store; `names` ascend.
    pub(super) fn new(names: Vec<Vec<u8>>) -> Self {
        let keys = names.iter().map(|_| KeyLog {
            states: vec![KeyState::default()],
            operations: Vec::new(),
            shown: 0,
            cutoff: i64::MIN,
        });
        Self {
            keys: keys.collect(),
            names,
            operations: Vec::new(),
            pending: BTreeMap::new(),
            rules: Rules::default(),
            cutoff_max: i64::MIN,
            expired: 0,
            ticks: 0,
            tickets: 0,
            acknowledged: 0,
            answered: 0,
            refused: 0,
            failed: 0,
            too_old: 0,
        }
    }
    /// Whether `connection` may write `key`: nobody else's operation on it is without an answer.
    pub(super) fn may_write(&self, connection: usize, key: usize) -> bool {
        let may_follow = |operation: &usize| {
            let operation = &self.operations[*operation];
            let is_own = operation.connection == connection && !operation.is_unknown;
            operation.acked.is_some() || (is_own && !self.rules.one_at_a_time)
        };
        self.keys[key].operations.iter().all(may_follow)
    }
    /// Whether all keys lie in one stream, which a crash or a refusal then treats alike.
    pub(super) fn share_a_stream(&self, keys: &[usize]) -> bool {
        let stream = |key: &usize| self.rules.streams.get(*key);
        keys.iter().all(|key| stream(key) == keys.first().and_then(stream))
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
    pub(super) fn change(&mut self, connection: usize, mutation: Mutation, now_ns: u64) -> u64 {
        let operation = self.operations.len();
        let mut expected = Answer::Done;
        for key in mutation.keys(&self.names) {
            let log = &mut self.keys[key];
            let mut state = log.states.last().expect("there is a base").clone();
            expected = mutation.apply(key, &mut state, self.cutoff_max > i64::MIN);
            log.states.push(state);
            log.operations.push(operation);
        }
        let sent = self.tick();
        let (sent_ns, acked, is_unknown) = (now_ns, None, false);
        self.operations.push(Operation { connection, mutation, sent, sent_ns, acked, is_unknown });
        self.ticket(Pending::Change { operation, expected })
    }
    /// Notes a question.
    pub(super) fn look(&mut self, connection: usize, query: Query) -> u64 {
        let keys: Vec<usize> = match &query {
            Query::Get { key }
            | Query::Latest { key }
            | Query::Range { key, .. }
            | Query::Aggregate { key, .. }
            | Query::At { key, .. }
            | Query::Newest { key } => vec![*key],
            Query::Keys { prefix } | Query::Scan { prefix, .. } => {
                (0..self.names.len()).filter(|key| self.names[*key].starts_with(prefix)).collect()
            }
        };
        let cutoffs = keys.iter().map(|key| (*key, self.keys[*key].cutoff)).collect();
        let lows = keys.into_iter().map(|key| (key, self.low(connection, key))).collect();
        let asked = self.tick();
        self.ticket(Pending::Look { query, connection, asked, lows, cutoffs })
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
            let is_own = operation.connection == connection && !operation.is_unknown;
            operation.acked.is_some() || is_own
        };
        log.operations.iter().rposition(is_seen).map_or(0, |last| last + 1).max(log.shown)
    }
    /// Judges a reply.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn reply(&mut self, ticket: u64, answer: &Answer, now_ns: u64) -> Result<(), String> {
        let tick = self.tick();
        let pending = self.pending.remove(&ticket).ok_or(format!("a second reply to request {ticket}"))?;
        if let Some(failure) = answer.failure() {
            return self.fail(&pending, failure, answer);
        }
        match pending {
            Pending::Admin if *answer == Answer::Done || self.admin_may_fail() => Ok(()),
            Pending::Admin => Err(format!("a flush or merge was answered {answer:?}")),
            Pending::Change { operation, expected } => {
                let found = &mut self.operations[operation];
                found.acked = Some(Acked { tick, at_ns: now_ns });
                self.acknowledged += 1;
                match expected == *answer || self.is_right_of_age(operation, answer) {
                    true => Ok(()),
                    false => {
                        let mutation = &self.operations[operation].mutation;
                        Err(format!("{mutation:?} was answered {answer:?}, not {expected:?}"))
                    }
                }
            }
            Pending::Look { query, connection, asked, lows, cutoffs } => {
                self.answered += 1;
                if let Query::Scan { from, to, reverse, limit, gather, .. } = query {
                    let Answer::Entries(entries) = answer else {
                        return Err(format!("{query:?} was answered {answer:?}"));
                    };
                    let scan = ScanCheck { from, to, reverse, limit, gather };
                    return self
                        .check_scan(&lows, &cutoffs, &scan, entries)
                        .map_err(|why| format!("{query:?}: {why}"));
                }
                if let Query::Keys { .. } = query {
                    return self
                        .check_names(&lows, &cutoffs, answer)
                        .map_err(|why| format!("{query:?} was answered {answer:?}: {why}"));
                }
                let (key, low) = lows.into_iter().next().expect("a question is about a key");
                let is_right = |state: &KeyState| state.answer(&query).agrees_with(answer);
                self.show(Some((connection, asked)), (key, low, cutoffs[&key]), is_right).map_err(|states| {
                    let right: Vec<_> = states.iter().map(|state| state.answer(&query)).collect();
                    let name = String::from_utf8_lossy(&self.names[key]).into_owned();
                    let newest = states.last();
                    format!(
                        "{query:?} of {name} was answered {answer:?}; right would be one of {right:?}; it should hold \
                         {newest:?}"
                    )
                })
            }
        }
    }
    /// Whether what a change was answered is right where some samples were too old.
    fn is_right_of_age(&self, operation: usize, answer: &Answer) -> bool {
        let mutation = &self.operations[operation].mutation;
        let [key] = mutation.keys(&self.names)[..] else { return false };
        let log = &self.keys[key];
        let Some(at) = log.operations.iter().position(|other| *other == operation) else { return false };
        let before = log.states.get(at..=at).unwrap_or_default();
        let cutoffs = self.cutoffs_of(before, i64::MIN);
        let may_be = |mut state: KeyState| mutation.apply(key, &mut state, true) == *answer;
        cutoffs.into_iter().any(|cutoff| before.iter().flat_map(|state| state.aged(cutoff)).any(may_be))
    }
    /// Cutoffs from `least` on that differ in what they leave of these states.
    fn cutoffs_of(&self, states: &[KeyState], least: i64) -> Vec<i64> {
        let mut cutoffs = vec![least];
        if least < self.cutoff_max {
            let times = states.iter().flat_map(|state| state.samples.range(least..self.cutoff_max));
            cutoffs.extend(times.map(|(time, _)| time + 1));
            cutoffs.sort_unstable();
            cutoffs.dedup();
        }
        cutoffs
    }
    fn admin_may_fail(&self) -> bool {
        self.rules.machine_fails || self.rules.full_until_ns > 0 || self.rules.is_closing
    }
    /// Judges an error.
    fn fail(&mut self, pending: &Pending, failure: Failure, answer: &Answer) -> Result<(), String> {
        self.failed += 1;
        match (pending, failure) {
            (Pending::Admin, _) if self.admin_may_fail() => Ok(()),
            (Pending::Change { operation, .. }, Failure::Refused) => {
                self.refuse_or_doubt(*operation);
                Ok(())
            }
            (Pending::Change { operation, .. }, Failure::NoSpace)
                if self.operations[*operation].sent_ns < self.rules.full_until_ns =>
            {
                self.refuse_or_doubt(*operation);
                Ok(())
            }
            (Pending::Change { operation, .. }, Failure::Expired)
                if self.operations[*operation]
                    .mutation
                    .earliest()
                    .is_some_and(|time| time < self.cutoff_max) =>
            {
                self.too_old += 1;
                self.refuse_or_doubt(*operation);
                Ok(())
            }
            (Pending::Change { operation, .. }, Failure::Read | Failure::Disk)
                if self.rules.machine_fails =>
            {
                self.refuse_or_doubt(*operation);
                Ok(())
            }
            (Pending::Change { operation, .. }, Failure::Log) if self.rules.machine_fails => {
                self.doubt(*operation);
                Ok(())
            }
            (Pending::Look { .. }, Failure::Read | Failure::Log) if self.rules.machine_fails => Ok(()),
            (Pending::Look { .. }, Failure::Refused) if self.rules.is_closing => Ok(()),
            (Pending::Change { operation, .. }, _) => {
                let mutation = &self.operations[*operation].mutation;
                Err(format!("{mutation:?} was answered {answer:?}, for no reason that there is"))
            }
            (Pending::Look { query, .. }, _) => {
                Err(format!("{query:?} was answered {answer:?}, for no reason that there is"))
            }
            (Pending::Admin, _) => Err(format!("a flush or merge was answered {answer:?}")),
        }
    }
    /// A request failed before it took effect: as if it had never been sent.
    pub(super) fn refused(&mut self, ticket: u64) {
        if let Some(Pending::Change { operation, .. }) = self.pending.remove(&ticket) {
            self.refuse(operation);
            self.refused += 1;
        }
    }
    /// A request whose connection is gone, or that will have no answer which says what became of it.
    pub(super) fn orphan(&mut self, ticket: u64) {
        if let Some(Pending::Change { operation, .. }) = self.pending.remove(&ticket) {
            self.doubt(operation);
        }
    }
    /// Nobody knows whether a write was done, or ever will be: questions that were asked behind it need not see it.
    fn doubt(&mut self, doubtful: usize) {
        self.operations[doubtful].is_unknown = true;
        for key in self.operations[doubtful].mutation.keys(&self.names) {
            let log = &self.keys[key];
            let Some(at) = log.operations.iter().position(|operation| *operation == doubtful) else {
                continue;
            };
            for pending in self.pending.values_mut() {
                if let Pending::Look { lows, .. } = pending
                    && let Some(low) = lows.get_mut(&key)
                    && *low == at + 1
                {
                    *low = at.max(log.shown);
                }
            }
        }
    }
    /// A refusal that covers several shards may be that of one of them only.
    fn refuse_or_doubt(&mut self, operation: usize) {
        self.refused += 1;
        let keys = self.operations[operation].mutation.keys(&self.names);
        if self.share_a_stream(&keys) {
            self.refuse(operation);
        } else {
            self.doubt(operation);
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
                let answer =
                    self.operations[*later].mutation.apply(key, &mut state, self.cutoff_max > i64::MIN);
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
    /// of the `asker` (a connection, and when it asked); a scan has none, since it may reach a shard after requests that
    /// were sent behind it.
    fn show(
        &mut self,
        asker: Option<(usize, u64)>,
        (key, low, cutoff): (usize, usize, i64),
        explains: impl Fn(&KeyState) -> bool,
    ) -> Result<(), Vec<KeyState>> {
        let log = &self.keys[key];
        let comes_later = |at: &usize| {
            let operation = &self.operations[*at];
            asker.is_some_and(|(connection, asked)| {
                operation.connection == connection && operation.sent > asked
            })
        };
        let own_next = log.operations.iter().skip(low).position(comes_later);
        let high = own_next.map_or(log.operations.len(), |nth| low + nth);
        let cutoffs = self.cutoffs_of(&log.states[low..=high], cutoff);
        // What every explanation has in common is known from now on.
        let (mut shown, mut gone) = (None, None);
        for count in low..=high {
            let fits = |cutoff: &&i64| log.states[count].aged(**cutoff).any(|state| explains(&state));
            if let Some(cutoff) = cutoffs.iter().find(fits) {
                shown = shown.or(Some(count));
                gone = Some(gone.unwrap_or(*cutoff).min(*cutoff));
            }
        }
        match (shown, gone) {
            (Some(shown), Some(gone)) => {
                let log = &mut self.keys[key];
                self.expired += u64::from(gone > log.cutoff);
                log.cutoff = log.cutoff.max(gone);
                log.shown = log.shown.max(shown);
                Ok(())
            }
            _ => Err(log.states[low..=high].to_vec()),
        }
    }

    /// Forgets requests whose answers went down with the node.
    pub(super) fn forget_pending(&mut self) {
        self.pending.clear();
    }
}
