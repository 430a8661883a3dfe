//! A shard: owner of one key range, as a function from events to effects.
