//! The clocks, read straight from the kernel's page (vDSO): no system call.
#![expect(
    unsafe_code,
    reason = "clock_gettime(2) has no safe wrapper that gives the monotonic clock as a number"
)]

use crate::io::Now;

const NS_PER_SECOND: i64 = 1_000_000_000;

/// Reads both clocks.
#[must_use]
pub fn now() -> Now {
    Now { monotonic_ns: monotonic_ns(), unix_ns: read(libc::CLOCK_REALTIME) }
}

/// Nanoseconds of `CLOCK_MONOTONIC`, which never goes back.
#[must_use]
pub fn monotonic_ns() -> u64 {
    u64::try_from(read(libc::CLOCK_MONOTONIC)).unwrap_or(0)
}

/// CPU time that the calling thread has used, in nanoseconds.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    u64::try_from(read(libc::CLOCK_THREAD_CPUTIME_ID)).unwrap_or(0)
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live local that the call fills.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(result, 0, "the kernel has these clocks since 2.6.12");
    time.tv_sec.saturating_mul(NS_PER_SECOND).saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_in_nanoseconds_and_go_forward() {
        // A wrong unit would turn a 10 ms sync interval into hours.
        let first = now();
        let second = now();
        assert!(second.monotonic_ns >= first.monotonic_ns);
        // 2020-01-01 and 2200-01-01.
        assert!((1_577_836_800_000_000_000..7_258_118_400_000_000_000).contains(&first.unix_ns));
        assert!(thread_cpu_ns() > 0);
    }
}
