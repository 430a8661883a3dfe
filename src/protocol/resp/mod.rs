//! RESP2 and RESP3, the protocol of Redis: bytes → words ([`parse`]) → requests ([`parse_command`]), and replies → bytes
//! ([`encode`]).
//!
//! Pure: no clock, no connection. What a connection remembers (AUTH, MULTI, names) is the server's.
//!
//! | file | owns |
//! |---|---|
//! | `parse` | framing and inline requests |
//! | `request` | what can be asked for |
//! | `command` | words to requests; errors with Redis's texts |
//! | `table` | names, arities, key positions |
//! | `session`, `strings`, `keys`, `series` | the families of commands |
//! | `encode`, `describe` | replies; the replies to COMMAND |
//! | `number`, `glob` | numbers and patterns as Redis has them |
#![deny(clippy::indexing_slicing)]

mod command;
pub mod describe;
pub mod encode;
pub mod glob;
mod keys;
pub mod number;
mod parse;
mod request;
mod series;
mod session;
mod strings;
mod table;
#[cfg(test)]
mod tests;

pub use command::{CommandContext, CommandError, parse_command};
pub use parse::{Args, ParseState, Parsed, RespError, RespLimits, StoredArgs, parse};
pub use request::{ClientAttribute, Credentials, Gather, Hello, Protocol, Request, ScanPage, SessionRequest};
pub use table::{CommandSpec, Group, find_command, is_allowed_before_auth, keys_beyond, specs};
