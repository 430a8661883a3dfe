//! Who is let in: passwords, protected mode, and what an outsider sees.

use crate::support::{Daemon, NO_FLAGS, skipped};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn password_file(directory: &Path) -> PathBuf {
    let path = directory.join("password");
    std::fs::write(&path, "geheim\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Sends lines and reads until the daemon closes.
fn talk(address: SocketAddr, lines: &str) -> String {
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // A daemon that refuses may have closed already.
    let _ = socket.write_all(lines.as_bytes());
    let mut said = Vec::new();
    let _ = socket.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

/// An address of this machine that is not loopback: the one that a packet to the outside would carry.
fn outside_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Connecting a datagram socket sends nothing; the address is one for documentation.
    socket.connect("198.51.100.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[test]
fn password_is_asked_for_before_anything_else() {
    // A password that guards only some commands guards nothing.
    let directory = tempfile::tempdir().unwrap();
    let secret = password_file(directory.path());
    let secret = secret.to_str().unwrap();
    let daemon = Daemon::start(&directory.path().join("store"), &["--password-file", secret]);
    let address = daemon.field("listen").parse().unwrap();
    let needed = "-NOAUTH Authentication required.\r\n";
    assert_eq!(
        talk(address, "GET a\r\nTS.RANGE a - +\r\nINFO\r\nQUIT\r\n"),
        format!("{}+OK\r\n", needed.repeat(3))
    );
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    assert_eq!(talk(address, "AUTH falsch\r\nGET a\r\nQUIT\r\n"), format!("{wrong}{needed}+OK\r\n"));
    assert_eq!(talk(address, "AUTH other geheim\r\nQUIT\r\n"), format!("{wrong}+OK\r\n"));
    assert_eq!(
        talk(address, "AUTH geheim\r\nSET a 1\r\nGET a\r\nQUIT\r\n"),
        "+OK\r\n+OK\r\n$1\r\n1\r\n+OK\r\n"
    );
    assert_eq!(talk(address, "AUTH default geheim\r\nGET a\r\nQUIT\r\n"), "+OK\r\n$1\r\n1\r\n+OK\r\n");
    assert!(
        talk(address, "HELLO 3 AUTH default geheim\r\nGET a\r\nQUIT\r\n").ends_with("$1\r\n1\r\n+OK\r\n")
    );
    // The native protocol asks for it too.
    assert!(!daemon.run(&["get", "a"]).status.success());
    assert!(!daemon.run(&["stats"]).status.success());
    daemon.ok(&["put", "b", "1", "2", "--password-file", secret]);
    assert_eq!(daemon.ok(&["get", "b", "--password-file", secret]), b"2\n");
    // Counters of the cores are published now and then.
    let deadline = Instant::now() + Duration::from_secs(5);
    while daemon.http("GET", "/metrics").contains("tskv_auth_failures_total 0\n") {
        assert!(Instant::now() < deadline, "wrong passwords are not counted");
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = daemon.log() + &daemon.http("GET", "/metrics");
    assert!(!told.contains("geheim") && !told.contains("falsch"), "a password is told: {told}");
}

#[test]
fn without_a_password_only_this_machine_is_served() {
    // A database that was opened to the network by one flag gave its data to whoever found it.
    let directory = tempfile::tempdir().unwrap();
    let open = ["--listen", "0.0.0.0:0"];
    let daemon = Daemon::start(&directory.path().join("store"), &open);
    assert!(daemon.log().contains("no --password-file is set"), "{}", daemon.log());
    let port = daemon.field("listen").rsplit_once(':').unwrap().1.parse().unwrap();
    let local = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(talk(local, "SET a 1\r\nQUIT\r\n"), "+OK\r\n+OK\r\n");
    let Some(outside) = outside_address() else {
        return skipped("address", "this machine has no address but loopback: protected mode was not tried");
    };
    let said = talk((outside, port).into(), "GET a\r\nQUIT\r\n");
    assert!(said.starts_with("-DENIED ") && said.contains("--password-file"), "{said}");
    assert!(!said.contains("$1"), "{said}");
    drop(daemon);
    let secret = password_file(directory.path());
    let flags = [&open[..], &["--password-file", secret.to_str().unwrap()]].concat();
    let daemon = Daemon::start(&directory.path().join("store"), &flags);
    let port = daemon.field("listen").rsplit_once(':').unwrap().1.parse().unwrap();
    let said = talk((outside, port).into(), "GET a\r\nAUTH geheim\r\nGET a\r\nQUIT\r\n");
    assert_eq!(said, "-NOAUTH Authentication required.\r\n+OK\r\n$1\r\n1\r\n+OK\r\n");
}

#[test]
fn data_is_readable_by_its_owner_alone() {
    // Other users of the machine must not read around the password.
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store");
    let daemon = Daemon::start(&data, &NO_FLAGS);
    daemon.ok(&["put", "a", "1", "1"]);
    daemon.ok(&["flush"]);
    let mut folders = vec![data];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{}", folder.display());
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{}", entry.path().display());
            files += 1;
        }
    }
    assert!(files >= 4, "{files} files");
}
