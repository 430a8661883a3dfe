//! HTTP/1.1 for the admin port: one GET or HEAD per connection, answered and closed.
//!
//! The head is parsed by `httparse`. Bodies are never read: the response says `Connection: close`, so what follows the
//! head means nothing. Limits: RELIABILITY §2.2.

use std::fmt::Write;

/// Longest request head. Longer: 431.
pub const HEAD_BYTES_MAX: usize = 8 << 10;
/// Most headers. More: 431.
pub const HEADERS_MAX: usize = 64;

/// Which of the two methods that have no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Head and body.
    Get,
    /// Head only.
    Head,
}

/// What [`parse_request`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpParsed<'a> {
    /// The head goes on.
    Incomplete,
    /// A request. The path is as sent, without the query; the caller compares it with the paths it knows, byte by
    /// byte, so dots and escapes reach nothing.
    Request { method: Method, path: &'a str },
    /// Answered with this status and closed.
    Bad(HttpStatus),
}

/// Statuses that the admin port gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpStatus {
    /// 200
    Ok,
    /// 400
    BadRequest,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 431
    HeadTooLarge,
    /// 503
    Unavailable,
    /// 505
    VersionNotSupported,
}

impl HttpStatus {
    /// Number and reason.
    #[must_use]
    pub fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::Unavailable => "503 Service Unavailable",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// Looks for a request head at the start of what has been received. Costs O(n); n is bounded by [`HEAD_BYTES_MAX`].
#[must_use]
pub fn parse_request(received: &[u8]) -> HttpParsed<'_> {
    let head = received.get(..HEAD_BYTES_MAX).unwrap_or(received);
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if received.len() >= HEAD_BYTES_MAX => {
            return HttpParsed::Bad(HttpStatus::HeadTooLarge);
        }
        Ok(httparse::Status::Partial) => return HttpParsed::Incomplete,
        Err(httparse::Error::TooManyHeaders) => return HttpParsed::Bad(HttpStatus::HeadTooLarge),
        Err(httparse::Error::Version) => return HttpParsed::Bad(HttpStatus::VersionNotSupported),
        Err(_) => return HttpParsed::Bad(HttpStatus::BadRequest),
    }
    let method = match request.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => return HttpParsed::Bad(HttpStatus::MethodNotAllowed),
    };
    match request.path.and_then(|target| target.split(['?', '#']).next()) {
        Some(path) if path.starts_with('/') => HttpParsed::Request { method, path },
        _ => HttpParsed::Bad(HttpStatus::BadRequest),
    }
}

/// Appends a whole response; a HEAD request gets the head alone, with the length the body would have.
pub fn put_response(out: &mut Vec<u8>, method: Method, status: HttpStatus, content_type: &str, body: &[u8]) {
    let mut head = String::with_capacity(192);
    let allow = if status == HttpStatus::MethodNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
    write!(
        head,
        "HTTP/1.1 {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        status.line(),
        body.len()
    )
    .unwrap_or_else(|_| unreachable!("a string takes every letter"));
    out.extend_from_slice(head.as_bytes());
    if method == Method::Get {
        out.extend_from_slice(body);
    }
}

/// Appends a response that says no more than its status.
pub fn put_status(out: &mut Vec<u8>, method: Method, status: HttpStatus) {
    let body = format!("{}\n", status.line());
    put_response(out, method, status, "text/plain; charset=utf-8", body.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(status: HttpStatus) -> HttpParsed<'static> {
        HttpParsed::Bad(status)
    }
    fn get(path: &str) -> HttpParsed<'_> {
        HttpParsed::Request { method: Method::Get, path }
    }

    #[test]
    fn requests_and_refusals() {
        // RELIABILITY §2.3 (c): a wrong answer here is a hole in the port that operators leave open.
        let cases: [(&[u8], HttpParsed<'_>); 21] = [
            (b"", HttpParsed::Incomplete),
            (b"GET /metrics HTTP/1.1\r\nHost: a\r\n", HttpParsed::Incomplete),
            (b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", get("/metrics")),
            (b"GET /metrics?a=b HTTP/1.0\r\n\r\n", get("/metrics")),
            (b"HEAD / HTTP/1.1\r\n\r\n", HttpParsed::Request { method: Method::Head, path: "/" }),
            (b"POST /metrics HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd", bad(HttpStatus::MethodNotAllowed)),
            (b"DELETE / HTTP/1.1\r\n\r\n", bad(HttpStatus::MethodNotAllowed)),
            (b"get / HTTP/1.1\r\n\r\n", bad(HttpStatus::MethodNotAllowed)),
            (b"GET / HTTP/9.9\r\n\r\n", bad(HttpStatus::VersionNotSupported)),
            (b"GET http://x/metrics HTTP/1.1\r\n\r\n", bad(HttpStatus::BadRequest)),
            (b"GET //metrics HTTP/1.1\r\n\r\n", get("//metrics")),
            (b"GET /../metrics HTTP/1.1\r\n\r\n", get("/../metrics")),
            (b"GET /%6detrics HTTP/1.1\r\n\r\n", get("/%6detrics")),
            (b"GET /\0 HTTP/1.1\r\n\r\n", bad(HttpStatus::BadRequest)),
            (b"GET / HTTP/1.1\r\nA: b\0\r\n\r\n", bad(HttpStatus::BadRequest)),
            (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", bad(HttpStatus::BadRequest)),
            (b"GET / HTTP/1.1\r\nNo colon\r\n\r\n", bad(HttpStatus::BadRequest)),
            (b"*1\r\n$4\r\nPING\r\n", bad(HttpStatus::BadRequest)),
            (&[0xf7, 1, 1, 0], bad(HttpStatus::BadRequest)),
            (&[0x16, 3, 1, 2, 0], bad(HttpStatus::BadRequest)),
            (b"GET / HTTP/1.1\r\nContent-Length: -1\r\nTransfer-Encoding: chunked\r\n\r\n", get("/")),
        ];
        for (received, expected) in cases {
            assert_eq!(parse_request(received), expected, "{}", received.escape_ascii());
        }
    }

    #[test]
    fn heads_are_bounded() {
        // Without a bound, one connection is as much memory as its peer likes to send.
        let line = [b"GET /".to_vec(), b"a".repeat(HEAD_BYTES_MAX)].concat();
        assert_eq!(parse_request(&line), bad(HttpStatus::HeadTooLarge));
        assert_eq!(parse_request(line.get(..HEAD_BYTES_MAX - 1).unwrap()), HttpParsed::Incomplete);
        let many = [b"GET / HTTP/1.1\r\n".to_vec(), b"a: b\r\n".repeat(HEADERS_MAX + 1)].concat();
        assert_eq!(parse_request(&many), bad(HttpStatus::HeadTooLarge));
        let long = [b"GET / HTTP/1.1\r\na: ".to_vec(), b"b".repeat(1 << 20)].concat();
        assert_eq!(parse_request(&long), bad(HttpStatus::HeadTooLarge));
    }

    #[test]
    fn head_leaves_the_body_out() {
        // A body after HEAD would be read as the next response.
        let mut out = Vec::new();
        put_response(&mut out, Method::Head, HttpStatus::Ok, "text/plain", b"12345");
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("Content-Length: 5\r\n") && text.ends_with("\r\n\r\n"));
        let mut out = Vec::new();
        put_status(&mut out, Method::Get, HttpStatus::MethodNotAllowed);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("Allow: GET, HEAD\r\n") && text.ends_with("\r\n\r\n405 Method Not Allowed\n"));
    }
}
