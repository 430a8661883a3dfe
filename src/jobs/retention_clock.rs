//! Which wall clock retention believes. What it drops is gone for good, so one wrong look at a clock must not do it.
//!
//! ```text
//! believed ──────┬── + time passed ──┬── + one span ──┐
//!      behind: nothing happens    believed         ahead: held until the clock has stood by it for a span
//! ```
//! A clock that goes back loses nothing: what is believed never goes back, and waits for the clock to catch up. One
//! that leaps ahead is believed when it has run on steadily from there for as long as a span, which leaves the operator
//! that time. The last clock that was believed is kept in the manifest, so a leap across a restart is one too; a store
//! that has none believes its first clock.

use crate::model::TimeUnit;
use crate::teeth::{Bug, planted};

/// What a look at the clock gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Belief {
    /// This is the time.
    Believed(i64),
    /// The clock is behind this, which was the time before.
    Behind(i64),
    /// The clock leapt ahead of what was expected.
    Ahead { believed: i64 },
}

impl Belief {
    /// The time to go by.
    pub(super) fn clock(self) -> i64 {
        match self {
            Self::Believed(clock) | Self::Behind(clock) | Self::Ahead { believed: clock } => clock,
        }
    }
}

/// See the module's header. Times are in the store's unit.
pub(super) struct RetentionClock {
    span: i64,
    unit: TimeUnit,
    /// The highest time believed, and the monotonic clock when it was.
    believed: Option<(i64, u64)>,
    is_first_look: bool,
    /// Where the clock leapt to, and the monotonic clock then.
    leap: Option<(i64, u64)>,
}

impl RetentionClock {
    /// Goes on from what was believed before, if anything was; leaps of more than `span` are doubted.
    pub(super) fn new(believed: Option<i64>, span: i64, unit: TimeUnit) -> Self {
        assert!(span > 0, "a span has a length");
        Self { span, unit, believed: believed.map(|time| (time, 0)), is_first_look: true, leap: None }
    }
    /// Judges what the wall clock says now.
    pub(super) fn look(&mut self, now_ns: u64, wall: i64) -> Belief {
        let is_first_look = std::mem::replace(&mut self.is_first_look, false);
        let Some((time, at_ns)) = &mut self.believed else { return self.believe(now_ns, wall) };
        if is_first_look {
            *at_ns = now_ns;
        }
        let (time, at_ns) = (*time, *at_ns);
        if wall <= time {
            self.leap = None;
            return Belief::Behind(time);
        }
        let is_near = wall <= self.expected(time, at_ns, now_ns).saturating_add(self.span);
        if is_near || planted(Bug::BelieveEveryClock) {
            return self.believe(now_ns, wall);
        }
        let (to, since_ns) = *self.leap.get_or_insert((wall, now_ns));
        let ran_to = self.expected(to, since_ns, now_ns);
        if wall.abs_diff(ran_to) > self.span.unsigned_abs() {
            self.leap = Some((wall, now_ns));
        } else if self.passed(since_ns, now_ns) >= self.span {
            return self.believe(now_ns, wall);
        }
        Belief::Ahead { believed: time }
    }
    fn believe(&mut self, now_ns: u64, wall: i64) -> Belief {
        self.believed = Some((wall, now_ns));
        self.leap = None;
        Belief::Believed(wall)
    }
    fn expected(&self, time: i64, at_ns: u64, now_ns: u64) -> i64 {
        time.saturating_add(self.passed(at_ns, now_ns))
    }
    fn passed(&self, from_ns: u64, to_ns: u64) -> i64 {
        self.unit.of_unix_ns(i64::try_from(to_ns.saturating_sub(from_ns)).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn clock(believed: Option<i64>) -> RetentionClock {
        RetentionClock::new(believed, 60_000, TimeUnit::Milliseconds)
    }

    #[test]
    fn a_clock_that_runs_is_believed_and_one_that_goes_back_loses_nothing() {
        // Retention that stops for a slow clock fills the disk; one that follows it back shows what was gone.
        let mut clock = clock(None);
        assert_eq!(clock.look(SECOND, 5_000_000), Belief::Believed(5_000_000));
        assert_eq!(clock.look(601 * SECOND, 5_600_000), Belief::Believed(5_600_000));
        assert_eq!(clock.look(602 * SECOND, 0), Belief::Behind(5_600_000));
        assert_eq!(clock.look(900 * SECOND, 5_599_999), Belief::Behind(5_600_000));
        // Set right again: the time that passed meanwhile is no leap.
        assert_eq!(clock.look(1000 * SECOND, 6_000_000), Belief::Believed(6_000_000));
    }

    #[test]
    fn a_leap_is_believed_when_it_lasts() {
        // One wrong answer of a time server must not drop years of data.
        let mut clock = clock(Some(1_000_000));
        assert_eq!(clock.look(0, 1_050_000), Belief::Believed(1_050_000));
        let held = Belief::Ahead { believed: 1_050_000 };
        assert_eq!(clock.look(SECOND, 900_000_000), held);
        assert_eq!(clock.look(59 * SECOND, 900_058_000), held);
        // It leaps again: the wait begins anew.
        assert_eq!(clock.look(60 * SECOND, 1_900_000_000), held);
        assert_eq!(clock.look(119 * SECOND, 1_900_059_000), held);
        assert_eq!(clock.look(120 * SECOND, 1_900_060_000), Belief::Believed(1_900_060_000));
    }

    #[test]
    fn a_leap_that_is_taken_back_leaves_no_trace() {
        // A hold that outlasts its cause would keep old data on the disk for another span.
        let mut clock = clock(Some(1_000_000));
        assert_eq!(clock.look(5 * SECOND, 1_000_000), Belief::Behind(1_000_000));
        assert_eq!(clock.look(6 * SECOND, i64::MAX), Belief::Ahead { believed: 1_000_000 });
        assert_eq!(clock.look(7 * SECOND, 1_002_000), Belief::Believed(1_002_000));
        assert_eq!(clock.look(80 * SECOND, i64::MAX), Belief::Ahead { believed: 1_002_000 });
    }
}
