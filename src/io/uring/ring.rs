//! Setting up an io_uring instance: the newest way that this kernel takes.
//!
//! Flags are dropped one group after the other, newest first, while the kernel answers `EINVAL`:
//!
//! | Linux | flags | what they save |
//! |---|---|---|
//! | 6.6 | `NO_SQARRAY` | an indirection per submission |
//! | 6.1 | `DEFER_TASKRUN` | interrupts of the loop: completions are worked off when it asks |
//! | 6.0 | `SINGLE_ISSUER` | locks; the instance belongs to the thread that made it |
//! | 5.19 | `COOP_TASKRUN`, `TASKRUN_FLAG` | inter-processor interrupts |
//! | 5.18 | `SUBMIT_ALL` | submissions lost behind a bad one |
//!
//! What is left needs Linux 5.11 (a timeout with the wait). A submission is tried before the instance is trusted:
//! profiles may allow the setup and forbid the rest.

use crate::io::Errno;
use io_uring::{IoUring, Probe, opcode};

/// Kernel entries in which the trial operation must be done.
const ATTEMPTS: usize = 16;

/// Why this process cannot have io_uring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) enum Unavailable {
    /// The kernel refused a call.
    Refused(Errno),
    /// The kernel has io_uring without this.
    Lacks(&'static str),
}

/// What the kernel can do beyond the minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Abilities {
    /// Other instances can post completions here and the other way round (5.18).
    pub(super) message_ring: bool,
}

/// Flag groups, oldest first: attempt `n` of [`setup`] leaves the last `n` out.
const GROUPS: [fn(&mut io_uring::Builder); 5] = [
    |builder| {
        builder.setup_submit_all();
    },
    |builder| {
        builder.setup_coop_taskrun().setup_taskrun_flag();
    },
    |builder| {
        builder.setup_single_issuer();
    },
    |builder| {
        builder.setup_defer_taskrun();
    },
    |builder| {
        builder.setup_no_sqarray();
    },
];

/// An instance for the calling thread, tried out.
pub(super) fn open(submissions: u32, completions: u32) -> Result<(IoUring, Abilities), Unavailable> {
    let ring = setup(submissions, completions).map_err(Unavailable::Refused)?;
    if !ring.params().is_feature_ext_arg() {
        return Err(Unavailable::Lacks("waiting with a timeout"));
    }
    if !ring.params().is_feature_nodrop() {
        return Err(Unavailable::Lacks("keeping completions that overflow"));
    }
    let abilities = probe(&ring)?;
    let ring = try_out(ring).map_err(Unavailable::Refused)?;
    Ok((ring, abilities))
}

fn setup(submissions: u32, completions: u32) -> Result<IoUring, Errno> {
    let mut refusal = Errno::EINVAL;
    for kept in (0..=GROUPS.len()).rev() {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(completions).setup_clamp().dontfork();
        for add in GROUPS.iter().take(kept) {
            add(&mut builder);
        }
        match builder.build(submissions).map_err(Errno::from) {
            Ok(ring) => return Ok(ring),
            Err(errno) => refusal = errno,
        }
        if refusal != Errno::EINVAL {
            break;
        }
    }
    Err(refusal)
}

fn probe(ring: &IoUring) -> Result<Abilities, Unavailable> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| Unavailable::Refused(error.into()))?;
    let needed = [
        (opcode::Accept::CODE, "accept"),
        (opcode::Recv::CODE, "recv"),
        (opcode::Send::CODE, "send"),
        (opcode::Read::CODE, "read"),
        (opcode::Write::CODE, "write"),
        (opcode::Fsync::CODE, "fsync"),
        (opcode::AsyncCancel::CODE, "cancelling"),
    ];
    match needed.into_iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => Err(Unavailable::Lacks(name)),
        None => Ok(Abilities { message_ring: probe.is_supported(opcode::MsgRingData::CODE) }),
    }
}

/// Runs one operation that does nothing.
fn try_out(mut ring: IoUring) -> Result<IoUring, Errno> {
    super::submission::push(&mut ring, &opcode::Nop::new().build()).map_err(|_| Errno::EIO)?;
    let mut refusal = Errno::EIO;
    for _ in 0..ATTEMPTS {
        match ring.submit_and_wait(1).map_err(Errno::from) {
            Ok(_) => {}
            // A signal, or a moment short of memory.
            Err(errno @ Errno(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => refusal = errno,
            Err(errno) => return Err(errno),
        }
        let answer = ring.completion().next();
        if let Some(answer) = answer {
            return if answer.result() == 0 { Ok(ring) } else { Err(Errno(-answer.result())) };
        }
    }
    Err(refusal)
}
