//! The generator against its own null sink, beside a lean echo client against the same sink: how much of what the
//! machine allows the generator reaches on one core.
//!
//! The lean client sends the same bytes each time over nearly the same calls and counts the bytes that come back: it
//! parses nothing, draws nothing and records nothing. Without `--bench` (as `cargo test` runs it) both run for a
//! moment only, to show that they still work.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tskv::io::{
    AnyBackend, Backend, BackendKind, BackendOptions, Completion, Op, OpBuf, Outcome, SocketId, Token, Wait,
    open_backend, sys,
};
use tskv::load::{
    Amount, Arrival, Dialect, KeyPattern, KvKind, KvOptions, NullSink, Recency, RunConfig, RunOptions,
    Source, Target, ValueKind, WorkloadOptions, run,
};

const CLIENTS: u64 = 50;
/// A SET as the generator's: a key of 20 bytes and a value of 32.
const REQUEST: &[u8] =
    b"*3\r\n$3\r\nSET\r\n$20\r\nbench:s:000000012345\r\n$32\r\n0123456789abcdef0123456789abcdef\r\n";
const REPLY_BYTES: usize = b"+OK\r\n".len();

fn main() {
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let duration = if is_measured { Duration::from_secs(3) } else { Duration::from_millis(100) };
    let cpus = sys::available_cpus().unwrap_or_default();
    for pipeline in [64, 16, 1] {
        // In turns, so that a change of the machine's mind hits both.
        let (mut lean, mut generator) = (0.0_f64, 0.0_f64);
        for _ in 0..if is_measured { 3 } else { 1 } {
            lean = lean.max(lean_rate_alone(pipeline, duration, &cpus));
            generator = generator.max(generator_rate(pipeline, duration));
        }
        println!(
            "c{CLIENTS} P{pipeline}: generator {generator:.0}/s, lean client {lean:.0}/s, share {:.2}",
            generator / lean
        );
    }
}

fn generator_rate(pipeline: u64, duration: Duration) -> f64 {
    let kv = KvOptions {
        dialect: Dialect::Strings,
        keys: 100_000,
        pattern: KeyPattern::Random,
        write_share: 1.0,
        recency: Recency::Uniform,
        is_growing: false,
        kind: KvKind::Plain,
        values: ValueKind::Bytes { min: 32, max: 32 },
        start: 0,
        seed: 1,
    };
    let options = RunOptions {
        target: Target { address: String::new(), password: None, dialect: Dialect::Strings },
        backend: BackendKind::Auto,
        clients: CLIENTS,
        threads: 1,
        in_flight_max: pipeline,
        amount: Amount::Nanoseconds(u64::try_from(duration.as_nanos()).expect("a short time")),
        warmup_ns: 20_000_000,
        rate: None,
        arrival: Arrival::Constant,
        runs: 1,
        seed: 1,
        source: Source::Made(WorkloadOptions::Kv(kv)),
        journal: None,
        cpus: Vec::new(),
        live_interval_s: 1,
        null_sink: true,
        config: RunConfig::default(),
    };
    let result = run(options, &Arc::new(AtomicBool::new(false)), &mut |_| {}).expect("the sink answers");
    assert!(result.ops["write"].errors == 0 && result.verdict.connections_lost == 0);
    result.verdict.achieved_rate
}

/// One connection of the lean client.
struct Lean {
    socket: SocketId,
    /// Reply bytes still to come.
    left: usize,
}

/// On a thread that takes the first processor, as the generator's does; the sink takes the last. A thread of its own,
/// because threads inherit the processors of the one that starts them.
fn lean_rate_alone(pipeline: u64, duration: Duration, cpus: &[usize]) -> f64 {
    let cpus = cpus.to_vec();
    let lean = sys::spawn_thread("lean-client", move || {
        if let [first, _, ..] = cpus.as_slice() {
            sys::pin_to_cpu(*first).expect("an allowed processor");
        }
        lean_rate(pipeline, duration, &cpus)
    });
    lean.expect("a thread").join().expect("the lean client works")
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn lean_rate(pipeline: u64, duration: Duration, cpus: &[usize]) -> f64 {
    let cpu = if cpus.len() > 1 { cpus.last().copied() } else { None };
    let sink = NullSink::start(BackendKind::Auto, cpu).expect("a port is free");
    let (mut backend, _) = open_backend(BackendKind::Auto, &BackendOptions::default()).expect("a backend");
    let count = usize::try_from(pipeline).expect("a small number");
    let burst = REQUEST.repeat(count);
    let mut clients: Vec<Lean> = (0..CLIENTS).map(|_| connect(&sink)).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        send(&mut backend, index, client, burst.clone(), count);
        let receive = Op::Receive { socket: client.socket, buf: Vec::with_capacity(16 << 10) };
        backend.submit(Token(2 * index as u64), receive);
    }
    let (mut answered, mut completions, mut spare) =
        (0_usize, Vec::<Completion>::new(), Vec::<Vec<u8>>::new());
    let start = Instant::now();
    while start.elapsed() < duration {
        backend
            .poll(Wait::Until(sys::monotonic_ns() + 50_000_000), &mut completions)
            .expect("the backend works");
        for completion in completions.drain(..) {
            let index = usize::try_from(completion.token.0 / 2).expect("an index");
            let (Ok(Outcome::Transferred(bytes)), OpBuf::Bytes(mut buf)) =
                (completion.result, completion.buf)
            else {
                panic!("the sink is gone")
            };
            let client = &mut clients[index];
            if completion.token.0 % 2 == 1 {
                assert_eq!(bytes, burst.len(), "a short send");
                spare.push(buf);
                continue;
            }
            client.left -= bytes;
            if client.left == 0 {
                answered += count;
                let buf = spare.pop().unwrap_or_else(|| burst.clone());
                send(&mut backend, index, client, buf, count);
            }
            buf.clear();
            backend.submit(completion.token, Op::Receive { socket: client.socket, buf });
        }
    }
    let rate = answered as f64 / start.elapsed().as_secs_f64();
    for (index, client) in clients.iter().enumerate() {
        backend.submit(Token(u64::MAX - index as u64), Op::Close { socket: client.socket });
    }
    while backend.in_flight() > 0 {
        backend.poll(Wait::Until(u64::MAX), &mut completions).expect("the backend works");
    }
    rate
}

fn connect(sink: &NullSink) -> Lean {
    use std::os::fd::IntoRawFd;
    let stream = std::net::TcpStream::connect(sink.address()).expect("the sink listens");
    stream.set_nodelay(true).expect("a TCP socket");
    Lean { socket: SocketId(stream.into_raw_fd()), left: 0 }
}

fn send(backend: &mut AnyBackend, index: usize, client: &mut Lean, buf: Vec<u8>, count: usize) {
    client.left = count * REPLY_BYTES;
    backend.submit(Token(2 * index as u64 + 1), Op::Send { socket: client.socket, buf, from: 0 });
}
