//! Does what was decided. The order of steps is the module's promise: see `repair/mod.rs`.

use super::{Decision, RepairOptions, streams, tables};
use crate::io::Files;
use crate::jobs::error::OpenError;
use crate::jobs::flush::{SpanRule, TableJob};
use crate::jobs::layout::{Inventory, create_directories, sync_directories};
use crate::jobs::manifest_log::{make_current, write_manifest};
use crate::jobs::refill::Refill;
use crate::limits::TABLE_BYTES_TARGET;
use crate::model::Seqno;
use crate::model::TimeUnit;
use crate::storage::manifest::{Current, Edit, State};
use crate::storage::version::Table;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Does it all; how many tables were made.
pub(super) fn apply(
    files: &Arc<dyn Files>,
    inventory: &Inventory,
    decision: &Decision,
    options: &RepairOptions,
) -> Result<usize, OpenError> {
    let survey = &decision.survey;
    let Some(unit) = survey.unit else {
        let reason = "nothing tells the store's time unit any more: say it with --time-unit ms, us or ns";
        return Err(OpenError::OptionsInvalid { reason: reason.to_owned() });
    };
    create_directories(&**files)?;
    sync_directories(&**files)?;
    let job = TableJob {
        files: Arc::clone(files),
        store: survey.store,
        spans: SpanRule::new(unit, None),
        bloom_bits: options.bloom_bits,
        table_bytes_target: TABLE_BYTES_TARGET,
        boundaries: survey.boundaries.clone().unwrap_or_default(),
        next_table: Arc::new(AtomicU64::new(survey.next_table.0)),
        stop: Arc::new(AtomicBool::new(false)),
    };
    let made = refill(decision, &job, options.memory_bytes)?;
    let state = state(decision, unit, &made, job.next_table.load(Ordering::Relaxed))?;
    let number = survey.next_manifest(inventory);
    write_manifest(&**files, number, &state)?;
    for (file, to) in &decision.renames {
        files.rename(file, to).map_err(OpenError::io("renaming", file))?;
    }
    sync_directories(&**files)?;
    make_current(&**files, Current { store: state.store, manifest: number })?;
    Ok(made.len())
}

fn refill(decision: &Decision, job: &TableJob, memory_bytes: usize) -> Result<Vec<Arc<Table>>, OpenError> {
    let mut refill = Refill::new(job, memory_bytes);
    for table in &decision.damaged {
        tables::refill(&decision.survey, table, &mut refill)?;
    }
    for stream in &decision.streams {
        if let Some(keys) = decision.keys.get(&stream.stream) {
            streams::refill(&decision.survey, stream, keys, &mut refill)?;
        }
    }
    refill.finish()
}

fn state(
    decision: &Decision,
    unit: TimeUnit,
    made: &[Arc<Table>],
    next_table: u64,
) -> Result<State, OpenError> {
    let survey = &decision.survey;
    let mut state = State::empty(survey.store, unit);
    state.boundaries = survey.boundaries.clone().unwrap_or_default();
    state.segments = decision.segments_left();
    state.retention = survey.retention.clone();
    // What is written from now on must not be among what a lifted cutoff hides.
    let lifted =
        state.retention.cutoffs().iter().map(|cutoff| cutoff.below).filter(|below| *below < Seqno::MAX);
    state.seqno_floor = lifted.max().unwrap_or_default().max(survey.seqno_floor);
    (state.next_table.0, state.next_segment) = (next_table, survey.next_segment);
    let tables = decision.sound.values().cloned().chain(made.iter().map(|table| table.meta.clone()));
    for meta in tables {
        let id = meta.id;
        state.apply(Edit::AddTable(meta)).map_err(|error| OpenError::OptionsInvalid {
            reason: format!("table {:016x} cannot be taken into the new manifest: {error}", id.0),
        })?;
    }
    Ok(state)
}
