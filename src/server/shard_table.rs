//! What `tskv shards` and `tskv top` show: where the keys are split, what each shard has and does, and the last moves.
//!
//! It travels as fields of STATS: `shards` is the text, `shard.N` the figures of shard N as `name=number` with spaces
//! between, `boundary.N` the boundary behind shard N in hexadecimal digits.

use super::moves::{MoveBoard, MoveRecord};
use super::router::Router;
use crate::metrics::CoreSnapshot;
use crate::storage::version::Table;
use std::fmt::Write;
use std::sync::Arc;

/// The fields of STATS.
pub(crate) fn shard_pairs(
    cores: &[CoreSnapshot],
    tables: &[Arc<Table>],
    moves: &MoveBoard,
    now_ns: u64,
) -> Vec<(String, String)> {
    let boundaries = moves.boundaries();
    let hex = |key: &[u8]| {
        key.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    };
    let mut pairs: Vec<_> =
        boundaries.iter().enumerate().map(|(number, key)| (format!("boundary.{number}"), hex(key))).collect();
    let router = Router::new(&boundaries);
    let rows: Vec<_> = cores.iter().map(|core| Row::of(core, tables, &router)).collect();
    pairs.extend(rows.iter().map(|row| (format!("shard.{}", row.shard), row.figures())));
    pairs.push(("shards".to_owned(), text(&rows, &boundaries, moves, now_ns)));
    pairs
}

/// One shard, and the core that has it.
struct Row {
    shard: u16,
    operations: u64,
    cpu_ms: u64,
    connections: u64,
    forwarded: u64,
    table_bytes: u64,
    table_entries: u64,
    memtable_bytes: u64,
    memtable_entries: u64,
    parked: u64,
}

impl Row {
    fn of(core: &CoreSnapshot, tables: &[Arc<Table>], router: &Router) -> Self {
        let keys = router.keys(core.core);
        let shares = tables.iter().map(|table| table.share_of(&keys));
        let (table_bytes, table_entries) =
            shares.fold((0, 0), |sum, share| (sum.0 + share.0, sum.1 + share.1));
        Self {
            shard: core.core,
            operations: core.shard.operations,
            cpu_ms: core.turns.cpu_ns / 1_000_000,
            connections: core.net.connections_open,
            forwarded: core.requests.forwarded,
            table_bytes,
            table_entries,
            memtable_bytes: core.shard.memtable_bytes,
            memtable_entries: core.shard.memtable_entries,
            parked: core.shard.operations_parked,
        }
    }
    fn figures(&self) -> String {
        format!(
            "operations={} cpu_ms={} connections={} forwarded={} table_bytes={} table_entries={} memtable_bytes={} \
             memtable_entries={} parked={}",
            self.operations,
            self.cpu_ms,
            self.connections,
            self.forwarded,
            self.table_bytes,
            self.table_entries,
            self.memtable_bytes,
            self.memtable_entries,
            self.parked
        )
    }
}

fn text(rows: &[Row], boundaries: &[Box<[u8]>], moves: &MoveBoard, now_ns: u64) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "shard    operations    cpu ms  clients   table bytes    entries  memtable bytes    entries  parked  first key"
    );
    for row in rows {
        let first = usize::from(row.shard).checked_sub(1).and_then(|before| boundaries.get(before));
        let first = first.map_or_else(|| "(all below)".to_owned(), |key| format!("'{}'", key.escape_ascii()));
        let _ = writeln!(
            text,
            "{:<5} {:>13} {:>9} {:>8} {:>13} {:>10} {:>15} {:>10} {:>7}  {first}",
            row.shard,
            row.operations,
            row.cpu_ms,
            row.connections,
            row.table_bytes,
            row.table_entries,
            row.memtable_bytes,
            row.memtable_entries,
            row.parked
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
