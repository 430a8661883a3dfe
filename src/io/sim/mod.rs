//! The simulated machine: disk, network, clock and threads from one seed.
