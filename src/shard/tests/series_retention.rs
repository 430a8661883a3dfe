//! Retention of a series against a model: a map from which what is too old is taken out after each write.

use super::{Rig, rows};
use crate::model::{
    Aggregator, BucketGrid, Command, DeleteScope, KeyRange, ScanAnswer, ScanRequest, SeriesChanges,
    SeriesOptions, Slot, StoredEntry, Value,
};
use std::collections::BTreeMap;

/// What a series should show.
#[derive(Default)]
struct Model {
    samples: BTreeMap<i64, f64>,
    retention: u64,
}

impl Model {
    fn edge(&self) -> i64 {
        match self.samples.last_key_value() {
            Some((newest, _)) if self.retention > 0 => newest.saturating_sub_unsigned(self.retention),
            _ => i64::MIN,
        }
    }
    /// Hidden once is hidden for ever.
    fn trim(&mut self) {
        self.samples = self.samples.split_off(&self.edge());
    }
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
    fn time(&mut self) -> i64 {
        self.roll(400).cast_signed() - 100
    }
}

fn everything(reverse: bool, answer: ScanAnswer) -> ScanRequest {
    let (from, to, limit) = (i64::MIN, i64::MAX, u64::MAX);
    ScanRequest { keys: KeyRange::all(), from, to, all_slots: false, reverse, limit, answer }
}

fn create(retention: u64) -> SeriesOptions {
    SeriesOptions { retention, ..SeriesOptions::default() }
}

/// One random write, to the shard and to the model.
fn write(rig: &mut Rig, model: &mut Model, dice: &mut Dice, seqno: u64) -> String {
    let key: &[u8] = b"k";
    let (time, value) = (dice.time(), dice.roll(1000) as f64);
    let span = (time, time + dice.roll(60).cast_signed());
    let put = |model: &mut Model, time| {
        model.samples.insert(time, value);
    };
    match dice.roll(12) {
        0..4 => {
            assert_eq!(
                rig.run(&Command::Put { series: key, slot: Slot::Time(time), value: Value::F64(value) }),
                "Ok"
            );
            put(model, time);
            format!("put {time}")
        }
        4 => {
            let entry = |time| StoredEntry { series: key, slot: Slot::Time(time), value: Value::F64(value) };
            let entries = vec![entry(span.0), entry(span.1)];
            assert_eq!(rig.run(&Command::PutBatch { entries }), "Ok");
            put(model, span.0);
            put(model, span.1);
            format!("batch {span:?}")
        }
        5 | 6 => {
            let on_duplicate = Some(crate::model::DuplicatePolicy::Last);
            let create = Some(create(0));
            let said = rig.run(&Command::SeriesAdd { key, time, value, on_duplicate, create });
            let expected = if time < model.edge() { "error: Expired".to_owned() } else { time.to_string() };
            assert_eq!(said, expected, "TS.ADD {time}, kept from {}", model.edge());
            if time >= model.edge() {
                put(model, time);
            }
            format!("add {time}: {said}")
        }
        7 => {
            let retention = [0, 5, 40, 150][usize::try_from(dice.roll(4)).unwrap()];
            let changes = SeriesChanges { retention: Some(retention), ..SeriesChanges::default() };
            let said = rig.run(&Command::SeriesAlter { key, changes });
            if said == "Ok" {
                model.retention = retention;
            }
            format!("alter {retention}: {said}")
        }
        8 => {
            let said = rig.run(&Command::SeriesDelete { key, from: span.0, to: span.1 });
            if !said.starts_with("error") {
                let count = model.samples.range(span.0..=span.1).count();
                assert_eq!(said, count.to_string(), "TS.DEL counts what is visible");
                model.samples.retain(|time, _| !(span.0..=span.1).contains(time));
            }
            format!("del {span:?}: {said}")
        }
        9 => {
            // Often the newest: the edge would go back.
            let from = model.samples.last_key_value().map_or(span.0, |(newest, _)| newest - 3);
            let scope = DeleteScope::TimeRange { series: key, from, to: from + 20 };
            assert_eq!(rig.run(&Command::Delete { scope }), "Ok");
            model.samples.retain(|time, _| !(from..=from + 20).contains(time));
            format!("delete from {from}")
        }
        10 => {
            let time = model.samples.last_key_value().map_or(time, |(newest, _)| *newest);
            assert_eq!(rig.run(&Command::DeleteSlot { series: key, slot: Slot::Time(time) }), "Ok");
            model.samples.remove(&time);
            format!("delete slot {time}")
        }
        _ => {
            // A table as a flush of another store's would leave it: late data, far below the newest seqno or not.
            rig.add_table(key, &[(Slot::Time(time), seqno, Value::F64(value))]);
            put(model, time);
            format!("table {time}")
        }
    }
}

#[test]
fn a_series_shows_what_its_retention_leaves_whatever_is_written() {
    // What comes back was promised to be gone; what goes too early is lost.
    for seed in 0..40 {
        let mut rig = Rig::new(1 << 20, 64);
        let (mut dice, mut model) = (Dice(seed), Model { retention: 40, ..Model::default() });
        assert_eq!(rig.run(&Command::SeriesCreate { key: b"k", options: create(40) }), "Ok");
        let mut history = Vec::new();
        for _ in 0..60 {
            let seqno = rig.shard.seqno().0 + 1;
            history.push(write(&mut rig, &mut model, &mut dice, seqno));
            model.trim();
            let expected: Vec<_> =
                model.samples.iter().map(|(time, value)| (b"k".to_vec(), *time, *value)).collect();
            let told = || format!("seed {seed}, retention {}: {history:#?}", model.retention);
            assert_eq!(rows(&mut rig, everything(false, ScanAnswer::Entries)), expected, "{}", told());
            let mut backwards = rows(&mut rig, everything(true, ScanAnswer::Entries));
            backwards.reverse();
            assert_eq!(backwards, expected, "reverse, {}", told());
            let newest = rows(&mut rig, everything(false, ScanAnswer::Newest));
            assert_eq!(newest.last(), expected.last(), "{}", told());
            let grid = BucketGrid { width: i64::MAX, align: 0 };
            let answer = ScanAnswer::Buckets { aggregator: Aggregator::Count, grid };
            let counted: f64 = rows(&mut rig, everything(false, answer)).iter().map(|row| row.2).sum();
            assert_eq!(counted, expected.len() as f64, "{}", told());
            let time = dice.time();
            let got = rig.run(&Command::GetAt { series: b"k", time });
            let wanted =
                model.samples.get(&time).map_or("NoSample".into(), |value| format!("{time}=F64({value:?})"));
            assert_eq!(got, wanted, "{}", told());
        }
    }
}

#[test]
fn a_change_of_metadata_over_the_native_protocol_brings_nothing_back() {
    // A restore of exported metadata is a change of the retention, too.
    let mut rig = Rig::new(1 << 20, 64);
    assert_eq!(rig.run(&Command::SeriesCreate { key: b"k", options: create(10) }), "Ok");
    for time in [1, 50, 100] {
        rig.run(&Command::Put { series: b"k", slot: Slot::Time(time), value: Value::F64(1.0) });
    }
    let forever = crate::storage::series_metadata::encode(&create(0));
    let entry = StoredEntry { series: b"k", slot: Slot::Metadata, value: Value::Bytes(&forever) };
    assert_eq!(rig.run(&Command::PutBatch { entries: vec![entry] }), "Ok");
    let found: Vec<i64> =
        rows(&mut rig, everything(false, ScanAnswer::Entries)).iter().map(|row| row.1).collect();
    assert_eq!(found, [100]);
    assert_eq!(rig.run(&Command::DeleteSlot { series: b"k", slot: Slot::Metadata }), "Ok");
    assert_eq!(rows(&mut rig, everything(false, ScanAnswer::Entries)).len(), 1);
}
