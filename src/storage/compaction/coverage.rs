//! What range deletes cover, for a merge that walks the series in order.

use super::series_cutoffs::SeriesCutoffs;
use crate::model::SlotClass;
use crate::model::{KeyRange, Seqno};
use crate::storage::range_delete::RangeDelete;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A stretch of time (inclusive) and the highest seqno of the deletes that cover it.
pub(super) type Stretch = (i64, i64, u64);

/// Range deletes by the start of their keys, and those that cover the series at hand.
pub(super) struct Coverage {
    deletes: Vec<RangeDelete>,
    series_cutoffs: Arc<SeriesCutoffs>,
    /// The first that starts beyond the series at hand.
    next: usize,
    active: Vec<usize>,
}

impl Coverage {
    pub(super) fn new(mut deletes: Vec<RangeDelete>, series_cutoffs: Arc<SeriesCutoffs>) -> Self {
        deletes.sort_by(|a, b| a.keys.start.cmp(&b.keys.start));
        Self { deletes, series_cutoffs, next: 0, active: Vec::new() }
    }
    /// What is covered of `series`, as disjoint ascending stretches. Series must not descend from call to call.
    pub(super) fn of(&mut self, series: &[u8], class: SlotClass) -> Vec<Stretch> {
        while self.deletes.get(self.next).is_some_and(|delete| *delete.keys.start <= *series) {
            self.active.push(self.next);
            self.next += 1;
        }
        let deletes = &self.deletes;
        let at = |index: &usize| deletes.get(*index);
        self.active.retain(|index| at(index).is_some_and(|delete| delete.keys.contains(series)));
        let too_old = self.series_cutoffs.stretch_of(series).map(|(from, to, below)| RangeDelete {
            keys: KeyRange::all(),
            times: Some((from, to)),
            seqno: Seqno(below),
        });
        stretches(self.active.iter().filter_map(at).chain(&too_old), class)
    }
}

/// Cuts what the deletes cover of one series into disjoint stretches.
fn stretches<'a>(deletes: impl Iterator<Item = &'a RangeDelete>, class: SlotClass) -> Vec<Stretch> {
    // Seqnos that begin and end at a time; ends are one past the last time, in 128 bits as there is no time after the last.
    let mut edges: BTreeMap<i128, (Vec<u64>, Vec<u64>)> = BTreeMap::new();
    for delete in deletes {
        let (from, to) = match delete.times {
            None => (i64::MIN, i64::MAX),
            Some(times) if class == SlotClass::Time => times,
            Some(_) => continue,
        };
        if from <= to {
            edges.entry(i128::from(from)).or_default().0.push(delete.seqno.0);
            edges.entry(i128::from(to) + 1).or_default().1.push(delete.seqno.0);
        }
    }
    let mut stretches = Vec::new();
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    let mut start = 0;
    for (edge, (begin, end)) in edges {
        if let (Some((seqno, _)), Ok(from), Ok(to)) =
            (open.last_key_value(), i64::try_from(start), i64::try_from(edge - 1))
        {
            stretches.push((from, to, *seqno));
        }
        begin.into_iter().for_each(|seqno| *open.entry(seqno).or_default() += 1);
        for seqno in end {
            let count = open.entry(seqno).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&seqno);
            }
        }
        start = edge;
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeleteScope;

    #[test]
    fn the_newest_delete_counts_where_several_overlap() {
        // An older one on top would leave entries visible that the newer one hides.
        let time = |from, to, seqno| RangeDelete {
            keys: KeyRange::all(),
            times: Some((from, to)),
            seqno: Seqno(seqno),
        };
        let deletes =
            [time(0, 10, 5), time(5, 20, 9), time(8, 9, 1), time(i64::MAX, i64::MAX, 3), time(7, 2, 50)];
        assert_eq!(
            stretches(deletes.iter(), SlotClass::Time),
            [(0, 4, 5), (5, 7, 9), (8, 9, 9), (10, 10, 9), (11, 20, 9), (i64::MAX, i64::MAX, 3)]
        );
        assert_eq!(stretches(deletes.iter(), SlotClass::Timeless), []);
        let all = RangeDelete::new(DeleteScope::All, Seqno(7));
        assert_eq!(stretches([&all].into_iter(), SlotClass::Metadata), [(i64::MIN, i64::MAX, 7)]);
    }

    #[test]
    fn deletes_cover_the_series_within_their_keys() {
        // The walk keeps only what can still matter; dropping one too early shows deleted data.
        let prefix = |prefix, seqno| RangeDelete::new(DeleteScope::Prefix { prefix }, Seqno(seqno));
        let mut coverage =
            Coverage::new(vec![prefix(b"b", 2), prefix(b"bb", 3), prefix(b"a", 1)], Arc::default());
        let mut newest =
            |series: &[u8]| coverage.of(series, SlotClass::Time).iter().map(|stretch| stretch.2).max();
        assert_eq!(newest(b"a"), Some(1));
        assert_eq!(newest(b"ab"), Some(1));
        assert_eq!(newest(b"b"), Some(2));
        assert_eq!(newest(b"bba"), Some(3));
        assert_eq!(newest(b"bc"), Some(2));
        assert_eq!(newest(b"c"), None);
    }
}
