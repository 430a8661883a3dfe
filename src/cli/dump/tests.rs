//! Files of a real store, printed in words.

use super::*;
use crate::cli::args::DataArgs;
use crate::cli::check;
use crate::jobs::{StoreOptions, open_store};
use crate::limits::PAGE_BYTES;
use crate::model::{
    DeleteScope, EntryOp, SegmentSeq, Seqno, Slot, StoreId, StreamId, TableId, TimeUnit, Value,
};
use crate::storage::sstable::{Effort, TableBuilder, TableOptions};
use crate::storage::wal::{Record, SegmentSpec, StreamOptions, StreamWriter, SyncPolicy, WalIo, WalOutcome};
use std::sync::Arc;

fn dumped(path: &Path) -> Result<String, CliError> {
    let (text, outcome) = dumped_all(path, None);
    outcome.map(|()| text)
}

/// What is printed, and how it ends.
fn dumped_all(path: &Path, limit: Option<u64>) -> (String, Result<(), CliError>) {
    let mut output = Vec::new();
    let outcome = dump(&DumpArgs { file: path.to_owned(), brief: false, limit }, &mut output);
    (String::from_utf8(output).unwrap(), outcome)
}

/// A data directory as a first start leaves it.
fn new_store() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let files: Arc<dyn Files> = Arc::new(OsFiles::new(directory.path()).unwrap());
    let options = StoreOptions { time_unit: Some(TimeUnit::Microseconds), ..StoreOptions::default() };
    drop(open_store(&files, &options, 1, &|_| {}).unwrap());
    directory
}
fn only_file(directory: &Path) -> PathBuf {
    let mut entries = std::fs::read_dir(directory).unwrap();
    entries.next().unwrap().unwrap().path()
}

#[test]
fn new_store_is_told_in_words_and_sound() {
    // The first thing an operator does with a store that will not open is to look into it.
    let store = new_store();
    let current = dumped(&store.path().join(CURRENT)).unwrap();
    assert!(current.starts_with("store ") && current.contains("manifest number"), "{current}");
    let manifest = dumped(&only_file(&store.path().join(MANIFEST_DIR))).unwrap();
    assert!(
        manifest.contains("in force") && manifest.contains("unit us") && manifest.contains("stream 0"),
        "{manifest}"
    );
    let segment = dumped(&only_file(&store.path().join(WAL_DIR))).unwrap();
    assert!(segment.contains("no header page"), "{segment}");
    check::run(&DataArgs { data: store.path().to_owned() }).unwrap();
}

#[test]
fn damage_makes_the_check_fail() {
    // A check that passes over damage is worse than none.
    let store = new_store();
    let manifest = only_file(&store.path().join(MANIFEST_DIR));
    let mut bytes = std::fs::read(&manifest).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    std::fs::write(&manifest, bytes).unwrap();
    let outcome = check::run(&DataArgs { data: store.path().to_owned() });
    assert!(matches!(outcome, Err(CliError::Damaged(_))), "{outcome:?}");
    let absent = check::run(&DataArgs { data: store.path().join("absent") });
    assert!(absent.is_err() && !store.path().join("absent").exists(), "a check creates nothing");
}

#[test]
fn open_store_is_left_alone() {
    // Reading what a daemon is changing shows damage that is none.
    let store = new_store();
    let files: Arc<dyn Files> = Arc::new(OsFiles::new(store.path()).unwrap());
    let _open = open_store(&files, &StoreOptions::default(), 1, &|_| {}).unwrap();
    for path in [store.path().join(CURRENT), only_file(&store.path().join(WAL_DIR))] {
        let error = dumped(&path).unwrap_err();
        assert!(format!("{error:?}").contains("a daemon has"), "{error:?}");
    }
}

#[test]
fn table_is_told_to_the_last_entry() {
    // An entry that the dump leaves out is looked for in the wrong place.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0000000000000007.sst");
    let options = TableOptions {
        store: StoreId([1; 16]),
        id: TableId(7),
        span: Some((0, 999)),
        level: 0,
        bloom_bits: 10,
        effort: Effort::Quick,
    };
    let mut builder = TableBuilder::new(options);
    let put = |number| EntryOp::Put(Value::F64(number));
    builder.add(b"a", Slot::Time(1), Seqno(5), put(1.5));
    builder.add(b"a", Slot::Time(2), Seqno(6), EntryOp::Delete);
    builder.add(b"b\n", Slot::Time(3), Seqno(7), EntryOp::Put(Value::Bytes(b"x\xff")));
    let mut bytes = builder.take_bytes();
    let (tail, _) = builder.finish();
    bytes.extend(tail);
    std::fs::write(&path, &bytes).unwrap();
    let text = dumped(&path).unwrap();
    for part in [
        "3 entries (1 point deletes)",
        "5 1 = f64 1.5",
        "6 2 deleted",
        "7 3 = 2 bytes 'x\\xff'",
        "'b\\n' samples",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(!directory.path().join(LOCK).exists(), "a lone file is dumped without a lock");
    // Without a footer the blocks are found all the same.
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let (text, outcome) = dumped_all(&path, None);
    assert!(matches!(outcome, Err(CliError::Damaged(_))), "damage is an error");
    for part in ["DAMAGED", "byte by byte", "5 1 = f64 1.5", "7 3 = 2 bytes"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let aside = directory.path().join("0000000000000007.sst.quarantine.2");
    bytes[10] ^= 1;
    std::fs::write(&aside, &bytes).unwrap();
    let (text, outcome) = dumped_all(&aside, None);
    assert!(matches!(outcome, Err(CliError::Damaged(_))), "damage is an error");
    for part in ["DAMAGED", "3 entries", "it held 'a' 1 to 'b\\n' 3"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

/// A segment of frames of one put each, and of a frame with a delete.
fn segment_of(directory: &Path, puts: u64) -> (PathBuf, Vec<u8>) {
    let path = directory.join("0000000000000003.wal");
    let bytes = 1 << 20;
    std::fs::write(&path, vec![0; bytes]).unwrap();
    let mut writer = StreamWriter::new(StreamOptions {
        store: StoreId([2; 16]),
        stream: StreamId(0),
        policy: SyncPolicy::Always,
        writes_in_flight: 1,
    });
    let file = OsFiles::new(directory).unwrap().open(Path::new("0000000000000003.wal")).unwrap();
    writer.add_ready(SegmentSpec { seq: SegmentSeq(3), salt: 9, bytes: bytes as u64, file, direct: false });
    let mut content = std::fs::read(&path).unwrap();
    for number in 1..=puts + 1 {
        let put = Record::Put { series: b"a", slot: Slot::Time(-5), value: Value::I64(7) };
        let delete = Record::Delete(DeleteScope::Prefix { prefix: b"a" });
        writer.append(Seqno(number), if number <= puts { &put } else { &delete });
        while let Some(io) = writer.next_io() {
            let id = match io {
                WalIo::Write { id, offset, bytes, .. } => {
                    let start = usize::try_from(offset).unwrap();
                    writer.encode(id, &mut content[start..start + bytes]);
                    writer.completed(id, WalOutcome::Written(bytes));
                    continue;
                }
                WalIo::Sync { id, .. } => id,
            };
            writer.completed(id, WalOutcome::Synced);
        }
    }
    std::fs::write(&path, &content).unwrap();
    (path, content)
}

#[test]
fn segment_is_told_record_by_record() {
    // The log is the only witness of a write whose table was never built.
    let directory = tempfile::tempdir().unwrap();
    let (path, _) = segment_of(directory.path(), 1);
    let text = dumped(&path).unwrap();
    for part in
        ["segment 0000000000000003 of stream 0", "1 put 'a' -5 = i64 7", "2 delete prefix 'a'", "2 records"]
    {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let (text, outcome) = dumped_all(&path, Some(1));
    assert!(outcome.is_ok() && text.contains("1 put") && !text.contains("2 delete"), "{text}");
    assert!(text.contains("the limit is reached"), "{text}");
}

#[test]
fn segment_is_read_on_behind_damage() {
    // What lies behind one bad page is what an operator wants to see before a repair sets it aside.
    let directory = tempfile::tempdir().unwrap();
    let (path, content) = segment_of(directory.path(), 12);
    for (offset, kept) in [(3 * PAGE_BYTES + 8, 11), (3 * PAGE_BYTES + 66, 11), (20, 12)] {
        let mut damaged = content.clone();
        damaged[offset] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let (text, outcome) = dumped_all(&path, None);
        assert!(matches!(outcome, Err(CliError::Damaged(_))), "{text}");
        assert_eq!(text.matches(" put 'a'").count(), kept, "offset {offset}\n{text}");
        assert!(text.contains("DAMAGED"), "{text}");
    }
}
