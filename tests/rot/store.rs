//! The store that rots: written by a real daemon on two cores, killed with part of its data in tables and part in the
//! log, and known to the last value.

use crate::support::{Daemon, Reply, Resp, put_command};
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;
use tskv::io::Files;
use tskv::jobs::read_block;
use tskv::model::{EntryOp, OwnedValue, Seqno, Slot, SlotClass, Value};
use tskv::storage::columns::Columns;
use tskv::storage::range_delete::RangeDelete;
use tskv::storage::sstable::TableError;
use tskv::storage::version::Version;

/// Keys below this belong to the first shard.
pub(crate) const SPLIT: &str = "k";
/// What a store shows, without its metadata.
pub(crate) type Shown = BTreeMap<(Vec<u8>, Slot), OwnedValue>;

/// One acknowledged write.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Set(String, Vec<u8>),
    Add(String, i64, f64),
    Delete(String),
}

impl Write {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Set(key, _) | Self::Add(key, ..) | Self::Delete(key) => key,
        }
    }
    fn apply(&self, shown: &mut Shown) {
        match self {
            Self::Set(key, value) => {
                let value = Value::Bytes(value).into_owned();
                shown.insert((key.as_bytes().to_vec(), Slot::Timeless), value);
            }
            Self::Add(key, time, value) => {
                let value = Value::F64(*value).into_owned();
                shown.insert((key.as_bytes().to_vec(), Slot::Time(*time)), value);
            }
            Self::Delete(key) => shown.retain(|(found, _), _| found != key.as_bytes()),
        }
    }
    fn put_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Set(key, value) => put_command(out, &[b"SET", key.as_bytes(), value]),
            Self::Add(key, time, value) => {
                let (time, value) = (time.to_string(), value.to_string());
                put_command(out, &[b"TS.ADD", key.as_bytes(), time.as_bytes(), value.as_bytes()]);
            }
            Self::Delete(key) => put_command(out, &[b"DEL", key.as_bytes()]),
        }
    }
}

/// See the module.
pub(crate) struct Rotting {
    pub(crate) dir: TempDir,
    /// All writes, in the order in which they were acknowledged.
    pub(crate) writes: Vec<Write>,
    pub(crate) shown: Shown,
}

/// The flags of the daemon that writes the store.
pub(crate) const FLAGS: [&str; 8] =
    ["--cores", "2", "--split-at", SPLIT, "--wal-segment-bytes", "2MiB", "--log-level", "warn"];

impl Rotting {
    /// Makes the store (`now`), what it was a while before (`before`), and another one (`other`).
    pub(crate) fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Self { dir, writes: Vec::new(), shown: Shown::default() };
        let data = store.path("now");
        let other = Daemon::start(&store.path("other"), &FLAGS);
        other.ok(&["put", "k1", "1", "1"]);
        other.ok(&["flush"]);
        other.ok(&["put", "z1", "1", "1"]);
        other.kill();
        let daemon = Daemon::start(&data, &FLAGS);
        store.write(&daemon, (0..300).flat_map(|number| series(number % 20, number)), 100);
        daemon.ok(&["flush"]);
        store.write(&daemon, (300..400).flat_map(|number| series(number % 20, number)), 100);
        store.write(&daemon, (0..60).flat_map(string), 100);
        daemon.ok(&["compact"]);
        daemon.terminate();
        let daemon = Daemon::start(&data, &FLAGS);
        store.write(&daemon, (400..450).flat_map(|number| series(number % 20, number)), 10);
        store.write(&daemon, (0..6).map(|number| Write::Delete(format!("a-string-{number}"))), 2);
        daemon.ok(&["flush"]);
        store.write(&daemon, (60..80).flat_map(string), 5);
        copy(&data, &store.path("before"));
        store.write(&daemon, (80..90).flat_map(string), 5);
        // More than a segment, so that a stream has a closed one in its log.
        let large = |number: u32| Write::Set(format!("a-large-{number:03}"), vec![b'v'; 8 << 10]);
        store.write(&daemon, (0..150).map(large), 10);
        // One at a time: each is a frame of its own.
        store.write(&daemon, (90..96).flat_map(string), 1);
        daemon.kill();
        store
    }
    /// Whether this is the string of a key.
    pub(crate) fn holds(&self, key: &[u8], value: &[u8]) -> bool {
        let found = self.shown.get(&(key.to_vec(), Slot::Timeless));
        found.is_some_and(|found| *found == Value::Bytes(value).into_owned())
    }
    /// A directory beside the store.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
    /// Sends writes, so many in a pipeline, and waits until they are acknowledged.
    fn write(&mut self, daemon: &Daemon, writes: impl Iterator<Item = Write>, pipeline: usize) {
        let mut client = Resp::connect(&daemon.address()).unwrap();
        let writes: Vec<_> = writes.collect();
        for some in writes.chunks(pipeline) {
            let mut bytes = Vec::new();
            some.iter().for_each(|write| write.put_to(&mut bytes));
            client.send(&bytes).unwrap();
            for write in some {
                let reply = client.reply().unwrap();
                assert!(!matches!(reply, Reply::Error(_)), "{write:?}: {reply:?}");
                write.apply(&mut self.shown);
            }
        }
        self.writes.extend(writes);
    }
    /// How many writes of one shard are missing, if what that shard shows is what its first writes gave.
    fn lost(&self, found: &Shown, is_low: bool) -> Option<usize> {
        let is_of_shard = |key: &[u8]| (key < SPLIT.as_bytes()) == is_low;
        let found: Shown = found
            .iter()
            .filter(|((key, _), _)| is_of_shard(key))
            .map(|(at, value)| (at.clone(), value.clone()))
            .collect();
        let writes: Vec<_> = self.writes.iter().filter(|write| is_of_shard(write.key().as_bytes())).collect();
        let mut shown = Shown::default();
        let mut fewest = (shown == found).then_some(writes.len());
        for (count, write) in (1..).zip(&writes) {
            write.apply(&mut shown);
            if shown.len() == found.len() && shown == found {
                fewest = Some(writes.len() - count);
            }
        }
        fewest
    }
    /// How many acknowledged writes are missing, if what is there is, shard by shard, what the first writes gave.
    pub(crate) fn writes_lost(&self, found: &Shown) -> Option<usize> {
        Some(self.lost(found, true)? + self.lost(found, false)?)
    }
}

fn series(series: u32, number: u32) -> [Write; 2] {
    let (time, value) = (i64::from(number) * 1000, f64::from(number) / 7.0);
    ["b", "m"].map(|shard| Write::Add(format!("{shard}-series-{series}"), time, value))
}

fn string(number: u32) -> [Write; 2] {
    ["a", "z"]
        .map(|shard| Write::Set(format!("{shard}-string-{number}"), format!("value {number}").into_bytes()))
}

/// Copies a directory as it is.
pub(crate) fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// Reads everything in the plainest way: no index, no filter, no merge.
pub(crate) fn shown(files: &dyn Files, version: &Version) -> Result<Shown, TableError> {
    let mut newest: BTreeMap<(Vec<u8>, Slot), (Seqno, Option<OwnedValue>)> = BTreeMap::new();
    let mut deletes: Vec<RangeDelete> = Vec::new();
    for table in version.tables() {
        let clipped = table.index.range_deletes().iter().filter_map(|delete| delete.clip(&table.meta.keys));
        deletes.extend(clipped);
        for index in 0..table.index.block_count() {
            let block = read_block(files, table, index)?;
            for chunk in 0..block.chunk_count() {
                let header = block.chunk(chunk);
                let mut columns = Columns::default();
                block.decode_chunk(chunk, &mut columns)?;
                if header.class == SlotClass::Metadata || !table.meta.keys.contains(header.series) {
                    continue;
                }
                for entry in 0..columns.len() {
                    let slot = header.class.slot(columns.times()[entry]);
                    let value = match columns.op(entry) {
                        EntryOp::Put(value) => Some(value.into_owned()),
                        EntryOp::Delete => None,
                    };
                    let known = newest.entry((header.series.to_vec(), slot)).or_insert((Seqno(0), None));
                    if columns.seqno(entry) >= known.0 {
                        *known = (columns.seqno(entry), value);
                    }
                }
            }
        }
    }
    let is_hidden = |series: &[u8], slot: Slot, seqno: Seqno| {
        deletes.iter().any(|delete| delete.hides(series, slot, seqno))
    };
    let shown = newest.into_iter().filter_map(|((series, slot), (seqno, value))| {
        let value = value.filter(|_| !is_hidden(&series, slot, seqno))?;
        Some(((series, slot), value))
    });
    Ok(shown.collect())
}
