//! Whether anybody would notice a buffer that goes home before the kernel has let go of it.

use super::{Uring, UringOptions};
use crate::io::{Backend, Completion, Op, OpBuf, SocketId, Token, Wait, sys};
use crate::teeth::{Bug, plant};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

const CANARY: u8 = 0xC5;
const PATIENCE_NS: u64 = 20_000_000;

fn poll(uring: &mut Uring) -> Vec<Completion> {
    let mut completions = Vec::new();
    uring.poll(Wait::Until(sys::monotonic_ns() + PATIENCE_NS), &mut completions).unwrap();
    completions
}

/// Cancels a receive, fills the buffer that it gives back, and lets the peer send: whether somebody writes into the
/// buffer, or completes the operation a second time.
fn kernel_holds_on_after_a_cancel() -> Option<bool> {
    let Ok(mut uring) = Uring::open(UringOptions { submissions: 8, completions: 16 }) else {
        let _ = writeln!(std::io::stderr(), "SKIPPED[io_uring]: no ring to cancel operations on");
        return None;
    };
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    uring.submit(Token(1), Op::Receive { socket: SocketId(ours.as_raw_fd()), buf: Vec::with_capacity(64) });
    poll(&mut uring);
    uring.cancel(Token(1));
    let mut completions = Vec::new();
    while completions.is_empty() {
        completions = poll(&mut uring);
    }
    let OpBuf::Bytes(mut buf) = completions.remove(0).buf else { panic!("a receive has a buffer") };
    assert!(buf.is_empty());
    buf.resize(buf.capacity(), CANARY);
    theirs.write_all(b"for the next one").unwrap();
    let polled = catch_unwind(AssertUnwindSafe(|| poll(&mut uring)));
    let is_late = polled.map_or(true, |completions| !completions.is_empty());
    Some(is_late || buf.iter().any(|byte| *byte != CANARY))
}

#[test]
fn a_cancelled_receive_gives_its_buffer_back_when_the_kernel_has_let_go() {
    // What comes in later would overwrite whatever the memory is used for then.
    assert_ne!(kernel_holds_on_after_a_cancel(), Some(true));
}

#[test]
fn a_buffer_given_back_too_early_is_caught() {
    // If not, the test above proves nothing (goal G19).
    plant(Some(Bug::FreeBufferAtCancel));
    let seen = kernel_holds_on_after_a_cancel();
    plant(None);
    assert_ne!(seen, Some(false));
}
