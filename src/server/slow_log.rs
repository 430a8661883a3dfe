//! The slow log: requests that took longer than `--slowlog-slower-than`, with where their time went.
//!
//! One for the daemon, behind a lock that is taken only for slow requests and by whoever reads it. It holds the last
//! `--slowlog-len`; the oldest goes first. SLOWLOG GET answers as Redis does, so that its clients can read it; the split
//! is one more word of the command: `queue=3us wal=10250us read=0us forward=0us send=41us`.

use super::blame::Head;
use crate::metrics::{Phase, PhaseTimes, RequestKind};
use crate::protocol::resp::encode;
use std::collections::VecDeque;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

/// One slow request.
#[derive(Clone, Debug)]
pub(crate) struct SlowRequest {
    /// When its reply had left, in seconds since 1970.
    pub(crate) unix_s: i64,
    pub(crate) kind: RequestKind,
    pub(crate) times: PhaseTimes,
    /// Requests of the same connection that went through the same turns; the command is the first one's.
    pub(crate) count: u32,
    /// `None`: too long ago to tell.
    pub(crate) head: Option<Head>,
    pub(crate) peer: Option<SocketAddr>,
    /// CLIENT SETNAME.
    pub(crate) client_name: Vec<u8>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct SlowLog(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// Oldest first, with their numbers.
    entries: VecDeque<(u64, SlowRequest)>,
    /// Slow requests so far.
    count: u64,
}

impl SlowLog {
    /// Adds a request; the log then holds at most `len_max`.
    pub(crate) fn add(&self, request: SlowRequest, len_max: usize) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = log.count;
        log.count += 1;
        if len_max == 0 {
            return;
        }
        while log.entries.len() >= len_max {
            log.entries.pop_front();
        }
        log.entries.push_back((id, request));
    }
    /// Requests that it holds.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entries.len()
    }
    /// Slow requests since the start, those that are no longer held included.
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count
    }
    /// Forgets all requests; numbers go on.
    pub(crate) fn reset(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entries.clear();
    }
    /// The last `count` requests, newest first.
    pub(crate) fn newest(&self, count: usize) -> Vec<(u64, SlowRequest)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entries
            .iter()
            .rev()
            .take(count)
            .cloned()
            .collect()
    }
}

/// Encodes the answer to SLOWLOG GET.
pub(crate) fn put_entries(out: &mut Vec<u8>, entries: &[(u64, SlowRequest)]) {
    encode::array_header(out, entries.len());
    for (id, request) in entries {
        encode::array_header(out, 6);
        encode::integer(out, id.cast_signed());
        encode::integer(out, request.unix_s);
        encode::integer(out, (request.times.total_ns() / 1_000).cast_signed());
        let words = request.words();
        encode::array_header(out, words.len());
        words.iter().for_each(|word| encode::bulk(out, word));
        let peer = request.peer.map_or_else(|| "?:0".to_owned(), |peer| peer.to_string());
        encode::bulk(out, peer.as_bytes());
        encode::bulk(out, &request.client_name);
    }
}

impl SlowRequest {
    /// The command as far as it is known, and the split.
    fn words(&self) -> Vec<Vec<u8>> {
        let mut words = Vec::new();
        match &self.head {
            None => words.push(self.kind.name().as_bytes().to_vec()),
            Some(head) => {
                words.push(head.name().to_vec());
                if head.words() > 1 {
                    words.push(head.key().to_vec());
                }
                if head.words() > 2 {
                    words.push(format!("... ({} more arguments)", head.words() - 2).into_bytes());
                }
            }
        }
        if self.count > 1 {
            words.push(format!("... (the first of {} requests)", self.count).into_bytes());
        }
        let mut split = String::new();
        for phase in Phase::ALL {
            let blank = if split.is_empty() { "" } else { " " };
            let _ = write!(split, "{blank}{}={}us", phase.name(), self.times.of(phase) / 1_000);
        }
        words.push(split.into_bytes());
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: &[u8]) -> SlowRequest {
        SlowRequest {
            unix_s: 7,
            kind: RequestKind::Put,
            times: PhaseTimes([1_000, 20_000_000, 0, 0, 3_999]),
            count: 1,
            head: Some(Head::new(b"SET", key, 3)),
            peer: None,
            client_name: Vec::new(),
        }
    }

    #[test]
    fn the_log_keeps_the_newest_and_numbers_go_on() {
        // A client that polls by number would miss requests, or the log would grow for ever.
        let log = SlowLog::default();
        (0..5_u8).for_each(|key| log.add(request(&[b'a' + key]), 3));
        let ids: Vec<_> = log.newest(10).iter().map(|(id, _)| *id).collect();
        assert_eq!((ids, log.len(), log.count()), (vec![4, 3, 2], 3, 5));
        assert_eq!(log.newest(1).first().map(|(id, _)| *id), Some(4));
        log.reset();
        log.add(request(b"z"), 3);
        assert_eq!(log.newest(10).first().map(|(id, _)| *id), Some(5));
        log.add(request(b"none"), 0);
        assert_eq!((log.len(), log.count()), (1, 7), "a length of 0 only counts");
    }

    #[test]
    fn entries_have_the_six_fields_that_redis_clients_read() {
        // A client that reads a fixed number of fields loses its place in the stream.
        let mut out = Vec::new();
        put_entries(&mut out, &[(4, SlowRequest { count: 2, ..request(b"k\r\n") })]);
        let expected = "*1\r\n*6\r\n:4\r\n:7\r\n:20004\r\n*5\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$22\r\n... (1 more \
                        arguments)\r\n$29\r\n... (the first of 2 requests)\r\n$51\r\n";
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with(expected), "{text:?}");
        assert!(
            text.contains("queue=1us wal=20000us read=0us forward=0us send=3us\r\n$3\r\n?:0\r\n$0\r\n\r\n")
        );
    }
}
