//! What is sent: workloads turn the index of an operation into its bytes.
//!
//! A workload belongs to one thread; thread `k` of `n` makes the operations `k`, `k + n`, … . What an operation is
//! depends on the options and on what the same thread made before, never on time or on replies: the same options make
//! the same operations, and a verification makes them again.

mod disorder;
mod keys;
mod kv;
mod metrics;
mod mixed;
mod query;
mod replay;
mod series_name;
mod tsbs;

pub use keys::{KeyPattern, Recency};
pub use kv::{KvKind, KvOptions};
pub use metrics::RowShape;
pub use mixed::{MixOptions, ReadKind};
pub use query::{QueryKind, QueryOptions};
pub use replay::{ReplayOptions, ReplaySample, SampleSource};
pub use series_name::KeyStyle;
pub use tsbs::{Churn, Lateness, Order, TsbsOptions};

pub(super) use kv::{KvWorkload, KvWrite, sequence_of};
pub(super) use replay::ReplayWorkload;
pub(super) use tsbs::{SampleEncoder, TsbsWorkload, all_series};

use super::schedule::Share;
use mixed::MixedWorkload;
use query::QueryWorkload;
use serde::{Deserialize, Serialize};

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dialect {
    /// The native protocol.
    Native,
    /// SET and GET over RESP.
    Strings,
    /// TS.ADD and its like over RESP.
    Series,
}

/// What values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueKind {
    /// Whole numbers.
    Int,
    /// Floats with all their bits.
    Float,
    /// Byte strings of `min..=max` bytes.
    Bytes {
        /// Shortest.
        min: usize,
        /// Longest.
        max: usize,
    },
}

/// An operation whose requests were appended to a connection's output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Issued {
    /// Index into [`Workload::op_names`].
    pub(super) op: u8,
    /// Samples that it writes; none for a read, whose replies tell.
    pub(super) written: Option<u64>,
    /// Names it in the journal.
    pub(super) sequence: u64,
    /// Operations alike that follow it, each of one request and all equally long.
    pub(super) further: u64,
    /// From the sequence of one of them to the next.
    pub(super) stride: u64,
    /// Each of its requests waits for the answer to the one before; only on connections that wait for nothing else.
    pub(super) is_in_turn: bool,
    /// Where each of its requests ends in what was appended; empty where it is a single one.
    pub(super) part_ends: Vec<usize>,
}

/// Makes operations.
pub(super) trait Workload: Send {
    /// Names of its operations, by [`Issued::op`].
    fn op_names(&self) -> Vec<String>;
    /// Appends the requests of the next operation to `out`; they have the ids from `first_id` on. None: there are no
    /// more.
    fn issue(&mut self, out: &mut Vec<u8>, first_id: u64) -> Option<Issued>;
    /// As [`Workload::issue`]; appends up to `most` operations that are alike, where it makes such. Only for connections
    /// whose replies come in order.
    fn issue_alike(&mut self, out: &mut Vec<u8>, first_id: u64, most: u64) -> Option<Issued> {
        let _ = most;
        self.issue(out, first_id)
    }
    /// When the next operation is due, in nanoseconds since the start, for workloads that bring their own times; called
    /// before each [`Workload::issue`]. Past the end it does not matter.
    fn due_offset_ns(&mut self) -> Option<u64> {
        None
    }
    /// Why it ended before its time.
    fn failure(&mut self) -> Option<String> {
        None
    }
}

/// A workload that needs nothing but its options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum WorkloadOptions {
    /// Keys and values.
    Kv(KvOptions),
    /// Rows of the TSBS shape.
    Tsbs(TsbsOptions),
    /// Rows of the TSBS shape, and reads of them.
    Mixed(MixOptions),
    /// The TSBS queries.
    Query(QueryOptions),
}

impl WorkloadOptions {
    /// The workload of one thread.
    pub(super) fn make(&self, share: Share) -> Box<dyn Workload> {
        match self {
            Self::Kv(options) => Box::new(KvWorkload::new(options, share)),
            Self::Tsbs(options) => Box::new(TsbsWorkload::new(options, share)),
            Self::Mixed(options) => Box::new(MixedWorkload::new(options, share)),
            Self::Query(options) => Box::new(QueryWorkload::new(options, share)),
        }
    }
    /// The rows that it writes to series, which TS.MADD needs to be there.
    pub(super) fn rows(&self) -> Option<&TsbsOptions> {
        match self {
            Self::Tsbs(options) => Some(options),
            Self::Mixed(options) => Some(&options.rows),
            Self::Kv(_) | Self::Query(_) => None,
        }
    }
}
