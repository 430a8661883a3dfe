//! The `tskv` program from outside: what an operator types, what clients send, and what comes back.

mod clients;
mod daemon;
mod data_set;
mod environment;
mod protection;
mod serving;
mod usage;
