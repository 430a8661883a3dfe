//! The native binary protocol.
