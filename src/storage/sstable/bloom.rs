//! Bloom filter over (series, slot class).
//!
//! ```text
//! offset  bytes  field
//!      0      1  probes, 0..=30; 0: no filter, and nothing follows
//!      1    8 n  bit array, n >= 1
//! ```
//! The hash is XXH3-64 of the series with the class's discriminant as the seed: its value is part of the format, so it
//! must depend on nothing but the bytes. Probe `i` is bit `(hash + i * delta) * bits >> 64`, where `delta` is the hash
//! rotated right by 17, made odd.

use crate::model::SlotClass;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// More probes than any sensible number of bits per key wants.
const PROBES_MAX: u8 = 30;

/// Hash of what the filter holds.
pub(super) fn hash(series: &[u8], class: SlotClass) -> u64 {
    xxh3_64_with_seed(series, class as u64)
}

/// A filter in memory.
#[derive(Debug)]
pub(super) struct Bloom {
    probes: u8,
    bits: Box<[u8]>,
}

impl Bloom {
    /// Reads the stored form; `None` when the lengths do not fit.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (probes, bits) = bytes.split_first()?;
        let filled = *probes <= PROBES_MAX && !bits.is_empty() && bits.len().is_multiple_of(8);
        let empty = *probes == 0 && bits.is_empty();
        (filled || empty).then(|| Self { probes: *probes, bits: bits.into() })
    }
    /// False when what has this hash is certainly not in.
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        let bit_count = self.bits.len() as u64 * 8;
        probes(hash, self.probes, bit_count).all(|bit| {
            let byte = usize::try_from(bit / 8).ok().and_then(|index| self.bits.get(index));
            byte.is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
        })
    }
    /// Bytes of memory held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bits.len()
    }
}

/// Appends the stored form of a filter over `hashes`.
pub(super) fn encode(hashes: &[u64], bits_per_key: u8, out: &mut Vec<u8>) {
    if bits_per_key == 0 || hashes.is_empty() {
        out.push(0);
        return;
    }
    // 0.69 = ln 2 probes per bit and key gives the fewest false positives.
    let probe_count =
        u8::try_from(u32::from(bits_per_key) * 69 / 100).unwrap_or(PROBES_MAX).clamp(1, PROBES_MAX);
    let words = (hashes.len() * usize::from(bits_per_key)).div_ceil(64);
    let mut bits = vec![0u8; words * 8];
    for hash in hashes {
        for bit in probes(*hash, probe_count, words as u64 * 64) {
            if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|index| bits.get_mut(index)) {
                *byte |= 1 << (bit % 8);
            }
        }
    }
    out.push(probe_count);
    out.extend_from_slice(&bits);
}

fn probes(hash: u64, count: u8, bit_count: u64) -> impl Iterator<Item = u64> {
    let delta = hash.rotate_right(17) | 1;
    (0..u64::from(count)).map(move |index| {
        let probe = hash.wrapping_add(index.wrapping_mul(delta));
        ((u128::from(probe) * u128::from(bit_count)) >> 64) as u64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_in_is_denied_and_little_else_passes() {
        // A false negative loses data; many false positives cost a read each.
        let key = |number: u32| format!("host-{number}/cpu").into_bytes();
        let hashes: Vec<u64> = (0..10_000).map(|number| hash(&key(number), SlotClass::Time)).collect();
        let mut bytes = Vec::new();
        encode(&hashes, 10, &mut bytes);
        let bloom = Bloom::decode(&bytes).unwrap();
        assert!(hashes.iter().all(|hash| bloom.may_contain(*hash)));
        let passed = (0..10_000).filter(|number| bloom.may_contain(hash(&key(*number), SlotClass::Timeless)));
        let passed = passed.count();
        assert!(passed < 200, "{passed} of 10000 absent keys pass; about 100 are expected");
    }

    #[test]
    fn the_hash_is_part_of_the_format() {
        // A changed hash would make every filter on disk deny what its table holds.
        // XXH3's own test vector for no bytes and seed 0, then ours.
        assert_eq!(hash(b"", SlotClass::Metadata), 0x2d06_8005_38d3_94c2);
        assert_eq!(hash(b"sensor", SlotClass::Metadata), 0xa195_51c1_e959_8f9e);
    }

    #[test]
    fn no_filter_lets_everything_pass() {
        // Without bits the filter knows nothing, so it must not deny.
        let mut bytes = Vec::new();
        encode(&[1, 2], 0, &mut bytes);
        assert!(Bloom::decode(&bytes).unwrap().may_contain(7));
        assert!(
            Bloom::decode(&[]).is_none() && Bloom::decode(&[3]).is_none() && Bloom::decode(&[0, 1]).is_none()
        );
    }
}
