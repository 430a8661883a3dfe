//! Axes: where a value lies between two ends, and which values get a label.

use crate::load::report::number::tick;

/// How values spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    Linear,
    /// Both ends are positive.
    Log,
}

/// One axis of a chart. Its ends differ and are finite, whatever it was made from.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// What it shows, with the unit.
    pub(super) label: String,
    scale: Scale,
    min: f64,
    max: f64,
    /// Values that get a grid line, with their labels, ascending.
    pub(super) ticks: Vec<(f64, String)>,
}

/// Labels of an axis, about.
const TICKS_WANTED: f64 = 6.0;

impl Axis {
    /// From 0 to a round number above `max`, so that a line at `max` is clear of the frame.
    pub(super) fn with_headroom(label: &str, max: f64) -> Self {
        Self::from_zero(label, max * 1.05)
    }
    /// From 0 to a round number at or above `max`.
    pub(super) fn from_zero(label: &str, max: f64) -> Self {
        let max = if max > 0.0 { max } else { 1.0 };
        let step = round_step(max / TICKS_WANTED);
        let mut ticks = Vec::new();
        let mut value = 0.0;
        // A little slack: ten steps of 0.1 are not quite 1.
        while value < max - step * 1e-6 || ticks.len() < 2 {
            value = step * ticks.len() as f64;
            ticks.push((value, tick(value)));
        }
        Self { label: label.to_owned(), scale: Scale::Linear, min: 0.0, max: value, ticks }
    }
    /// From 0 to exactly `max`, for times.
    pub(super) fn time(label: &str, max: f64) -> Self {
        let mut axis = Self::from_zero(label, max);
        if max > 0.0 {
            axis.max = max;
            axis.ticks.retain(|(value, _)| *value <= max * (1.0 + 1e-9));
        }
        axis
    }
    /// Over the positive ones of `values`, in decades; halves of them where there are few.
    pub(super) fn log(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let positive = values.filter(|value| *value > 0.0);
        let (low, high) = positive.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low <= high { (low, high) } else { (1.0, 10.0) };
        let is_narrow = high / low < 200.0;
        let steps: &[f64] = if is_narrow { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut ticks = Vec::new();
        let mut decade = 10_f64.powf(low.log10().floor());
        let min = steps.iter().map(|step| step * decade).rfind(|value| *value <= low * (1.0 + 1e-9));
        let min = min.unwrap_or(decade);
        // Latencies and rates span twenty decades at most; a bound all the same.
        while ticks.len() < 100 {
            for step in steps {
                let value = step * decade;
                if value >= min * (1.0 - 1e-9) {
                    ticks.push((value, tick(value)));
                }
                if value >= high * (1.0 - 1e-9) && value > min * 1.5 {
                    return Self { label: label.to_owned(), scale: Scale::Log, min, max: value, ticks };
                }
            }
            decade *= 10.0;
        }
        Self { label: label.to_owned(), scale: Scale::Log, min, max: high * 10.0, ticks }
    }
    /// Percentiles by 1/(1-p), from 1 to `max`.
    pub(super) fn nines(label: &str, max: f64) -> Self {
        let mut ticks = vec![(1.0, "0 %".to_owned()), (2.0, "50 %".to_owned()), (10.0, "90 %".to_owned())];
        let (mut value, mut decimals) = (100.0, 0);
        while value < max * 1.001 && decimals < 8 {
            ticks.push((value, format!("{:.decimals$} %", 100.0 - 100.0 / value)));
            (value, decimals) = (value * 10.0, decimals + 1);
        }
        Self { label: label.to_owned(), scale: Scale::Log, min: 1.0, max: max.max(20.0), ticks }
    }
    /// Where `value` lies, 0..=1; values beyond the ends lie at the ends.
    pub(super) fn position(&self, value: f64) -> f64 {
        let position = match self.scale {
            Scale::Linear => (value - self.min) / (self.max - self.min),
            Scale::Log => (value.max(self.min) / self.min).ln() / (self.max / self.min).ln(),
        };
        position.clamp(0.0, 1.0)
    }
}

/// The smallest of 1, 2, 5, 10, … times a power of ten that is not below `step`.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|round| *round >= step * (1.0 - 1e-9))
        .unwrap_or(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        // A curve that leaves its axis, or an axis of odd numbers, cannot be read.
        assert_eq!(labels(&Axis::from_zero("", 5000.0)), ["0", "1,000", "2,000", "3,000", "4,000", "5,000"]);
        assert_eq!(labels(&Axis::from_zero("", 0.0)), labels(&Axis::from_zero("", 1.0)));
        assert_eq!(labels(&Axis::log("", [0.18, 120.0].into_iter())), ["0.1", "1", "10", "100", "1,000"]);
        assert_eq!(labels(&Axis::log("", [0.18, 0.9].into_iter())), ["0.1", "0.2", "0.5", "1"]);
        assert_eq!(labels(&Axis::nines("", 40_000.0)), ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    proptest! {
        #[test]
        fn positions_are_within_the_chart(
            values in prop::collection::vec(0.0_f64..1e18, 0..20),
            other in 0.0_f64..1e18,
        ) {
            // A coordinate that is no number makes the browser drop the whole line.
            let max = values.iter().copied().fold(0.0, f64::max);
            for axis in [
                Axis::from_zero("", max),
                Axis::time("", max),
                Axis::log("", values.iter().copied()),
                Axis::nines("", max),
            ] {
                prop_assert!(axis.ticks.len() >= 2 || max > 0.0, "{axis:?}");
                prop_assert!(axis.ticks.len() <= 100);
                for value in values.iter().copied().chain([other, 0.0]) {
                    prop_assert!((0.0..=1.0).contains(&axis.position(value)), "{value} on {axis:?}");
                }
            }
        }
    }
}
