//! One page that shows one or several runs, with pictures, in a single file.
//!
//! The page asks nobody for anything: style and pictures are inside, there are no scripts, and its content security
//! policy forbids both to anything that might have got in. It follows the reader's light or dark setting and prints.
//! Each run has a colour and each kind of latency a stroke; what a picture shows is also in a table or a title.

mod axis;
mod changes;
mod chart;
mod figures;
mod markup;
mod spectrum;
mod sweep;
mod timeline;

use super::description;
use crate::load::RunResult;
use markup::escape;

/// Runs on a page: more than this many colours cannot be told apart.
pub const RUNS_ON_A_PAGE_MAX: usize = 8;

const STYLE: &str = include_str!("style.css");
/// Nothing may be loaded or run; the style of the page itself may be used.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// A run and what it is called on the page.
#[derive(Clone, Debug)]
pub struct NamedRun<'a> {
    name: String,
    result: &'a RunResult,
}

impl<'a> NamedRun<'a> {
    /// A run by its label, or by `fallback` where it has none: the name of its file, say.
    #[must_use]
    pub fn new(result: &'a RunResult, fallback: &str) -> Self {
        Self { name: description::run_name(result, fallback), result }
    }
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The class that gives a run its colour.
fn run_class(index: usize) -> String {
    format!("run{}", index % RUNS_ON_A_PAGE_MAX)
}

/// The page. The first run is the base that the others are compared with; changes below `noise_floor_percent` count
/// as noise.
///
/// # Panics
///
/// When there is no run, or more than [`RUNS_ON_A_PAGE_MAX`].
#[must_use]
pub fn html_report(runs: &[NamedRun<'_>], noise_floor_percent: f64) -> String {
    assert!(!runs.is_empty() && runs.len() <= RUNS_ON_A_PAGE_MAX, "{} runs on a page", runs.len());
    let runs = &distinct(runs);
    let names: Vec<_> = runs.iter().map(|run| run.name.as_str()).collect();
    let title = escape(&format!("tskv bench: {}", names.join(", ")));
    let timeline = timeline::section(runs);
    let timeline = if timeline.is_empty() { timeline } else { format!("<h2>Over time</h2>\n{timeline}") };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n<main>\n<h1>{title}</h1>\n{cards}\
         <h2>Latency by percentile</h2>\n\
         <p>Response time counts from the moment a request was due and is what a user sees; service time counts from \
         the moment it was sent and leaves out the wait for a server that stalls.</p>\n{spectrum}\
         {timeline}{sweep}{changes}{tables}{settings}</main>\n</body>\n</html>\n",
        cards = figures::cards(runs),
        spectrum = spectrum::section(runs),
        sweep = sweep::section(runs),
        changes = changes::section(runs, noise_floor_percent),
        tables = figures::tables(runs),
        settings = figures::settings(runs),
    )
}

/// The runs with a number after each name that several have.
fn distinct<'a>(runs: &[NamedRun<'a>]) -> Vec<NamedRun<'a>> {
    let numbered = runs.iter().enumerate().map(|(index, run)| {
        let is_shared = runs.iter().filter(|other| other.name == run.name).count() > 1;
        let name = if is_shared { format!("{} ({})", run.name, index + 1) } else { run.name.clone() };
        NamedRun { name, result: run.result }
    });
    numbered.collect()
}
