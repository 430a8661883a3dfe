//! Entries as text: what `scan` and `export` print.
//!
//! ```text
//! text   series,timestamp_ms,value          header; f64 in the fewest digits that read back to the same bits
//! bits   cpu.idle,1517420000123,4058e00000000000   no header; f64 as its 64 bits in hex, NaN always 7ff8000000000000
//! typed  cpu.idle<TAB>1517420000123<TAB>f64<TAB>4058e00000000000   all slots and types, every byte escaped that needs it
//! ```
//! In text and bits, i64 is decimal and bytes are raw. What these two cannot carry is an error, never left out: a
//! series with a comma or a line end, a value with a line feed. Typed writes the slot as a timestamp, `timeless` or
//! `metadata`, and escapes bytes as Rust's byte string literals do.

use crate::model::{Slot, TimeUnit, Value};
use std::fmt;
use std::io::{self, Write};

/// How `export` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// CSV with readable numbers.
    Text,
    /// CSV with the bits of floats.
    Bits,
    /// Everything, escaped.
    Typed,
}

/// Why an entry was not written.
#[derive(Debug)]
pub(super) enum FormatError {
    /// CSV has no way to write this series.
    Series { series: Box<[u8]> },
    /// CSV has no way to write this value.
    Value { series: Box<[u8]>, time: i64 },
    /// The output failed.
    Output(io::Error),
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Series { series } => write!(
                f,
                "the series '{}' has a comma or a line end, which CSV cannot carry; use --format typed",
                series.escape_ascii()
            ),
            Self::Value { series, time } => write!(
                f,
                "the value of the series '{}' at {time} has a line feed, which CSV cannot carry; use --format typed",
                series.escape_ascii()
            ),
            Self::Output(error) => write!(f, "the output cannot be written: {error}"),
        }
    }
}

impl From<io::Error> for FormatError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Writes the first line, where the form has one.
///
/// # Errors
/// What the output says.
pub(super) fn write_header(out: &mut impl Write, form: Form, unit: TimeUnit) -> io::Result<()> {
    match form {
        Form::Text => writeln!(out, "series,timestamp_{unit},value"),
        Form::Typed => writeln!(out, "series\ttimestamp_{unit}\ttype\tvalue"),
        Form::Bits => Ok(()),
    }
}

/// Writes one entry as a line; whether it did. CSV has no place for metadata and timeless values: they are not written.
///
/// # Errors
/// An entry that the form cannot carry, or what the output says.
pub(super) fn write_entry(
    out: &mut impl Write,
    form: Form,
    series: &[u8],
    slot: Slot,
    value: Value<'_>,
) -> Result<bool, FormatError> {
    if form == Form::Typed {
        write_typed(out, series, slot, value)?;
        return Ok(true);
    }
    let Slot::Time(time) = slot else { return Ok(false) };
    if series.iter().any(|byte| matches!(byte, b',' | b'\n' | b'\r')) {
        return Err(FormatError::Series { series: series.into() });
    }
    if matches!(value, Value::Bytes(bytes) if bytes.contains(&b'\n')) {
        return Err(FormatError::Value { series: series.into(), time });
    }
    out.write_all(series)?;
    write!(out, ",{time},")?;
    write_value(out, form, value)?;
    out.write_all(b"\n")?;
    Ok(true)
}

fn write_typed(out: &mut impl Write, series: &[u8], slot: Slot, value: Value<'_>) -> io::Result<()> {
    write!(out, "{}\t", series.escape_ascii())?;
    match slot {
        Slot::Metadata => out.write_all(b"metadata")?,
        Slot::Timeless => out.write_all(b"timeless")?,
        Slot::Time(time) => write!(out, "{time}")?,
    }
    write!(out, "\t{}\t", value.value_type().name())?;
    match value {
        Value::Bytes(bytes) => writeln!(out, "{}", bytes.escape_ascii()),
        Value::F64(number) => writeln!(out, "{:016x}", number.to_bits()),
        Value::I64(number) => writeln!(out, "{number}"),
    }
}

/// Writes a value without anything around it.
///
/// # Errors
/// What the output says.
pub(super) fn write_value(out: &mut impl Write, form: Form, value: Value<'_>) -> io::Result<()> {
    match value {
        Value::Bytes(bytes) => out.write_all(bytes),
        Value::I64(number) => write!(out, "{number}"),
        Value::F64(number) if form == Form::Bits => {
            let bits = if number.is_nan() { NAN_BITS } else { number.to_bits() };
            write!(out, "{bits:016x}")
        }
        Value::F64(number) => write_f64(out, number),
    }
}

/// All NaNs are one in the bits form, as the data sets' checksums define it.
const NAN_BITS: u64 = 0x7ff8_0000_0000_0000;

/// The fewest digits that read back to the same bits; an exponent where plain digits would run long.
fn write_f64(out: &mut impl Write, number: f64) -> io::Result<()> {
    let magnitude = number.abs();
    if magnitude != 0.0 && magnitude.is_finite() && !(1e-6..1e17).contains(&magnitude) {
        write!(out, "{number:e}")
    } else {
        write!(out, "{number}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(form: Form, series: &[u8], slot: Slot, value: Value<'_>) -> Result<String, String> {
        let mut out = Vec::new();
        write_entry(&mut out, form, series, slot, value).map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn text_reads_back_to_the_same_bits() {
        // An export that changes the last bit cannot be imported again.
        for number in
            [0.1, -0.0, 0.0, 1e300, 5e-324, f64::MAX, f64::MIN_POSITIVE, 1.0, 123_456.789, f64::INFINITY]
        {
            for number in [number, -number] {
                let mut text = Vec::new();
                write_f64(&mut text, number).unwrap();
                let text = String::from_utf8(text).unwrap();
                assert_eq!(text.parse::<f64>().unwrap().to_bits(), number.to_bits(), "{text}");
                assert!(text.len() < 26, "{text}");
            }
        }
    }

    #[test]
    fn bits_are_those_of_the_data_sets_readme() {
        // The checksums of the test data hold only for exactly this form.
        let bits = |number| line(Form::Bits, b"a", Slot::Time(-1), Value::F64(number)).unwrap();
        assert_eq!(bits(99.5), "a,-1,4058e00000000000\n");
        assert_eq!(bits(-0.0), "a,-1,8000000000000000\n");
        assert_eq!(bits(-f64::NAN), "a,-1,7ff8000000000000\n");
        assert_eq!(line(Form::Bits, b"a", Slot::Time(1), Value::Bytes(b"x,y")).unwrap(), "a,1,x,y\n");
    }

    #[test]
    fn what_csv_cannot_carry_is_named() {
        // Written anyway, it would shift every column after it.
        for series in [&b"a,b"[..], b"a\nb", b"a\rb"] {
            let reason = line(Form::Text, series, Slot::Time(1), Value::I64(1)).unwrap_err();
            assert!(reason.contains(&series.escape_ascii().to_string()), "{reason}");
        }
        let reason = line(Form::Text, b"events", Slot::Time(7), Value::Bytes(b"x\ny")).unwrap_err();
        assert!(reason.contains("events") && reason.contains('7'), "{reason}");
        assert!(line(Form::Text, b"events", Slot::Time(7), Value::Bytes(b"x,\ry")).is_ok());
    }

    #[test]
    fn typed_carries_every_slot_type_and_byte() {
        // What is lost here is lost for good: no other form has it.
        assert_eq!(
            line(Form::Typed, b"a,\t\n", Slot::Timeless, Value::Bytes(b"\\\xff\n")).unwrap(),
            "a,\\t\\n\ttimeless\tbytes\t\\\\\\xff\\n\n"
        );
        assert_eq!(line(Form::Typed, b"a", Slot::Time(1), Value::I64(-2)).unwrap(), "a\t1\ti64\t-2\n");
        let nan = f64::from_bits(0x7ff8_0000_0000_0001);
        assert_eq!(
            line(Form::Typed, b"a", Slot::Metadata, Value::F64(nan)).unwrap(),
            "a\tmetadata\tf64\t7ff8000000000001\n"
        );
    }

    #[test]
    fn csv_leaves_timeless_values_to_the_caller() {
        // They have no timestamp to write; the caller counts and reports them.
        let mut out = Vec::new();
        assert!(!write_entry(&mut out, Form::Text, b"a", Slot::Timeless, Value::Bytes(b"x")).unwrap());
        assert!(out.is_empty());
    }
}
