//! Names of a core's operations: what each completion is about, packed into the backend's token.

use crate::io::Token;

/// What an operation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Accept on the listener of this number.
    Accept(u32),
    /// Receive of the connection at this place of this generation.
    Receive { index: u32, generation: u32 },
    /// Its send.
    Send { index: u32, generation: u32 },
    /// Its close; also of sockets that never became connections (generation 0).
    Close { index: u32, generation: u32 },
    /// A write or sync of the log.
    Wal(u64),
    /// A block read.
    Block(u64),
}

const KIND_BITS: u32 = 3;
const INDEX_BITS: u32 = 29;
const VALUE_BITS: u32 = 64 - KIND_BITS;

impl Work {
    /// The token.
    ///
    /// # Panics
    /// When a number does not fit: places are bounded by `--max-clients`, counters do not reach 2^61.
    pub(crate) fn token(self) -> Token {
        let place = |index: u32, generation: u32| {
            assert!(index < 1 << INDEX_BITS, "connection places are bounded");
            u64::from(generation) << INDEX_BITS | u64::from(index)
        };
        let (kind, value) = match self {
            Self::Accept(listener) => (0, u64::from(listener)),
            Self::Receive { index, generation } => (1, place(index, generation)),
            Self::Send { index, generation } => (2, place(index, generation)),
            Self::Close { index, generation } => (3, place(index, generation)),
            Self::Wal(id) => (4, id),
            Self::Block(id) => (5, id),
        };
        assert!(value < 1 << VALUE_BITS, "an operation's number fits its token");
        Token(kind << VALUE_BITS | value)
    }
    /// What a token stands for.
    #[expect(clippy::cast_possible_truncation, reason = "the parts are masked to their widths")]
    pub(crate) fn of(token: Token) -> Self {
        let value = token.0 & ((1 << VALUE_BITS) - 1);
        let index = (value & ((1 << INDEX_BITS) - 1)) as u32;
        let generation = (value >> INDEX_BITS) as u32;
        match token.0 >> VALUE_BITS {
            0 => Self::Accept(value as u32),
            1 => Self::Receive { index, generation },
            2 => Self::Send { index, generation },
            3 => Self::Close { index, generation },
            4 => Self::Wal(value),
            5 => Self::Block(value),
            kind => unreachable!("no operation of this core has kind {kind}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_what_it_was_made_of() {
        // A completion that is taken for another operation's corrupts both.
        let (index, generation) = ((1 << 29) - 1, u32::MAX);
        for work in [
            Work::Accept(3),
            Work::Receive { index, generation },
            Work::Send { index: 0, generation: 1 },
            Work::Close { index, generation: 0 },
            Work::Wal(1 << 60),
            Work::Block(0),
        ] {
            assert_eq!(Work::of(work.token()), work);
        }
    }
}
