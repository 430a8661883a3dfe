//! How a command ends, and with which exit status.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

/// Why a command ended early.
#[derive(Debug)]
pub(super) enum CliError {
    /// The command line or the configuration makes no sense; exit status 2.
    Usage(String),
    /// It was tried and failed; exit status 1.
    Failed(String),
    /// Bytes of the store are damaged or missing; exit status 3, which no restart changes.
    Damaged(String),
    /// It was tried and ended otherwise than hoped for, with an exit status of its own.
    Status(u8, String),
    /// It worked and the answer is no, already said; exit status 1.
    Negative,
    /// Nobody reads our output any more, as in `tskv scan … | head`; quiet, exit status 141 as the shell shows SIGPIPE.
    OutputClosed,
}

impl CliError {
    /// A failure that is told as it is.
    pub(super) fn failed(error: impl Display) -> Self {
        Self::Failed(error.to_string())
    }
    /// A failed write to stdout.
    pub(super) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::Failed(format!("stdout: {error}"))
        }
    }
    /// Says on stderr what happened and gives the exit status.
    pub(super) fn report(&self) -> ExitCode {
        match self {
            Self::Usage(message) => {
                eprintln!("tskv: {message}");
                ExitCode::from(2)
            }
            Self::Failed(message) => {
                eprintln!("tskv: {message}");
                ExitCode::FAILURE
            }
            Self::Damaged(message) => {
                eprintln!("tskv: {message}");
                ExitCode::from(3)
            }
            Self::Status(status, message) => {
                eprintln!("tskv: {message}");
                ExitCode::from(*status)
            }
            Self::Negative => ExitCode::FAILURE,
            Self::OutputClosed => ExitCode::from(141),
        }
    }
}
