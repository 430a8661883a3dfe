//! A blocking client of the native protocol.
