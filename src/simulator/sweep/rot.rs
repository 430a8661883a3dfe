//! A store at rest with one bit flipped: whatever is read of it afterwards is right, or is refused.
//!
//! Flips fall on everything that a checksum covers: `CURRENT`, the manifest, tables, and the log up to its last frame.
//! The last frame itself has no witness: damage to it looks like a write that was cut off.

use super::script;
use super::stage::{Setting, Stage, Stop};
use crate::io::sim::{Crash, FileKind, Rng, SimOptions, SimWorld};
use crate::jobs::check_store;
use crate::limits::PAGE_BYTES;
use std::path::{Path, PathBuf};

/// A store at rest: its files, and what it holds.
pub struct RotBase {
    setting: Setting,
    files: Vec<RotFile>,
    oracle: crate::simulator::oracle::Oracle,
}

struct RotFile {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Bits may be flipped below this.
    end: usize,
}

/// How a flip was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotVerdict {
    /// The store refused to open.
    Refused,
    /// It opened, and a read said that a block is damaged.
    ReadFailed,
    /// It opened, and every answer was right: nothing depends on the bit.
    Harmless,
}

impl RotBase {
    /// Plays a seeded script and leaves the store as a killed process does, with something in tables and in the log.
    ///
    /// # Errors
    /// When that goes wrong.
    pub fn new(seed: u64) -> Result<Self, String> {
        let setting = Setting { memtable_bytes: 8 << 10, ..Setting::strict(seed, 1) };
        let mut stage = Stage::new(setting.clone());
        let mut dice = Rng::new(seed);
        let told = |stop: Stop| match stop {
            Stop::Wrong(why) => why,
            Stop::Refused(error) => error.to_string(),
            Stop::Down | Stop::Ended => "the node went down".to_owned(),
        };
        stage.start().and_then(|()| stage.play(&script::to_rot(&mut dice))).map_err(told)?;
        let before = contents(&stage.world)?;
        stage.play(&script::behind_the_tables()).map_err(told)?;
        stage.crash(Crash::ProcessKill);
        let files = contents(&stage.world)?.into_iter().map(|(path, bytes)| {
            let is_new = !before.contains(&(path.clone(), bytes.clone()));
            let end = end_of_flips(&path, &bytes, is_new);
            RotFile { path, bytes, end }
        });
        let files = files.collect();
        Ok(Self { setting, files, oracle: stage.oracle.clone() })
    }

    /// Flips the bit that `nth` chooses, and asks for everything.
    ///
    /// # Errors
    /// When an answer is wrong, or damage is found only where nothing was said of it.
    pub fn flip(&self, nth: u64) -> Result<(FileKind, RotVerdict), String> {
        let mut dice = Rng::new(self.setting.seed ^ nth.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (file, offset, bit) = self.draw(&mut dice);
        let context = format!("bit {bit} of byte {offset} of {} flipped", file.path.display());
        let kind = FileKind::of(&file.path.to_string_lossy());
        let world = SimWorld::new(SimOptions::new(self.setting.seed));
        for file in &self.files {
            let planted = world.with_disk(|disk| disk.plant_file(&file.path, &file.bytes));
            planted.map_err(|errno| errno.to_string())?;
        }
        world.with_disk(|disk| disk.flip_bit(&file.path, offset as u64, bit)).map_err(|e| e.to_string())?;
        let mut damages = 0;
        let checked =
            check_store(&*world.files(), 1, &mut |finding| damages += u64::from(finding.is_damage()));
        let is_reported = checked.is_err() || damages > 0;
        let mut stage = Stage::new(self.setting.clone());
        stage.world = world;
        stage.oracle = self.oracle.clone();
        stage.may_fail = true;
        let verdict = match stage.start().and_then(|()| stage.look_everywhere()) {
            Ok(()) if stage.told.other > 0 => RotVerdict::ReadFailed,
            Ok(()) => RotVerdict::Harmless,
            Err(Stop::Refused(_)) => RotVerdict::Refused,
            Err(Stop::Wrong(why)) => return Err(format!("{context}: {why}")),
            Err(Stop::Down | Stop::Ended) => return Err(format!("{context}: the node went down")),
        };
        match verdict {
            RotVerdict::Harmless => Ok((kind, verdict)),
            _ if is_reported => Ok((kind, verdict)),
            _ => Err(format!("{context}: {verdict:?}, but the check saw nothing")),
        }
    }

    fn draw(&self, dice: &mut Rng) -> (&RotFile, usize, u8) {
        let candidates: Vec<&RotFile> = self.files.iter().filter(|file| file.end > 0).collect();
        // Every kind of file is as likely as every other, whatever its size.
        let kinds = [FileKind::Wal, FileKind::Table, FileKind::Table, FileKind::Manifest, FileKind::Current];
        let kind = kinds[dice.index(kinds.len())];
        let of_kind: Vec<&RotFile> = candidates
            .iter()
            .copied()
            .filter(|file| FileKind::of(&file.path.to_string_lossy()) == kind)
            .collect();
        let pool = if of_kind.is_empty() { candidates } else { of_kind };
        let file = pool[dice.index(pool.len())];
        // Pages of the log are mostly padding, which means nothing.
        let used = |offset: &usize| kind != FileKind::Wal || file.bytes[*offset] != 0;
        let offset = (0..).map(|_| dice.index(file.end)).find(used).expect("a file in use has a byte in use");
        (file, offset, u8::try_from(dice.below(8)).expect("eight bits fit"))
    }
}

/// Every file of the store.
fn contents(world: &SimWorld) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
    let handle = world.files();
    let mut files = Vec::new();
    for folder in ["", "wal", "tables", "manifest"] {
        for entry in handle.list(Path::new(folder)).map_err(|error| error.to_string())? {
            let path = Path::new(folder).join(&entry.name);
            if let Ok(bytes) = world.with_disk(|disk| disk.content(&path)) {
                files.push((path, bytes));
            }
        }
    }
    Ok(files)
}

/// Everything of a file; of a segment in use (`is_new`) only what lies before its last page, which holds its last
/// frame, and nothing of the others: what they held is in tables.
fn end_of_flips(path: &Path, bytes: &[u8], is_new: bool) -> usize {
    match FileKind::of(&path.to_string_lossy()) {
        FileKind::Wal if is_new => {
            bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) / PAGE_BYTES * PAGE_BYTES
        }
        FileKind::Table | FileKind::Manifest | FileKind::Current => bytes.len(),
        FileKind::Wal | FileKind::Ballast | FileKind::Lock | FileKind::Directory => 0,
    }
}
