//! How much a decoder allocates: an allocator that counts per thread, and a bound on what it counted.
#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What any decoder may allocate for the smallest input: error texts, first capacities.
const CONSTANT_BYTES: usize = 64 << 10;

/// The system's allocator, with a count of what this thread holds and held at most.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn note(change: isize) {
    // A thread that ends frees after its locals are gone; nobody asks any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: as the system's allocator, which gets the same arguments.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size().cast_signed());
        // SAFETY: the caller keeps the conditions of `alloc`.
        unsafe { System.alloc(layout) }
    }
    // SAFETY: as the system's allocator, which gets the same arguments.
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        note(-layout.size().cast_signed());
        // SAFETY: the caller keeps the conditions of `dealloc`.
        unsafe { System.dealloc(start, layout) }
    }
    // SAFETY: as the system's allocator, which gets the same arguments.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size().cast_signed());
        // SAFETY: the caller keeps the conditions of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }
    // SAFETY: as the system's allocator, which gets the same arguments.
    unsafe fn realloc(&self, start: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Both blocks exist while the bytes are moved.
        note(new_size.cast_signed());
        note(-layout.size().cast_signed());
        // SAFETY: the caller keeps the conditions of `realloc`.
        unsafe { System.realloc(start, layout, new_size) }
    }
}

/// Runs `decode`, which reads `input_bytes`, and asserts that it never held more than `factor` times as much and a
/// constant.
///
/// # Panics
/// When it did, or when the counting allocator is not the program's.
pub(crate) fn bounded<T>(input_bytes: usize, factor: usize, decode: impl FnOnce() -> T) -> T {
    let before = HELD.get();
    PEAK.set(before);
    let result = decode();
    let held = usize::try_from(PEAK.get() - before).unwrap_or(0);
    let allowed = factor * input_bytes + CONSTANT_BYTES;
    assert!(
        held <= allowed,
        "{input_bytes} bytes of input made a decoder hold {held}, allowed are {allowed}"
    );
    result
}

/// Asserts that a growing vector is seen: without it every bound above holds.
#[allow(dead_code, reason = "the runner of `cargo test` asks")]
pub(crate) fn is_counting() -> bool {
    let before = HELD.get();
    let held = std::hint::black_box(vec![1u8; 100_000]);
    HELD.get() - before >= held.len().cast_signed()
}
