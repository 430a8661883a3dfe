//! Bytes to commands and replies to bytes: the native binary protocol, RESP, HTTP for the admin port.
//!
//! Everything here is pure: decoders take what has been received, encoders append to what will be sent.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

pub mod binary;
mod detect;
pub mod http;
pub mod resp;

pub use detect::{Detected, HTTP_HINT, detect};
