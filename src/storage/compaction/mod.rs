//! Compaction: which tables to merge (picker), how (merge), and how a memtable becomes tables (flush). Pure: jobs read
//! the blocks and write the bytes.
#![deny(clippy::indexing_slicing)]

mod coverage;
mod cursor;
mod flush;
mod merge;
mod output;
mod picker;
mod series_cutoffs;
mod size_limit;
mod span;

pub use flush::{Flush, FlushOptions};
pub use merge::{Merge, MergeOptions, TableInput};
pub use output::{OutputEvent, OutputOptions};
pub use picker::{PickInput, PickTable, Plan, PlanReason, pick, pick_all};
pub use series_cutoffs::{PART_WHOLE, SeriesCutoffs};
pub use size_limit::SizeLimit;
pub use span::{LEVEL_EVERYTHING, Span, choose_spans, cover_spans, span_covering, span_of};
