//! Retention: which samples are gone for their age or for want of room, as the manifest keeps it.
//!
//! A *cutoff* hides every sample before a time that was written below a seqno. The *active* one, below
//! [`Seqno::MAX`], follows the clock; writes before it are refused. When the retention is lengthened or taken away, the
//! active cutoff is *lifted*: it stays for what had been written by then, so that nothing comes back, and what is
//! written afterwards is kept.
//!
//! ```text
//!                time ─▶   C3           C1
//! written since S1    ░░░░░│                    C3 is active
//! written before S1   ░░░░░░░░░░░░░░░░░░│       C1 was active until it was lifted at S1
//! ```
//! What goes because the store exceeds its size is hidden by a lifted cutoff too, above the seqnos of all tables: old
//! samples may be written again, and go again when they are the oldest.
//!
//! Cutoffs never go back, whatever the clock does: hidden once is hidden for ever. Metadata and timeless values have no
//! age. A lifted cutoff is forgotten when no table holds anything that it hides, and nothing below its seqno is in a log
//! or a memtable any more.

use super::range_delete::RangeDelete;
use super::sstable::TableMeta;
use crate::limits::CUTOFFS_MAX;
use crate::model::{KeyRange, Seqno};

/// See the module's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutoff {
    /// Samples before this time are hidden; above `i64::MIN`.
    pub before: i64,
    /// Of those, the ones with a lower seqno.
    pub below: Seqno,
}

impl Cutoff {
    /// What it hides, as a range delete does.
    #[must_use]
    pub fn as_delete(&self) -> RangeDelete {
        let times = (i64::MIN, self.before.saturating_sub(1));
        RangeDelete { keys: KeyRange::all(), times: Some(times), seqno: self.below }
    }
    /// Whether it hides everything in a table.
    #[must_use]
    pub fn hides_table(&self, meta: &TableMeta) -> bool {
        let is_old = meta.span.is_some() && meta.time_max < self.before && meta.seqno_max < self.below;
        is_old && meta.range_deletes == 0
    }
    /// Whether it may hide anything in a table.
    #[must_use]
    pub fn hides_within(&self, meta: &TableMeta) -> bool {
        meta.span.is_some() && meta.time_min < self.before && meta.seqno_min < self.below
    }
}

/// What the manifest says about age.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    clock: Option<i64>,
    /// Times descend, seqnos ascend: none hides what another one does. The active one is the last.
    cutoffs: Vec<Cutoff>,
}

impl Retention {
    /// What was stored; `None` when it is nothing that tskv stores.
    #[must_use]
    pub fn new(clock: Option<i64>, cutoffs: Vec<Cutoff>) -> Option<Self> {
        let valid = |cutoff: &Cutoff| cutoff.before > i64::MIN && cutoff.below > Seqno(0);
        let ordered = cutoffs.is_sorted_by(|a, b| a.before > b.before && a.below < b.below);
        let fits = cutoffs.len() <= CUTOFFS_MAX && cutoffs.iter().all(valid) && ordered;
        fits.then_some(Self { clock, cutoffs })
    }
    /// The latest wall clock that was believed, in the store's unit; `None` before there was a retention.
    #[must_use]
    pub fn clock(&self) -> Option<i64> {
        self.clock
    }
    /// All of them.
    #[must_use]
    pub fn cutoffs(&self) -> &[Cutoff] {
        &self.cutoffs
    }
    /// The time of the active cutoff.
    #[must_use]
    pub fn active(&self) -> Option<i64> {
        self.cutoffs.last().filter(|cutoff| cutoff.below == Seqno::MAX).map(|cutoff| cutoff.before)
    }
    /// Notes a clock that is believed, and hides what is older than `before`. Neither ever goes back.
    pub fn advance(&mut self, clock: i64, before: i64) {
        self.clock = self.clock.max(Some(clock));
        self.add(Cutoff { before, below: Seqno::MAX });
    }
    /// Hides what is older than `before` and was written below `below`, which is above the seqnos of all tables. Where
    /// there are too many cutoffs, it hides up to the time of the one before it.
    ///
    /// # Panics
    /// When `below` is no seqno of a write.
    pub fn hide(&mut self, before: i64, below: Seqno) {
        assert!(Seqno(0) < below && below < Seqno::MAX, "a lifted cutoff lies between seqnos");
        let lifted = || self.cutoffs.iter().filter(|cutoff| cutoff.below < Seqno::MAX);
        let is_full = lifted().count() + 1 >= CUTOFFS_MAX;
        let last = lifted().next_back().copied().unwrap_or(Cutoff { before, below });
        let before = if is_full { before.max(last.before) } else { before };
        self.add(Cutoff { before, below: below.max(last.below) });
    }
    fn add(&mut self, new: Cutoff) {
        let covers = |a: &Cutoff, b: &Cutoff| a.before >= b.before && a.below >= b.below;
        if new.before > i64::MIN && !self.cutoffs.iter().any(|old| covers(old, &new)) {
            self.cutoffs.retain(|old| !covers(&new, old));
            let at = self.cutoffs.partition_point(|old| old.before > new.before);
            self.cutoffs.insert(at, new);
        }
    }
    /// The active cutoff hides from now on only what was written below `below`, which is above every seqno so far.
    /// It stays as it is when there are too many others, or no seqnos left.
    pub fn lift(&mut self, below: Seqno) {
        assert!(below > Seqno(0), "no write has seqno 0");
        let has_room = self.cutoffs.len() < CUTOFFS_MAX && below < Seqno::MAX;
        let Some(before) = self.active().filter(|_| has_room) else { return };
        self.cutoffs.pop();
        // Nothing has been written since the one before was lifted: that one hides it all.
        if self.cutoffs.last().is_none_or(|last| last.below < below) {
            self.cutoffs.push(Cutoff { before, below });
        }
    }
    /// Forgets lifted cutoffs that hide nothing in these tables, which are all of the store; what is written below
    /// `horizon` is in them.
    pub fn forget_spent<'a>(&mut self, tables: impl Iterator<Item = &'a TableMeta> + Clone, horizon: Seqno) {
        self.cutoffs.retain(|cutoff| {
            let may_hide_more = cutoff.below == Seqno::MAX || cutoff.below > horizon;
            may_hide_more || tables.clone().any(|meta| cutoff.hides_within(meta))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cutoff(before: i64, below: u64) -> Cutoff {
        Cutoff { before, below: Seqno(below) }
    }

    #[test]
    fn hidden_once_is_hidden_for_ever() {
        // A cutoff that went back would show samples that a reader was told are gone.
        let mut retention = Retention::default();
        retention.advance(1000, i64::MIN);
        assert_eq!((retention.active(), retention.clock()), (None, Some(1000)));
        retention.advance(1000, 100);
        retention.advance(900, 50);
        assert_eq!((retention.active(), retention.clock()), (Some(100), Some(1000)));
        retention.lift(Seqno(7));
        assert_eq!((retention.active(), retention.cutoffs()), (None, &[cutoff(100, 7)][..]));
        retention.advance(1000, 20);
        assert_eq!(retention.cutoffs(), [cutoff(100, 7), cutoff(20, u64::MAX)]);
        retention.lift(Seqno(7));
        assert_eq!(retention.cutoffs(), [cutoff(100, 7)]);
        retention.advance(2000, 30);
        retention.lift(Seqno(9));
        retention.advance(3000, 60);
        assert_eq!(retention.cutoffs(), [cutoff(100, 7), cutoff(60, u64::MAX)]);
        retention.advance(4000, 100);
        assert_eq!(retention.cutoffs(), [cutoff(100, u64::MAX)]);
    }

    #[test]
    fn too_many_cutoffs_keep_the_active_one() {
        // Forgetting one would resurrect; a list without bound would be a manifest without bound.
        let mut retention = Retention::default();
        for round in 0..2 * CUTOFFS_MAX as u64 {
            retention.advance(0, 1000 - round.cast_signed());
            retention.lift(Seqno(round + 1));
        }
        assert_eq!(retention.cutoffs().len(), CUTOFFS_MAX);
        assert!(Retention::new(None, retention.cutoffs().to_vec()).is_some());
        assert!(retention.active().is_some());
    }

    #[test]
    fn cutoffs_by_size_come_in_any_order_of_times() {
        // Late data that outgrows the limit is cut at an earlier time than what was cut before it.
        let mut retention = Retention::default();
        retention.hide(100, Seqno(10));
        retention.hide(40, Seqno(20));
        retention.advance(1000, 20);
        assert_eq!(retention.cutoffs(), [cutoff(100, 10), cutoff(40, 20), cutoff(20, u64::MAX)]);
        retention.hide(30, Seqno(15));
        retention.hide(20, Seqno(99));
        assert_eq!(retention.cutoffs().len(), 3, "what is hidden already needs no cutoff");
        retention.hide(60, Seqno(30));
        assert_eq!(retention.cutoffs(), [cutoff(100, 10), cutoff(60, 30), cutoff(20, u64::MAX)]);
        let mut many = retention.clone();
        for round in 0..3 * CUTOFFS_MAX as u64 {
            many.hide(1000 - round.cast_signed(), Seqno(100 + round));
            assert!(many.cutoffs().len() <= CUTOFFS_MAX);
            let hides = |time| many.cutoffs().iter().any(|it| it.before > time && it.below.0 >= 100 + round);
            assert!(hides(999 - round.cast_signed()), "round {round}");
            assert!(Retention::new(None, many.cutoffs().to_vec()).is_some());
        }
        assert_eq!(many.active(), Some(20));
        // What a log may still bring back stays hidden.
        retention.forget_spent(std::iter::empty(), Seqno(29));
        assert_eq!(retention.cutoffs(), [cutoff(60, 30), cutoff(20, u64::MAX)]);
        retention.forget_spent(std::iter::empty(), Seqno(30));
        assert_eq!(retention.cutoffs(), [cutoff(20, u64::MAX)]);
    }

    #[test]
    fn what_tskv_never_stores_is_refused() {
        // From disk it is damage, and must not decide what is hidden.
        for cutoffs in [
            vec![cutoff(i64::MIN, 1)],
            vec![cutoff(5, 0)],
            vec![cutoff(5, 1), cutoff(5, 2)],
            vec![cutoff(5, 2), cutoff(4, 1)],
            (0..=CUTOFFS_MAX as u64).map(|nth| cutoff(1000 - nth.cast_signed(), nth + 1)).collect(),
        ] {
            assert_eq!(Retention::new(Some(0), cutoffs.clone()), None, "{cutoffs:?}");
        }
    }
}
