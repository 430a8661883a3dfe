//! How operations become submissions.
//!
//! Whatever memory a submission names is owned by the table, or is `Uring::wake_count`, before the submission is
//! queued.
#![expect(unsafe_code, reason = "the kernel is handed pointers to memory")]

use super::user_data::UserData;
use super::{InKernel, Kind, Uring};
use crate::buffer::AlignedBuf;
use crate::io::op_table::OpKey;
use crate::io::{Errno, ListenerId, OpBuf, SocketId, Token, sys};
use crate::model::FileRef;
use crate::teeth::{Bug, planted};
use io_uring::types::{CancelBuilder, Fd, FsyncFlags};
use io_uring::{IoUring, opcode, squeue};

/// The kernel moves at most this much per transfer anyway.
const TRANSFER_BYTES_MAX: usize = 1 << 30;

/// Beyond it offsets are negative to the kernel, which takes -1 for "wherever the file's position is".
const FILE_OFFSET_MAX: u64 = i64::MAX as u64;

/// Queues a submission; an error means that the queue is full.
pub(super) fn push(ring: &mut IoUring, entry: &squeue::Entry) -> Result<(), squeue::PushError> {
    // SAFETY: memory that entries name belongs to operations in `Uring::ops`, or is `Uring::wake_count`; both stay until
    // the kernel's final completion, and `Drop for Uring` waits for that.
    unsafe { ring.submission().push(entry) }
}

fn transfer_len(len: usize) -> u32 {
    u32::try_from(len.min(TRANSFER_BYTES_MAX)).expect("the bound fits")
}

impl Uring {
    /// Queues a submission, making room by a kernel entry where the queue is full.
    pub(super) fn push(&mut self, entry: &squeue::Entry) {
        while self.broken.is_none() && push(&mut self.ring, entry).is_err() {
            match self.ring.submit().map_err(Errno::from) {
                Ok(_) | Err(Errno::EINTR) => {}
                // The kernel takes nothing more before its completions are read.
                Err(Errno::EAGAIN | Errno(libc::EBUSY)) => self.reap(),
                Err(errno) => self.broken = Some(errno),
            }
        }
    }

    /// Hands an operation to the kernel; `entry` makes the submission from what the table now owns.
    fn start(&mut self, token: Token, kind: Kind, entry: squeue::Entry) {
        let socket = kind.socket();
        let key = self.ops.insert(InKernel { token, kind, cancelled: false });
        if let Some(socket) = socket {
            self.socket(socket).ops.push(key);
        }
        self.push(&entry.user_data(UserData::Operation(key).to_bits()));
    }

    fn is_closing(&mut self, socket: SocketId) -> bool {
        self.socket(socket).closing.is_some()
    }

    pub(super) fn submit_receive(&mut self, token: Token, socket: SocketId, mut buf: Vec<u8>) {
        let spare = buf.spare_capacity_mut();
        assert!(!spare.is_empty(), "a receive needs spare capacity");
        if self.is_closing(socket) {
            return self.finish(token, Err(Errno::EBADF), OpBuf::Bytes(buf));
        }
        // The vector may move into the table; its bytes stay where they are.
        let entry =
            opcode::Recv::new(Fd(socket.0), spare.as_mut_ptr().cast(), transfer_len(spare.len())).build();
        self.start(token, Kind::Receive { socket, buf }, entry);
    }

    pub(super) fn submit_send(&mut self, token: Token, socket: SocketId, buf: Vec<u8>, from: usize) {
        assert!(from < buf.len(), "a send needs bytes");
        if self.is_closing(socket) {
            return self.finish(token, Err(Errno::EBADF), OpBuf::Bytes(buf));
        }
        let bytes = &buf[from..];
        let entry = opcode::Send::new(Fd(socket.0), bytes.as_ptr(), transfer_len(bytes.len()))
            .flags(libc::MSG_NOSIGNAL)
            .build();
        self.start(token, Kind::Send { socket, buf }, entry);
    }

    pub(super) fn submit_read(&mut self, token: Token, file: FileRef, offset: u64, mut buf: AlignedBuf) {
        if offset > FILE_OFFSET_MAX {
            return self.finish(token, Err(Errno::EINVAL), OpBuf::Aligned(buf));
        }
        let entry = opcode::Read::new(Fd(file.handle()), buf.as_mut_ptr(), transfer_len(buf.len()));
        let entry = entry.offset(offset).build();
        self.start(token, Kind::Read { _file: file, buf }, entry);
    }

    pub(super) fn submit_write(
        &mut self,
        token: Token,
        file: FileRef,
        offset: u64,
        mut buf: AlignedBuf,
        durable: bool,
    ) {
        if offset > FILE_OFFSET_MAX {
            return self.finish(token, Err(Errno::EINVAL), OpBuf::Aligned(buf));
        }
        let flags = if durable { libc::RWF_DSYNC } else { 0 };
        let entry = opcode::Write::new(Fd(file.handle()), buf.as_mut_ptr(), transfer_len(buf.len()));
        let entry = entry.offset(offset).rw_flags(flags).build();
        self.start(token, Kind::Write { _file: file, buf }, entry);
    }

    pub(super) fn submit_sync(&mut self, token: Token, file: FileRef) {
        let entry = opcode::Fsync::new(Fd(file.handle())).flags(FsyncFlags::DATASYNC).build();
        self.start(token, Kind::Sync { _file: file }, entry);
    }

    pub(super) fn submit_accept(&mut self, token: Token, listener: ListenerId) {
        // On older kernels an accept on a non-blocking listener fails instead of waiting.
        if let Err(errno) = sys::set_nonblocking(listener.0, false) {
            return self.finish(token, Err(errno), OpBuf::None);
        }
        let kind = Kind::Accept { listener, armed: false };
        let key = self.ops.insert(InKernel { token, kind, cancelled: false });
        self.arm_accept(key);
    }

    fn arm_accept(&mut self, key: OpKey) {
        let Some(InKernel { kind: Kind::Accept { listener, armed }, .. }) = self.ops.get_mut(key) else {
            return;
        };
        *armed = true;
        let listener = Fd(listener.0);
        let entry = if self.accept_multishot {
            opcode::AcceptMulti::new(listener).flags(libc::SOCK_CLOEXEC).build()
        } else {
            let (no_address, no_len) = (std::ptr::null_mut(), std::ptr::null_mut());
            opcode::Accept::new(listener, no_address, no_len).flags(libc::SOCK_CLOEXEC).build()
        };
        self.push(&entry.user_data(UserData::Operation(key).to_bits()));
    }

    fn arm_waker(&mut self) {
        if !self.waker_armed {
            self.waker_armed = true;
            let count = self.wake_count.as_mut_ptr();
            let entry = opcode::Read::new(Fd(self.waker.raw_fd()), count, 8).build();
            self.push(&entry.user_data(UserData::WakeByEventFd.to_bits()));
        }
    }

    pub(super) fn cancel_key(&mut self, key: OpKey) {
        let Some(op) = self.ops.get_mut(key) else { return };
        op.cancelled = true;
        let is_idle = matches!(op.kind, Kind::Accept { armed: false, .. });
        if is_idle || planted(Bug::FreeBufferAtCancel) {
            // The kernel does not have it.
            self.finish_op(key, Err(Errno::ECANCELED));
        } else {
            let target = CancelBuilder::user_data(UserData::Operation(key).to_bits());
            let entry = opcode::AsyncCancel2::new(target).build();
            self.push(&entry.user_data(UserData::Cancel(key).to_bits()));
        }
    }

    pub(super) fn close(&mut self, token: Token, socket: SocketId) {
        if self.is_closing(socket) {
            return self.finish(token, Err(Errno::EBADF), OpBuf::None);
        }
        self.socket(socket).closing = Some(token);
        // Backwards: where a full queue makes `push` reap, what is left moves to places that are still to come.
        for index in (0..self.socket(socket).ops.len()).rev() {
            if let Some(key) = self.socket(socket).ops.get(index).copied() {
                self.cancel_key(key);
            }
        }
        self.close_if_unused(socket);
    }

    /// Queues what earlier completions asked for.
    pub(super) fn push_follow_ups(&mut self) {
        self.arm_waker();
        while let Some(key) = self.to_arm.pop() {
            self.arm_accept(key);
        }
        while let Some(key) = self.to_cancel.pop() {
            self.cancel_key(key);
        }
    }
}
