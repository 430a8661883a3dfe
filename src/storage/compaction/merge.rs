//! skeleton
use super::output::{OutputEvent, OutputOptions};
use super::span::Span;
use crate::model::Seqno;
use crate::storage::range_delete::RangeDelete;
use crate::storage::sstable::{Block, TableError, TableIndex, TableMeta};

/// One table that is merged.
pub trait TableInput {
    /// As the manifest has it: its visible keys count.
    fn meta(&self) -> &TableMeta;
    /// Its index.
    fn index(&self) -> &TableIndex;
    /// Reads block `index`; may wait.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    fn read_block(&mut self, index: usize) -> Result<Block, TableError>;
}

/// A table of the current version that is not merged.
#[derive(Clone, Debug)]
pub struct OutsideTable {
    /// As the manifest has it.
    pub meta: TableMeta,
    /// All its range deletes.
    pub range_deletes: Vec<RangeDelete>,
}

/// What a merge may drop, and where its output goes.
pub struct MergeOptions {
    /// Nothing below it can come back from a WAL or a memtable; taken before the version whose tables are merged.
    pub horizon: Seqno,
    /// Every snapshot, open or to come, sees everything below it.
    pub snapshot_horizon: Seqno,
    /// All other tables of the version.
    pub outside: Vec<OutsideTable>,
    /// Where samples go: disjoint, and together covering every span of the inputs.
    pub spans: Vec<Span>,
    /// How tables are written.
    pub output: OutputOptions,
}

/// A merge under way.
pub struct Merge {}

impl Merge {
    /// Prepares; nothing is read yet.
    #[must_use]
    pub fn new(inputs: Vec<Box<dyn TableInput>>, options: MergeOptions) -> Self {
        todo!("{}{:?}", inputs.len(), options.horizon)
    }
    /// Reads and merges until there is something to write; `None` when all is done.
    ///
    /// # Errors
    /// When an input cannot be read; the merge cannot go on then.
    pub fn step(&mut self) -> Result<Option<OutputEvent>, TableError> {
        todo!()
    }
}
