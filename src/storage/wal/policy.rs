//! When a write counts as done: the operator's choice between latency and what a power cut may take.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// What an acknowledged write has survived. Under every policy a killed process loses nothing acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Acknowledged means on stable storage.
    #[default]
    Always,
    /// Acknowledged means handed to the kernel; a sync follows after at most this many milliseconds.
    IntervalMs(NonZeroU32),
    /// Acknowledged means handed to the kernel, which writes it back when it likes.
    None,
}

impl fmt::Display for SyncPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::IntervalMs(interval) => write!(f, "interval={interval}ms"),
            Self::None => f.write_str("none"),
        }
    }
}

/// Reads `always`, `none`, or `interval=<milliseconds>ms`; the unit may be left out.
impl FromStr for SyncPolicy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let interval = text.strip_prefix("interval=").map(|rest| rest.strip_suffix("ms").unwrap_or(rest));
        match (text, interval) {
            ("always", _) => Ok(Self::Always),
            ("none", _) => Ok(Self::None),
            (_, Some(digits)) => digits.parse().map(Self::IntervalMs).map_err(|_| {
                format!("sync interval '{digits}' is not a number of milliseconds from 1 to {}", u32::MAX)
            }),
            (other, None) => Err(format!("sync policy '{other}' is not one of always, interval=<ms>, none")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_read_as_they_are_written() {
        // A policy that is read as another promises what is not kept.
        for text in ["always", "none", "interval=10ms"] {
            assert_eq!(text.parse::<SyncPolicy>().unwrap().to_string(), text);
        }
        assert_eq!("interval=10".parse(), "interval=10ms".parse::<SyncPolicy>());
        for text in ["", "Always", "interval", "interval=", "interval=0ms", "interval=1s", "interval=-1"] {
            assert!(text.parse::<SyncPolicy>().is_err(), "{text}");
        }
    }
}
