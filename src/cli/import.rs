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
use super::session::{Refused, Session};
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
    let mut session = Session::open(&Target::new(&args.connect)?)?;
    for path in &args.files {
        let position = Arc::new(AtomicU64::new(0));
        let reader = CsvReader::open(path, Arc::clone(&position)).map_err(CliError::failed)?;
        let bar = progress_bar(path);
        let imported = import(&mut session, reader, args.value_type.into(), &mut |samples| {
            bar.set_position(position.load(Ordering::Relaxed));
            bar.set_message(format!("{samples} samples"));
        });
        bar.finish_and_clear();
        let Imported { samples, times_cut } = imported?;
        eprintln!("{}: {samples} samples", path.display());
        if times_cut > 0 {
            let unit = session.unit();
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
    session: &mut Session,
    mut reader: CsvReader,
    value_type: ValueType,
    progress: &mut dyn FnMut(u64),
) -> Result<Imported, CliError> {
    let (from, to, value_bytes_max) = (reader.unit(), session.unit(), session.value_bytes_max());
    let mut imported = Imported::default();
    let mut pipeline = Pipeline { session, in_flight: VecDeque::new() };
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
                        batch.push(sample.series, time, value);
                    }
                    Err(reason) => return stop(pipeline, batch, &reader.error(reason), imported.samples),
                }
            }
            Err(error) => return stop(pipeline, batch, &error, imported.samples),
        }
        if batch.is_full() {
            imported.samples += batch.entries.len() as u64;
            pipeline.send(std::mem::take(&mut batch))?;
            progress(imported.samples);
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
        self.value_bytes += match &value {
            OwnedValue::Bytes(bytes) => bytes.len(),
            OwnedValue::F64(_) | OwnedValue::I64(_) => size_of::<u64>(),
        };
        self.entries.push((series.len(), time, value));
    }
    fn is_full(&self) -> bool {
        self.entries.len() >= BATCH_ENTRIES || self.series.len() + self.value_bytes >= BATCH_BYTES
    }
    fn queue(&self, session: &mut Session) -> u64 {
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
        session.queue(&Request::Data(Command::PutBatch { entries }))
    }
}

/// Batches on their way, oldest first.
struct Pipeline<'a> {
    session: &'a mut Session,
    in_flight: VecDeque<InFlight>,
}

struct InFlight {
    id: u64,
    batch: Batch,
    outcome: Option<Result<(), Refused>>,
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
        let id = batch.queue(self.session);
        self.in_flight.push_back(InFlight { id, batch, outcome: None });
        self.session.flush()
    }

    /// Waits until everything is acknowledged.
    fn finish(&mut self) -> Result<(), CliError> {
        while !self.in_flight.is_empty() {
            self.settle()?;
        }
        Ok(())
    }

    /// Waits for one response, and lets go of the batches at the front that are acknowledged.
    fn settle(&mut self) -> Result<(), CliError> {
        self.receive()?;
        while let Some(Some(outcome)) = self.in_flight.front().map(|first| first.outcome.clone()) {
            match outcome {
                Ok(()) => drop(self.in_flight.pop_front()),
                Err(refused) if refused.status == Status::Busy => return self.send_again(),
                Err(refused) => return Err(refused.into()),
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), CliError> {
        let in_flight = &mut self.in_flight;
        self.session.receive(|id, response| {
            if let Some(answered) = in_flight.iter_mut().find(|flying| flying.id == id) {
                answered.outcome = Some(response.map(|_| ()));
            }
        })
    }

    /// Sends everything in flight again, in order, one after the other, until the daemon takes it.
    fn send_again(&mut self) -> Result<(), CliError> {
        while self.in_flight.iter().any(|flying| flying.outcome.is_none()) {
            self.receive()?;
        }
        let mut retries = 0;
        while let Some(mut first) = self.in_flight.pop_front() {
            first.id = first.batch.queue(self.session);
            match self.session.receive(|_, response| response.map(|_| ()))? {
                Ok(()) => retries = 0,
                Err(refused) if refused.status == Status::Busy && retries < RETRIES_MAX => {
                    retries += 1;
                    self.in_flight.push_front(first);
                    pause();
                }
                Err(refused) => return Err(refused.into()),
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
