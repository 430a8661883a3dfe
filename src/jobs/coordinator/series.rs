//! Retention of series: now and then a survey of what it hides in the tables, for the picker and for merges.
//!
//! How much of a table is hidden is an estimate: samples are taken to be spread evenly over the table's time. A table that a
//! merge has written lacks what was hidden then, and is told apart by the same estimate at that time, which is taken
//! off; else a table of series that forget beside series that do not would be rewritten for ever. After a restart this is
//! not known, and such a table may be rewritten once more.

use super::commit::Change;
use super::{Coordinator, SURVEY_FAILED};
use crate::jobs::error::JobError;
use crate::jobs::message::Report;
use crate::jobs::series_survey::{Survey, survey_series};
use crate::model::{Seqno, TableId};
use crate::storage::compaction::{PART_WHOLE, SeriesCutoffs};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Least time between two surveys.
const SURVEY_PAUSE_NS: u64 = 10_000_000_000;
/// A survey may take this part of the time: it reads all metadata beside that with a retention.
const SURVEY_SHARE: u64 = 20;

/// Surveys, and what the last one found.
#[derive(Default)]
pub(super) struct SeriesWatch {
    /// What it hides.
    pub(super) cutoffs: Arc<SeriesCutoffs>,
    /// Bytes of tables that are hidden.
    pub(super) hidden: BTreeMap<TableId, u64>,
    /// By table, the part that the merge which wrote it has left out of what it could hold.
    left_out: BTreeMap<TableId, u64>,
    running: bool,
    started_ns: u64,
    due_ns: u64,
    /// Version and horizon that were looked at last.
    seen: (u64, Seqno),
}

impl SeriesWatch {
    pub(super) fn is_running(&self) -> bool {
        self.running
    }

    /// Tables that a merge has written, and what it left out of them.
    pub(super) fn note_left_out(&mut self, left_out: BTreeMap<TableId, u64>) {
        self.left_out.extend(left_out.into_iter().filter(|(_, part)| *part > 0));
    }
}

impl Coordinator {
    /// Starts a survey when one is due and could find something new.
    pub(super) fn start_survey_if_due(&mut self) {
        if self.survey_due_ns().is_some_and(|due_ns| due_ns <= self.now_ns) {
            self.start_survey();
        }
    }

    /// When the next survey is due, if tables have changed since the last.
    pub(super) fn survey_due_ns(&self) -> Option<u64> {
        let (version, horizon) = self.series.seen;
        // A survey sees what lies below the horizon; above every seqno in tables it need not rise.
        let has_risen = horizon <= self.version.seqno_max() && self.horizon() > horizon;
        let is_news = self.version.number() != version || has_risen;
        let may_start = is_news && self.has_retentions() && !self.series.running && !self.stopping();
        (may_start && self.horizon() > Seqno(0)).then_some(self.series.due_ns)
    }

    pub(super) fn start_survey(&mut self) {
        if !self.has_retentions() {
            return;
        }
        let (job, version, horizon) = (self.table_job.clone(), Arc::clone(&self.version), self.horizon());
        self.series.running = true;
        self.series.started_ns = self.now_ns;
        self.series.seen = (version.number(), horizon);
        self.spawn("tskv-survey", move || Report::Surveyed {
            result: survey_series(&job, &version, horizon),
        });
    }

    /// Whether there is anything to find; once more when the last retention is gone, to forget what was.
    fn has_retentions(&self) -> bool {
        self.version.has_retentions() || self.series.cutoffs.series() > 0
    }

    pub(super) fn survey_ended(&mut self, result: Result<Survey, JobError>) {
        self.series.running = false;
        let took_ns = self.now_ns.saturating_sub(self.series.started_ns);
        let pause_ns = SURVEY_PAUSE_NS.max(took_ns.saturating_mul(SURVEY_SHARE));
        self.series.due_ns = self.now_ns.saturating_add(pause_ns);
        match result {
            Ok(found) => {
                self.worked(SURVEY_FAILED);
                self.take_survey(found);
                self.nothing_to_merge = false;
            }
            Err(error) => {
                self.failed(SURVEY_FAILED, &error);
                self.series.seen = (u64::MAX, Seqno(0));
            }
        }
    }

    fn take_survey(&mut self, found: Survey) {
        let made = self.changes.iter().flat_map(|change| match change {
            Change::Merged { tables, .. } => tables.as_slice(),
            _ => &[],
        });
        let made: BTreeSet<TableId> = made.map(|table| table.meta.id).collect();
        let tables = &self.state.tables;
        self.series.left_out.retain(|id, _| tables.contains_key(id) || made.contains(id));
        self.series.cutoffs = found.cutoffs;
        let hidden = found.parts.iter().filter_map(|(id, part)| {
            let out = self.series.left_out.get(id).copied().unwrap_or_default();
            let share = u128::from(part.saturating_sub(out)) * u128::from(tables.get(id)?.bytes);
            // What was left out is not among the bytes.
            let bytes = share / u128::from((PART_WHOLE - out.min(PART_WHOLE)).max(1));
            Some((*id, u64::try_from(bytes).ok().filter(|bytes| *bytes > 0)?))
        });
        self.series.hidden = hidden.collect();
    }

    pub(super) fn show_series_retention(&mut self) {
        self.status.series_retention_series = self.series.cutoffs.series() as u64;
        let still_there = self.series.hidden.iter().filter(|(id, _)| self.state.tables.contains_key(id));
        self.status.series_retention_hidden_bytes = still_there.map(|(_, bytes)| bytes).sum();
    }
}
