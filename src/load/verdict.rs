//! Whether a run's figures can be trusted: measured, not believed.

use super::engine::ThreadOutcome;
use super::recorder::OpSecond;
use super::result::Verdict;
use super::run::{RunOptions, Source};

/// A thread that works this share of its time can hardly do more.
const BUSY_PERCENT_MAX: f64 = 95.0;
/// A rate below this share of the target is a target missed.
const REACHED_SHARE: f64 = 0.99;
/// Where the generator's own lateness is this share of the response time, the figures are largely its own,
const OWN_LAG_SHARE_MAX: f64 = 0.25;
/// unless it is so little that nobody waits for it.
const OWN_LAG_NS_MIN: f64 = 100_000.0;

/// What one repetition showed of generator and server, over all threads.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    is_open: bool,
    clients: u64,
    answered: u64,
    pub(super) errors: u64,
    elapsed_s: f64,
    cpu_percent: f64,
    dropped: u64,
    unsent: u64,
    unanswered: u64,
    lag_ns_max: u64,
    own_lag_ns_max: u64,
    own_lag_ns_sum: u128,
    lag_ns_sum: u128,
    lag_count: u64,
    /// Response times of what was answered.
    response_ns_sum: f64,
    connections_lost: u64,
    lost_reason: Option<String>,
    pub(super) all_lost: bool,
    pub(super) failure: Option<String>,
}

impl Evidence {
    pub(super) fn new(options: &RunOptions) -> Self {
        Self { is_open: is_open(options), clients: options.clients, ..Self::default() }
    }
    /// Adds what a thread saw.
    pub(super) fn add(&mut self, outcome: &ThreadOutcome) {
        let cpu_percent = 100.0 * outcome.busy_ns as f64 / outcome.elapsed_ns.max(1) as f64;
        self.cpu_percent = self.cpu_percent.max(cpu_percent);
        self.dropped += outcome.dropped;
        self.unsent += outcome.unsent;
        self.unanswered += outcome.unanswered;
        self.lag_ns_max = self.lag_ns_max.max(outcome.lag_ns_max);
        self.own_lag_ns_max = self.own_lag_ns_max.max(outcome.own_lag_ns_max);
        self.own_lag_ns_sum += outcome.own_lag_ns_sum;
        self.lag_ns_sum += outcome.lag_ns_sum;
        self.lag_count += outcome.lag_count;
        self.connections_lost += outcome.connections_lost;
        self.all_lost = self.connections_lost == self.clients;
        self.lost_reason = self.lost_reason.take().or_else(|| outcome.lost_reason.clone());
        self.failure = self.failure.take().or_else(|| outcome.failure.clone());
    }
    /// Adds what was answered.
    pub(super) fn count(&mut self, totals: &[OpSecond], elapsed_s: f64) {
        self.answered = totals.iter().map(|op| op.count).sum();
        self.errors = totals.iter().map(|op| op.errors).sum();
        self.elapsed_s = elapsed_s;
        let sum_ns = |op: &OpSecond| op.latencies.histogram().mean() * op.latencies.count() as f64;
        self.response_ns_sum = totals.iter().map(sum_ns).sum();
    }
    /// Whether the generator itself sent too late for the rate; where it did not, the answers came late.
    fn fell_behind(&self) -> bool {
        self.unsent > 0 || self.own_lag_ns_max as f64 / 1e9 > (1.0 - REACHED_SHARE) * self.elapsed_s
    }
    /// Mean lateness that was the generator's own doing, where it is too much of the response time.
    fn late_by_itself_ns(&self) -> Option<f64> {
        let lag_ns = self.own_lag_ns_sum as f64;
        let mean_ns = lag_ns / self.lag_count.max(1) as f64;
        let is_late =
            self.is_open && mean_ns >= OWN_LAG_NS_MIN && lag_ns >= OWN_LAG_SHARE_MAX * self.response_ns_sum;
        is_late.then_some(mean_ns)
    }
}

fn is_open(options: &RunOptions) -> bool {
    options.rate.is_some() || matches!(&options.source, Source::Replay(replay, _) if replay.speed.is_some())
}

/// The verdict on all repetitions.
pub(super) fn verdict(options: &RunOptions, all: &[&Evidence], interrupted: bool) -> Verdict {
    let sum = |pick: fn(&Evidence) -> u64| all.iter().map(|evidence| pick(evidence)).sum::<u64>();
    let max = |pick: fn(&Evidence) -> f64| all.iter().map(|evidence| pick(evidence)).fold(0.0, f64::max);
    let elapsed_s: f64 = all.iter().map(|evidence| evidence.elapsed_s).sum();
    let is_open = all.iter().any(|evidence| evidence.is_open);
    let achieved_rate = sum(|evidence| evidence.answered) as f64 / elapsed_s.max(f64::EPSILON);
    let target_not_reached =
        !interrupted && options.rate.is_some_and(|rate| achieved_rate < REACHED_SHARE * rate);
    let cpu_percent = max(|evidence| evidence.cpu_percent);
    let held_up = sum(|evidence| evidence.dropped + evidence.connections_lost);
    let has_failed = all.iter().any(|evidence| evidence.failure.is_some());
    let fell_behind = all.iter().any(|evidence| evidence.fell_behind());
    let missed_by_itself = target_not_reached && held_up == 0 && !has_failed && fell_behind;
    let late_by_itself = all.iter().any(|evidence| evidence.late_by_itself_ns().is_some());
    let lag_count = sum(|evidence| evidence.lag_count);
    let lag_ns_sum: u128 = all.iter().map(|evidence| evidence.lag_ns_sum).sum();
    let mut verdict = Verdict {
        closed_loop: !is_open,
        generator_limited: cpu_percent >= BUSY_PERCENT_MAX || missed_by_itself || late_by_itself,
        target_not_reached,
        interrupted,
        failure: all.iter().find_map(|evidence| evidence.failure.clone()),
        target_rate: options.rate,
        achieved_rate,
        dropped: sum(|evidence| evidence.dropped),
        connections_lost: sum(|evidence| evidence.connections_lost),
        max_lag_ms: is_open.then(|| max(|evidence| evidence.lag_ns_max as f64 / 1e6)),
        mean_lag_ms: is_open.then(|| lag_ns_sum as f64 / lag_count.max(1) as f64 / 1e6),
        max_generator_lag_ms: is_open.then(|| max(|evidence| evidence.own_lag_ns_max as f64 / 1e6)),
        generator_cpu_percent: cpu_percent,
        null_sink_rate: (options.null_sink && !is_open).then_some(achieved_rate),
        notes: Vec::new(),
    };
    verdict.notes = notes(&verdict, all);
    verdict
}

fn notes(verdict: &Verdict, all: &[&Evidence]) -> Vec<String> {
    let sum = |pick: fn(&Evidence) -> u64| all.iter().map(|evidence| pick(evidence)).sum::<u64>();
    let mut notes = Vec::new();
    if verdict.closed_loop {
        notes.push(
            "closed loop: latencies omit waiting (coordinated omission); use --rate for latency claims"
                .to_owned(),
        );
    }
    if let (true, Some(target)) = (verdict.target_not_reached, verdict.target_rate) {
        let achieved = verdict.achieved_rate;
        notes.push(format!("target not reached: asked {target:.0}/s, got {achieved:.0}/s"));
    }
    let late_ns = all.iter().filter_map(|evidence| evidence.late_by_itself_ns()).fold(0.0, f64::max);
    if late_ns > 0.0 {
        notes.push(format!(
            "the generator itself was late, {:.3} ms in the mean: it did not get the processor in time (other work on \
             this machine?), and the response times contain that",
            late_ns / 1e6
        ));
    } else if verdict.generator_limited && verdict.null_sink_rate.is_none() {
        let percent = verdict.generator_cpu_percent;
        notes.push(format!(
            "generator limited: its busiest thread worked {percent:.0} % of the time; the figures are the generator's, \
             not the server's (more --threads, or another machine)"
        ));
    }
    if verdict.dropped > 0 {
        let dropped = verdict.dropped;
        notes
            .push(format!("{dropped} requests were due while all connections were full, and were sent late"));
    }
    for (count, what) in [
        (
            sum(|evidence| evidence.unsent),
            "requests were due and not sent when the time was over; their waiting is in no figure",
        ),
        (sum(|evidence| evidence.unanswered), "requests were not answered"),
        (sum(|evidence| evidence.connections_lost), "connections were lost"),
    ] {
        if count > 0 {
            notes.push(format!("{count} {what}"));
        }
    }
    let reasons = all.iter().flat_map(|evidence| [&evidence.lost_reason, &evidence.failure]);
    notes.extend(reasons.flatten().cloned());
    if verdict.interrupted {
        notes.push("interrupted: the figures are of the time until then".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_answers_are_not_the_generators_fault() {
        // A server too slow for its rate would be excused by the generator's verdict.
        let sent_in_time = Evidence { elapsed_s: 2.0, own_lag_ns_max: 15_000_000, ..Evidence::default() };
        assert!(!sent_in_time.fell_behind());
        assert!(Evidence { own_lag_ns_max: 25_000_000, ..sent_in_time.clone() }.fell_behind());
        assert!(Evidence { unsent: 1, ..sent_in_time }.fell_behind());
    }
}
