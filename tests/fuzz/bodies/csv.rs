//! CSV files of `tskv import`, plain and gzip.

use super::allocation::bounded;
use std::io::Cursor;
use std::path::Path;
use tskv::cli::csv::{CsvReader, parse_value};
use tskv::model::ValueType;

/// Two read buffers of 256 KiB and the decompressor's window, whatever the input.
const BUFFERS_BYTES: usize = 1 << 20;
/// Lines looked at: a bomb of a few bytes unpacks to millions.
const LINES_MAX: usize = 2000;
/// A compressed file may be this much shorter than its longest line.
const FACTOR: usize = 1100 * 2;

pub(crate) fn import(input: &[u8]) {
    let source = Box::new(Cursor::new(input.to_vec()));
    let is_gzip = input.starts_with(&[0x1f, 0x8b]);
    let factor = if is_gzip { FACTOR } else { 2 };
    let allowed = input.len() + BUFFERS_BYTES / factor + 1;
    bounded(allowed, factor, || {
        let mut reader = match CsvReader::new(Path::new("fuzz.csv"), source) {
            Ok(reader) => reader,
            Err(error) => return assert!(error.line.is_some_and(|line| line <= 1), "{error}"),
        };
        for number in 2..LINES_MAX as u64 {
            match reader.next_sample() {
                Ok(None) => break,
                Err(error) => return assert_eq!(error.line, Some(number), "{error}"),
                Ok(Some(sample)) => {
                    assert!(!sample.series.contains(&b',') && !sample.value.contains(&b'\n'));
                    value(sample.value);
                }
            }
        }
    });
}

/// What a value is read as must be what its text says.
fn value(text: &[u8]) {
    for value_type in [ValueType::F64, ValueType::I64, ValueType::Bytes] {
        let Ok(value) = parse_value(value_type, text) else { continue };
        assert_eq!(value.value_type(), value_type);
        if value_type == ValueType::F64 {
            let number = value.as_f64().expect("a number");
            let text = number.to_string();
            let again = parse_value(value_type, text.as_bytes());
            assert!(again.is_ok_and(|again| again == value || number.is_nan()), "{number}");
        }
    }
}
