//! Encoded histograms from files, checked before they are decoded.
//!
//! ```text
//! deflated  0x1c849314  bytes that follow (u32)  zlib stream of:
//! V2        0x1c849313  payload bytes (u32)  0 (u32)  digits (u32)  lowest (u64)  highest (u64)  1.0 (f64)  payload
//! payload   zig-zag LEB128, at most 9 bytes each: a count, or minus the length of a run of empty buckets
//! ```
//! All integers big-endian; see HdrHistogram's `encodeIntoCompressedByteBuffer`. The decoder of the crate allocates as
//! much as the header asks for and negates numbers that cannot be negated; a report reads files from anywhere. What
//! passes here has our own bounds, a payload no longer than its histogram, and counts whose sum is exact as an `f64`.

use super::latency::{DIGITS, LATENCY_NS_MAX};
use flate2::read::ZlibDecoder;
use std::io::Read;

const COOKIE_DEFLATED: [u8; 4] = [0x1c, 0x84, 0x93, 0x14];
const COOKIE_V2: [u8; 4] = [0x1c, 0x84, 0x93, 0x13];
/// Of a deflated histogram: cookie and length.
const DEFLATED_HEADER_BYTES: usize = 8;
/// Of a V2 histogram: everything before the payload.
const V2_HEADER_BYTES: usize = 40;
/// Longest number of a payload.
const VARINT_BYTES_MAX: usize = 9;
/// Buckets of a histogram with our bounds, rounded up.
const BUCKETS_MAX: u64 = 1 << 16;
/// Samples of a histogram: sums of them stay exact in an `f64`.
const SAMPLES_MAX: u64 = 1 << 53;
/// Bytes of an inflated histogram.
const V2_BYTES_MAX: u64 = V2_HEADER_BYTES as u64 + BUCKETS_MAX * VARINT_BYTES_MAX as u64;

/// Inflates an encoded histogram and checks it.
///
/// # Errors
///
/// The bytes are no histogram of ours; the text says why.
pub(super) fn checked_v2(deflated: &[u8]) -> Result<Vec<u8>, String> {
    let (header, stream) =
        deflated.split_at_checked(DEFLATED_HEADER_BYTES).ok_or("a histogram that ends in its header")?;
    if header.get(..4) != Some(&COOKIE_DEFLATED[..]) {
        return Err("not a deflated V2 histogram".to_owned());
    }
    let mut v2 = Vec::new();
    ZlibDecoder::new(stream)
        .take(V2_BYTES_MAX + 1)
        .read_to_end(&mut v2)
        .map_err(|error| format!("a histogram that does not inflate: {error}"))?;
    if v2.len() as u64 > V2_BYTES_MAX {
        return Err("a histogram of more buckets than there are".to_owned());
    }
    check_header(&v2)?;
    check_payload(v2.get(V2_HEADER_BYTES..).unwrap_or_default())?;
    Ok(v2)
}

#[expect(clippy::big_endian_bytes, reason = "HdrHistogram's form, which is not ours to choose")]
fn check_header(v2: &[u8]) -> Result<(), String> {
    let header = v2.get(..V2_HEADER_BYTES).ok_or("an inflated histogram that ends in its header")?;
    let payload_bytes = (v2.len() - V2_HEADER_BYTES) as u64;
    let word = |at: usize| u64::from(u32::from_be_bytes(array(header, at)));
    let long = |at: usize| u64::from_be_bytes(array(header, at));
    if header.get(..4) != Some(&COOKIE_V2[..]) {
        return Err("not a V2 histogram inside".to_owned());
    }
    if word(4) != payload_bytes {
        return Err(format!("a histogram that says {} bytes and has {payload_bytes}", word(4)));
    }
    if word(8) != 0 || long(32) != 1_f64.to_bits() {
        return Err("a normalised histogram".to_owned());
    }
    if word(12) != u64::from(DIGITS) || long(16) != 1 || long(24) != LATENCY_NS_MAX {
        return Err("a histogram of other bounds".to_owned());
    }
    Ok(())
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.iter_mut().zip(bytes.iter().skip(at)).for_each(|(to, from)| *to = *from);
    array
}

fn check_payload(mut payload: &[u8]) -> Result<(), String> {
    let (mut samples, mut buckets) = (0_u64, 0_u64);
    while !payload.is_empty() {
        let (number, rest) = take_varint(payload).ok_or("a histogram that ends within a count")?;
        payload = rest;
        // Zig-zag: even numbers are counts, odd ones runs of empty buckets.
        let magnitude = (number >> 1) + (number & 1);
        if number & 1 == 0 {
            buckets += 1;
            samples = samples.saturating_add(magnitude);
        } else {
            buckets = buckets.saturating_add(magnitude);
        }
        if buckets > BUCKETS_MAX {
            return Err("a histogram of more buckets than there are".to_owned());
        }
        if samples > SAMPLES_MAX {
            return Err("a histogram of more samples than can be counted".to_owned());
        }
    }
    Ok(())
}

/// The first number and what follows it: seven bits a byte, and all eight of the ninth.
fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (index, byte) in bytes.iter().enumerate().take(VARINT_BYTES_MAX) {
        let is_last = byte & 0x80 == 0 || index + 1 == VARINT_BYTES_MAX;
        let bits = if index + 1 == VARINT_BYTES_MAX { u64::from(*byte) } else { u64::from(byte & 0x7f) };
        number |= bits << (7 * index);
        if is_last {
            return Some((number, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::LatencyHistogram;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use flate2::write::ZlibEncoder;
    use std::io::Write;

    fn encoded(histogram: &LatencyHistogram) -> Vec<u8> {
        STANDARD.decode(serde_json::to_string(histogram).unwrap().trim_matches('"')).unwrap()
    }
    #[expect(clippy::big_endian_bytes, reason = "HdrHistogram's form, which is not ours to choose")]
    fn big_endian(bytes: usize) -> [u8; 4] {
        u32::try_from(bytes).unwrap().to_be_bytes()
    }
    fn deflated(v2: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(v2).unwrap();
        let stream = encoder.finish().unwrap();
        [&COOKIE_DEFLATED[..], &big_endian(stream.len())[..], &stream[..]].concat()
    }
    fn example() -> LatencyHistogram {
        let mut histogram = LatencyHistogram::default();
        (0..1000_u64).for_each(|index| histogram.record_many(index * index * 77, index + 1));
        histogram
    }
    fn read(bytes: &[u8]) -> Result<LatencyHistogram, serde_json::Error> {
        serde_json::from_str(&format!("\"{}\"", STANDARD.encode(bytes)))
    }
    fn with_payload(payload: &[u8]) -> Vec<u8> {
        let mut v2 = checked_v2(&encoded(&example())).unwrap();
        v2.truncate(V2_HEADER_BYTES);
        v2[4..8].copy_from_slice(&big_endian(payload.len()));
        v2.extend_from_slice(payload);
        deflated(&v2)
    }

    #[test]
    fn our_own_histograms_pass() {
        // A run could not be reported on.
        let mut full = LatencyHistogram::default();
        full.record_many(u64::MAX, SAMPLES_MAX);
        for histogram in [LatencyHistogram::default(), example(), full] {
            checked_v2(&encoded(&histogram)).unwrap();
            assert_eq!(read(&encoded(&histogram)).unwrap(), histogram);
        }
    }

    #[test]
    fn hostile_histograms_are_refused_and_cost_little() {
        // A report of a file from elsewhere would abort, or take the machine's memory.
        let huge_payload = {
            let mut v2 = checked_v2(&encoded(&example())).unwrap();
            v2[4..8].copy_from_slice(&[0xff; 4]);
            deflated(&v2)
        };
        let cases = [
            ("says 4 GiB", huge_payload),
            ("zip bomb", deflated(&vec![0; 64 << 20])),
            ("the run that cannot be negated", with_payload(&[0xff; 9])),
            ("too many samples", with_payload(&[0xfe; 9])),
            ("a run beyond the end", with_payload(&[0x81, 0x80, 0x80, 0x80, 0x10])),
            ("ends within a count", with_payload(&[0x80])),
            ("other bounds", {
                let mut v2 = checked_v2(&encoded(&example())).unwrap();
                v2[15] = 5;
                deflated(&v2)
            }),
        ];
        for (what, bytes) in cases {
            assert!(read(&bytes).is_err(), "{what} was accepted");
        }
    }

    #[test]
    fn every_truncation_and_bit_flip_is_refused_or_read() {
        // Some damage would abort the program instead of being told.
        let mut histogram = LatencyHistogram::default();
        [1, 7, 7, 900, 120_000].into_iter().for_each(|us| histogram.record(us * 1000));
        let whole = checked_v2(&encoded(&histogram)).unwrap();
        for length in 0..whole.len() {
            assert!(read(&deflated(&whole[..length])).is_err(), "{length} bytes were accepted");
        }
        for bit in 0..8 * whole.len() {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = read(&deflated(&flipped)).map(|histogram| histogram.summary());
        }
    }
}
