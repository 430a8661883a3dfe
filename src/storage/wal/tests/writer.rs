//! The writer's rules, one by one.

use super::super::{
    Admission, StreamOptions, StreamWriter, SyncPolicy, WalIo, WalOutcome, record_bytes, record_bytes_max,
};
use super::model_disk::ModelDisk;
use super::{Logged, Rng, STORE, STREAM, blob, input, number, replay, spec};
use crate::limits::{WAL_FRAME_BYTES_MAX, WAL_STAGED_BYTES_MAX};
use crate::model::{Lsn, SegmentSeq, Seqno};
use std::num::NonZeroU32;

const INTERVAL: SyncPolicy = SyncPolicy::IntervalMs(NonZeroU32::MIN);

fn stream(policy: SyncPolicy, writes_in_flight: usize) -> StreamWriter {
    StreamWriter::new(StreamOptions { store: STORE, stream: STREAM, policy, writes_in_flight })
}

/// Submits what the writer wants: (id, offset, bytes, durable), a sync as offset `u64::MAX`.
fn submit(writer: &mut StreamWriter) -> Vec<(u64, u64, usize, bool)> {
    let mut submitted = Vec::new();
    while let Some(io) = writer.next_io() {
        match io {
            WalIo::Write { id, offset, bytes, durable, .. } => {
                writer.encode(id, &mut vec![0; bytes]);
                submitted.push((id, offset, bytes, durable));
            }
            WalIo::Sync { id, .. } => submitted.push((id, u64::MAX, 0, true)),
        }
    }
    submitted
}

fn put(writer: &mut StreamWriter, n: u64) -> Lsn {
    writer.append(Seqno(n), &number(n).record())
}

#[test]
fn the_first_write_carries_the_header_and_later_ones_gather() {
    // A write per record would be a sync per record; a header alone would prove nothing.
    let mut writer = stream(SyncPolicy::Always, 1);
    assert!(writer.wants_segment() && !writer.admits(10, false));
    writer.add_ready(spec(1, 0, 8));
    assert!(writer.wants_segment() && writer.ready_count() == 1, "the first is about to be used");
    put(&mut writer, 1);
    let first = submit(&mut writer);
    assert_eq!(first, [(1, 0, 8192, true)]);
    let lsns = [put(&mut writer, 2), put(&mut writer, 3)];
    assert!(submit(&mut writer).is_empty(), "one write flies");
    writer.completed(1, WalOutcome::Written(8192));
    assert!(writer.acked() < lsns[0]);
    assert_eq!(submit(&mut writer), [(2, 8192, 4096, true)]);
    writer.completed(2, WalOutcome::Written(4096));
    assert_eq!((writer.acked(), writer.synced(), writer.is_idle()), (lsns[1], lsns[1], true));
}

#[test]
fn completions_out_of_order_acknowledge_only_the_prefix() {
    // A later frame without the earlier one is lost at recovery.
    let mut writer = stream(SyncPolicy::Always, 3);
    writer.add_ready(spec(1, 0, 16));
    let lsns: Vec<Lsn> = (1..=3)
        .map(|n| {
            let lsn = put(&mut writer, n);
            assert_eq!(submit(&mut writer).len(), 1);
            lsn
        })
        .collect();
    put(&mut writer, 4);
    assert!(submit(&mut writer).is_empty(), "three writes fly");
    writer.completed(3, WalOutcome::Written(4096));
    writer.completed(2, WalOutcome::Written(4096));
    assert_eq!(writer.acked(), Lsn(0));
    writer.completed(1, WalOutcome::Written(8192));
    assert_eq!(writer.acked(), lsns[2]);
}

#[test]
fn what_a_short_write_left_is_issued_again_from_a_page() {
    // Counting a short write as whole acknowledges bytes that are not there; an unaligned rest fails under O_DIRECT.
    let mut writer = stream(SyncPolicy::Always, 1);
    let mut disk = ModelDisk::default();
    writer.add_ready(disk.segment(1, 8));
    let lsn = writer.append(Seqno(1), &blob(1, 9000).record());
    let Some(WalIo::Write { id, bytes, .. }) = writer.next_io() else { panic!("a write") };
    let mut whole = vec![0; bytes];
    writer.encode(id, &mut whole);
    writer.completed(id, WalOutcome::Written(4096 + 700));
    assert_eq!(writer.acked(), Lsn(0));
    let Some(WalIo::Write { id, offset, bytes, durable: true, .. }) = writer.next_io() else {
        panic!("a write")
    };
    assert_eq!((offset, bytes), (4096, whole.len() - 4096));
    let mut rest = vec![1; bytes];
    writer.encode(id, &mut rest);
    assert_eq!(rest, whole[4096..]);
    writer.completed(id, WalOutcome::NotDone);
    assert_eq!(submit(&mut writer), [(3, 4096, bytes, true)]);
    writer.completed(3, WalOutcome::Written(bytes));
    assert_eq!(writer.acked(), lsn);
}

#[test]
fn a_device_that_takes_nothing_poisons_in_the_end() {
    // Repeating for ever would hang every client without an error.
    let mut writer = stream(SyncPolicy::Always, 1);
    writer.add_ready(spec(1, 0, 8));
    put(&mut writer, 1);
    for _ in 0..100 {
        for (id, ..) in submit(&mut writer) {
            writer.completed(id, WalOutcome::Written(100));
        }
    }
    assert!(writer.poisoned());
}

#[test]
fn a_failure_poisons_and_nothing_is_acknowledged_or_issued_afterwards() {
    // After a failed write or sync nobody knows what the device holds.
    for policy in [SyncPolicy::Always, INTERVAL, SyncPolicy::None] {
        let mut writer = stream(policy, 2);
        writer.add_ready(spec(1, 0, 16));
        put(&mut writer, 1);
        submit(&mut writer);
        put(&mut writer, 2);
        submit(&mut writer);
        put(&mut writer, 3);
        writer.completed(2, WalOutcome::Failed);
        writer.completed(1, WalOutcome::Written(8192));
        assert!(writer.poisoned() && submit(&mut writer).is_empty() && !writer.is_idle());
        assert_eq!(writer.acked(), Lsn(0));
        assert_eq!(writer.admission(1, false), Admission::Closed);
        writer.seal_for_shutdown();
        assert!(writer.poisoned() && submit(&mut writer).is_empty());
    }
}

#[test]
fn what_was_acknowledged_before_a_failed_write_is_synced_once() {
    // A daemon that goes on for its readers would lose it to a power cut hours later: `interval` promises milliseconds.
    let mut writer = stream(INTERVAL, 2);
    writer.add_ready(spec(1, 0, 16));
    let lsn = put(&mut writer, 1);
    assert_eq!(submit(&mut writer), [(1, 0, 8192, false)]);
    writer.completed(1, WalOutcome::Written(8192));
    put(&mut writer, 2);
    assert_eq!(submit(&mut writer), [(2, 8192, 4096, false)]);
    put(&mut writer, 3);
    assert_eq!(submit(&mut writer), [(3, 12288, 4096, false)]);
    writer.completed(3, WalOutcome::Failed);
    // Staged and never to be written: the sync covers less.
    writer.request_sync();
    assert_eq!(submit(&mut writer), [(4, u64::MAX, 0, true)]);
    writer.completed(2, WalOutcome::Written(4096));
    writer.completed(4, WalOutcome::Synced);
    assert_eq!((writer.acked(), writer.synced()), (lsn, lsn));
    assert!(writer.poisoned() && !writer.sync_failed() && submit(&mut writer).is_empty());
}

#[test]
fn a_sync_that_fails_after_a_write_is_the_last_operation() {
    // One more sync would succeed and prove nothing.
    let mut writer = stream(INTERVAL, 1);
    writer.add_ready(spec(1, 0, 16));
    put(&mut writer, 1);
    submit(&mut writer);
    writer.completed(1, WalOutcome::Written(8192));
    put(&mut writer, 2);
    submit(&mut writer);
    writer.completed(2, WalOutcome::Failed);
    assert_eq!(submit(&mut writer), [(3, u64::MAX, 0, true)]);
    writer.completed(3, WalOutcome::Failed);
    assert!(writer.sync_failed() && submit(&mut writer).is_empty());
    assert_eq!(writer.synced(), Lsn(0));
}

#[test]
fn a_failed_sync_poisons() {
    // The kernel drops dirty pages after a failed sync: a second one would succeed and mean nothing.
    let mut writer = stream(INTERVAL, 1);
    writer.add_ready(spec(1, 0, 16));
    let lsn = put(&mut writer, 1);
    assert_eq!(submit(&mut writer), [(1, 0, 8192, false)]);
    writer.completed(1, WalOutcome::Written(8192));
    assert_eq!((writer.acked(), writer.synced()), (lsn, Lsn(0)));
    writer.request_sync();
    assert_eq!(submit(&mut writer), [(2, u64::MAX, 0, true)]);
    writer.completed(2, WalOutcome::Failed);
    writer.request_sync();
    assert!(writer.poisoned() && submit(&mut writer).is_empty());
}

#[test]
fn a_requested_sync_covers_what_was_staged_and_no_more() {
    // A sync that was submitted before a write completed says nothing about that write.
    let mut writer = stream(SyncPolicy::None, 2);
    writer.add_ready(spec(1, 0, 16));
    let first = put(&mut writer, 1);
    submit(&mut writer);
    writer.request_sync();
    assert!(submit(&mut writer).is_empty(), "the write is not complete");
    writer.completed(1, WalOutcome::Written(8192));
    let second = put(&mut writer, 2);
    assert_eq!(submit(&mut writer), [(2, u64::MAX, 0, true), (3, 8192, 4096, false)]);
    writer.completed(3, WalOutcome::Written(4096));
    writer.completed(2, WalOutcome::Synced);
    assert_eq!((writer.synced(), writer.written()), (first, second));
    assert!(submit(&mut writer).is_empty(), "nobody asked for more");
    writer.request_sync();
    assert!(!writer.is_idle());
    let sync = submit(&mut writer);
    writer.completed(sync[0].0, WalOutcome::NotDone);
    let sync = submit(&mut writer);
    writer.completed(sync[0].0, WalOutcome::Synced);
    assert!(writer.synced() == second && writer.is_idle());
}

#[test]
fn the_next_segment_waits_until_the_sealed_one_is_durable() {
    // Otherwise a power cut leaves the newer writes without the older ones.
    for policy in [SyncPolicy::Always, INTERVAL, SyncPolicy::None] {
        let mut writer = stream(policy, 4);
        let always = policy == SyncPolicy::Always;
        writer.add_ready(spec(1, 0, 8));
        writer.add_ready(spec(2, 1, 8));
        put(&mut writer, 1);
        writer.rotate();
        let second = put(&mut writer, 2);
        assert_eq!(submit(&mut writer), [(1, 0, 8192, always), (2, 8192, 4096, always)]);
        writer.completed(1, WalOutcome::Written(8192));
        assert!(submit(&mut writer).is_empty(), "the seal is under way");
        writer.completed(2, WalOutcome::Written(4096));
        if !always {
            assert_eq!(submit(&mut writer), [(3, u64::MAX, 0, true)]);
            writer.completed(3, WalOutcome::Synced);
        }
        assert!(writer.live_segments().next().is_some_and(|segment| segment.finished));
        writer.release(SegmentSeq(1));
        let [(id, 0, 8192, durable)] = submit(&mut writer)[..] else { panic!("header and frame") };
        assert_eq!(durable, always);
        writer.completed(id, WalOutcome::Written(8192));
        assert_eq!(writer.acked(), second);
    }
}

#[test]
#[should_panic(expected = "before it is finished")]
fn a_segment_with_a_write_under_way_is_not_released() {
    // The late write would hit the next life of the file.
    let mut writer = stream(SyncPolicy::Always, 4);
    writer.add_ready(spec(1, 0, 8));
    put(&mut writer, 1);
    submit(&mut writer);
    writer.rotate();
    writer.release(SegmentSeq(1));
}

#[test]
fn a_shutdown_seals_and_syncs_under_every_policy() {
    // A clean stop must leave nothing to a later power cut.
    for policy in [SyncPolicy::Always, INTERVAL, SyncPolicy::None] {
        let (mut writer, mut disk) = (stream(policy, 2), ModelDisk::default());
        writer.seal_for_shutdown();
        assert!(writer.is_idle(), "nothing was ever written");
        let mut writer = {
            drop(writer);
            stream(policy, 2)
        };
        writer.add_ready(disk.segment(1, 8));
        put(&mut writer, 1);
        writer.seal_for_shutdown();
        assert!(!writer.is_idle());
        disk.settle(&mut Rng(0), &mut writer);
        assert!(writer.is_idle() && writer.synced() == writer.staged());
        assert_eq!(writer.admission(1, true), Admission::Closed);
        let (records, ends) = replay([(input(1, 8), disk.content(0))]).unwrap();
        assert!(records.len() == 1 && ends[0].1.sealed);
    }
}

#[test]
fn what_is_admitted_fits_to_the_last_page() {
    // A record that was admitted and does not fit could neither be written nor refused.
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let (mut writer, mut disk) = (stream(SyncPolicy::Always, 2), ModelDisk::default());
        writer.add_ready(disk.segment(1, 3 + rng.below(30)));
        let mut staged = Vec::new();
        for n in 1..200 {
            let bytes = rng.index(7000);
            let record: Logged = if rng.one_in(4) { Logged::All } else { blob(n, bytes) };
            let (is_delete, bytes) = (record.record().is_delete(), record_bytes(&record.record()));
            if writer.admits(bytes, is_delete) {
                writer.append(Seqno(n), &record.record());
                staged.push((Seqno(n), record));
            }
            if rng.one_in(3) {
                disk.settle(&mut rng, &mut writer);
            }
        }
        assert_eq!(writer.admission(5000, false), Admission::WaitForSegment);
        writer.seal_for_shutdown();
        disk.settle(&mut rng, &mut writer);
        let pages = disk.content(0).len() as u64 / 4096;
        let (records, ends) = replay([(input(1, pages), disk.content(0))]).unwrap();
        assert!(records == staged && ends[0].1.sealed, "seed {seed}");
    }
}

#[test]
fn the_last_sixteenth_is_kept_for_deletes_while_nothing_is_ready() {
    // A full store could not even be emptied.
    let mut writer = stream(SyncPolicy::Always, 1);
    writer.add_ready(spec(1, 0, 64));
    let bytes = record_bytes(&blob(1, 3900).record());
    let mut n = 0;
    while writer.admits(bytes, false) {
        n += 1;
        writer.append(Seqno(n), &blob(n, 3900).record());
        submit(&mut writer).iter().for_each(|io| writer.completed(io.0, WalOutcome::Written(io.2)));
    }
    assert_eq!((n, writer.admission(bytes, false)), (64 - 2 - 4, Admission::WaitForSegment));
    for extra in 1..=4 {
        assert!(writer.admits(100, true), "delete {extra}");
        writer.append(Seqno(n + extra), &Logged::All.record());
        submit(&mut writer).iter().for_each(|io| writer.completed(io.0, WalOutcome::Written(io.2)));
    }
    assert!(!writer.admits(100, true) && writer.wants_segment());
    writer.add_ready(spec(2, 1, 64));
    assert!(writer.admits(bytes, false) && !writer.wants_segment());
}

#[test]
fn the_largest_record_fits_an_empty_segment_and_a_larger_one_never() {
    // A bound that is off by one admits nothing for ever, or promises what no segment holds.
    for pages in [256, 300, 16 << 10] {
        let mut writer = stream(SyncPolicy::Always, 1);
        writer.add_ready(spec(1, 0, pages));
        let bytes_max = record_bytes_max(pages * 4096);
        assert!(writer.admits(bytes_max, false));
        assert!(!writer.admits(bytes_max + 1, false));
    }
    let mut writer = stream(SyncPolicy::Always, 1);
    writer.add_ready(spec(1, 0, 16 << 10));
    assert_eq!(writer.admission(WAL_FRAME_BYTES_MAX, false), Admission::TooLarge);
}

#[test]
fn a_record_too_large_for_the_next_segment_passes_it_by() {
    // The first segment of a start is small: a large value must not wait for ever, nor break the chain.
    let (mut writer, mut disk) = (stream(INTERVAL, 2), ModelDisk::default());
    writer.add_ready(disk.segment(1, 4));
    writer.add_ready(disk.segment(2, 4));
    let large = blob(1, 30_000);
    let bytes = record_bytes(&large.record());
    assert_eq!(writer.admission(bytes, false), Admission::WaitForSegment);
    writer.add_ready(disk.segment(3, 64));
    assert!(writer.admits(bytes, false));
    writer.append(Seqno(1), &large.record());
    writer.request_sync();
    disk.settle(&mut Rng(5), &mut writer);
    let images = [(1, 4, 0), (2, 4, 1), (3, 64, 2)];
    let (records, ends) =
        replay(images.map(|(seq, pages, file)| (input(seq, pages), disk.content(file)))).unwrap();
    assert!(records == [(Seqno(1), large)]);
    assert!(ends[0].1.sealed && ends[1].1.sealed && !ends[2].1.sealed);
}

#[test]
fn staged_bytes_are_bounded() {
    // A slow disk would otherwise fill the memory.
    let mut writer = stream(SyncPolicy::Always, 1);
    writer.add_ready(spec(1, 0, 64 << 10));
    let large = blob(1, 8 << 20);
    let bytes = record_bytes(&large.record());
    let mut count = 0;
    while writer.admission(bytes, false) == Admission::Admitted {
        count += 1;
        writer.append(Seqno(count), &large.record());
    }
    assert_eq!(writer.admission(bytes, false), Admission::WaitForWrites);
    assert!(count * (8 << 20) <= WAL_STAGED_BYTES_MAX as u64 && count >= 3);
    for (id, _, bytes, _) in submit(&mut writer) {
        writer.completed(id, WalOutcome::Written(bytes));
    }
    assert!(writer.admits(bytes, false));
}

#[test]
fn live_segments_say_what_they_hold() {
    // A memtable that pins the wrong segments lets the only copy of its records be retired.
    let mut writer = stream(SyncPolicy::Always, 1);
    writer.add_ready(spec(4, 0, 8));
    writer.add_ready(spec(5, 1, 8));
    assert_eq!((writer.live_segments().count(), writer.open_segment()), (0, None));
    let first = put(&mut writer, 10);
    assert_eq!(writer.open_segment(), Some(SegmentSeq(4)));
    writer.rotate();
    assert_eq!(writer.open_segment(), None);
    let second = put(&mut writer, 20);
    let lives: Vec<_> = writer.live_segments().collect();
    assert_eq!(
        (lives[0].seq, lives[0].first_seqno, lives[0].last_lsn),
        (SegmentSeq(4), Some(Seqno(10)), first)
    );
    assert_eq!(
        (lives[1].seq, lives[1].first_seqno, lives[1].last_lsn),
        (SegmentSeq(5), Some(Seqno(20)), second)
    );
    assert!(!lives[0].finished && !lives[1].finished);
}

#[test]
#[ignore = "a measurement, for a release build: prints records per second"]
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn append_throughput() {
    // Says what the log costs a put on the core, without the device.
    let mut writer = stream(SyncPolicy::Always, 4);
    let count = 4_000_000u64;
    let series: Vec<Vec<u8>> = (0..1000).map(|n| format!("host-{n:04}.cpu.load").into_bytes()).collect();
    let mut out = vec![0; WAL_FRAME_BYTES_MAX];
    let started = std::time::Instant::now();
    let mut seq = 0;
    for n in 0..count {
        if writer.wants_segment() {
            seq += 1;
            writer.add_ready(spec(seq, 0, 16 << 10));
        }
        let slot = crate::model::Slot::Time(1_700_000_000_000 + n.cast_signed());
        let value = crate::model::Value::F64(0.25);
        let series = &series[usize::try_from(n % 1000).unwrap()];
        writer.append(Seqno(n + 1), &super::Record::Put { series, slot, value });
        if n % 100 == 0 {
            while let Some(io) = writer.next_io() {
                let WalIo::Write { id, bytes, .. } = io else { panic!("a write") };
                writer.encode(id, &mut out[..bytes]);
                writer.completed(id, WalOutcome::Written(bytes));
            }
        }
    }
    let rate = count * 1000 / u64::try_from(started.elapsed().as_millis()).unwrap().max(1);
    println!("{rate} records/s");
}
