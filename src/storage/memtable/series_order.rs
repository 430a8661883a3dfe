//! The ordered index of a memtable: series numbers in key order.
//!
//! A list of short sorted lists. The keys stay with the series; beside each number lies a **mark**: the eight bytes of
//! its key behind what all keys of the list begin with. A search compares marks, which lie together, and looks at a key
//! only where marks are the same: most of what a search would cost are keys that are not in the processor's cache. A new
//! series shifts at most one short list. Positions hold until the next insertion.

use std::cmp::Ordering;

/// A list is split in two when it would exceed this: what an insertion shifts at most.
const PART_ENTRIES_MAX: usize = 512;
/// Marks of a list that begin with this many equal bits are made anew from what comes later in the keys.
const EQUAL_BITS_MAX: u32 = 32;

/// Place of a series in the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    part: usize,
    index: usize,
}

/// Series numbers in key order; no part is ever empty.
#[derive(Clone, Debug, Default)]
pub(super) struct SeriesOrder {
    parts: Vec<Part>,
    /// The last series of each part.
    lasts: Part,
    /// Bytes of the parts, without the list of them.
    part_bytes: usize,
}

/// A sorted list.
#[derive(Clone, Debug, Default)]
struct Part {
    numbers: Vec<u32>,
    /// Of each number, the mark of its key; in the same order as the keys, but for equal ones.
    marks: Vec<u64>,
    /// What all keys begin with; not always all of it.
    prefix: Vec<u8>,
}

impl Part {
    /// Index of the first key that is not below `key`.
    fn seek<'k>(&self, key: &[u8], key_of: impl Fn(u32) -> &'k [u8]) -> usize {
        let head = key.get(..self.prefix.len()).unwrap_or(key);
        match head.cmp(&self.prefix) {
            Ordering::Less => return 0,
            Ordering::Greater => return self.numbers.len(),
            Ordering::Equal => {}
        }
        let mark = mark_of(key, self.prefix.len());
        let start = self.marks.partition_point(|other| *other < mark);
        let alike = self.marks[start..].partition_point(|other| *other == mark);
        start + self.numbers[start..start + alike].partition_point(|number| key_of(*number) < key)
    }
    /// Puts a series at an index.
    fn insert<'k>(&mut self, index: usize, number: u32, key_of: impl Fn(u32) -> &'k [u8]) {
        let key = key_of(number);
        if self.numbers.is_empty() {
            self.prefix = key.to_vec();
        }
        if !key.starts_with(&self.prefix) {
            self.prefix.truncate(common_bytes(&self.prefix, key));
            self.mark_anew(&key_of);
        }
        self.numbers.insert(index, number);
        self.marks.insert(index, mark_of(key, self.prefix.len()));
    }
    /// Takes the entries from an index on into a list of their own.
    fn split_off<'k>(&mut self, index: usize, key_of: impl Fn(u32) -> &'k [u8]) -> Self {
        let mut right = Self {
            numbers: Vec::with_capacity(PART_ENTRIES_MAX),
            marks: Vec::with_capacity(PART_ENTRIES_MAX),
            prefix: self.prefix.clone(),
        };
        right.numbers.extend(self.numbers.drain(index..));
        right.marks.extend(self.marks.drain(index..));
        self.sharpen(&key_of);
        right.sharpen(&key_of);
        right
    }
    /// Lengthens the prefix where the marks tell little.
    fn sharpen<'k>(&mut self, key_of: impl Fn(u32) -> &'k [u8]) {
        let (Some(first), Some(last)) = (self.marks.first(), self.marks.last()) else { return };
        if (first ^ last).leading_zeros() < EQUAL_BITS_MAX {
            return;
        }
        let (first, last) = (key_of(self.numbers[0]), key_of(self.numbers[self.numbers.len() - 1]));
        self.prefix = first[..common_bytes(first, last)].to_vec();
        self.mark_anew(key_of);
    }
    fn mark_anew<'k>(&mut self, key_of: impl Fn(u32) -> &'k [u8]) {
        for (mark, number) in self.marks.iter_mut().zip(&self.numbers) {
            *mark = mark_of(key_of(*number), self.prefix.len());
        }
    }
    fn memory_bytes(&self) -> usize {
        self.numbers.capacity() * size_of::<u32>()
            + self.marks.capacity() * size_of::<u64>()
            + self.prefix.capacity()
    }
}

/// The eight bytes of a key from `start` on, as a number that sorts like them; zeros stand for what is missing.
fn mark_of(key: &[u8], start: usize) -> u64 {
    let rest = key.get(start..).unwrap_or_default();
    let mut bytes = [0; 8];
    let count = rest.len().min(bytes.len());
    bytes[..count].copy_from_slice(&rest[..count]);
    u64::from_le_bytes(bytes).swap_bytes()
}

/// How many bytes two keys begin with alike.
fn common_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl SeriesOrder {
    /// First place whose series' key is not below `key`.
    pub(super) fn seek<'k>(&self, key: &[u8], key_of: impl Fn(u32) -> &'k [u8]) -> Place {
        let part = self.lasts.seek(key, &key_of);
        let index = self.parts.get(part).map_or(0, |part| part.seek(key, &key_of));
        Place { part, index }
    }
    /// The place behind the last series.
    pub(super) fn end(&self) -> Place {
        Place { part: self.parts.len(), index: 0 }
    }
    /// The series at a place; `None` behind the last.
    pub(super) fn get(&self, place: Place) -> Option<u32> {
        self.parts.get(place.part)?.numbers.get(place.index).copied()
    }
    /// The place after this one.
    pub(super) fn after(&self, place: Place) -> Place {
        match self.parts.get(place.part) {
            Some(part) if place.index + 1 < part.numbers.len() => Place { index: place.index + 1, ..place },
            Some(_) => Place { part: place.part + 1, index: 0 },
            None => place,
        }
    }
    /// The place before this one; `None` before the first.
    pub(super) fn before(&self, place: Place) -> Option<Place> {
        if place.index > 0 {
            return Some(Place { index: place.index - 1, ..place });
        }
        let part = place.part.checked_sub(1)?;
        Some(Place { part, index: self.parts.get(part)?.numbers.len() - 1 })
    }
    /// Adds a series whose key is not there yet; `key_of` knows it already.
    pub(super) fn insert<'k>(&mut self, number: u32, key_of: impl Fn(u32) -> &'k [u8]) {
        let mut place = self.seek(key_of(number), &key_of);
        if place.part == self.parts.len() {
            // Behind everything: the last part takes it, so that ascending keys fill parts up.
            match self.parts.len().checked_sub(1) {
                Some(last) => place = Place { part: last, index: self.parts[last].numbers.len() },
                None => {
                    self.parts.push(Part::default());
                    self.lasts.insert(0, number, &key_of);
                }
            }
        }
        if self.parts[place.part].numbers.len() == PART_ENTRIES_MAX {
            place = self.split(place, &key_of);
        }
        let part = &mut self.parts[place.part];
        let bytes = part.memory_bytes();
        let is_last = place.index == part.numbers.len();
        part.insert(place.index, number, &key_of);
        self.part_bytes = (self.part_bytes + part.memory_bytes()).wrapping_sub(bytes);
        if is_last {
            self.lasts.numbers.remove(place.part);
            self.lasts.marks.remove(place.part);
            self.lasts.insert(place.part, number, key_of);
        }
    }
    /// Bytes of memory held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.parts.capacity() * size_of::<Part>() + self.part_bytes + self.lasts.memory_bytes()
    }
    /// Halves a full part, or opens a new one behind it when the entry goes to its end.
    fn split<'k>(&mut self, place: Place, key_of: impl Fn(u32) -> &'k [u8]) -> Place {
        let part = &mut self.parts[place.part];
        let opens = place.index == part.numbers.len();
        if opens {
            // The new part is empty for a moment, with the entry's place as its last.
            self.parts.insert(place.part + 1, Part::default());
            let last = self.lasts.numbers[place.part];
            self.lasts.insert(place.part + 1, last, key_of);
            return Place { part: place.part + 1, index: 0 };
        }
        let before = part.memory_bytes();
        let at = part.numbers.len() / 2;
        let right = part.split_off(at, &key_of);
        self.part_bytes = (self.part_bytes + part.memory_bytes() + right.memory_bytes()).wrapping_sub(before);
        let last = part.numbers[at - 1];
        self.parts.insert(place.part + 1, right);
        self.lasts.insert(place.part, last, key_of);
        if place.index >= at { Place { part: place.part + 1, index: place.index - at } } else { place }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys in the order of their arrival, and the order of them.
    fn filled(keys: &[Vec<u8>]) -> SeriesOrder {
        let mut order = SeriesOrder::default();
        for number in 0..u32::try_from(keys.len()).unwrap() {
            order.insert(number, |number| &keys[number as usize]);
        }
        order
    }

    fn check(keys: &[Vec<u8>]) {
        let order = filled(keys);
        let key_of = |number: u32| &*keys[number as usize];
        let mut sorted: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
        sorted.sort_unstable();
        let mut place = order.seek(b"", key_of);
        for (index, expected) in sorted.iter().enumerate() {
            assert_eq!(order.get(place).map(key_of), Some(*expected));
            assert_eq!(order.seek(expected, key_of), place);
            for between in
                [&[expected, &b"\0"[..]].concat()[..], &expected[..expected.len().saturating_sub(1)]]
            {
                let next = sorted.partition_point(|key| *key < between);
                let found = order.get(order.seek(between, key_of)).map(key_of);
                assert_eq!(found, sorted.get(next).copied(), "{index}: {}", between.escape_ascii());
            }
            place = order.after(place);
        }
        assert_eq!(order.get(place), None);
        for expected in sorted.iter().rev() {
            place = order.before(place).expect("a place for each");
            assert_eq!(order.get(place).map(key_of), Some(*expected));
        }
        assert_eq!(order.before(place), None);
        let parts = &order.parts;
        assert!(parts.iter().all(|part| !part.numbers.is_empty() && part.numbers.len() <= PART_ENTRIES_MAX));
        let lasts: Vec<u32> = parts.iter().map(|part| *part.numbers.last().unwrap()).collect();
        assert_eq!(order.lasts.numbers, lasts);
        let bytes: usize = parts.iter().map(Part::memory_bytes).sum();
        assert_eq!(order.part_bytes, bytes, "what is counted is what is held");
    }

    #[test]
    fn walks_visit_every_series_in_order_both_ways() {
        // A series that a walk misses is missing from its flush: acknowledged data would be gone.
        let name = |number: u32| format!("metrics:host-{number:05}:cpu").into_bytes();
        check(&[]);
        check(&(0..3000).map(name).collect::<Vec<_>>());
        check(&(0..3000).rev().map(name).collect::<Vec<_>>());
        check(&(0..3000).map(|number| name(number * 7 % 3000)).collect::<Vec<_>>());
    }

    #[test]
    fn keys_are_ordered_whatever_they_have_in_common() {
        // Marks that are the same, keys that are a part of others, zeros: one wrong place hides a series.
        let keys = |count: u32, key: fn(u32) -> Vec<u8>| {
            let mut keys: Vec<Vec<u8>> = (0..count).map(key).collect();
            let mut seen = std::collections::BTreeSet::new();
            keys.retain(|key| seen.insert(key.clone()));
            keys
        };
        // One prefix that takes up every mark, and keys that differ behind it.
        check(&keys(2000, |n| format!("{}{}", "x".repeat(60), n * 7919 % 4001).into_bytes()));
        // Every key begins the next.
        check(&keys(1500, |n| vec![b'a'; (n * 691 % 1500) as usize]));
        // Zeros, of which marks have some of their own.
        check(&keys(1500, |n| vec![0; (n * 691 % 1500) as usize]));
        // Two bytes, at every depth.
        check(&keys(3000, |n| {
            let bits = n.wrapping_mul(2_654_435_761);
            (0..bits % 24).map(|at| if bits >> (at % 32) & 1 == 0 { 0 } else { 0xff }).collect()
        }));
        // Neighbours first, then something far away that shortens the prefix.
        check(&keys(1200, |n| match n % 100 {
            99 => format!("{}", n * 31 % 1000).into_bytes(),
            _ => format!("series/of/one/kind/{}", n * 613 % 1200).into_bytes(),
        }));
    }
}
