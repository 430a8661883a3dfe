//! How commands reach the daemon.

use super::args::Connect;
use super::error::CliError;
use crate::client::{Client, ClientError, ClientOptions};
use crate::config::{Password, read_password_file};
use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs};

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
    /// A server without a password.
    #[cfg(test)]
    pub(super) fn plain(address: &str) -> Self {
        Self { address: address.to_owned(), password: None }
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
    /// Opens a connection to the first address that answers, for other protocols.
    pub(super) fn socket(&self) -> Result<TcpStream, CliError> {
        let connect_error = |source| ClientError::Connect { address: self.address.clone(), source };
        let mut failure = ErrorKind::NotFound.into();
        for candidate in self.address.to_socket_addrs().map_err(connect_error)? {
            match TcpStream::connect_timeout(&candidate, ClientOptions::default().connect_timeout) {
                Ok(socket) => {
                    socket.set_nodelay(true).map_err(connect_error)?;
                    return Ok(socket);
                }
                Err(error) => failure = error,
            }
        }
        Err(connect_error(failure).into())
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
