//! Keys and values: SET and GET over RESP, or single samples in many series.
//!
//! Every operation is a pure function of (options, sequence). Over the native protocol and TS.ADD the sample's time is
//! `start + sequence`, so that no write hides another; a byte string begins with the sequence in hexadecimal, so that
//! a reader knows which write it sees.

use super::super::random::{below, draw, unit};
use super::super::schedule::Share;
use super::super::wire::{KeyTemplate, put_bulk, put_decimal, put_header};
use super::keys::{KeyPattern, Keys, Recency};
use super::mixed::put_newest_of;
use super::{Dialect, Issued, ValueKind, Workload};
use crate::model::{Command, KeyRange, Slot, Value};
use crate::protocol::binary::{Request, encode_request};
use serde::{Deserialize, Serialize};
use std::io::Write;

/// Prefix of the keys of strings and of series; apart, because a key has one type.
const STRING_PREFIX: &[u8] = b"bench:s:";
const SERIES_PREFIX: &[u8] = b"bench:t:";
/// Streams of dice.
const VALUE_DICE: u64 = 3;
const LENGTH_DICE: u64 = 4;
const SCAN_DICE: u64 = 6;
/// Bytes that fillers are cut from.
const FILLER_BYTES: usize = 8 << 10;
/// Leading bytes of a byte string that hold the sequence.
pub(in crate::load) const SEQUENCE_DIGITS: usize = 16;
const WRITE: u8 = 0;
const READ: u8 = 1;

/// What the operations are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvKind {
    /// Writes, and reads of one key.
    #[default]
    Plain,
    /// Writes, and scans of up to this many neighbouring keys; over the native protocol only.
    Scans(u64),
    /// Reads; and reads after whose answer the same key is written, as one operation.
    ReadModifyWrite,
}

impl KvKind {
    /// Names of what writes and of what reads.
    #[must_use]
    pub fn op_names(self) -> [&'static str; 2] {
        match self {
            Self::Plain => ["write", "read"],
            Self::Scans(_) => ["write", "scan"],
            Self::ReadModifyWrite => ["rmw", "read"],
        }
    }
}

/// What a key-value workload is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KvOptions {
    /// What is spoken.
    pub dialect: Dialect,
    /// How many keys.
    pub keys: u64,
    /// Which of them.
    pub pattern: KeyPattern,
    /// Share of writes, 0..=1.
    pub write_share: f64,
    /// Which of what was written is read.
    pub recency: Recency,
    /// Writes go to keys that were not there before.
    pub is_growing: bool,
    /// What the operations are.
    pub kind: KvKind,
    /// What is written.
    pub values: ValueKind,
    /// Time of the first sample, in the store's unit.
    pub start: i64,
    /// Of everything drawn.
    pub seed: u64,
}

/// What a write stores, for who reads it back.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::load) struct KvWrite {
    pub(in crate::load) key: u64,
    pub(in crate::load) time: i64,
}

/// Makes the operations of one thread.
#[derive(Debug)]
pub(in crate::load) struct KvWorkload {
    options: KvOptions,
    keys: Keys,
    share: Share,
    made: u64,
    write: KeyTemplate,
    read: KeyTemplate,
    series: KeyTemplate,
    /// The whole of a SET, where all are equally long.
    whole_set: Option<WholeSet>,
    filler: Vec<u8>,
    /// Kept for their memory.
    key: Vec<u8>,
    value: Vec<u8>,
}

/// Bytes of a burst of SETs that are copied at once.
const BURST_BYTES: usize = 16 << 10;

/// SETs of which only the keys' digits and the values are written anew: a burst costs one copy of a burst made before.
#[derive(Debug)]
struct WholeSet {
    template: KeyTemplate,
    /// As many of them as [`BURST_BYTES`] hold, at least one.
    burst: Vec<u8>,
    /// Where the value starts.
    value_at: usize,
    value_bytes: usize,
}

impl WholeSet {
    fn new(options: &KvOptions) -> Option<Self> {
        let ValueKind::Bytes { min, max } = options.values else { return None };
        let is_plain = min == max && (SEQUENCE_DIGITS..=FILLER_BYTES / 2).contains(&min);
        if options.dialect != Dialect::Strings || !is_plain {
            return None;
        }
        let mut after = Vec::new();
        put_bulk(&mut after, &vec![b'0'; min]);
        let template = KeyTemplate::of_command(3, b"SET", STRING_PREFIX, &after);
        let value_at = template.bytes_len() - min - b"\r\n".len();
        let mut burst = Vec::new();
        for _ in 0..(BURST_BYTES / template.bytes_len()).max(1) {
            template.put(&mut burst, 0);
        }
        Some(Self { template, burst, value_at, value_bytes: min })
    }
}

impl KvWorkload {
    pub(in crate::load) fn new(options: &KvOptions, share: Share) -> Self {
        let KvOptions { keys, pattern, write_share, recency, is_growing, seed, .. } = *options;
        let (write, read) = match options.dialect {
            Dialect::Series => (
                KeyTemplate::of_command(6, b"TS.ADD", SERIES_PREFIX, b""),
                KeyTemplate::of_command(2, b"TS.GET", SERIES_PREFIX, b""),
            ),
            // The native protocol uses only `series`.
            Dialect::Strings | Dialect::Native => (
                KeyTemplate::of_command(3, b"SET", STRING_PREFIX, b""),
                KeyTemplate::of_command(2, b"GET", STRING_PREFIX, b""),
            ),
        };
        let printable =
            |index: usize| b' ' + u8::try_from(below(draw(options.seed ^ 5, index as u64), 95)).unwrap_or(0);
        Self {
            options: options.clone(),
            keys: Keys::new(keys, pattern, write_share, recency, is_growing, seed),
            share,
            made: 0,
            write,
            read,
            series: KeyTemplate::new(SERIES_PREFIX, b""),
            whole_set: WholeSet::new(options),
            filler: (0..FILLER_BYTES).map(printable).collect(),
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    /// The key of a write.
    #[inline]
    pub(in crate::load) fn key_of(&self, sequence: u64) -> u64 {
        self.keys.written(sequence)
    }
    /// Where a write goes.
    pub(in crate::load) fn write_of(&self, sequence: u64) -> KvWrite {
        let time = self.options.start.saturating_add(i64::try_from(sequence).unwrap_or(i64::MAX));
        KvWrite { key: self.key_of(sequence), time }
    }
    /// Puts the value of a write into `value`.
    pub(in crate::load) fn put_value(&self, sequence: u64, value: &mut Vec<u8>) {
        value.clear();
        let dice = draw(self.options.seed ^ VALUE_DICE, sequence);
        match self.options.values {
            ValueKind::Int => put_decimal(value, number_of(dice)),
            ValueKind::Float => {
                write!(value, "{}", float_of(dice)).expect("a vector takes what is written");
            }
            ValueKind::Bytes { min, max } => {
                let spread = (max - min) as u64 + 1;
                let extra = below(draw(self.options.seed ^ LENGTH_DICE, sequence), spread);
                let bytes = min + usize::try_from(extra).unwrap_or(0);
                put_sequence(value, sequence);
                value.truncate(bytes);
                self.fill(value, bytes, dice);
            }
        }
    }
    fn fill(&self, value: &mut Vec<u8>, bytes: usize, dice: u64) {
        let mut from = usize::try_from(below(dice, FILLER_BYTES as u64 / 2)).unwrap_or(0);
        while value.len() < bytes {
            let count = (bytes - value.len()).min(FILLER_BYTES - from);
            value.extend_from_slice(&self.filler[from..from + count]);
            from = 0;
        }
    }
    /// The name of a key.
    pub(in crate::load) fn name_of(&self, key: u64, name: &mut Vec<u8>) {
        name.clear();
        match self.options.dialect {
            Dialect::Strings => KeyTemplate::new(STRING_PREFIX, b"").put(name, key),
            Dialect::Native | Dialect::Series => self.series.put(name, key),
        }
    }
    /// The value of a write over the native protocol; `bytes` holds it where it is a byte string.
    pub(in crate::load) fn native_value<'a>(&self, sequence: u64, bytes: &'a mut Vec<u8>) -> Value<'a> {
        let dice = draw(self.options.seed ^ VALUE_DICE, sequence);
        match self.options.values {
            ValueKind::Int => Value::I64(number_of(dice)),
            ValueKind::Float => Value::F64(float_of(dice)),
            ValueKind::Bytes { .. } => {
                self.put_value(sequence, bytes);
                Value::Bytes(bytes)
            }
        }
    }

    /// Appends `count` SETs as a copy of the burst, from `sequence` on; the same bytes as the plain way makes.
    fn put_whole_sets(&self, set: &WholeSet, out: &mut Vec<u8>, sequence: u64, count: u64) {
        let (each, stride) = (set.template.bytes_len(), self.share.threads);
        let (mut sequence, mut left) = (sequence, usize::try_from(count).unwrap_or(usize::MAX));
        while left > 0 {
            let taken = left.min(set.burst.len() / each);
            let start = out.len();
            out.extend_from_slice(&set.burst[..taken * each]);
            for request in out[start..].chunks_exact_mut(each) {
                set.template.write_key(request, self.key_of(sequence));
                let value = &mut request[set.value_at..set.value_at + set.value_bytes];
                let (digits, rest) = value.split_at_mut(SEQUENCE_DIGITS);
                write_sequence(digits, sequence);
                rest.copy_from_slice(self.filler_at(sequence, rest.len()));
                sequence += stride;
            }
            left -= taken;
        }
    }
    /// What follows the sequence in a value that no end of the filler cuts.
    #[inline]
    fn filler_at(&self, sequence: u64, bytes: usize) -> &[u8] {
        let dice = draw(self.options.seed ^ VALUE_DICE, sequence);
        let from = usize::try_from(below(dice, FILLER_BYTES as u64 / 2)).unwrap_or(0);
        &self.filler[from..from + bytes]
    }

    fn put_write(&mut self, out: &mut Vec<u8>, id: u64, sequence: u64) {
        if let Some(set) = &self.whole_set {
            return self.put_whole_sets(set, out, sequence, 1);
        }
        let KvWrite { key, time } = self.write_of(sequence);
        let mut value = std::mem::take(&mut self.value);
        match self.options.dialect {
            Dialect::Strings => {
                self.write.put(out, key);
                self.put_value(sequence, &mut value);
                put_bulk(out, &value);
            }
            Dialect::Series => {
                self.write.put(out, key);
                let mut buffer = itoa::Buffer::new();
                put_bulk(out, buffer.format(time).as_bytes());
                self.put_value(sequence, &mut value);
                put_bulk(out, &value);
                // Running the same workload again must not fail.
                put_bulk(out, b"ON_DUPLICATE");
                put_bulk(out, b"LAST");
            }
            Dialect::Native => {
                self.key.clear();
                self.series.put(&mut self.key, key);
                let stored = self.native_value(sequence, &mut value);
                let command = Command::Put { series: &self.key, slot: Slot::Time(time), value: stored };
                encode_request(out, id, false, &Request::Data(command));
            }
        }
        self.value = value;
    }
    fn put_read(&mut self, out: &mut Vec<u8>, id: u64, sequence: u64) {
        let key = self.keys.read(sequence);
        self.put_read_of(out, id, key);
    }
    fn put_read_of(&mut self, out: &mut Vec<u8>, id: u64, key: u64) {
        if self.options.dialect == Dialect::Native {
            self.key.clear();
            self.series.put(&mut self.key, key);
            encode_request(out, id, false, &Request::Data(Command::GetNewest { series: &self.key }));
        } else {
            self.read.put(out, key);
        }
    }
}

impl KvWorkload {
    /// The newest samples of some neighbouring keys.
    fn put_scan(&mut self, out: &mut Vec<u8>, id: u64, sequence: u64, keys_max: u64) {
        let from = self.keys.read(sequence);
        let count = 1 + below(draw(self.options.seed ^ SCAN_DICE, sequence), keys_max);
        let (mut start, mut end) = (Vec::new(), Vec::new());
        self.series.put(&mut start, from);
        self.series.put(&mut end, from.saturating_add(count));
        put_newest_of(out, id, KeyRange { start: start.into(), end: Some(end.into()) });
    }
    /// A read and then a write of one key.
    fn put_modification(&mut self, out: &mut Vec<u8>, id: u64, sequence: u64) -> Vec<usize> {
        self.put_read_of(out, id, self.key_of(sequence));
        let read_end = out.len();
        self.put_write(out, id + 1, sequence);
        vec![read_end, out.len()]
    }
    fn next_sequence(&mut self, count: u64) -> u64 {
        let sequence = self.made * self.share.threads + self.share.thread;
        self.made += count;
        sequence
    }
}

impl Workload for KvWorkload {
    fn op_names(&self) -> Vec<String> {
        self.options.kind.op_names().map(str::to_owned).to_vec()
    }
    fn issue(&mut self, out: &mut Vec<u8>, first_id: u64) -> Option<Issued> {
        let sequence = self.next_sequence(1);
        let mut issued = Issued { op: WRITE, written: Some(1), sequence, ..Issued::default() };
        match (self.keys.is_write(sequence), self.options.kind) {
            (true, KvKind::ReadModifyWrite) => {
                issued.part_ends = self.put_modification(out, first_id, sequence);
                issued.is_in_turn = true;
            }
            (true, _) => self.put_write(out, first_id, sequence),
            (false, kind) => {
                (issued.op, issued.written) = (READ, None);
                match kind {
                    KvKind::Scans(keys_max) => self.put_scan(out, first_id, sequence, keys_max),
                    _ => self.put_read(out, first_id, sequence),
                }
            }
        }
        Some(issued)
    }
    fn issue_alike(&mut self, out: &mut Vec<u8>, first_id: u64, most: u64) -> Option<Issued> {
        if self.whole_set.is_none() || self.options.write_share < 1.0 || self.options.kind != KvKind::Plain {
            return self.issue(out, first_id);
        }
        let (sequence, stride) = (self.next_sequence(most), self.share.threads);
        if let Some(set) = &self.whole_set {
            self.put_whole_sets(set, out, sequence, most);
        }
        let issued = Issued { op: WRITE, written: Some(1), sequence, ..Issued::default() };
        Some(Issued { further: most - 1, stride, ..issued })
    }
}

/// Appends a sequence as 16 hexadecimal digits.
fn put_sequence(value: &mut Vec<u8>, sequence: u64) {
    let mut digits = [0; SEQUENCE_DIGITS];
    write_sequence(&mut digits, sequence);
    value.extend_from_slice(&digits);
}

/// All pairs of hexadecimal digits.
const HEX_PAIRS: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let (mut pairs, mut index) = ([[0; 2]; 256], 0);
    while index < 256 {
        pairs[index] = [DIGITS[index / 16], DIGITS[index % 16]];
        index += 1;
    }
    pairs
};

fn write_sequence(digits: &mut [u8], sequence: u64) {
    let bytes = sequence.to_le_bytes();
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes.iter().rev()) {
        pair.copy_from_slice(&HEX_PAIRS[usize::from(*byte)]);
    }
}

/// The sequence that a byte string begins with.
pub(in crate::load) fn sequence_of(value: &[u8]) -> Option<u64> {
    let digits = value.get(..SEQUENCE_DIGITS)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn number_of(dice: u64) -> i64 {
    i64::try_from(below(dice, 1_000_000)).unwrap_or(0)
}
fn float_of(dice: u64) -> f64 {
    unit(dice) * 100.0
}

/// Appends the header of a command of `arguments` words that begins with `name`.
pub(super) fn put_command_start(out: &mut Vec<u8>, arguments: usize, name: &[u8]) {
    put_header(out, b'*', arguments);
    put_bulk(out, name);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dialect: Dialect, values: ValueKind) -> KvOptions {
        KvOptions {
            dialect,
            keys: 100,
            pattern: KeyPattern::Random,
            write_share: 0.5,
            recency: Recency::Uniform,
            is_growing: false,
            kind: KvKind::Plain,
            values,
            start: 1000,
            seed: 7,
        }
    }
    fn all(options: &KvOptions, share: Share, count: u64) -> Vec<(Issued, Vec<u8>)> {
        let mut workload = KvWorkload::new(options, share);
        let one = |index| {
            let mut out = Vec::new();
            (workload.issue(&mut out, index + 1).unwrap(), out)
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn threads_share_out_the_operations_of_one() {
        // The load would depend on how many threads make it.
        let options = options(Dialect::Strings, ValueKind::Bytes { min: 4, max: 40 });
        let whole = all(&options, Share { thread: 0, threads: 1 }, 300);
        let mut parts: Vec<_> =
            (0..3).flat_map(|thread| all(&options, Share { thread, threads: 3 }, 100)).collect();
        parts.sort_by_key(|(issued, _)| issued.sequence);
        assert_eq!(parts, whole);
        let writes = whole.iter().filter(|(issued, _)| issued.op == WRITE).count();
        assert!((100..200).contains(&writes), "{writes} of 300 with a share of a half");
    }

    #[test]
    fn whole_requests_are_the_same_as_those_made_piece_by_piece() {
        // The bytes on the wire would not be those that a verification expects.
        for bytes in [16, 17, 32, 4096] {
            let fixed = options(Dialect::Strings, ValueKind::Bytes { min: bytes, max: bytes });
            let mut fast = KvWorkload::new(
                &KvOptions { write_share: 1.0, ..fixed.clone() },
                Share { thread: 0, threads: 1 },
            );
            assert!(fast.whole_set.is_some(), "{bytes}");
            let mut next = 0;
            // One by one, and in bursts beyond what is copied at once.
            for most in [1, 1, 2, 64, 1, 700] {
                let (mut made, mut plain, mut value) = (b"x".to_vec(), b"x".to_vec(), Vec::new());
                let issued = fast.issue_alike(&mut made, 1, most).unwrap();
                assert_eq!((issued.sequence, issued.further + 1), (next, most));
                for sequence in next..next + most {
                    fast.put_value(sequence, &mut value);
                    fast.write.put(&mut plain, fast.key_of(sequence));
                    put_bulk(&mut plain, &value);
                }
                assert_eq!(made, plain, "{bytes}, {most} from {next}");
                next += most;
            }
        }
        for other in
            [ValueKind::Int, ValueKind::Bytes { min: 15, max: 15 }, ValueKind::Bytes { min: 16, max: 20 }]
        {
            assert!(WholeSet::new(&options(Dialect::Strings, other)).is_none());
        }
    }

    #[test]
    fn values_have_the_sizes_asked_for_and_name_their_write() {
        // A verification could not tell a lost write from a newer one.
        let options = options(Dialect::Strings, ValueKind::Bytes { min: 16, max: 20_000 });
        let workload = KvWorkload::new(&options, Share { thread: 0, threads: 1 });
        let (mut value, mut shortest, mut longest) = (Vec::new(), usize::MAX, 0);
        for sequence in 0..500 {
            workload.put_value(sequence, &mut value);
            assert_eq!(sequence_of(&value), Some(sequence));
            (shortest, longest) = (shortest.min(value.len()), longest.max(value.len()));
        }
        assert!(
            (16..500).contains(&shortest) && (19_500..=20_000).contains(&longest),
            "{shortest} {longest}"
        );
        assert_eq!(sequence_of(b"xyz"), None);
    }

    #[test]
    fn bursts_of_several_threads_are_the_operations_of_one() {
        // A burst with its neighbours' numbers would write some values twice and others never.
        let values = ValueKind::Bytes { min: 32, max: 32 };
        let options = KvOptions { write_share: 1.0, ..options(Dialect::Strings, values) };
        let mut alone = KvWorkload::new(&options, Share { thread: 0, threads: 1 });
        let mut expected = Vec::new();
        (0..30).for_each(|id| drop(alone.issue(&mut expected, id)));
        let each = expected.len() / 30;
        let mut found = vec![Vec::new(); 30];
        for thread in 0..3 {
            let mut workload = KvWorkload::new(&options, Share { thread, threads: 3 });
            for most in [4, 6] {
                let mut out = Vec::new();
                let issued = workload.issue_alike(&mut out, 1, most).unwrap();
                for (index, request) in out.chunks(each).enumerate() {
                    let sequence = issued.sequence + index as u64 * issued.stride;
                    found[usize::try_from(sequence).unwrap()] = request.to_vec();
                }
            }
        }
        assert_eq!(found.concat(), expected);
    }
}
