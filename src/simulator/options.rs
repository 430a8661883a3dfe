//! What a simulation is told: the seed, and what narrows it.

use super::FaultSet;
use std::fmt;
use std::ops::Range;

/// A run to be made. [`fmt::Display`] is the arguments of `tskv simulate` that make it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulationOptions {
    /// Decides everything that is not narrowed.
    pub seed: u64,
    /// This many cores in every life; drawn for each life when `None`.
    pub cores: Option<usize>,
    /// Faults that may be drawn.
    pub faults: FaultSet,
    /// Requests of clients in all; as many as are drawn when `None`.
    pub ops_max: Option<u64>,
    /// Lives of the node before the last, healthy one; as many as are drawn when `None`.
    pub lives_max: Option<u64>,
    /// Requests, by their numbers from 0, that are drawn but not sent; ascending and apart.
    pub skip: Vec<Range<u64>>,
}

impl SimulationOptions {
    /// All that the seed draws.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, cores: None, faults: FaultSet::ALL, ops_max: None, lives_max: None, skip: Vec::new() }
    }
    /// The same narrowing for another seed.
    #[must_use]
    pub fn with_seed(&self, seed: u64) -> Self {
        Self { seed, ..self.clone() }
    }
    /// The arguments that narrow what the seed draws; empty when nothing does.
    #[must_use]
    pub fn narrowing(&self) -> String {
        let mut words = Vec::new();
        words.extend(self.cores.map(|cores| format!("--cores {cores}")));
        if self.faults != FaultSet::ALL {
            words.push(format!("--faults {}", self.faults));
        }
        words.extend(self.lives_max.map(|lives| format!("--lives {lives}")));
        words.extend(self.ops_max.map(|ops| format!("--ops {ops}")));
        if !self.skip.is_empty() {
            words.push(format!("--skip {}", format_skip(&self.skip)));
        }
        words.join(" ")
    }
    /// Whether the request with this number is sent.
    #[must_use]
    pub fn sends(&self, number: u64) -> bool {
        self.ops_max.is_none_or(|max| number < max) && !self.skip.iter().any(|range| range.contains(&number))
    }
}

impl fmt::Display for SimulationOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--seed {}", self.seed)?;
        let narrowing = self.narrowing();
        if narrowing.is_empty() { Ok(()) } else { write!(f, " {narrowing}") }
    }
}

fn format_skip(skip: &[Range<u64>]) -> String {
    let part = |range: &Range<u64>| match range.end - range.start {
        1 => range.start.to_string(),
        _ => format!("{}..{}", range.start, range.end),
    };
    skip.iter().map(part).collect::<Vec<_>>().join(",")
}

/// Reads `3,10..20` as the numbers 3 and 10 to 19.
///
/// # Errors
/// What is no number or range.
pub fn parse_skip(text: &str) -> Result<Vec<Range<u64>>, String> {
    let mut ranges = Vec::new();
    for word in text.split(',') {
        let number = |word: &str| {
            word.trim().parse::<u64>().map_err(|_| format!("`{word}` is no number; write 3 or 10..20"))
        };
        let range = match word.split_once("..") {
            Some((start, end)) => number(start)?..number(end)?,
            None => number(word)?..number(word)?.saturating_add(1),
        };
        if range.is_empty() {
            return Err(format!("`{word}` is empty"));
        }
        ranges.push(range);
    }
    ranges.sort_by_key(|range| range.start);
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_requests_are_written_as_they_are_read() {
        // A shrunk failure would be replayed with other requests.
        let skip = parse_skip("10..20, 3").unwrap();
        assert_eq!(skip, [3..4, 10..20]);
        let options = SimulationOptions { skip, ops_max: Some(30), ..SimulationOptions::new(9) };
        assert_eq!(options.to_string(), "--seed 9 --ops 30 --skip 3,10..20");
        let sent: Vec<_> = (0..40).filter(|number| options.sends(*number)).collect();
        assert_eq!(sent.len(), 30 - 11);
        assert!(parse_skip("5..5").is_err() && parse_skip("x").is_err());
    }
}
