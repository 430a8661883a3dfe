//! Byte primitives that every format shares: a bounds-checked reader, varints, checksums, and the description of
//! damage. All integers are little-endian.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

mod corruption;
mod reader;
mod varint;

pub use corruption::Corruption;
pub use reader::{ReadError, Reader};
pub use varint::{VARINT_BYTES_MAX, put_varint, put_zigzag, varint_bytes, zigzag};

/// CRC-32 (the one of zip and gzip) over one stretch of bytes.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// CRC-32 over several stretches as if they were one.
#[must_use]
pub fn checksum_parts(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}
