//! Integers as differences: the smallest difference, what divides the rest of all of them, and the quotients in as many
//! bits as the largest needs. Times that keep a rhythm, counters and sensors cost a few bits; decoding is a sum.
//!
//! ```text
//! first     u64
//! least     zigzag  smallest difference of neighbours (wrapping)
//! divisor   varint  at least 1
//! width     u8      bits of a quotient, 0..=64
//! quotients (count - 1) x width bits: (difference - least) / divisor
//! ```

use super::bits::{BitReader, BitWriter};
use super::{ColumnError, gcd};
use crate::encoding::{Reader, put_varint, put_zigzag};

/// What the differences of some integers have in common.
struct Shape {
    least: i64,
    divisor: u64,
    width: u32,
}

impl Shape {
    fn of(numbers: &[u64]) -> Self {
        let least = differences(numbers).min().unwrap_or_default();
        let (mut divisor, mut most) = (0, 0);
        for difference in differences(numbers) {
            let above = rise(least, difference);
            most = above.max(most);
            if divisor != 1 {
                divisor = gcd(divisor, above);
            }
        }
        let divisor = divisor.max(1);
        Self { least, divisor, width: u64::BITS - (most / divisor).leading_zeros() }
    }
}

/// Bytes that [`encode`] needs.
pub(super) fn cost(numbers: &[u64]) -> usize {
    let shape = Shape::of(numbers);
    let zigzag = (shape.least << 1 ^ shape.least >> 63).cast_unsigned();
    let header = 8 + 1 + varint_bytes(zigzag) + varint_bytes(shape.divisor);
    header + (numbers.len().saturating_sub(1) * shape.width as usize).div_ceil(8)
}

/// Appends numbers; at least one.
#[expect(clippy::cast_possible_truncation, reason = "a width is at most 64")]
pub(super) fn encode(out: &mut Vec<u8>, numbers: &[u64]) {
    let shape = Shape::of(numbers);
    out.extend_from_slice(&numbers.first().copied().unwrap_or_default().to_le_bytes());
    put_zigzag(out, shape.least);
    put_varint(out, shape.divisor);
    out.push(shape.width as u8);
    let mut writer = BitWriter::new(out);
    for difference in differences(numbers) {
        writer.put(rise(shape.least, difference) / shape.divisor, shape.width);
    }
    writer.finish();
}

/// Appends `count` numbers to `out`.
pub(super) fn decode(
    reader: &mut Reader<'_>,
    count: usize,
    mut emit: impl FnMut(u64),
) -> Result<(), ColumnError> {
    let mut number = reader.u64()?;
    let least = reader.zigzag()?;
    let divisor = reader.varint()?;
    let width = u32::from(reader.u8()?);
    if width > u64::BITS || divisor == 0 {
        return Err(ColumnError::Inconsistent("differences of no width or divisor"));
    }
    let steps = count.saturating_sub(1);
    let mut bits = BitReader::new(reader.take((steps * width as usize).div_ceil(8))?);
    emit(number);
    for _ in 0..steps {
        let above = bits.take(width)?.wrapping_mul(divisor);
        number = number.wrapping_add_signed(least).wrapping_add(above);
        emit(number);
    }
    if bits.finish().1 { Ok(()) } else { Err(ColumnError::Inconsistent("bits after the last difference")) }
}

fn differences(numbers: &[u64]) -> impl Iterator<Item = i64> {
    numbers
        .iter()
        .zip(numbers.iter().skip(1))
        .map(|(before, after)| after.wrapping_sub(*before).cast_signed())
}

/// How far `difference` lies above the least one.
fn rise(least: i64, difference: i64) -> u64 {
    difference.wrapping_sub(least).cast_unsigned()
}

fn varint_bytes(number: u64) -> usize {
    (u64::BITS - number.leading_zeros()).div_ceil(7).max(1) as usize
}
