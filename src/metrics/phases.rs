//! Where the time of requests went, by phase.

use super::latency::Buckets;

/// A stretch of a request's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// From its arrival until it was served: others came first, or its connection was paused.
    Queue,
    /// Until the log held what its reply depends on.
    Wal,
    /// In its shard, until the reply was made: blocks were read, or others on the same series came first.
    Read,
    /// To another core that owns its key, and back.
    Forward,
    /// From then on until the kernel had taken its reply.
    Send,
}

impl Phase {
    /// All phases, in the order of [`PhaseTimes`].
    pub const ALL: [Self; 5] = [Self::Queue, Self::Wal, Self::Read, Self::Forward, Self::Send];

    /// The value of the label `phase`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Wal => "wal",
            Self::Read => "read",
            Self::Forward => "forward",
            Self::Send => "send",
        }
    }
}

/// How long each [`Phase`] of a request took, in nanoseconds. Phases within one turn of a core take no time: the clock is
/// read once a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhaseTimes(pub [u64; Phase::ALL.len()]);

impl PhaseTimes {
    /// One phase.
    #[must_use]
    pub fn of(&self, phase: Phase) -> u64 {
        self.0[phase as usize]
    }
    /// All of it.
    #[must_use]
    pub fn total_ns(&self) -> u64 {
        self.0.iter().fold(0, |sum, phase| sum.saturating_add(*phase))
    }
}

/// Totals since start, by [`Phase`].
#[derive(Clone, Copy, Debug, Default)]
pub struct PhaseTotals(pub(super) [Buckets; Phase::ALL.len()]);

impl PhaseTotals {
    /// Records `count` requests whose time went like this. Costs no allocation.
    pub fn record(&mut self, times: &PhaseTimes, count: u32) {
        for (buckets, nanos) in self.0.iter_mut().zip(times.0) {
            buckets.record(nanos, count);
        }
    }
    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.add(theirs);
        }
    }
}
