//! Feeds generated samples to a store, or reads them, and prints what was measured as one line of JSON.
//!
//! ```text
//! feed STORE DATA SERIES SAMPLES INTERVAL_MS [GETS]
//!   STORE  rocksdb:DIR fjall:DIR            fed, merged, then read: GETS point reads, a second of scans
//!          tskv:HOST:PORT victoria-json:HOST:PORT victoria-influx:HOST:PORT    fed
//!          tskv-reads:HOST:PORT             read as the first two are
//!   DATA   walk gauss tsbs-int tsbs-float sparse csv:FILE,FILE…
//! ```

use std::path::Path;
use std::process::ExitCode;
use tskv_compare::data::{Data, Kind};
use tskv_compare::embedded::{self, Engine};
use tskv_compare::network::{self, Wire, feed};

const USAGE: &str =
    "usage: feed STORE DATA SERIES SAMPLES INTERVAL_MS [GETS]; see the head of src/bin/feed.rs";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("feed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<String, String> {
    let [store, data, series, samples, interval, rest @ ..] = arguments else {
        return Err(USAGE.to_owned());
    };
    let number = |text: &String| text.parse::<u64>().map_err(|_| format!("'{text}' is no number; {USAGE}"));
    let data = Data {
        kind: kind(data)?,
        series: usize::try_from(number(series)?.max(1)).map_err(|error| error.to_string())?,
        samples: number(samples)?,
        interval_ms: number(interval)?.cast_signed(),
    };
    let gets = rest.first().map_or(Ok(100_000), number)?;
    let (store, place) = store.split_once(':').ok_or(USAGE)?;
    let wire = match store {
        "rocksdb" => return engine(embedded::rocksdb, &data, place, gets),
        "fjall" => return engine(embedded::fjall, &data, place, gets),
        "tskv-reads" => return reads(place, &data, gets),
        "tskv" => Wire::Tskv,
        "victoria-json" => Wire::VictoriaJson,
        "victoria-influx" => Wire::VictoriaInflux,
        other => return Err(format!("no store is called {other}; {USAGE}")),
    };
    let fed = feed(wire, place, &data)?;
    Ok(format!(
        r#"{{"samples":{},"seconds":{},"client_cpu_seconds":{}}}"#,
        fed.samples, fed.seconds, fed.client_cpu_seconds
    ))
}

fn kind(text: &str) -> Result<Kind, String> {
    Ok(match text {
        "walk" => Kind::Walk,
        "gauss" => Kind::Gauss,
        "tsbs-int" => Kind::TsbsInt,
        "tsbs-float" => Kind::TsbsFloat,
        "sparse" => Kind::Sparse,
        other => match other.strip_prefix("csv:") {
            Some(files) => Kind::Csv(files.split(',').map(str::to_owned).collect()),
            None => return Err(format!("no data is called {other}; {USAGE}")),
        },
    })
}

fn reads(address: &str, data: &Data, gets: u64) -> Result<String, String> {
    // The first round warms the cache.
    network::gets(address, data, gets)?;
    let seconds = network::gets(address, data, gets)?;
    let scanned = network::scans(address, data)?;
    Ok(format!(r#"{{"gets_per_s":{},"scanned_per_s":{scanned}}}"#, gets as f64 / seconds))
}

type Open = fn(&Path) -> Result<Box<dyn Engine>, String>;

fn engine(open: Open, data: &Data, directory: &str, gets: u64) -> Result<String, String> {
    let directory = Path::new(directory);
    let mut engine = open(directory)?;
    let figures = embedded::measure(engine.as_mut(), data, directory, gets)?;
    Ok(format!(
        r#"{{"samples":{},"seconds":{},"cpu_seconds":{},"written_bytes":{},"disk_bytes":{},"gets_per_s":{},"scanned_per_s":{}}}"#,
        figures.samples,
        figures.ingest_seconds,
        figures.ingest_cpu_seconds,
        figures.written_bytes,
        figures.disk_bytes,
        figures.gets_per_second,
        figures.scanned_per_second
    ))
}
