//! A log segment, frame by frame.

use super::text::RecordText;
use super::{Dump, failed};
use crate::cli::error::CliError;
use crate::io::Files;
use crate::jobs::FileSource;
use crate::limits::PAGE_BYTES;
use crate::model::{SegmentSeq, Seqno};
use crate::storage::wal::{
    FrameView, Record, ReplayInput, SegmentHeader, WalError, find_life, replay_prefix, scan_frames,
};
use std::io::Write;
use std::ops::ControlFlow;

impl<W: Write> Dump<'_, W> {
    /// Prints a segment whose name says `seq`.
    pub(super) fn segment(&mut self, seq: SegmentSeq) -> Result<(), CliError> {
        let file = self.files.open(self.file).map_err(|error| failed(self.file, error))?;
        let mut source = FileSource::new(self.files, file).map_err(|error| failed(self.file, error))?;
        let found = find_life(seq, self.file, &mut source).map_err(CliError::failed)?;
        let Some((input, header)) = found else {
            return self.line(format_args!(
                "no header page and no frame of segment {:016x}: never used, or damaged (`tskv check` knows which)",
                seq.0
            ));
        };
        match &header {
            Some(header) => self.header(header)?,
            None => {
                let (stream, salt) = (input.stream.0, input.salt);
                self.damage(format_args!(
                    "the header page; frames of stream {stream}, salt {salt:016x} follow"
                ))?;
            }
        }
        let mut reached = PAGE_BYTES as u64;
        let mut outcome = Ok(());
        let scanned = scan_frames(&input, &mut source, 0, &mut |frame| {
            outcome = self.frame(&frame, &mut reached);
            let go_on = outcome.is_ok() && !self.is_enough();
            if go_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        outcome?;
        match scanned {
            Err(WalError::Stopped) => return self.line(format_args!("… and more: the limit is reached")),
            Err(error) => self.damage(error)?,
            Ok(()) => {}
        }
        self.verdict(&input, header.as_ref(), &mut source)
    }

    fn header(&mut self, header: &SegmentHeader) -> Result<(), CliError> {
        self.line(format_args!(
            "segment {:016x} of stream {}, store {}, salt {:016x}, {} bytes",
            header.seq.0, header.stream.0, header.store, header.salt, header.bytes
        ))?;
        match &header.previous {
            Some(previous) => self.line(format_args!(
                "follows segment {:016x}, which ends at {} with crc {:#010x}",
                previous.seq.0, previous.end, previous.crc
            )),
            None => self.line(format_args!("the first of its stream since a start")),
        }
    }

    fn frame(&mut self, frame: &FrameView<'_>, reached: &mut u64) -> Result<(), CliError> {
        if frame.offset > *reached {
            let (from, to) = (*reached, frame.offset);
            self.line(format_args!("no frame from {from} to {to}; one that is whole follows"))?;
        }
        *reached = frame.end;
        let what = if frame.seal { "seal frame" } else { "frame" };
        self.line(format_args!(
            "{what} at {}: {} records from seqno {}, up to {}; made when {} bytes were durable",
            frame.offset, frame.records, frame.base_seqno.0, frame.end, frame.durable_off
        ))?;
        let mut outcome = Ok(());
        let mut visit = |seqno: Seqno, record: Record<'_>| {
            if !self.brief {
                outcome = self.item(format_args!("{} {}", seqno.0, RecordText(record)));
            }
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let visited = frame.visit(std::path::Path::new(""), &mut visit);
        outcome?;
        // Whether it matters is for the verdict: behind the last durable frame it is a torn tail.
        match visited {
            Ok(()) => Ok(()),
            Err(corruption) => self.line(format_args!("  its payload is not what was written: {corruption}")),
        }
    }

    /// What a start would make of the segment by itself.
    fn verdict(
        &mut self,
        input: &ReplayInput,
        header: Option<&SegmentHeader>,
        source: &mut FileSource<'_>,
    ) -> Result<(), CliError> {
        let store = header.map(|header| header.store).unwrap_or_default();
        let mut ignore = |_, _: Record<'_>| ControlFlow::Continue(());
        let prefix = replay_prefix(store, input, source, &mut ignore).map_err(CliError::failed)?;
        let end = prefix.end;
        let how = if end.sealed { "sealed" } else { "open" };
        self.line(format_args!(
            "{} frames with {} records; {how} at offset {}, {} torn bytes behind",
            end.frames, end.records, end.end_offset, end.torn_bytes
        ))?;
        prefix.damage.map_or(Ok(()), |error| self.damage(error))
    }
}
