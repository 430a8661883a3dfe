//! LEB128 varints: seven bits per byte, least significant first, the shortest form only.

/// Longest encoding of a u64.
pub const VARINT_BYTES_MAX: usize = 10;

/// Appends `value`.
#[expect(clippy::cast_possible_truncation, reason = "only the low seven or eight bits are kept")]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed value: small magnitudes of either sign are short.
pub fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

/// Maps signed to unsigned: 0, -1, 1, -2 become 0, 1, 2, 3.
#[must_use]
pub fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

/// Bytes that [`put_varint`] appends.
#[must_use]
pub fn varint_bytes(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}
