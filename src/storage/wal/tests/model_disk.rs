//! A disk that keeps what was synced and, at a power cut, any part of the rest: 512-byte sectors of unsynced and
//! in-flight writes, each or in stretches. Files keep what they held in a former life.

use super::super::{SegmentSpec, StreamWriter, WalIo, WalOutcome};
use super::{Rng, spec};

const SECTOR_BYTES: usize = 512;

#[derive(Debug)]
struct Write {
    offset: usize,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct ModelFile {
    durable: Vec<u8>,
    /// Completed and not synced, in order of completion.
    cached: Vec<Write>,
}

#[derive(Debug)]
enum Flying {
    Write {
        file: usize,
        write: Write,
        durable: bool,
    },
    /// Covers what was cached when it was submitted.
    Sync {
        file: usize,
        covers: usize,
    },
}

/// How much of what was not durable a crash leaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Crash {
    /// The process died: what the kernel was given stays, what was under way is torn.
    Killed,
    /// The power failed.
    PowerCut,
}

/// Files and what is in flight to them.
#[derive(Debug, Default)]
pub(super) struct ModelDisk {
    files: Vec<ModelFile>,
    flying: Vec<(u64, Flying)>,
}

impl ModelDisk {
    /// Adds a file of zeros and names it.
    pub(super) fn create(&mut self, pages: u64) -> i32 {
        let bytes = usize::try_from(pages).unwrap() * 4096;
        self.files.push(ModelFile { durable: vec![0; bytes], cached: Vec::new() });
        i32::try_from(self.files.len() - 1).unwrap()
    }
    /// Adds a file and makes it a segment; the first file is number 0.
    pub(super) fn segment(&mut self, seq: u64, pages: u64) -> SegmentSpec {
        spec(seq, self.create(pages), pages)
    }
    /// What is durable of a file.
    pub(super) fn content(&self, file: i32) -> &[u8] {
        &self.files[usize::try_from(file).unwrap()].durable
    }
    pub(super) fn in_flight(&self) -> usize {
        self.flying.len()
    }
    /// Takes all that the writer wants to submit.
    pub(super) fn submit_all(&mut self, writer: &mut StreamWriter) {
        while let Some(io) = writer.next_io() {
            match io {
                WalIo::Write { id, file, offset, bytes, durable } => {
                    let mut write =
                        Write { offset: usize::try_from(offset).unwrap(), bytes: vec![0xAA; bytes] };
                    writer.encode(id, &mut write.bytes);
                    let file = usize::try_from(file.handle()).unwrap();
                    self.flying.push((id, Flying::Write { file, write, durable }));
                }
                WalIo::Sync { id, file } => {
                    let file = usize::try_from(file.handle()).unwrap();
                    let covers = self.files[file].cached.len();
                    self.flying.push((id, Flying::Sync { file, covers }));
                }
            }
        }
    }
    /// Completes one operation, a write perhaps in part.
    pub(super) fn complete_one(&mut self, rng: &mut Rng, writer: &mut StreamWriter) {
        if self.flying.is_empty() {
            return;
        }
        let (id, op) = self.flying.swap_remove(rng.index(self.flying.len()));
        let outcome = match op {
            _ if rng.one_in(20) => WalOutcome::NotDone,
            Flying::Sync { file, covers } => {
                self.apply_cached(file, covers);
                WalOutcome::Synced
            }
            Flying::Write { file, mut write, durable } => {
                if rng.one_in(10) {
                    write.bytes.truncate(rng.index(write.bytes.len() / SECTOR_BYTES) * SECTOR_BYTES);
                }
                let bytes = write.bytes.len();
                if durable {
                    apply(&mut self.files[file].durable, &write, 0..bytes);
                } else {
                    self.files[file].cached.push(write);
                }
                WalOutcome::Written(bytes)
            }
        };
        writer.completed(id, outcome);
    }
    /// Completes everything, whatever it takes.
    pub(super) fn settle(&mut self, rng: &mut Rng, writer: &mut StreamWriter) {
        self.submit_all(writer);
        while self.in_flight() > 0 {
            self.complete_one(rng, writer);
            self.submit_all(writer);
        }
    }
    fn apply_cached(&mut self, file: usize, covers: usize) {
        let ModelFile { durable, cached } = &mut self.files[file];
        for write in cached.drain(..covers) {
            apply(durable, &write, 0..write.bytes.len());
        }
        for (_, op) in &mut self.flying {
            if let Flying::Sync { file: other, covers: left } = op
                && *other == file
            {
                *left -= covers.min(*left);
            }
        }
    }
    /// Leaves what a crash leaves; nothing is in flight afterwards.
    pub(super) fn crash(&mut self, rng: &mut Rng, crash: Crash) {
        let mode = rng.below(4);
        for file in &mut self.files {
            for write in std::mem::take(&mut file.cached) {
                match crash {
                    Crash::Killed => apply(&mut file.durable, &write, 0..write.bytes.len()),
                    Crash::PowerCut => tear(&mut file.durable, &write, rng, mode),
                }
            }
        }
        for (_, op) in std::mem::take(&mut self.flying) {
            if let Flying::Write { file, write, .. } = op {
                tear(&mut self.files[file].durable, &write, rng, mode);
            }
        }
    }
}

fn apply(durable: &mut [u8], write: &Write, part: std::ops::Range<usize>) {
    let at = write.offset + part.start..write.offset + part.end;
    durable[at].copy_from_slice(&write.bytes[part]);
}

/// Applies none or all, a prefix, or any sectors of a write.
fn tear(durable: &mut [u8], write: &Write, rng: &mut Rng, mode: u64) {
    let sectors = write.bytes.len() / SECTOR_BYTES;
    let prefix = rng.index(sectors + 1);
    let whole = rng.one_in(2);
    for sector in 0..sectors {
        let kept = match mode {
            0 => whole,
            1 => sector < prefix,
            2 => rng.one_in(2),
            _ => !rng.one_in(8),
        };
        if kept {
            apply(durable, write, sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES);
        }
    }
}
