//! What backends do alike with accepted connections.

use super::{Completion, Errno, Outcome, SocketId, sys};

/// The outcome for a new connection.
pub(super) fn accepted(socket: SocketId) -> Outcome {
    Outcome::Accepted { socket, peer: sys::peer_address(socket) }
}

/// Whether an accept failed for the sake of one connection (`accept(2)`: network errors that were pending on it): the
/// next one may be fine.
pub(super) fn concerns_one_connection(errno: Errno) -> bool {
    const PASSING: [i32; 9] = [
        libc::ECONNABORTED,
        libc::EINTR,
        libc::EPROTO,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::ENONET,
    ];
    PASSING.contains(&errno.0)
}

/// Closes connections whose completions nobody will see.
pub(super) fn close_undelivered(completions: &[Completion]) {
    for completion in completions {
        if let Ok(Outcome::Accepted { socket, .. }) = completion.result {
            sys::close_socket(socket);
        }
    }
}
