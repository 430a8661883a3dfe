//! Mutations: a corpus entry with a few changes, all of them decided by the generator.

use crate::support::Rng;

/// Longest input that is made.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// Numbers at which something changes, in whatever width and order they come to lie.
const NUMBERS: [u64; 16] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    1023,
    1024,
    1025,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    i64::MAX.cast_unsigned(),
    u64::MAX,
];
/// Words that the text protocols know.
const WORDS: [&[u8]; 16] = [
    b"\r\n",
    b"*",
    b"$-1",
    b"$0\r\n\r\n",
    b"\"",
    b"'",
    b"\\x00",
    b" ",
    b"\0",
    b",",
    b"[^",
    b"]",
    b"HTTP/1.1",
    b"= [",
    b"-9223372036854775808",
    b"AGGREGATION",
];

/// A mutation of one of `corpus`.
pub(crate) fn mutate(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = corpus[rng.index(corpus.len())].clone();
    for _ in 0..=rng.index(6) {
        let at = rng.index(input.len() + 1);
        match rng.below(10) {
            0 => flip(rng, &mut input, at),
            1 => set(&mut input, at, &[byte(rng)]),
            2 => put_number(rng, &mut input, at),
            3 => add(rng, &mut input, at),
            4 => drop(input.drain(at..(at + rng.index(16)).min(input.len()))),
            5 => insert(&mut input, at, WORDS[rng.index(WORDS.len())]),
            6 => {
                let bytes: Vec<u8> = (0..rng.index(12)).map(|_| byte(rng)).collect();
                insert(&mut input, at, &bytes);
            }
            7 => {
                let from = rng.index(input.len() + 1);
                let part = input[from..(from + rng.index(64)).min(input.len())].to_vec();
                insert(&mut input, at, &part);
            }
            8 => {
                // The end of another input: what one decoder state leads to, met in another.
                let other = &corpus[rng.index(corpus.len())];
                input.truncate(at);
                input.extend_from_slice(&other[rng.index(other.len() + 1)..]);
            }
            _ => input.truncate(input.len() - rng.index(input.len().min(8) + 1)),
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn flip(rng: &mut Rng, input: &mut [u8], at: usize) {
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << rng.below(8);
    }
}

fn set(input: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = input.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn put_number(rng: &mut Rng, input: &mut [u8], at: usize) {
    let number = NUMBERS[rng.index(NUMBERS.len())].to_le_bytes();
    let width = 1 << rng.below(4);
    set(input, at, &number[..width]);
}

fn add(rng: &mut Rng, input: &mut [u8], at: usize) {
    let change = 1 + byte(rng) % 16;
    if let Some(byte) = input.get_mut(at) {
        *byte = if rng.one_in(2) { byte.wrapping_add(change) } else { byte.wrapping_sub(change) };
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    drop(input.splice(at..at, bytes.iter().copied()));
}

fn byte(rng: &mut Rng) -> u8 {
    rng.next().to_le_bytes()[0]
}
