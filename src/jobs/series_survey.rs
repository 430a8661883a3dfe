//! What the retention of series hides in the tables: a walk over those that hold metadata with a retention.

use super::error::JobError;
use super::flush::TableJob;
use super::table_files::read_block;
use crate::model::{KeyRange, Seqno, SlotClass, TableId};
use crate::storage::compaction::SeriesCutoffs;
use crate::storage::read::{Blocks, Scratch, Step, View, kept_from};
use crate::storage::sstable::Block;
use crate::storage::version::{Table, Version};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Blocks kept from one series to the next.
const BLOCKS_KEPT: usize = 64;

/// What a survey found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) cutoffs: Arc<SeriesCutoffs>,
    /// The part that is hidden, by table; only where there is any.
    pub(super) parts: BTreeMap<TableId, u64>,
}

/// Looks at the state of the tables of `version` below `horizon`.
pub(super) fn survey_series(job: &TableJob, version: &Version, horizon: Seqno) -> Result<Survey, JobError> {
    let Some(snapshot) = horizon.0.checked_sub(1).map(Seqno) else { return Ok(Survey::default()) };
    let keys = KeyRange::all();
    let view = View { memtables: &[], version, snapshot, keys: &keys };
    let mut blocks = BlocksRead { job, list: Vec::new() };
    let mut scratch = Scratch::default();
    let mut list: Vec<(Box<[u8]>, i64)> = Vec::new();
    let telling = version.tables_of(SlotClass::Metadata).iter().filter(|table| table.meta.retentions > 0);
    for table in telling {
        for index in 0..table.index.block_count() {
            job.check_stop()?;
            let block = read_block(&*job.files, table, index)?;
            let headers = (0..block.chunk_count()).map(|chunk| block.chunk(chunk));
            for header in headers.filter(|header| header.class == SlotClass::Metadata) {
                let kept =
                    blocks.until_ready(|blocks| kept_from(&view, header.series, blocks, &mut scratch))?;
                list.extend(kept.map(|kept_from| (header.series.into(), kept_from)));
            }
        }
    }
    let cutoffs = SeriesCutoffs::new(horizon, list);
    let mut parts = BTreeMap::new();
    for table in version.tables_of(SlotClass::Time) {
        job.check_stop()?;
        let part = cutoffs.part_hidden(table);
        if part > 0 {
            parts.insert(table.meta.id, part);
        }
    }
    Ok(Survey { cutoffs: Arc::new(cutoffs), parts })
}

/// Blocks that were read, the latest last.
struct BlocksRead<'a> {
    job: &'a TableJob,
    list: Vec<(TableId, usize, Arc<Block>)>,
}

impl BlocksRead<'_> {
    /// Calls until nothing is missing.
    fn until_ready<T>(
        &mut self,
        mut call: impl FnMut(&mut dyn Blocks) -> Result<Step<T>, crate::storage::sstable::TableError>,
    ) -> Result<T, JobError> {
        loop {
            match call(self)? {
                Step::Ready(found) => {
                    let surplus = self.list.len().saturating_sub(BLOCKS_KEPT);
                    self.list.drain(..surplus);
                    return Ok(found);
                }
                Step::Need(missing) => {
                    for needed in missing {
                        self.job.check_stop()?;
                        let block = read_block(&*self.job.files, &needed.table, needed.index)?;
                        self.list.push((needed.table.meta.id, needed.index, Arc::new(block)));
                    }
                }
            }
        }
    }
}

impl Blocks for BlocksRead<'_> {
    fn block(&mut self, table: &Arc<Table>, index: usize) -> Option<Arc<Block>> {
        let is_it = |read: &&(TableId, usize, Arc<Block>)| (read.0, read.1) == (table.meta.id, index);
        self.list.iter().rev().find(is_it).map(|(_, _, block)| Arc::clone(block))
    }
}
