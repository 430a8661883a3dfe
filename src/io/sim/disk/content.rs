//! One file's bytes: what the disk holds for certain, what programs see, and every state in between.
//!
//! ```text
//! page 7:  durable ── version(seq 12, sectors 0b0011) ── version(seq 15, sectors 0b0110) ── = visible
//! ```
//! A version is the page as a program saw it after one write, and the 512-byte sectors which that write touched.
//! After a power cut each sector holds its durable bytes or those of any version that touched it. A sync up to
//! sequence number n turns versions `<= n` into durable bytes; a failed one may leave them **dropped**: visible, and
//! never written again (fsyncgate).
//!
//! Invariants: absent pages are zeros in every state; `dirty` lists exactly the pages with versions; versions of a
//! page ascend in seq; `bytes_durable <= bytes`.

use crate::io::sim::Rng;
use crate::limits::PAGE_BYTES;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;
/// Versions of one page before the oldest is written back, as a kernel does in time.
const VERSIONS_MAX: usize = 16;
const SECTORS_PER_PAGE: usize = PAGE_BYTES / SECTOR_BYTES;
const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
const _: () = assert!(SECTORS_PER_PAGE == 8, "a page's sectors fit the bits of a u8");

/// A page's bytes; `None` stands for zeros.
type PageBytes = Option<Arc<[u8]>>;

#[derive(Clone, Debug)]
struct Version {
    seq: u64,
    /// Bit n: sector n was touched and is not yet durable.
    sectors: u8,
    /// A failed sync lost it: a later one leaves it alone.
    dropped: bool,
    bytes: PageBytes,
}

#[derive(Clone, Debug, Default)]
struct Page {
    durable: PageBytes,
    visible: PageBytes,
    versions: Vec<Version>,
}

/// A piece of a write that lies within one page.
struct Piece<'a> {
    page: u64,
    start: usize,
    data: &'a [u8],
}

/// How a power cut treats the unsynced writes of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    AllLost,
    AllKept,
    /// Each sector for itself.
    Torn,
    /// Writes up to this sequence number.
    Prefix(u64),
    /// Each write for itself, as this salt decides.
    Subset(u64),
}

impl Fate {
    /// Whether a write survives as a whole.
    fn keeps(self, seq: u64) -> bool {
        match self {
            Self::AllLost => false,
            Self::AllKept | Self::Torn => true,
            Self::Prefix(upto) => seq <= upto,
            Self::Subset(salt) => Rng::new(salt ^ seq).chance(1, 2),
        }
    }
}

/// A file's bytes in all their possible states.
#[derive(Clone, Debug, Default)]
pub(super) struct FileContent {
    pages: BTreeMap<u64, Page>,
    dirty: BTreeSet<u64>,
    bytes: u64,
    bytes_durable: u64,
    /// Lengths that unsynced writes gave the file, with their sequence numbers.
    lengths: Vec<(u64, u64)>,
}

impl FileContent {
    /// A file whose bytes are durable.
    pub(super) fn durable(data: &[u8]) -> Self {
        let mut content = Self::default();
        content.write_durable(0, data);
        content
    }
    /// Length as programs see it.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
    /// Reads what programs see; fewer bytes than asked for only at the end of the file.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let available = self.bytes.saturating_sub(offset);
        let count = usize::try_from(available).unwrap_or(usize::MAX).min(buf.len());
        let mut done = 0;
        while done < count {
            let (page, start) = locate(offset + done as u64);
            let step = (PAGE_BYTES - start).min(count - done);
            let target = &mut buf[done..done + step];
            match self.pages.get(&page).and_then(|page| page.visible.as_deref()) {
                Some(bytes) => target.copy_from_slice(&bytes[start..start + step]),
                None => target.fill(0),
            }
            done += step;
        }
        count
    }
    /// A completed write that nothing has made durable. `seq` must not be below that of an earlier write.
    pub(super) fn write(&mut self, seq: u64, offset: u64, data: &[u8]) {
        self.write_pages(seq, offset, data, false);
    }
    /// A write that failed under a durability request: visible, and no later sync brings it to the disk.
    pub(super) fn write_dropped(&mut self, seq: u64, offset: u64, data: &[u8]) {
        self.write_pages(seq, offset, data, true);
    }
    /// A completed write whose own bytes, and no others, are on stable storage.
    pub(super) fn write_durable(&mut self, offset: u64, data: &[u8]) {
        for piece in pieces(offset, data) {
            if !self.is_needed(&piece) {
                continue;
            }
            let covered = sectors_covered(piece.start, piece.data.len());
            let page = self.pages.entry(piece.page).or_default();
            page.durable = overlay(&page.durable, &piece);
            page.visible = overlay(&page.visible, &piece);
            for version in &mut page.versions {
                version.bytes = overlay(&version.bytes, &piece);
                version.sectors &= !covered;
            }
            page.versions.retain(|version| version.sectors != 0);
            if page.versions.is_empty() {
                self.dirty.remove(&piece.page);
            }
        }
        let end = offset + data.len() as u64;
        self.bytes = self.bytes.max(end);
        self.bytes_durable = self.bytes_durable.max(end);
        self.lengths.retain(|(_, bytes)| *bytes > end);
    }
    /// Makes durable what was written with a sequence number of at most `upto`.
    pub(super) fn sync(&mut self, upto: u64) {
        let pages = &mut self.pages;
        self.dirty.retain(|number| {
            let Some(page) = pages.get_mut(number) else { return false };
            page.sync(upto);
            let (dirty, empty) = (!page.versions.is_empty(), page.is_zeros());
            if empty {
                pages.remove(number);
            }
            dirty
        });
        let synced = self.lengths.iter().filter(|(seq, _)| *seq <= upto).map(|(_, bytes)| *bytes).max();
        self.bytes_durable = self.bytes_durable.max(synced.unwrap_or(0));
        self.lengths.retain(|(seq, _)| *seq > upto);
    }
    /// A sync that failed: some pages reached the disk, some never will though they look clean, some stay dirty.
    pub(super) fn sync_failed(&mut self, upto: u64, rng: &mut Rng) {
        for number in &self.dirty {
            let Some(page) = self.pages.get_mut(number) else { continue };
            match rng.below(4) {
                0 => page.sync(upto),
                1 => {}
                _ => {
                    for version in page.versions.iter_mut().filter(|version| version.seq <= upto) {
                        version.dropped = true;
                    }
                }
            }
        }
        let pages = &self.pages;
        self.dirty.retain(|number| pages.get(number).is_some_and(|page| !page.versions.is_empty()));
    }
    /// A write that was under way when the machine stopped: nothing, all, a prefix or any sectors of it.
    pub(super) fn tear(&mut self, seq: u64, offset: u64, data: &[u8], rng: &mut Rng) {
        let fate = rng.below(4);
        let cut = rng.index(data.len().max(1));
        for (start, sector) in sectors_of(offset, data) {
            let keep = match fate {
                0 => false,
                1 => true,
                2 => start < cut,
                _ => rng.chance(1, 2),
            };
            if keep {
                self.write(seq, offset + start as u64, sector);
            }
        }
    }
    /// Turns the file into one of the states that a power cut can leave, all of it durable.
    pub(super) fn crash(&mut self, may_tear: bool, rng: &mut Rng) {
        if self.dirty.is_empty() && self.lengths.is_empty() {
            return;
        }
        let fate = self.draw_fate(may_tear, rng);
        for number in std::mem::take(&mut self.dirty) {
            let Some(mut page) = self.pages.remove(&number) else { continue };
            page.crash(fate, rng);
            if !page.is_zeros() {
                self.pages.insert(number, page);
            }
        }
        // The length is metadata of its own: it may survive where the bytes do not, and the other way round.
        let fate = if rng.chance(1, 2) { fate } else { self.draw_fate(may_tear, rng) };
        let bytes = self.length_after_crash(fate, rng);
        self.lengths.clear();
        self.cut_to(bytes);
    }
    /// Changes one bit on the disk and in what programs see, as a failing medium would. Beyond the end: nothing.
    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) {
        let mut byte = [0];
        if self.read(offset, &mut byte) == 1 {
            self.write_durable(offset, &[byte[0] ^ (1 << (bit % 8))]);
        }
    }

    fn write_pages(&mut self, seq: u64, offset: u64, data: &[u8], dropped: bool) {
        for piece in pieces(offset, data) {
            if !self.is_needed(&piece) {
                continue;
            }
            let sectors = sectors_touched(piece.start, piece.data.len());
            let page = self.pages.entry(piece.page).or_default();
            let bytes = overlay(&page.visible, &piece);
            page.visible = bytes.clone();
            page.versions.push(Version { seq, sectors, dropped, bytes });
            if page.versions.len() > VERSIONS_MAX {
                let oldest = page.versions.iter().find(|version| !version.dropped).map(|version| version.seq);
                page.sync(oldest.unwrap_or(0));
            }
            if !page.versions.is_empty() {
                self.dirty.insert(piece.page);
            }
        }
        let end = offset + data.len() as u64;
        if end > self.bytes {
            self.bytes = end;
            self.lengths.push((seq, end));
        }
    }
    /// Zeros over a page that never held anything else need no memory: every state of it reads as zeros.
    fn is_needed(&self, piece: &Piece<'_>) -> bool {
        self.pages.contains_key(&piece.page) || piece.data != &ZEROS[..piece.data.len()]
    }
    fn draw_fate(&self, may_tear: bool, rng: &mut Rng) -> Fate {
        match rng.below(if may_tear { 6 } else { 4 }) {
            0 => Fate::AllLost,
            1 => Fate::AllKept,
            2 => Fate::Subset(rng.next_u64()),
            3 => {
                let versions = self
                    .dirty
                    .iter()
                    .filter_map(|number| self.pages.get(number))
                    .flat_map(|page| &page.versions);
                let seqs =
                    versions.map(|version| version.seq).chain(self.lengths.iter().map(|(seq, _)| *seq));
                let (low, high) = seqs.fold((u64::MAX, 0), |(low, high), seq| (low.min(seq), high.max(seq)));
                Fate::Prefix(low + rng.below(high.saturating_sub(low) + 1))
            }
            _ => Fate::Torn,
        }
    }
    fn length_after_crash(&self, fate: Fate, rng: &mut Rng) -> u64 {
        let mut candidates = self.lengths.iter().filter(|(seq, _)| fate.keeps(*seq)).map(|(_, bytes)| *bytes);
        let kept = match fate {
            Fate::Torn => self.lengths.get(rng.index(self.lengths.len() + 1)).map(|(_, bytes)| *bytes),
            _ => candidates.next_back(),
        };
        kept.unwrap_or(0).max(self.bytes_durable)
    }
    fn cut_to(&mut self, bytes: u64) {
        self.bytes = bytes;
        self.bytes_durable = bytes;
        let (last, start) = locate(bytes);
        drop(self.pages.split_off(&if start == 0 { last } else { last + 1 }));
        if let Some(page) = self.pages.get_mut(&last) {
            let tail = Piece { page: last, start, data: &ZEROS[start..] };
            page.durable = overlay(&page.durable, &tail);
            page.visible = page.durable.clone();
        }
    }
}

impl Page {
    fn is_zeros(&self) -> bool {
        self.versions.is_empty() && self.durable.is_none() && self.visible.is_none()
    }
    fn sync(&mut self, upto: u64) {
        for index in 0..self.versions.len() {
            let (earlier, rest) = self.versions.split_at_mut(index);
            let Some(version) = rest.first_mut() else { break };
            if version.seq > upto || version.dropped {
                continue;
            }
            self.durable = with_sectors(&self.durable, &version.bytes, version.sectors);
            for older in earlier {
                older.sectors &= !version.sectors;
            }
            version.sectors = 0;
        }
        self.versions.retain(|version| version.sectors != 0);
    }
    fn crash(&mut self, fate: Fate, rng: &mut Rng) {
        let mut after = self.durable.clone();
        if fate == Fate::Torn {
            for sector in 0..SECTORS_PER_PAGE {
                let touching = self.versions.iter().filter(|version| version.sectors & (1 << sector) != 0);
                let nth = rng.index(touching.clone().count() + 1);
                if let Some(version) = nth.checked_sub(1).and_then(|nth| touching.clone().nth(nth)) {
                    after = with_sectors(&after, &version.bytes, 1 << sector);
                }
            }
        } else {
            for version in self.versions.iter().filter(|version| fate.keeps(version.seq)) {
                after = with_sectors(&after, &version.bytes, version.sectors);
            }
        }
        self.versions.clear();
        self.visible = after.clone();
        self.durable = after;
    }
}

/// Page number and position within the page.
fn locate(offset: u64) -> (u64, usize) {
    let start = usize::try_from(offset % PAGE_BYTES as u64).expect("a remainder of the page size fits");
    (offset / PAGE_BYTES as u64, start)
}

fn pieces(offset: u64, data: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let (page, start) = locate(offset + done as u64);
        let step = (PAGE_BYTES - start).min(data.len() - done);
        let piece = Piece { page, start, data: &data[done..done + step] };
        done += step;
        (step > 0).then_some(piece)
    })
}

/// The parts of a write that lie in one sector each, with their positions in `data`.
fn sectors_of(offset: u64, data: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let start = done;
        let within = locate(offset + start as u64).1 % SECTOR_BYTES;
        done = data.len().min(start + SECTOR_BYTES - within);
        (done > start).then(|| (start, &data[start..done]))
    })
}

/// Sectors of which at least one byte lies in the piece.
fn sectors_touched(start: usize, len: usize) -> u8 {
    sector_bits(start / SECTOR_BYTES, (start + len).div_ceil(SECTOR_BYTES))
}
/// Sectors of which every byte lies in the piece.
fn sectors_covered(start: usize, len: usize) -> u8 {
    sector_bits(start.div_ceil(SECTOR_BYTES), (start + len) / SECTOR_BYTES)
}
fn sector_bits(first: usize, end: usize) -> u8 {
    (first..end).fold(0, |bits, sector| bits | 1 << sector)
}

/// The page with the piece's bytes in place.
fn overlay(base: &PageBytes, piece: &Piece<'_>) -> PageBytes {
    let whole = piece.data.len() == PAGE_BYTES;
    if piece.data == &ZEROS[..piece.data.len()] && (whole || base.is_none()) {
        return None;
    }
    if whole {
        return Some(Arc::from(piece.data));
    }
    let mut bytes = base.clone().unwrap_or_else(|| Arc::from(&ZEROS[..]));
    Arc::make_mut(&mut bytes)[piece.start..piece.start + piece.data.len()].copy_from_slice(piece.data);
    Some(bytes)
}

/// `base` with the given sectors of `from`.
fn with_sectors(base: &PageBytes, from: &PageBytes, sectors: u8) -> PageBytes {
    if sectors == u8::MAX || (base.is_none() && from.is_none()) {
        return from.clone();
    }
    let mut bytes = base.clone().unwrap_or_else(|| Arc::from(&ZEROS[..]));
    let source = from.as_deref().unwrap_or(&ZEROS);
    let target = Arc::make_mut(&mut bytes);
    for sector in (0..SECTORS_PER_PAGE).filter(|sector| sectors & (1 << sector) != 0) {
        let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
        target[range.clone()].copy_from_slice(&source[range]);
    }
    Some(bytes)
}
