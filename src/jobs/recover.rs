//! Recovery: what the log holds becomes tables.
//!
//! Every live segment of every stream is replayed into a memtable that is flushed whenever it is full, so memory stays
//! bounded however long the log is. Nothing of it counts before the manifest names the tables and retires the segments
//! in one frame: until then a crash leaves unnamed files, and the next open does the same again.
//!
//! A delete of many keys stands in each shard's stream with that shard's own seqno and means that shard's keys only: read
//! as a delete of all keys it would hide what other shards wrote later under lower seqnos. Its record says which keys
//! those were, since boundaries move while segments live. Records that do not are clipped to the boundaries that the
//! manifest names.

use super::error::OpenError;
use super::flush::TableJob;
use super::layout::Inventory;
use super::options::Progress;
use super::refill::Refill;
use super::table_files::FileSource;
use crate::encoding::Corruption;
use crate::io::Files;
use crate::model::{KeyRange, SegmentSeq, Seqno, StreamId};
use crate::storage::manifest::names::{manifest_path, segment_path};
use crate::storage::manifest::{SegmentEntry, State};
use crate::storage::version::Table;
use crate::storage::wal::{Record, ReplayInput, SegmentEnd, check_chain, replay_segment};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What an open did and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Whether the store was created by this open.
    pub created: bool,
    /// Segments that were replayed.
    pub segments: usize,
    /// Records in them.
    pub records: u64,
    /// Streams whose last write was cut off; it was never acknowledged as durable.
    pub torn_tails: u64,
    /// Bytes of those writes.
    pub torn_bytes: u64,
    /// Bytes of a manifest edit that was cut off.
    pub manifest_torn_bytes: u64,
    /// Tables that the records became.
    pub tables_written: usize,
    /// Files and directories that are not ours; left alone.
    pub foreign: Vec<PathBuf>,
    /// Files of ours that nobody named; removed.
    pub collected: Vec<PathBuf>,
}

/// What the log held.
pub(super) struct Recovered {
    pub(super) tables: Vec<Arc<Table>>,
    pub(super) seqno_max: Seqno,
}

/// A stretch of keys per stream, as the manifest's boundaries cut them.
pub(super) fn shard_keys(boundaries: &[Box<[u8]>], shard: usize) -> KeyRange {
    let start = shard.checked_sub(1).and_then(|before| boundaries.get(before)).cloned().unwrap_or_default();
    KeyRange { start, end: boundaries.get(shard).cloned() }
}

/// Replays all segments of `state` into tables.
pub(super) fn recover(
    job: &TableJob,
    state: &State,
    inventory: &Inventory,
    memory_bytes: usize,
    report: &mut RecoveryReport,
    progress: &dyn Fn(Progress),
) -> Result<Recovered, OpenError> {
    let mut refill = Refill::new(job, memory_bytes);
    let mut seqno_max = Seqno(0);
    for (stream, segments) in by_stream(state) {
        let keys = shard_keys(&state.boundaries, usize::from(stream.0));
        let mut chain = Vec::new();
        for (seq, entry) in segments {
            let input = check_segment(state, inventory, seq, entry)?;
            let end = replay(&mut refill, state, &input, &keys)?;
            check_former_life(&state.segments, &input, &end)?;
            seqno_max = seqno_max.max(end.seqnos.map_or(Seqno(0), |(_, max)| max));
            report.segments += 1;
            report.records += end.records;
            report.torn_tails += u64::from(end.torn_bytes > 0);
            report.torn_bytes += end.torn_bytes;
            progress(Progress::Replay {
                done: report.segments,
                total: state.segments.len(),
                records: report.records,
            });
            chain.push((input, end));
        }
        check_chain(&chain)?;
    }
    if !refill.is_flushed() {
        progress(Progress::Flush);
    }
    let tables = refill.finish()?;
    report.tables_written = tables.len();
    Ok(Recovered { tables, seqno_max })
}

/// Segments of each stream in the order they were written.
pub(super) fn by_stream(state: &State) -> BTreeMap<StreamId, Vec<(SegmentSeq, SegmentEntry)>> {
    let mut streams: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (&seq, &entry) in &state.segments {
        streams.entry(entry.stream).or_default().push((seq, entry));
    }
    streams
}

/// A listed segment must be there in full; its content is judged by the replay.
pub(super) fn check_segment(
    state: &State,
    inventory: &Inventory,
    seq: SegmentSeq,
    entry: SegmentEntry,
) -> Result<ReplayInput, OpenError> {
    let path = segment_path(seq);
    let manifest = manifest_path(inventory.manifests.last().copied().unwrap_or(0));
    let found = inventory.segments.get(&seq);
    inventory.require(&path, found.is_some(), &manifest)?;
    if usize::from(entry.stream.0) > state.boundaries.len() {
        let expected = format!("a stream below {}", state.boundaries.len() + 1);
        let found = format!("segment {:016x} of stream {}", seq.0, entry.stream.0);
        return Err(OpenError::Damaged(Corruption::new(manifest, 0, expected, found)));
    }
    if let Some(&found) = found.filter(|bytes| **bytes != entry.bytes) {
        let at = found.min(entry.bytes);
        let expected = format!("{} bytes in all", entry.bytes);
        return Err(OpenError::Damaged(Corruption::new(path, at, expected, found.to_string())));
    }
    Ok(ReplayInput { seq, stream: entry.stream, salt: entry.salt, bytes: entry.bytes, file: path })
}

/// Replays one segment that the manifest lists.
fn replay(
    refill: &mut Refill<'_>,
    state: &State,
    input: &ReplayInput,
    keys: &KeyRange,
) -> Result<SegmentEnd, OpenError> {
    let files: &dyn Files = refill.files();
    let file = files.open(&input.file).map_err(OpenError::io("opening", &input.file))?;
    // The pages may be in the kernel's memory only, left there by a process that was killed.
    files.sync(&file).map_err(OpenError::io("syncing", &input.file))?;
    let mut source = FileSource::new(files, file).map_err(OpenError::io("reading", &input.file))?;
    let mut visit = |seqno: Seqno, record: Record<'_>| refill.record(seqno, &record, keys);
    let end = replay_segment(state.store, input, &mut source, &mut visit);
    refill.outcome()?;
    Ok(end?)
}

/// A file is recycled only when its segment is retired: one that holds a segment which is still live is a copy that
/// was put in the place of this one.
pub(super) fn check_former_life(
    live: &BTreeMap<SegmentSeq, SegmentEntry>,
    input: &ReplayInput,
    end: &SegmentEnd,
) -> Result<(), OpenError> {
    let Some(former) = end.former_life.filter(|former| live.contains_key(former)) else {
        return Ok(());
    };
    let expected = format!("segment {:016x}", input.seq.0);
    let found = format!("a copy of segment {:016x}, which is in use", former.0);
    Err(OpenError::Damaged(Corruption::new(&input.file, 0, expected, found)))
}
