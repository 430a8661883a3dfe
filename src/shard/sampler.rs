//! Picks points of a stream at random distances: what repeats itself is not always met at the same place.

/// See the module. The same for every run: it rolls no dice but its own.
#[derive(Debug)]
pub(super) struct Sampler {
    state: u64,
    mean: u64,
    /// Units up to the next point.
    left: u64,
}

impl Sampler {
    /// One point in `mean` units, on average.
    pub(super) fn new(mean: u64) -> Self {
        assert!(mean > 0, "points lie apart");
        let mut sampler = Self { state: 0x9e37_79b9_7f4a_7c15, mean, left: 0 };
        sampler.left = sampler.distance();
        sampler
    }
    /// Units that a point stands for.
    pub(super) fn mean(&self) -> u64 {
        self.mean
    }
    /// Points within the next `units`.
    pub(super) fn points(&mut self, mut units: u64) -> u64 {
        let mut points = 0;
        while units >= self.left {
            units -= self.left;
            points += 1;
            self.left = self.distance();
        }
        self.left -= units;
        points
    }
    /// From 1 to twice the mean less one; xorshift64.
    fn distance(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        1 + (self.state >> 11) % (2 * self.mean - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_point_in_the_mean_whatever_the_stream_repeats() {
        // Sixteen keys in turn and every sixteenth noted: one key seems to have all the load.
        let mut sampler = Sampler::new(16);
        let mut met = [0_u64; 16];
        for unit in 0..160_000 {
            met[unit % 16] += sampler.points(1);
        }
        assert!(met.iter().all(|count| (500..750).contains(count)), "{met:?}");
        let mut sampler = Sampler::new(4096);
        let points: u64 = (0..1000).map(|_| sampler.points(1 << 20)).sum();
        assert!((250_000..262_000).contains(&points), "{points}");
        assert_eq!(sampler.points(0), 0);
    }
}
