//! Bit fields, least significant bit first, in a stretch of bytes.

use crate::encoding::{ReadError, Reader};

/// Appends fields of 0 to 64 bits. [`BitWriter::finish`] pads the last byte with zeros.
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Bits not written yet, fewer than 64.
    pending: u128,
    pending_bits: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, pending: 0, pending_bits: 0 }
    }
    /// Appends the low `bits` bits of `value`; the others must be zero.
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is full")]
    pub(super) fn put(&mut self, value: u64, bits: u32) {
        debug_assert!(bits == 64 || value >> bits == 0, "{value} has more than {bits} bits");
        self.pending |= u128::from(value) << self.pending_bits;
        self.pending_bits += bits;
        if self.pending_bits >= 64 {
            self.out.extend_from_slice(&(self.pending as u64).to_le_bytes());
            self.pending >>= 64;
            self.pending_bits -= 64;
        }
    }
    pub(super) fn finish(self) {
        let bytes = self.pending.to_le_bytes();
        let count = self.pending_bits.div_ceil(8) as usize;
        self.out.extend_from_slice(bytes.get(..count).unwrap_or_default());
    }
}

/// Reads fields of 0 to 64 bits.
pub(super) struct BitReader<'a> {
    reader: Reader<'a>,
    pending: u128,
    pending_bits: u32,
}

impl<'a> BitReader<'a> {
    /// Reads from the front of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { reader: Reader::new(bytes), pending: 0, pending_bits: 0 }
    }
    /// The next field.
    #[expect(clippy::cast_possible_truncation, reason = "the value is masked to at most 64 bits")]
    pub(super) fn take(&mut self, bits: u32) -> Result<u64, ReadError> {
        debug_assert!(bits <= 64, "a field has at most 64 bits");
        if self.pending_bits < bits {
            self.refill(bits)?;
        }
        let value = self.pending as u64 & mask(bits);
        self.pending >>= bits;
        self.pending_bits -= bits;
        Ok(value)
    }
    /// Bytes touched so far, and whether the rest of the last one is zeros.
    pub(super) fn finish(self) -> (usize, bool) {
        let whole = self.pending_bits / 8;
        let (used, left) = (self.reader.offset() - whole as usize, self.pending_bits % 8);
        (used, self.pending & u128::from(mask(left)) == 0)
    }
    fn refill(&mut self, bits: u32) -> Result<(), ReadError> {
        if self.reader.left() >= 8 {
            self.pending |= u128::from(self.reader.u64()?) << self.pending_bits;
            self.pending_bits += 64;
        }
        while self.pending_bits < bits {
            self.pending |= u128::from(self.reader.u8()?) << self.pending_bits;
            self.pending_bits += 8;
        }
        Ok(())
    }
}

/// The low `bits` bits set.
fn mask(bits: u32) -> u64 {
    if bits == 0 { 0 } else { u64::MAX >> (64 - bits) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_all_widths_come_back() {
        // A field that runs over a word's end takes bits of its neighbour.
        let fields: Vec<(u64, u32)> = (0..500u32)
            .map(|index| (index * 7) % 65)
            .map(|bits| (0x9e37_79b9_7f4a_7c15u64.rotate_left(bits) & mask(bits), bits))
            .collect();
        let mut bytes = vec![0xff];
        let mut writer = BitWriter::new(&mut bytes);
        fields.iter().for_each(|(value, bits)| writer.put(*value, *bits));
        writer.finish();
        let mut reader = BitReader::new(&bytes[1..]);
        for (value, bits) in &fields {
            assert_eq!(reader.take(*bits), Ok(*value), "{bits} bits");
        }
        assert_eq!(reader.finish(), (bytes.len() - 1, true));
    }

    #[test]
    fn reading_past_the_end_is_an_error() {
        // Hostile counts ask for more fields than there are bytes.
        let mut reader = BitReader::new(&[0xff; 3]);
        assert_eq!(reader.take(20), Ok(0xf_ffff));
        assert!(reader.take(5).is_err());
        assert_eq!(reader.take(4), Ok(0xf));
    }
}
