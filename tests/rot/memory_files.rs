//! A data directory in memory: forked for each case, so that a case costs what it changes.
//!
//! Names that stand for something else than a file behave as on the machine: they are listed as what they are, and
//! opening them fails.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use tskv::io::{DirEntry, EntryKind, FileLock, Files};
use tskv::model::FileRef;

type Content = Arc<Mutex<Arc<Vec<u8>>>>;

#[derive(Default)]
struct Tree {
    files: BTreeMap<PathBuf, Content>,
    directories: BTreeSet<PathBuf>,
    others: BTreeMap<PathBuf, EntryKind>,
    open: Vec<Content>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct MemoryFiles(Mutex<Tree>);

struct NoLock;
impl FileLock for NoLock {}

fn index_of(file: &FileRef) -> usize {
    usize::try_from(file.handle()).unwrap()
}

impl MemoryFiles {
    /// What lies below `root` on the machine.
    pub(crate) fn load(root: &Path) -> Self {
        let mut tree = Tree::default();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(root.join(&folder)).unwrap().map(Result::unwrap) {
                let path = folder.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    tree.directories.insert(path.clone());
                    folders.push(path);
                } else {
                    let bytes = std::fs::read(entry.path()).unwrap();
                    tree.files.insert(path, Arc::new(Mutex::new(Arc::new(bytes))));
                }
            }
        }
        Self(Mutex::new(tree))
    }
    /// A copy that shares all bytes until one of the two changes them.
    pub(crate) fn fork(&self) -> Self {
        let tree = self.tree();
        let share = |content: &Content| Arc::new(Mutex::new(Arc::clone(&content.lock().unwrap())));
        Self(Mutex::new(Tree {
            files: tree.files.iter().map(|(path, content)| (path.clone(), share(content))).collect(),
            directories: tree.directories.clone(),
            others: tree.others.clone(),
            open: Vec::new(),
        }))
    }
    /// All files.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.tree().files.keys().cloned().collect()
    }
    /// A file's bytes.
    pub(crate) fn content(&self, path: &Path) -> Arc<Vec<u8>> {
        Arc::clone(&self.tree().files[path].lock().unwrap())
    }
    /// Puts a file in place.
    pub(crate) fn put(&self, path: &Path, bytes: Vec<u8>) {
        self.tree().files.insert(path.to_owned(), Arc::new(Mutex::new(Arc::new(bytes))));
    }
    /// Takes a file away, or puts something in its place that is none.
    pub(crate) fn take(&self, path: &Path, instead: Option<EntryKind>) {
        let mut tree = self.tree();
        tree.files.remove(path);
        tree.others.extend(instead.map(|kind| (path.to_owned(), kind)));
    }
    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap()
    }
    fn find(&self, path: &Path) -> io::Result<FileRef> {
        let mut tree = self.tree();
        if tree.others.contains_key(path) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let content = tree.files.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        tree.open.push(content);
        Ok(FileRef::new(i32::try_from(tree.open.len() - 1).unwrap(), Arc::new(())))
    }
    fn opened(&self, file: &FileRef) -> Content {
        Arc::clone(&self.tree().open[index_of(file)])
    }
}

impl Files for MemoryFiles {
    fn create(&self, path: &Path) -> io::Result<FileRef> {
        {
            let mut tree = self.tree();
            if tree.files.contains_key(path) || tree.others.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            tree.files.insert(path.to_owned(), Content::default());
        }
        self.find(path)
    }
    fn open(&self, path: &Path) -> io::Result<FileRef> {
        self.find(path)
    }
    fn open_for_wal(&self, path: &Path) -> io::Result<(FileRef, bool)> {
        Ok((self.find(path)?, false))
    }
    fn read_at(&self, file: &FileRef, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.opened(file);
        let bytes = content.lock().unwrap();
        let start = usize::try_from(offset).unwrap().min(bytes.len());
        let count = buf.len().min(bytes.len() - start);
        buf[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }
    fn write_at(&self, file: &FileRef, buf: &[u8], offset: u64) -> io::Result<usize> {
        let content = self.opened(file);
        let mut shared = content.lock().unwrap();
        let bytes = Arc::make_mut(&mut shared);
        let start = usize::try_from(offset).unwrap();
        bytes.resize(bytes.len().max(start + buf.len()), 0);
        bytes[start..start + buf.len()].copy_from_slice(buf);
        Ok(buf.len())
    }
    fn sync(&self, _file: &FileRef) -> io::Result<()> {
        Ok(())
    }
    fn file_bytes(&self, file: &FileRef) -> io::Result<u64> {
        Ok(self.opened(file).lock().unwrap().len() as u64)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let content = tree.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        tree.files.insert(to.to_owned(), content);
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.tree().files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let tree = self.tree();
        if !path.as_os_str().is_empty() && !tree.directories.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let within = |found: &Path| found.parent() == Some(path);
        let name = |found: &Path| found.file_name().unwrap().to_str().unwrap().to_owned();
        let files = tree.files.iter().filter(|(found, _)| within(found)).map(|(found, content)| DirEntry {
            name: name(found),
            kind: EntryKind::File,
            bytes: content.lock().unwrap().len() as u64,
        });
        let folders = tree.directories.iter().filter(|found| within(found));
        let folders =
            folders.map(|found| DirEntry { name: name(found), kind: EntryKind::Directory, bytes: 0 });
        let others = tree.others.iter().filter(|(found, _)| within(found));
        let others = others.map(|(found, kind)| DirEntry { name: name(found), kind: *kind, bytes: 0 });
        let mut entries: Vec<_> = files.chain(folders).chain(others).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.tree().directories.insert(path.to_owned());
        Ok(())
    }
    fn lock(&self, path: &Path, content: &str) -> io::Result<Box<dyn FileLock>> {
        self.put(path, content.as_bytes().to_vec());
        Ok(Box::new(NoLock))
    }
    fn unix_ns(&self) -> i64 {
        0
    }
    fn bytes_free(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }
}
