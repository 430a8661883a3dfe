//! Bugs planted on purpose, so that tests can show that they would be caught. A normal build has none of this: the
//! question [`planted`] is answered `false` at compile time.
//!
//! In unit tests a bug is in force for the thread that calls `plant`, since tests run side by side. A build with
//! `--cfg tskv_teeth` puts the one that the environment variable `TSKV_TEETH` names in force, for the whole process;
//! `scripts/teeth.sh` goes through all of them.

/// A mistake that some test must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A log write that must be durable is issued as one that need not be.
    SkipWalSync,
    /// `CURRENT` is renamed into place, and the directory not synced.
    SkipDirSyncAfterRename,
    /// Replies leave when their write is staged.
    AckBeforeSync,
    /// Frames do not carry the number and salt of their segment, so those of a file's former life pass.
    CrcWithoutSegmentId,
    /// A log write or sync that failed is issued again, as if it had not happened.
    RetrySyncAfterEio,
    /// After a failed append the same manifest is appended to.
    ReuseManifestAfterFailedAppend,
    /// A cancelled operation gives its buffer back at once, while the kernel still has it.
    FreeBufferAtCancel,
    /// A log write that transferred a part counts as done.
    IgnoreShortWrite,
    /// Merges drop deletes without asking what older entries they still hide: above the horizon, and whatever tables
    /// outside of the merge hold.
    TombstoneAboveHorizon,
    /// The next segment is begun before the sealed one is synced.
    SealWithoutSync,
    /// Retention follows the wall clock wherever it leaps.
    BelieveEveryClock,
    /// A retention that was lengthened forgets what it has hidden.
    ForgetCutoff,
    /// A table is dropped for its age as soon as its first sample is too old.
    DropTooEarly,
    /// A scan of buckets takes the statistics of a chunk that other chunks or deletes reach into.
    StatisticsDespiteOthers,
    /// A scan for the newest of each series takes the first sample that it meets.
    FirstForNewest,
    /// A range of keys is handed over, and its new route used, while requests by the old one are still on their way.
    RouteWithoutFence,
    /// A shard goes on with its own seqnos, whatever it takes over and whatever messages carry.
    SkipSeqnoRaise,
    /// A shard reads what its memtables and tables hold of keys that it does not own.
    ReadOutsideClip,
    /// A range of keys is handed over before the log that holds its writes is durable.
    HandOverWithoutSync,
    /// Values that were read are remembered beyond the next write.
    RememberForEver,
}

/// Whether the bug is in force.
#[cfg(not(any(test, tskv_teeth)))]
#[inline(always)]
pub(crate) fn planted(_bug: Bug) -> bool {
    false
}

/// Whether the bug is in force.
#[cfg(any(test, tskv_teeth))]
pub(crate) fn planted(bug: Bug) -> bool {
    by_test(bug) || by_environment(bug)
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Puts a bug in force, or none, for the calling thread.
#[cfg(test)]
pub(crate) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// The bug in force for the calling thread, which hands it on to threads that it starts.
#[cfg(test)]
pub(crate) fn planted_here() -> Option<Bug> {
    PLANTED.get()
}

#[cfg(test)]
fn by_test(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
#[cfg(all(tskv_teeth, not(test)))]
fn by_test(_bug: Bug) -> bool {
    false
}

#[cfg(all(test, not(tskv_teeth)))]
fn by_environment(_bug: Bug) -> bool {
    false
}

/// What `TSKV_TEETH` may say.
#[cfg(tskv_teeth)]
const NAMES: [(&str, Bug); 20] = [
    ("skip-wal-sync", Bug::SkipWalSync),
    ("skip-dir-sync-after-rename", Bug::SkipDirSyncAfterRename),
    ("ack-before-sync", Bug::AckBeforeSync),
    ("crc-without-segment-id", Bug::CrcWithoutSegmentId),
    ("retry-sync-after-eio", Bug::RetrySyncAfterEio),
    ("reuse-manifest-after-failed-append", Bug::ReuseManifestAfterFailedAppend),
    ("free-buffer-at-cancel", Bug::FreeBufferAtCancel),
    ("ignore-short-write", Bug::IgnoreShortWrite),
    ("tombstone-above-horizon", Bug::TombstoneAboveHorizon),
    ("seal-without-sync", Bug::SealWithoutSync),
    ("believe-every-clock", Bug::BelieveEveryClock),
    ("forget-cutoff", Bug::ForgetCutoff),
    ("drop-too-early", Bug::DropTooEarly),
    ("statistics-despite-others", Bug::StatisticsDespiteOthers),
    ("first-for-newest", Bug::FirstForNewest),
    ("route-without-fence", Bug::RouteWithoutFence),
    ("skip-seqno-raise", Bug::SkipSeqnoRaise),
    ("read-outside-clip", Bug::ReadOutsideClip),
    ("hand-over-without-sync", Bug::HandOverWithoutSync),
    ("remember-for-ever", Bug::RememberForEver),
];

#[cfg(tskv_teeth)]
fn by_environment(bug: Bug) -> bool {
    static NAMED: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();
    let named = NAMED.get_or_init(|| {
        let name = std::env::var("TSKV_TEETH").ok().filter(|name| !name.is_empty())?;
        let known = NAMES.iter().find(|(known, _)| *known == name);
        Some(known.unwrap_or_else(|| panic!("TSKV_TEETH={name} names no planted bug")).1)
    });
    *named == Some(bug)
}
