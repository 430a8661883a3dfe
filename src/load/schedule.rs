//! When operations are due: fixed before anything is sent, whatever the server does.
//!
//! The rate is the total of all threads. Constant arrivals are evenly spaced over all threads together: thread `k` of
//! `n` has every `n`-th one. Poisson arrivals are independent per thread, and together Poisson again.

use super::random::{draw, exponential, to_whole};

const NS_PER_SECOND: f64 = 1e9;

/// How arrivals are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrival {
    /// Evenly.
    #[default]
    Constant,
    /// Independently of each other.
    Poisson,
}

impl Arrival {
    /// As the flag and the document name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "const",
            Self::Poisson => "poisson",
        }
    }
}

/// Which thread of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) thread: u64,
    pub(super) threads: u64,
}

/// The due times of one thread, in nanoseconds of the monotonic clock.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    arrival: Arrival,
    share: Share,
    seed: u64,
    start_ns: u64,
    /// Between two arrivals of all threads.
    gap_ns: f64,
    /// Arrivals of this thread that were taken.
    taken: u64,
    /// Since `start_ns`; of the next arrival.
    offset_ns: f64,
}

impl Schedule {
    /// Arrivals from `start_ns` on, `rate` per second over all threads.
    ///
    /// # Panics
    /// Where the rate is not positive.
    pub(super) fn new(arrival: Arrival, rate: f64, share: Share, seed: u64, start_ns: u64) -> Self {
        assert!(rate > 0.0, "a rate of nothing never ends");
        let gap_ns = NS_PER_SECOND / rate;
        let mut schedule = Self { arrival, share, seed, start_ns, gap_ns, taken: 0, offset_ns: 0.0 };
        schedule.offset_ns = schedule.first_offset_ns();
        schedule
    }

    fn first_offset_ns(&self) -> f64 {
        match self.arrival {
            Arrival::Constant => self.share.thread as f64 * self.gap_ns,
            Arrival::Poisson => self.next_gap_ns(),
        }
    }
    fn next_gap_ns(&self) -> f64 {
        let seed = self.seed ^ self.share.thread.rotate_left(32);
        exponential(draw(seed, self.taken)) * self.gap_ns * self.share.threads as f64
    }

    /// When the next operation is due.
    #[must_use]
    pub(super) fn due_ns(&self) -> u64 {
        self.start_ns.saturating_add(to_whole(self.offset_ns))
    }
    /// Takes the next operation: the one after it is next.
    pub(super) fn advance(&mut self) {
        self.taken += 1;
        match self.arrival {
            // From the index, not by adding gaps: rounding must not add up over a long run.
            Arrival::Constant => {
                let index = self.taken * self.share.threads + self.share.thread;
                self.offset_ns = index as f64 * self.gap_ns;
            }
            Arrival::Poisson => self.offset_ns += self.next_gap_ns(),
        }
    }
    /// About how many operations are due at `now_ns`.
    #[must_use]
    pub(super) fn backlog(&self, now_ns: u64) -> u64 {
        let late_ns = now_ns.saturating_sub(self.due_ns()) as f64;
        1 + to_whole(late_ns / (self.gap_ns * self.share.threads as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(arrival: Arrival, rate: f64, share: Share, count: usize) -> Vec<u64> {
        let mut schedule = Schedule::new(arrival, rate, share, 9, 1_000);
        std::iter::repeat_with(|| {
            let due = schedule.due_ns();
            schedule.advance();
            due
        })
        .take(count)
        .collect()
    }

    #[test]
    fn constant_arrivals_of_all_threads_are_evenly_spaced() {
        // Threads that fire together make bursts that no user asked for.
        let mut all: Vec<u64> = (0..3)
            .flat_map(|thread| times(Arrival::Constant, 300.0, Share { thread, threads: 3 }, 1000))
            .collect();
        all.sort_unstable();
        for (index, due) in all.iter().enumerate() {
            let expected = 1_000.0 + index as f64 * 1e9 / 300.0;
            assert!((*due as f64 - expected).abs() <= 1.0, "arrival {index} is due at {due}");
        }
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread() {
        // Gaps of another distribution load the server otherwise than the flag says.
        let due = times(Arrival::Poisson, 1_000.0, Share { thread: 1, threads: 2 }, 50_000);
        let gaps: Vec<f64> = due.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean / 2e6 - 1.0).abs() < 0.02, "a half of 1000/s has a mean gap of 2 ms, not {mean} ns");
        assert!((deviation / mean - 1.0).abs() < 0.03, "deviation {deviation} of mean {mean}");
    }

    #[test]
    fn the_backlog_counts_what_is_due() {
        // Late operations would be sent one per turn, and never catch up.
        let schedule =
            Schedule::new(Arrival::Constant, 1_000.0, Share { thread: 0, threads: 1 }, 0, 5_000_000);
        assert_eq!(schedule.backlog(5_000_000), 1);
        assert_eq!(schedule.backlog(14_500_000), 10);
    }
}
