//! Every codec gives back what it took, costs what it should, and refuses what it did not write.

use super::*;
use proptest::prelude::*;

fn offsets_come_back(offsets: &[u64], effort: Effort) -> (Codec, usize) {
    let range = offsets.iter().copied().max().unwrap();
    let mut bytes = Vec::new();
    let codec = encode_offsets(&mut bytes, offsets, range, effort);
    assert!(codec.serves_offsets());
    let mut decoded = Vec::new();
    let mut reader = Reader::new(&bytes);
    decode_offsets(&mut reader, codec, offsets.len(), range, &mut decoded, |offset| offset).unwrap();
    assert_eq!((decoded.as_slice(), reader.left()), (offsets, 0));
    (codec, bytes.len())
}

fn numbers_come_back(numbers: &[u64], value_type: ValueType, effort: Effort) -> (Codec, usize) {
    let mut bytes = Vec::new();
    delta::encode(&mut bytes, numbers);
    assert_eq!(bytes.len(), delta::cost(numbers), "the choice between codecs rests on it");
    bytes.clear();
    let codec = encode_numbers(&mut bytes, numbers, value_type, effort);
    assert!(codec.serves_values(Some(value_type)));
    let mut decoded = Vec::new();
    let mut reader = Reader::new(&bytes);
    decode_numbers(&mut reader, codec, numbers.len(), value_type, &mut decoded).unwrap();
    assert_eq!((decoded.as_slice(), reader.left()), (numbers, 0));
    (codec, bytes.len())
}

fn doubles(values: impl IntoIterator<Item = f64>) -> Vec<u64> {
    values.into_iter().map(f64::to_bits).collect()
}

/// A walk whose steps are drawn from `-100..=100`.
fn walk(count: usize) -> Vec<i64> {
    let mut state = 7u64;
    let mut at = 0i64;
    let mut step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        at += i64::from((state >> 33) as u32 % 201) - 100;
        at
    };
    (0..count).map(|_| step()).collect()
}

#[test]
fn offsets_come_back_and_cost_what_they_must() {
    // Times and seqnos are offsets: a wrong one files a sample under another time.
    let quick = |offsets: &[u64]| offsets_come_back(offsets, Effort::Quick).0;
    assert_eq!(quick(&[0]), Codec::Constant);
    assert_eq!(quick(&[0, 0, 0]), Codec::Constant);
    assert_eq!(quick(&[0, 7]), Codec::Step);
    assert_eq!(quick(&[0, u64::MAX]), Codec::Step);
    assert_eq!(quick(&[0, 1, 3]), Codec::Plain);
    assert_eq!(quick(&[300, 0, 70_000, 1]), Codec::Plain);
    assert_eq!(quick(&[0, 5, u64::MAX]), Codec::Delta);
    assert_eq!(quick(&[2, 0, 4]), Codec::Plain);
}

#[test]
fn times_with_a_rhythm_cost_a_few_bits() {
    // A minute that is missed now and then must not cost eight bytes a sample.
    let missed: Vec<u64> =
        (0..1000u64).filter(|minute| minute % 90 != 89).map(|minute| minute * 60_000).collect();
    let (codec, bytes) = offsets_come_back(&missed, Effort::Quick);
    assert_eq!(codec, Codec::Delta);
    assert!(bytes < 150, "{bytes} bytes");
    let (codec, bytes) = offsets_come_back(&missed, Effort::Thorough);
    assert_eq!(codec, Codec::Pco);
    assert!(bytes < 90, "{bytes} bytes");
}

#[test]
fn numbers_come_back_bit_by_bit() {
    // Every bit pattern is a value.
    let (f, i) = (ValueType::F64, ValueType::I64);
    for (values, value_type, codec) in [
        (vec![f64::NAN.to_bits(); 3], f, Codec::Constant),
        (vec![1, 2, 3], f, Codec::Xor),
        (vec![1, 2, 3], i, Codec::Step),
        (vec![u64::MAX, 4, 9], i, Codec::Step),
        (vec![0, 1 << 63], f, Codec::Xor),
        (vec![0, 1 << 63], i, Codec::Plain),
        (doubles([0.0, -0.0, 1.0]), f, Codec::Xor),
        (doubles((0..40).map(|index| f64::from(index % 7) / 10.0)), f, Codec::Decimal),
        (doubles([f64::MAX, f64::MIN, f64::INFINITY, f64::NEG_INFINITY]), f, Codec::Xor),
        (doubles([1.1e300, -2.7e-300, f64::NAN]), f, Codec::Plain),
    ] {
        assert_eq!(numbers_come_back(&values, value_type, Effort::Quick).0, codec, "{values:x?}");
        numbers_come_back(&values, value_type, Effort::Thorough);
    }
}

#[test]
fn decimals_cost_what_their_digits_do() {
    // What is written with two digits after the point must not cost the 53 bits of a double.
    let walk = doubles(walk(1024).into_iter().map(|step| step as f64 / 100.0));
    let (codec, bytes) = numbers_come_back(&walk, ValueType::F64, Effort::Quick);
    assert_eq!(codec, Codec::Decimal);
    assert!(bytes < 1100, "{bytes} bytes: 8 bits a value");
    let (codec, bytes) = numbers_come_back(&walk, ValueType::F64, Effort::Thorough);
    assert_eq!(codec, Codec::Decimal);
    assert!(bytes < 1060, "{bytes} bytes: 7.65 bits of entropy a value");
}

#[test]
fn doubles_without_a_rule_cost_no_more_than_they_are() {
    // A codec that grows the data would be worse than none.
    let noise = doubles(walk(1024).into_iter().map(|step| (step as f64).sin().exp()));
    let (_, bytes) = numbers_come_back(&noise, ValueType::F64, Effort::Quick);
    assert!(bytes <= 8 * 1024, "{bytes} bytes");
    let (codec, bytes) = numbers_come_back(&noise, ValueType::F64, Effort::Thorough);
    assert_eq!(codec, Codec::Pco);
    assert!(bytes < 7600, "{bytes} bytes");
}

#[test]
fn a_value_that_stays_costs_a_bit() {
    // Most sensors repeat themselves; new windows must not be opened for nothing.
    let steady = doubles((0..1024).map(|index| if index % 100 == 0 { 1.0 / 3.0 } else { 2.0 / 3.0 }));
    let (codec, bytes) = numbers_come_back(&steady, ValueType::F64, Effort::Quick);
    assert_eq!(codec, Codec::Xor);
    assert!(bytes < 350, "{bytes} bytes");
}

#[test]
fn bytes_are_packed_where_it_pays() {
    // Log lines repeat; packed photographs do not get smaller.
    let lines = "level=info msg=\"sample accepted\" series=room:1\n".repeat(20);
    let mut packed = Vec::new();
    assert_eq!(encode_bytes(&mut packed, lines.as_bytes()), Codec::Lz4);
    assert!(packed.len() < lines.len() / 5, "{} bytes", packed.len());
    assert_eq!(expand_bytes(&mut Reader::new(&packed)).unwrap(), lines.as_bytes());
    let noise: Vec<u8> = walk(500).into_iter().map(|step| step.to_le_bytes()[0]).collect();
    let mut plain = Vec::new();
    assert_eq!(encode_bytes(&mut plain, &noise), Codec::Plain);
    assert_eq!(plain, noise);
}

#[test]
fn a_huge_plain_length_allocates_nothing() {
    // A damaged length must not ask for memory.
    let mut bytes = Vec::new();
    put_varint(&mut bytes, u64::MAX);
    bytes.extend_from_slice(&[0; 100]);
    assert!(expand_bytes(&mut Reader::new(&bytes)).is_err());
}

proptest! {
    #[test]
    fn any_numbers_come_back(numbers in prop::collection::vec(prop_oneof![any::<u64>(), 0u64..2000], 1..300)) {
        // Whatever a client writes, it reads.
        for effort in [Effort::Quick, Effort::Thorough] {
            numbers_come_back(&numbers, ValueType::I64, effort);
            numbers_come_back(&numbers, ValueType::F64, effort);
            let least = numbers.iter().copied().min().unwrap_or_default();
            offsets_come_back(&numbers.iter().map(|number| number - least).collect::<Vec<_>>(), effort);
        }
    }
    #[test]
    fn any_decimals_come_back(
        integers in prop::collection::vec(-1_000_000i64..1_000_000, 1..300),
        digits in 0i32..12,
    ) {
        // A decimal that rounds the other way would be another value.
        let values = doubles(integers.into_iter().map(|integer| integer as f64 / 10f64.powi(digits)));
        numbers_come_back(&values, ValueType::F64, Effort::Quick);
        numbers_come_back(&values, ValueType::F64, Effort::Thorough);
    }
    #[test]
    fn hostile_columns_are_refused_or_decoded(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        count in 1usize..1025,
        id in 0u8..8,
    ) {
        // Nothing that a damaged file holds may stop the daemon.
        let codec = Codec::from_id(id).unwrap();
        let mut out = Vec::new();
        let _ = decode_offsets(&mut Reader::new(&bytes), codec, count, 77, &mut out, |offset| offset);
        for value_type in [ValueType::F64, ValueType::I64] {
            out.clear();
            let _ = decode_numbers(&mut Reader::new(&bytes), codec, count, value_type, &mut out);
        }
        let _ = expand_bytes(&mut Reader::new(&bytes));
    }
}
