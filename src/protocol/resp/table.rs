//! The commands that tskv knows: name, arity, flags, positions of keys. One table serves the parser and COMMAND.

use super::parse::Args;

/// Which parser handles a command, and the group that COMMAND DOCS reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Answered by the connection.
    Connection,
    /// Answered from the server's state.
    Server,
    /// MULTI and its kin.
    Transactions,
    /// GET, SET and their kin.
    Strings,
    /// Commands on keys of any kind.
    Generic,
    /// TS.*
    Series,
}

impl Group {
    /// Name as COMMAND DOCS has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Server => "server",
            Self::Transactions => "transactions",
            Self::Strings => "string",
            Self::Generic => "generic",
            Self::Series => "timeseries",
        }
    }
}

/// One command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandSpec {
    /// Lower case.
    pub name: &'static str,
    /// Words with the name; at least so many when negative.
    pub arity: i8,
    /// Flags as COMMAND INFO reports them.
    pub flags: &'static [&'static str],
    /// Word of the first key, of the last one (negative: from the end), and how far apart; all 0 without keys.
    pub keys: (i8, i8, i8),
    /// Family.
    pub group: Group,
    /// One line for COMMAND DOCS.
    pub summary: &'static str,
}

impl CommandSpec {
    /// Whether a request of so many words, the name included, may be this command.
    #[must_use]
    pub fn takes(&self, words: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { words >= arity } else { words == arity }
    }
    /// Whether it changes data.
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.flags.contains(&"write")
    }
}

/// All commands, those asked for most often first: look-up goes from the front.
#[must_use]
pub fn specs() -> &'static [CommandSpec] {
    &SPECS
}

/// The command of this name, in any case of letters.
#[must_use]
pub fn find_command(name: &[u8]) -> Option<&'static CommandSpec> {
    SPECS.iter().find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
}

/// How many words each key of a command on several keys takes: 1 for MGET, 2 for MSET.
pub(super) fn words_per_key(name: &[u8]) -> usize {
    find_command(name).map_or(1, |spec| usize::try_from(spec.keys.2).unwrap_or(1).max(1))
}

/// How many keys a command names, if it takes as many as there are, these are more than `few`, and none lacks a word.
#[must_use]
pub fn keys_beyond(words: Args<'_>, few: usize) -> Option<usize> {
    if words.len() <= few {
        return None;
    }
    let spec = find_command(words.get(0)?).filter(|spec| spec.keys.1 == -1)?;
    let step = usize::try_from(spec.keys.2).ok().filter(|step| *step > 0)?;
    let key_words = words.len() - 1;
    (key_words.is_multiple_of(step) && key_words / step > few).then_some(key_words / step)
}

/// Whether a client may send this before it has authenticated.
#[must_use]
pub fn is_allowed_before_auth(name: &[u8]) -> bool {
    find_command(name).is_some_and(|spec| spec.flags.contains(&"no_auth"))
}

const NO_KEYS: (i8, i8, i8) = (0, 0, 0);
const ONE_KEY: (i8, i8, i8) = (1, 1, 1);
const ALL_KEYS: (i8, i8, i8) = (1, -1, 1);
const READ: &[&str] = &["readonly", "fast"];
const READ_SLOW: &[&str] = &["readonly"];
const WRITE: &[&str] = &["write", "denyoom", "fast"];
const WRITE_SLOW: &[&str] = &["write", "denyoom"];
const DELETE: &[&str] = &["write"];
const SESSION: &[&str] = &["noscript", "loading", "stale", "fast"];
const SESSION_NO_AUTH: &[&str] = &["noscript", "loading", "stale", "fast", "no_auth"];
const FAST: &[&str] = &["fast"];
const ADMIN: &[&str] = &["loading", "stale"];

const fn spec(
    name: &'static str,
    arity: i8,
    flags: &'static [&'static str],
    keys: (i8, i8, i8),
    group: Group,
    summary: &'static str,
) -> CommandSpec {
    CommandSpec { name, arity, flags, keys, group, summary }
}

static SPECS: [CommandSpec; 46] = {
    use Group::{Connection, Generic, Series, Server, Strings, Transactions};
    [
        spec("get", 2, READ, ONE_KEY, Strings, "Returns the string at a key."),
        spec("set", -3, WRITE, ONE_KEY, Strings, "Sets a key to a string, whatever it held."),
        spec("ts.add", -4, WRITE, ONE_KEY, Series, "Appends a sample to a series, creating it."),
        spec("ts.madd", -4, WRITE, (1, -1, 3), Series, "Appends samples to one or more series."),
        spec("ts.get", -2, READ, ONE_KEY, Series, "Returns the newest sample of a series."),
        spec("ts.range", -4, READ_SLOW, ONE_KEY, Series, "Returns samples of a time range, oldest first."),
        spec("ts.revrange", -4, READ_SLOW, ONE_KEY, Series, "Returns samples of a time range, newest first."),
        spec("mget", -2, READ, ALL_KEYS, Strings, "Returns the strings at several keys."),
        spec("mset", -3, WRITE_SLOW, (1, -1, 2), Strings, "Sets several keys to strings."),
        spec("del", -2, DELETE, ALL_KEYS, Generic, "Deletes keys."),
        spec("exists", -2, READ, ALL_KEYS, Generic, "Counts which of the keys exist."),
        spec("ping", -1, FAST, NO_KEYS, Connection, "Answers PONG, or the message."),
        spec("unlink", -2, DELETE, ALL_KEYS, Generic, "Deletes keys, as DEL."),
        spec("type", 2, READ, ONE_KEY, Generic, "Tells what a key holds."),
        spec("strlen", 2, READ, ONE_KEY, Strings, "Returns the length of the string at a key."),
        spec("ts.create", -2, WRITE, ONE_KEY, Series, "Creates an empty series."),
        spec("ts.alter", -2, WRITE, ONE_KEY, Series, "Changes properties of a series."),
        spec("ts.del", 4, DELETE, ONE_KEY, Series, "Deletes the samples of a time range."),
        spec("ts.info", -2, READ, ONE_KEY, Series, "Describes a series."),
        spec("multi", 1, SESSION, NO_KEYS, Transactions, "Starts queueing commands."),
        spec("exec", 1, SESSION, NO_KEYS, Transactions, "Runs the queued commands in order."),
        spec("discard", 1, SESSION, NO_KEYS, Transactions, "Forgets the queued commands."),
        spec("echo", 2, SESSION, NO_KEYS, Connection, "Returns the message."),
        spec("auth", -2, SESSION_NO_AUTH, NO_KEYS, Connection, "Authenticates the connection."),
        spec("hello", -1, SESSION_NO_AUTH, NO_KEYS, Connection, "Chooses the protocol, and authenticates."),
        spec("client", -2, SESSION, NO_KEYS, Connection, "Commands on connections."),
        spec("client|id", 2, SESSION, NO_KEYS, Connection, "Returns the id of the connection."),
        spec("client|getname", 2, SESSION, NO_KEYS, Connection, "Returns the name of the connection."),
        spec("client|setname", 3, SESSION, NO_KEYS, Connection, "Names the connection."),
        spec("client|setinfo", 4, SESSION, NO_KEYS, Connection, "Tells the server which library is used."),
        spec("client|info", 2, SESSION, NO_KEYS, Connection, "Describes the connection."),
        spec("client|list", -2, SESSION, NO_KEYS, Connection, "Describes all connections."),
        spec("select", 2, SESSION, NO_KEYS, Connection, "Selects database 0, the only one."),
        spec("quit", -1, SESSION_NO_AUTH, NO_KEYS, Connection, "Closes the connection."),
        spec("reset", 1, SESSION_NO_AUTH, NO_KEYS, Connection, "Puts the connection back to its start."),
        spec("command", -1, ADMIN, NO_KEYS, Server, "Describes all commands."),
        spec("config", -2, ADMIN, NO_KEYS, Server, "Commands on settings."),
        spec("info", -1, ADMIN, NO_KEYS, Server, "Describes the server."),
        spec("slowlog", -2, ADMIN, NO_KEYS, Server, "Requests that took long, and where their time went."),
        spec("module", -2, ADMIN, NO_KEYS, Server, "Commands on modules."),
        spec("time", 1, SESSION, NO_KEYS, Server, "Returns the server's clock."),
        spec("dbsize", 1, READ_SLOW, NO_KEYS, Server, "Counts the keys, by walking them."),
        spec("flushall", -1, DELETE, NO_KEYS, Server, "Deletes everything."),
        spec("flushdb", -1, DELETE, NO_KEYS, Server, "Deletes everything."),
        spec("scan", -2, READ_SLOW, NO_KEYS, Generic, "Returns a page of keys."),
        spec("keys", 2, READ_SLOW, NO_KEYS, Generic, "Returns all keys that match a pattern."),
    ]
};
