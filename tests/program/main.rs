//! The `tskv` program from outside: what an operator types, what clients send, and what comes back.

mod clients;
mod daemon;
mod data_set;
mod serving;
mod usage;
