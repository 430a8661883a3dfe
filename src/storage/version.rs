//! The set of tables that a read sees.
