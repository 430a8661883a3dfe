//! What lies in a data directory: ours, foreign, or in the way.
//!
//! Only names that tskv itself spells are ours. Everything else is reported and left alone, whatever it holds.

use super::error::OpenError;
use crate::io::{DirEntry, EntryKind, Files};
use crate::model::{SegmentSeq, TableId};
use crate::storage::manifest::names::{
    BALLAST, CHECKPOINTS_DIR, CURRENT, CURRENT_NEXT, LOCK, MANIFEST_DIR, TABLES_DIR, WAL_DIR, manifest_path,
    parse_manifest, parse_segment, parse_table, segment_path, table_path,
};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The files of a data directory, by their names alone.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// Whether `CURRENT` is there.
    pub(super) current: bool,
    /// Length of the ballast file, where there is one.
    pub(super) ballast: Option<u64>,
    /// Manifests, ascending.
    pub(super) manifests: Vec<u64>,
    /// Segments and their lengths.
    pub(super) segments: BTreeMap<SegmentSeq, u64>,
    /// Tables and their lengths.
    pub(super) tables: BTreeMap<TableId, u64>,
    /// Names of ours that stand for something else than a regular file.
    pub(super) wrong_kind: BTreeMap<PathBuf, EntryKind>,
    /// What is not ours.
    pub(super) foreign: Vec<PathBuf>,
}

impl Inventory {
    /// Lists the directory.
    pub(super) fn take(files: &dyn Files) -> Result<Self, OpenError> {
        let mut inventory = Self::default();
        for entry in list(files, Path::new(""))? {
            inventory.place_in_root(&entry)?;
        }
        for entry in list(files, Path::new(MANIFEST_DIR))? {
            let ours = parse_manifest(&entry.name);
            if let Some(number) = inventory.ours(MANIFEST_DIR, &entry, ours) {
                inventory.manifests.push(number);
            }
        }
        for entry in list(files, Path::new(WAL_DIR))? {
            let ours = parse_segment(&entry.name);
            if let Some(seq) = inventory.ours(WAL_DIR, &entry, ours) {
                inventory.segments.insert(seq, entry.bytes);
            }
        }
        for entry in list(files, Path::new(TABLES_DIR))? {
            let ours = parse_table(&entry.name);
            if let Some(id) = inventory.ours(TABLES_DIR, &entry, ours) {
                inventory.tables.insert(id, entry.bytes);
            }
        }
        Ok(inventory)
    }

    /// A file that exists only once a store has been created; without `CURRENT` it means that `CURRENT` was lost.
    /// The first manifest is none: a creation that was cut short leaves it behind.
    pub(super) fn data(&self) -> Option<PathBuf> {
        let table = self.tables.keys().next().map(|id| table_path(*id));
        let segment = self.segments.keys().next().map(|seq| segment_path(*seq));
        let manifest = self.manifests.iter().find(|number| **number > 1).map(|number| manifest_path(*number));
        table.or(segment).or(manifest)
    }

    /// Refuses where `path`, which the store needs, is no regular file or not there.
    pub(super) fn require(&self, path: &Path, there: bool, named_by: &Path) -> Result<(), OpenError> {
        if let Some(&found) = self.wrong_kind.get(path) {
            return Err(OpenError::WrongKind { file: path.to_owned(), found });
        }
        if there {
            return Ok(());
        }
        Err(OpenError::FileMissing { file: path.to_owned(), named_by: named_by.to_owned() })
    }

    fn place_in_root(&mut self, entry: &DirEntry) -> Result<(), OpenError> {
        let expected = match entry.name.as_str() {
            LOCK | CURRENT | CURRENT_NEXT | BALLAST => EntryKind::File,
            MANIFEST_DIR | WAL_DIR | TABLES_DIR | CHECKPOINTS_DIR => EntryKind::Directory,
            _ => {
                self.foreign.push(PathBuf::from(&entry.name));
                return Ok(());
            }
        };
        if entry.kind != expected {
            return Err(OpenError::WrongKind { file: PathBuf::from(&entry.name), found: entry.kind });
        }
        self.current |= entry.name == CURRENT;
        if entry.name == BALLAST {
            self.ballast = Some(entry.bytes);
        }
        Ok(())
    }

    fn ours<T>(&mut self, directory: &str, entry: &DirEntry, parsed: Option<T>) -> Option<T> {
        let path = Path::new(directory).join(&entry.name);
        match (parsed, entry.kind) {
            (Some(number), EntryKind::File) => return Some(number),
            (Some(_), kind) => {
                self.wrong_kind.insert(path, kind);
            }
            (None, _) => self.foreign.push(path),
        }
        None
    }
}

/// Makes the directories of a store; it is no error where they exist.
pub(super) fn create_directories(files: &dyn Files) -> Result<(), OpenError> {
    for directory in [MANIFEST_DIR, WAL_DIR, TABLES_DIR] {
        files.create_dir(Path::new(directory)).map_err(OpenError::io("creating", directory))?;
    }
    files.sync_dir(Path::new("")).map_err(OpenError::io("syncing", ""))
}

/// Makes names durable that an earlier process may have left in memory only (R6).
pub(super) fn sync_directories(files: &dyn Files) -> Result<(), OpenError> {
    for directory in ["", MANIFEST_DIR, WAL_DIR, TABLES_DIR] {
        files.sync_dir(Path::new(directory)).map_err(OpenError::io("syncing", directory))?;
    }
    Ok(())
}

fn list(files: &dyn Files, directory: &Path) -> Result<Vec<DirEntry>, OpenError> {
    match files.list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.as_os_str().is_empty() => {
            Ok(Vec::new())
        }
        listed => listed.map_err(OpenError::io("listing", directory)),
    }
}
