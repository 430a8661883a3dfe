//! The jobs' way to the simulated disk.
//!
//! A call from a job thread first gives the baton back, then takes effect at once when the job is stepped again; so a
//! crash falls between calls, and what a call did is no less volatile than what a core's operation did. A call from
//! the driver's own thread takes effect at once. After a cut every call fails with EIO, also after the restart: a
//! restarted process opens its files anew.

use super::disk::{OpenMode, SimDisk};
use super::faults::OpKind;
use super::jobs;
use super::state::State;
use super::world::Shared;
use crate::io::{DirEntry, Errno, FileLock, Files};
use crate::model::FileRef;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// [`Files`] of one life of a simulated machine.
pub struct SimFiles {
    shared: Arc<Shared>,
    life: u32,
}

/// Closes a handle of the disk when the last [`FileRef`] goes, which may be while the world is locked.
struct OpenFile {
    handle: i32,
    dropped: Arc<Mutex<Vec<i32>>>,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).push(self.handle);
    }
}

struct SimLock {
    /// Its last reference gone, the handle closes and the lock is free.
    _file: FileRef,
}

impl FileLock for SimLock {}

impl SimFiles {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let life = shared.lock().life;
        Self { shared, life }
    }
    /// Waits for the baton, then locks the world, if that is still the one in which this process lives.
    fn enter(&self) -> Result<MutexGuard<'_, State>, Errno> {
        jobs::yield_baton(&self.shared)?;
        let state = self.shared.lock();
        if state.life == self.life { Ok(state) } else { Err(Errno::EIO) }
    }
    /// An operation on names: counted, perhaps failed, traced, done.
    fn on_path<T>(
        &self,
        kind: OpKind,
        path: &Path,
        act: impl FnOnce(&mut SimDisk) -> Result<T, Errno>,
    ) -> io::Result<T> {
        let mut state = self.enter()?;
        let text = path.to_str().ok_or(Errno::EINVAL)?;
        state.begin(kind, text, &[])?;
        state.trace.note_file(kind.name(), text, 0, &[]);
        Ok(act(&mut state.disk)?)
    }
    fn file_ref(&self, handle: i32) -> FileRef {
        FileRef::new(handle, Arc::new(OpenFile { handle, dropped: Arc::clone(&self.shared.dropped) }))
    }
}

impl Files for SimFiles {
    fn create(&self, path: &Path) -> io::Result<FileRef> {
        let handle = self.on_path(OpKind::Create, path, |disk| disk.create(path))?;
        Ok(self.file_ref(handle))
    }
    fn open(&self, path: &Path) -> io::Result<FileRef> {
        let handle = self.on_path(OpKind::Open, path, |disk| disk.open(path, OpenMode::Read))?;
        Ok(self.file_ref(handle))
    }
    fn open_for_wal(&self, path: &Path) -> io::Result<(FileRef, bool)> {
        let direct_grain = self.shared.lock().options.direct_grain;
        let mode = OpenMode::Write { grain: direct_grain.max(1) };
        let handle = self.on_path(OpKind::Open, path, |disk| disk.open(path, mode))?;
        Ok((self.file_ref(handle), direct_grain > 0))
    }
    fn read_at(&self, file: &FileRef, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.enter()?.read(file.handle(), offset, buf, &[Errno::EINTR])?)
    }
    fn write_at(&self, file: &FileRef, buf: &[u8], offset: u64) -> io::Result<usize> {
        let handle = file.handle();
        let write = |state: &mut State| state.write(handle, offset, buf, false, &[Errno::EINTR]);
        Ok(self.enter()?.watched(OpKind::Write, handle, write)?)
    }
    fn sync(&self, file: &FileRef) -> io::Result<()> {
        // What other threads write while this call waits is not covered.
        let covers = self.shared.lock().disk.write_seq();
        let handle = file.handle();
        Ok(self.enter()?.watched(OpKind::Sync, handle, |state| state.sync(handle, covers, &[]))?)
    }
    fn file_bytes(&self, file: &FileRef) -> io::Result<u64> {
        let mut state = self.enter()?;
        let path = state.disk.path_of(file.handle());
        state.begin(OpKind::FileBytes, &path, &[])?;
        Ok(state.disk.file_bytes(file.handle())?)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.on_path(OpKind::Rename, from, |disk| disk.rename(from, to))
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.on_path(OpKind::Link, from, |disk| disk.link(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.on_path(OpKind::Remove, path, |disk| disk.remove(path))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.on_path(OpKind::SyncDir, path, |disk| disk.sync_dir(path))
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.on_path(OpKind::List, path, |disk| disk.list(path))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.on_path(OpKind::CreateDir, path, |disk| disk.create_dir(path))
    }
    fn lock(&self, path: &Path, content: &str) -> io::Result<Box<dyn FileLock>> {
        let handle = self.on_path(OpKind::Lock, path, |disk| take_lock(disk, path, content))?;
        Ok(Box::new(SimLock { _file: self.file_ref(handle) }))
    }
    fn unix_ns(&self) -> i64 {
        self.shared.lock().now().unix_ns
    }
    fn bytes_free(&self) -> io::Result<u64> {
        self.on_path(OpKind::BytesFree, Path::new(""), |disk| Ok(disk.bytes_free()))
    }
}

fn take_lock(disk: &mut SimDisk, path: &Path, content: &str) -> Result<i32, Errno> {
    let handle = match disk.open(path, OpenMode::Write { grain: 1 }) {
        Err(errno) if errno.0 == libc::ENOENT => disk.create(path)?,
        opened => opened?,
    };
    let locked = disk.lock(handle).and_then(|()| disk.write(handle, 0, content.as_bytes(), false));
    if let Err(errno) = locked {
        disk.close(handle);
        return Err(errno);
    }
    Ok(handle)
}

impl fmt::Debug for SimFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFiles(life {})", self.life)
    }
}
