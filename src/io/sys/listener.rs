//! Listening sockets: one per core on the same address.
//!
//! The first one binds without `SO_REUSEPORT`, so that an address in use is an error (otherwise a second daemon would
//! silently share the first one's clients); then it sets it, and the others join it.

use crate::io::ListenerId;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::time::Duration;

/// Connections that the kernel holds for us until they are accepted.
const BACKLOG: i32 = 1024;
/// A peer that is gone without a word is noticed after about this long.
const KEEPALIVE: Duration = Duration::from_secs(300);

/// Listens on `addr` with `count` sockets, and says which address each got: port 0 is chosen by the machine, once for
/// all. Accepted sockets inherit `TCP_NODELAY` and keep-alive. Give each to one backend; [`super::close_listener`] ends it.
///
/// # Errors
/// `AddrInUse` where anything listens there already; else what `socket(2)`, `bind(2)` or `listen(2)` say.
pub fn bind_listeners(addr: SocketAddr, count: usize) -> io::Result<Vec<(ListenerId, SocketAddr)>> {
    let mut sockets: Vec<Socket> = Vec::with_capacity(count);
    let mut bound = addr;
    for index in 0..count {
        let socket = prepare(bound)?;
        if index > 0 {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&bound.into())?;
        if index == 0 {
            bound = socket.local_addr()?.as_socket().unwrap_or(addr);
            socket.set_reuse_port(true)?;
        }
        sockets.push(socket);
    }
    // All are bound before one listens: no client comes while a later bind may still fail.
    sockets.iter().try_for_each(|socket| socket.listen(BACKLOG))?;
    Ok(sockets.into_iter().map(|socket| (ListenerId(socket.into_raw_fd()), bound)).collect())
}

fn prepare(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        // Otherwise [::] would take the IPv4 port too, and a second --listen 0.0.0.0 would fail.
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sys;
    use std::net::TcpStream;

    #[test]
    fn a_taken_port_is_an_error_and_listeners_share_one() {
        // A second daemon on the port would silently take half of the clients.
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listeners = bind_listeners(any, 3).unwrap();
        let bound = listeners[0].1;
        assert!(bound.port() != 0 && listeners.iter().all(|(_, addr)| *addr == bound));
        assert_eq!(bind_listeners(bound, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);

        // Joined in one group, each of them gets its share of the connections.
        let clients: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(bound).unwrap()).collect();
        let mut counts = Vec::new();
        for (listener, _) in listeners {
            sys::set_nonblocking(listener.0, true).unwrap();
            let accepted: Vec<_> = std::iter::from_fn(|| sys::accept(listener.0).ok()).collect();
            for socket in &accepted {
                assert_eq!(sys::peer_address(*socket).map(|peer| peer.ip()), Some(bound.ip()));
                sys::close_socket(*socket);
            }
            counts.push(accepted.len());
            sys::close_listener(listener);
        }
        assert!(counts.iter().sum::<usize>() == 60 && counts.iter().all(|count| *count > 0), "{counts:?}");
        drop(clients);
    }
}
