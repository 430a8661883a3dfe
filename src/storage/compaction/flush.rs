//! Flush: a memtable's runs become tables, split by slot class and span.
//!
//! Everything is kept, deletes and older versions too: which of them can go is for a merge to decide, which knows the
//! other tables. At most `FLUSH_TABLES_MAX` spans and one table without a span per shard's keys.

use super::output::{OutputEvent, OutputOptions, Outputs};
use super::span::choose_spans;
use crate::limits::FLUSH_TABLES_MAX;
use crate::model::{KeyRange, SlotClass};
use crate::storage::columns::Columns;
use crate::storage::range_delete::RangeDelete;
use std::borrow::Borrow;

/// What is flushed, and into what.
pub struct FlushOptions {
    /// How tables are written.
    pub output: OutputOptions,
    /// Length of a span of level 0, in the store's unit.
    pub span_base: i64,
    /// Range deletes are clipped to these keys; entries outside are left out.
    pub keys: KeyRange,
}

/// Turns sorted runs into tables.
pub struct Flush<I> {
    runs: Option<I>,
    keys: KeyRange,
    outputs: Outputs,
}

impl<'a, I, C> Flush<I>
where
    I: Iterator<Item = (&'a [u8], SlotClass, C)> + Clone,
    C: Borrow<Columns>,
{
    /// `runs` ascends by (series, class), each once, with the entries of each in order. It is walked twice, a few
    /// times more when times are scattered: the spans must be known before the first table is begun.
    pub fn new(options: FlushOptions, runs: I, range_deletes: &[RangeDelete]) -> Self {
        let FlushOptions { output, span_base, keys } = options;
        let deletes = range_deletes.iter().filter_map(|delete| delete.clip(&keys)).collect();
        let samples =
            runs.clone().filter(|(series, class, _)| *class == SlotClass::Time && keys.contains(series));
        let spans = choose_spans(samples.map(|(_, _, columns)| columns), span_base, FLUSH_TABLES_MAX);
        Self { runs: Some(runs), keys, outputs: Outputs::new(output, &spans, deletes) }
    }
    /// The next thing to write; `None` when all is done.
    pub fn step(&mut self) -> Option<OutputEvent> {
        loop {
            if let Some(event) = self.outputs.pop() {
                return Some(event);
            }
            match self.runs.as_mut()?.next() {
                Some((series, class, columns)) if self.keys.contains(series) => {
                    let columns = columns.borrow();
                    self.outputs.add(series, class, columns, 0..columns.len());
                }
                Some(_) => {}
                None => {
                    self.runs = None;
                    self.outputs.finish();
                    return self.outputs.pop();
                }
            }
        }
    }
}
