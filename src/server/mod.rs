//! The daemon: core loops, connections, mailboxes, start and shutdown.
#![deny(clippy::wildcard_enum_match_arm)]

mod mailbox;
mod output;
mod slots;
