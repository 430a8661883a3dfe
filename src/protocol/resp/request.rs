//! What a RESP client can ask for, after parsing.

use super::command::CommandError;
use crate::model::{Command, KeyKind};

/// Which version of RESP a connection speaks; chosen by HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// The version every connection starts with.
    #[default]
    Resp2,
    /// Maps, sets, doubles and null have types of their own.
    Resp3,
}

/// One request. Words are borrowed from the receive buffer.
#[derive(Clone, Debug)]
pub enum Request<'a> {
    /// One command on one key (or, for SCAN's pages, on each shard).
    Data(Command<'a>),
    /// One command per key; the replies become one.
    Gather {
        /// How the replies become one.
        gather: Gather,
        /// In the order of the request. A part may have failed already: its error is that part's reply (TS.MADD).
        commands: Vec<Result<Command<'a>, CommandError<'a>>>,
    },
    /// FLUSHALL, FLUSHDB: deletes everything on every shard. `+OK`.
    FlushAll,
    /// DBSIZE: the sum of [`Command::KeyCount`] over the shards.
    DbSize,
    /// SCAN: a page of keys and the cursor of the next.
    Scan(ScanPage<'a>),
    /// KEYS: all keys that match the pattern ([`super::glob`]).
    Keys {
        /// The pattern.
        pattern: &'a [u8],
    },
    /// Something that needs no shard.
    Session(SessionRequest<'a>),
}

/// How the replies to several commands become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// An array with one element per command, errors included (MGET, TS.MADD).
    Array,
    /// The sum of integers; the first error instead, if there is one (DEL, UNLINK, EXISTS).
    Sum,
    /// `+OK`; the first error instead, if there is one (MSET).
    AllOk,
}

/// SCAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanPage<'a> {
    /// 0 starts.
    pub cursor: u64,
    /// MATCH.
    pub pattern: Option<&'a [u8]>,
    /// COUNT: how many keys to look at; 10 unless given.
    pub count: usize,
    /// TYPE: only keys of this kind; [`KeyKind::None`] when no key of tskv can have the type asked for.
    pub kind: Option<KeyKind>,
}

/// A request that the connection answers by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionRequest<'a> {
    /// `+PONG`, or the message as a bulk string.
    Ping { message: Option<&'a [u8]> },
    /// The message as a bulk string.
    Echo { message: &'a [u8] },
    /// HELLO.
    Hello(Hello<'a>),
    /// AUTH.
    Auth(Credentials<'a>),
    /// SELECT; only database 0 exists, others were refused by the parser.
    Select,
    /// CLIENT ID.
    ClientId,
    /// CLIENT GETNAME.
    ClientGetName,
    /// CLIENT SETNAME.
    ClientSetName { name: &'a [u8] },
    /// CLIENT SETINFO LIB-NAME and LIB-VER.
    ClientSetInfo { attribute: ClientAttribute, value: &'a [u8] },
    /// CLIENT INFO: one line of CLIENT LIST.
    ClientInfo,
    /// CLIENT LIST.
    ClientList,
    /// COMMAND: all commands.
    Command,
    /// COMMAND COUNT.
    CommandCount,
    /// COMMAND LIST: their names.
    CommandList,
    /// COMMAND INFO; all commands when no names are given.
    CommandInfo { names: Vec<&'a [u8]> },
    /// COMMAND DOCS; all commands when no names are given.
    CommandDocs { names: Vec<&'a [u8]> },
    /// CONFIG GET: a map of the settings that match one of the patterns.
    ConfigGet { patterns: Vec<&'a [u8]> },
    /// CONFIG RESETSTAT: accepted. `+OK`.
    ConfigResetStat,
    /// INFO; the default sections when none are given.
    Info { sections: Vec<&'a [u8]> },
    /// MODULE LIST.
    ModuleList,
    /// SLOWLOG GET: the newest so many slow requests; all of them for `None`.
    SlowlogGet { count: Option<usize> },
    /// SLOWLOG LEN. An integer.
    SlowlogLen,
    /// SLOWLOG RESET: forgets them. `+OK`.
    SlowlogReset,
    /// TIME: seconds and microseconds.
    Time,
    /// QUIT: `+OK`, then the connection closes.
    Quit,
    /// RESET: `+RESET`; transaction, name and protocol are forgotten, AUTH is needed again.
    Reset,
    /// MULTI.
    Multi,
    /// EXEC.
    Exec,
    /// DISCARD.
    Discard,
}

/// HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The version to go on with; `None` keeps the present one.
    pub protocol: Option<Protocol>,
    /// AUTH within HELLO.
    pub auth: Option<Credentials<'a>>,
    /// SETNAME within HELLO.
    pub name: Option<&'a [u8]>,
}

/// A name and password to be compared in constant time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// `default` when only a password was given.
    pub username: &'a [u8],
    /// The secret.
    pub password: &'a [u8],
}

/// Never shows the password: requests end up in logs and panic messages.
impl std::fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// What CLIENT SETINFO sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAttribute {
    /// LIB-NAME.
    LibraryName,
    /// LIB-VER.
    LibraryVersion,
}
