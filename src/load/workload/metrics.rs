//! What a host reports: the ten fields of TSBS cpu-only, and the other eight measurements of its devops use case.
//!
//! A field has a state that starts somewhere and takes a step per tick; what is written is the state, or follows from
//! the states of its measurement. Numbers are those of TSBS; where its README and its code differ, those of its code.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Which measurements a host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowShape {
    /// A row of ten values.
    #[default]
    Cpu,
    /// Nine rows of 101 values.
    Devops,
}

/// Where a field starts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    /// Here.
    At(f64),
    /// Anywhere from 0 up to here.
    Below(f64),
    /// At one of these.
    OneOf([f64; 3]),
}

/// What a tick does to it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Nothing.
    Stay,
    /// It grows by this.
    Add(f64),
    /// It grows by the size of a normal number with this mean and a deviation of 1.
    Count(f64),
    /// A normal number is added, and it stays within bounds.
    Walk { mean: f64, deviation: f64, low: f64, high: f64 },
}

/// One field of a host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) start: Start,
    pub(super) step: Step,
    /// What is written, from the states of the measurement; none: the state.
    pub(super) shown: Option<fn(&[f64]) -> f64>,
    /// Written with its fraction, whatever the others are.
    pub(super) is_fraction: bool,
}

/// Fields that are written as one row.
#[derive(Clone, Copy, Debug)]
struct Measurement {
    name: &'static str,
    fields: &'static [Field],
}

const TIB: f64 = (1_u64 << 40) as f64;
const GIB: f64 = (1_u64 << 30) as f64;
const INODE_BYTES: f64 = 4096.0;

const fn field(name: &'static str, start: Start, step: Step) -> Field {
    Field { name, start, step, shown: None, is_fraction: false }
}
const fn cpu(name: &'static str) -> Field {
    field(name, Start::Below(100.0), Step::Walk { mean: 0.0, deviation: 1.0, low: 0.0, high: 100.0 })
}
const fn counter(name: &'static str, mean: f64) -> Field {
    field(name, Start::At(0.0), Step::Count(mean))
}
const fn climb(name: &'static str, mean: f64, high: f64) -> Field {
    field(name, Start::At(0.0), Step::Walk { mean, deviation: 1.0, low: 0.0, high })
}
const fn walk(name: &'static str, start: f64, high: f64) -> Field {
    field(name, Start::At(start), Step::Walk { mean: 50.0, deviation: 1.0, low: 0.0, high })
}
const fn free_walk(name: &'static str) -> Field {
    let step = Step::Walk { mean: 1.0, deviation: 1.0, low: f64::MIN, high: f64::MAX };
    field(name, Start::At(0.0), step)
}
const fn constant(name: &'static str, value: f64) -> Field {
    field(name, Start::At(value), Step::Stay)
}
/// A share of a host's memory, which is the first field of its measurement.
const fn memory(name: &'static str, shown: fn(&[f64]) -> f64) -> Field {
    let step = Step::Walk { mean: 0.0, deviation: 1.0 / 64.0, low: 0.0, high: 1.0 };
    Field { shown: Some(shown), ..field(name, Start::Below(1.0), step) }
}
const fn derived(name: &'static str, shown: fn(&[f64]) -> f64) -> Field {
    Field { shown: Some(shown), ..constant(name, 0.0) }
}
const fn percent(name: &'static str, shown: fn(&[f64]) -> f64) -> Field {
    Field { is_fraction: true, ..derived(name, shown) }
}

const MEASUREMENTS: [Measurement; 9] = [
    Measurement {
        name: "cpu",
        fields: &[
            cpu("usage_user"),
            cpu("usage_system"),
            cpu("usage_idle"),
            cpu("usage_nice"),
            cpu("usage_iowait"),
            cpu("usage_irq"),
            cpu("usage_softirq"),
            cpu("usage_steal"),
            cpu("usage_guest"),
            cpu("usage_guest_nice"),
        ],
    },
    Measurement {
        name: "diskio",
        fields: &[
            counter("reads", 50.0),
            counter("writes", 50.0),
            counter("read_bytes", 100.0),
            counter("write_bytes", 100.0),
            counter("read_time", 5.0),
            counter("write_time", 5.0),
            counter("io_time", 5.0),
        ],
    },
    Measurement {
        name: "disk",
        fields: &[
            constant("total", TIB),
            walk("free", TIB / 2.0, TIB),
            derived("used", |row| TIB - row[1]),
            derived("used_percent", |row| 100.0 * (TIB - row[1]) / TIB),
            constant("inodes_total", TIB / INODE_BYTES),
            derived("inodes_free", |row| row[1] / INODE_BYTES),
            derived("inodes_used", |row| (TIB - row[1]) / INODE_BYTES),
        ],
    },
    Measurement {
        name: "kernel",
        fields: &[
            field("boot_time", Start::Below(240.0), Step::Stay),
            counter("interrupts", 5.0),
            counter("context_switches", 5.0),
            counter("processes_forked", 5.0),
            counter("disk_pages_in", 5.0),
            counter("disk_pages_out", 5.0),
        ],
    },
    Measurement {
        name: "mem",
        fields: &[
            field("total", Start::OneOf([8.0 * GIB, 12.0 * GIB, 16.0 * GIB]), Step::Stay),
            derived("available", |row| row[0] * (1.0 - row[2])),
            memory("used", |row| row[0] * row[2]),
            derived("free", |row| row[0] * (1.0 - row[2])),
            memory("cached", |row| row[0] * row[4]),
            memory("buffered", |row| row[0] * row[5]),
            percent("used_percent", |row| 100.0 * row[2]),
            percent("available_percent", |row| 100.0 * (1.0 - row[2])),
            percent("buffered_percent", |row| 100.0 * row[5]),
        ],
    },
    Measurement {
        name: "net",
        fields: &[
            counter("bytes_sent", 50.0),
            counter("bytes_recv", 50.0),
            counter("packets_sent", 50.0),
            counter("packets_recv", 50.0),
            counter("err_in", 5.0),
            counter("err_out", 5.0),
            counter("drop_in", 5.0),
            counter("drop_out", 5.0),
        ],
    },
    Measurement {
        name: "nginx",
        fields: &[
            counter("accepts", 5.0),
            climb("active", 5.0, 100.0),
            counter("handled", 5.0),
            climb("reading", 5.0, 100.0),
            counter("requests", 5.0),
            climb("waiting", 5.0, 100.0),
            climb("writing", 5.0, 100.0),
        ],
    },
    Measurement {
        name: "postgresl",
        fields: &[
            climb("numbackends", 5.0, 1000.0),
            climb("xact_commit", 5.0, 1000.0),
            climb("xact_rollback", 5.0, 1000.0),
            climb("blks_read", 5.0, 1000.0),
            climb("blks_hit", 5.0, 1000.0),
            climb("tup_returned", 5.0, 1000.0),
            climb("tup_fetched", 5.0, 1000.0),
            climb("tup_inserted", 5.0, 1000.0),
            climb("tup_updated", 5.0, 1000.0),
            climb("tup_deleted", 5.0, 1000.0),
            climb("conflicts", 5.0, 1000.0),
            climb("temp_files", 5.0, 1000.0),
            climb("temp_bytes", 1024.0, GIB),
            climb("deadlocks", 5.0, 1000.0),
            climb("blk_read_time", 5.0, 1000.0),
            climb("blk_write_time", 5.0, 1000.0),
        ],
    },
    Measurement {
        name: "redis",
        fields: &[
            field("uptime_in_seconds", Start::At(0.0), Step::Add(10.0)),
            counter("total_connections_received", 5.0),
            counter("expired_keys", 50.0),
            counter("evicted_keys", 50.0),
            counter("keyspace_hits", 50.0),
            counter("keyspace_misses", 50.0),
            free_walk("instantaneous_ops_per_sec"),
            free_walk("instantaneous_input_kbps"),
            free_walk("instantaneous_output_kbps"),
            walk("connected_clients", 0.0, 10_000.0),
            walk("used_memory", 8.0 * GIB, 16.0 * GIB),
            walk("used_memory_rss", 8.0 * GIB, 16.0 * GIB),
            walk("used_memory_peak", 8.0 * GIB, 16.0 * GIB),
            walk("used_memory_lua", 8.0 * GIB, 16.0 * GIB),
            walk("rdb_changes_since_last_save", 0.0, 10_000.0),
            climb("sync_full", 5.0, 1000.0),
            climb("sync_partial_ok", 5.0, 1000.0),
            climb("sync_partial_err", 5.0, 1000.0),
            climb("pubsub_channels", 5.0, 1000.0),
            climb("pubsub_patterns", 5.0, 1000.0),
            climb("latest_fork_usec", 5.0, 1000.0),
            climb("connected_slaves", 5.0, 1000.0),
            climb("master_repl_offset", 5.0, 1000.0),
            climb("repl_backlog_active", 5.0, 1000.0),
            climb("repl_backlog_size", 5.0, 1000.0),
            climb("repl_backlog_histlen", 5.0, 1000.0),
            climb("mem_fragmentation_ratio", 5.0, 100.0),
            climb("used_cpu_sys", 5.0, 1000.0),
            climb("used_cpu_user", 5.0, 1000.0),
            climb("used_cpu_sys_children", 5.0, 1000.0),
            climb("used_cpu_user_children", 5.0, 1000.0),
        ],
    },
];

impl RowShape {
    fn measurements(self) -> &'static [Measurement] {
        match self {
            Self::Cpu => &MEASUREMENTS[..1],
            Self::Devops => &MEASUREMENTS,
        }
    }
    /// Fields of a host.
    pub(super) fn fields(self) -> impl Iterator<Item = &'static Field> {
        self.measurements().iter().flat_map(|measurement| measurement.fields)
    }
    /// How many those are.
    pub(super) fn field_count(self) -> usize {
        self.measurements().iter().map(|measurement| measurement.fields.len()).sum()
    }
    /// The fields of each row, by their positions among those of the host.
    pub(super) fn rows(self) -> Vec<Range<usize>> {
        let mut start = 0;
        let range = |measurement: &Measurement| {
            let fields = start..start + measurement.fields.len();
            start = fields.end;
            fields
        };
        self.measurements().iter().map(range).collect()
    }
}

/// Measurement and name of a field, by its position.
pub(super) fn names_of(mut position: usize) -> (&'static str, &'static str) {
    for measurement in &MEASUREMENTS {
        match measurement.fields.get(position) {
            Some(field) => return (measurement.name, field.name),
            None => position -= measurement.fields.len(),
        }
    }
    panic!("a host has no field beyond its last one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_the_fields_of_the_recipe() {
        // A row narrower than TSBS's is cheaper to write.
        let counts: Vec<usize> = RowShape::Devops.rows().iter().map(ExactSizeIterator::len).collect();
        assert_eq!(counts, [10, 7, 7, 6, 9, 8, 7, 16, 31]);
        assert_eq!((RowShape::Devops.field_count(), RowShape::Cpu.field_count()), (101, 10));
        assert_eq!(names_of(0), ("cpu", "usage_user"));
        assert_eq!(names_of(9), ("cpu", "usage_guest_nice"));
        assert_eq!(names_of(10), ("diskio", "reads"));
        assert_eq!(names_of(100), ("redis", "used_cpu_user_children"));
        let names: std::collections::BTreeSet<_> = (0..101).map(names_of).collect();
        assert_eq!(names.len(), 101);
    }
}
