//! Requests in every cut, the table of bad inputs, and the texts of errors.

use super::*;
use crate::limits::{ARGUMENTS_MAX, QUERY_BYTES_MAX};
use crate::model::{
    Aggregator, BucketTimestamp, ChunkInfo, Command, DuplicatePolicy, KeyKind, RangeQuery, Reply, ReplyError,
    SeriesChanges, SeriesDetails, SeriesInfo, SeriesOptions, SetCondition, Value,
};
use proptest::prelude::*;

/// What a stream of bytes comes to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    requests: Vec<Vec<Vec<u8>>>,
    error: Option<RespError>,
    /// Bytes of an incomplete request at the end.
    left: usize,
}

/// Feeds `bytes` in pieces of `piece` bytes, as a connection does.
fn feed(bytes: &[u8], piece: usize, limits: &RespLimits) -> Outcome {
    let mut state = ParseState::default();
    let mut buffer: Vec<u8> = Vec::new();
    let mut outcome = Outcome { requests: Vec::new(), error: None, left: 0 };
    for received in bytes.chunks(piece) {
        buffer.extend_from_slice(received);
        loop {
            match parse(&buffer, limits, &mut state) {
                Ok(Parsed::Incomplete { needed }) => {
                    assert!(needed > buffer.len(), "must not wait for what it has");
                    break;
                }
                Ok(Parsed::Nothing { consumed }) => drop(buffer.drain(..consumed)),
                Ok(Parsed::Request { consumed }) => {
                    outcome.requests.push(state.args(&buffer).iter().map(<[u8]>::to_vec).collect());
                    buffer.drain(..consumed);
                }
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
    }
    outcome.left = buffer.len();
    outcome
}

/// The outcome, which must not depend on how the bytes are cut.
fn feed_all_ways(bytes: &[u8], limits: &RespLimits) -> Outcome {
    let whole = feed(bytes, bytes.len().max(1), limits);
    for piece in (1..bytes.len().min(40)).chain([bytes.len().div_ceil(2).max(1)]) {
        assert_eq!(feed(bytes, piece, limits), whole, "in pieces of {piece}: {}", bytes.escape_ascii());
    }
    whole
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

#[test]
fn requests_come_out_however_they_are_cut() {
    // A parser that loses its place mixes one client's key with another's value.
    let limits = RespLimits::authenticated();
    let cases: [(&[u8], &[&[&str]]); 11] = [
        (b"*1\r\n$4\r\nPING\r\n", &[&["PING"]]),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n", &[&["SET", "k", ""]]),
        (b"*2\r\n$3\r\nGET\r\n$6\r\na\r\nb\0c\r\nPING\r\n", &[&["GET", "a\r\nb\0c"], &["PING"]]),
        (b"*0\r\n*-1\r\n*-2\r\n\r\n\nPING\r\n", &[&["PING"]]),
        (b"SET key \"a \\x41\\n\\\"\" 'it\\'s \\n'\r\n", &[&["SET", "key", "a A\n\"", "it's \\n"]]),
        (b"  PING\t\x0bx  \n", &[&["PING", "x"]]),
        (b"ECHO \"\"\n", &[&["ECHO", ""]]),
        (b"ECHO \"\\xZZ\\q\"\n", &[&["ECHO", "xZZq"]]),
        (b"ECHO a\"b c\"\n", &[&["ECHO", "ab c"]]),
        (b"PING\nPING\r\nPING\n", &[&["PING"], &["PING"], &["PING"]]),
        (b"", &[]),
    ];
    for (bytes, expected) in cases {
        let requests = expected.iter().map(|request| words(request)).collect();
        assert_eq!(feed_all_ways(bytes, &limits), Outcome { requests, error: None, left: 0 });
    }
}

#[test]
fn bad_framing_gets_redis_texts() {
    // RELIABILITY §2.3 (b). Proxies and clients look for these texts; each must end the connection.
    let multibulk = RespError::MultibulkLength;
    let bulk = RespError::BulkLength;
    let cases: [(&[u8], RespError, &str); 23] = [
        (b"*1000000000\r\n", multibulk, "Protocol error: invalid multibulk length"),
        (b"*9223372036854775808\r\n", multibulk, "Protocol error: invalid multibulk length"),
        (b"*+3\r\n", multibulk, "Protocol error: invalid multibulk length"),
        (b"*03\r\n", multibulk, "Protocol error: invalid multibulk length"),
        (b"* 3\r\n", multibulk, "Protocol error: invalid multibulk length"),
        (b"*3\n$3\r\n", multibulk, "Protocol error: invalid multibulk length"),
        (b"*\r\n", multibulk, "Protocol error: invalid multibulk length"),
        (b"*3\rx", multibulk, "Protocol error: invalid multibulk length"),
        (b"*11111111111111111111111111111111111", multibulk, "Protocol error: invalid multibulk length"),
        (b"*1\r\n$-1\r\n", bulk, "Protocol error: invalid bulk length"),
        (b"*1\r\n$-2\r\n", bulk, "Protocol error: invalid bulk length"),
        (b"*1\r\n$536870913\r\n", bulk, "Protocol error: invalid bulk length"),
        (b"*1\r\n$99999999999999999999\r\n", bulk, "Protocol error: invalid bulk length"),
        (b"*1\r\n$3 \r\nabc\r\n", bulk, "Protocol error: invalid bulk length"),
        (b"*1\r\n$\r\n", bulk, "Protocol error: invalid bulk length"),
        (b"*1\r\n:3\r\n", RespError::BulkExpected { found: b':' }, "Protocol error: expected '$', got ':'"),
        (b"*1\r\n+OK\r\n", RespError::BulkExpected { found: b'+' }, "Protocol error: expected '$', got '+'"),
        (b"*1\r\n\r\n", RespError::BulkExpected { found: b'\r' }, "Protocol error: expected '$', got ' '"),
        (b"*1\r\n$3\r\nabcd\r\n", RespError::BulkEnd, "Protocol error: expected CR LF after a bulk string"),
        (b"SET k \"open\r\n", RespError::QuotesUnbalanced, "Protocol error: unbalanced quotes in request"),
        (b"SET k 'open\r\n", RespError::QuotesUnbalanced, "Protocol error: unbalanced quotes in request"),
        (b"SET k \"a\"b\r\n", RespError::QuotesUnbalanced, "Protocol error: unbalanced quotes in request"),
        (b"PI\0NG\r\n", RespError::InlineNul, "Protocol error: NUL byte in inline request"),
    ];
    for (bytes, error, text) in cases {
        let outcome = feed_all_ways(bytes, &RespLimits::authenticated());
        assert_eq!((outcome.error, outcome.requests), (Some(error), vec![]), "{}", bytes.escape_ascii());
        assert_eq!(error.to_string(), text);
        assert!(!error.is_silent());
    }
}

#[test]
fn cross_protocol_requests_are_dropped() {
    // A page in a browser can POST to this port; its body would run as commands.
    let inline = b"POST / HTTP/1.1\r\nHost: x\r\n\r\nFLUSHALL\r\n";
    for bytes in
        [&inline[..], b"host: localhost\r\n", b"*1\r\n$4\r\nPOST\r\n", b"*2\r\n$5\r\nHost:\r\n$1\r\nx\r\n"]
    {
        let outcome = feed_all_ways(bytes, &RespLimits::authenticated());
        assert_eq!((outcome.error, outcome.requests), (Some(RespError::CrossProtocol), vec![]));
    }
    assert!(RespError::CrossProtocol.is_silent());
}

#[test]
fn inline_requests_end_somewhere() {
    // 64 KiB without a line end is a peer that speaks something else, or wants our memory.
    let limits = RespLimits::authenticated();
    let long = vec![b'a'; limits.inline_bytes_max + 1];
    let whole = feed(&long, 1000, &limits);
    assert_eq!(whole.error, Some(RespError::InlineTooBig));
    let with_end = [&long[..], b"\n"].concat();
    assert_eq!(feed(&with_end, with_end.len(), &limits).error, Some(RespError::InlineTooBig));
    let fits = [&long[..limits.inline_bytes_max], b"\n"].concat();
    assert_eq!(feed(&fits, 777, &limits).requests.len(), 1);
}

#[test]
fn little_is_taken_before_auth() {
    // CVE-2021-32675: lengths declared by strangers must not hold memory.
    let limits = RespLimits::unauthenticated();
    assert_eq!(feed(b"*10\r\n", 5, &limits).error, None);
    let multibulk = feed(b"*11\r\n", 5, &limits).error.unwrap();
    assert_eq!(multibulk.to_string(), "Protocol error: unauthenticated multibulk length");
    assert_eq!(feed(b"*1\r\n$16384\r\n", 5, &limits).error, None);
    let bulk = feed(b"*1\r\n$16385\r\n", 5, &limits).error.unwrap();
    assert_eq!(bulk.to_string(), "Protocol error: unauthenticated bulk length");
    let small = RespLimits { request_bytes_max: 100, ..RespLimits::authenticated() };
    let error = feed(b"*2\r\n$50\r\n", 5, &small).error;
    assert_eq!(error, None);
    assert_eq!(feed(b"*2\r\n$99\r\n", 5, &small).error, Some(RespError::RequestTooBig { bytes_max: 100 }));
    let many = format!("*{}\r\n", ARGUMENTS_MAX + 1);
    let error = feed(many.as_bytes(), 100, &RespLimits::authenticated()).error;
    assert_eq!(error, Some(RespError::MultibulkLength));
    let huge = format!("*2\r\n$3\r\nGET\r\n${}\r\n", QUERY_BYTES_MAX - 10);
    let error = feed(huge.as_bytes(), 100, &RespLimits::authenticated()).error;
    assert_eq!(error, Some(RespError::RequestTooBig { bytes_max: QUERY_BYTES_MAX }));
}

#[test]
fn a_large_value_is_looked_at_once() {
    // 16 MiB in pieces of 16 KiB: rescanning would touch eight gigabytes and stop the core for seconds.
    let value = vec![b'\n'; 16 << 20];
    let mut bytes = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", value.len()).into_bytes();
    bytes.extend_from_slice(&value);
    bytes.extend_from_slice(b"\r\n");
    let (mut state, mut steps) = (ParseState::default(), 0);
    for end in (16 << 10..bytes.len()).step_by(16 << 10) {
        let parsed = parse(&bytes[..end], &RespLimits::authenticated(), &mut state);
        assert_eq!(parsed, Ok(Parsed::Incomplete { needed: bytes.len() }));
        // The stage is the proof: it points at the value, whose bytes are not searched.
        assert!(state.is_within_request());
        steps += 1;
    }
    assert_eq!(steps, 1024);
    assert_eq!(
        parse(&bytes, &RespLimits::authenticated(), &mut state),
        Ok(Parsed::Request { consumed: bytes.len() })
    );
    assert_eq!(state.args(&bytes).get(2), Some(&value[..]));
    assert!(!state.is_within_request());
}

#[test]
fn memory_of_a_large_request_is_given_back() {
    // A connection that once sent 100,000 arguments would hold their places for its life.
    let mut bytes = format!("*{ARGUMENTS_MAX}\r\n").into_bytes();
    bytes.extend(b"$1\r\na\r\n".repeat(ARGUMENTS_MAX));
    let mut state = ParseState::default();
    let parsed = parse(&bytes, &RespLimits::authenticated(), &mut state);
    assert_eq!(parsed, Ok(Parsed::Request { consumed: bytes.len() }));
    assert_eq!(state.args(&bytes).len(), ARGUMENTS_MAX);
    let _parsed = parse(b"PING\r\n", &RespLimits::authenticated(), &mut state);
    assert!(state.memory_bytes() < 64 << 10, "{}", state.memory_bytes());
}

const CONTEXT: CommandContext = CommandContext { now: 1234, value_bytes_max: 64 };

/// Parses words separated by blanks; `''` is an empty word.
fn with_request<T>(line: &str, check: impl FnOnce(Result<Request<'_>, CommandError<'_>>) -> T) -> T {
    let words = line.split(' ').map(|word| if word == "''" { &b""[..] } else { word.as_bytes() });
    let stored = StoredArgs::collect(words);
    check(parse_command(stored.borrow(), &CONTEXT))
}

fn error_text(line: &str) -> String {
    with_request(line, |outcome| match outcome {
        Ok(request) => panic!("{line}: {request:?}"),
        Err(error) => String::from_utf8(error.text()).unwrap(),
    })
}

fn assert_data(line: &str, expected: Command<'_>) {
    with_request(line, |outcome| match outcome {
        Ok(Request::Data(command)) => assert_eq!(command, expected, "{line}"),
        other => panic!("{line}: {other:?}"),
    });
}

fn assert_session(line: &str, expected: SessionRequest<'_>) {
    with_request(line, |outcome| match outcome {
        Ok(Request::Session(request)) => assert_eq!(request, expected, "{line}"),
        other => panic!("{line}: {other:?}"),
    });
}

#[test]
fn unknown_commands_and_arities_get_redis_texts() {
    // Client libraries recognise a missing command by this text and fall back.
    let cases = [
        ("foo", "ERR unknown command 'foo', with args beginning with: "),
        ("foo a b", "ERR unknown command 'foo', with args beginning with: 'a' 'b' "),
        ("client|id", "ERR unknown command 'client|id', with args beginning with: "),
        ("GET", "ERR wrong number of arguments for 'get' command"),
        ("gEt a b", "ERR wrong number of arguments for 'get' command"),
        ("SET k", "ERR wrong number of arguments for 'set' command"),
        ("MSET k", "ERR wrong number of arguments for 'mset' command"),
        ("MSET k v k2", "ERR wrong number of arguments for 'mset' command"),
        ("PING a b", "ERR wrong number of arguments for 'ping' command"),
        ("TS.ADD k 1", "ERR wrong number of arguments for 'ts.add' command"),
        ("TS.MADD k 1 2 k", "ERR wrong number of arguments for 'ts.madd' command"),
        ("TS.DEL k 1", "ERR wrong number of arguments for 'ts.del' command"),
        ("CLIENT", "ERR wrong number of arguments for 'client' command"),
        ("CLIENT foo", "ERR unknown subcommand 'foo'. Try CLIENT HELP."),
        ("CLIENT SETNAME", "ERR wrong number of arguments for 'client|setname' command"),
        ("CONFIG GET", "ERR wrong number of arguments for 'config|get' command"),
        ("COMMAND COUNT x", "ERR wrong number of arguments for 'command|count' command"),
        ("MODULE LOAD x", "ERR unknown subcommand 'LOAD'. Try MODULE HELP."),
    ];
    for (line, text) in cases {
        assert_eq!(error_text(line), text, "{line}");
    }
}

#[test]
fn errors_repeat_only_the_start_of_what_was_sent() {
    // RELIABILITY §2.3 (b): an unknown command of 1 MiB, and CR LF that would forge a second reply.
    let stored = StoredArgs::collect([&b"x".repeat(1 << 20)[..], &b"y".repeat(1000), b"z"]);
    let text = parse_command(stored.borrow(), &CONTEXT).unwrap_err().text();
    let expected = format!(
        "ERR unknown command '{}', with args beginning with: '{}' ",
        "x".repeat(128),
        "y".repeat(128)
    );
    assert_eq!(String::from_utf8(text).unwrap(), expected);
    let stored = StoredArgs::collect([&b"a\r\n+OK"[..], b"\r\n", b"b\0c"]);
    let text = parse_command(stored.borrow(), &CONTEXT).unwrap_err().text();
    assert_eq!(text, b"ERR unknown command 'a  +OK', with args beginning with: '  ' 'b' ");
    let mut out = Vec::new();
    encode::error(&mut out, b"ERR a\r\n+OK");
    assert_eq!(out, b"-ERR a  +OK\r\n");
}

#[test]
fn string_commands_parse() {
    // The commands that every Redis client sends.
    let set = |condition, return_old| Command::StringSet { key: b"k", value: b"v", condition, return_old };
    assert_data("SET k v", set(SetCondition::Always, false));
    assert_data("set k v nx", set(SetCondition::IfAbsent, false));
    assert_data("SET k v XX GET", set(SetCondition::IfPresent, true));
    assert_data("SET k v GET KEEPTTL", set(SetCondition::Always, true));
    assert_data("GET k", Command::StringGet { key: b"k" });
    assert_data("STRLEN k", Command::StringLength { key: b"k" });
    assert_data("DEL k", Command::KeyDelete { key: b"k" });
    assert_data("TYPE k", Command::KeyType { key: b"k" });
    let not_supported = "ERR SET with EX, PX, EXAT or PXAT is not supported: keys do not expire";
    let invalid = "ERR invalid expire time in 'set' command";
    let not_integer = "ERR value is not an integer or out of range";
    let cases = [
        ("SET k v NX XX", "ERR syntax error"),
        ("SET k v EX", "ERR syntax error"),
        ("SET k v EX 1 PX 1", "ERR syntax error"),
        ("SET k v EX 1 KEEPTTL", "ERR syntax error"),
        ("SET k v what", "ERR syntax error"),
        ("SET k v EX 0", invalid),
        ("SET k v EX -1", invalid),
        ("SET k v EX 9223372036854775807", invalid),
        ("SET k v EX NaN", not_integer),
        ("SET k v EX 9223372036854775808", not_integer),
        ("SET k v PX 10", not_supported),
        ("SET k v EXAT 10", not_supported),
        ("GET ''", "ERR key is empty; it needs 1 to 1024 bytes"),
    ];
    for (line, text) in cases {
        assert_eq!(error_text(line), text, "{line}");
    }
    let long = "v".repeat(65);
    let text = "ERR value exceeds the limit of 64 bytes (--max-value-bytes)";
    assert_eq!(error_text(&format!("SET k {long}")), text);
    assert_eq!(error_text(&format!("MSET k {long}")), text);
    assert_eq!(
        error_text(&format!("GET {}", "k".repeat(1025))),
        "ERR key has 1025 bytes; at most 1024 are allowed"
    );
}

#[test]
fn many_keys_become_one_command_each() {
    // A key lost in splitting is a key that DEL leaves behind.
    let gathered = |line: &str, expected_gather, expected: &[Command<'_>]| {
        with_request(line, |outcome| match outcome {
            Ok(Request::Gather { gather, commands }) => {
                let commands: Vec<_> = commands.into_iter().map(Result::unwrap).collect();
                assert_eq!((gather, commands.as_slice()), (expected_gather, expected));
            }
            other => panic!("{line}: {other:?}"),
        });
    };
    let any = |key| Command::StringGetAny { key };
    gathered("MGET a", Gather::Array, &[any(b"a")]);
    gathered("MGET a b a", Gather::Array, &[any(b"a"), any(b"b"), any(b"a")]);
    gathered(
        "UNLINK a b",
        Gather::Sum,
        &[Command::KeyDelete { key: b"a" }, Command::KeyDelete { key: b"b" }],
    );
    gathered(
        "EXISTS a a",
        Gather::Sum,
        &[Command::KeyExists { key: b"a" }, Command::KeyExists { key: b"a" }],
    );
    let set =
        |key, value| Command::StringSet { key, value, condition: SetCondition::Always, return_old: false };
    gathered("MSET a 1 b 2", Gather::AllOk, &[set(b"a", b"1"), set(b"b", b"2")]);
}

#[test]
fn session_commands_parse() {
    // What redis-cli and client libraries send before the first command of their user.
    let credentials = Credentials { username: b"default", password: b"pw" };
    let hello = Hello { protocol: Some(Protocol::Resp3), auth: Some(credentials), name: Some(b"me") };
    assert_session("HELLO", SessionRequest::Hello(Hello::default()));
    assert_session("HELLO 3 AUTH default pw SETNAME me", SessionRequest::Hello(hello));
    assert_session("AUTH pw", SessionRequest::Auth(credentials));
    assert_session("AUTH default pw", SessionRequest::Auth(credentials));
    assert_session("PING", SessionRequest::Ping { message: None });
    assert_session("ping hi", SessionRequest::Ping { message: Some(b"hi") });
    assert_session("SELECT 0", SessionRequest::Select);
    assert_session("CLIENT ID", SessionRequest::ClientId);
    assert_session("CLIENT SETNAME ''", SessionRequest::ClientSetName { name: b"" });
    let attribute = ClientAttribute::LibraryName;
    assert_session(
        "CLIENT SETINFO lib-name redis-py",
        SessionRequest::ClientSetInfo { attribute, value: b"redis-py" },
    );
    assert_session(
        "CONFIG GET save appendonly",
        SessionRequest::ConfigGet { patterns: vec![b"save", b"appendonly"] },
    );
    assert_session("INFO", SessionRequest::Info { sections: vec![] });
    assert_session("COMMAND DOCS get", SessionRequest::CommandDocs { names: vec![b"get"] });
    assert_session("MODULE LIST", SessionRequest::ModuleList);
    let cases = [
        ("AUTH a b c", "ERR syntax error"),
        ("AUTH", "ERR wrong number of arguments for 'auth' command"),
        ("HELLO 4", "NOPROTO unsupported protocol version"),
        ("HELLO abc", "ERR Protocol version is not an integer or out of range"),
        ("HELLO 3 AUTH x", "ERR Syntax error in HELLO option 'AUTH'"),
        ("HELLO 3 what", "ERR Syntax error in HELLO option 'what'"),
        ("SELECT 1", "ERR DB index is out of range"),
        ("SELECT 99999999999", "ERR value is out of range, value must between -2147483648 and 2147483647"),
        ("SELECT x", "ERR value is not an integer or out of range"),
        ("CLIENT SETNAME a\nb", "ERR Client names cannot contain spaces, newlines or special characters."),
        ("CLIENT SETINFO what x", "ERR Unrecognized option 'what'"),
        ("CONFIG SET save x", "ERR CONFIG SET is not supported: settings are fixed when the server starts"),
        ("FLUSHALL NOW", "ERR syntax error"),
        ("FLUSHALL ASYNC SYNC", "ERR syntax error"),
    ];
    for (line, text) in cases {
        assert_eq!(error_text(line), text, "{line}");
    }
    with_request("FLUSHDB async", |outcome| assert!(matches!(outcome, Ok(Request::FlushAll))));
    assert!(!format!("{credentials:?}").contains("pw"), "passwords stay out of logs");
    for name in [&b"AUTH"[..], b"hello", b"QUIT", b"reset"] {
        assert!(is_allowed_before_auth(name));
    }
    assert!(!is_allowed_before_auth(b"GET") && !is_allowed_before_auth(b"PING"));
}

#[test]
fn scan_parses_and_refuses_garbage() {
    // RELIABILITY §2.3 (b): SCAN cursors garbage.
    let scan = |line: &str, expected: ScanPage<'_>| {
        with_request(line, |outcome| match outcome {
            Ok(Request::Scan(page)) => assert_eq!(page, expected),
            other => panic!("{line}: {other:?}"),
        });
    };
    let page = ScanPage { cursor: 0, pattern: None, count: 10, kind: None };
    scan("SCAN 0", page);
    let full = ScanPage { cursor: 7, pattern: Some(b"a*"), count: 100, kind: Some(KeyKind::Series) };
    scan("SCAN 7 MATCH a* COUNT 100 TYPE tsdb-type", full);
    scan(
        "SCAN 18446744073709551615 TYPE hash",
        ScanPage { cursor: u64::MAX, kind: Some(KeyKind::None), ..page },
    );
    let cases = [
        ("SCAN x", "ERR invalid cursor"),
        ("SCAN -1", "ERR invalid cursor"),
        ("SCAN 18446744073709551616", "ERR invalid cursor"),
        ("SCAN 0 MATCH", "ERR syntax error"),
        ("SCAN 0 COUNT 0", "ERR syntax error"),
        ("SCAN 0 COUNT x", "ERR value is not an integer or out of range"),
        ("SCAN 0 WHAT x", "ERR syntax error"),
    ];
    for (line, text) in cases {
        assert_eq!(error_text(line), text, "{line}");
    }
    assert_eq!(error_text(&format!("KEYS {}", "*".repeat(2049))), "ERR pattern exceeds 2048 bytes");
}

#[test]
fn series_writes_parse() {
    // TS_COMMANDS §1: options in any order, old spellings, `*` as the server's clock.
    let plain = SeriesOptions::default();
    assert_data("TS.CREATE k", Command::SeriesCreate { key: b"k", options: plain.clone() });
    let options = SeriesOptions {
        retention: 300,
        chunk_bytes: 128,
        compressed: false,
        duplicate_policy: Some(DuplicatePolicy::Sum),
        ignore_time_diff: 5,
        ignore_value_diff: 0.5,
    };
    let create = "TS.CREATE k IGNORE 5 0.5 duplicate_policy SUM CHUNK_SIZE 128 ENCODING UNCOMPRESSED RETENTION 300 LABELS";
    assert_data(create, Command::SeriesCreate { key: b"k", options });
    let uncompressed = SeriesOptions { compressed: false, ..plain.clone() };
    assert_data("TS.CREATE k UNCOMPRESSED", Command::SeriesCreate { key: b"k", options: uncompressed });
    let add = |time, value, on_duplicate| Command::SeriesAdd {
        key: b"k",
        time,
        value,
        on_duplicate,
        create: Some(plain.clone()),
    };
    assert_data("TS.ADD k 5 -1.5e3", add(5, -1500.0, None));
    assert_data("TS.ADD k * 1 ON_DUPLICATE last", add(1234, 1.0, Some(DuplicatePolicy::Last)));
    assert_data(
        "TS.ADD RETENTION 5 1",
        match add(5, 1.0, None) {
            Command::SeriesAdd { time, value, on_duplicate, create, .. } => {
                Command::SeriesAdd { key: b"RETENTION", time, value, on_duplicate, create }
            }
            other => other,
        },
    );
    with_request("TS.MADD a 1 2 b x 3 '' 1 1 c * 4", |outcome| {
        let Ok(Request::Gather { gather: Gather::Array, commands }) = outcome else { panic!("{outcome:?}") };
        let add =
            |key, time, value| Command::SeriesAdd { key, time, value, on_duplicate: None, create: None };
        assert_eq!(commands.len(), 4);
        assert_eq!(commands[0].clone().unwrap(), add(b"a", 1, 2.0));
        assert_eq!(commands[1].clone().unwrap_err().text(), b"ERR TSDB: invalid timestamp");
        assert!(commands[2].is_err());
        assert_eq!(commands[3].clone().unwrap(), add(b"c", 1234, 4.0));
    });
    let changes = SeriesChanges { retention: Some(0), ..SeriesChanges::default() };
    assert_data("TS.ALTER k RETENTION 0", Command::SeriesAlter { key: b"k", changes });
    let changes = SeriesChanges { ignore: Some((1, 2.0)), chunk_bytes: Some(64), ..SeriesChanges::default() };
    assert_data("ts.alter k CHUNK_SIZE 64 IGNORE 1 2", Command::SeriesAlter { key: b"k", changes });
    assert_data("TS.DEL k - +", Command::SeriesDelete { key: b"k", from: i64::MIN, to: i64::MAX });
    assert_data("TS.GET k LATEST", Command::SeriesGet { key: b"k" });
    assert_data("TS.INFO k", Command::SeriesInfo { key: b"k", details: false });
    assert_data("ts.info k debug", Command::SeriesInfo { key: b"k", details: true });
}

#[test]
fn series_writes_refuse_with_the_originals_texts() {
    // TS_COMMANDS §1, table of errors; client test suites compare them.
    let cases = [
        ("TS.CREATE k RETENTION", "ERR TSDB: Couldn't parse RETENTION"),
        ("TS.CREATE k RETENTION x", "ERR TSDB: Couldn't parse RETENTION"),
        ("TS.CREATE k RETENTION -1", "TSDB: Couldn't parse RETENTION"),
        ("TS.ALTER k RETENTION x", "ERR TSDB: Couldn't parse RETENTION"),
        ("TS.ALTER k ENCODING COMPRESSED", "ERR TSDB: unexpected argument"),
        ("TS.ALTER k LABELS a b", "ERR TSDB: LABELS are not supported yet"),
        ("TS.CREATE k CHUNK_SIZE x", "ERR TSDB: Couldn't parse CHUNK_SIZE"),
        (
            "TS.CREATE k CHUNK_SIZE 44",
            "ERR TSDB: CHUNK_SIZE value must be a multiple of 8 in the range [48 .. 1048576]",
        ),
        (
            "TS.CREATE k CHUNK_SIZE 4294967344",
            "ERR TSDB: CHUNK_SIZE value must be a multiple of 8 in the range [48 .. 1048576]",
        ),
        ("TS.CREATE k ENCODING x", "ERR TSDB: unknown ENCODING parameter"),
        ("TS.CREATE k ENCODING", "ERR wrong number of arguments for 'ts.create' command"),
        ("TS.CREATE k DUPLICATE_POLICY", "ERR TSDB: Couldn't parse DUPLICATE_POLICY"),
        ("TS.CREATE k DUPLICATE_POLICY x", "ERR TSDB: Unknown DUPLICATE_POLICY"),
        ("TS.CREATE k IGNORE 1", "ERR TSDB: Couldn't parse IGNORE"),
        ("TS.CREATE k IGNORE -1 0", "ERR TSDB: IGNORE arguments cannot be negative"),
        ("TS.CREATE k IGNORE 1 -0.5", "ERR TSDB: IGNORE arguments cannot be negative"),
        ("TS.CREATE k LABELS a ''", "ERR TSDB: Couldn't parse LABELS"),
        ("TS.CREATE k LABELS a (b", "ERR TSDB: Couldn't parse LABELS"),
        ("TS.CREATE k LABELS a b", "ERR TSDB: LABELS are not supported yet"),
        ("TS.CREATE k ON_DUPLICATE last", "ERR TSDB: unexpected argument"),
        ("TS.ADD k 1 x", "ERR TSDB: invalid value"),
        ("TS.ADD k x x", "ERR TSDB: invalid value"),
        ("TS.ADD k x 1", "ERR TSDB: invalid timestamp"),
        ("TS.ADD k +1 1", "ERR TSDB: invalid timestamp"),
        ("TS.ADD k -1 1", "ERR TSDB: invalid timestamp, must be a nonnegative integer"),
        ("TS.ADD k 1 nan", "ERR TSDB: invalid value"),
        ("TS.ADD k 1 1 ON_DUPLICATE", "ERR TSDB: Couldn't parse DUPLICATE_POLICY"),
        ("TS.GET k what", "ERR TSDB: wrong 3rd argument"),
        ("TS.DEL k x 1", "ERR TSDB: wrong fromTimestamp"),
        ("TS.DEL k 1 x", "ERR TSDB: wrong toTimestamp"),
    ];
    for (line, text) in cases {
        assert_eq!(error_text(line), text, "{line}");
    }
}

/// The query of a TS.RANGE or TS.REVRANGE on the key `k`.
fn range_query(line: &str) -> RangeQuery {
    with_request(line, |outcome| match outcome {
        Ok(Request::Data(Command::SeriesRange { key: b"k", query })) => *query,
        other => panic!("{line}: {other:?}"),
    })
}

#[test]
fn ranges_parse() {
    // TS_COMMANDS §2: words that are both options and names, and positions counted from AGGREGATION.
    let plain = range_query("TS.RANGE k - +");
    assert_eq!((plain.from, plain.to, plain.reverse), (i64::MIN, i64::MAX, false));
    let query = range_query("TS.REVRANGE k -5 10 LATEST FILTER_BY_TS 3 1 3 FILTER_BY_VALUE -inf 2.5 COUNT 7");
    assert!(query.reverse);
    assert_eq!((query.from, query.count), (-5, Some(7)));
    assert_eq!(query.filter_times, Some(vec![1, 3]));
    assert_eq!(query.filter_values, Some((f64::NEG_INFINITY, 2.5)));
    let counted = range_query("TS.RANGE k 1 9 AGGREGATION COUNT 10 COUNT 3");
    assert_eq!(counted.count, Some(3));
    assert_eq!(counted.aggregation.unwrap().aggregators, [Aggregator::Count]);
    let clause = |line: &str| range_query(line).aggregation.unwrap();
    let full = clause("TS.RANGE k 1 9 ALIGN start AGGREGATION std.p,TWA 10 BUCKETTIMESTAMP mid EMPTY");
    assert_eq!(full.aggregators, [Aggregator::StdP, Aggregator::Twa]);
    assert_eq!(
        (full.align, full.bucket, full.bucket_timestamp, full.empty),
        (1, 10, BucketTimestamp::Mid, true)
    );
    let other_way = clause("TS.RANGE k 1 9 AGGREGATION avg 10 EMPTY BUCKETTIMESTAMP + ALIGN +");
    assert_eq!((other_way.align, other_way.bucket_timestamp), (9, BucketTimestamp::End));
    assert_eq!(clause("TS.RANGE k - 9 AGGREGATION avg 10 ALIGN -3").align, -3);
    let many = (0..200).map(|time| time.to_string()).collect::<Vec<_>>().join(" ");
    let filtered = range_query(&format!("TS.RANGE k - + FILTER_BY_TS {many} COUNT 1"));
    assert_eq!((filtered.filter_times.unwrap().len(), filtered.count), (128, Some(1)));
}

#[test]
fn ranges_refuse_with_the_originals_texts() {
    // TS_COMMANDS §2, table of errors.
    let unknown = "ERR TSDB: Unknown aggregation type";
    let empty = "ERR TSDB: EMPTY flag should be the 3rd or 5th flag after AGGREGATION flag";
    let timestamp = "ERR TSDB: BUCKETTIMESTAMP flag should be the 3rd or 4th flag after AGGREGATION flag";
    let aggregation = "ERR TSDB: Couldn't parse AGGREGATION";
    let cases = [
        ("x 1", "ERR TSDB: wrong fromTimestamp"),
        ("+ 1", "ERR TSDB: wrong fromTimestamp"),
        ("1 -", "ERR TSDB: wrong toTimestamp"),
        ("- + COUNT", "ERR TSDB: COUNT argument is missing"),
        ("- + COUNT x", "ERR TSDB: Couldn't parse COUNT"),
        ("- + COUNT 0", "ERR TSDB: Invalid COUNT value"),
        ("- + AGGREGATION", aggregation),
        ("- + AGGREGATION avg", aggregation),
        ("- + AGGREGATION avg x", aggregation),
        ("- + AGGREGATION what 10", unknown),
        ("- + AGGREGATION countnan 10", unknown),
        ("- + AGGREGATION avg,,min 10", "ERR TSDB: Empty aggregation type in list"),
        ("- + AGGREGATION avg 0", "ERR TSDB: bucketDuration must be greater than zero"),
        ("- + AGGREGATION avg -5", "ERR TSDB: bucketDuration must be greater than zero"),
        ("- + EMPTY", empty),
        ("- + AGGREGATION avg 10 COUNT 1 COUNT 2 EMPTY", empty),
        ("- + BUCKETTIMESTAMP -", timestamp),
        ("- + AGGREGATION avg 10 COUNT 1 BUCKETTIMESTAMP -", timestamp),
        ("- + AGGREGATION avg 10 BUCKETTIMESTAMP x", "ERR TSDB: unknown BUCKETTIMESTAMP parameter"),
        ("- + AGGREGATION avg 10 BUCKETTIMESTAMP", "ERR TSDB: unknown BUCKETTIMESTAMP parameter"),
        ("1 2 ALIGN x AGGREGATION avg 10", "ERR TSDB: unknown ALIGN parameter"),
        ("1 2 ALIGN start", "ERR TSDB: ALIGN parameter can only be used with AGGREGATION"),
        (
            "- 2 ALIGN start AGGREGATION avg 10",
            "ERR TSDB: start alignment can only be used with explicit start timestamp",
        ),
        (
            "1 + ALIGN end AGGREGATION avg 10",
            "ERR TSDB: end alignment can only be used with explicit end timestamp",
        ),
        ("- + FILTER_BY_VALUE 1", "ERR TSDB: FILTER_BY_VALUE one or more arguments are missing"),
        ("- + FILTER_BY_VALUE x 1", "ERR TSDB: Couldn't parse MIN"),
        ("- + FILTER_BY_VALUE 1 x", "ERR TSDB: Couldn't parse MAX"),
        ("- + FILTER_BY_TS x", "ERR TSDB: FILTER_BY_TS one or more arguments are missing"),
        ("- + what", "ERR TSDB: unexpected argument"),
    ];
    for (rest, text) in cases {
        assert_eq!(error_text(&format!("TS.RANGE k {rest}")), text, "{rest}");
    }
    let many = ["avg"; 17].join(",");
    assert_eq!(
        error_text(&format!("TS.RANGE k - + AGGREGATION {many} 1")),
        "ERR TSDB: Too many aggregation types"
    );
}

/// Lines `name protocol reply`, the reply with Rust's escapes.
const REPLIES: &str = include_str!("../../../tests/golden/resp_replies_v1.txt");

#[test]
fn replies_match_their_golden_bytes() {
    // TS_COMMANDS §0.2 and §0.3: shapes by protocol; a client library that gets another shape returns wrong data.
    let info = SeriesInfo {
        total_samples: 3,
        memory_bytes: 4096,
        first_time: -1,
        last_time: 5,
        chunk_count: 1,
        options: SeriesOptions { ignore_value_diff: 0.5, ..SeriesOptions::default() },
        details: None,
    };
    let chunk = ChunkInfo { first_time: -1, last_time: 5, samples: 2, bytes: 5 };
    let details = SeriesDetails { key: (*b"k\r\n").into(), chunks: vec![chunk, ChunkInfo::default()] };
    let detailed = SeriesInfo { details: Some(details), ..info.clone() };
    let keys: [Box<[u8]>; 2] = [(*b"a").into(), (*b"b\r\n").into()];
    let times = [1, 2];
    let replies = [
        ("ok", Reply::Ok),
        ("null", Reply::Null),
        ("integer", Reply::Integer(i64::MIN)),
        ("bytes", Reply::Bytes(b"a\r\nb")),
        ("sample", Reply::Sample { time: -5, value: Value::F64(0.5) }),
        ("sample_integer", Reply::Sample { time: 5, value: Value::I64(-3) }),
        ("no_sample", Reply::NoSample),
        ("samples", Reply::Samples { times: &times, values: &[f64::NAN, 1e300], width: 1 }),
        ("samples_two", Reply::Samples { times: &times[..1], values: &[f64::INFINITY, 2.0], width: 2 }),
        ("no_samples", Reply::Samples { times: &[], values: &[], width: 1 }),
        ("kind_none", Reply::Kind(KeyKind::None)),
        ("kind_string", Reply::Kind(KeyKind::String)),
        ("kind_series", Reply::Kind(KeyKind::Series)),
        ("keys", Reply::Keys { keys: &keys.clone().map(|key| (key, KeyKind::None)), more: true }),
        ("series_info", Reply::SeriesInfo(&info)),
        ("series_info_debug", Reply::SeriesInfo(&detailed)),
        ("wrong_type", Reply::Error(ReplyError::WrongType)),
        ("busy", Reply::Error(ReplyError::Busy)),
        ("series_rate", Reply::Error(ReplyError::SeriesRate { per_second: 50 })),
        ("no_space", Reply::Error(ReplyError::NoSpace)),
        ("poisoned", Reply::Error(ReplyError::Poisoned)),
        ("absent", Reply::Error(ReplyError::SeriesAbsent)),
        ("blocked", Reply::Error(ReplyError::DuplicateBlocked)),
        ("read", Reply::Error(ReplyError::Read { detail: "a\r\nb" })),
    ];
    let mut known = REPLIES.lines().filter(|line| !line.starts_with('#'));
    for (name, reply) in replies {
        for (version, protocol) in [(2, Protocol::Resp2), (3, Protocol::Resp3)] {
            let mut out = Vec::new();
            encode::reply(&mut out, protocol, &reply);
            let line = format!("{name} {version} {}", out.escape_ascii());
            assert_eq!(known.next(), Some(line.as_str()));
        }
    }
    assert_eq!(known.next(), None);
}

/// Counts the elements of a reply and checks its framing; returns what is left.
fn skip_value(bytes: &[u8]) -> &[u8] {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n").unwrap();
    let (line, mut rest) = (&bytes[..end], &bytes[end + 2..]);
    let count = || std::str::from_utf8(&line[1..]).unwrap().parse::<usize>().unwrap();
    match line[0] {
        b'+' | b'-' | b':' | b',' | b'_' => rest,
        b'$' if line == b"$-1" => rest,
        b'*' if line == b"*-1" => rest,
        b'$' | b'=' => {
            let (body, tail) = rest.split_at(count());
            assert!(tail.starts_with(b"\r\n"), "{}", body.escape_ascii());
            &tail[2..]
        }
        b'*' | b'~' | b'%' => {
            for _ in 0..count() * if line[0] == b'%' { 2 } else { 1 } {
                rest = skip_value(rest);
            }
            rest
        }
        other => panic!("type byte {other}"),
    }
}

#[test]
fn collections_hold_as_many_elements_as_they_announce() {
    // One element too few and the client takes the next reply for it; every later reply is off by one.
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let mut outs: Vec<Vec<u8>> = Vec::new();
        let mut add = |put: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            put(&mut out);
            outs.push(out);
        };
        add(&|out| describe::command_all(out, protocol));
        add(&|out| describe::command_list(out));
        add(&|out| describe::command_count(out));
        add(&|out| describe::command_info(out, protocol, &[b"GET", b"what", b"client|id"]));
        add(&|out| describe::command_docs(out, protocol, &[]));
        add(&|out| describe::command_docs(out, protocol, &[b"get", b"what"]));
        add(&|out| describe::module_list(out, protocol, 11_200));
        add(&|out| describe::hello(out, protocol, "7.2.0", 5, 11_200));
        add(&|out| encode::verbatim(out, protocol, "# Server\r\n"));
        add(&|out| encode::double(out, protocol, 1.5));
        add(&|out| encode::reply(out, protocol, &Reply::SeriesInfo(&SeriesInfo::default())));
        for out in outs {
            assert_eq!(skip_value(&out), b"", "{}", out.escape_ascii());
        }
    }
    let names: std::collections::BTreeSet<_> = specs().iter().map(|spec| spec.name).collect();
    assert_eq!(names.len(), specs().len(), "a name stands twice in the table");
    assert!(names.iter().all(|name| name.bytes().all(|byte| !byte.is_ascii_uppercase())));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_bytes_mean_the_same_however_they_are_cut(
        pieces in proptest::collection::vec(proptest::sample::select(vec![
            &b"*"[..], b"*1\r\n", b"*2\r\n", b"*-1\r\n", b"$", b"$1\r\n", b"$3\r\n", b"abc", b"a", b"\r\n", b"\r",
            b"\n", b"\"", b"'", b"\\", b"\\x4", b" ", b"\0", b"1", b"-", b"PING\r\n", b"post", b"\xff",
        ]), 0..14),
    ) {
        // State carried wrongly from one receive to the next shows as a difference between two cuts.
        feed_all_ways(&pieces.concat(), &RespLimits::authenticated());
        feed_all_ways(&pieces.concat(), &RespLimits { request_bytes_max: 20, ..RespLimits::unauthenticated() });
    }

    #[test]
    fn any_words_parse_or_fail_in_one_line(
        command in 0..specs().len(),
        words in proptest::collection::vec(proptest::sample::select(vec![
            &b"k"[..], b"", b"1", b"-1", b"-", b"+", b"*", b"9223372036854775807", b"1.5", b"a\r\nb", b"COUNT",
            b"AGGREGATION", b"avg", b"twa,min", b"10", b"EMPTY", b"BUCKETTIMESTAMP", b"mid", b"ALIGN", b"start",
            b"FILTER_BY_TS", b"FILTER_BY_VALUE", b"RETENTION", b"LABELS", b"IGNORE", b"ON_DUPLICATE", b"last",
            b"NX", b"EX", b"GET", b"MATCH", b"LIST", b"SETNAME", b"AUTH", b"ENCODING",
        ]), 0..10),
    ) {
        // A panic is the whole server; a line end in an error is a forged reply.
        let name = specs()[command].name.as_bytes();
        let stored = StoredArgs::collect(std::iter::once(name).chain(words));
        if let Err(error) = parse_command(stored.borrow(), &CONTEXT) {
            let text = error.text();
            prop_assert!(text.len() < 1024 && !text.iter().any(|byte| matches!(byte, b'\r' | b'\n')));
            prop_assert!(text.contains(&b' '), "a prefix and a text");
        }
    }
}
