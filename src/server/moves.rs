//! Moving a boundary between two neighbouring shards while they serve: the protocol, and the board where moves are
//! asked for and remembered.
//!
//! Let `a..b` go from core X to core Y. Z stands for every core, X and Y among them.
//!
//! ```text
//!   board ──Begin──▶ X ──Hold──▶ Z      Z sends no command on a..b any more: such requests wait, unparsed, in the
//!                    │           │      buffers of their connections
//!                    │◀──Fence───┤      through the mailboxes, behind everything that Z sent before
//!                    │     Y ◀───┘
//!     all fences came: nothing on a..b is on its way
//!     nothing that waits at X may write a..b any more; the active memtable is frozen; the log is durable through it
//!                    ├──Offer──▶ Y      memtables, version, seqno: `shard/handover.rs`
//!                    │           │      all fences came here too; Y raises its counter, and a..b is its own
//!                    │◀──Taken───┤
//!     a..b is gone from X; the coordinator logs the boundary
//!                    ├──Done───▶ Z      Z takes the new route and goes on with what waited
//! ```
//! Until the offer X ends the move when its patience does (`PATIENCE_NS`), when its log has failed, or when the daemon
//! stops; after it, Y says whether it takes or refuses. An end without a hand-over is `Done` with the old boundaries:
//! nothing has happened.
//!
//! Invariants:
//!
//! - A command is executed by the shard that owns its key: from `Hold` to `Done` no core sends one on `a..b`, and none
//!   is on its way when X lets go. Requests of one connection keep their order, since none is sent by the new route
//!   while an earlier one goes by the old.
//! - A command that goes to all shards is before the move for X and Y, or behind it for both: hence the fence to Y.
//! - What waits needs no memory but the buffer that it was received into, and no connection receives more while its
//!   first request waits. So the wait is bounded by the patience alone, and no queue can run full.
//! - Messages about a move go through the control channels. One move is under way at a time, and the next begins when
//!   all `Done` of the one before have been sent: each core sees them in the same order.
//! - A crash at any point: boundaries only route. Every log says by itself what its writes and deletes cover, and
//!   seqnos decide between logs; the next open begins with the boundaries of the manifest, old or new.

use crate::model::{KeyRange, OperationId};
use crate::shard::Handover;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A move that has not come to its hand-over ends after this long.
pub(crate) const PATIENCE_NS: u64 = 50_000_000;
/// Moves that the board remembers.
const REMEMBERED_MAX: usize = 32;

/// Split points of a node.
pub(crate) type Boundaries = Arc<[Box<[u8]>]>;

/// One move.
#[derive(Debug)]
pub(crate) struct MoveOrder {
    /// Counts moves since the start.
    pub(crate) number: u64,
    /// The core that has the keys.
    pub(crate) from: u16,
    /// Its neighbour, who is to have them.
    pub(crate) to: u16,
    pub(crate) keys: Arc<KeyRange>,
    /// The boundaries after the move.
    pub(crate) boundaries: Boundaries,
    pub(crate) why: String,
    /// Who is told when it is over.
    pub(crate) asked_by: Option<OperationId>,
}

/// What cores say to each other about a move; see the module.
pub(crate) enum MoveMessage {
    Begin(Arc<MoveOrder>),
    Hold(Arc<MoveOrder>),
    /// `until_ns`: the patience of the giver.
    Offer {
        order: Arc<MoveOrder>,
        handover: Box<Handover>,
        until_ns: u64,
    },
    /// `refusal`: why the offer was not taken.
    Answer {
        order: u64,
        refusal: Option<&'static str>,
    },
    /// `is_moved`: the boundaries of the order hold from now on.
    Done {
        order: Arc<MoveOrder>,
        is_moved: bool,
    },
}

/// A move that is over.
#[derive(Clone, Debug)]
pub(crate) struct MoveRecord {
    pub(crate) from: u16,
    pub(crate) to: u16,
    pub(crate) keys: KeyRange,
    pub(crate) why: String,
    /// From its begin to its end.
    pub(crate) lasted_ns: u64,
    /// Monotonic time of its end.
    pub(crate) ended_ns: u64,
    /// Why nothing moved; `None` when it did.
    pub(crate) refusal: Option<&'static str>,
}

/// Why a move cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum MoveError {
    /// Another one is under way.
    Busy,
    /// There is no boundary of this number.
    NoBoundary { count: usize },
    /// The key lies beyond a neighbouring boundary, or is where the boundary is already, or no key.
    OutOfPlace,
}

impl fmt::Display for MoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("a boundary is being moved; try again when that is over"),
            Self::NoBoundary { count: 0 } => f.write_str("one shard has no boundary: start the daemon with more --cores"),
            Self::NoBoundary { count } => write!(f, "there are {count} boundaries, numbered from 0"),
            Self::OutOfPlace => f.write_str(
                "the key must lie strictly between the neighbouring boundaries, and not be the boundary already",
            ),
        }
    }
}
impl std::error::Error for MoveError {}

/// Where moves are asked for and remembered; one per node.
pub(crate) struct MoveBoard(Mutex<Board>);

struct Board {
    boundaries: Boundaries,
    under_way: bool,
    /// Moves asked for since the start.
    orders: u64,
    moved: u64,
    refused: u64,
    /// Oldest first.
    records: VecDeque<MoveRecord>,
}

impl MoveBoard {
    /// A node that is split at these points.
    pub(crate) fn new(boundaries: &[Box<[u8]>]) -> Self {
        let boundaries = boundaries.into();
        let records = VecDeque::new();
        Self(Mutex::new(Board { boundaries, under_way: false, orders: 0, moved: 0, refused: 0, records }))
    }
    /// Split points at present.
    pub(crate) fn boundaries(&self) -> Boundaries {
        Arc::clone(&self.board().boundaries)
    }
    /// Moves that took place, and those that came to nothing.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let board = self.board();
        (board.moved, board.refused)
    }
    /// The last moves, oldest first.
    pub(crate) fn records(&self) -> Vec<MoveRecord> {
        self.board().records.iter().cloned().collect()
    }
    /// An order that moves boundary `index`, which lies between shard `index` and the next, to `key`; to be given to the
    /// core that it names.
    ///
    /// # Errors
    /// When it cannot be moved there, or not now.
    pub(crate) fn order(
        &self,
        index: usize,
        key: &[u8],
        why: String,
        asked_by: Option<OperationId>,
    ) -> Result<Arc<MoveOrder>, MoveError> {
        let mut board = self.board();
        let Some(old) = board.boundaries.get(index) else {
            return Err(MoveError::NoBoundary { count: board.boundaries.len() });
        };
        let low = index.checked_sub(1).and_then(|before| board.boundaries.get(before));
        let high = board.boundaries.get(index + 1);
        let fits = low.is_none_or(|low| **low < *key) && high.is_none_or(|high| *key < **high);
        if !fits || **old == *key || crate::model::check_series(key).is_err() {
            return Err(MoveError::OutOfPlace);
        }
        if board.under_way {
            return Err(MoveError::Busy);
        }
        let left = u16::try_from(index).expect("cores are bounded by CORES_MAX");
        let goes_right = *key < **old;
        let (from, to) = if goes_right { (left, left + 1) } else { (left + 1, left) };
        let (start, end) = if goes_right { (key, &**old) } else { (&**old, key) };
        let keys = Arc::new(KeyRange { start: start.into(), end: Some(end.into()) });
        let mut boundaries = board.boundaries.to_vec();
        boundaries[index] = key.into();
        board.under_way = true;
        board.orders += 1;
        Ok(Arc::new(MoveOrder {
            number: board.orders,
            from,
            to,
            keys,
            boundaries: boundaries.into(),
            why,
            asked_by,
        }))
    }
    /// A move is over, and every core has been told.
    pub(crate) fn ended(&self, order: &MoveOrder, refusal: Option<&'static str>, began_ns: u64, now_ns: u64) {
        let mut board = self.board();
        board.under_way = false;
        match refusal {
            None => {
                board.boundaries = Arc::clone(&order.boundaries);
                board.moved += 1;
            }
            Some(_) => board.refused += 1,
        }
        if board.records.len() == REMEMBERED_MAX {
            board.records.pop_front();
        }
        board.records.push_back(MoveRecord {
            from: order.from,
            to: order.to,
            keys: KeyRange::clone(&order.keys),
            why: order.why.clone(),
            lasted_ns: now_ns.saturating_sub(began_ns),
            ended_ns: now_ns,
            refusal,
        });
    }
    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> MoveBoard {
        MoveBoard::new(&[(*b"g").into(), (*b"p").into()])
    }

    #[test]
    fn keys_go_to_the_neighbour_on_whose_side_the_boundary_comes_to_lie() {
        // The wrong giver would hand over keys that are not its own.
        let order = board().order(0, b"c", String::new(), None).expect("it fits");
        let moved = KeyRange { start: (*b"c").into(), end: Some((*b"g").into()) };
        assert_eq!((order.from, order.to, &*order.keys), (0, 1, &moved));
        let order = board().order(1, b"t", String::new(), None).expect("it fits");
        let moved = KeyRange { start: (*b"p").into(), end: Some((*b"t").into()) };
        assert_eq!((order.from, order.to, &*order.keys), (2, 1, &moved));
        assert_eq!(&*order.boundaries, &[Box::from(&b"g"[..]), Box::from(&b"t"[..])]);
    }

    #[test]
    fn a_shard_is_never_left_without_keys_and_moves_come_one_by_one() {
        // Two moves at once would each build on boundaries that the other one changes.
        let board = board();
        for (index, key) in [(0, &b"p"[..]), (0, b"z"), (0, b"g"), (1, b"g"), (1, b"a"), (0, b"")] {
            assert_eq!(
                board.order(index, key, String::new(), None).err(),
                Some(MoveError::OutOfPlace),
                "{key:?}"
            );
        }
        assert_eq!(board.order(2, b"x", String::new(), None).err(), Some(MoveError::NoBoundary { count: 2 }));
        let order = board.order(0, b"h", String::new(), None).expect("it fits");
        assert_eq!(board.order(1, b"t", String::new(), None).err(), Some(MoveError::Busy));
        board.ended(&order, Some("no"), 1, 3);
        assert_eq!((&*board.boundaries()[0], board.counts()), (&b"g"[..], (0, 1)));
        let order = board.order(0, b"h", String::new(), None).expect("it fits");
        board.ended(&order, None, 5, 9);
        assert_eq!((&*board.boundaries()[0], board.counts(), board.records().len()), (&b"h"[..], (1, 1), 2));
    }
}
