//! System calls on sockets that backends share.
#![expect(
    unsafe_code,
    reason = "the standard library cannot receive into spare capacity of a raw descriptor"
)]

use super::{check, last_errno};
use crate::io::{Errno, ListenerId, SocketId};
use socket2::SockAddr;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, RawFd};

/// Gives a listening socket back to the machine. No backend may have an accept on it in flight.
pub fn close_listener(listener: ListenerId) {
    close(listener.0);
}

/// Gives a connected socket back to the machine, for one that no backend knows (any more); else use `Op::Close`.
pub fn close_socket(socket: SocketId) {
    close(socket.0);
}

/// Who is at the other end; unknown for sockets that are not of the internet, or already reset.
#[must_use]
pub fn peer_address(socket: SocketId) -> Option<SocketAddr> {
    let fill = |storage: *mut socket2::SockAddrStorage, len: *mut libc::socklen_t| {
        // SAFETY: `try_init` hands in live storage of the length that `len` says.
        let result = unsafe { libc::getpeername(socket.0, storage.cast(), len) };
        check(result.into()).map(drop).map_err(Into::into)
    };
    // SAFETY: the closure initialises the storage whenever it answers Ok: the kernel filled it.
    let (_, address): ((), SockAddr) = unsafe { SockAddr::try_init(fill) }.ok()?;
    address.as_socket()
}

/// Takes one connection, if there is one.
pub(in crate::io) fn accept(listener: RawFd) -> Result<SocketId, Errno> {
    let (no_address, no_len) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: null pointers mean that the peer's address is not asked for.
    let fd = unsafe { libc::accept4(listener, no_address, no_len, libc::SOCK_CLOEXEC) };
    if fd < 0 { Err(last_errno()) } else { Ok(SocketId(fd)) }
}

/// Appends what has arrived to the spare capacity of `buf`, without waiting.
pub(in crate::io) fn receive(socket: RawFd, buf: &mut Vec<u8>) -> Result<usize, Errno> {
    let spare = buf.spare_capacity_mut();
    // SAFETY: pointer and length are those of `spare`, which is borrowed for the call.
    let result = unsafe { libc::recv(socket, spare.as_mut_ptr().cast(), spare.len(), libc::MSG_DONTWAIT) };
    let count = check(result as i64)?;
    let len = buf.len() + count;
    // SAFETY: the kernel wrote `count` bytes behind the old length, within the spare capacity.
    unsafe { buf.set_len(len) };
    Ok(count)
}

/// Sends some of `bytes`, without waiting.
pub(in crate::io) fn send(socket: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: pointer and length are those of `bytes`, which is borrowed for the call.
    let result = unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), flags) };
    check(result as i64)
}

/// Sets whether calls on the descriptor may wait.
pub(in crate::io) fn set_nonblocking(fd: RawFd, nonblocking: bool) -> Result<(), Errno> {
    // SAFETY: every caller holds the descriptor open for the whole call.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    socket2::SockRef::from(&fd).set_nonblocking(nonblocking).map_err(Into::into)
}

fn close(fd: RawFd) {
    // SAFETY: the caller gives the descriptor away; the type of its id says that it owns one.
    let result = unsafe { libc::close(fd) };
    // Linux frees the number whatever close(2) says; EBADF would be a double close, which hits somebody else's file.
    debug_assert!(result == 0 || last_errno() != Errno::EBADF, "descriptor {fd} was closed twice");
}
