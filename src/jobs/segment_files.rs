//! WAL segment files: made of zeros, or out of a retired one.
//!
//! A file is written in full and synced before it is listed, so that a WAL write later changes neither its length nor
//! its extents and one device write makes it durable.

use super::error::JobError;
use crate::io::Files;
use crate::model::{FileRef, SegmentSeq};
use crate::storage::manifest::names::{WAL_DIR, segment_path};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Zeros are written in pieces of this size.
const PIECE_BYTES: u64 = 1 << 20;
/// And synced this often: a sync of a whole segment would hold up the WAL syncs of the same file system.
const SYNC_BYTES: u64 = 8 << 20;

/// Writes a new segment file of zeros and opens it for the stream; says whether O_DIRECT is in force.
/// A segment half made is given up when `stop` is set.
pub(super) fn make_segment(
    files: &dyn Files,
    seq: SegmentSeq,
    bytes: u64,
    stop: &AtomicBool,
) -> Result<(FileRef, bool), JobError> {
    let path = segment_path(seq);
    let made = write_zeros(files, &path, bytes, stop).and_then(|()| publish(files, &path));
    if made.is_err() {
        // Nobody names it: what cannot be removed now is collected by the next open.
        let _ = files.remove(&path);
    }
    made
}

/// Gives a retired segment's file a new life under a new number. What it holds is told apart by number and salt.
pub(super) fn recycle_segment(
    files: &dyn Files,
    retired: SegmentSeq,
    seq: SegmentSeq,
) -> Result<(FileRef, bool), JobError> {
    let (from, to) = (segment_path(retired), segment_path(seq));
    files.rename(&from, &to).map_err(JobError::io("renaming", &from))?;
    publish(files, &to)
}

fn write_zeros(files: &dyn Files, path: &Path, bytes: u64, stop: &AtomicBool) -> Result<(), JobError> {
    let file = files.create(path).map_err(JobError::io("creating", path))?;
    let zeros = vec![0; usize::try_from(PIECE_BYTES.min(bytes)).unwrap_or(usize::MAX)];
    let mut offset = 0;
    while offset < bytes {
        if stop.load(Ordering::Relaxed) {
            return Err(JobError::Stopped);
        }
        let piece = zeros.get(..usize::try_from(bytes - offset).unwrap_or(usize::MAX)).unwrap_or(&zeros);
        files.write_all_at(&file, piece, offset).map_err(JobError::io("writing", path))?;
        offset += piece.len() as u64;
        if offset.is_multiple_of(SYNC_BYTES) || offset == bytes {
            files.sync(&file).map_err(JobError::io("syncing", path))?;
        }
    }
    Ok(())
}

fn publish(files: &dyn Files, path: &Path) -> Result<(FileRef, bool), JobError> {
    files.sync_dir(Path::new(WAL_DIR)).map_err(JobError::io("syncing", WAL_DIR))?;
    files.open_for_wal(path).map_err(JobError::io("opening", path))
}
