//! The shared language: keys, values, entries, commands and replies. No behaviour beyond ordering and checks.
#![forbid(unsafe_code)]

mod checkpoint;
mod command;
mod entry;
mod file_ref;
mod ids;
mod key;
mod reply;
mod scan;
mod time_unit;
mod value;

pub use checkpoint::CheckpointName;
pub use command::{
    Aggregation, Aggregator, BucketTimestamp, Command, DuplicatePolicy, RangeQuery, SeriesChanges,
    SeriesOptions, SetCondition, StoredCommand, StoredEntry,
};
pub use entry::{DeleteScope, EntryOp, KeyRange};
pub use file_ref::FileRef;
pub use ids::{ConnectionId, Dialect, Lsn, OperationId, SegmentSeq, Seqno, StoreId, StreamId, TableId};
pub use key::{KeyError, Slot, SlotClass, check_series};
pub use reply::{ChunkInfo, KeyKind, Reply, ReplyError, SeriesDetails, SeriesInfo};
pub use scan::{BucketGrid, ScanAnswer, ScanRequest};
pub use time_unit::TimeUnit;
pub use value::{OwnedValue, Value, ValueType};
