//! Settings that are each fine and together are not. Found when the configuration is read, before anything is opened:
//! each of these would start, and then fail some request for ever in the middle of serving.
//!
//! Every sentence names both flags, their values, and what to set.

use super::{Config, ConfigError, Cores, limits};
use crate::model::{DeleteScope, Slot, Value};
use crate::storage::wal::{Record, record_bytes, record_bytes_max};
use std::net::SocketAddr;

/// Sizes are proposed in whole mebibytes: what an operator would write.
const MEBIBYTE: u64 = 1 << 20;
/// What a reply or a request of one value has besides key and value, in either protocol: headers, lengths, line ends.
const ENVELOPE_BYTES: usize = 256;

/// Refuses settings that contradict each other.
pub(super) fn refuse(config: &Config) -> Result<(), ConfigError> {
    addresses(config)
        .and_then(|()| log_segment(config))
        .and_then(|()| query_memory(config))
        .and_then(|()| output(config))
        .and_then(|()| memtable(config))
        .and_then(|()| split_points(config))
        .and_then(|()| core_ports(config))
        .and_then(|()| data(config))
        .map_err(|reason| ConfigError::Conflict { reason })
}

/// Sentences about settings that do no harm and cannot have the effect that they ask for.
pub(super) fn doubts(config: &Config) -> Vec<String> {
    let segments = limits::MEMTABLE_SEGMENTS_MAX as u64;
    let fills = config.wal_segment_bytes.saturating_mul(segments);
    let unreachable = config.memtable_bytes as u64 > fills;
    let doubt = unreachable.then(|| {
        format!(
            "--memtable-bytes {} is never reached: a memtable is flushed when it holds back {segments} log files of \
             --wal-segment-bytes {}; raise the second to {} or lower the first to {}",
            shown(config.memtable_bytes as u64),
            shown(config.wal_segment_bytes),
            shown((config.memtable_bytes as u64).div_ceil(segments).min(limits::WAL_SEGMENT_BYTES_MAX)),
            shown(fills),
        )
    });
    doubt.into_iter().collect()
}

fn addresses(config: &Config) -> Result<(), String> {
    for (index, address) in config.listen.iter().enumerate() {
        let taken = |other: &SocketAddr| address.port() != 0 && other == address;
        if config.listen.iter().take(index).any(taken) {
            return Err(format!("--listen names {address} twice; once is enough"));
        }
        if config.admin.as_ref().is_some_and(taken) {
            return Err(format!("--listen and --admin both name {address}; give one another port"));
        }
    }
    Ok(())
}

/// The largest write is a SET that replaces a series: a delete and a value, in one frame of one segment.
fn log_segment(config: &Config) -> Result<(), String> {
    let series = [0; limits::SERIES_BYTES_MAX];
    let empty = Record::Put { series: &series, slot: Slot::Timeless, value: Value::Bytes(&[]) };
    // The length of the value is a varint: one byte for an empty one.
    let bits = usize::BITS - config.max_value_bytes.leading_zeros();
    let length_bytes = bits.div_ceil(7).max(1) as usize;
    let put_bytes = record_bytes(&empty) - 1 + length_bytes + config.max_value_bytes;
    let needed = put_bytes + record_bytes(&Record::Delete(DeleteScope::Series { series: &series }));
    let has = record_bytes_max(config.wal_segment_bytes);
    if needed <= has {
        return Ok(());
    }
    let sizes = (1..=limits::WAL_SEGMENT_BYTES_MAX / MEBIBYTE).map(|count| count * MEBIBYTE);
    let enough = sizes.into_iter().find(|size| record_bytes_max(*size) >= needed);
    let overhead = needed - config.max_value_bytes;
    Err(format!(
        "a value of --max-value-bytes {} does not fit into a log file of --wal-segment-bytes {}; raise the second to \
         {} or lower the first to {}",
        shown(config.max_value_bytes as u64),
        shown(config.wal_segment_bytes),
        shown(enough.unwrap_or(limits::WAL_SEGMENT_BYTES_MAX)),
        has.saturating_sub(overhead),
    ))
}

/// A request is received into a buffer that grows by doubling.
fn query_memory(config: &Config) -> Result<(), String> {
    let request = config.max_value_bytes + limits::SERIES_BYTES_MAX + ENVELOPE_BYTES + limits::RECEIVE_BYTES;
    let needed = (2 * request) as u64;
    if config.max_query_memory as u64 >= needed {
        return Ok(());
    }
    Err(format!(
        "a value of --max-value-bytes {} cannot be received within --max-query-memory {}; raise the second to at \
         least {}",
        shown(config.max_value_bytes as u64),
        shown(config.max_query_memory as u64),
        shown(needed.next_multiple_of(MEBIBYTE)),
    ))
}

/// What can be written must be readable: by itself, and at the end of a chunk of a scan.
fn output(config: &Config) -> Result<(), String> {
    let needed = scan_chunk_bytes_max(config.max_value_bytes) as u64;
    if config.max_output_bytes as u64 >= needed {
        return Ok(());
    }
    Err(format!(
        "a value of --max-value-bytes {} could be written and not be read: its reply exceeds --max-output-bytes {}; \
         raise the second to at least {}",
        shown(config.max_value_bytes as u64),
        shown(config.max_output_bytes as u64),
        shown(needed.next_multiple_of(MEBIBYTE)),
    ))
}

fn memtable(config: &Config) -> Result<(), String> {
    if config.memtable_bytes >= config.max_value_bytes {
        return Ok(());
    }
    Err(format!(
        "a value of --max-value-bytes {} exceeds the write buffer of --memtable-bytes {}; raise the second to at \
         least {}",
        shown(config.max_value_bytes as u64),
        shown(config.memtable_bytes as u64),
        shown((config.max_value_bytes as u64).next_multiple_of(MEBIBYTE)),
    ))
}

/// With `--cores` left to the machine the server checks this, when it knows how many there are.
fn split_points(config: &Config) -> Result<(), String> {
    cores(config).map_or(Ok(()), |cores| config.check_split_points(cores))
}

/// As [`split_points`]; at least one core there is.
fn core_ports(config: &Config) -> Result<(), String> {
    config.check_core_ports(cores(config).unwrap_or(1))
}

fn cores(config: &Config) -> Option<usize> {
    match &config.cores {
        Cores::Auto => None,
        Cores::Count(count) => Some(*count),
        Cores::Cpus(cpus) => Some(cpus.len()),
    }
}

fn data(config: &Config) -> Result<(), String> {
    if config.data.exists() && !config.data.is_dir() {
        let shown = config.data.display();
        return Err(format!("--data {shown} is a file; it must be a directory, or not exist yet"));
    }
    Ok(())
}

/// Bytes of the longest chunk of a scan: it is sent when it reaches its size, which one value may exceed.
pub(super) fn scan_chunk_bytes_max(value_bytes_max: usize) -> usize {
    limits::SCAN_CHUNK_BYTES + limits::SERIES_BYTES_MAX + ENVELOPE_BYTES + value_bytes_max
}

/// A size as an operator writes it.
fn shown(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        _ if bytes.is_multiple_of(MEBIBYTE) => format!("{}MiB", bytes / MEBIBYTE),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FLAGS, Sources};
    use super::*;
    use std::collections::BTreeMap;

    fn load(pairs: &[(&'static str, &str)]) -> Result<super::super::Loaded, ConfigError> {
        let flags = pairs.iter().map(|(name, value)| (*name, vec![(*value).to_owned()])).collect();
        Sources { flags, ..Sources::default() }.load()
    }

    #[test]
    fn contradictions_are_refused_with_both_flags_and_a_remedy() {
        // Each of these starts, and then fails in the middle of serving.
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let file = file.to_str().unwrap();
        for (pairs, hints) in [
            (&[("admin", "127.0.0.1:7878")][..], &["--listen", "--admin"][..]),
            (
                &[("max-value-bytes", "2MiB"), ("wal-segment-bytes", "1MiB")],
                &["--max-value-bytes 2MiB", "--wal-segment-bytes 1MiB", "3MiB"],
            ),
            (&[("wal-segment-bytes", "1MiB")], &["--max-value-bytes 1MiB", "2MiB", "lower"]),
            (
                &[("max-value-bytes", "16MiB"), ("max-query-memory", "16MiB")],
                &["--max-value-bytes 16MiB", "--max-query-memory 16MiB", "33MiB"],
            ),
            (&[("max-output-bytes", "1MiB")], &["--max-value-bytes 1MiB", "--max-output-bytes 1MiB", "2MiB"]),
            (
                &[("memtable-bytes", "1MiB"), ("max-value-bytes", "3MiB")],
                &["--max-value-bytes 3MiB", "--memtable-bytes 1MiB", "at least 3MiB"],
            ),
            (&[("cores", "3"), ("split-at", "k")], &["--split-at", "--cores", "2"]),
            (&[("cores", "cpu:0"), ("split-at", "k")], &["--split-at", "--cores"]),
            (&[("cores", "2"), ("core-port-base", "7877")], &["--core-port-base", "--listen"]),
            (&[("core-port-base", "7879")], &["--core-port-base", "--admin"]),
            (&[("cores", "2"), ("core-port-base", "65535")], &["--core-port-base", "65534"]),
            (&[("data", file)], &["--data", "must be a directory"]),
        ] {
            let message = load(pairs).expect_err(hints[0]).to_string();
            assert!(hints.iter().all(|hint| message.contains(hint)), "{pairs:?}: {message}");
        }
        let twice = BTreeMap::from([("listen", vec!["127.0.0.1:1".to_owned(), "127.0.0.1:1".to_owned()])]);
        assert!(Sources { flags: twice, ..Sources::default() }.load().is_err());
    }

    #[test]
    fn the_proposed_sizes_are_accepted() {
        // A remedy that is refused in its turn sends the operator in circles.
        for value in ["1", "64KiB", "900000", "1MiB", "3MiB", "16MiB"] {
            for name in ["wal-segment-bytes", "max-query-memory", "max-output-bytes", "memtable-bytes"] {
                assert!(FLAGS.iter().any(|flag| flag.name == name));
                let Err(error) = load(&[("max-value-bytes", value), (name, "1MiB")]) else { continue };
                let message = error.to_string();
                let digits = message.rsplit_once("MiB").map_or("", |(before, _)| before);
                let proposed = digits.rsplit(' ').next().unwrap_or_default();
                // Where the last size is the other flag's, the remedy stands before it.
                let raised = message.split(" to ").nth(1).unwrap_or_default();
                let raised =
                    raised.trim_start_matches("at least ").split([' ', ';']).next().unwrap_or(proposed);
                let again = load(&[("max-value-bytes", value), (name, raised)]);
                assert!(again.is_ok(), "{message}: {raised} is refused: {:?}", again.err());
            }
        }
    }

    #[test]
    fn a_value_that_just_fits_the_log_is_accepted() {
        // The remedy "lower the first to N" must be exact.
        let message = load(&[("wal-segment-bytes", "1MiB")]).expect_err("1 MiB does not fit").to_string();
        let most: usize = message.rsplit(' ').next().unwrap().parse().unwrap();
        let with = |bytes: usize| {
            load(&[("wal-segment-bytes", "1MiB"), ("max-value-bytes", &bytes.to_string())]).is_ok()
        };
        assert!(with(most) && !with(most + 8), "{message}");
    }

    #[test]
    fn what_has_no_effect_is_told() {
        // A write buffer that never fills is memory that its owner planned for something else.
        assert!(load(&[]).unwrap().warnings.is_empty());
        let pairs = [("memtable-bytes", "1GiB"), ("wal-segment-bytes", "8MiB")];
        let warnings = load(&pairs).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains("--memtable-bytes 1024MiB"), "{warnings:?}");
    }
}
