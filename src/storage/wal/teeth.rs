//! Bugs planted on purpose, so that tests can show that they would be caught. A normal build has none of this: the
//! question [`planted`] is answered `false` at compile time.

/// A mistake that the power-cut tests must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PlantedBug {
    /// Under `always`, a write that is not durable counts as acknowledged.
    ReplyBeforeSync = 1,
    /// Frames do not carry the number and salt of their segment, so those of a file's former life pass.
    FrameWithoutIdentity = 2,
    /// The next segment is begun before the sealed one is synced.
    SealWithoutSync = 3,
}

#[cfg(not(any(test, tskv_teeth)))]
#[inline]
pub(super) fn planted(_bug: PlantedBug) -> bool {
    false
}

/// Whether the bug is in force.
#[cfg(test)]
pub(super) fn planted(bug: PlantedBug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Puts a bug in force, or none: for the calling thread, since tests run side by side.
#[cfg(test)]
pub(crate) fn plant(bug: Option<PlantedBug>) {
    PLANTED.set(bug);
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<PlantedBug>> = const { std::cell::Cell::new(None) };
}

/// Whether the bug is in force.
#[cfg(all(tskv_teeth, not(test)))]
pub(super) fn planted(bug: PlantedBug) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == bug as u8
}

/// Puts a bug in force, or none: for the whole process, since a simulated store spans threads.
#[cfg(all(tskv_teeth, not(test)))]
pub fn plant(bug: Option<PlantedBug>) {
    PLANTED.store(bug.map_or(0, |bug| bug as u8), std::sync::atomic::Ordering::Relaxed);
}

#[cfg(all(tskv_teeth, not(test)))]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
