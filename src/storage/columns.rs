//! Entries of one series and one slot class, as columns: the working form of memtable runs and decoded chunks.
//!
//! Order: time ascending, then seqno ascending; so the newest version of a slot is the last of its equals. For the
//! metadata and timeless classes every time is 0.

use crate::model::{EntryOp, Seqno, Value, ValueType};
use std::ops::Range;

/// Tag of a point delete in [`Columns::tags`]; other tags are [`ValueType`] discriminants.
pub const TAG_DELETE: u8 = 0;

/// Parallel columns; entry `i` is element `i` of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    times: Vec<i64>,
    seqnos: Vec<u64>,
    tags: Vec<u8>,
    /// Bits of a number, or `start << 32 | length` into `heap` for bytes.
    bits: Vec<u64>,
    heap: Vec<u8>,
}

impl Columns {
    /// Entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }
    /// Times, ascending.
    #[must_use]
    pub fn times(&self) -> &[i64] {
        &self.times
    }
    /// Seqnos, parallel to the times.
    #[must_use]
    pub fn seqnos(&self) -> &[u64] {
        &self.seqnos
    }
    /// [`TAG_DELETE`] or a value type's discriminant, parallel to the times.
    #[must_use]
    pub fn tags(&self) -> &[u8] {
        &self.tags
    }
    /// Number bits, or a place in the heap, parallel to the times.
    #[must_use]
    pub fn bits(&self) -> &[u64] {
        &self.bits
    }
    /// Bytes of byte values.
    #[must_use]
    pub fn heap(&self) -> &[u8] {
        &self.heap
    }
    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.times.capacity() * 25 + self.heap.capacity()
    }
    /// What entry `index` does.
    ///
    /// # Panics
    /// When `index` is out of range.
    #[must_use]
    pub fn op(&self, index: usize) -> EntryOp<'_> {
        let bits = self.bits[index];
        match ValueType::from_byte(self.tags[index]) {
            None => EntryOp::Delete,
            Some(ValueType::F64) => EntryOp::Put(Value::F64(f64::from_bits(bits))),
            Some(ValueType::I64) => EntryOp::Put(Value::I64(bits.cast_signed())),
            Some(ValueType::Bytes) => {
                let (start, length) = unpack(bits);
                EntryOp::Put(Value::Bytes(&self.heap[start..start + length]))
            }
        }
    }
    /// Seqno of entry `index`.
    ///
    /// # Panics
    /// When `index` is out of range.
    #[must_use]
    pub fn seqno(&self, index: usize) -> Seqno {
        Seqno(self.seqnos[index])
    }
    /// Appends an entry; the caller keeps the order.
    pub fn push(&mut self, time: i64, seqno: Seqno, op: EntryOp<'_>) {
        let (tag, bits) = self.store(op);
        self.times.push(time);
        self.seqnos.push(seqno.0);
        self.tags.push(tag);
        self.bits.push(bits);
    }
    /// Puts an entry before `index`, shifting what follows.
    ///
    /// # Panics
    /// When `index` exceeds the length.
    pub fn insert(&mut self, index: usize, time: i64, seqno: Seqno, op: EntryOp<'_>) {
        let (tag, bits) = self.store(op);
        self.times.insert(index, time);
        self.seqnos.insert(index, seqno.0);
        self.tags.insert(index, tag);
        self.bits.insert(index, bits);
    }
    /// Replaces seqno and operation of entry `index`. Bytes of an old byte value stay in the heap until the columns
    /// are rebuilt.
    ///
    /// # Panics
    /// When `index` is out of range.
    pub fn replace(&mut self, index: usize, seqno: Seqno, op: EntryOp<'_>) {
        let (tag, bits) = match op {
            EntryOp::Put(Value::Bytes(bytes)) if self.fits_in_place(index, bytes.len()) => {
                let (start, _) = unpack(self.bits[index]);
                self.heap[start..start + bytes.len()].copy_from_slice(bytes);
                (ValueType::Bytes as u8, pack(start, bytes.len()))
            }
            other => self.store(other),
        };
        self.seqnos[index] = seqno.0;
        self.tags[index] = tag;
        self.bits[index] = bits;
    }
    /// Appends entries `range` of `other`, whole columns at a time where there are no byte values.
    ///
    /// # Panics
    /// When `range` is out of range.
    pub fn extend_from(&mut self, other: &Self, range: Range<usize>) {
        self.times.extend_from_slice(&other.times[range.clone()]);
        self.seqnos.extend_from_slice(&other.seqnos[range.clone()]);
        let tags = &other.tags[range.clone()];
        self.tags.extend_from_slice(tags);
        if tags.contains(&(ValueType::Bytes as u8)) {
            for index in range {
                let (_, bits) = self.store(other.op(index));
                self.bits.push(bits);
            }
        } else {
            self.bits.extend_from_slice(&other.bits[range]);
        }
    }
    /// Keeps the first `count` entries. Bytes of what goes stay in the heap until the columns are cleared.
    pub fn truncate(&mut self, count: usize) {
        self.times.truncate(count);
        self.seqnos.truncate(count);
        self.tags.truncate(count);
        self.bits.truncate(count);
    }
    /// The columns themselves, for decoders that fill them in bulk and keep them parallel.
    pub(in crate::storage) fn parts_mut(&mut self) -> ColumnsMut<'_> {
        let Self { times, seqnos, tags, bits, heap } = self;
        ColumnsMut { times, seqnos, tags, bits, heap }
    }
    /// Moves entry `index` to another time; the caller keeps the order.
    ///
    /// # Panics
    /// When `index` is out of range.
    pub fn set_time(&mut self, index: usize, time: i64) {
        self.times[index] = time;
    }
    /// Gives entries `range` one seqno; the caller keeps the order.
    ///
    /// # Panics
    /// When `range` is out of range.
    pub fn level_seqnos(&mut self, range: Range<usize>, seqno: Seqno) {
        self.seqnos[range].fill(seqno.0);
    }
    /// Appends entries of another set of columns, last one first: what a reverse scan visits.
    ///
    /// # Panics
    /// When `range` exceeds `other`.
    pub fn extend_reversed(&mut self, other: &Self, range: Range<usize>) {
        self.times.extend(other.times[range.clone()].iter().rev());
        self.seqnos.extend(other.seqnos[range.clone()].iter().rev());
        let tags = &other.tags[range.clone()];
        self.tags.extend(tags.iter().rev());
        if tags.contains(&(ValueType::Bytes as u8)) {
            for index in range.rev() {
                let (_, bits) = self.store(other.op(index));
                self.bits.push(bits);
            }
        } else {
            self.bits.extend(other.bits[range].iter().rev());
        }
    }
    /// Makes room for exactly `additional` more entries, alike in all columns.
    pub fn reserve_exact(&mut self, additional: usize) {
        self.times.reserve_exact(additional);
        self.seqnos.reserve_exact(additional);
        self.tags.reserve_exact(additional);
        self.bits.reserve_exact(additional);
    }
    /// Entries that fit without growing.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.times.capacity()
    }
    /// Length of the byte value of entry `index`; 0 for anything else.
    ///
    /// # Panics
    /// When `index` is out of range.
    #[must_use]
    pub fn value_bytes(&self, index: usize) -> usize {
        if self.tags[index] == ValueType::Bytes as u8 { unpack(self.bits[index]).1 } else { 0 }
    }
    /// Removes all entries, keeping the memory.
    pub fn clear(&mut self) {
        self.times.clear();
        self.seqnos.clear();
        self.tags.clear();
        self.bits.clear();
        self.heap.clear();
    }
    fn fits_in_place(&self, index: usize, bytes: usize) -> bool {
        self.tags[index] == ValueType::Bytes as u8 && unpack(self.bits[index]).1 >= bytes
    }
    fn store(&mut self, op: EntryOp<'_>) -> (u8, u64) {
        match op {
            EntryOp::Delete => (TAG_DELETE, 0),
            EntryOp::Put(value) => {
                let bits = match value {
                    Value::F64(number) => number.to_bits(),
                    Value::I64(number) => number.cast_unsigned(),
                    Value::Bytes(bytes) => {
                        let start = self.heap.len();
                        self.heap.extend_from_slice(bytes);
                        pack(start, bytes.len())
                    }
                };
                (value.value_type() as u8, bits)
            }
        }
    }
}

/// The columns of a [`Columns`]: whoever holds this leaves all but the heap equally long.
pub(in crate::storage) struct ColumnsMut<'a> {
    pub(in crate::storage) times: &'a mut Vec<i64>,
    pub(in crate::storage) seqnos: &'a mut Vec<u64>,
    pub(in crate::storage) tags: &'a mut Vec<u8>,
    /// For bytes: made by [`pack`].
    pub(in crate::storage) bits: &'a mut Vec<u64>,
    pub(in crate::storage) heap: &'a mut Vec<u8>,
}

/// Where a byte value lies in the heap, as the bits column holds it.
pub(in crate::storage) fn pack(start: usize, length: usize) -> u64 {
    let start = u32::try_from(start).expect("a heap is bounded by the memtable's size, below 4 GiB");
    let length = u32::try_from(length).expect("values are bounded by VALUE_BYTES_CEILING");
    u64::from(start) << 32 | u64::from(length)
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are 32 bits each")]
fn unpack(bits: u64) -> (usize, usize) {
    ((bits >> 32) as usize, bits as u32 as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_went_in() {
        // The columns are what memtable and tables both hold: a swapped column is wrong data everywhere.
        let mut columns = Columns::default();
        let ops = [
            EntryOp::Put(Value::F64(-0.0)),
            EntryOp::Delete,
            EntryOp::Put(Value::Bytes(b"abc")),
            EntryOp::Put(Value::I64(-7)),
            EntryOp::Put(Value::Bytes(b"")),
        ];
        for (time, op) in ops.iter().enumerate() {
            columns.push(time as i64, Seqno(time as u64 + 1), *op);
        }
        columns.replace(2, Seqno(9), EntryOp::Put(Value::Bytes(b"xy")));
        columns.insert(0, -1, Seqno(10), EntryOp::Put(Value::Bytes(b"first")));
        assert_eq!(columns.op(0), EntryOp::Put(Value::Bytes(b"first")));
        assert_eq!((columns.op(1), columns.op(2)), (ops[0], ops[1]));
        assert_eq!((columns.op(3), columns.seqno(3)), (EntryOp::Put(Value::Bytes(b"xy")), Seqno(9)));
        assert_eq!(columns.op(5), ops[4]);
        assert_eq!(columns.times(), [-1, 0, 1, 2, 3, 4]);
    }

    #[test]
    fn copies_keep_bytes_with_their_entries() {
        // Scans copy ranges out of chunks, forwards and backwards: a heap place that is not moved along shows
        // another entry's bytes.
        let mut columns = Columns::default();
        for (time, text) in ["zero", "one", "", "three"].iter().enumerate() {
            columns.push(time as i64, Seqno(9), EntryOp::Put(Value::Bytes(text.as_bytes())));
        }
        let mut copy = Columns::default();
        copy.push(-1, Seqno(1), EntryOp::Put(Value::Bytes(b"before")));
        copy.extend_from(&columns, 1..4);
        copy.extend_reversed(&columns, 0..2);
        let texts: Vec<_> = (0..copy.len()).map(|index| copy.op(index)).collect();
        let expected = ["before", "one", "", "three", "one", "zero"];
        assert_eq!(texts, expected.map(|text| EntryOp::Put(Value::Bytes(text.as_bytes()))));
        assert_eq!(copy.times(), [-1, 1, 2, 3, 1, 0]);
        assert_eq!((copy.value_bytes(1), copy.value_bytes(2)), (3, 0));
    }
}
