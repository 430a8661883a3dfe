//! The line that is printed each second.

use super::collector::{LiveOp, LiveSecond};
use std::fmt::Write;

/// One second, or the seconds since the last line, in one line, without its end.
#[must_use]
pub fn live_line(second: &LiveSecond) -> String {
    let mut line = String::new();
    let total = second.total_s.map_or_else(String::new, |total| format!("/{total}s"));
    let _ = write!(line, "[{:>3}s{total}]", second.t_s);
    for op in &second.ops {
        put_op(&mut line, op, second.length_s.max(1));
    }
    if second.ops.is_empty() {
        line.push_str(" nothing answered");
    }
    let LiveSecond { behind_s, errors, cpu_percent, .. } = second;
    let _ = write!(line, " | behind {behind_s:.1} s | err {errors} | gen cpu {cpu_percent:.0}%");
    line
}

fn put_op(line: &mut String, op: &LiveOp, length_s: u64) {
    let ms = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), |us| format!("{:.3}", us / 1e3));
    let latency = &op.latency_us;
    let _ = write!(line, " {} {}/s", op.name, grouped(op.count / length_s));
    if op.values != op.count {
        let _ = write!(line, " ({} values/s)", short(op.values as f64 / length_s as f64));
    }
    let _ = write!(
        line,
        " {}B/s p50 {} p99 {} p99.9 {} max {} ms",
        short(op.bytes as f64 / length_s as f64),
        ms(latency.p50),
        ms(latency.p99),
        ms(latency.p999),
        ms(latency.max)
    );
}

/// `48,112`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `4.81 M`.
pub(super) fn short(number: f64) -> String {
    let (scaled, unit) = match number {
        large if large >= 1e9 => (large / 1e9, "G"),
        large if large >= 1e6 => (large / 1e6, "M"),
        large if large >= 1e3 => (large / 1e3, "k"),
        small => return format!("{small:.0} "),
    };
    format!("{scaled:.2} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::LatencySummary;

    #[test]
    fn the_line_shows_rate_tail_and_errors() {
        // Whoever watches a run that goes wrong should see it before it ends.
        let latency_us = LatencySummary {
            p50: Some(310.0),
            p99: Some(1_920.0),
            max: Some(11_000.0),
            ..LatencySummary::default()
        };
        let op = LiveOp {
            name: "write".to_owned(),
            count: 48_112,
            values: 4_811_200,
            bytes: 38_000_000,
            latency_us,
        };
        let second = LiveSecond {
            run: 0,
            t_s: 12,
            length_s: 1,
            total_s: Some(30),
            ops: vec![op],
            behind_s: 0.04,
            errors: 3,
            cpu_percent: 41.2,
        };
        assert_eq!(
            live_line(&second),
            "[ 12s/30s] write 48,112/s (4.81 M values/s) 38.00 MB/s p50 0.310 p99 1.920 p99.9 - max 11.000 ms \
             | behind 0.0 s | err 3 | gen cpu 41%"
        );
        assert_eq!(
            (grouped(1_000), grouped(7), short(12.0)),
            ("1,000".to_owned(), "7".to_owned(), "12 ".to_owned())
        );
    }
}
