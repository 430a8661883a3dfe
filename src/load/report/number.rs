//! Numbers and foreign text as people read them.

/// Digits in groups of three: `48,112`, `-1,234.50`. The argument is a decimal number.
fn grouped(decimal: &str) -> String {
    let (sign, unsigned) = decimal.strip_prefix('-').map_or(("", decimal), |rest| ("-", rest));
    let (whole, fraction) = unsigned.split_at(unsigned.find('.').unwrap_or(unsigned.len()));
    let mut text = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

/// A count.
pub(super) fn count(number: u64) -> String {
    grouped(&number.to_string())
}

/// A figure with at least three significant digits, and not more than three decimals: `3,412`, `180.5`, `3.125`.
pub(super) fn figure(number: f64) -> String {
    let decimals = match number.abs() {
        0.0 => 0,
        size if size < 10.0 => 3,
        size if size < 100.0 => 2,
        size if size < 1000.0 => 1,
        _ => 0,
    };
    grouped(&format!("{number:.decimals$}"))
}

/// A figure with at least three significant digits, however small, down to six decimals: `3.125`, `0.0312`.
pub(super) fn significant(number: f64) -> String {
    let decimals = match number.abs() {
        small if small > 0.0 && small < 0.01 => 6,
        small if small > 0.0 && small < 0.1 => 4,
        _ => return figure(number),
    };
    format!("{number:.decimals$}")
}

/// A figure without zeros that say nothing: `12.5`, `3,412`.
pub(super) fn short(number: f64) -> String {
    let text = figure(number);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A figure, or `-` where there is none.
pub(super) fn figure_or_dash(number: Option<f64>) -> String {
    number.map_or_else(|| "-".to_owned(), figure)
}

/// A rate: whole numbers where they say enough.
pub(super) fn rate(number: f64) -> String {
    if number.fract() == 0.0 { grouped(&format!("{number:.0}")) } else { figure(number) }
}

/// A tick of an axis: few digits, and a suffix for large numbers: `500`, `1.5k`, `20M`.
pub(super) fn tick(number: f64) -> String {
    let (scaled, suffix) = match number.abs() {
        size if size >= 1e9 => (number / 1e9, "G"),
        size if size >= 1e6 => (number / 1e6, "M"),
        size if size >= 1e4 => (number / 1e3, "k"),
        _ => (number, ""),
    };
    // Six decimals hold the smallest tick, a nanosecond in milliseconds.
    let text = format!("{scaled:.6}");
    format!("{}{suffix}", grouped(text.trim_end_matches('0').trim_end_matches('.')))
}

/// Bytes in binary units.
pub(super) fn bytes(number: f64) -> String {
    let (scaled, unit) = match number {
        size if size >= f64::from(1 << 30) => (number / f64::from(1 << 30), "GiB"),
        size if size >= f64::from(1 << 20) => (number / f64::from(1 << 20), "MiB"),
        size if size >= f64::from(1 << 10) => (number / f64::from(1 << 10), "KiB"),
        _ => return format!("{} bytes", rate(number)),
    };
    format!("{} {unit}", figure(scaled))
}

/// A change in percent, with its sign.
pub(super) fn change(percent: f64) -> String {
    if percent.abs() >= 1000.0 {
        return format!("{}{} %", if percent > 0.0 { "+" } else { "" }, figure(percent));
    }
    // What rounds to nothing has no sign.
    if percent.abs() < 0.05 { "0.0 %".to_owned() } else { format!("{percent:+.1} %") }
}

/// A time as `2023-11-14 22:13:20 UTC`; the calendar is that of Howard Hinnant's `civil_from_days`.
pub(super) fn utc(unix_ms: i64) -> String {
    let (days, second) = (unix_ms.div_euclid(86_400_000), unix_ms.rem_euclid(86_400_000) / 1000);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02} UTC", second % 60)
}

/// Text from a file or a server, fit for a terminal: control characters would move its cursor or change its title.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_three_significant_digits() {
        // A p50 of 31.2 us that becomes 33.0 us must be seen.
        for (number, text) in [
            (0.0, "0"),
            (0.125, "0.125"),
            (3.1254, "3.125"),
            (31.256, "31.26"),
            (180.55, "180.6"),
            (3412.4, "3,412"),
            (1_234_567.0, "1,234,567"),
            (-1234.5, "-1,234"),
        ] {
            assert_eq!(figure(number), text);
        }
        assert_eq!(figure_or_dash(None), "-");
        assert_eq!((short(12.5), short(3400.0), short(97.0)), ("12.5".into(), "3,400".into(), "97".into()));
        assert_eq!(
            (rate(5000.0), rate(4999.5), rate(0.25)),
            ("5,000".into(), "5,000".into(), "0.250".into())
        );
    }

    #[test]
    fn ticks_are_short_and_exact() {
        // Two ticks with the same label make an axis unreadable.
        for (number, text) in [
            (0.001, "0.001"),
            (0.5, "0.5"),
            (1500.0, "1,500"),
            (15_000.0, "15k"),
            (2.5e6, "2.5M"),
            (1e9, "1G"),
            (0.0, "0"),
        ] {
            assert_eq!(tick(number), text);
        }
        assert_eq!((bytes(512.0), bytes(64e6)), ("512 bytes".to_owned(), "61.04 MiB".to_owned()));
        assert_eq!(change(-4.25), "-4.2 %");
        assert_eq!((change(12_345.0), change(-0.01)), ("+12,345 %".to_owned(), "0.0 %".to_owned()));
    }

    #[test]
    fn times_are_told_in_utc() {
        // A report could not be told from last month's.
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(1_700_000_000_000), "2023-11-14 22:13:20 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(253_402_300_799_999), "9999-12-31 23:59:59 UTC");
    }

    #[test]
    fn terminals_are_not_written_to_by_files() {
        // A label could clear the screen or rename the window.
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
