//! The range deletes that concern one series, cut into disjoint stretches of time.
//!
//! ```text
//! deletes     5: ├──────────────┤           fragments   ├──5──┤├────9────┤├─5─┤   ├─7─┤
//!             9:       ├────────┤   7: ├──┤
//! ```
//! Where several overlap, only the highest seqno counts, because the snapshot is fixed: what it hides is a superset
//! of what the others hide there.

use super::View;
use crate::model::{Seqno, SlotClass};
use std::collections::BinaryHeap;

/// A stretch of time in which everything below a seqno is hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    /// First time.
    pub(super) from: i64,
    /// Last time, inclusive.
    pub(super) to: i64,
    /// Entries with a lower seqno are hidden.
    pub(super) seqno: Seqno,
}

/// Disjoint stretches in time order.
#[derive(Clone, Debug, Default)]
pub(super) struct Fragments {
    list: Vec<Fragment>,
}

impl Fragments {
    /// The deletes that a view sees for a series and class, within `from..=to`, and what is too old. `hash` is the series' hash.
    pub(super) fn gather(
        view: &View<'_>,
        hash: u64,
        series: &[u8],
        class: SlotClass,
        (from, to): (i64, i64),
    ) -> Self {
        let sets = view.memtables.iter().map(|memtable| memtable.deletes());
        let sets = sets.chain([view.version.deletes()]).filter(|set| !set.is_empty());
        let mut found = Vec::new();
        for delete in sets.flat_map(|set| set.of_series(hash, series)) {
            let times = match delete.times {
                Some(_) if class != SlotClass::Time => continue,
                times => times.unwrap_or((i64::MIN, i64::MAX)),
            };
            let (start, end) = (times.0.max(from), times.1.min(to));
            if start <= end && delete.seqno <= view.snapshot {
                found.push(Fragment { from: start, to: end, seqno: delete.seqno });
            }
        }
        // Whatever the snapshot: what is too old is gone for everyone.
        for cutoff in view.version.cutoffs().iter().filter(|_| class == SlotClass::Time) {
            let end = cutoff.before.saturating_sub(1).min(to);
            if from <= end {
                found.push(Fragment { from, to: end, seqno: cutoff.below });
            }
        }
        Self { list: cut(found) }
    }
    /// The stretch that holds `time`.
    pub(super) fn at(&self, time: i64) -> Option<Fragment> {
        let index = self.list.partition_point(|fragment| fragment.to < time);
        self.list.get(index).filter(|fragment| fragment.from <= time).copied()
    }
    /// Whether something in `from..=to` with this seqno or a higher one may be hidden.
    pub(super) fn hides_some(&self, (from, to): (i64, i64), seqno_min: Seqno) -> bool {
        let index = self.list.partition_point(|fragment| fragment.to < from);
        let within = self.list.iter().skip(index).take_while(|fragment| fragment.from <= to);
        within.into_iter().any(|fragment| fragment.seqno > seqno_min)
    }
    /// The seqno below which entries at `time` are hidden; 0 when none are.
    pub(super) fn hidden_below(&self, time: i64) -> Seqno {
        self.at(time).map_or(Seqno(0), |fragment| fragment.seqno)
    }
    /// The stretch from `time` on, up to where another seqno hides: its last time, inclusive, and the seqno.
    pub(super) fn level_after(&self, time: i64) -> (i64, Seqno) {
        let index = self.list.partition_point(|fragment| fragment.to < time);
        match self.list.get(index) {
            Some(fragment) if fragment.from <= time => (fragment.to, fragment.seqno),
            Some(fragment) => (fragment.from - 1, Seqno(0)),
            None => (i64::MAX, Seqno(0)),
        }
    }
    /// The stretch up to `time`, down to where another seqno hides: its first time and the seqno.
    pub(super) fn level_before(&self, time: i64) -> (i64, Seqno) {
        let above = self.list.partition_point(|fragment| fragment.from <= time);
        match above.checked_sub(1).and_then(|index| self.list.get(index)) {
            Some(fragment) if fragment.to >= time => (fragment.from, fragment.seqno),
            Some(fragment) => (fragment.to + 1, Seqno(0)),
            None => (i64::MIN, Seqno(0)),
        }
    }
}

/// Cuts overlapping stretches into disjoint ones with the highest seqno of each place.
fn cut(mut deletes: Vec<Fragment>) -> Vec<Fragment> {
    if deletes.len() < 2 {
        return deletes;
    }
    deletes.sort_unstable_by_key(|delete| delete.from);
    let mut starts: Vec<i64> = deletes.iter().map(|delete| delete.from).collect();
    starts.extend(deletes.iter().filter_map(|delete| delete.to.checked_add(1)));
    starts.sort_unstable();
    starts.dedup();

    let mut cut: Vec<Fragment> = Vec::new();
    // Deletes that began, highest seqno on top; those that have ended are taken away when they come to the top.
    let mut open: BinaryHeap<(Seqno, i64)> = BinaryHeap::new();
    let mut coming = deletes.into_iter().peekable();
    for (index, from) in starts.iter().copied().enumerate() {
        while let Some(delete) = coming.next_if(|delete| delete.from <= from) {
            open.push((delete.seqno, delete.to));
        }
        while open.peek().is_some_and(|(_, to)| *to < from) {
            open.pop();
        }
        let Some((seqno, _)) = open.peek().copied() else { continue };
        let to = starts.get(index + 1).map_or(i64::MAX, |next| next - 1);
        match cut.last_mut() {
            Some(last) if last.seqno == seqno && last.to == from - 1 => last.to = to,
            _ => cut.push(Fragment { from, to, seqno }),
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_hide_what_the_deletes_hide() {
        // A stretch too long hides live samples, one too short brings deleted ones back.
        let mut state = 7_u64;
        let mut random = move |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        let edge = |place: u64| match place {
            0 => i64::MIN,
            31 => i64::MAX,
            place => place as i64 - 16,
        };
        for _ in 0..500 {
            let deletes: Vec<Fragment> = (0..random(8))
                .map(|_| {
                    let (a, b) = (edge(random(32)), edge(random(32)));
                    Fragment { from: a.min(b), to: a.max(b), seqno: Seqno(1 + random(10)) }
                })
                .collect();
            let fragments = Fragments { list: cut(deletes.clone()) };
            for pair in fragments.list.windows(2) {
                assert!(pair[0].to < pair[1].from, "{pair:?} of {deletes:?}");
            }
            for time in (0..32).map(edge) {
                let covering = deletes.iter().filter(|delete| (delete.from..=delete.to).contains(&time));
                let expected = covering.map(|delete| delete.seqno).max().unwrap_or_default();
                assert_eq!(fragments.hidden_below(time), expected, "at {time} of {deletes:?}");
                let (to, seqno) = fragments.level_after(time);
                assert!(to >= time && seqno == expected, "after {time} of {deletes:?}");
                assert_eq!(fragments.hidden_below(to), expected);
                let (from, seqno) = fragments.level_before(time);
                assert!(from <= time && seqno == expected, "before {time} of {deletes:?}");
                assert_eq!(fragments.hidden_below(from), expected);
            }
        }
    }
}
