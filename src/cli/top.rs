//! `tskv top`: what each shard does, and which series take most, again and again.

use super::args::TopArgs;
use super::connect::Target;
use super::error::CliError;
use super::output::Output;
use crate::client::{Client, ClientOptions};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

/// Shorter intervals tell of chance, and load the daemon: it leaves its counters four times a second.
const INTERVAL_MIN: Duration = Duration::from_millis(250);
/// Puts the cursor into the corner and clears what stands below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// `tskv top`
pub(super) fn run(args: &TopArgs) -> Result<(), CliError> {
    if args.interval < INTERVAL_MIN {
        return Err(CliError::Usage(format!("--interval is at least {} ms", INTERVAL_MIN.as_millis())));
    }
    let mut client = Target::new(&args.connect)?.client(&ClientOptions::default())?;
    let is_terminal = stdout().is_terminal();
    let mut output = Output::stdout();
    let mut before = Look::take(&mut client)?;
    let mut looks = 0;
    while args.count.is_none_or(|count| looks < count) {
        #[expect(clippy::disallowed_methods, reason = "a command line tool may wait")]
        std::thread::sleep(args.interval);
        let now = Look::take(&mut client)?;
        let start = if is_terminal { CLEAR } else { "" };
        let end = if is_terminal { "" } else { "\n" };
        let written = write!(output, "{start}{}{end}", now.since(&before)).and_then(|()| output.flush());
        written.map_err(|error| CliError::output(&error))?;
        before = now;
        looks += 1;
    }
    Ok(())
}

/// What STATS said at one moment.
struct Look {
    at: Instant,
    fields: BTreeMap<String, String>,
}

impl Look {
    #[expect(clippy::disallowed_methods, reason = "a command line tool has its own clock")]
    fn take(client: &mut Client) -> Result<Self, CliError> {
        let fields: BTreeMap<_, _> = client.stats()?.into_iter().collect();
        if !fields.contains_key("shard.0") {
            return Err(CliError::failed("this server does not tell about its shards"));
        }
        Ok(Self { at: Instant::now(), fields })
    }

    /// A figure of `shard.N`.
    fn of_shard(&self, shard: usize, name: &str) -> u64 {
        let row = self.fields.get(&format!("shard.{shard}")).map(String::as_str).unwrap_or_default();
        let mut figures = row.split(' ').filter_map(|figure| figure.split_once('='));
        figures
            .find(|(found, _)| *found == name)
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or_default()
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The page: what happened between an earlier look and this one.
    fn since(&self, before: &Self) -> String {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(1e-3);
        let rate = |shard: usize, name: &str| {
            let more = self.of_shard(shard, name).saturating_sub(before.of_shard(shard, name));
            more as f64 / seconds
        };
        let shards = (0..).take_while(|shard| self.fields.contains_key(&format!("shard.{shard}")));
        let operations: Vec<f64> = shards.map(|shard| rate(shard, "operations")).collect();
        let total: f64 = operations.iter().sum();
        let mut page = format!(
            "tskv {}, up {} s, {} clients; get p99 {} us, put p99 {} us; {} moves of boundaries\n\n",
            self.field("tskv_version"),
            self.field("uptime_in_seconds"),
            self.field("connected_clients"),
            self.field("get_p99_us"),
            self.field("put_p99_us"),
            self.field("shard_moves"),
        );
        page.push_str(
            "shard  operations/s  share   cpu  clients  forwarded/s   table bytes  memtable bytes  parked\n",
        );
        for (shard, operations) in operations.iter().enumerate() {
            let _ = writeln!(
                page,
                "{shard:<5} {operations:>13.0} {:>5.0}% {:>4.0}% {:>8} {:>12.0} {:>13} {:>15} {:>7}",
                100.0 * operations / total.max(1.0),
                rate(shard, "cpu_ms") / 10.0,
                self.of_shard(shard, "connections"),
                rate(shard, "forwarded"),
                self.of_shard(shard, "table_bytes"),
                self.of_shard(shard, "memtable_bytes"),
                self.of_shard(shard, "parked"),
            );
        }
        self.put_hottest(&mut page, "hot_operations", "operations/s");
        self.put_hottest(&mut page, "hot_bytes", "bytes/s");
        page
    }

    fn put_hottest(&self, page: &mut String, prefix: &str, unit: &str) {
        let _ = writeln!(page, "\n{unit:>15}  shard  hottest series");
        let rows = (0..).map_while(|place| self.fields.get(&format!("{prefix}_{place}")));
        let mut is_empty = true;
        for (shard, per_second, series) in rows.filter_map(|row| hot_row(row)) {
            let _ = writeln!(page, "{per_second:>15}  {shard:<5}  {series}");
            is_empty = false;
        }
        if is_empty {
            page.push_str("              -  none stands out\n");
        }
    }
}

/// Reads `shard=N,per_second=N,series=KEY`.
fn hot_row(row: &str) -> Option<(&str, &str, &str)> {
    let (shard, rest) = row.strip_prefix("shard=")?.split_once(',')?;
    let (per_second, series) = rest.strip_prefix("per_second=")?.split_once(",series=")?;
    Some((shard, per_second, series))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    fn a_page_shows_rates_between_two_looks() {
        // Totals since the start, shown as rates, hide what happens now.
        let look = |at: Instant, operations: [u64; 2], cpu_ms: u64| {
            let mut fields = BTreeMap::from(
                [
                    ("uptime_in_seconds", "7"),
                    ("hot_operations_0", "shard=1,per_second=900,series=cpu,series=x"),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
            );
            for (shard, operations) in operations.into_iter().enumerate() {
                let row = format!("operations={operations} cpu_ms={cpu_ms} connections=3 parked=0");
                fields.insert(format!("shard.{shard}"), row);
            }
            Look { at, fields }
        };
        let start = Instant::now();
        let before = look(start, [1_000, 5_000], 100);
        let page = look(start + Duration::from_secs(2), [1_200, 6_800], 1_100).since(&before);
        assert!(page.contains("0               100    10%   50%        3"), "{page}");
        assert!(page.contains("1               900    90%   50%        3"), "{page}");
        assert!(page.contains("            900  1      cpu,series=x\n"), "{page}");
        assert!(page.ends_with("-  none stands out\n"), "{page}");
    }
}
