//! Which protocol a connection speaks, by its first bytes.

use super::binary::MAGIC;

/// What a new connection turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// Too few bytes to tell; the caller waits for more.
    Undecided,
    /// Native frames.
    Native,
    /// RESP, multibulk or inline.
    Resp,
    /// HTTP: answered with [`HTTP_HINT`] and closed.
    Http,
    /// A TLS handshake: closed without an answer, which only TLS could carry.
    Tls,
}

/// Answer to HTTP on the data port.
pub const HTTP_HINT: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 87\r\n\
Connection: close\r\n\r\nThis is the data port of tskv: RESP or native frames. Metrics are on the --admin port.\n";

/// First byte of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// What HTTP requests start with. GET is a RESP command too; an inline GET of a key that starts with a slash is the
/// price. POST goes to RESP, whose own check for cross-protocol requests closes without an answer.
const HTTP_STARTS: [&[u8]; 6] = [b"GET /", b"HEAD /", b"PUT /", b"DELETE /", b"OPTIONS ", b"CONNECT "];

/// Tells from the bytes received so far.
#[must_use]
pub fn detect(received: &[u8]) -> Detected {
    match received.first() {
        None => Detected::Undecided,
        Some(&MAGIC) => Detected::Native,
        Some(&TLS_HANDSHAKE) => Detected::Tls,
        Some(b'*') => Detected::Resp,
        Some(_) if HTTP_STARTS.iter().any(|start| received.starts_with(start)) => Detected::Http,
        Some(_) if HTTP_STARTS.iter().any(|start| start.starts_with(received)) => Detected::Undecided,
        Some(_) => Detected::Resp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_decide() {
        // A client sent to the wrong decoder waits for ever, or gets an answer it cannot read.
        let cases: [(&[u8], Detected); 12] = [
            (b"", Detected::Undecided),
            (&[MAGIC], Detected::Native),
            (&[0x16, 3, 1], Detected::Tls),
            (b"*1\r\n", Detected::Resp),
            (b"PING\r\n", Detected::Resp),
            (b"GET key\r\n", Detected::Resp),
            (b"G", Detected::Undecided),
            (b"GET /metrics HTTP/1.1\r\n", Detected::Http),
            (b"HEAD / HTTP/1.1", Detected::Http),
            (b"POST / HTTP/1.1", Detected::Resp),
            (b"get key", Detected::Resp),
            (b"\r\n", Detected::Resp),
        ];
        for (received, expected) in cases {
            assert_eq!(detect(received), expected, "{}", received.escape_ascii());
        }
    }

    #[test]
    fn the_hint_is_a_whole_http_response() {
        // A wrong length leaves a browser waiting, and nobody reads the hint.
        let text = std::str::from_utf8(HTTP_HINT).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
    }
}
