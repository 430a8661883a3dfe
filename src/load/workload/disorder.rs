//! Late and repeated rows, and hosts that give way to new ones: what real collectors do to a store.
//!
//! Each is a die per (host, tick), so that the same options make the same disorder.

use super::super::random::{below, draw, unit};
use serde::{Deserialize, Serialize};

const LATE_DICE: u64 = 0x6c61_7465;
const DELAY_DICE: u64 = 0x6465_6c61;
const DUPLICATE_DICE: u64 = 0x6475_706c;
const CHURN_DICE: u64 = 0x6368_7572;

/// Rows that come late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lateness {
    /// Share of rows, 0..=1.
    pub share: f64,
    /// How late at most, in milliseconds of event time.
    pub delay_ms: i64,
}

/// Hosts that are replaced by new ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Churn {
    /// Share of hosts, 0..=1, that is replaced each period.
    pub share: f64,
    /// The period, in milliseconds of event time.
    pub period_ms: i64,
}

/// The dice of one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disorder {
    pub(super) seed: u64,
    pub(super) late_share: f64,
    /// Ticks that a late row is held back at most.
    pub(super) delay_ticks_max: u64,
    pub(super) duplicate_share: f64,
    pub(super) churn_share: f64,
    /// Ticks between replacements; 0: none.
    pub(super) churn_ticks: u64,
}

impl Disorder {
    fn die(&self, stream: u64, host: u64, tick: u64) -> u64 {
        draw(self.seed ^ stream ^ host.rotate_left(32), tick)
    }
    /// By how many ticks the row is late; 0: not at all.
    pub(super) fn delay(&self, host: u64, tick: u64) -> u64 {
        if self.late_share <= 0.0 || unit(self.die(LATE_DICE, host, tick)) >= self.late_share {
            return 0;
        }
        1 + below(self.die(DELAY_DICE, host, tick), self.delay_ticks_max.max(1))
    }
    /// Whether the row is sent twice.
    pub(super) fn is_duplicated(&self, host: u64, tick: u64) -> bool {
        self.duplicate_share > 0.0 && unit(self.die(DUPLICATE_DICE, host, tick)) < self.duplicate_share
    }
    /// Whether a new host takes the place at this tick.
    pub(super) fn is_replaced(&self, host: u64, tick: u64) -> bool {
        self.churn_ticks > 0
            && tick > 0
            && tick.is_multiple_of(self.churn_ticks)
            && unit(self.die(CHURN_DICE, host, tick)) < self.churn_share
    }
}
