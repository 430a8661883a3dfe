//! The sweeps have teeth: each planted bug is caught by the sweep that is there for it, well within the counts that
//! are run (goal G19). `scripts/teeth.sh` shows the same with one build for all.

use super::{FaultPoint, crash_at, engine_seed, fault_at, fault_points};
use crate::io::Errno;
use crate::io::sim::{FaultEffect, FileKind};
use crate::teeth::{Bug, plant};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Takes planted bugs away, however the test ends.
struct Planted;

impl Drop for Planted {
    fn drop(&mut self) {
        plant(None);
    }
}

/// What the first case that fails says, with the bug in force; an assertion of the code under test counts too.
fn caught<C>(bug: Bug, cases: impl IntoIterator<Item = C>, run: impl Fn(C) -> Result<(), String>) -> String {
    let _planted = Planted;
    plant(Some(bug));
    let mut tried = 0;
    for case in cases {
        tried += 1;
        match catch_unwind(AssertUnwindSafe(|| run(case))) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return why,
            Err(_) => return "an assertion".to_owned(),
        }
    }
    panic!("{bug:?} is not caught in {tried} cases");
}

fn by_engine_seeds(bug: Bug) -> String {
    caught(bug, 1..=2000, |seed| engine_seed(seed).map(drop))
}

fn by_failures_of(bug: Bug, file: FileKind, effect: FaultEffect) -> String {
    let points = fault_points(1).expect("the script is sound");
    let points = points.into_iter().filter(|point| point.fault.file == file && point.fault.effect == effect);
    caught(bug, points, |point: FaultPoint| fault_at(&point).map(drop))
}

#[test]
fn a_log_write_that_is_not_durable_is_caught() {
    // If not, the simulated disk forgets nothing.
    let why = by_engine_seeds(Bug::SkipWalSync);
    assert!(why.contains("must be there") || why.contains("acknowledged before"), "{why}");
}

#[test]
fn a_reply_before_its_write_is_caught() {
    // If not, the oracle does not look at what was acknowledged.
    by_engine_seeds(Bug::AckBeforeSync);
}

#[test]
fn a_rename_that_is_not_synced_is_caught() {
    // If not, the simulated disk keeps names that it may lose.
    let places = (0..200).flat_map(|place| (0..4).map(move |variant| (place, variant)));
    let why = caught(Bug::SkipDirSyncAfterRename, places, |(place, variant)| {
        crash_at(1, Some(place), variant).map(drop)
    });
    assert!(why.contains("does not open"), "{why}");
}

#[test]
fn a_retried_sync_is_caught() {
    // If not, nobody watches what a process does after a failed write.
    let why = by_failures_of(Bug::RetrySyncAfterEio, FileKind::Wal, FaultEffect::Fail(Errno::EIO));
    assert!(why.contains("after a failed"), "{why}");
}

#[test]
fn an_append_after_a_failed_append_is_caught() {
    // As above, for the manifest.
    let effect = FaultEffect::Fail(Errno::EIO);
    let why = by_failures_of(Bug::ReuseManifestAfterFailedAppend, FileKind::Manifest, effect);
    assert!(why.contains("after a failed") || why.contains("does not open"), "{why}");
}

#[test]
fn an_ignored_short_write_is_caught() {
    // If not, short transfers are never tried where they matter.
    by_failures_of(Bug::IgnoreShortWrite, FileKind::Wal, FaultEffect::Short);
}

#[test]
fn a_delete_that_is_forgotten_too_early_is_caught() {
    // If not, no script merges while older entries can come back.
    by_engine_seeds(Bug::TombstoneAboveHorizon);
}
