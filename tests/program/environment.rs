//! What the machine may do to a daemon: no io_uring, no space, no right to write, few descriptors, signals, nothing to do.

use crate::support::{Daemon, NO_FLAGS, skipped, tskv};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs `body` on a thread where io_uring is forbidden, as in a container; children inherit it.
fn without_io_uring<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let rules = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let program: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).unwrap().try_into().unwrap();
    std::thread::scope(|scope| {
        let confined = scope.spawn(|| {
            seccompiler::apply_filter(&program).unwrap();
            body()
        });
        confined.join().unwrap()
    })
}

/// Runs a daemon that must refuse to start; what it said.
fn refuses(mut command: Command) -> String {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            let said = child.wait_with_output().unwrap();
            panic!("{command:?} serves: {}", String::from_utf8_lossy(&said.stderr));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(matches!(status.code(), Some(1 | 2)) && stdout.is_empty(), "{command:?}: {status}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// `tskv serve` on `data`.
fn serve(data: &Path, flags: &[&str]) -> Command {
    let mut command = tskv();
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--data"]).arg(data).args(flags);
    command
}

/// A shell that prepares a private view of the file system, where `$1` is an empty directory, and then runs the rest
/// of its arguments. None where mounting is not allowed.
fn in_private_mounts(script: &str, directory: &Path) -> Option<Command> {
    let allowed = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        skipped("mount", "no right to mount: small and read-only file systems were not tried");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-euc", &format!("{script}\nshift; exec \"$@\""), "sh"]);
    command.arg(directory).arg(env!("CARGO_BIN_EXE_tskv"));
    Some(command)
}

#[test]
fn where_io_uring_is_forbidden_auto_serves_with_epoll_and_says_why() {
    // In most containers io_uring is off: tskv must work there, and nobody should wonder why it is slower.
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store");
    // What forbids it here is what must be named.
    let culprit = if forbidden() { "io_uring_disabled" } else { "seccomp" };
    without_io_uring(|| {
        let daemon = Daemon::start(&data, &["--backend", "auto"]);
        assert_eq!(daemon.field("backend"), "epoll");
        daemon.ok(&["put", "a", "1", "2.5"]);
        assert_eq!(daemon.ok(&["get", "a"]), b"2.5\n");
        let reason = "io_uring is not available: ";
        let log = daemon.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains(reason)).collect();
        assert!(lines.len() == 1 && lines[0].contains(culprit), "{log}");
        let stats = String::from_utf8(daemon.ok(&["stats", "--fields"])).unwrap();
        let field = |name: &str| stats.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        assert_eq!(field("io_backend=").as_deref(), Some("epoll"));
        let told = field("io_backend_reason=").unwrap_or_default();
        assert!(told.contains(reason) && told.contains(culprit), "{stats}");
        assert!(
            daemon
                .http("GET", "/metrics")
                .contains(&format!("tskv_io_backend{{backend=\"epoll\",reason=\"{reason}"))
        );
        let info = daemon.resp(&[b"INFO"]);
        assert!(
            info.contains("io_backend:epoll\r\n") && info.contains(&format!("io_backend_reason:{reason}"))
        );
        drop(daemon);
        let said = refuses(serve(&data, &["--backend", "io_uring"]));
        assert!(said.contains(reason) && said.contains(culprit), "{said}");
    });
    // The same store under the backend that it was not written with.
    if forbidden() {
        skipped("io_uring", "the kernel forbids io_uring: the way back from epoll was not tried");
        return;
    }
    let daemon = Daemon::start(&data, &["--backend", "io_uring"]);
    assert_eq!(daemon.field("backend"), "io_uring");
    assert_eq!(daemon.ok(&["get", "a"]), b"2.5\n");
}

/// Whether the kernel's switch is off.
fn forbidden() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|text| text.trim() != "0")
}

#[test]
fn full_disk_at_start_is_a_clear_message() {
    // A daemon that dies without a word on a full disk costs its operator the night.
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store");
    for size in ["64k", "600k"] {
        let script = format!("mount -t tmpfs -o size={size} none \"$1\"");
        let Some(mut command) = in_private_mounts(&script, directory.path()) else { return };
        command.args(serve(&data, &[]).get_args());
        let said = refuses(command);
        let names_it = said.contains("no storage space") || said.contains("No space left");
        assert!(names_it && said.contains(data.to_str().unwrap()), "{size}: {said}");
    }
}

#[test]
fn read_only_directory_is_a_clear_message() {
    // After an error ext4 is mounted read-only: the daemon must say so, and where.
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store");
    let script = "mount -t tmpfs -o size=8m none \"$1\"; mkdir \"$1/store\"; mount -o remount,ro \"$1\"";
    for path in [&data, &directory.path().join("absent")] {
        let Some(mut command) = in_private_mounts(script, directory.path()) else { return };
        command.args(serve(path, &[]).get_args());
        let said = refuses(command);
        assert!(said.contains("Read-only file system") && said.contains(path.to_str().unwrap()), "{said}");
    }
}

#[test]
fn few_descriptors_serve_few_clients() {
    // With `ulimit -n 64` a daemon must either say what it needs or live within it.
    let directory = tempfile::tempdir().unwrap();
    let script = format!("ulimit -n 64; exec {} \"$@\"", env!("CARGO_BIN_EXE_tskv"));
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]);
    let daemon = Daemon::start_as(command, &directory.path().join("store"), &["--cores", "2"]);
    assert!(daemon.log().contains("ulimit -n"), "{}", daemon.log());
    let mut connections = Vec::new();
    let mut refused = 0;
    for _ in 0..100 {
        let mut connection = std::net::TcpStream::connect(daemon.field("listen")).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let _ = connection.write_all(b"PING\r\n");
        let mut reply = [0; 64];
        let bytes = std::io::Read::read(&mut connection, &mut reply).unwrap_or(0);
        refused += usize::from(!reply[..bytes].starts_with(b"+PONG"));
        connections.push(connection);
    }
    assert!(refused > 0 && refused < 99, "{refused} of 100 were refused\n{}", daemon.log());
    drop(connections);
    // Room again: nothing leaked, and the store still takes writes.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !daemon.run(&["put", "a", "1", "1"]).status.success() {
        assert!(Instant::now() < deadline, "no way back\n{}", daemon.log());
    }
    daemon.ok(&["flush"]);
}

#[test]
fn second_signal_stops_at_once_and_loses_nothing() {
    // An operator in a hurry presses ^C twice; what was acknowledged must be there all the same.
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store");
    for signal in ["TERM", "INT"] {
        let daemon = Daemon::start(&data, &NO_FLAGS);
        daemon.ok(&["put", signal, "1", "2"]);
        let began = Instant::now();
        daemon.signal(signal);
        daemon.signal(signal);
        let (status, log) = daemon.wait();
        assert!(matches!(status.code(), Some(0 | 1)), "{signal}: {status} {log}");
        assert!(began.elapsed() < Duration::from_secs(5), "{signal}: {:?}", began.elapsed());
    }
    let daemon = Daemon::start(&data, &NO_FLAGS);
    assert_eq!(daemon.ok(&["scan", "--prefix", ""]), b"INT,1,2\nTERM,1,2\n");
}

#[test]
fn empty_store_is_ready_within_200_ms() {
    // A restart is an outage; on an empty store there is nothing to wait for.
    let directory = tempfile::tempdir().unwrap();
    let mut best = Duration::MAX;
    for attempt in 0..10 {
        let data = directory.path().join("store");
        let began = Instant::now();
        let daemon = Daemon::start(&data, &["--cores", "2"]);
        best = best.min(began.elapsed());
        // A new store the first time; then one that was killed.
        daemon.kill();
        if attempt > 0 && best < Duration::from_millis(200) {
            return;
        }
    }
    panic!("the best of ten starts took {best:?}");
}

#[test]
fn idle_daemon_uses_no_cpu() {
    // A daemon that spins while nobody talks to it drains batteries and other people's cores.
    let directory = tempfile::tempdir().unwrap();
    for backend in ["auto", "epoll"] {
        let daemon = Daemon::start(&directory.path().join(backend), &["--cores", "2", "--backend", backend]);
        daemon.ok(&["put", "a", "1", "1"]);
        let ticks = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
            let (_, fields) = stat.rsplit_once(") ").unwrap();
            let times = fields.split(' ').skip(11).take(2);
            times.map(|field| field.parse::<u64>().unwrap()).sum::<u64>()
        };
        // Segments are prepared and metrics settle; then three seconds of nothing, in hundredths of a second.
        let mut quietest = u64::MAX;
        for _ in 0..5 {
            let before = ticks();
            std::thread::sleep(Duration::from_secs(2));
            quietest = quietest.min(ticks() - before);
            if quietest <= 1 {
                break;
            }
        }
        assert!(quietest <= 1, "{backend}: {quietest} hundredths of a second of CPU in two seconds");
    }
}
