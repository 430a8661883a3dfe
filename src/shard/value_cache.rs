//! Visible values of slots without time that lie in tables, for keys that were read of late: a lookup in one step
//! instead of one in memtables, filters, indexes, blocks and chunks.
//!
//! A record says what a read of the present would find. Whatever may change that takes it out in the same step: a write
//! or delete of the slot forgets it, and deletes of many keys and hand-overs begin a new epoch, which forgets everything
//! at no cost. Flushes and merges change nothing that is visible. Since what it says comes from tables, it is durable.
//!
//! Records lie one behind the other in chunks. When the last chunk is full, the oldest is emptied and filled anew, so
//! that nothing is ever moved, and no lookup writes.

use crate::model::{Seqno, SlotClass};

/// Places in a bucket.
const WAYS: usize = 4;
/// Bytes of a record that is neither small nor large, to size the buckets.
const RECORD_BYTES_TYPICAL: u64 = 128;
/// Records begin at multiples of it.
const ALIGN: usize = 8;
/// Hash, epoch, seqno, lengths of key and value.
const HEADER_BYTES: usize = 32;
/// A record takes at most this part of a chunk.
const RECORDS_IN_CHUNK_MIN: usize = 8;

/// One part of the memory.
struct Chunk {
    bytes: Box<[u8]>,
    /// How far it is filled.
    used: usize,
}

/// A record as it lies in a chunk.
struct Record<'a> {
    hash: u64,
    epoch: u64,
    seqno: Seqno,
    key: &'a [u8],
    value: &'a [u8],
}

/// See the module.
pub(crate) struct ValueCache {
    /// Buckets of [`WAYS`] places. The upper half of a place is that of the hash; the lower half is where the record
    /// begins, in units of [`ALIGN`], plus 1. A free place is 0.
    places: Vec<u64>,
    chunks: Vec<Chunk>,
    chunks_max: usize,
    chunk_bytes: usize,
    /// The chunk that is being filled.
    current: usize,
    epoch: u64,
    hits: u64,
    misses: u64,
}

impl ValueCache {
    /// A cache of at most `bytes`; nothing is kept in less than a few KiB.
    pub(crate) fn new(bytes: u64) -> Self {
        let bytes = bytes.min(u64::from(u32::MAX));
        let places = (bytes / RECORD_BYTES_TYPICAL).next_power_of_two().max(WAYS as u64);
        let for_records = bytes.saturating_sub(places * size_of::<u64>() as u64);
        let chunk_bytes = (bytes / 64).next_power_of_two().clamp(1 << 10, 64 << 10);
        let whole = |count: u64| usize::try_from(count).expect("at most 4 GiB");
        let chunks_max = whole(for_records / chunk_bytes);
        Self {
            places: if chunks_max < 2 { Vec::new() } else { vec![0; whole(places)] },
            chunks: Vec::new(),
            chunks_max,
            chunk_bytes: whole(chunk_bytes),
            current: 0,
            epoch: 0,
            hits: 0,
            misses: 0,
        }
    }

    /// Forgets a slot, and perhaps another one.
    pub(crate) fn forget(&mut self, series_hash: u64, class: SlotClass) {
        if self.places.is_empty() {
            return;
        }
        let hash = slot_hash(series_hash, class);
        let bucket = self.bucket(hash);
        let places = self.places[bucket..bucket + WAYS].iter_mut();
        places.filter(|place| **place >> 32 == hash >> 32).for_each(|place| *place = 0);
    }

    /// What was remembered until now holds no longer.
    pub(crate) fn begin_epoch(&mut self) {
        self.epoch += 1;
    }

    /// The visible entry of a slot, if it is remembered.
    pub(crate) fn find(
        &mut self,
        series_hash: u64,
        series: &[u8],
        class: SlotClass,
    ) -> Option<(Seqno, &[u8])> {
        let hash = slot_hash(series_hash, class);
        let found = self
            .position_of(hash, series)
            .filter(|position| self.record(*position).is_some_and(|record| record.epoch == self.epoch));
        self.hits += u64::from(found.is_some());
        self.record(found?).map(|record| (record.seqno, record.value))
    }

    /// Remembers the visible entry of a slot, which lies in a table.
    pub(crate) fn keep(
        &mut self,
        series_hash: u64,
        series: &[u8],
        class: SlotClass,
        (seqno, value): (Seqno, &[u8]),
    ) {
        self.misses += 1;
        let bytes = (HEADER_BYTES + series.len() + value.len()).next_multiple_of(ALIGN);
        if bytes > self.chunk_bytes / RECORDS_IN_CHUNK_MIN || self.places.is_empty() {
            return;
        }
        let hash = slot_hash(series_hash, class);
        let record = Record { hash, epoch: self.epoch, seqno, key: series, value };
        let known = self.position_of(hash, series);
        if let Some(position) = known
            && self.record(position).is_some_and(|old| old.value.len() == value.len())
        {
            self.write(position, &record);
            return;
        }
        let position = self.make_room(bytes);
        self.write(position, &record);
        // Making room may have emptied the chunk of the old record, and with it the place.
        let bucket = self.bucket(hash);
        let old = known.map(|position| place_of(hash, position));
        let places = &mut self.places[bucket..bucket + WAYS];
        let at = places.iter().position(|place| Some(*place) == old);
        let at = at.or_else(|| places.iter().position(|place| *place == 0));
        // Whose turn it is does not matter, as long as it is not always the same one's.
        places[at.unwrap_or(position / ALIGN % WAYS)] = place_of(hash, position);
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        (self.chunks.len() * self.chunk_bytes) as u64
    }
    /// Lookups answered, and values that were found in tables instead.
    pub(crate) fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits, self.misses)
    }

    fn bucket(&self, hash: u64) -> usize {
        let buckets = self.places.len() / WAYS;
        ((hash & LOW) as usize & (buckets - 1)) * WAYS
    }

    /// Where the record of a slot begins, of whatever epoch.
    fn position_of(&self, hash: u64, series: &[u8]) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        let bucket = self.bucket(hash);
        let places = self.places[bucket..bucket + WAYS].iter();
        let of_hash = places.filter(|place| **place >> 32 == hash >> 32 && **place & LOW != 0);
        let mut positions = of_hash.map(|place| ((place & LOW) as usize - 1) * ALIGN);
        positions.find(|position| {
            self.record(*position).is_some_and(|record| record.hash == hash && record.key == series)
        })
    }

    fn record(&self, position: usize) -> Option<Record<'_>> {
        let chunk = self.chunks.get(position / self.chunk_bytes)?;
        let bytes = chunk.bytes.get(position % self.chunk_bytes..)?;
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let lengths = word(24);
        let (key, rest) = rest.split_at_checked((lengths & LOW) as usize)?;
        let value = rest.get(..(lengths >> 32) as usize)?;
        Some(Record { hash: word(0), epoch: word(8), seqno: Seqno(word(16)), key, value })
    }

    fn write(&mut self, position: usize, record: &Record<'_>) {
        let chunk = &mut self.chunks[position / self.chunk_bytes];
        let mut rest = &mut chunk.bytes[position % self.chunk_bytes..];
        let lengths = (record.value.len() as u64) << 32 | record.key.len() as u64;
        for word in [record.hash, record.epoch, record.seqno.0, lengths] {
            rest = put(rest, &word.to_le_bytes());
        }
        rest = put(rest, record.key);
        put(rest, record.value);
    }

    /// Takes room for a record; the oldest ones give way.
    fn make_room(&mut self, bytes: usize) -> usize {
        let is_full =
            self.chunks.get(self.current).is_some_and(|chunk| chunk.used + bytes > self.chunk_bytes);
        if is_full {
            self.current = (self.current + 1) % self.chunks_max;
        }
        if self.current == self.chunks.len() {
            self.chunks.push(Chunk { bytes: vec![0; self.chunk_bytes].into(), used: 0 });
        } else if is_full {
            self.empty(self.current);
        }
        let chunk = &mut self.chunks[self.current];
        let position = self.current * self.chunk_bytes + chunk.used;
        chunk.used += bytes;
        position
    }

    /// Forgets the records of a chunk.
    fn empty(&mut self, index: usize) {
        let start = index * self.chunk_bytes;
        let end = start + self.chunks[index].used;
        let mut position = start;
        while position < end {
            let record = self.record(position).expect("a chunk is full of records to where it is used");
            let bytes = (HEADER_BYTES + record.key.len() + record.value.len()).next_multiple_of(ALIGN);
            let place = place_of(record.hash, position);
            let bucket = self.bucket(record.hash);
            self.places[bucket..bucket + WAYS]
                .iter_mut()
                .filter(|old| **old == place)
                .for_each(|old| *old = 0);
            position += bytes;
        }
        self.chunks[index].used = 0;
    }
}

/// The lower half of a word.
const LOW: u64 = u32::MAX as u64;

/// What a place says of a record.
fn place_of(hash: u64, position: usize) -> u64 {
    (hash >> 32 << 32) | (position / ALIGN + 1) as u64
}

/// One hash for all that may be remembered of a series.
fn slot_hash(series_hash: u64, class: SlotClass) -> u64 {
    match class {
        SlotClass::Timeless => series_hash,
        SlotClass::Metadata | SlotClass::Time => !series_hash,
    }
}

/// Writes to the front of `place`; what is left of it.
fn put<'a>(place: &'a mut [u8], bytes: &[u8]) -> &'a mut [u8] {
    let (front, rest) = place.split_at_mut(bytes.len());
    front.copy_from_slice(bytes);
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memtable::series_hash;

    fn keep(cache: &mut ValueCache, key: &[u8], seqno: u64, value: &[u8]) {
        cache.keep(series_hash(key), key, SlotClass::Timeless, (Seqno(seqno), value));
    }
    fn find(cache: &mut ValueCache, key: &[u8]) -> Option<(u64, Vec<u8>)> {
        let found = cache.find(series_hash(key), key, SlotClass::Timeless);
        found.map(|(seqno, value)| (seqno.0, value.to_vec()))
    }

    #[test]
    fn a_record_holds_for_its_epoch_its_key_and_its_class() {
        // A value from before a delete would be served after it.
        let mut cache = ValueCache::new(1 << 20);
        keep(&mut cache, b"a", 7, b"one");
        assert_eq!(find(&mut cache, b"a"), Some((7, b"one".to_vec())));
        assert_eq!(find(&mut cache, b"b"), None);
        assert_eq!(cache.find(series_hash(b"a"), b"a", SlotClass::Metadata), None);
        cache.begin_epoch();
        assert_eq!(find(&mut cache, b"a"), None);
        // In the place of the old record, and longer than it.
        keep(&mut cache, b"a", 8, b"two");
        assert_eq!(find(&mut cache, b"a"), Some((8, b"two".to_vec())));
        keep(&mut cache, b"a", 9, b"three");
        assert_eq!(find(&mut cache, b"a"), Some((9, b"three".to_vec())));
        cache.forget(series_hash(b"a"), SlotClass::Metadata);
        assert!(find(&mut cache, b"a").is_some());
        cache.forget(series_hash(b"a"), SlotClass::Timeless);
        assert_eq!(find(&mut cache, b"a"), None);
        assert_eq!(cache.hits_and_misses(), (4, 3));
    }

    #[test]
    fn keys_of_one_hash_are_told_apart() {
        // One client's key would read another's value.
        let mut cache = ValueCache::new(1 << 20);
        for (key, value) in [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")] {
            cache.keep(42, key, SlotClass::Timeless, (Seqno(1), value));
        }
        assert_eq!(cache.find(42, b"b", SlotClass::Timeless), Some((Seqno(1), &b"2"[..])));
        assert_eq!(cache.find(42, b"d", SlotClass::Timeless), None);
    }

    #[test]
    fn the_oldest_give_way_and_nothing_wrong_is_ever_found() {
        // Memory would grow with the number of keys, or a reused chunk would answer for what it held before.
        for budget in [0, 1 << 10, 4 << 10, 8 << 10, 100 << 10] {
            let mut cache = ValueCache::new(budget);
            let value = |index: u64| {
                let bytes = usize::try_from(index * 37 % 90).unwrap();
                [&index.to_le_bytes()[..], &vec![0xa5; bytes]].concat()
            };
            for index in 0..5_000_u64 {
                keep(&mut cache, &(index % 2_500).to_le_bytes(), index, &value(index));
                for back in [0, 1, 7, 40, 2_499] {
                    let Some(earlier) = index.checked_sub(back) else { continue };
                    let found = find(&mut cache, &(earlier % 2_500).to_le_bytes());
                    assert!(found.is_none_or(|found| found == (earlier, value(earlier))), "{earlier}");
                }
            }
            assert!(cache.bytes() <= budget, "{} of {budget}", cache.bytes());
            let last = find(&mut cache, &2_499_u64.to_le_bytes());
            assert_eq!(last.is_some(), budget >= 4 << 10, "with {budget}");
        }
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        // A few large values would push out everything else.
        let mut cache = ValueCache::new(1 << 20);
        keep(&mut cache, b"large", 1, &[0; 4_096]);
        assert_eq!(find(&mut cache, b"large"), None);
    }
}
