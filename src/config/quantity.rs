//! Sizes and durations as people write them. The unit is part of the value; what could mean two things is refused.

use std::time::Duration;

/// Size units. `MB` is 1000², `MiB` is 1024²; `M` alone is refused because programs disagree on it.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Duration units and their nanoseconds.
const DURATION_UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

/// Reads a size: `1048576`, `10MB` (10,000,000) or `10MiB` (10,485,760); one space before the unit is allowed.
///
/// # Errors
/// A sentence fragment that says what is wrong and what to write instead.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split_number(text)?;
    let factor = match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => 1,
        None => return Err(unknown_size_unit(text, number, unit)),
    };
    number.checked_mul(factor).ok_or_else(|| format!("'{text}' is more bytes than 64 bits can count"))
}

/// Reads a duration: `500us`, `10ms`, `2s`, `1m`, `1h`, `30d`, `52w`; `0` needs no unit.
///
/// # Errors
/// A sentence fragment that says what is wrong and what to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_number(text)?;
    if unit.is_empty() {
        if number == 0 {
            return Ok(Duration::ZERO);
        }
        return Err(format!("'{text}' needs a unit: {number}ms, {number}us or {number}s"));
    }
    let (_, factor) = DURATION_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| format!("'{text}': the unit '{unit}' is not one of ns, us, ms, s, m, h"))?;
    number
        .checked_mul(*factor)
        .map(Duration::from_nanos)
        .ok_or_else(|| format!("'{text}' is longer than 64 bits of nanoseconds"))
}

/// Number and unit of a quantity.
fn split_number(text: &str) -> Result<(u64, &str), String> {
    let digits_end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    if digits.is_empty() {
        return Err(format!("'{text}' does not start with a whole number that is not negative"));
    }
    if unit.starts_with('.') || unit.starts_with(',') {
        return Err(format!("'{text}' has a fraction; write a whole number of a smaller unit"));
    }
    let number = digits.parse().map_err(|_| format!("'{digits}' is more than 64 bits can count"))?;
    Ok((number, unit.strip_prefix(' ').unwrap_or(unit)))
}

/// Explains a unit that is none, or that means two things.
fn unknown_size_unit(text: &str, number: u64, unit: &str) -> String {
    match unit {
        "k" | "K" => format!("'{text}' is ambiguous: write {number}kB (thousands) or {number}KiB (of 1024)"),
        "m" | "M" | "g" | "G" | "t" | "T" => {
            let letter = unit.to_uppercase();
            format!(
                "'{text}' is ambiguous: write {number}{letter}B (powers of 1000) or {number}{letter}iB (of 1024)"
            )
        }
        _ => format!("'{text}': the unit '{unit}' is not one of B, kB, MB, GB, KiB, MiB, GiB, TiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_and_binary_sizes_differ() {
        // A cache configured in MB that takes MiB exceeds the operator's memory budget.
        assert_eq!(parse_bytes("10MB"), Ok(10_000_000));
        assert_eq!(parse_bytes("10MiB"), Ok(10 << 20));
        assert_eq!(parse_bytes("10 MiB"), Ok(10 << 20));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_bytes("0"), Ok(0));
        assert_eq!(parse_bytes("3kB"), parse_bytes("3KB"));
    }

    #[test]
    fn sizes_that_overflow_or_mean_two_things_are_refused() {
        // Wrapped silently, `--cache-bytes 16777216TiB` would be zero bytes.
        for text in [
            "16777216TiB",
            "99999999999999999999",
            "16E",
            "10M",
            "1g",
            "-1",
            "",
            "MiB",
            "1.5GiB",
            "10  MB",
            "0x10",
        ] {
            assert!(parse_bytes(text).is_err(), "{text} was accepted");
        }
        assert!(parse_bytes("10M").is_err_and(|reason| reason.contains("10MB") && reason.contains("10MiB")));
    }

    #[test]
    fn durations_need_a_unit() {
        // A bare number read as seconds where milliseconds were meant loses a thousand times more writes.
        assert_eq!(parse_duration("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(parse_duration("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for text in ["10", "10 sec", "-5ms", "", "1.5s", "99999999999h", "10MS"] {
            assert!(parse_duration(text).is_err(), "{text} was accepted");
        }
    }
}
