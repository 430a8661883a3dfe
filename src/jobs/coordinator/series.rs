//! Retention of series: now and then a survey of what it hides in the tables, for the picker and for merges.

use super::{Coordinator, SURVEY_FAILED};
use crate::jobs::error::JobError;
use crate::jobs::message::Report;
use crate::jobs::series_survey::{Survey, survey_series};
use crate::model::Seqno;
use std::sync::Arc;

/// Least time between two surveys.
const SURVEY_PAUSE_NS: u64 = 10_000_000_000;
/// A survey may take this part of the time: it reads all metadata beside that with a retention.
const SURVEY_SHARE: u64 = 20;

/// Surveys, and what the last one found.
#[derive(Default)]
pub(super) struct SeriesWatch {
    pub(super) found: Survey,
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
        self.version.has_retentions() || self.series.found.cutoffs.series() > 0
    }

    pub(super) fn survey_ended(&mut self, result: Result<Survey, JobError>) {
        self.series.running = false;
        let took_ns = self.now_ns.saturating_sub(self.series.started_ns);
        let pause_ns = SURVEY_PAUSE_NS.max(took_ns.saturating_mul(SURVEY_SHARE));
        self.series.due_ns = self.now_ns.saturating_add(pause_ns);
        match result {
            Ok(found) => {
                self.worked(SURVEY_FAILED);
                self.series.found = found;
                self.nothing_to_merge = false;
            }
            Err(error) => {
                self.failed(SURVEY_FAILED, &error);
                self.series.seen = (u64::MAX, Seqno(0));
            }
        }
    }

    pub(super) fn show_series_retention(&mut self) {
        let found = &self.series.found;
        self.status.series_retention_series = found.cutoffs.series() as u64;
        let tables = &self.state.tables;
        let still_there = found.hidden.iter().filter(|(id, _)| tables.contains_key(id));
        self.status.series_retention_hidden_bytes = still_there.map(|(_, bytes)| bytes).sum();
    }
}
