//! Deletes that cover a stretch of keys: of a time range, a series, a prefix, everything. One form for all of them.

use crate::model::{DeleteScope, KeyRange, Seqno, Slot};

/// Hides every entry with a lower seqno whose series lies in `keys` and whose slot is covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeDelete {
    /// Series that it covers.
    pub keys: KeyRange,
    /// Timestamps that it covers, inclusive; `None` covers every slot, metadata and timeless values too.
    pub times: Option<(i64, i64)>,
    /// When it was written.
    pub seqno: Seqno,
}

impl RangeDelete {
    /// The stored form of what a client asked for.
    #[must_use]
    pub fn new(scope: DeleteScope<'_>, seqno: Seqno) -> Self {
        let (keys, times) = match scope {
            DeleteScope::TimeRange { series, from, to } => (single_series(series), Some((from, to))),
            DeleteScope::Series { series } => (single_series(series), None),
            DeleteScope::Prefix { prefix } => (KeyRange::prefix(prefix), None),
            DeleteScope::All => (KeyRange::all(), None),
        };
        Self { keys, times, seqno }
    }
    /// Whether it hides an entry.
    #[must_use]
    pub fn hides(&self, series: &[u8], slot: Slot, seqno: Seqno) -> bool {
        seqno < self.seqno && self.keys.contains(series) && self.covers_slot(slot)
    }
    /// Whether entries at `slot` are within its times.
    #[must_use]
    pub fn covers_slot(&self, slot: Slot) -> bool {
        match (self.times, slot) {
            (None, _) => true,
            (Some((from, to)), Slot::Time(time)) => (from..=to).contains(&time),
            (Some(_), Slot::Metadata | Slot::Timeless) => false,
        }
    }
    /// The part of it that concerns `keys`, if any.
    #[must_use]
    pub fn clip(&self, keys: &KeyRange) -> Option<Self> {
        let keys = self.keys.intersection(keys);
        (!keys.is_empty()).then_some(Self { keys, ..*self })
    }
    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.keys.start.len() + self.keys.end.as_ref().map_or(0, |end| end.len())
    }
}

/// The range that holds exactly one key.
#[must_use]
pub fn single_series(series: &[u8]) -> KeyRange {
    let mut end = series.to_vec();
    end.push(0);
    KeyRange { start: series.into(), end: Some(end.into_boxed_slice()) }
}

/// The key that a range holds, when it has the form of [`single_series`].
#[must_use]
pub fn only_series(keys: &KeyRange) -> Option<&[u8]> {
    let (last, series) = keys.end.as_deref()?.split_last()?;
    (*last == 0 && *series == *keys.start && !series.is_empty()).then_some(series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delete_hides_only_what_is_older_and_covered() {
        // Too wide hides live data, too narrow resurrects deleted data.
        let delete = RangeDelete::new(DeleteScope::TimeRange { series: b"s", from: -5, to: 5 }, Seqno(10));
        assert!(delete.hides(b"s", Slot::Time(5), Seqno(9)) && delete.hides(b"s", Slot::Time(-5), Seqno(1)));
        assert!(
            !delete.hides(b"s", Slot::Time(6), Seqno(9)) && !delete.hides(b"s", Slot::Time(0), Seqno(10))
        );
        assert!(
            !delete.hides(b"s\0", Slot::Time(0), Seqno(1)) && !delete.hides(b"s", Slot::Timeless, Seqno(1))
        );
        let series = RangeDelete::new(DeleteScope::Series { series: b"s" }, Seqno(10));
        assert!(series.hides(b"s", Slot::Metadata, Seqno(1)) && series.hides(b"s", Slot::Timeless, Seqno(1)));
        let all = RangeDelete::new(DeleteScope::All, Seqno(10));
        assert_eq!(only_series(&series.keys), Some(&b"s"[..]));
        assert_eq!((only_series(&all.keys), only_series(&KeyRange::prefix(b"s"))), (None, None));
        assert!(all.clip(&single_series(b"x")).is_some_and(|clipped| clipped.keys == single_series(b"x")));
    }
}
