//! Series keys and slots: what an entry is filed under.

use crate::limits::SERIES_BYTES_MAX;
use std::fmt;

/// Place of an entry within its series. Metadata sorts first, then the timeless value, then timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// Properties of the series: policy, retention, labels.
    Metadata,
    /// A plain key-value pair.
    Timeless,
    /// A sample at this time, in the store's unit.
    Time(i64),
}

impl Slot {
    /// The kind of slot, without its time.
    #[must_use]
    pub fn class(self) -> SlotClass {
        match self {
            Self::Metadata => SlotClass::Metadata,
            Self::Timeless => SlotClass::Timeless,
            Self::Time(_) => SlotClass::Time,
        }
    }
    /// The timestamp, or 0 for slots that have none.
    #[must_use]
    pub fn time_or_zero(self) -> i64 {
        match self {
            Self::Time(time) => time,
            Self::Metadata | Self::Timeless => 0,
        }
    }
}

/// The kinds of slot, in their order within a series. The discriminant is what files store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SlotClass {
    /// See [`Slot::Metadata`].
    Metadata = 0,
    /// See [`Slot::Timeless`].
    Timeless = 1,
    /// See [`Slot::Time`].
    Time = 2,
}

impl SlotClass {
    /// Reads the stored form.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Metadata),
            1 => Some(Self::Timeless),
            2 => Some(Self::Time),
            _ => None,
        }
    }
    /// The slot of this class; `time` counts only for [`SlotClass::Time`].
    #[must_use]
    pub fn slot(self, time: i64) -> Slot {
        match self {
            Self::Metadata => Slot::Metadata,
            Self::Timeless => Slot::Timeless,
            Self::Time => Slot::Time(time),
        }
    }
}

/// Why bytes are not a series key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// A series key has at least one byte.
    Empty,
    /// Longer than [`SERIES_BYTES_MAX`].
    TooLong { bytes: usize },
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "key is empty; it needs 1 to {SERIES_BYTES_MAX} bytes"),
            Self::TooLong { bytes } => {
                write!(f, "key has {bytes} bytes; at most {SERIES_BYTES_MAX} are allowed")
            }
        }
    }
}
impl std::error::Error for KeyError {}

/// Checks that bytes from outside may name a series.
///
/// # Errors
/// When they are empty or too long.
pub fn check_series(series: &[u8]) -> Result<(), KeyError> {
    match series.len() {
        0 => Err(KeyError::Empty),
        1..=SERIES_BYTES_MAX => Ok(()),
        bytes => Err(KeyError::TooLong { bytes }),
    }
}
