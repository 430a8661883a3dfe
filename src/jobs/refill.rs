//! Entries that were read back become tables: from the log at a start, from what is left of files in a repair.
//!
//! They gather in a memtable that is flushed whenever it is full, so memory stays bounded however much is read. The
//! tables are durable but belong to nobody before the manifest names them.

use super::error::OpenError;
use super::flush::{TableJob, flush_memtable};
use crate::io::Files;
use crate::model::{DeleteScope, EntryOp, KeyRange, Lsn, Seqno, Slot};
use crate::storage::memtable::Memtable;
use crate::storage::range_delete::RangeDelete;
use crate::storage::version::Table;
use crate::storage::wal::Record;
use std::ops::ControlFlow;
use std::sync::Arc;

/// See the module's header.
pub(super) struct Refill<'a> {
    job: &'a TableJob,
    memory_bytes: usize,
    memtable: Memtable,
    tables: Vec<Arc<Table>>,
    failed: Option<OpenError>,
}

impl<'a> Refill<'a> {
    /// Nothing read yet; flushes at `memory_bytes`.
    pub(super) fn new(job: &'a TableJob, memory_bytes: usize) -> Self {
        Self { job, memory_bytes, memtable: Memtable::new(0), tables: Vec::new(), failed: None }
    }
    pub(super) fn files(&self) -> &'a dyn Files {
        &*self.job.files
    }
    /// Whether nothing waits to be flushed.
    pub(super) fn is_flushed(&self) -> bool {
        self.memtable.is_empty()
    }
    /// Takes a record of the log; a delete that does not say which keys its shard owned is clipped to `keys`. Breaks
    /// when a flush has failed.
    pub(super) fn record(&mut self, seqno: Seqno, record: &Record<'_>, keys: &KeyRange) -> ControlFlow<()> {
        match *record {
            Record::Put { series, slot, value } => self.entry(series, slot, seqno, EntryOp::Put(value)),
            Record::DeleteSlot { series, slot } => self.entry(series, slot, seqno, EntryOp::Delete),
            // The series was the shard's when it was written, whoever owned it later.
            Record::Delete(scope @ (DeleteScope::Series { .. } | DeleteScope::TimeRange { .. })) => {
                self.delete(&RangeDelete::new(scope, seqno), &KeyRange::all());
                self.flush_when_full()
            }
            Record::Delete(scope @ (DeleteScope::Prefix { .. } | DeleteScope::All)) => {
                self.delete(&RangeDelete::new(scope, seqno), keys);
                self.flush_when_full()
            }
            Record::DeleteKeys { start, end } => {
                let covered = KeyRange { start: start.into(), end: end.map(Box::from) };
                self.delete(&RangeDelete { keys: covered, times: None, seqno }, &KeyRange::all());
                self.flush_when_full()
            }
        }
    }
    /// Takes one entry.
    pub(super) fn entry(
        &mut self,
        series: &[u8],
        slot: Slot,
        seqno: Seqno,
        op: EntryOp<'_>,
    ) -> ControlFlow<()> {
        // No reply waits for it: where it comes from is durable.
        self.memtable.insert(series, slot, seqno, op, Lsn(0), true);
        self.flush_when_full()
    }
    /// Takes the part of a range delete that concerns `keys`.
    pub(super) fn delete(&mut self, delete: &RangeDelete, keys: &KeyRange) {
        if let Some(delete) = delete.clip(keys) {
            self.memtable.delete_range(delete, Lsn(0));
        }
    }
    /// Why the last call broke.
    pub(super) fn outcome(&mut self) -> Result<(), OpenError> {
        self.failed.take().map_or(Ok(()), Err)
    }
    /// Flushes the rest; the tables made of everything.
    pub(super) fn finish(mut self) -> Result<Vec<Arc<Table>>, OpenError> {
        self.outcome()?;
        self.flush()?;
        Ok(self.tables)
    }

    fn flush_when_full(&mut self) -> ControlFlow<()> {
        if self.memtable.bytes() < self.memory_bytes {
            return ControlFlow::Continue(());
        }
        match self.flush() {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn flush(&mut self) -> Result<(), OpenError> {
        let memtable = std::mem::replace(&mut self.memtable, Memtable::new(0));
        if memtable.is_empty() {
            return Ok(());
        }
        let (tables, _) = flush_memtable(self.job, &memtable, &KeyRange::all())?;
        self.tables.extend(tables);
        Ok(())
    }
}
