//! The machine's error numbers, as a value that can be copied and compared.

use std::fmt;
use std::io;

/// An error number as `errno(3)` lists them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// Operation not permitted.
    pub const EPERM: Self = Self(libc::EPERM);
    /// Interrupted; not done.
    pub const EINTR: Self = Self(libc::EINTR);
    /// Input/output error.
    pub const EIO: Self = Self(libc::EIO);
    /// Not now; not done.
    pub const EAGAIN: Self = Self(libc::EAGAIN);
    /// Access denied.
    pub const EACCES: Self = Self(libc::EACCES);
    /// Bad argument.
    pub const EINVAL: Self = Self(libc::EINVAL);
    /// No buffers.
    pub const ENOBUFS: Self = Self(libc::ENOBUFS);
    /// Out of file descriptors.
    pub const EMFILE: Self = Self(libc::EMFILE);
    /// The disk is full.
    pub const ENOSPC: Self = Self(libc::ENOSPC);
    /// A quota is used up.
    pub const EDQUOT: Self = Self(libc::EDQUOT);
    /// Over the file size limit.
    pub const EFBIG: Self = Self(libc::EFBIG);
    /// Cancelled; not done.
    pub const ECANCELED: Self = Self(libc::ECANCELED);
    /// The other side is gone.
    pub const ECONNRESET: Self = Self(libc::ECONNRESET);
    /// Bad descriptor.
    pub const EBADF: Self = Self(libc::EBADF);

    /// Whether it means that the disk takes no more, which heals by itself.
    #[must_use]
    pub fn is_out_of_space(self) -> bool {
        [Self::ENOSPC, Self::EDQUOT, Self::EFBIG].contains(&self)
    }
    /// Whether the operation did not happen and may be submitted again.
    #[must_use]
    pub fn is_not_done(self) -> bool {
        [Self::EINTR, Self::EAGAIN, Self::ECANCELED].contains(&self)
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        let by_kind = match error.kind() {
            io::ErrorKind::Interrupted => libc::EINTR,
            io::ErrorKind::WouldBlock => libc::EAGAIN,
            io::ErrorKind::StorageFull => libc::ENOSPC,
            io::ErrorKind::InvalidInput => libc::EINVAL,
            _ => libc::EIO,
        };
        Self(error.raw_os_error().unwrap_or(by_kind))
    }
}
impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}
impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}
impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({})", self.0)
    }
}
impl std::error::Error for Errno {}
