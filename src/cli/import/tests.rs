//! Import against a daemon in memory: what is stored, and which line is to blame.

use super::super::args::{Cli, Command as CliCommand};
use super::super::export::export;
use super::super::fake_server::FakeServer;
use super::*;
use clap::Parser;
use std::io::Write;

fn file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}
fn load(server: &FakeServer, content: &str, value_type: ValueType) -> Result<Imported, CliError> {
    let mut client = Client::connect(&server.address(), &ClientOptions::default()).unwrap();
    let reader = CsvReader::open(file(content).path(), Arc::default()).unwrap();
    import(&mut client, reader, value_type, &mut |_| {})
}
fn dump(server: &FakeServer, arguments: &[&str]) -> Result<(String, u64), CliError> {
    let line = ["tskv", "export"].iter().chain(arguments);
    let CliCommand::Export(args) = Cli::parse_from(line).command else { panic!("an export") };
    let mut client = Client::connect(&server.address(), &ClientOptions::default()).unwrap();
    let mut output = Vec::new();
    let left_out = export(&mut client, &args, &mut output)?;
    Ok((String::from_utf8(output).unwrap(), left_out))
}

#[test]
fn what_is_imported_comes_out_again() {
    // The whole point of the two commands: no sample lost, none changed, the last line of a time wins.
    let server = FakeServer::start(TimeUnit::Milliseconds);
    let content = "series,timestamp_ms,value\nb,2,1.5\na,-1,NaN\nb,1,0.1\nb,2,1e300\n";
    let imported = load(&server, content, ValueType::F64).unwrap();
    assert_eq!(imported, Imported { samples: 4, times_cut: 0 });
    let text = dump(&server, &[]).unwrap().0;
    assert_eq!(text, "series,timestamp_ms,value\na,-1,NaN\nb,1,0.1\nb,2,1e300\n");
    let bits = dump(&server, &["--values", "bits"]).unwrap().0;
    assert_eq!(bits, "a,-1,7ff8000000000000\nb,1,3fb999999999999a\nb,2,7e37e43c8800759c\n");
    assert_eq!(dump(&server, &["--prefix", "a", "--to", "-2"]).unwrap().0, "series,timestamp_ms,value\n");
}

#[test]
fn many_batches_arrive_in_order_even_when_the_daemon_is_busy() {
    // A batch that is sent again alone lets an early line replace a later one.
    let server = FakeServer::start(TimeUnit::Milliseconds);
    server.refuse_every_third_batch();
    let mut content = "series,timestamp_ms,value\n".to_owned();
    for line in 0..60_000 {
        content.push_str(&format!("s{},{},{line}\n", line % 7, line / 30_000));
    }
    assert_eq!(load(&server, &content, ValueType::I64).unwrap().samples, 60_000);
    let text = dump(&server, &[]).unwrap().0;
    for series in 0..7 {
        let last = (0..60_000).rev().find(|line| line % 7 == series).unwrap();
        let last_of_first = (0..30_000).rev().find(|line| line % 7 == series).unwrap();
        assert!(
            text.contains(&format!("s{series},1,{last}\n"))
                && text.contains(&format!("s{series},0,{last_of_first}\n"))
        );
    }
    assert_eq!(text.lines().count(), 15);
    assert!(server.refusals() > 0, "the test must have met a busy daemon");
}

#[test]
fn bad_line_stops_with_its_number_and_keeps_what_came_before() {
    // Without the number, the operator cannot repair a file of a million lines.
    let server = FakeServer::start(TimeUnit::Milliseconds);
    let error =
        load(&server, "series,timestamp_ms,value\na,1,1\na,2,x\na,3,3\n", ValueType::F64).unwrap_err();
    assert!(
        format!("{error:?}").contains("line 3: the value 'x' is not a number; the 1 samples"),
        "{error:?}"
    );
    assert_eq!(dump(&server, &[]).unwrap().0.lines().count(), 2);
    let long = format!("series,timestamp_ms,value\na,1,{}\n", "x".repeat(2 << 20));
    assert!(load(&server, &long, ValueType::Bytes).is_err(), "a value beyond the server's limit");
}

#[test]
fn timestamps_are_converted_to_the_unit_of_the_store() {
    // A factor of a thousand puts every sample into another century.
    let server = FakeServer::start(TimeUnit::Microseconds);
    load(&server, "series,timestamp_ms,value\na,-5,1\n", ValueType::F64).unwrap();
    let cut = load(&server, "series,timestamp_ns,value\na,7001,2\na,8000,3\n", ValueType::F64).unwrap();
    assert_eq!(cut.times_cut, 1);
    let text = dump(&server, &[]).unwrap().0;
    assert_eq!(text, "series,timestamp_us,value\na,-5000,1\na,7,2\na,8,3\n");
    let error =
        load(&server, "series,timestamp_ms,value\na,9223372036854775807,1\n", ValueType::F64).unwrap_err();
    assert!(format!("{error:?}").contains("does not fit"), "{error:?}");
}

#[test]
fn export_stops_at_what_csv_cannot_carry_and_counts_plain_values() {
    // Left out silently, they would be missing from what the operator takes for a backup.
    let server = FakeServer::start(TimeUnit::Milliseconds);
    server.put(b"a", Slot::Timeless, OwnedValue::Bytes((*b"plain").into()));
    server.put(b"a", Slot::Time(1), OwnedValue::F64(1.0));
    assert_eq!(dump(&server, &[]).unwrap().1, 1);
    assert!(dump(&server, &["--format", "typed"]).unwrap().0.contains("a\ttimeless\tbytes\tplain\n"));
    server.put(b"x,y", Slot::Time(1), OwnedValue::F64(1.0));
    let error = dump(&server, &[]).unwrap_err();
    assert!(format!("{error:?}").contains("x,y"), "{error:?}");
    assert!(dump(&server, &["--format", "typed"]).unwrap().0.contains("x,y\t1\tf64\t"));
}
