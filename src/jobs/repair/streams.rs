//! What is left of the log: for each stream the prefix that is sound, and what is set aside behind it.
//!
//! A stream is cut at its first damage: what comes later was written after something that is lost, and a store never
//! shows a later write without the earlier ones of the same stream.

use super::plan::{Extent, SegmentPlan};
use super::survey::Survey;
use crate::io::Files;
use crate::jobs::error::OpenError;
use crate::jobs::layout::Inventory;
use crate::jobs::recover::check_former_life;
use crate::jobs::refill::Refill;
use crate::jobs::table_files::FileSource;
use crate::limits::PAGE_BYTES;
use crate::model::{DeleteScope, KeyRange, SegmentSeq, Seqno, Slot, StreamId};
use crate::storage::manifest::SegmentEntry;
use crate::storage::manifest::names::{manifest_path, segment_path};
use crate::storage::wal::{
    Record, ReplayInput, SegmentEnd, WalError, check_chain, replay_prefix, scan_frames,
};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// What becomes of one stream.
#[derive(Debug)]
pub(super) struct StreamPlan {
    pub(super) stream: StreamId,
    /// Segments whose prefix is kept, in order.
    pub(super) kept: Vec<ReplayInput>,
    /// What is wrong; empty for a sound stream.
    pub(super) damage: Vec<OpenError>,
    /// The account of the damaged segment and those behind it.
    pub(super) segments: Vec<SegmentPlan>,
    /// Files whose content is not kept as a whole.
    pub(super) aside: Vec<PathBuf>,
    /// First and last series of what is kept.
    pub(super) extent: Extent,
    /// Highest seqno that was seen, kept or not.
    pub(super) seqno_max: Seqno,
}

/// A segment that was read as far as it goes.
struct Examined {
    input: ReplayInput,
    end: SegmentEnd,
    damage: Option<OpenError>,
    /// Nothing that was durable is lacking behind `end`.
    complete: bool,
    is_there: bool,
    extent: Extent,
}

/// Reads a stream. Nothing is changed.
///
/// # Errors
/// For what is no damage: a segment of a newer tskv.
pub(super) fn examine(
    files: &dyn Files,
    survey: &Survey,
    inventory: &Inventory,
    stream: StreamId,
    segments: &[(SegmentSeq, SegmentEntry)],
) -> Result<StreamPlan, OpenError> {
    let mut plan = StreamPlan {
        stream,
        kept: Vec::new(),
        damage: Vec::new(),
        segments: Vec::new(),
        aside: Vec::new(),
        extent: Extent::default(),
        seqno_max: Seqno(0),
    };
    let mut chain: Vec<(ReplayInput, SegmentEnd)> = Vec::new();
    let mut previous: Option<Examined> = None;
    let mut is_cut = false;
    for &(seq, entry) in segments {
        let examined = examine_segment(files, survey, inventory, seq, entry)?;
        if let Some((_, max)) = examined.extent.seqnos {
            plan.seqno_max = plan.seqno_max.max(max);
        }
        if is_cut {
            plan.set_aside(files, &examined, 0)?;
            plan.damage.extend(examined.damage);
            continue;
        }
        chain.push((examined.input.clone(), examined.end.clone()));
        match check_chain(&chain) {
            Ok(()) => {
                if examined.damage.is_some() {
                    plan.set_aside(files, &examined, examined.end.end_offset)?;
                }
                plan.keep(&examined);
                is_cut = !examined.complete;
                previous = Some(Examined { damage: None, ..examined });
                plan.damage.extend(examined.damage);
            }
            Err(error) => {
                plan.damage.push(error.into());
                // It does not begin where the one before ends: that one is cut, or another took its place.
                if let Some(older) = previous.take().filter(|older| !older.end.sealed) {
                    plan.set_aside(files, &older, older.end.end_offset)?;
                }
                plan.set_aside(files, &examined, 0)?;
                plan.damage.extend(examined.damage);
                is_cut = true;
            }
        }
    }
    Ok(plan)
}

/// Turns what a plan keeps into entries.
pub(super) fn refill(
    survey: &Survey,
    plan: &StreamPlan,
    keys: &KeyRange,
    refill: &mut Refill<'_>,
) -> Result<(), OpenError> {
    let files = refill.files();
    for input in &plan.kept {
        let file = files.open(&input.file).map_err(OpenError::io("opening", &input.file))?;
        let mut source = FileSource::new(files, file).map_err(OpenError::io("reading", &input.file))?;
        let mut visit = |seqno: Seqno, record: Record<'_>| refill.record(seqno, &record, keys);
        let replayed = replay_prefix(survey.store, input, &mut source, &mut visit);
        refill.outcome()?;
        replayed?;
    }
    Ok(())
}

impl StreamPlan {
    fn keep(&mut self, examined: &Examined) {
        if examined.end.frames == 0 {
            return;
        }
        self.kept.push(examined.input.clone());
        self.extent.merge(&examined.extent);
    }

    /// Accounts for what lies behind `kept_end` of a segment.
    fn set_aside(&mut self, files: &dyn Files, examined: &Examined, kept_end: u64) -> Result<(), OpenError> {
        let input = &examined.input;
        let keeps = kept_end > 0;
        let mut segment = SegmentPlan {
            file: input.file.clone(),
            stream: self.stream,
            kept_end,
            frames_kept: if keeps { examined.end.frames } else { 0 },
            records_kept: if keeps { examined.end.records } else { 0 },
            frames_aside: 0,
            frames_damaged: 0,
            bytes_damaged: 0,
            uncounted: false,
            aside: Extent::default(),
        };
        if examined.is_there {
            let file = files.open(&input.file).map_err(OpenError::io("opening", &input.file))?;
            let mut source = FileSource::new(files, file).map_err(OpenError::io("reading", &input.file))?;
            let mut reached = kept_end.max(PAGE_BYTES as u64);
            let scanned = scan_frames(input, &mut source, kept_end, &mut |frame| {
                let mut note = |seqno: Seqno, record: Record<'_>| {
                    note_record(&mut segment.aside, seqno, &record);
                    ControlFlow::Continue(())
                };
                self.seqno_max = self.seqno_max.max(frame.base_seqno);
                segment.bytes_damaged += frame.offset.saturating_sub(reached);
                reached = frame.end;
                match frame.visit(&input.file, &mut note) {
                    Ok(()) if frame.seal => {}
                    Ok(()) => segment.frames_aside += 1,
                    Err(_) => segment.frames_damaged += 1,
                }
                ControlFlow::Continue(())
            });
            match scanned {
                // A sector that cannot be read: what the account lacks is in the file that is set aside.
                Ok(()) | Err(WalError::Read { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            if let Some((_, max)) = segment.aside.seqnos {
                self.seqno_max = self.seqno_max.max(max);
            }
        }
        let found = segment.frames_aside + segment.frames_damaged + segment.bytes_damaged > 0;
        segment.uncounted = !examined.complete && !found;
        let has_trace =
            keeps || segment.frames_aside + segment.frames_damaged > 0 || !examined.end.never_used;
        if examined.is_there && has_trace && input.file == segment_path(input.seq) {
            self.aside.push(input.file.clone());
        }
        self.segments.push(segment);
        Ok(())
    }
}

fn examine_segment(
    files: &dyn Files,
    survey: &Survey,
    inventory: &Inventory,
    seq: SegmentSeq,
    entry: SegmentEntry,
) -> Result<Examined, OpenError> {
    let own = segment_path(seq);
    let is_there = inventory.segments.contains_key(&seq);
    // A repair that was cut short may have set it aside already.
    let file = if is_there { Some(own.clone()) } else { survey.set_aside_before(&own).next() };
    let (stream, salt, bytes) = (entry.stream, entry.salt, entry.bytes);
    let mut input = ReplayInput { seq, stream, salt, bytes, file: own.clone() };
    let missing = || inventory.require(&own, is_there, &manifest_path(survey.manifest)).err();
    let Some(path) = file else {
        let (end, extent) = (SegmentEnd { never_used: true, ..SegmentEnd::default() }, Extent::default());
        return Ok(Examined { input, end, damage: missing(), complete: false, is_there: false, extent });
    };
    input.file = path;
    let file = files.open(&input.file).map_err(OpenError::io("opening", &input.file))?;
    let mut source = FileSource::new(files, file).map_err(OpenError::io("reading", &input.file))?;
    let mut extent = Extent::default();
    let mut note = |seqno: Seqno, record: Record<'_>| {
        note_record(&mut extent, seqno, &record);
        ControlFlow::Continue(())
    };
    let prefix = replay_prefix(survey.store, &input, &mut source, &mut note)?;
    let copied = check_former_life(&survey.segments, &input, &prefix.end).err();
    let complete = prefix.complete && copied.is_none();
    let damage = prefix.damage.map(OpenError::from).or(copied).or_else(missing);
    Ok(Examined { input, end: prefix.end, damage, complete, is_there: true, extent })
}

fn note_record(extent: &mut Extent, seqno: Seqno, record: &Record<'_>) {
    match *record {
        Record::Put { series, slot, .. } => extent.note(Some(series), Some(slot), seqno, false),
        Record::DeleteSlot { series, slot } => extent.note(Some(series), Some(slot), seqno, true),
        Record::Delete(DeleteScope::TimeRange { series, from, to }) => {
            extent.note(Some(series), Some(Slot::Time(from)), seqno, true);
            extent.times = extent.times.map(|(first, last)| (first, last.max(to)));
        }
        Record::Delete(DeleteScope::Series { series }) => extent.note(Some(series), None, seqno, true),
        Record::DeleteKeys { .. } | Record::Delete(DeleteScope::Prefix { .. } | DeleteScope::All) => {
            extent.note(None, None, seqno, true);
        }
    }
}
