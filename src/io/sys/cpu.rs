//! Which CPUs the process may use, and pinning a thread to one.
#![expect(unsafe_code, reason = "affinity has no safe wrapper in the standard library")]

use super::{cgroup, check};
use crate::io::Errno;
use crate::limits::CORES_MAX;

/// CPU numbers that the kernel's mask can name here.
const CPUS_MAX: usize = 64 * MASK_WORDS;
const MASK_WORDS: usize = 128;
const MASK_BYTES: usize = MASK_WORDS * 8;

/// The CPUs that the calling thread may run on, ascending (`sched_getaffinity(2)`).
///
/// # Errors
/// What the kernel says; a seccomp profile may forbid the call.
pub fn available_cpus() -> Result<Vec<usize>, Errno> {
    let mut mask = [0_u64; MASK_WORDS];
    // SAFETY: the call fills at most MASK_BYTES bytes, which `mask` has.
    let result = unsafe { libc::sched_getaffinity(0, MASK_BYTES, mask.as_mut_ptr().cast()) };
    check(result.into())?;
    Ok((0..CPUS_MAX).filter(|cpu| mask[cpu / 64] >> (cpu % 64) & 1 == 1).collect())
}

/// Binds the calling thread to one CPU.
///
/// # Errors
/// `EINVAL` where the CPU does not exist or is not allowed, `EPERM` where a profile forbids the call: a warning, not
/// a reason to stop.
pub fn pin_to_cpu(cpu: usize) -> Result<(), Errno> {
    if cpu >= CPUS_MAX {
        return Err(Errno::EINVAL);
    }
    let mut mask = [0_u64; MASK_WORDS];
    mask[cpu / 64] = 1 << (cpu % 64);
    // SAFETY: the call reads MASK_BYTES bytes, which `mask` has.
    let result = unsafe { libc::sched_setaffinity(0, MASK_BYTES, mask.as_ptr().cast()) };
    check(result.into()).map(drop)
}

/// How many cores to run when the operator does not say: what the affinity mask and the control group's quota allow,
/// a started CPU counting whole; at least 1.
#[must_use]
pub fn core_count_default() -> usize {
    let by_affinity = available_cpus().map_or(1, |cpus| cpus.len());
    // Counting up avoids a cast of whatever the file says.
    let fits = |quota: f64| (1..CORES_MAX).find(|count| quota <= *count as f64);
    let by_quota = cgroup::cpu_quota().and_then(fits).unwrap_or(CORES_MAX);
    by_affinity.min(by_quota).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_be_pinned_to_an_available_cpu() {
        // A wrong mask layout would pin every core to the same CPU.
        let pinned = std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let last = *available_cpus().unwrap().last().unwrap();
                pin_to_cpu(last).map(|()| (last, available_cpus().unwrap()))
            });
            worker.join().unwrap()
        });
        let (cpu, mask) = pinned.unwrap();
        assert_eq!(mask, [cpu]);
        assert_eq!(pin_to_cpu(CPUS_MAX), Err(Errno::EINVAL));
        assert!((1..=CORES_MAX).contains(&core_count_default()));
    }
}
