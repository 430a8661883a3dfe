//! Bits flip in a store at rest (goal G10).

use crate::run::{deadline, every, number_of, thorough};
use tskv::io::sim::FileKind;
use tskv::simulator::sweep::{RotBase, RotVerdict};

/// Stores that bits are flipped in.
const BASES: u64 = 4;

#[test]
fn no_flipped_bit_changes_an_answer() {
    // A checksum does not cover what it should, or what it says is not looked at.
    if let Ok(text) = std::env::var("TSKV_ROT_FLIP") {
        let (base, nth) = text.split_once('/').unwrap();
        println!("{:?}", RotBase::new(base.parse().unwrap()).unwrap().flip(nth.parse().unwrap()).unwrap());
        return;
    }
    let count = number_of("TSKV_ROT_FLIPS").unwrap_or(if thorough() { 5000 } else { 200 });
    let first_base = number_of("TSKV_ROT_BASE").unwrap_or(0);
    let bases: Vec<RotBase> =
        (first_base..first_base + BASES).map(|seed| RotBase::new(seed).unwrap()).collect();
    let cases: Vec<(u64, u64)> = (0..count).map(|nth| (nth % BASES, nth)).collect();
    let flip = |(base, nth): &(u64, u64)| bases[usize::try_from(*base).unwrap()].flip(*nth);
    let replay = |(base, nth): &(u64, u64)| {
        let base = first_base + base;
        format!("TSKV_ROT_FLIP={base}/{nth} cargo test --test sweep no_flipped -- --nocapture")
    };
    let outcome = every(&cases, deadline("TSKV_ROT_FLIP_SECONDS"), flip, replay);
    let done = outcome.results.len();
    let met = |kind: FileKind, verdict: RotVerdict| {
        outcome.results.iter().filter(|result| **result == (kind, verdict)).count()
    };
    let of = |kind: FileKind| {
        let all = [RotVerdict::Refused, RotVerdict::ReadFailed, RotVerdict::Harmless]
            .map(|verdict| met(kind, verdict));
        format!("{} refused, {} failed reads, {} harmless", all[0], all[1], all[2])
    };
    println!(
        "rot: {done} flips, 0 wrong answers; log: {}; tables: {}; manifest: {}; CURRENT: {}; in {:.0} s",
        of(FileKind::Wal),
        of(FileKind::Table),
        of(FileKind::Manifest),
        of(FileKind::Current),
        outcome.seconds
    );
    for kind in [FileKind::Wal, FileKind::Table, FileKind::Manifest, FileKind::Current] {
        let found = met(kind, RotVerdict::Refused) + met(kind, RotVerdict::ReadFailed);
        assert!(found > 0, "no flip in {kind:?} was found");
    }
    // The manifest's last mark says only that the frame before it is durable.
    for kind in [FileKind::Wal, FileKind::Table, FileKind::Current] {
        assert_eq!(met(kind, RotVerdict::Harmless), 0, "flips in {kind:?} went unnoticed");
    }
}
