//! File systems of a test's own: a workspace that nobody else sees, and volumes on loop devices over images in it.
//!
//! Mounts live in the namespace of the test's thread, loop devices go with their mounts: a test that is killed leaves
//! neither behind.

use super::kernel::separate_mounts;
use super::support::skipped;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A process that was killed may hold its files for a moment longer.
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(20);

/// Memory-backed space for images, with mounts that nobody else sees.
pub(crate) struct Workspace {
    dir: TempDir,
}

impl Workspace {
    /// Space for this thread; `None`, said as a skip, where the machine does not allow it.
    pub(crate) fn new() -> Option<Self> {
        if let Err(error) = separate_mounts() {
            skipped("mount", &format!("no mount namespace: {error}"));
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        mount_tmpfs(dir.path(), "size=4g");
        Some(Self { dir })
    }
    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    /// An empty directory in it.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir(&path).unwrap();
        path
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // What is still mounted within goes with the namespace.
        let _ = umount2(self.dir.path(), MntFlags::MNT_DETACH);
    }
}

/// Mounts memory.
pub(crate) fn mount_tmpfs(at: &Path, options: &str) {
    mount(Some("none"), at, Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
}

/// Kinds of file system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
}

impl Kind {
    /// Makes an empty file system in `image`, which is made too.
    pub(crate) fn make(self, image: &Path, bytes: u64, options: &[&str]) {
        std::fs::File::create(image).unwrap().set_len(bytes).unwrap();
        let (program, fixed): (_, &[&str]) = match self {
            Self::Ext4 => ("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"]),
            Self::Xfs => ("mkfs.xfs", &["-q", "-f"]),
        };
        run(Command::new(program).args(fixed).args(options).arg(image));
    }
}

/// A file system on a loop device.
pub(crate) struct Volume {
    image: PathBuf,
    at: PathBuf,
    options: String,
    /// The loop device must not keep pages of the image in memory.
    direct: bool,
    mounted: bool,
}

impl Volume {
    /// Mounts the file system in `image` at `at`. With `direct`, everything that it writes reaches the image at once.
    pub(crate) fn mount(image: &Path, at: &Path, options: &str, direct: bool) -> Self {
        let (image, at) = (image.to_owned(), at.to_owned());
        let mut volume = Self { image, at, options: options.to_owned(), direct, mounted: false };
        volume.mount_again();
        volume
    }
    /// Where it is mounted.
    pub(crate) fn at(&self) -> &Path {
        &self.at
    }
    /// Mounts it after [`Volume::unmount`]: the file system replays its journal.
    pub(crate) fn mount_again(&mut self) {
        if self.direct {
            let shown =
                run(Command::new("losetup").args(["-f", "--show", "--direct-io=on"]).arg(&self.image));
            let device = shown.trim();
            let mounted = succeeds(Command::new("mount").args(["-o", &self.options, device]).arg(&self.at));
            // Detaches it now, or when the mount that uses it ends.
            run(Command::new("losetup").args(["-d", device]));
            mounted.unwrap();
        } else {
            let options = format!("loop,{}", self.options);
            run(Command::new("mount").args(["-o", &options]).args([&self.image, &self.at]));
        }
        self.mounted = true;
    }
    /// Unmounts it, patiently.
    pub(crate) fn unmount(&mut self) {
        let deadline = Instant::now() + UNMOUNT_TIMEOUT;
        while let Err(error) = umount2(&self.at, MntFlags::empty()) {
            assert!(Instant::now() < deadline, "{} is not unmounted: {error}", self.at.display());
            std::thread::sleep(Duration::from_millis(2));
        }
        self.mounted = false;
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.mounted {
            let _ = umount2(&self.at, MntFlags::MNT_DETACH);
        }
    }
}

/// Whether `program` can be run; says what is skipped where it cannot.
pub(crate) fn has_program(program: &str, means: &str) -> bool {
    let found = Command::new(program).arg("-V").output().is_ok();
    if !found {
        skipped(means, &format!("{program} is not installed"));
    }
    found
}

/// Whether loop devices can be attached; says what is skipped where they cannot.
pub(crate) fn has_loop_devices() -> bool {
    let found = succeeds(Command::new("losetup").arg("-f"));
    if let Err(error) = &found {
        skipped("loop", error);
    }
    found.is_ok()
}

fn succeeds(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{command:?}: {}, {said}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command that must succeed; what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    succeeds(command).unwrap()
}
