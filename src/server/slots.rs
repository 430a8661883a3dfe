//! Replies that a connection still owes, in the order of its requests.
//!
//! Each request takes a slot before it is executed. RESP replies leave in slot order: the reply to the front slot is
//! encoded straight into the output, others are kept in their slot until everything before them is done. Native
//! replies carry a request id and leave when they are ready; their slots are kept apart, in no order, so that a scan
//! that takes long keeps nothing of what came after it.

use super::blame::{Begun, Head, OwnerTimes};
use super::output::Output;
use crate::model::{Dialect, Lsn};
use std::collections::{BTreeMap, VecDeque};

/// Native requests are numbered from here, so that a late reply to one is never taken for RESP's.
const NATIVE_FIRST: u64 = 1 << 63;

/// A slot, and of the first slot of a request when it began.
#[derive(Debug)]
struct Entry {
    slot: Slot,
    begun: Option<Begun>,
    head: Option<Box<Head>>,
}

/// How the parts of one request become one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fold {
    /// The sum of the parts' integers.
    Sum,
    /// `+OK` when all parts went well.
    AllOk,
}

/// One owed reply.
#[derive(Debug)]
enum Slot {
    /// Not there yet.
    Waiting,
    /// Encoded, waiting for the ones before it. `gate`: held back until the log is acknowledged so far.
    Ready { bytes: Vec<u8>, gate: Lsn },
    /// Parts come in; the first error by part number wins.
    Folding { fold: Fold, waiting: usize, sum: i64, error: Option<(u32, Vec<u8>)>, gate: Lsn },
}

/// The owed reply to a native request.
#[derive(Debug)]
struct NativeSlot {
    /// Holds the request's id.
    dialect: Dialect,
    /// Parts that have not replied; `None` for a request of one part, whose replies are sent as they come.
    parts: Option<usize>,
    /// The first error of a part, as a whole frame.
    error: Option<Vec<u8>>,
    /// The log position that the parts wait for.
    gate: Lsn,
    begun: Option<Begun>,
    head: Option<Box<Head>>,
}

/// What a reply to a native request was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NativePart {
    /// The reply of a request of one part: send it.
    Whole,
    /// A part; others are missing.
    Folded,
    /// The last part: send the error, or success.
    Last { gate: Lsn, error: Option<Vec<u8>> },
}

/// What came for a slot.
pub(crate) struct Arrived<'a> {
    /// The encoded reply.
    pub(crate) bytes: &'a [u8],
    /// Its number, for sums.
    pub(crate) integer: i64,
    /// Whether it is an error.
    pub(crate) failed: bool,
    /// Held back until this log position.
    pub(crate) gate: Lsn,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: VecDeque<Entry>,
    /// Bytes of replies that wait for earlier ones.
    ready_bytes: usize,
    /// The request whose slots are taken next.
    begun: Option<Begun>,
    /// Sequence number of the front slot.
    first: u64,
    /// The latest native request, until there is a later one: most are answered at once, and an entry of a map would be
    /// an allocation for each.
    native_latest: Option<(u64, NativeSlot)>,
    native: BTreeMap<u64, NativeSlot>,
    /// Native requests so far.
    native_count: u64,
}

impl Slots {
    /// Bytes of replies that wait for earlier ones.
    pub(crate) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }
    /// Whether a reply that came waits for a log position beyond `acked`.
    pub(crate) fn waits_for_log(&self, acked: Lsn) -> bool {
        let waits = |entry: &Entry| match &entry.slot {
            Slot::Ready { gate, .. } | Slot::Folding { gate, .. } => *gate > acked,
            Slot::Waiting => false,
        };
        self.slots.iter().any(waits) || self.native_slots().any(|slot| slot.gate > acked)
    }
    /// Replies owed.
    pub(crate) fn count(&self) -> usize {
        self.slots.len() + self.native.len() + usize::from(self.native_latest.is_some())
    }
    /// Parts that a folded reply still waits for; 0 when it is complete.
    pub(crate) fn parts_waiting(&self, sequence: u64) -> usize {
        let entry = self.index(sequence).and_then(|index| self.slots.get(index));
        match entry.map(|entry| &entry.slot) {
            Some(Slot::Folding { waiting, .. }) => *waiting,
            Some(Slot::Waiting | Slot::Ready { .. }) | None => 0,
        }
    }
    /// Says what the next slot's request is, for its latency.
    pub(crate) fn begin_next(&mut self, begun: Begun) {
        self.begun = Some(begun);
    }
    /// Keeps what the last request was, unless it has been answered.
    pub(crate) fn describe_last(&mut self, head: impl FnOnce() -> Head) {
        let last = self.slots.iter_mut().rev().map(|entry| (&entry.begun, &mut entry.head));
        let native = match &mut self.native_latest {
            Some((_, slot)) => Some(slot),
            None => self.native.values_mut().next_back(),
        };
        let native = native.map(|slot| (&slot.begun, &mut slot.head));
        let described = last.chain(native).find(|(begun, _)| begun.is_some());
        if let Some((_, place @ None)) = described {
            *place = Some(Box::new(head()));
        }
    }
    /// Another core has worked on a request.
    pub(crate) fn note_owner(&mut self, sequence: u64, owner: OwnerTimes) {
        let begun = match self.native_mut(sequence) {
            Some(slot) => slot.begun.as_mut(),
            None => {
                let entry = self.index(sequence).and_then(|index| self.slots.get_mut(index));
                entry.and_then(|entry| entry.begun.as_mut())
            }
        };
        if let Some(begun) = begun {
            begun.note_owner(owner);
        }
    }
    /// Takes the next slot for a reply of one part.
    pub(crate) fn open(&mut self) -> u64 {
        self.push(Slot::Waiting)
    }
    /// Takes the next slot for a reply folded from `parts` parts.
    pub(crate) fn open_fold(&mut self, fold: Fold, parts: usize) -> u64 {
        assert!(parts > 0, "a fold of nothing has no reply");
        self.push(Slot::Folding { fold, waiting: parts, sum: 0, error: None, gate: Lsn(0) })
    }
    /// Takes a slot for a native request.
    pub(crate) fn open_native(&mut self, dialect: Dialect) -> u64 {
        self.push_native(dialect, None)
    }
    /// Takes a slot for a native request of several parts.
    pub(crate) fn open_native_fold(&mut self, dialect: Dialect, parts: usize) -> u64 {
        assert!(parts > 0, "a fold of nothing has no reply");
        self.push_native(dialect, Some(parts))
    }
    /// Appends bytes that are no reply of their own, in their place among the replies: the head of an array whose
    /// elements are replies.
    pub(crate) fn insert_bytes(&mut self, bytes: &[u8], output: &mut Output) {
        if self.slots.is_empty() {
            output.bytes_mut().extend_from_slice(bytes);
        } else {
            self.ready_bytes += bytes.len();
            self.push(Slot::Ready { bytes: bytes.to_vec(), gate: Lsn(0) });
        }
    }
    /// Whether the reply to `sequence` may be encoded straight into the output.
    pub(crate) fn is_next(&self, sequence: u64) -> bool {
        sequence == self.first && self.front_is_waiting()
    }
    /// The front reply was encoded into the output: goes on with those behind it.
    pub(crate) fn complete_front(&mut self, output: &mut Output) {
        assert!(self.front_is_waiting(), "only a waiting slot is completed");
        self.pop(output);
        self.drain_ready(output);
    }
    /// How the reply to a native request is encoded; `None` on RESP, and when nothing is owed any more.
    pub(crate) fn native_dialect(&self, sequence: u64) -> Option<Dialect> {
        match &self.native_latest {
            Some((latest, slot)) if *latest == sequence => Some(slot.dialect),
            Some(_) | None => self.native.get(&sequence).map(|slot| slot.dialect),
        }
    }
    /// Takes one part's reply; when it was the last, gives the log position to wait for and the first error's frame.
    pub(crate) fn fold_native(&mut self, sequence: u64, arrived: &Arrived<'_>) -> NativePart {
        let Some(slot) = self.native_mut(sequence) else { return NativePart::Whole };
        let Some(waiting) = &mut slot.parts else { return NativePart::Whole };
        *waiting -= 1;
        slot.gate = arrived.gate.max(slot.gate);
        if arrived.failed && slot.error.is_none() {
            slot.error = Some(arrived.bytes.to_vec());
        }
        if *waiting > 0 {
            return NativePart::Folded;
        }
        NativePart::Last { gate: slot.gate, error: slot.error.take() }
    }
    /// A native request has its last reply.
    pub(crate) fn complete_native(&mut self, sequence: u64, output: &mut Output) {
        let latest = self.native_latest.take_if(|(latest, _)| *latest == sequence).map(|(_, slot)| slot);
        let slot = latest.or_else(|| self.native.remove(&sequence));
        if let Some(NativeSlot { begun: Some(begun), head, .. }) = slot {
            output.answered(begun, head);
        }
    }
    /// Keeps a reply for its turn, or folds it; whatever is next in order goes to the output.
    pub(crate) fn arrive(&mut self, sequence: u64, part: u32, arrived: &Arrived<'_>, output: &mut Output) {
        // An operation that was ended early, such as a scan that failed, may still say something.
        if sequence >= NATIVE_FIRST {
            return;
        }
        let Some(index) = self.index(sequence) else { return };
        let Some(Entry { slot, .. }) = self.slots.get_mut(index) else {
            unreachable!("a reply came for a slot that was never opened: {sequence}")
        };
        match slot {
            Slot::Waiting => {
                self.ready_bytes += arrived.bytes.len();
                *slot = Slot::Ready { bytes: arrived.bytes.to_vec(), gate: arrived.gate };
            }
            Slot::Folding { waiting, sum, error, gate, fold } => {
                *waiting -= 1;
                *sum = sum.saturating_add(arrived.integer);
                *gate = arrived.gate.max(*gate);
                let first = error.as_ref().is_none_or(|(earlier, _)| part < *earlier);
                if arrived.failed && first {
                    *error = Some((part, arrived.bytes.to_vec()));
                }
                if *waiting == 0 {
                    let bytes = match error.take() {
                        Some((_, bytes)) => bytes,
                        None => folded(*fold, *sum),
                    };
                    self.ready_bytes += bytes.len();
                    *slot = Slot::Ready { bytes, gate: *gate };
                }
            }
            Slot::Ready { .. } => unreachable!("a second reply came for one slot: {sequence}"),
        }
        self.drain_ready(output);
    }

    fn push(&mut self, slot: Slot) -> u64 {
        let sequence = self.first + self.slots.len() as u64;
        self.slots.push_back(Entry { slot, begun: self.begun.take(), head: None });
        sequence
    }
    fn push_native(&mut self, dialect: Dialect, parts: Option<usize>) -> u64 {
        let sequence = NATIVE_FIRST | self.native_count;
        self.native_count += 1;
        let begun = self.begun.take();
        let slot = NativeSlot { dialect, parts, error: None, gate: Lsn(0), begun, head: None };
        if let Some((earlier, slot)) = self.native_latest.replace((sequence, slot)) {
            self.native.insert(earlier, slot);
        }
        sequence
    }
    fn native_mut(&mut self, sequence: u64) -> Option<&mut NativeSlot> {
        if self.native_latest.as_ref().is_some_and(|(latest, _)| *latest == sequence) {
            return self.native_latest.as_mut().map(|(_, slot)| slot);
        }
        self.native.get_mut(&sequence)
    }
    fn native_slots(&self) -> impl Iterator<Item = &NativeSlot> {
        self.native.values().chain(self.native_latest.as_ref().map(|(_, slot)| slot))
    }
    /// Removes the front slot; its reply, if it is in the output, ends here.
    fn pop(&mut self, output: &mut Output) -> Option<Slot> {
        let Entry { slot, begun, head } = self.slots.pop_front()?;
        self.first += 1;
        if let Slot::Ready { bytes, gate } = &slot {
            self.ready_bytes -= bytes.len();
            output.hold(*gate);
            output.bytes_mut().extend_from_slice(bytes);
        }
        if let Some(begun) = begun {
            output.answered(begun, head);
        }
        Some(slot)
    }
    fn front_is_waiting(&self) -> bool {
        self.slots.front().is_some_and(|entry| matches!(entry.slot, Slot::Waiting))
    }
    fn index(&self, sequence: u64) -> Option<usize> {
        usize::try_from(sequence.checked_sub(self.first)?).ok()
    }
    fn drain_ready(&mut self, output: &mut Output) {
        while self.slots.front().is_some_and(|entry| matches!(entry.slot, Slot::Ready { .. })) {
            self.pop(output);
        }
    }
}

/// RESP2 and RESP3 encode these the same way.
fn folded(fold: Fold, sum: i64) -> Vec<u8> {
    match fold {
        Fold::Sum => format!(":{sum}\r\n").into_bytes(),
        Fold::AllOk => b"+OK\r\n".to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(bytes: &[u8], integer: i64, failed: bool) -> Arrived<'_> {
        Arrived { bytes, integer, failed, gate: Lsn(0) }
    }
    fn sent(output: &mut Output) -> Vec<u8> {
        output.take_sendable(Lsn(u64::MAX)).unwrap_or_default()
    }

    #[test]
    fn replies_leave_in_request_order() {
        // A client matches RESP replies to its requests by order alone.
        let (mut slots, mut output) = (Slots::default(), Output::default());
        let (first, second, third) = (slots.open(), slots.open(), slots.open());
        slots.arrive(third, 0, &reply(b"3", 0, false), &mut output);
        slots.arrive(second, 0, &reply(b"2", 0, false), &mut output);
        assert!(sent(&mut output).is_empty() && slots.is_next(first));
        output.bytes_mut().push(b'1');
        slots.complete_front(&mut output);
        assert_eq!(sent(&mut output), b"123");
        assert_eq!(slots.count(), 0);
    }
    #[test]
    fn parts_fold_into_one_reply_and_the_first_error_wins() {
        // DEL over shards is one number; an error of any part must not be lost.
        let (mut slots, mut output) = (Slots::default(), Output::default());
        let sum = slots.open_fold(Fold::Sum, 2);
        slots.arrive(sum, 1, &reply(b":1\r\n", 1, false), &mut output);
        slots.arrive(sum, 0, &reply(b":2\r\n", 2, false), &mut output);
        let all = slots.open_fold(Fold::AllOk, 3);
        for (part, error) in [(2, &b"-late\r\n"[..]), (1, b"-early\r\n")] {
            slots.arrive(all, part, &reply(error, 0, true), &mut output);
        }
        slots.arrive(all, 0, &reply(b"+OK\r\n", 0, false), &mut output);
        assert_eq!(sent(&mut output), b":3\r\n-early\r\n");
    }

    #[test]
    fn what_comes_after_the_end_of_a_reply_is_ignored() {
        // A scan that failed may still have chunks under way: they must not bring the daemon down.
        let (mut slots, mut output) = (Slots::default(), Output::default());
        let header = Dialect::Native { opcode: 0, has_checksum: false, is_forwarded: false, request_id: 1 };
        let (first, second) = (slots.open_native(header), slots.open_native(header));
        slots.complete_native(second, &mut output);
        slots.arrive(second, 0, &reply(b"late", 0, false), &mut output);
        slots.complete_native(first, &mut output);
        slots.arrive(first, 0, &reply(b"late", 0, false), &mut output);
        assert!(sent(&mut output).is_empty() && slots.count() == 0);
    }

    #[test]
    fn native_replies_that_are_done_are_not_owed() {
        // Replies behind a long scan counted as owed; its connection was not read, and so was its credit not.
        let (mut slots, mut output) = (Slots::default(), Output::default());
        let header = Dialect::Native { opcode: 0, has_checksum: false, is_forwarded: false, request_id: 1 };
        let scan = slots.open_native(header);
        for _ in 0..10 {
            let quick = slots.open_native(header);
            slots.complete_native(quick, &mut output);
        }
        assert_eq!((slots.count(), slots.native_dialect(scan)), (1, Some(header)));
    }

    #[test]
    fn the_head_of_an_array_stays_before_its_elements() {
        // EXEC and MGET behind a slow request must not send their head early.
        let (mut slots, mut output) = (Slots::default(), Output::default());
        let slow = slots.open();
        slots.insert_bytes(b"*1\r\n", &mut output);
        let element = slots.open();
        slots.arrive(element, 0, &reply(b":7\r\n", 7, false), &mut output);
        slots.arrive(slow, 0, &reply(b"+slow\r\n", 0, false), &mut output);
        assert_eq!(sent(&mut output), b"+slow\r\n*1\r\n:7\r\n");
    }
}
