//! Names of a store's files, relative to the data directory. A number is written as sixteen lower-case hex digits;
//! whatever is spelled otherwise is not ours.

use crate::model::{SegmentSeq, TableId};
use std::path::{Path, PathBuf};

/// Held by the process that has the store open.
pub const LOCK: &str = "LOCK";
/// Names the manifest.
pub const CURRENT: &str = "CURRENT";
/// Becomes `CURRENT` by a rename.
pub const CURRENT_NEXT: &str = "CURRENT.next";
/// Bytes kept back for the manifest of a full disk.
pub const BALLAST: &str = "ballast";
/// Directory of manifests.
pub const MANIFEST_DIR: &str = "manifest";
/// Directory of WAL segments.
pub const WAL_DIR: &str = "wal";
/// Directory of tables.
pub const TABLES_DIR: &str = "tables";

/// Directory of checkpoints, each a store of its own in a directory that bears its name.
pub const CHECKPOINTS_DIR: &str = "checkpoints";

/// What a repair appends to the name of a file that it sets aside; a number follows where that name is taken.
pub const QUARANTINE: &str = ".quarantine";

const DIGITS: usize = 16;

/// Path of manifest `number`.
#[must_use]
pub fn manifest_path(number: u64) -> PathBuf {
    Path::new(MANIFEST_DIR).join(format!("M-{number:016x}.log"))
}
/// Path of a WAL segment.
#[must_use]
pub fn segment_path(seq: SegmentSeq) -> PathBuf {
    Path::new(WAL_DIR).join(format!("{:016x}.wal", seq.0))
}
/// Path of a table.
#[must_use]
pub fn table_path(id: TableId) -> PathBuf {
    Path::new(TABLES_DIR).join(format!("{:016x}.sst", id.0))
}
/// The number of a manifest, by its file name.
#[must_use]
pub fn parse_manifest(name: &str) -> Option<u64> {
    parse(name, "M-", ".log")
}
/// The number of a segment, by its file name.
#[must_use]
pub fn parse_segment(name: &str) -> Option<SegmentSeq> {
    parse(name, "", ".wal").map(SegmentSeq)
}
/// The number of a table, by its file name.
#[must_use]
pub fn parse_table(name: &str) -> Option<TableId> {
    parse(name, "", ".sst").map(TableId)
}

/// The `attempt`-th name, from 1, under which a file can be set aside.
#[must_use]
pub fn quarantine_path(path: &Path, attempt: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(QUARANTINE);
    if attempt > 1 {
        name.push(format!(".{attempt}"));
    }
    name.into()
}
/// The name that a file had before it was set aside; `None` for any other file.
#[must_use]
pub fn parse_quarantine(path: &Path) -> Option<PathBuf> {
    let text = path.to_str()?;
    let (original, rest) = text.rsplit_once(QUARANTINE)?;
    let number = rest.strip_prefix('.').and_then(|digits| digits.parse::<u32>().ok());
    (rest.is_empty() || number.is_some()).then(|| original.into())
}

fn parse(name: &str, prefix: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    let ours = digits.len() == DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    ours.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}
