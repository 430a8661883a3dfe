//! Planted failures: the Nth operation of a kind, on files of a name or of a kind, fails or transfers less than asked.
//!
//! What a program may not do after a failure is watched here too: a file whose write or sync failed must not be
//! written or synced again by the same process, for what the kernel then calls durable need not be ([`Faults::breaches`]).

use super::Rng;
use crate::io::Errno;
use std::collections::BTreeMap;
use std::ops::Range;

/// Kinds of disk operations, whichever front end asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpKind {
    /// `Files::create`.
    Create,
    /// `Files::open`, `Files::open_for_wal`.
    Open,
    /// `Files::read_at`, `Op::Read`.
    Read,
    /// `Files::write_at`, `Op::Write`.
    Write,
    /// `Files::sync`, `Op::Sync`.
    Sync,
    /// `Files::file_bytes`.
    FileBytes,
    /// `Files::rename`; faults match the old name.
    Rename,
    /// `Files::link`; faults match the old name.
    Link,
    /// `Files::remove`.
    Remove,
    /// `Files::sync_dir`.
    SyncDir,
    /// `Files::list`.
    List,
    /// `Files::create_dir`.
    CreateDir,
    /// `Files::lock`.
    Lock,
    /// `Files::bytes_free`.
    BytesFree,
}

impl OpKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::FileBytes => "file_bytes",
            Self::Rename => "rename",
            Self::Link => "link",
            Self::Remove => "remove",
            Self::SyncDir => "sync_dir",
            Self::List => "list",
            Self::CreateDir => "create_dir",
            Self::Lock => "lock",
            Self::BytesFree => "bytes_free",
        }
    }
}

/// What a store keeps under a path: failures are planted and operations are counted by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// Segments of the log.
    Wal,
    /// Tables.
    Table,
    /// Manifests.
    Manifest,
    /// `CURRENT`, and what it is made from.
    Current,
    /// The ballast of a full disk.
    Ballast,
    /// The lock.
    Lock,
    /// Directories, and the file system as a whole.
    Directory,
}

impl FileKind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Wal, Self::Table, Self::Manifest, Self::Current, Self::Ballast, Self::Lock, Self::Directory];

    /// What the store keeps under this path.
    #[must_use]
    pub fn of(path: &str) -> Self {
        match path {
            "LOCK" => Self::Lock,
            "ballast" => Self::Ballast,
            path if path.starts_with("CURRENT") => Self::Current,
            path if path.starts_with("wal/") => Self::Wal,
            path if path.starts_with("tables/") => Self::Table,
            path if path.starts_with("manifest/") => Self::Manifest,
            _ => Self::Directory,
        }
    }
}

/// A planted failure of files of one kind, whatever is done with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFault {
    /// Which files.
    pub file: FileKind,
    /// Operations on them that pass unharmed first; of [`FaultEffect::Short`], reads and writes only.
    pub after: u64,
    /// What happens then.
    pub effect: FaultEffect,
    /// Whether it happens to every one from then on, or once.
    pub sticky: bool,
}

/// How many operations of each kind of file there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileOperations {
    /// All of them.
    pub all: u64,
    /// Reads and writes.
    pub transfers: u64,
}

/// What a fault does to the operation that it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultEffect {
    /// It fails. Of a write that fails with EIO any sectors may have been written; a sync that fails may leave pages
    /// that look clean and never reach the disk.
    Fail(Errno),
    /// A read or write transfers only part of its bytes (at least one); other kinds are not affected.
    Short,
}

/// A planted failure.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which operations; `None` for all.
    pub kind: Option<OpKind>,
    /// Which files: those whose path contains this; empty for all.
    pub path_contains: String,
    /// Matching operations that pass unharmed first.
    pub after: u64,
    /// What happens then.
    pub effect: FaultEffect,
    /// Whether it happens to every matching operation from then on, or once.
    pub sticky: bool,
}

/// Failures that a correct program repeats without telling anyone, per thousand operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chaos {
    /// Reads, writes, receives and sends that transfer only part.
    pub short_per_mille: u32,
    /// Operations that end with EINTR (and on a backend EAGAIN or ECANCELED) and did not happen.
    pub interrupted_per_mille: u32,
}

/// All failures of a world.
#[derive(Debug, Default)]
pub(super) struct Faults {
    planted: Vec<Fault>,
    /// Paths and the bytes of them that the medium no longer gives back.
    latent: Vec<(String, Range<u64>)>,
    planted_by_file: Vec<FileFault>,
    operations: BTreeMap<FileKind, FileOperations>,
    /// Files that this process must leave alone, and why.
    suspect: BTreeMap<String, &'static str>,
    /// What it did to them all the same.
    breaches: Vec<String>,
    pub(super) chaos: Chaos,
    /// How many planted failures have struck.
    pub(super) hits: u64,
}

impl Faults {
    pub(super) fn new(chaos: Chaos) -> Self {
        Self { chaos, ..Self::default() }
    }
    pub(super) fn plant(&mut self, fault: Fault) {
        self.planted.push(fault);
    }
    pub(super) fn plant_by_file(&mut self, fault: FileFault) {
        self.planted_by_file.push(fault);
    }
    pub(super) fn clear(&mut self) {
        self.planted.clear();
        self.planted_by_file.clear();
    }
    /// Operations on files of this kind so far.
    pub(super) fn operations_on(&self, file: FileKind) -> FileOperations {
        self.operations.get(&file).copied().unwrap_or_default()
    }
    /// A process hears that a write or sync has failed, and not in a way that asks for repetition.
    pub(super) fn note_failed(&mut self, kind: OpKind, path: &str) {
        self.suspect.insert(path.to_owned(), kind.name());
    }
    /// The process is gone: the next one may use every file.
    pub(super) fn forget_failed(&mut self) {
        self.suspect.clear();
    }
    /// What a process did to files after a write or sync of them had failed; each in words.
    pub(super) fn breaches(&self) -> &[String] {
        &self.breaches
    }
    /// A process asks for a write or sync.
    pub(super) fn watch(&mut self, kind: OpKind, path: &str) {
        if let Some(failed) = self.suspect.get(path) {
            self.breaches.push(format!("{} of {path} after a failed {failed} of it", kind.name()));
        }
    }
    /// Bad sectors can be read again.
    pub(super) fn heal_sectors(&mut self) {
        self.latent.clear();
    }
    /// Reads that touch these bytes of this path fail from now on.
    pub(super) fn plant_latent(&mut self, path: String, bytes: Range<u64>) {
        self.latent.push((path, bytes));
    }
    /// Whether a read meets a bad sector.
    pub(super) fn meets_latent(&mut self, path: &str, bytes: &Range<u64>) -> bool {
        let meets = |(bad_path, bad): &(String, Range<u64>)| {
            bad_path == path && bad.start < bytes.end && bytes.start < bad.end
        };
        let is_bad = self.latent.iter().any(meets);
        self.hits += u64::from(is_bad);
        is_bad
    }
    /// What happens to this operation.
    pub(super) fn strike(&mut self, kind: OpKind, path: &str) -> Option<FaultEffect> {
        if matches!(kind, OpKind::Create | OpKind::Remove) {
            // A new file, or none, under the old name.
            self.suspect.remove(path);
        }
        let file = FileKind::of(path);
        let is_transfer = matches!(kind, OpKind::Read | OpKind::Write);
        let counts = self.operations.entry(file).or_default();
        counts.all += 1;
        counts.transfers += u64::from(is_transfer);
        let mut struck = None;
        self.planted_by_file.retain_mut(|fault| {
            let matches = fault.file == file && (is_transfer || fault.effect != FaultEffect::Short);
            if !matches || struck.is_some() {
                return true;
            }
            if fault.after > 0 {
                fault.after -= 1;
                return true;
            }
            struck = Some(fault.effect);
            fault.sticky
        });
        self.planted.retain_mut(|fault| {
            let matches =
                fault.kind.is_none_or(|wanted| wanted == kind) && path.contains(fault.path_contains.as_str());
            if !matches || struck.is_some() {
                return true;
            }
            if fault.after > 0 {
                fault.after -= 1;
                return true;
            }
            struck = Some(fault.effect);
            fault.sticky
        });
        self.hits += u64::from(struck.is_some());
        struck
    }
    /// Whether a transfer is cut short by chance.
    pub(super) fn draw_short(&self, rng: &mut Rng) -> bool {
        self.chaos.short_per_mille > 0 && rng.chance(self.chaos.short_per_mille.into(), 1000)
    }
    /// One of `errnos` in some cases.
    pub(super) fn draw_interruption(&self, rng: &mut Rng, errnos: &[Errno]) -> Option<Errno> {
        let rate = self.chaos.interrupted_per_mille;
        if rate == 0 || errnos.is_empty() || !rng.chance(rate.into(), 1000) {
            return None;
        }
        errnos.get(rng.index(errnos.len())).copied()
    }
}
