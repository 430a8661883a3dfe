//! `tskv check`: is everything in a data directory what it was written as?

use super::args::DataArgs;
use super::error::CliError;
use super::output::Output;
use crate::io::OsFiles;
use crate::jobs::check_store;
use std::io::Write;

/// Runs the check.
pub(super) fn run(args: &DataArgs) -> Result<(), CliError> {
    // `OsFiles` creates what is missing; a check must not.
    if !args.data.is_dir() {
        return Err(CliError::Failed(format!("{} is no directory", args.data.display())));
    }
    let files = OsFiles::new(&args.data)
        .map_err(|error| CliError::Failed(format!("{}: {error}", args.data.display())))?;
    let mut findings = Vec::new();
    let summary = check_store(&files, std::process::id(), &mut |finding| findings.push(finding.to_string()))
        .map_err(|error| {
            let told = format!("{}: {error}", args.data.display());
            if error.is_damage() { CliError::Damaged(told) } else { CliError::Failed(told) }
        })?;
    let mut output = Output::stdout();
    let verdict = if summary.damages == 0 { "sound" } else { "DAMAGED" };
    let mut write = || {
        findings.iter().try_for_each(|finding| writeln!(output, "{finding}"))?;
        writeln!(
            output,
            "{verdict}: {} tables with {} blocks and {} entries, {} log segments with {} records, {} bytes; \
             {} damaged places, {} remarks",
            summary.tables,
            summary.blocks,
            summary.entries,
            summary.segments,
            summary.records,
            summary.bytes,
            summary.damages,
            summary.remarks,
        )?;
        output.flush()
    };
    write().map_err(|error| CliError::output(&error))?;
    if summary.damages > 0 { Err(CliError::Damaged("the store is damaged".to_owned())) } else { Ok(()) }
}
