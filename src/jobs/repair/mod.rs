//! Repair of a store that does not open, or answers with errors (`tskv repair`).
//!
//! It says first what it would do and what would be lost, and changes nothing until it is told to. Then, in this order:
//!
//! ```text
//! what is kept of damaged tables and streams → new tables, synced → a new manifest, synced
//!     → damaged files renamed to *.quarantine, directories synced → CURRENT names the new manifest
//! ```
//! Nothing is deleted, and no file that was set aside is overwritten. The last step alone puts the repair in force.
//! Before it, a repair that was cut short is simply run again: it finds files that it has renamed already under their
//! new names, and tables that it has made are files that nobody names.
//!
//! What the repaired store serves is what the account says: every entry of sound tables and streams, of a damaged
//! table the sound blocks, of a damaged stream the prefix before the damage.

mod apply;
mod plan;
mod streams;
mod survey;
mod tables;

pub use plan::{
    BlockLoss, Extent, Field, FieldValue, Key, ManifestPlan, RepairStep, SegmentPlan, SeriesReach, TablePlan,
};

use super::error::OpenError;
use super::layout::Inventory;
use super::open::take_lock;
use crate::io::{FileLock, Files};
use crate::model::{KeyRange, SegmentSeq, StreamId, TableId, TimeUnit};
use crate::storage::manifest::SegmentEntry;
use crate::storage::manifest::names::quarantine_path;
use crate::storage::sstable::TableMeta;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use streams::StreamPlan;
use survey::Survey;
use tables::{DamagedTable, Examined};

/// What the operator decides.
#[derive(Clone, Copy, Debug)]
pub struct RepairOptions {
    /// Do it; else only say it.
    pub apply: bool,
    /// The store's unit, for when everything that says it is lost.
    pub time_unit: Option<TimeUnit>,
    /// Memory for entries on their way into new tables.
    pub memory_bytes: usize,
    /// Bloom filter bits of new tables.
    pub bloom_bits: u8,
}

/// What was found and done.
#[derive(Debug)]
pub struct RepairReport {
    /// Everything, in order; empty when there is nothing to repair.
    pub steps: Vec<RepairStep>,
    /// Whether it was done.
    pub applied: bool,
    /// Entries of sound tables.
    pub entries_sound: u64,
    /// Tables that were made; 0 when nothing was done.
    pub tables_made: usize,
}

/// Looks for damage in the store below `files`, which nobody may have open, and repairs it when told to. `process` goes
/// into the lock file meanwhile.
///
/// # Errors
/// When the store is in use, is not there, is of a newer tskv, or the machine refuses something.
pub fn repair_store(
    files: &Arc<dyn Files>,
    options: &RepairOptions,
    process: u32,
) -> Result<RepairReport, OpenError> {
    let _lock: Box<dyn FileLock> = take_lock(&**files, process)?;
    let inventory = Inventory::take(&**files)?;
    let decision = Decision::make(&**files, &inventory, options)?;
    let mut report = RepairReport { steps: Vec::new(), applied: false, entries_sound: 0, tables_made: 0 };
    report.entries_sound = decision.sound.values().map(|meta| meta.entries).sum();
    if decision.is_needed() && options.apply {
        report.tables_made = apply::apply(files, &inventory, &decision, options)?;
        report.applied = true;
    }
    report.steps = decision.steps(&inventory);
    Ok(report)
}

/// What is to be done, all of it known before the first change.
struct Decision {
    survey: Survey,
    sound: BTreeMap<TableId, TableMeta>,
    damaged: Vec<DamagedTable>,
    /// Streams whose segments do not stay as they are: those with damage; all where no manifest lists them.
    streams: Vec<StreamPlan>,
    /// Keys of each stream, to which its deletes of many keys are clipped.
    keys: BTreeMap<StreamId, KeyRange>,
    renames: Vec<(PathBuf, PathBuf)>,
}

impl Decision {
    fn make(files: &dyn Files, inventory: &Inventory, options: &RepairOptions) -> Result<Self, OpenError> {
        let survey = Survey::take(files, inventory, options.time_unit)?;
        let (mut sound, mut damaged) = (BTreeMap::new(), Vec::new());
        for (&id, meta) in &survey.tables {
            match tables::examine(files, &survey, inventory, id, meta.as_ref())? {
                Examined::Sound(meta) => drop(sound.insert(id, meta)),
                Examined::Damaged(table) => damaged.push(*table),
            }
        }
        let mut streams = Vec::new();
        for (stream, segments) in by_stream(&survey) {
            streams.push(streams::examine(files, &survey, inventory, stream, &segments)?);
        }
        let keys = stream_keys(&survey, &streams);
        let mut decision = Self { survey, sound, damaged, streams, keys, renames: Vec::new() };
        decision.complete();
        Ok(decision)
    }

    fn complete(&mut self) {
        let survey = &mut self.survey;
        let seqnos = self.streams.iter().map(|stream| stream.seqno_max);
        let metas = survey.tables.values().flatten().chain(self.sound.values()).map(|meta| meta.seqno_max);
        let kept = self.damaged.iter().filter_map(|table| table.plan.kept.seqnos).map(|(_, max)| max);
        survey.seqno_floor =
            seqnos.chain(metas).chain(kept).max().unwrap_or_default().max(survey.seqno_floor);
        survey.unit = survey.unit.or_else(|| unit_of_spans(self.sound.values()));
        if survey.based_on.is_none() && survey.boundaries.is_none() && self.streams.len() > 1 {
            survey.warnings.push(
                "which core wrote which keys is not known: deletes of many keys in the log are taken to reach as far as \
                 the keys that each stream wrote"
                    .to_owned(),
            );
        }
        if survey.unit.is_none() {
            survey.warnings.push(
                "nothing tells the store's time unit any more: say it with --time-unit ms, us or ns"
                    .to_owned(),
            );
        }
        if survey.based_on.is_some() {
            self.streams.retain(|stream| !stream.damage.is_empty());
        }
        let files = self.damaged.iter().filter_map(|table| table.aside.as_ref());
        let segments = self.streams.iter().flat_map(|stream| &stream.aside);
        let files: Vec<PathBuf> = files.chain(segments).chain(&self.survey.aside).cloned().collect();
        let mut taken = BTreeSet::new();
        for file in files {
            let free = (1..).map(|attempt| quarantine_path(&file, attempt));
            let free = free.into_iter().find(|path| !self.survey.is_taken(path) && !taken.contains(path));
            if let Some(to) = free {
                taken.insert(to.clone());
                self.renames.push((file, to));
            }
        }
    }

    fn is_needed(&self) -> bool {
        !self.survey.in_force || !self.damaged.is_empty() || !self.streams.is_empty()
    }

    /// The account.
    fn steps(self, inventory: &Inventory) -> Vec<RepairStep> {
        if !self.is_needed() {
            return Vec::new();
        }
        let mut manifest = self.survey.manifest_plan(inventory);
        manifest.tables = self.sound.len();
        manifest.segments = self.segments_left().len();
        let mut steps: Vec<_> = self.survey.damage.into_iter().map(RepairStep::Damage).collect();
        for stream in self.streams {
            steps.extend(stream.damage.into_iter().map(RepairStep::Damage));
            steps.extend(stream.segments.into_iter().map(RepairStep::Segment));
        }
        self.damaged.into_iter().for_each(|table| steps.extend(table.steps()));
        steps.extend(self.survey.warnings.into_iter().map(RepairStep::Warning));
        steps.push(RepairStep::NewManifest(manifest));
        steps.extend(self.renames.into_iter().map(|(file, to)| RepairStep::SetAside { file, to }));
        steps
    }

    /// Segments that stay as they are.
    fn segments_left(&self) -> BTreeMap<SegmentSeq, SegmentEntry> {
        let replaced = |entry: &SegmentEntry| self.streams.iter().any(|stream| stream.stream == entry.stream);
        let segments = self.survey.segments.iter();
        segments.filter(|(_, entry)| !replaced(entry)).map(|(seq, entry)| (*seq, *entry)).collect()
    }
}

fn by_stream(survey: &Survey) -> BTreeMap<StreamId, Vec<(SegmentSeq, SegmentEntry)>> {
    let mut streams: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (&seq, &entry) in &survey.segments {
        streams.entry(entry.stream).or_default().push((seq, entry));
    }
    streams
}

/// The keys that each stream's deletes of many keys mean. Where the boundaries are lost, a stream's keys go from the
/// first that it wrote to the first that the next one wrote.
fn stream_keys(survey: &Survey, streams: &[StreamPlan]) -> BTreeMap<StreamId, KeyRange> {
    if let Some(boundaries) = &survey.boundaries {
        let keys = |stream: StreamId| super::recover::shard_keys(boundaries, usize::from(stream.0));
        return streams.iter().map(|plan| (plan.stream, keys(plan.stream))).collect();
    }
    let first = |plan: &StreamPlan| plan.extent.series.as_ref().map(|(first, _)| first.clone());
    let wrote: Vec<_> = streams.iter().filter_map(|plan| Some((plan.stream, first(plan)?))).collect();
    let mut keys = BTreeMap::new();
    for (index, (stream, first)) in wrote.iter().enumerate() {
        let start = if index == 0 { Box::default() } else { first.clone() };
        let end = wrote.get(index + 1).map(|(_, next)| next.clone());
        keys.insert(*stream, KeyRange { start, end });
    }
    if let [only] = streams {
        keys.insert(only.stream, KeyRange::all());
    }
    keys
}

/// The unit that the lengths of spans give away.
fn unit_of_spans<'a>(mut tables: impl Iterator<Item = &'a TableMeta>) -> Option<TimeUnit> {
    use crate::storage::compaction::span_of;
    let units = [TimeUnit::Milliseconds, TimeUnit::Microseconds, TimeUnit::Nanoseconds];
    tables.find_map(|meta| {
        let (start, end) = meta.span?;
        let fits = |unit: &TimeUnit| {
            let span = span_of(start, super::flush::SpanRule::new(*unit, None).base, meta.level);
            (span.start, span.end) == (start, end)
        };
        let mut fitting = units.into_iter().filter(fits);
        fitting.next().filter(|_| fitting.next().is_none())
    })
}
