//! The unit of a store's timestamps, fixed when it is created.

use std::fmt;
use std::str::FromStr;

/// Unit of every timestamp of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TimeUnit {
    /// Milliseconds since 1970-01-01 UTC; may be negative.
    #[default]
    Milliseconds = 1,
    /// Microseconds.
    Microseconds = 2,
    /// Nanoseconds.
    Nanoseconds = 3,
}

impl TimeUnit {
    /// Reads the stored form.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Milliseconds),
            2 => Some(Self::Microseconds),
            3 => Some(Self::Nanoseconds),
            _ => None,
        }
    }
    /// Units per second.
    #[must_use]
    pub fn per_second(self) -> i64 {
        match self {
            Self::Milliseconds => 1_000,
            Self::Microseconds => 1_000_000,
            Self::Nanoseconds => 1_000_000_000,
        }
    }
    /// Nanoseconds since 1970 in this unit, rounded down.
    #[must_use]
    pub fn of_unix_ns(self, unix_ns: i64) -> i64 {
        unix_ns.div_euclid(1_000_000_000 / self.per_second())
    }
    /// Converts a timestamp of unit `from` to this unit: exact when this one is finer, floored when it is coarser,
    /// `None` when it does not fit.
    #[must_use]
    pub fn convert(self, from: Self, time: i64) -> Option<i64> {
        let (to_rate, from_rate) = (self.per_second(), from.per_second());
        if to_rate >= from_rate {
            time.checked_mul(to_rate / from_rate)
        } else {
            Some(time.div_euclid(from_rate / to_rate))
        }
    }
}

impl fmt::Display for TimeUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::Nanoseconds => "ns",
        })
    }
}

impl FromStr for TimeUnit {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ms" => Ok(Self::Milliseconds),
            "us" => Ok(Self::Microseconds),
            "ns" => Ok(Self::Nanoseconds),
            other => Err(format!("time unit '{other}' is not one of ms, us, ns")),
        }
    }
}
