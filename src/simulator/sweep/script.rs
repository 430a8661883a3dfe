//! What the sweeps ask of a node: one fixed script that goes through everything a store does on its disk, and small
//! seeded ones.

use crate::io::sim::Rng;
use crate::model::OwnedValue;
use crate::simulator::client::Ask;
use crate::simulator::model::{Gather, Mutation, Query};

/// Keys, ascending: series by the native protocol, strings and series by RESP, and series of the second shard.
pub(super) const NAMES: [&str; 6] = ["a:1", "a:2", "r:1", "r:2", "s:1", "s:2"];
/// Where two shards meet.
pub(super) const SPLIT: &str = "r:2";
/// The keys that RESP writes.
const RESP_KEYS: [usize; 2] = [2, 3];
const NATIVE_KEYS: [usize; 4] = [0, 1, 4, 5];
/// Timestamps lie this far apart, in milliseconds: a few of them fall into each day's table.
const TIME_STEP: i64 = 30_000_000;

/// One step of a script.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Sends a request and does not wait.
    Ask(Ask),
    /// Waits until everything is answered.
    Rest,
    /// And until no job is left.
    Settle,
    /// Ends the daemon in good order; the last step.
    ShutDown,
}

/// Makes scripts; values are numbered, so that each is recognized.
#[derive(Default)]
struct Writer {
    steps: Vec<Step>,
    value: u32,
}

impl Writer {
    fn change(&mut self, mutation: Mutation) {
        self.steps.push(Step::Ask(Ask::Change(mutation)));
    }
    fn number(&mut self) -> OwnedValue {
        self.value += 1;
        OwnedValue::F64(self.value.into())
    }
    fn text(&mut self, bytes: usize) -> OwnedValue {
        self.value += 1;
        let mut text = format!("value {} ", self.value).into_bytes();
        text.resize(text.len() + bytes, b'x');
        OwnedValue::Bytes(text.into())
    }
    fn put(&mut self, key: usize, time: i64) {
        let value = self.number();
        self.change(Mutation::Put { entries: vec![(key, time * TIME_STEP, value)] });
    }
    fn batch(&mut self, keys: &[usize], times: std::ops::Range<i64>) {
        let mut entries = Vec::new();
        for time in times {
            entries.extend(keys.iter().map(|key| (*key, time * TIME_STEP, self.number())));
        }
        self.change(Mutation::Put { entries });
    }
    fn set(&mut self, key: usize, bytes: usize) {
        let value = self.text(bytes);
        self.change(Mutation::Set { key, value });
    }
    fn add(&mut self, key: usize, time: i64) {
        self.value += 1;
        self.change(Mutation::Add { key, time: time * TIME_STEP, value: self.value.into(), overwrite: true });
    }
    fn look(&mut self, query: Query) {
        self.steps.push(Step::Ask(Ask::Look(query)));
    }
    fn rest(&mut self) {
        self.steps.push(Step::Rest);
    }
    fn flush(&mut self) {
        self.steps.extend([Step::Rest, Step::Ask(Ask::Flush), Step::Rest]);
    }
    fn compact(&mut self) {
        self.steps.extend([Step::Rest, Step::Ask(Ask::Compact), Step::Rest]);
    }
}

/// Everything that a store does on its disk: puts and batches, deletes of all kinds, flushes (which rotate the log),
/// a segment that fills, merges, rewritten manifests, recycled segments, and a shutdown.
pub(super) fn fixed() -> Vec<Step> {
    let mut script = Writer::default();
    script.put(0, 1);
    script.put(4, 1);
    script.batch(&[0, 1], 2..5);
    script.set(2, 10);
    script.add(3, 1);
    script.rest();
    script.batch(&[4, 5], 1..4);
    script.flush();
    // Over what lies in tables, from the log.
    script.change(Mutation::DeleteTimes { key: 0, from: 0, to: 2 * TIME_STEP });
    script.change(Mutation::DeleteSeries { key: 5 });
    script.put(0, 9);
    script.add(3, 2);
    script.look(Query::Newest { key: 1 });
    script.look(Query::Get { key: 2 });
    script.flush();
    script.steps.push(Step::Settle);
    // Fills a segment of the least size.
    for _ in 0..4 {
        script.set(2, 300_000);
    }
    script.rest();
    script.change(Mutation::Del { key: 2 });
    script.change(Mutation::DeletePrefix { prefix: b"a:".to_vec() });
    script.put(1, 3);
    script.compact();
    script.put(5, 7);
    script.rest();
    script.change(Mutation::DeletePrefix { prefix: Vec::new() });
    script.rest();
    script.batch(&[0, 1], 0..3);
    script.batch(&[4, 5], 0..3);
    script.set(2, 100);
    script.flush();
    script.put(0, 20);
    script.compact();
    script.put(0, 21);
    script.put(4, 21);
    script.set(3, 5);
    script.rest();
    script.look(Query::Scan {
        prefix: Vec::new(),
        from: i64::MIN,
        to: i64::MAX,
        reverse: true,
        limit: 5,
        gather: Gather::All,
    });
    script.rest();
    script.steps.push(Step::ShutDown);
    script.steps
}

/// Leaves several tables, with deletes among them, and a log that holds more than its last frame.
pub(super) fn to_rot(dice: &mut Rng) -> Vec<Step> {
    let mut script = Writer::default();
    for round in 0..3 {
        for _ in 0..20 {
            let key = NATIVE_KEYS[dice.index(NATIVE_KEYS.len())];
            script.batch(&[key], round * 10..round * 10 + 1 + dice.below(40).cast_signed());
        }
        script.set(2, dice.index(2000));
        script.change(Mutation::DeleteTimes { key: 0, from: 0, to: TIME_STEP });
        script.change(Mutation::DeleteAt { key: 1, time: 3 * TIME_STEP });
        if round < 2 {
            script.flush();
        }
    }
    script.steps.push(Step::Settle);
    script.steps
}

/// What is in the log only, after [`to_rot`]: some frames.
pub(super) fn behind_the_tables() -> Vec<Step> {
    let mut script = Writer { value: 100_000, ..Writer::default() };
    for time in 0..6 {
        script.batch(&NATIVE_KEYS, time..time + 2);
        script.rest();
    }
    script.steps
}

/// A few requests that the dice choose.
pub(super) fn small(dice: &mut Rng, value_first: u32) -> Vec<Step> {
    let mut script = Writer { value: value_first, ..Writer::default() };
    let count = 6 + dice.below(22);
    for _ in 0..count {
        let key = NATIVE_KEYS[dice.index(NATIVE_KEYS.len())];
        let resp_key = RESP_KEYS[dice.index(RESP_KEYS.len())];
        let time = dice.below(12).cast_signed();
        match dice.below(24) {
            0..=6 => script.put(key, time),
            7..=8 => script.batch(&NATIVE_KEYS[..1 + dice.index(NATIVE_KEYS.len())], time..time + 3),
            9 => script.change(Mutation::DeleteAt { key, time: time * TIME_STEP }),
            10 => script.change(Mutation::DeleteTimes { key, from: 0, to: time * TIME_STEP }),
            11 => script.change(Mutation::DeleteSeries { key }),
            12 => {
                script.rest();
                let prefix = ["", "a:", "s:", "r:"][dice.index(4)];
                script.change(Mutation::DeletePrefix { prefix: prefix.into() });
                script.rest();
            }
            13 | 14 => script.set(resp_key, dice.index(3000)),
            15 => script.add(resp_key, time),
            16 => script.change(Mutation::Del { key: resp_key }),
            17 => script.flush(),
            18 if dice.chance(1, 2) => script.compact(),
            18 => script.set(resp_key, 200_000 + dice.index(100_000)),
            19 => script.look(Query::Newest { key }),
            20 => script.look(Query::Get { key: resp_key }),
            21 => script.look(Query::Scan {
                prefix: Vec::new(),
                from: i64::MIN,
                to: i64::MAX,
                reverse: dice.chance(1, 2),
                limit: 1 + dice.below(9),
                gather: Gather::All,
            }),
            _ => script.rest(),
        }
    }
    if dice.chance(1, 8) {
        script.steps.push(Step::ShutDown);
    }
    script.steps
}
