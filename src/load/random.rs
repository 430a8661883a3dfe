//! Dice by number: what the generator draws is a pure function of (seed, index), so that any operation can be made
//! again, by another thread or for a verification, without what came before it.

use std::f64::consts::TAU;

/// The `index`-th 64 bits of the stream that belongs to `seed` (splitmix64).
#[must_use]
pub(super) fn draw(seed: u64, index: u64) -> u64 {
    let mut mixed = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// `bits` as a number in `0..bound`; 0 where `bound` is 0.
#[must_use]
pub(super) fn below(bits: u64, bound: u64) -> u64 {
    let wide = u128::from(bits) * u128::from(bound);
    u64::try_from(wide >> 64).unwrap_or(u64::MAX)
}

/// `bits` as a number in `[0, 1)`.
#[must_use]
pub(super) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

/// Two draws as one number of mean 0 and variance 1 (Box and Muller).
#[must_use]
pub(super) fn normal(one: u64, two: u64) -> f64 {
    // 1 - u lies in (0, 1]: its logarithm is finite.
    (-2.0 * (1.0 - unit(one)).ln()).sqrt() * (TAU * unit(two)).cos()
}

/// A number of mean 1, exponentially distributed: gaps between independent arrivals.
#[must_use]
pub(super) fn exponential(bits: u64) -> f64 {
    -(1.0 - unit(bits)).ln()
}

/// Ranks `0..count` with probability proportional to `1/(rank+1)^exponent`, by rejection-inversion (Hörmann and
/// Derflinger, 1996): no table, whatever `count`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zipf {
    count: f64,
    exponent: f64,
    integral_first: f64,
    integral_last: f64,
    squeeze: f64,
}

impl Zipf {
    /// A distribution over `count` ranks. `exponent` is positive.
    ///
    /// # Panics
    /// Where `count` is 0 or the exponent is not positive.
    #[must_use]
    pub(super) fn new(count: u64, exponent: f64) -> Self {
        assert!(count > 0, "a distribution needs a rank");
        assert!(exponent > 0.0, "the exponent of a Zipf distribution is positive");
        let mut zipf =
            Self { count: count as f64, exponent, integral_first: 0.0, integral_last: 0.0, squeeze: 0.0 };
        zipf.integral_first = zipf.integral(1.5) - 1.0;
        zipf.integral_last = zipf.integral(zipf.count + 0.5);
        zipf.squeeze = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    /// The rank of draw `index` of the stream of `seed`.
    #[must_use]
    pub(super) fn rank(&self, seed: u64, index: u64) -> u64 {
        let mut attempt = 0;
        loop {
            let uniform = unit(draw(seed ^ index.rotate_left(17), attempt));
            let area = self.integral_last + uniform * (self.integral_first - self.integral_last);
            let place = self.inverse(area);
            let rank = (place + 0.5).floor().clamp(1.0, self.count);
            if rank - place <= self.squeeze || area >= self.integral(rank + 0.5) - self.density(rank) {
                return to_whole(rank - 1.0);
            }
            attempt += 1;
        }
    }

    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let scaled = (1.0 - self.exponent) * log;
        // expm1(s)/s, whose limit at 0 is 1: an exponent of 1 is as good as any.
        let ratio = if scaled.abs() > 1e-8 { scaled.exp_m1() / scaled } else { 1.0 + scaled / 2.0 };
        ratio * log
    }
    fn density(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }
    fn inverse(&self, area: f64) -> f64 {
        let scaled = (area * (1.0 - self.exponent)).max(-1.0);
        let ratio = if scaled.abs() > 1e-8 { scaled.ln_1p() / scaled } else { 1.0 - scaled / 2.0 };
        (ratio * area).exp()
    }
}

/// A number that is whole and not negative as an integer; saturates.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts from floats saturate")]
#[must_use]
pub(super) fn to_whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_ranks_have_the_frequencies_of_the_formula() {
        // A skew other than the one printed makes two tools' results incomparable.
        for exponent in [0.7, 0.99, 1.0, 1.3] {
            let (zipf, draws) = (Zipf::new(1000, exponent), 200_000_u64);
            let mut counts = vec![0_u64; 1000];
            (0..draws).for_each(|index| counts[usize::try_from(zipf.rank(7, index)).unwrap()] += 1);
            let total: f64 = (1..=1000).map(|rank| f64::from(rank).powf(-exponent)).sum();
            for rank in [0_usize, 1, 9, 99] {
                let expected = (rank as f64 + 1.0).powf(-exponent) / total * draws as f64;
                let deviation = (counts[rank] as f64 - expected).abs();
                assert!(
                    deviation < 5.0 * expected.sqrt() + 1.0,
                    "rank {rank} of {exponent}: {}",
                    counts[rank]
                );
            }
        }
        assert_eq!(Zipf::new(1, 0.99).rank(1, 1), 0);
    }

    #[test]
    fn normal_and_exponential_numbers_have_their_moments() {
        // The random walk would drift, and Poisson arrivals would miss their rate.
        let count = 100_000_u64;
        let normals: Vec<f64> =
            (0..count).map(|index| normal(draw(1, 2 * index), draw(1, 2 * index + 1))).collect();
        let mean = normals.iter().sum::<f64>() / count as f64;
        let variance = normals.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count as f64;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
        let gaps = (0..count).map(|index| exponential(draw(2, index))).sum::<f64>() / count as f64;
        assert!((gaps - 1.0).abs() < 0.02, "{gaps}");
        assert!((0..1000).all(|index| below(draw(3, index), 10) < 10));
        assert_eq!(below(u64::MAX, 0), 0);
    }
}
