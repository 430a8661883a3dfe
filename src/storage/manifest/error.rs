//! Why a manifest or `CURRENT` could not be used.

use crate::encoding::Corruption;
use crate::model::StoreId;
use std::fmt;
use std::path::PathBuf;

/// Why a manifest or `CURRENT` could not be used. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManifestError {
    /// Bytes that were durable are not what was written.
    Damaged(Corruption),
    /// Written by another version of tskv; nothing is wrong with the file.
    VersionUnsupported {
        /// The file.
        file: PathBuf,
        /// Its format version.
        found: u16,
        /// The newest one that this build reads.
        supported_max: u16,
    },
    /// Uses features that this build does not know.
    FeaturesUnsupported {
        /// The file.
        file: PathBuf,
        /// The unknown flags.
        unknown: u32,
    },
    /// Belongs to another store.
    OtherStore {
        /// The file.
        file: PathBuf,
        /// The store that `CURRENT` names.
        expected: StoreId,
        /// The store that the file names.
        found: StoreId,
    },
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(corruption) => corruption.fmt(f),
            Self::VersionUnsupported { file, found, supported_max } => {
                write!(f, "{}: format v{found}, this build reads up to v{supported_max}", file.display())
            }
            Self::FeaturesUnsupported { file, unknown } => {
                write!(
                    f,
                    "{}: uses features that this build does not know (flags {unknown:#010x}); a newer tskv wrote it",
                    file.display()
                )
            }
            Self::OtherStore { file, expected, found } => {
                write!(f, "{}: belongs to store {found}, this one is {expected}", file.display())
            }
        }
    }
}
impl std::error::Error for ManifestError {}

impl From<Corruption> for ManifestError {
    fn from(corruption: Corruption) -> Self {
        Self::Damaged(corruption)
    }
}
