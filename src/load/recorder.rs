//! What one thread has measured, second by second.
//!
//! Headline latencies (response time under a schedule, else service time) go into the histogram of their second;
//! finished seconds go to the collector, which gives their memory back. Under a schedule service times go into one more
//! histogram per operation. Operations alike in all that is recorded, as a burst of replies has them, are counted
//! together and recorded at once.

use super::latency::LatencyHistogram;
use std::sync::mpsc::{Receiver, Sender};

const NS_PER_SECOND: u64 = 1_000_000_000;

/// What one operation did in one second.
#[derive(Clone, Debug, Default)]
pub(super) struct OpSecond {
    /// Answered, errors included.
    pub(super) count: u64,
    pub(super) errors: u64,
    pub(super) values: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    /// Of those that were not refused.
    pub(super) latencies: LatencyHistogram,
}

impl OpSecond {
    pub(super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.errors += other.errors;
        self.values += other.values;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.latencies.merge(&other.latencies);
    }
    fn clear(&mut self) {
        (self.count, self.errors, self.values) = (0, 0, 0);
        (self.bytes_sent, self.bytes_received) = (0, 0);
        self.latencies.clear();
    }
}

/// What one thread did in one second, by operation.
#[derive(Clone, Debug)]
pub(super) struct ThreadSecond {
    pub(super) thread: u64,
    /// Counted from the start of the measured time.
    pub(super) second: u64,
    pub(super) ops: Vec<OpSecond>,
    /// How late the schedule was when it ended.
    pub(super) behind_ns: u64,
    /// Work of the thread so far, without spinning, in nanoseconds.
    pub(super) busy_ns: u64,
}

/// An answered operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) op: u8,
    pub(super) failed: bool,
    /// When it was due; none in a closed loop.
    pub(super) intended_ns: Option<u64>,
    pub(super) sent_ns: u64,
    pub(super) done_ns: u64,
}

/// Amounts that belong to an answered operation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Amounts {
    pub(super) values: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
}

/// The recorder of one thread.
pub(super) struct Recorder {
    thread: u64,
    measure_ns: u64,
    second: u64,
    ops: Vec<OpSecond>,
    /// By operation; used under a schedule only.
    pub(super) service: Vec<LatencyHistogram>,
    /// Alike, and not yet recorded.
    alike: Option<(Answered, u64)>,
    finished: Sender<ThreadSecond>,
    /// Emptied ones, to be used again.
    spare: Receiver<Vec<OpSecond>>,
    /// End of the last measured operation.
    pub(super) last_done_ns: u64,
    /// Measured operations that were answered.
    pub(super) count: u64,
}

impl Recorder {
    /// A recorder of what is due (or sent, in a closed loop) from `measure_ns` on.
    pub(super) fn new(
        thread: u64,
        op_count: usize,
        measure_ns: u64,
        finished: Sender<ThreadSecond>,
        spare: Receiver<Vec<OpSecond>>,
    ) -> Self {
        Self {
            thread,
            measure_ns,
            second: 0,
            ops: vec![OpSecond::default(); op_count],
            service: vec![LatencyHistogram::default(); op_count],
            alike: None,
            finished,
            spare,
            last_done_ns: measure_ns,
            count: 0,
        }
    }

    /// When the warm-up ends.
    pub(super) fn measure_ns(&self) -> u64 {
        self.measure_ns
    }

    /// Records `count` operations, unless they belong to the warm-up; `amounts` are of all together.
    #[inline]
    pub(super) fn record(&mut self, answered: Answered, count: u64, amounts: Amounts) {
        if answered.intended_ns.unwrap_or(answered.sent_ns) < self.measure_ns {
            return;
        }
        let op = &mut self.ops[usize::from(answered.op)];
        op.values += amounts.values;
        op.bytes_sent += amounts.bytes_sent;
        op.bytes_received += amounts.bytes_received;
        match &mut self.alike {
            Some((alike, sum)) if *alike == answered => *sum += count,
            _ => {
                self.settle();
                self.alike = Some((answered, count));
            }
        }
    }

    /// Records what was counted together.
    pub(super) fn settle(&mut self) {
        let Some((answered, count)) = self.alike.take() else { return };
        let index = usize::from(answered.op);
        let op = &mut self.ops[index];
        op.count += count;
        self.count += count;
        self.last_done_ns = self.last_done_ns.max(answered.done_ns);
        if answered.failed {
            op.errors += count;
            return;
        }
        let service_ns = answered.done_ns.saturating_sub(answered.sent_ns);
        match answered.intended_ns {
            None => op.latencies.record_many(service_ns, count),
            Some(intended_ns) => {
                op.latencies.record_many(answered.done_ns.saturating_sub(intended_ns), count);
                self.service[index].record_many(service_ns, count);
            }
        }
    }

    /// Hands over the seconds that have passed at `now_ns`. Call it before recording what was done at `now_ns`.
    pub(super) fn turn_over(&mut self, now_ns: u64, behind_ns: u64, busy_ns: u64) {
        let second = now_ns.saturating_sub(self.measure_ns) / NS_PER_SECOND;
        if second > self.second {
            self.hand_over(behind_ns, busy_ns);
            self.second = second;
        }
    }

    /// Hands over the current second.
    pub(super) fn hand_over(&mut self, behind_ns: u64, busy_ns: u64) {
        self.settle();
        let count = self.ops.len();
        let empty = match self.spare.try_recv() {
            Ok(mut spare) => {
                spare.iter_mut().for_each(OpSecond::clear);
                spare
            }
            Err(_) => vec![OpSecond::default(); count],
        };
        let ops = std::mem::replace(&mut self.ops, empty);
        let finished = ThreadSecond { thread: self.thread, second: self.second, ops, behind_ns, busy_ns };
        // A collector that is gone needs nothing more.
        let _ = self.finished.send(finished);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn response_time_counts_from_the_intended_send() {
        // A stalled server would be measured only by the requests that were in flight.
        let (finished, seconds) = channel();
        let (_give_back, spare) = channel();
        let mut recorder = Recorder::new(0, 1, 1_000_000_000, finished, spare);
        let answered = |intended: u64, sent_ns, done_ns| Answered {
            op: 0,
            failed: false,
            intended_ns: Some(intended),
            sent_ns,
            done_ns,
        };
        let amounts = Amounts { values: 3, ..Amounts::default() };
        recorder.record(answered(999_999_999, 1_000_000_000, 1_000_000_000), 1, amounts);
        recorder.record(answered(1_000_000_000, 1_500_000_000, 1_600_000_000), 1, amounts);
        recorder.turn_over(2_100_000_000, 0, 0);
        recorder.record(answered(1_000_000_000, 1_500_000_000, 2_100_000_000), 1, amounts);
        recorder.record(
            Answered { failed: true, ..answered(1_000_000_000, 1, 2_200_000_000) },
            1,
            Amounts::default(),
        );
        recorder.hand_over(0, 0);
        let seconds: Vec<ThreadSecond> = seconds.try_iter().collect();
        assert_eq!(seconds.iter().map(|part| part.second).collect::<Vec<_>>(), [0, 1]);
        let first = &seconds[0].ops[0];
        assert_eq!((first.count, first.values), (1, 3), "the warm-up is in no second");
        assert!((599_000_000..601_000_000).contains(&first.latencies.histogram().max()));
        let second = &seconds[1].ops[0];
        assert_eq!((second.count, second.errors, second.latencies.count()), (2, 1, 1));
        assert!((99_000_000..101_000_000).contains(&recorder.service[0].histogram().min()));
        assert_eq!((recorder.count, recorder.last_done_ns), (3, 2_200_000_000));
    }
}
