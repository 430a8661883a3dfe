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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SPAN_BASE_MS;
    use crate::model::{DeleteScope, EntryOp, Seqno, StoreId, TableId, Value};
    use crate::storage::sstable::{Effort, TableMeta};

    const DAY: i64 = SPAN_BASE_MS;

    fn options(boundaries: &[&[u8]], keys: KeyRange) -> FlushOptions {
        let mut next = 0;
        let output = OutputOptions {
            store: StoreId([1; 16]),
            bloom_bits: 10,
            effort: Effort::Quick,
            boundaries: boundaries.iter().map(|key| (*key).into()).collect(),
            table_bytes_target: 1 << 20,
            next_id: Box::new(move || {
                next += 1;
                TableId(next)
            }),
        };
        FlushOptions { output, span_base: DAY, keys }
    }

    fn columns(times: impl IntoIterator<Item = i64>) -> Columns {
        let mut columns = Columns::default();
        times.into_iter().for_each(|time| columns.push(time, Seqno(5), EntryOp::Put(Value::I64(time))));
        columns
    }

    fn flush(
        options: FlushOptions,
        runs: &[(&[u8], SlotClass, Columns)],
        deletes: &[RangeDelete],
    ) -> Vec<TableMeta> {
        let runs = runs.iter().map(|(series, class, columns)| (*series, *class, columns));
        let mut flush = Flush::new(options, runs, deletes);
        let events = std::iter::from_fn(|| flush.step());
        let mut metas: Vec<TableMeta> = events
            .filter_map(|event| match event {
                OutputEvent::Finished { meta } => Some(meta),
                OutputEvent::Bytes { .. } => None,
            })
            .collect();
        metas.sort_by_key(|meta| meta.span);
        metas
    }

    #[test]
    fn samples_go_by_span_and_the_rest_apart() {
        // A retention that drops whole files must not take metadata with it.
        let runs = [
            (&b"a"[..], SlotClass::Metadata, columns([0])),
            (b"a", SlotClass::Time, columns([i64::MIN, -1, 0, 5, DAY, i64::MAX])),
            (b"b", SlotClass::Timeless, columns([0])),
            (b"b", SlotClass::Time, columns([1, 2, DAY + 1])),
        ];
        let metas = flush(options(&[], KeyRange::all()), &runs, &[]);
        let told: Vec<_> = metas.iter().map(|meta| (meta.span.map(|span| span.0), meta.entries)).collect();
        let day_of = |time: i64| super::super::span::span_of(time, DAY, 0).start;
        assert_eq!(
            told,
            [
                (None, 2),
                (Some(i64::MIN), 1),
                (Some(-DAY), 1),
                (Some(0), 4),
                (Some(DAY), 2),
                (Some(day_of(i64::MAX)), 1)
            ]
        );
        assert_eq!((metas[3].time_min, metas[3].time_max), (0, 5));
    }

    #[test]
    fn scattered_samples_make_few_tables() {
        // Each flush of a table per day would leave more files than a process may open.
        let runs = [(&b"vix"[..], SlotClass::Time, columns((-3000..7000).map(|day| day * DAY)))];
        let metas = flush(options(&[], KeyRange::all()), &runs, &[]);
        assert!(metas.len() <= FLUSH_TABLES_MAX, "{} tables", metas.len());
        assert_eq!(metas.iter().map(|meta| meta.entries).sum::<u64>(), 10_000);
    }

    #[test]
    fn keys_outside_and_other_shards_are_kept_out() {
        // What another shard owns by now is written by that shard, under its own seqnos.
        let run = |series| (series, SlotClass::Timeless, columns([0]));
        let runs = [run(&b"a"[..]), run(b"b"), run(b"m"), run(b"n"), run(b"z")];
        let keys = KeyRange { start: (*b"b").into(), end: Some((*b"o").into()) };
        let delete = RangeDelete::new(DeleteScope::All, Seqno(9));
        let metas = flush(options(&[b"a", b"m", b"x"], keys), &runs, &[delete]);
        let told: Vec<_> =
            metas.iter().map(|meta| (&*meta.first_key, &*meta.last_key, meta.keys.clone())).collect();
        let range = |start: &[u8], end: &[u8]| KeyRange { start: start.into(), end: Some(end.into()) };
        assert_eq!(told, [(&b"b"[..], &b"b"[..], range(b"b", b"m")), (b"m", b"n", range(b"m", b"o"))]);
        assert!(metas.iter().all(|meta| meta.range_deletes == 1 && meta.seqno_max == Seqno(9)));
    }

    #[test]
    fn deletes_alone_make_a_table_and_nothing_makes_none() {
        // FLUSHALL on an empty memtable must still reach the tables.
        let delete = RangeDelete::new(DeleteScope::All, Seqno(9));
        let metas = flush(options(&[], KeyRange::all()), &[], std::slice::from_ref(&delete));
        assert_eq!(metas.len(), 1);
        assert_eq!((metas[0].entries, metas[0].range_deletes, &metas[0].keys), (0, 1, &KeyRange::all()));
        assert!(flush(options(&[], KeyRange::all()), &[], &[]).is_empty());
    }
}
