//! Heads of HTTP requests. Input: a byte that says where the head is cut, then the head.

use super::allocation::bounded;
use super::blobs::split_flags;
use tskv::protocol::http::{HEAD_BYTES_MAX, HttpParsed, HttpStatus, Method, parse_request, put_status};

pub(crate) fn head(input: &[u8]) {
    let (cut, head) = split_flags(input);
    let of_whole = bounded(head.len(), 0, || parse_request(head));
    let part = &head[..usize::from(cut).min(head.len())];
    match (parse_request(part), of_whole) {
        (HttpParsed::Incomplete, _) => {}
        (HttpParsed::Request { .. }, _) => {
            assert_eq!(parse_request(part), of_whole, "what follows the head matters")
        }
        (HttpParsed::Bad(_), whole) => {
            assert!(matches!(whole, HttpParsed::Bad(_)), "a bad head became {whole:?}")
        }
    }
    match of_whole {
        HttpParsed::Incomplete => assert!(head.len() < HEAD_BYTES_MAX, "a head goes on for ever"),
        HttpParsed::Request { path, .. } => {
            assert!(path.starts_with('/') && !path.contains(['?', '#', ' ', '\r', '\n', '\0']), "{path:?}");
        }
        HttpParsed::Bad(status) => {
            assert!(status != HttpStatus::Ok);
            let mut answer = Vec::new();
            put_status(&mut answer, Method::Get, status);
            assert!(answer.starts_with(b"HTTP/1.1 ") && answer.ends_with(b"\n"));
        }
    }
}
