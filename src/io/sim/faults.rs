//! Planted failures: the Nth operation of a kind, on files of a name, fails or transfers less than asked.

use super::Rng;
use crate::io::Errno;

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
            Self::Remove => "remove",
            Self::SyncDir => "sync_dir",
            Self::List => "list",
            Self::CreateDir => "create_dir",
            Self::Lock => "lock",
            Self::BytesFree => "bytes_free",
        }
    }
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
    pub(super) fn clear(&mut self) {
        self.planted.clear();
    }
    /// What happens to this operation.
    pub(super) fn strike(&mut self, kind: OpKind, path: &str) -> Option<FaultEffect> {
        let mut struck = None;
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
