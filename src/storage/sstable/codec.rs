//! Column codecs: how one column of a chunk is stored. Each column names its codec with four bits.
//!
//! ```text
//! id  codec     offsets (times, seqnos)           numbers                  bytes                        kinds
//!  0  plain     width u8 (1, 2, 4, 8),            count x 8                lengths as offsets (plain),  bitmap,
//!               count x width                                              then all bytes               1 = delete
//!  1  constant  nothing (range is 0)              8                        the bytes                    nothing
//!  2  step      nothing (i x range / (count-1))   first 8, step 8 (i64)    -                            -
//! ```
//! Ids 3 to 15 are unassigned; meant for delta of delta, xor, scaled decimal, pco, lz4 and zstd. Offsets are counted
//! from the column's least value; that and the range (greatest minus least) stand in the chunk's header. An encoder
//! picks constant before step before plain, so that equal columns have equal bytes.

use crate::encoding::{ReadError, Reader};

/// How a column is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Codec {
    Plain = 0,
    Constant = 1,
    Step = 2,
}

impl Codec {
    /// Reads the stored id.
    pub(super) fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::Plain),
            1 => Some(Self::Constant),
            2 => Some(Self::Step),
            _ => None,
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
pub(super) fn encode_offsets(
    out: &mut Vec<u8>,
    offsets: impl ExactSizeIterator<Item = u64> + Clone,
    range: u64,
) -> Codec {
    if range == 0 {
        return Codec::Constant;
    }
    let steps = offsets.len() as u64 - 1;
    if range.is_multiple_of(steps) {
        let step = range / steps;
        if offsets.clone().zip(0u64..).all(|(offset, index)| offset == index * step) {
            return Codec::Step;
        }
    }
    put_offsets(out, offsets, range);
    Codec::Plain
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
    }
    Ok(())
}

fn arrays<'a, const N: usize>(reader: &mut Reader<'a>, count: usize) -> Result<&'a [[u8; N]], ReadError> {
    Ok(reader.take(count * N)?.as_chunks::<N>().0)
}

/// Appends numbers, given as bits; at least one. `integers` allows the step codec.
pub(super) fn encode_numbers(
    out: &mut Vec<u8>,
    bits: impl ExactSizeIterator<Item = u64> + Clone,
    integers: bool,
) -> Codec {
    let first = bits.clone().next().unwrap_or_default();
    if bits.clone().all(|item| item == first) {
        out.extend_from_slice(&first.to_le_bytes());
        return Codec::Constant;
    }
    let step = bits.clone().nth(1).unwrap_or_default().wrapping_sub(first);
    let stepped = |index: u64| first.wrapping_add(index.wrapping_mul(step));
    if integers && bits.len() > 2 && bits.clone().zip(0u64..).all(|(item, index)| item == stepped(index)) {
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&step.to_le_bytes());
        return Codec::Step;
    }
    put_arrays(out, bits.map(u64::to_le_bytes));
    Codec::Plain
}

/// Appends `count` numbers' bits to `out`.
pub(super) fn decode_numbers(
    reader: &mut Reader<'_>,
    codec: Codec,
    count: usize,
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
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets_come_back(offsets: &[u64]) -> Codec {
        let range = offsets.iter().copied().max().unwrap();
        let mut bytes = Vec::new();
        let codec = encode_offsets(&mut bytes, offsets.iter().copied(), range);
        let mut decoded = Vec::new();
        let mut reader = Reader::new(&bytes);
        decode_offsets(&mut reader, codec, offsets.len(), range, &mut decoded, |offset| offset).unwrap();
        assert_eq!((decoded.as_slice(), reader.left()), (offsets, 0));
        codec
    }

    #[test]
    fn offsets_come_back_and_cost_what_they_must() {
        // Times and seqnos are offsets: a wrong one files a sample under another time.
        assert_eq!(offsets_come_back(&[0]), Codec::Constant);
        assert_eq!(offsets_come_back(&[0, 0, 0]), Codec::Constant);
        assert_eq!(offsets_come_back(&[0, 7]), Codec::Step);
        assert_eq!(offsets_come_back(&[0, u64::MAX]), Codec::Step);
        assert_eq!(offsets_come_back(&[0, 1, 3]), Codec::Plain);
        assert_eq!(offsets_come_back(&[300, 0, 70_000, 1]), Codec::Plain);
        assert_eq!(offsets_come_back(&[0, 5, u64::MAX]), Codec::Plain);
        assert_eq!(offsets_come_back(&[2, 0, 4]), Codec::Plain);
    }

    #[test]
    fn numbers_come_back_bit_by_bit() {
        // Every bit pattern is a value.
        for (values, integers, codec) in [
            (vec![f64::NAN.to_bits(); 3], false, Codec::Constant),
            (vec![1, 2, 3], false, Codec::Plain),
            (vec![1, 2, 3], true, Codec::Step),
            (vec![u64::MAX, 4, 9], true, Codec::Step),
            (vec![0, 1 << 63], false, Codec::Plain),
        ] {
            let mut bytes = Vec::new();
            assert_eq!(encode_numbers(&mut bytes, values.iter().copied(), integers), codec);
            let mut decoded = Vec::new();
            decode_numbers(&mut Reader::new(&bytes), codec, values.len(), &mut decoded).unwrap();
            assert_eq!(decoded, values);
        }
    }
}
