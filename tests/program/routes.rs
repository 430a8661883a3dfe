//! The shortest way to a key: ROUTES, the cores' own ports, answers that say they came by another core, and how
//! connections are spread.

use crate::support::{Daemon, Reply, Resp};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tskv::client::{Client, ClientOptions, RoutedClient};
use tskv::model::{DeleteScope, KeyRange, OwnedValue, ScanAnswer, ScanRequest, Slot, StoredEntry, Value};

const BACKENDS: [&str; 2] = ["io_uring", "epoll"];

fn start(directory: &TempDir, backend: &str, more: &[&str]) -> Daemon {
    let flags = ["--cores", "3", "--split-at", "h,p", "--rebalance", "off", "--backend", backend];
    Daemon::start(&directory.path().join(backend), &[&flags[..], more].concat())
}

fn client(address: &str) -> Client {
    Client::connect(address, &ClientOptions::default()).unwrap()
}

fn everything() -> ScanRequest {
    ScanRequest {
        keys: KeyRange::all(),
        from: i64::MIN,
        to: i64::MAX,
        all_slots: false,
        reverse: false,
        limit: u64::MAX,
        answer: ScanAnswer::Entries,
    }
}

/// The number behind a name in STATS.
fn stat(client: &mut Client, name: &str) -> u64 {
    let pairs = client.stats().unwrap();
    let found = pairs.iter().find(|(found, _)| found == name);
    found.unwrap_or_else(|| panic!("no {name} in {pairs:?}")).1.parse().unwrap()
}

#[test]
fn routes_name_every_range_and_its_port() {
    // A client that believes wrong routes pays a detour for every request, or finds nobody.
    for backend in BACKENDS {
        let directory = tempfile::tempdir().unwrap();
        let daemon = start(&directory, backend, &["--core-port-base", "auto"]);
        let routes = client(&daemon.address()).routes().unwrap();
        let keys: Vec<&[u8]> = routes.iter().map(|(key, _)| key.as_slice()).collect();
        assert_eq!(keys, [&b""[..], b"h", b"p"]);
        for (number, (_, port)) in routes.iter().enumerate() {
            let mut owner = client(&format!("127.0.0.1:{port}"));
            for (letter, core) in [(b"a", 0), (b"k", 1), (b"z", 2)] {
                let before = owner.forwarded();
                owner.put(letter, Slot::Time(1), Value::I64(7)).unwrap();
                assert_eq!(owner.get_at(letter, 1).unwrap(), Some(OwnedValue::I64(7)));
                assert_eq!(owner.forwarded() - before, if core == number { 0 } else { 2 }, "{letter:?}");
            }
            // RESP is spoken there as well.
            let mut resp = Resp::connect(&format!("127.0.0.1:{port}")).unwrap();
            assert_eq!(resp.ask("PING"), Reply::Simple("PONG".to_owned()));
        }
    }
}

#[test]
fn without_ports_of_their_own_the_routes_say_so() {
    // Port 0 is what a client must not connect to.
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(&directory, "epoll", &[]);
    let routes = client(&daemon.address()).routes().unwrap();
    assert!(routes.len() == 3 && routes.iter().all(|(_, port)| *port == 0), "{routes:?}");
    let mut routed = RoutedClient::connect(&daemon.address(), &ClientOptions::default(), None).unwrap();
    for key in [b"a", b"k", b"z"] {
        routed.put(key, Slot::Time(1), Value::F64(0.5)).unwrap();
        assert_eq!(routed.get_newest(key).unwrap(), Some((1, OwnedValue::F64(0.5))));
    }
    assert_eq!(routed.refreshes(), 0, "there is nothing better to learn");
}

#[test]
fn a_fixed_base_gives_each_core_its_port() {
    // Operators open these in a firewall by number.
    let directory = tempfile::tempdir().unwrap();
    // Three ports in a row that are free now.
    let base = (20_000..60_000).step_by(97).find(|base: &u16| {
        (*base..base + 3).all(|port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok())
    });
    let base = base.unwrap();
    let daemon = start(&directory, "io_uring", &["--core-port-base", &base.to_string()]);
    let routes = client(&daemon.address()).routes().unwrap();
    assert_eq!(routes.iter().map(|(_, port)| *port).collect::<Vec<_>>(), [base, base + 1, base + 2]);
    let second = directory.path().join("second");
    let refused = Daemon::launch(&second, &["--cores", "1", "--core-port-base", &base.to_string()]);
    let (status, log) = refused.wait();
    assert!(!status.success() && log.contains(&format!("127.0.0.1:{base} is taken")), "{log}");
}

#[test]
fn a_routed_client_follows_the_boundaries() {
    // Stale routes are answered right, cost one detour, and are learnt anew.
    for backend in BACKENDS {
        let directory = tempfile::tempdir().unwrap();
        let daemon = start(&directory, backend, &["--core-port-base", "auto"]);
        let mut routed = RoutedClient::connect(&daemon.address(), &ClientOptions::default(), None).unwrap();
        let mut admin = client(&daemon.address());
        let keys: Vec<Vec<u8>> = (b'a'..=b'z').map(|letter| vec![letter]).collect();
        for (round, boundary) in [b"h", b"c", b"o", b"f"].into_iter().enumerate() {
            if round > 0 {
                admin.move_boundary(0, boundary).unwrap();
            }
            let time = i64::try_from(round).unwrap();
            let (refreshes, forwarded) = (routed.refreshes(), routed.forwarded());
            for key in &keys {
                routed.put(key, Slot::Time(time), Value::I64(time)).unwrap();
            }
            for key in &keys {
                assert_eq!(routed.get_newest(key).unwrap(), Some((time, OwnedValue::I64(time))));
            }
            let (refreshes, forwarded) = (routed.refreshes() - refreshes, routed.forwarded() - forwarded);
            // A core may learn of a move a moment after the one that was asked.
            assert!(round == 0 || (1..=3).contains(&forwarded), "round {round}: {forwarded} detours");
            assert_eq!((refreshes, round == 0), (forwarded, forwarded == 0), "round {round}");
        }
        let entries = keys.iter().map(|key| StoredEntry {
            series: key,
            slot: Slot::Time(100),
            value: Value::Bytes(b"batch"),
        });
        let forwarded = routed.forwarded();
        routed.put_batch(&entries.collect::<Vec<_>>()).unwrap();
        assert_eq!(routed.forwarded(), forwarded, "each part goes to its owner");
        routed.delete_slot(b"b", Slot::Time(100)).unwrap();
        routed.delete(DeleteScope::Series { series: b"y" }).unwrap();
        routed.delete(DeleteScope::Prefix { prefix: b"z" }).unwrap();
        let mut scan = routed.scan(everything()).unwrap();
        let mut samples = 0;
        while let Some(entries) = scan.next_chunk().unwrap() {
            samples += entries.len();
        }
        drop(scan);
        // Four rounds and the batch, but for what was deleted.
        assert_eq!(samples, 24 * 5 - 1);
        let refreshes = routed.refreshes();
        assert_eq!(routed.get_at(b"b", 100).unwrap(), None);
        assert_eq!(routed.refreshes(), refreshes, "a scan over several owners tells nothing of the routes");
        assert!(stat(&mut admin, "forwarded") > 0);
    }
}

#[test]
fn a_routed_client_needs_its_password_on_every_port() {
    // A way past the password would be the worst of shortcuts.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "secret").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let flags = ["--core-port-base", "auto", "--password-file", file.to_str().unwrap()];
    let daemon = start(&directory, "io_uring", &flags);
    let options = ClientOptions::default();
    assert!(RoutedClient::connect(&daemon.address(), &options, None).is_err());
    assert!(RoutedClient::connect(&daemon.address(), &options, Some(("default", b"wrong"))).is_err());
    let mut routed =
        RoutedClient::connect(&daemon.address(), &options, Some(("default", b"secret"))).unwrap();
    routed.put(b"z", Slot::Time(1), Value::I64(1)).unwrap();
    assert_eq!(routed.forwarded(), 0);
    let mut admin = client(&daemon.address());
    admin.auth("default", b"secret").unwrap();
    for (_, port) in admin.routes().unwrap() {
        let refused = client(&format!("127.0.0.1:{port}")).get_at(b"z", 1);
        assert!(refused.is_err(), "port {port} lets a stranger read");
    }
}

#[test]
fn a_routed_client_needs_no_connection_but_the_first() {
    // A full server, or a firewall before the cores' ports: routes are a shortcut, not a condition.
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(&directory, "epoll", &["--core-port-base", "auto", "--max-clients", "2"]);
    let mut admin = client(&daemon.address());
    let mut routed = RoutedClient::connect(&daemon.address(), &ClientOptions::default(), None).unwrap();
    for (round, boundary) in [b"h", b"c", b"e"].into_iter().enumerate() {
        if round > 0 {
            admin.move_boundary(0, boundary).unwrap();
        }
        for key in [b"a", b"f", b"k", b"z"] {
            routed.put(key, Slot::Time(1), Value::I64(2)).unwrap();
            assert_eq!(routed.get_at(key, 1).unwrap(), Some(OwnedValue::I64(2)));
        }
        let mut scan = routed.scan(ScanRequest { reverse: true, ..everything() }).unwrap();
        assert!(scan.next_chunk().unwrap().is_some());
    }
}

#[test]
fn connections_spread_evenly_over_the_cores() {
    // The kernel's hash leaves a pool of a dozen connections anywhere, and one core does the work of three.
    for backend in BACKENDS {
        let directory = tempfile::tempdir().unwrap();
        let daemon = start(&directory, backend, &[]);
        let mut clients: Vec<Resp> = (0..30).map(|_| Resp::connect(&daemon.address()).unwrap()).collect();
        let mut on_core = [0; 3];
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.ask(&format!("SET {number} {number}")), Reply::ok());
            assert_eq!(
                client.ask(&format!("GET {number}")),
                Reply::Bulk(Some(number.to_string().into_bytes()))
            );
        }
        // Cores leave their counters four times a second.
        let deadline = Instant::now() + Duration::from_secs(5);
        while on_core.iter().sum::<usize>() != clients.len() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
            let metrics = daemon.http("GET", "/metrics");
            for line in metrics.lines().filter(|line| line.starts_with("tskv_core_connections{")) {
                let core: usize = line.split('"').nth(1).unwrap().parse().unwrap();
                on_core[core] = line.rsplit(' ').next().unwrap().parse().unwrap();
            }
        }
        assert_eq!(on_core, [10; 3], "{backend}");
        // Those that leave make room where they were.
        clients.truncate(3);
        let more: Vec<TcpStream> = (0..27).map(|_| TcpStream::connect(daemon.address()).unwrap()).collect();
        assert_eq!(more.len(), 27);
        assert_eq!(clients[0].ask("PING"), Reply::Simple("PONG".to_owned()));
    }
}
