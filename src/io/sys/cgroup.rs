//! How much CPU time and memory the process's control group may use.
//!
//! Version 2 writes `cpu.max` as `QUOTA PERIOD` and `memory.max` as bytes (`max` for no limit); version 1 has
//! `cpu.cfs_quota_us` (-1 for no limit), `cpu.cfs_period_us` and `memory.limit_in_bytes`. Limits of all ancestors apply, so the smallest one counts. In a container the
//! group's path may lie outside of what is mounted; the mounted part is looked at then.

use std::path::{Path, PathBuf};

/// CPUs that the control group allows, as a fraction (1.5 = one and a half); `None` for no limit.
pub(super) fn cpu_quota() -> Option<f64> {
    let groups = own_directories("cpu");
    groups.iter().filter_map(|directory| quota_of(directory, &read)).reduce(f64::min)
}

/// Bytes of memory that the control group allows; `None` for no limit.
pub(super) fn memory_limit() -> Option<u64> {
    own_directories("memory").iter().filter_map(|directory| memory_limit_of(directory, &read)).min()
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The process's group and its ancestors, as directories.
fn own_directories(controller: &str) -> Vec<PathBuf> {
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let mounts = read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    directories(&groups, &mounts, controller)
}

/// The same from the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn directories(groups: &str, mounts: &str, controller: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let version_2 = controllers.is_empty();
        if !version_2 && !controllers.split(',').any(|name| name == controller) {
            continue;
        }
        if let Some((mount_root, mount_point)) = mount_of(mounts, controller, version_2) {
            let inside = Path::new(path).strip_prefix(mount_root).unwrap_or(Path::new(""));
            let group = Path::new(mount_point).join(inside.strip_prefix("/").unwrap_or(inside));
            let below = |directory: &&Path| directory.starts_with(mount_point);
            found.extend(group.ancestors().take_while(below).map(Path::to_owned));
        }
    }
    found
}

/// Which part of the hierarchy is mounted, and where.
fn mount_of<'a>(mounts: &'a str, controller: &str, version_2: bool) -> Option<(&'a str, &'a str)> {
    mounts.lines().find_map(|line| {
        // proc_pid_mountinfo(5): id parent major:minor root mount-point options… - type source super-options
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut file_system = file_system.split(' ');
        let kind = file_system.next()?;
        let options = file_system.nth(1)?;
        let fits = if version_2 {
            kind == "cgroup2"
        } else {
            kind == "cgroup" && options.split(',').any(|option| option == controller)
        };
        if fits { mount.next().zip(mount.next()) } else { None }
    })
}

fn quota_of(directory: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Option<f64> {
    let (quota, period) = match read(&directory.join("cpu.max")) {
        Some(text) => {
            let mut words = text.split_whitespace().map(str::to_owned);
            (words.next()?, words.next()?)
        }
        None => (read(&directory.join("cpu.cfs_quota_us"))?, read(&directory.join("cpu.cfs_period_us"))?),
    };
    // `max` is no number and -1 is no quota: both mean that there is no limit.
    let quota: f64 = quota.trim().parse().ok()?;
    let period: f64 = period.trim().parse().ok()?;
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

fn memory_limit_of(directory: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let limit =
        read(&directory.join("memory.max")).or_else(|| read(&directory.join("memory.limit_in_bytes")))?;
    // `max` is no number; version 1 says no limit with one near i64::MAX, above any machine's memory.
    limit.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
24 23 0:21 / /sys rw - sysfs sysfs rw
30 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
31 24 0:27 /box /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";

    #[test]
    fn groups_are_found_under_both_versions() {
        // Looking in the wrong place, a daemon in a container of 2 CPUs would start 64 cores.
        let found = directories("5:memory:/m\n4:cpu,cpuacct:/box/a/b\n0::/x", MOUNTS, "cpu");
        let expected = [
            "/sys/fs/cgroup/cpu,cpuacct/a/b",
            "/sys/fs/cgroup/cpu,cpuacct/a",
            "/sys/fs/cgroup/cpu,cpuacct",
            "/sys/fs/cgroup/unified/x",
            "/sys/fs/cgroup/unified",
        ];
        assert_eq!(found, expected.map(PathBuf::from));
        let memory = directories("5:memory:/m\n4:cpu,cpuacct:/box/a/b", MOUNTS, "memory");
        assert_eq!(memory, ["/sys/fs/cgroup/memory/m", "/sys/fs/cgroup/memory"].map(PathBuf::from));
        assert_eq!(directories("garbage\n0::/x", "garbage", "cpu"), Vec::<PathBuf>::new());
    }

    #[test]
    fn quotas_are_read_from_both_versions() {
        // "max" taken for a number, or -1 for a quota, would give no core at all.
        let file = |name: &'static str, text: &'static str| {
            move |path: &Path| path.ends_with(name).then(|| text.to_owned())
        };
        let at = Path::new("/g");
        assert_eq!(quota_of(at, &file("cpu.max", "150000 100000\n")), Some(1.5));
        assert_eq!(quota_of(at, &file("cpu.max", "max 100000\n")), None);
        assert_eq!(quota_of(at, &file("cpu.max", "")), None);
        let version_1 = |quota: &'static str| {
            move |path: &Path| match path.file_name()?.to_str()? {
                "cpu.cfs_quota_us" => Some(quota.to_owned()),
                "cpu.cfs_period_us" => Some("100000\n".to_owned()),
                _ => None,
            }
        };
        assert_eq!(quota_of(at, &version_1("50000\n")), Some(0.5));
        assert_eq!(quota_of(at, &version_1("-1\n")), None);
    }
    #[test]
    fn memory_limits_are_read_from_both_versions() {
        // A cache sized for the machine would have a daemon in a small container killed.
        let file = |name: &'static str, text: &'static str| {
            move |path: &Path| path.ends_with(name).then(|| text.to_owned())
        };
        let at = Path::new("/g");
        assert_eq!(memory_limit_of(at, &file("memory.max", "1073741824\n")), Some(1 << 30));
        assert_eq!(memory_limit_of(at, &file("memory.max", "max\n")), None);
        assert_eq!(memory_limit_of(at, &file("memory.limit_in_bytes", "4096\n")), Some(4096));
        assert_eq!(memory_limit_of(at, &file("other", "4096\n")), None);
    }
}
