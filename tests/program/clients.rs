//! Clients that others wrote: `redis-cli`, `redis-benchmark`, and `redis` for Python, in RESP2 and RESP3.
//!
//! A tool that is missing fails its test: `scripts/test.sh` installs them all.

use crate::support::Daemon;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Runs a tool with `input` on its stdin.
pub(crate) fn run_tool(command: &mut Command, input: &str) -> Output {
    let tool = command.get_program().to_string_lossy().into_owned();
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("{tool} is not installed: run scripts/test.sh, which installs what the tests need")
        }
        spawned => spawned.unwrap(),
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What `redis-cli` prints for commands, one a line, as it shows them to a person.
fn redis_cli(daemon: &Daemon, flags: &[&str], commands: &str) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-h", daemon.host(), "-p", daemon.port(), "--no-raw"]).args(flags);
    let output = run_tool(&mut command, commands);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a script of `> command` lines and the replies that must follow them.
fn script(daemon: &Daemon, flags: &[&str], script: &str) {
    let lines = script.lines().map(str::trim_start).filter(|line| !line.is_empty());
    for (command, expected) in steps(lines) {
        let said = redis_cli(daemon, flags, &format!("{command}\n"));
        let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(said, expected, "redis-cli {flags:?} {command}\nthe daemon's log:\n{}", daemon.log());
    }
}

fn steps<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut steps: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in lines {
        match line.strip_prefix("> ") {
            Some(command) => steps.push((command, Vec::new())),
            None => steps.last_mut().unwrap().1.push(line.trim()),
        }
    }
    steps
}

/// Strings, keys, connection: the same in both protocols.
const KEY_SCRIPT: &str = r#"
    > PING
    PONG
    > PING "hello there"
    "hello there"
    > ECHO ""
    ""
    > SET greeting "a\r\nb\x00c"
    OK
    > GET greeting
    "a\r\nb\x00c"
    > STRLEN greeting
    (integer) 6
    > SET greeting other NX
    (nil)
    > SET greeting other XX GET
    "a\r\nb\x00c"
    > SET nothing x XX
    (nil)
    > MSET a 1 b 2 a 3
    OK
    > MGET a absent b
    1) "3"
    2) (nil)
    3) "2"
    > EXISTS a a b absent
    (integer) 3
    > TYPE a
    string
    > TYPE absent
    none
    > DBSIZE
    (integer) 3
    > DEL a absent
    (integer) 1
    > UNLINK b
    (integer) 1
    > SELECT 0
    OK
    > SELECT 1
    (error) ERR DB index is out of range
    > GET
    (error) ERR wrong number of arguments for 'get' command
    > MSET a
    (error) ERR wrong number of arguments for 'mset' command
    > NOPE one "two words"
    (error) ERR unknown command 'NOPE', with args beginning with: 'one' 'two words'
    > CLIENT NOPE
    (error) ERR unknown subcommand 'NOPE'. Try CLIENT HELP.
    > SET a b c
    (error) ERR syntax error
    > SET a b EX 0
    (error) ERR invalid expire time in 'set' command
    > SCAN 0 COUNT 0
    (error) ERR syntax error
    > SCAN what
    (error) ERR invalid cursor
    > EXEC
    (error) ERR EXEC without MULTI
    > DISCARD
    (error) ERR DISCARD without MULTI
    > HELLO 4
    (error) NOPROTO unsupported protocol version
    > AUTH geheim
    (error) ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?
    > FLUSHALL
    OK
    > DBSIZE
    (integer) 0
"#;

/// Series, where both protocols print the same.
const SERIES_SCRIPT: &str = r#"
    > TS.CREATE s DUPLICATE_POLICY LAST
    OK
    > TS.CREATE s
    (error) ERR TSDB: key already exists
    > TYPE s
    TSDB-TYPE
    > TS.ADD s 1000 1.5
    (integer) 1000
    > TS.ADD s 1000 2.5
    (integer) 1000
    > TS.ADD s -1 1
    (error) ERR TSDB: invalid timestamp, must be a nonnegative integer
    > TS.ADD s 1 what
    (error) ERR TSDB: invalid value
    > TS.ADD s what 1
    (error) ERR TSDB: invalid timestamp
    > TS.ADD s 1
    (error) ERR wrong number of arguments for 'ts.add' command
    > TS.MADD s 2000 3 s 3000 4 absent 1 1
    1) (integer) 2000
    2) (integer) 3000
    3) (error) ERR TSDB: the key is not a TSDB key
    > TS.GET absent
    (error) ERR TSDB: the key does not exist
    > GET s
    (error) WRONGTYPE Operation against a key holding the wrong kind of value
    > SET text x
    OK
    > TS.ADD text 1 1
    (error) ERR TSDB: the key is not a TSDB key
    > TS.RANGE text - +
    (error) WRONGTYPE Operation against a key holding the wrong kind of value
    > TS.RANGE s - + COUNT
    (error) ERR TSDB: COUNT argument is missing
    > TS.RANGE s - + AGGREGATION median 10
    (error) ERR TSDB: Unknown aggregation type
    > TS.RANGE s - + AGGREGATION avg 0
    (error) ERR TSDB: bucketDuration must be greater than zero
    > TS.DEL s 2000 2999
    (integer) 1
    > TS.RANGE s 5000 4000
    (empty array)
    > TS.DEL absent 0 1
    (error) ERR TSDB: the key does not exist
    > TS.CREATE r RETENTION 1000
    OK
    > TS.MADD r 1000 1 r 2500 2 r 1499 3
    1) (integer) 1000
    2) (integer) 2500
    3) (error) ERR TSDB: Timestamp is older than retention
    > TS.DEL r 0 2000
    (integer) 0
    > TS.ALTER r RETENTION 0
    OK
    > TS.ADD r 1499 3
    (integer) 1499
    > TS.DEL r - +
    (integer) 2
    > TS.CREATE l LABELS a b
    (error) ERR TSDB: LABELS are not supported yet
"#;

#[test]
fn redis_cli_shows_what_redis_would() {
    // Whoever knows Redis must not have to learn tskv: replies and errors are Redis' own.
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&directory.path().join("store"), &["--cores", "2", "--split-at", "c"]);
    for flags in [&["-2"][..], &["-3"]] {
        script(&daemon, flags, KEY_SCRIPT);
        script(&daemon, flags, SERIES_SCRIPT);
        // Numbers differ by protocol: text in RESP2, doubles in RESP3.
        let sample = |time: u32, value: &str| match flags {
            ["-2"] => format!("1) (integer) {time}\n2) {value}"),
            _ => format!("1) (integer) {time}\n2) (double) {value}"),
        };
        script(&daemon, flags, &format!("> TS.GET s\n{}", sample(3000, "4")));
        let (first, last) = (sample(1000, "2.5"), sample(3000, "4"));
        script(&daemon, flags, &format!("> TS.RANGE s - +\n1) {first}\n2) {last}"));
        script(&daemon, flags, &format!("> TS.REVRANGE s - + COUNT 1\n1) {last}"));
        let sum = sample(0, "6.5");
        script(&daemon, flags, &format!("> TS.RANGE s - + AGGREGATION sum 10000\n1) {sum}"));
        script(&daemon, flags, "> FLUSHDB\nOK");
    }
}

#[test]
fn transactions_run_in_order_on_one_connection() {
    // Clients batch with MULTI by default; a reply out of its place answers the wrong question.
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&directory.path().join("store"), &["--cores", "2", "--split-at", "m"]);
    let said = redis_cli(&daemon, &[], "MULTI\nSET a 1\nSET z 2\nMGET a z\nNOPE\nEXEC\nGET a\n");
    let refused = "(error) ERR unknown command 'NOPE', with args beginning with:";
    let aborted = "(error) EXECABORT Transaction discarded because of previous errors.";
    let lines = |said: &str| -> Vec<String> {
        said.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    };
    assert_eq!(lines(&said), ["OK", "QUEUED", "QUEUED", "QUEUED", refused, aborted, "(nil)"]);
    let said = redis_cli(&daemon, &[], "MULTI\nSET a 1\nSET z 2\nMGET a z\nMULTI\nEXEC\n");
    let nested = "(error) ERR MULTI calls can not be nested";
    let found = lines(&said);
    assert_eq!(found[..5], ["OK", "QUEUED", "QUEUED", "QUEUED", nested], "{found:?}");
    assert_eq!(found[5..], ["1) OK", "2) OK", "3) 1) \"1\"", "2) \"2\""], "{found:?}");
    let said = redis_cli(&daemon, &[], "MULTI\nSET a 9\nDISCARD\nGET a\n");
    assert_eq!(lines(&said), ["OK", "QUEUED", "OK", "\"1\""]);
}

#[test]
fn scan_finds_every_key_among_deleted_ones() {
    // A page that is empty because its keys were deleted must not end the walk.
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&directory.path().join("store"), &["--cores", "2", "--split-at", "k0500"]);
    let fill: String = (0..1000).map(|key| format!("SET k{key:04} x\n")).collect();
    redis_cli(&daemon, &[], &fill);
    redis_cli(&daemon, &[], "FLUSHALL\nMSET k0499 a k0777 b k0999 c\n");
    let mut command = Command::new("redis-cli");
    command.args(["-h", daemon.host(), "-p", daemon.port(), "--scan", "--pattern", "k*"]);
    let found = String::from_utf8(run_tool(&mut command, "").stdout).unwrap();
    assert_eq!(found.lines().collect::<Vec<_>>(), ["k0499", "k0777", "k0999"]);
    assert_eq!(redis_cli(&daemon, &[], "DBSIZE\n").trim(), "(integer) 3");
}

#[test]
fn redis_benchmark_runs_without_an_error() {
    // It is the first thing that people point at a server like this.
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&directory.path().join("store"), &["--cores", "2"]);
    for pipeline in ["1", "16"] {
        let mut command = Command::new("redis-benchmark");
        command.args(["-h", daemon.host(), "-p", daemon.port(), "-q", "-n", "2000", "-c", "8", "-r", "500"]);
        command.args(["-P", pipeline, "-t", "ping,set,get,mset"]);
        let output = run_tool(&mut command, "");
        let said = String::from_utf8_lossy(&output.stdout).replace('\r', "\n");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "-P {pipeline}: {said}{errors}");
        assert!(!said.contains("Error") && !said.contains("ERR"), "-P {pipeline}: {said}");
        for test in ["PING_INLINE", "PING_MBULK", "SET", "GET", "MSET (10 keys)"] {
            let result =
                said.lines().any(|line| line.starts_with(test) && line.contains("requests per second"));
            assert!(result, "-P {pipeline}: no result of {test}: {said}");
        }
    }
}

/// The Python of the environment that `scripts/test.sh` makes.
fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin/python");
    assert!(python.exists(), "{} is absent: run scripts/test.sh, which makes it", python.display());
    python
}

#[test]
fn python_client_works_in_both_protocols() {
    // The client of most who will ever talk to tskv: pipelines, transactions, and `client.ts()`.
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&directory.path().join("store"), &["--cores", "2", "--split-at", "m"]);
    for protocol in ["2", "3"] {
        let mut command = Command::new(python());
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/python_client.py"));
        command.args([daemon.host(), daemon.port(), protocol]);
        let output = run_tool(&mut command, "");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "protocol {protocol}: {errors}\nthe daemon's log:\n{}",
            daemon.log()
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\n");
    }
}
