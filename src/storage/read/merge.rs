//! Merges the sources of one series and class into what a snapshot sees.
//!
//! Where only one source has entries up to the next entry of any other, they pass in bulk; where several meet at one
//! time, the newest version is chosen. What is left to visit is always just `from..=to`, so that a merge can be built
//! anew at any time and goes on where it stopped.

use super::deletes::Fragments;
use super::source::{Source, Target, leading, trailing};
use super::summary::ChunkSummary;
use super::visible::{Sink, Slice, near_slot};
use super::{BlockRef, Blocks, Needs, View};
use crate::model::Seqno;
use crate::storage::columns::Columns;
use crate::storage::memtable::series_hash;
use crate::storage::sstable::TableError;
use crate::teeth::{Bug, planted};

/// Blocks that one call asks for at most.
const NEED_BLOCKS_MAX: usize = 64;
/// Entries whose visit takes about as long as taking a chunk as its statistics.
const SUMMARY_COST: usize = 32;
/// Times as many entries that a call which takes statistics comes by.
const SUMMARY_READ_AHEAD: usize = 8;

/// See the module's header.
pub(super) struct Merge<'a> {
    target: Target<'a>,
    /// What is left to visit, inclusive; nothing when `from > to` or `done`.
    pub(super) from: i64,
    pub(super) to: i64,
    done: bool,
    /// Whether entries have been passed since the merge was built.
    pub(super) passed: bool,
    snapshot: Seqno,
    sources: Vec<Source<'a>>,
    deletes: Fragments,
    /// The best version so far of a slot whose versions go on in a further piece of its source.
    held: Columns,
}

/// Why a merge stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Everything was visited.
    Done,
    /// The sink is full or the work budget is used up.
    Enough,
    /// A block is missing; it is among the needs.
    Missing,
}

/// Where the best version of a slot is.
#[derive(Clone, Copy)]
enum Best {
    Source(usize, usize),
    Held,
}

impl<'a> Merge<'a> {
    /// A merge of these sources, which are of the same target and times; they are not even made when the times are none.
    pub(super) fn new(
        view: &View<'a>,
        target: Target<'a>,
        times: (i64, i64),
        sources: impl Iterator<Item = Source<'a>>,
    ) -> Self {
        let sources: Vec<_> = if times.0 <= times.1 { sources.collect() } else { Vec::new() };
        let deletes = if sources.is_empty() {
            Fragments::default()
        } else {
            Fragments::gather(view, series_hash(target.series), target.series, target.class, times)
        };
        Self {
            target,
            from: times.0,
            to: times.1,
            done: times.0 > times.1,
            passed: false,
            snapshot: view.snapshot,
            sources,
            deletes,
            held: Columns::default(),
        }
    }
    /// Visits entries until everything is visited, the sink or the budget (entries) says enough, or a block is missing.
    ///
    /// # Errors
    /// When a chunk is damaged.
    pub(super) fn advance(
        &mut self,
        sink: &mut Sink<'_>,
        budget: &mut usize,
        blocks: &mut dyn Blocks,
        needs: &mut Needs,
    ) -> Result<Stop, TableError> {
        loop {
            let Some(survey) = self.survey() else { return Ok(Stop::Done) };
            let front = survey.front;
            // Only what a later call need not do again is charged, or a small budget would get nowhere.
            if self.note_front(front) {
                *budget = budget.saturating_sub(1);
            }
            if *budget == 0 || sink.is_full() {
                return Ok(Stop::Enough);
            }
            if !survey.loaded {
                if self.skip_deleted(front) {
                    continue;
                }
                if let Some(summary) = self.summary_at(&survey, sink) {
                    sink.take_summary(summary);
                    *budget = budget.saturating_sub(SUMMARY_COST);
                    self.go_beyond(if self.target.reverse { summary.first_time } else { summary.last_time });
                } else if !self.load_front(front, blocks)? {
                    let reach = if sink.summaries().is_some() { SUMMARY_READ_AHEAD } else { 1 };
                    let entries = sink.room().min(budget.saturating_mul(reach));
                    self.list_needs(entries, blocks, needs);
                    return Ok(Stop::Missing);
                }
            } else if let Some(range) = self.stretch_of_one(&survey) {
                self.pass_in_bulk(survey.source, range, sink, budget);
            } else if self.pass_slot(front, sink, blocks)? {
                *budget -= 1;
            } else {
                self.list_needs(1, blocks, needs);
                return Ok(Stop::Missing);
            }
        }
    }

    /// Looks at all sources; `None` when nothing is left.
    fn survey(&self) -> Option<Survey> {
        if self.done {
            return None;
        }
        let reverse = self.target.reverse;
        let mut survey: Option<Survey> = None;
        for (source, state) in self.sources.iter().enumerate() {
            let Some(bound) = state.bound() else { continue };
            let loaded = state.is_loaded();
            match &mut survey {
                Some(known) if known.front == bound => {
                    known.loaded &= loaded;
                    known.next = Some(bound);
                }
                Some(known) if (bound > known.front) == reverse => {
                    *known = Survey { front: bound, source, loaded, next: Some(known.front) };
                }
                Some(known) => {
                    known.next = Some(known.next.map_or(bound, |next| nearer(next, bound, reverse)));
                }
                None => survey = Some(Survey { front: bound, source, loaded, next: None }),
            }
        }
        survey
    }
    /// Nothing is left before the front. True: that is news.
    fn note_front(&mut self, front: i64) -> bool {
        let edge = if self.target.reverse { &mut self.to } else { &mut self.from };
        let moved = *edge != front;
        *edge = front;
        moved
    }
    /// Lets sources jump over what a range delete hides of them altogether. True: some did.
    fn skip_deleted(&mut self, front: i64) -> bool {
        let Some(fragment) = self.deletes.at(front) else { return false };
        let mut skipped = false;
        for source in self.sources.iter_mut().filter(|source| source.bound() == Some(front)) {
            skipped |= source.skip_hidden(fragment);
        }
        skipped
    }
    /// The chunk at the front as its statistics, where the sink wants them and they tell all that the snapshot sees of
    /// it.
    fn summary_at(&self, survey: &Survey, sink: &Sink<'_>) -> Option<ChunkSummary> {
        let summaries = sink.summaries()?;
        let (header, ahead) = self.sources.get(survey.source)?.chunk_at_hand()?;
        let (first_time, last_time) = (header.first_time, header.last_time);
        let summary = ChunkSummary { first_time, last_time, stats: header.stats? };
        let beyond = |bound: i64| if self.target.reverse { bound < first_time } else { bound > last_time };
        let is_alone = survey.next.is_none_or(beyond) && ahead.is_none_or(beyond);
        let is_plain = !header.has_deletes && !header.has_versions && header.seqno_max <= self.snapshot;
        let is_within = self.from <= first_time && last_time <= self.to;
        let is_whole = is_alone && !self.deletes.hides_some((first_time, last_time), header.seqno_min);
        let is_taken = (is_whole || planted(Bug::StatisticsDespiteOthers))
            && is_plain
            && is_within
            && summaries.wants(&summary);
        is_taken.then_some(summary)
    }
    /// Goes a level down in sources at the front. False: a block is missing.
    fn load_front(&mut self, front: i64, blocks: &mut dyn Blocks) -> Result<bool, TableError> {
        let mut at_hand = true;
        let at_front = |source: &&mut Source<'_>| source.bound() == Some(front) && !source.is_loaded();
        // Blocks before chunks: what a block holds may lie farther off than it could, and leave a chunk alone.
        let blocks_only =
            self.sources.iter().any(|source| source.bound() == Some(front) && source.is_at_block());
        let in_turn = |source: &&mut Source<'_>| at_front(source) && (source.is_at_block() || !blocks_only);
        for source in self.sources.iter_mut().filter(in_turn) {
            at_hand &= source.load(blocks)?;
        }
        Ok(at_hand)
    }
    /// The entries at hand of the source at the front that lie before anything else; `None` when there are none because
    /// others are at the front too, or versions of its first slot go on ahead.
    fn stretch_of_one(&self, survey: &Survey) -> Option<std::ops::Range<usize>> {
        let reverse = self.target.reverse;
        let source = &self.sources[survey.source];
        let limit = match (survey.next, source.bound_ahead()) {
            (Some(next), Some(ahead)) => Some(nearer(next, ahead, reverse)),
            (next, ahead) => next.or(ahead),
        };
        let (columns, range) = source.entries();
        let times = &columns.times()[range.clone()];
        let range = match limit {
            None => range,
            Some(limit) if reverse => range.end - trailing(times, |time| time > limit)..range.end,
            Some(limit) => range.start..range.start + leading(times, |time| time < limit),
        };
        (!range.is_empty()).then_some(range)
    }
    fn pass_in_bulk(
        &mut self,
        source: usize,
        range: std::ops::Range<usize>,
        sink: &mut Sink<'_>,
        budget: &mut usize,
    ) {
        let (columns, _) = self.sources[source].entries();
        let slice = Slice { columns, range, reverse: self.target.reverse };
        let last = slice.visit(self.snapshot, &self.deletes, sink, budget);
        if let Some(last) = last {
            self.go_beyond(last);
        }
    }
    /// Passes the slot at which sources meet. False: a block is missing, and nothing has been passed.
    fn pass_slot(
        &mut self,
        time: i64,
        sink: &mut Sink<'_>,
        blocks: &mut dyn Blocks,
    ) -> Result<bool, TableError> {
        let mut best = Seqno(0);
        let mut place = None;
        self.held.clear();
        for number in 0..self.sources.len() {
            while self.sources[number].bound() == Some(time) {
                while !self.sources[number].is_loaded() && self.sources[number].bound() == Some(time) {
                    if !self.sources[number].load(blocks)? {
                        return Ok(false);
                    }
                }
                let source = &self.sources[number];
                if source.bound() != Some(time) {
                    break;
                }
                let (columns, entries) = source.entries();
                let versions = near_slot(columns, &entries, self.target.reverse);
                let seen =
                    columns.seqnos()[versions.clone()].partition_point(|seqno| *seqno <= self.snapshot.0);
                let newest = versions.start + seen;
                if seen > 0 && columns.seqno(newest - 1) > best {
                    best = columns.seqno(newest - 1);
                    place = Some(Best::Source(number, newest - 1));
                }
                // In reverse, what goes on ahead is older than what was seen.
                let settled = self.target.reverse && seen > 0;
                if settled || source.bound_ahead() != Some(time) {
                    break;
                }
                if let Some(Best::Source(holder, index)) = place
                    && holder == number
                {
                    self.held.clear();
                    self.held.push(time, best, columns.op(index));
                    place = Some(Best::Held);
                }
                self.sources[number].next_piece();
            }
        }
        let found = match place {
            None => None,
            Some(Best::Held) => Some((&self.held, 0)),
            Some(Best::Source(number, index)) => Some((self.sources[number].entries().0, index)),
        };
        if let Some((columns, index)) = found
            && best >= self.deletes.hidden_below(time)
        {
            sink.take_put(columns, index);
        }
        self.go_beyond(time);
        Ok(true)
    }
    /// Everything up to `time` has been visited.
    fn go_beyond(&mut self, time: i64) {
        self.passed = true;
        let next = if self.target.reverse { time.checked_sub(1) } else { time.checked_add(1) };
        let Some(next) = next.filter(|next| (self.from..=self.to).contains(next)) else {
            self.done = true;
            return;
        };
        if self.target.reverse {
            self.to = next;
        } else {
            self.from = next;
        }
        for source in &mut self.sources {
            let behind = source
                .bound()
                .is_some_and(|bound| if self.target.reverse { bound > next } else { bound < next });
            if behind {
                source.skip_to(next);
            }
        }
    }
    /// Lists the missing blocks in the order in which they will be visited, as far as `entries` may reach.
    fn list_needs(&self, entries: usize, blocks: &mut dyn Blocks, needs: &mut Needs) {
        let mut ahead: Vec<(i64, BlockRef)> = Vec::new();
        for source in &self.sources {
            let mut reach = 0;
            for (bound, block) in source.blocks_ahead().take(NEED_BLOCKS_MAX) {
                reach += block.entries_estimate();
                ahead.push((bound, block));
                if reach >= entries {
                    break;
                }
            }
        }
        if self.target.reverse {
            ahead.sort_by_key(|(bound, _)| std::cmp::Reverse(*bound));
        } else {
            ahead.sort_by_key(|(bound, _)| *bound);
        }
        let Some(front) = ahead.first().map(|(bound, _)| *bound) else { return };
        let mut reach = 0;
        for (bound, block) in ahead.into_iter().take(NEED_BLOCKS_MAX) {
            if bound != front && reach >= entries {
                break;
            }
            reach += block.entries_estimate();
            if blocks.block(&block.table, block.index).is_none() {
                needs.add(block);
            }
        }
    }
}

/// What all sources together look like.
struct Survey {
    /// Where the next entry can be.
    front: i64,
    /// A source at the front.
    source: usize,
    /// Whether all sources at the front have their entries at hand.
    loaded: bool,
    /// Bound of the nearest other source; the front itself when another is there too.
    next: Option<i64>,
}

/// The bound that a scan comes to first.
fn nearer(a: i64, b: i64, reverse: bool) -> i64 {
    if reverse { a.max(b) } else { a.min(b) }
}
