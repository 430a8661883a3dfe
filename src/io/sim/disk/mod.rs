//! A disk that keeps only what it was told to keep.
//!
//! Stricter than ext4 on purpose (RELIABILITY G1):
//!
//! - File bytes ([`content`]): unsynced writes are lost, kept or torn per 512-byte sector, in any order, and the
//!   length is metadata of its own. Syncing a file says nothing about its name.
//! - Names ([`names`]): each directory change that was not followed by a sync of that directory is lost or kept. A
//!   later change of the same name carries the earlier ones with it; changes of other names do not.
//! - Directories only grow: there is no rmdir, and a rename stays within its directory (`EXDEV` otherwise).
//!
//! The disk knows no clock and no faults: [`super::SimWorld`] decides when an operation happens and whether it fails.
//! Invariants: every handle names a node that exists; a node without name and without handle exists only while a
//! power cut could bring its name back.

mod content;
mod names;
#[cfg(test)]
mod tests;

pub use content::SECTOR_BYTES;

use super::Rng;
use crate::io::{DirEntry, EntryKind, Errno};
use content::FileContent;
use names::Names;
use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::sync::Arc;

/// A file or directory, whatever its names are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NodeId(u64);

const ROOT: NodeId = NodeId(0);
/// What the kernel answers where a name leads nowhere.
const ENOENT: Errno = Errno(libc::ENOENT);

#[derive(Clone, Debug)]
enum NodeKind {
    File(FileContent),
    Directory,
    /// A symlink, fifo or device that someone put there.
    Other,
}

#[derive(Clone, Debug)]
struct Node {
    kind: NodeKind,
    /// Where it was last seen, for faults and traces.
    path: Arc<str>,
    handles: u32,
    locked: bool,
}

/// An open file, as a process holds it.
#[derive(Clone, Copy, Debug)]
struct Handle {
    node: NodeId,
    writable: bool,
    /// Offset and length of transfers must be multiples of this (`O_DIRECT`); 1 for buffered files.
    grain: usize,
    holds_lock: bool,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading and syncing.
    Read,
    /// For writes whose offset and length are multiples of this; 1 where the page cache is used.
    Write {
        /// Bytes.
        grain: usize,
    },
}

/// The whole disk. A clone is an image of it, cheap: pages are shared until they change.
#[derive(Clone, Debug)]
pub struct SimDisk {
    nodes: BTreeMap<NodeId, Node>,
    names: Names,
    handles: BTreeMap<i32, Handle>,
    handle_next: i32,
    node_next: u64,
    write_seq: u64,
    bytes_max: u64,
    cut_style: CutStyle,
}

/// How mean power cuts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutStyle {
    /// Each sector of a file may be lost or kept for itself; without it, whole writes are.
    pub tears_sectors: bool,
    /// Names that no sync of their directory covers may be lost.
    pub loses_names: bool,
}

impl SimDisk {
    /// An empty disk that holds `bytes_max` bytes of file content, counted in whole pages per file.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        let root = Node { kind: NodeKind::Directory, path: Arc::from(""), handles: 0, locked: false };
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            names: Names::new(),
            handles: BTreeMap::new(),
            handle_next: 1000,
            node_next: 1,
            write_seq: 0,
            bytes_max,
            cut_style: CutStyle { tears_sectors: true, loses_names: true },
        }
    }
    /// Changes the capacity; what is stored stays, even where it is more.
    pub fn set_bytes_max(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }
    /// Sets what later power cuts take; at first, everything that they can.
    pub fn set_cut_style(&mut self, style: CutStyle) {
        self.cut_style = style;
    }
    /// Bytes that still fit.
    #[must_use]
    pub fn bytes_free(&self) -> u64 {
        if self.bytes_max == u64::MAX {
            return self.bytes_max;
        }
        self.bytes_max.saturating_sub(self.bytes_used())
    }
    /// Bytes of files, in whole pages.
    #[must_use]
    pub fn bytes_used(&self) -> u64 {
        let used = self.nodes.iter().filter(|(id, node)| node.handles > 0 || self.names.is_visible(**id));
        used.map(|(_, node)| node.pages()).sum()
    }
    /// Sequence number of the last completed write. A sync that is submitted now covers writes up to it.
    #[must_use]
    pub fn write_seq(&self) -> u64 {
        self.write_seq
    }

    /// Creates an empty file and opens it for buffered reading and writing.
    ///
    /// # Errors
    /// `EEXIST`; `ENOENT` where the directory is missing; `EINVAL` for a path that leaves the root.
    pub fn create(&mut self, path: &Path) -> Result<i32, Errno> {
        let node = self.create_node(path, NodeKind::File(FileContent::default()))?;
        Ok(self.open_node(node, OpenMode::Write { grain: 1 }))
    }
    /// Opens an existing regular file.
    ///
    /// # Errors
    /// `ENOENT`; `EINVAL` where it is no regular file.
    pub fn open(&mut self, path: &Path, mode: OpenMode) -> Result<i32, Errno> {
        let node = self.resolve(path)?;
        let found = self.nodes.get_mut(&node).ok_or(ENOENT)?;
        if found.file().is_none() {
            return Err(Errno::EINVAL);
        }
        // A power cut may have undone a rename since the path was noted.
        found.path = text_of(path)?;
        Ok(self.open_node(node, mode))
    }
    /// Gives a handle back; unknown ones (of before a crash) are ignored.
    pub fn close(&mut self, handle: i32) {
        let Some(handle) = self.handles.remove(&handle) else { return };
        let Some(node) = self.nodes.get_mut(&handle.node) else { return };
        node.handles -= 1;
        node.locked &= !handle.holds_lock;
        if node.handles == 0 && !self.names.is_visible(handle.node) {
            self.forget_unreachable();
        }
    }
    /// Path under which the open file was last seen; empty for an unknown handle.
    #[must_use]
    pub fn path_of(&self, handle: i32) -> Arc<str> {
        let node = self.handles.get(&handle).and_then(|handle| self.nodes.get(&handle.node));
        node.map_or_else(|| Arc::from(""), |node| Arc::clone(&node.path))
    }
    /// The smallest transfer that the open file allows, in bytes.
    #[must_use]
    pub fn grain_of(&self, handle: i32) -> usize {
        self.handles.get(&handle).map_or(1, |handle| handle.grain)
    }
    /// Length of an open file in bytes.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn file_bytes(&self, handle: i32) -> Result<u64, Errno> {
        let handle = self.handles.get(&handle).ok_or(Errno::EBADF)?;
        self.nodes.get(&handle.node).and_then(Node::file).map(FileContent::bytes).ok_or(Errno::EBADF)
    }
    /// Reads what programs see; fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    /// `EBADF`; `EINVAL` for a transfer off the grain.
    pub fn read(&self, handle: i32, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let handle = self.handles.get(&handle).ok_or(Errno::EBADF)?;
        check_grain(*handle, offset, buf.len())?;
        let file = self.nodes.get(&handle.node).and_then(Node::file).ok_or(Errno::EBADF)?;
        Ok(file.read(offset, buf))
    }
    /// Completes a write, `durable` or not, and says how many bytes fitted.
    ///
    /// # Errors
    /// `EBADF`, also for a file opened for reading; `EINVAL` off the grain; `ENOSPC` where nothing fits.
    pub fn write(&mut self, handle: i32, offset: u64, data: &[u8], durable: bool) -> Result<usize, Errno> {
        let fitting = self.fitting_bytes(handle, offset, data.len())?;
        let seq = self.next_seq();
        let file = self.writable_file(handle, offset, data.len())?;
        if durable {
            file.write_durable(offset, &data[..fitting]);
        } else {
            file.write(seq, offset, &data[..fitting]);
        }
        Ok(fitting)
    }
    /// Leaves any part of a write that did not complete: cancelled, failed, or under way at a crash. With `dropped`
    /// no later sync brings it to the disk.
    pub fn write_part(&mut self, handle: i32, offset: u64, data: &[u8], dropped: bool, rng: &mut Rng) {
        let Ok(fitting) = self.fitting_bytes(handle, offset, data.len()) else { return };
        let seq = self.next_seq();
        let Ok(file) = self.writable_file(handle, offset, data.len()) else { return };
        if dropped {
            let part = fitting.min(SECTOR_BYTES * rng.index(fitting / SECTOR_BYTES + 2));
            file.write_dropped(seq, offset, &data[..part]);
        } else {
            file.tear(seq, offset, &data[..fitting], rng);
        }
    }
    /// Makes the writes up to sequence number `upto` durable.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn sync(&mut self, handle: i32, upto: u64) -> Result<(), Errno> {
        self.synced_file(handle)?.sync(upto);
        Ok(())
    }
    /// What a failing sync leaves behind: pages that reached the disk, pages that look clean and never will, and
    /// pages that are still dirty.
    pub fn sync_failed(&mut self, handle: i32, upto: u64, rng: &mut Rng) {
        if let Ok(file) = self.synced_file(handle) {
            file.sync_failed(upto, rng);
        }
    }
    /// Renames a file within its directory, replacing what bears the new name.
    ///
    /// # Errors
    /// `ENOENT`; `EXDEV` for another directory; `EISDIR` where a directory bears the new name.
    pub fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
        let (directory, old) = self.split(from)?;
        let (directory_to, new) = self.split(to)?;
        if directory != directory_to {
            return Err(Errno(libc::EXDEV));
        }
        let node = self.names.get(directory, old).ok_or(ENOENT)?;
        let replaced = self.names.get(directory, new).and_then(|node| self.nodes.get(&node));
        if replaced.is_some_and(|node| matches!(node.kind, NodeKind::Directory)) {
            return Err(Errno(libc::EISDIR));
        }
        self.names.rename(directory, old, new, node);
        if let Some(node) = self.nodes.get_mut(&node) {
            node.path = text_of(to)?;
        }
        self.forget_unreachable();
        Ok(())
    }
    /// Gives a file a second name.
    ///
    /// # Errors
    /// `ENOENT`; `EEXIST`; `EPERM` for a directory.
    pub fn link(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
        let (directory, old) = self.split(from)?;
        let node = self.names.get(directory, old).ok_or(ENOENT)?;
        if matches!(self.nodes.get(&node).map(|node| &node.kind), Some(NodeKind::Directory)) {
            return Err(Errno(libc::EPERM));
        }
        let (directory, new) = self.split(to)?;
        if self.names.get(directory, new).is_some() {
            return Err(Errno(libc::EEXIST));
        }
        self.names.link(directory, new, node);
        Ok(())
    }
    /// Removes a file's name.
    ///
    /// # Errors
    /// `ENOENT`; `EISDIR`.
    pub fn remove(&mut self, path: &Path) -> Result<(), Errno> {
        let (directory, name) = self.split(path)?;
        let node = self.names.get(directory, name).ok_or(ENOENT)?;
        if matches!(self.nodes.get(&node).map(|node| &node.kind), Some(NodeKind::Directory)) {
            return Err(Errno(libc::EISDIR));
        }
        self.names.unlink(directory, name);
        self.forget_unreachable();
        Ok(())
    }
    /// Makes the names in a directory durable; the directory's own name is its parent's business.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`.
    pub fn sync_dir(&mut self, path: &Path) -> Result<(), Errno> {
        let directory = self.resolve_directory(path)?;
        self.names.sync(directory);
        self.forget_unreachable();
        Ok(())
    }
    /// Names in a directory, sorted.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`.
    pub fn list(&self, path: &Path) -> Result<Vec<DirEntry>, Errno> {
        let directory = self.resolve_directory(path)?;
        let entries = self.names.entries(directory).filter_map(|(name, node)| {
            let (kind, bytes) = match &self.nodes.get(&node)?.kind {
                NodeKind::File(content) => (EntryKind::File, content.bytes()),
                NodeKind::Directory => (EntryKind::Directory, 0),
                NodeKind::Other => (EntryKind::Other, 0),
            };
            Some(DirEntry { name: name.to_owned(), kind, bytes })
        });
        Ok(entries.collect())
    }
    /// Creates a directory where it is missing.
    ///
    /// # Errors
    /// `EEXIST` where something else bears the name; `ENOENT` where the parent is missing.
    pub fn create_dir(&mut self, path: &Path) -> Result<(), Errno> {
        match self.create_node(path, NodeKind::Directory) {
            Ok(node) => {
                self.names.add_directory(node);
                Ok(())
            }
            Err(error) => self.resolve_directory(path).map(|_| ()).map_err(|_| error),
        }
    }
    /// Takes the lock on an open file; it ends when the handle is closed, and at a crash.
    ///
    /// # Errors
    /// `EAGAIN` when it is taken; `EBADF`.
    pub fn lock(&mut self, handle: i32) -> Result<(), Errno> {
        let handle = self.handles.get_mut(&handle).ok_or(Errno::EBADF)?;
        let node = self.nodes.get_mut(&handle.node).ok_or(Errno::EBADF)?;
        if std::mem::replace(&mut node.locked, true) {
            return Err(Errno::EAGAIN);
        }
        handle.holds_lock = true;
        Ok(())
    }
    /// Ends the process: handles and locks go, everything written stays as programs saw it.
    pub fn end_process(&mut self) {
        self.handles.clear();
        for node in self.nodes.values_mut() {
            node.handles = 0;
            node.locked = false;
        }
        self.forget_unreachable();
    }
    /// Goes back to an image: names and bytes are as they were, and every handle of since is unknown.
    pub fn restore(&mut self, image: &Self) {
        let (handle_next, write_seq) = (self.handle_next, self.write_seq);
        *self = image.clone();
        // Handles of before are closed late; their numbers must name nothing else by then.
        self.handle_next = handle_next;
        self.write_seq = write_seq;
    }
    /// Cuts the power: the disk becomes one of the images that the cut can leave, all of it durable, and every
    /// handle and lock is gone.
    pub fn crash(&mut self, rng: &mut Rng) {
        self.names.crash(self.cut_style.loses_names, rng);
        self.end_process();
        for node in self.nodes.values_mut() {
            if let NodeKind::File(content) = &mut node.kind {
                content.crash(self.cut_style.tears_sectors, rng);
            }
        }
    }

    /// Puts a file with durable name and content in place, directories included, replacing what was there.
    ///
    /// # Errors
    /// As [`SimDisk::create`].
    pub fn plant_file(&mut self, path: &Path, data: &[u8]) -> Result<(), Errno> {
        self.plant(path, NodeKind::File(FileContent::durable(data)))
    }
    /// Puts something that is neither file nor directory in place, as [`EntryKind::Other`].
    ///
    /// # Errors
    /// As [`SimDisk::create`].
    pub fn plant_other(&mut self, path: &Path) -> Result<(), Errno> {
        self.plant(path, NodeKind::Other)
    }
    /// Changes one bit of a file, on the disk and in what programs see.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn flip_bit(&mut self, path: &Path, offset: u64, bit: u8) -> Result<(), Errno> {
        let node = self.resolve(path)?;
        self.nodes.get_mut(&node).and_then(Node::file_mut).ok_or(ENOENT)?.flip_bit(offset, bit);
        Ok(())
    }
    /// A file's content as programs see it.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn content(&self, path: &Path) -> Result<Vec<u8>, Errno> {
        let node = self.resolve(path)?;
        let file = self.nodes.get(&node).and_then(Node::file).ok_or(ENOENT)?;
        let mut content = vec![0; usize::try_from(file.bytes()).map_err(|_| Errno::EFBIG)?];
        file.read(0, &mut content);
        Ok(content)
    }

    fn plant(&mut self, path: &Path, kind: NodeKind) -> Result<(), Errno> {
        let parents: Vec<_> = path.ancestors().skip(1).collect();
        for parent in parents.into_iter().rev().filter(|parent| !parent.as_os_str().is_empty()) {
            self.create_dir(parent)?;
            self.sync_dir(parent.parent().unwrap_or(Path::new("")))?;
        }
        let (directory, name) = self.split(path)?;
        if self.names.get(directory, name).is_some() {
            self.remove(path)?;
        }
        self.create_node(path, kind)?;
        self.names.sync(directory);
        Ok(())
    }
    fn create_node(&mut self, path: &Path, kind: NodeKind) -> Result<NodeId, Errno> {
        let (directory, name) = self.split(path)?;
        if self.names.get(directory, name).is_some() {
            return Err(Errno(libc::EEXIST));
        }
        let id = NodeId(self.node_next);
        self.node_next += 1;
        self.names.link(directory, name, id);
        self.nodes.insert(id, Node { kind, path: text_of(path)?, handles: 0, locked: false });
        Ok(id)
    }
    fn open_node(&mut self, id: NodeId, mode: OpenMode) -> i32 {
        let (writable, grain) = match mode {
            OpenMode::Read => (false, 1),
            OpenMode::Write { grain } => (true, grain),
        };
        let number = self.handle_next;
        self.handle_next += 1;
        self.handles.insert(number, Handle { node: id, writable, grain, holds_lock: false });
        if let Some(node) = self.nodes.get_mut(&id) {
            node.handles += 1;
        }
        number
    }
    fn next_seq(&mut self) -> u64 {
        self.write_seq += 1;
        self.write_seq
    }
    fn synced_file(&mut self, handle: i32) -> Result<&mut FileContent, Errno> {
        let handle = self.handles.get(&handle).ok_or(Errno::EBADF)?;
        self.nodes.get_mut(&handle.node).and_then(Node::file_mut).ok_or(Errno::EBADF)
    }
    fn writable_file(&mut self, handle: i32, offset: u64, len: usize) -> Result<&mut FileContent, Errno> {
        let opened = *self.handles.get(&handle).ok_or(Errno::EBADF)?;
        if !opened.writable {
            return Err(Errno::EBADF);
        }
        check_grain(opened, offset, len)?;
        self.synced_file(handle)
    }
    /// How much of a write at `offset` the disk has room for.
    fn fitting_bytes(&self, handle: i32, offset: u64, len: usize) -> Result<usize, Errno> {
        let bytes = self.file_bytes(handle)?;
        let free = self.bytes_free();
        if free == u64::MAX {
            return Ok(len);
        }
        let grain = self.grain_of(handle);
        let end_max = bytes.next_multiple_of(page_bytes()).saturating_add(free);
        let room = usize::try_from(end_max.saturating_sub(offset)).unwrap_or(usize::MAX);
        let fitting = len.min(room) / grain * grain;
        if fitting == 0 && len > 0 { Err(Errno::ENOSPC) } else { Ok(fitting) }
    }
    fn resolve(&self, path: &Path) -> Result<NodeId, Errno> {
        let mut node = ROOT;
        for component in path.components() {
            let Component::Normal(name) = component else { return Err(Errno::EINVAL) };
            let name = name.to_str().ok_or(Errno::EINVAL)?;
            node = self.names.get(node, name).ok_or(ENOENT)?;
        }
        Ok(node)
    }
    fn resolve_directory(&self, path: &Path) -> Result<NodeId, Errno> {
        let node = self.resolve(path)?;
        let is_directory = matches!(self.nodes.get(&node).map(|node| &node.kind), Some(NodeKind::Directory));
        if is_directory { Ok(node) } else { Err(Errno(libc::ENOTDIR)) }
    }
    fn split<'p>(&self, path: &'p Path) -> Result<(NodeId, &'p str), Errno> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(Errno::EINVAL)?;
        Ok((self.resolve_directory(path.parent().unwrap_or(Path::new("")))?, name))
    }
    /// Frees nodes that no name leads to, now or after a power cut, and no handle holds.
    fn forget_unreachable(&mut self) {
        let reachable = self.names.reachable();
        self.nodes.retain(|id, node| *id == ROOT || node.handles > 0 || reachable.contains(id));
        self.names.retain_directories(&reachable);
    }
}

impl Node {
    fn file(&self) -> Option<&FileContent> {
        if let NodeKind::File(content) = &self.kind { Some(content) } else { None }
    }
    fn file_mut(&mut self) -> Option<&mut FileContent> {
        if let NodeKind::File(content) = &mut self.kind { Some(content) } else { None }
    }
    /// Bytes that it takes from the capacity.
    fn pages(&self) -> u64 {
        self.file().map_or(0, |content| content.bytes().next_multiple_of(page_bytes()))
    }
}

const fn page_bytes() -> u64 {
    crate::limits::PAGE_BYTES as u64
}

fn check_grain(handle: Handle, offset: u64, len: usize) -> Result<(), Errno> {
    let aligned = offset.is_multiple_of(handle.grain as u64) && len.is_multiple_of(handle.grain);
    if aligned { Ok(()) } else { Err(Errno::EINVAL) }
}

fn text_of(path: &Path) -> Result<Arc<str>, Errno> {
    path.to_str().map(Arc::from).ok_or(Errno::EINVAL)
}
