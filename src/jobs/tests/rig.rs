//! A store with simple shards: each logs to a real stream, fills a real memtable and talks to a real coordinator. Jobs
//! run one at a time in the order that a seed picks.

use crate::io::{Files, Spawner};
use crate::jobs::test_disk::{Random, TestDisk};
use crate::jobs::{
    CheckSummary, Coordinator, CoordinatorLink, Finding, FlushRequest, OpenError, OpenedStore, ShardLink,
    StoreOptions, ToCoordinator, ToShard, check_store, open_store, read_block,
};
use crate::model::{
    DeleteScope, EntryOp, KeyRange, OwnedValue, SegmentSeq, Seqno, Slot, StoreId, StreamId, Value,
};
use crate::storage::columns::Columns;
use crate::storage::memtable::Memtable;
use crate::storage::range_delete::RangeDelete;
use crate::storage::retention::Cutoff;
use crate::storage::version::Version;
use crate::storage::wal::{Record, StreamOptions, StreamWriter, SyncPolicy, WalIo, WalOutcome, record_bytes};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

type Queue<T> = Arc<Mutex<VecDeque<T>>>;
pub(super) type Model = BTreeMap<(Vec<u8>, Slot), OwnedValue>;

/// What a client asks for.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Put(Vec<u8>, Slot, OwnedValue),
    DeleteSlot(Vec<u8>, Slot),
    DeleteTimes(Vec<u8>, i64, i64),
    DeleteSeries(Vec<u8>),
    DeletePrefix(Vec<u8>),
    DeleteAll,
}

impl Write {
    fn record(&self) -> Record<'_> {
        match self {
            Self::Put(series, slot, value) => Record::Put { series, slot: *slot, value: value.borrow() },
            Self::DeleteSlot(series, slot) => Record::DeleteSlot { series, slot: *slot },
            Self::DeleteTimes(series, from, to) => {
                Record::Delete(DeleteScope::TimeRange { series, from: *from, to: *to })
            }
            Self::DeleteSeries(series) => Record::Delete(DeleteScope::Series { series }),
            Self::DeletePrefix(prefix) => Record::Delete(DeleteScope::Prefix { prefix }),
            Self::DeleteAll => Record::Delete(DeleteScope::All),
        }
    }
    /// What it does to the keys of one shard.
    pub(super) fn apply(&self, model: &mut Model, keys: &KeyRange) {
        match self.record() {
            Record::Put { series, slot, value } if keys.contains(series) => {
                model.insert((series.to_vec(), slot), value.into_owned());
            }
            Record::DeleteSlot { series, slot } => drop(model.remove(&(series.to_vec(), slot))),
            Record::Delete(scope) => {
                let delete = RangeDelete::new(scope, Seqno::MAX);
                model.retain(|(series, slot), _| {
                    !(keys.contains(series) && delete.hides(series, *slot, Seqno(1)))
                });
            }
            Record::Put { .. } => {}
            Record::DeleteKeys { .. } => unreachable!("no change of this model is logged so"),
        }
    }
    /// The shards that it concerns.
    fn touches(&self, keys: &KeyRange) -> bool {
        match self {
            Self::Put(series, ..) | Self::DeleteSlot(series, _) => keys.contains(series),
            Self::DeleteTimes(series, ..) | Self::DeleteSeries(series) => keys.contains(series),
            Self::DeletePrefix(prefix) => keys.overlaps(&KeyRange::prefix(prefix)),
            Self::DeleteAll => true,
        }
    }
}

struct JobQueue(Queue<Box<dyn FnOnce() + Send>>);
impl Spawner for JobQueue {
    fn spawn(&self, _: &str, job: Box<dyn FnOnce() + Send>) {
        self.0.lock().unwrap().push_back(job);
    }
}
struct Inbox(Queue<ToCoordinator>);
impl CoordinatorLink for Inbox {
    fn send(&self, message: ToCoordinator) {
        self.0.lock().unwrap().push_back(message);
    }
}
struct Outbox(Queue<(u16, ToShard)>, usize);
impl ShardLink for Outbox {
    fn send(&self, shard: u16, message: ToShard) {
        self.0.lock().unwrap().push_back((shard, message));
    }
    fn shards(&self) -> usize {
        self.1
    }
}

pub(super) struct Shard {
    number: u16,
    keys: KeyRange,
    stream: StreamWriter,
    active: Memtable,
    frozen: Vec<(Arc<Memtable>, Vec<SegmentSeq>)>,
    next_seqno: u64,
    asked: usize,
    pub(super) segment_failures: usize,
    pub(super) flush_failures: usize,
}

/// See the module's header.
pub(super) struct Rig {
    pub(super) disk: TestDisk,
    files: Arc<dyn Files>,
    pub(super) opened: crate::jobs::RecoveryReport,
    _lock: Box<dyn crate::io::FileLock>,
    pub(super) coordinator: Coordinator,
    jobs: Queue<Box<dyn FnOnce() + Send>>,
    inbox: Queue<ToCoordinator>,
    outbox: Queue<(u16, ToShard)>,
    pub(super) shards: Vec<Shard>,
    pub(super) version: Arc<Version>,
    pub(super) random: Random,
    pub(super) now_ns: u64,
}

/// Whether to run the full counts: in a build without assertions, or when `TSKV_THOROUGH` is set.
pub(super) fn thorough() -> bool {
    !cfg!(debug_assertions) || std::env::var_os("TSKV_THOROUGH").is_some()
}

pub(super) fn small_options(shards: usize) -> StoreOptions {
    StoreOptions {
        shards,
        split_at: (shards == 2).then(|| vec![b"k5"[..].into()]),
        wal_segment_bytes: 1 << 20,
        wal_segment_bytes_first: 1 << 20,
        memtable_bytes: 24 << 10,
        table_bytes_target: 64 << 10,
        ballast_bytes: 64 << 10,
        entropy: *b"0123456789abcdef",
        ..StoreOptions::default()
    }
}

impl Rig {
    pub(super) fn open(disk: &TestDisk, options: StoreOptions, seed: u64) -> Result<Self, OpenError> {
        let rig = Self::open_files(disk.files(), options, seed)?;
        Ok(Self { disk: disk.clone(), ..rig })
    }

    /// On whatever files there are; `disk` is then nobody's.
    pub(super) fn open_files(
        files: Arc<dyn Files>,
        options: StoreOptions,
        seed: u64,
    ) -> Result<Self, OpenError> {
        let opened = open_store(&files, &options, 42, &|_| ())?;
        let OpenedStore {
            lock,
            store,
            version,
            boundaries,
            seqno_start,
            segments,
            recovery,
            seed: state,
            ..
        } = opened;
        let (jobs, inbox, outbox): (Queue<_>, Queue<_>, Queue<_>) = Default::default();
        let coordinator = Coordinator::new(
            state,
            Arc::new(JobQueue(Arc::clone(&jobs))),
            Arc::new(Outbox(Arc::clone(&outbox), options.shards)),
            Arc::new(Inbox(Arc::clone(&inbox))),
        );
        let shards = segments.into_iter().enumerate().map(|(index, segment)| {
            let mut stream = stream_of(store, index);
            stream.add_ready(segment);
            Shard {
                number: index as u16,
                keys: crate::jobs::recover::shard_keys(&boundaries, index),
                stream,
                active: Memtable::new(1),
                frozen: Vec::new(),
                next_seqno: seqno_start.0,
                asked: 0,
                segment_failures: 0,
                flush_failures: 0,
            }
        });
        let shards = shards.collect();
        let (disk, random) = (TestDisk::default(), Random(seed));
        Ok(Self {
            disk,
            files,
            opened: recovery,
            _lock: lock,
            coordinator,
            jobs,
            inbox,
            outbox,
            shards,
            version,
            random,
            now_ns: 0,
        })
    }

    /// Logs a write durably and puts it into the memtable, on every shard that it concerns. `Err` when the machine
    /// died: some shards may have it.
    pub(super) fn write(&mut self, write: &Write) -> Result<(), WriteEnd> {
        for index in 0..self.shards.len() {
            if self.shards[index].keys.is_empty() || !write.touches(&self.shards[index].keys) {
                continue;
            }
            let record = write.record();
            for attempt in 0.. {
                let shard = &mut self.shards[index];
                shard.ask_for_segments(&self.inbox);
                if shard.stream.admits(record_bytes(&record), false) {
                    break;
                }
                if attempt == 3 {
                    return Err(WriteEnd::Refused);
                }
                self.settle();
                self.now_ns += 1_000_000_000;
            }
            self.shards[index].write(&*self.files, &record)?;
        }
        Ok(())
    }

    /// Freezes a shard's memtable and asks for its flush.
    pub(super) fn freeze(&mut self, shard: usize) {
        let release = self.random.next();
        self.freeze_releasing(shard, release);
    }

    /// The same, giving up only segments whose bit is set.
    pub(super) fn freeze_releasing(&mut self, shard: usize, release: u64) {
        self.shards[shard].freeze(&*self.files, &self.inbox, release);
    }

    /// Runs one job, or delivers one message; false when there is nothing to do.
    pub(super) fn step(&mut self) -> bool {
        let waiting = [
            self.jobs.lock().unwrap().len(),
            self.inbox.lock().unwrap().len(),
            self.outbox.lock().unwrap().len(),
        ];
        let kinds: Vec<usize> = (0..3).filter(|kind| waiting[*kind] > 0).collect();
        if kinds.is_empty() {
            return false;
        }
        match kinds[self.random.below(kinds.len() as u64) as usize] {
            0 => {
                let index = self.random.below(waiting[0] as u64) as usize;
                let job = self.jobs.lock().unwrap().remove(index).unwrap();
                job();
            }
            1 => {
                let message = self.inbox.lock().unwrap().pop_front();
                self.coordinator.handle(self.now_ns, message);
            }
            _ => {
                let (shard, message) = self.outbox.lock().unwrap().pop_front().unwrap();
                self.deliver(usize::from(shard), message);
            }
        }
        true
    }

    /// Until nothing is left to do.
    pub(super) fn settle(&mut self) {
        self.coordinator.handle(self.now_ns, None);
        while self.step() {}
    }

    pub(super) fn send(&self, message: ToCoordinator) {
        self.inbox.lock().unwrap().push_back(message);
    }

    /// Sends a request that ends with a call, and works until nothing is left to do; how it ended, if it did.
    pub(super) fn request(
        &mut self,
        make: impl FnOnce(crate::jobs::Done) -> ToCoordinator,
    ) -> Option<Result<(), String>> {
        let ended = Arc::new(Mutex::new(None));
        let result = Arc::clone(&ended);
        let done = move |end: Result<(), crate::jobs::JobError>| {
            *result.lock().unwrap() = Some(end.map_err(|error| error.to_string()));
        };
        self.send(make(Box::new(done)));
        self.settle();
        ended.lock().unwrap().take()
    }

    fn deliver(&mut self, index: usize, message: ToShard) {
        let shard = &mut self.shards[index];
        match message {
            ToShard::Version { version, flushed, retired } => {
                shard.next_seqno = shard.next_seqno.max(version.seqno_max().0 + 1);
                shard.frozen.retain(|(memtable, _)| !flushed.contains(&memtable.id()));
                retired.into_iter().for_each(|seq| shard.stream.release(seq));
                shard.report_horizon(&self.inbox);
                self.version = version;
            }
            ToShard::SegmentReady(spec) => {
                shard.asked -= 1;
                shard.stream.add_ready(spec);
            }
            ToShard::SegmentFailed(_) => shard.segment_failures += 1,
            ToShard::FlushFailed { .. } => shard.flush_failures += 1,
            ToShard::FreezeNow { ticket } => {
                shard.freeze(&*self.files, &self.inbox, self.random.next());
                let shard = shard.number;
                self.send(ToCoordinator::Frozen { shard, ticket });
            }
            ToShard::ReportHorizon => shard.report_horizon(&self.inbox),
        }
    }

    /// Every shard says what could still come back from it.
    pub(super) fn report_horizons(&self) {
        self.shards.iter().for_each(|shard| shard.report_horizon(&self.inbox));
    }

    /// Everything visible, whatever the retention of its series: tables and memtables.
    pub(super) fn content(&self) -> Model {
        let mut memtables: Vec<&Memtable> = self.shards.iter().map(|shard| &shard.active).collect();
        memtables.extend(
            self.shards.iter().flat_map(|shard| shard.frozen.iter().map(|(memtable, _)| &**memtable)),
        );
        visible(&*self.files, &self.version, &memtables)
    }

    pub(super) fn keys_of(&self, shard: usize) -> KeyRange {
        self.shards[shard].keys.clone()
    }
}

/// Why a write was not acknowledged.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WriteEnd {
    /// No segment: it took no seqno.
    Refused,
    /// The machine died meanwhile.
    Unknown,
}

impl Shard {
    fn ask_for_segments(&mut self, inbox: &Queue<ToCoordinator>) {
        if self.stream.wants_segment() && self.asked == 0 {
            self.asked += 1;
            inbox.lock().unwrap().push_back(ToCoordinator::NeedSegment { shard: self.number });
        }
    }

    fn write(&mut self, files: &dyn Files, record: &Record<'_>) -> Result<(), WriteEnd> {
        let seqno = Seqno(self.next_seqno);
        self.next_seqno += 1;
        let lsn = self.stream.append(seqno, record);
        match *record {
            Record::Put { series, slot, value } => {
                self.active.insert(series, slot, seqno, EntryOp::Put(value), lsn, false);
            }
            Record::DeleteSlot { series, slot } => {
                self.active.insert(series, slot, seqno, EntryOp::Delete, lsn, false);
            }
            Record::Delete(scope) => {
                if let Some(delete) = RangeDelete::new(scope, seqno).clip(&self.keys) {
                    self.active.delete_range(delete, lsn);
                }
            }
            Record::DeleteKeys { start, end } => {
                let keys = KeyRange { start: start.into(), end: end.map(Box::from) };
                self.active.delete_range(RangeDelete { keys, times: None, seqno }, lsn);
            }
        }
        self.drive(files);
        if self.stream.acked() >= lsn { Ok(()) } else { Err(WriteEnd::Unknown) }
    }

    fn drive(&mut self, files: &dyn Files) {
        while let Some(io) = self.stream.next_io() {
            let (id, outcome) = match io {
                WalIo::Write { id, file, offset, bytes, durable } => {
                    let mut page = vec![0; bytes];
                    self.stream.encode(id, &mut page);
                    let written = files.write_all_at(&file, &page, offset);
                    let synced = written.and_then(|()| if durable { files.sync(&file) } else { Ok(()) });
                    (id, synced.map_or(WalOutcome::Failed, |()| WalOutcome::Written(bytes)))
                }
                WalIo::Sync { id, file } => {
                    (id, files.sync(&file).map_or(WalOutcome::Failed, |()| WalOutcome::Synced))
                }
            };
            self.stream.completed(id, outcome);
        }
    }

    /// `release`: the bits say which of the segments that nobody needs are given up now; others come back when the
    /// machine dies, whatever has happened to the tables meanwhile.
    fn freeze(&mut self, files: &dyn Files, inbox: &Queue<ToCoordinator>, release: u64) {
        if self.active.is_empty() {
            return;
        }
        self.stream.rotate();
        self.drive(files);
        let pinned = |seq: &SegmentSeq| self.frozen.iter().any(|(_, segments)| segments.contains(seq));
        let lives: Vec<_> = self.stream.live_segments().collect();
        let releases: Vec<_> = lives
            .iter()
            .filter(|life| life.finished)
            .map(|life| life.seq)
            .filter(|seq| !pinned(seq) && release >> (seq.0 % 64) & 1 == 1)
            .collect();
        let id = self.active.id();
        let memtable = Arc::new(std::mem::replace(&mut self.active, Memtable::new(id + 1)));
        self.frozen.push((Arc::clone(&memtable), releases.clone()));
        let request = FlushRequest { shard: self.number, memtable, keys: self.keys.clone(), releases };
        inbox.lock().unwrap().push_back(ToCoordinator::Flush(request));
        self.report_horizon(inbox);
    }

    fn report_horizon(&self, inbox: &Queue<ToCoordinator>) {
        let memtables = self.frozen.iter().map(|(memtable, _)| &**memtable).chain([&self.active]);
        let lowest = memtables.filter_map(Memtable::seqno_min);
        let logged = self.stream.live_segments().filter_map(|life| life.first_seqno);
        let seqno = lowest.chain(logged).min().unwrap_or(Seqno::MAX).min(Seqno(self.next_seqno));
        inbox.lock().unwrap().push_back(ToCoordinator::Horizon { shard: self.number, seqno });
    }
}

fn stream_of(store: StoreId, index: usize) -> StreamWriter {
    StreamWriter::new(StreamOptions {
        store,
        stream: StreamId(index as u16),
        policy: SyncPolicy::Always,
        writes_in_flight: 1,
    })
}

/// Reads everything in the plainest way: no index, no filter, no merge.
fn visible(files: &dyn Files, version: &Version, memtables: &[&Memtable]) -> Model {
    let mut newest: BTreeMap<(Vec<u8>, Slot), (Seqno, Option<OwnedValue>)> = BTreeMap::new();
    let mut deletes: Vec<RangeDelete> = version.cutoffs().iter().map(Cutoff::as_delete).collect();
    let mut take = |series: &[u8], slot: Slot, seqno: Seqno, op: EntryOp<'_>| {
        let value = match op {
            EntryOp::Put(value) => Some(value.into_owned()),
            EntryOp::Delete => None,
        };
        let entry = newest.entry((series.to_vec(), slot)).or_insert((Seqno(0), None));
        if seqno >= entry.0 {
            *entry = (seqno, value);
        }
    };
    for table in version.tables() {
        let clipped = table.index.range_deletes().iter().filter_map(|delete| delete.clip(&table.meta.keys));
        deletes.extend(clipped);
        for index in 0..table.index.block_count() {
            let block = read_block(files, table, index).unwrap();
            for chunk in 0..block.chunk_count() {
                let header = block.chunk(chunk);
                let mut columns = Columns::default();
                block.decode_chunk(chunk, &mut columns).unwrap();
                for entry in (0..columns.len()).filter(|_| table.meta.keys.contains(header.series)) {
                    let slot = header.class.slot(columns.times()[entry]);
                    take(header.series, slot, columns.seqno(entry), columns.op(entry));
                }
            }
        }
    }
    for memtable in memtables {
        deletes.extend_from_slice(memtable.range_deletes());
        for piece in memtable.pieces(&KeyRange::all()) {
            for entry in piece.range {
                let slot = piece.class.slot(piece.columns.times()[entry]);
                take(piece.series, slot, piece.columns.seqno(entry), piece.columns.op(entry));
            }
        }
    }
    let shown = newest.into_iter().filter_map(|((series, slot), (seqno, value))| {
        let hidden = deletes.iter().any(|delete| delete.hides(&series, slot, seqno));
        value.filter(|_| !hidden).map(|value| ((series, slot), value))
    });
    shown.collect()
}

/// Verifies a store offline.
pub(super) fn check(disk: &TestDisk) -> Result<(CheckSummary, Vec<Finding>), OpenError> {
    check_files(&*disk.files())
}

/// See [`check`].
pub(super) fn check_files(files: &dyn Files) -> Result<(CheckSummary, Vec<Finding>), OpenError> {
    let mut findings = Vec::new();
    let summary = check_store(files, 7, &mut |finding| findings.push(finding))?;
    Ok((summary, findings))
}

/// A write that a seed picks, over a few keys and times so that they collide.
pub(super) fn random_write(random: &mut Random) -> Write {
    let series = format!("k{}", random.below(10)).into_bytes();
    let slot = match random.below(8) {
        0 => Slot::Timeless,
        1 => Slot::Metadata,
        _ => Slot::Time(random_time(random)),
    };
    match random.below(20) {
        0 => Write::DeleteSlot(series, slot),
        1 => {
            let from = random_time(random);
            Write::DeleteTimes(series, from, from.saturating_add(random.below(200_000_000) as i64))
        }
        2 => Write::DeleteSeries(series),
        3 if random.below(4) == 0 => Write::DeletePrefix(b"k".to_vec()),
        4 if random.below(8) == 0 => Write::DeleteAll,
        5 => Write::Put(series, slot, Value::I64(random.next() as i64).into_owned()),
        6 | 7 => Write::Put(series, slot, Value::Bytes(&vec![7; random.below(300) as usize]).into_owned()),
        _ => Write::Put(series, slot, Value::F64(random.below(100) as f64 / 7.0).into_owned()),
    }
}

fn random_time(random: &mut Random) -> i64 {
    match random.below(20) {
        0 => i64::MIN,
        1 => i64::MAX,
        2..8 => random.below(30) as i64 * 86_400_000,
        _ => random.below(50) as i64 * 1000,
    }
}
