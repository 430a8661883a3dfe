//! Commands that the connection or the server answers without a shard, and those that go to all shards at once.

use super::command::{CommandError, CommandResult, arity, is_word};
use super::number::parse_integer;
use super::parse::Args;
use super::request::{ClientAttribute, Credentials, Hello, Protocol, Request, SessionRequest};
use super::table::CommandSpec;

/// Longest name of a connection.
const CLIENT_NAME_BYTES_MAX: usize = 256;

/// Parses a command of the connection, server and transaction families; its arity has been checked.
pub(super) fn parse<'a>(spec: &'static CommandSpec, words: Args<'a>) -> CommandResult<'a> {
    let first = words.get(1).unwrap_or_default();
    let rest = || words.from(1).iter().collect::<Vec<_>>();
    Ok(Request::Session(match spec.name {
        "ping" if words.len() > 2 => return Err(arity(spec)),
        "ping" => SessionRequest::Ping { message: words.get(1) },
        "echo" => SessionRequest::Echo { message: first },
        "multi" => SessionRequest::Multi,
        "exec" => SessionRequest::Exec,
        "discard" => SessionRequest::Discard,
        "quit" => SessionRequest::Quit,
        "reset" => SessionRequest::Reset,
        "time" => SessionRequest::Time,
        "info" => SessionRequest::Info { sections: rest() },
        "auth" => SessionRequest::Auth(parse_auth(words)?),
        "hello" => SessionRequest::Hello(parse_hello(words)?),
        "select" => parse_select(first)?,
        "client" => parse_client(spec, words)?,
        "command" => parse_command_query(spec, words)?,
        "config" => parse_config(spec, words)?,
        "slowlog" => parse_slowlog(spec, words)?,
        "module" if !is_word(first, "LIST") => return Err(unknown_subcommand(spec, first)),
        "module" if words.len() != 2 => return Err(subcommand_arity(spec, "list")),
        "module" => SessionRequest::ModuleList,
        "dbsize" => return Ok(Request::DbSize),
        "flushall" | "flushdb" => return parse_flush(words),
        other => unreachable!("{other} is in the table as a session command"),
    }))
}

fn unknown_subcommand<'a>(spec: &CommandSpec, subcommand: &'a [u8]) -> CommandError<'a> {
    CommandError::UnknownSubcommand { command: spec.name, subcommand }
}

fn subcommand_arity(spec: &CommandSpec, subcommand: &'static str) -> CommandError<'static> {
    CommandError::Arity { command: spec.name, subcommand: Some(subcommand) }
}

fn parse_flush(words: Args<'_>) -> CommandResult<'_> {
    match words.get(1) {
        None => Ok(Request::FlushAll),
        Some(mode) if words.len() == 2 && (is_word(mode, "ASYNC") || is_word(mode, "SYNC")) => {
            Ok(Request::FlushAll)
        }
        Some(_) => Err(CommandError::SYNTAX),
    }
}

fn parse_auth(words: Args<'_>) -> Result<Credentials<'_>, CommandError<'_>> {
    match (words.get(1), words.get(2), words.get(3)) {
        (Some(password), None, None) => Ok(Credentials { username: b"default", password }),
        (Some(username), Some(password), None) => Ok(Credentials { username, password }),
        _ => Err(CommandError::SYNTAX),
    }
}

fn parse_hello(words: Args<'_>) -> Result<Hello<'_>, CommandError<'_>> {
    let mut hello = Hello::default();
    let Some(version) = words.get(1) else { return Ok(hello) };
    hello.protocol = Some(match parse_integer(version) {
        Some(2) => Protocol::Resp2,
        Some(3) => Protocol::Resp3,
        Some(_) => return Err(CommandError::Text("NOPROTO unsupported protocol version")),
        None => {
            return Err(CommandError::Text("ERR Protocol version is not an integer or out of range"));
        }
    });
    let mut rest = words.from(2).iter();
    while let Some(word) = rest.next() {
        let left = rest.len();
        match () {
            () if is_word(word, "AUTH") && left >= 2 => {
                let (username, password) = (rest.next().unwrap_or_default(), rest.next().unwrap_or_default());
                hello.auth = Some(Credentials { username, password });
            }
            () if is_word(word, "SETNAME") && left >= 1 => {
                hello.name = Some(checked_name(rest.next().unwrap_or_default())?);
            }
            () => return Err(CommandError::HelloOption { word }),
        }
    }
    Ok(hello)
}

fn parse_select(index: &[u8]) -> Result<SessionRequest<'_>, CommandError<'_>> {
    match parse_integer(index) {
        Some(0) => Ok(SessionRequest::Select),
        Some(number) if i32::try_from(number).is_ok() => {
            Err(CommandError::Text("ERR DB index is out of range"))
        }
        Some(_) => Err(CommandError::Text(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        )),
        None => Err(CommandError::NOT_AN_INTEGER),
    }
}

/// Whether CLIENT LIST, which separates with blanks and lines, can carry the text.
fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b'!'..=b'~'))
}

fn checked_name(name: &[u8]) -> Result<&[u8], CommandError<'_>> {
    match name.len() {
        _ if !is_plain(name) => {
            Err(CommandError::Text("ERR Client names cannot contain spaces, newlines or special characters."))
        }
        0..=CLIENT_NAME_BYTES_MAX => Ok(name),
        _ => Err(CommandError::Text("ERR Client names cannot exceed 256 bytes.")),
    }
}
const _: () = assert!(CLIENT_NAME_BYTES_MAX == 256, "the errors name the limit");

fn parse_client<'a>(spec: &CommandSpec, words: Args<'a>) -> Result<SessionRequest<'a>, CommandError<'a>> {
    let subcommand = words.get(1).unwrap_or_default();
    let (first, second) = (words.get(2).unwrap_or_default(), words.get(3).unwrap_or_default());
    let exactly = |name: &'static str, count: usize| match words.len() == count {
        true => Ok(()),
        false => Err(subcommand_arity(spec, name)),
    };
    if is_word(subcommand, "ID") {
        exactly("id", 2).map(|()| SessionRequest::ClientId)
    } else if is_word(subcommand, "GETNAME") {
        exactly("getname", 2).map(|()| SessionRequest::ClientGetName)
    } else if is_word(subcommand, "SETNAME") {
        exactly("setname", 3)?;
        checked_name(first).map(|name| SessionRequest::ClientSetName { name })
    } else if is_word(subcommand, "SETINFO") {
        exactly("setinfo", 4)?;
        parse_set_info(first, second)
    } else if is_word(subcommand, "INFO") {
        exactly("info", 2).map(|()| SessionRequest::ClientInfo)
    } else if is_word(subcommand, "LIST") {
        // The filters TYPE and ID are taken without effect: the list is short.
        Ok(SessionRequest::ClientList)
    } else {
        Err(unknown_subcommand(spec, subcommand))
    }
}

fn parse_set_info<'a>(word: &'a [u8], value: &'a [u8]) -> Result<SessionRequest<'a>, CommandError<'a>> {
    let (attribute, complaint) = if is_word(word, "LIB-NAME") {
        let complaint = "ERR lib-name cannot contain spaces, newlines or special characters.";
        (ClientAttribute::LibraryName, complaint)
    } else if is_word(word, "LIB-VER") {
        let complaint = "ERR lib-ver cannot contain spaces, newlines or special characters.";
        (ClientAttribute::LibraryVersion, complaint)
    } else {
        return Err(CommandError::ClientAttribute { word });
    };
    match value.len() <= CLIENT_NAME_BYTES_MAX && is_plain(value) {
        true => Ok(SessionRequest::ClientSetInfo { attribute, value }),
        false => Err(CommandError::Text(complaint)),
    }
}

fn parse_command_query<'a>(
    spec: &CommandSpec,
    words: Args<'a>,
) -> Result<SessionRequest<'a>, CommandError<'a>> {
    let Some(subcommand) = words.get(1) else { return Ok(SessionRequest::Command) };
    let names = || words.from(2).iter().collect();
    if is_word(subcommand, "COUNT") {
        match words.len() {
            2 => Ok(SessionRequest::CommandCount),
            _ => Err(subcommand_arity(spec, "count")),
        }
    } else if is_word(subcommand, "LIST") {
        Ok(SessionRequest::CommandList)
    } else if is_word(subcommand, "INFO") {
        Ok(SessionRequest::CommandInfo { names: names() })
    } else if is_word(subcommand, "DOCS") {
        Ok(SessionRequest::CommandDocs { names: names() })
    } else {
        Err(unknown_subcommand(spec, subcommand))
    }
}

fn parse_slowlog<'a>(spec: &CommandSpec, words: Args<'a>) -> Result<SessionRequest<'a>, CommandError<'a>> {
    /// Entries that GET gives when it is not told.
    const COUNT: usize = 10;
    let subcommand = words.get(1).unwrap_or_default();
    let alone = |name: &'static str, request| match words.len() {
        2 => Ok(request),
        _ => Err(subcommand_arity(spec, name)),
    };
    if is_word(subcommand, "LEN") {
        return alone("len", SessionRequest::SlowlogLen);
    }
    if is_word(subcommand, "RESET") {
        return alone("reset", SessionRequest::SlowlogReset);
    }
    if !is_word(subcommand, "GET") {
        return Err(unknown_subcommand(spec, subcommand));
    }
    let count = match words.get(2) {
        None => Some(COUNT),
        Some(_) if words.len() > 3 => return Err(subcommand_arity(spec, "get")),
        Some(word) => match parse_integer(word) {
            Some(-1) => None,
            Some(count) => match usize::try_from(count) {
                Ok(count) => Some(count),
                Err(_) => {
                    return Err(CommandError::Text("ERR count should be greater than or equal to -1"));
                }
            },
            None => return Err(CommandError::NOT_AN_INTEGER),
        },
    };
    Ok(SessionRequest::SlowlogGet { count })
}

fn parse_config<'a>(spec: &CommandSpec, words: Args<'a>) -> Result<SessionRequest<'a>, CommandError<'a>> {
    let subcommand = words.get(1).unwrap_or_default();
    if is_word(subcommand, "GET") {
        match words.len() {
            0..=2 => Err(subcommand_arity(spec, "get")),
            _ => Ok(SessionRequest::ConfigGet { patterns: words.from(2).iter().collect() }),
        }
    } else if is_word(subcommand, "RESETSTAT") {
        match words.len() {
            2 => Ok(SessionRequest::ConfigResetStat),
            _ => Err(subcommand_arity(spec, "resetstat")),
        }
    } else if is_word(subcommand, "SET") {
        Err(CommandError::Text("ERR CONFIG SET is not supported: settings are fixed when the server starts"))
    } else {
        Err(unknown_subcommand(spec, subcommand))
    }
}
