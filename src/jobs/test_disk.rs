//! A disk in memory for tests of jobs: it forgets what was not synced, fails or dies at a chosen call, and fills up.
//!
//! Stricter than a file system: data is durable only after `sync`, names (of directories too) only after `sync_dir`
//! of the directory they stand in; a crash keeps any subset of the rest.

use crate::io::{DirEntry, EntryKind, FileLock, Files};
use crate::model::FileRef;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

const SECTOR_BYTES: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(usize),
    Directory,
    Fifo,
}

#[derive(Clone, Default)]
struct Inode {
    data: Vec<u8>,
    synced: Vec<u8>,
    /// A sync has failed: the kernel may have dropped the pages, and later syncs succeed without them.
    dropped: bool,
}

#[derive(Clone, Default)]
struct World {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    calls: u64,
    die_at: Option<u64>,
    fail_at: Option<Range<u64>>,
    dead: bool,
    space: Option<u64>,
    locked: BTreeSet<PathBuf>,
    unix_ns: i64,
}

/// The disk; clones share it.
#[derive(Clone, Default)]
pub(crate) struct TestDisk {
    world: Arc<Mutex<World>>,
}

struct Lock(Arc<Mutex<World>>, PathBuf);
impl FileLock for Lock {}
impl Drop for Lock {
    fn drop(&mut self) {
        self.0.lock().expect("no test panics while it holds the disk").locked.remove(&self.1);
    }
}

impl TestDisk {
    pub(crate) fn files(&self) -> Arc<dyn Files> {
        Arc::new(self.clone())
    }
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test panics while it holds the disk")
    }
    /// Sets the wall clock.
    pub(crate) fn set_unix_ns(&self, unix_ns: i64) {
        self.world().unix_ns = unix_ns;
    }
    /// Calls that changed something so far.
    pub(crate) fn calls(&self) -> u64 {
        self.world().calls
    }
    /// Lets the machine die in the `count`-th changing call from now.
    pub(crate) fn die_after(&self, count: u64) {
        let mut world = self.world();
        world.die_at = Some(world.calls + count);
    }
    /// Lets the `count`-th changing call from now fail, and `width` in all. A write may leave a part of its bytes.
    pub(crate) fn fail_after(&self, count: u64, width: u64) {
        let mut world = self.world();
        let first = world.calls + count;
        world.fail_at = Some(first..first + width);
    }
    /// Whether the machine has died.
    pub(crate) fn is_dead(&self) -> bool {
        self.world().dead
    }
    /// Bytes that files may still grow by; `None` for no limit.
    pub(crate) fn set_space(&self, space: Option<u64>) {
        self.world().space = space;
    }
    /// What the disk holds after a power cut: what was synced, and of the rest what `seed` picks.
    pub(crate) fn after_crash(&self, seed: u64) -> Self {
        let world = self.world();
        let mut random = Random(seed);
        let mut next = World { inodes: world.inodes.clone(), ..World::default() };
        for inode in &mut next.inodes {
            inode.data = torn(inode, &mut random);
            inode.synced = inode.data.clone();
            inode.dropped = false;
        }
        let paths = world.names.keys().chain(world.durable_names.keys());
        for path in paths {
            let (old, new) = (world.durable_names.get(path), world.names.get(path));
            let kept = if old == new || random.next() & 1 == 0 { old } else { new };
            if let Some(&node) = kept {
                next.names.entry(path.clone()).or_insert(node);
            }
        }
        next.durable_names = next.names.clone();
        Self { world: Arc::new(Mutex::new(next)) }
    }
    /// A copy of everything, synced or not.
    pub(crate) fn copy(&self) -> Self {
        let mut world = self.world().clone();
        world.locked.clear();
        world.dead = false;
        (world.die_at, world.fail_at) = (None, None);
        Self { world: Arc::new(Mutex::new(world)) }
    }
    /// A file's bytes.
    pub(crate) fn content(&self, path: &Path) -> Vec<u8> {
        let world = self.world();
        let Some(&Node::File(index)) = world.names.get(path) else { panic!("no file {}", path.display()) };
        world.inodes[index].data.clone()
    }
    /// Changes a file behind everyone's back.
    pub(crate) fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut world = self.world();
        let Some(&Node::File(index)) = world.names.get(path) else { panic!("no file {}", path.display()) };
        change(&mut world.inodes[index].data);
        world.inodes[index].synced = world.inodes[index].data.clone();
    }
    /// Puts a file there behind everyone's back.
    pub(crate) fn plant(&self, path: impl AsRef<Path>, data: &[u8]) {
        let mut world = self.world();
        let node = Node::File(world.inodes.len());
        world.inodes.push(Inode { data: data.to_vec(), synced: data.to_vec(), dropped: false });
        world.names.insert(path.as_ref().to_owned(), node);
        world.durable_names.insert(path.as_ref().to_owned(), node);
    }
    /// Puts something there that is no regular file.
    pub(crate) fn plant_other(&self, path: impl AsRef<Path>, directory: bool) {
        let node = if directory { Node::Directory } else { Node::Fifo };
        self.world().names.insert(path.as_ref().to_owned(), node);
        self.world().durable_names.insert(path.as_ref().to_owned(), node);
    }
    /// Takes a name away behind everyone's back.
    pub(crate) fn steal(&self, path: impl AsRef<Path>) {
        self.world().names.remove(path.as_ref());
        self.world().durable_names.remove(path.as_ref());
    }
    /// All files.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let world = self.world();
        world
            .names
            .iter()
            .filter(|(_, node)| matches!(node, Node::File(_)))
            .map(|(path, _)| path.clone())
            .collect()
    }
}

fn torn(inode: &Inode, random: &mut Random) -> Vec<u8> {
    let mode = random.next() % 3;
    let length = if random.next() & 1 == 0 { inode.data.len() } else { inode.synced.len() };
    let mut kept = inode.synced.clone();
    kept.resize(length, 0);
    for (index, sector) in kept.chunks_mut(SECTOR_BYTES).enumerate() {
        let start = index * SECTOR_BYTES;
        let take = mode == 1 || (mode == 2 && random.next() & 1 == 0);
        if let Some(new) = inode.data.get(start..start + sector.len()).filter(|_| take) {
            sector.copy_from_slice(new);
        }
    }
    kept
}

/// splitmix64.
pub(crate) struct Random(pub(crate) u64);
impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

impl World {
    fn change(&mut self) -> io::Result<()> {
        self.alive()?;
        self.calls += 1;
        self.dead = self.die_at.is_some_and(|at| self.calls >= at);
        self.alive()?;
        let fails = self.fail_at.as_ref().is_some_and(|calls| calls.contains(&self.calls));
        if fails { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the machine is dead")) } else { Ok(()) }
    }
    fn inode(&mut self, file: &FileRef) -> &mut Inode {
        let index = usize::try_from(file.handle()).expect("handles come from this disk");
        &mut self.inodes[index]
    }
    fn open(&self, path: &Path) -> io::Result<FileRef> {
        match self.names.get(path) {
            Some(&Node::File(index)) => Ok(reference(index)),
            Some(_) => Err(io::ErrorKind::InvalidInput.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
    fn has_parent(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let there = parent.as_os_str().is_empty() || self.names.get(parent) == Some(&Node::Directory);
        if there { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

fn reference(index: usize) -> FileRef {
    FileRef::new(i32::try_from(index).expect("few files"), Arc::new(()))
}

impl Files for TestDisk {
    fn create(&self, path: &Path) -> io::Result<FileRef> {
        let mut world = self.world();
        world.change()?;
        world.has_parent(path)?;
        if world.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let index = world.inodes.len();
        world.inodes.push(Inode::default());
        world.names.insert(path.to_owned(), Node::File(index));
        Ok(reference(index))
    }
    fn open(&self, path: &Path) -> io::Result<FileRef> {
        self.world().alive()?;
        self.world().open(path)
    }
    fn open_for_wal(&self, path: &Path) -> io::Result<(FileRef, bool)> {
        Ok((self.open(path)?, false))
    }
    fn read_at(&self, file: &FileRef, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world();
        world.alive()?;
        let data = &world.inode(file).data;
        let rest = data.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
    fn write_at(&self, file: &FileRef, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world();
        let failed = world.change();
        world.alive()?;
        let buf = if failed.is_err() { &buf[..buf.len() / 2] } else { buf };
        let start = usize::try_from(offset).expect("small files");
        let grows = (start + buf.len()).saturating_sub(world.inode(file).data.len()) as u64;
        if let Some(space) = world.space {
            let Some(left) = space.checked_sub(grows) else {
                return Err(io::ErrorKind::StorageFull.into());
            };
            world.space = Some(left);
        }
        let data = &mut world.inode(file).data;
        data.resize(data.len().max(start + buf.len()), 0);
        data[start..start + buf.len()].copy_from_slice(buf);
        failed.map(|()| buf.len())
    }
    fn sync(&self, file: &FileRef) -> io::Result<()> {
        let mut world = self.world();
        let failed = world.change();
        world.alive()?;
        let inode = world.inode(file);
        inode.dropped |= failed.is_err();
        if !inode.dropped {
            inode.synced = inode.data.clone();
        }
        failed
    }
    fn file_bytes(&self, file: &FileRef) -> io::Result<u64> {
        let mut world = self.world();
        world.alive()?;
        Ok(world.inode(file).data.len() as u64)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        let node = world.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        world.names.insert(to.to_owned(), node);
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        let node = world.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        if let (Node::File(index), Some(space)) = (node, world.space) {
            world.space = Some(space + world.inodes[index].data.len() as u64);
        }
        Ok(())
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        let here = |name: &PathBuf| name.parent() == Some(path);
        let names: Vec<_> =
            world.names.iter().filter(|(name, _)| here(name)).map(|(a, b)| (a.clone(), *b)).collect();
        world.durable_names.retain(|name, _| !here(name));
        world.durable_names.extend(names);
        Ok(())
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let world = self.world();
        world.alive()?;
        if !path.as_os_str().is_empty() && world.names.get(path) != Some(&Node::Directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let entries =
            world.names.iter().filter(|(name, _)| name.parent() == Some(path)).map(|(name, node)| {
                let (kind, bytes) = match node {
                    Node::File(index) => (EntryKind::File, world.inodes[*index].data.len() as u64),
                    Node::Directory => (EntryKind::Directory, 0),
                    Node::Fifo => (EntryKind::Other, 0),
                };
                let name = name.file_name().expect("every name has one").to_string_lossy().into_owned();
                DirEntry { name, kind, bytes }
            });
        Ok(entries.collect())
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        match world.names.insert(path.to_owned(), Node::Directory) {
            None | Some(Node::Directory) => Ok(()),
            Some(other) => {
                world.names.insert(path.to_owned(), other);
                Err(io::ErrorKind::AlreadyExists.into())
            }
        }
    }
    fn lock(&self, path: &Path, content: &str) -> io::Result<Box<dyn FileLock>> {
        let mut world = self.world();
        world.change()?;
        if !world.locked.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let index = world.inodes.len();
        world.inodes.push(Inode { data: content.into(), ..Inode::default() });
        world.names.insert(path.to_owned(), Node::File(index));
        Ok(Box::new(Lock(Arc::clone(&self.world), path.to_owned())))
    }
    fn unix_ns(&self) -> i64 {
        self.world().unix_ns
    }
    fn bytes_free(&self) -> io::Result<u64> {
        Ok(self.world().space.unwrap_or(1 << 40))
    }
}
