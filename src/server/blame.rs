//! Where the time of a request went. A state machine over the times of turns: the clock is read once a turn, so what
//! happens within one turn takes no time here, and nothing is allocated for a request that is answered in its turn.
//!
//! ```text
//! arrived ─queue─▶ served ─read, forward─▶ answered ─wal─▶ reached ─send─▶ sent
//! ```
//! *Arrived*: its bytes were received. *Served*: it was parsed and run. *Answered*: its reply was encoded. *Reached*: the
//! log was acknowledged as far as the reply depends on. *Sent*: the kernel had taken the reply's last byte. Of a request
//! that another core owns, that core says how long it read and waited for its log; the rest is forwarding. Requests of
//! one connection that share all these turns are one [`Answered`].

use crate::metrics::{PhaseTimes, RequestKind};
use crate::model::Lsn;

/// Bytes kept of a command's name and of its key.
const NAME_BYTES: usize = 14;
const KEY_BYTES: usize = 32;
/// Turns of a connection whose first request is remembered.
const HEADS: usize = 4;
/// Advances of the log whose time is remembered.
const ADVANCES: usize = 64;

/// A request that has been served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) kind: RequestKind,
    pub(crate) arrived_ns: u64,
    pub(crate) served_ns: u64,
    /// Another core worked on it.
    pub(crate) elsewhere: Option<OwnerTimes>,
}

/// What another core says of its work on a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnerTimes {
    pub(crate) read_ns: u64,
    pub(crate) wal_ns: u64,
}

impl Begun {
    /// Another core's part has come back; of several parts the longest counts.
    pub(crate) fn note_owner(&mut self, owner: OwnerTimes) {
        let so_far = self.elsewhere.unwrap_or_default();
        self.elsewhere = Some(OwnerTimes {
            read_ns: so_far.read_ns.max(owner.read_ns),
            wal_ns: so_far.wal_ns.max(owner.wal_ns),
        });
    }
}

/// Requests whose replies were encoded in one turn and end at one place of the output.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) begun: Begun,
    /// Where the last of the replies ends, in bytes since the connection began.
    pub(crate) end: u64,
    /// What they wait for.
    pub(crate) gate: Lsn,
    /// How many they are.
    pub(crate) count: u32,
    /// Known at the end of the turn.
    pub(crate) answered_ns: Option<u64>,
    /// Known when they are handed to a send.
    pub(crate) reached_ns: Option<u64>,
    /// Of a request that was not answered in the turn in which it was served.
    pub(crate) head: Option<Box<Head>>,
}

impl Answered {
    /// The time of each phase, now that the reply has left.
    pub(crate) fn times(&self, sent_ns: u64) -> PhaseTimes {
        let Begun { arrived_ns, served_ns, elsewhere, .. } = self.begun;
        let answered_ns = self.answered_ns.unwrap_or(sent_ns);
        let reached_ns = self.reached_ns.unwrap_or(sent_ns);
        let within = answered_ns.saturating_sub(served_ns);
        let own_wal_ns = reached_ns.saturating_sub(answered_ns);
        let send_ns = sent_ns.saturating_sub(reached_ns);
        let queue_ns = served_ns.saturating_sub(arrived_ns);
        let Some(OwnerTimes { read_ns, wal_ns }) = elsewhere else {
            return PhaseTimes([queue_ns, own_wal_ns, within, 0, send_ns]);
        };
        // The owner's turns are not ours: its share never exceeds what passed here.
        let read_ns = read_ns.min(within);
        let wal_ns = wal_ns.min(within - read_ns);
        let forward_ns = within - read_ns - wal_ns;
        PhaseTimes([queue_ns, own_wal_ns + wal_ns, read_ns, forward_ns, send_ns])
    }
}

/// The beginning of a request: its command and first key, cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    name: [u8; NAME_BYTES],
    key: [u8; KEY_BYTES],
    name_bytes: u8,
    key_bytes: u8,
    words: u32,
}

impl Head {
    /// Keeps the first bytes of name and key of a request of so many words.
    pub(crate) fn new(name: &[u8], key: &[u8], words: usize) -> Self {
        let mut head = Self { words: u32::try_from(words).unwrap_or(u32::MAX), ..Self::default() };
        head.name_bytes = keep(&mut head.name, name);
        head.key_bytes = keep(&mut head.key, key);
        head
    }
    /// The command's name.
    pub(crate) fn name(&self) -> &[u8] {
        self.name.get(..usize::from(self.name_bytes)).unwrap_or_default()
    }
    /// The first key.
    pub(crate) fn key(&self) -> &[u8] {
        self.key.get(..usize::from(self.key_bytes)).unwrap_or_default()
    }
    /// Words of the request, name and key included.
    pub(crate) fn words(&self) -> u32 {
        self.words
    }
}

fn keep<const N: usize>(place: &mut [u8; N], bytes: &[u8]) -> u8 {
    let kept = bytes.get(..N).unwrap_or(bytes);
    place.iter_mut().zip(kept).for_each(|(to, from)| *to = *from);
    u8::try_from(kept.len()).unwrap_or(u8::MAX)
}

/// The first requests of a connection's last turns.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    heads: [(u64, Head); HEADS],
    newest: usize,
}

impl Heads {
    /// Whether the turn at `served_ns` has its first request yet.
    pub(crate) fn has(&self, served_ns: u64) -> bool {
        self.heads[self.newest].0 == served_ns
    }
    /// Keeps the first request of a turn.
    pub(crate) fn keep(&mut self, served_ns: u64, head: Head) {
        self.newest = (self.newest + 1) % HEADS;
        self.heads[self.newest] = (served_ns, head);
    }
    /// The first request that was served then, if it is not too long ago.
    pub(crate) fn at(&self, served_ns: u64) -> Option<&Head> {
        self.heads.iter().find(|(at, _)| *at == served_ns).map(|(_, head)| head)
    }
}

/// When the log had got how far: its last advances.
#[derive(Debug)]
pub(crate) struct LogTimes {
    /// A ring; positions and times ascend from the oldest on.
    advances: [(Lsn, u64); ADVANCES],
    newest: usize,
}

impl Default for LogTimes {
    fn default() -> Self {
        Self { advances: [(Lsn(0), 0); ADVANCES], newest: 0 }
    }
}

impl LogTimes {
    /// The log is acknowledged as far as `acked` since `now_ns`.
    pub(crate) fn advanced(&mut self, acked: Lsn, now_ns: u64) {
        self.newest = (self.newest + 1) % ADVANCES;
        self.advances[self.newest] = (acked, now_ns);
    }
    /// When `gate` was reached: no earlier than `answered_ns`, no later than `now_ns`. Of what is long past, the oldest
    /// time that is known.
    pub(crate) fn reached(&self, gate: Lsn, answered_ns: u64, now_ns: u64) -> u64 {
        if gate == Lsn(0) {
            return answered_ns;
        }
        let newest_first =
            (0..ADVANCES).map(|back| self.advances[(self.newest + ADVANCES - back) % ADVANCES]);
        let reached = newest_first.take_while(|(acked, _)| *acked >= gate).last();
        reached.map_or(now_ns, |(_, at)| at).clamp(answered_ns.min(now_ns), now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Phase;

    fn begun(elsewhere: Option<OwnerTimes>) -> Begun {
        Begun { kind: RequestKind::Put, arrived_ns: 100, served_ns: 110, elsewhere }
    }
    fn answered(elsewhere: Option<OwnerTimes>) -> Answered {
        Answered {
            begun: begun(elsewhere),
            end: 0,
            gate: Lsn(7),
            count: 1,
            answered_ns: Some(150),
            reached_ns: Some(450),
            head: None,
        }
    }

    #[test]
    fn every_nanosecond_of_a_request_is_in_one_phase() {
        // Time that is in none, or in two, sends the operator looking in the wrong place.
        let local = answered(None).times(500);
        assert_eq!(local, PhaseTimes([10, 300, 40, 0, 50]));
        let owner = OwnerTimes { read_ns: 5, wal_ns: 20 };
        let remote = answered(Some(owner)).times(500);
        assert_eq!(remote, PhaseTimes([10, 320, 5, 15, 50]));
        // The owner's clock may see more time than passed here.
        let late = answered(Some(OwnerTimes { read_ns: 30, wal_ns: 1000 })).times(500);
        assert_eq!((late.of(Phase::Read), late.of(Phase::Wal), late.of(Phase::Forward)), (30, 310, 0));
        for times in [local, remote, late] {
            assert_eq!(times.total_ns(), 400);
        }
    }

    #[test]
    fn a_gate_is_reached_by_the_first_advance_that_covers_it() {
        // A send that was under way hides when the log was done: the wait would be blamed on the disk.
        let mut log = LogTimes::default();
        (1..=200).for_each(|step| log.advanced(Lsn(10 * step), 1000 * step));
        assert_eq!(log.reached(Lsn(1991), 0, 300_000), 200_000);
        assert_eq!(log.reached(Lsn(1990), 0, 300_000), 199_000);
        assert_eq!(log.reached(Lsn(1990), 199_500, 300_000), 199_500, "not before the reply was there");
        assert_eq!(log.reached(Lsn(2001), 0, 300_000), 300_000, "not yet reached");
        assert_eq!(log.reached(Lsn(5), 0, 300_000), 137_000, "the oldest that is known");
        assert_eq!(log.reached(Lsn(0), 42, 300_000), 42);
    }

    #[test]
    fn heads_are_found_by_the_turn_in_which_they_were_served() {
        // The slow log would show another request's key.
        let mut heads = Heads::default();
        for turn in 1..=6_u64 {
            heads.keep(turn, Head::new(b"SET", format!("k{turn}").as_bytes(), 3));
        }
        assert!(heads.has(6) && !heads.has(5));
        assert_eq!(heads.at(3).map(Head::key), Some(&b"k3"[..]));
        assert_eq!(heads.at(2), None);
        let long = Head::new(&[b'n'; 100], &[b'k'; 100], 100_000);
        assert_eq!((long.name().len(), long.key().len(), long.words()), (NAME_BYTES, KEY_BYTES, 100_000));
    }
}
