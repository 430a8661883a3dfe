//! `tskv bench compare`: stored runs against a base, with an exit status for pipelines.
//!
//! Exit status 0: nothing got worse; 1: something did, or a threshold was missed; 2: the runs cannot be compared, or
//! a file cannot be used.

use super::report::{NOISE_FLOOR_PERCENT, Stored, write_file, write_page};
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::load::report::{
    Difference, NamedRun, Threshold, compare, comparison_text, config_differences, differences,
    has_regression,
};
use crate::load::{RunConfig, RunResult};
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Longest name of a baseline.
const NAME_BYTES_MAX: usize = 100;

/// What to compare with what.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CompareArgs {
    /// Results of --json; the first is the base, unless there is a --baseline
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    baseline: BaselineArgs,
    /// Limit that each compared run must keep, like write.p99_us<5000 or total.ops_per_s>=48000
    #[arg(long = "threshold", value_parser = Threshold::parse, value_name = "LIMIT")]
    thresholds: Vec<Threshold>,
    /// Compare runs that did not measure the same
    #[arg(long)]
    force: bool,
    /// Write one page with pictures, the base first
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Results that are kept by name; shared by `compare` and all subcommands that measure.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct BaselineArgs {
    /// Base to compare with: a name that was saved, or a file
    #[arg(long, value_name = "NAME|FILE")]
    baseline: Option<String>,
    /// Keep the result (of several files the last) under this name, unless something got worse
    #[arg(long, value_parser = parse_name, value_name = "NAME")]
    save_baseline: Option<String>,
    /// Directory of the saved ones
    #[arg(long, env = "TSKV_BENCH_BASELINES", default_value = "tskv-bench-baselines", value_name = "DIR")]
    baselines: PathBuf,
    /// Smaller changes count as noise, whatever the repetitions say
    #[arg(long, default_value = "3%", value_parser = parse_percent, value_name = "PERCENT")]
    noise: f64,
}

impl BaselineArgs {
    /// The run to compare with, if there is one.
    fn read(&self) -> Result<Option<Stored>, CliError> {
        let path = self.baseline.as_deref().map(|name| baseline_path(&self.baselines, name));
        path.map(|path| Stored::read(&path)).transpose()
    }
    /// As [`Self::read`], before a run: refuses a base that measured something else.
    pub(super) fn read_for(&self, config: &RunConfig) -> Result<Option<Stored>, CliError> {
        let base = self.read()?;
        if let Some(base) = &base {
            let found = config_differences(&base.result.config, config);
            refuse_decisive(
                &found,
                &format!("{} and this run do not measure the same", base.path.display()),
            )?;
        }
        Ok(base)
    }
    /// Says how a run that was just made compares with `base`, and saves it where that was asked for; whether anything
    /// is worse.
    pub(super) fn conclude(
        &self,
        text: &mut String,
        base: Option<&Stored>,
        result: &RunResult,
        is_good: bool,
    ) -> Result<bool, CliError> {
        let json = serde_json::to_vec_pretty(result).map_err(CliError::failed)?;
        let new = Stored { path: PathBuf::from("this run"), result: result.clone(), json };
        let mut is_worse = false;
        if let Some(base) = base {
            refuse_if_different(base, std::slice::from_ref(&new), false)?;
            is_worse = compare_pair(text, base, &new, self.noise);
        }
        self.save(text, &new, is_worse || !is_good)?;
        Ok(is_worse)
    }
    fn save(&self, text: &mut String, run: &Stored, is_worse: bool) -> Result<(), CliError> {
        let Some(name) = &self.save_baseline else { return Ok(()) };
        if is_worse {
            *text += &format!("not saved as {name}: it is worse, or not what was asked for\n");
            return Ok(());
        }
        std::fs::create_dir_all(&self.baselines)
            .map_err(|error| CliError::Failed(format!("{}: {error}", self.baselines.display())))?;
        write_file(&self.baselines.join(format!("{name}.json")), &run.json)?;
        *text += &format!("saved {} as {name}\n", run.path.display());
        Ok(())
    }
}

const _: () = assert!(NOISE_FLOOR_PERCENT == 3.0, "the default of --noise says so too");

fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse();
    number
        .ok()
        .filter(|percent: &f64| (0.0..=1000.0).contains(percent))
        .ok_or_else(|| "no percentage from 0% to 1000%".to_owned())
}

/// A name becomes a file's: nothing in it may lead elsewhere.
fn parse_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > NAME_BYTES_MAX || text.starts_with('.') || !text.chars().all(is_plain)
    {
        return Err("a name is made of letters, digits, -, _ and . and does not begin with a dot".to_owned());
    }
    Ok(text.to_owned())
}

/// Compares, says what it found, and fails if something got worse.
pub(super) fn run(args: &CompareArgs) -> Result<(), CliError> {
    let mut runs = args.files.iter().map(|path| Stored::read(path)).collect::<Result<Vec<_>, _>>()?;
    if let Some(base) = args.baseline.read()? {
        runs.insert(0, base);
    }
    let Some((base, others)) = runs.split_first() else { return Ok(()) };
    if others.is_empty() && args.thresholds.is_empty() && args.baseline.save_baseline.is_none() {
        let advice = "one file and nothing to compare it with; give a second one, --baseline or --threshold";
        return Err(CliError::Usage(advice.to_owned()));
    }
    refuse_if_different(base, others, args.force)?;
    let mut text = String::new();
    let mut is_worse = false;
    for new in others {
        is_worse |= compare_pair(&mut text, base, new, args.baseline.noise);
    }
    // With nothing to compare, the thresholds are for the one run there is.
    let judged = if others.is_empty() { std::slice::from_ref(base) } else { others };
    is_worse |= !keep_thresholds(&mut text, judged, &args.thresholds)?;
    if let Some(path) = &args.html {
        let named: Vec<_> = runs.iter().map(Stored::named).collect();
        write_page(path, &named, args.baseline.noise)?;
    }
    if let Some(last) = runs.last() {
        args.baseline.save(&mut text, last, is_worse)?;
    }
    let mut output = Output::stdout();
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .map_err(|error| CliError::output(&error))?;
    if is_worse { Err(CliError::Negative) } else { Ok(()) }
}

/// A saved baseline by its name, or a file by its path.
fn baseline_path(baselines: &Path, baseline: &str) -> PathBuf {
    let saved = parse_name(baseline).map(|name| baselines.join(name + ".json"));
    saved.ok().filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from(baseline))
}

fn refuse_if_different(base: &Stored, others: &[Stored], force: bool) -> Result<(), CliError> {
    for new in others {
        let found = differences(&base.result, &new.result);
        if force {
            continue;
        }
        let (base, new) = (base.path.display(), new.path.display());
        let reason = format!(
            "{base} and {new} did not measure the same (bench compare --force compares them all the same)"
        );
        refuse_decisive(&found, &reason)?;
    }
    Ok(())
}

fn refuse_decisive(found: &[Difference], reason: &str) -> Result<(), CliError> {
    let decisive: Vec<_> = found.iter().filter(|difference| difference.is_decisive).collect();
    if decisive.is_empty() {
        return Ok(());
    }
    let mut message = format!("{reason}:");
    for difference in decisive {
        write!(message, "\n  {difference}").map_err(CliError::failed)?;
    }
    Err(CliError::Usage(message))
}

/// Says how `new` compares with `base`; whether anything is worse.
fn compare_pair(text: &mut String, base: &Stored, new: &Stored, noise_floor_percent: f64) -> bool {
    let gap = if text.is_empty() { "" } else { "\n" };
    let title = |run: &Stored, named: NamedRun<'_>| format!("{} ({})", named.name(), run.path.display());
    *text += &format!("{gap}base {}\nnew  {}\n", title(base, base.named()), title(new, new.named()));
    for difference in differences(&base.result, &new.result) {
        *text += &format!("differs  {difference}\n");
    }
    for run in [base, new] {
        let verdict = &run.result.verdict;
        for (is_set, words) in [
            (
                verdict.generator_limited,
                "generator_limited: the generator was the bottleneck, not the server",
            ),
            (verdict.target_not_reached, "target_not_reached: the latencies are those of an overload"),
            (verdict.interrupted, "interrupted before its end"),
            (verdict.failure.is_some(), "failed before its end"),
        ] {
            if is_set {
                *text += &format!("beware   {}: {words}\n", run.path.display());
            }
        }
    }
    let changes = compare(&base.result, &new.result, noise_floor_percent);
    *text += "\n";
    *text += &comparison_text(&changes);
    if changes.iter().all(|change| change.noise_percent.is_none()) {
        *text += "the noise is not known: each run has one repetition; measure with --runs 5\n";
    }
    has_regression(&changes)
}

/// Says which limits were kept; whether all were.
fn keep_thresholds(text: &mut String, runs: &[Stored], thresholds: &[Threshold]) -> Result<bool, CliError> {
    let mut is_kept = true;
    for run in runs {
        for threshold in thresholds {
            let file = run.path.display();
            let verdict = threshold
                .check(&run.result)
                .map_err(|reason| CliError::Usage(format!("{file}: {reason}")))?;
            *text += &format!("threshold {file}: {}\n", verdict.words);
            is_kept &= verdict.is_kept;
        }
    }
    Ok(is_kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_directory() {
        // A baseline called ../../etc/x would be written there.
        for bad in ["", ".", "..", "../a", "a/b", ".hidden", "a b", "a\0", &"x".repeat(101)] {
            assert!(parse_name(bad).is_err(), "'{bad}' was accepted");
        }
        assert_eq!(parse_name("v1.2_main-3").unwrap(), "v1.2_main-3");
    }

    #[test]
    fn percentages_are_checked() {
        // A negative noise makes each run differ from itself.
        assert_eq!(parse_percent("3%"), Ok(3.0));
        assert_eq!(parse_percent("0.5"), Ok(0.5));
        for bad in ["", "%", "-1%", "NaN", "inf", "3 percent", "1001%"] {
            assert!(parse_percent(bad).is_err(), "'{bad}' was accepted");
        }
    }
}
