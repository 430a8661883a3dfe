//! A manifest, edit by edit.

use super::text::Span;
use super::{Dump, failed, read_current};
use crate::cli::error::CliError;
use crate::io::Files;
use crate::model::Seqno;
use crate::storage::manifest::log::MANIFEST_BYTES_MAX;
use crate::storage::manifest::names::CURRENT;
use crate::storage::manifest::{Edit, ManifestFrame, read_remains, replay};
use crate::storage::retention::Retention;
use crate::storage::sstable::TableMeta;
use std::io::Write;
use std::path::Path;

impl<W: Write> Dump<'_, W> {
    /// Prints a manifest whose name says `number`.
    pub(super) fn manifest(&mut self, number: u64) -> Result<(), CliError> {
        let bytes =
            self.files.read_all(self.file, MANIFEST_BYTES_MAX).map_err(|error| failed(self.file, error))?;
        let remains = read_remains(self.file, number, &bytes);
        let current = read_current(self.files, Path::new(CURRENT)).ok().and_then(Result::ok);
        let in_force = match &current {
            Some(current) if current.manifest == number => "in force",
            Some(_) => "NOT in force",
            None => "no CURRENT says whether it is in force",
        };
        match &remains.header {
            Ok(header) => self.line(format_args!(
                "manifest {number} ({in_force}) of store {}, unit {}",
                header.store, header.unit
            ))?,
            Err(error) => {
                self.line(format_args!("manifest {number} ({in_force})"))?;
                self.damage(error)?;
            }
        }
        for frame in &remains.frames {
            if self.is_enough() {
                return self.line(format_args!("… and more: the limit is reached"));
            }
            self.manifest_frame(frame)?;
        }
        let Ok(header) = remains.header else { return Ok(()) };
        match replay(self.file, number, header.store, &bytes) {
            Ok(replayed) => self.line(format_args!(
                "{} tables and {} segments after {} frames up to offset {}, {} torn bytes behind them",
                replayed.state.tables.len(),
                replayed.state.segments.len(),
                replayed.frames,
                replayed.end,
                replayed.torn_bytes
            )),
            Err(error) => self.damage(error),
        }
    }

    fn manifest_frame(&mut self, frame: &ManifestFrame) -> Result<(), CliError> {
        match frame {
            // Whether it is damage or a torn end is for the replay to say.
            ManifestFrame::Damaged(corruption) => self.line(format_args!("no frame: {corruption}")),
            ManifestFrame::Whole { offset, index, durable_end, edits } if edits.is_empty() => {
                self.line(format_args!("frame {index} at {offset}: all is durable up to {durable_end}"))
            }
            ManifestFrame::Whole { offset, index, durable_end, edits } => {
                let count = edits.len();
                self.line(format_args!(
                    "frame {index} at {offset}: {count} edits, made when {durable_end} bytes were durable"
                ))?;
                if self.brief {
                    return Ok(());
                }
                edits.iter().try_for_each(|edit| self.edit(edit))
            }
        }
    }

    fn edit(&mut self, edit: &Edit) -> Result<(), CliError> {
        match edit {
            Edit::AddTable(meta) => self.added_table(meta),
            Edit::RemoveTable(id) => self.item(format_args!("  - table {:016x}", id.0)),
            Edit::AddSegment { seq, entry } => self.item(format_args!(
                "  + segment {:016x}: stream {}, salt {:016x}, {} bytes",
                seq.0, entry.stream.0, entry.salt, entry.bytes
            )),
            Edit::RetireSegment(seq) => self.item(format_args!("  - segment {:016x}", seq.0)),
            Edit::Boundaries(boundaries) => {
                self.item(format_args!("  {} shards", boundaries.len() + 1))?;
                let split = |key: &[u8]| format!("    split at '{}'", key.escape_ascii());
                boundaries.iter().try_for_each(|key| self.item(format_args!("{}", split(key))))
            }
            Edit::SeqnoFloor(floor) => {
                self.item(format_args!("  seqnos of new writes start above {}", floor.0))
            }
            Edit::Retention(retention) => self.retention(retention),
            Edit::NextTable(id) => self.item(format_args!("  the next table is {:016x}", id.0)),
            Edit::NextSegment(seq) => self.item(format_args!("  the next segment is {:016x}", seq.0)),
        }
    }

    fn retention(&mut self, retention: &Retention) -> Result<(), CliError> {
        let clock = retention.clock().map_or("unknown".to_owned(), |clock| clock.to_string());
        self.item(format_args!("  the clock is {clock}; {} cutoffs", retention.cutoffs().len()))?;
        retention.cutoffs().iter().try_for_each(|cutoff| match cutoff.below {
            Seqno::MAX => self.item(format_args!("    samples before {} are gone", cutoff.before)),
            below => self.item(format_args!(
                "    samples before {} with seqnos below {} are gone",
                cutoff.before, below.0
            )),
        })
    }

    fn added_table(&mut self, meta: &TableMeta) -> Result<(), CliError> {
        self.item(format_args!(
            "  + table {:016x}: {} bytes, {} entries, {} range deletes, '{}' to '{}', {}, seqnos {}..={}",
            meta.id.0,
            meta.bytes,
            meta.entries,
            meta.range_deletes,
            meta.first_key.escape_ascii(),
            meta.last_key.escape_ascii(),
            Span(meta.span),
            meta.seqno_min.0,
            meta.seqno_max.0
        ))
    }
}
