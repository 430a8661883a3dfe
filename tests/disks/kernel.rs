//! What the tests ask the kernel for directly: mounts of their own, and the end of a file system.
#![expect(unsafe_code, reason = "an ioctl that no crate wraps")]

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

/// What a shutdown does with the journal that is in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Journal {
    /// Writes it out first.
    Kept = 1,
    /// Forgets it.
    Lost = 2,
}

mod ioctl {
    //! `FS_IOC_SHUTDOWN` of `linux/fs.h`; ext4 and xfs know it.
    nix::ioctl_read!(shutdown, b'X', 125, u32);
}

/// Gives this thread, and whom it starts, mounts of their own: they end with the last of them, however that comes.
pub(crate) fn separate_mounts() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
}

/// Ends the file system at `mountpoint` as a power cut does: nothing more reaches its device, what was not synced is
/// forgotten.
pub(crate) fn shut_down(mountpoint: &Path, journal: Journal) {
    let root = File::open(mountpoint).unwrap();
    let mut flags = journal as u32;
    // SAFETY: the kernel reads one u32 at the pointer, which `flags` owns during the call; `root` keeps the
    // descriptor open.
    unsafe { ioctl::shutdown(root.as_raw_fd(), &raw mut flags) }.unwrap();
}
