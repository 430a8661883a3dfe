//! Bytes to commands and replies to bytes: the native binary protocol, RESP, HTTP for the admin port.
#![forbid(unsafe_code)]

pub mod binary;
pub mod resp;
