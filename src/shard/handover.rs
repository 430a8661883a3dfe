//! Handing keys over to the shard next door. Nothing is copied: memtables that are frozen, and tables, are shared.
//!
//! ```text
//! leave ─▶ draining ── nothing that waits may touch the keys; the active memtable is frozen ─▶ sealing
//!            │                                                  the log is durable through it ─▶ Leave::Ready
//!            └── poisoned, closing, or the caller's patience ends: stay ─▶ as if nothing had been
//! Leave::Ready ─▶ (the neighbour takes over) ─▶ left: the keys are gone      │ or (it refuses) ─▶ stay
//! ```
//! The caller sees to it that no command on the keys comes from `leave` on until `stay`, or for ever after `left`.
//!
//! Invariants:
//!
//! - The writes to a key have ascending seqnos whoever made them: who takes keys over raises its counter above that of
//!   the shard that had them. So visibility is by seqno alone, whatever memtable or log an entry lies in.
//! - The last write before a hand-over is durable before the first one after it is made: a crash keeps a prefix.
//! - A memtable is flushed by the shard that wrote it, whole, and holds its segments until then. Others read it until
//!   they see a version that has it. So a segment is retired only when what it holds is in tables for everyone.
//! - A delete of many keys is cut to the keys that its shard owns when it writes it: it hides nothing that is handed
//!   over later.
//! - A read that has begun keeps the keys, memtables and tables that it began with.

use super::Shard;
use super::effect::{Effects, ShardRequest};
use crate::limits::MEMTABLES_BORROWED_MAX;
use crate::model::{KeyRange, Lsn, Seqno};
use crate::storage::memtable::Memtable;
use crate::storage::version::Version;
use crate::teeth::{Bug, planted};
use std::sync::Arc;

/// A frozen memtable and the shard whose it is.
#[derive(Clone, Debug)]
pub(super) struct Lent {
    shard: u16,
    pub(super) memtable: Arc<Memtable>,
}

/// What goes to the new owner of some keys.
#[derive(Debug)]
pub struct Handover {
    keys: KeyRange,
    memtables: Vec<Lent>,
    version: Arc<Version>,
    /// The highest that the old owner has used.
    seqno: Seqno,
}

/// Keys that are about to be handed over.
#[derive(Debug)]
pub(super) struct Leaving {
    keys: KeyRange,
    /// The log must be durable so far; `None` while something that waits may still write.
    through: Option<Lsn>,
}

/// How far a shard that is to hand keys over has come.
#[derive(Debug)]
pub enum Leave {
    /// Ask again after the next event.
    Wait,
    /// It cannot; why.
    Refused(&'static str),
    /// It has: pass this on.
    Ready(Box<Handover>),
}

/// What a shard says to keys that are handed over to it.
#[derive(Debug)]
pub enum TakeOver {
    /// They are its own now.
    Done,
    /// Ask again after the next event.
    Wait(Box<Handover>),
    /// It cannot; why. They stay whose they are.
    Refused(&'static str),
}

impl Shard {
    /// The keys that it owns.
    #[must_use]
    pub fn keys(&self) -> &KeyRange {
        &self.keys
    }

    /// Prepares to hand keys over, which lie at one end of its own.
    pub fn leave(&mut self, keys: KeyRange) {
        assert!(self.leaving.is_none(), "one range is handed over at a time");
        assert!(rest_of(&self.keys, &keys).is_some(), "keys are handed over from one end");
        self.leaving = Some(Leaving { keys, through: None });
    }

    /// Goes on with [`Shard::leave`].
    pub fn leave_step(&mut self) -> Leave {
        let Some(leaving) = &self.leaving else { return Leave::Refused("nothing is being handed over") };
        if self.log.poisoned() {
            return Leave::Refused("the log of the shard has failed");
        }
        if self.closing {
            return Leave::Refused("the daemon is stopping");
        }
        let through = match leaving.through {
            Some(through) => through,
            None if self.parking.may_touch(&leaving.keys) => return Leave::Wait,
            None => {
                if !self.memory.active.is_empty() && !self.freeze() {
                    return Leave::Wait;
                }
                self.log.request_sync();
                self.log.staged()
            }
        };
        let Some(leaving) = &mut self.leaving else { return Leave::Wait };
        leaving.through = Some(through);
        if self.log.synced() < through && !planted(Bug::HandOverWithoutSync) {
            return Leave::Wait;
        }
        let own = self.memory.frozen.iter().map(|frozen| Lent {
            shard: self.options.stream.stream.0,
            memtable: Arc::clone(&frozen.memtable),
        });
        Leave::Ready(Box::new(Handover {
            keys: leaving.keys.clone(),
            memtables: own.chain(self.memory.borrowed.iter().cloned()).collect(),
            version: Arc::clone(&self.memory.version),
            seqno: self.seqno(),
        }))
    }

    /// The hand-over does not take place.
    pub fn stay(&mut self) {
        self.leaving = None;
    }

    /// The neighbour has taken over: the keys are its own from now on.
    pub fn left(&mut self) {
        let leaving = self.leaving.take().expect("keys are handed over before they are gone");
        self.keys = Arc::new(rest_of(&self.keys, &leaving.keys).expect("the range was checked"));
        self.load.retain(|key| self.keys.contains(key));
        // Others write to them now.
        self.values.begin_epoch();
    }

    /// Takes over keys next to its own.
    pub fn take_over(&mut self, handover: Box<Handover>, fx: &mut impl Effects) -> TakeOver {
        if self.log.poisoned() {
            return TakeOver::Refused("the log of the new owner has failed");
        }
        if self.closing {
            return TakeOver::Refused("the daemon is stopping");
        }
        if self.leaving.is_some() {
            return TakeOver::Refused("the new owner is handing keys over itself");
        }
        if self.parking.has_ranges() {
            // What waits was asked when these keys were another's, who has done it for them.
            return TakeOver::Wait(handover);
        }
        let own = self.options.stream.stream.0;
        let newest = if handover.version.number() > self.memory.version.number() {
            &handover.version
        } else {
            &self.memory.version
        };
        let held = &self.memory.borrowed;
        let is_held = |lent: &Lent| {
            held.iter().any(|other| other.shard == lent.shard && other.memtable.id() == lent.memtable.id())
        };
        let is_new = |lent: &&Lent| {
            lent.shard != own && !is_held(lent) && !newest.has_flushed(lent.shard, lent.memtable.id())
        };
        let borrowed: Vec<Lent> = handover.memtables.iter().filter(is_new).cloned().collect();
        if self.memory.borrowed.len() + borrowed.len() > MEMTABLES_BORROWED_MAX {
            return TakeOver::Refused(
                "the new owner reads too many memtables of others: they are not flushed yet",
            );
        }
        self.memory.borrowed.extend(borrowed);
        self.see_version(Arc::clone(&handover.version), fx);
        if !planted(Bug::SkipSeqnoRaise) {
            self.next_seqno = self.next_seqno.max(Seqno(handover.seqno.0 + 1));
        }
        self.taken_over = self.taken_over.max(handover.seqno);
        self.keys = Arc::new(joined(&self.keys, &handover.keys));
        self.values.begin_epoch();
        TakeOver::Done
    }

    /// Reads from a version from now on, unless it is older than the one at hand, and lets go of what is in it.
    pub(super) fn see_version(&mut self, version: Arc<Version>, fx: &mut impl Effects) {
        if version.number() < self.memory.version.number() {
            return;
        }
        self.memory.version = version;
        let version = &self.memory.version;
        for lent in
            self.memory.borrowed.extract_if(.., |lent| version.has_flushed(lent.shard, lent.memtable.id()))
        {
            fx.request(ShardRequest::Dispose(lent.memtable));
        }
    }
}

/// What is left of `all` without `part`, which must lie at one of its ends and not be all of it.
fn rest_of(all: &KeyRange, part: &KeyRange) -> Option<KeyRange> {
    let starts = part.start == all.start;
    let ends = part.end == all.end;
    match (starts, ends, &part.end) {
        (true, false, Some(end)) => Some(KeyRange { start: end.clone(), end: all.end.clone() }),
        (false, true, _) => Some(KeyRange { start: all.start.clone(), end: Some(part.start.clone()) }),
        (true, _, _) | (false, false, _) => None,
    }
}

/// Both ranges, which touch, as one.
fn joined(own: &KeyRange, more: &KeyRange) -> KeyRange {
    if more.end.as_ref() == Some(&own.start) {
        return KeyRange { start: more.start.clone(), end: own.end.clone() };
    }
    assert!(own.end.as_ref() == Some(&more.start), "keys are handed over between neighbours");
    KeyRange { start: own.start.clone(), end: more.end.clone() }
}
