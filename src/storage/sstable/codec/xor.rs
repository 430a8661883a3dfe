//! Doubles as differences of bits, after Gorilla (Pelkonen and others, VLDB 2015): neighbours share sign, exponent and
//! leading digits, so the exclusive or of two is zeros, a few bits, zeros.
//!
//! ```text
//! first   64 bits
//! then    0                                          the value before again
//!         1 0, significant bits                      in the window of the last new one
//!         1 1, leading u5, length - 1 u6, bits       a new window
//! ```
//! Leading zeros are counted up to 31.

use super::ColumnError;
use super::bits::{BitReader, BitWriter};
use crate::encoding::Reader;

const LEADING_BITS: u32 = 5;
const LENGTH_BITS: u32 = 6;
const LEADING_MAX: u32 = (1 << LEADING_BITS) - 1;

/// Zeros before the significant bits, and how many of these there are.
#[derive(Clone, Copy)]
struct Window {
    leading: u32,
    length: u32,
}

impl Window {
    /// The narrowest one for bits that are not all zero.
    fn of(bits: u64) -> Self {
        let leading = bits.leading_zeros().min(LEADING_MAX);
        Self { leading, length: u64::BITS - leading - bits.trailing_zeros() }
    }
    fn trailing(self) -> u32 {
        u64::BITS - self.leading - self.length
    }
    fn holds(self, bits: u64) -> bool {
        bits.leading_zeros() >= self.leading && bits.trailing_zeros() >= self.trailing()
    }
}

/// Appends values; at least one.
pub(super) fn encode(out: &mut Vec<u8>, values: &[u64]) {
    let mut writer = BitWriter::new(out);
    let mut before = values.first().copied().unwrap_or_default();
    writer.put(before, u64::BITS);
    let mut window: Option<Window> = None;
    for value in values.iter().skip(1) {
        let bits = before ^ value;
        before = *value;
        if bits == 0 {
            writer.put(0, 1);
            continue;
        }
        let own = Window::of(bits);
        // A wide old window costs more than the header of a new one saves.
        let kept =
            window.filter(|old| old.holds(bits) && old.length < own.length + LEADING_BITS + LENGTH_BITS);
        if let Some(kept) = kept {
            writer.put(0b01, 2);
            writer.put(bits >> kept.trailing(), kept.length);
            continue;
        }
        writer.put(0b11, 2);
        writer.put(u64::from(own.leading), LEADING_BITS);
        writer.put(u64::from(own.length - 1), LENGTH_BITS);
        writer.put(bits >> own.trailing(), own.length);
        window = Some(own);
    }
    writer.finish();
}

/// Appends `count` values to `out`.
pub(super) fn decode(reader: &mut Reader<'_>, count: usize, out: &mut Vec<u64>) -> Result<(), ColumnError> {
    let mut bits = BitReader::new(reader.rest());
    let mut value = bits.take(u64::BITS)?;
    out.push(value);
    let mut window: Option<Window> = None;
    for _ in 1..count {
        if bits.take(1)? == 1 {
            if bits.take(1)? == 1 {
                window = Some(take_window(&mut bits)?);
            }
            let window = window.ok_or(ColumnError::Inconsistent("bits without a window"))?;
            value ^= bits.take(window.length)? << window.trailing();
        }
        out.push(value);
    }
    let (used, padded) = bits.finish();
    reader.take(used)?;
    if padded { Ok(()) } else { Err(ColumnError::Inconsistent("bits after the last value")) }
}

#[expect(clippy::cast_possible_truncation, reason = "fields of 5 and 6 bits")]
fn take_window(bits: &mut BitReader<'_>) -> Result<Window, ColumnError> {
    let leading = bits.take(LEADING_BITS)? as u32;
    let length = bits.take(LENGTH_BITS)? as u32 + 1;
    if leading + length > u64::BITS {
        return Err(ColumnError::Inconsistent("a window wider than a value"));
    }
    Ok(Window { leading, length })
}
