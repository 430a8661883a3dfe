//! How long the disk takes to answer the log: for the metrics, and for a line in the daemon's own log when it is slow.
//!
//! Invariant: a flight is in the list from its submission to its completion, so the front is the oldest.

use std::collections::VecDeque;

/// An answer that takes longer is worth a line.
const SLOW_NS: u64 = 1_000_000_000;

/// Log operations under way.
#[derive(Debug, Default)]
pub(super) struct LogWatch {
    /// Id, and when it was submitted; oldest first.
    flights: VecDeque<(u64, u64)>,
    slowness_told: bool,
}

impl LogWatch {
    pub(super) fn submitted(&mut self, id: u64, now_ns: u64) {
        self.flights.push_back((id, now_ns));
    }
    pub(super) fn ended(&mut self, id: u64) {
        self.flights.retain(|(flight, _)| *flight != id);
    }
    pub(super) fn is_waiting(&self) -> bool {
        !self.flights.is_empty()
    }
    /// How long the oldest operation has waited; says once when that is long, and once when it is over.
    pub(super) fn look(&mut self, core: u16, now_ns: u64) -> u64 {
        let waited_ns = self.flights.front().map_or(0, |(_, since)| now_ns.saturating_sub(*since));
        let is_slow = waited_ns >= SLOW_NS;
        if is_slow && !self.slowness_told {
            log::warn!("core {core}: the disk has not answered the log for {} ms", waited_ns / 1_000_000);
        } else if !is_slow && self.slowness_told {
            log::info!("core {core}: the disk answers the log again");
        }
        self.slowness_told = is_slow;
        waited_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_operation_under_way_counts() {
        // A disk that hangs with one write and answers the next one would look healthy.
        let mut watch = LogWatch::default();
        assert_eq!((watch.is_waiting(), watch.look(0, 9)), (false, 0));
        watch.submitted(1, 10);
        watch.submitted(2, 30);
        watch.ended(2);
        assert_eq!((watch.is_waiting(), watch.look(0, 50)), (true, 40));
        assert!(!watch.slowness_told);
        assert_eq!(watch.look(0, 10 + SLOW_NS), SLOW_NS);
        assert!(watch.slowness_told);
        watch.ended(1);
        assert_eq!((watch.is_waiting(), watch.look(0, 2 * SLOW_NS)), (false, 0));
        assert!(!watch.slowness_told);
    }
}
