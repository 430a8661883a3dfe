//! What is left of a damaged table: its sound blocks and range deletes, wherever they lie.

use super::plan::{BlockLoss, Extent, RepairStep, TablePlan};
use super::survey::Survey;
use crate::io::Files;
use crate::jobs::check::verify_table;
use crate::jobs::error::OpenError;
use crate::jobs::layout::Inventory;
use crate::jobs::refill::Refill;
use crate::jobs::table_files::{FileSource, load_table};
use crate::model::{EntryOp, KeyRange, SlotClass, TableId};
use crate::storage::columns::Columns;
use crate::storage::manifest::names::{manifest_path, table_path};
use crate::storage::range_delete::RangeDelete;
use crate::storage::sstable::{
    Block, BlockFound, BlockWalk, TableIndex, TableMeta, TableRemains, read_identity,
};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// What a table is.
#[derive(Debug)]
pub(super) enum Examined {
    /// As it should be.
    Sound(TableMeta),
    /// Not.
    Damaged(Box<DamagedTable>),
}

/// A table that is taken apart.
#[derive(Debug)]
pub(super) struct DamagedTable {
    pub(super) plan: TablePlan,
    /// What is wrong.
    pub(super) damage: Vec<OpenError>,
    /// Its stretches that are lost.
    pub(super) blocks: Vec<BlockLoss>,
    /// Its file, where there is one: it is set aside.
    pub(super) aside: Option<PathBuf>,
    /// What it shows; the rest of its remains does not exist.
    visible: KeyRange,
}

impl DamagedTable {
    /// The lines of the account.
    pub(super) fn steps(self) -> impl Iterator<Item = RepairStep> {
        let damage = self.damage.into_iter().map(RepairStep::Damage);
        let blocks = self.blocks.into_iter().map(RepairStep::Block);
        damage.chain([RepairStep::Table(self.plan)]).chain(blocks)
    }
}

/// Reads a table in full.
///
/// # Errors
/// For a table of a newer tskv, which is no damage.
pub(super) fn examine(
    files: &dyn Files,
    survey: &Survey,
    inventory: &Inventory,
    id: TableId,
    meta: Option<&TableMeta>,
) -> Result<Examined, OpenError> {
    let path = table_path(id);
    let is_there = inventory.tables.contains_key(&id);
    let mut damage: Vec<OpenError> =
        inventory.require(&path, is_there, &manifest_path(survey.manifest)).err().into_iter().collect();
    if is_there {
        match own_meta(files, survey, &path, meta) {
            Ok(meta) => {
                verify_table(files, survey.store, &meta, &mut |error| damage.push(error));
                if damage.is_empty() {
                    return Ok(Examined::Sound(meta));
                }
            }
            Err(error) => damage.push(error),
        }
    }
    if let Some(newer) = damage.iter().position(is_newer) {
        return Err(damage.swap_remove(newer));
    }
    let own = is_there.then(|| path.clone());
    let elsewhere = survey.table_files(inventory).filter(|file| {
        *file != path
            && (survey.set_aside_before(&path).any(|old| old == *file) || is_table(files, survey, id, file))
    });
    let mut best: Option<(TablePlan, Vec<BlockLoss>)> = None;
    let visible = meta.map_or_else(KeyRange::all, |meta| meta.keys.clone());
    for candidate in own.iter().cloned().chain(elsewhere) {
        let account = account(files, survey, id, &candidate, &visible, meta)?;
        if best.as_ref().is_none_or(|(plan, _)| plan.kept.count < account.0.kept.count) {
            best = Some(account);
        }
    }
    let (mut plan, blocks) = best.unwrap_or_else(|| (empty_plan(id, meta), Vec::new()));
    plan.older_tables = older_tables(survey, id, meta);
    Ok(Examined::Damaged(Box::new(DamagedTable { plan, damage, blocks, aside: own, visible })))
}

/// Turns what is left of a table into entries.
pub(super) fn refill(
    survey: &Survey,
    table: &DamagedTable,
    refill: &mut Refill<'_>,
) -> Result<(), OpenError> {
    let Some(path) = &table.plan.source else { return Ok(()) };
    let files = refill.files();
    take_apart(files, survey, table.plan.id, path, &mut |part| match part {
        Part::Run(series, class, columns) if table.visible.contains(series) => {
            for (index, time) in columns.times().iter().enumerate() {
                let op = columns.op(index);
                if refill.entry(series, class.slot(*time), columns.seqno(index), op).is_break() {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        }
        Part::RangeDelete(delete) => {
            refill.delete(delete, &table.visible);
            ControlFlow::Continue(())
        }
        Part::Run(..) | Part::Sound | Part::Lost(_) | Part::Deletes(_) => ControlFlow::Continue(()),
    })?;
    refill.outcome()
}

/// A piece of a table file.
enum Part<'a> {
    /// Entries of one series and class, in order.
    Run(&'a [u8], SlotClass, &'a Columns),
    /// A block that is sound was read to its end.
    Sound,
    Lost(BlockLoss),
    RangeDelete(&'a RangeDelete),
    /// All range deletes were visited, or cannot be.
    Deletes(Option<u64>),
}

/// Visits everything in a table file that is sound, and names what is not.
fn take_apart(
    files: &dyn Files,
    survey: &Survey,
    id: TableId,
    path: &Path,
    visit: &mut dyn FnMut(Part<'_>) -> ControlFlow<()>,
) -> Result<Option<TableMeta>, OpenError> {
    let file = files.open(path).map_err(OpenError::io("opening", path))?;
    let mut source = FileSource::new(files, file).map_err(OpenError::io("reading", path))?;
    let remains = TableRemains::read(path, survey.store, id, &mut source)?;
    let mut walk = BlockWalk::default();
    while let Some(found) = remains.next_block(path, &mut source, &mut walk) {
        let end = match found {
            BlockFound::Sound(handle, block) => {
                let range = handle.offset..handle.offset + u64::from(handle.bytes);
                match runs(&block) {
                    Ok(runs) => visit_runs(&runs, visit),
                    Err(reason) => {
                        visit(Part::Lost(BlockLoss { file: path.into(), range, keys: None, reason }))
                    }
                }
            }
            BlockFound::Damaged(stretch, range, error) => {
                let keys = stretch.map(|stretch| (stretch.first, stretch.last));
                visit(Part::Lost(BlockLoss { file: path.into(), range, keys, reason: error.to_string() }))
            }
        };
        if end.is_break() {
            return Ok(remains.meta);
        }
    }
    for delete in remains.range_deletes.iter().flatten() {
        if visit(Part::RangeDelete(delete)).is_break() {
            return Ok(remains.meta);
        }
    }
    let count = remains.range_deletes.as_ref().map(|deletes| deletes.len() as u64);
    let _ = visit(Part::Deletes(count));
    Ok(remains.meta)
}

type Run = (Box<[u8]>, SlotClass, Columns);

/// All entries of a block, or none: half a block would be half of what the account says.
fn runs(block: &Block) -> Result<Vec<Run>, String> {
    let mut runs = Vec::with_capacity(block.chunk_count());
    for chunk in 0..block.chunk_count() {
        let header = block.chunk(chunk);
        let mut columns = Columns::default();
        block.decode_chunk(chunk, &mut columns).map_err(|error| error.to_string())?;
        runs.push((header.series.into(), header.class, columns));
    }
    Ok(runs)
}

fn visit_runs(runs: &[Run], visit: &mut dyn FnMut(Part<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
    for (series, class, columns) in runs {
        visit(Part::Run(series, *class, columns))?;
    }
    visit(Part::Sound)
}

fn account(
    files: &dyn Files,
    survey: &Survey,
    id: TableId,
    path: &Path,
    visible: &KeyRange,
    meta: Option<&TableMeta>,
) -> Result<(TablePlan, Vec<BlockLoss>), OpenError> {
    let mut plan = empty_plan(id, meta);
    let mut blocks = Vec::new();
    let mut entries_seen = 0;
    plan.source = Some(path.to_owned());
    plan.range_deletes_lost = meta.map(|meta| meta.range_deletes);
    let own = take_apart(files, survey, id, path, &mut |part| {
        match part {
            Part::Run(series, class, columns) => {
                entries_seen += columns.len() as u64;
                for (index, time) in columns.times().iter().enumerate().filter(|_| visible.contains(series)) {
                    let is_delete = columns.op(index) == EntryOp::Delete;
                    plan.kept.note(Some(series), Some(class.slot(*time)), columns.seqno(index), is_delete);
                }
            }
            Part::Sound => plan.blocks_kept += 1,
            Part::Lost(loss) => {
                plan.blocks_lost += 1;
                blocks.push(loss);
            }
            Part::RangeDelete(_) => plan.range_deletes_kept += 1,
            Part::Deletes(count) => plan.range_deletes_lost = count.map(|_| 0).or(plan.range_deletes_lost),
        }
        ControlFlow::Continue(())
    })?;
    let known = meta.or(own.as_ref());
    plan.entries_lost = known.map(|meta| meta.entries.saturating_sub(entries_seen));
    reach(&mut plan, known);
    Ok((plan, blocks))
}

fn reach(plan: &mut TablePlan, meta: Option<&TableMeta>) {
    let Some(meta) = meta else { return };
    if meta.entries > 0 {
        plan.series = Some((meta.first_key.clone(), meta.last_key.clone()));
    }
    plan.times = (meta.time_min <= meta.time_max).then_some((meta.time_min, meta.time_max));
}

fn empty_plan(id: TableId, meta: Option<&TableMeta>) -> TablePlan {
    let mut plan = TablePlan {
        file: table_path(id),
        source: None,
        id,
        blocks_kept: 0,
        blocks_lost: 0,
        kept: Extent::default(),
        entries_lost: meta.map(|meta| meta.entries),
        range_deletes_kept: 0,
        range_deletes_lost: meta.map(|meta| meta.range_deletes),
        series: None,
        times: None,
        older_tables: 0,
    };
    reach(&mut plan, meta);
    plan
}

/// Tables in which older versions of what is lost may lie. A range delete hides them in tables of any class.
fn older_tables(survey: &Survey, id: TableId, lost: Option<&TableMeta>) -> usize {
    let others = survey.tables.iter().filter(|(other, _)| **other != id);
    let Some(lost) = lost else { return others.count() };
    let concerns = |other: &&TableMeta| {
        let same_times = other.time_min <= lost.time_max && lost.time_min <= other.time_max;
        let same_class = other.span.is_none() == lost.span.is_none();
        let by_entry = same_class && (lost.span.is_none() || same_times);
        other.seqno_min < lost.seqno_max
            && other.keys.overlaps(&lost.keys)
            && (by_entry || lost.range_deletes > 0)
    };
    others.filter_map(|(_, meta)| meta.as_ref()).filter(concerns).count()
}

fn own_meta(
    files: &dyn Files,
    survey: &Survey,
    path: &Path,
    meta: Option<&TableMeta>,
) -> Result<TableMeta, OpenError> {
    let file = files.open(path).map_err(OpenError::io("opening", path))?;
    if let Some(meta) = meta {
        load_table(files, survey.store, meta.clone(), file)?;
        return Ok(meta.clone());
    }
    let mut source = FileSource::new(files, file).map_err(OpenError::io("reading", path))?;
    let (_, own) = TableIndex::load(path, survey.store, &mut source)?;
    if table_path(own.id) == *path {
        return Ok(own);
    }
    let named_by = path.to_owned();
    Err(OpenError::FileMissing { file: table_path(own.id), named_by })
}

fn is_table(files: &dyn Files, survey: &Survey, id: TableId, path: &Path) -> bool {
    let Ok(file) = files.open(path) else { return false };
    let Ok(mut source) = FileSource::new(files, file) else { return false };
    read_identity(path, &mut source) == Some((survey.store, id))
}

fn is_newer(error: &OpenError) -> bool {
    use crate::storage::sstable::TableError::{FeaturesUnsupported, VersionUnsupported};
    matches!(error, OpenError::Table(VersionUnsupported { .. } | FeaturesUnsupported { .. }))
}
