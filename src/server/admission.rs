//! Who may talk to the daemon at all: protected mode.

use crate::config::Config;
use std::net::{IpAddr, SocketAddr};

/// What a client from outside is told when the daemon has no password.
pub(crate) const DENIED: &[u8] =
    b"-DENIED tskv runs without a password and serves clients on this machine only. \
To serve others, start it with --password-file FILE; to stay local, use --listen 127.0.0.1:7878.\r\n";

/// What a client is told when `--max-clients` are connected.
pub(crate) const FULL: &[u8] = b"-ERR max number of clients reached\r\n";
/// What a client is told that connects while the daemon stops.
pub(crate) const STOPPING: &[u8] = b"-ERR the server is shutting down\r\n";

/// Whether a client must be refused: it is not on this machine and no password is set.
pub(crate) fn is_denied(config: &Config, peer: Option<SocketAddr>) -> bool {
    let is_local = peer.is_none_or(|peer| match peer.ip() {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        }
    });
    config.password.is_none() && !is_local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_clients_are_served_without_a_password() {
        // An exposed instance without a password gives its data to whoever asks.
        let config = Config::default();
        let denied = |address: &str| is_denied(&config, address.parse().ok());
        assert!(denied("10.0.0.1:5") && denied("[2001:db8::1]:5") && denied("[::ffff:10.0.0.1]:5"));
        assert!(!denied("127.0.0.9:5") && !denied("[::1]:5") && !denied("[::ffff:127.0.0.1]:5"));
    }
}
