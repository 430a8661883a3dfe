//! Retention of the store. By age: a look at the clock now and then, and a cutoff that follows it. By size: a look at
//! the tables of each version, and a cutoff where they take too much. Then tables go.
//!
//! A cutoff is shown to the shards once the manifest holds it, and hides at once. A table of which nothing is left is
//! dropped in the same frame that says so, or in a later one; its file goes when the last reader does.

use super::Coordinator;
use super::commit::Change;
use crate::jobs::flush::SpanRule;
use crate::jobs::options::RetentionOptions;
use crate::jobs::retention_clock::{Belief, RetentionClock};
use crate::limits::RETENTION_SPANS;
use crate::model::{Seqno, TableId, TimeUnit};
use crate::storage::compaction::{LEVEL_EVERYTHING, SizeLimit};
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
    /// `retention` is what the manifest says.
    pub(super) fn new(options: RetentionOptions, unit: TimeUnit, retention: &Retention) -> Self {
        let believed = retention.clock().filter(|_| !options.trusts_clock);
        let length = options.length_in(unit);
        let clock = RetentionClock::new(believed, SpanRule::new(unit, Some(length)).base, unit);
        Self { options, length, clock, due_ns: 0 }
    }
}

impl Coordinator {
    /// Hides what has become too old, or is the oldest of too much, and drops tables that hold nothing else.
    pub(super) fn start_expiry(&mut self) {
        if self.stopping() || self.expiry_is_pending() {
            return;
        }
        let mut retention = self.state.retention.clone();
        self.look_at_the_clock(&mut retention);
        self.look_at_the_size(&mut retention);
        let dropped = self.expired_tables(&retention);
        if !dropped.is_empty() || retention != self.state.retention {
            let kept = self.state.tables.values().filter(|meta| !dropped.contains(&meta.id));
            retention.forget_spent(kept, self.horizon());
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

    /// Each version is looked at once: nothing else changes what tables take.
    fn look_at_the_size(&mut self, retention: &mut Retention) {
        let Some(bytes) = self.options.retention_bytes else { return };
        let version = Some(self.version.number());
        if std::mem::replace(&mut self.sized_version, version) == version {
            return;
        }
        let rule = SpanRule::of_store(&self.options, &self.state, Some(self.table_job.spans));
        if rule != self.table_job.spans {
            log::debug!("spans are {} {} long from now on", rule.base, self.state.unit);
            self.table_job.spans = rule;
        }
        let samples: Vec<&TableMeta> = self.samples().collect();
        let limit = SizeLimit { bytes };
        // Above the seqnos of all tables: no merge gives an entry that is hidden a seqno that is not.
        let highest = self.state.tables.values().map(|meta| meta.seqno_max.0).max().unwrap_or_default();
        let below = Seqno(highest.saturating_add(1));
        let cut = limit.cut(&samples, retention.cutoffs(), rule.base, rule.level_max);
        if let Some(before) = cut.filter(|_| below < Seqno::MAX) {
            retention.hide(before, below);
        }
    }

    fn samples(&self) -> impl Iterator<Item = &TableMeta> {
        self.state.tables.values().filter(|meta| meta.span.is_some())
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

    /// Tables that were dropped: what is left, and what that frees.
    pub(super) fn tables_expired(&mut self, tables: &mut Vec<Arc<Table>>, dropped: &[TableId]) {
        let bytes = |table: &&Arc<Table>| dropped.contains(&table.meta.id);
        self.status.retention_dropped_bytes_total +=
            tables.iter().filter(bytes).map(|table| table.meta.bytes).sum::<u64>();
        self.status.retention_dropped_tables_total += dropped.len() as u64;
        tables.retain(|table| !dropped.contains(&table.meta.id));
    }

    /// What goes next.
    pub(super) fn show_retention(&mut self) {
        self.status.retention_cutoff = self.state.retention.active();
        self.status.retention_limit_bytes = self.options.retention_bytes;
        self.status.sample_bytes = self.samples().map(|meta| meta.bytes).sum();
        let next = self.next_by_age().into_iter().chain(self.next_by_size());
        let (seconds, bytes) = next.min().unwrap_or_default();
        self.status.retention_next_drop_bytes = bytes;
        self.status.retention_next_drop_seconds = seconds;
    }

    /// In how many seconds, and how many bytes: the table that becomes too old first, and what goes with it within a
    /// span.
    fn next_by_age(&self) -> Option<(u64, u64)> {
        let watch = self.watch.as_ref()?;
        let first = self.samples().map(|meta| meta.time_max).min()?;
        let with_it = |meta: &&TableMeta| meta.time_max <= first.saturating_add(self.table_job.spans.base);
        let bytes = self.samples().filter(with_it).map(|meta| meta.bytes).sum();
        let wall = self.state.unit.of_unix_ns(self.files.unix_ns());
        let left = first.saturating_add(watch.length).saturating_sub(wall).max(0);
        Some((self.seconds(left), bytes))
    }

    /// The same for the oldest table, at the rate at which the newest samples came, by their times.
    fn next_by_size(&self) -> Option<(u64, u64)> {
        let limit = self.options.retention_bytes?;
        let SpanRule { base, level_max } = self.table_job.spans;
        let held = i128::from(base) * i128::from(RETENTION_SPANS);
        let oldest =
            self.samples().min_by_key(|meta| meta.time_max).filter(|_| level_max < LEVEL_EVERYTHING)?;
        let room = limit.saturating_sub(self.status.sample_bytes);
        let left = held * i128::from(room) / i128::from(limit.max(1));
        Some((self.seconds(i64::try_from(left).unwrap_or(i64::MAX)), oldest.bytes))
    }

    fn seconds(&self, length: i64) -> u64 {
        length.unsigned_abs() / self.state.unit.per_second().unsigned_abs()
    }
}
