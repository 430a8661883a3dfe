//! The command line's shape and help. The settings of `serve` come from `config::FLAGS`, not from here.

use super::bench::{BENCH_HELP, BenchArgs};
use crate::config::{FLAGS, parse_duration};
use crate::model::{TimeUnit, ValueType};
use clap::{Arg, ArgAction, ArgMatches, Args, Parser, Subcommand, ValueEnum};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// A crash-safe time-series key-value store.
#[derive(Debug, Parser)]
#[command(
    name = "tskv",
    version,
    about,
    max_term_width = 100,
    after_help = "Start here:
  tskv serve                              a durable store in ./tskv-data, on 127.0.0.1:7878
  tskv put cpu.idle now 99.5              in a second terminal
  tskv get cpu.idle
  redis-cli -p 7878 TS.RANGE cpu.idle - +

Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 the store is damaged."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon
    Serve(ServeArgs),
    /// Ask whether a daemon answers
    Ping(Connect),
    /// Store one value
    #[command(after_help = "Examples:
  tskv put cpu.idle now 99.5
  tskv put cpu.idle 1517420000123 98.25
  tskv put boots 1517420000123 7 --type i64
  tskv put events now 'disk replaced' --type bytes

A later put of the same series and time replaces the earlier.")]
    Put(PutArgs),
    /// Print the newest value of a series, or the one at a time
    #[command(after_help = "Examples:
  tskv get cpu.idle                       the newest value
  tskv get cpu.idle 1517420000123         the value at exactly this time
  tskv get cpu.idle --with-time           as TIME,VALUE

Exit status 1 when there is none.")]
    Get(GetArgs),
    /// Delete a value, a stretch of time, a series, or all series with a prefix
    #[command(after_help = "Examples:
  tskv delete cpu.idle 1517420000123      one value
  tskv delete cpu.idle --from 0 --to 999  a stretch of time, both ends included
  tskv delete cpu.idle                    the whole series
  tskv delete --prefix cpu.               all series that start with cpu.
  tskv delete --everything

Deletes cost the same however much they cover.")]
    Delete(DeleteArgs),
    /// Print the samples of a series, or of all series with a prefix
    #[command(after_help = "Examples:
  tskv scan cpu.idle                      everything, oldest first
  tskv scan cpu.idle --from 1517420000000 --limit 10
  tskv scan cpu.idle --reverse --limit 1  the newest
  tskv scan --prefix cpu.                 several series, in order of their names
  tskv scan --prefix cpu. --newest        the newest sample of each
  tskv scan cpu.idle --aggregate avg --bucket 1m

Prints series,timestamp,value a line, without a header.")]
    Scan(ScanArgs),
    /// Show what the daemon is doing
    Stats(StatsArgs),
    /// Show how the keys are split between shards, or move the boundaries
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:
  tskv shards                             boundaries, load, memory, the last moves and why
  tskv shards move 0 cpu.m                shard 0 ends and shard 1 begins at cpu.m
  tskv shards split-at cpu.d,cpu.m,mem    all boundaries of four shards, one move after the other

A move copies no data and stops nobody: requests on the keys that change hands wait a moment. It gives
up when those under way on them take longer than 50 ms, or a log has failed; nothing has happened
then, and it may be tried again."
    )]
    Shards(ShardsArgs),
    /// Watch the shards and the hottest series, live
    #[command(after_help = "Examples:
  tskv top                                once a second until Ctrl-C
  tskv top -n 1                           one second's figures, for a script
  tskv top --interval 5s

A shard is one core's range of keys. A series that has most of a shard's operations cannot be split: it
is one core's worth (--series-rate-limit of the daemon holds it to a rate). Rates of series are those of
the daemon's last whole window of five seconds, taken from a sample: at least so much.")]
    Top(TopArgs),
    /// Show slow requests and where their time went
    #[command(after_help = "Examples:
  tskv slowlog                            the last ten, newest first
  tskv slowlog --all
  tskv slowlog --reset                    forget them

total = queue (others came first) + wal (the log was not yet durable) + read (blocks were read, or others
on the same series came first) + forward (to the core that owns the key, and back) + send (until the
kernel had taken the reply). The daemon notes what takes longer than its --slowlog-slower-than. The
metric tskv_request_phase_seconds has the same split of all requests.")]
    Slowlog(SlowlogArgs),
    /// Write all memtables to tables, and wait
    Flush(Connect),
    /// Flush and merge everything into as few tables as possible, and wait
    Compact(Connect),
    /// Make a second store with everything that was acknowledged, while the daemon serves
    #[command(after_help = "Examples:
  tskv backup /backups/monday             a directory that does not exist, or is empty
  tskv backup --copy /mnt/other/monday    bytes of its own instead of hard links
  tskv backup                             leaves it in the daemon's data directory and prints where

A backup is a data directory: `tskv serve --data /backups/monday` opens it, `tskv check` verifies it (done
at once unless --no-check). Writes go on meanwhile; what was acknowledged before is in it. On the same
file system tables are shared by hard links: it takes no time and no space, and ends with the disk. Runs
on the daemon's machine, as a user who may read its data.")]
    Backup(BackupArgs),
    /// Load CSV files
    #[command(after_help = "A file is plain or gzip:
  series,timestamp_ms,value               the header says ms, us or ns
  cpu.idle,1517420000123,99.5             split on the first two commas; no quotes

Examples:
  tskv import metrics.csv.gz
  tskv import --type bytes events.csv

Lines are stored in file order and a later line of the same series and time replaces the earlier,
so an import that was interrupted is simply run again. A bad line stops the import by its number.")]
    Import(ImportArgs),
    /// Print samples as CSV
    #[command(after_help = "Examples:
  tskv export > all.csv
  tskv export --prefix cpu. --from 1517420000000
  tskv export --values bits | sha256sum   floats as 16 hex digits, no header
  tskv export --format typed > all.tsv    everything, also what CSV cannot carry

Series come in byte order, timestamps ascending.")]
    Export(ExportArgs),
    /// Verify a data directory that no daemon has open
    #[command(after_help = "Example:
  tskv check ./tskv-data

Reads every byte that a checksum covers: manifest, tables, log. Changes nothing. Names file and offset
of each damaged place. Exit status 3 when there is damage, 1 when the check could not be made.")]
    Check(DataArgs),
    /// Say what is damaged in a data directory and what a repair would lose; repair it with --apply
    #[command(after_help = "Examples:
  tskv repair ./tskv-data                 says it and changes nothing
  tskv repair ./tskv-data --json | jq .   the same for programs, an object a line
  tskv repair ./tskv-data --apply         does what the first one said

What is kept: all sound tables; of a damaged table every sound block; of a damaged log stream all
writes before the damage, those of other streams in full. A lost CURRENT or manifest is put together
from the files. What lies LOST in a table may still be in the log. Nothing is deleted: a damaged file
is renamed to *.quarantine (`tskv dump` reads it all the same), and files that are not tskv's are left
alone. A repair that was cut short is simply run again. Stop the daemon first, and if there is room,
copy the directory.

Exit status: 0 nothing to repair, or repaired; 3 damage found and nothing changed; 2 wrong usage;
1 not done: in use, no store there, written by a newer tskv, or the machine refused something.")]
    Repair(RepairArgs),
    /// Print a file of a data directory in words: a log segment, a table, a manifest
    #[command(after_help = "Examples:
  tskv dump ./tskv-data/CURRENT
  tskv dump ./tskv-data/manifest/M-0000000000000001.log
  tskv dump ./tskv-data/wal/0000000000000001.wal
  tskv dump ./tskv-data/tables/0000000000000001.sst | less

A damaged file is read as far as it goes: each damaged place is named, and reading goes on behind it.
Files that a repair renamed to *.quarantine are read too. The data directory's LOCK is taken meanwhile:
stop the daemon first. Exit status 3 when there is damage.")]
    Dump(DumpArgs),
    /// Measure this daemon, or any server that speaks RESP
    #[command(after_help = BENCH_HELP)]
    Bench(Box<BenchArgs>),
    /// Run whole nodes on a simulated machine, through faults and crashes, from a seed
    #[command(after_help = simulate_help())]
    Simulate(SimulateArgs),
}

/// How to reach the daemon.
#[derive(Clone, Debug, Args)]
pub(super) struct Connect {
    /// Address of the daemon
    #[arg(long, env = "TSKV_ADDR", default_value = "127.0.0.1:7878", value_name = "HOST:PORT")]
    pub(super) addr: String,
    /// File (mode 0600) with the password
    #[arg(long, env = "TSKV_PASSWORD_FILE", value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct PutArgs {
    #[command(flatten)]
    pub(super) connect: Connect,
    /// Type of the value
    #[arg(long = "type", value_enum, default_value_t = TypeArg::F64)]
    pub(super) value_type: TypeArg,
    /// Series to write to
    pub(super) series: OsString,
    /// Timestamp in the store's unit, or `now`
    #[arg(allow_negative_numbers = true, value_parser = parse_put_time)]
    pub(super) time: PutTime,
    /// The value
    #[arg(allow_negative_numbers = true)]
    pub(super) value: OsString,
}

/// When a put happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PutTime {
    Now,
    At(i64),
}

fn parse_put_time(text: &str) -> Result<PutTime, String> {
    match text {
        "now" => Ok(PutTime::Now),
        text => text.parse().map(PutTime::At).map_err(|_| "neither a 64-bit whole number nor now".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(super) struct GetArgs {
    #[command(flatten)]
    pub(super) connect: Connect,
    /// Print TIME,VALUE
    #[arg(long)]
    pub(super) with_time: bool,
    /// Series to read
    pub(super) series: OsString,
    /// Timestamp in the store's unit; without it the newest value
    #[arg(allow_negative_numbers = true)]
    pub(super) time: Option<i64>,
}

#[derive(Debug, Args)]
#[group(id = "scope", required = true, multiple = true)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    pub(super) connect: Connect,
    /// Series to delete, or to delete from
    #[arg(group = "scope")]
    pub(super) series: Option<OsString>,
    /// Delete only the value at this timestamp
    #[arg(allow_negative_numbers = true, requires = "series", conflicts_with_all = ["from", "to"])]
    pub(super) time: Option<i64>,
    /// First timestamp to delete
    #[arg(long, allow_negative_numbers = true, requires = "series", value_name = "TIME")]
    pub(super) from: Option<i64>,
    /// Last timestamp to delete
    #[arg(long, allow_negative_numbers = true, requires = "series", value_name = "TIME")]
    pub(super) to: Option<i64>,
    /// Delete all series that start with this
    #[arg(long, group = "scope", conflicts_with = "series")]
    pub(super) prefix: Option<OsString>,
    /// Delete everything
    #[arg(long, group = "scope", conflicts_with_all = ["series", "prefix"])]
    pub(super) everything: bool,
}

/// Which samples.
#[derive(Debug, Args)]
pub(super) struct TimeRange {
    /// First timestamp
    #[arg(long, allow_negative_numbers = true, default_value_t = i64::MIN, hide_default_value = true, value_name = "TIME")]
    pub(super) from: i64,
    /// Last timestamp, included
    #[arg(long, allow_negative_numbers = true, default_value_t = i64::MAX, hide_default_value = true, value_name = "TIME")]
    pub(super) to: i64,
}

#[derive(Debug, Args)]
pub(super) struct ScanArgs {
    #[command(flatten)]
    pub(super) connect: Connect,
    #[command(flatten)]
    pub(super) range: TimeRange,
    /// Series to read
    #[arg(required_unless_present = "prefix")]
    pub(super) series: Option<OsString>,
    /// Read all series that start with this
    #[arg(long, conflicts_with = "series")]
    pub(super) prefix: Option<OsString>,
    /// Last series first, newest sample first
    #[arg(long)]
    pub(super) reverse: bool,
    /// Stop after this many samples, or rows of buckets
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u64>,
    /// Print only the newest sample of each series, within --from and --to
    #[arg(long)]
    pub(super) newest: bool,
    /// Print one value per series and bucket: avg, sum, min, max, range, count, first, last, std.p, std.s, var.p, var.s
    /// or twa (time-weighted average)
    #[arg(long, value_name = "NAME", requires = "bucket", conflicts_with = "newest")]
    pub(super) aggregate: Option<String>,
    /// Width of a bucket, such as 10s, 1m, 1h or 24h
    #[arg(long, value_name = "DURATION", requires = "aggregate")]
    pub(super) bucket: Option<String>,
    /// A time at which a bucket starts
    #[arg(
        long,
        value_name = "TIME",
        allow_negative_numbers = true,
        default_value_t = 0,
        requires = "aggregate"
    )]
    pub(super) align: i64,
}

#[derive(Debug, Args)]
pub(super) struct SlowlogArgs {
    #[command(flatten)]
    pub(super) connect: Connect,
    /// How many
    #[arg(short = 'n', long, default_value_t = 10, value_name = "N")]
    pub(super) count: u32,
    /// All that the daemon holds
    #[arg(long, conflicts_with = "count")]
    pub(super) all: bool,
    /// Forget all instead
    #[arg(long, conflicts_with_all = ["count", "all"])]
    pub(super) reset: bool,
}

#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    pub(super) connect: Connect,
    /// Print name=value a line, for programs
    #[arg(long)]
    pub(super) fields: bool,
}

#[derive(Debug, Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    pub(super) connect: Connect,
    /// Time between two looks
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    pub(super) interval: Duration,
    /// Looks; without it, until interrupted
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct ShardsArgs {
    #[command(flatten)]
    pub(super) connect: Connect,
    #[command(subcommand)]
    pub(super) action: Option<ShardsAction>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ShardsAction {
    /// Move one boundary
    Move {
        #[command(flatten)]
        connect: Connect,
        /// Which: the one between shard N and shard N + 1
        #[arg(value_name = "N")]
        boundary: u32,
        /// First key of shard N + 1 from now on
        #[arg(value_name = "KEY")]
        key: OsString,
    },
    /// Move all boundaries
    SplitAt {
        #[command(flatten)]
        connect: Connect,
        /// First key of each shard but the first, ascending
        #[arg(value_name = "KEY,…", value_delimiter = ',', required = true)]
        keys: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    pub(super) connect: Connect,
    /// Type of the values
    #[arg(long = "type", value_enum, default_value_t = TypeArg::F64)]
    pub(super) value_type: TypeArg,
    /// Files to load, one after the other
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    pub(super) connect: Connect,
    #[command(flatten)]
    pub(super) range: TimeRange,
    /// Only series that start with this
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) prefix: OsString,
    /// How values are written
    #[arg(long, value_enum, default_value_t = ValuesArg::Text)]
    pub(super) values: ValuesArg,
    /// Form of the output; typed carries all slots, types and bytes
    #[arg(long, value_enum, default_value_t = FormatArg::Csv, conflicts_with = "values")]
    pub(super) format: FormatArg,
}

#[derive(Debug, Args)]
pub(super) struct DataArgs {
    /// The data directory
    #[arg(value_name = "DATA")]
    pub(super) data: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    #[command(flatten)]
    pub(super) connect: Connect,
    /// Where it goes; without one it stays below the data directory
    #[arg(value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
    /// Copy the files even where they could be shared
    #[arg(long, requires = "directory")]
    pub(super) copy: bool,
    /// Do not verify it
    #[arg(long)]
    pub(super) no_check: bool,
}

#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    /// The data directory
    #[arg(value_name = "DATA")]
    pub(super) data: PathBuf,
    /// Do it
    #[arg(long)]
    pub(super) apply: bool,
    /// Print JSON, an object a line
    #[arg(long)]
    pub(super) json: bool,
    /// The store's time unit; asked for only when every file that says it is lost
    #[arg(long, value_enum, value_name = "UNIT")]
    pub(super) time_unit: Option<UnitArg>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum UnitArg {
    Ms,
    Us,
    Ns,
}

impl From<UnitArg> for TimeUnit {
    fn from(arg: UnitArg) -> Self {
        match arg {
            UnitArg::Ms => Self::Milliseconds,
            UnitArg::Us => Self::Microseconds,
            UnitArg::Ns => Self::Nanoseconds,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    /// The file, where it lies in its data directory
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Print only what describes the file, its frames and blocks, not its records and entries
    #[arg(long)]
    pub(super) brief: bool,
    /// Stop after this many records, entries or edits
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// The run to make; with --seeds COUNT or --seconds the first of several
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(super) seed: u64,
    /// Several runs: so many seeds from --seed on, or those of a range A..B (without B)
    #[arg(long, value_name = "COUNT|A..B", conflicts_with_all = ["trace", "shrink"])]
    pub(super) seeds: Option<String>,
    /// Stop starting runs after this long; with --shrink, stop looking for something smaller
    #[arg(long, value_name = "S", conflicts_with = "trace")]
    pub(super) seconds: Option<u64>,
    /// Runs side by side; as many as there are CPUs by default. One run is one thread
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024), value_name = "N")]
    pub(super) threads: Option<u16>,
    /// Cores of the node; drawn for each of its lives by default
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=3), value_name = "N")]
    pub(super) cores: Option<u16>,
    /// Faults that may be drawn: all, none, names, or all,-NAME,… without some
    #[arg(long, default_value = "all", value_name = "LIST", allow_hyphen_values = true)]
    pub(super) faults: String,
    /// Requests of clients in all; as many as the seed draws by default
    #[arg(long, value_name = "N")]
    pub(super) ops: Option<u64>,
    /// Lives of the node before the last, healthy one; as many as the seed draws by default
    #[arg(long, value_name = "N")]
    pub(super) lives: Option<u64>,
    /// Requests that are drawn but not sent, by number from 0: 3,10..20
    #[arg(long, value_name = "LIST")]
    pub(super) skip: Option<String>,
    /// Print every step
    #[arg(long, conflicts_with = "shrink")]
    pub(super) trace: bool,
    /// Look for a smaller run that fails the same way, and print its command
    #[arg(long)]
    pub(super) shrink: bool,
}

fn simulate_help() -> String {
    format!(
        "Examples:
  tskv simulate --seed 7                  one run; the last line is `seed 7: ok, trace HASH`
  tskv simulate --seeds 1000              seeds 1 to 1000 on all CPUs
  tskv simulate --seeds 1..1000000 --seconds 3600
  tskv simulate --seed 7 --faults crash,power-cut,torn
  tskv simulate --seed 7 --trace | less   every step
  tskv simulate --seed 7 --shrink         the smallest run that fails as seed 7 does

A run is several lives of a node: its cores, jobs and store work on a simulated disk, network and clock,
clients write and read, faults strike, and an oracle judges every reply and every restart. Nothing on this
machine is touched. Equal arguments give the same run and the same trace hash on any machine.

Faults:
{}
Exit status: 0 sound, 1 a promise was broken (the command that replays it is printed), 2 wrong usage.",
        crate::simulator::FaultSet::describe()
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TypeArg {
    F64,
    I64,
    Bytes,
}

impl From<TypeArg> for ValueType {
    fn from(arg: TypeArg) -> Self {
        match arg {
            TypeArg::F64 => Self::F64,
            TypeArg::I64 => Self::I64,
            TypeArg::Bytes => Self::Bytes,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ValuesArg {
    /// Header and readable numbers
    Text,
    /// No header, floats as 16 hex digits
    Bits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatArg {
    /// series,timestamp,value
    Csv,
    /// Tab-separated series, slot, type, value with escapes
    Typed,
}

/// The settings of `serve` as given on the command line, not yet parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServeArgs {
    /// Values by flag name.
    pub flags: BTreeMap<&'static str, Vec<String>>,
    /// `--config`.
    pub config: Option<PathBuf>,
}

impl clap::FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = BTreeMap::new();
        for flag in FLAGS {
            if let Some(values) = matches.get_many::<String>(flag.name) {
                flags.insert(flag.name, values.cloned().collect());
            }
        }
        Ok(Self { flags, config: matches.get_one::<PathBuf>("config").cloned() })
    }
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for ServeArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help(
                "TOML file with lines like `max-clients = 500`; flags and variables win [env: TSKV_CONFIG]",
            );
        let flags = FLAGS.iter().map(|flag| {
            let default = match flag.default {
                "" => String::new(),
                default => format!(" [default: {default}]"),
            };
            Arg::new(flag.name)
                .long(flag.name)
                .value_name(flag.value_name)
                .action(if flag.repeatable { ArgAction::Append } else { ArgAction::Set })
                .allow_negative_numbers(true)
                .help(format!("{}{default}", flag.help))
        });
        command.arg(config).args(flags).after_help(SERVE_HELP)
    }
    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

const SERVE_HELP: &str = "\
Every setting can also be given as a variable, TSKV_MAX_CLIENTS=500, or in the --config file. A flag
wins over the variable, the variable over the file. Sizes need a unit (64MiB, 64MB) or are bytes.

Examples:
  tskv serve
  tskv serve --data /var/lib/tskv --cores 4 --sync interval=10ms
  tskv serve --listen 0.0.0.0:7878 --password-file /etc/tskv/password

When it is ready it prints one line to stdout: tskv ready listen=… admin=… backend=… cores=…
The log goes to stderr. TERM or INT ends it cleanly, a second one at once; nothing acknowledged is lost.";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, FromArgMatches};

    fn serve(line: &[&str]) -> Result<ServeArgs, clap::Error> {
        let command = ServeArgs::augment_args(clap::Command::new("serve"));
        let matches = command.try_get_matches_from(["serve"].iter().chain(line))?;
        ServeArgs::from_arg_matches(&matches)
    }

    #[test]
    fn command_lines_are_well_formed() {
        // clap checks names and conflicts only when asked, and else panics at the operator's first use.
        Cli::command().debug_assert();
        ServeArgs::augment_args(clap::Command::new("serve")).debug_assert();
    }

    #[test]
    fn serve_takes_every_flag_of_the_configuration() {
        // A flag that is documented and not accepted, or accepted and dropped, cannot be set at all.
        let line: Vec<_> =
            FLAGS.iter().flat_map(|flag| [format!("--{}", flag.name), "x".to_owned()]).collect();
        let line: Vec<_> =
            line.iter().map(String::as_str).chain(["--config", "f", "--listen", "y"]).collect();
        let args = serve(&line).unwrap();
        assert_eq!(args.flags.len(), FLAGS.len());
        assert_eq!(args.flags["listen"], ["x", "y"]);
        assert_eq!(args.config, Some(PathBuf::from("f")));
        assert!(serve(&["--data", "a", "--data", "b"]).is_err(), "given twice");
        assert_eq!(
            serve(&["--cores", "-1"]).unwrap().flags["cores"],
            ["-1"],
            "our own message names the range"
        );
    }

    #[test]
    fn mistyped_flag_is_answered_with_a_suggestion() {
        // The operator should not have to read the whole help for one letter.
        let error = serve(&["--max-client", "5"]).unwrap_err();
        assert!(error.to_string().contains("--max-clients"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn help_shows_every_default_and_an_example() {
        // A default that only the source knows is no default for an operator.
        let help = ServeArgs::augment_args(clap::Command::new("serve")).render_long_help().to_string();
        for flag in FLAGS {
            assert!(
                help.contains(&format!("--{}", flag.name)) && help.contains(flag.default),
                "{}",
                flag.name
            );
        }
        assert!(help.contains("tskv serve --data /var/lib/tskv"));
    }

    #[test]
    fn timestamps_may_be_negative_and_deletes_are_unambiguous() {
        // Times before 1970 look like flags; a delete understood too widely cannot be undone.
        let parse = |line: &[&str]| Cli::try_parse_from(["tskv"].iter().chain(line));
        assert!(parse(&["put", "a", "-5", "-1.5"]).is_ok());
        assert!(parse(&["get", "a", "-5"]).is_ok());
        assert!(parse(&["scan", "a", "--from", "-5"]).is_ok());
        assert!(parse(&["scan", "a", "--aggregate", "avg", "--bucket", "1m", "--align", "-1"]).is_ok());
        assert!(parse(&["scan", "--prefix", "a", "--newest", "--reverse"]).is_ok());
        assert!(parse(&["delete", "a", "-5"]).is_ok());
        for bad in [
            &["delete"][..],
            &["delete", "--from", "1"],
            &["delete", "a", "--prefix", "b"],
            &["delete", "a", "5", "--from", "1"],
            &["delete", "a", "--everything"],
            &["scan"],
            &["scan", "a", "--prefix", "b"],
            &["scan", "a", "--aggregate", "avg"],
            &["scan", "a", "--bucket", "1m"],
            &["scan", "a", "--aggregate", "avg", "--bucket", "1m", "--newest"],
            &["export", "--values", "bits", "--format", "typed"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
