//! Connections open on each core. The kernel spreads new ones by a hash of their addresses, which leaves a few
//! long-lived ones anywhere: whoever accepts one on the shared port gives it to a core that has fewer.

use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module. Counts may be a moment old: that a connection lands on the second best core does no harm.
pub(crate) struct Seats {
    taken: Box<[AtomicUsize]>,
}

impl Seats {
    pub(crate) fn new(cores: usize) -> Self {
        Self { taken: (0..cores).map(|_| AtomicUsize::new(0)).collect() }
    }
    /// Takes a seat for a connection that `core` has accepted: there, unless another core has fewer.
    pub(crate) fn take(&self, core: u16) -> u16 {
        let counts = (0u16..).zip(self.taken.iter().map(|taken| taken.load(Ordering::Relaxed)));
        let seat = counts.min_by_key(|(candidate, count)| (*count, *candidate != core));
        let seat = seat.map_or(core, |(candidate, _)| candidate);
        self.take_at(seat);
        seat
    }
    /// Takes a seat on this core.
    pub(crate) fn take_at(&self, core: u16) {
        if let Some(taken) = self.taken.get(usize::from(core)) {
            taken.fetch_add(1, Ordering::Relaxed);
        }
    }
    /// Gives a seat back.
    pub(crate) fn leave(&self, core: u16) {
        if let Some(taken) = self.taken.get(usize::from(core)) {
            let before = taken.fetch_sub(1, Ordering::Relaxed);
            assert!(before > 0, "only a taken seat is left");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_even_wherever_they_come_in() {
        // All connections of a small pool on one core: it works, and the others look on.
        let seats = Seats::new(3);
        let given: Vec<u16> = (0..6).map(|_| seats.take(1)).collect();
        assert_eq!(given[0], 1, "the core that accepts keeps it when nobody has fewer");
        assert!((0..3).all(|core| given.iter().filter(|seat| **seat == core).count() == 2), "{given:?}");
        seats.take_at(0);
        seats.leave(2);
        assert_eq!(seats.take(1), 2);
        assert_eq!(seats.take(0), 1);
    }
}
