//! Starts the real program: a daemon that ends with its test, and tools that run to their end.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

/// A daemon that does not serve within this time never will.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// The program, with an environment of its own.
pub(crate) fn tskv() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tskv"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// A daemon on ports that the kernel chose; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    ready_line: String,
}

impl Daemon {
    /// Starts a daemon on `data` and waits until it serves.
    pub(crate) fn start(data: &Path, flags: &[&str]) -> Self {
        Self::start_as(tskv(), data, flags)
    }
    /// The same with a command of its own that takes the program's arguments.
    pub(crate) fn start_as(mut command: Command, data: &Path, flags: &[&str]) -> Self {
        let log = data.with_extension("log");
        let mut child = command
            .stdin(Stdio::null())
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, receiver) = channel();
        std::thread::Builder::new()
            .spawn(move || {
                let mut line = String::new();
                let _ = BufReader::new(stdout).read_line(&mut line);
                let _ = sender.send(line);
            })
            .unwrap();
        let ready_line = receiver.recv_timeout(READY_TIMEOUT).unwrap_or_default();
        let daemon = Self { child, log, ready_line };
        assert!(daemon.ready_line.starts_with("tskv ready "), "no ready line; the log:\n{}", daemon.log());
        daemon
    }
    /// A field of the ready line.
    pub(crate) fn field(&self, name: &str) -> &str {
        let mut fields = self.ready_line.split_whitespace().filter_map(|field| field.split_once('='));
        fields.find(|(found, _)| *found == name).map_or("", |(_, value)| value)
    }
    /// Where clients connect: the host.
    pub(crate) fn host(&self) -> &str {
        self.field("listen").rsplit_once(':').map_or("", |(host, _)| host)
    }
    /// Where clients connect: the port.
    pub(crate) fn port(&self) -> &str {
        self.field("listen").rsplit_once(':').map_or("", |(_, port)| port)
    }
    /// What the daemon wrote to stderr so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
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
    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
    /// Asks the admin port; the whole reply.
    pub(crate) fn http(&self, method: &str, path: &str) -> String {
        let mut socket = TcpStream::connect(self.field("admin")).unwrap();
        write!(socket, "{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut reply = String::new();
        socket.read_to_string(&mut reply).unwrap();
        reply
    }
    /// Sends one RESP command, then QUIT; all that was answered.
    pub(crate) fn resp(&self, words: &[&[u8]]) -> String {
        let mut socket = TcpStream::connect(self.field("listen")).unwrap();
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        socket.write_all(&bytes).unwrap();
        socket.write_all(b"QUIT\r\n").unwrap();
        let mut reply = Vec::new();
        socket.read_to_end(&mut reply).unwrap();
        String::from_utf8_lossy(&reply).into_owned()
    }
    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
    /// Waits for the end.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        (status, self.log())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
