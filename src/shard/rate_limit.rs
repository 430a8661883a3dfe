//! A limit on the commands a second on each series: one that is hot takes a whole core, and everyone else's keys on that
//! core with it.
//!
//! Each series has a bucket of one second's commands, as the time at which it would be full again (the generic cell rate
//! algorithm). There are as many buckets as fit a fixed table; a series without one takes the bucket of its set that is
//! fullest, so only among more than [`WAYS`] limited series in a set may one be forgotten, and get a second's more.

use crate::model::Command;
use xxhash_rust::xxh3::xxh3_64;

const SETS: usize = 512;
const WAYS: usize = 8;
const SECOND_NS: u64 = 1_000_000_000;

/// See the module.
#[derive(Debug)]
pub(super) struct RateLimit {
    /// From one command to the next.
    interval_ns: u64,
    sets: Box<[[Bucket; WAYS]]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    series_hash: u64,
    full_at_ns: u64,
}

impl Bucket {
    fn has(&self, now_ns: u64, interval_ns: u64) -> bool {
        self.full_at_ns.saturating_sub(now_ns) + interval_ns <= SECOND_NS
    }
    fn take(&mut self, now_ns: u64, interval_ns: u64) {
        self.full_at_ns = self.full_at_ns.max(now_ns) + interval_ns;
    }
}

impl RateLimit {
    /// So many commands a second.
    pub(super) fn new(per_second: u32) -> Self {
        assert!(per_second > 0, "a limit of nothing would serve nobody");
        Self {
            interval_ns: (SECOND_NS / u64::from(per_second)).max(1),
            sets: vec![[Bucket::default(); WAYS]; SETS].into(),
        }
    }
    /// Takes what a command costs from the buckets of its series; `false`, and nothing taken, when one has too little.
    pub(super) fn admits(&mut self, now_ns: u64, command: &Command<'_>) -> bool {
        let interval_ns = self.interval_ns;
        if let Command::PutBatch { entries } = command {
            // One for each run of entries of a series.
            let runs = || entries.chunk_by(|a, b| a.series == b.series).filter_map(|run| run.first());
            let has_all = runs().all(|entry| self.bucket(entry.series).has(now_ns, interval_ns));
            if has_all {
                runs().for_each(|entry| self.bucket(entry.series).take(now_ns, interval_ns));
            }
            return has_all;
        }
        let Some(series) = command.key() else { return true };
        let bucket = self.bucket(series);
        let has_one = bucket.has(now_ns, interval_ns);
        if has_one {
            bucket.take(now_ns, interval_ns);
        }
        has_one
    }
    fn bucket(&mut self, series: &[u8]) -> &mut Bucket {
        let hash = xxh3_64(series);
        let set = &mut self.sets[usize::try_from(hash % SETS as u64).unwrap_or_default()];
        let known = set.iter().position(|bucket| bucket.series_hash == hash);
        let index = known.unwrap_or_else(|| {
            let fullest = set.iter().enumerate().min_by_key(|(_, bucket)| bucket.full_at_ns);
            fullest.map_or(0, |(index, _)| index)
        });
        let bucket = &mut set[index];
        if known.is_none() {
            *bucket = Bucket { series_hash: hash, full_at_ns: 0 };
        }
        bucket
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Slot, StoredEntry, Value};

    fn put(series: &[u8]) -> Command<'_> {
        Command::Put { series, slot: Slot::Timeless, value: Value::I64(1) }
    }

    #[test]
    fn a_hot_series_is_held_to_its_rate_and_others_are_not() {
        // The one that is hot must not take the others down with it.
        let mut limit = RateLimit::new(100);
        let mut admitted = 0;
        for millis in 0..10_000_u64 {
            let now_ns = millis * 1_000_000;
            admitted += (0..5).filter(|_| limit.admits(now_ns, &put(b"hot"))).count();
            // Thousands of others, each far below its rate, in the same table.
            let other = format!("cold {}", millis % 3_000);
            assert!(limit.admits(now_ns, &put(other.as_bytes())), "{other} at {millis} ms");
        }
        // What the bucket held at first, and ten seconds' worth.
        assert!((1_095..=1_101).contains(&admitted), "{admitted}");
        assert!(limit.admits(0, &Command::KeyCount), "what names no series is not limited");
        let mut slow = RateLimit::new(1);
        let times: Vec<bool> = [0, 1, 999, 1_000].map(|ms| slow.admits(ms * 1_000_000, &put(b"s"))).into();
        assert_eq!(times, [true, false, false, true]);
    }

    #[test]
    fn a_batch_is_admitted_whole_or_costs_nothing() {
        // Half a batch refused would break its promise; a refused one that costs would starve its other series.
        let mut limit = RateLimit::new(2);
        let entry = |series| StoredEntry { series, slot: Slot::Time(1), value: Value::I64(1) };
        let batch = Command::PutBatch { entries: vec![entry(b"a"), entry(b"a"), entry(b"b")] };
        assert!(limit.admits(0, &put(b"a")));
        assert!(limit.admits(0, &batch), "a run of one series counts once");
        assert!(!limit.admits(0, &batch), "a has no more");
        assert!(limit.admits(0, &put(b"b")), "b paid for one batch only");
        assert!(!limit.admits(0, &put(b"b")));
    }
}
