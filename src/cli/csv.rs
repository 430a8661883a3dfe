//! The CSV form that `import` reads and `export` writes.
//!
//! ```text
//! series,timestamp_ms,value          header; timestamp_us and timestamp_ns say another unit
//! cpu.idle,1517420000123,99.5        split on the FIRST TWO commas only
//! events,1517420000123,{"a":1,"b":2} so a value may hold commas, and a series may not
//! ```
//! No quoting, no escapes. Lines end in LF; where the header ends in CRLF, all lines do. A byte order mark before the
//! header is skipped. The last line may lack its end. Plain or gzip, told apart by the first two bytes.

use crate::limits::{SERIES_BYTES_MAX, VALUE_BYTES_CEILING};
use crate::model::{TimeUnit, Value, ValueType, check_series};
use flate2::bufread::MultiGzDecoder;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest line that is read: the largest series, a timestamp, the largest value.
const LINE_BYTES_MAX: usize = SERIES_BYTES_MAX + 32 + VALUE_BYTES_CEILING;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A line or a file that cannot be read.
#[derive(Debug)]
pub struct CsvError {
    /// Which file.
    pub file: PathBuf,
    /// Which line, counted from 1 for the header; `None` when the file could not be opened.
    pub line: Option<u64>,
    /// What is wrong, a sentence fragment.
    pub reason: String,
}

impl fmt::Display for CsvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}: line {line}: {}", self.file.display(), self.reason),
            None => write!(f, "{}: {}", self.file.display(), self.reason),
        }
    }
}
impl std::error::Error for CsvError {}

/// One sample as the file writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CsvSample<'a> {
    /// Its series.
    pub series: &'a [u8],
    /// Its time, in the unit of the header.
    pub time: i64,
    /// Its value, not yet parsed.
    pub value: &'a [u8],
}

/// Reads a CSV file line by line.
pub struct CsvReader {
    file: PathBuf,
    input: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    line_number: u64,
    crlf: bool,
    unit: TimeUnit,
}

impl fmt::Debug for CsvReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CsvReader({} at line {})", self.file.display(), self.line_number)
    }
}

impl CsvReader {
    /// Opens a file, plain or gzip, and reads its header. `position` follows the bytes read from disk.
    ///
    /// # Errors
    /// When the file cannot be opened, is no regular file, or has no valid header.
    pub fn open(path: &Path, position: Arc<AtomicU64>) -> Result<Self, CsvError> {
        let describe =
            |error: io::Error| CsvError { file: path.to_owned(), line: None, reason: error.to_string() };
        let file = File::open(path).map_err(describe)?;
        if file.metadata().map_err(describe)?.is_dir() {
            return Err(describe(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        Self::new(path, Box::new(Counted { file, position }))
    }

    /// Reads from any source; `path` is for messages.
    ///
    /// # Errors
    /// When there is no valid header, or it cannot be read.
    pub fn new(path: &Path, source: Box<dyn Read + Send>) -> Result<Self, CsvError> {
        let mut raw = BufReader::with_capacity(256 << 10, source);
        let fail = |reason: String| CsvError { file: path.to_owned(), line: Some(1), reason };
        let start = raw.fill_buf().map_err(|error| fail(error.to_string()))?;
        let input: Box<dyn BufRead + Send> = if start.starts_with(&GZIP_MAGIC) {
            Box::new(BufReader::with_capacity(256 << 10, MultiGzDecoder::new(raw)))
        } else {
            Box::new(raw)
        };
        let mut reader = Self {
            file: path.to_owned(),
            input,
            line: Vec::new(),
            line_number: 0,
            crlf: false,
            unit: TimeUnit::Milliseconds,
        };
        reader.read_header()?;
        Ok(reader)
    }

    /// Unit of the file's timestamps.
    #[must_use]
    pub fn unit(&self) -> TimeUnit {
        self.unit
    }

    /// The next sample, or `None` at the end of the file.
    ///
    /// # Errors
    /// A line that is no sample, or a file that cannot be read on, with the number of the line.
    pub fn next_sample(&mut self) -> Result<Option<CsvSample<'_>>, CsvError> {
        if !self.read_line()? {
            return Ok(None);
        }
        match split_line(&self.line) {
            Ok(sample) => Ok(Some(sample)),
            Err(reason) => Err(CsvError { file: self.file.clone(), line: Some(self.line_number), reason }),
        }
    }

    /// An error about the line that was read last.
    #[must_use]
    pub fn error(&self, reason: String) -> CsvError {
        CsvError { file: self.file.clone(), line: Some(self.line_number), reason }
    }

    fn read_header(&mut self) -> Result<(), CsvError> {
        let found = self.read_line()?;
        self.line_number = 1;
        if !found {
            return Err(
                self.error("the file is empty; it needs the header series,timestamp_ms,value".to_owned())
            );
        }
        if self.line.starts_with(BYTE_ORDER_MARK) {
            self.line.drain(..BYTE_ORDER_MARK.len());
        }
        self.crlf = self.line.last() == Some(&b'\r');
        if self.crlf {
            self.line.pop();
        }
        let unit = self.line.strip_prefix(b"series,timestamp_").and_then(|rest| rest.strip_suffix(b",value"));
        self.unit = match unit {
            Some(b"ms") => TimeUnit::Milliseconds,
            Some(b"us") => TimeUnit::Microseconds,
            Some(b"ns") => TimeUnit::Nanoseconds,
            _ => {
                return Err(self.error(
                    "this is not the header series,timestamp_ms,value (or timestamp_us, timestamp_ns)"
                        .to_owned(),
                ));
            }
        };
        Ok(())
    }

    /// Reads a line without its end; whether there was one.
    fn read_line(&mut self) -> Result<bool, CsvError> {
        self.line.clear();
        self.line_number += 1;
        let mut bounded = self.input.as_mut().take(LINE_BYTES_MAX as u64 + 3);
        let count = match bounded.read_until(b'\n', &mut self.line) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(
                    self.error("the compressed file ends here before its time; it is truncated".to_owned())
                );
            }
            Err(error) => return Err(self.error(format!("the file cannot be read on: {error}"))),
        };
        let ended = self.line.last() == Some(&b'\n');
        if ended {
            self.line.pop();
        } else if count > LINE_BYTES_MAX {
            return Err(self.error(format!("the line is longer than {LINE_BYTES_MAX} bytes")));
        }
        if self.crlf && self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        Ok(count > 0)
    }
}

/// Splits a line on its first two commas.
fn split_line(line: &[u8]) -> Result<CsvSample<'_>, String> {
    let mut parts = line.splitn(3, |byte| *byte == b',');
    let (Some(series), Some(time), Some(value)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("a line is series,timestamp,value; this one has fewer than two commas".to_owned());
    };
    check_series(series).map_err(|error| error.to_string())?;
    let time = std::str::from_utf8(time)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("the timestamp '{}' is not a 64-bit whole number", shorten(time)))?;
    Ok(CsvSample { series, time, value })
}

/// Reads a value as text, correctly rounded.
///
/// # Errors
/// A sentence fragment: not a number of the type, or outside its range.
pub fn parse_value(value_type: ValueType, text: &[u8]) -> Result<Value<'_>, String> {
    match value_type {
        ValueType::Bytes => Ok(Value::Bytes(text)),
        ValueType::I64 => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
            .map(Value::I64)
            .ok_or_else(|| format!("the value '{}' is not a 64-bit whole number", shorten(text))),
        ValueType::F64 => {
            let number: f64 = std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| format!("the value '{}' is not a number", shorten(text)))?;
            // The parser rounds what is too large to infinity; only an infinity that was written may become one.
            if number.is_infinite() && text.iter().any(u8::is_ascii_digit) {
                return Err(format!("the value '{}' is too large for a 64-bit float", shorten(text)));
            }
            Ok(Value::F64(number))
        }
    }
}

/// Bytes from a file, fit for a message.
fn shorten(text: &[u8]) -> String {
    match text.get(..40) {
        Some(start) => format!("{}…", start.escape_ascii()),
        None => text.escape_ascii().to_string(),
    }
}

/// A file that counts what was read from it.
struct Counted {
    file: File,
    position: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buf)?;
        self.position.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    type Samples = Vec<(String, i64, String)>;

    fn read(content: &[u8]) -> Result<(TimeUnit, Samples), CsvError> {
        let source = Box::new(io::Cursor::new(content.to_vec()));
        let mut reader = CsvReader::new(Path::new("x.csv"), source)?;
        let mut samples = Vec::new();
        while let Some(sample) = reader.next_sample()? {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            samples.push((text(sample.series), sample.time, text(sample.value)));
        }
        Ok((reader.unit(), samples))
    }
    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }
    fn sample(series: &str, time: i64, value: &str) -> (String, i64, String) {
        (series.to_owned(), time, value.to_owned())
    }

    #[test]
    fn plain_and_gzip_read_alike() {
        // The data sets come compressed, and an operator's own files plain.
        let content = b"series,timestamp_us,value\na,-5,1.5\nb,9223372036854775807,x,y\n";
        let expected = (TimeUnit::Microseconds, vec![sample("a", -5, "1.5"), sample("b", i64::MAX, "x,y")]);
        assert_eq!(read(content).unwrap(), expected);
        assert_eq!(read(&gzip(content)).unwrap(), expected);
        let mut two_members = gzip(&content[..30]);
        two_members.extend(gzip(&content[30..]));
        assert_eq!(read(&two_members).unwrap(), expected, "gzip files may be concatenated");
    }

    #[test]
    fn byte_order_mark_and_crlf_are_no_part_of_the_data() {
        // A BOM would hide the header, and a CR would end up in every byte value.
        let expected = vec![sample("a", 1, "2"), sample("b", 2, "c\r d")];
        let crlf = b"\xef\xbb\xbfseries,timestamp_ms,value\r\na,1,2\r\nb,2,c\r d\r\n";
        assert_eq!(read(crlf).unwrap().1, expected);
        let lf = b"series,timestamp_ms,value\na,1,x\r\n";
        assert_eq!(
            read(lf).unwrap().1,
            vec![sample("a", 1, "x\r")],
            "with LF ends, a CR belongs to the value"
        );
    }

    #[test]
    fn last_line_may_lack_its_end() {
        // Dropping it would lose a sample without a word.
        assert_eq!(read(b"series,timestamp_ms,value\na,1,2").unwrap().1, vec![sample("a", 1, "2")]);
        assert_eq!(read(b"series,timestamp_ms,value").unwrap().1, vec![]);
        assert_eq!(read(b"series,timestamp_ms,value\na,1,").unwrap().1, vec![sample("a", 1, "")]);
    }

    #[test]
    fn bad_lines_are_named_by_number() {
        // An import of a million lines that says "invalid digit" cannot be repaired.
        for (content, line, hint) in [
            (&b""[..], 1, "header"),
            (b"a,1,2\n", 1, "header"),
            (b"series,timestamp_s,value\n", 1, "header"),
            (b"series,timestamp_ms,value\na,1,2\n\n", 3, "two commas"),
            (b"series,timestamp_ms,value\na,1\n", 2, "two commas"),
            (b"series,timestamp_ms,value\n,1,2\n", 2, "key is empty"),
            (b"series,timestamp_ms,value\na,1.5,2\n", 2, "timestamp '1.5'"),
            (b"series,timestamp_ms,value\na,9223372036854775808,2\n", 2, "timestamp"),
            (b"series,timestamp_ms,value\na,\xff,2\n", 2, "timestamp '\\xff'"),
        ] {
            let error = read(content).expect_err(hint);
            assert_eq!(error.line, Some(line), "{error}");
            assert!(error.to_string().contains(hint), "{error}");
        }
    }

    #[test]
    fn truncated_gzip_is_an_error() {
        // Half a file that imports without complaint is data loss.
        let mut content = b"series,timestamp_ms,value\n".to_vec();
        for time in 0..2_000_u32 {
            writeln!(content, "a,{time},{}", time.wrapping_mul(2_654_435_761)).unwrap();
        }
        let whole = gzip(&content);
        assert_eq!(read(&whole).unwrap().1.len(), 2_000);
        for kept in [whole.len() / 2, whole.len() - 8, whole.len() - 1] {
            assert!(read(&whole[..kept]).is_err(), "{kept} of {} bytes were accepted", whole.len());
        }
        let mut flipped = whole.clone();
        let crc = whole.len() - 6;
        flipped[crc] ^= 1;
        assert!(read(&flipped).is_err(), "a wrong checksum was accepted");
    }

    #[test]
    fn numbers_are_read_to_the_nearest_double() {
        // One bit of difference breaks the export's hash.
        let bits = |text: &str| match parse_value(ValueType::F64, text.as_bytes()) {
            Ok(Value::F64(number)) => number.to_bits(),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(bits("0.1"), 0x3fb9_9999_9999_999a);
        assert_eq!(bits("0.30000000000000004"), 0x3fd3_3333_3333_3334);
        assert_eq!(bits("9007199254740993"), 0x4340_0000_0000_0000, "ties go to even");
        assert_eq!(bits("-0"), 0x8000_0000_0000_0000);
        assert_eq!(bits("1.5E-7"), bits("0.00000015"));
        assert_eq!(bits("5e-324"), 1);
        assert_eq!(bits("NaN"), 0x7ff8_0000_0000_0000);
        assert_eq!(bits("-inf"), f64::NEG_INFINITY.to_bits());
        for bad in ["", " 1", "1 ", "1,5", "0x10", "1e999", "--1", "NULL"] {
            assert!(parse_value(ValueType::F64, bad.as_bytes()).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn integers_and_bytes_are_taken_exactly() {
        // An integer beyond 2^53 must not pass through a double.
        assert_eq!(parse_value(ValueType::I64, b"-9223372036854775808"), Ok(Value::I64(i64::MIN)));
        for bad in [&b"1.0"[..], b"9223372036854775808", b"1e3", b""] {
            assert!(parse_value(ValueType::I64, bad).is_err());
        }
        assert_eq!(parse_value(ValueType::Bytes, b"\xff,\"x\""), Ok(Value::Bytes(b"\xff,\"x\"")));
    }
}
