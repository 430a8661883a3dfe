//! Inputs made of pieces: a flag byte, then pieces with their length (u16, little-endian) before them. libFuzzer
//! changes a piece without moving the others, and the harness puts lengths and checksums around them.

/// The first byte, and the rest.
pub(crate) fn split_flags(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, input), |(first, rest)| (*first, rest))
}

/// The pieces; the last one may be shorter than it says.
pub(crate) fn pieces(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = input.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        input = rest;
        Some(piece)
    })
}

/// Appends a piece.
///
/// # Panics
/// When it is longer than 64 KiB.
#[allow(dead_code, reason = "corpora are written by the runner of `cargo test`")]
pub(crate) fn put_piece(out: &mut Vec<u8>, piece: &[u8]) {
    out.extend_from_slice(&u16::try_from(piece.len()).expect("pieces are short").to_le_bytes());
    out.extend_from_slice(piece);
}

/// Overwrites `out[at..]` with `bytes`, as far as both reach.
pub(crate) fn overwrite(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}
