//! Replies of the native protocol: matched by id, since they may overtake each other.

use super::{BadReply, Reply};
use crate::protocol::binary::{
    FrameHeader, FrameLimits, Framed, Opcode, RESPONSE_BIT, Response, decode_frame, decode_response,
};

/// Reads the frames of one connection.
#[derive(Debug, Default)]
pub(in crate::load) struct NativeReplies {
    /// The first refusal.
    pub(super) error: Option<String>,
    error_seen: bool,
    /// The scans whose chunks are coming.
    scans: Vec<OpenScan>,
    /// Scans that wait for credit, by request id; the connection sends it.
    pub(in crate::load) credits_due: Vec<u64>,
}

#[derive(Debug)]
struct OpenScan {
    id: u64,
    values: u64,
    chunks: u32,
}

/// Chunks that a scan may send before it waits for credit, and that each further credit allows.
pub(in crate::load) const SCAN_CREDIT: u32 = 16;

impl NativeReplies {
    /// See [`super::Replies::next`].
    pub(super) fn next(&mut self, bytes: &[u8], at: &mut usize) -> Result<Option<Reply>, BadReply> {
        loop {
            let rest = bytes.get(*at..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(None);
            }
            let framed = decode_frame(rest, &FrameLimits::authenticated()).map_err(|error| {
                BadReply(format!("the server does not speak the native protocol: {error}"))
            })?;
            let Framed::Frame { header, payload, consumed } = framed else { return Ok(None) };
            *at += consumed;
            if let Some(reply) = self.frame(&header, payload)? {
                return Ok(Some(reply));
            }
        }
    }

    /// A frame; none where it is not its request's last.
    fn frame(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<Option<Reply>, BadReply> {
        let id = Some(header.request_id);
        // The acknowledgement of a write is one byte: looking at it is enough.
        if payload == [0] {
            return Ok(Some(Reply { id, values: 1, failed: false }));
        }
        let response = decode_response(header, payload)
            .map_err(|error| BadReply(format!("the server does not speak the native protocol: {error}")))?;
        Ok(match response {
            Response::Failure { message, .. } => {
                if header.request_id == 0 {
                    return Err(BadReply(format!("the server ended the connection: {message}")));
                }
                self.scans.retain(|scan| scan.id != header.request_id);
                if !self.error_seen {
                    self.error_seen = true;
                    self.error = Some(message.to_owned());
                }
                Some(Reply { id, values: 0, failed: true })
            }
            Response::Sample(sample) => {
                Some(Reply { id, values: u64::from(sample.is_some()), failed: false })
            }
            Response::ScanChunk { entries, last } => {
                self.chunk(header.request_id, entries.len() as u64, last)
            }
            Response::Pong { .. }
            | Response::Hello(_)
            | Response::Done
            | Response::Stats(_)
            | Response::Routes(_) => {
                debug_assert!(header.opcode != RESPONSE_BIT | Opcode::Scan as u8, "scans answer with chunks");
                Some(Reply { id, values: 1, failed: false })
            }
        })
    }

    fn chunk(&mut self, id: u64, count: u64, last: bool) -> Option<Reply> {
        let index = self.scans.iter().position(|scan| scan.id == id).unwrap_or_else(|| {
            self.scans.push(OpenScan { id, values: 0, chunks: 0 });
            self.scans.len() - 1
        });
        let scan = &mut self.scans[index];
        scan.values += count;
        scan.chunks += 1;
        if last {
            let scan = self.scans.swap_remove(index);
            return Some(Reply { id: Some(id), values: scan.values, failed: false });
        }
        if scan.chunks.is_multiple_of(SCAN_CREDIT) {
            self.credits_due.push(id);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Slot, Value};
    use crate::protocol::binary::{Status, encode_failure, encode_response};

    #[test]
    fn replies_are_told_apart_by_their_ids() {
        // Two shards answer in any order; a latency must go to the request that it belongs to.
        let header = |opcode: Opcode, request_id| FrameHeader {
            opcode: opcode as u8,
            has_checksum: false,
            is_forwarded: false,
            request_id,
        };
        let mut bytes = Vec::new();
        let entries =
            vec![(&b"a"[..], Slot::Time(1), Value::F64(2.0)), (b"a", Slot::Time(2), Value::F64(3.0))];
        encode_response(
            &mut bytes,
            &header(Opcode::Scan, 3),
            &Response::ScanChunk { entries: entries.clone(), last: false },
        );
        encode_response(&mut bytes, &header(Opcode::Put, 2), &Response::Done);
        encode_response(&mut bytes, &header(Opcode::GetNewest, 1), &Response::Sample(None));
        encode_failure(&mut bytes, &header(Opcode::Put, 4), Status::Busy, "busy");
        encode_response(&mut bytes, &header(Opcode::Scan, 3), &Response::ScanChunk { entries, last: true });
        for piece in [1, 7, bytes.len()] {
            let (mut replies, mut found, mut buffer) = (NativeReplies::default(), Vec::new(), Vec::new());
            for part in bytes.chunks(piece) {
                buffer.extend_from_slice(part);
                let mut at = 0;
                while let Some(Reply { id, values, failed }) = replies.next(&buffer, &mut at).unwrap() {
                    found.push((id, values, failed));
                }
                buffer.drain(..at);
            }
            assert_eq!(
                found,
                [(Some(2), 1, false), (Some(1), 0, false), (Some(4), 0, true), (Some(3), 4, false)]
            );
            assert_eq!(replies.error.as_deref(), Some("busy"));
        }
        assert!(NativeReplies::default().next(b"+OK\r\n", &mut 0).is_err());
    }
}
