//! The 64 bits that travel with a submission and come back with its completions.
//!
//! ```text
//! bits   63..62  61..0
//!        0       operation: its OpKey
//!        1       request to cancel an operation: that operation's OpKey
//!        2       message to a peer: its index among the peers
//!        3       wake: 0 for the eventfd's read, 1 for a peer's message
//! ```

use crate::io::op_table::OpKey;

const TAG_SHIFT: u32 = 62;
const VALUE_MASK: u64 = (1 << TAG_SHIFT) - 1;
const OPERATION: u64 = 0;
const CANCEL: u64 = 1;
const PEER: u64 = 2;
const WAKE: u64 = 3;

/// What a completion is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UserData {
    /// An operation of the caller.
    Operation(OpKey),
    /// A request to cancel this operation.
    Cancel(OpKey),
    /// A message to the peer with this index.
    Peer(usize),
    /// The read of our eventfd.
    WakeByEventFd,
    /// A peer's message to us.
    WakeByPeer,
}

impl UserData {
    pub(super) fn to_bits(self) -> u64 {
        let (tag, value) = match self {
            Self::Operation(key) => (OPERATION, key.to_bits()),
            Self::Cancel(key) => (CANCEL, key.to_bits()),
            Self::Peer(index) => (PEER, index as u64),
            Self::WakeByEventFd => (WAKE, 0),
            Self::WakeByPeer => (WAKE, 1),
        };
        debug_assert!(value <= VALUE_MASK, "the value does not fit beside the tag");
        tag << TAG_SHIFT | value
    }
    pub(super) fn from_bits(bits: u64) -> Self {
        let value = bits & VALUE_MASK;
        match bits >> TAG_SHIFT {
            OPERATION => Self::Operation(OpKey::from_bits(value)),
            CANCEL => Self::Cancel(OpKey::from_bits(value)),
            PEER => Self::Peer(usize::try_from(value).unwrap_or(usize::MAX)),
            _ if value == 0 => Self::WakeByEventFd,
            _ => Self::WakeByPeer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_survives_the_trip_through_the_kernel() {
        // A completion taken for another kind would leave an operation, or a sleeping core, for ever.
        let key = OpKey::from_bits(VALUE_MASK);
        let all = [
            UserData::Operation(key),
            UserData::Cancel(key),
            UserData::Peer(127),
            UserData::WakeByEventFd,
            UserData::WakeByPeer,
        ];
        for user_data in all {
            assert_eq!(UserData::from_bits(user_data.to_bits()), user_data);
        }
    }
}
