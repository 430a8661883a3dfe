//! What the tests on the real program share: the daemon as a child, its tools, a bare RESP client, seeded numbers, and
//! clients that load a store and judge what a crash left of it (`fleet`, `writer`, `model`).
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod fleet;
pub(crate) mod model;
pub(crate) mod writer;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// A daemon that does not serve within this time never will.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// A reply that takes longer never comes.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// A daemon with its defaults.
pub(crate) const NO_FLAGS: [&str; 0] = [];

/// The program, with an environment of its own.
pub(crate) fn tskv() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tskv"));
    command.env_clear().env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    // The bug that `scripts/teeth.sh` plants; a normal build does not look at it.
    command.envs(std::env::var_os("TSKV_TEETH").map(|bug| ("TSKV_TEETH", bug)));
    command
}

/// Reports a test, or a part of one, that this machine has no means for. `scripts/test.sh` looks for the line and knows
/// how to ask for the means; the test harness would swallow what `eprintln!` prints.
pub(crate) fn skipped(means: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED[{means}]: {why}");
}

/// A daemon on ports that the kernel chose; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    ready_line: String,
}

impl Daemon {
    /// Starts a daemon on `data` and does not wait for it.
    pub(crate) fn launch(data: &Path, flags: &[impl AsRef<OsStr>]) -> Self {
        let mut command = tskv();
        command.arg("serve");
        Self::launch_as(command, data, flags)
    }
    /// Starts `command`, which must end in `tskv serve`, and does not wait for it.
    pub(crate) fn launch_as(command: Command, data: &Path, flags: &[impl AsRef<OsStr>]) -> Self {
        Self::launch_logging(command, data, data.with_extension("log"), flags)
    }
    /// The same, with its log in a place of its own.
    pub(crate) fn launch_logging(
        mut command: Command,
        data: &Path,
        log: PathBuf,
        flags: &[impl AsRef<OsStr>],
    ) -> Self {
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        command.args(["--listen", "127.0.0.1:0"]);
        if !flags.iter().any(|flag| flag.as_ref() == "--admin") {
            command.args(["--admin", "127.0.0.1:0"]);
        }
        let command = command.arg("--data").arg(data).args(flags);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        Self { child, log, ready_line: String::new() }
    }
    /// Starts a daemon and waits until it serves.
    pub(crate) fn start(data: &Path, flags: &[impl AsRef<OsStr>]) -> Self {
        Self::launch(data, flags).serving()
    }
    /// The same with a command of its own that takes the program's arguments.
    pub(crate) fn start_as(mut command: Command, data: &Path, flags: &[impl AsRef<OsStr>]) -> Self {
        command.arg("serve");
        Self::launch_as(command, data, flags).serving()
    }
    /// Waits until it serves.
    pub(crate) fn serving(mut self) -> Self {
        let stdout = self.child.stdout.take().unwrap();
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(line);
        });
        self.ready_line = receiver.recv_timeout(READY_TIMEOUT).unwrap_or_default();
        assert!(self.ready_line.starts_with("tskv ready "), "no ready line; the log:\n{}", self.log());
        self
    }
    /// Waits until it serves or has ended; in that case its exit status and what it said.
    pub(crate) fn serving_or_ended(mut self) -> Result<Self, (Option<i32>, String)> {
        let stdout = self.child.stdout.take().unwrap();
        let mut line = String::new();
        // A daemon that ends closes its stdout.
        let _ = BufReader::new(stdout).read_line(&mut line);
        if line.starts_with("tskv ready ") {
            self.ready_line = line;
            return Ok(self);
        }
        let (status, log) = self.wait();
        Err((status.code(), log))
    }
    /// A field of the ready line.
    pub(crate) fn field(&self, name: &str) -> &str {
        let mut fields = self.ready_line.split_whitespace().filter_map(|field| field.split_once('='));
        fields.find(|(found, _)| *found == name).map_or("", |(_, value)| value)
    }
    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        self.field("listen").to_owned()
    }
    /// Where clients connect: the host.
    pub(crate) fn host(&self) -> &str {
        self.field("listen").rsplit_once(':').map_or("", |(host, _)| host)
    }
    /// Where clients connect: the port.
    pub(crate) fn port(&self) -> &str {
        self.field("listen").rsplit_once(':').map_or("", |(_, port)| port)
    }
    /// What it and its predecessors on the same data wrote to stderr.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
    /// Whether the process still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
    /// Runs a tool against the daemon.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        tskv().args(arguments).env("TSKV_ADDR", self.field("listen")).output().unwrap()
    }
    /// Runs a tool that must succeed; what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}\nthe daemon's log:\n{}", self.log());
        output.stdout
    }
    /// Asks the admin port; the whole reply.
    pub(crate) fn http(&self, method: &str, path: &str) -> String {
        let mut socket = TcpStream::connect(self.field("admin")).unwrap();
        write!(socket, "{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut reply = String::new();
        socket.read_to_string(&mut reply).unwrap();
        reply
    }
    /// Sends one RESP command, then QUIT; all that was answered, as it came.
    pub(crate) fn resp(&self, words: &[&[u8]]) -> String {
        let mut client = Resp::connect(self.field("listen")).unwrap();
        let mut bytes = Vec::new();
        put_command(&mut bytes, words);
        put_command(&mut bytes, &[b"QUIT"]);
        client.send(&bytes).unwrap();
        String::from_utf8_lossy(&client.rest()).into_owned()
    }
    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
    /// Waits for it to end by itself; `None` when it does not in time.
    pub(crate) fn wait_at_most(mut self, time: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }
    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
    /// SIGKILL, where more is to be asked of it.
    pub(crate) fn kill_now(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
    /// Waits for the end.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        (status, self.log())
    }
    /// SIGTERM, and waits for the end, which must be a clean one.
    pub(crate) fn terminate(self) {
        self.signal("TERM");
        let (status, log) = self.wait();
        assert!(status.success(), "an unclean end; the log:\n{log}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A RESP2 reply.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Array(Vec<Reply>),
}

/// In the text of an IOERR that refuses a write before anything is done of it.
pub(crate) const NO_SEGMENT: &str = "the disk takes no new log segment";

/// Whether a daemon may have refused writes for want of room, by its log: not all clients may have heard of it.
pub(crate) fn may_have_refused(log: &str) -> bool {
    log.contains("no new log segment for now") || log.contains("is not flushed yet")
}

impl Reply {
    /// `+OK`
    pub(crate) fn ok() -> Self {
        Self::Simple("OK".to_owned())
    }
    /// Whether it says, of a part at least, that the disk fails, or that the daemon ends for that reason.
    pub(crate) fn blames_disk(&self) -> bool {
        match self {
            Self::Error(text) => text.starts_with("IOERR") || text.contains("is shutting down"),
            Self::Array(items) => items.iter().any(Self::blames_disk),
            Self::Simple(_) | Self::Integer(_) | Self::Bulk(_) => false,
        }
    }
    /// Whether it, or a part of it, was refused for want of disk space, or of a disk that gives any: nothing was done.
    pub(crate) fn lacks_space(&self) -> bool {
        match self {
            Self::Error(text) => text.starts_with("NOSPACE") || text.contains(NO_SEGMENT),
            Self::Array(items) => items.iter().any(Self::lacks_space),
            Self::Simple(_) | Self::Integer(_) | Self::Bulk(_) => false,
        }
    }
    /// The text of an error; empty for anything else.
    pub(crate) fn error(&self) -> &str {
        if let Self::Error(text) = self { text } else { "" }
    }
}

/// A RESP client that sends whatever it is given.
pub(crate) struct Resp {
    pub(crate) stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Resp {
    /// Connects.
    pub(crate) fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        let reader = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, reader })
    }
    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }
    /// Sends a command and waits for its reply.
    pub(crate) fn call(&mut self, words: &[&[u8]]) -> io::Result<Reply> {
        let mut bytes = Vec::new();
        put_command(&mut bytes, words);
        self.send(&bytes)?;
        self.reply()
    }
    /// Sends a command of text words and waits for its reply.
    pub(crate) fn ask(&mut self, command: &str) -> Reply {
        let words: Vec<_> = command.split_whitespace().map(str::as_bytes).collect();
        self.call(&words).unwrap_or_else(|error| panic!("{command}: {error}"))
    }
    /// Waits for one reply.
    pub(crate) fn reply(&mut self) -> io::Result<Reply> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::InvalidData)?;
        let number = || rest.parse::<i64>().map_err(|_| io::Error::other(format!("no number: {line}")));
        Ok(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(number()?),
            "$" => match usize::try_from(number()?) {
                Err(_) => Reply::Bulk(None),
                Ok(count) => {
                    let mut bytes = vec![0; count + 2];
                    self.reader.read_exact(&mut bytes)?;
                    bytes.truncate(count);
                    Reply::Bulk(Some(bytes))
                }
            },
            "*" => {
                let items = (0..number()?).map(|_| self.reply());
                Reply::Array(items.collect::<io::Result<_>>()?)
            }
            _ => return Err(io::Error::other(format!("no reply: {line}"))),
        })
    }
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(text) => Ok(String::from_utf8_lossy(text).into_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    /// Reads until the other side closes, orderly or not.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.reader.read_to_end(&mut bytes);
        bytes
    }
}

/// Appends a command in its multibulk form.
pub(crate) fn put_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// Numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    /// True once in `bound` times.
    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
    /// An index below `bound`.
    pub(crate) fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap()
    }
}

/// A count that the environment may change.
pub(crate) fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
