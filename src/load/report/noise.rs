//! How much two figures differ by chance alone, told from repetitions.
//!
//! Each run gives one figure per repetition. The noise is half the width of the 99 % confidence interval of the
//! difference of the two means (Welch's t-test, which does not ask for equal variances). Where one of the runs has a
//! single repetition, the other's variance stands for both; where both have, the noise is not known.

/// Student's t for 99 %, two-sided, by degrees of freedom: from the first number on, the second holds.
const T_99: [(f64, f64); 13] = [
    (1.0, 63.657),
    (2.0, 9.925),
    (3.0, 5.841),
    (4.0, 4.604),
    (5.0, 4.032),
    (6.0, 3.707),
    (7.0, 3.499),
    (8.0, 3.355),
    (9.0, 3.250),
    (10.0, 3.169),
    (15.0, 2.947),
    (30.0, 2.750),
    (120.0, 2.617),
];

/// The noise of the difference between two sets of repetitions, in their unit; none where it is not known.
pub(super) fn noise(base: &[f64], new: &[f64]) -> Option<f64> {
    let (base_count, new_count) = (base.len() as f64, new.len() as f64);
    let (error, freedom) = match (variance(base), variance(new)) {
        (Some(base), Some(new)) => {
            let (a, b) = (base / base_count, new / new_count);
            if a + b == 0.0 {
                return Some(0.0);
            }
            let freedom = (a + b) * (a + b) / (a * a / (base_count - 1.0) + b * b / (new_count - 1.0));
            (a + b, freedom)
        }
        (Some(known), None) if !new.is_empty() => (known * (1.0 / base_count + 1.0), base_count - 1.0),
        (None, Some(known)) if !base.is_empty() => (known * (1.0 / new_count + 1.0), new_count - 1.0),
        _ => return None,
    };
    Some(student_t(freedom) * error.sqrt())
}

/// Variance of the figures, from at least two of them.
fn variance(figures: &[f64]) -> Option<f64> {
    if figures.len() < 2 {
        return None;
    }
    let mean = figures.iter().sum::<f64>() / figures.len() as f64;
    let squares: f64 = figures.iter().map(|figure| (figure - mean) * (figure - mean)).sum();
    Some(squares / (figures.len() as f64 - 1.0))
}

fn student_t(freedom: f64) -> f64 {
    // Rounded down to the next row: rather too much noise than a difference that is none. Welch's freedom is at least
    // 1, but for rounding.
    T_99.iter().rfind(|(from, _)| *from <= freedom + 1e-9).map_or(T_99[0].1, |(_, t)| *t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_what_the_t_test_says() {
        // Chance would be taken for a regression, or a regression for chance.
        let close = |noise: Option<f64>, expected: f64| {
            assert!((noise.unwrap() - expected).abs() < 1e-3 * expected, "{noise:?}, not {expected}");
        };
        // Variances 1 and 1, three each: standard error sqrt(2/3), four degrees of freedom.
        close(noise(&[9.0, 10.0, 11.0], &[19.0, 20.0, 21.0]), 4.604 * (2.0_f64 / 3.0).sqrt());
        // One repetition against three.
        close(noise(&[9.0, 10.0, 11.0], &[20.0]), 9.925 * (4.0_f64 / 3.0).sqrt());
        close(noise(&[20.0], &[9.0, 10.0, 11.0]), 9.925 * (4.0_f64 / 3.0).sqrt());
        // All the spread on one side: freedom of that side only.
        close(noise(&[9.0, 10.0, 11.0], &[20.0, 20.0, 20.0]), 9.925 * (1.0_f64 / 3.0).sqrt());
        assert_eq!(noise(&[5.0, 5.0], &[6.0, 6.0]), Some(0.0));
        for (base, new) in [(&[][..], &[][..]), (&[1.0], &[2.0]), (&[], &[1.0, 2.0])] {
            assert_eq!(noise(base, new), None);
        }
    }
}
