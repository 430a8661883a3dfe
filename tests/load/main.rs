//! The load generator: what it measures must be what arithmetic says, and what it writes must stay readable.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic like the test itself")]

mod fixture;
