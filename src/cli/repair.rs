//! `tskv repair`: says what is damaged and what would be lost, and makes the store usable again when told to.

use super::args::RepairArgs;
use super::error::CliError;
use super::output::Output;
use crate::io::{Files, OsFiles};
use crate::jobs::{Field, FieldValue, RepairOptions, RepairReport, RepairStep, repair_store};
use crate::limits::MEMTABLE_BYTES_DEFAULT;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;

/// Runs the repair.
pub(super) fn run(args: &RepairArgs) -> Result<(), CliError> {
    let data = &args.data;
    let refused = |error: &dyn std::fmt::Display| CliError::Failed(format!("{}: {error}", data.display()));
    // `OsFiles` creates what is missing; a repair must not.
    if !data.is_dir() {
        return Err(CliError::Failed(format!("{} is no directory", data.display())));
    }
    let files: Arc<dyn Files> = Arc::new(OsFiles::new(data).map_err(|error| refused(&error))?);
    let options = RepairOptions {
        apply: args.apply,
        time_unit: args.time_unit.map(Into::into),
        memory_bytes: MEMTABLE_BYTES_DEFAULT,
        bloom_bits: 10,
    };
    let report = repair_store(&files, &options, std::process::id()).map_err(|error| refused(&error))?;
    let mut output = Output::stdout();
    let told = if args.json { tell_json(&report, &mut output) } else { tell(&report, &mut output) };
    told.and_then(|()| output.flush()).map_err(|error| CliError::output(&error))?;
    if report.steps.is_empty() || report.applied {
        Ok(())
    } else {
        Err(CliError::Damaged("the store is damaged".to_owned()))
    }
}

fn tell(report: &RepairReport, output: &mut impl Write) -> io::Result<()> {
    report.steps.iter().try_for_each(|step| writeln!(output, "{step}"))?;
    let entries = report.entries_sound;
    match (report.steps.is_empty(), report.applied) {
        (true, _) => {
            writeln!(output, "nothing to repair: {entries} entries in sound tables, and a sound log")
        }
        (_, true) => writeln!(
            output,
            "REPAIRED: {entries} entries in sound tables, {} new tables; nothing was deleted",
            report.tables_made
        ),
        (_, false) => writeln!(output, "NOTHING WAS CHANGED; `tskv repair --apply` does the above"),
    }
}

/// One object a line: the steps, then a verdict.
fn tell_json(report: &RepairReport, output: &mut impl Write) -> io::Result<()> {
    for step in &report.steps {
        writeln!(output, "{}", step_json(step))?;
    }
    let verdict = match (report.steps.is_empty(), report.applied) {
        (true, _) => "sound",
        (_, true) => "repaired",
        (_, false) => "damaged",
    };
    writeln!(
        output,
        "{{\"kind\":\"verdict\",\"verdict\":\"{verdict}\",\"entries_sound\":{},\"tables_made\":{}}}",
        report.entries_sound, report.tables_made
    )
}

fn step_json(step: &RepairStep) -> String {
    let mut object = format!("{{\"kind\":\"{}\"", step.kind());
    let text = ("text", FieldValue::Text(step.to_string()));
    step.fields().iter().chain([&text]).for_each(|field| put_field(&mut object, field));
    object.push('}');
    object
}

fn put_field(object: &mut String, (name, value): &Field) {
    object.push_str(",\"");
    object.push_str(name);
    object.push_str("\":");
    match value {
        FieldValue::Number(number) => object.push_str(&number.to_string()),
        FieldValue::Text(text) => put_string(object, text),
        FieldValue::Bytes(bytes) => put_string(object, &bytes.escape_ascii().to_string()),
    }
}

fn put_string(object: &mut String, text: &str) {
    object.push('"');
    for character in text.chars() {
        match character {
            '"' => object.push_str("\\\""),
            '\\' => object.push_str("\\\\"),
            control if control < ' ' => {
                // Writing to a string cannot fail.
                let _ = write!(object, "\\u{:04x}", u32::from(control));
            }
            other => object.push(other),
        }
    }
    object.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::{BlockLoss, TablePlan};
    use crate::model::{Slot, TableId};

    #[test]
    fn lines_are_json_whatever_a_key_holds() {
        // A program that decides on this must not trip over a quote in somebody's series.
        let key: Box<[u8]> = b"a\"b\\\n\xff"[..].into();
        let loss = BlockLoss {
            file: "tables/x\u{1}.sst".into(),
            range: 5..9,
            keys: Some(((key.clone(), Slot::Timeless), (key.clone(), Slot::Time(-3)))),
            reason: "crc \"x\"".to_owned(),
        };
        let value: serde_json::Value = serde_json::from_str(&step_json(&RepairStep::Block(loss))).unwrap();
        assert_eq!((&value["kind"], &value["offset"]), (&"block".into(), &5.into()));
        assert_eq!((&value["bytes"], &value["file"]), (&4.into(), &"tables/x\u{1}.sst".into()));
        assert_eq!(value["series_first"], key.escape_ascii().to_string());
        let plan = TablePlan {
            file: "t".into(),
            source: None,
            id: TableId(1),
            blocks_kept: 0,
            blocks_lost: 0,
            kept: Default::default(),
            entries_lost: None,
            range_deletes_kept: 0,
            range_deletes_lost: Some(2),
            series: None,
            times: Some((i64::MIN, i64::MAX)),
            older_tables: 3,
        };
        let value: serde_json::Value = serde_json::from_str(&step_json(&RepairStep::Table(plan))).unwrap();
        assert_eq!((value.get("entries_lost"), &value["range_deletes_lost"]), (None, &2.into()));
        assert_eq!(value["time_min"], i64::MIN);
    }
}
