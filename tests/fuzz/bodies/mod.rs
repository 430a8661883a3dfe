//! What is done with each fuzz input: one body per decoder. libFuzzer drives them (`fuzz_targets/`), and so does the
//! seeded runner of `cargo test` (`tests/decoders/`), so that both test the same code.
//!
//! A body panics when the decoder panics, when it allocates more than its input allows, when what it accepted does not
//! survive being written and read again, or when it judges a part of the input differently from the whole.

mod allocation;
mod blobs;
mod config;
mod csv;
mod glob;
mod http;
mod manifest;
mod native;
mod resp;
mod table;
mod wal;

/// A fuzz target: its name, which is also that of its corpus, and what it does with an input.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All targets.
#[allow(dead_code, reason = "each libFuzzer program drives one of them")]
pub(crate) const TARGETS: [Target; 10] = [
    ("native_request", native::request),
    ("native_response", native::response),
    ("resp", resp::pipeline),
    ("http", http::head),
    ("wal", wal::segment),
    ("table", table::any_part),
    ("manifest", manifest::log_or_current),
    ("config", config::file_or_flags),
    ("csv", csv::import),
    ("glob", glob::pattern),
];

/// Runs the target of this name.
#[allow(dead_code, reason = "the runner of `cargo test` walks the list")]
pub(crate) fn run(name: &str, input: &[u8]) {
    let (_, body) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target has this name");
    body(input);
}

#[allow(unused_imports, reason = "the runner of `cargo test` asks and makes corpora")]
pub(crate) use {allocation::is_counting, blobs::put_piece, wal::take_apart as take_apart_segment};
