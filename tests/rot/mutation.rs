//! What happens to files on disks that rot, on controllers that misdirect, and under operators who copy and move.

use crate::support::Rng;
use std::fmt;
use std::path::{Path, PathBuf};

/// Sectors and pages are what disks lose.
const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// One thing that happens to one file.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    Flip {
        offset: usize,
        bit: u8,
    },
    Truncate {
        length: usize,
    },
    Append {
        bytes: usize,
    },
    Zero {
        offset: usize,
        bytes: usize,
    },
    /// A block is written over another one as well.
    Duplicate {
        from: usize,
        to: usize,
        bytes: usize,
    },
    Swap {
        first: usize,
        second: usize,
        bytes: usize,
    },
    /// Another file's bytes.
    Become {
        other: PathBuf,
        whose: &'static str,
    },
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Become { other, whose } => write!(f, "becomes {whose} {}", other.display()),
            other => write!(f, "{other:?}"),
        }
    }
}

impl Mutation {
    /// A name of the kind: the row of the table.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Flip { .. } => "flip",
            Self::Truncate { .. } => "truncate",
            Self::Append { .. } => "append",
            Self::Zero { .. } => "zero",
            Self::Duplicate { .. } => "duplicate",
            Self::Swap { .. } => "swap",
            Self::Become { whose, .. } => whose,
        }
    }
    /// The bytes after it; `content` reads another file, of this store or of the one that `whose` names.
    pub(crate) fn apply(&self, bytes: &mut Vec<u8>, content: impl Fn(&Path, &str) -> Vec<u8>) {
        match self {
            Self::Flip { offset, bit } => bytes[*offset] ^= 1 << bit,
            Self::Truncate { length } => bytes.truncate(*length),
            Self::Append { bytes: count } => {
                let mut rng = Rng(*count as u64);
                bytes.extend((0..*count).map(|_| rng.next().to_le_bytes()[0]));
            }
            Self::Zero { offset, bytes: count } => bytes[*offset..offset + count].fill(0),
            Self::Duplicate { from, to, bytes: count } => bytes.copy_within(*from..from + count, *to),
            Self::Swap { first, second, bytes: count } => {
                for index in 0..*count {
                    bytes.swap(first + index, second + index);
                }
            }
            Self::Become { other, whose } => *bytes = content(other, whose),
        }
    }
}

/// A file of the store.
pub(crate) struct Victim<'a> {
    pub(crate) path: &'a Path,
    pub(crate) bytes: &'a [u8],
    /// Files of the same kind: of this store, of what it was before, of another store.
    pub(crate) siblings: Vec<(PathBuf, &'static str)>,
}

/// One mutation of each kind and size for a file, at places that the seed chooses.
pub(crate) fn mutations(victim: &Victim<'_>, rng: &mut Rng) -> Vec<Mutation> {
    let bytes = victim.bytes;
    // A fresh segment and the ballast are zeros to their end; what matters lies before.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
    let mut found = Vec::new();
    if used > 0 {
        let head = used.min(PAGE);
        for _ in 0..4 {
            for offset in [rng.index(head), used - 1 - rng.index(head), rng.index(used)] {
                found.push(Mutation::Flip { offset, bit: rng.below(8).to_le_bytes()[0] });
            }
        }
    }
    let boundary = rng.index(used / PAGE + 1) * PAGE;
    let lengths = [0, 1, boundary, boundary + 1, boundary.saturating_sub(1), rng.index(used + 1), used];
    let before_end = [used.saturating_sub(1), bytes.len().saturating_sub(1), bytes.len() / 2];
    let shorter = lengths.into_iter().chain(before_end).filter(|length| *length < bytes.len());
    found.extend(shorter.map(|length| Mutation::Truncate { length }));
    found.extend([1, SECTOR, PAGE, PAGE + 1].map(|bytes| Mutation::Append { bytes }));
    for size in [SECTOR, PAGE] {
        let blocks = used.div_ceil(size);
        if blocks * size > bytes.len() || blocks == 0 {
            let end = used.min(size);
            found.extend((end > 0).then_some(Mutation::Zero { offset: 0, bytes: end }));
            continue;
        }
        let mut block = || rng.index(blocks) * size;
        for offset in [0, (blocks - 1) * size, block()] {
            found.push(Mutation::Zero { offset, bytes: size });
        }
        let (from, to) = (block(), block());
        found.push(Mutation::Duplicate { from, to, bytes: size });
        found.push(Mutation::Duplicate { from: 0, to, bytes: size });
        let (first, second) = (block(), block());
        found.push(Mutation::Swap { first, second, bytes: size });
        if blocks > 1 {
            found.push(Mutation::Duplicate {
                from: (blocks - 2) * size,
                to: (blocks - 1) * size,
                bytes: size,
            });
            found.push(Mutation::Swap {
                first: (blocks - 2) * size,
                second: (blocks - 1) * size,
                bytes: size,
            });
        }
    }
    let siblings = victim.siblings.iter().cloned();
    found.extend(siblings.map(|(other, whose)| Mutation::Become { other, whose }));
    found
}
