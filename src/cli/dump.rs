//! `tskv dump`: one file of a data directory in words.
//!
//! The store's LOCK is held meanwhile, so that no daemon changes the file while it is read. A file that lies in no data
//! directory, such as a copy, is read without. Files are told by their names, as the store names them.

use super::args::DumpArgs;
use super::error::CliError;
use super::output::Output;
use crate::encoding::Corruption;
use crate::io::{FileLock, Files, OsFiles};
use crate::jobs::FileSource;
use crate::limits::PAGE_BYTES;
use crate::model::{DeleteScope, EntryOp, Seqno, Slot, SlotClass, Value};
use crate::storage::byte_source::ByteSource;
use crate::storage::columns::Columns;
use crate::storage::manifest::log::MANIFEST_BYTES_MAX;
use crate::storage::manifest::names::{
    CURRENT, LOCK, MANIFEST_DIR, TABLES_DIR, WAL_DIR, parse_manifest, parse_segment, parse_table,
};
use crate::storage::manifest::{Current, replay};
use crate::storage::sstable::{Block, BlockHandle, TableIndex, read_owner};
use crate::storage::wal::{Record, ReplayInput, SegmentEnd, SegmentHeader, WalError, replay_segment};
use std::fmt;
use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Bytes of a byte value that are shown.
const VALUE_BYTES_SHOWN: usize = 60;
/// Longest `CURRENT` that is read.
const CURRENT_BYTES_MAX: u64 = 4096;

/// Runs the dump.
pub(super) fn run(args: &DumpArgs) -> Result<(), CliError> {
    let mut output = Output::stdout();
    dump(args, &mut output)?;
    output.flush().map_err(|error| CliError::output(&error))
}

fn dump(args: &DumpArgs, output: &mut impl Write) -> Result<(), CliError> {
    let place = Place::find(&args.file)?;
    let files = OsFiles::new(&place.root).map_err(|error| failed(&place.root, error))?;
    let _lock = place.in_store.then(|| lock(&files, &place.root)).transpose()?;
    let name = place.file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut dump = Dump { files: &files, file: &place.file, brief: args.brief, output };
    if name == CURRENT {
        dump.current()
    } else if let Some(number) = parse_manifest(name) {
        dump.manifest(number)
    } else if parse_segment(name).is_some() {
        dump.segment()
    } else if parse_table(name).is_some() {
        dump.table()
    } else {
        let shown = args.file.display();
        let known = "CURRENT, manifest/M-*.log, wal/*.wal, tables/*.sst";
        Err(CliError::Usage(format!("{shown} is none of {known}")))
    }
}

/// Where a file lies.
struct Place {
    /// The data directory, or the file's own where it lies in none.
    root: PathBuf,
    /// The file below it.
    file: PathBuf,
    in_store: bool,
}

impl Place {
    fn find(path: &Path) -> Result<Self, CliError> {
        let path = path.canonicalize().map_err(|error| failed(path, error))?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        let name = Path::new(path.file_name().unwrap_or_default());
        let directory = Path::new(parent.file_name().unwrap_or_default());
        let is_ours = [MANIFEST_DIR, TABLES_DIR, WAL_DIR].iter().any(|ours| directory == Path::new(ours));
        Ok(match parent.parent() {
            Some(root) if is_ours && root.join(LOCK).exists() => {
                Self { root: root.to_owned(), file: directory.join(name), in_store: true }
            }
            _ => {
                Self { root: parent.to_owned(), file: name.to_owned(), in_store: parent.join(LOCK).exists() }
            }
        })
    }
}

fn lock(files: &OsFiles, root: &Path) -> Result<Box<dyn FileLock>, CliError> {
    files.lock(Path::new(LOCK), &format!("{}\n", std::process::id())).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => CliError::Failed(format!(
            "a daemon has {} open; stop it first, or dump a copy of the file",
            root.display()
        )),
        _ => failed(root, error),
    })
}

fn failed(path: &Path, error: impl fmt::Display) -> CliError {
    CliError::Failed(format!("{}: {error}", path.display()))
}

struct Dump<'a, W: Write> {
    files: &'a OsFiles,
    file: &'a Path,
    brief: bool,
    output: &'a mut W,
}

impl<W: Write> Dump<'_, W> {
    fn line(&mut self, text: fmt::Arguments<'_>) -> Result<(), CliError> {
        writeln!(self.output, "{text}").map_err(|error| CliError::output(&error))
    }

    fn read_current(&self, path: &Path) -> Result<Current, CliError> {
        let bytes = self.files.read_all(path, CURRENT_BYTES_MAX).map_err(|error| failed(path, error))?;
        Current::decode(path, &bytes).map_err(CliError::failed)
    }

    fn current(&mut self) -> Result<(), CliError> {
        let current = self.read_current(self.file)?;
        self.line(format_args!("store {}, manifest number {}", current.store, current.manifest))
    }

    fn manifest(&mut self, number: u64) -> Result<(), CliError> {
        let current = self.read_current(Path::new(CURRENT))?;
        let bytes =
            self.files.read_all(self.file, MANIFEST_BYTES_MAX).map_err(|error| failed(self.file, error))?;
        let replayed = replay(self.file, number, current.store, &bytes).map_err(CliError::failed)?;
        let state = replayed.state;
        let in_force = if number == current.manifest { "in force" } else { "NOT in force" };
        self.line(format_args!(
            "manifest {number} ({in_force}) of store {}, unit {}",
            state.store, state.unit
        ))?;
        self.line(format_args!(
            "{} frames up to offset {}, {} torn bytes behind them",
            replayed.frames, replayed.end, replayed.torn_bytes
        ))?;
        self.line(format_args!("seqnos of new writes start above {}", state.seqno_floor.0))?;
        for boundary in &state.boundaries {
            self.line(format_args!("split at '{}'", boundary.escape_ascii()))?;
        }
        for (seq, entry) in &state.segments {
            self.line(format_args!(
                "segment {:016x}: stream {}, salt {:016x}, {} bytes",
                seq.0, entry.stream.0, entry.salt, entry.bytes
            ))?;
        }
        for meta in state.tables.values() {
            self.line(format_args!(
                "table {:016x}: {} bytes, {} entries, {} range deletes, '{}' to '{}', {}, seqnos {}..={}",
                meta.id.0,
                meta.bytes,
                meta.entries,
                meta.range_deletes,
                meta.first_key.escape_ascii(),
                meta.last_key.escape_ascii(),
                Span(meta.span),
                meta.seqno_min.0,
                meta.seqno_max.0
            ))?;
        }
        Ok(())
    }

    fn segment(&mut self) -> Result<(), CliError> {
        let file = self.files.open(self.file).map_err(|error| failed(self.file, error))?;
        let mut source = FileSource::new(self.files, file).map_err(|error| failed(self.file, error))?;
        let mut page = [0; PAGE_BYTES];
        source.read_at(0, &mut page).map_err(|error| failed(self.file, error))?;
        let Some(found) = SegmentHeader::decode(&page) else {
            return self
                .line(format_args!("no header page: never used, or damaged (`tskv check` knows which)"));
        };
        let header = found.header;
        self.line(format_args!(
            "segment {:016x} of stream {}, store {}, salt {:016x}, {} bytes, format version {}",
            header.seq.0, header.stream.0, header.store, header.salt, header.bytes, found.version
        ))?;
        match &header.previous {
            Some(previous) => self.line(format_args!(
                "follows segment {:016x}, which ends at {} with crc {:#010x}",
                previous.seq.0, previous.end, previous.crc
            ))?,
            None => self.line(format_args!("the first of its stream since a start"))?,
        }
        let input = ReplayInput {
            seq: header.seq,
            stream: header.stream,
            salt: header.salt,
            bytes: header.bytes,
            file: self.file.to_owned(),
        };
        let mut outcome = Ok(());
        let mut visit = |seqno: Seqno, record: Record<'_>| {
            if !self.brief {
                outcome = self.line(format_args!("{} {}", seqno.0, RecordText(record)));
            }
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let end = replay_segment(header.store, &input, &mut source, &mut visit);
        outcome?;
        self.segment_end(end)
    }

    fn segment_end(&mut self, end: Result<SegmentEnd, WalError>) -> Result<(), CliError> {
        let end = end.map_err(CliError::failed)?;
        let how = if end.sealed { "sealed" } else { "open" };
        self.line(format_args!(
            "{} frames with {} records; {how} at offset {}, {} torn bytes behind",
            end.frames, end.records, end.end_offset, end.torn_bytes
        ))
    }

    fn table(&mut self) -> Result<(), CliError> {
        let file = self.files.open(self.file).map_err(|error| failed(self.file, error))?;
        let mut source = FileSource::new(self.files, file).map_err(|error| failed(self.file, error))?;
        let store = read_owner(self.file, &mut source)
            .ok_or_else(|| failed(self.file, "has no sound footer; it is no whole table"))?;
        let (index, meta) = TableIndex::load(self.file, store, &mut source).map_err(CliError::failed)?;
        self.line(format_args!("table {:016x} of store {store}, {} bytes", meta.id.0, meta.bytes))?;
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
        ))?;
        for delete in index.range_deletes() {
            let end = delete
                .keys
                .end
                .as_deref()
                .map_or("the end".into(), |end| format!("'{}'", end.escape_ascii()));
            let times = delete.times.map_or("all slots".into(), |(from, to)| format!("times {from}..={to}"));
            let start = delete.keys.start.escape_ascii();
            self.line(format_args!("{} delete from '{start}' up to {end}, {times}", delete.seqno.0))?;
        }
        for number in 0..index.block_count() {
            self.block(&index, number, &mut source)?;
        }
        Ok(())
    }

    fn block(
        &mut self,
        index: &TableIndex,
        number: usize,
        source: &mut dyn ByteSource,
    ) -> Result<(), CliError> {
        let handle = index.block(number);
        let BlockHandle { offset, bytes } = handle;
        self.line(format_args!("block {number} at {offset}, {bytes} bytes"))?;
        let mut content = vec![0; bytes as usize];
        let count = source.read_at(offset, &mut content).map_err(|error| failed(self.file, error))?;
        if count < content.len() {
            let corruption = Corruption::new(self.file, offset, format!("{bytes} bytes"), count.to_string());
            return Err(CliError::failed(corruption));
        }
        let block = Block::decode(self.file, index.id(), handle, content).map_err(CliError::failed)?;
        for chunk in 0..block.chunk_count() {
            self.chunk(&block, chunk)?;
        }
        Ok(())
    }

    fn chunk(&mut self, block: &Block, number: usize) -> Result<(), CliError> {
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
        block.decode_chunk(number, &mut columns).map_err(CliError::failed)?;
        for (index, time) in columns.times().iter().enumerate() {
            let slot = SlotText(header.class.slot(*time));
            let seqno = columns.seqno(index).0;
            match columns.op(index) {
                EntryOp::Put(value) => {
                    self.line(format_args!("    {seqno} {slot} = {}", ValueText(value)))?
                }
                EntryOp::Delete => self.line(format_args!("    {seqno} {slot} deleted"))?,
            }
        }
        Ok(())
    }
}

/// A table's span.
struct Span(Option<(i64, i64)>);
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((start, end)) => write!(f, "span {start}..={end}"),
            None => f.write_str("no span"),
        }
    }
}

struct SlotText(Slot);
impl fmt::Display for SlotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Slot::Metadata => f.write_str("metadata"),
            Slot::Timeless => f.write_str("timeless"),
            Slot::Time(time) => write!(f, "{time}"),
        }
    }
}

struct ClassText(SlotClass);
impl fmt::Display for ClassText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            SlotClass::Metadata => "metadata",
            SlotClass::Timeless => "timeless",
            SlotClass::Time => "samples",
        })
    }
}

struct ValueText<'a>(Value<'a>);
impl fmt::Display for ValueText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::F64(number) => write!(f, "f64 {number:?}"),
            Value::I64(number) => write!(f, "i64 {number}"),
            Value::Bytes(bytes) => match bytes.get(..VALUE_BYTES_SHOWN) {
                Some(start) => write!(f, "{} bytes '{}'…", bytes.len(), start.escape_ascii()),
                None => write!(f, "{} bytes '{}'", bytes.len(), bytes.escape_ascii()),
            },
        }
    }
}

struct RecordText<'a>(Record<'a>);
impl fmt::Display for RecordText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Record::Put { series, slot, value } => {
                write!(f, "put '{}' {} = {}", series.escape_ascii(), SlotText(slot), ValueText(value))
            }
            Record::DeleteSlot { series, slot } => {
                write!(f, "delete '{}' {}", series.escape_ascii(), SlotText(slot))
            }
            Record::Delete(DeleteScope::TimeRange { series, from, to }) => {
                write!(f, "delete '{}' times {from}..={to}", series.escape_ascii())
            }
            Record::Delete(DeleteScope::Series { series }) => {
                write!(f, "delete series '{}'", series.escape_ascii())
            }
            Record::Delete(DeleteScope::Prefix { prefix }) => {
                write!(f, "delete prefix '{}'", prefix.escape_ascii())
            }
            Record::Delete(DeleteScope::All) => f.write_str("delete everything"),
        }
    }
}

#[cfg(test)]
mod tests;
