//! Samples to store: the same ones for every store, from a seed.

use std::fs;

/// What the values are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A decimal random walk with one digit behind the point.
    Walk,
    /// Full random doubles of a normal distribution.
    Gauss,
    /// TSBS cpu-only: a walk within 0 and 100, as whole numbers.
    TsbsInt,
    /// The same with all its bits.
    TsbsFloat,
    /// Series of about 80 samples each, at irregular minutes, one series after the other.
    Sparse,
    /// Lines `series,timestamp_ms,value` of plain files. NaN, bytes and times before 1970 are left out: not every store
    /// can keep them.
    Csv(Vec<String>),
}

/// Samples of so many series; see [`Kind`].
pub struct Data {
    pub kind: Kind,
    pub series: usize,
    pub samples: u64,
    /// Event time between two samples of a series, in milliseconds.
    pub interval_ms: i64,
}

/// Event time of the first sample, in milliseconds since 1970.
pub const START_MS: i64 = 1_451_606_400_000;

/// One sample: number of the series, milliseconds since 1970, value.
pub type Sample = (usize, i64, f64);

impl Data {
    /// The name of a generated series: 16 bytes, in the order of the numbers.
    pub fn name(index: usize) -> String {
        format!("series_{index:09}")
    }

    /// Calls `visit` for every sample, in the order in which a collector would send them; gives the names of the series.
    ///
    /// # Errors
    /// What is wrong with an input file.
    pub fn for_each(&self, visit: &mut dyn FnMut(Sample)) -> Result<Vec<String>, String> {
        match &self.kind {
            Kind::Csv(files) => return for_each_line(files, visit),
            Kind::Sparse => self.sparse(visit),
            Kind::Walk | Kind::Gauss | Kind::TsbsInt | Kind::TsbsFloat => self.ticks(visit),
        }
        Ok((0..self.series).map(Self::name).collect())
    }

    fn ticks(&self, visit: &mut dyn FnMut(Sample)) {
        let mut random = Random(1);
        let mut state = vec![50.0_f64; self.series];
        let mut left = self.samples;
        for tick in 0.. {
            for (series, state) in state.iter_mut().enumerate() {
                if left == 0 {
                    return;
                }
                left -= 1;
                let value = match self.kind {
                    Kind::Walk => {
                        *state = ((*state * 10.0).round() + (random.next() % 11) as f64 - 5.0) / 10.0;
                        *state
                    }
                    Kind::Gauss => random.gauss(),
                    Kind::TsbsInt | Kind::TsbsFloat => {
                        *state = (*state + random.gauss()).clamp(0.0, 100.0);
                        if self.kind == Kind::TsbsInt { state.trunc() } else { *state }
                    }
                    Kind::Sparse | Kind::Csv(_) => unreachable!("these have no ticks"),
                };
                visit((series, START_MS + tick * self.interval_ms, value));
            }
        }
    }

    fn sparse(&self, visit: &mut dyn FnMut(Sample)) {
        let mut random = Random(2);
        let per_series = (self.samples / self.series as u64).max(1);
        for series in 0..self.series {
            let (mut time, mut value) = (START_MS, (random.next() % 1000) as f64);
            for _ in 0..per_series / 2 + random.next() % (per_series + 1) {
                time += 60_000 * (1 + (random.next() % 120) as i64);
                value = ((value * 10.0).round() + (random.next() % 21) as f64 - 10.0) / 10.0;
                visit((series, time, value));
            }
        }
    }
}

fn for_each_line(files: &[String], visit: &mut dyn FnMut(Sample)) -> Result<Vec<String>, String> {
    let mut numbers = std::collections::HashMap::new();
    let mut names = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
        for (line_index, line) in text.lines().enumerate().skip(1) {
            let wrong = || format!("{file}, line {}: not series,timestamp_ms,value", line_index + 1);
            let mut fields = line.splitn(3, ',');
            let (series, time, value) = (fields.next(), fields.next(), fields.next());
            let series = series.ok_or_else(wrong)?;
            let time: i64 = time.and_then(|time| time.parse().ok()).ok_or_else(wrong)?;
            let value: f64 = value.and_then(|value| value.parse().ok()).ok_or_else(wrong)?;
            if time < 0 || value.is_nan() {
                continue;
            }
            let number = *numbers.entry(series.to_owned()).or_insert_with(|| {
                names.push(series.to_owned());
                names.len() - 1
            });
            visit((number, time, value));
        }
    }
    Ok(names)
}

/// xorshift64*, seeded by anything but 0.
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }
    /// Normally distributed (Box and Muller).
    pub fn gauss(&mut self) -> f64 {
        let (radius, angle) = ((-2.0 * self.unit().ln()).sqrt(), std::f64::consts::TAU * self.unit());
        radius * angle.cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_the_same_each_time_and_in_time_order_per_series() {
        // Two stores that are fed different samples cannot be compared.
        for kind in [Kind::Walk, Kind::Gauss, Kind::TsbsInt, Kind::TsbsFloat, Kind::Sparse] {
            let data = Data { kind, series: 7, samples: 1000, interval_ms: 10_000 };
            let collect = || {
                let mut samples = Vec::new();
                data.for_each(&mut |sample| samples.push(sample)).expect("no file is read");
                samples
            };
            let (first, second) = (collect(), collect());
            assert!(first == second && first.len() > 300, "{:?}", data.kind);
            let mut last = [i64::MIN; 7];
            for (series, time, _) in first {
                assert!(time > last[series]);
                last[series] = time;
            }
        }
    }
}
