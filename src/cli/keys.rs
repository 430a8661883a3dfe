//! The small commands: ping, put, get, delete, scan, stats, flush, compact.

use super::args::{Connect, DeleteArgs, GetArgs, PutArgs, PutTime, ScanArgs, StatsArgs};
use super::connect::Target;
use super::csv::parse_value;
use super::error::CliError;
use super::format::{Form, write_entry, write_value};
use super::output::Output;
use super::session::Session;
use crate::model::{Command, DeleteScope, KeyRange, ScanRequest, Slot, TimeUnit, check_series};
use crate::protocol::binary::{Request, Response};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// `tskv ping`
pub(super) fn ping(connect: &Connect) -> Result<(), CliError> {
    let mut session = open(connect)?;
    let start = now();
    session.call(&Request::Ping { payload: b"" })?;
    let micros = start.elapsed().as_micros();
    let line = format!("{} answered in {micros} us", session.server());
    print(|output| writeln!(output, "{line}"))
}

/// `tskv put`
pub(super) fn put(args: &PutArgs) -> Result<(), CliError> {
    let series = series(&args.series)?;
    let value = parse_value(args.value_type.into(), args.value.as_bytes()).map_err(CliError::Usage)?;
    let mut session = open(&args.connect)?;
    let time = match args.time {
        PutTime::Now => current_time(session.unit())?,
        PutTime::At(time) => time,
    };
    session.call(&Request::Data(Command::Put { series, slot: Slot::Time(time), value }))
}

/// `tskv get`
pub(super) fn get(args: &GetArgs) -> Result<(), CliError> {
    let series = series(&args.series)?;
    let command = match args.time {
        Some(time) => Command::GetAt { series, time },
        None => Command::GetNewest { series },
    };
    let sample = open(&args.connect)?.ask(&Request::Data(command), |response| match response {
        Response::Sample(sample) => sample.map(|(time, value)| (time, value.into_owned())),
        _ => None,
    })??;
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
    let command = delete_command(args)?;
    open(&args.connect)?.call(&Request::Data(command))
}

fn delete_command(args: &DeleteArgs) -> Result<Command<'_>, CliError> {
    if args.everything {
        return Ok(Command::Delete { scope: DeleteScope::All });
    }
    if let Some(prefix) = &args.prefix {
        let prefix = prefix.as_bytes();
        if prefix.is_empty() {
            return Err(CliError::Usage("an empty prefix covers everything; say --everything".to_owned()));
        }
        return Ok(Command::Delete { scope: DeleteScope::Prefix { prefix } });
    }
    let series = series(args.series.as_deref().unwrap_or_default())?;
    Ok(match (args.time, args.from, args.to) {
        (Some(time), ..) => Command::DeleteSlot { series, slot: Slot::Time(time) },
        (None, None, None) => Command::Delete { scope: DeleteScope::Series { series } },
        (None, from, to) => {
            let (from, to) = (from.unwrap_or(i64::MIN), to.unwrap_or(i64::MAX));
            if from > to {
                return Err(CliError::Usage(format!("--from {from} lies after --to {to}")));
            }
            Command::Delete { scope: DeleteScope::TimeRange { series, from, to } }
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
    let request = ScanRequest { keys, from, to, all_slots: false, reverse: args.reverse, limit };
    let mut output = Output::stdout();
    open(&args.connect)?.scan(&request, |(series, slot, value)| {
        write_entry(&mut output, Form::Text, series, *slot, *value).map(|_| ()).map_err(CliError::from)
    })?;
    output.flush().map_err(|error| CliError::output(&error))
}

/// `tskv stats`
pub(super) fn stats(args: &StatsArgs) -> Result<(), CliError> {
    let pairs = open(&args.connect)?.ask(&Request::Stats, |response| match response {
        Response::Stats(pairs) => {
            pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
        }
        _ => Vec::new(),
    })??;
    print(|output| {
        for (name, value) in &pairs {
            match name.as_str() {
                "text" if args.fields => {}
                "text" => write!(output, "{value}")?,
                name if args.fields => writeln!(output, "{name}={value}")?,
                _ => {}
            }
        }
        Ok(())
    })
}

/// `tskv flush`
pub(super) fn flush(connect: &Connect) -> Result<(), CliError> {
    open(connect)?.call(&Request::Flush)
}

/// `tskv compact`
pub(super) fn compact(connect: &Connect) -> Result<(), CliError> {
    open(connect)?.call(&Request::Compact)
}

fn open(connect: &Connect) -> Result<Session, CliError> {
    Session::open(&Target::new(connect)?)
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
