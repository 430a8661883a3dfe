//! The manifest on disk: appends frames, and swaps in a new file when the old one has grown or failed.
//!
//! Order of a swap: new file written and synced → its directory synced → `CURRENT.next` written and synced → renamed
//! over `CURRENT` → the data directory synced → older manifests removed. A crash anywhere leaves a `CURRENT` that
//! names a whole manifest.
//!
//! After a failed append the file is never written again: what the kernel kept of it is unknown, and a frame behind a
//! hole must not become valid. The same edits then go into a new manifest's snapshot, under a number of its own, for a
//! failed swap may have left its name in `CURRENT`.

use super::error::JobError;
use super::options::MANIFEST_GROWTH_BYTES_DEFAULT;
use crate::io::Files;
use crate::model::FileRef;
use crate::storage::manifest::names::{CURRENT, CURRENT_NEXT, MANIFEST_DIR, manifest_path};
use crate::storage::manifest::{Current, Edit, LogEncoder, State};
use crate::teeth::{Bug, planted};
use std::path::Path;
use std::sync::Arc;

/// The manifest that `CURRENT` names, ready for more edits.
pub(super) struct ManifestLog {
    files: Arc<dyn Files>,
    encoder: LogEncoder,
    file: FileRef,
    snapshot_end: u64,
    /// An append failed: only a new manifest helps.
    broken: bool,
    /// The number of the next new manifest.
    next_number: u64,
    /// Manifests that `CURRENT` does not name for certain, to be removed.
    stale: Vec<u64>,
    growth_bytes_min: u64,
}

impl ManifestLog {
    /// Writes manifest `number` with `state` and makes it the store's. Numbers are never reused; `stale` are older
    /// ones that can go afterwards.
    ///
    /// # Errors
    /// When the machine refuses; the store is then as before.
    pub(super) fn create(
        files: Arc<dyn Files>,
        number: u64,
        state: &State,
        stale: Vec<u64>,
    ) -> Result<Self, JobError> {
        let (encoder, file) = write_manifest(&*files, number, state)?;
        make_current(&*files, Current { store: state.store, manifest: number })?;
        let snapshot_end = encoder.end();
        let mut log = Self {
            files,
            encoder,
            file,
            snapshot_end,
            broken: false,
            next_number: number + 1,
            stale,
            growth_bytes_min: MANIFEST_GROWTH_BYTES_DEFAULT,
        };
        log.remove_stale();
        Ok(log)
    }

    /// Makes `edits` durable. `next` is the state with them applied: what a new manifest would start with.
    ///
    /// # Errors
    /// When neither an append nor a new manifest succeeds. The edits may or may not survive a crash then: the caller
    /// keeps them and calls again.
    pub(super) fn commit(&mut self, edits: &[Edit], next: &State) -> Result<(), JobError> {
        let edited = self.encoder.end() - self.snapshot_end;
        let grown = edited > self.growth_bytes_min.max(2 * self.snapshot_end);
        if !self.broken && !grown && self.append(edits).is_ok() {
            return Ok(());
        }
        if planted(Bug::ReuseManifestAfterFailedAppend) && !grown {
            return self.append(edits);
        }
        self.swap(next)
    }

    /// The number of the manifest that is written.
    #[must_use]
    pub(super) fn number(&self) -> u64 {
        self.encoder.number()
    }

    /// Makes the last mark durable too, so that damage to the last frame is told from a torn one. For shutdown; a
    /// failure costs only that.
    pub(super) fn settle(&mut self) {
        if !self.broken && self.files.sync(&self.file).is_err() {
            self.broken = true;
        }
    }

    /// Lets the file be rewritten when its edits take this many bytes more than twice its snapshot.
    pub(super) fn set_growth_bytes_min(&mut self, bytes: u64) {
        self.growth_bytes_min = bytes;
    }

    fn append(&mut self, edits: &[Edit]) -> Result<(), JobError> {
        // Broken until proven otherwise: every early return leaves it so.
        self.broken = true;
        let path = manifest_path(self.number());
        let offset = self.encoder.end();
        let frame = self.encoder.frame(edits);
        self.files.write_all_at(&self.file, &frame, offset).map_err(JobError::io("writing", &path))?;
        self.files.sync(&self.file).map_err(JobError::io("syncing", &path))?;
        let offset = self.encoder.end();
        let mark = self.encoder.mark_durable();
        // The edits are durable; without its mark the file is merely not appended to again.
        self.broken = self.files.write_all_at(&self.file, &mark, offset).is_err();
        Ok(())
    }

    fn swap(&mut self, next: &State) -> Result<(), JobError> {
        // A swap that fails halfway may have put the new name into CURRENT: the old file must not grow any more.
        self.broken = true;
        let number = self.next_number;
        self.next_number += 1;
        self.stale.push(number);
        let (encoder, file) = write_manifest(&*self.files, number, next)?;
        make_current(&*self.files, Current { store: next.store, manifest: number })?;
        self.stale.pop();
        self.stale.push(self.encoder.number());
        self.snapshot_end = encoder.end();
        (self.encoder, self.file, self.broken) = (encoder, file, false);
        self.remove_stale();
        Ok(())
    }

    /// What cannot be removed now is removed by the next open.
    fn remove_stale(&mut self) {
        for number in self.stale.drain(..) {
            let _ = self.files.remove(&manifest_path(number));
        }
    }
}

/// Writes a whole manifest, which nobody names yet.
pub(super) fn write_manifest(
    files: &dyn Files,
    number: u64,
    state: &State,
) -> Result<(LogEncoder, FileRef), JobError> {
    let path = manifest_path(number);
    let (encoder, bytes) = LogEncoder::start(number, state);
    let file = files.create(&path).map_err(JobError::io("creating", &path))?;
    files.write_all_at(&file, &bytes, 0).map_err(JobError::io("writing", &path))?;
    files.sync(&file).map_err(JobError::io("syncing", &path))?;
    let directory = Path::new(MANIFEST_DIR);
    files.sync_dir(directory).map_err(JobError::io("syncing", directory))?;
    Ok((encoder, file))
}

/// Puts a manifest in force.
pub(super) fn make_current(files: &dyn Files, current: Current) -> Result<(), JobError> {
    let (next, root) = (Path::new(CURRENT_NEXT), Path::new(""));
    match files.remove(next) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(JobError::io("removing", next)(error));
        }
        _ => {}
    }
    let file = files.create(next).map_err(JobError::io("creating", next))?;
    files.write_all_at(&file, &current.encode(), 0).map_err(JobError::io("writing", next))?;
    files.sync(&file).map_err(JobError::io("syncing", next))?;
    files.rename(next, Path::new(CURRENT)).map_err(JobError::io("renaming", next))?;
    if planted(Bug::SkipDirSyncAfterRename) {
        return Ok(());
    }
    files.sync_dir(root).map_err(JobError::io("syncing", root))
}
