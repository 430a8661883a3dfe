//! What a shard is busy with: the cost of its commands so far, and keys on which it was spent.
//!
//! A key is kept for every `COST_BETWEEN` units of cost on average, the last `KEYS_MAX` of them: keys that cost more are there more
//! often, and load that has gone is soon forgotten. A command costs one unit, a batch one for each entry, and whatever
//! writes or answers values one more for every [`BYTES_PER_UNIT`] of them. Why not the thread's CPU time: it holds the
//! work for connections, whichever core's keys they ask for, and moving keys does not move that.

use super::sampler::Sampler;

/// Bytes of values that cost about as much to read or write as a small command.
const BYTES_PER_UNIT: usize = 2048;
/// Keys that are kept.
pub(super) const KEYS_MAX: usize = 512;
/// Units of cost from one kept key to the next.
const COST_BETWEEN: u64 = 16;
/// Room that each place has from the start: keys that fit are noted without an allocation.
const KEY_BYTES: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct LoadSample {
    cost: u64,
    sampler: Sampler,
    /// The first `used` of these places hold keys, the oldest from `next` on once all do.
    places: Box<[Vec<u8>]>,
    used: usize,
    next: usize,
}

/// What values of so many bytes cost.
pub(super) fn units_of(bytes: usize) -> u64 {
    (bytes / BYTES_PER_UNIT) as u64
}

impl Default for LoadSample {
    fn default() -> Self {
        let places = (0..KEYS_MAX).map(|_| Vec::with_capacity(KEY_BYTES)).collect();
        Self { cost: 0, sampler: Sampler::new(COST_BETWEEN), places, used: 0, next: 0 }
    }
}

impl LoadSample {
    /// Units of cost were spent on a key.
    pub(super) fn note(&mut self, key: &[u8], units: u64) {
        self.cost += units;
        for _ in 0..self.sampler.points(units).min(KEYS_MAX as u64) {
            let place = &mut self.places[self.next];
            place.clear();
            place.extend_from_slice(key);
            self.used = self.used.max(self.next + 1);
            self.next = (self.next + 1) % KEYS_MAX;
        }
    }
    /// Units spent so far.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }
    /// The keys that are kept, in no order that means anything.
    pub(super) fn keys(&self) -> &[Vec<u8>] {
        &self.places[..self.used]
    }
    /// Forgets keys that are another shard's now.
    pub(super) fn retain(&mut self, is_own: impl Fn(&[u8]) -> bool) {
        let mut kept = 0;
        for place in 0..self.used {
            if is_own(&self.places[place]) {
                self.places.swap(kept, place);
                kept += 1;
            }
        }
        self.used = kept;
        self.next = kept % KEYS_MAX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_in_proportion_to_what_they_cost_and_old_ones_go() {
        // A sample that weighs each key alike would split where nobody works.
        let mut sample = LoadSample::default();
        (0..100_000).for_each(|_| sample.note(b"before", 1));
        // Two full turns of the places: nothing of before is left.
        for turn in 0..(2 * KEYS_MAX as u64 * COST_BETWEEN) {
            sample.note(if turn % 64 < 48 { b"often" } else { b"now and then" }, 1);
        }
        let often = sample.keys().iter().filter(|key| **key == b"often").count();
        let expected = KEYS_MAX * 3 / 4;
        assert!(often.abs_diff(expected) < 40 && sample.keys().len() == KEYS_MAX, "{often} of {KEYS_MAX}");
        assert!(sample.keys().iter().all(|key| key != b"before"));
        sample.retain(|key| key == b"often");
        assert_eq!(sample.keys().len(), often);
        (0..2 * COST_BETWEEN).for_each(|_| sample.note(b"x", 1));
        assert!(sample.keys().len() > often);
        assert_eq!(sample.cost(), 100_000 + 2 * (KEYS_MAX as u64 + 1) * COST_BETWEEN);
    }

    #[test]
    fn keys_that_come_in_turn_are_all_met() {
        // Sixteen series in a row, as a poller writes them, looked like one hot series that no boundary can split.
        let mut sample = LoadSample::default();
        (0..64_000_u32).for_each(|turn| sample.note(&[b'a' + (turn % 16) as u8], 1));
        let counts: Vec<usize> = (b'a'..=b'p')
            .map(|letter| sample.keys().iter().filter(|key| ***key == [letter]).count())
            .collect();
        assert!(counts.iter().all(|count| (8..64).contains(count)), "{counts:?}");
    }

    #[test]
    fn what_costs_more_is_met_more_often() {
        // A shard that is busy with long scans would keep them all, since each is one command.
        let mut sample = LoadSample::default();
        for _ in 0..20_000 {
            sample.note(b"small", 1);
            sample.note(b"large", 3);
        }
        let large = sample.keys().iter().filter(|key| **key == b"large").count();
        assert!(large.abs_diff(KEYS_MAX * 3 / 4) < 40, "{large} of {KEYS_MAX}");
        sample.note(b"huge", u64::from(u32::MAX));
        assert!(sample.keys().iter().all(|key| key == b"huge"));
        assert_eq!((units_of(100), units_of(64 << 10)), (0, 32));
    }
}
