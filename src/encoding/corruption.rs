//! What an operator must know of damaged bytes.

use std::fmt;
use std::path::{Path, PathBuf};

/// Bytes of a file that are not what was written: which file, where, what was expected and what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// The file, relative to the data directory where it is one of ours.
    pub file: PathBuf,
    /// Bytes from its start.
    pub offset: u64,
    /// What a sound file has there, in words.
    pub expected: String,
    /// What is there, in words.
    pub found: String,
}

impl Corruption {
    /// Describes damage.
    pub fn new(
        file: impl AsRef<Path>,
        offset: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self { file: file.as_ref().to_owned(), offset, expected: expected.into(), found: found.into() }
    }
    /// Damage seen as two differing checksums.
    pub fn checksum(file: impl AsRef<Path>, offset: u64, expected: u32, found: u32) -> Self {
        Self::new(file, offset, format!("crc {expected:#010x}"), format!("{found:#010x}"))
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, expected, found } = self;
        write!(f, "{} at offset {offset}: expected {expected}, found {found}", file.display())
    }
}
impl std::error::Error for Corruption {}
