//! Seeded crashes of a model disk: after each, what recovery yields is checked against what was submitted and what
//! was acknowledged. A life of the store follows the one before on the same files, recycled and not cleaned.

use super::super::{StreamOptions, StreamWriter, SyncPolicy, record_bytes};
use super::model_disk::{Crash, ModelDisk};
use super::{Logged, Rng, STORE, STREAM, blob, input, number, replay, spec, thorough};
use crate::model::{Lsn, SegmentSeq, Seqno, Slot, Value};
use crate::teeth::{Bug, plant};
use std::num::NonZeroU32;

/// Lives of the store that one seed runs through, each ending in a crash.
const LIVES: u64 = 4;
/// Crashes where time allows; at least 100,000 (goal G1).
const CUTS_THOROUGH: u64 = 120_000;
const _: () = assert!(CUTS_THOROUGH >= 100_000 && CUTS_THOROUGH.is_multiple_of(LIVES));

/// One submitted record.
struct Submitted {
    seqno: u64,
    lsn: Lsn,
    segment: SegmentSeq,
    /// It ends a batch, or is alone.
    ends_batch: bool,
}

/// A segment as the manifest lists it.
#[derive(Clone, Copy, Debug)]
struct Listed {
    seq: u64,
    file: i32,
    pages: u64,
}

/// A store's files over several lives.
struct Store {
    rng: Rng,
    disk: ModelDisk,
    /// What the manifest lists.
    listed: Vec<Listed>,
    /// Files for new segments, as their last life left them, with their pages.
    pool: Vec<(i32, u64)>,
    next_seq: u64,
    next_seqno: u64,
}

/// The record that has this seqno, in every life.
fn record_of(seqno: u64) -> Logged {
    let mut rng = Rng(seqno);
    let series = vec![b'a' + u8::try_from(rng.below(3)).unwrap(); 1 + rng.index(4)];
    let time = rng.next().cast_signed() >> rng.below(64);
    match rng.below(16) {
        0 => Logged::DeleteSlot(series, Slot::Time(time)),
        1 => Logged::TimeRange(series, time, time.saturating_add(10)),
        2 => Logged::Series(series),
        3 => Logged::Prefix(series),
        4 => Logged::All,
        5 => blob(seqno, 1 + rng.index(9000)),
        6 => blob(seqno, rng.index(300)),
        7 => Logged::Put(series, Slot::Metadata, Value::F64(f64::from_bits(rng.next())).into_owned()),
        _ => number(seqno),
    }
}

impl Store {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng(seed),
            disk: ModelDisk::default(),
            listed: Vec::new(),
            pool: Vec::new(),
            next_seq: 1,
            next_seqno: 1,
        }
    }
    fn add_segment(&mut self, writer: &mut StreamWriter) {
        let (file, pages) = match self.pool.len() {
            0 => {
                let pages = 4 + self.rng.below(8);
                (self.disk.create(pages), pages)
            }
            count => self.pool.swap_remove(self.rng.index(count)),
        };
        let seq = self.next_seq;
        self.next_seq += 1 + self.rng.below(2);
        self.listed.push(Listed { seq, file, pages });
        writer.add_ready(spec(seq, file, pages));
    }
    fn release_one(&mut self, writer: &mut StreamWriter) {
        let finished = writer.live_segments().filter(|segment| segment.finished).map(|segment| segment.seq);
        let finished: Vec<SegmentSeq> = finished.collect();
        if finished.is_empty() {
            return;
        }
        let seq = finished[self.rng.index(finished.len())];
        writer.release(seq);
        self.retire(seq.0);
    }
    fn retire(&mut self, seq: u64) {
        let index = self.listed.iter().position(|listed| listed.seq == seq).unwrap();
        let listed = self.listed.remove(index);
        self.pool.push((listed.file, listed.pages));
    }
    /// Appends one to eight records, if there is room.
    fn append(&mut self, writer: &mut StreamWriter, submitted: &mut Vec<Submitted>) {
        let count = if self.rng.one_in(4) { 2 + self.rng.below(7) } else { 1 };
        let first = self.next_seqno + self.rng.below(3);
        let records: Vec<Logged> = (first..first + count).map(record_of).collect();
        let bytes = records.iter().map(|record| record_bytes(&record.record())).sum();
        let is_delete = count == 1 && records[0].record().is_delete();
        if !writer.admits(bytes, is_delete) {
            return;
        }
        if count > 1 {
            writer.batch_begin(bytes, false);
        }
        for (seqno, record) in (first..).zip(&records) {
            let lsn = writer.append(Seqno(seqno), &record.record());
            let segment = writer.open_segment().unwrap();
            submitted.push(Submitted { seqno, lsn, segment, ends_batch: seqno + 1 == first + count });
        }
        if count > 1 {
            assert_eq!(Some(writer.batch_end()), submitted.last().map(|last| last.lsn));
        }
        self.next_seqno = first + count;
    }
    /// Runs until a crash, and checks what it leaves.
    fn live_and_crash(&mut self) -> Result<(), String> {
        let policy = match self.rng.below(3) {
            0 => SyncPolicy::Always,
            1 => SyncPolicy::IntervalMs(NonZeroU32::MIN),
            _ => SyncPolicy::None,
        };
        let writes_in_flight = 1 + self.rng.index(4);
        let options = StreamOptions { store: STORE, stream: STREAM, policy, writes_in_flight };
        let mut writer = StreamWriter::new(options);
        let mut submitted = Vec::new();
        let steps = 1 + self.rng.below(120);
        for _ in 0..steps {
            self.step(&mut writer, &mut submitted);
        }
        if self.rng.one_in(16) {
            writer.seal_for_shutdown();
            self.disk.settle(&mut self.rng, &mut writer);
            assert!(writer.is_idle() && writer.synced() == writer.staged());
        }
        let crash = if self.rng.one_in(4) { Crash::Killed } else { Crash::PowerCut };
        let owed = match crash {
            Crash::Killed => writer.acked(),
            Crash::PowerCut if policy == SyncPolicy::Always => writer.acked(),
            Crash::PowerCut => writer.synced(),
        };
        self.disk.crash(&mut self.rng, crash);
        let checked = self.check(&submitted, owed);
        // Recovery has moved what it found into tables, and retires every segment at once.
        let listed: Vec<u64> = self.listed.iter().map(|listed| listed.seq).collect();
        listed.into_iter().for_each(|seq| self.retire(seq));
        checked.map_err(|violation| format!("{policy}, {crash:?}, {steps} steps: {violation}"))
    }
    fn step(&mut self, writer: &mut StreamWriter, submitted: &mut Vec<Submitted>) {
        match self.rng.below(20) {
            0..8 => self.append(writer, submitted),
            8..12 => self.disk.submit_all(writer),
            12..17 => self.disk.complete_one(&mut self.rng, writer),
            17 => writer.request_sync(),
            18 if writer.wants_segment() || self.rng.one_in(8) => self.add_segment(writer),
            18 => self.release_one(writer),
            _ if self.rng.one_in(8) => writer.rotate(),
            _ if writer.wants_segment() => self.add_segment(writer),
            _ => {}
        }
    }
    fn check(&mut self, submitted: &[Submitted], owed: Lsn) -> Result<(), String> {
        let segments = || {
            let image = |listed: &Listed| (input(listed.seq, listed.pages), self.disk.content(listed.file));
            self.listed.iter().map(image).collect::<Vec<_>>()
        };
        let (records, ends) = replay(segments()).map_err(|error| format!("refused to open: {error}"))?;
        if self.next_seqno.is_multiple_of(8) {
            let again = replay(segments()).map_err(|error| format!("refused to open again: {error}"))?;
            assert_eq!((&records, &ends), (&again.0, &again.1), "the second recovery differs");
        }
        // What was released is in tables.
        let listed = |seq: SegmentSeq| self.listed.iter().any(|listed| listed.seq == seq.0);
        let expected: Vec<&Submitted> = submitted.iter().filter(|record| listed(record.segment)).collect();
        if records.len() > expected.len() {
            return Err(format!("{} records recovered of {}", records.len(), expected.len()));
        }
        for ((seqno, record), expected) in records.iter().zip(&expected) {
            if seqno.0 != expected.seqno || *record != record_of(expected.seqno) {
                return Err(format!("recovered {seqno:?} {record:?} in place of {}", expected.seqno));
            }
        }
        let owed = expected.iter().filter(|record| record.lsn <= owed).count();
        if records.len() < owed {
            return Err(format!("{} of {owed} acknowledged records recovered", records.len()));
        }
        match records.len().checked_sub(1).and_then(|last| expected.get(last)) {
            Some(last) if !last.ends_batch => Err(format!("a batch was cut after {}", last.seqno)),
            _ => Ok(()),
        }
    }
}

/// Runs one seed; says what was violated.
fn run(seed: u64) -> Result<(), String> {
    let mut store = Store::new(seed);
    (0..LIVES).try_for_each(|life| {
        store.live_and_crash().map_err(|violation| format!("seed {seed}, life {life}: {violation}"))
    })
}

#[test]
fn after_any_crash_recovery_yields_a_prefix_with_all_that_was_owed() {
    // An acknowledged write is lost, a batch is halved, or a record of a former life comes back.
    let cuts = if thorough() { CUTS_THOROUGH } else { 4_000 };
    let mut done = 0;
    for seed in 0..cuts / LIVES {
        if let Err(violation) = run(seed) {
            panic!("{violation}");
        }
        done += LIVES;
    }
    println!("WAL cuts: {done} crashes of the log format on a disk that forgets, {} seeds", done / LIVES);
    assert_eq!(done, cuts, "fewer crashes than were asked for");
}

/// What the seeds find with a bug planted.
fn caught(bug: Bug) -> Option<String> {
    plant(Some(bug));
    let found = (0..2_000).find_map(|seed| run(seed).err());
    plant(None);
    found
}

#[test]
fn a_reply_before_the_sync_is_caught() {
    // If not, the check of what is owed checks nothing.
    let violation = caught(Bug::SkipWalSync).expect("the bug is caught");
    assert!(violation.contains("always"), "{violation}");
}

#[test]
fn frames_without_the_identity_of_their_segment_are_caught() {
    // If not, the model disk recycles nothing.
    caught(Bug::CrcWithoutSegmentId).expect("the bug is caught");
}

#[test]
fn a_segment_begun_before_the_sealed_one_is_synced_is_caught() {
    // If not, no seed rotates at the wrong time.
    let violation = caught(Bug::SealWithoutSync).expect("the bug is caught");
    assert!(!violation.contains("always"), "{violation}");
}
