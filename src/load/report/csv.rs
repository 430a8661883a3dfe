//! A line per second and operation, for spreadsheets. Units are in the header; what is not known is empty.

use crate::load::{RunResult, SecondOp};
use std::fmt::Write;

const HEADER: &str =
    "run,t_s,length_s,op,ops_per_s,values_per_s,errors_per_s,p50_us,p95_us,p99_us,p999_us,max_us\n";

/// Each second of a run. `t_s` is the end of the second since the start of its repetition, `run` counts from 1.
#[must_use]
pub fn per_second_csv(result: &RunResult) -> String {
    let mut csv = HEADER.to_owned();
    for second in &result.series {
        for (name, op) in &second.ops {
            let SecondOp { count, errors, values, p50_us, p95_us, p99_us, p999_us, max_us, .. } = op;
            let per_second = |number: u64| {
                let rate = if second.length_s > 0.0 { number as f64 / second.length_s } else { 0.0 };
                format!("{rate:.3}")
            };
            let figures = [p50_us, p95_us, p99_us, p999_us, max_us]
                .map(|us| us.map_or_else(String::new, |us| format!("{us:.3}")));
            writeln!(
                csv,
                "{},{:.3},{:.3},{},{},{},{},{}",
                second.run.saturating_add(1),
                second.t_s,
                second.length_s,
                cell(name),
                per_second(*count),
                per_second(*values),
                per_second(*errors),
                figures.join(","),
            )
            .expect("a string takes all that is written");
        }
    }
    csv
}

/// Text as a cell: quoted where it must be, and never a formula of the spreadsheet that opens it.
fn cell(text: &str) -> String {
    let safe = if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text.to_owned() };
    if safe.contains(|c: char| matches!(c, ',' | '"') || c.is_control()) {
        return format!("\"{}\"", safe.replace('"', "\"\""));
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn cells_hold_any_name() {
        // A query's name with a comma would shift all columns after it, and one with `=` would be computed.
        assert_eq!(cell("write"), "write");
        assert_eq!(cell("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(cell("=1+1"), "'=1+1");
    }
}
