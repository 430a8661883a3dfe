//! The daemon: core loops, connections, mailboxes, start and shutdown.
#![deny(clippy::wildcard_enum_match_arm)]

mod admission;
mod bind;
mod blame;
mod clients;
mod connection;
mod core_loop;
mod desk;
mod mailbox;
mod moves;
mod native;
mod net;
mod node;
mod output;
mod pages;
mod parts;
mod placement;
mod router;
mod scan_relay;
mod seats;
mod session;
mod shard_table;
mod shared;
mod slots;
mod slow_log;
mod status;
mod tokens;

pub(crate) use bind::CoreListener;
pub(crate) use core_loop::{CoreEnd, CoreLoop};
pub(crate) use node::{CoreParts, Knobs, NodeStart, assemble};
pub use node::{Running, ServeError, run};
pub(crate) use placement::order_of_moves;
pub(crate) use shared::Shared;
