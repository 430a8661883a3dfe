//! Power cuts: of a file system that is shut down, as when the kernel crashes, and of the disk below it.

use super::crashblk::{CrashDisk, Keep};
use super::kernel::{Journal, shut_down};
use super::rounds::{Medium, Plan, run};
use super::support::Rng;
use super::volume::{Kind, Volume, Workspace, has_loop_devices, has_program};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system over a plain image: a cut loses what is in the kernel's memory.
struct Shutdown {
    volume: Volume,
    image: PathBuf,
}

impl Shutdown {
    fn new(workspace: &Workspace, kind: Kind, number: u64, options: &str) -> Self {
        let image = workspace.path(&format!("image{number}"));
        let at = workspace.directory(&format!("volume{number}"));
        kind.make(&image, 512 << 20, &[]);
        Self { volume: Volume::mount(&image, &at, options, false), image }
    }
}

impl Medium for Shutdown {
    fn directory(&self) -> &Path {
        self.volume.at()
    }
    fn cut(&mut self, rng: &mut Rng) {
        let journal = if rng.one_in(4) { Journal::Kept } else { Journal::Lost };
        shut_down(self.volume.at(), journal);
    }
    fn revive(&mut self) {
        self.volume.unmount();
        self.volume.mount_again();
    }
    fn keep(&mut self, folder: &Path) {
        let _ = Command::new("cp").arg("--sparse=always").arg(&self.image).arg(folder).status();
    }
}

/// A file system over a disk that tears what was not flushed.
struct Torn {
    // Unmounted before the disk goes.
    volume: Volume,
    disk: CrashDisk,
}

impl Medium for Torn {
    fn directory(&self) -> &Path {
        self.volume.at()
    }
    fn cut(&mut self, rng: &mut Rng) {
        let keep = Keep::ALL[rng.index(Keep::ALL.len())];
        self.disk.cut(keep, rng);
    }
    fn revive(&mut self) {
        self.volume.unmount();
        self.disk.turn_on();
        self.volume.mount_again();
    }
    fn keep(&mut self, folder: &Path) {
        self.disk.save(&folder.join("disk"));
    }
}

#[test]
fn acknowledged_writes_survive_a_disk_that_tears_what_was_not_flushed() {
    // A reply that leaves before the flush, or a sync of the wrong file, shows only on a disk with a cache.
    let Some(workspace) = Workspace::new().filter(|_| has_loop_devices()) else { return };
    let probe = workspace.directory("probe");
    if CrashDisk::new(&probe, Kind::Ext4, 8 << 20).is_none() {
        return;
    }
    let plan = Plan { name: "torn device", cuts: 30, seconds: 60, cuts_min: 20 };
    run(&plan, &workspace, |number, _| {
        let disk = CrashDisk::new(&workspace.directory(&format!("disk{number}")), Kind::Ext4, 160 << 20);
        let disk = disk.unwrap();
        let at = workspace.directory(&format!("torn{number}"));
        Torn { volume: Volume::mount(&disk.file(), &at, "noatime", true), disk }
    });
}

#[test]
fn acknowledged_writes_survive_the_shutdown_of_ext4() {
    // An order of syncs that holds only while nothing crashes loses data with the first power cut.
    let Some(workspace) = Workspace::new().filter(|_| has_loop_devices()) else { return };
    let plan = Plan { name: "ext4 shut down", cuts: 48, seconds: 60, cuts_min: 40 };
    run(&plan, &workspace, |number, rng| {
        // Without O_DIRECT, which data=journal does not do, the log takes another way into the same file.
        let options = ["noatime", "noatime,data=writeback", "noatime,data=journal"][rng.index(3)];
        Shutdown::new(&workspace, Kind::Ext4, number, options)
    });
}

#[test]
fn acknowledged_writes_survive_the_shutdown_of_xfs() {
    // Another journal, with another idea of what a sync of a file covers.
    let Some(workspace) = Workspace::new().filter(|_| has_loop_devices()) else { return };
    if !has_program("mkfs.xfs", "xfs") {
        return;
    }
    let plan = Plan { name: "xfs shut down", cuts: 16, seconds: 60, cuts_min: 10 };
    run(&plan, &workspace, |number, _| Shutdown::new(&workspace, Kind::Xfs, number, "noatime"));
}
