//! What can go wrong between a client and its server.

use crate::protocol::binary::{FrameError, PayloadError, Status};
use std::fmt;
use std::io;

/// Why a call failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection to any address of this name.
    Connect { address: String, source: io::Error },
    /// The connection broke, or nothing came within the time-out. Whether the request was carried out is unknown.
    Connection { source: io::Error },
    /// The server closed the connection.
    Closed,
    /// What came is no native frame: another program, another protocol, or damage on the way.
    Frame(FrameError),
    /// A frame whose payload makes no sense.
    Payload(PayloadError),
    /// The server says no, and why.
    Refused { status: Status, message: String },
    /// A response to another question.
    Unexpected { found: &'static str },
    /// An error of RESP: from a tskv server that is full, or from a server that is none.
    Resp { message: String },
    /// More than one frame can carry.
    TooLarge { what: &'static str, max: usize },
}

impl ClientError {
    /// The status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { address, source } => write!(f, "cannot connect to {address}: {source}"),
            Self::Connection { source } if is_timeout(source) => {
                f.write_str("the server did not answer within the time-out")
            }
            Self::Connection { source } => write!(f, "the connection broke: {source}"),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Frame(FrameError::Magic { found }) => {
                write!(f, "this is not the data port of a tskv server (its answer starts with {found:#04x})")
            }
            Self::Frame(error) => write!(f, "unreadable answer: {error}"),
            Self::Payload(error) => write!(f, "unreadable answer: {error}"),
            Self::Refused { message, .. } => f.write_str(message),
            Self::Resp { message } => {
                write!(f, "a tskv server that is full, or none at all: it says '{message}'")
            }
            Self::Unexpected { found } => write!(f, "the server answered another question with {found}"),
            Self::TooLarge { what, max } => write!(f, "{what}: more than {max}"),
        }
    }
}

/// A read time-out has two names among the systems.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { source, .. } | Self::Connection { source } => Some(source),
            Self::Frame(error) => Some(error),
            Self::Payload(error) => Some(error),
            _ => None,
        }
    }
}

impl From<FrameError> for ClientError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}
impl From<PayloadError> for ClientError {
    fn from(error: PayloadError) -> Self {
        Self::Payload(error)
    }
}
impl From<io::Error> for ClientError {
    fn from(source: io::Error) -> Self {
        Self::Connection { source }
    }
}
