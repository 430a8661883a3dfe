//! TS.CREATE, TS.ALTER, TS.ADD, TS.MADD, TS.GET, TS.DEL, TS.INFO, and, in `range`, TS.RANGE and TS.REVRANGE.
//!
//! Texts are RedisTimeSeries's, level L1. Words that mean nothing are refused, where the original passes over them.

mod range;

use super::command::{CommandContext, CommandError, CommandResult, arity, checked_key, is_word, key_at};
use super::number::{parse_integer, parse_value};
use super::parse::Args;
use super::request::{Gather, Request};
use super::table::CommandSpec;
use crate::model::{Command, DuplicatePolicy, SeriesChanges, SeriesOptions};

/// Sizes that CHUNK_SIZE may have: multiples of 8 in this range.
const CHUNK_BYTES: std::ops::RangeInclusive<u32> = 48..=1_048_576;

/// The answer to a word that is no option.
const UNEXPECTED_WORD: CommandError<'static> = CommandError::Text("ERR TSDB: unexpected argument");

/// Parses a TS.* command; its arity has been checked.
pub(super) fn parse<'a>(spec: &CommandSpec, words: Args<'a>, context: &CommandContext) -> CommandResult<'a> {
    match spec.name {
        "ts.create" => {
            let Options { given, .. } = parse_options(spec, words, 2, false)?;
            Ok(Request::Data(Command::SeriesCreate { key: key_at(words, 1)?, options: given.options() }))
        }
        "ts.alter" => {
            let Options { given, .. } = parse_options(spec, words, 2, false)?;
            if given.compressed.is_some() {
                return Err(UNEXPECTED_WORD);
            }
            Ok(Request::Data(Command::SeriesAlter { key: key_at(words, 1)?, changes: given.changes }))
        }
        "ts.add" => parse_add(spec, words, context),
        "ts.madd" => parse_madd(spec, words, context),
        "ts.get" => match words.get(2) {
            None => Ok(Request::Data(Command::SeriesGet { key: key_at(words, 1)? })),
            Some(_) if words.len() > 3 => Err(arity(spec)),
            Some(word) if is_word(word, "LATEST") => {
                Ok(Request::Data(Command::SeriesGet { key: key_at(words, 1)? }))
            }
            Some(_) => Err(CommandError::Text("ERR TSDB: wrong 3rd argument")),
        },
        "ts.range" => range::parse(words, false),
        "ts.revrange" => range::parse(words, true),
        "ts.del" => {
            let (from, to) = range::parse_bounds(words)?;
            Ok(Request::Data(Command::SeriesDelete { key: key_at(words, 1)?, from, to }))
        }
        "ts.info" => match words.get(2) {
            None => Ok(Request::Data(Command::SeriesInfo { key: key_at(words, 1)?, details: false })),
            Some(_) if words.len() > 3 => Err(arity(spec)),
            Some(word) if is_word(word, "DEBUG") => {
                Ok(Request::Data(Command::SeriesInfo { key: key_at(words, 1)?, details: true }))
            }
            Some(_) => Err(UNEXPECTED_WORD),
        },
        other => unreachable!("{other} is in the table as a series command"),
    }
}

/// A sample's time and value, in the order in which the original looks at them.
fn parse_sample<'a>(
    time: &'a [u8],
    value: &'a [u8],
    context: &CommandContext,
) -> Result<(i64, f64), CommandError<'a>> {
    let value = parse_value(value).ok_or(CommandError::Text("ERR TSDB: invalid value"))?;
    let time = match time {
        b"*" => context.now,
        digits => parse_integer(digits).ok_or(CommandError::Text("ERR TSDB: invalid timestamp"))?,
    };
    match time {
        0.. => Ok((time, value)),
        _ => Err(CommandError::Text("ERR TSDB: invalid timestamp, must be a nonnegative integer")),
    }
}

fn parse_add<'a>(spec: &CommandSpec, words: Args<'a>, context: &CommandContext) -> CommandResult<'a> {
    let key = key_at(words, 1)?;
    let (time, value) =
        parse_sample(words.get(2).unwrap_or_default(), words.get(3).unwrap_or_default(), context)?;
    let Options { given, on_duplicate } = parse_options(spec, words, 4, true)?;
    let create = given.options();
    Ok(Request::Data(Command::SeriesAdd { key, time, value, on_duplicate, create: Some(create) }))
}

/// One command per triple; a triple that makes no sense fails alone.
fn parse_madd<'a>(spec: &CommandSpec, words: Args<'a>, context: &CommandContext) -> CommandResult<'a> {
    if words.len() % 3 != 1 {
        return Err(arity(spec));
    }
    let mut commands = Vec::with_capacity(words.len() / 3);
    let mut rest = words.from(1).iter();
    while let (Some(key), Some(time), Some(value)) = (rest.next(), rest.next(), rest.next()) {
        commands.push(checked_key(key).and_then(|key| {
            let (time, value) = parse_sample(time, value, context)?;
            Ok(Command::SeriesAdd { key, time, value, on_duplicate: None, create: None })
        }));
    }
    Ok(Request::Gather { gather: Gather::Array, commands })
}

/// What TS.CREATE, TS.ALTER and TS.ADD may add.
#[derive(Default)]
struct Options {
    given: Given,
    on_duplicate: Option<DuplicatePolicy>,
}

/// The properties that a command names.
#[derive(Default)]
struct Given {
    changes: SeriesChanges,
    /// It cannot be changed.
    compressed: Option<bool>,
}

impl Given {
    /// Those of a new series.
    fn options(&self) -> SeriesOptions {
        let options = SeriesOptions::default();
        let compressed = self.compressed.unwrap_or(options.compressed);
        self.changes.apply(&SeriesOptions { compressed, ..options })
    }
}

/// Parses the options from word `start` on; `is_add` allows ON_DUPLICATE.
fn parse_options<'a>(
    spec: &CommandSpec,
    words: Args<'a>,
    start: usize,
    is_add: bool,
) -> Result<Options, CommandError<'a>> {
    let mut options = Options::default();
    let Options { given: Given { changes, compressed }, on_duplicate } = &mut options;
    let mut rest = words.from(start).iter();
    while let Some(word) = rest.next() {
        if is_word(word, "RETENTION") {
            changes.retention = Some(parse_retention(rest.next())?);
        } else if is_word(word, "ENCODING") {
            let encoding = rest.next().ok_or(arity(spec))?;
            let known = parse_encoding(encoding);
            *compressed = Some(known.ok_or(CommandError::Text("ERR TSDB: unknown ENCODING parameter"))?);
        } else if let Some(encoding) = parse_encoding(word) {
            *compressed = Some(encoding);
        } else if is_word(word, "CHUNK_SIZE") {
            changes.chunk_bytes = Some(parse_chunk_size(rest.next())?);
        } else if is_word(word, "DUPLICATE_POLICY") {
            changes.duplicate_policy = Some(parse_policy(rest.next())?);
        } else if is_add && is_word(word, "ON_DUPLICATE") {
            *on_duplicate = Some(parse_policy(rest.next())?);
        } else if is_word(word, "IGNORE") {
            changes.ignore = Some(parse_ignore(rest.next(), rest.next())?);
        } else if is_word(word, "LABELS") {
            // Everything after LABELS is names and values.
            check_labels(rest)?;
            break;
        } else {
            return Err(UNEXPECTED_WORD);
        }
    }
    Ok(options)
}

fn parse_encoding(word: &[u8]) -> Option<bool> {
    match () {
        () if is_word(word, "COMPRESSED") => Some(true),
        () if is_word(word, "UNCOMPRESSED") => Some(false),
        () => None,
    }
}

fn parse_retention(word: Option<&[u8]>) -> Result<u64, CommandError<'_>> {
    let number = word.and_then(parse_integer);
    let number = number.ok_or(CommandError::Text("ERR TSDB: Couldn't parse RETENTION"))?;
    // The original leaves out `ERR` here, and clients may compare.
    u64::try_from(number).map_err(|_| CommandError::Text("TSDB: Couldn't parse RETENTION"))
}

fn parse_chunk_size(word: Option<&[u8]>) -> Result<u32, CommandError<'_>> {
    let number = word.and_then(parse_integer);
    let number = number.ok_or(CommandError::Text("ERR TSDB: Couldn't parse CHUNK_SIZE"))?;
    u32::try_from(number).ok().filter(|bytes| CHUNK_BYTES.contains(bytes) && bytes.is_multiple_of(8)).ok_or(
        CommandError::Text("ERR TSDB: CHUNK_SIZE value must be a multiple of 8 in the range [48 .. 1048576]"),
    )
}

fn parse_policy(word: Option<&[u8]>) -> Result<DuplicatePolicy, CommandError<'_>> {
    use DuplicatePolicy::{Block, First, Last, Max, Min, Sum};
    let word = word.ok_or(CommandError::Text("ERR TSDB: Couldn't parse DUPLICATE_POLICY"))?;
    [Block, First, Last, Min, Max, Sum]
        .into_iter()
        .find(|policy| is_word(word, policy.name()))
        .ok_or(CommandError::Text("ERR TSDB: Unknown DUPLICATE_POLICY"))
}

fn parse_ignore<'a>(time: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Result<(u64, f64), CommandError<'a>> {
    let (time, value) = (time.and_then(parse_integer), value.and_then(parse_value));
    let (Some(time), Some(value)) = (time, value) else {
        return Err(CommandError::Text("ERR TSDB: Couldn't parse IGNORE"));
    };
    match u64::try_from(time) {
        Ok(time) if value >= 0.0 => Ok((time, value)),
        _ => Err(CommandError::Text("ERR TSDB: IGNORE arguments cannot be negative")),
    }
}

/// Labels are checked like the original's and then refused, unless there are none.
fn check_labels<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Result<(), CommandError<'a>> {
    let mut has_labels = false;
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        has_labels = true;
        if name.is_empty() || value.is_empty() || value.iter().any(|byte| b"(),".contains(byte)) {
            return Err(CommandError::Text("ERR TSDB: Couldn't parse LABELS"));
        }
    }
    match has_labels {
        false => Ok(()),
        true => Err(CommandError::Text("ERR TSDB: LABELS are not supported yet")),
    }
}
