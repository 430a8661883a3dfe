//! Every setting of `tskv serve`: its one definition with name, unit, default, help and parser.

use super::address::parse_address;
use super::password::read_password_file;
use super::quantity::{parse_bytes, parse_duration};
use super::split_points::parse_split_points;
use super::{Config, CorePorts, Cores, OnIoError, SyncPolicy};
use crate::limits;
use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// One setting.
pub struct Flag {
    /// Name: `--name` on the command line, `TSKV_NAME` in the environment, `name = …` in the file.
    pub name: &'static str,
    /// What a value looks like, for the help.
    pub value_name: &'static str,
    /// The value that applies when none is given, as an operator would write it; empty for none.
    pub default: &'static str,
    /// Help text, without default and variable name.
    pub help: &'static str,
    /// Whether it may be given several times; the environment separates by commas, the file has an array.
    pub repeatable: bool,
    /// Parses the values (exactly one unless repeatable) into the configuration.
    pub(super) set: fn(&mut Config, &[String]) -> Result<(), String>,
}

impl fmt::Debug for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flag").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All settings, in the order of the help.
pub const FLAGS: &[Flag] = &[
    Flag {
        name: "data",
        value_name: "DIR",
        default: "./tskv-data",
        help: "Directory of the store; created where missing",
        repeatable: false,
        set: |config, values| set_path(&mut config.data, first(values)),
    },
    Flag {
        name: "listen",
        value_name: "HOST:PORT",
        default: "127.0.0.1:7878",
        help: "Where clients connect, RESP and native on one port; repeatable; port 0 lets the kernel choose; \
               [::1]:7878 for IPv6. Beyond loopback, clients are refused unless --password-file is set",
        repeatable: true,
        set: |config, values| {
            config.listen = values.iter().map(|value| parse_address(value)).collect::<Result<_, _>>()?;
            Ok(())
        },
    },
    Flag {
        name: "admin",
        value_name: "HOST:PORT|off",
        default: "127.0.0.1:7879",
        help: "Where /metrics, /healthz and /readyz are served over HTTP, without a password; off for nowhere",
        repeatable: false,
        set: |config, values| {
            config.admin = match first(values) {
                "off" => None,
                address => Some(parse_address(address)?),
            };
            Ok(())
        },
    },
    Flag {
        name: "backend",
        value_name: "auto|io_uring|epoll",
        default: "auto",
        help: "How the cores talk to the kernel; auto takes io_uring where it works, else epoll, and says why",
        repeatable: false,
        set: |config, values| {
            let name = first(values);
            config.backend = name.parse().map_err(|error| format!("'{name}': {error}"))?;
            Ok(())
        },
    },
    Flag {
        name: "cores",
        value_name: "N|cpu:LIST",
        default: "",
        help: "Cores that serve: a count, or the CPUs as in cpu:0,2-3 [default: all that affinity and cgroup allow]",
        repeatable: false,
        set: |config, values| {
            config.cores = parse_cores(first(values))?;
            Ok(())
        },
    },
    Flag {
        name: "core-port-base",
        value_name: "PORT|auto|off",
        default: "off",
        help: "A port of its own for each core, from this one up, on the hosts of --listen: native clients that ask for \
               the routes go straight to the owner of a key; auto lets the kernel choose the ports",
        repeatable: false,
        set: |config, values| {
            config.core_ports = match first(values) {
                "off" => CorePorts::Off,
                "auto" => CorePorts::Auto,
                text => {
                    let mut base = 0;
                    set_number(&mut base, text, 1, u64::from(u16::MAX))
                        .map_err(|reason| format!("{reason}, auto or off"))?;
                    CorePorts::Base(base)
                }
            };
            Ok(())
        },
    },
    Flag {
        name: "sync",
        value_name: "always|interval=DURATION|none",
        default: "always",
        help: "When an acknowledged write is on stable storage: before its reply, at most DURATION later, \
               or whenever the kernel writes it back. A killed process loses nothing under any of them",
        repeatable: false,
        set: |config, values| {
            config.sync = parse_sync(first(values))?;
            Ok(())
        },
    },
    Flag {
        name: "time-unit",
        value_name: "ms|us|ns",
        default: "",
        help: "Unit of timestamps, fixed when the store is created [default: the store's, ms for a new one]",
        repeatable: false,
        set: |config, values| {
            config.time_unit = Some(first(values).parse()?);
            Ok(())
        },
    },
    Flag {
        name: "retention",
        value_name: "DURATION|off",
        default: "off",
        help: "How long samples are kept, by their timestamps: 30d, 12h. What is older is gone from every reply at \
               once and cannot be written any more; its files go as they become too old as a whole. Strings and what \
               TS.CREATE made are kept. Lengthening it brings nothing back",
        repeatable: false,
        set: |config, values| {
            config.retention = match first(values) {
                "off" => None,
                text => Some(parse_retention(text)?),
            };
            Ok(())
        },
    },
    Flag {
        name: "retention-bytes",
        value_name: "SIZE|off",
        default: "off",
        help: "How many bytes the tables of samples may take on the disk: beyond that the oldest samples go, of all \
               series alike. Logs (--wal-segment-bytes each) and the merge that runs take room beside it. Samples as \
               old as those may be written again, and go again first",
        repeatable: false,
        set: |config, values| {
            config.retention_bytes = match first(values) {
                "off" => None,
                text => Some(bytes_within(text, limits::RETENTION_BYTES_MIN, u64::MAX)?),
            };
            Ok(())
        },
    },
    Flag {
        name: "retention-clock",
        value_name: "check|trust",
        default: "check",
        help: "When the wall clock has leapt ahead: wait until it has run on from there for a while before anything is \
               dropped, or believe it as it is at this start",
        repeatable: false,
        set: |config, values| {
            config.retention_trusts_clock = match first(values) {
                "check" => false,
                "trust" => true,
                other => return Err(format!("'{other}' is not one of check, trust")),
            };
            Ok(())
        },
    },
    Flag {
        name: "password-file",
        value_name: "FILE",
        default: "",
        help: "File (mode 0600) with the password that clients must give; lets clients in from beyond loopback",
        repeatable: false,
        set: |config, values| {
            config.password = Some(read_password_file(Path::new(first(values)))?);
            Ok(())
        },
    },
    Flag {
        name: "max-clients",
        value_name: "N",
        default: "10000",
        help: "Connections open at once; one more is told so and closed",
        repeatable: false,
        set: |config, values| set_number(&mut config.max_clients, first(values), 1, 1_000_000),
    },
    Flag {
        name: "memtable-bytes",
        value_name: "SIZE",
        default: "48MiB",
        help: "Memory of each core's write buffer; up to five of them exist while flushes lag",
        repeatable: false,
        set: |config, values| set_bytes(&mut config.memtable_bytes, first(values), 1 << 20, 4 << 30),
    },
    Flag {
        name: "cache-bytes",
        value_name: "SIZE",
        default: "",
        help: "Memory of each core's cache: decoded blocks and, in an eighth of it, single values; 0 for none \
               [default: the cores share a quarter of the memory]",
        repeatable: false,
        set: |config, values| {
            let mut bytes = 0;
            set_bytes(&mut bytes, first(values), 0, 1 << 40)?;
            config.cache_bytes = Some(bytes);
            Ok(())
        },
    },
    Flag {
        name: "max-query-memory",
        value_name: "SIZE",
        default: "512MiB",
        help: "Memory for requests that are being received, over all connections",
        repeatable: false,
        set: |config, values| set_bytes(&mut config.max_query_memory, first(values), 1 << 20, 1 << 40),
    },
    Flag {
        name: "max-output-bytes",
        value_name: "SIZE",
        default: "64MiB",
        help: "Replies that one client may leave unread before it is dropped",
        repeatable: false,
        set: |config, values| {
            let smallest = limits::OUTPUT_BYTES_MAX_UNAUTHENTICATED as u64;
            set_bytes(&mut config.max_output_bytes, first(values), smallest, 4 << 30)
        },
    },
    Flag {
        name: "max-value-bytes",
        value_name: "SIZE",
        default: "1MiB",
        help: "Longest value that is accepted",
        repeatable: false,
        set: |config, values| {
            set_bytes(&mut config.max_value_bytes, first(values), 1, limits::VALUE_BYTES_CEILING as u64)
        },
    },
    Flag {
        name: "wal-segment-bytes",
        value_name: "SIZE",
        default: "64MiB",
        help: "Size of one write-ahead log file, rounded up to whole pages",
        repeatable: false,
        set: |config, values| {
            let bytes =
                bytes_within(first(values), limits::WAL_SEGMENT_BYTES_MIN, limits::WAL_SEGMENT_BYTES_MAX)?;
            config.wal_segment_bytes = bytes.next_multiple_of(limits::PAGE_BYTES as u64);
            Ok(())
        },
    },
    Flag {
        name: "bloom-bits",
        value_name: "N",
        default: "10",
        help: "Bits of Bloom filter per series in each table: 10 lets 1 % of needless looks through; 0 for none",
        repeatable: false,
        set: |config, values| set_number(&mut config.bloom_bits, first(values), 0, 32),
    },
    Flag {
        name: "split-at",
        value_name: "KEY,…",
        default: "",
        help: "Keys at which a new store is split among the cores [default: computed from the data]",
        repeatable: true,
        set: |config, values| {
            config.split_at = parse_split_points(values)?;
            Ok(())
        },
    },
    Flag {
        name: "rebalance",
        value_name: "on|off",
        default: "on",
        help: "Move the boundaries between shards to where the load is; off leaves them to `tskv shards`",
        repeatable: false,
        set: |config, values| {
            config.rebalance = match first(values) {
                "on" => true,
                "off" => false,
                other => return Err(format!("'{other}' is not one of on, off")),
            };
            Ok(())
        },
    },
    Flag {
        name: "rebalance-uneven",
        value_name: "PERCENT",
        default: "120%",
        help: "With --rebalance on: boundaries move when the busiest shard has so much of a fair share of the load for a \
               second",
        repeatable: false,
        set: |config, values| {
            set_percent(&mut config.rebalance_limits.uneven_percent, first(values), 101, 10_000)
        },
    },
    Flag {
        name: "rebalance-gain",
        value_name: "PERCENT",
        default: "10%",
        help: "With --rebalance on: only when its load is expected to shrink by so much",
        repeatable: false,
        set: |config, values| set_percent(&mut config.rebalance_limits.gain_percent, first(values), 1, 90),
    },
    Flag {
        name: "rebalance-pause",
        value_name: "DURATION",
        default: "1500ms",
        help: "With --rebalance on: after moves the load is not looked at for this long",
        repeatable: false,
        set: |config, values| {
            let pause = parse_duration(first(values))?;
            if !(Duration::from_millis(100)..=Duration::from_secs(86_400)).contains(&pause) {
                return Err(format!("{} is not from 100ms to 1d", first(values)));
            }
            config.rebalance_limits.pause_ns = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
            Ok(())
        },
    },
    Flag {
        name: "series-rate-limit",
        value_name: "N|off",
        default: "off",
        help: "Requests a second on one series; more are refused with BUSY: a hot series takes a whole core, and this \
               keeps the rest of the core's keys served. A batch counts once for each series in it",
        repeatable: false,
        set: |config, values| {
            config.series_rate_limit = match first(values) {
                "off" => None,
                text => {
                    let mut limit = 0;
                    set_number(&mut limit, text, 1, 100_000_000)
                        .map_err(|reason| format!("{reason}, or off"))?;
                    Some(limit)
                }
            };
            Ok(())
        },
    },
    Flag {
        name: "spin",
        value_name: "DURATION",
        default: "",
        help: "How long an idle core polls before it sleeps: trades CPU for latency [default: chosen by tskv]",
        repeatable: false,
        set: |config, values| {
            let spin = parse_duration(first(values))?;
            if spin > Duration::from_secs(1) {
                return Err(format!("{} is too long; at most 1s", first(values)));
            }
            config.spin = Some(spin);
            Ok(())
        },
    },
    Flag {
        name: "on-io-error",
        value_name: "exit|readonly",
        default: "exit",
        help: "After a failed write or sync of the log: exit, or refuse writes and serve reads until restart",
        repeatable: false,
        set: |config, values| {
            config.on_io_error = match first(values) {
                "exit" => OnIoError::Exit,
                "readonly" => OnIoError::ReadOnly,
                other => return Err(format!("'{other}' is not one of exit, readonly")),
            };
            Ok(())
        },
    },
    Flag {
        name: "slowlog-slower-than",
        value_name: "DURATION|off",
        default: "10ms",
        help: "Requests that take longer, from their arrival until their reply has left, are noted in the slow log with \
               where the time went: `tskv slowlog`, or SLOWLOG GET",
        repeatable: false,
        set: |config, values| {
            config.slowlog_slower_than = match first(values) {
                "off" => None,
                text => Some(parse_duration(text)?),
            };
            Ok(())
        },
    },
    Flag {
        name: "slowlog-len",
        value_name: "N",
        default: "128",
        help: "Requests that the slow log holds; the oldest goes first",
        repeatable: false,
        set: |config, values| {
            set_number(&mut config.slowlog_len, first(values), 0, limits::SLOWLOG_LEN_MAX as u64)
        },
    },
    Flag {
        name: "background-threads",
        value_name: "N",
        default: "2",
        help: "Threads for flush and compaction, at low priority",
        repeatable: false,
        set: |config, values| set_number(&mut config.background_threads, first(values), 1, 64),
    },
    Flag {
        name: "log-level",
        value_name: "off|error|warn|info|debug|trace",
        default: "info",
        help: "What is logged to stderr",
        repeatable: false,
        set: |config, values| {
            let level = first(values);
            config.log_level = log::LevelFilter::from_str(level)
                .map_err(|_| format!("'{level}' is not one of off, error, warn, info, debug, trace"))?;
            Ok(())
        },
    },
];

/// The value of a setting that has one. The sources never pass an empty list.
fn first(values: &[String]) -> &str {
    values.first().map_or("", String::as_str)
}

fn set_path(path: &mut PathBuf, text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("a path cannot hold a NUL byte".to_owned());
    }
    *path = PathBuf::from(text);
    Ok(())
}

/// Reads a whole number within `min..=max`.
fn set_number<T: TryFrom<u64>>(target: &mut T, text: &str, min: u64, max: u64) -> Result<(), String> {
    let number = text.parse::<u64>().ok().filter(|number| (min..=max).contains(number));
    *target = number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("'{text}' is not a whole number from {min} to {max}"))?;
    Ok(())
}

/// Reads a whole number of hundredths within `min..=max`; the sign may be left out.
fn set_percent(target: &mut u64, text: &str, min: u64, max: u64) -> Result<(), String> {
    set_number(target, text.strip_suffix('%').unwrap_or(text), min, max)
}

/// Reads a size within `min..=max` bytes.
fn set_bytes(target: &mut usize, text: &str, min: u64, max: u64) -> Result<(), String> {
    let bytes = bytes_within(text, min, max)?;
    *target = usize::try_from(bytes).map_err(|_| format!("{text} exceeds this machine's address space"))?;
    Ok(())
}

fn bytes_within(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    if bytes < min {
        return Err(format!("{text} is too small; at least {min} bytes"));
    }
    if bytes > max {
        return Err(format!("{text} is too large; at most {max} bytes"));
    }
    Ok(bytes)
}

fn parse_sync(text: &str) -> Result<SyncPolicy, String> {
    match text {
        "always" => Ok(SyncPolicy::Always),
        "none" => Ok(SyncPolicy::None),
        _ => {
            let interval = text
                .strip_prefix("interval=")
                .ok_or_else(|| format!("'{text}' is not one of always, interval=10ms, none"))?;
            let millis = parse_duration(interval)?.as_millis();
            u32::try_from(millis)
                .ok()
                .filter(|millis| *millis <= 60_000)
                .and_then(NonZeroU32::new)
                .map(SyncPolicy::IntervalMs)
                .ok_or_else(|| format!("the interval {interval} is not between 1ms and 60s"))
        }
    }
}

fn parse_retention(text: &str) -> Result<Duration, String> {
    let length = parse_duration(text)?;
    if length < Duration::from_secs(1) {
        return Err(format!("{text} is too short; at least 1s, or off"));
    }
    Ok(length)
}

/// Reads `4` or `cpu:0,2-3`.
fn parse_cores(text: &str) -> Result<Cores, String> {
    let Some(list) = text.strip_prefix("cpu:") else {
        let mut count = 0;
        set_number(&mut count, text, 1, limits::CORES_MAX as u64)
            .map_err(|reason| format!("{reason}; or name the CPUs as in cpu:0,2-3"))?;
        return Ok(Cores::Count(count));
    };
    let mut cpus = BTreeSet::new();
    for part in list.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high) = (parse_cpu(low)?, parse_cpu(high)?);
        if low > high {
            return Err(format!("'{part}' runs backwards; write {high}-{low}"));
        }
        for cpu in low..=high {
            if !cpus.insert(cpu) {
                return Err(format!("CPU {cpu} is named twice"));
            }
        }
    }
    if cpus.len() > limits::CORES_MAX {
        return Err(format!("{} CPUs are more than tskv uses; at most {}", cpus.len(), limits::CORES_MAX));
    }
    Ok(Cores::Cpus(cpus.into_iter().collect()))
}

/// A CPU number as `sched_setaffinity(2)` counts them.
fn parse_cpu(text: &str) -> Result<usize, String> {
    let mut cpu = 0;
    set_number(&mut cpu, text, 0, 1023)
        .map_err(|reason| format!("{reason}; CPUs are named as in cpu:0,2-3"))?;
    Ok(cpu)
}

#[cfg(test)]
mod tests;
