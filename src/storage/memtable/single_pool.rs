//! Entries of runs that hold just one: most keys of a store with many series, and every string key.
//!
//! They share the columns of a page, so that such a run costs its 25 bytes and no allocation of its own. The order
//! within a page means nothing. Long values are kept out, so that collecting a page's garbage stays short.

use super::long_run::{GARBAGE_BYTES_MIN, is_mostly_garbage, replace_counting_garbage};
use crate::model::{EntryOp, Seqno, Value};
use crate::storage::columns::Columns;
use std::ops::Range;

/// Entries of a page. The first page grows by doubling so that a small memtable stays small.
const PAGE_ENTRIES: usize = 256;
/// Longest value that goes into a page.
const VALUE_BYTES_MAX: usize = 1024;

/// Names an entry of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SingleId(pub(super) u32);

/// The pages, and the places in them that are free again.
#[derive(Clone, Debug, Default)]
pub(super) struct SinglePool {
    pages: Vec<Page>,
    free: Vec<SingleId>,
    /// Bytes of the pages, without the lists.
    page_bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct Page {
    columns: Columns,
    garbage: usize,
}

impl SinglePool {
    /// Whether an entry may live here.
    pub(super) fn takes(op: EntryOp<'_>) -> bool {
        !matches!(op, EntryOp::Put(Value::Bytes(bytes)) if bytes.len() > VALUE_BYTES_MAX)
    }
    /// Stores an entry.
    pub(super) fn add(&mut self, time: i64, seqno: Seqno, op: EntryOp<'_>) -> SingleId {
        if let Some(id) = self.free.pop() {
            self.edit(id, |page, index| {
                page.columns.set_time(index, time);
                page.garbage += replace_counting_garbage(&mut page.columns, index, seqno, op);
            });
            return id;
        }
        if self.pages.last().is_none_or(|page| page.columns.len() == PAGE_ENTRIES) {
            self.pages.push(Page::default());
        }
        let number = self.pages.len() - 1;
        let page = &mut self.pages[number];
        let before = page.columns.memory_bytes();
        let length = page.columns.len();
        if length == page.columns.capacity() {
            let wanted = if number == 0 { (length * 2).clamp(4, PAGE_ENTRIES) } else { PAGE_ENTRIES };
            page.columns.reserve_exact(wanted - length);
        }
        page.columns.push(time, seqno, op);
        self.page_bytes += page.columns.memory_bytes() - before;
        let id = number * PAGE_ENTRIES + length;
        SingleId(u32::try_from(id).expect("a memtable's size bounds its entries far below 2^32"))
    }
    /// Overwrites seqno and operation of an entry.
    pub(super) fn replace(&mut self, id: SingleId, seqno: Seqno, op: EntryOp<'_>) {
        self.edit(id, |page, index| {
            page.garbage += replace_counting_garbage(&mut page.columns, index, seqno, op);
        });
    }
    /// Gives an entry's place back.
    pub(super) fn release(&mut self, id: SingleId) {
        self.replace(id, Seqno(0), EntryOp::Delete);
        self.free.push(id);
    }
    /// The entry as a range of columns.
    pub(super) fn get(&self, id: SingleId) -> (&Columns, Range<usize>) {
        let (page, index) = locate(id);
        (&self.pages[page].columns, index..index + 1)
    }
    /// Bytes of memory held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.page_bytes
            + self.pages.capacity() * size_of::<Page>()
            + self.free.capacity() * size_of::<SingleId>()
    }
    /// Changes an entry and sees to its page's memory.
    fn edit(&mut self, id: SingleId, change: impl FnOnce(&mut Page, usize)) {
        let (page, index) = locate(id);
        let page = &mut self.pages[page];
        let before = page.columns.memory_bytes();
        change(page, index);
        if page.garbage >= GARBAGE_BYTES_MIN && is_mostly_garbage(page.garbage, &page.columns) {
            let mut copy = Columns::default();
            copy.reserve_exact(page.columns.capacity());
            copy.extend_from(&page.columns, 0..page.columns.len());
            *page = Page { columns: copy, garbage: 0 };
        }
        let after = page.columns.memory_bytes();
        self.page_bytes = (self.page_bytes + after) - before;
    }
}

fn locate(id: SingleId) -> (usize, usize) {
    let id = id.0 as usize;
    (id / PAGE_ENTRIES, id % PAGE_ENTRIES)
}
