//! Finding the highest rate at which an objective holds.

use super::error::LoadError;
use super::result::{RunResult, SweepPoint};

/// A promise on latency, over all operations: `p99<10ms`.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    text: String,
    percentile: f64,
    limit_us: f64,
}

impl Objective {
    /// Reads `p99<10ms`, `p99.9<500us`, `max<1s`.
    ///
    /// # Errors
    /// A sentence fragment: what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || format!("'{text}' is no objective; write p99<10ms, p99.9<500us or max<1s");
        let (what, limit) = text.split_once('<').ok_or_else(expected)?;
        let percentile = match what.strip_prefix('p') {
            Some(number) => number.parse().ok().filter(|p| (0.0..100.0).contains(p)).ok_or_else(expected)?,
            None if what == "max" => 100.0,
            None => return Err(expected()),
        };
        let digits = limit.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let factor = match limit.get(digits.len()..) {
            Some("us") => 1.0,
            Some("ms") => 1e3,
            Some("s") => 1e6,
            _ => return Err(expected()),
        };
        let number: f64 = digits.parse().map_err(|_| expected())?;
        if !number.is_finite() || number <= 0.0 {
            return Err(expected());
        }
        Ok(Self { text: text.to_owned(), percentile, limit_us: number * factor })
    }
    /// Why a run did not keep it, in a sentence; none where every operation did. Too few samples for the percentile
    /// keep nothing.
    #[must_use]
    pub fn missed_by(&self, result: &RunResult) -> Option<String> {
        if result.ops.is_empty() {
            return Some("no operation was answered".to_owned());
        }
        result.ops.iter().find_map(|(name, op)| match op.headline().percentile_us(self.percentile) {
            Some(us) if us < self.limit_us => None,
            Some(us) => Some(format!("{name} took {:.3} ms, the objective is {}", us / 1e3, self.text)),
            None => Some(format!("{name} had too few operations to tell its {}; measure longer", self.text)),
        })
    }
}

/// The rates of `10k..500k:x1.5` (each 1.5 times the one before, the last one included), or of `10k,20k,50k`.
///
/// # Errors
/// A sentence fragment: what is wrong with it.
pub fn rates(text: &str) -> Result<Vec<f64>, String> {
    let expected = || format!("'{text}' names no rates; write 10k..500k:x1.5 or 10k,20k,50k");
    let rate = |text: &str| rate_of(text).map_err(|_| expected());
    let Some((from, rest)) = text.split_once("..") else {
        let rates: Vec<f64> = text.split(',').map(rate).collect::<Result<_, _>>()?;
        return if rates.is_sorted() {
            Ok(rates)
        } else {
            Err(format!("the rates of '{text}' do not ascend"))
        };
    };
    let (to, factor) = rest.split_once(":x").unwrap_or((rest, "1.5"));
    let (from, to) = (rate(from)?, rate(to)?);
    let factor: f64 = factor.parse().map_err(|_| expected())?;
    if !(1.01..=1e6).contains(&factor) || to < from {
        return Err(expected());
    }
    let mut rates = Vec::new();
    let mut next = from;
    while next < to * 0.999 {
        rates.push(next.round());
        next *= factor;
    }
    rates.push(to);
    Ok(rates)
}

/// Reads one rate per second: `250`, `10k`, `1.5M`, `1G`.
///
/// # Errors
/// A sentence fragment: what is wrong with it.
pub fn rate_of(text: &str) -> Result<f64, String> {
    let suffixes = [('k', 1e3), ('M', 1e6), ('G', 1e9)];
    let found = suffixes.into_iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, factor)));
    let (digits, factor) = found.unwrap_or((text, 1.0));
    let rate = digits.parse::<f64>().ok().map(|number| number * factor);
    let rate = rate.filter(|rate| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| format!("'{text}' is no rate; write 500, 20k or 1.5M requests a second"))
}

/// Runs of a rate before it is given up: other work on the machine may have spoilt one.
const ATTEMPTS: usize = 2;

/// Runs each rate until one is beyond the objective, twice; the result is that of the highest rate within it (or of the
/// first rate, where none was), with all points in `sweep`.
///
/// # Errors
/// As `run_at`.
///
/// # Panics
/// Where there are no rates.
pub fn sweep(
    rates: &[f64],
    objective: &Objective,
    mut run_at: impl FnMut(f64) -> Result<RunResult, LoadError>,
) -> Result<RunResult, LoadError> {
    let mut points = Vec::new();
    let mut best: Option<RunResult> = None;
    for rate in rates {
        let mut missed_because = Vec::new();
        let result = loop {
            let result = run_at(*rate)?;
            let Some(reason) = shortfall(objective, &result) else { break result };
            log::info!("{rate:.0}/s: {reason}");
            missed_because.push(reason);
            if missed_because.len() >= ATTEMPTS || result.verdict.interrupted {
                break result;
            }
        };
        let within_slo = shortfall(objective, &result).is_none();
        let ops = result.runs.last().map(|run| run.ops.clone()).unwrap_or_default();
        points.push(SweepPoint {
            rate: *rate,
            within_slo,
            slo: objective.text.clone(),
            missed_because,
            verdict: result.verdict.clone(),
            ops,
        });
        let is_interrupted = result.verdict.interrupted;
        if within_slo || best.is_none() {
            best = Some(result);
        }
        if !within_slo || is_interrupted {
            break;
        }
    }
    let mut best = best.expect("a sweep has a rate");
    best.sweep = points;
    Ok(best)
}

/// Why a run does not show that its rate is within the objective.
fn shortfall(objective: &Objective, result: &RunResult) -> Option<String> {
    let verdict = &result.verdict;
    let errors: u64 = result.ops.values().map(|op| op.errors).sum();
    if verdict.interrupted {
        return Some("interrupted".to_owned());
    }
    if let Some(failure) = &verdict.failure {
        return Some(failure.clone());
    }
    if errors > 0 || verdict.connections_lost > 0 {
        let lost = verdict.connections_lost;
        return Some(format!("{errors} requests failed and {lost} connections were lost"));
    }
    if verdict.generator_limited {
        let notes = verdict.notes.iter().find(|note| note.contains("generator"));
        let note = notes.map_or("", String::as_str);
        return Some(format!("the generator was the limit, not the server ({note})"));
    }
    if verdict.target_not_reached {
        return Some(format!("the server answered {:.0}/s only", verdict.achieved_rate));
    }
    objective.missed_by(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{
        Environment, LatencyHistogram, OpResult, Repetition, RunConfig, ServerReport, Tool, Verdict,
    };

    #[test]
    fn objectives_and_rates_are_read_as_written() {
        // A sweep for another objective than the one asked for promises what does not hold.
        let objective = Objective::parse("p99.9<500us").unwrap();
        assert_eq!((objective.percentile, objective.limit_us), (99.9, 500.0));
        assert_eq!(Objective::parse("max<1.5s").unwrap().limit_us, 1.5e6);
        for bad in ["p99", "p99<10", "p101<1ms", "avg<1ms", "p99<-1ms", "p99<xms", "p99>1ms"] {
            assert!(Objective::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(rates("10k..40k:x2").unwrap(), [10_000.0, 20_000.0, 40_000.0]);
        assert_eq!(rates("10k..30k:x2").unwrap(), [10_000.0, 20_000.0, 30_000.0]);
        assert_eq!(rates("500,1.5k,1M").unwrap(), [500.0, 1_500.0, 1_000_000.0]);
        assert_eq!(rate_of("1G"), Ok(1e9));
        for bad in ["", "k", "20k,30k", "1e999", "-1", "20K"] {
            assert!(rate_of(bad).is_err_and(|reason| reason.contains("write 500")), "{bad}");
        }
        for bad in ["", "x", "2k,1k", "10..5", "10..50:x1", "10..50:y2", "-1", "0"] {
            assert!(rates(bad).is_err(), "{bad}");
        }
    }

    /// A run in which each of 1,000 writes took `us`.
    fn run_of(us: u64) -> RunResult {
        let mut latencies = LatencyHistogram::default();
        latencies.record_many(1_000 * us, 1_000);
        let op = OpResult { count: 1_000, response_hdr_v2_base64: Some(latencies), ..OpResult::default() };
        RunResult {
            schema_version: 1,
            tool: Tool { name: String::new(), version: String::new() },
            config: RunConfig::default(),
            env: Environment::default(),
            verdict: Verdict::default(),
            ops: [("write".to_owned(), op)].into(),
            runs: vec![Repetition::default()],
            series: Vec::new(),
            sweep: Vec::new(),
            server: ServerReport::default(),
        }
    }

    #[test]
    fn a_rate_that_was_disturbed_once_is_measured_again() {
        // On a shared machine a sweep would end at the first hiccup, and call it the store's limit.
        let objective = Objective::parse("p99<10ms").unwrap();
        let mut times = [1_000, 50_000, 1_000, 60_000, 70_000, 1_000].into_iter();
        let found = sweep(&[1e3, 2e3, 3e3, 4e3], &objective, |_| Ok(run_of(times.next().unwrap()))).unwrap();
        let points: Vec<_> = found
            .sweep
            .iter()
            .map(|point| (point.rate, point.within_slo, point.missed_because.len()))
            .collect();
        assert_eq!(points, [(1e3, true, 0), (2e3, true, 1), (3e3, false, 2)]);
        assert!(found.sweep[2].missed_because[1].contains("write took 70."), "{:?}", found.sweep[2]);
    }

    #[test]
    fn each_reason_to_stop_is_told_apart() {
        // A sweep that the generator ended would be read as the limit of the server.
        let objective = Objective::parse("p99.9<10ms").unwrap();
        let said = |change: fn(&mut RunResult)| {
            let mut result = run_of(1_000);
            change(&mut result);
            shortfall(&objective, &result).unwrap_or_default()
        };
        assert!(said(|_| {}).contains("too few operations"));
        assert!(said(|run| run.verdict.generator_limited = true).contains("the generator was the limit"));
        assert!(said(|run| run.verdict.target_not_reached = true).contains("answered 0/s only"));
        assert!(said(|run| run.verdict.connections_lost = 2).contains("2 connections were lost"));
        assert!(said(|run| run.ops.clear()).contains("no operation was answered"));
    }
}
