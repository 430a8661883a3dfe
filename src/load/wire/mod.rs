//! What goes over the wire: requests made from templates, replies read with as little work as their form allows.

mod native_reply;
mod resp_reply;
mod resp_request;

pub(super) use native_reply::{NativeReplies, SCAN_CREDIT};
pub(super) use resp_reply::RespReplies;
pub(super) use resp_request::{KeyTemplate, put_bulk, put_command, put_decimal, put_header};

use std::fmt;

/// One answered request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// Whose reply; none where replies come in the order of the requests.
    pub(super) id: Option<u64>,
    /// Values that it carries: 0 for "absent", 1 for a plain acknowledgement or a single value.
    pub(super) values: u64,
    /// The server refused.
    pub(super) failed: bool,
}

/// Why a connection cannot be used any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadReply(pub(super) String);

impl fmt::Display for BadReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the replies of one connection.
#[derive(Debug)]
pub(super) enum Replies {
    Resp(RespReplies),
    Native(NativeReplies),
}

impl Replies {
    /// Reads one reply from `bytes[*at..]` and moves `at` behind what need not be seen again; none where more must be
    /// received first.
    ///
    /// # Errors
    /// Where the bytes are no reply.
    #[inline]
    pub(super) fn next(&mut self, bytes: &[u8], at: &mut usize) -> Result<Option<Reply>, BadReply> {
        match self {
            Self::Resp(replies) => replies.next(bytes, at),
            Self::Native(replies) => replies.next(bytes, at),
        }
    }
    /// Takes plain acknowledgements that stand at `bytes[*at..]`, at most `most`; gives how many there were. What is
    /// no acknowledgement, and all of the native protocol, is left to [`Replies::next`].
    #[inline]
    pub(super) fn take_acknowledged(&mut self, bytes: &[u8], at: &mut usize, most: u64) -> u64 {
        match self {
            Self::Resp(replies) => replies.take_acknowledged(bytes, at, most),
            Self::Native(_) => 0,
        }
    }
    /// Scans that wait for credit, by request id; once.
    pub(super) fn take_credits(&mut self) -> Vec<u64> {
        match self {
            Self::Resp(_) => Vec::new(),
            Self::Native(replies) => std::mem::take(&mut replies.credits_due),
        }
    }
    /// The first refusal, as the server worded it; once.
    pub(super) fn take_error(&mut self) -> Option<String> {
        match self {
            Self::Resp(replies) => replies.error.take(),
            Self::Native(replies) => replies.error.take(),
        }
    }
}
