//! Pages about the whole: what no single module can tell.

#[doc = include_str!("performance.md")]
pub mod performance {}
