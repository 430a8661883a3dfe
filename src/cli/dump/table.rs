//! A table, block by block.

use super::text::{ClassText, SlotText, Span, ValueText};
use super::{Dump, failed};
use crate::cli::error::CliError;
use crate::io::Files;
use crate::jobs::FileSource;
use crate::model::{EntryOp, TableId};
use crate::storage::columns::Columns;
use crate::storage::range_delete::RangeDelete;
use crate::storage::sstable::{Block, BlockFound, BlockWalk, TableMeta, TableRemains, read_identity};
use std::io::Write;

impl<W: Write> Dump<'_, W> {
    /// Prints a table whose name says `named`.
    pub(super) fn table(&mut self, named: TableId) -> Result<(), CliError> {
        let file = self.files.open(self.file).map_err(|error| failed(self.file, error))?;
        let mut source = FileSource::new(self.files, file).map_err(|error| failed(self.file, error))?;
        let identity = read_identity(self.file, &mut source);
        let (store, id) = identity.unwrap_or((Default::default(), named));
        let remains = TableRemains::read(self.file, store, id, &mut source).map_err(CliError::failed)?;
        if id != named {
            self.damage(format_args!("the file is named {:016x} and is table {:016x}", named.0, id.0))?;
        }
        if identity.is_some() {
            self.line(format_args!("table {:016x} of store {store}", id.0))?;
        }
        remains.damage.iter().try_for_each(|error| self.damage(error))?;
        if let Some(meta) = &remains.meta {
            self.meta(meta)?;
        }
        for delete in remains.range_deletes.iter().flatten() {
            self.range_delete(delete)?;
        }
        if !remains.has_index() {
            self.line(format_args!("without an index: blocks are looked for byte by byte"))?;
        }
        let mut walk = BlockWalk::default();
        let mut number = 0;
        while let Some(found) = remains.next_block(self.file, &mut source, &mut walk) {
            if self.is_enough() {
                return self.line(format_args!("… and more: the limit is reached"));
            }
            match found {
                BlockFound::Sound(handle, block) => {
                    self.line(format_args!("block {number} at {}, {} bytes", handle.offset, handle.bytes))?;
                    (0..block.chunk_count()).try_for_each(|chunk| self.chunk(&block, chunk))?;
                }
                BlockFound::Damaged(stretch, range, error) => {
                    self.line(format_args!("block {number} at {}..{}", range.start, range.end))?;
                    self.damage(error)?;
                    if let Some(stretch) = stretch {
                        let ((first, first_slot), (last, last_slot)) = (&stretch.first, &stretch.last);
                        self.line(format_args!(
                            "  it held '{}' {} to '{}' {}",
                            first.escape_ascii(),
                            SlotText(*first_slot),
                            last.escape_ascii(),
                            SlotText(*last_slot)
                        ))?;
                    }
                }
            }
            number += 1;
        }
        Ok(())
    }

    fn meta(&mut self, meta: &TableMeta) -> Result<(), CliError> {
        self.line(format_args!("{} bytes", meta.bytes))?;
        self.line(format_args!(
            "{} entries ({} point deletes), {} range deletes, seqnos {}..={}",
            meta.entries, meta.point_deletes, meta.range_deletes, meta.seqno_min.0, meta.seqno_max.0
        ))?;
        self.line(format_args!(
            "'{}' to '{}', {}, level {}",
            meta.first_key.escape_ascii(),
            meta.last_key.escape_ascii(),
            Span(meta.span),
            meta.level
        ))
    }

    fn range_delete(&mut self, delete: &RangeDelete) -> Result<(), CliError> {
        let end =
            delete.keys.end.as_deref().map_or("the end".into(), |end| format!("'{}'", end.escape_ascii()));
        let times = delete.times.map_or("all slots".into(), |(from, to)| format!("times {from}..={to}"));
        let start = delete.keys.start.escape_ascii();
        self.item(format_args!("{} delete from '{start}' up to {end}, {times}", delete.seqno.0))
    }

    fn chunk(&mut self, block: &Block, number: usize) -> Result<(), CliError> {
        if self.is_enough() {
            return Ok(());
        }
        let header = block.chunk(number);
        let series = header.series.escape_ascii();
        let value_type = header.value_type.map_or("deletes", |value_type| value_type.name());
        self.line(format_args!(
            "  '{series}' {}: {} x {value_type}, times {}..={}, seqnos {}..={}",
            ClassText(header.class),
            header.count,
            header.first_time,
            header.last_time,
            header.seqno_min.0,
            header.seqno_max.0
        ))?;
        if let Some(stats) = header.stats {
            self.line(format_args!(
                "    count {}, nan {}, min {}, max {}, sum {}, first {}, last {}",
                stats.count, stats.nan_count, stats.min, stats.max, stats.sum, stats.first, stats.last
            ))?;
        }
        if self.brief {
            return Ok(());
        }
        let mut columns = Columns::default();
        if let Err(error) = block.decode_chunk(number, &mut columns) {
            return self.damage(error);
        }
        for (index, time) in columns.times().iter().enumerate() {
            let slot = SlotText(header.class.slot(*time));
            let seqno = columns.seqno(index).0;
            match columns.op(index) {
                EntryOp::Put(value) => {
                    self.item(format_args!("    {seqno} {slot} = {}", ValueText(value)))?;
                }
                EntryOp::Delete => self.item(format_args!("    {seqno} {slot} deleted"))?,
            }
        }
        Ok(())
    }
}
