//! Runs one seed: lives of a node, each with its own settings, workload and end, and the oracle's verdict on each.
//!
//! ```text
//!  draw settings ─▶ open (the power may go: crash, again) ─▶ dump, judged ─▶ workload, every reply judged ─▶ crash
//!        ▲                                                                                                │
//!        └────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! Some lives come to rest before they end: every request must then be answered within a bounded number of steps.

use super::client::{Ask, Connection};
use super::model::{Mutation, Query};
use super::node::{Node, NodeOptions, stream_of};
use super::oracle::Oracle;
use super::{Summary, Violation};
use crate::config::SyncPolicy;
use crate::io::sim::{Chaos, Crash, Rng, SimOptions, SimWorld};
use crate::model::OwnedValue;
use std::num::NonZeroU32;

/// Requests that a connection has under way at most.
const PIPELINE_MAX: usize = 12;
/// Operations on keys in one life: the oracle keeps a state for each.
const HISTORY_MAX: usize = 1500;
/// Steps within which a node at rest must have answered everything.
const REST_STEPS_MAX: u32 = 300_000;
/// Opens of one restart that the power may interrupt.
const OPENS_CUT_MAX: u32 = 3;
/// Timestamps lie this far apart, in milliseconds: a few of them fall into each day's table.
const TIME_STEP: i64 = 17_000_000;
const TIMES: u64 = 40;

/// Kinds of keys, and who may do what with them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Strings and series by turns; RESP only.
    Mixed,
    /// Series of numbers, by both protocols.
    Series,
    /// Series of byte strings; native only.
    Bytes,
}

const KEYS: [(&str, Kind); 12] = [
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

/// One seed under way.
pub(super) struct Run {
    world: SimWorld,
    dice: Rng,
    oracle: Oracle,
    connections: Vec<Connection>,
    /// Who writes each key in this life.
    writers: Vec<usize>,
    /// Values are numbered, so that each is recognized.
    value_next: u32,
    /// Since the oracle last looked: acknowledged writes may have been lost.
    may_lose: bool,
    /// The life that wrote last did not wait for the disk before it acknowledged.
    relaxed: bool,
    /// Where the shards of that life were split.
    boundaries: Vec<Box<[u8]>>,
    summary: Summary,
    seed: u64,
}

/// Why a stretch of steps ended early.
enum Stop {
    /// The machine is down.
    Down,
    Wrong(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}

impl Run {
    pub(super) fn new(seed: u64) -> Self {
        let world = SimWorld::new(SimOptions::new(seed));
        let dice = world.fork_rng();
        let names = KEYS.iter().map(|(name, _)| name.as_bytes().to_vec()).collect();
        Self {
            world,
            dice,
            oracle: Oracle::new(names),
            connections: Vec::new(),
            writers: Vec::new(),
            value_next: 1,
            may_lose: false,
            relaxed: false,
            boundaries: Vec::new(),
            summary: Summary::default(),
            seed,
        }
    }
    /// The world, for looking at its trace.
    pub(super) fn world(&self) -> &SimWorld {
        &self.world
    }

    /// Runs to the end.
    pub(super) fn run(&mut self) -> Result<Summary, Violation> {
        let lives = 3 + self.dice.below(4);
        for life in 0..lives {
            let options = self.draw_options();
            if let Err(what) = self.live(&options) {
                return Err(Violation { seed: self.seed, life, what, options: format!("{options:?}") });
            }
            self.summary.lives += 1;
        }
        self.summary.trace_hash = self.world.trace_hash();
        self.summary.acknowledged = self.oracle.acknowledged;
        self.summary.answered = self.oracle.answered;
        self.summary.refused = self.oracle.refused;
        Ok(self.summary)
    }

    fn draw_options(&mut self) -> NodeOptions {
        let dice = &mut self.dice;
        let cores = [1, 1, 1, 2, 3][dice.index(5)];
        let interval = NonZeroU32::new(10).expect("ten is not zero");
        let policies =
            [SyncPolicy::Always, SyncPolicy::Always, SyncPolicy::IntervalMs(interval), SyncPolicy::None];
        let splits = [b"m:3".as_slice(), b"t:2"];
        let split_at =
            (cores > 1).then(|| splits[2 - (cores - 1)..].iter().map(|key| (*key).into()).collect());
        let mut entropy = [0; 16];
        entropy[..8].copy_from_slice(&dice.next_u64().to_le_bytes());
        entropy[8..].copy_from_slice(&dice.next_u64().to_le_bytes());
        NodeOptions {
            cores,
            sync: policies[dice.index(policies.len())],
            memtable_bytes: [8 << 10, 32 << 10, 256 << 10][dice.index(3)],
            cache_bytes: [0, 0, 64 << 10][dice.index(3)],
            bloom_bits: [0, 10][dice.index(2)],
            table_bytes: [16 << 10, 256 << 10][dice.index(2)],
            background_threads: 1 + dice.index(2),
            split_at,
            entropy,
        }
    }

    fn live(&mut self, options: &NodeOptions) -> Result<(), String> {
        let chaos = match self.dice.below(3) {
            0 => Chaos { short_per_mille: 20, interrupted_per_mille: 20 },
            _ => Chaos::default(),
        };
        self.world.set_chaos(chaos);
        let mut node = self.open(options)?;
        self.relaxed = options.sync != SyncPolicy::Always;
        let outcome = self.serve(&mut node);
        self.connections.clear();
        let kind = self.draw_crash();
        let outcome = match outcome {
            Ok(()) | Err(Stop::Down) => Ok(()),
            Err(Stop::Wrong(why)) => Err(why),
        };
        self.down(kind);
        drop(node);
        self.world.restart();
        outcome
    }

    /// Opens the store and judges what it holds, through crashes.
    fn open(&mut self, options: &NodeOptions) -> Result<Node, String> {
        for attempt in 0.. {
            if attempt < OPENS_CUT_MAX && self.dice.chance(1, 3) {
                let operations = self.dice.below(250);
                self.world.cut_after(operations);
            }
            let node = match Node::start(&self.world, options) {
                Ok(node) => Some(node),
                Err(error) if self.world.is_up() => return Err(format!("the store does not open: {error}")),
                Err(_) => None,
            };
            if let Some(mut node) = node {
                match self.dump(&mut node) {
                    Ok(()) => {
                        self.may_lose = false;
                        self.boundaries = node.boundaries();
                        self.summary.replayed += node.replayed.0;
                        self.summary.torn += node.replayed.1;
                        return Ok(node);
                    }
                    Err(Stop::Wrong(why)) => {
                        self.world.crash(Crash::PowerCut);
                        return Err(format!("after the restart: {why}"));
                    }
                    Err(Stop::Down) => {}
                }
            }
            // Nothing was written since the life before: what that one must keep is still the question.
            self.connections.clear();
            let kind = self.draw_crash();
            self.down(kind);
            self.summary.opens_cut += 1;
            self.world.restart();
        }
        unreachable!("the last attempt is not cut")
    }

    fn draw_crash(&mut self) -> Crash {
        if self.dice.chance(2, 3) { Crash::PowerCut } else { Crash::ProcessKill }
    }
    fn down(&mut self, kind: Crash) {
        self.may_lose |= kind == Crash::PowerCut && self.relaxed;
        self.oracle.forget_pending();
        self.world.crash(kind);
        self.summary.crashes += 1;
    }

    /// Reads everything and lets the oracle judge it.
    fn dump(&mut self, node: &mut Node) -> Result<(), Stop> {
        self.connections = vec![Connection::new(node.connect(), true)];
        let ticket = self.oracle.admin();
        self.connections[0].ask(ticket, &Ask::Dump, &self.oracle.names);
        self.rest(node)?;
        let entries = self.connections[0].take_dump().ok_or("the dump was not answered".to_owned())?;
        let boundaries = std::mem::take(&mut self.boundaries);
        let judged = self.oracle.recovered(entries, self.may_lose, |key| stream_of(&boundaries, key));
        self.connections.clear();
        Ok(judged?)
    }

    fn serve(&mut self, node: &mut Node) -> Result<(), Stop> {
        let natives = 1 + self.dice.index(2);
        let resps = 1 + self.dice.index(3);
        for nth in 0..natives + resps {
            self.connections.push(Connection::new(node.connect(), nth < natives));
        }
        self.writers = KEYS
            .iter()
            .map(|(_, kind)| match kind {
                Kind::Bytes => self.dice.index(natives),
                Kind::Mixed => natives + self.dice.index(resps),
                Kind::Series => self.dice.index(natives + resps),
            })
            .collect();
        if self.dice.chance(1, 4) {
            let operations = self.dice.below(4000);
            self.world.cut_after(operations);
        }
        let rounds = self.dice.below(3);
        for _ in 0..=rounds {
            let steps = self.dice.below(4000);
            for _ in 0..steps {
                if self.dice.chance(1, 6) {
                    self.ask_something();
                }
                self.step(node)?;
            }
            if self.dice.chance(1, 2) {
                self.rest(node)?;
                self.summary.rests += 1;
            }
        }
        Ok(())
    }

    /// Steps without new requests until everything is answered.
    fn rest(&mut self, node: &mut Node) -> Result<(), Stop> {
        for _ in 0..REST_STEPS_MAX {
            if self.connections.iter().all(|connection| connection.outstanding == 0) {
                return Ok(());
            }
            self.step(node)?;
        }
        let unanswered = self.oracle.unanswered();
        Err(Stop::Wrong(format!(
            "requests are without an answer after {REST_STEPS_MAX} steps:\n{unanswered}"
        )))
    }

    /// One step of something.
    fn step(&mut self, node: &mut Node) -> Result<(), Stop> {
        let moved = match self.dice.below(10) {
            0..=3 => match node.turn_a_core(&mut self.dice) {
                Ok(turned) => turned,
                Err(_) if !self.world.is_up() => return Err(Stop::Down),
                Err(end) => return Err(Stop::Wrong(format!("a core ended: {end:?}"))),
            },
            4 | 5 => self.world.step_any_job().is_some(),
            6 => node.step_coordinator(),
            7 | 8 => {
                let nth = self.dice.index(self.connections.len());
                self.pump(nth)?;
                true
            }
            _ => {
                node.pass_time();
                true
            }
        };
        if !self.world.is_up() {
            return Err(Stop::Down);
        }
        if !moved && self.dice.chance(1, 4) {
            node.pass_time();
        }
        Ok(())
    }

    fn pump(&mut self, nth: usize) -> Result<(), Stop> {
        match self.connections[nth].pump(&mut self.dice) {
            Ok(replies) => {
                for (ticket, answer) in replies {
                    self.oracle.reply(ticket, &answer)?;
                }
                Ok(())
            }
            Err(_) if !self.world.is_up() => Err(Stop::Down),
            Err(errno) => Err(Stop::Wrong(format!("the server closed connection {nth}: {errno}"))),
        }
    }

    fn ask_something(&mut self) {
        let nth = self.dice.index(self.connections.len());
        if self.connections[nth].outstanding >= PIPELINE_MAX || self.oracle.history() >= HISTORY_MAX {
            return;
        }
        let is_native = self.connections[nth].is_native;
        let roll = self.dice.below(100);
        let own: Vec<usize> = (0..KEYS.len()).filter(|key| roll > 54 || self.writers[*key] == nth).collect();
        if own.is_empty() {
            return;
        }
        let key = own[self.dice.index(own.len())];
        let kind = KEYS[key].1;
        let ask = match roll {
            0..=54 => self.draw_write(nth, key, kind, is_native),
            55..=57 => self.draw_wide_delete(nth, is_native),
            58 if is_native => Some(Ask::Flush),
            59 if is_native => Some(Ask::Compact),
            _ => self.draw_question(key, kind, is_native).map(Ask::Look),
        };
        let Some(ask) = ask else { return };
        let ticket = match &ask {
            Ask::Change(mutation) => self.oracle.change(nth, mutation.clone()),
            Ask::Look(query) => self.oracle.look(nth, query.clone()),
            Ask::Dump | Ask::Flush | Ask::Compact => self.oracle.admin(),
        };
        self.connections[nth].ask(ticket, &ask, &self.oracle.names);
    }

    fn time(&mut self) -> i64 {
        // Mostly near the newest, as time series are; before 1970 as well.
        let nth = self.dice.below(TIMES).cast_signed() - TIMES.cast_signed() / 2;
        nth * TIME_STEP
    }
    fn times(&mut self) -> (i64, i64) {
        match self.dice.below(5) {
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
        let most = [16, 200, 3000, 40_000][self.dice.index(4)];
        let filler = self.dice.index(most);
        let mut text = format!("value {number} ").into_bytes();
        text.resize(text.len() + filler, b'x');
        OwnedValue::Bytes(text.into())
    }
    fn value(&mut self, kind: Kind) -> OwnedValue {
        if kind == Kind::Bytes {
            return self.bytes();
        }
        let number = self.number();
        if self.dice.chance(1, 8) { OwnedValue::I64(number.into()) } else { OwnedValue::F64(number.into()) }
    }

    fn draw_write(&mut self, nth: usize, key: usize, kind: Kind, is_native: bool) -> Option<Ask> {
        if !self.oracle.may_write(nth, key) {
            return None;
        }
        let mutation = if is_native {
            match self.dice.below(12) {
                0 => {
                    let (from, to) = self.times();
                    Mutation::DeleteTimes { key, from, to }
                }
                1 => Mutation::DeleteAt { key, time: self.time() },
                2 if self.dice.chance(1, 3) => Mutation::DeleteSeries { key },
                3..=5 => self.draw_batch(nth),
                _ => Mutation::Put { entries: vec![(key, self.time(), self.value(kind))] },
            }
        } else {
            let strings = if kind == Kind::Mixed { 5 } else { 0 };
            match self.dice.below(10) {
                roll if roll < strings => Mutation::Set { key, value: self.bytes() },
                5 => Mutation::Del { key },
                6 => {
                    let (from, to) = self.times();
                    Mutation::RemoveTimes { key, from: from.max(0), to: to.max(0) }
                }
                _ => {
                    // RESP knows no times before 1970.
                    let (time, value) = (self.time().abs(), self.number().into());
                    Mutation::Add { key, time, value, overwrite: self.dice.chance(1, 4) }
                }
            }
        };
        Some(Ask::Change(mutation))
    }
    /// A batch over keys of this connection, which a crash keeps whole or not at all.
    fn draw_batch(&mut self, nth: usize) -> Mutation {
        let own: Vec<usize> = (0..KEYS.len())
            .filter(|key| self.writers[*key] == nth && self.oracle.may_write(nth, *key))
            .collect();
        let count = 1 + self.dice.index(6);
        let entries = (0..count).map(|_| {
            let key = own[self.dice.index(own.len())];
            (key, self.time(), self.value(KEYS[key].1))
        });
        Mutation::Put { entries: entries.collect() }
    }
    fn draw_wide_delete(&mut self, nth: usize, is_native: bool) -> Option<Ask> {
        if !self.dice.chance(1, 4) {
            return None;
        }
        let prefix = if is_native { PREFIXES[self.dice.index(PREFIXES.len())] } else { "" };
        let mutation = Mutation::DeletePrefix { prefix: prefix.as_bytes().to_vec() };
        let keys = mutation.keys(&self.oracle.names);
        keys.iter().all(|key| self.oracle.may_write(nth, *key)).then_some(Ask::Change(mutation))
    }
    fn draw_question(&mut self, key: usize, kind: Kind, is_native: bool) -> Option<Query> {
        let (from, to) = self.times();
        let reverse = self.dice.chance(1, 2);
        let few = self.dice.index(8);
        let limited = self.dice.chance(1, 3);
        if is_native {
            return Some(match self.dice.below(6) {
                0 => Query::At { key, time: self.time() },
                1 => Query::Newest { key },
                roll => {
                    let prefix =
                        if roll < 4 { KEYS[key].0 } else { PREFIXES[self.dice.index(PREFIXES.len())] };
                    let limit = if limited { 1 + few as u64 } else { u64::MAX };
                    Query::Scan { prefix: prefix.as_bytes().to_vec(), from, to, reverse, limit }
                }
            });
        }
        match (self.dice.below(6), kind) {
            (_, Kind::Bytes) => None,
            (0..=2, Kind::Mixed) | (0, _) => Some(Query::Get { key }),
            (3, _) => Some(Query::Latest { key }),
            _ => {
                let count = limited.then_some(few + 1);
                Some(Query::Range { key, from: from.max(0), to: to.max(0), reverse, count })
            }
        }
    }
}
