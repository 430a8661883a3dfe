//! Where the generator runs: what a reader of its figures has to know of the machine.

use super::result::Environment;
use crate::io::sys;
use std::fs;

/// Reads what the machine tells; what it does not tell stays unknown.
pub(super) fn environment(backend: &str) -> Environment {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let start_unix_ms = sys::now().unix_ns / 1_000_000;
    Environment {
        cpu: field(&cpuinfo, "model name"),
        cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count() as u64,
        cpus_allowed: field(&status, "Cpus_allowed_list"),
        kernel: line_of("/proc/sys/kernel/osrelease"),
        fs: file_system(),
        clock: line_of("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        backend: Some(backend.to_owned()),
        host: line_of("/proc/sys/kernel/hostname"),
        start_unix_ms,
    }
}

fn field(text: &str, name: &str) -> Option<String> {
    let (_, value) = text.lines().find(|line| line.starts_with(name))?.split_once(':')?;
    Some(value.trim().to_owned())
}

fn line_of(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The type of the file system that holds the working directory: the longest mount point that it lies under.
fn file_system() -> Option<String> {
    let directory = std::env::current_dir().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let under = fields.filter(|fields| fields.len() > 2 && directory.starts_with(fields[1]));
    under.max_by_key(|fields| fields[1].len()).map(|fields| fields[2].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_described() {
        // Figures of two machines would be compared as if they were of one.
        let environment = environment("epoll");
        assert!(
            environment.cores > 0 && environment.kernel.is_some() && environment.fs.is_some(),
            "{environment:?}"
        );
        assert!(environment.start_unix_ms > 1_577_836_800_000);
        assert_eq!(field("model name\t: A: b\n", "model name").as_deref(), Some("A: b"));
    }
}
