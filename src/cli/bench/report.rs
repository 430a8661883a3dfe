//! `tskv bench report`: stored runs on the terminal, as files for other tools, and as a page.

use super::args::UnitArg;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::load::RunResult;
use crate::load::report::{
    NamedRun, Percentiles, RUNS_ON_A_PAGE_MAX, html_report, interval_log, parse_document, per_second_csv,
    spectra, text_report,
};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Largest document that is read: hours of a run with a histogram per second and operation.
const DOCUMENT_BYTES_MAX: u64 = 512 << 20;
/// Changes below this are noise where nobody said otherwise, in percent.
pub(super) const NOISE_FLOOR_PERCENT: f64 = 3.0;

/// Which runs to report on, and where to.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ReportArgs {
    /// Results of --json
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Percentiles of the tables
    #[arg(long, default_value = "50,90,95,99,99.9,99.99,100", value_parser = Percentiles::parse, value_name = "LIST")]
    percentiles: Percentiles,
    /// Unit of latencies in tables
    #[arg(long, value_enum, default_value_t = UnitArg::Us)]
    units: UnitArg,
    #[command(flatten)]
    files_to_write: FileArgs,
}

/// Files to write besides the table; shared by all subcommands that have results.
#[derive(Clone, Debug, Default, clap::Args)]
pub(in crate::cli) struct FileArgs {
    /// Write one page with pictures, for any browser, offline too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write percentile spectra for HdrHistogram's plotters: PREFIX-write-response.hgrm and so on
    #[arg(long, value_name = "PREFIX")]
    hgrm: Option<PathBuf>,
    /// Write a line per second and operation
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write HdrHistogram's interval log
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,
}

/// A result and where it lies.
pub(super) struct Stored {
    pub(super) path: PathBuf,
    pub(super) result: RunResult,
    /// The document as it is.
    pub(super) json: Vec<u8>,
}

impl Stored {
    /// Reads and checks a result.
    pub(super) fn read(path: &Path) -> Result<Self, CliError> {
        // Exit status 1 means a regression to whoever compares: a file that cannot be used is wrong usage.
        let unusable =
            |reason: &dyn std::fmt::Display| CliError::Usage(format!("{}: {reason}", path.display()));
        let file = File::open(path).map_err(|error| unusable(&error))?;
        let mut json = Vec::new();
        file.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut json).map_err(|error| unusable(&error))?;
        if json.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(unusable(&format!("larger than {} MiB", DOCUMENT_BYTES_MAX >> 20)));
        }
        let result = parse_document(&json).map_err(|error| unusable(&error))?;
        Ok(Self { path: path.to_owned(), result, json })
    }
    /// It by its label, or else by its file's name.
    pub(super) fn named(&self) -> NamedRun<'_> {
        let stem = self.path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        NamedRun::new(&self.result, &stem)
    }
}

/// Reports on stored runs.
pub(super) fn run(args: &ReportArgs) -> Result<(), CliError> {
    let runs = args.files.iter().map(|path| Stored::read(path)).collect::<Result<Vec<_>, _>>()?;
    let named: Vec<_> = runs.iter().map(Stored::named).collect();
    let results: Vec<_> = runs.iter().map(|run| &run.result).collect();
    write_files(&args.files_to_write, &results, &named)?;
    let mut output = Output::stdout();
    let mut print = || {
        for (index, run) in runs.iter().enumerate() {
            if runs.len() > 1 {
                let gap = if index > 0 { "\n" } else { "" };
                writeln!(output, "{gap}# {}", run.path.display())?;
            }
            output.write_all(text_report(&run.result, &args.percentiles, args.units.unit()).as_bytes())?;
        }
        output.flush()
    };
    print().map_err(|error| CliError::output(&error))
}

/// Writes the files that were asked for. `named` are the same runs as `results`.
pub(super) fn write_files(
    outputs: &FileArgs,
    results: &[&RunResult],
    named: &[NamedRun<'_>],
) -> Result<(), CliError> {
    if let Some(path) = &outputs.html {
        write_page(path, named, NOISE_FLOOR_PERCENT)?;
    }
    if let Some(prefix) = &outputs.hgrm {
        for (index, result) in results.iter().enumerate() {
            let number = if results.len() > 1 { format!("-{}", index + 1) } else { String::new() };
            for (suffix, spectrum) in spectra(result) {
                let mut path = OsString::from(prefix);
                path.push(format!("{number}-{suffix}"));
                write_file(Path::new(&path), spectrum.as_bytes())?;
            }
        }
    }
    if outputs.csv.is_none() && outputs.hlog.is_none() {
        return Ok(());
    }
    let [result] = results else {
        return Err(CliError::Usage("--csv and --hlog hold one run: give one FILE".to_owned()));
    };
    if let Some(path) = &outputs.csv {
        write_file(path, per_second_csv(result).as_bytes())?;
    }
    if let Some(path) = &outputs.hlog {
        write_file(path, &interval_log(result).map_err(CliError::Failed)?)?;
    }
    Ok(())
}

/// Refuses files that cannot be written, before a run whose result would have nowhere to go.
pub(super) fn refuse_unwritable(outputs: &FileArgs, json: Option<&Path>) -> Result<(), CliError> {
    let single = [outputs.html.as_deref(), outputs.csv.as_deref(), outputs.hlog.as_deref(), json];
    let prefix = outputs.hgrm.as_deref().map(|prefix| {
        let mut path = OsString::from(prefix);
        path.push("-total-response.hgrm");
        PathBuf::from(path)
    });
    for path in single.into_iter().flatten().chain(prefix.as_deref()) {
        let failed = |error: std::io::Error| CliError::Failed(format!("{}: {error}", path.display()));
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(failed(std::io::ErrorKind::IsADirectory.into())),
            Ok(found) if !found.is_file() => continue,
            Ok(_) | Err(_) => {}
        }
        let temporary = temporary_beside(path);
        File::create(&temporary).and_then(|_| std::fs::remove_file(&temporary)).map_err(failed)?;
    }
    Ok(())
}

/// Where a file lies until it is whole.
fn temporary_beside(path: &Path) -> PathBuf {
    let mut temporary = OsString::from(path);
    temporary.push(format!(".{}.tmp", std::process::id()));
    PathBuf::from(temporary)
}

/// Writes the page of some runs.
pub(super) fn write_page(
    path: &Path,
    runs: &[NamedRun<'_>],
    noise_floor_percent: f64,
) -> Result<(), CliError> {
    if runs.len() > RUNS_ON_A_PAGE_MAX {
        return Err(CliError::Usage(format!("--html shows at most {RUNS_ON_A_PAGE_MAX} runs")));
    }
    write_file(path, html_report(runs, noise_floor_percent).as_bytes())
}

/// Writes a file that is whole or not there: a reader must not find half a report.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::Failed(format!("{}: {error}", path.display()));
    // A device or a pipe, as in `--csv /dev/stderr`, cannot be renamed onto.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return std::fs::write(path, bytes).map_err(failed);
    }
    let temporary = temporary_beside(path);
    std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path)).map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        failed(error)
    })
}
