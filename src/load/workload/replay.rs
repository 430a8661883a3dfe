//! Samples of a file, in the file's order, at its own pace or faster.

use super::super::wire::put_bulk;
use super::kv::put_command_start;
use super::{Dialect, Issued, Workload};
use crate::load::random::to_whole;
use crate::model::{Command, OwnedValue, Slot, StoredEntry, Value};
use crate::protocol::binary::{Request, encode_request};
use std::io::Write;

/// One sample of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplaySample {
    /// The series' key.
    pub series: Vec<u8>,
    /// In the store's unit.
    pub time: i64,
    /// The value.
    pub value: OwnedValue,
}

/// Where samples come from.
pub trait SampleSource: Send {
    /// The next sample; none at the end.
    ///
    /// # Errors
    /// A sentence that names the place.
    fn next_sample(&mut self) -> Result<Option<ReplaySample>, String>;
}

/// How a file is replayed.
#[derive(Clone, Copy, Debug)]
pub struct ReplayOptions {
    /// What is spoken.
    pub dialect: Dialect,
    /// Samples per write.
    pub batch: usize,
    /// Event seconds per second; none: as fast as it goes.
    pub speed: Option<f64>,
    /// Nanoseconds in a unit of the file's times.
    pub ns_per_unit: f64,
}

/// Writes the samples of a source.
pub(in crate::load) struct ReplayWorkload {
    options: ReplayOptions,
    source: Box<dyn SampleSource>,
    batch: Vec<ReplaySample>,
    first_time: Option<i64>,
    made: u64,
    failure: Option<String>,
}

impl ReplayWorkload {
    pub(in crate::load) fn new(options: ReplayOptions, source: Box<dyn SampleSource>) -> Self {
        Self { options, source, batch: Vec::new(), first_time: None, made: 0, failure: None }
    }

    /// Makes the next batch, unless it is there.
    fn fill(&mut self) {
        while self.batch.len() < self.options.batch && self.failure.is_none() {
            match self.source.next_sample() {
                Ok(Some(sample)) => {
                    self.first_time.get_or_insert(sample.time);
                    self.batch.push(sample);
                }
                Ok(None) => return,
                Err(reason) => self.failure = Some(reason),
            }
        }
    }

    fn put_native(&self, out: &mut Vec<u8>, id: u64) {
        let entries = self
            .batch
            .iter()
            .map(|sample| StoredEntry {
                series: &sample.series,
                slot: Slot::Time(sample.time),
                value: sample.value.borrow(),
            })
            .collect();
        encode_request(out, id, false, &Request::Data(Command::PutBatch { entries }));
    }

    /// One TS.ADD per sample: TS.MADD would need series that are there.
    fn put_resp(&self, out: &mut Vec<u8>, part_ends: &mut Vec<usize>) {
        let mut text = Vec::new();
        for sample in &self.batch {
            put_command_start(out, 6, b"TS.ADD");
            put_bulk(out, &sample.series);
            let mut buffer = itoa::Buffer::new();
            put_bulk(out, buffer.format(sample.time).as_bytes());
            text.clear();
            let written = match sample.value.borrow() {
                Value::F64(value) => write!(text, "{value}"),
                Value::I64(value) => write!(text, "{value}"),
                Value::Bytes(bytes) => text.write_all(bytes),
            };
            written.expect("a vector takes what is written");
            put_bulk(out, &text);
            put_bulk(out, b"ON_DUPLICATE");
            put_bulk(out, b"LAST");
            part_ends.push(out.len());
        }
    }
}

impl Workload for ReplayWorkload {
    fn op_names(&self) -> Vec<String> {
        vec!["write".to_owned()]
    }
    fn issue(&mut self, out: &mut Vec<u8>, first_id: u64) -> Option<Issued> {
        self.fill();
        if self.batch.is_empty() {
            return None;
        }
        let mut part_ends = Vec::new();
        match self.options.dialect {
            Dialect::Native => self.put_native(out, first_id),
            Dialect::Strings | Dialect::Series => self.put_resp(out, &mut part_ends),
        }
        let written = Some(self.batch.len() as u64);
        self.batch.clear();
        self.made += 1;
        Some(Issued { written, sequence: self.made - 1, part_ends, ..Issued::default() })
    }
    fn due_offset_ns(&mut self) -> Option<u64> {
        let speed = self.options.speed?;
        self.fill();
        // A batch is complete when its last sample has come.
        let elapsed = self.batch.last()?.time.saturating_sub(self.first_time?).max(0);
        Some(to_whole(elapsed as f64 * self.options.ns_per_unit / speed))
    }
    fn failure(&mut self) -> Option<String> {
        self.failure.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(i64);
    impl SampleSource for Count {
        fn next_sample(&mut self) -> Result<Option<ReplaySample>, String> {
            self.0 += 1;
            match self.0 {
                6 => Err("line 6: no".to_owned()),
                time => Ok(Some(ReplaySample {
                    series: b"a".to_vec(),
                    time: 1000 * time,
                    value: OwnedValue::F64(0.5),
                })),
            }
        }
    }

    #[test]
    fn batches_are_due_at_the_pace_of_the_file() {
        // A replay at ten times the pace must not take a tenth of the load in one burst.
        let options =
            ReplayOptions { dialect: Dialect::Native, batch: 2, speed: Some(10.0), ns_per_unit: 1e6 };
        let mut workload = ReplayWorkload::new(options, Box::new(Count(0)));
        let mut due = Vec::new();
        let mut out = Vec::new();
        loop {
            due.push(workload.due_offset_ns());
            if workload.issue(&mut out, 1).is_none() {
                break;
            }
        }
        assert_eq!(due, [Some(100_000_000), Some(300_000_000), Some(400_000_000), None]);
        assert_eq!(workload.failure().as_deref(), Some("line 6: no"));
    }
}
