//! `tskv bench`: a closed loop of puts or gets, and how long they took.
//!
//! Each connection has a thread: it sends `pipeline` requests, waits for their replies, and goes on. A request's
//! latency is the time from the send of its group to the arrival of its own reply. Because the load waits whenever
//! the server does, a stall costs one sample per connection and not one per user who would have come meanwhile.

mod native;
mod resp;

use super::args::{BenchArgs, ProtocolArg, TestArg};
use super::connect::Target;
use super::error::CliError;
use super::output::Output;
use crate::config::{parse_bytes, parse_duration};
use crate::limits::VALUE_BYTES_CEILING;
use hdrhistogram::Histogram;
use std::io::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A server under measurement, over one connection.
trait Driver: Send {
    /// Sends a group of requests, one for each key.
    fn send(&mut self, test: TestArg, keys: &[u64]) -> Result<(), CliError>;
    /// Waits for the next reply of the group.
    fn receive(&mut self, test: TestArg) -> Result<(), CliError>;
}

/// What all connections share.
struct Plan {
    test: TestArg,
    pipeline: u64,
    keyspace: u64,
    /// Requests not yet claimed by a connection; only counted down with `--requests`.
    left: AtomicI64,
    deadline: Option<Instant>,
    /// Makes the connections' keys differ, and the same on every run.
    seed: AtomicU64,
}

/// What one connection measured.
struct Measured {
    latencies_ns: Histogram<u64>,
    requests: u64,
}

/// Runs the tests, one after the other.
pub(super) fn run(args: &BenchArgs) -> Result<(), CliError> {
    let duration =
        parse_duration(&args.duration).map_err(|reason| CliError::Usage(format!("--duration: {reason}")))?;
    let value_bytes = value_bytes(args)?;
    let target = Target::new(&args.connect)?;
    let mut output = Output::stdout();
    for test in &args.tests {
        let drivers = (0..args.connections)
            .map(|_| connect(args.protocol, &target, value_bytes))
            .collect::<Result<Vec<_>, _>>()?;
        let start = now();
        let plan = Plan {
            test: *test,
            pipeline: u64::from(args.pipeline),
            keyspace: args.keyspace,
            left: AtomicI64::new(
                args.requests.map_or(i64::MAX, |count| i64::try_from(count).unwrap_or(i64::MAX)),
            ),
            deadline: args.requests.is_none().then(|| start + duration),
            seed: AtomicU64::new(0),
        };
        let measured = measure(&plan, drivers)?;
        report(&mut output, args, *test, &measured, start.elapsed())?;
    }
    let note = "closed loop: a stall delays the load too, so these percentiles hide queueing";
    writeln!(output, "{note}").and_then(|()| output.flush()).map_err(|error| CliError::output(&error))
}

fn value_bytes(args: &BenchArgs) -> Result<Option<usize>, CliError> {
    let Some(text) = &args.value_size else { return Ok(None) };
    let bytes = parse_bytes(text).map_err(|reason| CliError::Usage(format!("--value-size: {reason}")))?;
    usize::try_from(bytes).ok().filter(|bytes| *bytes <= VALUE_BYTES_CEILING).map(Some).ok_or_else(|| {
        CliError::Usage(format!("--value-size: {text} is too large; at most {VALUE_BYTES_CEILING} bytes"))
    })
}

fn connect(
    protocol: ProtocolArg,
    target: &Target,
    value_bytes: Option<usize>,
) -> Result<Box<dyn Driver>, CliError> {
    Ok(match protocol {
        ProtocolArg::Native => Box::new(native::NativeDriver::connect(target, value_bytes)?),
        ProtocolArg::Resp => Box::new(resp::RespDriver::connect(target, value_bytes)?),
    })
}

/// Lets every connection run on a thread of its own and adds up what they measured.
fn measure(plan: &Plan, drivers: Vec<Box<dyn Driver>>) -> Result<Measured, CliError> {
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            drivers.into_iter().map(|driver| scope.spawn(move || run_connection(plan, driver))).collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let mut sum = Measured { latencies_ns: histogram(), requests: 0 };
    for outcome in outcomes {
        let measured =
            outcome.map_err(|_| CliError::Failed("a connection's thread panicked".to_owned()))??;
        sum.latencies_ns.add(&measured.latencies_ns).map_err(CliError::failed)?;
        sum.requests += measured.requests;
    }
    Ok(sum)
}

fn run_connection(plan: &Plan, mut driver: Box<dyn Driver>) -> Result<Measured, CliError> {
    let mut measured = Measured { latencies_ns: histogram(), requests: 0 };
    let mut random = Random(plan.seed.fetch_add(1, Ordering::Relaxed));
    let mut keys = Vec::new();
    loop {
        let group = claim(plan);
        let start = now();
        if group == 0 || plan.deadline.is_some_and(|deadline| start >= deadline) {
            return Ok(measured);
        }
        keys.clear();
        keys.extend((0..group).map(|_| random.next() % plan.keyspace));
        driver.send(plan.test, &keys)?;
        for _ in 0..group {
            driver.receive(plan.test)?;
            let latency_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            measured.latencies_ns.saturating_record(latency_ns);
        }
        measured.requests += group;
    }
}

/// How many requests the next group has.
fn claim(plan: &Plan) -> u64 {
    if plan.deadline.is_some() {
        return plan.pipeline;
    }
    let before = plan.left.fetch_sub(plan.pipeline.cast_signed(), Ordering::Relaxed);
    before.max(0).cast_unsigned().min(plan.pipeline)
}

fn report(
    output: &mut Output,
    args: &BenchArgs,
    test: TestArg,
    measured: &Measured,
    elapsed: Duration,
) -> Result<(), CliError> {
    let micros = |quantile| measured.latencies_ns.value_at_quantile(quantile) as f64 / 1e3;
    let name = match test {
        TestArg::Put => "put",
        TestArg::Get => "get",
    };
    let seconds = elapsed.as_secs_f64();
    let rate = measured.requests as f64 / seconds;
    writeln!(
        output,
        "{name}: {rate:.0} requests/s ({} in {seconds:.2} s, {} connections, pipeline {}), latency in us: p50 {:.1}, \
         p95 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1}",
        measured.requests,
        args.connections,
        args.pipeline,
        micros(0.5),
        micros(0.95),
        micros(0.99),
        micros(0.999),
        measured.latencies_ns.max() as f64 / 1e3,
    )
    .and_then(|()| output.flush())
    .map_err(|error| CliError::output(&error))
}

/// Three significant digits from 1 ns to 60 s.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the constant bounds are valid")
}

/// SplitMix64: the same keys on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[expect(clippy::disallowed_methods, reason = "a load generator measures real time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts what it is asked.
    struct Counting<'a>(&'a AtomicU64);
    impl Driver for Counting<'_> {
        fn send(&mut self, _test: TestArg, keys: &[u64]) -> Result<(), CliError> {
            assert!(keys.iter().all(|key| *key < 10));
            self.0.fetch_add(keys.len() as u64, Ordering::Relaxed);
            Ok(())
        }
        fn receive(&mut self, _test: TestArg) -> Result<(), CliError> {
            Ok(())
        }
    }

    #[test]
    fn exactly_the_requests_asked_for_are_sent() {
        // A rate computed from another number of requests than was sent is wrong.
        static SENT: AtomicU64 = AtomicU64::new(0);
        let plan = Plan {
            test: TestArg::Put,
            pipeline: 16,
            keyspace: 10,
            left: AtomicI64::new(1000),
            deadline: None,
            seed: AtomicU64::new(0),
        };
        let drivers: Vec<Box<dyn Driver>> =
            (0..3).map(|_| Box::new(Counting(&SENT)) as Box<dyn Driver>).collect();
        let measured = measure(&plan, drivers).unwrap();
        assert_eq!((measured.requests, SENT.load(Ordering::Relaxed)), (1000, 1000));
        assert_eq!(measured.latencies_ns.len(), 1000);
    }
}
