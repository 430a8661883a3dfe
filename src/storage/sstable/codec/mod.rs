//! Column codecs: how one column of a chunk is stored. Each column names its codec with four bits.
//!
//! ```text
//! id  codec     offsets (times, seqnos)       integers              doubles                bytes            kinds
//!  0  plain     width u8 (1, 2, 4, 8),        count x 8             count x 8              lengths as       bitmap,
//!               count x width                                                              offsets, bytes   1 = delete
//!  1  constant  nothing (range is 0)          8                     8                      the bytes        nothing
//!  2  step      nothing (i x range/(count-1)) first 8, step 8       -                      -                -
//!  3  delta     differences, bit-packed (delta.rs)                  -                      -                -
//!  4  xor       -                             -                     bits (xor.rs)          -                -
//!  5  decimal   -                             -                     exponent u8, id u8 of  -                -
//!                                                                   delta or pco, integers
//!  6  pco       entropy coded (pco.rs)                              the same               -                -
//!  7  lz4       -                             -                     -                      plain bytes      -
//!                                                                                          varint, lz4 block
//! ```
//! Ids 8 to 15 are unassigned. Offsets are counted from the column's least value; that and the range (greatest minus
//! least) stand in the chunk's header. What an encoder picks depends on the column and the [`Effort`] alone, so that
//! equal columns have equal bytes.
#![deny(clippy::indexing_slicing)]

mod bits;
mod decimal;
mod delta;
mod pco;
mod xor;

use crate::encoding::{ReadError, Reader, put_varint};
use crate::limits::BLOCK_BYTES_MAX;
use crate::model::ValueType;

/// What a codec must save of the bytes of a cheaper one to be worth its decoding: one part in so many.
const WORTH_ONE_IN: usize = 32;
/// Fewer bytes are not worth a try with lz4.
const LZ4_BYTES_MIN: usize = 64;

/// How much work an encoder puts into a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// For tables that are merged again soon: codecs that encode and decode at memory speed.
    #[default]
    Quick = 0,
    /// For tables that stay: every codec is tried, the smallest is kept.
    Thorough = 1,
}

impl Effort {
    /// Reads the stored form. It steers merges and is needed by no decoder, so any byte will do.
    pub(super) fn from_byte(byte: u8) -> Self {
        if byte == Self::Quick as u8 { Self::Quick } else { Self::Thorough }
    }
}

/// How a column is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Codec {
    Plain = 0,
    Constant = 1,
    Step = 2,
    Delta = 3,
    Xor = 4,
    Decimal = 5,
    Pco = 6,
    Lz4 = 7,
}

impl Codec {
    /// Reads the stored id.
    pub(super) fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::Plain),
            1 => Some(Self::Constant),
            2 => Some(Self::Step),
            3 => Some(Self::Delta),
            4 => Some(Self::Xor),
            5 => Some(Self::Decimal),
            6 => Some(Self::Pco),
            7 => Some(Self::Lz4),
            _ => None,
        }
    }
    /// Whether times and seqnos may be stored so.
    pub(super) fn serves_offsets(self) -> bool {
        matches!(self, Self::Plain | Self::Constant | Self::Step | Self::Delta | Self::Pco)
    }
    /// Whether kinds may be stored so.
    pub(super) fn serves_kinds(self) -> bool {
        matches!(self, Self::Plain | Self::Constant)
    }
    /// Whether values of a type may be stored so; `None` when there are none.
    pub(super) fn serves_values(self, value_type: Option<ValueType>) -> bool {
        match value_type {
            None => self == Self::Constant,
            Some(ValueType::I64) => self.serves_offsets(),
            Some(ValueType::F64) => {
                matches!(self, Self::Plain | Self::Constant | Self::Xor | Self::Decimal | Self::Pco)
            }
            Some(ValueType::Bytes) => matches!(self, Self::Plain | Self::Constant | Self::Lz4),
        }
    }
}

/// Why a column could not be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ColumnError {
    /// Too few bytes.
    Read(ReadError),
    /// The bytes contradict the header, in words.
    Inconsistent(&'static str),
}

impl std::fmt::Display for ColumnError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Inconsistent(what) => f.write_str(what),
        }
    }
}

impl From<ReadError> for ColumnError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Appends offsets, of which the greatest is `range` and the least is 0.
pub(super) fn encode_offsets(out: &mut Vec<u8>, offsets: &[u64], range: u64, effort: Effort) -> Codec {
    if range == 0 {
        return Codec::Constant;
    }
    let steps = offsets.len() as u64 - 1;
    if range.is_multiple_of(steps) {
        let step = range / steps;
        if offsets.iter().zip(0u64..).all(|(offset, index)| *offset == index * step) {
            return Codec::Step;
        }
    }
    let plain_bytes = 1 + offsets.len() * width_of(range);
    let delta_bytes = delta::cost(offsets);
    if let Some(bytes) = pco_below::<u64>(offsets, plain_bytes.min(delta_bytes), effort) {
        out.extend_from_slice(&bytes);
        return Codec::Pco;
    }
    if delta_bytes < worth(plain_bytes) {
        delta::encode(out, offsets);
        return Codec::Delta;
    }
    put_offsets(out, offsets.iter().copied(), range);
    Codec::Plain
}

/// The column in pco, if that may be tried and comes out below `bytes`.
fn pco_below<T: pco::Packed>(numbers: &[u64], bytes: usize, effort: Effort) -> Option<Vec<u8>> {
    let encoded = if effort == Effort::Thorough { pco::encode::<T>(numbers)? } else { return None };
    (encoded.len() < worth(bytes)).then_some(encoded)
}

/// What a costlier codec must stay below.
fn worth(bytes: usize) -> usize {
    bytes - bytes / WORTH_ONE_IN
}

/// Bytes of the narrowest plain form that holds `range`.
fn width_of(range: u64) -> usize {
    match range {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}

/// Appends the plain form: width, then the offsets.
#[expect(clippy::cast_possible_truncation, reason = "the width is chosen so that the greatest offset fits")]
pub(super) fn put_offsets(out: &mut Vec<u8>, offsets: impl ExactSizeIterator<Item = u64>, range: u64) {
    match range {
        0..=0xff => put_fixed(out, offsets.map(|offset| [offset as u8])),
        0x100..=0xffff => put_fixed(out, offsets.map(|offset| (offset as u16).to_le_bytes())),
        0x1_0000..=0xffff_ffff => put_fixed(out, offsets.map(|offset| (offset as u32).to_le_bytes())),
        _ => put_fixed(out, offsets.map(u64::to_le_bytes)),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "N is 1, 2, 4 or 8")]
fn put_fixed<const N: usize>(out: &mut Vec<u8>, items: impl ExactSizeIterator<Item = [u8; N]>) {
    out.push(N as u8);
    put_arrays(out, items);
}

/// Appends fixed-width items without growing the vector once per item.
fn put_arrays<const N: usize>(out: &mut Vec<u8>, items: impl ExactSizeIterator<Item = [u8; N]>) {
    let start = out.len();
    out.resize(start + items.len() * N, 0);
    let (places, _) = out.get_mut(start..).unwrap_or_default().as_chunks_mut::<N>();
    places.iter_mut().zip(items).for_each(|(place, item)| *place = item);
}

/// Appends `count` offsets to `out`, each through `emit`. Offsets are not checked against `range`.
pub(super) fn decode_offsets<T>(
    reader: &mut Reader<'_>,
    codec: Codec,
    count: usize,
    range: u64,
    out: &mut Vec<T>,
    emit: impl Fn(u64) -> T,
) -> Result<(), ColumnError> {
    match codec {
        Codec::Constant if range == 0 => out.extend((0..count).map(|_| emit(0))),
        Codec::Constant => return Err(ColumnError::Inconsistent("a constant column with a range")),
        Codec::Step => {
            let steps = (count as u64).saturating_sub(1);
            if steps == 0 || !range.is_multiple_of(steps) {
                return Err(ColumnError::Inconsistent(
                    "a step column whose range is no multiple of its steps",
                ));
            }
            let step = range / steps;
            out.extend((0..=steps).map(|index| emit(index * step)));
        }
        Codec::Plain => match reader.u8()? {
            1 => out.extend(reader.take(count)?.iter().map(|byte| emit(u64::from(*byte)))),
            2 => out
                .extend(arrays(reader, count)?.iter().map(|item| emit(u64::from(u16::from_le_bytes(*item))))),
            4 => out
                .extend(arrays(reader, count)?.iter().map(|item| emit(u64::from(u32::from_le_bytes(*item))))),
            8 => out.extend(arrays(reader, count)?.iter().map(|item| emit(u64::from_le_bytes(*item)))),
            _ => return Err(ColumnError::Inconsistent("offsets of a width other than 1, 2, 4 or 8")),
        },
        Codec::Delta => delta::decode(reader, count, |offset| out.push(emit(offset)))?,
        Codec::Pco => pco::decode::<u64>(reader, count, |offset| out.push(emit(offset)))?,
        Codec::Xor | Codec::Decimal | Codec::Lz4 => return Err(ColumnError::Inconsistent(FOREIGN)),
    }
    Ok(())
}

fn arrays<'a, const N: usize>(reader: &mut Reader<'a>, count: usize) -> Result<&'a [[u8; N]], ReadError> {
    Ok(reader.take(count * N)?.as_chunks::<N>().0)
}

/// Appends numbers of a type, given as bits; at least one.
pub(super) fn encode_numbers(
    out: &mut Vec<u8>,
    bits: &[u64],
    value_type: ValueType,
    effort: Effort,
) -> Codec {
    let first = bits.first().copied().unwrap_or_default();
    if bits.iter().all(|item| *item == first) {
        out.extend_from_slice(&first.to_le_bytes());
        return Codec::Constant;
    }
    match value_type {
        ValueType::I64 => encode_integers(out, bits, effort),
        ValueType::F64 | ValueType::Bytes => encode_doubles(out, bits, effort),
    }
}

/// Appends integers that are not all equal.
fn encode_integers(out: &mut Vec<u8>, bits: &[u64], effort: Effort) -> Codec {
    let first = bits.first().copied().unwrap_or_default();
    let step = bits.get(1).copied().unwrap_or_default().wrapping_sub(first);
    let stepped = |index: u64| first.wrapping_add(index.wrapping_mul(step));
    if bits.len() > 2 && bits.iter().zip(0u64..).all(|(item, index)| *item == stepped(index)) {
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&step.to_le_bytes());
        return Codec::Step;
    }
    let (plain_bytes, delta_bytes) = (bits.len() * 8, delta::cost(bits));
    if let Some(bytes) = pco_below::<i64>(bits, plain_bytes.min(delta_bytes), effort) {
        out.extend_from_slice(&bytes);
        return Codec::Pco;
    }
    if delta_bytes < worth(plain_bytes) {
        delta::encode(out, bits);
        return Codec::Delta;
    }
    put_arrays(out, bits.iter().map(|item| item.to_le_bytes()));
    Codec::Plain
}

/// Appends doubles that are not all equal.
fn encode_doubles(out: &mut Vec<u8>, bits: &[u64], effort: Effort) -> Codec {
    let start = out.len();
    let plain_bytes = bits.len() * 8;
    let mut integers = Vec::new();
    let mut best = if let Some(exponent) = decimal::integers_of(bits, &mut integers) {
        out.push(exponent);
        encode_decimals(out, &integers, effort);
        Codec::Decimal
    } else {
        xor::encode(out, bits);
        Codec::Xor
    };
    if let Some(bytes) = pco_below::<f64>(bits, plain_bytes.min(out.len() - start), effort) {
        out.truncate(start);
        out.extend_from_slice(&bytes);
        best = Codec::Pco;
    }
    if out.len() - start >= worth(plain_bytes) {
        out.truncate(start);
        put_arrays(out, bits.iter().map(|item| item.to_le_bytes()));
        best = Codec::Plain;
    }
    best
}

/// Appends the integers of decimals, behind the id of their own codec.
fn encode_decimals(out: &mut Vec<u8>, integers: &[u64], effort: Effort) {
    if let Some(bytes) = pco_below::<i64>(integers, delta::cost(integers), effort) {
        out.push(Codec::Pco as u8);
        out.extend_from_slice(&bytes);
    } else {
        out.push(Codec::Delta as u8);
        delta::encode(out, integers);
    }
}

/// Appends the bits of `count` numbers of a type to `out`.
pub(super) fn decode_numbers(
    reader: &mut Reader<'_>,
    codec: Codec,
    count: usize,
    value_type: ValueType,
    out: &mut Vec<u64>,
) -> Result<(), ColumnError> {
    match codec {
        Codec::Plain => out.extend(arrays(reader, count)?.iter().map(|item| u64::from_le_bytes(*item))),
        Codec::Constant => {
            let value = reader.u64()?;
            out.extend(std::iter::repeat_n(value, count));
        }
        Codec::Step => {
            let (first, step) = (reader.u64()?, reader.u64()?);
            out.extend((0..count as u64).map(|index| first.wrapping_add(index.wrapping_mul(step))));
        }
        Codec::Delta => delta::decode(reader, count, |number| out.push(number))?,
        Codec::Xor => xor::decode(reader, count, out)?,
        Codec::Decimal => decode_decimals(reader, count, out)?,
        Codec::Pco if value_type == ValueType::I64 => {
            pco::decode::<i64>(reader, count, |number| out.push(number))?;
        }
        Codec::Pco => pco::decode::<f64>(reader, count, |number| out.push(number))?,
        Codec::Lz4 => return Err(ColumnError::Inconsistent(FOREIGN)),
    }
    Ok(())
}

fn decode_decimals(reader: &mut Reader<'_>, count: usize, out: &mut Vec<u64>) -> Result<(), ColumnError> {
    let exponent = reader.u8()?;
    if exponent > decimal::EXPONENT_MAX {
        return Err(ColumnError::Inconsistent("decimals of more digits than doubles have"));
    }
    let emit = |integer| out.push(decimal::value_of(integer, exponent));
    match Codec::from_id(reader.u8()?) {
        Some(Codec::Delta) => delta::decode(reader, count, emit),
        Some(Codec::Pco) => pco::decode::<i64>(reader, count, emit),
        _ => Err(ColumnError::Inconsistent("decimals in a codec that is not for integers")),
    }
}

/// Appends byte values: as they are, or in lz4 where that is smaller. `plain` is their plain form.
pub(super) fn encode_bytes(out: &mut Vec<u8>, plain: &[u8]) -> Codec {
    if plain.len() >= LZ4_BYTES_MIN {
        let compressed = lz4_flex::block::compress(plain);
        if compressed.len() < worth(plain.len()) {
            put_varint(out, plain.len() as u64);
            out.extend_from_slice(&compressed);
            return Codec::Lz4;
        }
    }
    out.extend_from_slice(plain);
    Codec::Plain
}

/// The plain form of all that is left in `reader`, which is in lz4.
pub(super) fn expand_bytes(reader: &mut Reader<'_>) -> Result<Vec<u8>, ColumnError> {
    let plain_bytes = reader.count(BLOCK_BYTES_MAX)?;
    let mut plain = vec![0; plain_bytes];
    let compressed = reader.take(reader.left())?;
    match lz4_flex::block::decompress_into(compressed, &mut plain) {
        Ok(count) if count == plain_bytes => Ok(plain),
        _ => Err(ColumnError::Inconsistent("values that lz4 cannot expand")),
    }
}

/// Greatest common divisor; that of 0 and a number is the number.
fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A codec that the chunk's header may not name for the column; the header is checked first.
const FOREIGN: &str = "a codec that is not for this column";

#[cfg(test)]
mod tests;
