//! A shard: owner of one key range, as a function from events to effects.
#![forbid(unsafe_code)]

pub mod aggregate;
