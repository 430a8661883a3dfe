//! GET, SET, MGET, MSET, STRLEN.

use super::command::{CommandContext, CommandError, CommandResult, arity, checked_key, is_word, key_at};
use super::number::parse_integer;
use super::parse::Args;
use super::request::{Gather, Request};
use super::table::CommandSpec;
use crate::model::{Command, SetCondition};

/// Parses a command of the string family; its arity has been checked.
pub(super) fn parse<'a>(spec: &CommandSpec, words: Args<'a>, context: &CommandContext) -> CommandResult<'a> {
    match spec.name {
        "get" => Ok(Request::Data(Command::StringGet { key: key_at(words, 1)? })),
        "strlen" => Ok(Request::Data(Command::StringLength { key: key_at(words, 1)? })),
        "set" => parse_set(words, context),
        "mget" => {
            let commands = words
                .from(1)
                .iter()
                .map(|key| Ok(Command::StringGetAny { key: checked_key(key)? }))
                .collect();
            Ok(Request::Gather { gather: Gather::Array, commands })
        }
        "mset" => parse_mset(spec, words, context),
        other => unreachable!("{other} is in the table as a string command"),
    }
}

fn parse_mset<'a>(spec: &CommandSpec, words: Args<'a>, context: &CommandContext) -> CommandResult<'a> {
    if words.len().is_multiple_of(2) {
        return Err(arity(spec));
    }
    let mut commands = Vec::with_capacity(words.len() / 2);
    let mut pairs = words.from(1).iter();
    while let (Some(key), Some(value)) = (pairs.next(), pairs.next()) {
        let (key, value) = (checked_key(key)?, checked_value(value, context)?);
        let condition = SetCondition::Always;
        commands.push(Ok(Command::StringSet { key, value, condition, return_old: false }));
    }
    Ok(Request::Gather { gather: Gather::AllOk, commands })
}

fn checked_value<'a>(value: &'a [u8], context: &CommandContext) -> Result<&'a [u8], CommandError<'a>> {
    match value.len() {
        bytes if bytes <= context.value_bytes_max => Ok(value),
        _ => Err(CommandError::ValueTooLong { bytes_max: context.value_bytes_max }),
    }
}

/// The options of SET.
#[derive(Default)]
struct SetOptions<'a> {
    condition: SetCondition,
    return_old: bool,
    keep_ttl: bool,
    /// The number after EX, PX, EXAT or PXAT, and how many milliseconds one of it is.
    expiry: Option<(&'a [u8], i64)>,
}

fn parse_set<'a>(words: Args<'a>, context: &CommandContext) -> CommandResult<'a> {
    let options = parse_set_options(words.from(3))?;
    if let Some((number, unit_ms)) = options.expiry {
        let number = parse_integer(number).ok_or(CommandError::NOT_AN_INTEGER)?;
        if number <= 0 || number.checked_mul(unit_ms).is_none() {
            return Err(CommandError::Text("ERR invalid expire time in 'set' command"));
        }
        return Err(CommandError::Text(
            "ERR SET with EX, PX, EXAT or PXAT is not supported: keys do not expire",
        ));
    }
    let (key, value) = (key_at(words, 1)?, checked_value(words.get(2).unwrap_or_default(), context)?);
    let SetOptions { condition, return_old, .. } = options;
    Ok(Request::Data(Command::StringSet { key, value, condition, return_old }))
}

fn parse_set_options(words: Args<'_>) -> Result<SetOptions<'_>, CommandError<'_>> {
    let mut options = SetOptions::default();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let unit_ms = [("EX", 1000), ("EXAT", 1000), ("PX", 1), ("PXAT", 1)]
            .into_iter()
            .find_map(|(keyword, unit_ms)| is_word(word, keyword).then_some(unit_ms));
        if let Some(unit_ms) = unit_ms {
            let number = rest.next().ok_or(CommandError::SYNTAX)?;
            if options.expiry.is_some() || options.keep_ttl {
                return Err(CommandError::SYNTAX);
            }
            options.expiry = Some((number, unit_ms));
        } else if is_word(word, "NX") && options.condition != SetCondition::IfPresent {
            options.condition = SetCondition::IfAbsent;
        } else if is_word(word, "XX") && options.condition != SetCondition::IfAbsent {
            options.condition = SetCondition::IfPresent;
        } else if is_word(word, "GET") {
            options.return_old = true;
        } else if is_word(word, "KEEPTTL") && options.expiry.is_none() {
            // Keys do not expire, so there is nothing to keep.
            options.keep_ttl = true;
        } else {
            return Err(CommandError::SYNTAX);
        }
    }
    Ok(options)
}
