//! What is written: puts and deletes. An entry is (series, slot, seqno, operation).

use super::value::Value;

/// What an entry does to its (series, slot).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryOp<'a> {
    /// Stores a value.
    Put(Value<'a>),
    /// Removes what is older at this slot.
    Delete,
}

/// What a delete covers. All kinds are O(1) to write and hide whatever has a lower seqno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteScope<'a> {
    /// Samples of one series in `from..=to`; not its metadata or timeless value.
    TimeRange { series: &'a [u8], from: i64, to: i64 },
    /// One series with all its slots.
    Series { series: &'a [u8] },
    /// Every series that starts with the prefix, with all slots.
    Prefix { prefix: &'a [u8] },
    /// Everything.
    All,
}

/// A stretch of series keys, `start..end`; no end means up to the last key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// First key that belongs; empty for the first of all.
    pub start: Box<[u8]>,
    /// First key that no longer belongs.
    pub end: Option<Box<[u8]>>,
}

impl KeyRange {
    /// All keys.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }
    /// All keys that start with `prefix`.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while end.last() == Some(&u8::MAX) {
            end.pop();
        }
        let end = end.pop().map(|last| {
            end.push(last + 1);
            end.into_boxed_slice()
        });
        Self { start: prefix.into(), end }
    }
    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &*self.start && self.end.as_deref().is_none_or(|end| key < end)
    }
    /// Whether some key lies in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let below = |end: &Option<Box<[u8]>>, start: &[u8]| end.as_deref().is_some_and(|end| end <= start);
        !below(&self.end, &other.start) && !below(&other.end, &self.start)
    }
    /// The keys that lie in both; may be empty.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let start = Ord::max(&self.start, &other.start).clone();
        let end = match (&self.end, &other.end) {
            (Some(a), Some(b)) => Some(Ord::min(a, b).clone()),
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        Self { start, end }
    }
    /// Whether no key can lie in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_range_ends_at_the_next_prefix() {
        // A wrong end loses the last series of a prefix, or shows those of another.
        let range = KeyRange::prefix(b"cpu");
        assert!(range.contains(b"cpu") && range.contains(b"cpu\xff\xff") && !range.contains(b"cpv"));
        assert_eq!(KeyRange::prefix(b"a\xff").end.as_deref(), Some(&b"b"[..]));
        assert_eq!(KeyRange::prefix(b"\xff\xff").end, None);
        assert!(KeyRange::prefix(b"").contains(b"anything"));
    }

    #[test]
    fn ranges_that_only_touch_do_not_overlap() {
        // Neighbouring shards would believe that they share a key, and both would answer for it.
        let range = |start: &[u8], end: &[u8]| KeyRange { start: start.into(), end: Some(end.into()) };
        assert!(!range(b"a", b"b").overlaps(&range(b"b", b"c")));
        assert!(range(b"a", b"c").overlaps(&range(b"b", b"d")));
        assert!(KeyRange::all().overlaps(&range(b"b", b"d")));
        assert!(range(b"a", b"b").intersection(&range(b"b", b"c")).is_empty());
    }
}
