//! What the retention of series has hidden, for merges: by series, samples before a time.
//!
//! It is what the tables alone tell below a horizon, under which nothing can come back from a log or a memtable. Writes
//! never move the edge of a retention back without a range delete of what lies behind it (`read::series_retention`). So
//! what was hidden below the horizon once is hidden for ever, from every snapshot too, and a list stays true while the
//! store goes on; what is written later has higher seqnos, and is not its concern.

use super::coverage::Stretch;
use crate::model::Seqno;
use crate::storage::version::Table;

/// See the module's header.
#[derive(Clone, Debug, Default)]
pub struct SeriesCutoffs {
    /// Only entries with a lower seqno are hidden.
    below: Seqno,
    /// Series and the earliest time that each keeps; ascending.
    list: Vec<(Box<[u8]>, i64)>,
}

/// What parts of a table are counted in.
pub const PART_WHOLE: u64 = 1000;

impl SeriesCutoffs {
    /// `list` in any order, a series not twice with different times.
    #[must_use]
    pub fn new(below: Seqno, mut list: Vec<(Box<[u8]>, i64)>) -> Self {
        list.sort();
        list.dedup();
        Self { below, list }
    }
    /// Series that have a retention and samples.
    #[must_use]
    pub fn series(&self) -> usize {
        self.list.len()
    }
    /// What is hidden of a series.
    pub(super) fn stretch_of(&self, series: &[u8]) -> Option<Stretch> {
        let place = self.list.binary_search_by(|(other, _)| (**other).cmp(series)).ok()?;
        let (_, kept_from) = self.list.get(place)?;
        Some((i64::MIN, kept_from.checked_sub(1)?, self.below.0))
    }
    /// The part of a table that is hidden, in [`PART_WHOLE`]ths, if its series are alike and their samples evenly spread.
    #[must_use]
    pub fn part_hidden(&self, table: &Table) -> u64 {
        let meta = &table.meta;
        let is_told = meta.span.is_some() && meta.series > 0 && meta.seqno_max < self.below;
        if !is_told {
            return 0;
        }
        let (first, last) = (i128::from(meta.time_min), i128::from(meta.time_max));
        let start = self.list.partition_point(|(series, _)| **series < *meta.first_key);
        let within = self.list.iter().skip(start).take_while(|(series, _)| **series <= *meta.last_key);
        let whole = i128::from(PART_WHOLE);
        let hidden: i128 = within
            .filter(|(_, kept_from)| *kept_from > meta.time_min)
            .filter(|(series, _)| table.may_contain(series, crate::model::SlotClass::Time))
            .map(|(_, kept_from)| ((i128::from(*kept_from) - first) * whole / (last - first + 1)).min(whole))
            .sum();
        let part = hidden / i128::from(meta.series);
        u64::try_from(part).unwrap_or_default().min(PART_WHOLE)
    }
}
