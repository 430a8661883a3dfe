//! Reports of finished runs: pure functions from documents to text, files and pages.
//!
//! ```text
//!  JSON ─▶ document ─▶ RunResult ─┬─▶ text          the table on the terminal
//!                                 ├─▶ hgrm, hlog    what HdrHistogram's plotters read
//!                                 ├─▶ csv           a line per second
//!                                 ├─▶ comparison    two runs, and whether one is worse; threshold: limits on one
//!                                 └─▶ html          one page with pictures
//! ```
//! Percentiles come from merged histograms, never from averages. Text from a document reaches a terminal without
//! control characters and a page without markup.

mod comparison;
mod csv;
mod description;
mod document;
mod hgrm;
mod hlog;
mod html;
mod noise;
mod number;
mod percentiles;
mod text;
mod threshold;
mod totals;

pub use comparison::{
    Change, Difference, Outcome, compare, comparison_text, config_differences, differences, has_regression,
};
pub use csv::per_second_csv;
pub use description::CLOSED_LOOP;
pub use document::{DocumentError, parse_document};
pub use hgrm::{spectra, spectrum};
pub use hlog::interval_log;
pub use html::{NamedRun, RUNS_ON_A_PAGE_MAX, html_report};
pub use percentiles::{LatencyUnit, Percentiles};
pub use text::text_report;
pub use threshold::{Threshold, Verdict as ThresholdVerdict};
