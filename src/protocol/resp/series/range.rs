//! TS.RANGE and TS.REVRANGE: bounds and options.

use super::super::command::{CommandError, CommandResult, is_word, key_at};
use super::super::number::{parse_bound, parse_integer};
use super::super::parse::Args;
use super::super::request::Request;
use super::UNEXPECTED_WORD;
use crate::model::{Aggregation, Aggregator, BucketTimestamp, Command, RangeQuery};

/// Timestamps that FILTER_BY_TS uses; more are passed over, as in the original.
const FILTER_TIMES_MAX: usize = 128;
/// Aggregators of one query.
const AGGREGATORS_MAX: usize = 16;
/// Word of the first option: command, key, from, to come before it.
const OPTIONS_START: usize = 4;

/// The words `from` and `to` of TS.RANGE and TS.DEL.
pub(super) fn parse_bounds(words: Args<'_>) -> Result<(i64, i64), CommandError<'_>> {
    let from = match words.get(2) {
        Some(b"-") => Some(i64::MIN),
        word => word.and_then(parse_integer),
    };
    let to = match words.get(3) {
        Some(b"+") => Some(i64::MAX),
        word => word.and_then(parse_integer),
    };
    let from = from.ok_or(CommandError::Text("ERR TSDB: wrong fromTimestamp"))?;
    let to = to.ok_or(CommandError::Text("ERR TSDB: wrong toTimestamp"))?;
    Ok((from, to))
}

/// Parses the whole command.
pub(super) fn parse(words: Args<'_>, reverse: bool) -> CommandResult<'_> {
    let key = key_at(words, 1)?;
    let (from, to) = parse_bounds(words)?;
    let query = RangeQuery {
        from,
        to,
        reverse,
        filter_times: None,
        filter_values: None,
        count: None,
        aggregation: None,
    };
    let mut options = Options { words, next: OPTIONS_START, query, align: None, aggregation_at: None };
    while let Some(word) = options.take() {
        options.parse_one(word)?;
    }
    let query = Box::new(options.finish()?);
    Ok(Request::Data(Command::SeriesRange { key, query }))
}

/// Progress through the options. Positions matter: EMPTY and BUCKETTIMESTAMP have theirs counted from AGGREGATION.
struct Options<'a> {
    words: Args<'a>,
    /// Word to look at next.
    next: usize,
    query: RangeQuery,
    /// The word after ALIGN.
    align: Option<&'a [u8]>,
    /// Where the word AGGREGATION stands.
    aggregation_at: Option<usize>,
}

impl<'a> Options<'a> {
    fn take(&mut self) -> Option<&'a [u8]> {
        let word = self.words.get(self.next)?;
        self.next += 1;
        Some(word)
    }

    fn parse_one(&mut self, word: &'a [u8]) -> Result<(), CommandError<'a>> {
        match () {
            // Nothing is fed by rules yet, so there is no open bucket to add.
            () if is_word(word, "LATEST") => Ok(()),
            () if is_word(word, "FILTER_BY_TS") => self.parse_filter_times(),
            () if is_word(word, "FILTER_BY_VALUE") => self.parse_filter_values(),
            () if is_word(word, "COUNT") => self.parse_count(),
            () if is_word(word, "ALIGN") => {
                let word = self.take().ok_or(CommandError::Text("ERR TSDB: unknown ALIGN parameter"))?;
                self.align = Some(word);
                Ok(())
            }
            () if is_word(word, "AGGREGATION") => self.parse_aggregation(),
            () if is_word(word, "BUCKETTIMESTAMP") => self.parse_bucket_timestamp(),
            () if is_word(word, "EMPTY") => self.parse_empty(),
            () => Err(UNEXPECTED_WORD),
        }
    }

    fn parse_filter_times(&mut self) -> Result<(), CommandError<'a>> {
        let mut times = Vec::new();
        while let Some(time) = self.words.get(self.next).and_then(parse_integer) {
            self.next += 1;
            if times.len() < FILTER_TIMES_MAX {
                times.push(time);
            }
        }
        if times.is_empty() {
            return Err(CommandError::Text("ERR TSDB: FILTER_BY_TS one or more arguments are missing"));
        }
        times.sort_unstable();
        times.dedup();
        self.query.filter_times = Some(times);
        Ok(())
    }

    fn parse_filter_values(&mut self) -> Result<(), CommandError<'a>> {
        let (Some(min), Some(max)) = (self.take(), self.take()) else {
            return Err(CommandError::Text("ERR TSDB: FILTER_BY_VALUE one or more arguments are missing"));
        };
        let min = parse_bound(min).ok_or(CommandError::Text("ERR TSDB: Couldn't parse MIN"))?;
        let max = parse_bound(max).ok_or(CommandError::Text("ERR TSDB: Couldn't parse MAX"))?;
        self.query.filter_values = Some((min, max));
        Ok(())
    }

    fn parse_count(&mut self) -> Result<(), CommandError<'a>> {
        let word = self.take().ok_or(CommandError::Text("ERR TSDB: COUNT argument is missing"))?;
        let count = parse_integer(word).ok_or(CommandError::Text("ERR TSDB: Couldn't parse COUNT"))?;
        let count = u64::try_from(count).ok().filter(|count| *count > 0);
        self.query.count = Some(count.ok_or(CommandError::Text("ERR TSDB: Invalid COUNT value"))?);
        Ok(())
    }

    fn parse_aggregation(&mut self) -> Result<(), CommandError<'a>> {
        const INCOMPLETE: CommandError<'static> = CommandError::Text("ERR TSDB: Couldn't parse AGGREGATION");
        self.aggregation_at = Some(self.next - 1);
        let names = self.take().ok_or(INCOMPLETE)?;
        let bucket = self.take().ok_or(INCOMPLETE)?;
        let aggregators = parse_aggregators(names)?;
        let bucket = parse_integer(bucket).ok_or(INCOMPLETE)?;
        if bucket <= 0 {
            return Err(CommandError::Text("ERR TSDB: bucketDuration must be greater than zero"));
        }
        self.query.aggregation = Some(Aggregation {
            aggregators,
            bucket,
            align: 0,
            bucket_timestamp: BucketTimestamp::Start,
            empty: false,
        });
        Ok(())
    }

    /// How many words after AGGREGATION the word taken last stands, and the clause it belongs to.
    fn clause(&mut self) -> Option<(usize, &mut Aggregation)> {
        let distance = self.next - 1 - self.aggregation_at?;
        self.query.aggregation.as_mut().map(|aggregation| (distance, aggregation))
    }

    fn parse_bucket_timestamp(&mut self) -> Result<(), CommandError<'a>> {
        let value = self.words.get(self.next);
        let Some((3 | 4, aggregation)) = self.clause() else {
            return Err(CommandError::Text(
                "ERR TSDB: BUCKETTIMESTAMP flag should be the 3rd or 4th flag after AGGREGATION flag",
            ));
        };
        let value = value.unwrap_or_default();
        aggregation.bucket_timestamp = match () {
            () if value == b"-" || is_word(value, "start") => BucketTimestamp::Start,
            () if value == b"~" || is_word(value, "mid") => BucketTimestamp::Mid,
            () if value == b"+" || is_word(value, "end") => BucketTimestamp::End,
            () => return Err(CommandError::Text("ERR TSDB: unknown BUCKETTIMESTAMP parameter")),
        };
        self.next += 1;
        Ok(())
    }

    fn parse_empty(&mut self) -> Result<(), CommandError<'a>> {
        let Some((3 | 5, aggregation)) = self.clause() else {
            return Err(CommandError::Text(
                "ERR TSDB: EMPTY flag should be the 3rd or 5th flag after AGGREGATION flag",
            ));
        };
        aggregation.empty = true;
        Ok(())
    }

    /// Settles what may stand in any order: ALIGN refers to the bounds and needs AGGREGATION.
    fn finish(mut self) -> Result<RangeQuery, CommandError<'a>> {
        let Some(align) = self.align else { return Ok(self.query) };
        let Some(aggregation) = &mut self.query.aggregation else {
            return Err(CommandError::Text("ERR TSDB: ALIGN parameter can only be used with AGGREGATION"));
        };
        aggregation.align = match () {
            () if align == b"-" || is_word(align, "start") => match self.words.get(2) {
                Some(b"-") => {
                    return Err(CommandError::Text(
                        "ERR TSDB: start alignment can only be used with explicit start timestamp",
                    ));
                }
                _ => self.query.from,
            },
            () if align == b"+" || is_word(align, "end") => match self.words.get(3) {
                Some(b"+") => {
                    return Err(CommandError::Text(
                        "ERR TSDB: end alignment can only be used with explicit end timestamp",
                    ));
                }
                _ => self.query.to,
            },
            () => parse_integer(align).ok_or(CommandError::Text("ERR TSDB: unknown ALIGN parameter"))?,
        };
        Ok(self.query)
    }
}

/// One name, or several with commas between them.
fn parse_aggregators(names: &[u8]) -> Result<Vec<Aggregator>, CommandError<'_>> {
    let mut aggregators = Vec::new();
    for name in names.split(|byte| *byte == b',') {
        if name.is_empty() {
            return Err(CommandError::Text("ERR TSDB: Empty aggregation type in list"));
        }
        if aggregators.len() == AGGREGATORS_MAX {
            return Err(CommandError::Text("ERR TSDB: Too many aggregation types"));
        }
        let unknown = CommandError::Text("ERR TSDB: Unknown aggregation type");
        aggregators.push(Aggregator::from_name(name).ok_or(unknown)?);
    }
    Ok(aggregators)
}
