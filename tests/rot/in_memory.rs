//! Thousands of rotten stores, opened and checked in memory. `TSKV_ROT_SECONDS` says for how long; the seed of a failure
//! is in its message, and `TSKV_ROT_SEED` starts there.

use crate::memory_files::MemoryFiles;
use crate::mutation::{Mutation, Victim, mutations};
use crate::store::{FLAGS, Rotting, SPLIT, Shown, shown};
use crate::support::Rng;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tskv::io::{EntryKind, Files};
use tskv::jobs::{Finding, OpenError, StoreOptions, check_store, open_store};
use tskv::limits::PAGE_BYTES;

/// Writes that may be missing when the end of a log was hit: those of the frames in flight at once, each of one write.
const LOST_AT_END_MAX: usize = 4;

/// What one case came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Refused,
    FailsWhenRead,
    LosesTheEnd,
    EarlierLog,
    Harmless,
}

struct Rot {
    store: Rotting,
    now: MemoryFiles,
    before: MemoryFiles,
    other: MemoryFiles,
    torn_tails: u64,
}

fn options(shards: usize) -> StoreOptions {
    let split_at = (shards == 2).then(|| vec![SPLIT.as_bytes().into()]);
    StoreOptions { shards, split_at, ballast_bytes: 0, entropy: [3; 16], ..StoreOptions::default() }
}

/// A store that opened.
struct Opened {
    torn_tails: u64,
    /// Everything in it, unless a read failed.
    found: Result<Shown, String>,
}

/// Opens a store and reads everything.
fn open(files: MemoryFiles, shards: usize) -> Result<Opened, OpenError> {
    let files: Arc<dyn Files> = Arc::new(files);
    let opened = open_store(&files, &options(shards), 1, &|_| ())?;
    let found = shown(&*files, &opened.version).map_err(|error| error.to_string());
    Ok(Opened { torn_tails: opened.recovery.torn_tails, found })
}

impl Rot {
    fn new() -> Self {
        let store = Rotting::make();
        let [now, before, other] =
            ["now", "before", "other"].map(|name| MemoryFiles::load(&store.path(name)));
        let mut rot = Self { store, now, before, other, torn_tails: 0 };
        let Opened { torn_tails, found } = open(rot.now.fork(), 2).unwrap();
        assert!(
            found.unwrap() == rot.store.shown,
            "the store does not hold what was written; its flags: {FLAGS:?}"
        );
        rot.torn_tails = torn_tails;
        rot
    }

    /// Files of the same kind, and whose they are.
    fn siblings(&self, path: &Path) -> Vec<(PathBuf, &'static str)> {
        let alike = |other: &PathBuf| {
            other.parent() == path.parent()
                && (other.extension().is_some() || other.file_name() == path.file_name())
        };
        let of = |files: &MemoryFiles| files.paths().into_iter().filter(alike);
        let own = of(&self.now).filter(|other| other != path).map(|other| (other, "sibling"));
        let stale = of(&self.before).filter(|other| other == path).map(|other| (other, "stale"));
        let foreign = of(&self.other).map(|other| (other, "foreign"));
        own.chain(stale).chain(foreign).collect()
    }

    fn content(&self, path: &Path, whose: &str) -> Vec<u8> {
        let files = match whose {
            "stale" => &self.before,
            "foreign" => &self.other,
            _ => &self.now,
        };
        files.content(path).to_vec()
    }

    /// Whether a segment is, byte by byte, what it was at an earlier moment: whole pages as they are, and behind them
    /// none that this life of the segment left a trace on. Nothing in the store contradicts it then.
    fn is_earlier_log(&self, files: &MemoryFiles, path: &Path) -> bool {
        const SALT: std::ops::Range<usize> = 40..48;
        let (was, is) = (self.now.content(path), files.content(path));
        if !is_segment(path) || was.len() != is.len() || was[SALT] == [0; 8] {
            return false;
        }
        let pages = was.chunks(PAGE_BYTES).zip(is.chunks(PAGE_BYTES));
        let same = pages.take_while(|(was, is)| was == is).count() * PAGE_BYTES;
        let rest = &is[same.min(is.len())..];
        !rest.windows(SALT.len()).any(|bytes| *bytes == was[SALT])
    }

    /// Looks at what became of a store in which something has happened to `path`.
    fn judge(&self, given: &MemoryFiles, path: &Path, shards: usize) -> Result<Outcome, String> {
        let mut findings = Vec::new();
        let checked = check_store(&given.fork(), 1, &mut |finding| findings.push(finding));
        let finds_damage = checked.as_ref().map_or(true, |summary| summary.damages > 0);
        let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Opened { torn_tails, found } = match open(given.fork(), shards) {
            Ok(opened) => opened,
            Err(error) => {
                let told = error.to_string();
                let place = [
                    "offset", "byte", "missing", "is a ", "format", "version", "feature", "another",
                    "belongs",
                ];
                return match () {
                    () if !finds_damage => {
                        Err(format!("refused ({told}), but the check finds nothing: {said:?}"))
                    }
                    () if !told.contains(name) && !told.contains("CURRENT") && !told.contains("manifest") => {
                        Err(format!("refused without naming the file: {told}"))
                    }
                    () if !place.iter().any(|word| told.contains(word)) => {
                        Err(format!("refused without saying where: {told}"))
                    }
                    () => Ok(Outcome::Refused),
                };
            }
        };
        let found = match found {
            Err(told) if told.contains(name) && finds_damage => return Ok(Outcome::FailsWhenRead),
            Err(told) => return Err(format!("a read fails ({told}); the check says {said:?}")),
            Ok(found) => found,
        };
        if found == self.store.shown {
            return Ok(Outcome::Harmless);
        }
        let is_told = torn_tails > self.torn_tails
            && findings.iter().any(|finding| matches!(finding, Finding::TornTail { .. }));
        match self.store.writes_lost(&found) {
            Some(lost) if is_told && lost <= LOST_AT_END_MAX => Ok(Outcome::LosesTheEnd),
            // A copy of the open segment from a while ago is a sound log of that while, and so is one whose last pages
            // never reached the disk: no store can tell, and none is asked to.
            Some(_) if self.is_earlier_log(given, path) => Ok(Outcome::EarlierLog),
            lost => Err(format!(
                "{} of {} values are shown, {lost:?} writes are missing at the end; torn tails: {torn_tails}; the check \
                 says {said:?}",
                found.len(),
                self.store.shown.len()
            )),
        }
    }

    /// One case; what it came to, or what is wrong with it.
    fn try_one(&self, path: &Path, mutation: &Mutation, shards: usize) -> Result<Outcome, String> {
        let files = self.now.fork();
        let mut bytes = files.content(path).to_vec();
        mutation.apply(&mut bytes, |other, whose| self.content(other, whose));
        files.put(path, bytes);
        let judged = catch_unwind(AssertUnwindSafe(|| self.judge(&files, path, shards)));
        judged.unwrap_or_else(|_| Err("it panicked".to_owned()))
    }
}

#[test]
fn rotten_stores_are_refused_or_served_to_the_last_intact_value() {
    // The worst that a bad disk may do is stop the store: other data, or less of it, must never be shown in silence.
    let rot = Rot::new();
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let until = Instant::now() + Duration::from_secs(number("TSKV_ROT_SECONDS").unwrap_or(8));
    let first_seed = number("TSKV_ROT_SEED").unwrap_or(1);
    let (mut cases, mut seed) = (0, first_seed);
    let mut cells: BTreeMap<(String, &'static str, Outcome), usize> = BTreeMap::new();
    let mut failures: Vec<String> = Vec::new();
    // The first round is done whole, whatever the time: it is the table.
    'rounds: while seed == first_seed || Instant::now() < until {
        for path in rot.now.paths() {
            let bytes = rot.now.content(&path);
            let victim = Victim { path: &path, bytes: &bytes, siblings: rot.siblings(&path) };
            let mut rng = Rng(seed ^ cases_salt(&path));
            for mutation in mutations(&victim, &mut rng) {
                if seed > first_seed && Instant::now() >= until {
                    break 'rounds;
                }
                cases += 1;
                let shards = 1 + cases % 2;
                match rot.try_one(victim.path, &mutation, shards) {
                    Ok(outcome) => *cells.entry((kind_of(&path), mutation.kind(), outcome)).or_default() += 1,
                    Err(wrong) => {
                        failures.push(format!("seed {seed}: {} {mutation}: {wrong}", path.display()))
                    }
                }
            }
        }
        seed += 1;
    }
    for ((file, mutation, outcome), count) in &cells {
        println!("{file:10} {mutation:10} {count:6} {outcome:?}");
    }
    println!("{cases} rotten stores from seed {first_seed} on");
    assert!(failures.is_empty(), "{} of {cases} failed:\n{}", failures.len(), failures.join("\n"));
    // The table is not empty where it matters.
    let met = |file: &str, outcome: Outcome| cells.keys().any(|cell| cell.0 == file && cell.2 == outcome);
    for file in ["CURRENT", "manifest", "tables", "wal"] {
        assert!(met(file, Outcome::Refused), "no rotten {file} was refused");
    }
    assert!(met("tables", Outcome::FailsWhenRead) && met("wal", Outcome::LosesTheEnd));
    assert!(met("LOCK", Outcome::Harmless) && met("ballast", Outcome::Harmless));
    assert!(!met("LOCK", Outcome::Refused) && !met("ballast", Outcome::Refused));
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wal")
}

/// The directory of a file, or its name.
fn kind_of(path: &Path) -> String {
    path.iter().next().unwrap().to_str().unwrap().to_owned()
}

fn cases_salt(path: &Path) -> u64 {
    path.to_str().unwrap().bytes().fold(7, |salt: u64, byte| salt.wrapping_mul(31).wrapping_add(byte.into()))
        << 20
}

#[test]
fn missing_and_replaced_files_are_named() {
    // A file that is gone, or a directory in its place, is a mistake of a person: the answer must help her.
    let rot = Rot::new();
    for path in rot.now.paths() {
        for (instead, shards) in [(None, 2), (Some(EntryKind::Directory), 1), (Some(EntryKind::Other), 2)] {
            let files = rot.now.fork();
            files.take(&path, instead);
            let outcome = rot.judge(&files, &path, shards);
            let needed = !matches!(kind_of(&path).as_str(), "LOCK" | "ballast");
            let expected = if needed || instead.is_some() { Outcome::Refused } else { Outcome::Harmless };
            assert_eq!(outcome, Ok(expected), "{} {instead:?}", path.display());
        }
    }
}

#[test]
fn every_page_of_a_log_that_later_writes_bear_witness_to_is_guarded() {
    // Only the end of a log can be torn: a hole before it would show writes that came after ones that are missing.
    let rot = Rot::new();
    let segments = rot.now.paths().into_iter().filter(|path| is_segment(path));
    let (mut refused, mut cut) = (0, 0);
    for path in segments {
        let bytes = rot.now.content(&path);
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for page in (0..used.div_ceil(PAGE_BYTES)).step_by(if cfg!(debug_assertions) { 5 } else { 1 }) {
            let offset = page * PAGE_BYTES;
            match rot.try_one(&path, &Mutation::Zero { offset, bytes: PAGE_BYTES }, 2) {
                Ok(Outcome::Refused) => refused += 1,
                Ok(Outcome::LosesTheEnd | Outcome::EarlierLog) => cut += 1,
                Ok(Outcome::Harmless) => {}
                outcome => panic!("{} page {page}: {outcome:?}", path.display()),
            }
        }
    }
    assert!(refused > 10 * cut && cut <= 8, "{refused} refused, {cut} cut");
}
