//! From flags to the options of a run: parsed once, contradictions refused here.

use super::args::{
    ArrivalArg, CommandsArg, KeyStyleArg, OrderArg, ProtocolArg, QueryArgs, RateUnitArg, RecencyArg, RunArgs,
    ValuesArg, WorkloadArg,
};
use super::keyed::kv_options;
use super::target;
use crate::cli::connect::Target as Server;
use crate::cli::error::CliError;
use crate::config::{parse_bytes, parse_duration};
use crate::limits::VALUE_BYTES_CEILING;
use crate::load::{
    Amount, Arrival, Churn, Dialect, KeyPattern, KeyStyle, KvKind, KvOptions, Lateness, MixOptions, Order,
    QueryKind, QueryOptions, ReadKind, Recency, RowShape, RunConfig, RunOptions, Source, TsbsOptions,
    ValueKind, WorkloadOptions, rate_of,
};
use crate::model::{TimeUnit, ValueType};
use std::collections::BTreeMap;
use std::time::Duration;

const DURATION_DEFAULT: Duration = Duration::from_secs(30);
const WARMUP_MAX: Duration = Duration::from_secs(5);
/// Without a rate: requests in flight per connection.
const PIPELINE_DEFAULT: u64 = 1;
const BATCH_DEFAULT: u64 = 100;
const VALUE_BYTES_DEFAULT: usize = 32;
/// Ten fields of 100 bytes.
const YCSB_VALUE_BYTES: usize = 1000;
/// Shortest byte string that can name its write.
const JOURNALED_BYTES_MIN: usize = 16;

pub(super) fn usage(flag: &str, reason: impl std::fmt::Display) -> CliError {
    CliError::Usage(format!("--{flag}: {reason}"))
}

/// What the flags say, all but what is sent.
pub(super) struct Settings {
    pub(super) dialect: Dialect,
    pub(super) workload: WorkloadArg,
    batch: u64,
    pub(super) values: ValueKind,
}

impl Settings {
    fn new(args: &RunArgs, command: &str, workload: WorkloadArg) -> Result<Self, CliError> {
        let dialect = match (args.load.protocol, args.load.commands) {
            (ProtocolArg::Native, None) => Dialect::Native,
            (ProtocolArg::Native, Some(_)) => {
                return Err(usage("commands", "they are RESP's; add --protocol resp"));
            }
            (ProtocolArg::Resp, Some(CommandsArg::Strings)) => Dialect::Strings,
            (ProtocolArg::Resp, Some(CommandsArg::Ts)) => Dialect::Series,
            (ProtocolArg::Resp, None) if workload.is_keyed() => Dialect::Strings,
            (ProtocolArg::Resp, None) => Dialect::Series,
        };
        if dialect == Dialect::Strings && !workload.is_keyed() {
            return Err(usage("commands", "rows have timestamps; use ts, or --workload kv"));
        }
        let batch = match (args.workload.batch, workload.is_keyed()) {
            (Some(batch), true) if batch > 1 => {
                return Err(usage("batch", "keys are written one at a time; use --pipeline"));
            }
            (batch, true) => batch.unwrap_or(1),
            (batch, false) => batch.unwrap_or(BATCH_DEFAULT),
        };
        let values = values(args, command, workload, dialect)?;
        Ok(Self { dialect, workload, batch, values })
    }
}

fn values(
    args: &RunArgs,
    command: &str,
    workload: WorkloadArg,
    dialect: Dialect,
) -> Result<ValueKind, CliError> {
    let size = args.workload.value_size.as_deref().map(value_size).transpose()?;
    let bytes = |(min, max)| ValueKind::Bytes { min, max };
    let is_ycsb = workload.is_keyed() && workload != WorkloadArg::Kv;
    let size_default = if is_ycsb { YCSB_VALUE_BYTES } else { VALUE_BYTES_DEFAULT };
    let default = (size_default, size_default);
    let values = match (args.workload.values, size) {
        (Some(ValuesArg::Int), None) => ValueKind::Int,
        (Some(ValuesArg::Float), None) => ValueKind::Float,
        (Some(ValuesArg::Int | ValuesArg::Float), Some(_)) => {
            return Err(usage("value-size", "numbers have no size; use --values bytes"));
        }
        (Some(ValuesArg::Bytes), size) => bytes(size.unwrap_or(default)),
        (None, Some(size)) => bytes(size),
        (None, None) if dialect == Dialect::Strings || (is_ycsb && dialect == Dialect::Native) => {
            bytes(default)
        }
        (None, None) if workload.is_keyed() => ValueKind::Float,
        (None, None) => ValueKind::Int,
    };
    match values {
        // A file brings its own values; only TS.* cannot take byte strings.
        values if command == "replay" && dialect == Dialect::Native => Ok(values),
        ValueKind::Bytes { .. } if !workload.is_keyed() || dialect == Dialect::Series => {
            Err(usage("values", "samples of TS.* and rows are numbers: int or float"))
        }
        ValueKind::Bytes { min, .. }
            if (args.load.journal.is_some() || args.load.verify.is_some()) && min < JOURNALED_BYTES_MIN =>
        {
            Err(usage("value-size", "a verification needs values that name their write: 16 bytes or more"))
        }
        values => Ok(values),
    }
}

/// `64`, `1KiB`, or `16-512`.
fn value_size(text: &str) -> Result<(usize, usize), CliError> {
    let one = |text: &str| -> Result<usize, CliError> {
        let bytes = parse_bytes(text).map_err(|reason| usage("value-size", reason))?;
        usize::try_from(bytes).ok().filter(|bytes| *bytes <= VALUE_BYTES_CEILING).ok_or_else(|| {
            usage("value-size", format!("{text} is too large; at most {VALUE_BYTES_CEILING} bytes"))
        })
    };
    let (min, max) = text.split_once('-').unwrap_or((text, text));
    let (min, max) = (one(min)?, one(max)?);
    if min > max {
        Err(usage("value-size", format!("'{text}' ends before it starts")))
    } else {
        Ok((min, max))
    }
}

/// The options of `run`, `load`, `replay` and `sweep`.
pub(super) fn run_options(args: &RunArgs, command: &str) -> Result<RunOptions, CliError> {
    let default = if args.workload.test.is_some() { WorkloadArg::Kv } else { WorkloadArg::TsbsCpu };
    let settings = Settings::new(args, command, args.workload.workload.unwrap_or(default))?;
    let source = match settings.workload {
        keyed if keyed.is_keyed() => WorkloadOptions::Kv(kv_options(args, &settings)?),
        WorkloadArg::Mixed => WorkloadOptions::Mixed(mix_options(args, &settings)?),
        _ => WorkloadOptions::Tsbs(tsbs_options(args, &settings)?),
    };
    let mut options = assemble(args, command, &settings, source)?;
    if command == "load" {
        load_once(&mut options, args)?;
    }
    Ok(options)
}

/// `load` writes each row or key once, and measures all of it.
fn load_once(options: &mut RunOptions, args: &RunArgs) -> Result<(), CliError> {
    if args.load.requests.is_some() || args.load.duration.is_some() {
        return Err(usage("span", "it says how much load writes; leave out --requests and --duration"));
    }
    options.amount = match &mut options.source {
        Source::Made(WorkloadOptions::Tsbs(rows)) => {
            rows.ticks = Some(span_ticks(args)?);
            Amount::Whole
        }
        Source::Made(WorkloadOptions::Kv(kv)) => {
            (kv.pattern, kv.write_share) = (KeyPattern::Sequential, 1.0);
            (kv.recency, kv.is_growing, kv.kind) = (Recency::Uniform, false, KvKind::Plain);
            let described = described(&WorkloadOptions::Kv(kv.clone()));
            let config = &mut options.config;
            (config.mix, config.key_pattern) = (described.mix, described.pattern.to_owned());
            (config.zipf, config.hot_requests, config.requests) = (None, None, Some(kv.keys));
            Amount::Operations(kv.keys)
        }
        _ => return Err(usage("workload", "load writes rows, or keys; the mixed one reads what load wrote")),
    };
    options.warmup_ns = 0;
    (options.config.duration_s, options.config.warmup_s) = (None, 0.0);
    Ok(())
}

/// The options of `query`.
pub(super) fn query_options(args: &QueryArgs) -> Result<RunOptions, CliError> {
    let run = &args.run;
    if run.load.requests.is_some() || run.load.duration.is_some() {
        return Err(usage("requests, --duration", "each kind of query is asked --queries times"));
    }
    let settings = Settings::new(run, "query", WorkloadArg::TsbsCpu)?;
    let names: Vec<&str> = match args.query.as_slice() {
        [] => QueryKind::NAMES.to_vec(),
        names => names.iter().map(String::as_str).collect(),
    };
    let kind = |name: &&str| {
        QueryKind::parse(name).ok_or_else(|| {
            let known = QueryKind::NAMES.join(", ");
            usage("query", format!("'{name}' is not one of {known}"))
        })
    };
    let kinds = names.iter().map(kind).collect::<Result<Vec<_>, _>>()?;
    let mut rows = tsbs_options(run, &settings)?;
    rows.ticks = Some(span_ticks(run)?);
    let total = args.queries * kinds.len() as u64;
    let source = WorkloadOptions::Query(QueryOptions { rows, kinds, count: args.queries });
    let mut options = assemble(run, "query", &settings, source)?;
    options.amount = Amount::Operations(total);
    options.warmup_ns = 0;
    if options.rate.is_none() {
        (options.clients, options.in_flight_max) = (args.workers, 1);
    }
    options.threads = options.threads.min(options.clients);
    let config = &mut options.config;
    (config.clients, config.threads, config.pipeline) =
        (options.clients, options.threads, options.in_flight_max);
    (config.requests, config.duration_s, config.warmup_s) = (Some(total), None, 0.0);
    config.workload = "query".to_owned();
    Ok(options)
}

fn mix_options(args: &RunArgs, settings: &Settings) -> Result<MixOptions, CliError> {
    let weights =
        mix_weights(args, &["write", "latest", "range", "agg"])?.unwrap_or_else(|| vec![80, 5, 10, 5]);
    let kinds = [ReadKind::Latest, ReadKind::Range, ReadKind::Aggregate];
    let reads =
        kinds.into_iter().zip(weights.iter().skip(1).copied()).filter(|(_, weight)| *weight > 0).collect();
    let recency = match args.workload.read_recency {
        Some(RecencyArg::Uniform) => Recency::Uniform,
        Some(RecencyArg::Latest) | None => Recency::Latest,
    };
    Ok(MixOptions { rows: tsbs_options(args, settings)?, write: weights[0], reads, recency })
}

/// The weights of `--mix`, in the order of `names`.
pub(super) fn mix_weights(args: &RunArgs, names: &[&str]) -> Result<Option<Vec<u64>>, CliError> {
    if args.workload.mix.is_empty() {
        return Ok(None);
    }
    let mut weights = vec![0; names.len()];
    for part in &args.workload.mix {
        let bad = || usage("mix", format!("'{part}' is not one of {}, as write=80", names.join(", ")));
        let (name, weight) = part.split_once('=').ok_or_else(bad)?;
        let index = names.iter().position(|known| *known == name).ok_or_else(bad)?;
        weights[index] = weight.parse::<u32>().map_err(|_| bad())?.into();
    }
    if weights.iter().sum::<u64>() == 0 {
        return Err(usage("mix", "nothing has a weight"));
    }
    Ok(Some(weights))
}

fn tsbs_options(args: &RunArgs, settings: &Settings) -> Result<TsbsOptions, CliError> {
    let workload = &args.workload;
    let order = match workload.order {
        OrderArg::Tick => Order::Tick,
        OrderArg::Series => Order::Series,
    };
    let late = workload.out_of_order.as_deref().map(|text| {
        let (share, delay_ms) =
            share_and_ms(text, ':').ok_or_else(|| usage("out-of-order", "write it as 5%:10m"))?;
        Ok::<_, CliError>(Lateness { share, delay_ms })
    });
    let churn = workload.churn.as_deref().map(|text| {
        let (share, period_ms) =
            share_and_ms(text, '/').ok_or_else(|| usage("churn", "write it as 1%/10m"))?;
        Ok::<_, CliError>(Churn { share, period_ms })
    });
    let duplicates = workload
        .duplicates
        .as_deref()
        .map(|text| share(text).ok_or_else(|| usage("duplicates", "write it as 1%")));
    let shape = match settings.workload {
        WorkloadArg::TsbsDevops => RowShape::Devops,
        _ => RowShape::Cpu,
    };
    let options = TsbsOptions {
        shape,
        dialect: settings.dialect,
        hosts: workload.hosts,
        interval_ms: milliseconds("interval", &workload.interval)?,
        units_per_ms: 1,
        start_ms: workload.start,
        ticks: None,
        values: settings.values,
        batch: usize::try_from(settings.batch).unwrap_or(1),
        order,
        key_style: match workload.key_style {
            KeyStyleArg::Short => KeyStyle::Short,
            KeyStyleArg::Full => KeyStyle::Full,
        },
        late: late.transpose()?.unwrap_or_default(),
        duplicates: duplicates.transpose()?.unwrap_or(0.0),
        churn: churn.transpose()?.unwrap_or_default(),
        seed: args.load.seed,
    };
    let is_disordered = options.late.share > 0.0 || options.duplicates > 0.0 || options.churn.share > 0.0;
    if order == Order::Series && is_disordered {
        return Err(usage("order", "late, repeated and replaced rows come tick by tick"));
    }
    if options.churn.share > 0.0 && settings.dialect == Dialect::Series && options.batch > 1 {
        return Err(usage("churn", "TS.MADD does not create series; use --batch 1"));
    }
    Ok(options)
}

/// `5%` or `0.05`.
pub(super) fn share(text: &str) -> Option<f64> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().ok()? / 100.0,
        None => text.parse().ok()?,
    };
    (0.0..=1.0).contains(&share).then_some(share)
}

fn share_and_ms(text: &str, separator: char) -> Option<(f64, i64)> {
    let (share_text, duration) = text.split_once(separator)?;
    let ms = milliseconds("", duration).ok().filter(|ms| *ms > 0)?;
    Some((share(share_text)?, ms))
}

/// Milliseconds of a duration; days are known here.
fn milliseconds(flag: &str, text: &str) -> Result<i64, CliError> {
    let days = text
        .strip_suffix('d')
        .and_then(|days| days.parse::<i64>().ok())
        .and_then(|days| days.checked_mul(86_400_000));
    if let Some(ms) = days.filter(|ms| *ms > 0) {
        return Ok(ms);
    }
    let duration = parse_duration(text).map_err(|reason| usage(flag, reason))?;
    i64::try_from(duration.as_millis()).ok().filter(|ms| *ms > 0).ok_or_else(|| usage(flag, "at least 1ms"))
}

fn span_ticks(args: &RunArgs) -> Result<u64, CliError> {
    let (span, interval) =
        (milliseconds("span", &args.workload.span)?, milliseconds("interval", &args.workload.interval)?);
    u64::try_from(span / interval)
        .ok()
        .filter(|ticks| *ticks > 0)
        .ok_or_else(|| usage("span", "shorter than --interval"))
}

fn parsed_duration(flag: &str, text: Option<&String>) -> Result<Option<Duration>, CliError> {
    text.map(|text| parse_duration(text).map_err(|reason| usage(flag, reason))).transpose()
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

fn assemble(
    args: &RunArgs,
    command: &str,
    settings: &Settings,
    workload: WorkloadOptions,
) -> Result<RunOptions, CliError> {
    let load = &args.load;
    let duration = parsed_duration("duration", load.duration.as_ref())?.unwrap_or(DURATION_DEFAULT);
    if duration.is_zero() {
        return Err(usage("duration", "nothing can be measured in no time"));
    }
    let warmup = match (parsed_duration("warmup", load.warmup.as_ref())?, load.requests) {
        (Some(warmup), _) => warmup,
        (None, Some(_)) => Duration::ZERO,
        (None, None) => (duration / 10).min(WARMUP_MAX),
    };
    let amount = match load.requests {
        Some(count) => Amount::Operations(count),
        None => Amount::Nanoseconds(nanoseconds(duration)),
    };
    let rate = load.rate.as_deref().map(|text| {
        let rate = rate_of(text).map_err(|reason| usage("rate", reason))?;
        let of_values = load.rate_unit == RateUnitArg::Values;
        Ok::<_, CliError>(if of_values { rate / settings.batch as f64 } else { rate })
    });
    let rate = rate.transpose()?;
    if load.threads > load.clients {
        return Err(usage("threads", "each needs a connection; give more --clients"));
    }
    let in_flight_max = load.pipeline.unwrap_or_else(|| match rate {
        _ if settings.workload == WorkloadArg::YcsbF => 1,
        Some(_) => load.max_in_flight.div_ceil(load.clients),
        None => PIPELINE_DEFAULT,
    });
    let arrival = match load.arrival {
        ArrivalArg::Const => Arrival::Constant,
        ArrivalArg::Poisson => Arrival::Poisson,
    };
    let server = Server::new(&args.connect)?;
    let backend = load.backend.parse().map_err(|reason| usage("backend", reason))?;
    let mut config = config(args, command, settings, &workload)?;
    config.rate = rate;
    config.arrival = rate.map(|_| arrival.name().to_owned());
    config.pipeline = in_flight_max;
    config.requests = load.requests;
    config.duration_s = load.requests.is_none().then_some(duration.as_secs_f64());
    config.warmup_s = warmup.as_secs_f64();
    Ok(RunOptions {
        target: target(&server, settings.dialect),
        backend,
        clients: load.clients,
        threads: load.threads,
        in_flight_max,
        amount,
        warmup_ns: nanoseconds(warmup),
        rate,
        arrival,
        runs: load.runs,
        seed: load.seed,
        source: Source::Made(workload),
        journal: load.journal.clone(),
        cpus: load.cpus.as_deref().map(cpu_list).transpose()?.unwrap_or_default(),
        live_interval_s: live_interval_s(&args.output.interval_report)?,
        null_sink: load.null_sink,
        config,
    })
}

fn config(
    args: &RunArgs,
    command: &str,
    settings: &Settings,
    workload: &WorkloadOptions,
) -> Result<RunConfig, CliError> {
    let tags = args.output.tags.iter().map(|tag| {
        let pair =
            tag.split_once('=').ok_or_else(|| usage("tag", format!("'{tag}' is not like disk=nvme")))?;
        Ok((pair.0.to_owned(), pair.1.to_owned()))
    });
    let Described { mix, series, pattern, recency } = described(workload);
    let (size_min, size_max) = match settings.values {
        ValueKind::Bytes { min, max } => (Some(min as u64), Some(max as u64)),
        ValueKind::Int | ValueKind::Float => (None, None),
    };
    let rows = match workload {
        WorkloadOptions::Tsbs(rows) => Some(rows),
        WorkloadOptions::Mixed(mix) => Some(&mix.rows),
        WorkloadOptions::Query(query) => Some(&query.rows),
        WorkloadOptions::Kv(_) => None,
    };
    let zipf = match workload {
        WorkloadOptions::Kv(KvOptions { pattern: KeyPattern::Zipf(exponent), .. }) => Some(*exponent),
        _ => None,
    };
    let hot_requests = match workload {
        WorkloadOptions::Kv(KvOptions { pattern: KeyPattern::HotTenth(period), .. }) => Some(*period),
        _ => None,
    };
    Ok(RunConfig {
        command: command.to_owned(),
        addr: if args.load.null_sink { "null-sink".to_owned() } else { args.connect.addr.clone() },
        protocol: if settings.dialect == Dialect::Native { "native" } else { "resp" }.to_owned(),
        commands: match settings.dialect {
            Dialect::Native => None,
            Dialect::Strings => Some("strings".to_owned()),
            Dialect::Series => Some("ts".to_owned()),
        },
        label: args.output.label.clone(),
        tags: tags.collect::<Result<_, CliError>>()?,
        clients: args.load.clients,
        threads: args.load.threads,
        max_in_flight: args.load.max_in_flight,
        runs: args.load.runs,
        seed: args.load.seed,
        workload: settings.workload.name().to_owned(),
        mix,
        series,
        key_pattern: pattern.to_owned(),
        read_recency: recency.map(str::to_owned),
        zipf,
        hot_requests,
        key_style: match args.workload.key_style {
            KeyStyleArg::Short => "short",
            KeyStyleArg::Full => "full",
        }
        .to_owned(),
        values: match settings.values {
            ValueKind::Int => "int",
            ValueKind::Float => "float",
            ValueKind::Bytes { .. } => "bytes",
        }
        .to_owned(),
        value_size_min_bytes: size_min,
        value_size_max_bytes: size_max,
        batch: settings.batch,
        order: if args.workload.order == OrderArg::Tick { "tick" } else { "series" }.to_owned(),
        interval_ms: rows.map_or(0, |rows| rows.interval_ms),
        out_of_order: rows.map_or(0.0, |rows| rows.late.share),
        out_of_order_ms: rows.map_or(0, |rows| rows.late.delay_ms),
        duplicates: rows.map_or(0.0, |rows| rows.duplicates),
        churn: rows.map_or(0.0, |rows| rows.churn.share),
        churn_period_ms: rows.map_or(0, |rows| rows.churn.period_ms),
        ..RunConfig::default()
    })
}

/// What a document says of a workload.
struct Described {
    mix: BTreeMap<String, f64>,
    series: u64,
    pattern: &'static str,
    recency: Option<&'static str>,
}

fn described(workload: &WorkloadOptions) -> Described {
    let of_recency = |recency| if recency == Recency::Latest { "latest" } else { "uniform" };
    let only_writes = || BTreeMap::from([("write".to_owned(), 1.0)]);
    let (mix, series, pattern, recency) = match workload {
        WorkloadOptions::Kv(kv) => {
            let [write, read] = kv.kind.op_names();
            let shares = [(write, kv.write_share), (read, 1.0 - kv.write_share)];
            let mix = shares.into_iter().map(|(name, share)| (name.to_owned(), share)).collect();
            let pattern = match kv.pattern {
                KeyPattern::Random => "random",
                KeyPattern::Sequential => "sequential",
                KeyPattern::Parallel(_) => "parallel",
                KeyPattern::Zipf(_) => "zipf",
                KeyPattern::Gaussian => "gaussian",
                KeyPattern::HotTenth(_) => "hot-tenth",
            };
            (mix, kv.keys, pattern, Some(of_recency(kv.recency)).filter(|_| kv.write_share < 1.0))
        }
        WorkloadOptions::Tsbs(rows) => (only_writes(), rows.series_count(), "sequential", None),
        WorkloadOptions::Mixed(mix) => {
            let reads = mix.reads.iter().map(|(kind, weight)| (kind.name().to_owned(), *weight as f64));
            let weights = reads.chain([("write".to_owned(), mix.write as f64)]).collect();
            (weights, mix.rows.series_count(), "random", Some(of_recency(mix.recency)))
        }
        WorkloadOptions::Query(query) => (BTreeMap::new(), query.rows.series_count(), "random", None),
    };
    Described { mix, series, pattern, recency }
}

/// `1`, or `0-2,5`: processors by number.
fn cpu_list(text: &str) -> Result<Vec<usize>, CliError> {
    const CPUS_MAX: usize = 4096;
    let bad = || usage("cpus", format!("'{text}' names no processors; write 1 or 0-2,5"));
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|cpu| *cpu < CPUS_MAX);
        let (first, last) = number(first).zip(number(last)).ok_or_else(bad)?;
        if last < first {
            return Err(bad());
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

/// Seconds between two live lines.
fn live_interval_s(text: &str) -> Result<u64, CliError> {
    let duration = parse_duration(text).map_err(|reason| usage("interval-report", reason))?;
    if duration.is_zero() || duration.subsec_nanos() > 0 {
        return Err(usage(
            "interval-report",
            "whole seconds, as 1s or 10s: figures are gathered by the second",
        ));
    }
    Ok(duration.as_secs())
}

/// What the values of a replayed file are.
pub(super) fn replay_type(args: &RunArgs) -> ValueType {
    match args.workload.values {
        Some(ValuesArg::Int) => ValueType::I64,
        Some(ValuesArg::Bytes) => ValueType::Bytes,
        Some(ValuesArg::Float) | None => ValueType::F64,
    }
}

/// Nanoseconds in a unit.
pub(super) fn ns_per_unit(unit: TimeUnit) -> f64 {
    match unit {
        TimeUnit::Milliseconds => 1e6,
        TimeUnit::Microseconds => 1e3,
        TimeUnit::Nanoseconds => 1.0,
    }
}

/// `max`, or `10x`.
pub(super) fn replay_speed(text: &str) -> Result<Option<f64>, CliError> {
    if text == "max" {
        return Ok(None);
    }
    let speed = text.strip_suffix('x').and_then(|number| number.parse::<f64>().ok());
    let speed = speed.filter(|speed| speed.is_finite() && *speed > 0.0);
    speed.map(Some).ok_or_else(|| usage("speed", format!("'{text}' is not max, 1x or 10x")))
}
