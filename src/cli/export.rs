//! `tskv export`: every sample of the chosen series and times, in order.

use super::args::{ExportArgs, FormatArg, ValuesArg};
use super::connect::Target;
use super::error::CliError;
use super::format::{Form, FormatError, write_entry, write_header};
use super::output::Output;
use crate::client::{Client, ClientOptions};
use crate::model::{KeyRange, ScanAnswer, ScanRequest, Slot};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

impl From<FormatError> for CliError {
    fn from(error: FormatError) -> Self {
        match error {
            FormatError::Output(error) => Self::output(&error),
            other => Self::failed(other),
        }
    }
}

/// Runs the export.
pub(super) fn run(args: &ExportArgs) -> Result<(), CliError> {
    let mut client = Target::new(&args.connect)?.client(&ClientOptions::default())?;
    let mut output = Output::stdout();
    let left_out = export(&mut client, args, &mut output)?;
    output.flush().map_err(|error| CliError::output(&error))?;
    if left_out > 0 {
        eprintln!(
            "tskv: left out {left_out} plain key-value pairs, which CSV cannot carry; --format typed does"
        );
    }
    Ok(())
}

/// Writes everything to `output`; how many timeless values the form left out.
pub(super) fn export(
    client: &mut Client,
    args: &ExportArgs,
    output: &mut impl Write,
) -> Result<u64, CliError> {
    let form = match (args.format, args.values) {
        (FormatArg::Typed, _) => Form::Typed,
        (FormatArg::Csv, ValuesArg::Text) => Form::Text,
        (FormatArg::Csv, ValuesArg::Bits) => Form::Bits,
    };
    let request = ScanRequest {
        keys: KeyRange::prefix(args.prefix.as_bytes()),
        from: args.range.from,
        to: args.range.to,
        // CSV asks for all slots too, to be able to say what it leaves out.
        all_slots: true,
        reverse: false,
        limit: u64::MAX,
        answer: ScanAnswer::Entries,
    };
    write_header(output, form, client.info().unit).map_err(|error| CliError::output(&error))?;
    let mut left_out = 0;
    let mut scan = client.scan(request)?;
    while let Some(entries) = scan.next_chunk()? {
        for (series, slot, value) in entries {
            let written = write_entry(output, form, series, slot, value)?;
            left_out += u64::from(!written && slot == Slot::Timeless);
        }
    }
    Ok(left_out)
}
