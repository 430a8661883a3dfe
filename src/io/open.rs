//! Which backend a core gets: what the operator asked for, or the best that this machine allows.

use super::epoll::Epoll;
use super::uring::{Unavailable, Uring, UringOptions};
use super::{Backend, Completion, Errno, Now, Op, Token, Wait, Waker};
use std::fmt;
use std::str::FromStr;

/// What the operator asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendKind {
    /// io_uring where the machine allows it, else epoll.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll.
    Epoll,
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

impl FromStr for BackendKind {
    type Err = UnknownBackend;
    fn from_str(text: &str) -> Result<Self, UnknownBackend> {
        match text {
            "auto" => Ok(Self::Auto),
            "io_uring" => Ok(Self::Uring),
            "epoll" => Ok(Self::Epoll),
            _ => Err(UnknownBackend),
        }
    }
}

/// A backend's name that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownBackend;

impl fmt::Display for UnknownBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the backend is one of auto, io_uring, epoll")
    }
}
impl std::error::Error for UnknownBackend {}

/// How to open a backend.
#[derive(Clone, Debug)]
pub struct BackendOptions {
    /// Name of the helper thread that the epoll backend starts for file operations.
    pub helper_name: String,
    /// io_uring: operations queued between two kernel entries before one is made in between.
    pub submissions: u32,
    /// io_uring: completions that the ring holds before the kernel has to keep lists.
    pub completions: u32,
}

impl Default for BackendOptions {
    fn default() -> Self {
        Self { helper_name: "tskv-files".to_owned(), submissions: 1024, completions: 8192 }
    }
}

/// Which backend it became, and why not the better one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendChoice {
    /// [`Backend::name`] of the backend.
    pub name: &'static str,
    /// Why `auto` took epoll, and what would fix it: one line for the log, STATS, INFO and metrics.
    pub reason: Option<String>,
}

/// Why there is no backend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenBackendError {
    /// io_uring was asked for, and the machine does not allow it.
    UringUnavailable {
        /// What is missing, and what would fix it.
        reason: String,
    },
    /// The machine refuses even epoll, or has no thread for its helper.
    EpollUnavailable {
        /// What it said.
        errno: Errno,
    },
}

impl fmt::Display for OpenBackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UringUnavailable { reason } => f.write_str(reason),
            Self::EpollUnavailable { errno } => write!(f, "epoll cannot be set up: {errno}"),
        }
    }
}
impl std::error::Error for OpenBackendError {}

/// One of the operating system's backends, dispatched statically. It belongs to the thread that opened it.
#[expect(clippy::large_enum_variant, reason = "one per core, and never moved after it is opened")]
pub enum AnyBackend {
    /// io_uring.
    Uring(Uring),
    /// epoll.
    Epoll(Epoll),
}

/// Opens a backend on the thread that will use it.
///
/// # Errors
/// `io_uring` was asked for and is not to be had; or `auto` met an error that says more of the machine than of
/// io_uring; or epoll itself failed.
pub fn open_backend(
    kind: BackendKind,
    options: &BackendOptions,
) -> Result<(AnyBackend, BackendChoice), OpenBackendError> {
    let reason = match kind {
        BackendKind::Epoll => None,
        BackendKind::Auto | BackendKind::Uring => {
            let sizes = UringOptions { submissions: options.submissions, completions: options.completions };
            match Uring::open(sizes) {
                Ok(uring) => return Ok(chosen(AnyBackend::Uring(uring), None)),
                Err(why) if kind == BackendKind::Auto && allows_fallback(why) => Some(explain(why)),
                Err(why) => return Err(OpenBackendError::UringUnavailable { reason: explain(why) }),
            }
        }
    };
    let epoll =
        Epoll::open(&options.helper_name).map_err(|errno| OpenBackendError::EpollUnavailable { errno })?;
    Ok(chosen(AnyBackend::Epoll(epoll), reason))
}

fn chosen(backend: AnyBackend, reason: Option<String>) -> (AnyBackend, BackendChoice) {
    let choice = BackendChoice { name: backend.name(), reason };
    (backend, choice)
}

fn allows_fallback(why: Unavailable) -> bool {
    const WITHOUT_RING: [i32; 6] =
        [libc::EPERM, libc::EACCES, libc::ENOSYS, libc::EINVAL, libc::ENOMEM, libc::EMFILE];
    match why {
        Unavailable::Lacks(_) => true,
        Unavailable::Refused(errno) => WITHOUT_RING.contains(&errno.0),
    }
}

/// One line: what is wrong and what would fix it.
fn explain(why: Unavailable) -> String {
    let errno = match why {
        Unavailable::Refused(errno) => errno,
        Unavailable::Lacks(what) => {
            return format!("io_uring is not available: this kernel's lacks {what}; use Linux 5.11 or newer");
        }
    };
    let remedy = match errno.0 {
        libc::EPERM | libc::EACCES => forbidden_by(std::fs::read_to_string(SYSCTL).ok().as_deref()),
        libc::ENOSYS => {
            "the kernel has none or a sandbox hides it; use Linux 5.11 or newer, or a sandbox that allows it"
        }
        libc::EINVAL => "the kernel is too old; use Linux 5.11 or newer",
        libc::ENOMEM => "locked memory is used up; raise `ulimit -l` (systemd: LimitMEMLOCK=)",
        libc::EMFILE => "open files are used up; raise `ulimit -n` (systemd: LimitNOFILE=)",
        _ => "the machine refuses it",
    };
    format!("io_uring is not available: {errno}: {remedy}")
}

const SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";

fn forbidden_by(sysctl: Option<&str>) -> &'static str {
    match sysctl.map(str::trim) {
        Some("1") => {
            "sysctl kernel.io_uring_disabled=1 allows it to kernel.io_uring_group only; set it to 0 or join the group"
        }
        Some("2") => "sysctl kernel.io_uring_disabled=2 forbids it to all; set it to 0",
        _ => {
            "a seccomp, container or security profile forbids it; allow io_uring_setup, io_uring_enter and \
             io_uring_register"
        }
    }
}

/// Calls the same method of whichever backend it is.
macro_rules! either {
    ($any:expr, $backend:ident => $call:expr) => {
        match $any {
            AnyBackend::Uring($backend) => $call,
            AnyBackend::Epoll($backend) => $call,
        }
    };
}

impl Backend for AnyBackend {
    fn name(&self) -> &'static str {
        either!(self, backend => backend.name())
    }
    fn now(&self) -> Now {
        either!(self, backend => backend.now())
    }
    fn cpu_ns(&self) -> u64 {
        either!(self, backend => backend.cpu_ns())
    }
    fn submit(&mut self, token: Token, op: Op) {
        either!(self, backend => backend.submit(token, op));
    }
    fn poll(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> Result<(), Errno> {
        either!(self, backend => backend.poll(wait, completions))
    }
    fn flush(&mut self) -> Result<(), Errno> {
        either!(self, backend => backend.flush())
    }
    fn cancel(&mut self, token: Token) {
        either!(self, backend => backend.cancel(token));
    }
    fn in_flight(&self) -> usize {
        either!(self, backend => backend.in_flight())
    }
    fn waker(&self) -> Waker {
        either!(self, backend => backend.waker())
    }
    fn wake_peer(&mut self, peer: &Waker) {
        either!(self, backend => backend.wake_peer(peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_its_remedy_in_one_line() {
        // An operator in a container would not know what to change.
        let refusals = [libc::EPERM, libc::EACCES, libc::ENOSYS, libc::EINVAL, libc::ENOMEM, libc::EMFILE];
        for why in refusals.map(|errno| Unavailable::Refused(Errno(errno))) {
            let line = explain(why);
            assert!(allows_fallback(why), "{line}");
            assert!(line.starts_with("io_uring is not available: ") && !line.contains('\n'), "{line}");
        }
        assert!(!allows_fallback(Unavailable::Refused(Errno::EIO)));
        assert!(forbidden_by(Some("2\n")).contains("io_uring_disabled=2"));
        assert!(forbidden_by(Some("0\n")).contains("seccomp"));
        assert!(forbidden_by(None).contains("seccomp"));
    }

    #[test]
    fn names_of_backends_are_parsed_as_they_are_written() {
        // The flag's default and its documentation use these names.
        for kind in [BackendKind::Auto, BackendKind::Uring, BackendKind::Epoll] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("uring".parse::<BackendKind>(), Err(UnknownBackend));
    }
}
