//! Merges the sources of one series and class into what a snapshot sees.
//!
//! Where only one source has entries up to the next entry of any other, they pass in bulk; where several meet at one
//! time, the newest version is chosen. What is left to visit is always just `from..=to`, so that a merge can be built
//! anew at any time and goes on where it stopped.

use super::deletes::Fragments;
use super::source::{Source, Target};
use super::visible::{Sink, Slice, near_slot};
use super::{BlockRef, Blocks, Needs, View};
use crate::model::Seqno;
use crate::storage::columns::Columns;
use crate::storage::memtable::series_hash;
use crate::storage::sstable::TableError;

/// Blocks that one call asks for at most.
const NEED_BLOCKS_MAX: usize = 64;

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
    /// A merge of these sources, which are of the same target and times.
    pub(super) fn new(
        view: &View<'a>,
        target: Target<'a>,
        times: (i64, i64),
        sources: Vec<Source<'a>>,
    ) -> Self {
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
            let Some(front) = self.front() else { return Ok(Stop::Done) };
            // Only what a later call need not do again is charged, or a small budget would get nowhere.
            if self.note_front(front) {
                *budget = budget.saturating_sub(1);
            }
            if *budget == 0 || sink.is_full() {
                return Ok(Stop::Enough);
            }
            if self.skip_deleted(front) {
                continue;
            }
            match self.load_front(front, blocks)? {
                Loading::Missing => {
                    self.list_needs(sink.room().min(*budget), blocks, needs);
                    return Ok(Stop::Missing);
                }
                Loading::WentDeeper => continue,
                Loading::AtHand => {}
            }
            let alone = self.stretch_of_one(front);
            if let Some((source, range)) = alone {
                self.pass_in_bulk(source, range, sink, budget);
            } else if self.pass_slot(front, sink, blocks)? {
                *budget -= 1;
            } else {
                self.list_needs(1, blocks, needs);
                return Ok(Stop::Missing);
            }
        }
    }

    /// Where the next entry can be; `None` when there is none.
    fn front(&self) -> Option<i64> {
        if self.done {
            return None;
        }
        let bounds = self.sources.iter().filter_map(Source::bound);
        if self.target.reverse { bounds.max() } else { bounds.min() }
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
    fn load_front(&mut self, front: i64, blocks: &mut dyn Blocks) -> Result<Loading, TableError> {
        let mut result = Loading::AtHand;
        let at_front = |source: &&mut Source<'_>| source.bound() == Some(front) && !source.is_loaded();
        for source in self.sources.iter_mut().filter(at_front) {
            result = match source.load(blocks)? {
                true if !matches!(result, Loading::Missing) => Loading::WentDeeper,
                _ => Loading::Missing,
            };
        }
        Ok(result)
    }
    /// When only one source is at the front: it, and which of its entries at hand lie before anything else.
    fn stretch_of_one(&self, front: i64) -> Option<(usize, std::ops::Range<usize>)> {
        let reverse = self.target.reverse;
        let mut at_front = None;
        let mut limit: Option<i64> = None;
        let nearer = |limit: Option<i64>, bound: i64| {
            Some(limit.map_or(bound, |limit| if reverse { limit.max(bound) } else { limit.min(bound) }))
        };
        for (number, source) in self.sources.iter().enumerate() {
            match source.bound() {
                Some(bound) if bound == front && at_front.is_some() => return None,
                Some(bound) if bound == front => at_front = Some(number),
                Some(bound) => limit = nearer(limit, bound),
                None => {}
            }
        }
        let number = at_front?;
        let source = &self.sources[number];
        if let Some(bound) = source.bound_ahead() {
            limit = nearer(limit, bound);
        }
        let (columns, range) = source.entries();
        let times = &columns.times()[range.clone()];
        let range = match limit {
            None => range,
            Some(limit) if reverse => range.start + times.partition_point(|time| *time <= limit)..range.end,
            Some(limit) => range.start..range.start + times.partition_point(|time| *time < limit),
        };
        (!range.is_empty()).then_some((number, range))
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

/// How far the sources at the front are.
enum Loading {
    AtHand,
    WentDeeper,
    Missing,
}
