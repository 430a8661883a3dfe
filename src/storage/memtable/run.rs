//! How a reader sees the entries of one series and class: sorted pieces of columns.

use super::long_run::{LongRun, equal_times};
use crate::model::{Seqno, SlotClass};
use crate::storage::columns::Columns;
use std::ops::Range;

/// Entries of one series and class in a memtable, ascending by (time, seqno); never empty.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a>(Shape<'a>);

#[derive(Clone, Copy, Debug)]
enum Shape<'a> {
    Single(&'a Columns, usize),
    Long(&'a LongRun),
}

/// A stretch of entries of one series and class.
#[derive(Clone, Debug)]
pub struct RunPiece<'a> {
    /// Whose entries.
    pub series: &'a [u8],
    /// Of which class.
    pub class: SlotClass,
    /// Columns that hold them, among others.
    pub columns: &'a Columns,
    /// Which of the columns' entries they are; never empty.
    pub range: Range<usize>,
}

impl<'a> Run<'a> {
    pub(super) fn single(columns: &'a Columns, index: usize) -> Self {
        Self(Shape::Single(columns, index))
    }
    pub(super) fn long(run: &'a LongRun) -> Self {
        Self(Shape::Long(run))
    }
    /// How many pieces it has; piece numbers are below it.
    #[must_use]
    pub fn piece_count(self) -> usize {
        match self.0 {
            Shape::Single(..) => 1,
            Shape::Long(run) => run.leaf_count(),
        }
    }
    /// A piece: columns and the entries in them; never empty.
    ///
    /// # Panics
    /// When there is no such piece.
    #[must_use]
    pub fn piece(self, piece: usize) -> (&'a Columns, Range<usize>) {
        match self.0 {
            Shape::Single(columns, index) => (columns, index..index + 1),
            Shape::Long(run) => (run.leaf(piece), 0..run.leaf(piece).len()),
        }
    }
    /// All pieces in order.
    pub fn pieces(self) -> impl Iterator<Item = (&'a Columns, Range<usize>)> + Clone {
        (0..self.piece_count()).map(move |piece| self.piece(piece))
    }
    /// First piece that holds an entry at or after `time`; the number of pieces when none does.
    #[must_use]
    pub fn first_piece_reaching(self, time: i64) -> usize {
        match self.0 {
            Shape::Single(columns, index) => usize::from(columns.times()[index] < time),
            Shape::Long(run) => run.first_leaf_reaching(time),
        }
    }
    /// Last piece that holds an entry at or before `time`.
    #[must_use]
    pub fn last_piece_reaching(self, time: i64) -> Option<usize> {
        match self.0 {
            Shape::Single(columns, index) => (columns.times()[index] <= time).then_some(0),
            Shape::Long(run) => run.last_leaf_reaching(time),
        }
    }
    /// The newest version at exactly `time` that a snapshot sees, point deletes included.
    #[must_use]
    pub fn find(self, time: i64, snapshot: Seqno) -> Option<(&'a Columns, usize)> {
        let mut piece = self.first_piece_reaching(time);
        let mut newest = None;
        // Versions of one slot may go on in the next piece.
        while piece < self.piece_count() {
            let (columns, range) = self.piece(piece);
            let equals = equal_times(&columns.times()[range.clone()], time);
            let equals = range.start + equals.start..range.start + equals.end;
            let visible = columns.seqnos()[equals.clone()].partition_point(|seqno| *seqno <= snapshot.0);
            if visible > 0 {
                newest = Some((columns, equals.start + visible - 1));
            }
            if visible < equals.len() || equals.end < range.end || equals.is_empty() {
                break;
            }
            piece += 1;
        }
        newest
    }
    /// Time of the first entry.
    #[must_use]
    pub fn first_time(self) -> i64 {
        let (columns, range) = self.piece(0);
        columns.times()[range.start]
    }
    /// Time of the last entry.
    #[must_use]
    pub fn last_time(self) -> i64 {
        let (columns, range) = self.piece(self.piece_count() - 1);
        columns.times()[range.end - 1]
    }
}
