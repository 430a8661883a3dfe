//! Which core owns which keys.

use crate::model::KeyRange;
use std::sync::Arc;

/// Split points between neighbouring shards, ascending: shard `i` owns the keys from point `i - 1` up to point `i`.
#[derive(Clone, Debug)]
pub(crate) struct Router {
    boundaries: Arc<[Box<[u8]>]>,
}

impl Router {
    /// A router for `boundaries.len() + 1` shards.
    pub(crate) fn new(boundaries: &[Box<[u8]>]) -> Self {
        assert!(boundaries.is_sorted(), "split points ascend");
        Self { boundaries: boundaries.into() }
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
