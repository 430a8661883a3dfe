//! Flags of `tskv bench`.

use super::compare::{BaselineArgs, CompareArgs};
use super::report::{FileArgs, ReportArgs};
use crate::cli::args::Connect;
use crate::load::report::{LatencyUnit, Percentiles, Threshold};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Shown after the flags.
pub(in crate::cli) const BENCH_HELP: &str = "Examples:
  tskv bench                                   rows of ten series per host, 30 s, closed loop
  tskv bench -R 20k -d 60s                     20,000 writes/s, evenly spaced: for latency claims
  tskv bench --workload kv -c 50 -P 16 --protocol resp --addr 127.0.0.1:6379
  tskv bench sweep --rates 10k..200k:x1.5 --slo 'p99<10ms'
  tskv bench load --hosts 100 --span 1d && tskv bench query --hosts 100 --span 1d
  tskv bench load --workload ycsb-a --protocol resp && tskv bench --workload ycsb-a --protocol resp
  tskv bench -d 10s --baseline main --fail-on-regression
  tskv bench --null-sink --workload kv --protocol resp -c 50 -P 64
                                               the generator's own ceiling

It writes into series named cpu.… and keys named bench:… . With a rate (-R) the time at which each request
is due is fixed beforehand, and response time counts from then, however long the server or the generator
made it wait. Without one, requests wait for replies (a closed loop), and a stall is counted once per
connection instead of once per user.

Exit status: 0 fine, 1 a verification, a comparison or a --threshold failed, 2 wrong usage, 3 could not connect, 4 more than --max-errors
errors, 130 interrupted (the report is still written).";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct BenchArgs {
    #[command(subcommand)]
    pub(super) command: Option<BenchCommand>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Write the rows of --hosts and --span, or the --keys of kv and ycsb, as fast as it goes, once
    Load(RunArgs),
    /// Run a workload (what no subcommand means, too)
    Run(RunArgs),
    /// Run the TSBS queries over what `load` wrote, each kind alone
    Query(QueryArgs),
    /// Write the samples of a CSV file, at its own pace or faster
    Replay(ReplayArgs),
    /// Find the highest rate at which an objective holds
    Sweep(SweepArgs),
    /// Read back what a journal says was acknowledged
    Verify(VerifyArgs),
    /// Show stored results: tables, pictures, files for other tools
    #[command(after_help = "Examples:
  tskv bench report run.json
  tskv bench report tskv.json redis.json --html both.html
  tskv bench report run.json --hgrm run --hlog run.hlog --csv run.csv
  hdr-plot --units ms --output run.png run-*-response.hgrm")]
    Report(ReportArgs),
    /// Compare stored results; exit status 1 when something got worse
    #[command(after_help = "Examples:
  tskv bench compare before.json after.json
  tskv bench compare before.json after.json --noise 5% --html both.html
  tskv bench compare run.json --save-baseline main
  tskv bench compare run.json --baseline main --threshold 'write.p99_us<5000'

Runs are comparable when workload, rate, clients, batch, seed, sync and host are the same; others are
refused with exit status 2, unless --force. A change is noise when it is below --noise, or within the
99 % confidence interval of the difference between the repetitions (--runs) of the two.")]
    Compare(CompareArgs),
}

/// How requests are made and what is told about them.
#[derive(Clone, Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) connect: Connect,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    #[command(flatten)]
    pub(super) workload: WorkloadArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Load")]
pub(super) struct LoadArgs {
    /// Protocol to speak
    #[arg(long, value_enum, default_value_t = ProtocolArg::Native)]
    pub(super) protocol: ProtocolArg,
    /// Commands over RESP: SET and GET, or TS.*; strings for --workload kv, else ts
    #[arg(long, value_enum)]
    pub(super) commands: Option<CommandsArg>,
    /// Connections in all
    #[arg(short = 'c', long, alias = "connections", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=65536), value_name = "N")]
    pub(super) clients: u64,
    /// Threads, which share the connections
    #[arg(short = 't', long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256), value_name = "N")]
    pub(super) threads: u64,
    /// Requests in flight per connection; with --rate, what --max-in-flight allows, else 1
    #[arg(short = 'P', long, value_parser = clap::value_parser!(u64).range(1..=1_000_000), value_name = "N")]
    pub(super) pipeline: Option<u64>,
    /// Requests in all; instead of --duration
    #[arg(short = 'n', long, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "duration", value_name = "N")]
    pub(super) requests: Option<u64>,
    /// Measured time [default: 30s]
    #[arg(short = 'd', long, value_name = "DURATION")]
    pub(super) duration: Option<String>,
    /// Time before it that is not measured [default: a tenth of it, at most 5s]
    #[arg(long, conflicts_with = "requests", value_name = "DURATION")]
    pub(super) warmup: Option<String>,
    /// Requests per second over all connections, as 500, 20k, 1M; without it, a closed loop
    #[arg(short = 'R', long, value_name = "RATE")]
    pub(super) rate: Option<String>,
    /// What --rate counts
    #[arg(long, value_enum, default_value_t = RateUnitArg::Ops)]
    pub(super) rate_unit: RateUnitArg,
    /// Evenly spaced, or independent of each other
    #[arg(long, value_enum, default_value_t = ArrivalArg::Const)]
    pub(super) arrival: ArrivalArg,
    /// With --rate: requests in flight beyond which due ones wait, and are counted as dropped
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub(super) max_in_flight: u64,
    /// Repetitions; their spread is the noise that a comparison knows of
    #[arg(short = 'x', long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000), value_name = "N")]
    pub(super) runs: u64,
    /// Seed of keys, values and arrivals
    #[arg(long, default_value_t = 123, value_name = "N")]
    pub(super) seed: u64,
    /// Exit with 4 when more requests than this fail
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(super) max_errors: u64,
    /// Note the acknowledged writes in this file, for `bench verify` after a crash
    #[arg(long, value_name = "FILE")]
    pub(super) journal: Option<PathBuf>,
    /// After the run read back what was acknowledged, or a share of it, as 1%; exit status 1 when some is lost
    #[arg(long, num_args = 0..=1, default_missing_value = "100%", value_name = "SHARE")]
    pub(super) verify: Option<String>,
    /// Processors of the generator's threads, in turn, as 1 or 0-2,5; without it the kernel chooses
    #[arg(long, value_name = "LIST")]
    pub(super) cpus: Option<String>,
    /// Send to a sink of the generator's own: its ceiling on this machine
    #[arg(long)]
    pub(super) null_sink: bool,
    /// The generator's backend: auto, io_uring, epoll
    #[arg(long, default_value = "auto", value_name = "NAME")]
    pub(super) backend: String,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Workload")]
pub(super) struct WorkloadArgs {
    /// What is sent
    #[arg(long, value_enum)]
    pub(super) workload: Option<WorkloadArg>,
    /// kv: writes to reads, as 1:9
    #[arg(long, conflicts_with_all = ["mix", "test"], value_name = "W:R")]
    pub(super) ratio: Option<String>,
    /// mixed: weights of write, latest, range, agg; kv: of write and read
    #[arg(long, value_delimiter = ',', value_name = "OP=N")]
    pub(super) mix: Vec<String>,
    /// kv: only writes, or only reads
    #[arg(long, value_enum, conflicts_with = "mix")]
    pub(super) test: Option<TestArg>,
    /// kv: keys
    #[arg(long, alias = "keyspace", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000), value_name = "N")]
    pub(super) keys: u64,
    /// kv: R(andom), S(equential), P(arallel: a part of the keys per client), Z(ipf), G(aussian), H(ot tenth of the keys,
    /// which moves) [default: R, ycsb: Z]
    #[arg(long, value_enum, value_name = "PATTERN", hide_default_value = true)]
    pub(super) key_pattern: Option<PatternArg>,
    /// What is read: what was written last, or all alike [default: kv uniform, mixed latest]
    #[arg(long, value_enum, value_name = "WHICH")]
    pub(super) read_recency: Option<RecencyArg>,
    /// kv: exponent of --key-pattern Z
    #[arg(long, default_value_t = 0.99, value_name = "X")]
    pub(super) zipf: f64,
    /// kv: with --key-pattern H, requests after which another tenth of the keys gets nine in ten of them
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub(super) hot_requests: u64,
    /// Whole numbers, floats with all their bits, or byte strings (kv)
    #[arg(long, value_enum)]
    pub(super) values: Option<ValuesArg>,
    /// kv: bytes of a value, or least-most, as 16-512; makes values bytes
    #[arg(long, value_name = "SIZE")]
    pub(super) value_size: Option<String>,
    /// Hosts; each has ten series
    #[arg(long, alias = "scale", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000_000), value_name = "N")]
    pub(super) hosts: u64,
    /// Event time between two rows of a host
    #[arg(long, default_value = "10s", value_name = "DURATION")]
    pub(super) interval: String,
    /// Event time that load writes and query reads, as 6h, 3d
    #[arg(long, default_value = "1h", value_name = "DURATION")]
    pub(super) span: String,
    /// Event time of the first row, in milliseconds since 1970
    #[arg(long, default_value_t = 1_451_606_400_000, allow_negative_numbers = true, value_name = "MS")]
    pub(super) start: i64,
    /// Samples per write
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=65536), value_name = "N")]
    pub(super) batch: Option<u64>,
    /// All hosts of a tick, or batches of one series
    #[arg(long, value_enum, default_value_t = OrderArg::Tick)]
    pub(super) order: OrderArg,
    /// Names with all ten tags, or without
    #[arg(long, value_enum, default_value_t = KeyStyleArg::Short)]
    pub(super) key_style: KeyStyleArg,
    /// Share of rows that come late, and how late at most, as 5%:10m
    #[arg(long, value_name = "SHARE:DURATION")]
    pub(super) out_of_order: Option<String>,
    /// Share of rows that are sent twice, as 1%
    #[arg(long, value_name = "SHARE")]
    pub(super) duplicates: Option<String>,
    /// Share of hosts that give way to new ones, and how often, as 1%/10m
    #[arg(long, value_name = "SHARE/DURATION")]
    pub(super) churn: Option<String>,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// Percentiles of the table; 100 is the maximum
    #[arg(long, default_value = "50,90,95,99,99.9,99.99,100", value_parser = Percentiles::parse, value_name = "LIST")]
    pub(super) percentiles: Percentiles,
    /// Write everything measured to this file
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    #[command(flatten)]
    pub(super) files: FileArgs,
    /// Unit of latencies in tables
    #[arg(long, value_enum, default_value_t = UnitArg::Us)]
    pub(super) units: UnitArg,
    /// Name of the run in reports
    #[arg(long, value_name = "NAME")]
    pub(super) label: Option<String>,
    /// A note for reports, as disk=nvme
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub(super) tags: Vec<String>,
    /// Limit that the run must keep, like write.p99_us<5000 or total.ops_per_s>=48000; exit status 1 when it does not
    #[arg(long = "threshold", value_parser = Threshold::parse, value_name = "LIMIT")]
    pub(super) thresholds: Vec<Threshold>,
    #[command(flatten)]
    pub(super) baseline: BaselineArgs,
    /// With --baseline: exit status 1 when something got worse
    #[arg(long, requires = "baseline")]
    pub(super) fail_on_regression: bool,
    /// Print a line this often, in whole seconds
    #[arg(long, default_value = "1s", value_name = "DURATION")]
    pub(super) interval_report: String,
    /// Print plain lines on a terminal, too: no control sequences
    #[arg(long)]
    pub(super) no_color: bool,
    /// Print no line per second
    #[arg(short = 'q', long)]
    pub(super) quiet: bool,
    /// Say what would be run, and run nothing
    #[arg(long, alias = "show-config")]
    pub(super) dry_run: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct QueryArgs {
    #[command(flatten)]
    pub(super) run: RunArgs,
    /// Kinds of queries, as single-groupby-1-1-1,lastpoint; without it all
    #[arg(long, value_delimiter = ',', value_name = "KIND")]
    pub(super) query: Vec<String>,
    /// Queries of each kind
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub(super) queries: u64,
    /// Queries at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024), value_name = "N")]
    pub(super) workers: u64,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    pub(super) run: RunArgs,
    /// File of series,timestamp,value; plain or gzip
    #[arg(long, value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Pace: max, 1x, 10x, …
    #[arg(long, default_value = "max", value_name = "SPEED")]
    pub(super) speed: String,
}

#[derive(Clone, Debug, Args)]
pub(super) struct SweepArgs {
    #[command(flatten)]
    pub(super) run: RunArgs,
    /// Rates to try: 10k..500k:x1.5, or a list
    #[arg(long, value_name = "RATES")]
    pub(super) rates: String,
    /// What must hold, as p99<10ms, p99.9<500us, max<1s
    #[arg(long, value_name = "OBJECTIVE")]
    pub(super) slo: String,
}

#[derive(Clone, Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    pub(super) connect: Connect,
    /// The journal that --journal wrote
    #[arg(long, value_name = "FILE")]
    pub(super) journal: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ProtocolArg {
    Native,
    Resp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CommandsArg {
    /// SET and GET
    Strings,
    /// TS.ADD, TS.MADD, TS.GET, TS.RANGE
    Ts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum RateUnitArg {
    /// Requests
    Ops,
    /// Samples
    Values,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ArrivalArg {
    Const,
    Poisson,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum WorkloadArg {
    /// Keys and values
    Kv,
    /// Rows of the TSBS cpu-only shape
    TsbsCpu,
    /// Rows of the TSBS devops shape: nine measurements of 101 values per host
    TsbsDevops,
    /// tsbs-cpu, with reads between
    Mixed,
    /// YCSB A: half reads, half writes, keys after Zipf
    YcsbA,
    /// YCSB B: 95 % reads, 5 % writes
    YcsbB,
    /// YCSB C: only reads
    YcsbC,
    /// YCSB D: 95 % reads of what is newest, 5 % new keys
    YcsbD,
    /// YCSB E: 95 % scans of 1 to 100 neighbouring keys, 5 % new keys (native)
    YcsbE,
    /// YCSB F: half reads, half reads whose answer is followed by a write
    YcsbF,
}

impl WorkloadArg {
    /// As the flag and documents name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::TsbsCpu => "tsbs-cpu",
            Self::TsbsDevops => "tsbs-devops",
            Self::Mixed => "mixed",
            Self::YcsbA => "ycsb-a",
            Self::YcsbB => "ycsb-b",
            Self::YcsbC => "ycsb-c",
            Self::YcsbD => "ycsb-d",
            Self::YcsbE => "ycsb-e",
            Self::YcsbF => "ycsb-f",
        }
    }
    /// Whether it writes keys, not rows.
    pub(super) fn is_keyed(self) -> bool {
        !matches!(self, Self::TsbsCpu | Self::TsbsDevops | Self::Mixed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum RecencyArg {
    Latest,
    Uniform,
}

/// Units of latencies in tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum UnitArg {
    Us,
    Ms,
    S,
}

impl UnitArg {
    pub(super) fn unit(self) -> LatencyUnit {
        match self {
            Self::Us => LatencyUnit::Microseconds,
            Self::Ms => LatencyUnit::Milliseconds,
            Self::S => LatencyUnit::Seconds,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TestArg {
    /// Writes
    Put,
    /// Reads
    Get,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "verbatim")]
pub(super) enum PatternArg {
    R,
    S,
    P,
    Z,
    G,
    H,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ValuesArg {
    Int,
    Float,
    Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OrderArg {
    Tick,
    Series,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum KeyStyleArg {
    Short,
    Full,
}
