//! `tskv dump`: one file of a data directory in words.
//!
//! The store's LOCK is held meanwhile, so that no daemon changes the file while it is read. A file that lies in no data
//! directory, such as a copy, is read without. Files are told by their names, as the store names them; what a repair
//! set aside, by the name it had.
//!
//! Damage is named where it stands, and reading goes on behind it.

mod manifest;
mod segment;
mod table;
mod text;

use super::args::DumpArgs;
use super::error::CliError;
use super::output::Output;
use crate::io::{FileLock, Files, OsFiles};
use crate::storage::manifest::Current;
use crate::storage::manifest::names::{
    CURRENT, LOCK, MANIFEST_DIR, TABLES_DIR, WAL_DIR, parse_manifest, parse_quarantine, parse_segment,
    parse_table,
};
use std::fmt;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Longest `CURRENT` that is read.
const CURRENT_BYTES_MAX: u64 = 4096;

/// Runs the dump.
pub(super) fn run(args: &DumpArgs) -> Result<(), CliError> {
    let mut output = Output::stdout();
    let outcome = dump(args, &mut output);
    output.flush().map_err(|error| CliError::output(&error))?;
    outcome
}

fn dump(args: &DumpArgs, output: &mut impl Write) -> Result<(), CliError> {
    let place = Place::find(&args.file)?;
    let files = OsFiles::new(&place.root).map_err(|error| failed(&place.root, error))?;
    let _lock = place.in_store.then(|| lock(&files, &place.root)).transpose()?;
    let original = parse_quarantine(&place.file).unwrap_or_else(|| place.file.clone());
    let name = original.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let (brief, left) = (args.brief, args.limit.unwrap_or(u64::MAX));
    let mut dump = Dump { files: &files, file: &place.file, brief, left, damages: 0, output };
    if name == CURRENT {
        dump.current()?;
    } else if let Some(number) = parse_manifest(name) {
        dump.manifest(number)?;
    } else if let Some(seq) = parse_segment(name) {
        dump.segment(seq)?;
    } else if let Some(id) = parse_table(name) {
        dump.table(id)?;
    } else {
        let shown = args.file.display();
        let known = "CURRENT, manifest/M-*.log, wal/*.wal, tables/*.sst, or one of them as *.quarantine";
        return Err(CliError::Usage(format!("{shown} is none of {known}")));
    }
    if dump.damages > 0 { Err(CliError::Damaged("the file is damaged".to_owned())) } else { Ok(()) }
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
    /// Records, entries and edits that may still be printed.
    left: u64,
    /// Damaged places so far.
    damages: u64,
    output: &'a mut W,
}

impl<W: Write> Dump<'_, W> {
    fn line(&mut self, text: fmt::Arguments<'_>) -> Result<(), CliError> {
        writeln!(self.output, "{text}").map_err(|error| CliError::output(&error))
    }

    /// A line of which there can be many; nothing once the limit is reached.
    fn item(&mut self, text: fmt::Arguments<'_>) -> Result<(), CliError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(()) };
        self.left = left;
        self.line(text)
    }

    /// Names a damaged place.
    fn damage(&mut self, error: impl fmt::Display) -> Result<(), CliError> {
        self.damages += 1;
        self.line(format_args!("DAMAGED: {error}"))
    }

    /// Whether the limit is reached.
    fn is_enough(&self) -> bool {
        self.left == 0
    }

    fn current(&mut self) -> Result<(), CliError> {
        match read_current(self.files, self.file)? {
            Ok(current) => {
                self.line(format_args!("store {}, manifest number {}", current.store, current.manifest))
            }
            Err(error) => self.damage(error),
        }
    }
}

/// `CURRENT`, or what is wrong with it.
fn read_current(files: &OsFiles, path: &Path) -> Result<Result<Current, String>, CliError> {
    let bytes = files.read_all(path, CURRENT_BYTES_MAX).map_err(|error| failed(path, error))?;
    Ok(Current::decode(path, &bytes).map_err(|error| error.to_string()))
}

#[cfg(test)]
mod tests;
