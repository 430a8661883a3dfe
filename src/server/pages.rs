//! SCAN and KEYS: pages of keys from one shard after another.
//!
//! A SCAN cursor is a number that stands for a key; the numbers live in one table of the daemon, so that a client may
//! go on through another of its connections. The table is bounded: the oldest cursors are forgotten, and a forgotten
//! cursor is an error that says so.

use crate::model::{KeyKind, Lsn};
use crate::protocol::resp::{self, glob};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Cursors that are remembered. Full: the oldest is forgotten.
const CURSORS_MAX: usize = 16 << 10;
/// Keys that KEYS asks for at once.
pub(crate) const PAGE_KEYS: usize = 1024;

/// A page request that is under way.
#[derive(Debug)]
pub(crate) struct Page {
    /// The slot of its reply.
    pub(crate) sequence: u64,
    /// SCAN answers after one page; KEYS goes on to the end.
    pub(crate) is_scan: bool,
    pub(crate) pattern: Option<Vec<u8>>,
    pub(crate) kind: Option<KeyKind>,
    /// Where the keys of the shard that is asked end, as they were when it was asked.
    pub(crate) until: Option<Box<[u8]>>,
    /// Keys so far, encoded.
    pub(crate) encoded: Vec<u8>,
    pub(crate) count: usize,
    /// Position of this core's log that the reply waits for: what any of the pages, also an empty one, depends on.
    pub(crate) gate: Lsn,
}

/// Where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// At this key.
    From(Box<[u8]>),
    /// Nowhere: that was all.
    End,
}

impl Page {
    /// Takes the keys of one shard's page ([`put_keys`]), which waits for `gate`, and says where to go on.
    pub(crate) fn take(&mut self, keys: &[u8], more: bool, gate: Lsn) -> Next {
        self.gate = self.gate.max(gate);
        let mut last = None;
        for (kind, key) in read_keys(keys) {
            let fits_kind = self.kind.is_none_or(|wanted| wanted == kind);
            let fits_pattern = self.pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, key));
            if fits_kind && fits_pattern {
                resp::encode::bulk(&mut self.encoded, key);
                self.count += 1;
            }
            last = Some(key);
        }
        match last {
            Some(last) if more => Next::From(behind(last)),
            _ => self.until.take().map_or(Next::End, Next::From),
        }
    }
    /// The finished reply.
    pub(crate) fn encode(&self, cursor: u64, out: &mut Vec<u8>) {
        if self.is_scan {
            resp::encode::array_header(out, 2);
            resp::encode::bulk(out, cursor.to_string().as_bytes());
        }
        resp::encode::array_header(out, self.count);
        out.extend_from_slice(&self.encoded);
    }
}

/// The first key that comes after `key`.
fn behind(key: &[u8]) -> Box<[u8]> {
    let mut next = key.to_vec();
    next.push(0);
    next.into_boxed_slice()
}

/// Encodes a page between cores: for each key its kind (1 byte), length (2 bytes) and bytes.
pub(crate) fn put_keys(out: &mut Vec<u8>, keys: &[(Box<[u8]>, KeyKind)]) {
    for (key, kind) in keys {
        let length = u16::try_from(key.len()).expect("keys are at most SERIES_BYTES_MAX long");
        out.push(u8::from(*kind == KeyKind::Series));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(key);
    }
}

fn read_keys(mut bytes: &[u8]) -> impl Iterator<Item = (KeyKind, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_first_chunk::<3>()?;
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([head[1], head[2]])))?;
        bytes = rest;
        Some((if head[0] == 1 { KeyKind::Series } else { KeyKind::String }, key))
    })
}

/// SCAN cursors of the daemon.
#[derive(Debug, Default)]
pub(crate) struct Cursors(Mutex<CursorTable>);

#[derive(Debug, Default)]
struct CursorTable {
    places: BTreeMap<u64, Box<[u8]>>,
    last: u64,
}

impl Cursors {
    /// A number for the key at which to go on.
    pub(crate) fn remember(&self, place: Box<[u8]>) -> u64 {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.last += 1;
        let cursor = table.last;
        table.places.insert(cursor, place);
        if table.places.len() > CURSORS_MAX {
            table.places.pop_first();
        }
        cursor
    }
    /// The place of a number; it stays valid, since clients may repeat a page.
    pub(crate) fn find(&self, cursor: u64) -> Option<Box<[u8]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).places.get(&cursor).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(pattern: Option<&[u8]>, kind: Option<KeyKind>) -> Page {
        let pattern = pattern.map(<[u8]>::to_vec);
        Page {
            sequence: 0,
            is_scan: true,
            pattern,
            kind,
            until: None,
            encoded: Vec::new(),
            count: 0,
            gate: Lsn(0),
        }
    }

    #[test]
    fn pages_filter_and_go_on_where_they_stopped() {
        // A page that goes on at the wrong key loses or repeats keys.
        let keys = [((*b"a1").into(), KeyKind::String), ((*b"b1").into(), KeyKind::Series)];
        let mut raw = Vec::new();
        put_keys(&mut raw, &keys);
        let mut filtered = page(Some(b"a*"), None);
        assert_eq!(filtered.take(&raw, true, Lsn(0)), Next::From((*b"b1\0").into()));
        let mut reply = Vec::new();
        filtered.encode(7, &mut reply);
        assert_eq!(reply, b"*2\r\n$1\r\n7\r\n*1\r\n$2\r\na1\r\n");
        let mut typed = page(None, Some(KeyKind::Series));
        typed.until = Some((*b"m").into());
        assert_eq!(typed.take(&raw, false, Lsn(9)), Next::From((*b"m").into()));
        assert_eq!((typed.take(&raw, false, Lsn(0)), typed.count), (Next::End, 2));
        // The second shard is another core's, durable when it comes; what the first showed may not be.
        assert_eq!(typed.gate, Lsn(9));
    }

    #[test]
    fn old_cursors_are_forgotten_not_mixed_up() {
        // A cursor that points at another client's place would skip keys silently.
        let cursors = Cursors::default();
        let first = cursors.remember((*b"x").into());
        for _ in 0..CURSORS_MAX {
            cursors.remember((*b"y").into());
        }
        assert_eq!(cursors.find(first), None);
        assert_eq!(cursors.find(first + 1), Some((*b"y").into()));
    }
}
