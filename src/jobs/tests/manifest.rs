//! The manifest on a disk that fails and dies.

use crate::jobs::layout::{Inventory, create_directories};
use crate::jobs::manifest_log::ManifestLog;
use crate::jobs::open::read_manifest;
use crate::jobs::test_disk::TestDisk;
use crate::model::{SegmentSeq, StoreId, StreamId, TimeUnit};
use crate::storage::manifest::{Edit, SegmentEntry, State};

fn segment(seq: u64) -> Edit {
    let entry = SegmentEntry { stream: StreamId(0), salt: seq, bytes: 1 << 20 };
    Edit::AddSegment { seq: SegmentSeq(seq), entry }
}

/// Commits edits one by one, each again until it succeeds; the state that is durable for certain, and the one that
/// may be.
fn commit_some(disk: &TestDisk) -> (State, State) {
    let files = disk.files();
    create_directories(&*files).unwrap();
    let mut durable = State::empty(StoreId([1; 16]), TimeUnit::Milliseconds);
    let mut log = ManifestLog::create(files, 1, &durable, Vec::new()).unwrap();
    log.set_growth_bytes_min(120);
    let mut next = durable.clone();
    for seq in 0..12 {
        next = durable.clone();
        let edits = [segment(seq)];
        next.apply_all(&edits).unwrap();
        while log.commit(&edits, &next).is_err() {
            if disk.is_dead() {
                return (durable, next);
            }
        }
        durable = next.clone();
    }
    (durable, next)
}

fn stored(disk: &TestDisk) -> State {
    let files = disk.files();
    let inventory = Inventory::take(&*files).unwrap();
    let found = read_manifest(&*files, &inventory);
    found.unwrap_or_else(|error| panic!("{error}")).unwrap().replayed.state
}

#[test]
fn edits_survive_failed_calls_and_the_cut_after_them() {
    // After a failed append the same file must not be appended to: what the kernel then calls durable is not.
    let calls_before = {
        let disk = TestDisk::default();
        create_directories(&*disk.files()).unwrap();
        let state = State::empty(StoreId([1; 16]), TimeUnit::Milliseconds);
        ManifestLog::create(disk.files(), 1, &state, Vec::new()).unwrap();
        disk.calls()
    };
    for (failed, width) in (1..70).flat_map(|failed| [(failed, 1), (failed, 2), (failed, 5)]) {
        for cut in [1, 2, 3, 5, 8, 13, 21, 34, 1000] {
            let disk = TestDisk::default();
            disk.fail_after(calls_before + failed, width);
            disk.die_after(calls_before + failed + cut);
            let (durable, possible) = commit_some(&disk);
            for seed in 0..4 {
                let found = stored(&disk.after_crash(seed));
                assert!(
                    found == durable || found == possible,
                    "{width} failed calls from {failed}, cut {cut} calls later, seed {seed}: {:?} of {:?}",
                    found.segments.len(),
                    durable.segments.len()
                );
            }
        }
    }
}
