//! The memtable: what was written since the last flush, ordered.
