//! The real daemon under bad conditions: too little memory, crowds of bad clients, a lossy network, pauses, clocks that
//! jump, a second daemon on the same data.
//!
//! Latencies are compared with a baseline of the same run, so the tests run one after the other. `TSKV_ROBUST_SECONDS`
//! is how long each load lasts.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic like the test itself")]
#![expect(clippy::disallowed_methods, reason = "real threads and real time: the daemon is a real process")]

mod crowd;
mod memory;
mod network;
mod pauses;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use support::{Reply, Resp, put_command, tskv};

const MIB: u64 = 1 << 20;
const BACKENDS: [&str; 2] = ["io_uring", "epoll"];

/// One test at a time: they measure, and load the machine.
static TURN: Mutex<()> = Mutex::new(());

fn my_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// How long a load lasts.
fn load_time(default_seconds: u64) -> Duration {
    Duration::from_secs(number_from("TSKV_ROBUST_SECONDS", default_seconds))
}

/// Reports, past the capture of output, what this machine cannot do.
fn skipped(means: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED[{means}]: {why}");
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn flags(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

/// A version 1 control group, removed when dropped.
struct ControlGroup(PathBuf);

impl ControlGroup {
    /// Makes one, where the machine lets us.
    fn new(controller: &str, name: &str) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup").join(controller);
        let path = root.join(format!("tskv-{name}-{}", std::process::id()));
        let made = is_root() && root.join("cgroup.procs").exists() && fs::create_dir(&path).is_ok();
        made.then_some(Self(path))
    }
    fn write(&self, file: &str, text: &str) -> std::io::Result<()> {
        fs::write(self.0.join(file), text)
    }
    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_default()
    }
    /// The daemon's command, run inside.
    fn serve(&self) -> Command {
        let mut command = Command::new("sh");
        let script = r#"echo $$ > "$1/cgroup.procs" && shift && exec "$@""#;
        command.env_clear().args(["-c", script, "sh"]).arg(&self.0).arg(tskv().get_program()).arg("serve");
        command
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // The members have ended or are about to.
        let until = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Writes samples of one series one by one and remembers which were acknowledged.
struct Writer {
    series: String,
    sent: i64,
    acknowledged: i64,
}

impl Writer {
    fn new(number: usize) -> Self {
        Self { series: format!("writer:{number}"), sent: 0, acknowledged: 0 }
    }
    /// Until it is told to stop, or the daemon is gone. Samples have the times 1, 2, 3 and so on.
    fn run(&mut self, address: &str, stop: &AtomicBool) {
        let Ok(mut client) = Resp::connect(address) else { return };
        while !stop.load(Ordering::Relaxed) {
            let first = self.sent + 1;
            let mut pipeline = Vec::new();
            for time in first..first + 8 {
                let time = time.to_string();
                put_command(
                    &mut pipeline,
                    &[b"TS.ADD", self.series.as_bytes(), time.as_bytes(), time.as_bytes()],
                );
            }
            self.sent += 8;
            if client.send(&pipeline).is_err() {
                return;
            }
            for time in first..first + 8 {
                match client.reply() {
                    Ok(Reply::Integer(stored)) if stored == time => self.acknowledged = time,
                    Ok(Reply::Error(_)) => return,
                    Ok(other) => panic!("{}: {other:?}", self.series),
                    Err(_) => return,
                }
            }
        }
    }
    /// Every acknowledged sample is there, in one piece, and nothing that was never sent.
    fn verify(&self, client: &mut Resp) {
        let Reply::Array(samples) = client.ask(&format!("TS.RANGE {} - +", self.series)) else {
            assert_eq!(self.acknowledged, 0, "{} is gone", self.series);
            return;
        };
        let last = i64::try_from(samples.len()).unwrap();
        assert!(last >= self.acknowledged, "{}: {last} of {} acknowledged", self.series, self.acknowledged);
        assert!(last <= self.sent, "{}: {last} of {} sent", self.series, self.sent);
        for (sample, expected) in samples.iter().zip(1..) {
            let Reply::Array(parts) = sample else { panic!("{sample:?}") };
            assert_eq!(parts[0], Reply::Integer(expected), "{} has a hole", self.series);
        }
    }
}

/// Good clients that ask one thing at a time and note how long each answer took.
struct GoodClients {
    slowest: Duration,
    p99: Duration,
    count: usize,
}

impl GoodClients {
    /// Four of them for a while, each with keys of its own.
    fn measure(address: &str, time: Duration) -> Self {
        let until = Instant::now() + time;
        let mut all: Vec<Duration> = std::thread::scope(|scope| {
            let clients: Vec<_> =
                (0..4).map(|client| scope.spawn(move || one_client(address, client, until))).collect();
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        });
        all.sort_unstable();
        assert!(all.len() > 40, "good clients got {} answers", all.len());
        Self { slowest: all[all.len() - 1], p99: all[all.len() * 99 / 100], count: all.len() }
    }
}

fn one_client(address: &str, number: usize, until: Instant) -> Vec<Duration> {
    let mut client = Resp::connect(address).unwrap();
    let mut taken = Vec::new();
    for round in 0u64.. {
        if Instant::now() >= until {
            break;
        }
        let (key, value) = (format!("{}good:{number}", ['a', 'z'][number % 2]), round.to_string());
        let begun = Instant::now();
        assert_eq!(client.call(&[b"SET", key.as_bytes(), value.as_bytes()]).unwrap(), Reply::ok());
        taken.push(begun.elapsed());
        let begun = Instant::now();
        let found = client.call(&[b"GET", key.as_bytes()]).unwrap();
        taken.push(begun.elapsed());
        assert_eq!(found, Reply::Bulk(Some(value.into_bytes())));
    }
    taken
}
