//! Where the key space is split between shards.
//!
//! Boundaries only route: what was written under others is found all the same. So they may be computed anew at every
//! open, from what the tables hold; as long as they are fair they stay.

use crate::limits::SERIES_BYTES_MAX;
use std::collections::BTreeSet;

/// A stored boundary set stays while every shard holds at least this part of its fair share.
const FAIR_SHARE_DIVISOR: u64 = 2;
/// First bytes between which an empty store is split: keys are mostly text.
const TEXT: std::ops::Range<u32> = 0x30_00..0x7b_00;

/// A key and how much lies there, in whatever unit.
pub(crate) type Weight = (Box<[u8]>, u64);

/// Split points for `shards` shards over what `weights` says is stored, ascending by key. Keeps `stored` where it has
/// the right number of points and is fair enough, or cannot be bettered.
pub(super) fn choose(stored: &[Box<[u8]>], weights: &[Weight], shards: usize) -> Vec<Box<[u8]>> {
    let fits = stored.len() + 1 == shards;
    let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
    let enough = total / (shards as u64 * FAIR_SHARE_DIVISOR);
    if fits && smallest_share(stored, weights) >= enough {
        return stored.to_vec();
    }
    let points = split(weights, shards);
    if fits && smallest_share(stored, weights) >= smallest_share(&points, weights) {
        stored.to_vec()
    } else {
        points
    }
}

/// Splits evenly by weight, between two keys; where there are too few keys, points of the empty store fill up.
pub(crate) fn split(weights: &[Weight], shards: usize) -> Vec<Box<[u8]>> {
    let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
    let mut points = BTreeSet::new();
    let mut before = 0u64;
    let mut wanted = 1;
    for ((key, weight), following) in weights.iter().zip(weights.iter().skip(1)) {
        before += weight;
        let reached =
            |wanted: usize| before.saturating_mul(shards as u64) >= total.saturating_mul(wanted as u64);
        if wanted < shards && reached(wanted) && following.0 > *key && following.0.len() <= SERIES_BYTES_MAX {
            points.insert(following.0.clone());
            while wanted < shards && reached(wanted) {
                wanted += 1;
            }
        }
    }
    fill(&mut points, shards - 1);
    points.into_iter().collect()
}

fn fill(points: &mut BTreeSet<Box<[u8]>>, count: usize) {
    let even = (1..=count).map(|index| {
        let step = (TEXT.end - TEXT.start) as usize * index / (count + 1);
        TEXT.start + u32::try_from(step).unwrap_or(0)
    });
    for point in even.chain(1..=u32::from(u16::MAX)) {
        if points.len() >= count {
            return;
        }
        let [low, high, ..] = point.to_le_bytes();
        points.insert(if low == 0 { [high].into() } else { [high, low].into() });
    }
}

/// What the shard with the least holds.
fn smallest_share(points: &[Box<[u8]>], weights: &[Weight]) -> u64 {
    let mut shares = vec![0u64; points.len() + 1];
    for (key, weight) in weights {
        let shard = points.partition_point(|point| point <= key);
        if let Some(share) = shares.get_mut(shard) {
            *share += weight;
        }
    }
    shares.into_iter().min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(list: &[(&str, u64)]) -> Vec<Weight> {
        list.iter().map(|(key, weight)| (key.as_bytes().into(), *weight)).collect()
    }

    #[test]
    fn shards_get_even_shares() {
        // An uneven split makes one core do all the work.
        let list: Vec<_> = (0..1000).map(|index| (format!("k{index:04}").into_bytes().into(), 10)).collect();
        for shards in [2, 3, 4, 16] {
            let points = choose(&[], &list, shards);
            assert_eq!(points.len() + 1, shards);
            assert!(points.is_sorted_by(|a, b| a < b));
            assert!(smallest_share(&points, &list) >= 10_000 / shards as u64 - 10);
        }
    }

    #[test]
    fn a_heavy_key_does_not_starve_the_others() {
        // One key heavier than a fair share must not swallow the points that follow it.
        let list = weights(&[("a", 1000), ("b", 10), ("c", 10), ("d", 10)]);
        let points = choose(&[], &list, 2);
        assert_eq!(points, vec![Box::from(&b"b"[..])]);
        assert_eq!(choose(&[], &list, 4).len(), 3);
    }

    #[test]
    fn fair_boundaries_stay_and_unfair_ones_go() {
        // Moving a boundary for nothing rewrites tables for nothing; never moving it leaves cores idle.
        let list: Vec<_> = (0..100).map(|index| (format!("k{index:04}").into_bytes().into(), 10)).collect();
        let fair: Vec<Box<[u8]>> = vec![b"k0040"[..].into()];
        assert_eq!(choose(&fair, &list, 2), fair);
        let unfair: Vec<Box<[u8]>> = vec![b"k0001"[..].into()];
        assert_ne!(choose(&unfair, &list, 2), unfair);
        assert_eq!(choose(&unfair, &[], 2), unfair, "an empty store has no better ones");
    }

    #[test]
    fn an_empty_store_is_split_for_any_number_of_shards() {
        // Too few points would leave a shard without a range.
        for shards in 1..=128 {
            let points = choose(&[], &[], shards);
            assert_eq!(points.len(), shards - 1);
            assert!(points.iter().all(|point| !point.is_empty()) && points.is_sorted_by(|a, b| a < b));
        }
    }
}
