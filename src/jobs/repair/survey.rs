//! Which files make up a store whose manifest may be damaged, old or gone.
//!
//! Where `CURRENT` names a sound manifest, that is the truth. Else the newest sound manifest is, if nothing newer can
//! have been in force: it is written whole before `CURRENT` names it. Else the files tell for themselves, with what is
//! left of manifests as a witness: a table or segment that one says is gone stays gone; any other file of this store is
//! taken. A table that a lost edit had removed may then be back, and what its successor dropped with it: that is said.

use super::plan::ManifestPlan;
use crate::io::Files;
use crate::jobs::error::OpenError;
use crate::jobs::layout::Inventory;
use crate::jobs::open::{later_segment, read_manifest};
use crate::jobs::table_files::FileSource;
use crate::model::{SegmentSeq, Seqno, StoreId, StreamId, TableId, TimeUnit};
use crate::storage::manifest::log::MANIFEST_BYTES_MAX;
use crate::storage::manifest::names::{
    CURRENT, manifest_path, parse_manifest, parse_quarantine, parse_segment, parse_table, segment_path,
    table_path,
};
use crate::storage::manifest::{
    Current, Edit, ManifestError, ManifestFrame, SegmentEntry, State, read_remains, replay,
};
use crate::storage::retention::Retention;
use crate::storage::sstable::{TableMeta, read_identity};
use crate::storage::wal::find_life;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Longest `CURRENT` that is read.
const CURRENT_BYTES_MAX: u64 = 4096;

/// What the store consists of, as far as it can be told.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) store: StoreId,
    /// `None` when nothing tells.
    pub(super) unit: Option<TimeUnit>,
    /// Tables, with what a manifest says of them.
    pub(super) tables: BTreeMap<TableId, Option<TableMeta>>,
    pub(super) segments: BTreeMap<SegmentSeq, SegmentEntry>,
    /// `None` when nothing tells.
    pub(super) boundaries: Option<Vec<Box<[u8]>>>,
    pub(super) seqno_floor: Seqno,
    pub(super) retention: Retention,
    pub(super) next_table: TableId,
    pub(super) next_segment: SegmentSeq,
    /// The manifest that was in force, as far as known.
    pub(super) manifest: u64,
    /// The sound manifest that all this is from; `None` when it was put together.
    pub(super) based_on: Option<u64>,
    /// Whether `CURRENT` names it: nothing to do for it.
    pub(super) in_force: bool,
    /// What is wrong with `CURRENT` and the manifests.
    pub(super) damage: Vec<OpenError>,
    pub(super) warnings: Vec<String>,
    /// `CURRENT` and manifests that are damaged.
    pub(super) aside: Vec<PathBuf>,
    /// Files that an earlier repair set aside.
    quarantined: BTreeSet<PathBuf>,
}

impl Survey {
    /// Looks at everything but the content of tables and segments. `unit` is what the operator says.
    ///
    /// # Errors
    /// When there is no store, or one of a newer tskv.
    pub(super) fn take(
        files: &dyn Files,
        inventory: &Inventory,
        unit: Option<TimeUnit>,
    ) -> Result<Self, OpenError> {
        let quarantined = inventory.foreign.iter().filter(|path| parse_quarantine(path).is_some());
        let mut survey = Self { quarantined: quarantined.cloned().collect(), ..Self::default() };
        let current = survey.read_current(files, inventory)?;
        match survey.sound_manifest(files, inventory, current)? {
            Some((number, state)) => survey.adopt(number, state),
            None => survey.put_together(files, inventory, current)?,
        }
        survey.in_force = survey.based_on.is_some() && survey.based_on == current.map(|found| found.manifest);
        survey.raise_numbers(inventory);
        survey.unit = survey.unit.or(unit);
        Ok(survey)
    }

    /// Files that an earlier repair gave up under this name.
    pub(super) fn set_aside_before<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
        self.quarantined.iter().filter(move |file| parse_quarantine(file).as_deref() == Some(path)).cloned()
    }

    /// Whether a file of this name was set aside before.
    pub(super) fn is_taken(&self, path: &Path) -> bool {
        self.quarantined.contains(path)
    }

    /// Every file that may hold a table.
    pub(super) fn table_files<'a>(&'a self, inventory: &'a Inventory) -> impl Iterator<Item = PathBuf> + 'a {
        let set_aside = self.quarantined.iter().filter(|path| {
            let original = parse_quarantine(path);
            let name = original.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
            name.and_then(parse_table).is_some()
        });
        inventory.tables.keys().map(|id| table_path(*id)).chain(set_aside.cloned())
    }

    /// What the new manifest is made from.
    pub(super) fn manifest_plan(&self, inventory: &Inventory) -> ManifestPlan {
        ManifestPlan {
            number: self.next_manifest(inventory),
            based_on: self.based_on,
            tables: self.tables.len(),
            segments: self.segments.len(),
        }
    }

    /// The number of the next manifest: above all that are or were there.
    pub(super) fn next_manifest(&self, inventory: &Inventory) -> u64 {
        let named = self.quarantined.iter().filter_map(|path| {
            let original = parse_quarantine(path)?;
            parse_manifest(original.file_name()?.to_str()?)
        });
        let last = named.chain(inventory.manifests.last().copied()).chain([self.manifest]).max();
        last.unwrap_or(0).saturating_add(1)
    }

    fn read_current(
        &mut self,
        files: &dyn Files,
        inventory: &Inventory,
    ) -> Result<Option<Current>, OpenError> {
        let path = Path::new(CURRENT);
        if !inventory.current {
            let Some(found) = inventory.data() else {
                let (doing, file) = ("looking for a store in", PathBuf::new());
                return Err(OpenError::Io { doing, file, source: std::io::ErrorKind::NotFound.into() });
            };
            self.damage.push(OpenError::CurrentMissing { found });
            return Ok(None);
        }
        let bytes = match files.read_all(path, CURRENT_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.damage.push(OpenError::io("reading", path)(error));
                self.aside.push(path.to_owned());
                return Ok(None);
            }
        };
        match Current::decode(path, &bytes) {
            Ok(current) => Ok(Some(current)),
            Err(error @ ManifestError::Damaged(_)) => {
                self.damage.push(error.into());
                self.aside.push(path.to_owned());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The manifest that is or would have come into force, with its content.
    fn sound_manifest(
        &mut self,
        files: &dyn Files,
        inventory: &Inventory,
        current: Option<Current>,
    ) -> Result<Option<(u64, State)>, OpenError> {
        if let Some(current) = current {
            self.manifest = current.manifest;
            let found = read_manifest(files, inventory).and_then(|found| match found {
                Some(found) => later_segment(files, &found.replayed.state, inventory, found.number)
                    .map(|()| Some((found.number, found.replayed.state))),
                None => Ok(None),
            });
            match found {
                Ok(found) => return Ok(found),
                Err(error) if is_newer(&error) => return Err(error),
                Err(error) => {
                    self.damage.push(error);
                    if inventory.manifests.contains(&current.manifest) {
                        self.aside.push(manifest_path(current.manifest));
                    }
                }
            }
        }
        let candidates = inventory.manifests.iter().rev().filter(|number| **number > self.manifest);
        for &number in candidates {
            let path = manifest_path(number);
            let Ok(bytes) = files.read_all(&path, MANIFEST_BYTES_MAX) else { return Ok(None) };
            let Ok(header) = read_remains(&path, number, &bytes).header else { return Ok(None) };
            if current.is_some_and(|current| current.store != header.store) {
                continue;
            }
            let Ok(replayed) = replay(&path, number, header.store, &bytes) else { return Ok(None) };
            if later_segment(files, &replayed.state, inventory, number).is_ok() {
                return Ok(Some((number, replayed.state)));
            }
        }
        Ok(None)
    }

    fn adopt(&mut self, number: u64, state: State) {
        self.store = state.store;
        self.unit = Some(state.unit);
        self.tables = state.tables.into_iter().map(|(id, meta)| (id, Some(meta))).collect();
        self.segments = state.segments;
        self.boundaries = Some(state.boundaries);
        self.seqno_floor = state.seqno_floor;
        self.retention = state.retention;
        (self.next_table, self.next_segment) = (state.next_table, state.next_segment);
        self.manifest = self.manifest.max(number);
        self.based_on = Some(number);
    }

    /// Takes the files for themselves.
    fn put_together(
        &mut self,
        files: &dyn Files,
        inventory: &Inventory,
        current: Option<Current>,
    ) -> Result<(), OpenError> {
        let witness = self.hear_manifests(files, inventory, current)?;
        let tables = self.owned_tables(files, inventory);
        let segments = lives(files, inventory)?;
        let owners = tables.values().filter_map(|owner| *owner);
        let owners = owners.chain(segments.values().filter_map(|life| life.store));
        self.store = match current.map(|current| current.store).or(witness.store) {
            Some(store) => store,
            None => most_frequent(owners).unwrap_or_default(),
        };
        for (id, owner) in tables {
            let ours = owner.is_none_or(|owner| owner == self.store);
            if ours && !witness.removed.contains(&id) {
                self.tables.insert(id, witness.tables.get(&id).cloned());
            }
        }
        for (&id, meta) in witness.tables.iter().filter(|(id, _)| !witness.removed.contains(id)) {
            if !self.tables.contains_key(&id) {
                self.warnings.push(format!(
                    "table {:016x} with {} entries is named by a damaged manifest and not there: a merge replaced it, or \
                     it is lost",
                    id.0, meta.entries
                ));
            }
        }
        self.take_segments(inventory, &witness, segments);
        self.unit = witness.unit;
        self.boundaries = witness.boundaries;
        self.seqno_floor = witness.seqno_floor;
        self.retention = witness.retention;
        (self.next_table, self.next_segment) = (witness.next_table, witness.next_segment);
        self.warnings.push(
            "no manifest can be trusted: tables and log segments are taken as they lie there; one that had been \
             replaced already brings back what was deleted since"
                .to_owned(),
        );
        Ok(())
    }

    fn owned_tables(&self, files: &dyn Files, inventory: &Inventory) -> BTreeMap<TableId, Option<StoreId>> {
        let owner = |id: TableId| {
            let path = table_path(id);
            let mut source = FileSource::new(files, files.open(&path).ok()?).ok()?;
            read_identity(&path, &mut source).map(|(store, _)| store)
        };
        inventory.tables.keys().map(|id| (*id, owner(*id))).collect()
    }

    fn take_segments(&mut self, inventory: &Inventory, witness: &Witness, lives: BTreeMap<SegmentSeq, Life>) {
        // A start retires all earlier segments before its first write; its own first one follows none.
        let mut first_of_start: BTreeMap<StreamId, SegmentSeq> = BTreeMap::new();
        for (&seq, life) in lives.iter().filter(|(_, life)| life.follows_none) {
            first_of_start.insert(life.entry.stream, seq);
        }
        for (seq, life) in lives {
            let listed = witness.segments.get(&seq).copied();
            let ours = life.store.is_none_or(|store| store == self.store);
            let of_this_start = first_of_start.get(&life.entry.stream).is_none_or(|first| seq >= *first);
            if ours && of_this_start && !witness.retired.contains(&seq) {
                self.segments.insert(seq, listed.unwrap_or(life.entry));
            }
        }
        let gone = witness.segments.keys().filter(|seq| !witness.retired.contains(seq));
        for seq in gone.filter(|seq| !inventory.segments.contains_key(seq)) {
            self.warnings.push(format!(
                "{} is named by a damaged manifest and not there: its records are in tables by now, or lost",
                segment_path(*seq).display()
            ));
        }
    }

    /// Reads what is left of every manifest.
    fn hear_manifests(
        &mut self,
        files: &dyn Files,
        inventory: &Inventory,
        current: Option<Current>,
    ) -> Result<Witness, OpenError> {
        let mut witness = Witness::default();
        for &number in &inventory.manifests {
            let path = manifest_path(number);
            let bytes = match files.read_all(&path, MANIFEST_BYTES_MAX) {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.damage.push(OpenError::io("reading", &path)(error));
                    if !self.aside.contains(&path) {
                        self.aside.push(path);
                    }
                    continue;
                }
            };
            let remains = read_remains(&path, number, &bytes);
            let header = match remains.header {
                Ok(header) => Some(header),
                Err(error @ ManifestError::Damaged(_)) => {
                    self.damage.push(error.into());
                    None
                }
                Err(error) => return Err(error.into()),
            };
            let store = current.map(|current| current.store).or(witness.store);
            if let (Some(header), Some(store)) = (header, store)
                && header.store != store
            {
                continue;
            }
            if !self.aside.contains(&path) {
                self.aside.push(path);
            }
            witness.store = witness.store.or(header.map(|header| header.store));
            witness.unit = witness.unit.or(header.map(|header| header.unit));
            remains.frames.into_iter().for_each(|frame| witness.hear(frame));
        }
        Ok(witness)
    }

    /// No number that a file bears or bore is given out again.
    fn raise_numbers(&mut self, inventory: &Inventory) {
        let (mut table, mut segment) = (self.next_table.0, self.next_segment.0);
        let mut raise = |name: Option<&str>| {
            let Some(name) = name else { return };
            if let Some(id) = parse_table(name) {
                table = table.max(id.0.saturating_add(1));
            }
            if let Some(seq) = parse_segment(name) {
                segment = segment.max(seq.0.saturating_add(1));
            }
        };
        for path in &self.quarantined {
            let original = parse_quarantine(path);
            raise(original.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()));
        }
        let tables = inventory.tables.keys().chain(self.tables.keys()).map(|id| table_path(*id));
        let segments = inventory.segments.keys().chain(self.segments.keys()).map(|seq| segment_path(*seq));
        for path in tables.chain(segments) {
            raise(path.file_name().and_then(|name| name.to_str()));
        }
        (self.next_table, self.next_segment) = (TableId(table), SegmentSeq(segment));
    }
}

/// What is left of the manifests, one after the other.
#[derive(Debug, Default)]
struct Witness {
    store: Option<StoreId>,
    unit: Option<TimeUnit>,
    tables: BTreeMap<TableId, TableMeta>,
    removed: BTreeSet<TableId>,
    segments: BTreeMap<SegmentSeq, SegmentEntry>,
    retired: BTreeSet<SegmentSeq>,
    boundaries: Option<Vec<Box<[u8]>>>,
    seqno_floor: Seqno,
    retention: Retention,
    next_table: TableId,
    next_segment: SegmentSeq,
}

impl Witness {
    fn hear(&mut self, frame: ManifestFrame) {
        let ManifestFrame::Whole { index, edits, .. } = frame else { return };
        if index == 0 {
            // A snapshot: what it does not name was gone when it was made.
            self.removed.extend(std::mem::take(&mut self.tables).into_keys());
            self.retired.extend(std::mem::take(&mut self.segments).into_keys());
        }
        for edit in edits {
            match edit {
                Edit::AddTable(meta) => {
                    self.removed.remove(&meta.id);
                    self.tables.insert(meta.id, meta);
                }
                Edit::RemoveTable(id) => {
                    self.removed.insert(id);
                }
                Edit::AddSegment { seq, entry } => {
                    self.retired.remove(&seq);
                    self.segments.insert(seq, entry);
                }
                Edit::RetireSegment(seq) => {
                    self.retired.insert(seq);
                }
                Edit::Boundaries(boundaries) => self.boundaries = Some(boundaries),
                Edit::SeqnoFloor(floor) => self.seqno_floor = self.seqno_floor.max(floor),
                Edit::Retention(retention) => self.retention = retention,
                Edit::NextTable(next) => self.next_table = self.next_table.max(next),
                Edit::NextSegment(next) => self.next_segment = self.next_segment.max(next),
            }
        }
    }
}

/// What a segment file says of itself.
struct Life {
    store: Option<StoreId>,
    entry: SegmentEntry,
    follows_none: bool,
}

fn lives(files: &dyn Files, inventory: &Inventory) -> Result<BTreeMap<SegmentSeq, Life>, OpenError> {
    let mut lives = BTreeMap::new();
    for &seq in inventory.segments.keys() {
        let path = segment_path(seq);
        let file = files.open(&path).map_err(OpenError::io("opening", &path))?;
        let mut source = FileSource::new(files, file).map_err(OpenError::io("reading", &path))?;
        let Some((input, header)) = find_life(seq, &path, &mut source)? else { continue };
        let entry = SegmentEntry { stream: input.stream, salt: input.salt, bytes: input.bytes };
        let follows_none = header.is_some_and(|header| header.previous.is_none());
        lives.insert(seq, Life { store: header.map(|header| header.store), entry, follows_none });
    }
    Ok(lives)
}

fn most_frequent(owners: impl Iterator<Item = StoreId>) -> Option<StoreId> {
    let mut counts: BTreeMap<[u8; 16], usize> = BTreeMap::new();
    owners.for_each(|owner| *counts.entry(owner.0).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(store, _)| StoreId(store))
}

/// Files of a newer tskv are not damaged; a repair would make them so.
fn is_newer(error: &OpenError) -> bool {
    use ManifestError::{FeaturesUnsupported, VersionUnsupported};
    matches!(error, OpenError::Manifest(VersionUnsupported { .. } | FeaturesUnsupported { .. }))
}
