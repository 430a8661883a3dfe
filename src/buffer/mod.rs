//! Memory that the kernel may hold: buffers aligned for O_DIRECT; canaries in those that it must no longer hold.
#![expect(unsafe_code, reason = "aligned memory comes from the allocator's raw interface")]

#[cfg(any(debug_assertions, tskv_teeth))]
pub mod quarantine;

use crate::limits::PAGE_BYTES;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// A byte buffer whose address is a multiple of [`PAGE_BYTES`] and whose capacity is too. It never moves its bytes:
/// the kernel may write into it while an operation owns it.
pub struct AlignedBuf {
    start: NonNull<u8>,
    capacity: usize,
    len: usize,
}

// SAFETY: the buffer owns its memory; nothing else points into it while this value is reachable.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared access only reads.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// Zeroed memory for at least `capacity` bytes; the length is 0.
    ///
    /// # Panics
    /// When `capacity` is 0.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        assert!(capacity > 0, "an aligned buffer holds at least a page");
        let capacity = capacity.next_multiple_of(PAGE_BYTES);
        let layout = Self::layout(capacity);
        // SAFETY: the layout's size is not zero: asserted above.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, capacity, len: 0 }
    }
    /// A buffer of `len` zero bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let mut buf = Self::with_capacity(len.max(1));
        buf.len = len;
        buf
    }
    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, PAGE_BYTES).expect("capacity is below isize::MAX")
    }
    /// Bytes that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }
    /// Sets the length; bytes that come in are whatever an earlier use left there, never uninitialised memory.
    ///
    /// # Panics
    /// When `len` exceeds the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity, "length {len} exceeds capacity {}", self.capacity);
        self.len = len;
    }
    /// Address of the first byte, for the kernel.
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `start` points at `capacity` initialised bytes that this value owns; `len <= capacity` by `set_len`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}
impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}
impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: `start` came from the allocator with this layout and is freed only here.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.capacity)) }
    }
}
impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} of {} bytes)", self.len, self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_zeroed() {
        // O_DIRECT refuses other addresses; old heap bytes on disk would be a leak.
        for len in [1, PAGE_BYTES, PAGE_BYTES + 1, 300_000] {
            let mut buf = AlignedBuf::zeroed(len);
            assert_eq!(buf.as_mut_ptr().addr() % PAGE_BYTES, 0);
            assert_eq!(buf.capacity() % PAGE_BYTES, 0);
            assert!(buf.len() == len && buf.iter().all(|byte| *byte == 0));
        }
    }
}
