//! How much memory the process may use.

use super::cgroup;

/// Bytes of memory: the machine's, or what the control group allows if that is less. `None` where the system does not
/// say.
#[must_use]
pub fn memory_bytes() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total_of);
    [machine, cgroup::memory_limit()].into_iter().flatten().min()
}

/// `MemTotal` of `/proc/meminfo`, which is in KiB.
fn total_of(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_known() {
        // Where it is not, the cache falls back to a size that is right for no large machine.
        assert_eq!(total_of("MemTotal:       24606004 kB\nMemFree: 1 kB\n"), Some(24_606_004 * 1024));
        assert_eq!(total_of("MemFree: 1 kB\n"), None);
        assert!(memory_bytes().is_some_and(|bytes| bytes > 16 << 20));
    }
}
