//! Offline verification of everything in a data directory (`tskv check`).
//!
//! Nothing is changed. Every byte that a checksum covers is read: `CURRENT`, the manifest, every block and chunk of
//! every table, every frame of every segment and the chain between them. It goes on after damage, so that one report
//! names all of it.

use super::error::OpenError;
use super::layout::Inventory;
use super::open::{later_segment, read_manifest, take_lock};
use super::recover::{by_stream, check_former_life, check_segment};
use super::table_files::{FileSource, load_table, read_block};
use crate::encoding::Corruption;
use crate::io::{FileLock, Files};
use crate::model::StoreId;
use crate::storage::columns::Columns;
use crate::storage::manifest::State;
use crate::storage::manifest::names::{manifest_path, parse_quarantine, segment_path, table_path};
use crate::storage::sstable::{TableError, TableMeta};
use crate::storage::version::Table;
use crate::storage::wal::{Record, check_chain, replay_segment};
use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Something worth telling the operator.
#[derive(Debug)]
#[non_exhaustive]
pub enum Finding {
    /// The store does not open, or answers with an error where this is read.
    Damage(OpenError),
    /// The end of a stream's last write, or of the last manifest edit, is cut off; it was never acknowledged.
    TornTail {
        /// The file.
        file: PathBuf,
        /// Where the sound part ends.
        offset: u64,
        /// Bytes behind that.
        bytes: u64,
    },
    /// A file of ours that nobody names; the next open removes it.
    Unnamed {
        /// The file.
        file: PathBuf,
    },
    /// Set aside by a repair; never touched.
    SetAside {
        /// The file.
        file: PathBuf,
    },
    /// Not ours; never touched.
    Foreign {
        /// The file or directory.
        file: PathBuf,
    },
}

impl Finding {
    /// Whether it is damage.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damage(_))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damage(error) => write!(f, "damage: {error}"),
            Self::TornTail { file, offset, bytes } => {
                write!(
                    f,
                    "torn tail: {} ends at offset {offset}; {bytes} bytes behind it do not count",
                    file.display()
                )
            }
            Self::Unnamed { file } => write!(f, "unnamed: {}; the next start removes it", file.display()),
            Self::SetAside { file } => write!(f, "set aside: {}, by a repair; left alone", file.display()),
            Self::Foreign { file } => write!(f, "foreign: {}; left alone", file.display()),
        }
    }
}

/// What was verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckSummary {
    /// Tables.
    pub tables: u64,
    /// Their blocks.
    pub blocks: u64,
    /// Entries in them.
    pub entries: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of tables and segments.
    pub bytes: u64,
    /// Findings that are damage.
    pub damages: u64,
    /// Other findings.
    pub remarks: u64,
}

/// Verifies the store below `files`, which nobody may have open; `process` goes into the lock file meanwhile.
///
/// # Errors
/// When it is in use, there is no store, the directory cannot be listed or holds a store of a newer tskv. Damage is no
/// error: it is reported, unless something else than a file or directory bears one of the store's own names.
pub fn check_store(
    files: &dyn Files,
    process: u32,
    report: &mut dyn FnMut(Finding),
) -> Result<CheckSummary, OpenError> {
    let _lock: Box<dyn FileLock> = take_lock(files, process)?;
    let inventory = Inventory::take(files)?;
    let mut check = Check { files, report, summary: CheckSummary::default() };
    check.remarks(&inventory);
    let found = match read_manifest(files, &inventory) {
        Ok(Some(found)) => found,
        Ok(None) => {
            let (doing, file) = ("looking for CURRENT in", PathBuf::new());
            return Err(OpenError::Io { doing, file, source: std::io::ErrorKind::NotFound.into() });
        }
        // Nothing of a newer tskv's store can be judged, and none of it need be damaged.
        Err(error) if error.is_newer() => return Err(error),
        Err(error) => {
            check.damage(error);
            return Ok(check.summary);
        }
    };
    let manifest = manifest_path(found.number);
    if found.replayed.torn_bytes > 0 {
        let (file, offset, bytes) = (manifest.clone(), found.replayed.end, found.replayed.torn_bytes);
        check.remark(Finding::TornTail { file, offset, bytes });
    }
    let state = &found.replayed.state;
    if let Err(error) = later_segment(files, state, &inventory, found.number) {
        check.damage(error);
    }
    check.unnamed(state, &inventory);
    for meta in state.tables.values() {
        let there = inventory.tables.contains_key(&meta.id);
        match inventory.require(&table_path(meta.id), there, &manifest) {
            Ok(()) => check.table(state, meta),
            Err(error) => check.damage(error),
        }
    }
    check.log(state, &inventory);
    Ok(check.summary)
}

struct Check<'a> {
    files: &'a dyn Files,
    report: &'a mut dyn FnMut(Finding),
    summary: CheckSummary,
}

impl Check<'_> {
    fn damage(&mut self, error: impl Into<OpenError>) {
        self.summary.damages += 1;
        (self.report)(Finding::Damage(error.into()));
    }

    fn remark(&mut self, finding: Finding) {
        self.summary.remarks += 1;
        (self.report)(finding);
    }

    fn remarks(&mut self, inventory: &Inventory) {
        let foreign = inventory.foreign.iter().chain(inventory.wrong_kind.keys());
        foreign.cloned().for_each(|file| {
            let set_aside = parse_quarantine(&file).is_some();
            self.remark(if set_aside { Finding::SetAside { file } } else { Finding::Foreign { file } });
        });
    }

    fn unnamed(&mut self, state: &State, inventory: &Inventory) {
        let tables =
            inventory.tables.keys().filter(|id| !state.tables.contains_key(id)).map(|id| table_path(*id));
        let segments = inventory.segments.keys().filter(|seq| !state.segments.contains_key(seq));
        let unnamed: Vec<_> = tables.chain(segments.map(|seq| segment_path(*seq))).collect();
        unnamed.into_iter().for_each(|file| self.remark(Finding::Unnamed { file }));
    }

    fn table(&mut self, state: &State, meta: &TableMeta) {
        self.summary.tables += 1;
        self.summary.bytes += meta.bytes;
        let mut damages = Vec::new();
        let (blocks, entries) = verify_table(self.files, state.store, meta, &mut |error| damages.push(error));
        self.summary.blocks += blocks;
        self.summary.entries += entries;
        damages.into_iter().for_each(|error| self.damage(error));
    }

    fn log(&mut self, state: &State, inventory: &Inventory) {
        for segments in by_stream(state).into_values() {
            let mut chain = Vec::new();
            let mut sound = true;
            for (seq, entry) in segments {
                let checked = check_segment(state, inventory, seq, entry);
                let replayed = checked.and_then(|input| {
                    let file = self.files.open(&input.file).map_err(OpenError::io("opening", &input.file))?;
                    let source = FileSource::new(self.files, file);
                    let mut source = source.map_err(OpenError::io("reading", &input.file))?;
                    let mut visit = |_, _: Record<'_>| ControlFlow::Continue(());
                    let end = replay_segment(state.store, &input, &mut source, &mut visit)?;
                    check_former_life(&state.segments, &input, &end)?;
                    Ok((input, end))
                });
                match replayed {
                    Ok((input, end)) => {
                        self.summary.segments += 1;
                        self.summary.records += end.records;
                        self.summary.bytes += input.bytes;
                        self.torn(&input.file, end.end_offset, end.torn_bytes);
                        chain.push((input, end));
                    }
                    Err(error) => {
                        sound = false;
                        self.damage(error);
                    }
                }
            }
            // A gap would be reported twice.
            if sound && let Err(error) = check_chain(&chain) {
                self.damage(error);
            }
        }
    }

    fn torn(&mut self, file: &Path, offset: u64, bytes: u64) {
        if bytes > 0 {
            self.remark(Finding::TornTail { file: file.to_owned(), offset, bytes });
        }
    }
}

/// Reads every block and chunk of the table that `meta` describes; how many blocks and entries there are.
pub(super) fn verify_table(
    files: &dyn Files,
    store: StoreId,
    meta: &TableMeta,
    damage: &mut dyn FnMut(OpenError),
) -> (u64, u64) {
    let path = table_path(meta.id);
    let opened = files.open(&path).map_err(OpenError::io("opening", &path));
    let loaded = opened.and_then(|file| Ok(load_table(files, store, meta.clone(), file)?));
    let table = match loaded {
        Ok(table) => table,
        Err(error) => {
            damage(error);
            return (0, 0);
        }
    };
    let (mut entries, mut sound) = (0, true);
    let blocks = table.index.block_count();
    for index in 0..blocks {
        match verify_block(files, &table, index) {
            Ok(count) => entries += count,
            Err(error) => {
                sound = false;
                damage(error.into());
            }
        }
    }
    if sound && entries != meta.entries {
        let (expected, found) = (format!("{} entries", meta.entries), entries.to_string());
        damage(TableError::from(Corruption::new(&path, 0, expected, found)).into());
    }
    (blocks as u64, entries)
}

fn verify_block(files: &dyn Files, table: &Table, index: usize) -> Result<u64, TableError> {
    let block = read_block(files, table, index)?;
    let mut columns = Columns::default();
    let mut entries = 0;
    for chunk in 0..block.chunk_count() {
        columns.clear();
        block.decode_chunk(chunk, &mut columns)?;
        entries += columns.len() as u64;
    }
    Ok(entries)
}
