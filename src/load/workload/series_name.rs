//! Names of the series of the TSBS shapes: one series per host and field.

use super::super::random::{below, draw};
use super::super::wire::put_decimal;
use super::metrics::names_of;
use serde::{Deserialize, Serialize};

/// Fields of the measurement `cpu`, which come first and which queries are about.
pub(in crate::load) const CPU_FIELD_COUNT: usize = 10;
const REGIONS: [(&str, &str); 9] = [
    ("us-east-1", "abce"),
    ("us-west-1", "ab"),
    ("us-west-2", "abc"),
    ("eu-west-1", "abc"),
    ("eu-central-1", "ab"),
    ("ap-southeast-1", "ab"),
    ("ap-southeast-2", "ab"),
    ("ap-northeast-1", "ac"),
    ("sa-east-1", "abc"),
];
const SYSTEMS: [&str; 3] = ["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"];
const TEAMS: [&str; 4] = ["SF", "NYC", "LON", "CHI"];
const ENVIRONMENTS: [&str; 3] = ["production", "staging", "test"];

/// How much of a series' labels its name carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyStyle {
    /// `cpu.usage_user.host_17`: about 22 bytes.
    #[default]
    Short,
    /// All ten tags of TSBS: about 165 bytes.
    Full,
}

/// A host, and how many hosts had its place before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load) struct Host {
    pub(in crate::load) index: u64,
    pub(in crate::load) generation: u32,
}

/// Makes names; keeps the tags of the last host.
#[derive(Clone, Debug)]
pub(in crate::load) struct SeriesNames {
    style: KeyStyle,
    seed: u64,
    host: Option<Host>,
    tags: Vec<u8>,
}

impl SeriesNames {
    pub(in crate::load) fn new(style: KeyStyle, seed: u64) -> Self {
        Self { style, seed, host: None, tags: Vec::new() }
    }
    /// Appends the name of a host's field.
    pub(in crate::load) fn put(&mut self, out: &mut Vec<u8>, host: Host, field: usize) {
        let (measurement, name) = names_of(field);
        match self.style {
            KeyStyle::Short => {
                put_prefix(out, field);
                put_host(out, host);
            }
            KeyStyle::Full => {
                if self.host != Some(host) {
                    self.host = Some(host);
                    self.tags.clear();
                    put_tags(&mut self.tags, host, self.seed);
                }
                out.extend_from_slice(measurement.as_bytes());
                out.extend_from_slice(&self.tags);
                put_own_tags(out, measurement, host, self.seed);
                out.push(b' ');
                out.extend_from_slice(name.as_bytes());
            }
        }
    }
    /// Appends what the names of a field begin with on all hosts; none where names begin with the host.
    pub(in crate::load) fn put_field_prefix(&self, out: &mut Vec<u8>, field: usize) -> Option<()> {
        (self.style == KeyStyle::Short).then(|| put_prefix(out, field))
    }
}

fn put_prefix(out: &mut Vec<u8>, field: usize) {
    let (measurement, name) = names_of(field);
    out.extend_from_slice(measurement.as_bytes());
    out.push(b'.');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b".host_");
}

fn put_host(out: &mut Vec<u8>, host: Host) {
    put_decimal(out, i64::try_from(host.index).unwrap_or(i64::MAX));
    if host.generation > 0 {
        out.push(b'.');
        put_decimal(out, i64::from(host.generation));
    }
}

fn put_tags(out: &mut Vec<u8>, host: Host, seed: u64) {
    let dice = |tag: u64, bound: u64| below(draw(seed ^ 0x7461_6773, host.index * 16 + tag), bound);
    let index = |tag: u64, len: usize| usize::try_from(dice(tag, len as u64)).unwrap_or(0);
    let (region, zones) = REGIONS[index(0, REGIONS.len())];
    let zone = zones.as_bytes()[index(1, zones.len())];
    let mut tag = |name: &str, value: &str| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value.as_bytes());
    };
    tag(",hostname=host_", &host.index.to_string());
    if host.generation > 0 {
        tag(".", &host.generation.to_string());
    }
    tag(",region=", region);
    tag(",datacenter=", region);
    tag("", char::from(zone).encode_utf8(&mut [0; 4]));
    tag(",rack=", &dice(2, 100).to_string());
    tag(",os=", SYSTEMS[index(3, SYSTEMS.len())]);
    tag(",arch=", ["x64", "x86"][index(4, 2)]);
    tag(",team=", TEAMS[index(5, TEAMS.len())]);
    tag(",service=", &dice(6, 20).to_string());
    tag(",service_version=", &dice(7, 2).to_string());
    tag(",service_environment=", ENVIRONMENTS[index(8, ENVIRONMENTS.len())]);
}

/// The tags that only one measurement has.
fn put_own_tags(out: &mut Vec<u8>, measurement: &str, host: Host, seed: u64) {
    let dice = |tag: u64, bound: u64| below(draw(seed ^ 0x6f77_6e74, host.index * 16 + tag), bound);
    let own = match measurement {
        "diskio" => format!(",serial={:03}-{:03}-{:03}", dice(0, 1000), dice(1, 1000), dice(2, 1000)),
        "disk" => {
            let system = ["ext3", "ext4", "btrfs"][usize::try_from(dice(4, 3)).unwrap_or(0)];
            format!(",path=/dev/sda{},fstype={system}", dice(3, 10))
        }
        "net" => format!(",interface=eth{}", dice(5, 4)),
        "nginx" | "redis" => {
            format!(",port={},server={measurement}_{}", 1024 + dice(6, 20_000), dice(7, 100_000))
        }
        _ => return,
    };
    out.extend_from_slice(own.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_recipe() {
        // A shorter key than TSBS has flatters the store.
        let host = Host { index: 17, generation: 0 };
        let name = |style, host, field| {
            let mut out = Vec::new();
            SeriesNames::new(style, 1).put(&mut out, host, field);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(name(KeyStyle::Short, host, 0), "cpu.usage_user.host_17");
        assert_eq!(
            name(KeyStyle::Short, Host { generation: 2, ..host }, 9),
            "cpu.usage_guest_nice.host_17.2"
        );
        assert_eq!(name(KeyStyle::Short, host, 12), "diskio.read_bytes.host_17");
        let disk = name(KeyStyle::Full, host, 17);
        assert!(disk.starts_with("disk,hostname=host_17,") && disk.ends_with(" total"), "{disk}");
        assert!(disk.contains(",path=/dev/sda") && disk.matches('=').count() == 12, "{disk}");
        let full = name(KeyStyle::Full, host, 0);
        assert!(full.starts_with("cpu,hostname=host_17,region=") && full.ends_with(" usage_user"), "{full}");
        assert!((140..190).contains(&full.len()), "{full}");
        assert_eq!(full.matches('=').count(), 10, "{full}");
    }
}
