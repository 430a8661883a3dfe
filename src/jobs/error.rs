//! Why a store cannot be opened, and why a job could not do its work.

use crate::encoding::Corruption;
use crate::io::EntryKind;
use crate::model::{CheckpointName, TimeUnit};
use crate::storage::manifest::ManifestError;
use crate::storage::sstable::TableError;
use crate::storage::wal::WalError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a store was not opened. Nothing was lost: the directory is as it was, or as an interrupted open leaves it.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the store open.
    Locked {
        /// Its process id, where the lock file tells.
        pid: Option<u32>,
    },
    /// The directory holds data but not the file that says which.
    CurrentMissing {
        /// One of the files of data.
        found: PathBuf,
    },
    /// A file that the store cannot do without is not there.
    FileMissing {
        /// The file.
        file: PathBuf,
        /// Who names it.
        named_by: PathBuf,
    },
    /// Something else stands where a regular file or a directory of ours belongs.
    WrongKind {
        /// Its name.
        file: PathBuf,
        /// What it is.
        found: EntryKind,
    },
    /// Durable bytes are damaged.
    Damaged(Corruption),
    /// Manifest or `CURRENT` cannot be used.
    Manifest(ManifestError),
    /// A table cannot be used.
    Table(TableError),
    /// The log cannot be used.
    Wal(WalError),
    /// The store was created with another unit.
    TimeUnitMismatch {
        /// The store's.
        store: TimeUnit,
        /// The one asked for.
        asked: TimeUnit,
    },
    /// The options make no sense.
    OptionsInvalid {
        /// Why, as a sentence.
        reason: String,
    },
    /// The machine refused something.
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or directory; empty for the data directory itself.
        file: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl OpenError {
    /// Wraps what the machine said: `.map_err(OpenError::io("syncing", path))`.
    pub(super) fn io(doing: &'static str, file: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let file = file.as_ref().to_owned();
        move |source| Self::Io { doing, file, source }
    }
    /// Whether the bytes on disk are to blame: the daemon must not start, `tskv check` says more.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::CurrentMissing { .. }
            | Self::FileMissing { .. }
            | Self::WrongKind { .. }
            | Self::Damaged(_) => true,
            // No version 0 was ever written.
            Self::Manifest(ManifestError::VersionUnsupported { found, .. }) => *found == 0,
            Self::Manifest(error) => {
                matches!(error, ManifestError::Damaged(_) | ManifestError::OtherStore { .. })
            }
            Self::Table(error) => matches!(error, TableError::Corrupt(_)),
            Self::Wal(error) => matches!(error, WalError::Damaged(_)),
            _ => false,
        }
    }
    /// Whether a newer tskv has written what this one does not know.
    #[must_use]
    pub fn is_newer(&self) -> bool {
        match self {
            Self::Manifest(ManifestError::VersionUnsupported { found, .. }) => *found > 0,
            Self::Manifest(ManifestError::FeaturesUnsupported { .. }) => true,
            _ => false,
        }
    }
    /// Whether the disk is full.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::Io { source, .. } => out_of_space(source),
            _ => false,
        }
    }
}

/// Whether an error means that the disk takes no more, which heals by itself.
#[must_use]
pub(super) fn out_of_space(error: &io::Error) -> bool {
    use crate::io::Errno;
    let by_number = error.raw_os_error().is_some_and(|number| Errno(number).is_out_of_space());
    by_number || matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "a file",
        EntryKind::Directory => "a directory",
        EntryKind::Other => "a symlink, fifo, socket or device",
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { pid: Some(pid) } => {
                write!(f, "the store is in use by another tskv (process {pid}); stop it first")
            }
            Self::Locked { pid: None } => f.write_str("the store is in use by another tskv; stop it first"),
            Self::CurrentMissing { found } => write!(
                f,
                "CURRENT is missing although {} is there; refusing to create an empty store over existing data",
                found.display()
            ),
            Self::FileMissing { file, named_by } => {
                write!(f, "{} is missing; {} names it", file.display(), named_by.display())
            }
            Self::WrongKind { file, found } => {
                write!(
                    f,
                    "{} is {}; tskv follows no links and opens only its own files",
                    file.display(),
                    kind_name(*found)
                )
            }
            Self::Damaged(corruption) => corruption.fmt(f),
            Self::Manifest(error) => error.fmt(f),
            Self::Table(error) => error.fmt(f),
            Self::Wal(error) => error.fmt(f),
            Self::TimeUnitMismatch { store, asked } => {
                write!(
                    f,
                    "the store's time unit is {store}, fixed when it was created; {asked} was asked for"
                )
            }
            Self::OptionsInvalid { reason } => f.write_str(reason),
            Self::Io { doing, file, source } if file.as_os_str().is_empty() => {
                write!(f, "{doing} the data directory: {source}")
            }
            Self::Io { doing, file, source } => write!(f, "{doing} {}: {source}", file.display()),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Damaged(corruption) => Some(corruption),
            Self::Manifest(error) => Some(error),
            Self::Table(error) => Some(error),
            Self::Wal(error) => Some(error),
            Self::Io { source, .. } => Some(source),
            Self::Locked { .. }
            | Self::CurrentMissing { .. }
            | Self::FileMissing { .. }
            | Self::WrongKind { .. }
            | Self::TimeUnitMismatch { .. }
            | Self::OptionsInvalid { .. } => None,
        }
    }
}

impl From<ManifestError> for OpenError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(error)
    }
}
impl From<TableError> for OpenError {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}
impl From<WalError> for OpenError {
    fn from(error: WalError) -> Self {
        Self::Wal(error)
    }
}

/// Why a background job did not do its work.
#[derive(Debug)]
#[non_exhaustive]
pub enum JobError {
    /// It was told to stop, because the store is being closed.
    Stopped,
    /// The disk is full; it is tried again.
    OutOfSpace,
    /// A shard's log has failed: what it holds in memory is not written before a restart.
    LogFailed {
        /// The shard.
        shard: u16,
    },
    /// There is a checkpoint of that name.
    CheckpointExists(CheckpointName),
    /// The machine refused something.
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        file: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A table that it read is damaged.
    Table(TableError),
}

impl JobError {
    /// Wraps what the machine said; a full disk is told apart.
    pub(super) fn io(doing: &'static str, file: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let file = file.as_ref().to_owned();
        move |source| if out_of_space(&source) { Self::OutOfSpace } else { Self::Io { doing, file, source } }
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped because the store is being closed"),
            Self::OutOfSpace => f.write_str("the disk is full"),
            Self::CheckpointExists(name) => write!(f, "there is a checkpoint '{name}' already"),
            Self::LogFailed { shard } => {
                write!(
                    f,
                    "the log of core {shard} failed: nothing more is written before the daemon is restarted"
                )
            }
            Self::Io { doing, file, source } => write!(f, "{doing} {}: {source}", file.display()),
            Self::Table(error) => error.fmt(f),
        }
    }
}
impl std::error::Error for JobError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Table(error) => Some(error),
            Self::Stopped | Self::OutOfSpace | Self::LogFailed { .. } | Self::CheckpointExists(_) => None,
        }
    }
}
impl From<TableError> for JobError {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}
impl From<JobError> for OpenError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Io { doing, file, source } => Self::Io { doing, file, source },
            JobError::Table(error) => Self::Table(error),
            JobError::OutOfSpace
            | JobError::Stopped
            | JobError::LogFailed { .. }
            | JobError::CheckpointExists(_) => Self::Io {
                doing: "writing to",
                file: PathBuf::new(),
                source: io::ErrorKind::StorageFull.into(),
            },
        }
    }
}
