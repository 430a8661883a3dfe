//! A shard alone: a log whose writes complete when the test says so, and tables in memory.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test names what it expects")]

use super::aggregate::{EvaluationLimits, RangeEvaluation};
use super::operations::{CREDIT_NS_MAX, STALL_NS_MAX};
use super::*;
use crate::model::{
    Aggregation, Aggregator, BucketGrid, BucketTimestamp, ConnectionId, DeleteScope, DuplicatePolicy,
    EntryOp, FileRef, OperationId, RangeQuery, Reply, ScanAnswer, ScanRequest, SeriesOptions, Slot,
    SlotClass, StoreId, StoredEntry, StreamId, TableId, Value,
};
use crate::storage::sstable::{Effort, TableBuilder, TableIndex, TableOptions};
use crate::storage::version::Table;
use crate::storage::wal::{SegmentSpec, WalOutcome};
use std::path::Path;

mod series_retention;

const STORE: StoreId = StoreId([7; 16]);
const SECOND: u64 = 1_000_000_000;

/// What was asked of the world.
#[derive(Default)]
struct World {
    /// Operation, reply in words, gate.
    replies: Vec<(u64, String, Lsn)>,
    reads: Vec<(ReadId, TableId, usize)>,
    requests: Vec<ShardRequest>,
    /// Samples of all chunks of scans.
    rows: Vec<(Vec<u8>, i64, f64)>,
}

impl Effects for World {
    fn reply(&mut self, operation: OperationId, reply: Reply<'_>, gate: Lsn) {
        if let Reply::ScanChunk { entries, .. } = &reply {
            let row = |(series, slot, value): &(&[u8], Slot, Value<'_>)| {
                Some((series.to_vec(), slot.time_or_zero(), value.as_f64()?))
            };
            self.rows.extend(entries.iter().filter_map(row));
        }
        let text = match reply {
            Reply::Error(error) => format!("error: {error:?}"),
            Reply::Sample { time, value } => format!("{time}={value:?}"),
            Reply::Integer(number) => number.to_string(),
            Reply::ScanChunk { entries, last } => format!("{} entries, last {last}", entries.len()),
            other => format!("{other:?}"),
        };
        self.replies.push((operation.sequence, text, gate));
    }
    fn read_block(&mut self, read: ReadId, table: &Arc<Table>, block: usize) {
        self.reads.push((read, table.meta.id, block));
    }
    fn request(&mut self, request: ShardRequest) {
        self.requests.push(request);
    }
}

struct Rig {
    shard: Shard,
    world: World,
    now_ns: u64,
    sequence: u64,
    /// Writes and syncs under way; `Some` bytes for a write.
    log_io: Vec<(u64, Option<usize>)>,
    files: BTreeMap<TableId, (Arc<Table>, Vec<u8>)>,
    next_segment: u64,
}

fn operation(sequence: u64) -> OperationId {
    OperationId { connection: ConnectionId { core: 0, index: 0, generation: 0 }, sequence, part: 0 }
}

impl Rig {
    /// A shard with a memtable of so many bytes and one segment of so many pages.
    fn new(memtable_bytes: usize, pages: u64) -> Self {
        let stream = StreamOptions {
            store: STORE,
            stream: StreamId(0),
            policy: SyncPolicy::Always,
            writes_in_flight: 4,
        };
        let options = ShardOptions {
            keys: KeyRange::all(),
            stream,
            sync: SyncPolicy::Always,
            memtable_bytes,
            memtable_age_ns: 60 * SECOND,
            wal_segment_bytes: 1 << 20,
            cache_bytes: 0,
            seqno_start: Seqno(1000),
            series_rate_limit: None,
        };
        let mut rig = Self {
            shard: Shard::new(options, Arc::new(Version::default())),
            world: World::default(),
            now_ns: SECOND,
            sequence: 0,
            log_io: Vec::new(),
            files: BTreeMap::new(),
            next_segment: 1,
        };
        rig.add_segment(pages);
        rig
    }
    fn add_segment(&mut self, pages: u64) {
        let seq = SegmentSeq(self.next_segment);
        self.next_segment += 1;
        let file = FileRef::new(0, Arc::new(()));
        self.event(Event::SegmentReady(SegmentSpec {
            seq,
            salt: 1,
            bytes: pages * 4096,
            file,
            direct: true,
        }));
    }
    fn event(&mut self, event: Event<'_>) {
        self.shard.handle(self.now_ns, event, &mut self.world);
    }
    /// Starts a command and gives its number.
    fn start(&mut self, command: &Command<'_>) -> u64 {
        self.sequence += 1;
        let operation = operation(self.sequence);
        self.event(Event::Execute { operation, command, reply_bytes_max: 1 << 20 });
        self.sequence
    }
    /// Submits what the log wants written.
    fn submit_log(&mut self) {
        while let Some(io) = self.shard.next_wal_io() {
            match io {
                WalIo::Write { id, bytes, .. } => {
                    self.shard.encode_wal(id, &mut vec![0; bytes]);
                    self.log_io.push((id, Some(bytes)));
                }
                WalIo::Sync { id, .. } => self.log_io.push((id, None)),
            }
        }
    }
    /// Completes log operations until there are none.
    fn settle_log(&mut self) {
        loop {
            self.submit_log();
            let under_way = std::mem::take(&mut self.log_io);
            if under_way.is_empty() {
                return;
            }
            for (id, bytes) in under_way {
                let outcome = bytes.map_or(WalOutcome::Synced, WalOutcome::Written);
                self.event(Event::WalDone { id, outcome });
            }
        }
    }
    /// Turns until nothing more happens by itself.
    fn settle(&mut self) {
        for _ in 0..100 {
            self.settle_log();
            while self.shard.has_slices() {
                self.event(Event::Slice);
            }
            self.event(Event::Maintain);
            self.finish_reads();
        }
    }
    /// Completes block reads, once.
    fn finish_reads(&mut self) {
        for (read, id, block) in std::mem::take(&mut self.world.reads) {
            let (table, file) = &self.files[&id];
            let handle = table.index.block(block);
            let from = usize::try_from(handle.offset).expect("small");
            let bytes = file[from..from + handle.bytes as usize].to_vec();
            self.event(Event::BlockRead { read, result: Ok(bytes) });
        }
    }
    /// Starts a command, lets everything happen, and gives its reply.
    fn run(&mut self, command: &Command<'_>) -> String {
        let sequence = self.start(command);
        self.settle();
        self.reply(sequence).expect("the command is answered")
    }
    fn reply(&self, sequence: u64) -> Option<String> {
        let mut own = self.world.replies.iter().filter(|reply| reply.0 == sequence);
        let reply = own.next().map(|(_, text, _)| text.clone());
        assert!(own.next().is_none(), "operation {sequence} was answered twice: {:?}", self.world.replies);
        reply
    }
    /// Makes a table of these entries visible.
    fn add_table(&mut self, series: &[u8], entries: &[(Slot, u64, Value<'_>)]) {
        let id = TableId(self.files.len() as u64 + 1);
        let samples = entries.iter().all(|(slot, _, _)| slot.class() == SlotClass::Time);
        let span = samples.then_some((i64::MIN, i64::MAX));
        let mut builder = TableBuilder::new(TableOptions {
            store: STORE,
            id,
            span,
            level: 0,
            bloom_bits: 10,
            effort: Effort::Quick,
        });
        for (slot, seqno, value) in entries {
            builder.add(series, *slot, Seqno(*seqno), EntryOp::Put(*value));
        }
        let mut file = builder.take_bytes();
        file.extend(builder.finish().0);
        let (index, meta) = TableIndex::load(Path::new("t"), STORE, &mut &*file).expect("a fresh table");
        let table = Arc::new(Table { meta, index, file: FileRef::new(0, Arc::new(())) });
        self.files.insert(id, (table, file));
        let version = self.version();
        self.event(Event::Version { version, flushed: Vec::new(), retired: Vec::new() });
    }
    fn version(&self) -> Arc<Version> {
        Arc::new(Version::new(self.files.values().map(|(table, _)| Arc::clone(table)).collect()))
    }
    fn flushes(&self) -> Vec<(u64, Vec<SegmentSeq>)> {
        let flush = |request: &ShardRequest| match request {
            ShardRequest::Flush { memtable, releases, .. } => Some((memtable.id(), releases.clone())),
            ShardRequest::Segment
            | ShardRequest::Frozen { .. }
            | ShardRequest::FreezeFailed { .. }
            | ShardRequest::Dispose(_)
            | ShardRequest::Horizon(_) => None,
        };
        self.world.requests.iter().filter_map(flush).collect()
    }
}

fn put(series: &[u8], time: i64, value: f64) -> Command<'_> {
    Command::Put { series, slot: Slot::Time(time), value: Value::F64(value) }
}
fn add(time: i64, value: f64, policy: Option<DuplicatePolicy>) -> Command<'static> {
    let create = Some(SeriesOptions::default());
    Command::SeriesAdd { key: b"k", time, value, on_duplicate: policy, create }
}
fn scan_all() -> Command<'static> {
    let (from, to) = (i64::MIN, i64::MAX);
    let keys = KeyRange::all();
    Command::Scan(ScanRequest {
        keys,
        from,
        to,
        all_slots: false,
        reverse: false,
        limit: u64::MAX,
        answer: ScanAnswer::Entries,
    })
}

#[test]
fn a_reply_depends_on_what_it_tells() {
    // A reply whose gate is too low promises a write that a crash takes back.
    let mut rig = Rig::new(1 << 20, 64);
    rig.start(&put(b"a", 1, 1.0));
    let write_gate = rig.world.replies[0].2;
    assert!(write_gate > rig.shard.acked());
    rig.start(&Command::GetAt { series: b"a", time: 1 });
    rig.start(&Command::GetAt { series: b"a", time: 9 });
    rig.start(&Command::GetAt { series: b"other", time: 1 });
    rig.start(&Command::StringGet { key: b"a" });
    let gates: Vec<_> = rig.world.replies.iter().map(|reply| reply.2).collect();
    assert_eq!(gates, [write_gate, write_gate, write_gate, Lsn(0), write_gate], "{:?}", rig.world.replies);
    // A delete of everything concerns every key.
    rig.start(&Command::Delete { scope: DeleteScope::All });
    rig.start(&Command::GetAt { series: b"other", time: 1 });
    assert_eq!(rig.world.replies[6].2, rig.world.replies[5].2);
    rig.settle_log();
    assert_eq!(rig.shard.acked(), rig.world.replies[6].2);
}

#[test]
fn a_read_sees_the_moment_at_which_it_began() {
    // A read that waits for a block must not mix later writes with earlier ones.
    let mut rig = Rig::new(1 << 20, 64);
    rig.add_table(b"a", &[(Slot::Time(1), 5, Value::F64(1.0)), (Slot::Time(2), 6, Value::F64(2.0))]);
    let read = rig.start(&Command::GetAt { series: b"a", time: 2 });
    assert_eq!((rig.world.reads.len(), rig.reply(read)), (1, None));
    // The write does not wait for the read, and the read does not see it.
    let write = rig.start(&put(b"a", 2, 9.0));
    assert_eq!(rig.reply(write).as_deref(), Some("Ok"));
    assert_eq!(rig.shard.horizon(), Seqno(999), "the open snapshot holds the horizon");
    rig.finish_reads();
    assert_eq!(rig.reply(read).as_deref(), Some("2=F64(2.0)"));
    assert_eq!(rig.run(&Command::GetAt { series: b"a", time: 2 }), "2=F64(9.0)");
    assert!(rig.shard.snapshots.is_empty() && rig.shard.parking.count() == 0);
}

#[test]
fn a_captured_memtable_outlives_freeze_and_flush() {
    // The flush takes the memtable away that a waiting read still needs.
    let mut rig = Rig::new(1 << 20, 64);
    rig.add_table(b"a", &[(Slot::Time(1), 5, Value::F64(1.0))]);
    rig.run(&put(b"a", 3, 3.0));
    let read = rig.start(&Command::SeriesInfo { key: b"a", details: false });
    rig.event(Event::FreezeNow { ticket: 1 });
    rig.event(Event::Maintain);
    rig.settle_log();
    rig.event(Event::Maintain);
    assert_eq!(rig.flushes().len(), 1);
    let id = rig.flushes()[0].0;
    let version = rig.version();
    rig.event(Event::Version { version, flushed: vec![id], retired: Vec::new() });
    rig.settle();
    let reply = rig.reply(read).expect("the read ends");
    assert!(reply.contains("total_samples: 2"), "{reply}");
}

#[test]
fn the_chunks_of_a_series_add_up_over_slices() {
    // TS.INFO DEBUG is read in slices: a chunk that is cut or counted twice where two of them meet is a wrong answer.
    let mut rig = Rig::new(4 << 20, 256);
    let count = 2 * crate::limits::SCAN_SLICE_ENTRIES as u64 + 100;
    let sample = |time| StoredEntry { series: b"a", slot: Slot::Time(time), value: Value::F64(1.0) };
    let times: Vec<_> = (0..i64::try_from(count).unwrap()).collect();
    for times in times.chunks(1000) {
        rig.run(&Command::PutBatch { entries: times.iter().map(|time| sample(*time)).collect() });
    }
    let read = rig.start(&Command::SeriesInfo { key: b"a", details: true });
    rig.settle();
    let reply = rig.reply(read).expect("the read ends");
    let figures = |name: &str| -> Vec<u64> {
        let digits =
            |text: &str| text.split(|c: char| !c.is_ascii_digit()).next().unwrap_or("").parse().unwrap();
        reply.split(&format!(" {name}: ")).skip(1).map(digits).collect()
    };
    let samples = figures("samples");
    assert_eq!((samples.len(), samples.iter().sum::<u64>()), (17, count), "{reply}");
    assert!(samples[..16].iter().all(|samples| *samples == 1024) && samples[16] == 100, "{reply}");
    // Of the series first, then of each chunk.
    let (first, last) = (figures("first_time"), figures("last_time"));
    assert_eq!(first.len(), 18);
    assert!(
        last.windows(2).skip(1).all(|pair| pair[1] == pair[0] + 1024 || pair[1] == count - 1),
        "{last:?}"
    );
}

#[test]
fn writes_to_a_held_series_keep_their_order() {
    // TS.ADD waits for a block; what comes later for the series must not overtake it, in any form.
    let mut rig = Rig::new(1 << 20, 64);
    rig.add_table(b"k", &[(Slot::Time(5), 5, Value::F64(5.0))]);
    let slow = rig.start(&add(5, 50.0, Some(DuplicatePolicy::Sum)));
    let entries = [(&b"x"[..], 1.0), (b"k", 7.0)];
    let entries =
        entries.map(|(series, value)| StoredEntry { series, slot: Slot::Time(5), value: Value::F64(value) });
    let batch = rig.start(&Command::PutBatch { entries: entries.to_vec() });
    let later = rig.start(&put(b"x", 5, 2.0));
    let free = rig.start(&Command::GetAt { series: b"k", time: 5 });
    assert!([slow, batch, later, free].iter().all(|sequence| rig.reply(*sequence).is_none()));
    rig.settle();
    let order: Vec<_> = rig.world.replies.iter().map(|reply| reply.0).collect();
    assert_eq!(order, [slow, batch, later, free]);
    assert_eq!(rig.reply(free).as_deref(), Some("5=F64(7.0)"));
    assert_eq!(rig.run(&Command::GetAt { series: b"x", time: 5 }), "5=F64(2.0)");
    assert_eq!(rig.shard.parking.count(), 0);
}

#[test]
fn range_deletes_and_scans_keep_their_place() {
    // A FLUSHALL that overtakes a waiting write brings it back from the dead; a scan before it must see it.
    let mut rig = Rig::new(1 << 20, 64);
    rig.add_table(b"k", &[(Slot::Time(5), 5, Value::F64(5.0))]);
    let slow = rig.start(&add(6, 6.0, None));
    let scan = rig.start(&scan_all());
    rig.event(Event::Credit { operation: operation(scan), chunks: 3 });
    let flushall = rig.start(&Command::Delete { scope: DeleteScope::All });
    let after = rig.start(&put(b"z", 1, 1.0));
    assert!(rig.world.replies.is_empty());
    rig.settle();
    assert_eq!(rig.reply(slow).as_deref(), Some("6"));
    assert_eq!(rig.reply(scan).as_deref(), Some("2 entries, last true"), "its credit came while it queued");
    assert_eq!((rig.reply(flushall), rig.reply(after)), (Some("Ok".into()), Some("Ok".into())));
    assert_eq!(rig.run(&Command::GetNewest { series: b"k" }), "NoSample");
    assert_eq!(rig.run(&Command::GetNewest { series: b"z" }), "1=F64(1.0)");
}

#[test]
fn a_scan_without_credit_ends_and_frees_what_it_held() {
    // A client that takes nothing would keep memtables and tables alive for ever.
    let mut rig = Rig::new(1 << 20, 64);
    rig.run(&put(b"a", 1, 1.0));
    let scan = rig.start(&scan_all());
    rig.settle();
    assert_eq!((rig.reply(scan), rig.shard.snapshots.len()), (None, 1));
    assert!(rig.shard.deadline_ns() <= rig.now_ns + CREDIT_NS_MAX);
    rig.now_ns += CREDIT_NS_MAX;
    rig.event(Event::Maintain);
    assert!(rig.reply(scan).is_some_and(|reply| reply.starts_with("error: Limit")));
    // Cancelled, it ends at once.
    let scan = rig.start(&scan_all());
    rig.settle();
    rig.event(Event::Cancel { operation: operation(scan) });
    assert_eq!(rig.reply(scan).as_deref(), Some("0 entries, last true"));
    assert!(rig.shard.snapshots.is_empty() && rig.shard.parking.count() == 0);
    // With credit, it goes on.
    let scan = rig.start(&scan_all());
    rig.settle();
    rig.event(Event::Credit { operation: operation(scan), chunks: 1 });
    rig.settle();
    assert_eq!(rig.reply(scan).as_deref(), Some("1 entries, last true"));
}

#[test]
fn writes_without_room_wait_in_order_and_then_are_refused() {
    // No segment is ready: a write must neither be lost nor wait for ever, and deletes go on for a while.
    let mut rig = Rig::new(1 << 20, 5);
    let value = vec![b'v'; 7000];
    let big = |series| Command::Put { series, slot: Slot::Timeless, value: Value::Bytes(&value) };
    assert_eq!(rig.run(&big(b"a")), "Ok");
    let first = rig.start(&big(b"b"));
    let second = rig.start(&put(b"c", 1, 1.0));
    rig.settle();
    assert_eq!((rig.reply(first), rig.reply(second)), (None, None), "the small one does not overtake");
    rig.add_segment(256);
    assert_eq!((rig.reply(first), rig.reply(second)), (Some("Ok".into()), Some("Ok".into())));
    let mut rig = Rig::new(1 << 20, 5);
    assert_eq!(rig.run(&big(b"a")), "Ok");
    let (first, behind) = (rig.start(&big(b"b")), rig.start(&big(b"b")));
    rig.now_ns = rig.shard.deadline_ns();
    assert_eq!(rig.now_ns, SECOND + STALL_NS_MAX);
    rig.event(Event::Maintain);
    assert_eq!(rig.reply(first).as_deref(), Some("error: Busy"));
    assert_eq!(rig.reply(behind), None, "its own time begins now");
    rig.event(Event::DiskFull(Shortage::Segment));
    assert_eq!(rig.reply(behind).as_deref(), Some("error: NoSpace"));
    assert_eq!(rig.shard.parking.count(), 0);
}

#[test]
fn writes_are_refused_while_the_disk_takes_no_segment_and_resume_with_the_next() {
    // A disk that turned read-only would be called too slow, after five seconds, for every write, for ever.
    let mut rig = Rig::new(1 << 20, 5);
    let value = vec![b'v'; 7000];
    let big = |series| Command::Put { series, slot: Slot::Timeless, value: Value::Bytes(&value) };
    assert_eq!(rig.run(&big(b"a")), "Ok");
    let waiting = rig.start(&big(b"b"));
    rig.event(Event::DiskFails(Shortage::Segment));
    assert_eq!(rig.reply(waiting).as_deref(), Some("error: DiskFails"));
    assert_eq!(rig.run(&big(b"b")), "error: DiskFails");
    rig.add_segment(256);
    assert_eq!(rig.run(&big(b"b")), "Ok");
}

#[test]
fn a_write_that_no_segment_can_hold_is_refused_at_once() {
    // It would stall all writers behind it for as long as it may wait.
    let mut rig = Rig::new(8 << 20, 256);
    let value = vec![0; 2 << 20];
    let reply = rig.run(&Command::StringSet {
        key: b"k",
        value: &value,
        condition: crate::model::SetCondition::Always,
        return_old: false,
    });
    assert!(reply.starts_with("error: Limit"), "{reply}");
    assert_eq!(rig.run(&put(b"a", 1, 1.0)), "Ok");
}

#[test]
fn a_flush_waits_for_the_log_and_takes_its_segments_along() {
    // Tables that run ahead of the log leave a hole; a segment that is never retired holds every delete back.
    let mut rig = Rig::new(1 << 20, 64);
    rig.start(&put(b"a", 1, 1.0));
    rig.event(Event::FreezeNow { ticket: 8 });
    rig.event(Event::Maintain);
    assert!(rig.flushes().is_empty(), "nothing is durable yet");
    rig.settle();
    let flushes = rig.flushes();
    assert_eq!(flushes.len(), 1);
    assert_eq!(flushes[0].1, [SegmentSeq(1)], "the closed segment goes with the flush");
    assert!(rig.world.requests.iter().any(|request| matches!(request, ShardRequest::Frozen { ticket: 8 })));
    assert_eq!(rig.shard.horizon(), Seqno(1000));
    let version = rig.version();
    rig.event(Event::Version { version, flushed: vec![flushes[0].0], retired: vec![SegmentSeq(1)] });
    assert_eq!(rig.shard.horizon(), Seqno(1001));
    assert_eq!(rig.shard.gauges().memtables_frozen, 0);
    // Its memory is given back elsewhere: that would hold up a turn by milliseconds.
    let disposed =
        rig.world.requests.iter().any(
            |request| matches!(request, ShardRequest::Dispose(memtable) if memtable.id() == flushes[0].0),
        );
    assert!(disposed, "the memtable was dropped on the core");
}

#[test]
fn an_idle_shard_lets_go_of_its_segment_by_age() {
    // All is durable when the age is reached: the seal is the only write left, and the flush must wait for it.
    let mut rig = Rig::new(1 << 20, 64);
    rig.run(&put(b"a", 1, 1.0));
    rig.now_ns += 61 * SECOND;
    rig.settle();
    assert_eq!(rig.flushes(), [(1, vec![SegmentSeq(1)])]);
}

#[test]
fn a_full_queue_of_memtables_neither_spins_nor_burns_segments() {
    // The flush fails for minutes: the core must sleep, and each turn must not close a segment.
    let mut rig = Rig::new(1, 200);
    for time in 0..5 {
        rig.start(&put(b"a", time, 1.0));
        rig.settle();
    }
    assert_eq!(rig.shard.memory.frozen.len(), MEMTABLES_FROZEN_MAX);
    assert!(!rig.shard.memory.active.is_empty());
    rig.now_ns += 100 * SECOND;
    rig.settle();
    assert!(rig.shard.deadline_ns() > rig.now_ns, "a deadline in the past is a busy loop");
    assert!(rig.shard.log.open_segment().is_some());
    // A freed place is used at once.
    let version = rig.version();
    rig.event(Event::Version { version, flushed: vec![1], retired: Vec::new() });
    rig.event(Event::Maintain);
    assert!(rig.shard.memory.active.is_empty());
}

#[test]
fn a_failed_log_refuses_writes_and_keeps_reading() {
    // After a failed write nothing may be acknowledged, and nothing may hang.
    let mut rig = Rig::new(1 << 20, 64);
    rig.run(&put(b"a", 1, 1.0));
    rig.run(&put(b"c", 1, 3.0));
    let lost = rig.start(&put(b"a", 2, 2.0));
    rig.submit_log();
    let (id, _) = rig.log_io.pop().expect("a write is under way");
    rig.event(Event::WalDone { id, outcome: WalOutcome::Failed });
    let gate = rig.world.replies.iter().find(|reply| reply.0 == lost).expect("it was answered").2;
    assert!(rig.shard.is_poisoned() && rig.shard.acked() < gate);
    assert_eq!(rig.run(&put(b"b", 1, 1.0)), "error: Poisoned");
    // What memory says of `a` depends on the write that was lost; `c` is durable.
    assert_eq!(rig.run(&Command::GetAt { series: b"a", time: 1 }), "error: Poisoned");
    assert_eq!(rig.run(&Command::GetAt { series: b"c", time: 1 }), "1=F64(3.0)");
    // Whoever waits for a flush is told that there will be none.
    rig.event(Event::FreezeNow { ticket: 5 });
    rig.event(Event::Maintain);
    assert!(
        rig.world.requests.iter().any(|request| matches!(request, ShardRequest::FreezeFailed { ticket: 5 }))
    );
    assert!(rig.flushes().is_empty());
}

#[test]
fn deletes_that_a_failed_log_has_lost_hide_nothing() {
    // One delete of a range that was under way when the log failed would keep the whole shard from being read for ever.
    let mut rig = Rig::new(1 << 20, 64);
    rig.run(&put(b"a", 1, 1.0));
    rig.run(&put(b"c", 1, 3.0));
    let kept = rig.start(&put(b"c", 2, 4.0));
    rig.submit_log();
    let lost = rig.start(&Command::Delete { scope: DeleteScope::Prefix { prefix: b"" } });
    rig.submit_log();
    let ids: Vec<_> = rig.log_io.drain(..).collect();
    let [(first, Some(bytes)), (second, _)] = ids[..] else { panic!("two writes are under way: {ids:?}") };
    rig.event(Event::WalDone { id: first, outcome: WalOutcome::Written(bytes) });
    rig.event(Event::WalDone { id: second, outcome: WalOutcome::Failed });
    let gate = |rig: &Rig, number| rig.world.replies.iter().find(|reply| reply.0 == number).unwrap().2;
    assert!(rig.shard.is_poisoned());
    assert!(gate(&rig, kept) <= rig.shard.acked() && gate(&rig, lost) > rig.shard.acked());
    // What was acknowledged is there, by whatever way it is read, and the replies may leave.
    assert_eq!(rig.run(&Command::GetAt { series: b"a", time: 1 }), "1=F64(1.0)");
    assert_eq!(rig.run(&Command::GetNewest { series: b"c" }), "2=F64(4.0)");
    assert_eq!(rig.run(&Command::KeyCount), "2");
    let keys = KeyRange::all();
    let scan = ScanRequest {
        keys,
        from: 0,
        to: 9,
        all_slots: false,
        reverse: false,
        limit: 10,
        answer: ScanAnswer::Entries,
    };
    let scanned = rig.start(&Command::Scan(scan));
    rig.event(Event::Credit { operation: operation(scanned), chunks: 4 });
    rig.settle();
    assert_eq!(rig.reply(scanned).as_deref(), Some("3 entries, last true"));
    assert!(gate(&rig, scanned) <= rig.shard.acked());
    assert_eq!(rig.run(&put(b"a", 5, 1.0)), "error: Poisoned");
    assert!(rig.shard.snapshots.is_empty());
}

#[test]
fn an_unreadable_block_fails_its_request_alone() {
    // A damaged table must not take the shard, or other requests, with it.
    let mut rig = Rig::new(1 << 20, 64);
    rig.add_table(b"a", &[(Slot::Time(1), 5, Value::F64(1.0))]);
    let (one, other) = (
        rig.start(&Command::GetAt { series: b"a", time: 1 }),
        rig.start(&Command::GetAt { series: b"a", time: 1 }),
    );
    assert_eq!(rig.world.reads.len(), 1, "one flight for one block");
    let (read, _, _) = rig.world.reads.remove(0);
    rig.event(Event::BlockRead { read, result: Err("gone".into()) });
    assert!([one, other].iter().all(|id| rig.reply(*id).is_some_and(|text| text.contains("gone"))));
    assert_eq!(rig.run(&Command::GetAt { series: b"a", time: 1 }), "1=F64(1.0)");
    assert!(rig.shard.snapshots.is_empty());
}

#[test]
fn ts_add_follows_its_policies_in_memory_and_in_tables() {
    // The same commands must do the same whether the old sample is in memory or in a table.
    for in_table in [false, true] {
        let mut rig = Rig::new(1 << 20, 64);
        if in_table {
            rig.add_table(
                b"k",
                &[(Slot::Time(10), 5, Value::F64(1.0)), (Slot::Time(20), 6, Value::F64(2.0))],
            );
        } else {
            assert_eq!(rig.run(&add(10, 1.0, None)), "10");
            assert_eq!(rig.run(&add(20, 2.0, None)), "20");
        }
        use DuplicatePolicy::{First, Last, Max, Min, Sum};
        assert_eq!(rig.run(&add(10, 5.0, None)), "error: DuplicateBlocked");
        let steps = [(First, 5.0, 1.0), (Last, 5.0, 5.0), (Min, 9.0, 5.0), (Max, 9.0, 9.0), (Sum, 1.5, 10.5)];
        for (policy, value, wanted) in steps {
            assert_eq!(rig.run(&add(10, value, Some(policy))), "10");
            let found = rig.run(&Command::GetAt { series: b"k", time: 10 });
            assert_eq!(found, format!("10=F64({wanted:?})"), "{policy:?}, in a table: {in_table}");
        }
        assert_eq!(rig.run(&Command::SeriesGet { key: b"k" }), "20=F64(2.0)");
        assert_eq!(rig.run(&Command::SeriesDelete { key: b"k", from: 15, to: 99 }), "1");
        assert_eq!(rig.run(&Command::SeriesGet { key: b"k" }), "10=F64(10.5)");
    }
}

#[test]
fn strings_and_series_exclude_each_other() {
    // A key has one type: SET replaces a series, TS.ADD refuses a string, DEL frees the name.
    let mut rig = Rig::new(1 << 20, 64);
    let set = |value| Command::StringSet {
        key: b"k",
        value,
        condition: crate::model::SetCondition::Always,
        return_old: false,
    };
    assert_eq!(rig.run(&add(1, 1.0, None)), "1");
    assert_eq!(rig.run(&Command::StringGet { key: b"k" }), "error: WrongType");
    assert_eq!(rig.run(&set(b"v")), "Ok");
    assert_eq!(rig.run(&Command::GetNewest { series: b"k" }), "NoSample");
    assert_eq!(rig.run(&add(2, 1.0, None)), "error: NotSeries");
    assert_eq!(rig.run(&Command::SeriesGet { key: b"k" }), "error: WrongType");
    assert_eq!(rig.run(&Command::KeyCount), "1");
    assert_eq!(rig.run(&Command::KeyDelete { key: b"k" }), "1");
    assert_eq!(rig.run(&Command::KeyDelete { key: b"k" }), "0");
    assert_eq!(rig.run(&Command::KeyType { key: b"k" }), "Kind(None)");
    assert_eq!(rig.run(&add(3, 1.0, None)), "3");
}

#[test]
fn closing_answers_everything() {
    // An operation that waits for room when the store closes would keep its client waiting.
    let mut rig = Rig::new(1 << 20, 5);
    let value = vec![b'v'; 7000];
    let big = Command::Put { series: b"a", slot: Slot::Timeless, value: Value::Bytes(&value) };
    assert_eq!(rig.run(&big), "Ok");
    let waiting = rig.start(&big);
    rig.event(Event::Close);
    assert_eq!(rig.reply(waiting).as_deref(), Some("error: ShuttingDown"));
    rig.settle();
    assert!(rig.shard.is_log_idle());
    assert_eq!(rig.run(&put(b"b", 1, 1.0)), "error: ShuttingDown");
}

/// What a scan answers with, all of it.
fn rows(rig: &mut Rig, request: ScanRequest) -> Vec<(Vec<u8>, i64, f64)> {
    rig.world.rows.clear();
    let scan = rig.start(&Command::Scan(request));
    rig.event(Event::Credit { operation: operation(scan), chunks: 64 });
    rig.settle();
    let last = rig.world.replies.iter().rev().find(|reply| reply.0 == scan);
    assert!(last.is_some_and(|reply| reply.1.ends_with("last true")), "{last:?}");
    std::mem::take(&mut rig.world.rows)
}

#[test]
fn buckets_of_a_scan_are_those_of_its_samples() {
    // A total that is computed near the data must be the one that a client would compute from all of it.
    let mut rig = Rig::new(1 << 20, 64);
    let value = |time: i64| Value::F64(((time * 7919) % 1000) as f64 / 8.0);
    let samples = |times: std::ops::Range<i64>, seqno: u64| -> Vec<_> {
        times.map(|time| (Slot::Time(time), seqno, value(time))).collect()
    };
    rig.add_table(b"a", &samples(0..9000, 5));
    rig.add_table(b"b", &samples(500..3000, 5));
    // Late data over a chunk in a table of its own, and in the memtable an overwrite, a new sample, a NaN, a delete.
    rig.add_table(b"a", &samples(2500..2510, 50));
    for (time, value) in [(100, -50.0), (9500, 1.0), (9501, f64::NAN)] {
        rig.run(&put(b"a", time, value));
    }
    rig.run(&Command::Delete { scope: DeleteScope::TimeRange { series: b"a", from: 6000, to: 6100 } });
    let plain = |reverse, answer| ScanRequest {
        keys: KeyRange::all(),
        from: 10,
        to: 9_800,
        all_slots: false,
        reverse,
        limit: u64::MAX,
        answer,
    };
    let entries = rows(&mut rig, plain(false, ScanAnswer::Entries));
    assert_eq!(entries.len(), 9000 - 10 - 101 + 2 + 2500);
    for (name, aggregator) in Aggregator::ALL {
        for width in [1, 700, 3000, i64::MAX] {
            let grid = BucketGrid { width, align: 0 };
            let expected: Vec<_> = [b"a", b"b"]
                .into_iter()
                .flat_map(|series| evaluated(&entries, series, aggregator, width))
                .collect();
            let answer = ScanAnswer::Buckets { aggregator, grid };
            for reverse in [false, true] {
                let mut found = rows(&mut rig, plain(reverse, answer));
                if reverse {
                    found.reverse();
                }
                assert_eq!(found.len(), expected.len(), "{name} by {width}, reverse {reverse}");
                for (found, expected) in found.iter().zip(&expected) {
                    assert_eq!((&found.0, found.1), (&expected.0, expected.1), "{name} by {width}");
                    // Additions in another order: some ulp of the largest sums, squares of thousands of samples.
                    let difference = (found.2 - expected.2).abs();
                    let near = 1e-6_f64.max(expected.2.abs() * 1e-9);
                    assert!(
                        difference <= near,
                        "{name} by {width}, reverse {reverse}: {found:?}, not {expected:?}"
                    );
                }
            }
            let limited = ScanRequest { limit: 3, ..plain(false, answer) };
            assert_eq!(rows(&mut rig, limited).len(), expected.len().min(3), "{name} by {width}");
        }
    }
    let newest = rows(&mut rig, plain(false, ScanAnswer::Newest));
    assert!(matches!(&newest[..], [(a, 9501, nan), (b, 2999, _)] if a == b"a" && b == b"b" && nan.is_nan()));
}

/// The buckets of a series as TS.RANGE makes them of these samples.
fn evaluated(
    entries: &[(Vec<u8>, i64, f64)],
    series: &[u8],
    aggregator: Aggregator,
    bucket: i64,
) -> Vec<(Vec<u8>, i64, f64)> {
    let own = || entries.iter().filter(|(other, _, _)| other == series);
    let aggregation = Aggregation {
        aggregators: vec![aggregator],
        bucket,
        align: 0,
        bucket_timestamp: BucketTimestamp::Start,
        empty: false,
    };
    let query = RangeQuery {
        from: i64::MIN,
        to: i64::MAX,
        reverse: false,
        filter_times: None,
        filter_values: None,
        count: None,
        aggregation: Some(aggregation),
    };
    let mut evaluation = RangeEvaluation::new(query, EvaluationLimits::default());
    let times: Vec<i64> = own().map(|(_, time, _)| *time).collect();
    let values: Vec<f64> = own().map(|(_, _, value)| *value).collect();
    evaluation.push(&times, &values).expect("few rows");
    evaluation.finish().expect("few rows");
    let rows = evaluation.times().iter().zip(evaluation.values());
    rows.map(|(time, value)| (series.to_vec(), *time, *value)).collect()
}

#[test]
fn buckets_of_byte_strings_are_refused() {
    // Text that counts as a zero, or as nothing, is a wrong total.
    let mut rig = Rig::new(1 << 20, 64);
    rig.run(&Command::Put { series: b"t", slot: Slot::Time(1), value: Value::Bytes(b"text") });
    let grid = BucketGrid { width: 10, align: 0 };
    let answer = ScanAnswer::Buckets { aggregator: Aggregator::Count, grid };
    let (from, to, limit) = (i64::MIN, i64::MAX, u64::MAX);
    let request =
        ScanRequest { keys: KeyRange::all(), from, to, all_slots: false, reverse: false, limit, answer };
    assert_eq!(rig.run(&Command::Scan(request)), "error: NotNumeric");
}
