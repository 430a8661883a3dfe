//! PUT and GET newest over the native protocol.
