//! Opens a store, or makes one.
//!
//! ```text
//! lock → list → CURRENT → manifest → tables (each synced) → replay the log into tables → boundaries
//!      → one small segment per stream → a new manifest that says all of it
//! ```
//! The last step is the only one that changes the store, and it is atomic. Everything before it only adds files that
//! nobody names; an open that is interrupted is repeated by the next.
//!
//! A manifest that was read is never appended to: the tail of its file may be torn. Every open ends with a new one.

use super::boundaries::{Weight, choose};
use super::checkpoint::clear_unfinished;
use super::error::{JobError, OpenError};
use super::flush::{SpanRule, TableJob};
use super::layout::{Inventory, create_directories, sync_directories};
use super::manifest_log::ManifestLog;
use super::options::{Progress, Salts, StoreOptions};
use super::recover::{RecoveryReport, recover};
use super::segment_files::make_segment;
use super::table_files::{FileSource, open_table, read_block};
use crate::encoding::Corruption;
use crate::io::{FileLock, Files};
use crate::limits::{CORES_MAX, PAGE_BYTES, WAL_SEGMENT_BYTES_FLOOR, WAL_SEGMENT_BYTES_MAX};
use crate::model::{SegmentSeq, Seqno, StoreId, StreamId, TableId, TimeUnit};
use crate::storage::byte_source::ByteSource;
use crate::storage::manifest::log::MANIFEST_BYTES_MAX;
use crate::storage::manifest::names::{BALLAST, CURRENT, LOCK, manifest_path, segment_path, table_path};
use crate::storage::manifest::state::check_boundaries;
use crate::storage::manifest::{Current, Edit, Replayed, SegmentEntry, State, replay};
use crate::storage::retention::Retention;
use crate::storage::sstable::read_owner;
use crate::storage::version::{Table, Version};
use crate::storage::wal::{SegmentHeader, SegmentSpec};
use crate::teeth::{Bug, planted};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Longest `CURRENT` that is read; a sound one is far shorter.
const CURRENT_BYTES_MAX: u64 = 4096;
/// Below this many blocks per shard, boundaries are computed from the chunks in them instead of from their first keys.
const BLOCKS_PER_SHARD_COARSE: usize = 64;
/// Keys that boundaries are computed from, at most.
const WEIGHTS_MAX: usize = 1 << 16;

/// A store that is open: everything in its log is in its tables, and nobody else can open it.
pub struct OpenedStore {
    /// Held until dropped; drop it last.
    pub lock: Box<dyn FileLock>,
    /// Its identity.
    pub store: StoreId,
    /// Its time unit.
    pub unit: TimeUnit,
    /// Its tables.
    pub version: Arc<Version>,
    /// Split points between shards; one fewer than shards.
    pub boundaries: Vec<Box<[u8]>>,
    /// The first seqno that a shard may give out.
    pub seqno_start: Seqno,
    /// One fresh segment per stream; element `i` is for shard `i`.
    pub segments: Vec<SegmentSpec>,
    /// What the open found and did.
    pub recovery: RecoveryReport,
    /// What the coordinator goes on from.
    pub seed: CoordinatorSeed,
}

/// State that the open hands to [`super::Coordinator::new`].
pub struct CoordinatorSeed {
    pub(super) files: Arc<dyn Files>,
    pub(super) options: StoreOptions,
    pub(super) state: State,
    pub(super) log: ManifestLog,
    pub(super) version: Arc<Version>,
    pub(super) salts: Salts,
    pub(super) next_table: Arc<AtomicU64>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) spans: SpanRule,
    /// Retired segments whose files are still there, with their lengths.
    pub(super) retired: Vec<(SegmentSeq, u64)>,
    pub(super) has_ballast: bool,
}

/// Opens the store below `files`, creating it where the directory holds none. `process` goes into the lock file: the
/// process id in decimal.
///
/// # Errors
/// When the directory cannot be trusted or the machine refuses something; nothing is lost then.
pub fn open_store(
    files: &Arc<dyn Files>,
    options: &StoreOptions,
    process: u32,
    progress: &dyn Fn(Progress),
) -> Result<OpenedStore, OpenError> {
    check_options(options)?;
    let lock = take_lock(&**files, process)?;
    let opened = Opening { files, options, progress }.run();
    let (lock, opened) = match opened {
        // The ballast is there for this: an open needs a new manifest before it can free anything.
        Err(error) if error.is_out_of_space() && files.remove(Path::new(BALLAST)).is_ok() => {
            (lock, Opening { files, options, progress }.run()?)
        }
        opened => (lock, opened?),
    };
    let Opened { seed, segments, recovery } = opened;
    Ok(OpenedStore {
        lock,
        store: seed.state.store,
        unit: seed.state.unit,
        version: Arc::clone(&seed.version),
        boundaries: seed.state.boundaries.clone(),
        seqno_start: Seqno(seed.state.seqno_max().0 + 1),
        segments,
        recovery,
        seed,
    })
}

fn check_options(options: &StoreOptions) -> Result<(), OpenError> {
    let invalid = |reason: String| Err(OpenError::OptionsInvalid { reason });
    if !(1..=CORES_MAX).contains(&options.shards) {
        return invalid(format!("{} shards were asked for; 1 to {CORES_MAX} are possible", options.shards));
    }
    let segment_range = WAL_SEGMENT_BYTES_FLOOR..=WAL_SEGMENT_BYTES_MAX;
    for bytes in [options.wal_segment_bytes, options.wal_segment_bytes_first] {
        if !segment_range.contains(&bytes) || !bytes.is_multiple_of(PAGE_BYTES as u64) {
            return invalid(format!(
                "a WAL segment of {bytes} bytes was asked for; {WAL_SEGMENT_BYTES_FLOOR} to {WAL_SEGMENT_BYTES_MAX} are possible, in whole pages"
            ));
        }
    }
    if let Some(split_at) = &options.split_at {
        if split_at.len() + 1 != options.shards {
            return invalid(format!("{} split points make no {} shards", split_at.len(), options.shards));
        }
        if let Err(error) = check_boundaries(split_at) {
            return invalid(format!("the split points cannot be used: {error}"));
        }
    }
    Ok(())
}

/// Takes the lock, or says who holds it.
pub(super) fn take_lock(files: &dyn Files, process: u32) -> Result<Box<dyn FileLock>, OpenError> {
    let path = Path::new(LOCK);
    // Before the lock, for the lock would follow nothing else than a regular file either, with a worse message.
    let root = files.list(Path::new("")).map_err(OpenError::io("listing", ""))?;
    if let Some(entry) =
        root.iter().find(|entry| entry.name == LOCK && entry.kind != crate::io::EntryKind::File)
    {
        return Err(OpenError::WrongKind { file: path.to_owned(), found: entry.kind });
    }
    match files.lock(path, &format!("{process}\n")) {
        Ok(lock) => Ok(lock),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let content = files.read_all(path, 64).unwrap_or_default();
            let text = String::from_utf8_lossy(&content);
            Err(OpenError::Locked { pid: text.split_whitespace().next().and_then(|word| word.parse().ok()) })
        }
        Err(error) => Err(OpenError::io("locking", path)(error)),
    }
}

/// The manifest that `CURRENT` names, and what it says.
pub(super) struct Found {
    pub(super) number: u64,
    pub(super) replayed: Replayed,
}

/// Reads `CURRENT` and the manifest; `None` where there is no store.
pub(super) fn read_manifest(files: &dyn Files, inventory: &Inventory) -> Result<Option<Found>, OpenError> {
    if !inventory.current {
        return match inventory.data() {
            Some(found) => Err(OpenError::CurrentMissing { found }),
            None => Ok(None),
        };
    }
    let current_path = Path::new(CURRENT);
    let bytes = read_bounded(files, current_path, CURRENT_BYTES_MAX)?;
    let current = Current::decode(current_path, &bytes)?;
    let path = manifest_path(current.manifest);
    inventory.require(&path, inventory.manifests.contains(&current.manifest), current_path)?;
    let bytes = read_bounded(files, &path, MANIFEST_BYTES_MAX)?;
    let replayed = replay(&path, current.manifest, current.store, &bytes)?;
    Ok(Some(Found { number: current.manifest, replayed }))
}

fn read_bounded(files: &dyn Files, path: &Path, bytes_max: u64) -> Result<Vec<u8>, OpenError> {
    files.read_all(path, bytes_max).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => {
            OpenError::Damaged(Corruption::new(path, bytes_max, format!("at most {bytes_max} bytes"), "more"))
        }
        _ => OpenError::io("reading", path)(error),
    })
}

struct Opening<'a> {
    files: &'a Arc<dyn Files>,
    options: &'a StoreOptions,
    progress: &'a dyn Fn(Progress),
}

struct Opened {
    seed: CoordinatorSeed,
    segments: Vec<SegmentSpec>,
    recovery: RecoveryReport,
}

impl Opening<'_> {
    fn run(&self) -> Result<Opened, OpenError> {
        let files = &**self.files;
        let inventory = Inventory::take(files)?;
        let mut recovery = RecoveryReport { foreign: inventory.foreign.clone(), ..RecoveryReport::default() };
        let Some(found) = read_manifest(files, &inventory)? else {
            return self.create(&inventory, recovery);
        };
        let state = &found.replayed.state;
        recovery.manifest_torn_bytes = found.replayed.torn_bytes;
        self.check_unit(state.unit)?;
        create_directories(files)?;
        sync_directories(files)?;
        self.sync_file(Path::new(CURRENT))?;
        self.sync_file(&manifest_path(found.number))?;
        let mut tables = self.open_tables(&found, &inventory)?;
        later_segment(files, state, &inventory, found.number)?;
        self.collect(state, &inventory, &mut recovery);
        let job = self.table_job(state, &inventory);
        let recovered =
            recover(&job, state, &inventory, self.options.memtable_bytes, &mut recovery, self.progress)?;
        let mut edits: Vec<_> =
            recovered.tables.iter().map(|table| Edit::AddTable(table.meta.clone())).collect();
        edits.extend(state.segments.keys().map(|seq| Edit::RetireSegment(*seq)));
        let retired = state.segments.iter().map(|(seq, entry)| (*seq, entry.bytes)).collect();
        let seqno_max = recovered.seqno_max;
        tables.extend(recovered.tables);
        let boundaries = self.boundaries(&state.boundaries, &tables)?;
        let old = OldManifest::Read { numbers: inventory.manifests.clone() };
        let end = Ending {
            salts: Salts::new(self.options.entropy),
            state: state.clone(),
            inventory: &inventory,
            tables,
            boundaries,
            seqno_max,
            retired,
            old,
        };
        self.finish(end, edits, job, recovery)
    }

    /// Makes a new store: its first manifest becomes durable before anything else of it exists.
    fn create(&self, inventory: &Inventory, mut recovery: RecoveryReport) -> Result<Opened, OpenError> {
        let files = &**self.files;
        create_directories(files)?;
        for number in &inventory.manifests {
            let path = manifest_path(*number);
            files.remove(&path).map_err(OpenError::io("removing", &path))?;
        }
        let mut salts = Salts::new(self.options.entropy);
        let (mut store, first, second) = (StoreId::default(), salts.next(), salts.next());
        store.0[..8].copy_from_slice(&first.to_le_bytes());
        store.0[8..].copy_from_slice(&second.to_le_bytes());
        let state = State::empty(store, self.options.time_unit.unwrap_or_default());
        let log = ManifestLog::create(Arc::clone(self.files), 1, &state, Vec::new())?;
        (self.progress)(Progress::Created);
        recovery.created = true;
        let boundaries = self.boundaries(&[], &[])?;
        let job = self.table_job(&state, inventory);
        let end = Ending {
            salts,
            state,
            inventory,
            tables: Vec::new(),
            boundaries,
            seqno_max: Seqno(0),
            retired: Vec::new(),
            old: OldManifest::Created(Box::new(log)),
        };
        self.finish(end, Vec::new(), job, recovery)
    }

    /// Makes the first segments, then everything durable at once.
    fn finish(
        &self,
        end: Ending<'_>,
        mut edits: Vec<Edit>,
        job: TableJob,
        recovery: RecoveryReport,
    ) -> Result<Opened, OpenError> {
        let mut salts = end.salts;
        let mut state = end.state;
        let segments = self.make_segments(&state, end.inventory, &mut salts, &job.stop)?;
        edits.extend(segments.iter().enumerate().map(|(stream, segment)| {
            let stream = StreamId(u16::try_from(stream).unwrap_or(u16::MAX));
            let entry = SegmentEntry { stream, salt: segment.salt, bytes: segment.bytes };
            Edit::AddSegment { seq: segment.seq, entry }
        }));
        edits.push(Edit::Boundaries(end.boundaries));
        let floor = state.seqno_max().max(end.seqno_max);
        edits.push(Edit::SeqnoFloor(floor));
        edits.extend(self.lift_cutoffs(&state, floor, &end.tables).map(Edit::Retention));
        edits.push(Edit::NextTable(TableId(job.next_table.load(Ordering::Relaxed))));
        state.apply_all(&edits).expect("an open makes edits that fit the state it read");
        let log = match end.old {
            OldManifest::Created(mut log) => {
                log.commit(&edits, &state)?;
                *log
            }
            OldManifest::Read { numbers } => {
                let number = numbers.last().map_or(1, |last| last + 1);
                ManifestLog::create(Arc::clone(self.files), number, &state, numbers)?
            }
        };
        let version = Arc::new(Version::with_cutoffs(end.tables, state.retention.cutoffs()));
        let seed = CoordinatorSeed {
            files: Arc::clone(self.files),
            options: self.options.clone(),
            state,
            log,
            version,
            salts,
            next_table: job.next_table,
            stop: job.stop,
            spans: job.spans,
            retired: end.retired,
            has_ballast: end.inventory.ballast.is_some_and(|bytes| bytes >= self.options.ballast_bytes),
        };
        Ok(Opened { seed, segments, recovery })
    }

    /// What the manifest should say of age from now on, where that is something else. A retention that was lengthened or
    /// taken away hides what it has hidden, and nothing that is written from now on.
    fn lift_cutoffs(&self, state: &State, floor: Seqno, tables: &[Arc<Table>]) -> Option<Retention> {
        let mut retention = state.retention.clone();
        if let Some(active) = retention.active() {
            let length = self.options.retention.map(|retention| retention.length_in(state.unit));
            let wanted = length.zip(retention.clock()).map(|(length, clock)| clock.saturating_sub(length));
            if wanted.is_none_or(|wanted| wanted < active) {
                retention.lift(Seqno(if planted(Bug::ForgetCutoff) { 1 } else { floor.0.saturating_add(1) }));
            }
        }
        retention.forget_spent(tables.iter().map(|table| &table.meta), Seqno::MAX);
        (retention != state.retention).then_some(retention)
    }

    fn check_unit(&self, store: TimeUnit) -> Result<(), OpenError> {
        match self.options.time_unit {
            Some(asked) if asked != store => Err(OpenError::TimeUnitMismatch { store, asked }),
            _ => Ok(()),
        }
    }

    fn sync_file(&self, path: &Path) -> Result<(), OpenError> {
        let file = self.files.open(path).map_err(OpenError::io("opening", path))?;
        self.files.sync(&file).map_err(OpenError::io("syncing", path))
    }

    fn table_job(&self, state: &State, inventory: &Inventory) -> TableJob {
        // Ids of files that are still there, named or not, are not used again.
        let next_file = inventory.tables.keys().next_back().map_or(0, |id| id.0.saturating_add(1));
        TableJob {
            files: Arc::clone(self.files),
            store: state.store,
            spans: SpanRule::of_store(self.options, state, None),
            bloom_bits: self.options.bloom_bits,
            table_bytes_target: self.options.table_bytes_target,
            boundaries: state.boundaries.clone(),
            next_table: Arc::new(AtomicU64::new(state.next_table.0.max(next_file))),
            stop: Arc::new(AtomicBool::new(false)),
        }
    }

    fn open_tables(&self, found: &Found, inventory: &Inventory) -> Result<Vec<Arc<Table>>, OpenError> {
        let state = &found.replayed.state;
        let manifest = manifest_path(found.number);
        let mut tables = Vec::with_capacity(state.tables.len());
        for meta in state.tables.values() {
            inventory.require(&table_path(meta.id), inventory.tables.contains_key(&meta.id), &manifest)?;
            tables.push(open_table(&**self.files, state.store, meta.clone())?);
            (self.progress)(Progress::Tables { done: tables.len(), total: state.tables.len() });
        }
        Ok(tables)
    }

    /// Removes our own files that the manifest does not name: what interrupted jobs and opens leave behind. Files of
    /// another store are foreign, whatever their name.
    fn collect(&self, state: &State, inventory: &Inventory, recovery: &mut RecoveryReport) {
        let files = &**self.files;
        let tables =
            inventory.tables.keys().filter(|id| !state.tables.contains_key(id)).map(|id| table_path(*id));
        let segments = inventory.segments.keys().filter(|seq| !state.segments.contains_key(seq));
        let unnamed: Vec<PathBuf> = tables.chain(segments.map(|seq| segment_path(*seq))).collect();
        for path in unnamed {
            if belongs_to_another(files, state.store, &path) {
                recovery.foreign.push(path);
            } else if files.remove(&path).is_ok() {
                recovery.collected.push(path);
            }
        }
        if let Err(error) = clear_unfinished(files) {
            log::warn!("what is left of a checkpoint that was cut short cannot be removed: {error}");
        }
        let odd = inventory.wrong_kind.keys().cloned();
        recovery.foreign.extend(odd);
    }

    fn boundaries(&self, stored: &[Box<[u8]>], tables: &[Arc<Table>]) -> Result<Vec<Box<[u8]>>, OpenError> {
        if let Some(split_at) = self.options.split_at.as_ref().filter(|_| tables.is_empty()) {
            return Ok(split_at.clone());
        }
        if self.options.shards == 1 {
            return Ok(Vec::new());
        }
        Ok(choose(stored, &self.weights(tables)?, self.options.shards))
    }

    /// How much lies at which key, ascending.
    fn weights(&self, tables: &[Arc<Table>]) -> Result<Vec<Weight>, OpenError> {
        let blocks: usize = tables.iter().map(|table| table.index.block_count()).sum();
        let mut weights: BTreeMap<Box<[u8]>, u64> = BTreeMap::new();
        if blocks <= BLOCKS_PER_SHARD_COARSE * self.options.shards {
            for table in tables {
                for index in 0..table.index.block_count() {
                    let block = read_block(&**self.files, table, index)?;
                    for chunk in (0..block.chunk_count()).map(|chunk| block.chunk(chunk)) {
                        *weights.entry(chunk.series.into()).or_default() += chunk.count as u64;
                    }
                }
            }
        } else {
            let step = blocks.div_ceil(WEIGHTS_MAX);
            for table in tables {
                for index in (0..table.index.block_count()).step_by(step) {
                    let (series, _) = table.index.block_first_key(index);
                    *weights.entry(series.into()).or_default() += u64::from(table.index.block(index).bytes);
                }
            }
        }
        Ok(weights.into_iter().collect())
    }

    fn make_segments(
        &self,
        state: &State,
        inventory: &Inventory,
        salts: &mut Salts,
        stop: &AtomicBool,
    ) -> Result<Vec<SegmentSpec>, OpenError> {
        let next_file = inventory.segments.keys().next_back().map_or(0, |seq| seq.0.saturating_add(1));
        let first = state.next_segment.0.max(next_file);
        let bytes = self.options.wal_segment_bytes_first;
        let make = |seq: u64| {
            let seq = SegmentSeq(seq);
            let (file, direct) = make_segment(&**self.files, seq, bytes, stop)?;
            Ok(SegmentSpec { seq, salt: salts.next(), bytes, file, direct })
        };
        let made = (first..first + self.options.shards as u64).map(make).collect::<Result<_, JobError>>();
        Ok(made?)
    }
}

/// What an open has gathered before it makes it durable.
struct Ending<'a> {
    salts: Salts,
    state: State,
    inventory: &'a Inventory,
    tables: Vec<Arc<Table>>,
    boundaries: Vec<Box<[u8]>>,
    seqno_max: Seqno,
    retired: Vec<(SegmentSeq, u64)>,
    old: OldManifest,
}

enum OldManifest {
    /// Made by this open: it can be appended to.
    Created(Box<ManifestLog>),
    /// Read from disk, among others that are no longer named; ascending.
    Read { numbers: Vec<u64> },
}

/// A stream writes to a segment only after the manifest names it. One that was written to and has a number that the
/// manifest does not know yet means that the manifest was replaced by an older copy, or cut: opening it would lose what
/// came after.
///
/// # Errors
/// [`OpenError::Damaged`] where there is one.
pub(super) fn later_segment(
    files: &dyn Files,
    state: &State,
    inventory: &Inventory,
    number: u64,
) -> Result<(), OpenError> {
    for &seq in inventory.segments.keys().filter(|seq| **seq >= state.next_segment) {
        let path = segment_path(seq);
        let file = files.open(&path).map_err(OpenError::io("opening", &path))?;
        let mut source = FileSource::new(files, file).map_err(OpenError::io("reading", &path))?;
        if read_header(&mut source).is_some_and(|header| header.store == state.store && header.seq == seq) {
            let expected = format!("a manifest that names {}", path.display());
            let manifest = manifest_path(number);
            return Err(OpenError::Damaged(Corruption::new(manifest, 0, expected, "an older one")));
        }
    }
    Ok(())
}

/// Whether a file under a name of ours says that it is another store's.
fn belongs_to_another(files: &dyn Files, store: StoreId, path: &Path) -> bool {
    let Ok(file) = files.open(path) else { return false };
    let Ok(mut source) = FileSource::new(files, file) else { return false };
    let owner = match path.extension() {
        Some(extension) if extension == "wal" => read_header(&mut source).map(|header| header.store),
        _ => read_owner(path, &mut source),
    };
    owner.is_some_and(|owner| owner != store)
}

/// Page 0 of a segment that was written to.
fn read_header(source: &mut dyn ByteSource) -> Option<SegmentHeader> {
    let mut page = vec![0; PAGE_BYTES];
    let count = source.read_at(0, &mut page).ok()?;
    page.truncate(count);
    SegmentHeader::decode(&page).map(|page| page.header)
}
