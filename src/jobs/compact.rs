//! Merge: several tables become fewer, without what nobody can see any more.

use super::error::JobError;
use super::flush::TableJob;
use super::table_files::{JobTable, TableWriter};
use crate::model::Seqno;
use crate::storage::compaction::{Merge, MergeOptions, Plan, SeriesCutoffs, TableInput};
use crate::storage::version::{Table, Version};
use crate::teeth::{Bug, planted};
use std::sync::Arc;

/// What a merge may drop; fixed when it starts.
#[derive(Clone, Copy)]
pub(super) struct MergeHorizon {
    seqno: Seqno,
    /// A bug, planted by tests only.
    ignores_outside: bool,
}

impl MergeHorizon {
    /// Nothing below `seqno` can come back or is looked at by a snapshot.
    pub(super) fn new(seqno: Seqno) -> Self {
        if planted(Bug::TombstoneAboveHorizon) {
            return Self { seqno: Seqno::MAX, ignores_outside: true };
        }
        Self { seqno, ignores_outside: false }
    }
}

/// Runs a plan over the tables of `version`. The new tables are durable but belong to nobody yet. Returns them and how
/// many bytes were written.
pub(super) fn merge_tables(
    job: &TableJob,
    version: &Version,
    plan: &Plan,
    horizon: MergeHorizon,
    series_cutoffs: Arc<SeriesCutoffs>,
) -> Result<(Vec<Arc<Table>>, u64), JobError> {
    let (inputs, outside): (Vec<_>, Vec<_>) =
        version.tables().iter().partition(|table| plan.inputs.contains(&table.meta.id));
    assert_eq!(inputs.len(), plan.inputs.len(), "a plan is made of tables of the version");
    let open = |table: &Arc<Table>| {
        Box::new(JobTable { job: job.clone(), table: Arc::clone(table) }) as Box<dyn TableInput>
    };
    let inputs = inputs.into_iter().map(open);
    let outside = outside.into_iter().filter(|_| !horizon.ignores_outside).map(open);
    let options = MergeOptions {
        horizon: horizon.seqno,
        snapshot_horizon: horizon.seqno,
        outside: outside.collect(),
        cutoffs: version.cutoffs().to_vec(),
        series_cutoffs,
        spans: plan.spans.clone(),
        output: job.output(plan.reason.effort()),
    };
    let mut merge = Merge::new(inputs.collect(), options);
    let mut writer = TableWriter::new(Arc::clone(&job.files), job.store);
    while let Some(event) = merge.step().map_err(|error| job.check_stop().err().unwrap_or(error.into()))? {
        job.check_stop()?;
        writer.take(event)?;
    }
    let bytes = writer.bytes();
    Ok((writer.finish()?, bytes))
}
