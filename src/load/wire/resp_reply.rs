//! RESP2 replies, read as a stream: of a reply that does not fit the buffer, what was seen is never looked at again.

use super::{BadReply, Reply};

/// Longest line (a header, a simple string, an error).
const LINE_BYTES_MAX: usize = 64 << 10;
/// Longest bulk string that is believed.
const BULK_BYTES_MAX: u64 = 512 << 20;
/// The commonest reply.
const OK: &[u8; 5] = b"+OK\r\n";
/// Several of them, which are compared at once.
const OKS: &[u8; 40] = b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n";
const OKS_COUNT: u64 = (OKS.len() / OK.len()) as u64;
/// How TS.GET and TS.RANGE say that there is nothing.
const ABSENT: &[u8] = b"key does not exist";

/// Where the stream stands.
#[derive(Debug, Default)]
pub(in crate::load) struct RespReplies {
    /// Elements of the current reply that are still to come; 0 between replies.
    elements_left: u64,
    /// Bytes of the current bulk string, its end included, that are still to come.
    bulk_left: u64,
    /// Of the current reply.
    values: u64,
    failed: bool,
    /// The first error.
    pub(super) error: Option<String>,
    error_seen: bool,
}

impl RespReplies {
    /// See [`super::Replies::next`].
    #[inline]
    pub(super) fn next(&mut self, bytes: &[u8], at: &mut usize) -> Result<Option<Reply>, BadReply> {
        if self.elements_left == 0 {
            match bytes.get(*at..) {
                Some(rest) if rest.starts_with(OK) => {
                    *at += OK.len();
                    return Ok(Some(Reply { id: None, values: 1, failed: false }));
                }
                None | Some([]) => return Ok(None),
                Some(_) => self.elements_left = 1,
            }
        }
        self.go_on(bytes, at)
    }

    /// See [`super::Replies::take_acknowledged`].
    #[inline]
    pub(super) fn take_acknowledged(&self, bytes: &[u8], at: &mut usize, most: u64) -> u64 {
        let mut count = 0;
        if self.elements_left > 0 {
            return count;
        }
        let mut rest = bytes.get(*at..).unwrap_or_default();
        while count + OKS_COUNT <= most
            && let Some(after) = rest.strip_prefix(OKS)
        {
            rest = after;
            count += OKS_COUNT;
        }
        while count < most
            && let Some(after) = rest.strip_prefix(OK)
        {
            rest = after;
            count += 1;
        }
        *at = bytes.len() - rest.len();
        count
    }

    fn go_on(&mut self, bytes: &[u8], at: &mut usize) -> Result<Option<Reply>, BadReply> {
        while self.elements_left > 0 {
            let rest = bytes.get(*at..).unwrap_or_default();
            if self.bulk_left > 0 {
                let taken = self.bulk_left.min(rest.len() as u64);
                self.bulk_left -= taken;
                *at += usize::try_from(taken).unwrap_or(rest.len());
                if self.bulk_left > 0 {
                    return Ok(None);
                }
                self.elements_left -= 1;
                continue;
            }
            let Some(end) = line_end(rest)? else { return Ok(None) };
            let line = rest.get(..end).unwrap_or_default();
            *at += end + 2;
            self.line(line)?;
        }
        let reply = Reply { id: None, values: self.values, failed: self.failed };
        (self.values, self.failed) = (0, false);
        Ok(Some(reply))
    }

    /// One header or simple value.
    fn line(&mut self, line: &[u8]) -> Result<(), BadReply> {
        let Some((kind, body)) = line.split_first() else { return Err(no_resp(line)) };
        match kind {
            b'+' | b':' | b',' => self.value_done(),
            // A series that is not there is an error to TS.GET, and an absent value to who asks for one.
            b'-' if body.ends_with(ABSENT) => self.elements_left -= 1,
            b'-' => {
                self.failed = true;
                self.elements_left -= 1;
                if !self.error_seen {
                    self.error_seen = true;
                    self.error = Some(String::from_utf8_lossy(body).into_owned());
                }
            }
            b'$' => match number(body).ok_or_else(|| no_resp(line))? {
                -1 => self.elements_left -= 1,
                length => {
                    let length = u64::try_from(length).ok().filter(|length| *length <= BULK_BYTES_MAX);
                    self.bulk_left = length.ok_or_else(|| no_resp(line))? + 2;
                    self.values += 1;
                }
            },
            b'*' => {
                let count = number(body).ok_or_else(|| no_resp(line))?;
                self.elements_left -= 1;
                self.elements_left += u64::try_from(count.max(0)).unwrap_or(0);
            }
            b'_' => self.elements_left -= 1,
            _ => return Err(no_resp(line)),
        }
        Ok(())
    }

    fn value_done(&mut self) {
        self.values += 1;
        self.elements_left -= 1;
    }
}

/// Where the line ends, before its CR LF.
fn line_end(rest: &[u8]) -> Result<Option<usize>, BadReply> {
    match rest.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') {
        Some(end) if end > 0 && rest.get(end - 1) == Some(&b'\r') => Ok(Some(end - 1)),
        Some(end) => Err(no_resp(rest.get(..end).unwrap_or_default())),
        None if rest.len() >= LINE_BYTES_MAX => Err(no_resp(rest.get(..40).unwrap_or_default())),
        None => Ok(None),
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn no_resp(line: &[u8]) -> BadReply {
    let start = line.get(..line.len().min(40)).unwrap_or_default();
    BadReply(format!("the server does not speak RESP: it sent '{}'", start.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `bytes` in pieces of `piece`, as a socket may deliver them.
    fn read(bytes: &[u8], piece: usize) -> Result<(Vec<Reply>, Option<String>), BadReply> {
        let (mut replies, mut found, mut buffer) = (RespReplies::default(), Vec::new(), Vec::new());
        for part in bytes.chunks(piece) {
            buffer.extend_from_slice(part);
            let mut at = 0;
            while let Some(reply) = replies.next(&buffer, &mut at)? {
                found.push(reply);
            }
            buffer.drain(..at);
        }
        Ok((found, replies.error))
    }

    #[test]
    fn replies_of_every_kind_are_read_to_their_end() {
        // A reply read short shifts all that follow, and every latency belongs to another request.
        let bytes = b"+OK\r\n:1\r\n$-1\r\n$5\r\na\r\nbc\r\n*2\r\n*2\r\n:1\r\n$1\r\n2\r\n*0\r\n*-1\r\n-ERR TSDB: the key does not exist\r\n-ERR no\r\n+OK\r\n*2\r\n:1\r\n-ERR x\r\n$0\r\n\r\n";
        let expected: Vec<(u64, bool)> = vec![
            (1, false),
            (1, false),
            (0, false),
            (1, false),
            (2, false),
            (0, false),
            (0, false),
            (0, true),
            (1, false),
            (1, true),
            (1, false),
        ];
        for piece in 1..bytes.len() {
            let (found, error) = read(bytes, piece).unwrap();
            let found: Vec<_> = found.iter().map(|reply| (reply.values, reply.failed)).collect();
            assert_eq!(found, expected, "in pieces of {piece}");
            assert_eq!(error.as_deref(), Some("ERR no"));
        }
    }

    #[test]
    fn what_is_no_resp_is_refused() {
        // A web server on the port would be measured as a store.
        for bad in [&b"HTTP/1.1 400\r\n"[..], b"$x\r\n", b"$-2\r\n", b"\r\n", b"+OK\n", b"$99999999999\r\n"] {
            assert!(read(bad, 64).is_err(), "{}", bad.escape_ascii());
        }
    }
}
