//! The ordered index of a memtable: series numbers in key order.
//!
//! A list of short sorted lists. The keys stay with the series, so an index entry costs four bytes; a new series
//! shifts at most one short list. Positions hold until the next insertion.

use std::cmp::Ordering;

/// A list is split in two when it would exceed this: what an insertion shifts at most.
const PART_ENTRIES_MAX: usize = 512;

/// Place of a series in the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    part: usize,
    index: usize,
}

/// Series numbers in key order; no part is ever empty.
#[derive(Clone, Debug, Default)]
pub(super) struct SeriesOrder {
    parts: Vec<Vec<u32>>,
    /// Bytes of the parts, without the list of them.
    part_bytes: usize,
}

impl SeriesOrder {
    /// First place whose series does not compare less; `compare` says how a series' key compares to the sought one.
    pub(super) fn seek(&self, compare: impl Fn(u32) -> Ordering) -> Place {
        let part = self.parts.partition_point(|part| part.last().is_some_and(|last| compare(*last).is_lt()));
        let index =
            self.parts.get(part).map_or(0, |part| part.partition_point(|number| compare(*number).is_lt()));
        Place { part, index }
    }
    /// The place behind the last series.
    pub(super) fn end(&self) -> Place {
        Place { part: self.parts.len(), index: 0 }
    }
    /// The series at a place; `None` behind the last.
    pub(super) fn get(&self, place: Place) -> Option<u32> {
        self.parts.get(place.part)?.get(place.index).copied()
    }
    /// The place after this one.
    pub(super) fn after(&self, place: Place) -> Place {
        match self.parts.get(place.part) {
            Some(part) if place.index + 1 < part.len() => Place { index: place.index + 1, ..place },
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
        Some(Place { part, index: self.parts.get(part)?.len() - 1 })
    }
    /// Adds a series whose key is not there yet.
    pub(super) fn insert(&mut self, number: u32, compare: impl Fn(u32) -> Ordering) {
        let mut place = self.seek(compare);
        if place.part == self.parts.len() {
            // Behind everything: the last part takes it, so that ascending keys fill parts up.
            match self.parts.len().checked_sub(1) {
                Some(last) => place = Place { part: last, index: self.parts[last].len() },
                None => self.parts.push(Vec::new()),
            }
        }
        if self.parts[place.part].len() == PART_ENTRIES_MAX {
            place = self.split(place);
        }
        let part = &mut self.parts[place.part];
        let capacity = part.capacity();
        part.insert(place.index, number);
        self.part_bytes += (part.capacity() - capacity) * size_of::<u32>();
    }
    /// Bytes of memory held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.parts.capacity() * size_of::<Vec<u32>>() + self.part_bytes
    }
    /// Halves a full part, or opens a new one behind it when the entry goes to its end.
    fn split(&mut self, place: Place) -> Place {
        let part = &mut self.parts[place.part];
        let at = if place.index == part.len() { part.len() } else { part.len() / 2 };
        let mut right = Vec::with_capacity(PART_ENTRIES_MAX);
        right.extend(part.drain(at..));
        self.part_bytes += right.capacity() * size_of::<u32>();
        self.parts.insert(place.part + 1, right);
        if place.index >= at { Place { part: place.part + 1, index: place.index - at } } else { place }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(numbers: impl Iterator<Item = u32>) -> SeriesOrder {
        let mut order = SeriesOrder::default();
        for number in numbers {
            order.insert(number, |other| other.cmp(&number));
        }
        order
    }

    #[test]
    fn walks_visit_every_series_in_order_both_ways() {
        // A series that a walk misses is missing from its flush: acknowledged data would be gone.
        for numbers in [
            filled(0..3000),
            filled((0..3000).rev()),
            filled((0..3000).map(|n| n * 7 % 3000).filter(|n| *n < 3000)),
        ] {
            let mut place = numbers.seek(|_| Ordering::Greater);
            for expected in 0..3000 {
                assert_eq!(numbers.get(place), Some(expected));
                assert_eq!(numbers.seek(|other| other.cmp(&expected)), place);
                place = numbers.after(place);
            }
            assert_eq!(numbers.get(place), None);
            for expected in (0..3000).rev() {
                place = numbers.before(place).expect("3000 places");
                assert_eq!(numbers.get(place), Some(expected));
            }
            assert_eq!(numbers.before(place), None);
            assert!(numbers.parts.iter().all(|part| !part.is_empty() && part.len() <= PART_ENTRIES_MAX));
        }
    }
}
