//! Live keys and what they hold: TYPE, EXISTS, DBSIZE, SCAN.

use super::frontier::{Frontier, Next};
use super::newest::{NewestSearch, newest};
use super::point::{Scratch, find_slot};
use super::scan::ScanStatus;
use super::{Blocks, Needs, Step, View};
use crate::model::{KeyKind, KeyRange, Slot};
use crate::storage::sstable::TableError;

/// How far a walk over keys has come. Starts as its default, or behind a key.
#[derive(Clone, Debug, Default)]
pub struct KeyPosition {
    after: Option<Vec<u8>>,
    /// Of the key after that.
    search: NewestSearch,
    done: bool,
}

impl KeyPosition {
    /// A walk that begins strictly behind `after`; at the first key when that is `None`.
    #[must_use]
    pub fn behind(after: Option<&[u8]>) -> Self {
        Self { after: after.map(<[u8]>::to_vec), ..Self::default() }
    }
    /// The last key that was visited.
    #[must_use]
    pub fn after(&self) -> Option<&[u8]> {
        self.after.as_deref()
    }
}

/// What a key holds: a timeless value makes it a string, metadata or a sample a series. `search` starts as its default
/// and is kept while the call returns [`Step::Need`].
///
/// # Errors
/// When a chunk is damaged.
pub fn key_kind(
    view: &View<'_>,
    series: &[u8],
    search: &mut NewestSearch,
    blocks: &mut dyn Blocks,
    scratch: &mut Scratch,
) -> Result<Step<KeyKind>, TableError> {
    let mut needs = Needs::default();
    for (slot, kind) in [(Slot::Timeless, KeyKind::String), (Slot::Metadata, KeyKind::Series)] {
        match find_slot(view, series, slot, blocks, scratch)? {
            // A string wins over metadata, which is known only when the first is.
            Step::Ready(Some(_)) if needs.list.is_empty() => return Ok(Step::Ready(kind)),
            Step::Ready(_) => {}
            Step::Need(missing) => missing.into_iter().for_each(|block| needs.add(block)),
        }
    }
    if !needs.list.is_empty() {
        return Ok(needs.into_step());
    }
    Ok(match newest(view, series, search, blocks, scratch)? {
        Step::Ready(Some(_)) => Step::Ready(KeyKind::Series),
        Step::Ready(None) => Step::Ready(KeyKind::None),
        Step::Need(missing) => Step::Need(missing),
    })
}

/// Visits the next live keys of `keys`, in order: looks at `max_keys` at most, dead ones included.
///
/// # Errors
/// When a chunk is damaged.
pub fn key_page_step(
    view: &View<'_>,
    keys: &KeyRange,
    position: &mut KeyPosition,
    max_keys: usize,
    blocks: &mut dyn Blocks,
    scratch: &mut Scratch,
    visit: &mut dyn FnMut(&[u8], KeyKind),
) -> Result<Step<ScanStatus>, TableError> {
    let keys = keys.intersection(view.keys);
    if position.done || keys.is_empty() {
        return Ok(Step::Ready(ScanStatus::Done));
    }
    let tables = view.version.tables().iter().filter(|table| table.meta.entries > 0);
    let mut frontier = Frontier::new(view, tables, keys, position.after.as_deref(), false);
    let mut needs = Needs::default();
    let mut series = Vec::new();
    for visited in 0..max_keys.max(1) {
        // Nothing was visited: wait. Otherwise what was visited is let go first.
        let missing =
            |needs: Needs| if visited == 0 { needs.into_step() } else { Step::Ready(ScanStatus::More) };
        match frontier.next(&mut series, max_keys - visited.min(max_keys), blocks, &mut needs) {
            Next::Missing => return Ok(missing(needs)),
            Next::End => {
                position.done = true;
                return Ok(Step::Ready(ScanStatus::Done));
            }
            Next::Series => {}
        }
        match key_kind(view, &series, &mut position.search, blocks, scratch)? {
            Step::Ready(KeyKind::None) => {}
            Step::Ready(kind) => visit(&series, kind),
            Step::Need(list) => return Ok(missing(Needs { list })),
        }
        position.search = NewestSearch::default();
        let after = position.after.get_or_insert_default();
        after.clear();
        after.extend_from_slice(&series);
        frontier.pass(&series);
    }
    Ok(Step::Ready(ScanStatus::More))
}
