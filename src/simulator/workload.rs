//! What clients ask for: requests by number, each drawn by dice of its own, so that leaving one out leaves the others as
//! they are.

use super::client::Ask;
use super::model::{Fold, Gather, Mutation, Query};
use super::schedule::Run;
use crate::io::sim::Rng;
use crate::model::OwnedValue;

/// Requests that a connection has under way at most.
const PIPELINE_MAX: usize = 12;
/// Operations on keys in one life: the oracle keeps a state for each.
const HISTORY_MAX: usize = 1500;
/// Timestamps lie this far apart, in milliseconds: a few of them fall into each day's table.
pub(super) const TIME_STEP: i64 = 17_000_000;
pub(super) const TIMES: u64 = 40;
/// A run of samples has at least as many: so many that a chunk of them has statistics.
const RUN_MIN: i64 = 16;
/// So far apart are its samples: a run fits into a day's table, and other writes meet it at a few times.
const RUN_STEP: i64 = TIME_STEP / 8;

/// Kinds of keys, and who may do what with them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Strings and series by turns; RESP only.
    Mixed,
    /// Series of numbers, by both protocols.
    Series,
    /// Series of byte strings; native only.
    Bytes,
}

pub(super) const KEYS: [(&str, Kind); 12] = [
    ("blob:1", Kind::Bytes),
    ("blob:2", Kind::Bytes),
    ("m:1", Kind::Mixed),
    ("m:2", Kind::Mixed),
    ("m:3", Kind::Mixed),
    ("m:4", Kind::Mixed),
    ("t:1", Kind::Series),
    ("t:2", Kind::Series),
    ("t:20", Kind::Series),
    ("t:3", Kind::Series),
    ("u", Kind::Series),
    ("u:1", Kind::Series),
];
const PREFIXES: [&str; 6] = ["blob:", "m:", "t:", "t:2", "u", ""];

impl Run {
    /// Draws the next request and sends it, if it may be sent.
    pub(super) fn ask_something(&mut self) {
        let number = self.requests_drawn;
        self.requests_drawn += 1;
        self.op_dice = Rng::new(self.options.seed ^ (number + 1).wrapping_mul(0xd1b5_4a32_d192_ed03)).fork();
        if !self.options.sends(number) {
            return;
        }
        let nth = self.op_dice.index(self.connections.len());
        let connection = &self.connections[nth];
        let is_full = connection.outstanding() >= PIPELINE_MAX || self.oracle.history() >= HISTORY_MAX;
        if is_full || !connection.takes_requests() {
            return;
        }
        let is_native = self.connections[nth].is_native;
        let roll = self.op_dice.below(100);
        let own: Vec<usize> = (0..KEYS.len()).filter(|key| roll > 54 || self.writers[*key] == nth).collect();
        if own.is_empty() {
            return;
        }
        let key = own[self.op_dice.index(own.len())];
        let kind = KEYS[key].1;
        let ask = match roll {
            0..=54 => self.draw_write(nth, key, kind, is_native),
            55..=57 => self.draw_wide_delete(nth, is_native),
            58 if is_native => Some(Ask::Flush),
            59 if is_native => Some(Ask::Compact),
            _ => self.draw_question(key, kind, is_native).map(Ask::Look),
        };
        let Some(ask) = ask else { return };
        let (id, now_ns) = (self.connections[nth].id, self.now_ns());
        let ticket = match &ask {
            Ask::Change(mutation) => self.oracle.change(id, mutation.clone(), now_ns),
            Ask::Look(query) => self.oracle.look(id, query.clone()),
            Ask::Dump | Ask::Flush | Ask::Compact => self.oracle.admin(),
        };
        self.world.remark(|| format!("-- request {number}, ticket {ticket}, of connection {id}: {ask:?}"));
        self.connections[nth].ask(ticket, &ask, &self.oracle.names);
    }

    fn time(&mut self) -> i64 {
        // Mostly near the newest, as time series are; before 1970 as well.
        let nth = self.op_dice.below(TIMES).cast_signed() - TIMES.cast_signed() / 2;
        nth * TIME_STEP
    }
    fn times(&mut self) -> (i64, i64) {
        match self.op_dice.below(5) {
            0 => (i64::MIN, i64::MAX),
            1 => (i64::MIN, self.time()),
            2 => (self.time(), i64::MAX),
            _ => {
                let (one, other) = (self.time(), self.time());
                (one.min(other), one.max(other))
            }
        }
    }
    fn number(&mut self) -> u32 {
        self.value_next += 1;
        self.value_next
    }
    fn bytes(&mut self) -> OwnedValue {
        let number = self.number();
        let most = [16, 200, 3000, 40_000][self.op_dice.index(4)].min(self.value_bytes_max);
        let filler = self.op_dice.index(most);
        let mut text = format!("value {number} ").into_bytes();
        text.resize(text.len() + filler, b'x');
        OwnedValue::Bytes(text.into())
    }
    fn value(&mut self, kind: Kind) -> OwnedValue {
        if kind == Kind::Bytes {
            return self.bytes();
        }
        let number = self.number();
        if self.op_dice.chance(1, 8) {
            OwnedValue::I64(number.into())
        } else {
            OwnedValue::F64(number.into())
        }
    }

    fn draw_write(&mut self, nth: usize, key: usize, kind: Kind, is_native: bool) -> Option<Ask> {
        if !self.oracle.may_write(self.connections[nth].id, key) {
            return None;
        }
        let mutation = if is_native {
            match self.op_dice.below(12) {
                0 => {
                    let (from, to) = self.times();
                    Mutation::DeleteTimes { key, from, to }
                }
                1 => Mutation::DeleteAt { key, time: self.time() },
                2 if self.op_dice.chance(1, 3) => Mutation::DeleteSeries { key },
                3 | 4 if kind == Kind::Series => self.draw_run(key),
                3..=5 => self.draw_batch(nth, key),
                _ => Mutation::Put { entries: vec![(key, self.time(), self.value(kind))] },
            }
        } else {
            let strings = if kind == Kind::Mixed { 5 } else { 0 };
            match self.op_dice.below(10) {
                roll if roll < strings => Mutation::Set { key, value: self.bytes() },
                5 => Mutation::Del { key },
                6 => {
                    let (from, to) = self.times();
                    Mutation::RemoveTimes { key, from: from.max(0), to: to.max(0) }
                }
                _ => {
                    // RESP knows no times before 1970.
                    let (time, value) = (self.time().abs(), self.number().into());
                    Mutation::Add { key, time, value, overwrite: self.op_dice.chance(1, 4) }
                }
            }
        };
        Some(Ask::Change(mutation))
    }
    /// A batch over keys of this connection, which a crash keeps whole or not at all. Where parts may be refused, all of
    /// it goes to one shard.
    fn draw_batch(&mut self, nth: usize, first: usize) -> Mutation {
        let id = self.connections[nth].id;
        let may_join = |key: &usize| {
            self.writers[*key] == nth
                && self.oracle.may_write(id, *key)
                && (!self.oracle.rules.one_at_a_time || self.oracle.share_a_stream(&[first, *key]))
        };
        let own: Vec<usize> = (0..KEYS.len()).filter(may_join).collect();
        let count = 1 + self.op_dice.index(6);
        let entries = (0..count).map(|_| {
            let key = own[self.op_dice.index(own.len())];
            (key, self.time(), self.value(KEYS[key].1))
        });
        Mutation::Put { entries: entries.collect() }
    }
    /// A batch of neighbouring samples of one series: enough for a chunk with statistics. The first lies where other
    /// writes go too.
    fn draw_run(&mut self, key: usize) -> Mutation {
        let first = self.time();
        let count = RUN_MIN + self.op_dice.below(4).cast_signed();
        let entries = (0..count).map(|nth| {
            let value = OwnedValue::F64(self.number().into());
            (key, first + nth * RUN_STEP, value)
        });
        Mutation::Put { entries: entries.collect() }
    }
    fn draw_wide_delete(&mut self, nth: usize, is_native: bool) -> Option<Ask> {
        if !self.op_dice.chance(1, 4) {
            return None;
        }
        let prefix = if is_native { PREFIXES[self.op_dice.index(PREFIXES.len())] } else { "" };
        let mutation = Mutation::DeletePrefix { prefix: prefix.as_bytes().to_vec() };
        let keys = mutation.keys(&self.oracle.names);
        keys.iter()
            .all(|key| self.oracle.may_write(self.connections[nth].id, *key))
            .then_some(Ask::Change(mutation))
    }
    /// What a scan gathers; byte strings have no buckets.
    fn draw_gather(&mut self, prefix: &str) -> Gather {
        let of_numbers = KEYS.iter().all(|(name, kind)| *kind != Kind::Bytes || !name.starts_with(prefix));
        match self.op_dice.below(8) {
            0 | 1 => Gather::Newest,
            2..=5 if of_numbers => {
                let fold = Fold::ALL[self.op_dice.index(Fold::ALL.len())];
                let bucket = [1, 3 * TIME_STEP - 7, 86_400_000, 864_000_000, i64::MAX][self.op_dice.index(5)];
                Gather::Buckets { fold, bucket }
            }
            _ => Gather::All,
        }
    }
    fn draw_question(&mut self, key: usize, kind: Kind, is_native: bool) -> Option<Query> {
        let (from, to) = self.times();
        let reverse = self.op_dice.chance(1, 2);
        let few = self.op_dice.index(8);
        let limited = self.op_dice.chance(1, 3);
        if is_native {
            return Some(match self.op_dice.below(6) {
                0 => Query::At { key, time: self.time() },
                1 => Query::Newest { key },
                roll => {
                    let prefix =
                        if roll < 4 { KEYS[key].0 } else { PREFIXES[self.op_dice.index(PREFIXES.len())] };
                    let limit = if limited { 1 + few as u64 } else { u64::MAX };
                    let gather = self.draw_gather(prefix);
                    Query::Scan { prefix: prefix.as_bytes().to_vec(), from, to, reverse, limit, gather }
                }
            });
        }
        match (self.op_dice.below(7), kind) {
            (6, _) => {
                let prefix = PREFIXES[self.op_dice.index(PREFIXES.len())];
                Some(Query::Keys { prefix: prefix.as_bytes().to_vec() })
            }
            (_, Kind::Bytes) => None,
            (0..=2, Kind::Mixed) | (0, _) => Some(Query::Get { key }),
            (3, _) => Some(Query::Latest { key }),
            _ if self.op_dice.chance(1, 2) => {
                let count = limited.then_some(few + 1);
                let fold = Fold::ALL[self.op_dice.index(Fold::ALL.len())];
                let bucket = [1, TIME_STEP, 3 * TIME_STEP - 7, 86_400_000, i64::MAX][self.op_dice.index(5)];
                let (from, to) = (from.max(0), to.max(0));
                Some(Query::Aggregate { key, from, to, reverse, count, fold, bucket })
            }
            _ => {
                let count = limited.then_some(few + 1);
                Some(Query::Range { key, from: from.max(0), to: to.max(0), reverse, count })
            }
        }
    }
}
