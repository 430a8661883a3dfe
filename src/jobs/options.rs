//! What the operator, or a test, decides about a store and its background work.

use crate::limits::{MEMTABLE_BYTES_DEFAULT, TABLE_BYTES_TARGET, WAL_SEGMENT_BYTES_DEFAULT};
use crate::model::TimeUnit;
use std::time::Duration;

/// Rewriting costs about as much as writing this many bytes of edits.
pub(super) const MANIFEST_GROWTH_BYTES_DEFAULT: u64 = 1 << 20;

/// How long samples are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionOptions {
    /// Samples this much older than the wall clock are gone; at least one unit of the store.
    pub length: Duration,
    /// Believe the wall clock as it is at the first look, however far it is from what was believed before.
    pub trusts_clock: bool,
    /// How often the clock is looked at; samples are hidden up to this much late.
    pub tick: Duration,
}

impl RetentionOptions {
    /// A retention with the usual tick.
    #[must_use]
    pub fn new(length: Duration) -> Self {
        let tick = (length / 1024).clamp(TICK_MIN, TICK_MAX);
        Self { length, trusts_clock: false, tick }
    }
    /// Its length in the store's unit.
    #[must_use]
    pub fn length_in(&self, unit: TimeUnit) -> i64 {
        in_unit(self.length, unit).max(1)
    }
}

/// Each look at the clock that hides something costs an edit of the manifest.
const TICK_MIN: Duration = Duration::from_secs(1);
const TICK_MAX: Duration = Duration::from_secs(60);

/// A duration in units of a store, rounded down; what exceeds them is all of time.
pub(super) fn in_unit(duration: Duration, unit: TimeUnit) -> i64 {
    let nanos_per_unit = 1_000_000_000 / unit.per_second().unsigned_abs();
    i64::try_from(duration.as_nanos() / u128::from(nanos_per_unit)).unwrap_or(i64::MAX)
}

/// How a store is opened and looked after.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Shards, which is also how many WAL streams are written; 1..=`CORES_MAX`.
    pub shards: usize,
    /// Unit of timestamps: of a new store (ms when `None`), and checked against that of an old one when `Some`.
    pub time_unit: Option<TimeUnit>,
    /// Split points between the shards of a store that holds nothing yet; ascending, one fewer than shards.
    pub split_at: Option<Vec<Box<[u8]>>>,
    /// Length of a full WAL segment.
    pub wal_segment_bytes: u64,
    /// Length of the segments that a start makes; small, so that it is ready at once.
    pub wal_segment_bytes_first: u64,
    /// Memory of one shard's memtable; recovery holds at most this much, in all, before it flushes.
    pub memtable_bytes: usize,
    /// Bloom filter bits per (series, slot class); 0 for none.
    pub bloom_bits: u8,
    /// Tables are cut at this size.
    pub table_bytes_target: u64,
    /// Merges that may run at once. Flushes have a thread of their own.
    pub background_threads: usize,
    /// Bytes kept back for the manifest of a full disk; 0 for no ballast.
    pub ballast_bytes: u64,
    /// The manifest is rewritten when its edits take this many bytes more than twice its snapshot.
    pub manifest_growth_bytes: u64,
    /// How long samples are kept; `None` for ever.
    pub retention: Option<RetentionOptions>,
    /// Bytes that tables of samples may take before the oldest samples go; `None` for as many as the disk has.
    pub retention_bytes: Option<u64>,
    /// Where ids and salts come from: random in the daemon, the world's seed in the simulator.
    pub entropy: [u8; 16],
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            shards: 1,
            time_unit: None,
            split_at: None,
            wal_segment_bytes: WAL_SEGMENT_BYTES_DEFAULT,
            wal_segment_bytes_first: 1 << 20,
            memtable_bytes: MEMTABLE_BYTES_DEFAULT,
            bloom_bits: 10,
            table_bytes_target: TABLE_BYTES_TARGET,
            background_threads: 1,
            ballast_bytes: 4 << 20,
            manifest_growth_bytes: MANIFEST_GROWTH_BYTES_DEFAULT,
            retention: None,
            retention_bytes: None,
            entropy: [0; 16],
        }
    }
}

/// How far an open has come; for logs and a progress bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A new store was created.
    Created,
    /// Tables were opened and synced.
    Tables {
        /// Tables so far.
        done: usize,
        /// Tables in all.
        total: usize,
    },
    /// WAL segments were replayed.
    Replay {
        /// Segments so far.
        done: usize,
        /// Segments in all.
        total: usize,
        /// Records so far.
        records: u64,
    },
    /// What was replayed is being written to tables.
    Flush,
}

/// Salts of segments: a different number for each, derived from the entropy of this start.
#[derive(Clone, Debug)]
pub(super) struct Salts {
    state: u64,
}

impl Salts {
    pub(super) fn new(entropy: [u8; 16]) -> Self {
        let (low, high) = entropy.split_at(8);
        let half = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        Self { state: half(low) ^ half(high).rotate_left(32) }
    }
    /// The next salt (splitmix64).
    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.state;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}
