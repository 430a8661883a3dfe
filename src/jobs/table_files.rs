//! Table files: written by flushes and merges, opened at start and after they are written.
//!
//! A table joins the store in this order: bytes written → file synced → directory synced → opened and verified →
//! manifest edit durable. Until the edit a crash leaves a file that nobody names, which the next open removes.

use super::error::{JobError, OpenError};
use super::flush::TableJob;
use crate::encoding::Corruption;
use crate::io::Files;
use crate::model::{FileRef, StoreId, TableId};
use crate::storage::byte_source::ByteSource;
use crate::storage::compaction::{OutputEvent, TableInput};
use crate::storage::manifest::names::{TABLES_DIR, table_path};
use crate::storage::sstable::{Block, TableError, TableIndex, TableMeta};
use crate::storage::version::Table;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A table is written back in pieces of this size: what waits in the device's queue before a log write stays short.
const WRITE_BACK_BYTES: u64 = 1 << 20;

/// Random access to an open file, for the decoders.
pub struct FileSource<'a> {
    files: &'a dyn Files,
    file: FileRef,
    bytes: u64,
}

impl<'a> FileSource<'a> {
    /// Reads `file`, whose length is asked for once.
    ///
    /// # Errors
    /// What the machine says to that.
    pub fn new(files: &'a dyn Files, file: FileRef) -> io::Result<Self> {
        let bytes = files.file_bytes(&file)?;
        Ok(Self { files, file, bytes })
    }
}

impl ByteSource for FileSource<'_> {
    fn bytes(&self) -> u64 {
        self.bytes
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let rest = buf.get_mut(done..).unwrap_or_default();
            match self.files.read_at(&self.file, rest, offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

/// Opens a table that the manifest names, after syncing what an earlier process may have left in memory.
pub(super) fn open_table(
    files: &dyn Files,
    store: StoreId,
    meta: TableMeta,
) -> Result<Arc<Table>, OpenError> {
    let path = table_path(meta.id);
    let file = files.open(&path).map_err(OpenError::io("opening", &path))?;
    files.sync(&file).map_err(OpenError::io("syncing", &path))?;
    Ok(load_table(files, store, meta, file)?)
}

/// Verifies everything but the blocks of an open table file against what the manifest says of it.
pub(super) fn load_table(
    files: &dyn Files,
    store: StoreId,
    meta: TableMeta,
    file: FileRef,
) -> Result<Arc<Table>, TableError> {
    let path = table_path(meta.id);
    let read = |source| TableError::Read { file: path.clone(), offset: 0, source };
    let mut source = FileSource::new(files, file.clone()).map_err(read)?;
    if source.bytes() != meta.bytes {
        let (expected, found) = (format!("{} bytes in all", meta.bytes), source.bytes().to_string());
        return Err(Corruption::new(&path, source.bytes().min(meta.bytes), expected, found).into());
    }
    let (index, own) = TableIndex::load(&path, store, &mut source)?;
    check_identity(&path, &meta, &own)?;
    Ok(Arc::new(Table { meta, index, file }))
}

/// A file swapped with another table's, or with an older one, is sound in itself. `keys` may differ: the manifest
/// narrows it when ranges move.
fn check_identity(path: &Path, meta: &TableMeta, own: &TableMeta) -> Result<(), Corruption> {
    let facts = |meta: &TableMeta| {
        format!(
            "table {:016x} of {} entries and {} range deletes, seqnos {} to {}",
            meta.id.0, meta.entries, meta.range_deletes, meta.seqno_min.0, meta.seqno_max.0
        )
    };
    let (expected, found) = (facts(meta), facts(own));
    if expected == found { Ok(()) } else { Err(Corruption::new(path, 0, expected, found)) }
}

/// Reads and verifies one block of a table.
///
/// # Errors
/// When the machine cannot, or the block is damaged.
pub fn read_block(files: &dyn Files, table: &Table, index: usize) -> Result<Block, TableError> {
    let path = table_path(table.meta.id);
    let handle = table.index.block(index);
    let mut bytes = vec![0; usize::try_from(handle.bytes).unwrap_or(usize::MAX)];
    let read = |source| TableError::Read { file: path.clone(), offset: handle.offset, source };
    files.read_exact_at(&table.file, &mut bytes, handle.offset).map_err(read)?;
    Block::decode(&path, table.meta.id, handle, bytes)
}

/// A table as a merge reads it.
pub(super) struct JobTable {
    pub(super) job: TableJob,
    pub(super) table: Arc<Table>,
}

impl TableInput for JobTable {
    fn meta(&self) -> &TableMeta {
        &self.table.meta
    }
    fn index(&self) -> &TableIndex {
        &self.table.index
    }
    fn read_block(&mut self, index: usize) -> Result<Block, TableError> {
        // A merge that drops all it reads writes nothing for long: this is where it notices.
        self.job.check_stop().map_err(|_| TableError::Read {
            file: table_path(self.table.meta.id),
            offset: 0,
            source: io::ErrorKind::Interrupted.into(),
        })?;
        read_block(&*self.job.files, &self.table, index)
    }
}

/// A table that is being written.
struct OpenTable {
    file: FileRef,
    /// Bytes written so far.
    bytes: u64,
    /// Of them, those that were brought to the device.
    written_back: u64,
}

/// Writes the tables that a flush or merge makes. Dropped before [`TableWriter::finish`], it removes them.
pub(super) struct TableWriter {
    files: Arc<dyn Files>,
    store: StoreId,
    open: BTreeMap<TableId, OpenTable>,
    done: Vec<(TableMeta, FileRef)>,
    created: Vec<PathBuf>,
    bytes: u64,
}

impl TableWriter {
    pub(super) fn new(files: Arc<dyn Files>, store: StoreId) -> Self {
        Self { files, store, open: BTreeMap::new(), done: Vec::new(), created: Vec::new(), bytes: 0 }
    }
    /// Writes what was made.
    pub(super) fn take(&mut self, event: OutputEvent) -> Result<(), JobError> {
        match event {
            OutputEvent::Bytes { table, bytes } => self.write(table, &bytes),
            OutputEvent::Finished { meta } => self.close(meta),
        }
    }
    /// Bytes written so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
    /// Makes the names durable and opens the tables: from here on they only lack the manifest edit.
    pub(super) fn finish(mut self) -> Result<Vec<Arc<Table>>, JobError> {
        assert!(self.open.is_empty(), "a table was begun and not finished");
        if self.done.is_empty() {
            return Ok(Vec::new());
        }
        let directory = Path::new(TABLES_DIR);
        self.files.sync_dir(directory).map_err(JobError::io("syncing", directory))?;
        let tables = std::mem::take(&mut self.done).into_iter();
        let opened = tables.map(|(meta, file)| load_table(&*self.files, self.store, meta, file));
        let opened = opened.collect::<Result<Vec<_>, TableError>>()?;
        self.created.clear();
        Ok(opened)
    }
    fn write(&mut self, id: TableId, bytes: &[u8]) -> Result<(), JobError> {
        let path = table_path(id);
        if !self.open.contains_key(&id) {
            let file = self.files.create(&path).map_err(JobError::io("creating", &path))?;
            self.created.push(path.clone());
            self.open.insert(id, OpenTable { file, bytes: 0, written_back: 0 });
        }
        let table = self.open.get_mut(&id).expect("it is open by now");
        self.files.write_all_at(&table.file, bytes, table.bytes).map_err(JobError::io("writing", &path))?;
        table.bytes += bytes.len() as u64;
        self.bytes += bytes.len() as u64;
        let dirty = table.bytes - table.written_back;
        if dirty >= WRITE_BACK_BYTES {
            let written_back = self.files.write_back(&table.file, table.written_back, dirty);
            written_back.map_err(JobError::io("writing back", &path))?;
            table.written_back = table.bytes;
        }
        Ok(())
    }
    fn close(&mut self, meta: TableMeta) -> Result<(), JobError> {
        let path = table_path(meta.id);
        let OpenTable { file, bytes, .. } =
            self.open.remove(&meta.id).expect("a table is finished after its bytes");
        assert_eq!(bytes, meta.bytes, "a table's length is what its description says");
        self.files.sync(&file).map_err(JobError::io("syncing", &path))?;
        self.done.push((meta, file));
        Ok(())
    }
}

impl Drop for TableWriter {
    fn drop(&mut self) {
        // Nobody names them: what cannot be removed now is collected by the next open.
        for path in &self.created {
            let _ = self.files.remove(path);
        }
    }
}
