//! The `tskv` program from outside: what an operator types, and what comes back.

mod daemon;
mod data_set;
mod serving;
mod usage;
