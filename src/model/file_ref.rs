//! An open file as the loops and jobs hand it around.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// Names an open file. What the number means is known to the io layer that made it; the file stays open until the
/// last copy is dropped, so an operation under way can hold one.
#[derive(Clone)]
pub struct FileRef {
    handle: i32,
    keep_open: Arc<dyn Any + Send + Sync>,
}

impl FileRef {
    /// Wraps an open file; dropping `keep_open` closes it.
    #[must_use]
    pub fn new(handle: i32, keep_open: Arc<dyn Any + Send + Sync>) -> Self {
        Self { handle, keep_open }
    }
    /// The io layer's number for the file: a descriptor, or the simulated disk's handle.
    #[must_use]
    pub fn handle(&self) -> i32 {
        self.handle
    }
    /// How many copies of this reference exist.
    #[must_use]
    pub fn reference_count(&self) -> usize {
        Arc::strong_count(&self.keep_open)
    }
}

impl fmt::Debug for FileRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileRef({})", self.handle)
    }
}
