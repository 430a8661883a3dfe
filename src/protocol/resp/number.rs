//! Numbers as RESP commands spell them, and as replies print them.

use std::io::Write;

/// A decimal integer by Redis's strict rules (`string2ll`): no `+`, no blanks, no leading zeros, no `-0`.
#[must_use]
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        [b'0'] if digits.len() == text.len() => Some(0),
        [b'1'..=b'9', ..] if digits.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(text).ok()?.parse().ok()
        }
        _ => None,
    }
}

/// A decimal integer without sign, by the same rules.
#[must_use]
pub fn parse_unsigned(text: &[u8]) -> Option<u64> {
    match text {
        [b'0'] => Some(0),
        [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(text).ok()?.parse().ok()
        }
        _ => None,
    }
}

/// A sample's value: decimal, with optional fraction and exponent; no `+`, no blanks, no hexadecimal, no infinity, no
/// NaN (level L1 of the TS.* commands).
#[must_use]
pub fn parse_value(text: &[u8]) -> Option<f64> {
    let is_start = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let is_inner = |byte: &u8| is_start(byte) || matches!(byte, b'+' | b'e' | b'E');
    if !text.first().is_some_and(is_start) || !text.iter().all(is_inner) {
        return None;
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// A bound of FILTER_BY_VALUE: a value, or an infinity.
#[must_use]
pub fn parse_bound(text: &[u8]) -> Option<f64> {
    let unsigned = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    let is_infinite = unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity");
    match is_infinite {
        true if text.starts_with(b"-") => Some(f64::NEG_INFINITY),
        true => Some(f64::INFINITY),
        false => parse_value(text),
    }
}

/// Appends an integer in decimal.
pub fn put_integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a double as RedisTimeSeries prints it in RESP2: the shortest text that reads back as the same number, plain
/// between 1 and 1E16, otherwise with an exponent.
pub fn put_series_value(out: &mut Vec<u8>, value: f64) {
    let magnitude = value.abs();
    let written = if value.is_nan() {
        out.write_all(b"NaN")
    } else if value.is_infinite() {
        out.write_all(if value > 0.0 { b"Infinity" } else { b"-Infinity" })
    } else if magnitude == 0.0 || (1.0..1e16).contains(&magnitude) {
        write!(out, "{value}")
    } else {
        write!(out, "{value:E}")
    };
    written.unwrap_or_else(|_| unreachable!("a vector takes every byte"));
}

/// Appends a double as RESP3 has it after the comma.
pub fn put_double(out: &mut Vec<u8>, value: f64) {
    let magnitude = value.abs();
    let written = if value.is_nan() {
        out.write_all(b"nan")
    } else if value.is_infinite() {
        out.write_all(if value > 0.0 { b"inf" } else { b"-inf" })
    } else if magnitude == 0.0 || (1e-5..1e17).contains(&magnitude) {
        write!(out, "{value}")
    } else {
        write!(out, "{value:e}")
    };
    written.unwrap_or_else(|_| unreachable!("a vector takes every byte"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_follow_redis_to_the_letter() {
        // A laxer rule makes two spellings of one length, which proxies and servers may read differently.
        let good: [(&[u8], i64); 5] = [
            (b"0", 0),
            (b"-1", -1),
            (b"10", 10),
            (b"9223372036854775807", i64::MAX),
            (b"-9223372036854775808", i64::MIN),
        ];
        for (text, value) in good {
            assert_eq!(parse_integer(text), Some(value));
        }
        for text in [
            &b""[..],
            b"-",
            b"+3",
            b"03",
            b" 3",
            b"3 ",
            b"-0",
            b"0x3",
            b"1e3",
            b"9223372036854775808",
            b"--1",
        ] {
            assert_eq!(parse_integer(text), None, "{}", text.escape_ascii());
        }
        assert_eq!(parse_unsigned(b"18446744073709551615"), Some(u64::MAX));
        for text in [&b""[..], b"-1", b"01", b"18446744073709551616", b"1a"] {
            assert_eq!(parse_unsigned(text), None);
        }
    }

    #[test]
    fn values_are_plain_decimals() {
        // What is accepted here becomes data; infinity or a hexadecimal typo must not.
        let good: [(&[u8], f64); 6] = [
            (b"-1.5e3", -1500.0),
            (b"0", 0.0),
            (b"12.", 12.0),
            (b".5", 0.5),
            (b"1E-3", 0.001),
            (b"1e+2", 100.0),
        ];
        for (text, value) in good {
            assert_eq!(parse_value(text), Some(value));
        }
        for text in
            [&b""[..], b"+1", b" 1", b"1 ", b"inf", b"nan", b"0x10", b"1e999", b"1e", b".", b"-", b"1f"]
        {
            assert_eq!(parse_value(text), None, "{}", text.escape_ascii());
        }
        assert_eq!(parse_bound(b"-inf"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_bound(b"+inf"), Some(f64::INFINITY));
        assert_eq!(parse_bound(b"7"), Some(7.0));
    }

    #[test]
    fn values_print_as_the_original_prints_them() {
        // Byte-exact comparison with the original rests on this form.
        let cases = [
            (12.5, "12.5"),
            (3.0, "3"),
            (0.0, "0"),
            (-0.0, "-0"),
            (0.5, "5E-1"),
            (0.125, "1.25E-1"),
            (1e20, "1E20"),
            (f64::MAX, "1.7976931348623157E308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (123456789012345.0, "123456789012345"),
        ];
        for (value, text) in cases {
            let mut out = Vec::new();
            put_series_value(&mut out, value);
            assert_eq!(out, text.as_bytes());
        }
        let cases = [(0.5, "0.5"), (1e300, "1e300"), (f64::INFINITY, "inf"), (f64::NAN, "nan"), (-2.0, "-2")];
        for (value, text) in cases {
            let mut out = Vec::new();
            put_double(&mut out, value);
            assert_eq!(out, text.as_bytes());
        }
    }
}
