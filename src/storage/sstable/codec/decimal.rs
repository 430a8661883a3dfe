//! Doubles that were decimal fractions: `integer / 10^exponent`, bit for bit. What people and sensors write down has a
//! few digits after the point; as doubles their bits look random, as integers they are small steps.

/// Digits after the point that are tried. Powers of ten up to 10^22 are doubles.
pub(super) const EXPONENT_MAX: u8 = 15;
/// Up to here every integer is a double, and so is found again by rounding.
const INTEGER_MAX: f64 = 9_007_199_254_740_991.0;

const POWERS: [f64; EXPONENT_MAX as usize + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// The least exponent that serves all values, with their integers (as bits of `i64`).
pub(super) fn integers_of(bits: &[u64], integers: &mut Vec<u64>) -> Option<u8> {
    (0..=EXPONENT_MAX).find(|exponent| {
        integers.clear();
        integers.extend(bits.iter().map_while(|bits| integer_of(*bits, power(*exponent))));
        integers.len() == bits.len()
    })
}

/// The value of an integer, as bits.
pub(super) fn value_of(integer: u64, exponent: u8) -> u64 {
    (as_double(integer) / power(exponent)).to_bits()
}

#[expect(clippy::cast_possible_truncation, reason = "the integer is exact")]
fn integer_of(bits: u64, power: f64) -> Option<u64> {
    let scaled = (f64::from_bits(bits) * power).round();
    if scaled.is_nan() || scaled.abs() > INTEGER_MAX {
        return None;
    }
    let integer = (scaled as i64).cast_unsigned();
    // Minus zero fails here: integers have one zero.
    ((as_double(integer) / power).to_bits() == bits).then_some(integer)
}

#[expect(clippy::cast_precision_loss, reason = "integers of ours are exact; others come from damaged files")]
fn as_double(integer: u64) -> f64 {
    integer.cast_signed() as f64
}

fn power(exponent: u8) -> f64 {
    POWERS.get(usize::from(exponent)).copied().unwrap_or(1.0)
}
