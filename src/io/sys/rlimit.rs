//! How many files and sockets the process may have open.
#![expect(unsafe_code, reason = "getrlimit(2) has no safe wrapper in the standard library")]

use super::check;
use crate::io::Errno;

/// The limit in force: descriptors numbered below it may be opened.
///
/// # Errors
/// What `getrlimit(2)` says.
pub fn open_files_limit() -> Result<u64, Errno> {
    read().map(|limit| limit.rlim_cur)
}

/// Raises the limit as far as the hard limit allows, and says what it is then.
///
/// # Errors
/// What `setrlimit(2)` says; the old limit stays.
pub fn raise_open_files_limit() -> Result<u64, Errno> {
    let limit = read()?;
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
    // SAFETY: `raised` is a live local that the call reads.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) };
    check(result.into())?;
    Ok(raised.rlim_cur)
}

fn read() -> Result<libc::rlimit, Errno> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live local that the call fills.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    check(result.into())?;
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_can_be_raised_to_the_hard_one() {
        // A daemon left at the usual soft limit of 1024 refuses the 1,000th client.
        let before = open_files_limit().unwrap();
        let raised = raise_open_files_limit().unwrap();
        assert!(raised >= before);
        assert_eq!(open_files_limit().unwrap(), raised);
    }
}
