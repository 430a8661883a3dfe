//! DEL, UNLINK, EXISTS, TYPE, SCAN, KEYS.

use super::command::{CommandError, CommandResult, checked_key, is_word, key_at};
use super::glob::PATTERN_BYTES_MAX;
use super::number::{parse_integer, parse_unsigned};
use super::parse::Args;
use super::request::{Gather, Request, ScanPage};
use super::table::CommandSpec;
use crate::limits::SCAN_SLICE_ENTRIES;
use crate::model::{Command, KeyKind};

/// Keys that SCAN looks at unless COUNT says otherwise.
const SCAN_COUNT_DEFAULT: usize = 10;

/// Parses a command on keys of any kind; its arity has been checked.
pub(super) fn parse<'a>(spec: &CommandSpec, words: Args<'a>) -> CommandResult<'a> {
    match spec.name {
        "del" | "unlink" => sum(words, |key| Command::KeyDelete { key }),
        "exists" => sum(words, |key| Command::KeyExists { key }),
        "type" => Ok(Request::Data(Command::KeyType { key: key_at(words, 1)? })),
        "keys" => Ok(Request::Keys { pattern: checked_pattern(words.get(1).unwrap_or_default())? }),
        "scan" => parse_scan(words).map(Request::Scan),
        other => unreachable!("{other} is in the table as a command on keys"),
    }
}

/// One command per key; a single key needs no gathering.
fn sum<'a>(words: Args<'a>, command: impl Fn(&'a [u8]) -> Command<'a>) -> CommandResult<'a> {
    if words.len() == 2 {
        return Ok(Request::Data(command(key_at(words, 1)?)));
    }
    let commands =
        words.from(1).iter().map(|key| checked_key(key).map(&command).map(Ok)).collect::<Result<_, _>>()?;
    Ok(Request::Gather { gather: Gather::Sum, commands })
}

fn checked_pattern(pattern: &[u8]) -> Result<&[u8], CommandError<'_>> {
    match pattern.len() {
        0..=PATTERN_BYTES_MAX => Ok(pattern),
        _ => Err(CommandError::Text("ERR pattern exceeds 2048 bytes")),
    }
}
const _: () = assert!(PATTERN_BYTES_MAX == 2048, "the error names the limit");

fn parse_scan(words: Args<'_>) -> Result<ScanPage<'_>, CommandError<'_>> {
    let cursor = words.get(1).and_then(parse_unsigned).ok_or(CommandError::Text("ERR invalid cursor"))?;
    let mut page = ScanPage { cursor, pattern: None, count: SCAN_COUNT_DEFAULT, kind: None };
    let mut rest = words.from(2).iter();
    while let Some(word) = rest.next() {
        let value = rest.next().ok_or(CommandError::SYNTAX)?;
        if is_word(word, "MATCH") {
            page.pattern = Some(checked_pattern(value)?);
        } else if is_word(word, "COUNT") {
            let count = parse_integer(value).ok_or(CommandError::NOT_AN_INTEGER)?;
            let count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(CommandError::SYNTAX)?;
            page.count = count.min(SCAN_SLICE_ENTRIES);
        } else if is_word(word, "TYPE") {
            page.kind = Some(kind_named(value));
        } else {
            return Err(CommandError::SYNTAX);
        }
    }
    Ok(page)
}

/// The kind of key that has this TYPE; [`KeyKind::None`] when no key of tskv can.
fn kind_named(name: &[u8]) -> KeyKind {
    if is_word(name, "string") {
        KeyKind::String
    } else if is_word(name, "TSDB-TYPE") {
        KeyKind::Series
    } else {
        KeyKind::None
    }
}
