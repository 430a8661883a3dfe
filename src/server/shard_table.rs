//! What `tskv shards` shows: where the keys are split, what each shard does, and the last moves.
//!
//! It travels as fields of STATS: `shards` is the text, `boundary.N` the boundary behind shard N in hexadecimal digits.

use super::moves::{MoveBoard, MoveRecord};
use crate::metrics::CoreSnapshot;
use std::fmt::Write;

/// The fields of STATS.
pub(crate) fn shard_pairs(cores: &[CoreSnapshot], moves: &MoveBoard, now_ns: u64) -> Vec<(String, String)> {
    let boundaries = moves.boundaries();
    let hex = |key: &[u8]| {
        key.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    };
    let mut pairs: Vec<_> =
        boundaries.iter().enumerate().map(|(number, key)| (format!("boundary.{number}"), hex(key))).collect();
    pairs.push(("shards".to_owned(), text(cores, &boundaries, moves, now_ns)));
    pairs
}

fn text(cores: &[CoreSnapshot], boundaries: &[Box<[u8]>], moves: &MoveBoard, now_ns: u64) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "shard    operations  memtable bytes  memtable entries  parked  first key");
    for core in cores {
        let first = usize::from(core.core).checked_sub(1).and_then(|before| boundaries.get(before));
        let first = first.map_or_else(|| "(all below)".to_owned(), |key| format!("'{}'", key.escape_ascii()));
        let shard = &core.shard;
        let _ = writeln!(
            text,
            "{:<5} {:>13} {:>15} {:>17} {:>7}  {first}",
            core.core,
            shard.operations,
            shard.memtable_bytes,
            shard.memtable_entries,
            shard.operations_parked
        );
    }
    let (moved, given_up) = moves.counts();
    let _ = writeln!(text, "\n{moved} moves done, {given_up} given up");
    for record in moves.records().iter().rev() {
        put_record(&mut text, record, now_ns);
    }
    text
}

fn put_record(text: &mut String, record: &MoveRecord, now_ns: u64) {
    let MoveRecord { from, to, keys, why, lasted_ns, ended_ns, refusal } = record;
    let seconds = now_ns.saturating_sub(*ended_ns) / 1_000_000_000;
    let (millis, micros) = (lasted_ns / 1_000_000, lasted_ns / 1_000 % 1_000);
    let end = keys.end.as_deref().unwrap_or_default();
    let outcome = refusal.map_or_else(|| "done".to_owned(), |why| format!("given up, since {why}"));
    let _ = writeln!(
        text,
        "  {seconds} s ago: '{}'..'{}' from shard {from} to {to}, {outcome} after {millis}.{micros:03} ms; {why}",
        keys.start.escape_ascii(),
        end.escape_ascii()
    );
}
