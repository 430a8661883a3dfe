//! [`Files`] on the operating system: one root directory, regular files only.
//!
//! Files are made with mode 0600 and directories with 0700. The last part of a path is never followed where it is a
//! symlink, and an open never waits: a fifo in a file's place is an error, not a hang. Paths that could lead out of
//! the root are refused.
#![expect(unsafe_code, reason = "O_DIRECT probing, flock(2), pread(2) on shared descriptors and statvfs(3)")]

use super::sys::check;
use super::{DirEntry, EntryKind, FileLock, Files};
use crate::buffer::AlignedBuf;
use crate::limits::PAGE_BYTES;
use crate::model::FileRef;
use std::ffi::CString;
use std::fs::{self, DirBuilder, File, FileType, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// Never follow a symlink, never wait for a fifo's other end. Regular files ignore `O_NONBLOCK`.
const OPEN_FLAGS: i32 = libc::O_NOFOLLOW | libc::O_NONBLOCK;

/// The files below one directory of the machine.
#[derive(Clone, Debug)]
pub struct OsFiles {
    root: PathBuf,
}

impl OsFiles {
    /// The files below `root`, which is created (mode 0700, with its parents) where missing.
    ///
    /// # Errors
    /// What `mkdir(2)` says; `NotADirectory` where the name stands for something else.
    pub fn new(root: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(root)?;
        // Absolute from here on: the process may change its directory.
        let root = fs::canonicalize(root)?;
        if !root.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { root })
    }

    /// The directory that paths are relative to.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, relative: &Path) -> io::Result<PathBuf> {
        if relative.components().all(|part| matches!(part, Component::Normal(_))) {
            Ok(self.root.join(relative))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "the path leads out of the data directory"))
        }
    }
}

/// Opens and checks that it is a regular file.
fn open_regular(path: &Path, options: &mut OpenOptions, flags: i32) -> io::Result<File> {
    let file = options.mode(FILE_MODE).custom_flags(OPEN_FLAGS | flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
    }
}

fn reference(file: File) -> FileRef {
    FileRef::new(file.as_raw_fd(), Arc::new(file))
}

/// Whether a page can be read past the page cache: some file systems take the flag and then refuse the transfer.
fn direct_works(file: &File) -> bool {
    let mut page = AlignedBuf::zeroed(PAGE_BYTES);
    // SAFETY: the pointer is to PAGE_BYTES bytes that `page` owns during the call.
    let result = unsafe { libc::pread(file.as_raw_fd(), page.as_mut_ptr().cast(), PAGE_BYTES, 0) };
    result >= 0
}

fn offset_for_kernel(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

struct HeldLock {
    /// The kernel drops the lock when the descriptor closes, also when the process is killed.
    _file: File,
}
impl FileLock for HeldLock {}

impl Files for OsFiles {
    fn create(&self, path: &Path) -> io::Result<FileRef> {
        let path = self.path(path)?;
        open_regular(&path, OpenOptions::new().read(true).write(true).create_new(true), 0).map(reference)
    }

    fn open(&self, path: &Path) -> io::Result<FileRef> {
        open_regular(&self.path(path)?, OpenOptions::new().read(true), 0).map(reference)
    }

    fn open_for_wal(&self, path: &Path) -> io::Result<(FileRef, bool)> {
        let path = self.path(path)?;
        match open_regular(&path, OpenOptions::new().read(true).write(true), libc::O_DIRECT) {
            Ok(file) if direct_works(&file) => return Ok((reference(file), true)),
            Ok(_) => {}
            // tmpfs and overlay refuse the flag itself; everything else is a real failure that the next open shows.
            Err(error) => log::debug!("{}: no O_DIRECT: {error}", path.display()),
        }
        open_regular(&path, OpenOptions::new().read(true).write(true), 0).map(|file| (reference(file), false))
    }

    fn read_at(&self, file: &FileRef, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let offset = offset_for_kernel(offset)?;
        // SAFETY: pointer and length are those of `buf`, borrowed for the call; `file` keeps the descriptor open.
        let result = unsafe { libc::pread(file.handle(), buf.as_mut_ptr().cast(), buf.len(), offset) };
        check(result as i64).map_err(Into::into)
    }

    fn write_at(&self, file: &FileRef, buf: &[u8], offset: u64) -> io::Result<usize> {
        let offset = offset_for_kernel(offset)?;
        // SAFETY: pointer and length are those of `buf`, borrowed for the call; `file` keeps the descriptor open.
        let result = unsafe { libc::pwrite(file.handle(), buf.as_ptr().cast(), buf.len(), offset) };
        check(result as i64).map_err(Into::into)
    }

    fn sync(&self, file: &FileRef) -> io::Result<()> {
        // SAFETY: takes a number only; `file` keeps the descriptor open.
        let result = unsafe { libc::fdatasync(file.handle()) };
        check(result.into()).map(drop).map_err(Into::into)
    }

    fn write_back(&self, file: &FileRef, offset: u64, bytes: u64) -> io::Result<()> {
        let (offset, bytes) = (offset_for_kernel(offset)?, offset_for_kernel(bytes)?);
        let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
            | libc::SYNC_FILE_RANGE_WRITE
            | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        // SAFETY: takes numbers only; `file` keeps the descriptor open.
        let result = unsafe { libc::sync_file_range(file.handle(), offset, bytes, flags) };
        check(result.into()).map(drop).map_err(Into::into)
    }

    fn file_bytes(&self, file: &FileRef) -> io::Result<u64> {
        // SAFETY: takes numbers only; seeking is private to nobody here, all transfers name their offset.
        let result = unsafe { libc::lseek(file.handle(), 0, libc::SEEK_END) };
        check(result).map(|bytes| bytes as u64).map_err(Into::into)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.path(from)?, self.path(to)?)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(self.path(from)?, self.path(to)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.path(path)?)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let directory =
            options.read(true).custom_flags(libc::O_DIRECTORY | OPEN_FLAGS).open(self.path(path)?)?;
        directory.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.path(path)?)? {
            let entry = entry?;
            let kind = kind_of(entry.file_type()?);
            let bytes = if kind == EntryKind::File { entry.metadata()?.len() } else { 0 };
            // A name that is no text is foreign; replacement characters keep it visible and unlike any of ours.
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.push(DirEntry { name, kind, bytes });
        }
        entries.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = self.path(path)?;
        match DirBuilder::new().mode(DIRECTORY_MODE).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            result => result,
        }
    }

    fn lock(&self, path: &Path, content: &str) -> io::Result<Box<dyn FileLock>> {
        let path = self.path(path)?;
        let mut options = OpenOptions::new();
        let mut file = open_regular(&path, options.read(true).write(true).create(true).truncate(false), 0)?;
        // SAFETY: takes numbers only; `file` is open.
        let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        check(result.into())?;
        // Only the holder may touch the content: it names the holder.
        file.set_len(0)?;
        file.write_all(content.as_bytes())?;
        Ok(Box::new(HeldLock { _file: file }))
    }

    fn unix_ns(&self) -> i64 {
        super::sys::now().unix_ns
    }
    fn bytes_free(&self) -> io::Result<u64> {
        let path = CString::new(self.root.as_os_str().as_bytes())?;
        let mut space = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: `path` ends in NUL and `space` is live storage of the type that the call fills.
        let result = unsafe { libc::statvfs(path.as_ptr(), space.as_mut_ptr()) };
        check(result.into())?;
        // SAFETY: the call succeeded, so it filled `space`.
        let space = unsafe { space.assume_init() };
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

fn kind_of(file_type: FileType) -> EntryKind {
    if file_type.is_file() {
        EntryKind::File
    } else if file_type.is_dir() {
        EntryKind::Directory
    } else {
        EntryKind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn fixture() -> (tempfile::TempDir, OsFiles) {
        let dir = tempfile::tempdir().unwrap();
        let files = OsFiles::new(&dir.path().join("data")).unwrap();
        (dir, files)
    }

    #[test]
    fn what_was_written_is_read_back() {
        // The tools and recovery trust these six calls for everything.
        let (_dir, files) = fixture();
        files.create_dir(Path::new("wal")).unwrap();
        files.create_dir(Path::new("wal")).unwrap();
        let file = files.create(Path::new("wal/1.wal")).unwrap();
        files.write_all_at(&file, b"hello", 3).unwrap();
        files.sync(&file).unwrap();
        assert_eq!(files.file_bytes(&file).unwrap(), 8);
        files.rename(Path::new("wal/1.wal"), Path::new("wal/2.wal")).unwrap();
        files.sync_dir(Path::new("wal")).unwrap();
        files.sync_dir(Path::new("")).unwrap();
        assert_eq!(files.read_all(Path::new("wal/2.wal"), 100).unwrap(), b"\0\0\0hello");
        assert_eq!(
            files.read_all(Path::new("wal/2.wal"), 7).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        let entry = DirEntry { name: "2.wal".to_owned(), kind: EntryKind::File, bytes: 8 };
        assert_eq!(files.list(Path::new("wal")).unwrap(), [entry]);
        assert_eq!(files.create(Path::new("wal/2.wal")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        files.remove(Path::new("wal/2.wal")).unwrap();
        assert_eq!(files.open(Path::new("wal/2.wal")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(files.bytes_free().unwrap() > 0);
        // An open file outlives its name.
        assert_eq!(files.file_bytes(&file).unwrap(), 8);
    }

    #[test]
    fn only_the_owner_may_read_the_store() {
        // Anybody on the machine could otherwise read the data, or the password beside it.
        let (_dir, files) = fixture();
        files.create_dir(Path::new("tables")).unwrap();
        let _file = files.create(Path::new("tables/a")).unwrap();
        let mode = |path: &str| fs::metadata(files.root().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("tables"), mode("tables/a")), (0o700, 0o700, 0o600));
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        // A symlink would let the daemon overwrite a file elsewhere; a fifo would hang its start.
        let (dir, files) = fixture();
        let outside = dir.path().join("outside");
        fs::write(&outside, "x").unwrap();
        symlink(&outside, files.root().join("link")).unwrap();
        let fifo = CString::new(files.root().join("fifo").as_os_str().as_bytes()).unwrap();
        // SAFETY: `fifo` ends in NUL.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        files.create_dir(Path::new("dir")).unwrap();
        for name in ["link", "fifo", "dir", "../outside", "/etc/passwd", "./fifo"] {
            assert!(files.open(Path::new(name)).is_err(), "{name} opens");
            assert!(files.open_for_wal(Path::new(name)).is_err(), "{name} opens for the WAL");
            assert!(files.lock(Path::new(name), "").is_err(), "{name} can be locked");
        }
        let kinds: Vec<_> = files.list(Path::new("")).unwrap().into_iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [EntryKind::Directory, EntryKind::Other, EntryKind::Other]);
        assert_eq!(fs::read(&outside).unwrap(), b"x");
        assert!(OsFiles::new(&outside).is_err());
    }

    #[test]
    fn the_lock_is_exclusive_and_ends_with_its_holder() {
        // Two daemons on one directory would each overwrite the other's log.
        let (_dir, files) = fixture();
        let held = files.lock(Path::new("LOCK"), "pid 12345678").unwrap();
        let refused = files.lock(Path::new("LOCK"), "pid 2").err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(files.read_all(Path::new("LOCK"), 100).unwrap(), b"pid 12345678");
        drop(held);
        let _held = files.lock(Path::new("LOCK"), "pid 3").unwrap();
        assert_eq!(files.read_all(Path::new("LOCK"), 100).unwrap(), b"pid 3");
    }

    #[test]
    fn a_wal_file_opens_with_or_without_direct_transfers() {
        // tmpfs and overlay refuse O_DIRECT in ways of their own; the daemon must start there all the same.
        let directories = [Path::new("/dev/shm"), Path::new("/var/tmp"), Path::new("target")];
        for base in directories.into_iter().filter(|base| base.is_dir()) {
            let dir = tempfile::tempdir_in(base).unwrap();
            let files = OsFiles::new(dir.path()).unwrap();
            let file = files.create(Path::new("w")).unwrap();
            files.write_all_at(&file, &[7; 2 * PAGE_BYTES], 0).unwrap();
            let (wal, _direct) = files.open_for_wal(Path::new("w")).unwrap();
            let mut buf = AlignedBuf::zeroed(PAGE_BYTES);
            buf.fill(8);
            files.write_all_at(&wal, &buf, PAGE_BYTES as u64).unwrap();
            files.read_exact_at(&wal, &mut buf, 0).unwrap();
            assert!(buf.iter().all(|byte| *byte == 7));
            files.read_exact_at(&wal, &mut buf, PAGE_BYTES as u64).unwrap();
            assert!(buf.iter().all(|byte| *byte == 8));
        }
    }
}
