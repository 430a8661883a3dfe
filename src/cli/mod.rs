//! The command line.
mod csv;
