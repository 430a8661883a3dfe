//! Words to requests: finds the command, checks its arity, and hands the words to its family.

use super::parse::Args;
use super::request::Request;
use super::table::{CommandSpec, Group, find_command};
use super::{keys, series, session, strings};
use crate::model::{KeyError, check_series};
use std::io::Write;

/// Bytes of client words that an error repeats, at most, as in Redis.
const ECHO_BYTES_MAX: usize = 128;

/// What parsing needs to know besides the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandContext {
    /// The wall clock in the store's unit, read once per request: what `*` means.
    pub now: i64,
    /// `--max-value-bytes`.
    pub value_bytes_max: usize,
}

/// Why a request is refused without running it. The connection goes on.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum CommandError<'a> {
    /// No such command.
    Unknown { words: Args<'a> },
    /// The command has no such subcommand.
    UnknownSubcommand { command: &'static str, subcommand: &'a [u8] },
    /// Too few or too many words.
    Arity { command: &'static str, subcommand: Option<&'static str> },
    /// A word of HELLO is none of its options.
    HelloOption { word: &'a [u8] },
    /// CLIENT SETINFO has no such attribute.
    ClientAttribute { word: &'a [u8] },
    /// A key that no series can have.
    Key(KeyError),
    /// A value longer than `--max-value-bytes`.
    ValueTooLong { bytes_max: usize },
    /// The whole text, with its prefix.
    Text(&'static str),
}

impl CommandError<'_> {
    /// Redis's general complaint.
    pub(super) const SYNTAX: Self = Self::Text("ERR syntax error");
    /// Redis's complaint about numbers.
    pub(super) const NOT_AN_INTEGER: Self = Self::Text("ERR value is not an integer or out of range");

    /// Whether Redis sees it before it queues a request of `words` words in MULTI, so that EXEC refuses. Whatever else is
    /// wrong is seen when EXEC runs the command.
    #[must_use]
    pub fn is_seen_before_queueing(&self, words: usize) -> bool {
        match self {
            Self::Unknown { .. }
            | Self::UnknownSubcommand { .. }
            | Self::Arity { subcommand: Some(_), .. } => true,
            // PING and MSET count their words themselves, beyond what the table says.
            Self::Arity { command, subcommand: None } => {
                find_command(command.as_bytes()).is_some_and(|spec| !spec.takes(words))
            }
            _ => false,
        }
    }
    /// Whether it ends the transaction that is open: EXEC itself is wrong.
    #[must_use]
    pub fn ends_transaction(&self) -> bool {
        matches!(self, Self::Arity { command: "exec", .. })
    }
    /// The text as it stands between `-` and CR LF. Control bytes of the client come out as blanks; an encoder need
    /// not look at it again.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put_text(&mut out);
        for byte in &mut out {
            if matches!(byte, b'\r' | b'\n' | 0) {
                *byte = b' ';
            }
        }
        out
    }

    fn put_text(&self, out: &mut Vec<u8>) {
        let written = match self {
            Self::Unknown { words } => {
                put_unknown(out, *words);
                Ok(())
            }
            Self::UnknownSubcommand { command, subcommand } => {
                out.extend_from_slice(b"ERR unknown subcommand '");
                out.extend_from_slice(printable_start(subcommand, ECHO_BYTES_MAX));
                write!(out, "'. Try {} HELP.", command.to_ascii_uppercase())
            }
            Self::Arity { command: "exec", subcommand: None } => {
                // As in Redis: a misspelled EXEC ends the transaction.
                let why = "wrong number of arguments for 'exec' command";
                write!(out, "EXECABORT Transaction discarded because of: {why}")
            }
            Self::Arity { command, subcommand: None } => {
                write!(out, "ERR wrong number of arguments for '{command}' command")
            }
            Self::Arity { command, subcommand: Some(subcommand) } => {
                write!(out, "ERR wrong number of arguments for '{command}|{subcommand}' command")
            }
            Self::HelloOption { word } => {
                out.extend_from_slice(b"ERR Syntax error in HELLO option '");
                out.extend_from_slice(printable_start(word, ECHO_BYTES_MAX));
                out.write_all(b"'")
            }
            Self::ClientAttribute { word } => {
                out.extend_from_slice(b"ERR Unrecognized option '");
                out.extend_from_slice(printable_start(word, ECHO_BYTES_MAX));
                out.write_all(b"'")
            }
            Self::Key(error) => write!(out, "ERR {error}"),
            Self::ValueTooLong { bytes_max } => {
                write!(out, "ERR value exceeds the limit of {bytes_max} bytes (--max-value-bytes)")
            }
            Self::Text(text) => out.write_all(text.as_bytes()),
        };
        written.unwrap_or_else(|_| unreachable!("a vector takes every byte"));
    }
}

/// Redis's text, which repeats the command and the start of its arguments.
fn put_unknown(out: &mut Vec<u8>, words: Args<'_>) {
    out.extend_from_slice(b"ERR unknown command '");
    out.extend_from_slice(printable_start(words.get(0).unwrap_or_default(), ECHO_BYTES_MAX));
    out.extend_from_slice(b"', with args beginning with: ");
    let start = out.len();
    for word in words.from(1).iter() {
        let used = out.len() - start;
        if used >= ECHO_BYTES_MAX {
            break;
        }
        out.push(b'\'');
        out.extend_from_slice(printable_start(word, ECHO_BYTES_MAX - used));
        out.extend_from_slice(b"' ");
    }
}

/// The first bytes of a word, up to a NUL, as C's `%.*s` prints them.
fn printable_start(word: &[u8], bytes_max: usize) -> &[u8] {
    let end = word.iter().take(bytes_max).position(|byte| *byte == 0);
    word.get(..end.unwrap_or(word.len().min(bytes_max))).unwrap_or_default()
}

/// What a family parser gives.
pub(super) type CommandResult<'a> = Result<Request<'a>, CommandError<'a>>;

/// Turns the words of one request into a request.
///
/// # Errors
/// When the command is unknown, has the wrong number of words, or its words make no sense. The text is Redis's.
pub fn parse_command<'a>(words: Args<'a>, context: &CommandContext) -> Result<Request<'a>, CommandError<'a>> {
    let name = words.get(0).unwrap_or_default();
    let Some(spec) = find_command(name).filter(|spec| !spec.name.contains('|')) else {
        return Err(CommandError::Unknown { words });
    };
    if !spec.takes(words.len()) {
        return Err(arity(spec));
    }
    match spec.group {
        Group::Strings => strings::parse(spec, words, context),
        Group::Series => series::parse(spec, words, context),
        Group::Generic => keys::parse(spec, words),
        Group::Connection | Group::Server | Group::Transactions => session::parse(spec, words),
    }
}

/// The arity error of a command.
pub(super) fn arity(spec: &CommandSpec) -> CommandError<'static> {
    CommandError::Arity { command: spec.name, subcommand: None }
}

/// The key at `index`, checked.
pub(super) fn key_at<'a>(words: Args<'a>, index: usize) -> Result<&'a [u8], CommandError<'a>> {
    checked_key(words.get(index).unwrap_or_default())
}

/// A word as a key.
pub(super) fn checked_key(word: &[u8]) -> Result<&[u8], CommandError<'_>> {
    check_series(word).map(|()| word).map_err(CommandError::Key)
}

/// Whether a word is a keyword, in any case of letters.
pub(super) fn is_word(word: &[u8], keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword.as_bytes())
}
