//! The daemon: core loops, connections, mailboxes, start and shutdown.
