//! Puts the seconds of all threads together: one row per second, and the totals of a repetition.
//!
//! A second is finished when every thread has handed over a later one, or has ended. Histograms are merged, and those of
//! finished seconds are packed.

use super::latency::LatencySummary;
use super::random::to_whole;
use super::recorder::{OpSecond, ThreadSecond};
use super::result::{Second, SecondOp};
use std::collections::BTreeMap;

/// A last second shorter than this is put to the one before it: its rate would be a figure of chance.
const SECOND_S_MIN: f64 = 0.1;

/// One finished second, for the live line.
#[derive(Clone, Debug)]
pub struct LiveSecond {
    /// Index of the repetition.
    pub run: u64,
    /// Seconds measured so far.
    pub t_s: u64,
    /// Seconds that the figures are of.
    pub length_s: u64,
    /// Seconds to measure; none where the end is not a time.
    pub total_s: Option<u64>,
    /// By operation.
    pub ops: Vec<LiveOp>,
    /// How late the schedule is, in seconds.
    pub behind_s: f64,
    /// Errors so far.
    pub errors: u64,
    /// Work of the busiest thread, in percent of one processor.
    pub cpu_percent: f64,
}

/// One operation of a [`LiveSecond`].
#[derive(Clone, Debug)]
pub struct LiveOp {
    /// Its name.
    pub name: String,
    /// Answered.
    pub count: u64,
    /// Samples or values.
    pub values: u64,
    /// Sent and received.
    pub bytes: u64,
    /// Headline latencies.
    pub latency_us: LatencySummary,
}

#[derive(Debug, Default)]
struct Gathered {
    ops: Vec<OpSecond>,
    behind_ns: u64,
    busy_ns: BTreeMap<u64, u64>,
}

/// Collects one repetition.
pub(super) struct Collector {
    run: u64,
    op_names: Vec<String>,
    duration_ns: Option<u64>,
    /// By thread: the second that it handed over last.
    reported: Vec<Option<u64>>,
    gathered: BTreeMap<u64, Gathered>,
    busy_before: BTreeMap<u64, u64>,
    marks: BTreeMap<u64, BTreeMap<String, u64>>,
    totals: Vec<OpSecond>,
    series: Vec<Second>,
    errors: u64,
    /// Seconds between two lines.
    interval_s: u64,
    /// Since the last line.
    untold: Untold,
}

/// What a line will tell.
#[derive(Debug, Default)]
struct Untold {
    seconds: u64,
    ops: Vec<OpSecond>,
    busy_ns: u64,
}

impl Collector {
    pub(super) fn new(run: u64, op_names: Vec<String>, threads: u64, duration_ns: Option<u64>) -> Self {
        Self {
            run,
            totals: vec![OpSecond::default(); op_names.len()],
            op_names,
            duration_ns,
            reported: vec![None; usize::try_from(threads).unwrap_or(1)],
            gathered: BTreeMap::new(),
            busy_before: BTreeMap::new(),
            marks: BTreeMap::new(),
            series: Vec::new(),
            errors: 0,
            interval_s: 1,
            untold: Untold::default(),
        }
    }

    /// Tells of this many seconds at a time, instead of each.
    pub(super) fn tell_every(&mut self, interval_s: u64) {
        self.interval_s = interval_s.max(1);
    }

    /// Takes a thread's second; gives its memory back.
    pub(super) fn take(&mut self, second: ThreadSecond) -> Vec<OpSecond> {
        let ThreadSecond { thread, second, ops, behind_ns, busy_ns } = second;
        if let Some(reported) = usize::try_from(thread).ok().and_then(|thread| self.reported.get_mut(thread))
        {
            *reported = Some(second);
        }
        let count = self.op_names.len();
        let gathered = self.gathered.entry(second).or_default();
        gathered.ops.resize_with(count, OpSecond::default);
        gathered.ops.iter_mut().zip(&ops).for_each(|(sum, part)| sum.merge(part));
        gathered.behind_ns = gathered.behind_ns.max(behind_ns);
        gathered.busy_ns.insert(thread, busy_ns);
        ops
    }

    /// Takes note of what the server did in a second.
    pub(super) fn note_marks(&mut self, marks: &mut Option<(u64, BTreeMap<String, u64>)>) {
        if let Some((second, marks)) = marks.take() {
            self.marks.insert(second, marks);
        }
    }

    /// Finishes the seconds that no thread adds to any more; the newest one waits for its marks.
    pub(super) fn finish_seconds(&mut self, live: &mut dyn FnMut(&LiveSecond)) {
        let Some(horizon) = self.reported.iter().copied().min().flatten() else { return };
        while let Some(entry) = self.gathered.first_entry() {
            if *entry.key() >= horizon {
                return;
            }
            let (second, gathered) = entry.remove_entry();
            self.finish_second(second, gathered, live);
        }
    }

    fn finish_second(&mut self, second: u64, gathered: Gathered, live: &mut dyn FnMut(&LiveSecond)) {
        let mut ops = BTreeMap::new();
        self.untold.ops.resize_with(self.op_names.len(), OpSecond::default);
        let places = self.totals.iter_mut().zip(&mut self.untold.ops);
        for ((name, op), (total, untold)) in self.op_names.iter().zip(gathered.ops).zip(places) {
            if op.count == 0 {
                continue;
            }
            total.merge(&op);
            untold.merge(&op);
            self.errors += op.errors;
            let mut in_second = SecondOp::new(op.count, op.errors, op.values, op.latencies);
            in_second.hdr_v2_base64.pack();
            ops.insert(name.clone(), in_second);
        }
        let busiest_ns = gathered.busy_ns.iter().map(|(thread, busy_ns)| {
            busy_ns.saturating_sub(self.busy_before.get(thread).copied().unwrap_or(0))
        });
        self.untold.busy_ns += busiest_ns.max().unwrap_or(0);
        self.untold.seconds += 1;
        self.busy_before = gathered.busy_ns;
        if self.untold.seconds >= self.interval_s {
            self.tell(second + 1, gathered.behind_ns, live);
        }
        let marks = self.marks.remove(&second).unwrap_or_default();
        self.series.push(Second { run: self.run, t_s: second as f64 + 1.0, length_s: 1.0, marks, ops });
    }

    /// Tells what has gathered since the last line.
    fn tell(&mut self, t_s: u64, behind_ns: u64, live: &mut dyn FnMut(&LiveSecond)) {
        let Untold { seconds, ops, busy_ns } = std::mem::take(&mut self.untold);
        let shown = self.op_names.iter().zip(&ops).filter(|(_, op)| op.count > 0);
        let shown = shown.map(|(name, op)| LiveOp {
            name: name.clone(),
            count: op.count,
            values: op.values,
            bytes: op.bytes_sent + op.bytes_received,
            latency_us: op.latencies.summary(),
        });
        live(&LiveSecond {
            run: self.run,
            t_s,
            length_s: seconds,
            total_s: self.duration_ns.map(|ns| ns.div_ceil(1_000_000_000)),
            ops: shown.collect(),
            behind_s: behind_ns as f64 / 1e9,
            errors: self.errors,
            cpu_percent: busy_ns as f64 / (1e7 * seconds.max(1) as f64),
        });
    }

    /// Finishes what is left, at the end of a measured time of `elapsed_s`; gives totals by operation, and the seconds.
    pub(super) fn finish(
        mut self,
        elapsed_s: f64,
        live: &mut dyn FnMut(&LiveSecond),
    ) -> (Vec<OpSecond>, Vec<Second>) {
        self.merge_short_tail(elapsed_s);
        while let Some((second, gathered)) = self.gathered.pop_first() {
            self.finish_second(second, gathered, live);
        }
        if let (1.., Some(last)) = (self.untold.seconds, self.series.last()) {
            let t_s = to_whole(last.t_s);
            self.tell(t_s, 0, live);
        }
        if let Some(last) = self.series.last_mut().filter(|last| last.t_s > elapsed_s) {
            last.length_s = (elapsed_s - (last.t_s - 1.0)).max(f64::EPSILON);
            last.t_s = elapsed_s;
        }
        (self.totals, self.series)
    }

    fn merge_short_tail(&mut self, elapsed_s: f64) {
        let Some(last) = self.gathered.keys().next_back().copied() else { return };
        let previous = last.checked_sub(1).filter(|previous| self.gathered.contains_key(previous));
        let is_short = elapsed_s - (last as f64) < SECOND_S_MIN;
        if let (Some(previous), true) = (previous, is_short)
            && let Some(tail) = self.gathered.remove(&last)
            && let Some(kept) = self.gathered.get_mut(&previous)
        {
            kept.ops.iter_mut().zip(&tail.ops).for_each(|(sum, part)| sum.merge(part));
            kept.behind_ns = kept.behind_ns.max(tail.behind_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(thread: u64, second: u64, count: u64) -> ThreadSecond {
        let mut op = OpSecond { count, values: count, ..OpSecond::default() };
        op.latencies.record_many(1_000, count);
        ThreadSecond { thread, second, ops: vec![op], behind_ns: 0, busy_ns: 500_000_000 * (second + 1) }
    }

    #[test]
    fn a_second_is_told_when_all_threads_have_passed_it() {
        // The live line would show the rate of some of the threads as that of all.
        let mut collector = Collector::new(0, vec!["write".to_owned()], 2, Some(2_000_000_000));
        let mut told = Vec::new();
        let mut live = |second: &LiveSecond| told.push((second.t_s, second.ops[0].count, second.cpu_percent));
        for part in [second(0, 0, 10), second(0, 1, 10), second(1, 0, 5)] {
            collector.take(part);
            collector.finish_seconds(&mut live);
        }
        collector.take(second(1, 1, 5));
        collector.finish_seconds(&mut live);
        collector.take(second(0, 2, 1));
        let (totals, series) = collector.finish(2.01, &mut live);
        assert_eq!(told, [(1, 15, 50.0), (2, 16, 50.0)]);
        assert_eq!(totals[0].count, 31);
        let ends: Vec<f64> = series.iter().map(|second| second.t_s).collect();
        assert_eq!(ends, [1.0, 2.0], "the last replies belong to the last second");
        assert_eq!(series[1].ops["write"].hdr_v2_base64.count(), 16);
    }

    #[test]
    fn seconds_are_told_together_where_asked_for() {
        // A line every ten seconds would show one of them as if it were all.
        let mut collector = Collector::new(0, vec!["write".to_owned()], 1, Some(5_000_000_000));
        collector.tell_every(2);
        let mut told = Vec::new();
        let mut live =
            |told_of: &LiveSecond| told.push((told_of.t_s, told_of.length_s, told_of.ops[0].count));
        for index in 0..5 {
            collector.take(second(0, index, 10 * (index + 1)));
            collector.finish_seconds(&mut live);
        }
        let (totals, series) = collector.finish(5.0, &mut live);
        assert_eq!(told, [(2, 2, 30), (4, 2, 70), (5, 1, 50)]);
        assert_eq!((totals[0].count, series.len()), (150, 5));
    }
}
