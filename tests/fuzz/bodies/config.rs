//! The configuration: a file, or flags.
//!
//! Input: a flag byte, then the file, or with flag 1 pieces: which setting (one byte), then its value.

use super::allocation::bounded;
use super::blobs::{pieces, split_flags};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use tskv::config::{Config, ConfigError, FLAGS, Loaded, Sources};
use tskv::limits::PAGE_BYTES;

/// A line of four bytes is an entry of a table; only the operator's own file costs her this much.
const FACTOR: usize = 400;
/// Files are read with room for the longest that is allowed.
const READ_BYTES: usize = 2 << 20;

pub(crate) fn file_or_flags(input: &[u8]) {
    let (flags, rest) = split_flags(input);
    if flags & 1 == 0 { file(rest) } else { values(rest) }
}

/// Whether reading the value would ask a name server.
fn asks_for_a_name(name: &str, value: &str) -> bool {
    matches!(name, "listen" | "admin") && value.parse::<SocketAddr>().is_err() && value.contains(':')
}

fn file(content: &[u8]) {
    let table = std::str::from_utf8(content)
        .ok()
        .and_then(|text| text.strip_prefix('\u{feff}').unwrap_or(text).parse::<toml::Table>().ok());
    let asks = |(key, value): (&String, &toml::Value)| {
        let text = |value: &toml::Value| {
            value.as_str().is_some_and(|text| asks_for_a_name(&key.replace('_', "-"), text))
        };
        text(value) || value.as_array().is_some_and(|items| items.iter().any(text))
    };
    if table.is_some_and(|table| table.iter().any(asks)) {
        return;
    }
    let path = PathBuf::from(format!("/dev/shm/tskv-fuzz-{}.toml", std::process::id()));
    std::fs::write(&path, content).expect("the file for the configuration");
    let sources = Sources { file: Some(path.clone()), ..Sources::default() };
    let loaded = bounded(content.len() + READ_BYTES / FACTOR, FACTOR, || sources.load());
    let _ = std::fs::remove_file(path);
    judge(loaded);
}

fn values(input: &[u8]) {
    let mut flags: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for piece in pieces(input) {
        let (number, value) = split_flags(piece);
        let flag = &FLAGS[usize::from(number) % FLAGS.len()];
        let value = String::from_utf8_lossy(value).into_owned();
        if asks_for_a_name(flag.name, &value) {
            return;
        }
        flags.entry(flag.name).or_default().push(value);
    }
    let sources = Sources { flags, ..Sources::default() };
    judge(bounded(input.len() + READ_BYTES / FACTOR, FACTOR, || sources.load()));
}

/// Nothing that was accepted is checked again later, so it must keep the promises of `Config`.
fn judge(outcome: Result<Loaded, ConfigError>) {
    let config = match outcome {
        Ok(Loaded { config, .. }) => config,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let Config { listen, wal_segment_bytes, max_value_bytes, split_at, background_threads, .. } = &config;
    assert!(!listen.is_empty() && *background_threads > 0 && config.memtable_bytes > 0);
    assert!(wal_segment_bytes.is_multiple_of(PAGE_BYTES as u64));
    assert!((1 << 20..=256 << 20).contains(wal_segment_bytes));
    assert!(*max_value_bytes <= 16 << 20 && (*max_value_bytes as u64) < *wal_segment_bytes);
    assert!(split_at.is_sorted_by(|a, b| a < b) && split_at.iter().all(|key| !key.is_empty()));
    assert!(
        config.max_clients > 0 && config.max_output_bytes > 0 && config.max_query_memory > *max_value_bytes
    );
}
