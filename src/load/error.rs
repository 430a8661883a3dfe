//! Why a run could not be made.

use crate::client::ClientError;
use std::fmt;
use std::io;

/// Why a run could not be made; a run that was made reports its troubles in its verdict.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// Nobody answers there, or not as expected.
    Connect {
        /// `host:port`.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The options contradict each other.
    Options(String),
    /// A file of the generator's own.
    File {
        /// Its path.
        path: String,
        /// What the machine says.
        source: io::Error,
    },
    /// The machine refuses what the generator needs.
    Machine(String),
    /// The server answered a question outside the measurement with an error.
    Server(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { address, reason } => write!(f, "{address}: {reason}"),
            Self::Options(reason) | Self::Machine(reason) | Self::Server(reason) => f.write_str(reason),
            Self::File { path, source } => write!(f, "{path}: {source}"),
        }
    }
}
impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Connect { .. } | Self::Options(_) | Self::Machine(_) | Self::Server(_) => None,
        }
    }
}

impl From<ClientError> for LoadError {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Connect { address, source } => {
                Self::Connect { address: address.clone(), reason: source.to_string() }
            }
            _ => Self::Server(error.to_string()),
        }
    }
}
