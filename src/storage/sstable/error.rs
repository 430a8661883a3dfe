//! Why a table cannot be used.

use crate::encoding::Corruption;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a table, or one of its blocks, could not be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum TableError {
    /// The bytes are not what was written; they must not be used.
    Corrupt(Corruption),
    /// Written by a newer tskv; nothing is wrong with the file.
    VersionUnsupported { file: PathBuf, found: u16, supported_max: u16 },
    /// Uses features that this build does not know; nothing is wrong with the file.
    FeaturesUnsupported { file: PathBuf, unknown_flags: u16 },
    /// The machine could not read the file.
    Read { file: PathBuf, offset: u64, source: io::Error },
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(corruption) => write!(f, "table {corruption}"),
            Self::VersionUnsupported { file, found, supported_max } => {
                let file = file.display();
                write!(f, "table {file} has format {found}; this build reads up to {supported_max}")
            }
            Self::FeaturesUnsupported { file, unknown_flags } => {
                let file = file.display();
                write!(f, "table {file} uses features {unknown_flags:#06x} that this build does not know")
            }
            Self::Read { file, offset, source } => {
                write!(f, "table {} could not be read at offset {offset}: {source}", file.display())
            }
        }
    }
}

impl std::error::Error for TableError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Corrupt(corruption) => Some(corruption),
            Self::Read { source, .. } => Some(source),
            Self::VersionUnsupported { .. } | Self::FeaturesUnsupported { .. } => None,
        }
    }
}

impl From<Corruption> for TableError {
    fn from(corruption: Corruption) -> Self {
        Self::Corrupt(corruption)
    }
}
