//! How commands reach the daemon.

use super::args::Connect;
use super::error::CliError;
use crate::client::{Client, ClientError, ClientOptions};
use crate::config::{Password, read_password_file};
use std::io::ErrorKind;

/// A server to connect to, and the password for it.
#[derive(Debug)]
pub(super) struct Target {
    address: String,
    password: Option<Password>,
}

impl Target {
    /// Reads the password file, where there is one.
    pub(super) fn new(connect: &Connect) -> Result<Self, CliError> {
        let password = connect.password_file.as_deref().map(read_password_file).transpose();
        let password = password.map_err(|reason| CliError::Usage(format!("--password-file: {reason}")))?;
        Ok(Self { address: connect.addr.clone(), password })
    }
    pub(super) fn password(&self) -> Option<&[u8]> {
        self.password.as_ref().map(Password::reveal)
    }
    /// Connects over the native protocol, and authenticates where that is asked for.
    pub(super) fn client(&self, options: &ClientOptions) -> Result<Client, CliError> {
        let mut client = Client::connect(&self.address, options)?;
        if client.info().needs_auth {
            let password = self.password().ok_or_else(|| {
                CliError::Failed("the daemon asks for a password; give --password-file".to_owned())
            })?;
            client.auth("default", password)?;
        }
        Ok(client)
    }
    /// Where it is, as `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Connect { source, .. } if source.kind() == ErrorKind::InvalidInput => {
                Self::Usage(format!("{error}; write --addr HOST:PORT"))
            }
            ClientError::Connect { .. } => Self::Failed(format!("{error}; is `tskv serve` running there?")),
            _ => Self::failed(error),
        }
    }
}
