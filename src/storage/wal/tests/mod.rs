//! Tests of the log as a whole: golden bytes, damage, chains of segments, the writer's rules, power cuts.

mod chains;
mod damage;
mod golden;
mod model_disk;
mod power_cuts;
mod writer;

use super::{Record, ReplayInput, SegmentEnd, SegmentSpec, WalError, check_chain, replay_segment};
use crate::model::{DeleteScope, FileRef, OwnedValue, SegmentSeq, Seqno, Slot, StoreId, StreamId, Value};
use std::ops::ControlFlow;
use std::sync::Arc;

const STORE: StoreId = StoreId(*b"store under test");
const STREAM: StreamId = StreamId(2);

/// Whether to run the full counts: in an optimised build, or when `TSKV_THOROUGH` is set.
fn thorough() -> bool {
    !cfg!(debug_assertions) || std::env::var_os("TSKV_THOROUGH").is_some()
}

/// Small and fast, and the same everywhere (splitmix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
    /// Below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap()
    }
    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// A record that owns its bytes, as a test keeps what it wrote and what it read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Logged {
    Put(Vec<u8>, Slot, OwnedValue),
    DeleteSlot(Vec<u8>, Slot),
    TimeRange(Vec<u8>, i64, i64),
    Series(Vec<u8>),
    Prefix(Vec<u8>),
    All,
    Keys(Vec<u8>, Option<Vec<u8>>),
}

impl Logged {
    fn new(record: &Record<'_>) -> Self {
        match *record {
            Record::Put { series, slot, value } => Self::Put(series.to_vec(), slot, value.into_owned()),
            Record::DeleteSlot { series, slot } => Self::DeleteSlot(series.to_vec(), slot),
            Record::Delete(DeleteScope::TimeRange { series, from, to }) => {
                Self::TimeRange(series.to_vec(), from, to)
            }
            Record::Delete(DeleteScope::Series { series }) => Self::Series(series.to_vec()),
            Record::Delete(DeleteScope::Prefix { prefix }) => Self::Prefix(prefix.to_vec()),
            Record::Delete(DeleteScope::All) => Self::All,
            Record::DeleteKeys { start, end } => Self::Keys(start.to_vec(), end.map(<[u8]>::to_vec)),
        }
    }
    fn record(&self) -> Record<'_> {
        match self {
            Self::Put(series, slot, value) => Record::Put { series, slot: *slot, value: value.borrow() },
            Self::DeleteSlot(series, slot) => Record::DeleteSlot { series, slot: *slot },
            Self::TimeRange(series, from, to) => {
                Record::Delete(DeleteScope::TimeRange { series, from: *from, to: *to })
            }
            Self::Series(series) => Record::Delete(DeleteScope::Series { series }),
            Self::Prefix(prefix) => Record::Delete(DeleteScope::Prefix { prefix }),
            Self::All => Record::Delete(DeleteScope::All),
            Self::Keys(start, end) => Record::DeleteKeys { start, end: end.as_deref() },
        }
    }
}

/// A put of `n` as a number.
fn number(n: u64) -> Logged {
    let series = format!("series-{}", n % 5).into_bytes();
    let slot = Slot::Time(1_700_000_000_000 + n.cast_signed());
    Logged::Put(series, slot, Value::I64(n.cast_signed()).into_owned())
}

/// A put of `bytes` bytes that depend on `n`.
fn blob(n: u64, bytes: usize) -> Logged {
    let mut value = vec![n.to_le_bytes()[0]; bytes];
    value.iter_mut().zip(n.to_le_bytes()).for_each(|(byte, with)| *byte = with);
    Logged::Put(b"blob".to_vec(), Slot::Timeless, OwnedValue::Bytes(value.into_boxed_slice()))
}

fn salt_of(seq: u64) -> u64 {
    Rng(seq).next()
}

fn spec(seq: u64, file: i32, pages: u64) -> SegmentSpec {
    let file = FileRef::new(file, Arc::new(()));
    SegmentSpec { seq: SegmentSeq(seq), salt: salt_of(seq), bytes: pages * 4096, file, direct: true }
}

fn input(seq: u64, pages: u64) -> ReplayInput {
    let file = format!("wal/{seq:016x}.wal").into();
    ReplayInput { seq: SegmentSeq(seq), stream: STREAM, salt: salt_of(seq), bytes: pages * 4096, file }
}

/// Records as they were visited, and how the segments ended.
type Replayed = (Vec<(Seqno, Logged)>, Vec<(ReplayInput, SegmentEnd)>);

/// Replays one stream's segments as recovery does.
fn replay<'a>(segments: impl IntoIterator<Item = (ReplayInput, &'a [u8])>) -> Result<Replayed, WalError> {
    let mut records = Vec::new();
    let mut ends = Vec::new();
    for (input, bytes) in segments {
        let mut source = bytes;
        let end = replay_segment(STORE, &input, &mut source, &mut |seqno, record| {
            records.push((seqno, Logged::new(&record)));
            ControlFlow::Continue(())
        })?;
        ends.push((input, end));
    }
    check_chain(&ends)?;
    Ok((records, ends))
}
