//! The native protocol: frames with a fixed header, requests, responses. Both directions, so that server, client and
//! load generator share one definition.
//!
//! A connection's requests carry ids of the client's choice; responses carry them back and may overtake each other.
//! SCAN alone is answered by several frames: chunks, each of which costs one credit, the last one marked as such. A
//! cancelled scan ends with [`Status::Cancelled`] in place of its last chunk. SCAN_CREDIT and SCAN_CANCEL may cross the
//! last chunk on the way: for a scan that is not running they mean nothing and get no answer.
//! What is wrong with one frame's payload fails that request; what is wrong with a header or checksum ends the
//! connection, after a response with id 0 and the [`Status`] that says why.
#![deny(clippy::indexing_slicing)]

mod frame;
mod request;
mod response;
#[cfg(test)]
mod tests;
mod wire;

pub use frame::{
    CHECKSUM_BYTES, FLAG_CHECKSUM, FLAG_FORWARDED, FrameError, FrameHeader, FrameLimits, Framed,
    HEADER_BYTES, MAGIC, Opcode, RESPONSE_BIT, VERSION, decode_frame, put_frame,
};
pub use request::{PayloadError, Request, RequestLimits, decode_request, encode_request};
pub use response::{
    Hello, Response, Route, ScanEntry, Status, decode_response, encode_failure, encode_fatal, encode_reply,
    encode_response, status_of,
};
