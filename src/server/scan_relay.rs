//! A native scan over several shards: one shard after another in key order, with the client's credit.
//!
//! The shard at work holds the credit and streams chunks; when it is done, the relay takes what is left of limit and
//! credit to the next one. It shows everything acknowledged before it was sent, and one point in time per shard.

use super::router::Router;
use crate::model::{KeyRange, ScanRequest};

/// A scan that is under way.
#[derive(Debug)]
pub(crate) struct ScanRelay {
    /// The slot of its reply.
    pub(crate) sequence: u64,
    /// The client's name for it.
    pub(crate) request_id: u64,
    /// The shard at work.
    pub(crate) shard: u16,
    /// What remains; `limit` shrinks, and `keys` with each shard that is done.
    pub(crate) request: ScanRequest,
    /// What the shard at work was asked for: boundaries may move while it works.
    asked: KeyRange,
    /// Chunks that the client still takes.
    pub(crate) credit: u32,
    /// It has moved on to `shard`, which does not know of it yet: credit and cancellation stay here until then.
    pub(crate) is_moving: bool,
    /// The client has cancelled it.
    pub(crate) is_cancelled: bool,
}

impl ScanRelay {
    /// A scan that begins at its first shard.
    pub(crate) fn new(
        sequence: u64,
        request_id: u64,
        request: ScanRequest,
        credit: u32,
        router: &Router,
    ) -> Self {
        let (shard, asked) = (Self::first_shard(&request, router), KeyRange::default());
        Self { sequence, request_id, shard, request, asked, credit, is_moving: false, is_cancelled: false }
    }
    /// Where a scan begins.
    pub(crate) fn first_shard(request: &ScanRequest, router: &Router) -> u16 {
        if request.reverse {
            router.owner_below(request.keys.end.as_deref())
        } else {
            router.owner(&request.keys.start)
        }
    }
    /// Notes a chunk of `entries` entries; empty ones are not sent and cost no credit.
    pub(crate) fn chunk_sent(&mut self, entries: u64) {
        if entries > 0 {
            self.credit = self.credit.saturating_sub(1);
        }
        if self.request.limit != u64::MAX {
            self.request.limit = self.request.limit.saturating_sub(entries);
        }
    }
    /// Goes on behind the keys that were asked for last; `false` when there are no more.
    pub(crate) fn advance(&mut self) -> bool {
        if self.is_cancelled || self.request.limit == 0 {
            return false;
        }
        let keys = &mut self.request.keys;
        if self.request.reverse {
            keys.end = Some(self.asked.start.clone());
        } else {
            let Some(end) = &self.asked.end else { return false };
            keys.start = end.clone();
        }
        !keys.is_empty()
    }
    /// What to ask of the owner of the keys that come next, which is the shard at work from now on.
    pub(crate) fn shard_request(&mut self, router: &Router) -> ScanRequest {
        self.shard = Self::first_shard(&self.request, router);
        self.asked = self.request.keys.intersection(&router.keys(self.shard));
        ScanRequest { keys: self.asked.clone(), ..self.request.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ScanAnswer;

    fn request(keys: KeyRange, reverse: bool) -> ScanRequest {
        ScanRequest {
            keys,
            from: i64::MIN,
            to: i64::MAX,
            all_slots: false,
            reverse,
            limit: 10,
            answer: ScanAnswer::Entries,
        }
    }
    fn shards(keys: KeyRange, reverse: bool) -> Vec<u16> {
        let router = Router::new(&[(*b"g").into(), (*b"p").into()]);
        let mut relay = ScanRelay::new(0, 0, request(keys, reverse), 1, &router);
        let mut visited = Vec::new();
        loop {
            relay.shard_request(&router);
            visited.push(relay.shard);
            if !relay.advance() {
                return visited;
            }
        }
    }

    #[test]
    fn a_scan_visits_every_shard_it_touches_in_key_order() {
        // A shard that is left out is data that is silently missing.
        assert_eq!(shards(KeyRange::all(), false), [0, 1, 2]);
        assert_eq!(shards(KeyRange::all(), true), [2, 1, 0]);
        assert_eq!(shards(KeyRange::prefix(b"h"), false), [1]);
        assert_eq!(shards(KeyRange { start: (*b"h").into(), end: Some((*b"z").into()) }, true), [2, 1]);
        // The end is exclusive: the shard that begins there has nothing, and says so at once.
        assert_eq!(shards(KeyRange { start: (*b"a").into(), end: Some((*b"p").into()) }, false), [0, 1]);
    }

    #[test]
    fn a_scan_goes_on_behind_what_it_asked_for_wherever_the_boundaries_are_by_then() {
        // A scan that goes by the numbers of shards repeats or leaves out what is handed over meanwhile.
        let split = |key: &[u8]| Router::new(&[key.into()]);
        let mut relay = ScanRelay::new(0, 0, request(KeyRange::all(), false), 1, &split(b"m"));
        assert_eq!(relay.shard_request(&split(b"m")).keys.end.as_deref(), Some(&b"m"[..]));
        assert!(relay.advance());
        let rest = relay.shard_request(&split(b"t")).keys;
        assert_eq!((&*rest.start, rest.end.as_deref(), relay.shard), (&b"m"[..], Some(&b"t"[..]), 0));
        assert!(relay.advance());
        let rest = relay.shard_request(&split(b"a")).keys;
        assert_eq!((&*rest.start, rest.end.as_deref(), relay.shard), (&b"t"[..], None, 1));
        let mut relay = ScanRelay::new(0, 0, request(KeyRange::all(), true), 1, &split(b"m"));
        assert_eq!(&*relay.shard_request(&split(b"m")).keys.start, b"m");
        assert!(relay.advance());
        let rest = relay.shard_request(&split(b"c")).keys;
        assert_eq!((&*rest.start, rest.end.as_deref(), relay.shard), (&b"c"[..], Some(&b"m"[..]), 1));
    }

    #[test]
    fn a_scan_ends_at_its_limit() {
        // A client that asked for two entries would get credit for more, or wait for ever.
        let router = Router::new(&[(*b"g").into()]);
        let mut relay = ScanRelay::new(0, 0, request(KeyRange::all(), false), 2, &router);
        relay.chunk_sent(10);
        relay.shard_request(&router);
        assert!(relay.credit == 1 && !relay.advance());
    }
}
