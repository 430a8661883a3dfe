//! Finds a key among ascending ones by eight bytes of each.
//!
//! The keys of one table mostly begin alike. What all share is kept once, and the eight bytes behind it of each key as
//! a number: a search by halves over a dense array of numbers, instead of over keys that lie apart in memory. Only keys
//! that agree in those bytes are compared in full.

use super::chunk::shared_prefix;
use std::ops::Range;

/// See the module's header.
#[derive(Debug, Default)]
pub(super) struct Heads {
    shared: Box<[u8]>,
    heads: Box<[u64]>,
}

impl Heads {
    /// Of ascending keys.
    pub(super) fn of<'a>(keys: impl DoubleEndedIterator<Item = &'a [u8]> + Clone) -> Self {
        let (first, last) =
            (keys.clone().next().unwrap_or_default(), keys.clone().next_back().unwrap_or_default());
        // What the first and the last key share, those between them share too.
        let count = shared_prefix(first, last);
        let shared = first.get(..count).unwrap_or_default();
        Self { shared: shared.into(), heads: keys.map(|key| head(key, count)).collect() }
    }
    /// Keys before the range are below `key`, those behind it above; those in it have to be compared.
    pub(super) fn range(&self, key: &[u8]) -> Range<usize> {
        let count = self.heads.len();
        let Some(start) = key.get(..self.shared.len()) else {
            // A key that is the start of another is below it.
            return if *key > *self.shared { count..count } else { 0..0 };
        };
        match start.cmp(&self.shared) {
            std::cmp::Ordering::Less => 0..0,
            std::cmp::Ordering::Greater => count..count,
            std::cmp::Ordering::Equal => {
                let head = head(key, self.shared.len());
                let start = self.heads.partition_point(|other| *other < head);
                let rest = self.heads.get(start..).unwrap_or_default();
                // Mostly none or one has the same head.
                let same = if rest.get(1) == Some(&head) {
                    rest.partition_point(|other| *other == head)
                } else {
                    usize::from(rest.first() == Some(&head))
                };
                start..start + same
            }
        }
    }
    pub(super) fn memory_bytes(&self) -> usize {
        self.shared.len() + self.heads.len() * size_of::<u64>()
    }
}

/// The eight bytes of a key from `start` on, 0 where it has none, as a number that orders as they do.
fn head(key: &[u8], start: usize) -> u64 {
    let rest = key.get(start..).unwrap_or_default();
    if let Some(head) = rest.first_chunk::<8>() {
        return u64::from_le_bytes(*head).swap_bytes();
    }
    let mut head = [0; 8];
    head.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
    u64::from_le_bytes(head).swap_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_leaves_out_only_what_is_below_or_above() {
        // A block that is left out wrongly hides the keys in it; so every search is held against one by whole keys.
        let sets: [&[&[u8]]; 6] = [
            &[],
            &[b"a"],
            &[b"a", b"a\0", b"a\0\0", b"ab", b"b"],
            &[b"cpu.0001", b"cpu.0002", b"cpu.0002", b"cpu.00020", b"cpu.0003"],
            &[b"cpu.aaaaaaaa1", b"cpu.aaaaaaaa2", b"cpu.aaaaaaaa2", b"cpu.aaaaaaaa3"],
            &[b"same", b"same", b"same"],
        ];
        let edges: [&[u8]; 6] = [b"\0", b"c", b"cpu", b"cpu.", b"cpu.aaaaaaaa", b"zz"];
        for keys in sets {
            let heads = Heads::of(keys.iter().copied());
            let wanted = keys.iter().copied().chain(edges).flat_map(|key| {
                let longer = [key, b"\0"].concat();
                [key.to_vec(), longer, key.get(..key.len() - 1).unwrap().to_vec()]
            });
            for key in wanted.filter(|key| !key.is_empty()) {
                let range = heads.range(&key);
                let place = keys.partition_point(|other| *other < &*key);
                let exact = range.start + keys[range.clone()].partition_point(|other| *other < &*key);
                assert_eq!(exact, place, "{:?} among {keys:?}: {range:?}", key.escape_ascii().to_string());
            }
        }
    }
}
