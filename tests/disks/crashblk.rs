//! A disk of our own: a FUSE file that a loop device is attached to, with a volatile cache and faults on request.
//!
//! What was written reaches `durable` only with a flush. A power cut keeps `durable` and, of what was written since the
//! last flush, nothing, everything, a prefix that ends within a write, or each sector of 512 bytes by a throw of dice;
//! until power comes back every request fails. A flush that is made to fail forgets what it should have made durable,
//! as kernels do: reads still show it, a later flush does not bring it back. What it forgets may be of several: a log
//! write that has ended and whose own flush comes next, while the failed one was of the file system's journal. A disk
//! must not tell only one of them, or nobody could know; so the flushes of the next moments fail too.

use super::support::{Rng, skipped};
use super::volume::Kind;
use fuser::{
    BackgroundSession, FileAttr, FileType, Filesystem, MountOption, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request,
};
use std::ffi::OsStr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
const ROOT: u64 = 1;
const DISK: u64 = 2;
const NAME: &str = "disk";
/// The kernel may keep attributes this long: they do not change.
const TTL: Duration = Duration::from_secs(3600);
/// The flag of `linux/fuse.h` by which an open file has no pages in the kernel's memory.
const FOPEN_DIRECT_IO: u32 = 1;

/// What a power cut keeps of the writes since the last flush.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keep {
    Nothing,
    Everything,
    /// Writes in their order up to one that is torn.
    Prefix,
    /// Each sector of each write, or not.
    Random,
}

impl Keep {
    pub(crate) const ALL: [Self; 4] = [Self::Nothing, Self::Everything, Self::Prefix, Self::Random];
}

/// What goes wrong, and when.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// The flush after this many others fails, and those that come within [`FLUSHES_FAIL`].
    pub(crate) fail_flush: Option<u64>,
    /// The write after this many others fails, once.
    pub(crate) fail_write: Option<u64>,
    /// Reads of any of these bytes fail.
    pub(crate) bad: Vec<Range<usize>>,
    /// Every write and flush takes this long.
    pub(crate) delay: Duration,
    /// Nothing is answered.
    pub(crate) hung: bool,
    /// Writes fail because the device has no room left: it promised more than it holds.
    pub(crate) full: bool,
}

#[derive(Default)]
struct State {
    /// What reads show.
    current: Vec<u8>,
    /// What a power cut leaves at least.
    durable: Vec<u8>,
    /// Writes since the last flush, in their order.
    unflushed: Vec<(usize, Vec<u8>)>,
    is_off: bool,
    faults: Faults,
    /// When a flush or write was made to fail.
    failed_at: Option<Instant>,
    /// When the flush that fails for its turn did.
    flush_failed_at: Option<Instant>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// The disk hangs no more.
    answers: Condvar,
}

/// The disk; its file vanishes when it is dropped.
pub(crate) struct CrashDisk {
    shared: Arc<Shared>,
    at: PathBuf,
    session: Option<BackgroundSession>,
}

impl CrashDisk {
    /// A disk that appears as a file in `at` and holds an empty file system; `None`, said as a skip, without FUSE.
    pub(crate) fn new(at: &Path, kind: Kind, bytes: u64) -> Option<Self> {
        let image = at.with_extension("empty");
        kind.make(&image, bytes, &[]);
        let current = std::fs::read(&image).unwrap();
        std::fs::remove_file(&image).unwrap();
        let state = State { durable: current.clone(), current, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), answers: Condvar::new() });
        let options = [MountOption::FSName("crashblk".to_owned())];
        match fuser::spawn_mount2(Server { shared: Arc::clone(&shared) }, at, &options) {
            Ok(session) => Some(Self { shared, at: at.to_owned(), session: Some(session) }),
            Err(error) => {
                skipped("fuse", &error.to_string());
                None
            }
        }
    }
    /// The file that stands for the device.
    pub(crate) fn file(&self) -> PathBuf {
        self.at.join(NAME)
    }
    /// Changes what goes wrong from now on.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
        self.shared.answers.notify_all();
    }
    /// When a flush or write was made to fail, if one was.
    pub(crate) fn failed_at(&self) -> Option<Instant> {
        self.state().failed_at
    }
    /// Ends all that goes on, as a power cut does.
    pub(crate) fn cut(&self, keep: Keep, rng: &mut Rng) {
        let mut state = self.state();
        state.is_off = true;
        state.faults = Faults::default();
        let State { durable, current, unflushed, .. } = &mut *state;
        let torn = rng.index(unflushed.len() + 1);
        for (index, (offset, bytes)) in unflushed.iter().enumerate() {
            let sectors = bytes.len().div_ceil(SECTOR_BYTES);
            let whole = match keep {
                Keep::Prefix if index == torn => rng.index(sectors + 1),
                Keep::Prefix if index > torn => 0,
                Keep::Nothing | Keep::Everything | Keep::Prefix | Keep::Random => sectors,
            };
            for (sector, part) in bytes.chunks(SECTOR_BYTES).enumerate() {
                let kept = match keep {
                    Keep::Nothing => false,
                    Keep::Everything => true,
                    Keep::Prefix => sector < whole,
                    Keep::Random => rng.one_in(2),
                };
                if kept {
                    let at = offset + sector * SECTOR_BYTES;
                    durable[at..at + part.len()].copy_from_slice(part);
                }
            }
        }
        unflushed.clear();
        // Also what a failed flush has lost.
        current.copy_from_slice(durable);
        drop(state);
        self.shared.answers.notify_all();
    }
    /// Power is back.
    pub(crate) fn turn_on(&self) {
        let mut state = self.state();
        state.is_off = false;
        state.failed_at = None;
        state.flush_failed_at = None;
    }
    /// Where `pattern` stands on the disk.
    pub(crate) fn find(&self, pattern: &[u8]) -> Vec<usize> {
        let state = self.state();
        // Values begin at any byte.
        let head = &pattern[..8];
        let starts = state.current.windows(head.len()).enumerate().filter(|(_, window)| *window == head);
        starts.map(|(at, _)| at).filter(|at| state.current[*at..].starts_with(pattern)).collect()
    }
    /// Writes what the disk holds to a file.
    pub(crate) fn save(&self, path: &Path) {
        let _ = std::fs::write(path, &self.state().current);
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }
}

impl Drop for CrashDisk {
    fn drop(&mut self) {
        // Whoever waits for an answer gets one, so that everything above can end.
        if let Ok(mut state) = self.shared.state.lock() {
            state.is_off = true;
            state.faults = Faults::default();
        }
        self.shared.answers.notify_all();
        drop(self.session.take());
    }
}

/// How long flushes go on failing after the first: those who had written before it ask within this time.
const FLUSHES_FAIL: Duration = Duration::from_millis(500);

/// What the kernel talks to.
struct Server {
    shared: Arc<Shared>,
}

impl Server {
    /// The state once the disk answers; an error while it is off.
    fn answering(&self) -> Result<MutexGuard<'_, State>, i32> {
        let state = self.shared.state.lock().unwrap();
        let state =
            self.shared.answers.wait_while(state, |state| state.faults.hung && !state.is_off).unwrap();
        if state.is_off { Err(libc::EIO) } else { Ok(state) }
    }
    /// The same for a write or flush, which a slow disk takes its time for.
    fn changing(&self) -> Result<MutexGuard<'_, State>, i32> {
        let delay = self.answering()?.faults.delay;
        thread::sleep(delay);
        self.answering()
    }
    fn write_sectors(&self, offset: usize, data: &[u8]) -> Result<(), i32> {
        let mut state = self.changing()?;
        if is_due(&mut state.faults.fail_write) {
            state.failed_at.get_or_insert(Instant::now());
            return Err(libc::EIO);
        }
        if state.faults.full {
            state.failed_at.get_or_insert(Instant::now());
            return Err(libc::ENOSPC);
        }
        let place = state.current.get_mut(offset..offset + data.len()).ok_or(libc::EIO)?;
        place.copy_from_slice(data);
        state.unflushed.push((offset, data.to_vec()));
        Ok(())
    }
    fn make_durable(&self) -> Result<(), i32> {
        let mut state = self.changing()?;
        let unflushed = std::mem::take(&mut state.unflushed);
        if is_due(&mut state.faults.fail_flush) {
            state.flush_failed_at = Some(Instant::now());
        }
        if state.flush_failed_at.is_some_and(|at| at.elapsed() < FLUSHES_FAIL) {
            state.failed_at.get_or_insert(Instant::now());
            return Err(libc::EIO);
        }
        for (offset, bytes) in unflushed {
            state.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
        Ok(())
    }
    fn attributes(&self, ino: u64) -> FileAttr {
        let is_disk = ino == DISK;
        let size = if is_disk { self.shared.state.lock().unwrap().current.len() as u64 } else { 0 };
        FileAttr {
            ino,
            size,
            blocks: size / SECTOR_BYTES as u64,
            atime: SystemTime::UNIX_EPOCH,
            mtime: SystemTime::UNIX_EPOCH,
            ctime: SystemTime::UNIX_EPOCH,
            crtime: SystemTime::UNIX_EPOCH,
            kind: if is_disk { FileType::RegularFile } else { FileType::Directory },
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

/// Counts down to a fault; true when it is due, once.
fn is_due(fault: &mut Option<u64>) -> bool {
    match fault {
        None => false,
        Some(0) => {
            *fault = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
    }
}

impl Filesystem for Server {
    fn lookup(&mut self, _: &Request<'_>, _: u64, name: &OsStr, reply: ReplyEntry) {
        if name == NAME { reply.entry(&TTL, &self.attributes(DISK), 0) } else { reply.error(libc::ENOENT) }
    }
    fn getattr(&mut self, _: &Request<'_>, ino: u64, _: Option<u64>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attributes(if ino == ROOT { ROOT } else { DISK }));
    }
    fn open(&mut self, _: &Request<'_>, _: u64, _: i32, reply: ReplyOpen) {
        reply.opened(0, FOPEN_DIRECT_IO);
    }
    fn read(
        &mut self,
        _: &Request<'_>,
        _: u64,
        _: u64,
        offset: i64,
        size: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyData,
    ) {
        let offset = usize::try_from(offset).unwrap();
        match self.answering() {
            Err(errno) => reply.error(errno),
            Ok(state) => {
                let end = (offset + size as usize).min(state.current.len());
                let is_bad = |bad: &Range<usize>| bad.start < end && offset < bad.end;
                if state.faults.bad.iter().any(is_bad) {
                    reply.error(libc::EIO);
                } else {
                    reply.data(state.current.get(offset..end).unwrap_or_default());
                }
            }
        }
    }
    fn write(
        &mut self,
        _: &Request<'_>,
        _: u64,
        _: u64,
        offset: i64,
        data: &[u8],
        _: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyWrite,
    ) {
        match self.write_sectors(usize::try_from(offset).unwrap(), data) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap()),
            Err(errno) => reply.error(errno),
        }
    }
    fn fsync(&mut self, _: &Request<'_>, _: u64, _: u64, _: bool, reply: ReplyEmpty) {
        match self.make_durable() {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }
    fn flush(&mut self, _: &Request<'_>, _: u64, _: u64, _: u64, reply: ReplyEmpty) {
        // Of a descriptor that closes, not of the disk.
        reply.ok();
    }
}
