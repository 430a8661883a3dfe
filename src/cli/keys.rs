//! The small commands: ping, put, get, delete, scan, stats, flush, compact.

use super::args::{Connect, DeleteArgs, GetArgs, PutArgs, PutTime, ScanArgs, StatsArgs};
use super::connect::Target;
use super::csv::parse_value;
use super::error::CliError;
use super::format::{Form, write_entry, write_value};
use super::output::Output;
use crate::client::{Client, ClientOptions};
use crate::config::parse_duration;
use crate::model::{
    Aggregator, BucketGrid, DeleteScope, KeyRange, ScanAnswer, ScanRequest, Slot, TimeUnit, check_series,
};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// `tskv ping`
pub(super) fn ping(connect: &Connect) -> Result<(), CliError> {
    let mut client = open(connect)?;
    let start = now();
    client.ping()?;
    let micros = start.elapsed().as_micros();
    let line = format!("{} answered in {micros} us", client.info().server);
    print(|output| writeln!(output, "{line}"))
}

/// `tskv put`
pub(super) fn put(args: &PutArgs) -> Result<(), CliError> {
    let series = series(&args.series)?;
    let value = parse_value(args.value_type.into(), args.value.as_bytes()).map_err(CliError::Usage)?;
    let mut client = open(&args.connect)?;
    let time = match args.time {
        PutTime::Now => current_time(client.info().unit)?,
        PutTime::At(time) => time,
    };
    client.put(series, Slot::Time(time), value)?;
    Ok(())
}

/// `tskv get`
pub(super) fn get(args: &GetArgs) -> Result<(), CliError> {
    let series = series(&args.series)?;
    let mut client = open(&args.connect)?;
    let sample = match args.time {
        Some(time) => client.get_at(series, time)?.map(|value| (time, value)),
        None => client.get_newest(series)?,
    };
    let Some((time, value)) = sample else {
        eprintln!("tskv: no such value");
        return Err(CliError::Negative);
    };
    print(|output| {
        if args.with_time {
            write!(output, "{time},")?;
        }
        write_value(output, Form::Text, value.borrow())?;
        output.write_all(b"\n")
    })
}

/// `tskv delete`
pub(super) fn delete(args: &DeleteArgs) -> Result<(), CliError> {
    let what = what_to_delete(args)?;
    let mut client = open(&args.connect)?;
    match what {
        What::Slot { series, time } => client.delete_slot(series, Slot::Time(time))?,
        What::Scope(scope) => client.delete(scope)?,
    }
    Ok(())
}

/// What a command line asks to delete.
enum What<'a> {
    Slot { series: &'a [u8], time: i64 },
    Scope(DeleteScope<'a>),
}

fn what_to_delete(args: &DeleteArgs) -> Result<What<'_>, CliError> {
    if args.everything {
        return Ok(What::Scope(DeleteScope::All));
    }
    if let Some(prefix) = &args.prefix {
        let prefix = prefix.as_bytes();
        if prefix.is_empty() {
            return Err(CliError::Usage("an empty prefix covers everything; say --everything".to_owned()));
        }
        return Ok(What::Scope(DeleteScope::Prefix { prefix }));
    }
    let series = series(args.series.as_deref().unwrap_or_default())?;
    Ok(match (args.time, args.from, args.to) {
        (Some(time), ..) => What::Slot { series, time },
        (None, None, None) => What::Scope(DeleteScope::Series { series }),
        (None, from, to) => {
            let (from, to) = (from.unwrap_or(i64::MIN), to.unwrap_or(i64::MAX));
            if from > to {
                return Err(CliError::Usage(format!("--from {from} lies after --to {to}")));
            }
            What::Scope(DeleteScope::TimeRange { series, from, to })
        }
    })
}

/// `tskv scan`
pub(super) fn scan(args: &ScanArgs) -> Result<(), CliError> {
    let keys = match (&args.series, &args.prefix) {
        (Some(name), _) => {
            let start = series(name)?;
            KeyRange { start: start.into(), end: Some([start, b"\0"].concat().into()) }
        }
        (None, prefix) => KeyRange::prefix(prefix.as_deref().unwrap_or_default().as_bytes()),
    };
    let limit = args.limit.unwrap_or(u64::MAX);
    if limit == 0 {
        return Ok(());
    }
    let (from, to) = (args.range.from, args.range.to);
    let aggregator = args.aggregate.as_deref().map(aggregator_named).transpose()?;
    let bucket = args.bucket.as_deref().map(parse_duration).transpose().map_err(CliError::Usage)?;
    let mut client = open(&args.connect)?;
    let answer = match (aggregator, bucket) {
        (Some(aggregator), Some(bucket)) => {
            let grid = BucketGrid { width: bucket_width(bucket, client.info().unit)?, align: args.align };
            ScanAnswer::Buckets { aggregator, grid }
        }
        _ if args.newest => ScanAnswer::Newest,
        _ => ScanAnswer::Entries,
    };
    let request = ScanRequest { keys, from, to, all_slots: false, reverse: args.reverse, limit, answer };
    let mut output = Output::stdout();
    let mut scan = client.scan(request)?;
    while let Some(entries) = scan.next_chunk()? {
        for (series, slot, value) in entries {
            write_entry(&mut output, Form::Text, series, slot, value)?;
        }
    }
    output.flush().map_err(|error| CliError::output(&error))
}

fn aggregator_named(name: &str) -> Result<Aggregator, CliError> {
    Aggregator::from_name(name.as_bytes()).ok_or_else(|| {
        let known = Aggregator::ALL.map(|(known, _)| known).join(", ");
        CliError::Usage(format!("--aggregate {name} is none of {known}"))
    })
}

/// A bucket's width in the store's unit.
fn bucket_width(bucket: Duration, unit: TimeUnit) -> Result<i64, CliError> {
    let nanos = i64::try_from(bucket.as_nanos()).unwrap_or(i64::MAX);
    let width = unit.convert(TimeUnit::Nanoseconds, nanos).filter(|width| *width > 0);
    width.filter(|width| TimeUnit::Nanoseconds.convert(unit, *width) == Some(nanos)).ok_or_else(|| {
        CliError::Usage(format!("--bucket must be a whole number of {unit}, and more than none"))
    })
}

/// `tskv stats`
pub(super) fn stats(args: &StatsArgs) -> Result<(), CliError> {
    let pairs = open(&args.connect)?.stats()?;
    print(|output| {
        for (name, value) in &pairs {
            match name.as_str() {
                "summary" | "shards" if args.fields => {}
                "summary" => write!(output, "{value}")?,
                name if args.fields => writeln!(output, "{name}={value}")?,
                _ => {}
            }
        }
        Ok(())
    })
}

/// `tskv flush`
pub(super) fn flush(connect: &Connect) -> Result<(), CliError> {
    open(connect)?.flush()?;
    Ok(())
}

/// `tskv compact`
pub(super) fn compact(connect: &Connect) -> Result<(), CliError> {
    open(connect)?.compact()?;
    Ok(())
}

fn open(connect: &Connect) -> Result<Client, CliError> {
    Target::new(connect)?.client(&ClientOptions::default())
}

fn series(text: &OsStr) -> Result<&[u8], CliError> {
    let series = text.as_bytes();
    check_series(series).map_err(|error| CliError::Usage(error.to_string()))?;
    Ok(series)
}

/// Prints through a buffer and looks at every error.
fn print(write: impl FnOnce(&mut Output) -> io::Result<()>) -> Result<(), CliError> {
    let mut output = Output::stdout();
    write(&mut output).and_then(|()| output.flush()).map_err(|error| CliError::output(&error))
}

#[expect(clippy::disallowed_methods, reason = "a tool's clock, not a core's")]
fn now() -> Instant {
    Instant::now()
}

/// The time of day in the store's unit.
#[expect(clippy::disallowed_methods, reason = "a tool's clock, not a core's")]
fn current_time(unit: TimeUnit) -> Result<i64, CliError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(CliError::failed)?;
    i64::try_from(since.as_nanos())
        .ok()
        .and_then(|nanos| unit.convert(TimeUnit::Nanoseconds, nanos))
        .ok_or_else(|| CliError::Failed("the clock shows a time beyond 64 bits".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_that_the_store_cannot_count_is_refused() {
        // A width that is rounded in silence gives totals of other stretches than were asked for.
        let width = |nanos, unit| bucket_width(Duration::from_nanos(nanos), unit).ok();
        assert_eq!(width(60_000_000_000, TimeUnit::Milliseconds), Some(60_000));
        assert_eq!(width(1_500, TimeUnit::Nanoseconds), Some(1_500));
        assert_eq!(width(1_500, TimeUnit::Microseconds), None);
        assert_eq!(width(0, TimeUnit::Nanoseconds), None);
        assert_eq!(width(999_999, TimeUnit::Milliseconds), None);
    }

    #[test]
    fn an_unknown_aggregate_is_answered_with_those_that_are() {
        // Whoever mistypes a name should not have to look for the list of them.
        let Err(CliError::Usage(text)) = aggregator_named("mean") else { panic!("mean is none") };
        assert!(text.contains("avg") && text.contains("twa"), "{text}");
        assert_eq!(aggregator_named("STD.p").ok(), Some(Aggregator::StdP));
    }
}
