//! Which key an operation of a key-value workload takes, and whether it writes: pure functions of its number.

use super::super::random::{Zipf, below, draw, normal, to_whole, unit};
use serde::{Deserialize, Serialize};

/// Streams of dice.
const KEY_DICE: u64 = 1;
const OP_DICE: u64 = 2;
const HOT_DICE: u64 = 7;
const AGE_DICE: u64 = 0x61_6765;
/// Gaussian keys: half of the key space is this many standard deviations, as memtier_benchmark has it by default.
const HALF_DEVIATIONS: f64 = 3.0;
/// Parts of the keys of which one is hot, and its part of the operations.
const TENTHS: u64 = 10;
const HOT_SHARE: f64 = 0.9;
/// A write that is looked for lies at most this many operations further back.
const LOOK_BACK_MAX: u64 = 4096;
/// Exponent of the ages of keys that are read because they are new; YCSB's.
const AGE_EXPONENT: f64 = 0.99;

/// Which keys come when.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum KeyPattern {
    /// Each equally likely.
    Random,
    /// One after the other.
    Sequential,
    /// This many streams side by side, each with a part of the keys of its own, one after the other.
    Parallel(u64),
    /// Few are much more likely than most, with this exponent; the likely ones lie scattered.
    Zipf(f64),
    /// Nine in ten go to a tenth of the keys that lie side by side; after this many operations to another one.
    HotTenth(u64),
    /// Around the middle of the keys, which lie three standard deviations to either side.
    Gaussian,
}

/// Which of what was written is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recency {
    /// Each alike; keys as the pattern says.
    #[default]
    Uniform,
    /// What was written last is read most: keys by the age of their write, after Zipf; rows up to the newest.
    Latest,
}

/// What chooses keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    pub(super) count: u64,
    pub(super) pattern: KeyPattern,
    pub(super) write_share: f64,
    /// Writes go to keys that were not there before.
    pub(super) is_growing: bool,
    pub(super) seed: u64,
    zipf: Option<Zipf>,
    ages: Option<Zipf>,
}

impl Keys {
    /// Keys `0..count`; growing ones go on from there.
    pub(super) fn new(
        count: u64,
        pattern: KeyPattern,
        write_share: f64,
        recency: Recency,
        is_growing: bool,
        seed: u64,
    ) -> Self {
        let zipf = match pattern {
            KeyPattern::Zipf(exponent) => Some(Zipf::new(count, exponent)),
            _ => None,
        };
        let ages = (recency == Recency::Latest).then(|| Zipf::new(count, AGE_EXPONENT));
        Self { count, pattern, write_share, is_growing, seed, zipf, ages }
    }

    /// Whether an operation writes.
    pub(super) fn is_write(&self, sequence: u64) -> bool {
        self.write_share >= 1.0 || unit(draw(self.seed ^ OP_DICE, sequence)) < self.write_share
    }
    /// The key that a write stores under.
    #[inline]
    pub(super) fn written(&self, sequence: u64) -> u64 {
        if self.is_growing { self.count + sequence } else { self.by_pattern(sequence) }
    }
    /// The key that a read asks for.
    pub(super) fn read(&self, sequence: u64) -> u64 {
        let Some(ages) = &self.ages else { return self.by_pattern(sequence) };
        // The age counts writes; between two of them lie this many operations.
        let age = ages.rank(self.seed ^ AGE_DICE, sequence) as f64 / self.write_share.max(f64::EPSILON);
        let newest = sequence.checked_sub(1 + to_whole(age));
        let look_back = |newest: u64| (newest.saturating_sub(LOOK_BACK_MAX)..=newest).rev();
        let found = newest.and_then(|newest| look_back(newest).find(|earlier| self.is_write(*earlier)));
        // Before the first write lies what was loaded.
        found.map_or_else(|| self.by_pattern(sequence), |earlier| self.written(earlier))
    }

    #[inline]
    fn by_pattern(&self, sequence: u64) -> u64 {
        let (seed, count) = (self.seed ^ KEY_DICE, self.count);
        match (self.pattern, &self.zipf) {
            (KeyPattern::Zipf(_), Some(zipf)) => below(draw(seed, zipf.rank(seed, sequence)), count),
            (KeyPattern::Random | KeyPattern::Zipf(_), _) => below(draw(seed, sequence), count),
            (KeyPattern::Sequential, _) => sequence % count,
            (KeyPattern::Parallel(streams), _) => {
                let (stream, turn) = (sequence % streams, sequence / streams);
                // Parts differ by one key at most: each ends where the next one begins.
                let part = |index: u64| index * (count / streams) + index.min(count % streams);
                let (start, end) = (part(stream), part(stream + 1));
                if start == end { sequence % count } else { start + turn % (end - start) }
            }
            (KeyPattern::HotTenth(period), _) => hot_tenth(seed, sequence, count, period),
            (KeyPattern::Gaussian, _) => gaussian(seed, sequence, count),
        }
    }
}

fn hot_tenth(seed: u64, sequence: u64, count: u64, period: u64) -> u64 {
    let dice = draw(seed, sequence);
    if count < TENTHS || unit(draw(seed ^ HOT_DICE, sequence)) >= HOT_SHARE {
        return below(dice, count);
    }
    // Never the same one twice in a row, never its neighbour, and each in its turn.
    let tenth = sequence / period.max(1) % TENTHS * 7 % TENTHS;
    let (start, end) = (tenth * count / TENTHS, (tenth + 1) * count / TENTHS);
    start + below(dice, end - start)
}

fn gaussian(seed: u64, sequence: u64, count: u64) -> u64 {
    let half = count as f64 / 2.0;
    let mut attempt = 0;
    loop {
        let stream = seed ^ sequence.rotate_left(17);
        let deviation = normal(draw(stream, attempt), draw(stream, attempt + 1)) / HALF_DEVIATIONS;
        // One draw in 370 lies outside and is drawn again: at the walls it would pile up.
        if (-1.0..1.0).contains(&deviation) {
            return to_whole(half + half * deviation).min(count - 1);
        }
        attempt += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: u64, pattern: KeyPattern) -> Keys {
        Keys::new(count, pattern, 1.0, Recency::Uniform, false, 7)
    }

    #[test]
    fn parallel_streams_have_parts_of_their_own() {
        // Streams that share keys would measure contention that nobody asked for.
        for (count, streams) in [(100, 4), (103, 4), (3, 8)] {
            let keys = keys(count, KeyPattern::Parallel(streams));
            let mut seen = vec![std::collections::BTreeSet::new(); usize::try_from(streams).unwrap()];
            for sequence in 0..streams * count {
                let key = keys.written(sequence);
                assert!(key < count);
                seen[usize::try_from(sequence % streams).unwrap()].insert(key);
            }
            let all: std::collections::BTreeSet<u64> = seen.iter().flatten().copied().collect();
            assert_eq!(all.len() as u64, count, "some keys never come");
            if count > streams {
                assert_eq!(seen.iter().map(std::collections::BTreeSet::len).sum::<usize>() as u64, count);
            }
        }
        let keys = keys(100, KeyPattern::Parallel(4));
        let first: Vec<u64> = (0..8).map(|sequence| keys.written(sequence)).collect();
        assert_eq!(first, [0, 25, 50, 75, 1, 26, 51, 76]);
    }

    #[test]
    fn the_hot_tenth_moves_on_time_and_takes_its_share() {
        // Load that does not move would not show whether boundaries follow.
        let keys = keys(5_000, KeyPattern::HotTenth(20_000));
        let mut hot = Vec::new();
        for period in 0..11 {
            let mut counts = [0_u32; 10];
            for sequence in period * 20_000..(period + 1) * 20_000 {
                counts[usize::try_from(keys.written(sequence) / 500).unwrap()] += 1;
            }
            let busiest = (0..10).max_by_key(|tenth| counts[*tenth]).unwrap();
            // Nine in ten, and its part of the rest.
            assert!((17_900..18_500).contains(&counts[busiest]), "{counts:?}");
            hot.push(busiest);
        }
        assert!(hot.windows(2).all(|pair| pair[0].abs_diff(pair[1]) > 1), "{hot:?}");
        assert_eq!(hot[..10].iter().collect::<std::collections::BTreeSet<_>>().len(), 10, "{hot:?}");
    }

    #[test]
    fn gaussian_keys_lie_around_the_middle() {
        // Another spread than memtier_benchmark's makes the two tools' results incomparable.
        let keys = keys(6_000, KeyPattern::Gaussian);
        let drawn: Vec<f64> = (0..60_000).map(|sequence| keys.written(sequence) as f64).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let deviation =
            (drawn.iter().map(|key| (key - mean).powi(2)).sum::<f64>() / drawn.len() as f64).sqrt();
        assert!((mean - 3_000.0).abs() < 20.0, "mean {mean}");
        // A normal distribution cut at three deviations has 0.987 of its deviation left.
        assert!((deviation / 987.0 - 1.0).abs() < 0.02, "deviation {deviation}");
        assert!(drawn.iter().all(|key| *key < 6_000.0));
    }

    #[test]
    fn new_keys_are_read_most_where_asked_for() {
        // A feed that reads what was written hours ago measures the disk instead of the cache.
        let keys = Keys::new(10_000, KeyPattern::Random, 0.05, Recency::Latest, true, 7);
        let (mut recent, mut reads, mut loaded) = (0_u32, 0_u32, 0_u32);
        for sequence in 200_000..240_000 {
            if keys.is_write(sequence) {
                assert_eq!(keys.written(sequence), 10_000 + sequence, "a key that was there before");
                continue;
            }
            reads += 1;
            let key = keys.read(sequence);
            if let Some(writer) = key.checked_sub(10_000) {
                assert!(writer < sequence && keys.is_write(writer), "{key} is not written yet");
                // Younger than a tenth of the ages there are.
                recent += u32::from(sequence - writer < 20_000);
            } else {
                loaded += 1;
            }
        }
        let share = f64::from(recent) / f64::from(reads);
        assert!((0.70..0.80).contains(&share), "{share} of the reads are of the newest tenth");
        assert!(f64::from(loaded) < 0.05 * f64::from(reads), "{loaded} reads of what was loaded");
    }
}
