//! Splits one ordered stream of entries into tables: by span, at shard boundaries, and by size.
//!
//! Samples go to the table of their span; everything else, with the range deletes, to the table without a span. Tables
//! end between two series only: within one flush or merge no two tables of a span share a series. A range delete is
//! clipped to the keys that its table stands for, so each piece lies where the entries are that it concerns.

use super::span::Span;
use crate::model::{KeyRange, SlotClass, StoreId, TableId};
use crate::storage::columns::Columns;
use crate::storage::range_delete::RangeDelete;
use crate::storage::sstable::{Effort, TableBuilder, TableMeta, TableOptions};
use std::collections::VecDeque;
use std::ops::Range;

/// Finished bytes are handed out when a table has this many, so that they are written in large pieces.
const WRITE_BYTES: usize = 256 << 10;

/// What a flush or merge makes; the caller writes it.
#[derive(Debug)]
pub enum OutputEvent {
    /// The next bytes of a table's file. The first event with a new id starts the file; several tables may be under
    /// way at once.
    Bytes { table: TableId, bytes: Vec<u8> },
    /// The table's last bytes have been handed out: it can be synced.
    Finished { meta: TableMeta },
}

/// How tables are written.
pub struct OutputOptions {
    /// The store they belong to.
    pub store: StoreId,
    /// Bloom filter bits per (series, class).
    pub bloom_bits: u8,
    /// Work that is put into their columns.
    pub effort: Effort,
    /// Shard boundaries, ascending: no table holds keys of both sides of one.
    pub boundaries: Vec<Box<[u8]>>,
    /// Tables are cut, between two series, when they reach this.
    pub table_bytes_target: u64,
    /// Gives an id to each table made.
    pub next_id: Box<dyn FnMut() -> TableId + Send>,
}

/// The tables under way.
pub(super) struct Outputs {
    options: OutputOptions,
    /// Where samples go, with the table under way.
    spans: Vec<(Span, Option<TableBuilder>)>,
    /// Where everything else goes.
    spanless: Option<TableBuilder>,
    /// Range deletes that are written as far as the tables without a span have got.
    range_deletes: Vec<RangeDelete>,
    /// First key of the table without a span that is under way.
    spanless_start: Box<[u8]>,
    /// Boundaries that have been passed.
    boundaries_passed: usize,
    series: Vec<u8>,
    events: VecDeque<OutputEvent>,
}

impl Outputs {
    /// `spans` are disjoint and cover every sample to come.
    pub(super) fn new(options: OutputOptions, spans: &[Span], range_deletes: Vec<RangeDelete>) -> Self {
        assert!(options.boundaries.is_sorted(), "boundaries ascend");
        let mut spans = spans.to_vec();
        spans.sort_unstable();
        assert!(spans.is_sorted_by(|a, b| a.end < b.start), "a sample belongs into one span");
        Self {
            options,
            spans: spans.into_iter().map(|span| (span, None)).collect(),
            spanless: None,
            range_deletes,
            spanless_start: Box::default(),
            boundaries_passed: 0,
            series: Vec::new(),
            events: VecDeque::new(),
        }
    }
    /// The next thing for the caller to write.
    pub(super) fn pop(&mut self) -> Option<OutputEvent> {
        self.events.pop_front()
    }
    /// Adds a run; runs ascend by series, class, slot and seqno.
    pub(super) fn add(&mut self, series: &[u8], class: SlotClass, columns: &Columns, range: Range<usize>) {
        if self.series != series {
            self.enter(series);
        }
        if class != SlotClass::Time {
            let builder = self.spanless.get_or_insert_with(|| new_builder(&mut self.options, None));
            builder.add_columns(series, class, columns, range);
            hand_out(builder, &mut self.events);
            return;
        }
        let mut start = range.start;
        while start < range.end {
            let times = columns.times().get(start..range.end).unwrap_or_default();
            let first = times.first().copied().unwrap_or_default();
            let number = self.spans.partition_point(|(span, _)| span.end < first);
            let (span, builder) = self.spans.get_mut(number).expect("the spans cover every sample");
            assert!(span.contains(first), "the spans cover every sample");
            let end = start + times.partition_point(|time| *time <= span.end);
            let builder = builder.get_or_insert_with(|| new_builder(&mut self.options, Some(*span)));
            builder.add_columns(series, class, columns, start..end);
            hand_out(builder, &mut self.events);
            start = end;
        }
    }
    /// Ends what must not hold the new series: tables of the shard before, and those that are large enough.
    fn enter(&mut self, series: &[u8]) {
        while let Some(boundary) = self.options.boundaries.get(self.boundaries_passed).cloned() {
            if *boundary > *series {
                break;
            }
            self.close_spans(0);
            self.close_spanless(Some(boundary));
            self.boundaries_passed += 1;
        }
        self.close_spans(self.options.table_bytes_target);
        if self
            .spanless
            .as_ref()
            .is_some_and(|builder| builder.bytes_estimate() >= self.options.table_bytes_target)
        {
            self.close_spanless(Some(series.into()));
        }
        self.series.clear();
        self.series.extend_from_slice(series);
    }
    /// Ends all tables; the events that are left follow.
    pub(super) fn finish(&mut self) {
        self.close_spans(0);
        while let Some(boundary) = self.options.boundaries.get(self.boundaries_passed).cloned() {
            self.close_spanless(Some(boundary));
            self.boundaries_passed += 1;
        }
        self.close_spanless(None);
        self.range_deletes.clear();
    }
    /// Ends the tables of samples that have reached `bytes`.
    fn close_spans(&mut self, bytes: u64) {
        for (_, place) in &mut self.spans {
            if let Some(builder) = place.take_if(|builder| builder.bytes_estimate() >= bytes) {
                close(builder, &mut self.events);
            }
        }
    }
    /// Ends the table without a span: it stands for all keys below `end` that no table before it stands for.
    fn close_spanless(&mut self, end: Option<Box<[u8]>>) {
        let keys = KeyRange { start: std::mem::take(&mut self.spanless_start), end };
        for delete in self.range_deletes.iter().filter_map(|delete| delete.clip(&keys)) {
            let builder = self.spanless.get_or_insert_with(|| new_builder(&mut self.options, None));
            builder.add_range_delete(delete);
        }
        if let Some(builder) = self.spanless.take() {
            close(builder, &mut self.events);
        }
        self.spanless_start = keys.end.unwrap_or_default();
    }
}

fn new_builder(options: &mut OutputOptions, span: Option<Span>) -> TableBuilder {
    TableBuilder::new(TableOptions {
        store: options.store,
        id: (options.next_id)(),
        span: span.map(|span| (span.start, span.end)),
        level: span.map_or(0, |span| span.level),
        bloom_bits: options.bloom_bits,
        effort: options.effort,
    })
}

fn hand_out(builder: &mut TableBuilder, events: &mut VecDeque<OutputEvent>) {
    if builder.ready_bytes() >= WRITE_BYTES {
        events.push_back(OutputEvent::Bytes { table: builder.id(), bytes: builder.take_bytes() });
    }
}

fn close(builder: TableBuilder, events: &mut VecDeque<OutputEvent>) {
    let (bytes, meta) = builder.finish();
    events.push_back(OutputEvent::Bytes { table: meta.id, bytes });
    events.push_back(OutputEvent::Finished { meta });
}
