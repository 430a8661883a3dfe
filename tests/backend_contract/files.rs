//! What jobs rely on at `Files`, on the operating system and on the simulated disk alike.

use std::io::ErrorKind::{AlreadyExists, InvalidInput, NotFound, UnexpectedEof, WouldBlock};
use std::path::Path;
use tskv::io::sim::SimWorld;
use tskv::io::{EntryKind, Files, OsFiles};

fn path(name: &str) -> &Path {
    Path::new(name)
}

fn names(files: &dyn Files, directory: &str) -> Vec<String> {
    files.list(path(directory)).unwrap().into_iter().map(|entry| entry.name).collect()
}

fn suite(files: &dyn Files) {
    files_hold_what_was_written(files);
    names_follow_creates_renames_and_removes(files);
    failures_have_the_same_kinds(files);
    one_holder_at_a_time_has_the_lock(files);
    wal_files_take_whole_pages(files);
}

fn files_hold_what_was_written(files: &dyn Files) {
    let file = files.create(path("data")).unwrap();
    files.write_all_at(&file, b"hello", 10_000).unwrap();
    files.write_all_at(&file, b"J", 10_000).unwrap();
    files.sync(&file).unwrap();
    assert_eq!(files.file_bytes(&file).unwrap(), 10_005);
    let mut buf = [9; 8];
    files.read_exact_at(&file, &mut buf, 9_997).unwrap();
    assert_eq!(&buf, b"\0\0\0Jello");
    assert_eq!(files.read_at(&file, &mut buf, 10_005).unwrap(), 0, "nothing after the end");
    assert_eq!(files.read_exact_at(&file, &mut buf, 10_000).unwrap_err().kind(), UnexpectedEof);
    let reader = files.open(path("data")).unwrap();
    assert!(files.write_at(&reader, b"x", 0).is_err(), "a file that was opened for reading");
    files.sync(&reader).unwrap();
    assert!(files.read_all(path("data"), 10_004).is_err() && files.read_all(path("data"), 10_005).is_ok());
    files.remove(path("data")).unwrap();
    files.read_exact_at(&reader, &mut buf, 9_997).unwrap();
    assert_eq!(&buf, b"\0\0\0Jello", "an open file outlives its name");
}

fn names_follow_creates_renames_and_removes(files: &dyn Files) {
    files.create_dir(path("names")).unwrap();
    files.create_dir(path("names")).unwrap();
    for name in ["names/b", "names/a", "names/c"] {
        files.write_all_at(&files.create(path(name)).unwrap(), name.as_bytes(), 0).unwrap();
    }
    files.create_dir(path("names/d")).unwrap();
    files.sync_dir(path("names")).unwrap();
    files.sync_dir(path("")).unwrap();
    files.rename(path("names/b"), path("names/a")).unwrap();
    files.remove(path("names/c")).unwrap();
    let entries = files.list(path("names")).unwrap();
    let found: Vec<_> = entries.iter().map(|it| (it.name.as_str(), it.kind, it.bytes)).collect();
    assert_eq!(found, [("a", EntryKind::File, 7), ("d", EntryKind::Directory, 0)]);
    assert_eq!(files.read_all(path("names/a"), 100).unwrap(), b"names/b");
    assert_eq!(names(files, ""), ["names"]);
}

fn failures_have_the_same_kinds(files: &dyn Files) {
    files.create(path("there")).unwrap();
    assert_eq!(files.create(path("there")).unwrap_err().kind(), AlreadyExists);
    assert_eq!(files.create(path("nowhere/x")).unwrap_err().kind(), NotFound);
    assert_eq!(files.open(path("missing")).unwrap_err().kind(), NotFound);
    assert_eq!(files.open_for_wal(path("missing")).unwrap_err().kind(), NotFound);
    assert_eq!(files.open(path("names")).unwrap_err().kind(), InvalidInput);
    assert_eq!(files.remove(path("missing")).unwrap_err().kind(), NotFound);
    assert_eq!(files.rename(path("missing"), path("x")).unwrap_err().kind(), NotFound);
    assert_eq!(files.list(path("missing")).unwrap_err().kind(), NotFound);
    assert_eq!(files.sync_dir(path("missing")).unwrap_err().kind(), NotFound);
    assert_eq!(files.create_dir(path("there")).unwrap_err().kind(), AlreadyExists);
    assert!(files.bytes_free().unwrap() > 0);
}

fn one_holder_at_a_time_has_the_lock(files: &dyn Files) {
    let lock = files.lock(path("LOCK"), "1\n").unwrap();
    assert_eq!(files.read_all(path("LOCK"), 100).unwrap(), b"1\n");
    let refused = files.lock(path("LOCK"), "2\n").err().map(|error| error.kind());
    assert_eq!(refused, Some(WouldBlock));
    assert_eq!(files.read_all(path("LOCK"), 100).unwrap(), b"1\n", "the refused one changed nothing");
    drop(lock);
    drop(files.lock(path("LOCK"), "3\n").unwrap());
    assert_eq!(files.read_all(path("LOCK"), 100).unwrap(), b"3\n");
}

fn wal_files_take_whole_pages(files: &dyn Files) {
    let made = files.create(path("segment")).unwrap();
    files.write_all_at(&made, &vec![0; 1 << 20], 0).unwrap();
    files.sync(&made).unwrap();
    let (wal, _direct) = files.open_for_wal(path("segment")).unwrap();
    assert_eq!(files.file_bytes(&wal).unwrap(), 1 << 20);
    files.sync(&wal).unwrap();
}

#[test]
fn the_machine_keeps_the_contract_of_files() {
    // Jobs would behave in one way under the simulator and in another in the daemon.
    let directory = tempfile::tempdir().unwrap();
    suite(&OsFiles::new(directory.path()).unwrap());
}

#[test]
fn the_simulated_disk_keeps_the_contract_of_files() {
    // As above.
    suite(&*SimWorld::from_seed(1).files());
}
