//! The listening sockets of the daemon: one per core on each address that all share, and one on each core's own port
//! for clients that know who owns which keys.

use super::node::ServeError;
use crate::config::{Config, CorePorts};
use crate::io::{ListenerId, sys};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long, and how often, a taken address is tried again.
const BIND_PATIENCE_NS: u64 = 1_500_000_000;
const BIND_RETRY: Duration = Duration::from_millis(20);

/// A socket where one core accepts connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CoreListener {
    pub(crate) id: ListenerId,
    /// All cores have one on this address: a connection may as well be another core's. Else a client has chosen.
    pub(crate) is_shared: bool,
}

/// All of them.
pub(super) struct Bound {
    pub(super) per_core: Vec<Vec<CoreListener>>,
    /// The shared addresses, with the ports that the kernel chose.
    pub(super) listen: Vec<SocketAddr>,
    /// Each core's own port; empty for none.
    pub(super) core_ports: Vec<u16>,
}

/// Binds what the configuration asks for.
pub(super) fn bind(config: &Config, cores: usize) -> Result<Bound, ServeError> {
    let mut bound = Bound { per_core: vec![Vec::new(); cores], listen: Vec::new(), core_ports: Vec::new() };
    for address in &config.listen {
        let listeners = bind_patiently(*address, cores)?;
        bound.listen.extend(listeners.first().map(|(_, address)| *address));
        for ((id, _), core) in listeners.into_iter().zip(&mut bound.per_core) {
            core.push(CoreListener { id, is_shared: true });
        }
    }
    let hosts = hosts(&config.listen);
    for (core, listeners) in (0u16..).zip(&mut bound.per_core) {
        // What the kernel chooses on the first host holds for the others.
        let mut port = match config.core_ports {
            CorePorts::Off => break,
            CorePorts::Auto => 0,
            CorePorts::Base(base) => base.saturating_add(core),
        };
        for host in &hosts {
            for (id, address) in bind_patiently(SocketAddr::new(*host, port), 1)? {
                port = address.port();
                listeners.push(CoreListener { id, is_shared: false });
            }
        }
        bound.core_ports.push(port);
    }
    Ok(bound)
}

/// The hosts of some addresses, each once; one that stands for all of its family stands for the others.
fn hosts(addresses: &[SocketAddr]) -> Vec<IpAddr> {
    let stands_for_all =
        |other: &SocketAddr, host: &IpAddr| other.ip().is_unspecified() && other.is_ipv4() == host.is_ipv4();
    let is_covered =
        |host: &IpAddr| !host.is_unspecified() && addresses.iter().any(|other| stands_for_all(other, host));
    let mut hosts: Vec<_> = addresses.iter().map(SocketAddr::ip).filter(|host| !is_covered(host)).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// Binds an address. The kernel takes down the ring of a killed daemon a moment after its process has gone, and its
/// listeners with it: an address that is taken is tried again before it counts.
#[expect(clippy::disallowed_methods, reason = "the start may wait; no core runs yet")]
fn bind_patiently(address: SocketAddr, count: usize) -> Result<Vec<(ListenerId, SocketAddr)>, ServeError> {
    let deadline = sys::monotonic_ns() + BIND_PATIENCE_NS;
    loop {
        match sys::bind_listeners(address, count) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && sys::monotonic_ns() < deadline => {
                std::thread::sleep(BIND_RETRY);
            }
            outcome => return outcome.map_err(|source| ServeError::Bind { address, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_stands_for_others_is_bound_alone() {
        // A second socket on the same port of 0.0.0.0 and 127.0.0.1 is refused by the kernel.
        let addresses = ["127.0.0.1:1", "0.0.0.0:2", "[::1]:3", "[::1]:4"].map(|text| text.parse().unwrap());
        let expected: [IpAddr; 2] = ["0.0.0.0".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(hosts(&addresses), expected);
    }
}
