//! Engines that are linked in: RocksDB and fjall. Entries are (16-byte series, time) → 8 bytes, through the log, without
//! a sync, in batches.

use crate::data::{Data, Random, START_MS};
use crate::rocksdb::RocksDb;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;
use std::time::Instant;

/// Entries that one write takes.
const BATCH: usize = 100;
/// Cache for blocks, as much as a core of tskv has.
const CACHE_BYTES: usize = 128 << 20;

/// What was measured on one engine.
#[derive(Debug, Default)]
pub struct Figures {
    pub samples: u64,
    pub ingest_seconds: f64,
    pub ingest_cpu_seconds: f64,
    /// Bytes that the process had written to the disk when everything was merged.
    pub written_bytes: u64,
    /// Bytes of the files when everything was merged.
    pub disk_bytes: u64,
    pub gets_per_second: f64,
    pub scanned_per_second: f64,
}

/// What the measurement needs of an engine.
pub trait Engine {
    /// Writes a batch of (key, value).
    fn write(&mut self, batch: &[([u8; 24], [u8; 8])]) -> Result<(), String>;
    /// Flushes and merges everything.
    fn compact(&mut self) -> Result<(), String>;
    fn has(&self, key: &[u8; 24]) -> Result<bool, String>;
    /// Reads all entries of one series; gives how many.
    fn scan(&self, series: &[u8]) -> Result<u64, String>;
}

/// Feeds an engine, then reads `gets` random entries of the first 64 series, after one round that warms the cache, and
/// scans series for about a second.
///
/// # Errors
/// What the engine says, or an entry that is not there.
pub fn measure(engine: &mut dyn Engine, data: &Data, directory: &Path, gets: u64) -> Result<Figures, String> {
    let mut figures = Figures::default();
    let (began, cpu_before, written_before) = (Instant::now(), cpu_seconds(), written_bytes());
    let mut batch = Vec::with_capacity(BATCH);
    let mut failure = None;
    data.for_each(&mut |(series, time, value)| {
        figures.samples += 1;
        batch.push((key(series, time), value.to_le_bytes()));
        if batch.len() == BATCH {
            failure = failure.take().or(engine.write(&batch).err());
            batch.clear();
        }
    })?;
    failure.or(engine.write(&batch).err()).map_or(Ok(()), Err)?;
    figures.ingest_seconds = began.elapsed().as_secs_f64();
    figures.ingest_cpu_seconds = cpu_seconds() - cpu_before;
    engine.compact()?;
    figures.written_bytes = written_bytes() - written_before;
    figures.disk_bytes = bytes_below(directory);

    let (hot_series, ticks) = (data.series.min(64) as u64, figures.samples / data.series as u64);
    let mut random = Random(3);
    for is_measured in [false, true] {
        let began = Instant::now();
        for _ in 0..gets {
            let time = START_MS + (random.next() % ticks) as i64 * data.interval_ms;
            if !engine.has(&key((random.next() % hot_series) as usize, time))? {
                return Err("an entry that was written is not there".to_owned());
            }
        }
        if is_measured {
            figures.gets_per_second = gets as f64 / began.elapsed().as_secs_f64();
        }
    }
    let (began, mut scanned, mut series) = (Instant::now(), 0, 0);
    while began.elapsed().as_secs_f64() < 1.0 {
        scanned += engine.scan(Data::name(series % data.series).as_bytes())?;
        series += 1;
    }
    figures.scanned_per_second = scanned as f64 / began.elapsed().as_secs_f64();
    Ok(figures)
}

/// Sorts by series, then time.
fn key(series: usize, time: i64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(Data::name(series).as_bytes());
    key[16..].copy_from_slice(&(time.cast_unsigned() ^ (1 << 63)).to_be_bytes());
    key
}

/// RocksDB under `directory`.
///
/// # Errors
/// What it says.
pub fn rocksdb(directory: &Path) -> Result<Box<dyn Engine>, String> {
    Ok(Box::new(RocksDb::open(directory, CACHE_BYTES)?))
}

impl Engine for RocksDb {
    fn write(&mut self, batch: &[([u8; 24], [u8; 8])]) -> Result<(), String> {
        batch.iter().for_each(|(key, value)| self.put(key, value));
        RocksDb::write(self)
    }
    fn compact(&mut self) -> Result<(), String> {
        RocksDb::compact(self);
        Ok(())
    }
    fn has(&self, key: &[u8; 24]) -> Result<bool, String> {
        RocksDb::has(self, key)
    }
    fn scan(&self, series: &[u8]) -> Result<u64, String> {
        Ok(RocksDb::scan(self, series))
    }
}

struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

/// fjall under `directory`.
///
/// # Errors
/// What it says.
pub fn fjall(directory: &Path) -> Result<Box<dyn Engine>, String> {
    let open = || {
        let database = Database::builder(directory).cache_size(CACHE_BYTES as u64).open()?;
        let keyspace = database.keyspace("samples", KeyspaceCreateOptions::default)?;
        Ok(Fjall { database, keyspace })
    };
    open().map(|engine| Box::new(engine) as Box<dyn Engine>).map_err(|error: fjall::Error| error.to_string())
}

impl Engine for Fjall {
    fn write(&mut self, batch: &[([u8; 24], [u8; 8])]) -> Result<(), String> {
        let mut writes = self.database.batch();
        batch.iter().for_each(|(key, value)| writes.insert(&self.keyspace, key.as_slice(), value.as_slice()));
        writes.commit().map_err(|error| error.to_string())
    }
    fn compact(&mut self) -> Result<(), String> {
        let compact = || {
            self.keyspace.rotate_memtable_and_wait()?;
            self.keyspace.major_compact()?;
            self.database.persist(PersistMode::SyncAll)
        };
        compact().map_err(|error: fjall::Error| error.to_string())
    }
    fn has(&self, key: &[u8; 24]) -> Result<bool, String> {
        let value = self.keyspace.get(key).map_err(|error| error.to_string())?;
        Ok(value.is_some_and(|value| value.len() == 8))
    }
    fn scan(&self, series: &[u8]) -> Result<u64, String> {
        let mut count = 0;
        for entry in self.keyspace.prefix(series) {
            std::hint::black_box(entry.into_inner().map_err(|error| error.to_string())?);
            count += 1;
        }
        Ok(count)
    }
}

/// CPU time of this process, in seconds.
pub fn cpu_seconds() -> f64 {
    // SAFETY: `usage` is plain numbers, for which zeros are a value, and the kernel fills it in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Bytes that this process has sent towards the disk.
fn written_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Bytes of all files below a directory.
fn bytes_below(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            // What is allocated: files may be made larger than what they hold.
            Ok(metadata) => std::os::unix::fs::MetadataExt::blocks(&metadata) * 512,
            Err(_) => 0,
        })
        .sum()
}
