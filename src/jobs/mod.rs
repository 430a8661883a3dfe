//! Work off the cores that may block: opening the store, the coordinator, flushes, merges, segments.
