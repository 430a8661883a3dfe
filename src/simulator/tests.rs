//! Tests of the simulation itself: it repeats itself, and it has teeth.

use super::run_seed;

#[test]
fn a_seed_runs_the_same_way_twice() {
    // A failure that cannot be replayed cannot be understood.
    for seed in 0..3 {
        let (first, second) = (run_seed(seed), run_seed(seed));
        assert_eq!(first.expect("the seed is sound"), second.expect("the seed is sound"), "seed {seed}");
    }
}
