//! A cursor over bytes from disk or network: every read is checked, nothing panics.

use super::varint::VARINT_BYTES_MAX;
use std::fmt;

/// Why bytes could not be read as what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// Fewer bytes are left than needed.
    Truncated { offset: usize, needed: usize, left: usize },
    /// A varint of more than 64 bits, or not in its shortest form.
    VarintInvalid { offset: usize },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { offset, needed, left } => {
                write!(f, "{needed} bytes needed at byte {offset}, {left} left")
            }
            Self::VarintInvalid { offset } => write!(f, "invalid varint at byte {offset}"),
        }
    }
}
impl std::error::Error for ReadError {}

/// Reads from the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }
    /// Bytes read so far.
    #[must_use]
    #[inline]
    pub fn offset(&self) -> usize {
        self.offset
    }
    /// Bytes not yet read.
    #[must_use]
    #[inline]
    pub fn left(&self) -> usize {
        self.bytes.len() - self.offset
    }
    /// The rest, without reading it.
    #[must_use]
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.offset..).unwrap_or_default()
    }
    /// The next `count` bytes.
    ///
    /// # Errors
    /// When fewer are left; nothing is consumed then.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], ReadError> {
        let taken = self.rest().get(..count).ok_or(ReadError::Truncated {
            offset: self.offset,
            needed: count,
            left: self.left(),
        })?;
        self.offset += count;
        Ok(taken)
    }
    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }
    /// One byte.
    ///
    /// # Errors
    /// At the end of the bytes.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, ReadError> {
        Ok(u8::from_le_bytes(self.array()?))
    }
    /// Two bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u16(&mut self) -> Result<u16, ReadError> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    /// Four bytes.
    ///
    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, ReadError> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    /// Eight bytes.
    ///
    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, ReadError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    /// Eight bytes, signed.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn i64(&mut self) -> Result<i64, ReadError> {
        Ok(i64::from_le_bytes(self.array()?))
    }
    /// A varint in its shortest form.
    ///
    /// # Errors
    /// When it is cut off, longer than 64 bits, or padded.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, ReadError> {
        // Most numbers are small.
        match self.bytes.get(self.offset) {
            Some(byte) if *byte < 0x80 => {
                self.offset += 1;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }
    fn long_varint(&mut self) -> Result<u64, ReadError> {
        let start = self.offset;
        let mut value = 0u64;
        for position in 0..VARINT_BYTES_MAX {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            let last = byte & 0x80 == 0;
            let overflows = position == VARINT_BYTES_MAX - 1 && byte > 1;
            let padded = last && byte == 0 && position > 0;
            if overflows || padded {
                break;
            }
            value |= bits << (7 * position);
            if last {
                return Ok(value);
            }
        }
        self.offset = start;
        Err(ReadError::VarintInvalid { offset: start })
    }
    /// A signed varint.
    ///
    /// # Errors
    /// As [`Reader::varint`].
    #[inline]
    pub fn zigzag(&mut self) -> Result<i64, ReadError> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }
    /// A varint that counts things or bytes, at most `max`; the caller allocates only after this check.
    ///
    /// # Errors
    /// As [`Reader::varint`], and when it exceeds `max`.
    #[inline]
    pub fn count(&mut self, max: usize) -> Result<usize, ReadError> {
        let start = self.offset;
        let value = self.varint()?;
        match usize::try_from(value) {
            Ok(count) if count <= max => Ok(count),
            _ => {
                self.offset = start;
                Err(ReadError::Truncated {
                    offset: start,
                    needed: usize::try_from(value).unwrap_or(usize::MAX),
                    left: max,
                })
            }
        }
    }
    /// A byte string with its length (varint) before it.
    ///
    /// # Errors
    /// As [`Reader::varint`], and when fewer bytes are left than the length says.
    #[inline]
    pub fn prefixed(&mut self) -> Result<&'a [u8], ReadError> {
        let count = self.count(self.left())?;
        self.take(count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::varint::{put_varint, put_zigzag, varint_bytes};
    use super::*;

    #[test]
    fn varints_of_every_length_come_back() {
        // A wrong length loses the rest of whatever it stands in.
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, value);
                assert_eq!(bytes.len(), varint_bytes(value));
                assert_eq!(Reader::new(&bytes).varint(), Ok(value));
                let mut signed = Vec::new();
                put_zigzag(&mut signed, value.cast_signed());
                assert_eq!(Reader::new(&signed).zigzag(), Ok(value.cast_signed()));
            }
        }
    }

    #[test]
    fn padded_overlong_and_cut_varints_are_refused() {
        // Two encodings of one number would give two checksums for one meaning.
        for bytes in
            [&[0x80, 0x00][..], &[0xff; 11], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]]
        {
            assert!(matches!(Reader::new(bytes).varint(), Err(ReadError::VarintInvalid { .. })));
        }
        assert!(matches!(Reader::new(&[0x80]).varint(), Err(ReadError::Truncated { .. })));
    }

    #[test]
    fn a_length_beyond_the_bytes_is_refused() {
        // Allocating for a declared length would let ten bytes ask for gigabytes.
        let mut bytes = Vec::new();
        put_varint(&mut bytes, u64::MAX);
        assert!(Reader::new(&bytes).prefixed().is_err());
        assert!(Reader::new(&[]).u32().is_err());
    }
}
