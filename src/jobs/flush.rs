//! Flush: a memtable becomes tables.

use super::error::JobError;
use super::options::StoreOptions;
use super::table_files::TableWriter;
use crate::io::Files;
use crate::limits::{RETENTION_SPANS, SPAN_BASE_MS, SPAN_BASE_SECONDS_MIN};
use crate::model::{KeyRange, SlotClass, StoreId, TableId, TimeUnit};
use crate::storage::columns::Columns;
use crate::storage::compaction::{Flush, FlushOptions, LEVEL_EVERYTHING, OutputOptions, SizeLimit, span_of};
use crate::storage::manifest::State;
use crate::storage::memtable::{Memtable, SeriesPlace};
use crate::storage::sstable::Effort;
use crate::storage::version::Table;
use std::borrow::Borrow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What every job that writes tables needs.
#[derive(Clone)]
pub(super) struct TableJob {
    pub(super) files: Arc<dyn Files>,
    pub(super) store: StoreId,
    pub(super) spans: SpanRule,
    pub(super) bloom_bits: u8,
    pub(super) table_bytes_target: u64,
    pub(super) boundaries: Vec<Box<[u8]>>,
    /// The next free table id. Only ever grows; a crash may leave gaps.
    pub(super) next_table: Arc<AtomicU64>,
    /// Set when the store is being closed.
    pub(super) stop: Arc<AtomicBool>,
}

impl TableJob {
    pub(super) fn output(&self, effort: Effort) -> OutputOptions {
        let next_table = Arc::clone(&self.next_table);
        OutputOptions {
            store: self.store,
            bloom_bits: self.bloom_bits,
            effort,
            boundaries: self.boundaries.clone(),
            table_bytes_target: self.table_bytes_target,
            next_id: Box::new(move || TableId(next_table.fetch_add(1, Ordering::Relaxed))),
        }
    }
    /// Ends the job when the store is being closed; asked between blocks.
    pub(super) fn check_stop(&self) -> Result<(), JobError> {
        if self.stop.load(Ordering::Relaxed) { Err(JobError::Stopped) } else { Ok(()) }
    }
}

/// How time is cut into spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SpanRule {
    /// Length of a span of level 0, in the store's unit.
    pub(super) base: i64,
    /// The highest level that spans are merged into.
    pub(super) level_max: u8,
}

impl SpanRule {
    /// For a store of `unit` whose samples are kept for `length`: spans so short that little of what is too old waits for
    /// its span to end. Without a length, spans have no highest level.
    pub(super) fn new(unit: TimeUnit, length: Option<i64>) -> Self {
        let longest = SPAN_BASE_MS / 1000 * unit.per_second();
        let Some(length) = length else { return Self { base: longest, level_max: LEVEL_EVERYTHING } };
        let least = SPAN_BASE_SECONDS_MIN * unit.per_second();
        let base = (length / RETENTION_SPANS).clamp(least, longest);
        let is_short = |level: &u8| {
            let span = span_of(0, base, *level);
            *level == 0 || span.end < length / RETENTION_SPANS
        };
        let level_max = (0..LEVEL_EVERYTHING).take_while(is_short).last().unwrap_or_default();
        Self { base, level_max }
    }
    /// For a store that keeps samples by age, by size, or for ever. `current` is what this said before.
    pub(super) fn of_store(options: &StoreOptions, state: &State, current: Option<Self>) -> Self {
        let by_age = options.retention.map(|retention| retention.length_in(state.unit));
        let by_size = options.retention_bytes.and_then(|bytes| {
            let samples: Vec<_> = state.tables.values().filter(|meta| meta.span.is_some()).collect();
            let current = current.map(|rule| rule.base.saturating_mul(RETENTION_SPANS));
            SizeLimit { bytes }.held(&samples, state.unit, current)
        });
        Self::new(state.unit, by_age.into_iter().chain(by_size).min())
    }
}

/// Writes the entries of `memtable` that lie in `keys`, and its range deletes clipped to them, as tables. They are
/// durable but belong to nobody yet. Returns them and how many bytes were written.
pub(super) fn flush_memtable(
    job: &TableJob,
    memtable: &Memtable,
    keys: &KeyRange,
) -> Result<(Vec<Arc<Table>>, u64), JobError> {
    let options =
        FlushOptions { output: job.output(Effort::Quick), span_base: job.spans.base, keys: keys.clone() };
    let mut flush = Flush::new(options, MemtableRuns::new(memtable, keys), memtable.range_deletes());
    let mut writer = TableWriter::new(Arc::clone(&job.files), job.store);
    while let Some(event) = flush.step() {
        job.check_stop()?;
        writer.take(event)?;
    }
    let bytes = writer.bytes();
    Ok((writer.finish()?, bytes))
}

/// The runs of a memtable in the order of tables; a clone starts where the original stands.
#[derive(Clone)]
struct MemtableRuns<'a> {
    memtable: &'a Memtable,
    keys: &'a KeyRange,
    place: SeriesPlace,
    class_index: usize,
    piece: usize,
}

const CLASSES: [SlotClass; 3] = [SlotClass::Metadata, SlotClass::Timeless, SlotClass::Time];

impl<'a> MemtableRuns<'a> {
    fn new(memtable: &'a Memtable, keys: &'a KeyRange) -> Self {
        Self { memtable, keys, place: memtable.seek_series(&keys.start), class_index: 0, piece: 0 }
    }
}

impl<'a> Iterator for MemtableRuns<'a> {
    type Item = (&'a [u8], SlotClass, RunColumns<'a>);
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let series = self.memtable.series_at(self.place).filter(|series| self.keys.contains(series))?;
            let Some(&class) = CLASSES.get(self.class_index) else {
                self.place = self.memtable.place_after(self.place);
                (self.class_index, self.piece) = (0, 0);
                continue;
            };
            let run = self.memtable.run_at(self.place, class).filter(|run| self.piece < run.piece_count());
            let Some(run) = run else {
                self.class_index += 1;
                self.piece = 0;
                continue;
            };
            let (columns, range) = run.piece(self.piece);
            self.piece += 1;
            if range.len() == columns.len() {
                return Some((series, class, RunColumns::Shared(columns)));
            }
            // Short series share columns with others.
            let mut own = Columns::default();
            range.for_each(|index| own.push(columns.times()[index], columns.seqno(index), columns.op(index)));
            return Some((series, class, RunColumns::Own(own)));
        }
    }
}

#[derive(Clone)]
enum RunColumns<'a> {
    Shared(&'a Columns),
    Own(Columns),
}
impl Borrow<Columns> for RunColumns<'_> {
    fn borrow(&self) -> &Columns {
        match self {
            Self::Shared(columns) => columns,
            Self::Own(columns) => columns,
        }
    }
}
