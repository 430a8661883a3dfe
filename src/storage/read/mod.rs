//! Reads over memtables and tables: lookups and scans that say what blocks they need.
