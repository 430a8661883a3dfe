//! `tskv slowlog`: the slow log as a table. It is asked for over RESP, as any Redis client does.

use super::args::SlowlogArgs;
use super::connect::Target;
use super::error::CliError;
use super::output::Output;
use crate::load::{RespValue, ask};
use crate::metrics::Phase;
use std::io::{self, Write};

/// `tskv slowlog`
pub(super) fn run(args: &SlowlogArgs) -> Result<(), CliError> {
    let target = Target::new(&args.connect)?;
    let count = if args.all { "-1".to_owned() } else { args.count.to_string() };
    let words: &[&[u8]] =
        if args.reset { &[b"SLOWLOG", b"RESET"] } else { &[b"SLOWLOG", b"GET", count.as_bytes()] };
    let reply = ask(target.address(), target.password(), words).map_err(CliError::failed)?;
    let entries = match reply {
        RespValue::Array(entries) => entries,
        RespValue::Text(_) if args.reset => return Ok(()),
        RespValue::Error(text) => return Err(CliError::Failed(format!("{}: {text}", target.address()))),
        RespValue::Text(_) | RespValue::Number(_) | RespValue::Bytes(_) => {
            return Err(not_a_slow_log(&target));
        }
    };
    let rows: Option<Vec<_>> = entries.iter().map(Row::of).collect();
    let rows = rows.ok_or_else(|| not_a_slow_log(&target))?;
    let mut output = Output::stdout();
    print(&mut output, &rows).and_then(|()| output.flush()).map_err(|error| CliError::output(&error))
}

fn not_a_slow_log(target: &Target) -> CliError {
    CliError::Failed(format!("{}: the answer is no slow log of tskv's", target.address()))
}

/// One slow request.
#[derive(Debug, PartialEq)]
struct Row {
    id: i64,
    unix_s: i64,
    total_us: i64,
    /// In the order of [`Phase::ALL`].
    phases_us: [u64; Phase::ALL.len()],
    command: String,
    client: String,
}

impl Row {
    /// Reads one entry; `None` when it is not one.
    fn of(entry: &RespValue) -> Option<Self> {
        let RespValue::Array(fields) = entry else { return None };
        let [
            RespValue::Number(id),
            RespValue::Number(unix_s),
            RespValue::Number(total_us),
            RespValue::Array(words),
            client,
            ..,
        ] = fields.as_slice()
        else {
            return None;
        };
        let words: Vec<_> = words.iter().map(text_of).collect::<Option<_>>()?;
        let (split, command) = words.split_last()?;
        let mut phases_us = [0; Phase::ALL.len()];
        for (place, (phase, part)) in phases_us.iter_mut().zip(Phase::ALL.into_iter().zip(split.split(' '))) {
            let value = part.strip_prefix(phase.name())?.strip_prefix('=')?.strip_suffix("us")?;
            *place = value.parse().ok()?;
        }
        let client = text_of(client)?;
        Some(Self {
            id: *id,
            unix_s: *unix_s,
            total_us: *total_us,
            phases_us,
            command: command.join(" "),
            client,
        })
    }
}

/// What a terminal may be shown of a string: a key must not move its cursor.
fn text_of(value: &RespValue) -> Option<String> {
    match value {
        RespValue::Bytes(Some(bytes)) => Some(bytes.escape_ascii().to_string()),
        RespValue::Bytes(None)
        | RespValue::Text(_)
        | RespValue::Error(_)
        | RespValue::Number(_)
        | RespValue::Array(_) => None,
    }
}

fn print(output: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(output, "no slow requests");
    }
    write!(output, "{:>6} {:>11} {:>10}", "id", "unix time", "total ms")?;
    Phase::ALL.iter().try_for_each(|phase| write!(output, " {:>9}", phase.name()))?;
    writeln!(output, "  client                 command")?;
    for row in rows {
        write!(output, "{:>6} {:>11} {:>10}", row.id, row.unix_s, millis(row.total_us.unsigned_abs()))?;
        row.phases_us.iter().try_for_each(|micros| write!(output, " {:>9}", millis(*micros)))?;
        writeln!(output, "  {:<22} {}", row.client, row.command)?;
    }
    Ok(())
}

fn millis(micros: u64) -> String {
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> RespValue {
        RespValue::Bytes(Some(text.as_bytes().to_vec()))
    }

    #[test]
    fn entries_become_rows_and_what_is_none_is_refused() {
        // A phase in another's column sends the operator to the wrong part of the machine.
        let words = |split: &str| {
            RespValue::Array(vec![bulk("SET"), bulk("k\x1b"), bulk("... (1 more arguments)"), bulk(split)])
        };
        let entry = |words| {
            RespValue::Array(vec![
                RespValue::Number(3),
                RespValue::Number(1_700_000_000),
                RespValue::Number(12_345),
                words,
                bulk("127.0.0.1:5"),
                bulk(""),
            ])
        };
        let row = Row::of(&entry(words("queue=1us wal=12000us read=2us forward=42us send=300us"))).unwrap();
        assert_eq!(row.phases_us, [1, 12_000, 2, 42, 300]);
        let mut text = Vec::new();
        print(&mut text, &[row]).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("12.345     0.001    12.000     0.002     0.042     0.300"), "{text}");
        assert!(text.ends_with("127.0.0.1:5            SET k\\x1b ... (1 more arguments)\n"), "{text}");
        assert_eq!(Row::of(&entry(words("wal=1us"))), None);
        assert_eq!(Row::of(&RespValue::Number(1)), None);
    }
}
