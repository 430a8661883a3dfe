//! File transfers by system call.
#![expect(unsafe_code, reason = "preadv2(2) and pwritev2(2) with flags have no safe wrapper")]

use crate::io::Errno;
use crate::io::sys::check;
use crate::model::FileRef;

/// Reads what can be had without waiting; `EAGAIN` or `EOPNOTSUPP` where that is nothing.
pub(super) fn read_without_waiting(file: &FileRef, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
    read_flagged(file, buf, offset, libc::RWF_NOWAIT)
}

/// Reads, waiting for the device.
pub(super) fn read(file: &FileRef, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
    read_flagged(file, buf, offset, 0)
}

/// Writes; `durable` waits until the bytes are on stable storage.
pub(super) fn write(file: &FileRef, buf: &[u8], offset: u64, durable: bool) -> Result<usize, Errno> {
    let offset = kernel_offset(offset)?;
    let part = libc::iovec { iov_base: buf.as_ptr().cast_mut().cast(), iov_len: buf.len() };
    let flags = if durable { libc::RWF_DSYNC } else { 0 };
    // SAFETY: `part` names the bytes of `buf`, which is borrowed for the call and only read; `file` is open.
    check(unsafe { libc::pwritev2(file.handle(), &raw const part, 1, offset, flags) } as i64)
}

/// Makes the data of completed writes durable.
pub(super) fn sync(file: &FileRef) -> Result<(), Errno> {
    // SAFETY: takes a number only; `file` keeps the descriptor open.
    check(unsafe { libc::fdatasync(file.handle()) }.into()).map(drop)
}

fn read_flagged(file: &FileRef, buf: &mut [u8], offset: u64, flags: i32) -> Result<usize, Errno> {
    let offset = kernel_offset(offset)?;
    let part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: `part` names the bytes of `buf`, which is borrowed for the call; `file` keeps the descriptor open.
    check(unsafe { libc::preadv2(file.handle(), &raw const part, 1, offset, flags) } as i64)
}

fn kernel_offset(offset: u64) -> Result<i64, Errno> {
    i64::try_from(offset).map_err(|_| Errno::EINVAL)
}
