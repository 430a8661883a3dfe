//! Which core owns which keys, and which keys are on the move: requests on those wait where they are.

use crate::model::{Command, KeyRange};
use crate::protocol::resp::Request;
use std::sync::Arc;

/// Split points between neighbouring shards, ascending: shard `i` owns the keys from point `i - 1` up to point `i`.
#[derive(Clone, Debug)]
pub(crate) struct Router {
    boundaries: Arc<[Box<[u8]>]>,
    /// Keys that are being handed over: no command on them is sent to anyone.
    held: Option<Arc<KeyRange>>,
}

impl Router {
    /// A router for `boundaries.len() + 1` shards.
    pub(crate) fn new(boundaries: &[Box<[u8]>]) -> Self {
        assert!(boundaries.is_sorted(), "split points ascend");
        Self { boundaries: boundaries.into(), held: None }
    }
    /// How many shards there are.
    pub(crate) fn shards(&self) -> u16 {
        u16::try_from(self.boundaries.len() + 1).expect("cores are bounded by CORES_MAX")
    }
    /// The shard that owns a key.
    pub(crate) fn owner(&self, key: &[u8]) -> u16 {
        let index = self.boundaries.partition_point(|boundary| **boundary <= *key);
        u16::try_from(index).expect("cores are bounded by CORES_MAX")
    }
    /// The shard that owns the last keys below `end`, or of all.
    pub(crate) fn owner_below(&self, end: Option<&[u8]>) -> u16 {
        let before = |end: &[u8]| self.boundaries.partition_point(|boundary| **boundary < *end);
        u16::try_from(end.map_or(self.boundaries.len(), before)).expect("cores are bounded by CORES_MAX")
    }
    /// Holds commands on these keys back.
    pub(crate) fn hold(&mut self, keys: Arc<KeyRange>) {
        assert!(self.held.is_none(), "one range moves at a time");
        self.held = Some(keys);
    }
    /// Nothing is held back any more, and the boundaries may be new.
    pub(crate) fn release(&mut self, boundaries: Option<&Arc<[Box<[u8]>]>>) {
        self.held = None;
        if let Some(boundaries) = boundaries {
            assert!(boundaries.is_sorted_by(|a, b| a < b), "split points ascend");
            assert_eq!(boundaries.len(), self.boundaries.len(), "the number of shards is fixed");
            self.boundaries = Arc::clone(boundaries);
        }
    }
    /// Whether any keys are held back.
    pub(crate) fn holds_any(&self) -> bool {
        self.held.is_some()
    }
    /// Whether some of these keys are held back.
    pub(crate) fn holds_some_of(&self, keys: &KeyRange) -> bool {
        self.held.as_ref().is_some_and(|held| held.overlaps(keys))
    }
    /// Whether a command touches what is held back; one that names no key may touch everything.
    pub(crate) fn holds_back(&self, command: &Command<'_>) -> bool {
        let Some(held) = &self.held else { return false };
        #[expect(clippy::wildcard_enum_match_arm, reason = "every other command is on one key")]
        match command {
            Command::PutBatch { entries } => entries.iter().any(|entry| held.contains(entry.series)),
            Command::Scan(request) => held.overlaps(&request.keys),
            command => command.key().is_none_or(|key| held.contains(key)),
        }
    }
    /// As [`Router::holds_back`], for a request.
    pub(crate) fn holds_back_request(&self, request: &Request<'_>) -> bool {
        match request {
            Request::Session(_) => false,
            Request::Data(command) => self.holds_back(command),
            Request::Gather { commands, .. } => {
                commands.iter().flatten().any(|command| self.holds_back(command))
            }
            Request::FlushAll | Request::DbSize | Request::Scan(_) | Request::Keys { .. } => self.holds_any(),
        }
    }
    /// The keys of a shard.
    pub(crate) fn keys(&self, shard: u16) -> KeyRange {
        let index = usize::from(shard);
        let start = index.checked_sub(1).and_then(|before| self.boundaries.get(before));
        KeyRange { start: start.cloned().unwrap_or_default(), end: self.boundaries.get(index).cloned() }
    }
    /// First key of each shard but the first.
    pub(crate) fn boundaries(&self) -> &[Box<[u8]>] {
        &self.boundaries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_the_owner_whose_range_holds_it() {
        // A key that is written to one shard and looked for in another is lost.
        let router = Router::new(&[(*b"g").into(), (*b"p").into()]);
        for key in [&b"\0"[..], b"f\xff", b"g", b"g\0", b"o\xff\xff", b"p", b"\xff"] {
            let owner = router.owner(key);
            assert!((0..router.shards()).all(|shard| router.keys(shard).contains(key) == (shard == owner)));
        }
    }
}
