//! The seam that serves jobs: blocking file operations below one root directory.
//!
//! Paths are relative to the root (the data directory). Nothing is durable before `sync` (data) and `sync_dir`
//! (names): the simulated disk loses what was not synced, whole or in parts.

use crate::model::FileRef;
use std::io;
use std::path::Path;

/// What a name in a directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink, fifo, device or socket: never ours.
    Other,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// File name without its directory.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of a file, 0 for others.
    pub bytes: u64,
}

/// Holds the store's lock until dropped.
pub trait FileLock: Send + Sync {}

/// A job's way to files. Every call may block, and may fail with whatever the machine says.
pub trait Files: Send + Sync {
    /// Creates a file for reading and writing; fails where the name exists.
    ///
    /// # Errors
    /// What `open(2)` says.
    fn create(&self, path: &Path) -> io::Result<FileRef>;
    /// Opens an existing regular file for reading; never follows a symlink.
    ///
    /// # Errors
    /// What `open(2)` says; `InvalidInput` where it is no regular file.
    fn open(&self, path: &Path) -> io::Result<FileRef>;
    /// Opens an existing file for a core's WAL writes, and says whether O_DIRECT is in force.
    ///
    /// # Errors
    /// What `open(2)` says.
    fn open_for_wal(&self, path: &Path) -> io::Result<(FileRef, bool)>;
    /// Reads into `buf` and says how many bytes; fewer only at the end of the file or on a short transfer.
    ///
    /// # Errors
    /// What `pread(2)` says.
    fn read_at(&self, file: &FileRef, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes some of `buf` and says how many bytes.
    ///
    /// # Errors
    /// What `pwrite(2)` says.
    fn write_at(&self, file: &FileRef, buf: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes a file's data and length durable.
    ///
    /// # Errors
    /// What `fdatasync(2)` says. Never call it again on the same file after a failure: the kernel may have dropped
    /// the pages.
    fn sync(&self, file: &FileRef) -> io::Result<()>;
    /// Brings written bytes to the device and waits, without making them durable: a long file that is written back
    /// piece by piece leaves little for its sync, which would otherwise hold up the log's writes to the same device.
    /// Nothing happens on a disk that has no queue to hold up.
    ///
    /// # Errors
    /// What `sync_file_range(2)` says. An error may be told here and never again: the file is lost, as after a
    /// failed sync.
    fn write_back(&self, _file: &FileRef, _offset: u64, _bytes: u64) -> io::Result<()> {
        Ok(())
    }
    /// A file's length in bytes.
    ///
    /// # Errors
    /// What `fstat(2)` says.
    fn file_bytes(&self, file: &FileRef) -> io::Result<u64>;
    /// Renames a file, replacing what bears the new name. Durable after `sync_dir` of the directory.
    ///
    /// # Errors
    /// What `rename(2)` says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must be new. Durable after `sync_dir` of its directory.
    ///
    /// # Errors
    /// What `link(2)` says; `Unsupported` where files have one name only.
    fn link(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Removes a file's name; the file goes when its last reference does.
    ///
    /// # Errors
    /// What `unlink(2)` says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes names in a directory durable. `""` is the root.
    ///
    /// # Errors
    /// What `fsync(2)` says.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, sorted.
    ///
    /// # Errors
    /// What `opendir(3)` says.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Creates a directory (mode 0700); it is no error where it exists.
    ///
    /// # Errors
    /// What `mkdir(2)` says.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Takes the lock of the store: creates `path` where missing, locks it, writes `content` into it.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds it; else what `flock(2)` says.
    fn lock(&self, path: &Path, content: &str) -> io::Result<Box<dyn FileLock>>;
    /// Bytes that the file system has left for us.
    ///
    /// # Errors
    /// What `statvfs(3)` says.
    fn bytes_free(&self) -> io::Result<u64>;

    /// The wall clock, in nanoseconds since 1970-01-01 UTC; it may jump.
    fn unix_ns(&self) -> i64;

    /// Reads exactly `buf`.
    ///
    /// # Errors
    /// `UnexpectedEof` where the file ends first; else as [`Files::read_at`]. Interrupted reads are repeated.
    fn read_exact_at(&self, file: &FileRef, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match self.read_at(file, &mut buf[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
    /// Writes all of `buf`.
    ///
    /// # Errors
    /// `WriteZero` where the machine takes nothing; else as [`Files::write_at`]. Interrupted writes are repeated.
    fn write_all_at(&self, file: &FileRef, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match self.write_at(file, &buf[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
    /// A whole file of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// `FileTooLarge` beyond the bound; else as [`Files::open`] and [`Files::read_at`].
    fn read_all(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let bytes = self.file_bytes(&file)?;
        let count = usize::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        if bytes > bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut content = vec![0; count];
        self.read_exact_at(&file, &mut content, 0)?;
        Ok(content)
    }
}
