//! `tskv import`: CSV files into the store, in the order of their lines.
//!
//! Lines are gathered into batches and several batches are on their way at once, on one connection, which executes
//! them in order. When the daemon answers BUSY to a batch, later ones may have been taken; sending the refused one
//! again alone would then let an early line replace a later one of the same series and time. So everything from the
//! first refused batch on is sent again, in order, once all answers are in.

use super::args::ImportArgs;
use super::connect::Target;
use super::csv::{CsvError, CsvReader, parse_value};
use super::error::CliError;
use crate::client::{Client, ClientError, ClientOptions};
use crate::limits::{BATCH_ENTRIES_MAX, SERIES_BYTES_MAX};
use crate::model::{Command, OwnedValue, Slot, StoredEntry, TimeUnit, ValueType};
use crate::protocol::binary::{Request, Status};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Batches on their way at once.
const BATCHES_IN_FLIGHT: usize = 4;
/// Entries of a batch.
const BATCH_ENTRIES: usize = 4096;
/// Series and value bytes after which a batch is sent.
const BATCH_BYTES: usize = 512 << 10;
const _: () = assert!(BATCH_ENTRIES <= BATCH_ENTRIES_MAX);
const _: () = assert!(BATCH_BYTES > SERIES_BYTES_MAX);
/// How often a batch that was refused as BUSY is sent again, and the pause between.
const RETRIES_MAX: u32 = 600;
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Imported {
    /// Lines stored.
    pub(super) samples: u64,
    /// Timestamps that lost digits because the store's unit is coarser than the file's.
    pub(super) times_cut: u64,
}

/// Runs the import.
pub(super) fn run(args: &ImportArgs) -> Result<(), CliError> {
    // A daemon that flushes under load may take its time; it answers BUSY when it cannot.
    let options = ClientOptions { answer_timeout: None, checksums: true, ..ClientOptions::default() };
    let mut client = Target::new(&args.connect)?.client(&options)?;
    for path in &args.files {
        let position = Arc::new(AtomicU64::new(0));
        let reader = CsvReader::open(path, Arc::clone(&position)).map_err(CliError::failed)?;
        let bar = progress_bar(path);
        let imported = import(&mut client, reader, args.value_type.into(), &mut |samples| {
            bar.set_position(position.load(Ordering::Relaxed));
            bar.set_message(format!("{samples} samples"));
        });
        bar.finish_and_clear();
        let Imported { samples, times_cut } = imported?;
        eprintln!("{}: {samples} samples", path.display());
        if times_cut > 0 {
            let unit = client.info().unit;
            eprintln!(
                "{}: {times_cut} timestamps were cut to whole {unit}, the store's unit",
                path.display()
            );
        }
    }
    Ok(())
}

/// Bytes read of the file, on a terminal; nothing elsewhere.
fn progress_bar(path: &Path) -> ProgressBar {
    let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {msg} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(bytes).with_style(style)
}

/// Stores every line of one file; returns when all are acknowledged.
pub(super) fn import(
    client: &mut Client,
    mut reader: CsvReader,
    value_type: ValueType,
    progress: &mut dyn FnMut(u64),
) -> Result<Imported, CliError> {
    let (from, to, value_bytes_max) = (reader.unit(), client.info().unit, client.info().value_bytes_max);
    let mut imported = Imported::default();
    let mut pipeline = Pipeline { client, in_flight: VecDeque::new() };
    let mut batch = Batch::default();
    // The borrow of the sample ends before the reader may be asked for an error about it.
    loop {
        match reader.next_sample() {
            Ok(None) => break,
            Ok(Some(sample)) => {
                let entry = convert_time(to, from, sample.time)
                    .and_then(|time| Ok((time, parse_value(value_type, sample.value)?)))
                    .and_then(|(time, value)| match sample.value.len() > value_bytes_max {
                        true => Err(format!(
                            "the value is longer than {value_bytes_max} bytes, the server's limit"
                        )),
                        false => Ok((time, value.into_owned())),
                    });
                match entry {
                    Ok((time, value)) => {
                        imported.times_cut += u64::from(from.convert(to, time) != Some(sample.time));
                        if !batch.takes(sample.series, &value) {
                            imported.samples += batch.entries.len() as u64;
                            pipeline.send(std::mem::take(&mut batch))?;
                            progress(imported.samples);
                        }
                        batch.push(sample.series, time, value);
                    }
                    Err(reason) => return stop(pipeline, batch, &reader.error(reason), imported.samples),
                }
            }
            Err(error) => return stop(pipeline, batch, &error, imported.samples),
        }
    }
    imported.samples += batch.entries.len() as u64;
    pipeline.send(batch)?;
    pipeline.finish()?;
    Ok(imported)
}

/// Ends at a bad line: what came before it is stored, and the message says so.
fn stop(
    mut pipeline: Pipeline<'_>,
    batch: Batch,
    error: &CsvError,
    samples: u64,
) -> Result<Imported, CliError> {
    let samples = samples + batch.entries.len() as u64;
    pipeline.send(batch)?;
    pipeline.finish()?;
    Err(CliError::Failed(format!(
        "{error}; the {samples} samples before it are stored, and importing the repaired file again does no harm"
    )))
}

fn convert_time(to: TimeUnit, from: TimeUnit, time: i64) -> Result<i64, String> {
    to.convert(from, time)
        .ok_or_else(|| format!("the timestamp {time} {from} does not fit into 64 bits of {to}"))
}

/// Entries that are sent together; owns their bytes in one piece.
#[derive(Default)]
struct Batch {
    series: Vec<u8>,
    /// Length of the series, time, value.
    entries: Vec<(usize, i64, OwnedValue)>,
    value_bytes: usize,
}

impl Batch {
    fn push(&mut self, series: &[u8], time: i64, value: OwnedValue) {
        self.series.extend_from_slice(series);
        self.value_bytes += value_bytes(&value);
        self.entries.push((series.len(), time, value));
    }
    /// Whether an entry may join: a batch exceeds its size only by holding a single large value, so that whatever the
    /// server takes as a value it takes in a batch.
    fn takes(&self, series: &[u8], value: &OwnedValue) -> bool {
        let bytes = self.series.len() + self.value_bytes + series.len() + value_bytes(value);
        self.entries.is_empty() || (self.entries.len() < BATCH_ENTRIES && bytes <= BATCH_BYTES)
    }
    fn queue(&self, client: &mut Client) -> u64 {
        let mut rest = self.series.as_slice();
        let entries = self
            .entries
            .iter()
            .map(|(series_bytes, time, value)| {
                let (series, tail) = rest.split_at(*series_bytes);
                rest = tail;
                StoredEntry { series, slot: Slot::Time(*time), value: value.borrow() }
            })
            .collect();
        client.queue(&Request::Data(Command::PutBatch { entries }))
    }
}

fn value_bytes(value: &OwnedValue) -> usize {
    match value {
        OwnedValue::Bytes(bytes) => bytes.len(),
        OwnedValue::F64(_) | OwnedValue::I64(_) => size_of::<u64>(),
    }
}

/// What the daemon said to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    Stored,
    Busy,
}

/// Batches on their way, oldest first.
struct Pipeline<'a> {
    client: &'a mut Client,
    in_flight: VecDeque<InFlight>,
}

struct InFlight {
    id: u64,
    batch: Batch,
    outcome: Option<Answered>,
}

impl Pipeline<'_> {
    /// Sends a batch, after waiting for room.
    fn send(&mut self, batch: Batch) -> Result<(), CliError> {
        if batch.entries.is_empty() {
            return Ok(());
        }
        while self.in_flight.len() >= BATCHES_IN_FLIGHT {
            self.settle()?;
        }
        let id = batch.queue(self.client);
        self.in_flight.push_back(InFlight { id, batch, outcome: None });
        Ok(self.client.send_queued()?)
    }

    /// Waits until everything is acknowledged.
    fn finish(&mut self) -> Result<(), CliError> {
        while !self.in_flight.is_empty() {
            self.settle()?;
        }
        Ok(())
    }

    /// Waits for one answer, and lets go of the batches at the front that are stored.
    fn settle(&mut self) -> Result<(), CliError> {
        self.receive()?;
        while let Some(outcome) = self.in_flight.front().and_then(|first| first.outcome) {
            match outcome {
                Answered::Stored => drop(self.in_flight.pop_front()),
                Answered::Busy => return self.send_again(),
            }
        }
        Ok(())
    }

    /// Waits for the next answer. A refusal other than BUSY ends the import.
    fn receive(&mut self) -> Result<(), CliError> {
        let (id, answer) = self.client.next_answer()?;
        let outcome = match answer.map(|_| ()) {
            Ok(()) => Answered::Stored,
            Err(error) if error.status() == Some(Status::Busy) => Answered::Busy,
            Err(error) => return Err(error.into()),
        };
        match self.in_flight.iter_mut().find(|flying| flying.id == id) {
            Some(answered) => answered.outcome = Some(outcome),
            None => return Err(ClientError::Unexpected { found: "another request's id" }.into()),
        }
        Ok(())
    }

    /// Sends everything in flight again, in order, one after the other, until the daemon takes it.
    fn send_again(&mut self) -> Result<(), CliError> {
        while self.in_flight.iter().any(|flying| flying.outcome.is_none()) {
            self.receive()?;
        }
        let mut retries = 0;
        while let Some(first) = self.in_flight.front_mut() {
            first.id = first.batch.queue(self.client);
            first.outcome = None;
            self.client.send_queued()?;
            self.receive()?;
            if self.in_flight.pop_front_if(|first| first.outcome == Some(Answered::Stored)).is_some() {
                retries = 0;
            } else if retries < RETRIES_MAX {
                retries += 1;
                pause();
            } else {
                return Err(CliError::Failed("the daemon has been busy for a minute; giving up".to_owned()));
            }
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a tool that waits for the daemon; no core runs here")]
fn pause() {
    std::thread::sleep(RETRY_PAUSE);
}

#[cfg(test)]
mod tests;
