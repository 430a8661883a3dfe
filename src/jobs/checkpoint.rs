//! Checkpoint: a second store below `checkpoints`, of hard links to the tables of the first.
//!
//! ```text
//! unfinished ones cleared → directories made → every table linked (copied where files have one name only)
//!   → all names durable → a manifest of the tables, without segments → CURRENT
//! ```
//! `CURRENT` comes last and by a rename: a checkpoint that was cut short has none and is no store. Tables are never
//! changed, so sharing them costs nothing; the space of those that the first store drops comes back when the
//! checkpoint goes too.

use super::error::JobError;
use super::flush::TableJob;
use super::manifest_log::{make_current, write_manifest};
use crate::io::{DirEntry, EntryKind, FileLock, Files};
use crate::model::{CheckpointName, FileRef};
use crate::storage::manifest::names::{
    CHECKPOINTS_DIR, CURRENT, MANIFEST_DIR, TABLES_DIR, WAL_DIR, table_path,
};
use crate::storage::manifest::{Current, State};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 20;
/// Number of its manifest.
const MANIFEST_NUMBER: u64 = 1;

/// Makes the checkpoint `name` of a store whose manifest says `state`; its tables must keep their names meanwhile.
///
/// # Errors
/// When there is one of that name, or the machine refuses something; what is left is no store, and the next one, or the
/// next start, clears it away.
pub(super) fn write_checkpoint(job: &TableJob, name: &CheckpointName, state: State) -> Result<(), JobError> {
    let files = &*job.files;
    let all = Path::new(CHECKPOINTS_DIR);
    files.create_dir(all).map_err(JobError::io("creating", all))?;
    files.sync_dir(Path::new("")).map_err(JobError::io("syncing", ""))?;
    clear_unfinished(files).map_err(JobError::io("clearing", all))?;
    let at = all.join(name.as_str());
    if files.list(&at).is_ok_and(|entries| is_finished(&entries)) {
        return Err(JobError::CheckpointExists(name.clone()));
    }
    for directory in ["", MANIFEST_DIR, WAL_DIR, TABLES_DIR] {
        let directory = at.join(directory);
        files.create_dir(&directory).map_err(JobError::io("creating", &directory))?;
    }
    for id in state.tables.keys() {
        job.check_stop()?;
        let table = table_path(*id);
        let linked = at.join(&table);
        if files.link(&table, &linked).is_err() {
            copy(job, &table, &linked)?;
        }
    }
    for directory in [at.join(TABLES_DIR), at.clone(), all.to_owned()] {
        files.sync_dir(&directory).map_err(JobError::io("syncing", &directory))?;
    }
    let state = State { segments: Default::default(), ..state };
    let below = Below { files: Arc::clone(&job.files), at };
    write_manifest(&below, MANIFEST_NUMBER, &state)?;
    make_current(&below, Current { store: state.store, manifest: MANIFEST_NUMBER })
}

/// Removes the files of checkpoints that were cut short: they hold space and are no stores. Empty directories stay.
///
/// # Errors
/// When the machine refuses something.
pub(super) fn clear_unfinished(files: &dyn Files) -> io::Result<()> {
    let all = Path::new(CHECKPOINTS_DIR);
    let entries = match files.list(all) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed?,
    };
    let ours =
        |entry: &DirEntry| entry.kind == EntryKind::Directory && CheckpointName::new(&entry.name).is_some();
    for checkpoint in entries.iter().filter(|entry| ours(entry)) {
        let at = all.join(&checkpoint.name);
        let inside = files.list(&at)?;
        if is_finished(&inside) {
            continue;
        }
        for directory in [MANIFEST_DIR, WAL_DIR, TABLES_DIR] {
            if inside.iter().any(|entry| entry.name == directory && entry.kind == EntryKind::Directory) {
                remove_files(files, &at.join(directory))?;
            }
        }
        remove_files(files, &at)?;
    }
    Ok(())
}

fn is_finished(entries: &[DirEntry]) -> bool {
    entries.iter().any(|entry| entry.name == CURRENT)
}

fn remove_files(files: &dyn Files, directory: &Path) -> io::Result<()> {
    for entry in files.list(directory)?.iter().filter(|entry| entry.kind == EntryKind::File) {
        files.remove(&directory.join(&entry.name))?;
    }
    Ok(())
}

/// For file systems on which a file has one name only.
fn copy(job: &TableJob, from: &Path, to: &Path) -> Result<(), JobError> {
    let files = &*job.files;
    let source = files.open(from).map_err(JobError::io("opening", from))?;
    let target = files.create(to).map_err(JobError::io("creating", to))?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = 0;
    loop {
        job.check_stop()?;
        match files.read_at(&source, &mut buffer, offset) {
            Ok(0) => break,
            Ok(count) => {
                let read = buffer.get(..count).unwrap_or_default();
                files.write_all_at(&target, read, offset).map_err(JobError::io("writing", to))?;
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(JobError::io("reading", from)(error)),
        }
    }
    files.sync(&target).map_err(JobError::io("syncing", to))
}

/// Files below a directory of others.
pub(super) struct Below {
    pub(super) files: Arc<dyn Files>,
    pub(super) at: PathBuf,
}

impl Files for Below {
    fn create(&self, path: &Path) -> io::Result<FileRef> {
        self.files.create(&self.at.join(path))
    }
    fn open(&self, path: &Path) -> io::Result<FileRef> {
        self.files.open(&self.at.join(path))
    }
    fn open_for_wal(&self, path: &Path) -> io::Result<(FileRef, bool)> {
        self.files.open_for_wal(&self.at.join(path))
    }
    fn read_at(&self, file: &FileRef, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.files.read_at(file, buf, offset)
    }
    fn write_at(&self, file: &FileRef, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.files.write_at(file, buf, offset)
    }
    fn sync(&self, file: &FileRef) -> io::Result<()> {
        self.files.sync(file)
    }
    fn file_bytes(&self, file: &FileRef) -> io::Result<u64> {
        self.files.file_bytes(file)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(&self.at.join(from), &self.at.join(to))
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.link(&self.at.join(from), &self.at.join(to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.remove(&self.at.join(path))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.files.sync_dir(&self.at.join(path))
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.files.list(&self.at.join(path))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.files.create_dir(&self.at.join(path))
    }
    fn lock(&self, path: &Path, content: &str) -> io::Result<Box<dyn FileLock>> {
        self.files.lock(&self.at.join(path), content)
    }
    fn bytes_free(&self) -> io::Result<u64> {
        self.files.bytes_free()
    }
    fn unix_ns(&self) -> i64 {
        self.files.unix_ns()
    }
}
