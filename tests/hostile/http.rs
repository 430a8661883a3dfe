//! The admin port: what is not a small GET is refused by number, and neither slow nor many nor huge requests shut a
//! scraper out.

use crate::support::Daemon;
use crate::{BACKENDS, MIB, Target};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// A head that is not complete after this long is given up; a little more for a machine that is busy.
const HEAD_SECONDS_MAX: u64 = 5 + 3;

fn connect(daemon: &Daemon) -> TcpStream {
    let socket = TcpStream::connect(daemon.field("admin")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

/// Sends bytes, as far as they are taken, and reads to the end.
fn exchange(daemon: &Daemon, bytes: &[u8]) -> String {
    let mut socket = connect(daemon);
    let mut sender = socket.try_clone().unwrap();
    thread::scope(|scope| {
        // A refusal may come before the last byte is taken, and the rest is then for nobody.
        scope.spawn(move || sender.write_all(bytes).and_then(|()| sender.shutdown(Shutdown::Write)));
        let mut received = Vec::new();
        // What came before a reset counts.
        let _ = socket.read_to_end(&mut received);
        String::from_utf8_lossy(&received).into_owned()
    })
}

fn head(lines: &[&str]) -> Vec<u8> {
    let mut bytes = lines.join("\r\n").into_bytes();
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes
}

/// Name, bytes, and how the answer begins; empty where none comes.
fn inputs() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let (ok, bad, missing) = ("HTTP/1.1 200 ", "HTTP/1.1 400 ", "HTTP/1.1 404 ");
    let (method, large) = ("HTTP/1.1 405 ", "HTTP/1.1 431 ");
    let many: Vec<_> = (0..10_000).map(|number| format!("X-{number}: 1")).collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    many.insert(0, "GET /metrics HTTP/1.1");
    let long = "x".repeat(1 << 20);
    vec![
        ("nothing", Vec::new(), ""),
        ("no end of line", b"GET /metrics HTTP/1.1".to_vec(), ""),
        ("bare LF", b"GET /healthz HTTP/1.1\n\n".to_vec(), ok),
        ("request line of 1 MiB", head(&[&format!("GET /{long} HTTP/1.1")]), large),
        ("10,000 headers", head(&many), large),
        ("header of 1 MiB", head(&["GET /metrics HTTP/1.1", &format!("X: {long}")]), large),
        ("65 headers", head(&[&["GET / HTTP/1.1"][..], &["A: b"; 65]].concat()), large),
        ("body on GET", head(&["GET /healthz HTTP/1.1", "Content-Length: 5", "", "hello"]), ok),
        ("negative length", head(&["GET /healthz HTTP/1.1", "Content-Length: -1"]), ok),
        ("two lengths", head(&["GET /healthz HTTP/1.1", "Content-Length: 1", "Content-Length: 2"]), ok),
        (
            "chunked and length",
            head(&[
                "GET /healthz HTTP/1.1",
                "Transfer-Encoding: chunked",
                "Content-Length: 3",
                "",
                "ffffffffffffffff",
            ]),
            ok,
        ),
        ("folded header", head(&["GET /healthz HTTP/1.1", "A: b", " c"]), bad),
        ("NUL", b"GET /he\0althz HTTP/1.1\r\n\r\n".to_vec(), bad),
        ("absolute", head(&["GET http://evil/metrics HTTP/1.1"]), bad),
        ("asterisk", head(&["GET * HTTP/1.1"]), bad),
        ("two slashes", head(&["GET //metrics HTTP/1.1"]), missing),
        ("dots", head(&["GET /../metrics HTTP/1.1"]), missing),
        ("escaped dots", head(&["GET /%2e%2e/metrics HTTP/1.1"]), missing),
        ("a file", head(&["GET /etc/passwd HTTP/1.1"]), missing),
        ("query", head(&["GET /healthz?verbose=1 HTTP/1.1"]), ok),
        ("HTTP/9.9", head(&["GET /metrics HTTP/9.9"]), "HTTP/1.1 505 "),
        ("HTTP/0.9", b"GET /metrics\r\n\r\n".to_vec(), bad),
        ("HEAD", head(&["HEAD /metrics HTTP/1.1"]), ok),
        ("POST", head(&["POST /metrics HTTP/1.1"]), method),
        ("unknown method", head(&["BREW /metrics HTTP/1.1"]), method),
        ("a thousand at once", head(&["GET /healthz HTTP/1.1", ""]).repeat(1000), ok),
        ("junk in Accept-Encoding", head(&["GET /metrics HTTP/1.1", "Accept-Encoding: ;;q=,,gz ip"]), ok),
        ("another host", head(&["GET /healthz HTTP/1.1", "Host: evil.example"]), ok),
        ("RESP", b"*1\r\n$4\r\nPING\r\n".to_vec(), bad),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), bad),
    ]
}

#[test]
fn bad_http_is_refused_by_number() {
    // The port that tells how the daemon is must not be the one that takes it down.
    for backend in BACKENDS {
        let target = Target::start(backend, &["--cores", "1"]);
        for (name, bytes, start) in inputs() {
            let answer = exchange(&target.daemon, &bytes);
            let brief: String = answer.chars().take(120).collect();
            let fits = if start.is_empty() { answer.is_empty() } else { answer.starts_with(start) };
            assert!(fits, "{backend}, {name}: '{}'", brief.escape_debug());
            assert_eq!(
                answer.matches("HTTP/1.1 ").count(),
                usize::from(!start.is_empty()),
                "{backend}, {name}"
            );
            if name == "HEAD" {
                assert!(answer.ends_with("\r\n\r\n"), "{backend}: a body after HEAD");
            }
        }
        target.finish(16 * MIB);
    }
}

#[test]
fn names_of_series_cannot_break_out_of_the_metrics() {
    // A key with a line end would forge metrics for whoever scrapes them.
    let target = Target::start("epoll", &["--cores", "1"]);
    let mut client = target.connect();
    let name = b"evil\"} 1\ntskv_forged 1\n\\";
    client.call(&[b"SET", name, b"v"]).unwrap();
    client.call(&[b"TS.ADD", b"evil\ntskv_forged 2\n", b"1", b"1"]).unwrap();
    let page = exchange(&target.daemon, &head(&["GET /metrics HTTP/1.1"]));
    assert!(page.contains("\ntskv_connections_open ") && !page.contains("\ntskv_forged"), "{page}");
    target.finish(16 * MIB);
}

#[test]
fn slow_and_idle_requests_end_and_keep_nobody_out() {
    // Ten thousand connections that say nothing would otherwise hold the port until the end of days.
    let target = Target::start("epoll", &["--cores", "1"]);
    let idle: Vec<_> = (0..200).map(|_| connect(&target.daemon)).collect();
    let mut slow = connect(&target.daemon);
    let begun = Instant::now();
    let asked = Instant::now();
    assert!(exchange(&target.daemon, &head(&["GET /healthz HTTP/1.1"])).starts_with("HTTP/1.1 200 "));
    assert!(asked.elapsed() < Duration::from_secs(1), "beside idle ones: {:?}", asked.elapsed());
    // One byte a quarter of a second.
    let given_up = b"GET /healthz HTTP/1.1\r\nX: ".iter().cycle().find(|byte| {
        thread::sleep(Duration::from_millis(250));
        slow.write_all(&[**byte]).is_err() || begun.elapsed() > Duration::from_secs(HEAD_SECONDS_MAX)
    });
    assert!(given_up.is_some() && begun.elapsed() < Duration::from_secs(HEAD_SECONDS_MAX), "it goes on");
    for mut socket in idle {
        let mut byte = [0];
        assert!(matches!(socket.read(&mut byte), Ok(0) | Err(_)), "an idle connection is open");
    }
    target.finish(16 * MIB);
}
