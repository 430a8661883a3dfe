//! skeleton
use super::output::{OutputEvent, OutputOptions};
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
    runs: I,
}

impl<'a, I, C> Flush<I>
where
    I: Iterator<Item = (&'a [u8], SlotClass, C)> + Clone,
    C: Borrow<Columns>,
{
    /// `runs` ascends by (series, class), with the entries of each in order.
    pub fn new(options: FlushOptions, runs: I, range_deletes: &[RangeDelete]) -> Self {
        todo!("{}{}{}", options.span_base, runs.count(), range_deletes.len())
    }
    /// The next thing to write; `None` when all is done.
    pub fn step(&mut self) -> Option<OutputEvent> {
        todo!("{}", self.runs.clone().count())
    }
}
