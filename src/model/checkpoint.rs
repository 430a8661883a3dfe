//! Names of checkpoints.

use std::fmt;

/// Bytes of the longest name.
const NAME_BYTES_MAX: usize = 64;

/// Names a checkpoint within its store: 1 to 64 letters, digits, `-`, `_` and `.`, not beginning with a dot. It becomes
/// the name of a directory, so nothing else may come in from the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointName(String);

impl CheckpointName {
    /// The name, unless it is none.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.starts_with('.');
        (fits && text.bytes().all(is_plain)).then(|| Self(text.to_owned()))
    }
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CheckpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_out_of_its_directory() {
        // Any client could have files written anywhere.
        for name in ["a", "backup-2026-11-23_10.30", &"x".repeat(64)] {
            assert_eq!(CheckpointName::new(name).map(|name| name.to_string()).as_deref(), Some(name));
        }
        for name in ["", ".", "..", ".hidden", "a/b", "a\0b", "a b", "\u{e4}", &"x".repeat(65)] {
            assert_eq!(CheckpointName::new(name), None, "{name:?}");
        }
    }
}
