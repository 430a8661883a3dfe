//! Canaries: what shows that somebody writes to memory that was given back (RELIABILITY R11). The usual somebody is the
//! kernel, to which a buffer was lent; no sanitizer sees its writes.
//!
//! An allocator that fills what is freed with a pattern and keeps it for a while before the system gets it back. When
//! its time is over, and now and then before, the pattern must be whole. If it is not, the process aborts with a
//! sentence: going on would be going on with somebody else's bytes.
//!
//! The program and the contract suite of the backends use it in builds with debug assertions. Invariants: at most
//! [`PLACES`] blocks of at most [`WATCHED_BYTES_MAX`] are kept; nothing here allocates.
#![expect(unsafe_code, reason = "an allocator is an unsafe trait, and it reads what was freed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::io::Write;
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

/// What freed memory is filled with.
pub const CANARY: u8 = 0xA5;
/// Blocks that are kept.
pub const PLACES: usize = 64;
/// Largest block that is watched: larger ones are rare, and filling them takes time.
pub const WATCHED_BYTES_MAX: usize = 128 << 10;
/// Buffers that the kernel gets are no smaller.
const WATCHED_BYTES: RangeInclusive<usize> = 512..=WATCHED_BYTES_MAX;
/// Longest report.
const REPORT_BYTES_MAX: usize = 160;

/// The system's allocator with a quarantine: make it the `#[global_allocator]`.
#[derive(Debug)]
pub struct CanaryAllocator;

/// A freed block: filled with [`CANARY`], still the allocator's.
#[derive(Clone, Copy, Debug)]
struct Freed {
    start: *mut u8,
    layout: Layout,
}

// SAFETY: whoever holds the value owns the block; the pointer says nothing about threads.
unsafe impl Send for Freed {}

/// Memory that was changed after it was freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenCanary {
    /// Length of the block.
    pub block_bytes: usize,
    /// First byte that is not the canary.
    pub offset: usize,
    /// What is there.
    pub found: u8,
}

impl fmt::Display for BrokenCanary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { block_bytes, offset, found } = self;
        write!(
            f,
            "a block of {block_bytes} bytes was written to after it was freed: byte {offset} is {found:#04x}"
        )
    }
}
impl std::error::Error for BrokenCanary {}

impl Freed {
    fn check(&self) -> Result<(), BrokenCanary> {
        // SAFETY: the quarantine owns the block, which `Quarantine::keep` filled; that somebody may write to it at the
        // same time is what this looks for, and any byte is a valid one.
        let bytes = unsafe { std::slice::from_raw_parts(self.start, self.layout.size()) };
        match bytes.iter().position(|byte| *byte != CANARY) {
            None => Ok(()),
            Some(offset) => Err(BrokenCanary { block_bytes: bytes.len(), offset, found: bytes[offset] }),
        }
    }
}

/// The blocks that wait, as a ring.
struct Quarantine {
    places: [Option<Freed>; PLACES],
    /// The oldest.
    next: usize,
}

static QUARANTINE: Mutex<Quarantine> = Mutex::new(Quarantine { places: [None; PLACES], next: 0 });

impl Quarantine {
    /// Takes a block in; gives the one whose time is over, checked, and checks another.
    fn keep(&mut self, freed: Freed) -> Result<Option<Freed>, BrokenCanary> {
        let oldest = self.places[self.next].replace(freed);
        self.next = (self.next + 1) % PLACES;
        // Half a ring away, so that each block is looked at in the middle of its time too.
        if let Some(middle) = &self.places[(self.next + PLACES / 2) % PLACES] {
            middle.check()?;
        }
        oldest.as_ref().map_or(Ok(()), Freed::check)?;
        Ok(oldest)
    }
}

/// Looks at every block that is in quarantine.
///
/// # Errors
/// The first one that was changed.
pub fn check_quarantine() -> Result<(), BrokenCanary> {
    let quarantine = QUARANTINE.lock().unwrap_or_else(PoisonError::into_inner);
    quarantine.places.iter().flatten().try_for_each(Freed::check)
}

/// Says what is broken and ends the process. Formats without allocating: the allocator is the one that complains.
fn abort(broken: BrokenCanary) -> ! {
    let mut report = [0; REPORT_BYTES_MAX];
    let mut rest = report.as_mut_slice();
    let _ = writeln!(rest, "tskv: {broken}");
    let left = rest.len();
    let _ = std::io::stderr().write_all(&report[..REPORT_BYTES_MAX - left]);
    std::process::abort()
}

// SAFETY: blocks come from the system's allocator with the caller's layout and go back to it with the same one, once:
// at once, or when they leave the quarantine.
unsafe impl GlobalAlloc for CanaryAllocator {
    // SAFETY: as the system's allocator, which gets the same arguments.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the conditions of `alloc`.
        unsafe { System.alloc(layout) }
    }
    // SAFETY: as the system's allocator, which gets the same arguments.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the conditions of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }
    // SAFETY: the caller gives the block up, as to the system's allocator.
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        let mut leaves = Some(Freed { start, layout });
        if WATCHED_BYTES.contains(&layout.size()) {
            // SAFETY: the caller gave up a block of this length.
            unsafe { start.write_bytes(CANARY, layout.size()) };
            let mut quarantine = QUARANTINE.lock().unwrap_or_else(PoisonError::into_inner);
            leaves = quarantine.keep(Freed { start, layout }).unwrap_or_else(|broken| abort(broken));
        }
        if let Some(Freed { start, layout }) = leaves {
            // SAFETY: the block came from the system with this layout; it is the caller's, or left the quarantine.
            unsafe { System.dealloc(start, layout) }
        }
    }
    // `realloc` keeps its default, which goes through `alloc` and `dealloc`: what is left behind is watched too.
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_to_freed_memory_is_seen_and_reads_are_not() {
        // The kernel would fill somebody else's buffer, and nobody would know who did it.
        let layout = Layout::from_size_align(4096, 8).unwrap();
        // SAFETY: the layout is not empty.
        let start = unsafe { CanaryAllocator.alloc(layout) };
        // SAFETY: the block is this test's, and given up here.
        unsafe { CanaryAllocator.dealloc(start, layout) };
        assert_eq!(check_quarantine(), Ok(()));
        let last = start.wrapping_add(4095);
        // SAFETY: the quarantine keeps the block: fewer blocks are freed after it than there are places.
        unsafe { last.write(7) };
        assert_eq!(check_quarantine(), Err(BrokenCanary { block_bytes: 4096, offset: 4095, found: 7 }));
        // SAFETY: as above.
        unsafe { last.write(CANARY) };
        assert_eq!(check_quarantine(), Ok(()));
    }
}
