//! Reads one segment back: its records up to the first frame that is not whole.
//!
//! The first page that does not hold the next frame ends the segment. Whether that is a torn tail or damage is told by
//! what comes later in the segment: a frame header of this life whose `durable_off` lies beyond the page proves that
//! the page was on stable storage once. Pages are looked at up to the end of the segment, one header each. What only
//! the neighbours know is left to `chain`. A last frame that is rotten or went astray has no such witness; what is left
//! of it counts as a torn tail, so that nothing is cut off in silence.
//!
//! [`replay_segment`] refuses a damaged segment; [`replay_prefix`] says the same and goes on with what is sound before
//! the damage, for `tskv repair`.
//!
//! Nothing is allocated for a length that the file does not have.
#![deny(clippy::indexing_slicing)]

use super::error::WalError;
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, Life};
use super::record::{Record, RecordDecoder};
use super::segment::{HeaderPage, SEGMENT_HEADER_BYTES, SegmentHeader, VERSION};
use crate::encoding::{Corruption, checksum};
use crate::limits::PAGE_BYTES;
use crate::model::{SegmentSeq, Seqno, StoreId, StreamId};
use crate::storage::byte_source::ByteSource;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Bytes that are read at once.
const WINDOW_BYTES: usize = 256 << 10;

/// What the manifest knows of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayInput {
    /// The segment.
    pub seq: SegmentSeq,
    /// Its stream.
    pub stream: StreamId,
    /// Random number of this life of the file.
    pub salt: u64,
    /// Length of the segment.
    pub bytes: u64,
    /// Its file, as errors name it.
    pub file: PathBuf,
}

impl ReplayInput {
    pub(super) fn life(&self) -> Life {
        Life { seq: self.seq, salt: self.salt, stream: self.stream }
    }
}

/// How far a segment goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentEnd {
    /// No page of this life was found: the segment was ready, nothing more.
    pub never_used: bool,
    /// Page 0, where it is whole.
    pub header: Option<SegmentHeader>,
    /// Page 0 is that of this earlier segment of the store: the file was recycled and not written to since.
    pub former_life: Option<SegmentSeq>,
    /// It was closed: nothing can follow in this segment.
    pub sealed: bool,
    /// Bytes up to the end of the last whole frame; 0 without a header.
    pub end_offset: u64,
    /// Checksum of the last whole frame, or of the header.
    pub last_crc: u32,
    /// Bytes after `end_offset` up to the end of the last frame of this life that left a trace: cut off.
    pub torn_bytes: u64,
    /// Lowest and highest seqno of the records.
    pub seqnos: Option<(Seqno, Seqno)>,
    /// Whole frames, the seal frame included.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
}

/// Visits the records of a segment in the order they were written. A frame's records are visited only after its
/// checksum was found right.
///
/// # Errors
/// [`WalError::Damaged`] when something that was durable is not there, after records before it have been visited;
/// [`WalError::VersionUnsupported`] and [`WalError::FeaturesUnsupported`] for a newer tskv's segment;
/// [`WalError::Read`] when the file cannot be read; [`WalError::Stopped`] when `visit` breaks.
pub fn replay_segment(
    store: StoreId,
    input: &ReplayInput,
    source: &mut dyn ByteSource,
    visit: &mut dyn FnMut(Seqno, Record<'_>) -> ControlFlow<()>,
) -> Result<SegmentEnd, WalError> {
    check_length(input, source)?;
    let mut replay = Replay::new(input, source);
    let stop = match replay.header(store)? {
        Some(crc) => replay.frames(Some(crc), visit)?,
        None => Some(Stop { offset: 0, next: PAGE_BYTES as u64, found: Found::NoHeader }),
    };
    if let Some(stop) = stop {
        replay.look_ahead(&stop)?;
    }
    Ok(replay.end)
}

/// What a segment still holds, damaged or not.
#[derive(Debug)]
pub struct SegmentPrefix {
    /// How far the sound part goes.
    pub end: SegmentEnd,
    /// What is wrong; `None` when [`replay_segment`] would not complain.
    pub damage: Option<WalError>,
    /// Whether every frame that can have been durable is in the prefix, damage or not.
    pub complete: bool,
}

/// Visits the records of a segment up to the first frame that is damaged, cut off, or cannot be read. A header page
/// alone holds no record: where it is damaged and page 1 holds a frame of this life, the frames are visited all the
/// same.
///
/// # Errors
/// [`WalError::VersionUnsupported`] and [`WalError::FeaturesUnsupported`], which are no damage, and
/// [`WalError::Stopped`] when `visit` breaks.
pub fn replay_prefix(
    store: StoreId,
    input: &ReplayInput,
    source: &mut dyn ByteSource,
    visit: &mut dyn FnMut(Seqno, Record<'_>) -> ControlFlow<()>,
) -> Result<SegmentPrefix, WalError> {
    let too_short = check_length(input, source).err();
    let mut replay = Replay::new(input, source);
    replay.whole_frames_only = true;
    let (damage, mut complete) = match replay.prefix(store, visit) {
        Ok(header) => (header, true),
        Err(error @ (WalError::Damaged(_) | WalError::Read { .. })) => (Some(error), false),
        Err(error) => return Err(error),
    };
    // What a sealed segment held is all there, however much of the file behind it is gone.
    complete &= too_short.is_none() || replay.end.sealed;
    Ok(SegmentPrefix { end: replay.end, damage: damage.or(too_short), complete })
}

/// Segments are written to their full length and synced before they are used.
fn check_length(input: &ReplayInput, source: &dyn ByteSource) -> Result<(), WalError> {
    if source.bytes() >= input.bytes {
        return Ok(());
    }
    Err(damaged(input, source.bytes(), format!("{} bytes", input.bytes), "end of file"))
}

fn damaged(
    input: &ReplayInput,
    offset: u64,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> WalError {
    WalError::Damaged(Corruption::new(&input.file, offset, expected, found))
}

/// Where and why the prefix ends in a segment that is not sealed.
struct Stop {
    /// First byte that is not part of it.
    offset: u64,
    /// First page that may hold another frame.
    next: u64,
    found: Found,
}

/// What stands where the prefix ends.
enum Found {
    NoHeader,
    NoFrame,
    PayloadCrc { expected: u32, found: u32 },
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoHeader => write!(f, "no valid segment header"),
            Self::NoFrame => write!(f, "no valid frame header"),
            Self::PayloadCrc { expected, found } => {
                write!(f, "a frame with payload crc {found:#010x} instead of {expected:#010x}")
            }
        }
    }
}

struct Replay<'a> {
    input: &'a ReplayInput,
    life: Life,
    window: Window<'a>,
    end: SegmentEnd,
    /// Decode all records of a frame before the first is visited: whoever goes on after damage must not have taken half
    /// a frame.
    whole_frames_only: bool,
    /// Where the zeros begin that fill the last page of the last frame, or of the header.
    filler: u64,
}

impl<'a> Replay<'a> {
    fn new(input: &'a ReplayInput, source: &'a mut dyn ByteSource) -> Self {
        let life = input.life();
        let (window, end) = (Window::new(source), SegmentEnd::default());
        Self { input, life, window, end, whole_frames_only: false, filler: 0 }
    }

    /// As [`replay_segment`], with `end` telling how far it came when it fails. Returns what is wrong with the header
    /// page where the frames are sound without it.
    fn prefix(
        &mut self,
        store: StoreId,
        visit: &mut dyn FnMut(Seqno, Record<'_>) -> ControlFlow<()>,
    ) -> Result<Option<WalError>, WalError> {
        let first = PAGE_BYTES as u64;
        let damage = match self.header(store) {
            Ok(Some(crc)) => {
                let stop = self.frames(Some(crc), visit)?;
                return stop.map_or(Ok(()), |stop| self.look_ahead(&stop)).map(|()| None);
            }
            Ok(None) => None,
            Err(error @ (WalError::Damaged(_) | WalError::Read { .. })) => Some(error),
            Err(error) => return Err(error),
        };
        let proof = self.look_ahead(&Stop { offset: 0, next: first, found: Found::NoHeader });
        let Some(damage) = damage.or(proof.err()) else { return Ok(None) };
        if self.frame_header(first)?.is_none() {
            return Err(damage);
        }
        self.end.end_offset = first;
        if let Some(stop) = self.frames(None, visit)? {
            self.look_ahead(&stop)?;
        }
        Ok(Some(damage))
    }

    /// Reads page 0 and returns its checksum; `None` when it is not this life's.
    fn header(&mut self, store: StoreId) -> Result<Option<u32>, WalError> {
        let input = self.input;
        let bytes = self.window.bytes(input, 0, SEGMENT_HEADER_BYTES)?;
        let Some(page) = SegmentHeader::decode(bytes) else { return Ok(None) };
        let header = page.header;
        if header.seq < input.seq && header.store == store {
            self.end.former_life = Some(header.seq);
            return Ok(None);
        }
        let file = || input.file.clone();
        if (header.seq, header.salt) == (input.seq, input.salt) && page.version > VERSION {
            let (found, supported_max) = (page.version, VERSION);
            return Err(WalError::VersionUnsupported { file: file(), found, supported_max });
        }
        if (header.seq, header.salt) == (input.seq, input.salt) && page.features != 0 {
            return Err(WalError::FeaturesUnsupported { file: file(), unknown: page.features });
        }
        let expected = SegmentHeader {
            store,
            stream: input.stream,
            seq: input.seq,
            salt: input.salt,
            bytes: input.bytes,
            previous: header.previous,
        };
        if header != expected {
            return Err(damaged(input, 0, describe(&expected), describe(&header)));
        }
        self.filler = SEGMENT_HEADER_BYTES as u64;
        self.end.header = Some(header);
        self.end.end_offset = PAGE_BYTES as u64;
        self.end.last_crc = page.crc;
        Ok(Some(page.crc))
    }

    /// Visits frames from page 1 on, of which the first follows `header_crc` where that is known. `None` when a seal
    /// frame ended them.
    fn frames(
        &mut self,
        header_crc: Option<u32>,
        visit: &mut dyn FnMut(Seqno, Record<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Stop>, WalError> {
        let mut previous_crc = header_crc;
        loop {
            let offset = self.end.end_offset;
            let Some((header, crc)) = self.frame_header(offset)? else {
                return Ok(Some(Stop { offset, next: offset + PAGE_BYTES as u64, found: Found::NoFrame }));
            };
            let payload_bytes = header.payload_bytes as usize;
            let payload = self.window.bytes(self.input, offset, FRAME_HEADER_BYTES + payload_bytes)?;
            let payload = payload.get(FRAME_HEADER_BYTES..).unwrap_or_default();
            let found = checksum(payload);
            if found != header.payload_crc {
                let found = Found::PayloadCrc { expected: header.payload_crc, found };
                return Ok(Some(Stop { offset, next: header.end(), found }));
            }
            if let Some(previous_crc) = previous_crc.filter(|crc| *crc != header.previous_crc) {
                let expected = format!("a frame that follows crc {previous_crc:#010x}");
                let found = format!("one that follows {:#010x}", header.previous_crc);
                return Err(damaged(self.input, offset, expected, found));
            }
            if self.whole_frames_only {
                let mut ignore = |_, _: Record<'_>| ControlFlow::Continue(());
                visit_records(self.input, &header, payload, &mut SegmentEnd::default(), &mut ignore)?;
            }
            visit_records(self.input, &header, payload, &mut self.end, visit)?;
            previous_crc = Some(crc);
            self.end.last_crc = crc;
            self.end.end_offset = header.end();
            self.filler = offset + (FRAME_HEADER_BYTES + payload_bytes) as u64;
            self.end.frames += 1;
            if header.kind == FrameKind::Seal {
                self.end.sealed = true;
                return Ok(None);
            }
        }
    }

    /// The frame header at `offset` of this life, if its frame lies within the segment.
    fn frame_header(&mut self, offset: u64) -> Result<Option<(FrameHeader, u32)>, WalError> {
        if offset + PAGE_BYTES as u64 > self.input.bytes {
            return Ok(None);
        }
        let Ok(page) = u32::try_from(offset / PAGE_BYTES as u64) else { return Ok(None) };
        let bytes = self.window.bytes(self.input, offset, FRAME_HEADER_BYTES)?;
        let header = FrameHeader::decode(bytes, self.life, page);
        Ok(header.filter(|(header, _)| header.end() <= self.input.bytes))
    }

    /// Looks for later frames of this life: proof of damage, or the extent of a torn tail.
    fn look_ahead(&mut self, stop: &Stop) -> Result<(), WalError> {
        let mut torn_end = stop.next;
        let mut trace = matches!(stop.found, Found::PayloadCrc { .. });
        // Without this life's header what is left is no evidence that the segment was begun.
        let is_begun = self.end.header.is_some();
        let mut remains = is_begun && (self.filler_is_written()? || self.has_trace(stop.offset)?);
        let mut offset = stop.next;
        while offset < self.input.bytes {
            let Some((header, _)) = self.frame_header(offset)? else {
                let is_left = is_begun && self.has_trace(offset)?;
                offset += PAGE_BYTES as u64;
                if is_left {
                    remains = true;
                    torn_end = offset;
                }
                continue;
            };
            if header.durable_off > stop.offset {
                let expected =
                    format!("what was durable up to {} when {offset} was written", header.durable_off);
                return Err(damaged(self.input, stop.offset, expected, stop.found.to_string()));
            }
            trace = true;
            torn_end = header.end();
            offset = header.end();
        }
        if trace || remains {
            self.end.torn_bytes = torn_end - self.end.end_offset;
        }
        self.end.never_used = self.end.header.is_none() && !trace;
        Ok(())
    }
}

impl Replay<'_> {
    /// Whether a page holds what is left of a frame of this life, or this life's header page, which went astray.
    fn has_trace(&mut self, offset: u64) -> Result<bool, WalError> {
        let life = self.life;
        let bytes = self.window.bytes(self.input, offset, SEGMENT_HEADER_BYTES)?;
        let is_own = |page: &HeaderPage| page.header.seq == life.seq && page.header.salt == life.salt;
        Ok(FrameHeader::leaves_a_trace(bytes, life)
            || SegmentHeader::decode(bytes).as_ref().is_some_and(is_own))
    }
    /// Whether something stands where the last whole frame left zeros: a sector of what came later went there.
    fn filler_is_written(&mut self) -> Result<bool, WalError> {
        let count = usize::try_from(self.end.end_offset.saturating_sub(self.filler)).unwrap_or(0);
        let bytes = self.window.bytes(self.input, self.filler, count.min(PAGE_BYTES))?;
        Ok(bytes.iter().any(|byte| *byte != 0))
    }
}

fn visit_records(
    input: &ReplayInput,
    header: &FrameHeader,
    payload: &[u8],
    end: &mut SegmentEnd,
    visit: &mut dyn FnMut(Seqno, Record<'_>) -> ControlFlow<()>,
) -> Result<(), WalError> {
    let mut decoder = RecordDecoder::new(payload, header.base_seqno);
    for _ in 0..header.records {
        let at = header.offset() + (FRAME_HEADER_BYTES + decoder.offset()) as u64;
        let (seqno, record) = match decoder.next_record() {
            Ok(Some(record)) => record,
            Ok(None) => return Err(damaged(input, at, "a record", "end of the frame's records")),
            Err(error) => return Err(damaged(input, at, "a record", error.to_string())),
        };
        let (lowest, highest) = end.seqnos.unwrap_or((seqno, seqno));
        end.seqnos = Some((lowest.min(seqno), highest.max(seqno)));
        end.records += 1;
        if visit(seqno, record).is_break() {
            return Err(WalError::Stopped);
        }
    }
    if decoder.offset() != payload.len() {
        let at = header.offset() + (FRAME_HEADER_BYTES + decoder.offset()) as u64;
        return Err(damaged(input, at, "end of the frame's records", "more bytes"));
    }
    Ok(())
}

fn describe(header: &SegmentHeader) -> String {
    let SegmentHeader { store, stream, seq, salt, bytes, .. } = header;
    format!("segment {:#x} (salt {salt:#018x}) of {bytes} bytes, stream {}, store {store}", seq.0, stream.0)
}

/// A stretch of the file in memory, read ahead.
pub(super) struct Window<'a> {
    source: &'a mut dyn ByteSource,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(super) fn new(source: &'a mut dyn ByteSource) -> Self {
        Self { source, start: 0, bytes: Vec::new() }
    }
    /// The `count` bytes at `offset`; fewer at the end of the file. `count` is bounded by the segment's length.
    pub(super) fn bytes(
        &mut self,
        input: &ReplayInput,
        offset: u64,
        count: usize,
    ) -> Result<&[u8], WalError> {
        let left = self.source.bytes().saturating_sub(offset);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(count);
        let inside = |start: u64, len: usize| {
            let from = usize::try_from(offset.checked_sub(start)?).ok()?;
            (from + count <= len).then_some(from)
        };
        if let Some(from) = inside(self.start, self.bytes.len()) {
            return Ok(self.bytes.get(from..from + count).unwrap_or_default());
        }
        let ahead = usize::try_from(left).unwrap_or(usize::MAX).min(count.max(WINDOW_BYTES));
        self.start = offset;
        self.bytes.resize(ahead, 0);
        let mut done = 0;
        while let Some(rest) = self.bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.source.read_at(offset + done as u64, rest) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => {
                    self.bytes.clear();
                    let (file, offset) = (input.file.clone(), offset + done as u64);
                    return Err(WalError::Read { file, offset, source });
                }
            }
        }
        self.bytes.truncate(done);
        Ok(self.bytes.get(..count.min(done)).unwrap_or_default())
    }
}
