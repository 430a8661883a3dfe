//! Native frames, both directions.
//!
//! Input: a flag byte, a byte that says where the stream is cut, then the stream. Flag 1: checksums are put right, so
//! that what lies behind them is reached.

use super::allocation::bounded;
use super::blobs::{overwrite, split_flags};
use tskv::encoding::checksum;
use tskv::protocol::binary::{
    CHECKSUM_BYTES, FLAG_CHECKSUM, FrameHeader, FrameLimits, Framed, HEADER_BYTES, Opcode, RESPONSE_BIT,
    RequestLimits, decode_frame, decode_request, decode_response, encode_request, encode_response,
};

/// An entry of five bytes on the wire is a record of 56 in memory; scan chunks grow theirs by doubling.
const FACTOR: usize = 32;
const LIMITS: FrameLimits = FrameLimits { payload_bytes_max: 1 << 20 };

pub(crate) fn request(input: &[u8]) {
    for_each_frame(input, |header, payload, frame| {
        let limits = RequestLimits { value_bytes_max: 1 << 16 };
        let decoded = bounded(payload.len(), FACTOR, || decode_request(&header, payload, &limits));
        let request = match decoded {
            Ok(request) => request,
            Err(error) => return assert!(!error.to_string().contains(['\r', '\n'])),
        };
        let mut written = Vec::new();
        encode_request(&mut written, header.request_id, header.has_checksum, &request);
        let (read_header, read_payload) = whole(&written);
        assert_eq!(decode_request(&read_header, read_payload, &limits).as_ref(), Ok(&request));
        // A scan without a limit may say so in two ways.
        if header.opcode != Opcode::Scan as u8 {
            assert!(written == frame, "a request has two forms: {request:?}");
        }
    });
}

pub(crate) fn response(input: &[u8]) {
    for_each_frame(input, |header, payload, _| {
        let decoded = bounded(payload.len(), FACTOR, || decode_response(&header, payload));
        let response = match decoded {
            Ok(response) => response,
            Err(error) => return assert!(!error.to_string().contains(['\r', '\n'])),
        };
        let asked = FrameHeader { opcode: header.opcode & !RESPONSE_BIT, ..header };
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        encode_response(&mut once, &asked, &response);
        let (read_header, read_payload) = whole(&once);
        let read = decode_response(&read_header, read_payload).expect("what was written is read");
        encode_response(&mut twice, &asked, &read);
        assert!(once == twice, "a response changes when it is passed on: {response:?}");
    });
}

/// The one frame that `bytes` are.
fn whole(bytes: &[u8]) -> (FrameHeader, &[u8]) {
    match decode_frame(bytes, &LIMITS) {
        Ok(Framed::Frame { header, payload, consumed }) if consumed == bytes.len() => (header, payload),
        other => panic!("a frame that was written is not read: {other:?}"),
    }
}

fn for_each_frame(input: &[u8], mut each: impl FnMut(FrameHeader, &[u8], &[u8])) {
    let (flags, rest) = split_flags(input);
    let (cut, stream) = split_flags(rest);
    let mut stream = stream.to_vec();
    let mut offset = 0;
    while offset < stream.len() {
        if flags & 1 != 0 {
            put_checksum_right(&mut stream[offset..]);
        }
        let left = &stream[offset..];
        let part = &left[..usize::from(cut).min(left.len())];
        let of_part = decode_frame(part, &LIMITS);
        let of_whole = bounded(left.len(), 0, || decode_frame(left, &LIMITS));
        match of_part {
            // Whoever waits for `needed` bytes must be told more when they are there.
            Ok(Framed::Incomplete { needed }) => assert!(needed > part.len()),
            judged => assert_eq!(judged, of_whole, "more bytes change the judgement"),
        }
        match of_whole {
            Ok(Framed::Frame { header, payload, consumed }) => {
                each(header, payload, &left[..consumed]);
                offset += consumed;
            }
            Ok(Framed::Incomplete { needed }) => return assert!(needed > left.len()),
            Err(error) => return assert!(!error.to_string().is_empty()),
        }
    }
}

fn put_checksum_right(frame: &mut [u8]) {
    let Some(length) = frame.get(4..8).and_then(|bytes| bytes.first_chunk::<4>()) else { return };
    let end = HEADER_BYTES + u32::from_le_bytes(*length) as usize;
    if frame.get(3) == Some(&FLAG_CHECKSUM) && end + CHECKSUM_BYTES <= frame.len() {
        let crc = checksum(&frame[..end]);
        overwrite(frame, end, &crc.to_le_bytes());
    }
}
