//! Which tables to merge next: a pure function of the version.
//!
//! Any set of tables may be merged (seqnos decide), so the rules here are about cost only:
//!
//! - **Purge**: tables of which everything is deleted, and range deletes that hide nothing any more.
//! - **Trim**: a table that reaches over several spans and of whose time at least half is too old; any table of which
//!   at least half is too old for its series. What is too old for the store as a whole is dropped without a merge.
//! - **Tier**: [`TIER_TABLES`] tables of one span, shard and size class. Large tables only where they lie over each
//!   other; small ones in any case, for their number.
//! - **Widen**: [`WIDEN_TABLES`] small tables of one size class within a wider span, as long as they make one table.
//! - **Seal**: tables that lie over each other in a span that is no longer the newest, unless the largest is more than
//!   [`SEAL_RATIO`] times the rest: late data re-opens a span, and must not rewrite all of it each time.
//!
//! - **Recode**: a table of such a span that lies alone and was written in haste.
//!
//! Size classes grow by four from 1/256 of the table size. So each byte is rewritten about once per class, and the
//! tables that no rule applies to are bounded: per shard `WIDEN_TABLES - 1` small ones per class whatever their
//! times, and those of 1/16 of the table size or more in proportion to the data. Merges cut at shard boundaries; a set of inputs is always connected
//! through the shards that it touches, so its output crosses fewer boundaries or has fewer tables: there is an end.

use super::merge::{covers_older, hides_table, holds_keys};
use super::span::{LEVEL_EVERYTHING, Span, cover_spans, span_covering, span_of};
use crate::limits::FLUSH_TABLES_MAX;
use crate::model::{Seqno, TableId};
use crate::storage::range_delete::RangeDelete;
use crate::storage::retention::Cutoff;
use crate::storage::sstable::{Effort, TableMeta};
use std::collections::{BTreeMap, BTreeSet};

/// Tables of one span that are merged when they are alike.
pub(super) const TIER_TABLES: usize = 4;
/// Small tables of neighbouring spans that are merged into a wider one.
pub(super) const WIDEN_TABLES: usize = 8;
/// A closed span is left as it is when its largest table is this many times the others.
pub(super) const SEAL_RATIO: u64 = 8;
/// Inputs of one plan, but for [`pick_all`].
const INPUTS_MAX: usize = 32;
/// Tables of this class and above are merged only where they lie over each other.
const CLASS_LARGE: u32 = 4;
/// A table is rewritten for a few spent range deletes only when it is this small a part of a full one.
const PURGE_FRACTION: u64 = 16;
/// With this many spent range deletes it is rewritten whatever its size.
const PURGE_DELETES: usize = 1024;

/// One table of the version.
#[derive(Clone, Copy, Debug)]
pub struct PickTable<'a> {
    /// As the manifest has it.
    pub meta: &'a TableMeta,
    /// Its range deletes.
    pub range_deletes: &'a [RangeDelete],
}

/// What the picker looks at.
#[derive(Clone, Copy, Debug)]
pub struct PickInput<'a> {
    /// All tables of the version.
    pub tables: &'a [PickTable<'a>],
    /// Tables of running plans: left alone.
    pub busy: &'a BTreeSet<TableId>,
    /// Length of a span of level 0, in the store's unit.
    pub span_base: i64,
    /// Highest level that spans are merged into; `LEVEL_EVERYTHING` without retention.
    pub level_max: u8,
    /// Shard boundaries, ascending.
    pub boundaries: &'a [Box<[u8]>],
    /// Size at which merges cut tables.
    pub table_bytes_target: u64,
    /// As in `MergeOptions`.
    pub horizon: Seqno,
    /// As in `MergeOptions`.
    pub cutoffs: &'a [Cutoff],
    /// Bytes of tables that the retention of their series hides, where there are any.
    pub hidden: &'a BTreeMap<TableId, u64>,
}

/// Why a plan was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanReason {
    /// Tables of similar size lie over each other.
    Tier,
    /// Small tables of neighbouring spans share a wider one.
    Widen,
    /// A span that no longer receives data becomes one sorted run.
    Seal,
    /// A table of such a span was written in haste: it is written again, for size.
    Recode,
    /// Much of it is too old.
    Trim,
    /// Everything in them is deleted, or their range deletes hide nothing any more.
    Purge,
    /// The operator asked for it.
    All,
}

impl PlanReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::Tier, Self::Widen, Self::Seal, Self::Recode, Self::Trim, Self::Purge, Self::All];

    /// Name in metrics and statistics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tier => "tier",
            Self::Widen => "widen",
            Self::Seal => "seal",
            Self::Recode => "recode",
            Self::Trim => "trim",
            Self::Purge => "purge",
            Self::All => "all",
        }
    }
    /// Work that the columns are worth: what is merged again soon is written in haste.
    #[must_use]
    pub fn effort(self) -> Effort {
        match self {
            Self::Tier => Effort::Quick,
            Self::Widen | Self::Seal | Self::Recode | Self::Trim | Self::Purge | Self::All => {
                Effort::Thorough
            }
        }
    }
}

/// Tables to merge together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Ascending.
    pub inputs: Vec<TableId>,
    /// For `MergeOptions::spans`.
    pub spans: Vec<Span>,
    /// Why.
    pub reason: PlanReason,
    /// Bytes of the inputs.
    pub bytes: u64,
}

/// The most useful merge now, if any. Pure: the same version gives the same plan.
#[must_use]
pub fn pick(input: &PickInput<'_>) -> Option<Plan> {
    let idle: Vec<&PickTable<'_>> =
        input.tables.iter().filter(|table| !input.busy.contains(&table.meta.id)).collect();
    let metas: Vec<&TableMeta> = idle.iter().map(|table| table.meta).collect();
    purge_hidden(input, &metas)
        .or_else(|| purge_deletes(input, &idle))
        .or_else(|| cheapest(trims(input, &metas)))
        .or_else(|| cheapest(tiers(input, &metas)))
        .or_else(|| levels(input).find_map(|level| cheapest(widenings(input, &metas, level))))
        .or_else(|| cheapest(seals(input, &metas)))
        .or_else(|| cheapest(recodings(input, &metas)))
}

/// Merges, independent of each other, after which there are as few tables as possible: each shard's tables, samples
/// and the rest together, so that all deletes below the horizon can go. A small store becomes one table per shard and
/// kind, a large one keeps up to `FLUSH_TABLES_MAX` spans.
#[must_use]
pub fn pick_all(input: &PickInput<'_>) -> Vec<Plan> {
    let idle =
        input.tables.iter().filter(|table| !input.busy.contains(&table.meta.id)).map(|table| table.meta);
    connected(idle.collect(), input.boundaries)
        .into_iter()
        .filter_map(|tables| {
            let samples = || tables.iter().filter(|meta| meta.span.is_some());
            let full = samples().map(|meta| meta.bytes).sum::<u64>() / input.table_bytes_target.max(1);
            let count_max = usize::try_from(full).unwrap_or(usize::MAX).clamp(1, FLUSH_TABLES_MAX);
            let stretches: Vec<(i64, i64)> = samples().map(|meta| (meta.time_min, meta.time_max)).collect();
            let spans = cover_spans(&stretches, input.span_base, input.level_max, count_max);
            let is_touched = tables.iter().any(|meta| input.hidden.contains_key(&meta.id));
            (is_touched || !is_minimal(&tables, &spans)).then(|| plan(&tables, spans, PlanReason::All))
        })
        .collect()
}

/// The levels whose spans differ: above the last of them every span is all of time.
fn levels(input: &PickInput<'_>) -> impl Iterator<Item = u8> {
    let distinct =
        (0..LEVEL_EVERYTHING).filter(|level| span_of(0, input.span_base, *level) != Span::EVERYTHING);
    distinct.chain([LEVEL_EVERYTHING]).take_while(|level| *level <= input.level_max)
}

fn plan(tables: &[&TableMeta], spans: Vec<Span>, reason: PlanReason) -> Plan {
    let mut inputs: Vec<TableId> = tables.iter().map(|meta| meta.id).collect();
    inputs.sort_unstable();
    Plan { inputs, spans, reason, bytes: tables.iter().map(|meta| meta.bytes).sum() }
}

/// Small merges first: they are done before they matter to anyone, and the large one then has fewer inputs.
fn cheapest(plans: Vec<Plan>) -> Option<Plan> {
    plans.into_iter().min_by(|a, b| a.bytes.cmp(&b.bytes).then_with(|| a.inputs.cmp(&b.inputs)))
}

fn span_of_table(meta: &TableMeta) -> Option<Span> {
    meta.span.map(|(start, end)| Span { start, end, level: meta.level })
}

/// Tables that hold nothing but deleted entries; merging them reads nothing.
fn purge_hidden(input: &PickInput<'_>, metas: &[&TableMeta]) -> Option<Plan> {
    let hides = |meta: &TableMeta| {
        input.tables.iter().any(|table| {
            // A delete counts within the visible keys of its table.
            let deletes = || table.range_deletes.iter().filter(|delete| delete.seqno < input.horizon);
            holds_keys(&table.meta.keys, &meta.keys) && deletes().any(|delete| hides_table(delete, meta))
        })
    };
    let hidden: Vec<&TableMeta> =
        metas.iter().copied().filter(|meta| meta.entries > 0 && hides(meta)).collect();
    let stretches: Vec<(i64, i64)> = hidden.iter().filter_map(|meta| meta.span).collect();
    let spans = cover_spans(&stretches, input.span_base, input.level_max, FLUSH_TABLES_MAX);
    (!hidden.is_empty()).then(|| plan(&hidden, spans, PlanReason::Purge))
}

/// A table whose range deletes hide nothing any more.
fn purge_deletes(input: &PickInput<'_>, idle: &[&PickTable<'_>]) -> Option<Plan> {
    idle.iter().find_map(|table| {
        let spent = |delete: &&RangeDelete| {
            let outside = || input.tables.iter().filter(|other| other.meta.id != table.meta.id);
            delete.seqno < input.horizon && !outside().any(|other| covers_older(delete, other.meta))
        };
        let small = table.meta.bytes <= input.table_bytes_target / PURGE_FRACTION;
        let wanted = if small { 1 } else { PURGE_DELETES };
        let enough = table.range_deletes.iter().filter(spent).take(wanted).count() == wanted;
        let spans = span_of_table(table.meta).into_iter().collect();
        enough.then(|| plan(&[table.meta], spans, PlanReason::Purge))
    })
}

/// Wide tables of which much is too old. What is left of one lies in spans that can be dropped one by one.
fn trims(input: &PickInput<'_>, metas: &[&TableMeta]) -> Vec<Plan> {
    let trim = |meta: &&TableMeta| {
        let cut = cut_of(meta, input.cutoffs)?;
        let is_worth_it = is_trimmed_at(meta, cut, input.span_base, input.level_max);
        let left = (cut.max(meta.time_min), meta.time_max);
        let spans = cover_spans(&[left], input.span_base, input.level_max, FLUSH_TABLES_MAX);
        is_worth_it.then(|| plan(&[*meta], spans, PlanReason::Trim))
    };
    let worn = |meta: &&&TableMeta| {
        input.hidden.get(&meta.id).is_some_and(|hidden| hidden.saturating_mul(2) >= meta.bytes)
    };
    let rewrite =
        |meta: &&TableMeta| plan(&[*meta], span_of_table(meta).into_iter().collect(), PlanReason::Trim);
    metas.iter().filter_map(trim).chain(metas.iter().filter(worn).map(rewrite)).collect()
}

/// Before which time everything in a table is hidden.
pub(super) fn cut_of(meta: &TableMeta, cutoffs: &[Cutoff]) -> Option<i64> {
    cutoffs.iter().filter(|cutoff| meta.seqno_max < cutoff.below).map(|cutoff| cutoff.before).max()
}

/// Whether a table of which everything before `cut` is hidden is worth writing again for its times.
pub(super) fn is_trimmed_at(meta: &TableMeta, cut: i64, span_base: i64, level_max: u8) -> bool {
    let (first, last) = (i128::from(meta.time_min), i128::from(meta.time_max));
    let is_regular =
        level_max < LEVEL_EVERYTHING && span_of(meta.time_min, span_base, level_max).contains(meta.time_max);
    let is_wide = meta.span.is_some() && last - first >= i128::from(span_base) && !is_regular;
    let cut = i128::from(cut);
    is_wide && cut <= last && cut - first >= last - cut
}

/// Groups of one span whose tables are alike.
fn tiers(input: &PickInput<'_>, metas: &[&TableMeta]) -> Vec<Plan> {
    let mut groups: BTreeMap<(Option<Span>, u32), Vec<&TableMeta>> = BTreeMap::new();
    for meta in metas {
        groups.entry((span_of_table(meta), size_class(input, meta))).or_default().push(meta);
    }
    let mut plans = Vec::new();
    for ((span, class), tables) in groups {
        for mut tables in connected(tables, input.boundaries) {
            if class >= CLASS_LARGE {
                tables = deepest(&tables);
            }
            tables.truncate(INPUTS_MAX);
            if tables.len() >= TIER_TABLES {
                plans.push(plan(&tables, span.into_iter().collect(), PlanReason::Tier));
            }
        }
    }
    plans
}

/// Groups of small tables within one span of `level`.
fn widenings(input: &PickInput<'_>, metas: &[&TableMeta], level: u8) -> Vec<Plan> {
    let mut groups: BTreeMap<(Span, u32), Vec<&TableMeta>> = BTreeMap::new();
    for meta in metas {
        let class = size_class(input, meta);
        let Some((start, end)) = meta.span.filter(|_| class < CLASS_LARGE) else { continue };
        let region = span_of(start, input.span_base, level);
        if region.contains(end) {
            groups.entry((region, class)).or_default().push(meta);
        }
    }
    let mut plans = Vec::new();
    for mut tables in groups.into_values().flat_map(|tables| connected(tables, input.boundaries)) {
        tables.truncate(INPUTS_MAX);
        let bytes: u64 = tables.iter().map(|meta| meta.bytes).sum();
        if tables.len() < WIDEN_TABLES || bytes > input.table_bytes_target {
            continue;
        }
        let stretch = tables.iter().filter_map(|meta| meta.span).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        let spans = stretch.map(|(first, last)| span_covering(first, last, input.span_base));
        plans.push(plan(&tables, spans.into_iter().collect(), PlanReason::Widen));
    }
    plans
}

/// Tables that lie over each other in spans that end before the newest begins.
fn seals(input: &PickInput<'_>, metas: &[&TableMeta]) -> Vec<Plan> {
    let newest = input.tables.iter().filter_map(|table| table.meta.span).map(|(start, _)| start).max();
    let mut groups: BTreeMap<Span, Vec<&TableMeta>> = BTreeMap::new();
    for meta in metas {
        if let Some(span) = span_of_table(meta).filter(|span| newest.is_some_and(|start| span.end < start)) {
            groups.entry(span).or_default().push(meta);
        }
    }
    let mut plans = Vec::new();
    for (span, tables) in groups {
        let mut tables = deepest(&tables);
        tables.truncate(INPUTS_MAX);
        let largest = tables.iter().map(|meta| meta.bytes).max().unwrap_or_default();
        let rest = tables.iter().map(|meta| meta.bytes).sum::<u64>() - largest;
        if tables.len() > 1 && rest.saturating_mul(SEAL_RATIO) >= largest {
            plans.push(plan(&tables, vec![span], PlanReason::Seal));
        }
    }
    plans
}

/// Tables in spans that end before the newest begins, large enough to matter, whose columns were written in haste.
fn recodings(input: &PickInput<'_>, metas: &[&TableMeta]) -> Vec<Plan> {
    let newest = input.tables.iter().filter_map(|table| table.meta.span).map(|(start, _)| start).max();
    let is_closed = |span: &Span| newest.is_some_and(|start| span.end < start);
    let hasty = metas.iter().filter(|meta| meta.effort == Effort::Quick && size_class(input, meta) > 0);
    hasty
        .filter_map(|meta| span_of_table(meta).filter(is_closed).map(|span| (meta, span)))
        .map(|(meta, span)| plan(&[meta], vec![span], PlanReason::Recode))
        .collect()
}

fn size_class(input: &PickInput<'_>, meta: &TableMeta) -> u32 {
    let unit = (input.table_bytes_target / 256).max(1);
    (meta.bytes / unit).checked_ilog2().map_or(0, |log| log / 2 + 1).min(CLASS_LARGE)
}

/// Splits tables into sets that share no shard, each in order of id.
fn connected<'a>(mut tables: Vec<&'a TableMeta>, boundaries: &[Box<[u8]>]) -> Vec<Vec<&'a TableMeta>> {
    let shards = |meta: &TableMeta| {
        let first = boundaries.partition_point(|boundary| *boundary <= meta.keys.start);
        let last = match &meta.keys.end {
            Some(end) => boundaries.partition_point(|boundary| boundary < end),
            None => boundaries.len(),
        };
        (first, last)
    };
    tables.sort_by_key(|meta| (shards(meta).0, meta.id));
    let mut sets: Vec<(usize, Vec<&TableMeta>)> = Vec::new();
    for meta in tables {
        let (first, last) = shards(meta);
        match sets.last_mut().filter(|(reaches, _)| first <= *reaches) {
            Some((reaches, set)) => {
                *reaches = last.max(*reaches);
                set.push(meta);
            }
            None => sets.push((last, vec![meta])),
        }
    }
    let by_id = |(_, mut set): (usize, Vec<&'a TableMeta>)| {
        set.sort_by_key(|meta| meta.id);
        set
    };
    sets.into_iter().map(by_id).collect()
}

/// The tables that hold the key over which most of them lie, small ones first.
fn deepest<'a>(tables: &[&'a TableMeta]) -> Vec<&'a TableMeta> {
    let over = |key: &[u8]| tables.iter().copied().filter(|meta| meta.keys.contains(key)).collect::<Vec<_>>();
    // The depth changes only where a table starts.
    let mut deepest = Vec::new();
    for meta in tables {
        let stack = over(&meta.keys.start);
        if stack.len() > deepest.len() {
            deepest = stack;
        }
    }
    deepest.sort_by_key(|meta| (meta.bytes, meta.id));
    deepest
}

/// Whether a merge of all these tables into these spans would change nothing worth the effort.
fn is_minimal(tables: &[&TableMeta], spans: &[Span]) -> bool {
    let clean = tables
        .iter()
        .all(|meta| meta.point_deletes == 0 && meta.range_deletes == 0 && meta.effort == Effort::Thorough);
    let placed = tables.iter().all(|meta| span_of_table(meta).is_none_or(|span| spans.contains(&span)));
    let mut runs: BTreeMap<Option<Span>, Vec<&TableMeta>> = BTreeMap::new();
    tables.iter().for_each(|meta| runs.entry(span_of_table(meta)).or_default().push(meta));
    clean && placed && runs.values().all(|run| run.len() == 1 || deepest(run).len() == 1 && !any_small(run))
}

/// Whether a run is in more pieces than its size asks for: each but the last was full when it was cut.
fn any_small(run: &[&TableMeta]) -> bool {
    let largest = run.iter().map(|meta| meta.bytes).max().unwrap_or_default();
    run.iter().filter(|meta| meta.bytes < largest / 2).count() > 1
}

#[cfg(test)]
mod tests;
