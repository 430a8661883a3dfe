//! How commands reach the daemon.

use super::args::Connect;
use super::error::CliError;
use crate::config::{Password, read_password_file};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// Opens a connection to the first address that answers.
    pub(super) fn socket(&self) -> Result<TcpStream, CliError> {
        let address = &self.address;
        let resolved = address
            .to_socket_addrs()
            .map_err(|error| CliError::Usage(format!("--addr {address}: {error}; write HOST:PORT")))?;
        let mut failure = format!("--addr {address}: the host has no address");
        for candidate in resolved {
            match TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT) {
                Ok(socket) => {
                    socket.set_nodelay(true).map_err(CliError::failed)?;
                    return Ok(socket);
                }
                Err(error) => {
                    failure =
                        format!("no connection to {candidate}: {error}; is `tskv serve` running there?");
                }
            }
        }
        Err(CliError::Failed(failure))
    }
}
