//! Why a log could not be replayed.

use crate::encoding::Corruption;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a segment or a stream could not be replayed. A torn tail is none of these: it is cut off and counted.
#[derive(Debug)]
#[non_exhaustive]
pub enum WalError {
    /// Something that was durable is no longer there as it was written: the store must not open.
    Damaged(Corruption),
    /// Written by a newer tskv; nothing is wrong with the file.
    VersionUnsupported { file: PathBuf, found: u16, supported_max: u16 },
    /// Written by a newer tskv that used a feature this build does not know; nothing is wrong with the file.
    FeaturesUnsupported { file: PathBuf, unknown: u32 },
    /// The machine could not read the file.
    Read { file: PathBuf, offset: u64, source: io::Error },
    /// The visitor asked to stop.
    Stopped,
}

impl fmt::Display for WalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(corruption) => write!(f, "write-ahead log is damaged: {corruption}"),
            Self::VersionUnsupported { file, found, supported_max } => {
                write!(f, "{}: format v{found}, this build reads up to v{supported_max}", file.display())
            }
            Self::FeaturesUnsupported { file, unknown } => {
                write!(f, "{}: uses features {unknown:#x} that this build does not know", file.display())
            }
            Self::Read { file, offset, source } => {
                write!(f, "{}: cannot be read at offset {offset}: {source}", file.display())
            }
            Self::Stopped => write!(f, "replay was stopped by its caller"),
        }
    }
}

impl std::error::Error for WalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Damaged(corruption) => Some(corruption),
            Self::Read { source, .. } => Some(source),
            Self::VersionUnsupported { .. } | Self::FeaturesUnsupported { .. } | Self::Stopped => None,
        }
    }
}
