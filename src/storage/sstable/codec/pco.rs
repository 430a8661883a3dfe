//! The entropy codec: pco (binned quantiles, asymmetric numeral systems, automatic differences). Smallest and slowest:
//! about 20 µs to encode 1024 numbers, 3 to 5 to decode. One pco file of one chunk and one page per column.

use super::ColumnError;
use crate::encoding::Reader;
use pco::data_types::Number;
use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, errors::PcoResult};

/// Numbers as pco's; NaN payloads and both zeros survive.
pub(super) trait Packed: Number + Default {
    fn from_bits_of(bits: u64) -> Self;
    fn bits_of(self) -> u64;
}

impl Packed for u64 {
    fn from_bits_of(bits: u64) -> Self {
        bits
    }
    fn bits_of(self) -> u64 {
        self
    }
}

impl Packed for i64 {
    fn from_bits_of(bits: u64) -> Self {
        bits.cast_signed()
    }
    fn bits_of(self) -> u64 {
        self.cast_unsigned()
    }
}

impl Packed for f64 {
    fn from_bits_of(bits: u64) -> Self {
        f64::from_bits(bits)
    }
    fn bits_of(self) -> u64 {
        self.to_bits()
    }
}

/// The column as pco, proven by decoding it; `None` when pco does not take it or does not give it back bit by bit.
pub(super) fn encode<T: Packed>(numbers: &[u64]) -> Option<Vec<u8>> {
    let typed: Vec<T> = numbers.iter().map(|bits| T::from_bits_of(*bits)).collect();
    let bytes = compress(&typed).ok()?;
    let mut decoded = Vec::with_capacity(numbers.len());
    let mut reader = Reader::new(&bytes);
    decode::<T>(&mut reader, numbers.len(), |bits| decoded.push(bits)).ok()?;
    (decoded == numbers && reader.left() == 0).then_some(bytes)
}

fn compress<T: Packed>(numbers: &[T]) -> PcoResult<Vec<u8>> {
    let file = FileCompressor::default();
    let mut chunk = file.chunk_compressor(numbers, &ChunkConfig::default())?;
    let out = file.write_header(Vec::new())?;
    let out = chunk.write_meta(out)?;
    chunk.write_page(0, out)
}

/// Passes `count` numbers to `emit`.
pub(super) fn decode<T: Packed>(
    reader: &mut Reader<'_>,
    count: usize,
    emit: impl FnMut(u64),
) -> Result<(), ColumnError> {
    let mut numbers = vec![T::default(); count];
    let source = reader.rest();
    let left = decompress(source, &mut numbers)
        .map_err(|_| ColumnError::Inconsistent("a column that pco cannot decode"))?;
    reader.take(source.len() - left)?;
    numbers.into_iter().map(T::bits_of).for_each(emit);
    Ok(())
}

/// Fills `numbers`; returns how many bytes are left.
fn decompress<T: Packed>(source: &[u8], numbers: &mut [T]) -> PcoResult<usize> {
    let (file, source) = FileDecompressor::new(source)?;
    let (mut chunk, source) = file.chunk_decompressor::<T, _>(source)?;
    let mut page = chunk.page_decompressor(source, numbers.len())?;
    page.read(numbers)?;
    Ok(page.into_src().len())
}
