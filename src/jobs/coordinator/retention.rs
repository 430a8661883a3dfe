//! Retention of the store by age: a look at the clock now and then, a cutoff that follows it, and tables that go.
//!
//! A cutoff is shown to the shards once the manifest holds it, and hides at once. A table of which nothing is left is
//! dropped in the same frame that says so, or in a later one; its file goes when the last reader does.

use super::Coordinator;
use super::commit::Change;
use crate::jobs::flush::level_max;
use crate::jobs::options::RetentionOptions;
use crate::jobs::retention_clock::{Belief, RetentionClock};
use crate::model::{TableId, TimeUnit};
use crate::storage::retention::{Cutoff, Retention};
use crate::storage::sstable::TableMeta;
use crate::storage::version::Table;
use crate::teeth::{Bug, planted};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The retention that is asked for, and when the clock is looked at next.
pub(super) struct Watch {
    options: RetentionOptions,
    /// How long samples are kept, in the store's unit.
    length: i64,
    clock: RetentionClock,
    due_ns: u64,
}

impl Watch {
    /// `span_base` is the length of a span; `retention` is what the manifest says.
    pub(super) fn new(
        options: RetentionOptions,
        unit: TimeUnit,
        span_base: i64,
        retention: &Retention,
    ) -> Self {
        let believed = retention.clock().filter(|_| !options.trusts_clock);
        let clock = RetentionClock::new(believed, span_base, unit);
        Self { options, length: options.length_in(unit), clock, due_ns: 0 }
    }
    pub(super) fn level_max(&self, span_base: i64) -> u8 {
        level_max(span_base, Some(self.length))
    }
}

impl Coordinator {
    /// Hides what has become too old, and drops tables that hold nothing else.
    pub(super) fn start_expiry(&mut self) {
        if self.stopping() || self.expiry_is_pending() {
            return;
        }
        let mut retention = self.state.retention.clone();
        self.look_at_the_clock(&mut retention);
        let dropped = self.expired_tables(&retention);
        if !dropped.is_empty() || retention != self.state.retention {
            retention.forget_spent(self.state.tables.values().filter(|meta| !dropped.contains(&meta.id)));
            self.busy.extend(&dropped);
            self.changes.push_back(Change::Expired { retention, dropped });
        }
    }

    fn expiry_is_pending(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::Expired { .. }))
    }

    /// When the clock is looked at next. While what the last look gave is not durable, it is not looked at again.
    pub(super) fn expiry_due_ns(&self) -> Option<u64> {
        let is_waiting = self.stopping() || self.expiry_is_pending();
        self.watch.as_ref().filter(|_| !is_waiting).map(|watch| watch.due_ns)
    }

    fn look_at_the_clock(&mut self, retention: &mut Retention) {
        let Some(watch) = &mut self.watch else { return };
        if self.now_ns < watch.due_ns {
            return;
        }
        let tick_ns = u64::try_from(watch.options.tick.as_nanos()).unwrap_or(u64::MAX).max(1);
        watch.due_ns = self.now_ns.saturating_add(tick_ns);
        let was_held = self.status.retention_held;
        let wall = self.state.unit.of_unix_ns(self.files.unix_ns());
        let belief = watch.clock.look(self.now_ns, wall);
        // Also where the clock is not believed: the retention may have been shortened.
        let clock = belief.clock();
        retention.advance(clock, clock.saturating_sub(watch.length));
        self.status.retention_held = matches!(belief, Belief::Ahead { .. });
        match belief {
            Belief::Believed(_) if was_held => log::info!("retention goes on: the clock {wall} is believed"),
            Belief::Believed(_) | Belief::Behind(_) => {}
            Belief::Ahead { believed } => {
                if !was_held {
                    let unit = self.state.unit;
                    log::warn!(
                        "the clock says {wall} {unit}, far ahead of the {believed} {unit} that were expected: nothing \
                         is dropped for its age until the clock has stood by that for a span, or a restart with \
                         --retention-clock trust"
                    );
                }
            }
        }
    }

    /// Tables of which nothing is visible, and that nobody is at work on.
    fn expired_tables(&self, retention: &Retention) -> Vec<TableId> {
        if retention.cutoffs().is_empty() {
            return Vec::new();
        }
        let planned: BTreeSet<TableId> =
            self.plans.iter().flat_map(|plan| plan.inputs.iter().copied()).collect();
        let is_idle = |meta: &&TableMeta| !self.busy.contains(&meta.id) && !planned.contains(&meta.id);
        let is_hidden = |meta: &&TableMeta| {
            let too_early = planted(Bug::DropTooEarly);
            let hides = |cutoff: &Cutoff| {
                cutoff.hides_table(meta)
                    || (too_early && cutoff.hides_within(meta) && meta.range_deletes == 0)
            };
            retention.cutoffs().iter().any(hides)
        };
        self.state.tables.values().filter(is_idle).filter(is_hidden).map(|meta| meta.id).collect()
    }

    /// Tables that were dropped for their age: what is left, and what that frees.
    pub(super) fn tables_expired(&mut self, tables: &mut Vec<Arc<Table>>, dropped: &[TableId]) {
        let bytes = |table: &&Arc<Table>| dropped.contains(&table.meta.id);
        self.status.retention_dropped_bytes_total +=
            tables.iter().filter(bytes).map(|table| table.meta.bytes).sum::<u64>();
        self.status.retention_dropped_tables_total += dropped.len() as u64;
        tables.retain(|table| !dropped.contains(&table.meta.id));
    }

    /// The next tables to go as a whole: the first of them, and what goes with it within a span.
    pub(super) fn show_retention(&mut self) {
        self.status.retention_cutoff = self.state.retention.active();
        let next = self.watch.as_ref().and_then(|watch| {
            let samples = || self.state.tables.values().filter(|meta| meta.span.is_some());
            let first = samples().map(|meta| meta.time_max).min()?;
            let with_it = |meta: &&TableMeta| meta.time_max <= first.saturating_add(self.table_job.span_base);
            let bytes = samples().filter(with_it).map(|meta| meta.bytes).sum();
            let wall = self.state.unit.of_unix_ns(self.files.unix_ns());
            let left = first.saturating_add(watch.length).saturating_sub(wall).max(0);
            Some((bytes, left.unsigned_abs() / self.state.unit.per_second().unsigned_abs()))
        });
        (self.status.retention_next_drop_bytes, self.status.retention_next_drop_seconds) =
            next.unwrap_or_default();
    }
}
