//! A bug planted on purpose, so that tests can show that it would be caught. A normal build has none of this: the
//! question [`deletes_go_early`] is answered `false` at compile time.

/// Whether merges drop deletes without asking what older entries they still hide: above the horizon, and whatever
/// tables outside of the merge hold.
#[cfg(not(any(test, tskv_teeth)))]
#[inline]
pub(crate) fn deletes_go_early() -> bool {
    false
}

/// See above. Asked on the thread that starts the merge.
#[cfg(test)]
pub(crate) fn deletes_go_early() -> bool {
    PLANTED.get()
}

/// Puts the bug in force or not: for the calling thread, since tests run side by side.
#[cfg(test)]
pub(crate) fn plant_deletes_go_early(planted: bool) {
    PLANTED.set(planted);
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// See above.
#[cfg(all(tskv_teeth, not(test)))]
pub(crate) fn deletes_go_early() -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed)
}

/// Puts the bug in force or not: for the whole process.
#[cfg(all(tskv_teeth, not(test)))]
pub fn plant_deletes_go_early(planted: bool) {
    PLANTED.store(planted, std::sync::atomic::Ordering::Relaxed);
}

#[cfg(all(tskv_teeth, not(test)))]
static PLANTED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
