//! What survives a power cut, and what must not be relied upon to survive.

use super::*;
use crate::limits::PAGE_BYTES;

const SEEDS: u64 = 1000;

fn path(name: &str) -> &Path {
    Path::new(name)
}

/// A disk with an empty durable file, open for writing.
fn disk_with_file(grain: usize) -> (SimDisk, i32) {
    let mut disk = SimDisk::new(u64::MAX);
    disk.plant_file(path("file"), b"").unwrap();
    let handle = disk.open(path("file"), OpenMode::Write { grain }).unwrap();
    (disk, handle)
}

/// What the file holds after one power cut per seed, after `act` did its work.
fn after_cuts(act: impl Fn(&mut SimDisk, i32, &mut Rng)) -> Vec<Vec<u8>> {
    let cut = |seed| {
        let mut rng = Rng::new(seed);
        let (mut disk, handle) = disk_with_file(1);
        act(&mut disk, handle, &mut rng);
        disk.crash(&mut rng);
        disk.content(path("file")).unwrap()
    };
    (0..SEEDS).map(cut).collect()
}

fn page(byte: u8) -> Vec<u8> {
    vec![byte; PAGE_BYTES]
}

#[test]
fn synced_writes_survive_every_cut() {
    // The simulator would blame the store for losses that no disk inflicts.
    for content in after_cuts(|disk, file, _| {
        disk.write(file, 0, &page(1), false).unwrap();
        disk.write(file, 100, &page(2), false).unwrap();
        disk.sync(file, disk.write_seq()).unwrap();
    }) {
        assert_eq!(content.len(), PAGE_BYTES + 100);
        assert!(content[..100].iter().all(|byte| *byte == 1) && content[100..].iter().all(|byte| *byte == 2));
    }
}

#[test]
fn unsynced_writes_are_lost_in_some_cuts_kept_in_some_and_torn_in_some() {
    // A store that forgets to sync would pass.
    let (mut lost, mut kept, mut torn, mut reordered) = (0, 0, 0, 0);
    for content in after_cuts(|disk, file, _| {
        disk.write(file, 0, &page(1), false).unwrap();
        disk.sync(file, disk.write_seq()).unwrap();
        disk.write(file, 0, &page(2), false).unwrap();
        disk.write(file, PAGE_BYTES as u64, &page(3), false).unwrap();
    }) {
        let count = |byte| content.iter().filter(|found| **found == byte).count();
        match (count(2), count(3)) {
            (0, 0) => lost += 1,
            (PAGE_BYTES, PAGE_BYTES) => kept += 1,
            (2..=4095, _) => torn += 1,
            (0, _) => reordered += 1,
            _ => {}
        }
        for sector in content.chunks(SECTOR_BYTES) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is whole");
        }
    }
    assert!(lost > 20 && kept > 20 && torn > 20 && reordered > 20, "{lost} {kept} {torn} {reordered}");
}

#[test]
fn a_cut_can_leave_any_of_several_unsynced_versions() {
    // Code that relies on "the last write or none" would pass.
    let mut seen = [0_u32; 4];
    for content in after_cuts(|disk, file, _| {
        for byte in 1..=3 {
            disk.write(file, 0, &[byte; SECTOR_BYTES], false).unwrap();
        }
    }) {
        seen[usize::from(content.first().copied().unwrap_or(0))] += 1;
    }
    assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
}

#[test]
fn a_sync_covers_only_what_had_completed_when_it_was_submitted() {
    // Acknowledging by a sync that was under way before the write completed would pass.
    let lost = after_cuts(|disk, file, _| {
        disk.write(file, 0, &[1; SECTOR_BYTES], false).unwrap();
        let covers = disk.write_seq();
        disk.write(file, 0, &[2; SECTOR_BYTES], false).unwrap();
        disk.sync(file, covers).unwrap();
    });
    assert!(lost.iter().all(|content| [1, 2].contains(&content[0])));
    assert!(lost.iter().any(|content| content[0] == 1));
}

#[test]
fn a_durable_write_saves_its_own_bytes_and_no_others() {
    // A writer that counts on DSYNC of one page for its neighbours would pass; and one that counts on its own bytes
    // would fail without cause, also where they share a sector with unsynced ones.
    let (mut before, mut after, mut beside) = (false, false, false);
    for content in after_cuts(|disk, file, _| {
        disk.write(file, 0, &vec![9; 3 * PAGE_BYTES], false).unwrap();
        disk.sync(file, disk.write_seq()).unwrap();
        disk.write(file, 0, &vec![1; 3 * PAGE_BYTES], false).unwrap();
        disk.write(file, PAGE_BYTES as u64, &[2; SECTOR_BYTES + 10], true).unwrap();
    }) {
        let (start, end) = (PAGE_BYTES, PAGE_BYTES + SECTOR_BYTES + 10);
        assert!(content[start..end].iter().all(|byte| *byte == 2));
        before |= content[0] == 9;
        beside |= content[end] == 9;
        after |= content[2 * PAGE_BYTES] == 9;
    }
    assert!(before && beside && after);
}

#[test]
fn a_durable_write_extends_the_file_and_leaves_a_hole_where_nothing_was_synced() {
    // A length that a durable write needs would vanish with it; or zeros in a hole would never show up.
    let contents = after_cuts(|disk, file, _| {
        disk.write(file, 0, &page(1), false).unwrap();
        disk.write(file, PAGE_BYTES as u64, &page(2), true).unwrap();
    });
    assert!(contents.iter().all(|content| content[PAGE_BYTES..] == page(2)));
    assert!(contents.iter().any(|content| content[..PAGE_BYTES] == page(0)));
}

#[test]
fn length_and_bytes_are_lost_independently() {
    // Readers that take a file's length for proof of its bytes would pass.
    let contents = after_cuts(|disk, file, _| {
        disk.write(file, 0, &page(1), false).unwrap();
    });
    assert!(contents.iter().any(|content| *content == page(0)), "length without bytes");
    assert!(contents.iter().any(Vec::is_empty) && contents.iter().any(|content| *content == page(1)));
}

#[test]
fn a_failed_sync_drops_pages_that_the_next_one_reports_clean() {
    // Retrying a failed sync would look safe (fsyncgate).
    let mut lost = 0;
    for seed in 0..SEEDS {
        let mut rng = Rng::new(seed);
        let (mut disk, file) = disk_with_file(1);
        disk.write(file, 0, &page(1), false).unwrap();
        disk.sync_failed(file, disk.write_seq(), &mut rng);
        assert_eq!(disk.content(path("file")).unwrap(), page(1), "programs go on seeing the bytes");
        disk.sync(file, disk.write_seq()).unwrap();
        disk.crash(&mut rng);
        lost += u32::from(disk.content(path("file")).unwrap() != page(1));
    }
    assert!(lost > 100, "{lost}");
}

#[test]
fn a_write_over_a_dropped_page_is_durable_after_its_own_sync() {
    // The version that the failed sync lost could come back over bytes synced later.
    for content in after_cuts(|disk, file, rng| {
        disk.write(file, 0, &page(1), false).unwrap();
        disk.sync_failed(file, disk.write_seq(), rng);
        disk.write(file, 0, &page(2), false).unwrap();
        disk.sync(file, disk.write_seq()).unwrap();
    }) {
        assert_eq!(content, page(2));
    }
}

#[test]
fn writes_under_way_at_a_cut_are_absent_partial_or_whole() {
    // Frames would never be seen half written.
    let mut seen = [false; 3];
    for content in after_cuts(|disk, file, rng| {
        disk.write(file, 0, &page(9), true).unwrap();
        disk.write_part(file, 0, &page(1), false, rng);
    }) {
        let sectors = content.chunks(SECTOR_BYTES).filter(|sector| sector[0] == 1).count();
        seen[usize::from(sectors > 0) + usize::from(sectors == 8)] = true;
    }
    assert_eq!(seen, [true; 3]);
}

#[test]
fn zeros_take_no_memory_and_still_overwrite() {
    // Segments written ahead would cost a megabyte each; or a recycled one would keep its former life.
    let (mut disk, file) = disk_with_file(1);
    disk.write(file, 0, &vec![0; 1 << 20], false).unwrap();
    disk.sync(file, disk.write_seq()).unwrap();
    assert_eq!(disk.file_bytes(file), Ok(1 << 20));
    assert!(format!("{disk:?}").len() < 4000, "no pages are stored");
    disk.write(file, 0, &page(7), true).unwrap();
    disk.write(file, 0, &page(0), true).unwrap();
    disk.crash(&mut Rng::new(1));
    assert!(disk.content(path("file")).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn a_rename_comes_back_unless_its_directory_was_synced() {
    // Replacing CURRENT without syncing the directory would pass.
    let (mut old, mut new) = (0, 0);
    for (seed, synced) in (0..SEEDS).flat_map(|seed| [(seed, false), (seed, true)]) {
        let mut disk = SimDisk::new(u64::MAX);
        disk.plant_file(path("CURRENT"), b"old").unwrap();
        let file = disk.create(path("CURRENT.tmp")).unwrap();
        disk.write(file, 0, b"new", false).unwrap();
        disk.sync(file, disk.write_seq()).unwrap();
        disk.rename(path("CURRENT.tmp"), path("CURRENT")).unwrap();
        if synced {
            disk.sync_dir(path("")).unwrap();
        }
        disk.crash(&mut Rng::new(seed));
        let content = disk.content(path("CURRENT")).unwrap();
        match (content.as_slice(), synced) {
            (b"new", true) => {}
            (b"new", false) => new += 1,
            (b"old", false) => old += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(old > 100 && new > 100, "{old} {new}");
}

#[test]
fn creates_and_removes_are_lost_or_kept_each_for_itself() {
    // Code that relies on the order of directory changes would pass.
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let mut disk = SimDisk::new(u64::MAX);
        disk.plant_file(path("dir/old"), b"old").unwrap();
        for name in ["dir/a", "dir/b"] {
            let file = disk.create(path(name)).unwrap();
            disk.sync(file, disk.write_seq()).unwrap();
        }
        disk.remove(path("dir/old")).unwrap();
        disk.crash(&mut Rng::new(seed));
        seen.insert(disk.list(path("dir")).unwrap().into_iter().map(|entry| entry.name).collect::<Vec<_>>());
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

#[test]
fn a_file_in_an_unsynced_directory_can_vanish_with_it() {
    // Creating `wal/` without syncing the root would pass, though everything inside was synced.
    let found = (0..SEEDS).filter(|seed| {
        let mut disk = SimDisk::new(u64::MAX);
        disk.create_dir(path("wal")).unwrap();
        disk.create(path("wal/1")).unwrap();
        disk.sync_dir(path("wal")).unwrap();
        disk.crash(&mut Rng::new(*seed));
        let listed = disk.list(path("wal"));
        assert!(listed.as_ref().is_ok_and(|entries| entries.len() == 1) || listed == Err(ENOENT));
        listed.is_ok()
    });
    assert!((100..900).contains(&found.count()));
}

#[test]
fn a_killed_process_loses_nothing_and_its_kernel_still_has_to_sync() {
    // Promise 1: a kill loses nothing; R6: what is only in the page cache is not durable after the restart either.
    let mut lost = 0;
    for seed in 0..SEEDS {
        let (mut disk, file) = disk_with_file(1);
        disk.write(file, 0, &page(1), false).unwrap();
        disk.end_process();
        assert_eq!(disk.read(file, 0, &mut [0]), Err(Errno::EBADF), "handles are gone");
        assert_eq!(disk.content(path("file")).unwrap(), page(1));
        disk.crash(&mut Rng::new(seed));
        lost += u32::from(disk.content(path("file")).unwrap() != page(1));
    }
    assert!(lost > 100, "{lost}");
}

#[test]
fn removed_files_live_until_the_last_handle_closes() {
    // A table that a reader still holds would vanish under it; or its space would never come back.
    let mut disk = SimDisk::new(4 * PAGE_BYTES as u64);
    let file = disk.create(path("table")).unwrap();
    disk.write(file, 0, &page(1), false).unwrap();
    disk.remove(path("table")).unwrap();
    disk.sync_dir(path("")).unwrap();
    assert_eq!(disk.open(path("table"), OpenMode::Read), Err(ENOENT));
    assert_eq!(disk.read(file, 0, &mut page(0)), Ok(PAGE_BYTES));
    assert_eq!(disk.bytes_free(), 3 * PAGE_BYTES as u64);
    disk.close(file);
    assert_eq!(disk.bytes_free(), 4 * PAGE_BYTES as u64);
    assert_eq!(disk.nodes.len(), 1, "only the root is left");
}

#[test]
fn a_full_disk_takes_what_fits_and_then_nothing() {
    // Short writes before ENOSPC are what the kernel does; a writer that ignores them leaves a hole.
    let mut disk = SimDisk::new(2 * PAGE_BYTES as u64);
    let file = disk.create(path("file")).unwrap();
    assert_eq!(disk.write(file, 0, &vec![1; 3 * PAGE_BYTES], false), Ok(2 * PAGE_BYTES));
    assert_eq!(disk.write(file, 2 * PAGE_BYTES as u64, &[1], false), Err(Errno::ENOSPC));
    assert_eq!(disk.write(file, 0, &page(2), false), Ok(PAGE_BYTES), "overwriting takes no space");
    disk.set_bytes_max(u64::MAX);
    assert_eq!(disk.write(file, 2 * PAGE_BYTES as u64, &[1], false), Ok(1));
}

#[test]
fn one_process_at_a_time_holds_the_lock() {
    // Two daemons on one directory would mix their logs.
    let (mut disk, first) = disk_with_file(1);
    let second = disk.open(path("file"), OpenMode::Read).unwrap();
    disk.lock(first).unwrap();
    assert_eq!(disk.lock(second), Err(Errno::EAGAIN));
    disk.close(second);
    let third = disk.open(path("file"), OpenMode::Read).unwrap();
    assert_eq!(disk.lock(third), Err(Errno::EAGAIN), "closing another handle frees nothing");
    disk.close(first);
    assert_eq!(disk.lock(third), Ok(()));
    disk.crash(&mut Rng::new(0));
    let fourth = disk.open(path("file"), OpenMode::Read).unwrap();
    assert_eq!(disk.lock(fourth), Ok(()), "a crash frees it");
}

#[test]
fn direct_files_refuse_transfers_off_their_grain_and_readers_cannot_write() {
    // The kernel refuses them too, and only some file systems show it.
    let (mut disk, direct) = disk_with_file(PAGE_BYTES);
    assert_eq!(disk.write(direct, 512, &page(1), true), Err(Errno::EINVAL));
    assert_eq!(disk.write(direct, 0, &page(1)[1..], true), Err(Errno::EINVAL));
    assert_eq!(disk.write(direct, 0, &page(1), true), Ok(PAGE_BYTES));
    let reader = disk.open(path("file"), OpenMode::Read).unwrap();
    assert_eq!(disk.write(reader, 0, &page(1), false), Err(Errno::EBADF));
}

/// A run of random writes, syncs and cuts against the plainest possible model: per byte, the set of values that it
/// may have.
#[test]
fn no_cut_shows_a_byte_that_was_never_possible() {
    // An invented or resurrected byte would send somebody hunting a bug that the store does not have.
    const BYTES: usize = 3 * PAGE_BYTES;
    for seed in 0..12 {
        let mut rng = Rng::new(seed);
        let (mut disk, mut file) = disk_with_file(1);
        disk.write(file, 0, &vec![0; BYTES], true).unwrap();
        let mut possible = vec![vec![0_u8]; BYTES];
        for step in 1..60_u8 {
            let (start, len) = (rng.index(BYTES), 1 + rng.index(1500));
            let end = BYTES.min(start + len);
            let durable = rng.chance(1, 4);
            disk.write(file, start as u64, &vec![step; end - start], durable).unwrap();
            for values in &mut possible[start..end] {
                if durable {
                    values.clear();
                }
                values.push(step);
            }
            match rng.below(12) {
                0 => {
                    disk.sync(file, disk.write_seq()).unwrap();
                    possible.iter_mut().for_each(|values| drop(values.drain(..values.len() - 1)));
                }
                1 => {
                    disk.crash(&mut rng);
                    let content = disk.content(path("file")).unwrap();
                    for (at, (byte, values)) in content.iter().zip(&mut possible).enumerate() {
                        assert!(
                            values.contains(byte),
                            "seed {seed} step {step} at {at}: {byte} not in {values:?}"
                        );
                        *values = vec![*byte];
                    }
                    file = disk.open(path("file"), OpenMode::Write { grain: 1 }).unwrap();
                }
                _ => {}
            }
            let mut seen = vec![0; BYTES];
            disk.read(file, 0, &mut seen).unwrap();
            assert!(seen.iter().zip(&possible).all(|(byte, values)| values.last() == Some(byte)));
        }
    }
}
